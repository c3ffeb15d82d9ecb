"""What a run of the benchmarks says: ratios found within it, and how it stands to the stored baseline.

    python tests/benchmarks/compare.py build/bench.json             compare; 1 if something is slower by half
    python tests/benchmarks/compare.py build/bench.json --ratios    only what was found within the run
    python tests/benchmarks/compare.py build/bench.json --write     make this run the baseline

Machines differ, and one machine differs from hour to hour. So each benchmark's median is divided by the time that a
fixed piece of work took just before and after it (conftest.py), and these quotients are compared. The same is done
with the fastest rounds, and the smaller of the two ratios counts: slower code is slower in every round, whereas a
neighbour's work slows some.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).parent / "baseline.json"
LIMIT = 1.5  # times the baseline
Times = dict[str, dict[str, float]]  # name → median, min and reference, in seconds


@dataclass(frozen=True)
class Comparison:
    """One benchmark, now and in the baseline."""

    name: str
    seconds: float
    before: float
    ratio: float  # normalised, of medians or of fastest rounds, whichever is less; above 1: slower than the baseline

    @property
    def too_slow(self) -> bool:
        return self.ratio > LIMIT


def times(run: Mapping[str, Any]) -> Times:
    """Medians and references of pytest-benchmark's JSON.

    Raises:
        ValueError: nothing was measured, two benchmarks share a name, or one has no reference.
    """
    found: Times = {}
    for benchmark in run["benchmarks"]:
        name = benchmark["name"]
        if name in found:
            raise ValueError(f"benchmark: {name!r} is there twice; expected distinct names")
        if not benchmark["extra_info"].get("reference"):
            raise ValueError(f"benchmark: {name!r} has no reference; expected it to run under tests/benchmarks")
        found[name] = {key: benchmark["stats"][key] for key in ("median", "min")}
        found[name]["reference"] = benchmark["extra_info"]["reference"]
    if not found:
        raise ValueError("benchmarks: none were run; expected pytest's --benchmark-enable")
    return found


def compare(now: Times, before: Times) -> list[Comparison]:
    """Benchmarks that both have, slowest against its baseline first."""
    rows = []
    for name in now.keys() & before.keys():
        own, old = now[name], before[name]
        ratio = min(own[key] / own["reference"] / (old[key] / old["reference"]) for key in ("median", "min"))
        rows.append(Comparison(name, own["median"], old["median"], ratio))
    return sorted(rows, key=lambda row: (-row.ratio, row.name))


def time_text(seconds: float) -> str:
    """Three significant digits in a unit that fits."""
    unit, scale = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("µs", 1e-6))
    return f"{seconds / scale:.3g} {unit}"


def comparison_lines(now: Times, before: Times) -> list[str]:
    """A table, what only one of them has, and a last line that says how it went."""
    rows = compare(now, before)
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'benchmark':<{width}}  {'now':>9}  {'baseline':>9}  normalised ratio"]
    for row in rows:
        mark = "  SLOWER" if row.too_slow else ""
        lines.append(
            f"{row.name:<{width}}  {time_text(row.seconds):>9}  {time_text(row.before):>9}  {row.ratio:.2f}{mark}"
        )
    lines += [f"not in the baseline: {name}" for name in now if name not in before]
    lines += [f"only in the baseline: {name}" for name in before if name not in now]
    slow = [row.name for row in rows if row.too_slow]
    verdict = f"more than {LIMIT} × slower than the baseline: {', '.join(slow)}" if slow else f"none above {LIMIT} ×"
    return [*lines, f"{len(rows)} compared; {verdict}"]


def ratio_lines(run: Mapping[str, Any]) -> list[str]:
    """What was timed in turns within the run: ratio, and a 95 % interval of the median."""
    found = {
        label: ratio
        for benchmark in run["benchmarks"]
        for label, ratio in benchmark["extra_info"].get("ratios", {}).items()
    }
    width = max((len(label) for label in found), default=0)
    return [f"{label:<{width}}  {mid:.3f}  ({low:.3f} … {high:.3f})" for label, (mid, low, high) in found.items()]


def baseline(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as `baseline.json` keeps it: where, when and how it was made, and its times to four digits."""
    machine = run["machine_info"]
    return {
        "command": "make bench-baseline",
        "date": run["datetime"][:10],
        "machine": {
            "processor": machine["cpu"].get("brand_raw") or machine["processor"],
            "cores": machine["cpu"].get("count"),
            "system": machine["system"],
        },
        "python": machine["python_version"],
        "torch": importlib.metadata.version("torch"),
        "threads": 1,
        "seconds": {
            name: {key: float(f"{value:.4g}") for key, value in own.items()} for name, own in sorted(times(run).items())
        },
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="JSON of pytest-benchmark")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--ratios", action="store_true", help="print only the ratios found within the run")
    parser.add_argument("--write", action="store_true", help="make the run the baseline instead")
    options = parser.parse_args(arguments)
    run = json.loads(options.run.read_text(encoding="utf-8"))
    if options.write:
        options.baseline.write_text(json.dumps(baseline(run), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return 0
    print(*ratio_lines(run), sep="\n")
    if options.ratios:
        return 0
    stored = json.loads(options.baseline.read_text(encoding="utf-8"))
    print(f"\nbaseline of {stored['date']}: {stored['machine']['processor']}, torch {stored['torch']}")
    now, before = times(run), stored["seconds"]
    print(*comparison_lines(now, before), sep="\n")
    return int(any(row.too_slow for row in compare(now, before)))


if __name__ == "__main__":
    sys.exit(main())
