"""The leaderboard: one suite's records on one kind of hardware, compared statistically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.boards.rows import delta, row
from results.records import Outcome, Records, check_manifest
from results.statistics.across_tasks import across_tasks
from results.statistics.estimates import Paired, paired_many
from results.statistics.margins import against_itself, paired_differences, practical_margins
from results.statistics.power import ALPHA, MIN_SEEDS, smallest_p
from results.statistics.verdict import Decision, Family, Verdict, verdicts

Board = dict[str, Any]


def build(
    manifest: Mapping[str, Any], records: Records, *, hardware: str | None = None, generated: str | None = None
) -> Board:
    """Compare every arm of a suite with its baseline.

    Args:
        manifest: see docs/formats.md.
        records: what became of the suite's trials.
        hardware: the kind of hardware to show, by label, where the records come from several.
        generated: when, for the board's footer; passed in so that equal records give equal bytes.

    Returns:
        leaderboard.json as docs/statistics.md describes it: rows by task and rank.

    Raises:
        ValueError: records of several kinds of hardware and none chosen, or a label nothing was run on.
    """
    check_manifest(manifest)
    records, label = records.on_one(hardware)
    ranked = [arm for arm in manifest["arms"] if arm["arm"] != manifest.get("aa_arm")]
    compared = [arm["arm"] for arm in ranked if arm["arm"] != manifest["baseline"]]
    started = [outcome for outcome in records if outcome.record]
    begun = {outcome.task for outcome in started if outcome.arm == manifest["baseline"]} or {o.task for o in started}
    described = [task for task in manifest["tasks"] if task["name"] in begun] or list(manifest["tasks"])
    manifest = {**manifest, "tasks": described}  # one that the baseline has not finished on has no table yet
    tasks = [task["name"] for task in described]
    cells = [(arm, task) for task in tasks for arm in compared]
    differences = [paired_differences(records, arm, manifest["baseline"], task) for arm, task in cells]
    summaries = dict(zip(cells, paired_many(differences), strict=True))
    aa = against_itself(manifest, records)
    margins = practical_margins(manifest, aa)
    rows: list[dict[str, Any]] = []
    for task in tasks:
        judged = _judge(manifest, records, summaries, compared, task, margins[task])
        rows += _ranked([_row(manifest, records, arm, task, judged, margins[task]) for arm in ranked])
    return {
        "suite": manifest["suite"],
        "title": manifest.get("title") or manifest["suite"],
        "protocol_version": manifest["protocol_version"],
        "protocol_digest": manifest.get("protocol_digest"),
        "track": manifest.get("track"),
        "hardware": label,
        "baseline": manifest["baseline"],
        "reference": reference(manifest),
        "margin": manifest.get("margin"),
        "margins": margins,
        "n_arms": len(compared),
        "tasks": described,
        "aa": aa,
        "rows": rows,
        "across_tasks": across_tasks(records, [arm["arm"] for arm in ranked], tasks, manifest["baseline"]),
        "warnings": _warnings(manifest, records, rows, len(compared), margins),
        "generated": generated,
    }


def reference(manifest: Mapping[str, Any]) -> str:
    """The arm that loads and costs are measured against: the control without balancing, or else the baseline."""
    control = manifest.get("control")
    return str(control if control in [arm["arm"] for arm in manifest["arms"]] else manifest["baseline"])


def _judge(
    manifest: Mapping[str, Any],
    records: Records,
    summaries: Mapping[tuple[str, str], Paired],
    compared: Sequence[str],
    task: str,
    margin: float,
) -> dict[str, dict[str, Any]]:
    base_diverged = _diverged(records.cell(manifest["baseline"], task))
    family = [
        Family(
            summaries[arm, task],
            planned=len(records.cell(arm, task)),
            diverged=_diverged(records.cell(arm, task)),
            reference_diverged=base_diverged,
        )
        for arm in compared
    ]
    judged = {
        arm: delta(entry.summary, verdict)
        for arm, entry, verdict in zip(compared, family, verdicts(family, margin), strict=True)
    }
    own = Verdict(Decision("baseline", None, None, None, False), "what the others are compared with")
    n = sum(outcome.status == "finished" for outcome in records.cell(manifest["baseline"], task))
    judged[manifest["baseline"]] = delta(Paired(n, 0.0 if n else None), own)
    return judged


def _row(
    manifest: Mapping[str, Any],
    records: Records,
    arm: Mapping[str, Any],
    task: str,
    judged: Mapping[str, dict[str, Any]],
    margin: float,
) -> dict[str, Any]:
    cell = records.cell(arm["arm"], task)
    content = row(arm, task, cell, *(records.cell(name, task) for name in (manifest["baseline"], reference(manifest))))
    return content | {"delta_loss": judged[arm["arm"]], "margin": margin}


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one task with their ranks, best first. Diverged arms come last, unfinished ones have no rank.

    The rank follows the paired difference, so that an arm with a seed missing is not judged by its luck with seeds.
    Where there is no pair at all it follows the loss.
    """

    def place(entry: dict[str, Any]) -> tuple[int, float]:
        mean = entry["delta_loss"]["mean"]
        loss = mean if mean is not None else entry["val_loss"]["mean"]
        return entry["diverged"], float("inf") if loss is None else loss

    def shown(entry: dict[str, Any]) -> bool:
        return bool(entry["n_seeds"] or entry["diverged"])

    places = sorted(place(entry) for entry in rows if shown(entry))
    for entry in rows:
        entry["rank"] = places.index(place(entry)) + 1 if shown(entry) else None
    return sorted(rows, key=lambda entry: (entry["rank"] is None, entry["rank"] or 0, entry["arm"]))


def _warnings(
    manifest: Mapping[str, Any],
    records: Records,
    rows: Sequence[dict[str, Any]],
    arms: int,
    margins: Mapping[str, float],
) -> list[str]:
    said = []
    for status, words in (("missing", "not run yet"), ("failed", "failed"), ("diverged", "diverged")):
        count = sum(outcome.status == status for outcome in records)
        if count:
            said.append(f"{count} of {len(records)} trials {words}.")
    pairs = [entry["delta_loss"]["n"] for entry in rows if entry["delta_loss"]["verdict"] != "baseline"]
    fewest = min(pairs, default=0)
    if fewest < MIN_SEEDS:
        said.append(f"Indicative: rows with fewer than {MIN_SEEDS} paired seeds get no verdict.")
    elif smallest_p(fewest, arms) >= ALPHA:
        said.append(
            f"With {fewest} seeds and {arms} arms the exact test cannot reach 0.05 after Holm's adjustment "
            f"(smallest p {smallest_p(fewest, arms):.3f}); verdicts rest on the t test."
        )
    narrow = [
        f"{entry['arm']} on {entry['task']}"
        for entry in rows
        if entry["delta_loss"]["verdict"] in ("better", "worse")
        and entry["margin"] < (entry["delta_loss"]["sd"] or 0) / 2
    ]
    if narrow:
        said.append(
            f"The margin is under half the spread of a paired difference for {', '.join(narrow)}: these verdicts "
            f"lean on differences that are not skewed (see docs/calibration.md)."
        )
    if manifest.get("changed"):
        values = ", ".join(f"{key} = {value}" for key, value in manifest["changed"].items())
        said.append(f"Changed on the command line, not as the suite's file was registered: {values}.")
    if manifest["baseline"] not in [entry["arm"] for entry in rows]:
        said.append(f"The baseline {manifest['baseline']!r} is not in this suite: nothing is compared.")
    if manifest.get("margin") is None:
        without = [task for task, margin in margins.items() if margin == 0]
        if without:
            said.append(f"No margin and no A/A spread on {', '.join(without)}: the margin is 0, no tie can be shown.")
    return said


def _diverged(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.status == "diverged" for outcome in outcomes)
