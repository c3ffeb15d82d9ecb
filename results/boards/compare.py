"""Arms of a suite against each other, pair by pair: differences with intervals, tests, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from results.boards.rows import against, delta, measured
from results.boards.tasks import Tasks, judge
from results.records import Records, nearest
from results.statistics.estimates import paired_many
from results.statistics.margins import paired_differences
from results.statistics.verdict import verdicts
from results.text import interval, number

SHOWN = {
    "max_vio_global": "MaxVio global",
    "max_vio_batch": "MaxVio batch",
    "peak_max_vio": "peak MaxVio",
    "dead_experts": "dead experts",
    "balance_efficiency": "balance efficiency",
}  # load measures set side by side; they get figures, no verdict


def compare(
    manifest: Mapping[str, Any], records: Records, arms: Sequence[str], *, hardware: str | None = None
) -> dict[str, Any]:
    """Compare every two of the given arms on every task of the suite.

    Args:
        arms: two arms or more; a single one is compared with the suite's baseline.

    Returns:
        `pairs`: per task and pair, the fields of a leaderboard's `delta_loss` for `first − second` (negative: the first
        has the lower loss), raw differences, and load measures of both. Holm's adjustment is over the pairs of a task.

    Raises:
        ValueError: an arm the suite does not have, the same arm twice, or records of several kinds of hardware.
    """
    names = list(arms) if len(arms) != 1 else [*arms, manifest["baseline"]]
    known = [arm["arm"] for arm in manifest["arms"]]
    for name in names:
        if name not in known:
            raise ValueError(f"arm: {name!r} is not in suite {manifest['suite']}{nearest(name, known)}")
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice or len(names) < 2:
        raise ValueError(f"arms: {', '.join(names) or 'none'}; expected two different arms or more")
    records, label = records.on_one(hardware)
    about = judge(manifest, records)
    tasks = [task["name"] for task in manifest["tasks"]]
    pairs: list[dict[str, Any]] = []
    for task in tasks:
        pairs += _task(manifest, records, names, task, about)
    return {
        "suite": manifest["suite"],
        "hardware": label,
        "arms": names,
        "margins": {task: about.margin(task) for task in tasks},
        "sensitivity": about.sensitivity,
        "pairs": pairs,
    }


def _task(
    manifest: Mapping[str, Any], records: Records, names: Sequence[str], task: str, about: Tasks
) -> list[dict[str, Any]]:
    titles = {arm["arm"]: arm["title"] for arm in manifest["arms"]}
    couples = list(combinations(names, 2))
    summaries = paired_many([paired_differences(records, first, second, task) for first, second in couples])
    family = [
        against(records, first, second, task, summary, called=second)
        for (first, second), summary in zip(couples, summaries, strict=True)
    ]
    shown = []
    judged = verdicts(family, about.margin(task), blunt=about.blunt(task))
    for (first, second), entry, verdict in zip(couples, family, judged, strict=True):
        losses = records.losses(second, task)
        shown.append(
            {
                "task": task,
                "first": first,
                "second": second,
                "titles": [titles[first], titles[second]],
                **delta(entry.summary, verdict),
                "differences": [
                    {"seed": seed, "delta": loss - losses[seed]}
                    for seed, loss in records.losses(first, task).items()
                    if seed in losses
                ],
                "measures": _measures(records, first, second, task),
            }
        )
    return shown


def _measures(records: Records, first: str, second: str, task: str) -> dict[str, list[float | None]]:
    finished = [[o for o in records.cell(arm, task) if o.status == "finished"] for arm in (first, second)]
    both = [measured(outcomes) for outcomes in finished]
    return {name: [side[name] for side in both] for name in SHOWN}


def to_text(comparison: Mapping[str, Any]) -> str:
    """The comparison for a terminal: one paragraph per pair."""
    lines = [f"Suite {comparison['suite']} on {comparison['hardware'] or 'no record yet'}"]
    task = None
    for pair in comparison["pairs"]:
        if pair["task"] != task:
            task = pair["task"]
            word = comparison["sensitivity"][task]["word"]
            known = f"; {word}" + (" to judge balancing" if word == "fit" else "") if word else ""
            lines += ["", f"{task} (margin ±{comparison['margins'][task]:.4g} nats/token{known})"]
        lines += ["", *_paragraph(pair)]
    lines += [
        "",
        "Differences are first − second in held-out loss, nats/token, paired by seed; lower is better.",
        "Each interval is its pair's own, not adjusted. Better and worse also take an interval beyond the margin,",
        f"p adjusted over {_family(comparison)}, and an exact test that does not contradict.",
    ]
    return "\n".join(lines)


def _family(comparison: Mapping[str, Any]) -> str:
    """Over what Holm's adjustment is, in words."""
    pairs = len(list(combinations(comparison["arms"], 2)))
    return "the one pair that is compared" if pairs == 1 else f"the {pairs} pairs of a task"


def _paragraph(pair: Mapping[str, Any]) -> list[str]:
    said = {
        "better": f"{pair['first']} is better than {pair['second']}",
        "worse": f"{pair['first']} is worse than {pair['second']}",
        "tie": f"{pair['first']} and {pair['second']} tie",
    }.get(pair["verdict"], f"{pair['first']} against {pair['second']}: {pair['verdict']}")
    lines = [f"  {said} ({pair['words']})"]
    if pair["n"]:
        shown = interval(pair["mean"], pair["ci_low"], pair["ci_high"])
        boot = interval(pair["mean"], pair["bootstrap_low"], pair["bootstrap_high"])
        lines.append(f"    difference {shown} (95 % t, n = {pair['n']}); {boot} (95 % BCa bootstrap)")
        tests = {"t test": pair["p_t"], "Holm": pair["p_adjusted"], "exact sign flip": pair["p_sign_flip"]}
        p = ", ".join(f"{name} {value:.2g}" for name, value in tests.items() if value is not None)
        lines.append(f"    p: {p or '–'}; Hedges' g {number(pair['hedges_g'], 2)}")
    for name, (first, second) in pair["measures"].items():
        if first is not None and second is not None:
            lines.append(f"    {SHOWN[name]}: {first:.3f} against {second:.3f}")
    return lines
