"""The figures that speak of a board's verdicts: paired differences of one task, and the summary over all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.plots import across, charts, differences, ladders
from results.plots.picture import Picture, picture, spoken
from results.plots.style import ArmStyle

Row = Mapping[str, Any]


def forest(board: Row, task: str, styles: Mapping[str, ArmStyle], name: str) -> Picture:
    """The paired differences of one task: what a board leads with."""
    rows = [row for row in board["rows"] if row["task"] == task and row["delta_loss"]["verdict"] != "baseline"]
    shown = [
        differences.Difference(row["arm"], d["mean"], d["ci_low"], d["ci_high"], d["n"], d["verdict"])
        for row in rows
        for d in [row["delta_loss"]]
    ]
    aa = board["aa"]["tasks"].get(task) if board["aa"] else None
    band = (aa["ci_low"], aa["ci_high"]) if aa and aa["ci_low"] is not None else None
    margin = board["margins"][task]
    caption = (
        f"Mean difference in held-out loss to {styles[board['baseline']].title}, paired by seed, with its 95 % "
        "t interval; n is the number of pairs. "
        + (f"Grey: the practical margin, ±{margin:.4g} nats/token. " if margin else "")
        + (f"Outlined: the baseline against itself with other seeds (95 %, n = {aa['n']}). " if aa and band else "")
        + "A hollow point has no verdict."
    )
    said = [
        f"{styles[d.arm].title} {d.mean:+.4f}" + (f" [{d.low:+.4f}, {d.high:+.4f}]" if d.low is not None else "")
        + f", {d.verdict}"
        for d in shown
        if d.mean is not None
    ]  # fmt: skip
    figure = differences.forest(shown, styles, margin, band)
    entries = [
        (styles[d.arm].index, [[d.mean, d.low, d.high]], f"{d.verdict}, n = {d.n}", d.verdict not in differences.FILLED)
        for d in shown
    ]
    look: dict[str, Any] = {"unit": "nats", "zero": 0, "centre": True, "sides": ["lower loss ←", "→ higher loss"]}
    look |= ({"band": [-margin, margin]} if margin else {}) | ({"hatch": list(band)} if band else {})
    label = "difference to the baseline (nats/token)"
    chart = charts.rows(entries, [differences.MARK], label, **look)
    return picture(name, "Difference to the baseline", caption, spoken(said), figure, chart)


def along(board: Row, styles: Mapping[str, ArmStyle]) -> list[Picture]:
    """Differences along the ladder that a board's tasks are; none where they are none, or no arm has a pair on all."""
    ladder = board.get("ladder")
    if not ladder:
        return []
    place = {(row["arm"], row["task"]): row["delta_loss"] for row in board["rows"]}
    means, ends = {}, {}
    for arm in ladder["arms"]:
        deltas = [place[arm, task] for task in ladder["tasks"]]
        if arm != board["baseline"] and all(delta["ci_low"] is not None for delta in deltas):
            means[arm] = [delta["mean"] for delta in deltas]
            ends[arm] = [(delta["ci_low"], delta["ci_high"]) for delta in deltas]
    if not means:
        return []
    numbers, of = ladder["numbers"], ladder["title"]
    labels = (of, "difference to the baseline (nats/token)")
    figure = ladders.draw(numbers, means, ends, styles, labels)
    look: dict[str, Any] = {"unit": "nats", "zero": True, "log": "x", "ticks": list(numbers)}
    chart = charts.lines(numbers, means, styles, labels, of, ends, **look)
    caption = (
        f"Mean difference in held-out loss to {styles[board['baseline']].title}, paired by seed, with 95 % t "
        f"intervals, on tasks that differ in {of} alone."
    )
    said = [f"{styles[arm].title} {own[0]:+.4f} to {own[-1]:+.4f}" for arm, own in means.items()]
    alt = f"From {numbers[0]:g} to {numbers[-1]:g} {of}: {spoken(said)}"
    return [picture("along", f"Difference to the baseline along {of}", caption, alt, figure, chart)]


def of_suite(board: Row, styles: Mapping[str, ArmStyle]) -> list[Picture]:
    """Figures over all tasks; none where there is only one."""
    summary = board["across_tasks"]
    if summary["n_tasks"] < 2:
        return []
    known = {arm: entry for arm, entry in summary["arms"].items() if entry["mean_rank"] is not None}
    pictures = []
    if known:
        said = [
            f"{styles[a].title} {e['mean_rank']:.2f}" for a, e in sorted(known.items(), key=lambda i: i[1]["mean_rank"])
        ]
        caption = (
            f"Over {summary['n_tasks']} tasks, with 95 % bootstrap intervals over seeds. Ranks depend on who takes "
            "part: read them beside the differences, not instead of them."
        )
        figure = across.summary(known, styles)
        order = sorted(known, key=lambda arm: known[arm]["mean_rank"])
        entries = [(styles[a].index, [[known[a][key] for key in ("mean_rank", "rank_low", "rank_high")]], "", False)
                   for a in order]  # fmt: skip
        chart = charts.rows(entries, ["mean rank"], "mean rank (1 is best)")
        alt = "Mean ranks: " + spoken(said)
        pictures.append(picture("across-ranks", "Ranks over tasks", caption, alt, figure, chart))
    profile = summary["profile"]
    if profile["excess"]:
        caption = (
            "Share of all trials, every task weighing the same, whose loss is within a distance of the best arm's "
            "mean. Higher and further left is better; diverged trials never arrive."
        )
        half = len(profile["excess"]) // 2
        said = [f"{styles[a].title} {s[half]:.0%}" for a, s in profile["arms"].items() if s]
        alt = f"Within {profile['excess'][half]:.4f} nats of the best: {spoken(said)}"
        figure = across.performance_profile(profile["excess"], profile["arms"], styles, board["baseline"])
        shares = {arm: [100 * share for share in own] for arm, own in profile["arms"].items()}
        labels = ("loss above the best arm's mean (nats/token)", "trials (%)")
        chart = charts.lines(profile["excess"], shares, styles, labels, "nats above the best", unit="%", base=0,
                             step=True)  # fmt: skip
        pictures.append(picture("across-profile", "Performance profile", caption, alt, figure, chart))
    return pictures
