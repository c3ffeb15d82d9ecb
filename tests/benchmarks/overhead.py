"""What each strategy's step costs over that of no balancing: `python -m tests.benchmarks.overhead` prints the table.

Every strategy trains in one process, step by step in turns and in random order; the ratio is a median over rounds
with a 95 % interval, of CPU time. `micro-4096` is the micro rung with a batch of 4096 tokens for 64 experts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from strategies import registry

sys.path.insert(0, str(Path(__file__).parent))  # as pytest finds them

import trainings
from turns import ratio, take_turns

SHAPES = {
    "nano": ("nano", {}),
    "bench": ("bench", {}),
    "micro-4096": ("micro", {"batch_sequences": 16, "micro_batches": 1}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--strategies", default=",".join(name for name in registry.available() if name != "none"))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    names = ["none", *options.strategies.split(",")]
    columns = {}
    for shape in options.shapes.split(","):
        rung, sizes = SHAPES[shape]
        with tempfile.TemporaryDirectory() as scratch:
            arms = {name: trainings.steps(trainings.make(Path(scratch) / name, rung, name, **sizes)) for name in names}
            for _ in range(3):
                for step in arms.values():
                    step()
            plain = SimpleNamespace(enabled=False, pedantic=lambda call, rounds, **_: [call() for _ in range(rounds)])
            seconds = take_turns(plain, arms, options.rounds)
        columns[shape] = {name: ratio(seconds[name], seconds["none"]) for name in names[1:]}
        print(f"{shape}: done", file=sys.stderr, flush=True)
    print(f"| over `none`, {options.rounds} rounds | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name in names[1:]:
        cells = [
            f"{m - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}]" for m, low, high in (c[name] for c in columns.values())
        ]
        print(f"| `{name}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
