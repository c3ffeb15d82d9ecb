"""Whether a manifest asks for what the suite asks for: its conditions, its arms, and every trial of its grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.records import check_manifest
from results.submissions.expected import Expected
from results.submissions.safe import strings, text_problem

_PARTS = ("aa_arm", "horizons", "twin")  # arms with a duty on the board: the suite's, or left out
_OWN = ("arms", "trials", "tasks", "changed", "asks", *_PARTS)  # what a part of a suite may have its own of
_TEXT = 400  # characters of one text in an arm


def check_grid(manifest: Mapping[str, Any], expected: Expected, plugins: Mapping[str, str]) -> Iterator[str]:
    """A line for everything that is not as the suite says."""
    try:
        check_manifest(manifest)
    except ValueError as error:
        yield f"manifest: {error}"
        return
    yield from _conditions(manifest, expected)
    for arm in manifest["arms"]:
        for problem in _arm(arm, expected, plugins):
            yield f"arm {arm['arm']!r:.60}: {problem}"
    yield from _cells(manifest, expected)


def _conditions(manifest: Mapping[str, Any], expected: Expected) -> Iterator[str]:
    """Protocol, baseline, margin and tasks."""
    theirs, ours = manifest["protocol_version"], expected.manifest["protocol_version"]
    if theirs != ours:
        yield f"protocol_version: {theirs!r:.60}; this version compares under protocol {ours!r}"
    for key in sorted(manifest.keys() | expected.manifest.keys()):
        if key in _OWN or key == "protocol_version":
            continue
        theirs, ours = manifest.get(key), expected.manifest.get(key)
        if theirs != ours:
            yield f"{key}: {theirs!r:.80}; the suite says {ours!r:.80}"
    if "asks" in manifest:
        yield from _asks(manifest, expected.manifest["asks"])
    tasks = {task["name"]: task for task in expected.manifest["tasks"]}
    for task in manifest["tasks"]:
        if task["name"] not in tasks:
            yield f"task {task['name']!r:.60}: not in the suite; it has {', '.join(tasks)}"
        elif task != tasks[task["name"]]:
            fields = [
                name for name in task.keys() | tasks[task["name"]] if task.get(name) != tasks[task["name"]].get(name)
            ]
            yield f"task {task['name']}: {', '.join(sorted(fields))}: not as the suite has it"


def _asks(manifest: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """What the suite asks for, and the submission's own arms; a change on the command line may have asked for less."""
    theirs, own = manifest["asks"], {arm["arm"] for arm in manifest["arms"]}
    for key, more in (("tasks", set()), ("arms", own)):
        named, wanted = set(theirs[key]), set(ours[key])
        if not named <= wanted | more or not (manifest.get("changed") or wanted <= named):
            lacks, others = sorted(wanted - named), sorted(named - wanted - more)
            said = [f"lacks {_list(lacks)}"] * bool(lacks) + [f"has {_list(others)} besides"] * bool(others)
            yield f"asks: {key}: not as the suite says: {' and '.join(said)}"
    if theirs["seeds"] != ours["seeds"] and not manifest.get("changed"):
        yield f"asks: seeds: {theirs['seeds']!r:.20}; the suite says {ours['seeds']!r}"


def _arm(arm: Mapping[str, Any], expected: Expected, plugins: Mapping[str, str]) -> Iterator[str]:
    own = expected.arms.get(arm["arm"])
    if own is not None:
        for field in sorted(arm.keys() | own.keys()):
            if arm.get(field) != own.get(field):
                yield f"{field}: {arm.get(field)!r:.80}; the suite says {own.get(field)!r:.80}"
        return
    if arm["arm"] in expected.listed:
        yield from _listed(arm, expected.listed[arm["arm"]], expected.manifest["track"])
    for text in strings(dict(arm)):
        problem = text_problem(text, _TEXT) if text else None
        if problem:
            yield problem
    facts = expected.facts.get(arm["strategy"])
    if facts is None:
        if arm["strategy"] not in plugins:
            yield f"strategy {arm['strategy']!r:.60}: comes neither with Equipoise nor as plugins/NAME.py"
    else:
        for field, value in facts.items():
            if arm.get(field) != value:
                yield f"{field}: {arm.get(field)!r:.80}; {arm['strategy']} has {value!r:.80}"


def _listed(arm: Mapping[str, Any], own: Mapping[str, Any], track: str) -> Iterator[str]:
    """An arm of the suite's file that was not planned, such as a plug-in's: as the file says, but for a tuned knob."""
    for field in ("strategy", "terms", "task"):
        if arm.get(field) != own[field]:
            yield f"{field}: {arm.get(field)!r:.80}; the suite says {own[field]!r:.80}"
    chosen = (arm.get("knob") or {}).get("parameter") if track != "as-published" else None
    for name, value in own["set"].items():
        if name != chosen and arm["config"].get(name) != value:
            yield f"config.{name}: {arm['config'].get(name)!r:.80}; the suite says {value!r:.80}"


def _cells(manifest: Mapping[str, Any], expected: Expected) -> Iterator[str]:
    """Every arm on every task with the suite's first seeds, as many for all; no trial twice."""
    arms = [arm["arm"] for arm in manifest["arms"]]
    for needed in (expected.manifest["baseline"], expected.manifest.get("aa_arm")):
        if needed is not None and needed not in arms:
            yield f"arm {needed!r}: missing; every difference is taken to it or judged by it"
    for name in _PARTS:
        if manifest.get(name) not in (None, expected.manifest.get(name)):
            yield f"{name}: {manifest[name]!r:.60}; the suite has {expected.manifest.get(name)!r}"
    there = {(trial["arm"], trial["task"], trial["seed"]) for trial in manifest["trials"]}
    used = {seed for _, _, seed in there}
    seeds = _first(expected.seeds, len(used))
    for seed in sorted(used - set(seeds)):
        yield (
            f"seed {seed}: not among the suite's first {len(used)} ({_list(seeds)}); a part of a suite has its first "
            "seeds"
        )
    for arm in arms:
        for task in manifest["tasks"]:
            missing = [seed for seed in seeds if (arm, task["name"], seed) not in there]
            if missing:
                where = f"{arm} on {task['name']}"
                yield f"{where}: no trial of seed {_list(missing)}; expected every seed of {_list(seeds)}"
    cells: dict[str, set[str]] = {}
    for trial in manifest["trials"]:
        cells.setdefault(trial["trial_key"], set()).add(f"{trial['arm']} on {trial['task']}, seed {trial['seed']}")
    for key, names in cells.items():
        if len(names) > 1:
            yield f"trial {key}: stands for {' and for '.join(sorted(names))}; expected a trial for each"


def _first(seeds: Sequence[int], count: int) -> list[int]:
    """As many seeds as a manifest has, the suite's first; where those are counted from 0, it may count on."""
    counted = list(seeds) == list(range(len(seeds)))
    return list(range(count)) if counted else list(seeds)[:count]


def _list(values: Sequence[int | str]) -> str:
    """Values in order; of many the first and the last."""
    shown = [f"{value!a:.60}" if isinstance(value, str) else str(value) for value in values]
    return ", ".join(shown) if len(shown) <= 12 else f"{shown[0]} to {shown[-1]}"
