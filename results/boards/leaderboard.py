"""The leaderboard: one suite's records on one kind of hardware, compared statistically."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from results.boards.cost import costs
from results.boards.ladder import ladder
from results.boards.rows import against, delta, processor, row
from results.boards.savings import savings
from results.boards.sharing import at_once, crowded
from results.boards.tasks import Tasks, judge
from results.records import Records, check_manifest, ranked_arms
from results.statistics.across_tasks import across_tasks
from results.statistics.estimates import Paired, paired_many
from results.statistics.machine import Machine, load
from results.statistics.margins import paired_differences
from results.statistics.power import ALPHA, MIN_SEEDS, smallest_p
from results.statistics.sensitivity import FIT_GAIN, FIT_SPREADS
from results.statistics.verdict import Decision, Verdict, verdicts
from results.text import counted

Board = dict[str, Any]


def build(
    manifest: Mapping[str, Any],
    records: Records,
    *,
    hardware: str | None = None,
    generated: str | None = None,
    machine: Machine | None = None,
) -> Board:
    """Compare every arm of a suite with its baseline.

    Args:
        manifest: see docs/formats.md.
        records: what became of the suite's trials.
        hardware: the kind of hardware to show, by label, where the records come from several.
        generated: when, for the board's footer; passed in so that equal records give equal bytes.
        machine: what step times on many devices are simulated for; None: the one that is shipped as the default.

    Returns:
        leaderboard.json as docs/statistics.md describes it: rows by task and rank.

    Raises:
        ValueError: records of several kinds of hardware and none chosen, or a label nothing was run on.
    """
    check_manifest(manifest)
    records, label = records.on_one(hardware)
    ranked = ranked_arms(manifest)
    compared = [arm["arm"] for arm in ranked if arm["arm"] != manifest["baseline"]]
    started = [outcome for outcome in records if outcome.record]
    begun = {outcome.task for outcome in started if outcome.arm == manifest["baseline"]} or {o.task for o in started}
    described = [task for task in manifest["tasks"] if task["name"] in begun] or list(manifest["tasks"])
    manifest = {**manifest, "tasks": described}  # one that the baseline has not finished on has no table yet
    tasks = [task["name"] for task in described]
    cells = [(arm, task) for task in tasks for arm in compared]
    differences = [paired_differences(records, arm, manifest["baseline"], task) for arm, task in cells]
    summaries = dict(zip(cells, paired_many(differences), strict=True))
    about = judge(manifest, records)
    machine = machine or load()
    margins = {task: about.margin(task) for task in tasks}
    rows: list[dict[str, Any]] = []
    for task in described:
        here = [arm for arm in compared if records.cell(arm, task["name"])]
        judged = _judge(manifest, records, summaries, here, task["name"], about)
        planned = [arm for arm in ranked if records.cell(arm["arm"], task["name"])]
        rows += _ranked([_row(manifest, records, arm, task, judged, about, machine) for arm in planned])
    climbed = ladder(manifest, records, about.configs)
    shared, together, processors = at_once(records), crowded(records), _processors(records)
    for entry in rows:  # what a step took then is no property of the arm
        own = together & set(entry["trial_keys"])
        entry |= {"tokens_per_second": None} if own or len(processors) > 1 else {}
        if own or together & {outcome.trial_key for outcome in records.cell(reference(manifest), entry["task"])}:
            entry |= {"overhead": None, "overhead_range": None}
    return {
        "suite": manifest["suite"],
        "title": manifest.get("title") or manifest["suite"],
        "hypothesis": manifest.get("hypothesis"),
        "protocol_version": manifest["protocol_version"],
        "protocol_digest": manifest.get("protocol_digest"),
        "track": manifest.get("track"),
        "hardware": label,
        "baseline": manifest["baseline"],
        "reference": reference(manifest),
        "margin": manifest.get("margin"),
        "margins": margins,
        "machine": machine.model_dump(),
        "n_arms": len(compared),
        **costs(records),
        "at_once": shared,
        **({"processors": dict(sorted(processors.items()))} if len(processors) > 1 else {}),
        "tasks": [about.described(task) | _not_run(ranked, records, task["name"]) for task in described],
        "aa": about.aa,
        "rows": rows,
        "across_tasks": across_tasks(records, [arm["arm"] for arm in ranked], tasks, manifest["baseline"]),
        **({"ladder": climbed} if climbed else {}),
        "warnings": _warnings(manifest, records, rows, about, shared) + _mixed(processors),
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
    about: Tasks,
) -> dict[str, dict[str, Any]]:
    base = manifest["baseline"]
    family = [against(records, arm, base, task, summaries[arm, task]) for arm in compared]
    n = len(records.losses(base, task))
    judged = {
        arm: delta(entry.summary, verdict)
        for arm, entry, verdict in zip(
            compared, family, verdicts(family, about.margin(task), blunt=about.blunt(task)), strict=True
        )
    }
    own = Verdict(Decision("baseline", None, None, None, False), "what the others are compared with")
    judged[base] = delta(Paired(n, 0.0 if n else None), own)
    return judged


def _row(
    manifest: Mapping[str, Any],
    records: Records,
    arm: Mapping[str, Any],
    task: Mapping[str, Any],
    judged: Mapping[str, dict[str, Any]],
    about: Tasks,
    machine: Machine,
) -> dict[str, Any]:
    name, own = task["name"], arm["arm"]
    others = (records.cell(other, name) for other in (manifest["baseline"], reference(manifest)))
    return {
        **row(arm, name, records.cell(own, name), *others),
        "delta_loss": judged[own],
        "margin": about.margin(name),
        **savings(manifest, records, own, task, about.horizons[name], machine),
    }


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
    about: Tasks,
    shared: int,
) -> list[str]:
    said = []
    for status, words in (("missing", "not run yet"), ("failed", "failed"), ("diverged", "diverged")):
        count = sum(outcome.status == status for outcome in records)
        if count:
            said.append(f"{count} of {counted(len(records), 'trial')} {words}.")
    pairs: dict[str, list[int]] = {}
    for entry in rows:
        if entry["delta_loss"]["verdict"] != "baseline":
            pairs.setdefault(entry["task"], []).append(entry["delta_loss"]["n"])
    few = [task for task, counts in pairs.items() if min(counts) < MIN_SEEDS]
    if few or not pairs:
        where = "" if len(few) == len(pairs) else f" on {', '.join(few)}"
        said.append(f"Indicative: rows with fewer than {MIN_SEEDS} paired seeds get no verdict{where}.")
    beyond: dict[tuple[int, int], list[str]] = {}
    for task, counts in pairs.items():
        if task not in few and smallest_p(min(counts), len(counts)) >= ALPHA:
            beyond.setdefault((min(counts), len(counts)), []).append(task)
    for (n, arms), names in beyond.items():
        where = "" if len(names) == len(pairs) else f" on {', '.join(names)}"
        said.append(
            f"With {n} seeds and {counted(arms, 'arm')} the exact test cannot reach 0.05 after Holm's adjustment "
            f"(smallest p {smallest_p(n, arms):.3f}); verdicts{where} rest on the t test."
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
    part = _part(manifest)
    if part:
        said.append(f"A part of what its suite asks for: {', '.join(part)}.")
    if manifest["baseline"] not in [entry["arm"] for entry in rows]:
        said.append(f"The baseline {manifest['baseline']!r} is not in this suite: nothing is compared.")
    if shared > 1:
        said.append(f"Up to {shared} trials had one accelerator at once: their speeds and overheads are not shown.")
    return said + _unlike(records) + _about_tasks(manifest, about)


def _part(manifest: Mapping[str, Any]) -> list[str]:
    """Where a board has less than its suite asks for: "1 of 2 tasks", "6 of 10 seeds", and trials within them."""
    asks = manifest.get("asks")
    if not asks:
        return []
    own = [cell for cell in manifest["trials"] if cell["arm"] != manifest.get("aa_arm")]
    there = {
        "tasks": {task["name"] for task in manifest["tasks"]} & set(asks["tasks"]),
        "arms": {cell["arm"] for cell in own} & set(asks["arms"]),
    }
    counts = {name: (len(found), len(asks[name])) for name, found in there.items()}
    counts["seeds"] = (len({cell["seed"] for cell in own}), asks["seeds"])
    whole = math.prod(have for have, _ in counts.values())
    cells = {(cell["task"], cell["arm"], cell["seed"]) for cell in own}
    asked = sum(task in there["tasks"] and arm in there["arms"] for task, arm, _ in cells)
    said = [f"{have} of {wanted} {name}" for name, (have, wanted) in counts.items() if have < wanted]
    return said + ([f"{asked} of {whole} trials of these"] if asked < whole else [])


def _unlike(records: Records) -> list[str]:
    """What a trial's key does not hold and its record does: one board rests on one of each."""
    said = []
    for key, words in (("corpus_digest", "different corpora"), ("ranks", "different numbers of ranks")):
        found: dict[str, set[Any]] = {}
        for outcome in records:
            if outcome.record is not None:
                found.setdefault(outcome.task, set()).add(outcome.record["provenance"].get(key))
        unlike = [task for task, values in found.items() if len(values) > 1]
        if unlike:
            said.append(f"Trials of {', '.join(unlike)} rest on {words}: differences are not of the strategies alone.")
    return said


def _mixed(processors: Mapping[str, int]) -> list[str]:
    """What is said of a board whose trials are of several processors."""
    if len(processors) < 2:
        return []
    shown = ", ".join(f"{name}: {trials}" for name, trials in sorted(processors.items()))
    return [
        f"Trials by processor: {shown}. A pair that mixes them differs by their rounding too; speeds are left out, and "
        f"overheads are of pairs whose records name the same one, or none."
    ]


def _processors(records: Records) -> Counter[str]:
    """How many trials each processor made; those of one name may be of several generations."""
    return Counter(processor(outcome) for outcome in records if outcome.record is not None)


def _about_tasks(manifest: Mapping[str, Any], about: Tasks) -> list[str]:
    """What the tasks themselves leave unsaid."""
    said = []
    blunt = [task for task in about.sensitivity if about.blunt(task)]
    if blunt:
        said.append(
            f"Too blunt to judge balancing: {', '.join(blunt)}. Experts bring less than {FIT_GAIN} nats/token over the "
            f"dense twin, or less than {FIT_SPREADS} spreads of a paired difference; no tie is called there."
        )
    by_source = {
        source: [task for task, margin in about.margins.items() if margin["source"] == source]
        for source in ("aa", "none")
    }
    reasons: dict[str, list[str]] = {}
    for task in by_source["aa"]:
        horizons = about.horizons[task]
        ran = horizons is not None and horizons.half
        why = "more training did not help it" if ran else "the baseline has no other horizons"
        reasons.setdefault(why, []).append(task)
    for why, names in reasons.items():
        said.append(
            f"The margin on {', '.join(names)} is the A/A spread, what the seed alone does: {why}, so a "
            f"difference cannot be told in tokens."
        )
    if by_source["none"]:
        without = ", ".join(by_source["none"])
        said.append(f"No margin and no A/A spread on {without}: the margin is 0, no tie can be shown.")
    return said


def _not_run(arms: Sequence[Mapping[str, Any]], records: Records, task: str) -> dict[str, Any]:
    """`not_run`: the arms that have rows on other tasks only; nothing where every arm has a trial here."""
    absent = [{"arm": arm["arm"], "title": arm["title"]} for arm in arms if not records.cell(arm["arm"], task)]
    return {"not_run": absent} if absent else {}
