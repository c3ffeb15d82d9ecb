"""The campaign's command line. Until the wheels are unpacked it takes nothing but the standard library."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from suite.campaign.wheels import unpack

PARTS = {  # in the order in which they run; what a later sitting repeats comes last
    "parity": "grouped and MegaBlocks against the reference: outputs and gradients, both precisions, skewed loads",
    "layer": "tokens/s of one MoE layer beside MegaBlocks' own, a dense twin and bare products",
    "step": "tokens/s of whole steps by rung and backend, how often the host waits",
    "overhead": "what each strategy adds to a step",
    "profile": "where the device's time goes in a step, operation by operation",
    "packing": "tokens/s of several trials on one accelerator",
    "tests": "the tests that need an accelerator",
    "sweep": "whether the recipe found on a smaller rung carries to a larger one",
    "board": "the suite gpu-board, as far as the time goes; finished trials are kept",
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -P -m suite.campaign",
        description="Measure this accelerator, part by part. Each part writes DIR/<part>.json and .md as it goes.",
        epilog="\n".join(f"  {name:<10}{title}" for name, title in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("parts", nargs="*", metavar="PART", help="which parts; all if none is named")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    made.add_argument("--home", type=Path, metavar="DIR", help="with prepared corpora under cache/ (default: OUT/home)")
    made.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to unpack first (default: EQUIPOISE_WHEELS)")
    made.add_argument("--minutes", type=float, default=9.0, help="longest time of one part (default: %(default)s)")
    made.add_argument("--jobs", type=int, default=16, help="trials at a time on the board (default: %(default)s)")
    made.add_argument("--tasks", metavar="NAME,…", help="only these tasks of the board")
    made.add_argument("--seeds", type=int, help="only so many seeds of the board")
    made.add_argument("--tiny", action="store_true", help="the same in miniature, on the CPU")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for. Returns 0 if all of them did what they were to do, 1 if not, 2 for bad usage."""
    command = parser()
    asked = command.parse_args(arguments)
    if asked.seeds is not None and asked.seeds < 1:
        command.error(f"--seeds: {asked.seeds}; expected a number of seeds")
    for name in asked.parts:
        if name not in PARTS:
            command.error(f"PART: {name!r} is unknown; expected one of {', '.join(PARTS)}")
    wheels = asked.wheels or os.environ.get("EQUIPOISE_WHEELS")
    if wheels:
        unpack(Path(wheels))
    from suite.campaign.ledger import Campaign

    try:
        names = tuple(name.strip() for name in (asked.tasks or "").split(",") if name.strip())
        campaign = Campaign.begin(asked.out, asked.home, asked.minutes, asked.jobs, asked.tiny, names, asked.seeds)
    except ValueError as error:
        command.error(str(error))
    good = True
    for name in asked.parts or PARTS:
        print(f"{name}: {PARTS[name]}", flush=True)
        try:
            good &= import_module(f"suite.campaign.{name}").run(campaign)
        except Exception:
            traceback.print_exc()  # one part's failure never stops the next
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
