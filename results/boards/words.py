"""Sentences about a board's tasks and figures, the same in every form of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.statistics.sensitivity import FIT_GAIN, FIT_SPREADS
from results.text import counted, interval

MARGIN_SOURCES = {
    "tokens": "what {more_tokens:.0%} more training tokens would bring the baseline (n = {n})",
    "stated": "stated by the suite",
    "aa": "the spread of the baseline against itself",
    "none": "none",
}


SLOPES = {
    "delta_loss": "Δ loss vs baseline [95 % CI]",
    "loss": "Loss [95 % CI]",
    "dropped": "Dropped at 1.25, share [95 % CI]",
}  # what a board's ladder says of each arm


def slopes(board: Mapping[str, Any]) -> list[tuple[str, str, list[str], int]]:
    """Arm, title, its slopes in the order of `SLOPES` and its seeds; who gains most on the baseline comes first."""
    titles = {row["arm"]: str(row["title"]) for row in board["rows"]}
    shown = []
    for arm, entry in board["ladder"]["arms"].items():
        trends = [entry[name] for name in SLOPES]
        words = [
            "–" if trend is None else interval(*(trend[key] for key in ("mean", "ci_low", "ci_high")))
            for trend in trends
        ]
        gained = entry["delta_loss"]["mean"] if entry["delta_loss"] else 0.0  # the baseline gains nothing on itself
        shown.append((gained, (arm, titles[arm], words, entry["loss"]["n"])))
    return [row for _, row in sorted(shown, key=lambda pair: pair[0])]


def sensitivity_words(sensitivity: Mapping[str, Any]) -> str:
    """Whether a task can judge balancing, and by what figures."""
    gain, word = sensitivity["gain"], sensitivity["word"]
    if word is None:
        return "Whether it can judge balancing is unknown: that takes a dense twin and two seeds."
    said = (
        "Fit to judge balancing"
        if word == "fit"
        else f"Blunt: too little gain to judge balancing by (at least {FIT_GAIN} nats/token and {FIT_SPREADS} spreads)"
    )
    said += f". Gain {signed(gain, 3)} over the dense twin ({gain['arm']}), spread {sensitivity['spread']:.4f}"
    if sensitivity["resolution"] is not None:
        said += f", resolution {sensitivity['resolution']:.4f} at n = {sensitivity['n']}"
    return said + "."


def margin_words(margin: Mapping[str, Any]) -> str:
    """A practical margin, and what it means."""
    if margin["source"] == "none":
        return "No practical margin."
    return f"Margin ±{margin['value']:.4g} nats/token: {MARGIN_SOURCES[margin['source']].format(**margin)}."


def signed(estimate: Mapping[str, Any], digits: int) -> str:
    """`mean [low, high]` with signs."""
    mean, low, high = (estimate[key] for key in ("mean", "ci_low", "ci_high"))
    if low is None or high is None:
        return f"{mean:+.{digits}f}"
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def ladder_words(board: Mapping[str, Any]) -> str:
    """What a board's tasks are steps of, and how its slopes are to be read."""
    ladder = board["ladder"]
    numbers = ", ".join(f"{number:g}" for number in ladder["numbers"])
    said = (
        f"The tasks differ in {ladder['title']} alone: {numbers}. What changes per doubling is a slope within a seed, "
        "over the seeds that an arm and the baseline have on every task; its mean over seeds stands with its 95 % t "
        "interval, which is the arm's own, not adjusted."
    )
    between = ladder["range"]
    if between:
        said += (
            f" The distance from the lowest to the highest loss of {between['arms']} arms with experts changes by "
            f"{signed(between, 3)} nats/token per doubling ({counted(between['n'], 'seed')})."
        )
    lost = [str(row["title"]) for row in board["rows"] if row["arm"] in ladder["diverged"]]
    return said + (f" Left out, for trials that diverged: {', '.join(dict.fromkeys(lost))}." if lost else "")


def saved_words(saved: Mapping[str, Any] | None) -> str:
    """A share of tokens or time: `+35% [+20%, +52%]`; beyond the baseline's horizons no more than that is said."""
    if saved is None:
        return "–"
    mean = saved["mean"]
    if saved["extrapolated"]:
        said = " ".join(f"{side} {saving(value)}" for side, value in saved["bound"].items())
        return said + (f" ({saving(mean)} extrapolated)" if mean is not None else "")
    if mean is None:
        return "–"
    if saved["ci_low"] is None or saved["ci_high"] is None:
        return saving(mean)
    return f"{saving(mean)} [{saving(saved['ci_low'])}, {saving(saved['ci_high'])}]"


def overhead_words(row: Mapping[str, Any]) -> str:
    """What a row's step costs beyond the reference's, and between what its seeds lie: `+1.4% [-0.3%, +2.0%]`."""
    if row["overhead"] is None:
        return "–"
    ends = row.get("overhead_range")
    return f"{row['overhead']:+.1%}" + (f" [{ends[0]:+.1%}, {ends[1]:+.1%}]" if ends else "")


def saving(value: float) -> str:
    """`+35%`: the baseline would take 35 % longer; from twice as long on `2.4 ×` as long."""
    return share(value) if value < 1 else f"{1 + value:.1f} ×"


def share(value: float) -> str:
    return f"{value:+.0%}"


def cost_words(board: Mapping[str, Any]) -> str:
    """What a board's trials took: "1.45 core-hours", "0.14 GPU-hours"; nothing where no trial noted it."""
    hours = {"core-hours": board.get("core_hours"), "GPU-hours": board.get("accelerator_hours")}
    return ", ".join(f"{value:.3g} {unit}" for unit, value in hours.items() if value)
