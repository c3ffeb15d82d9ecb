"""Do confidence sets and intervals of τ keep their 95 %? `python -m results.recommend.coverage` simulates it, and
writes docs/coverage.md.

Everything goes through the code that makes the recommendation. Random numbers are fixed, so the page can be made again.

Shapes: A arms, N seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import click
import numpy as np

from results.recommend.confidence import confidence_set
from results.recommend.travel import agreement
from results.statistics.power import ALPHA
from results.text import table

SUITES = 400
ARMS = 16
SEEDS = (6, 10)
EFFECTS = {"all equal": 0.0, "close": 0.25, "apart": 2.0}  # between neighbours, in sd of one arm's noise
LAWS = ("normal", "heavy-tailed", "skewed", "only the best skewed", "only the best noisy")
RELATIONS = (0.0, 0.8, 1.0)  # correlation between true effects in the two places
SPREADS = (0.5, 2.0, 10.0)  # of true effects, in sd of one arm's noise

Array = np.ndarray


def noise(law: str, rng: np.random.Generator, arms: int, seeds: int) -> Array:
    """Noise with mean zero and, but for the last law, variance one, (A, N); the first arm is the best."""
    noise_AN = rng.standard_normal((arms, seeds))
    if law == "heavy-tailed":
        noise_AN = rng.standard_t(3, (arms, seeds)) / math.sqrt(3)
    elif law == "skewed":
        noise_AN = _lognormal(rng, (arms, seeds))
    elif law == "only the best skewed":
        noise_AN[0] = _lognormal(rng, (seeds,))
    elif law == "only the best noisy":
        noise_AN[0] *= 3
    return noise_AN


def _lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Skewness 6.2: what an arm that sometimes fails looks like."""
    return (rng.lognormal(0, 1, shape) - math.exp(0.5)) / math.sqrt(math.e * (math.e - 1))


def set_coverage(
    law: str, seeds: int, step: float, suites: int = SUITES, arms: int = ARMS
) -> tuple[float, float, float, float]:
    """Shares of suites with the best arm in the set, of arms above their lower and below their upper bound, and the
    mean size of the set."""
    rng = np.random.default_rng((arms, seeds, int(100 * step), len(law)))
    effects_A = step * np.arange(arms)
    best = np.array([effects_A[a] - np.delete(effects_A, a).min() for a in range(arms)])
    kept, above, below, size = [], [], [], []
    for _ in range(suites):
        losses_AN = effects_A[:, None] + noise(law, rng, arms, seeds)
        standings = confidence_set({str(a): dict(enumerate(row)) for a, row in enumerate(losses_AN)})
        inside = [s.arm for s in standings if s.word == "in the set"]
        kept.append("0" in inside)
        size.append(len(inside))
        for standing in standings:
            truth = best[int(standing.arm)]
            assert standing.low is not None
            assert standing.high is not None
            above.append(truth >= standing.low)
            below.append(truth <= standing.high)
    return float(np.mean(kept)), float(np.mean(above)), float(np.mean(below)), float(np.mean(size))


def tau_coverage(
    seeds: int, spread: float, relation: float, suites: int = SUITES, arms: int = ARMS
) -> tuple[float, float, float, float]:
    """Share of pairs of rankings whose true τ is in its interval; mean true τ and mean ends of the interval."""
    rng = np.random.default_rng((arms, seeds, int(10 * spread), int(10 * relation)))
    covered, true, low, high = [], [], [], []
    for _ in range(suites):
        common_A, own_A = rng.standard_normal((2, arms))
        places = (spread * common_A, spread * (relation * common_A + math.sqrt(1 - relation**2) * own_A))
        found = agreement(*(_losses(effects_A, rng, seeds) for effects_A in places))
        assert found is not None
        truth = np.mean([np.prod([np.sign(e[a] - e[b]) for e in places]) for a, b in combinations(range(arms), 2)])
        covered.append(found.low - 1e-9 <= truth <= found.high + 1e-9)
        true.append(truth)
        low.append(found.low)
        high.append(found.high)
    return float(np.mean(covered)), float(np.mean(true)), float(np.mean(low)), float(np.mean(high))


def _losses(effects_A: Array, rng: np.random.Generator, seeds: int) -> dict[str, dict[int, float]]:
    losses_AN = effects_A[:, None] + rng.standard_normal((len(effects_A), seeds))
    return {str(a): dict(enumerate(row)) for a, row in enumerate(losses_AN)}


def page(suites: int = SUITES, say: Callable[[str], None] = lambda _: None) -> str:
    """The page docs/coverage.md."""
    lines = [
        "# Does the recommendation keep its promises?",
        "",
        "Made by `python -m results.recommend.coverage`: "
        f"{suites} simulated suites a line, {ARMS} strategies, through the code that makes the recommendation.",
        "",
        "## The best strategy is in the set",
        "",
        f"Promised: {1 - ALPHA:.0%} for the set and for each bound of *behind by* on its own. "
        "Differences between neighbours in standard deviations of one arm's noise.",
        "",
    ]
    rows: list[Sequence[str]] = []
    for law in LAWS:
        for seeds in SEEDS:
            for name, step in EFFECTS.items():
                shares = set_coverage(law, seeds, step, suites)
                rows.append(
                    (law, str(seeds), f"{name} ({step:g})", *(f"{s:.1%}" for s in shares[:3]), f"{shares[3]:.1f}")
                )
                say(f"{law}, {seeds} seeds, {name}: {shares[0]:.1%}")
    head: tuple[str, ...] = (
        "noise",
        "seeds",
        "differences",
        "best in the set",
        "lower bound holds",
        "upper bound holds",
        "mean size of the set",
    )
    lines += [*table(head, rows), "", *SETS_READING, ""]
    lines += ["## The true τ is in its interval", "", "Promised: 95 %.", ""]
    rows = []
    for seeds in SEEDS:
        for spread in SPREADS:
            for relation in RELATIONS:
                share, true, low, high = tau_coverage(seeds, spread, relation, suites)
                rows.append(
                    (
                        str(seeds),
                        f"{spread:g}",
                        f"{relation:g}",
                        f"{share:.1%}",
                        f"{true:.2f}",
                        f"[{low:.2f}, {high:.2f}]",
                    )
                )
                say(f"tau, {seeds} seeds, {spread:g}, {relation:g}: {share:.1%}")
    columns = (
        "seeds",
        "spread of true effects / noise",
        "correlation of true effects",
        "covered",
        "mean true τ",
        "mean interval",
    )
    return "\n".join([*lines, *table(columns, rows), "", *TAU_READING, ""])


SETS_READING = """\
The set keeps the best strategy at least as often as promised under every law tried. With all strategies equal, the
worst case, it keeps 95 % or more; with true differences nearly always, since fewer strategies can be mistaken for
better. Normal noise is the tightest case, skewed noise the safest: it fails by keeping too many. Six seeds are enough
for the promise, not for a small set: differences of a quarter of the noise leave half of the strategies in it.
""".splitlines()

TAU_READING = """\
The interval covers far more often than promised: each pair not shown in both places widens it at both ends.
That is its price. It becomes useful where most strategies are told apart: with true effects ten times the noise, and
ten seeds, it is about a third of the scale wide or less.
""".splitlines()


@click.command()
@click.option("--suites", type=click.IntRange(1), default=SUITES, show_default=True, help="Simulated suites a line.")
@click.option("--out", type=click.Path(dir_okay=False), help="Where to write (default: docs/coverage.md).")
def main(suites: int, out: str | None) -> None:
    """Simulate how often confidence sets and intervals of τ hold, and write the page."""
    target = Path(out) if out else Path(__file__).resolve().parents[2] / "docs" / "coverage.md"
    target.write_text(page(suites, lambda text: click.echo(text, err=True)), encoding="utf-8")
    click.echo(f"written: {target}", err=True)


if __name__ == "__main__":
    main()
