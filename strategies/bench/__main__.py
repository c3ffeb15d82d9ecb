"""`python -m strategies.bench STUDY…`: run studies and print their tables as Markdown."""

from __future__ import annotations

import argparse
import sys

from strategies.bench.studies import find, markdown, run_study, studies


def main() -> int:
    """Exit code 0, or 2 for a study that does not exist."""
    parser = argparse.ArgumentParser(prog="python -m strategies.bench", description="Router bench: studies as tables.")
    parser.add_argument("study", nargs="*", help="; ".join(f"{s.name}: {s.title}" for s in studies().values()))
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 … N−1 (default 3)")
    options = parser.parse_args()
    try:
        wanted = [find(name) for name in options.study or studies()]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for study in wanted:
        rows = run_study(study, range(options.seeds), lambda line: print(line, file=sys.stderr, flush=True))
        print(f"### {study.title} (`{study.name}`)\n\n{markdown(study, rows)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
