"""The tuned and the balanced track: every strategy's one knob over its own grid, equal budgets, seeds no board reports.

A tuning run is an ordinary suite with an arm per grid value. What it chose is written down with all the losses it
chose from, and these tracks of the same suite read it. *Tuned* takes the value with the lowest loss; *balanced* the one
with the lowest loss among those whose MaxVio on late training batches stays under 1 on every seed, and where there is
none, the one whose MaxVio is lowest, which its board says.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from results.statistics.tuning import SEPARATOR, arm_at, choice
from results.text import counted
from strategies import registry
from suite.errors import UsageError
from suite.planning.config import CHOSEN, TUNE_SEEDS, ArmEntry, Suite, parse
from suite.planning.trials import Trial, digest
from suite.storage.files import now, read_json, write_json
from suite.storage.trial import TrialFolder
from tasks.errors import show

PARTS = ("tasks", "under")  # of what was chosen for an arm, each by task


def tuning_suite(suite: Suite) -> Suite:
    """The suite's arms that have a knob, once for each value of its grid.

    Raises:
        UsageError: no arm has a knob, or the grids differ in length (budgets would not be equal).
    """
    grids = {arm.name: grid for arm in suite.strategies if (grid := _grid(arm))}
    if not grids:
        raise UsageError(f"tune: no arm of suite {suite.suite} has a knob")
    lengths = {arm: len(grid) for arm, grid in grids.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"tune: the grids differ in length ({lengths}); equal budgets need equal grids")
    first = grids.get(suite.baseline) or next(iter(grids.values()))
    data = suite.model_dump(exclude={"digest"}) | {
        "suite": f"{suite.suite}-tuning",
        "title": f"Tuning of {suite.suite}: one knob per strategy, {counted(suite.tune_seeds, 'seed')} of its own",
        "strategies": [entry for grid in grids.values() for entry in grid],
        "joined": [entry["arm"] for arm in suite.joined for entry in grids.get(arm, ())],
        "seeds": suite.tune_seeds,
        "first_seed": TUNE_SEEDS,
        "baseline": first[0]["arm"],
        "control": None,
        "aa": False,
        "horizons": False,
        "track": "as-published",
    }
    return parse(data, f"tuning of {suite.suite}", suite.digest)


def _grid(arm: ArmEntry) -> list[dict[str, Any]]:
    """The arm at each value of its knob; none for an arm without one."""
    knob = registry.get(arm.strategy).knob
    if knob is None:
        return []
    return [
        {**arm.model_dump(), "arm": arm_at(arm.name, value), "set": {**arm.set, knob.parameter: value}}
        for value in knob.grid
    ]


def arms_for(tuning: Suite, arms: Sequence[ArmEntry]) -> list[str]:
    """The names of a tuning's arms that stand for these arms of the suite.

    Raises:
        UsageError: there are none.
    """
    asked = {arm.name for arm in arms}
    names = [arm.name for arm in tuning.strategies if tuned_arm(arm.name) in asked]
    if not names:
        raise UsageError(f"tune: {', '.join(sorted(asked))}: expected an arm that has a knob")
    return names


def tuned_arm(name: str) -> str:
    """The arm a value of whose grid a tuning's arm stands for."""
    return name.rpartition(SEPARATOR)[0]


def path(home: Path, suite: str) -> Path:
    """Where a suite's choice is written."""
    return home / "tuning" / f"{suite}.json"


def choice_behind(home: Path, board: str) -> Path | None:
    """The file of the choice that a board rests on: None unless tuning set its knobs."""
    track = next((track for track in CHOSEN if board.endswith(f"-{track}")), None)
    return path(home, board.removesuffix(f"-{track}")) if track else None


def choose(suite: Suite, trials: Iterable[Trial], home: Path) -> dict[str, Any]:
    """For each arm and task the tuned and the balanced value of its grid; a value that diverged is out.

    Written to `tuning/<suite>.json` with every loss and MaxVio it chose from, and the conditions they were found under;
    what other parts of the suite were tuned to stays.

    Raises:
        RuntimeError: a trial has no record yet.
    """
    losses: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    violations: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    found_under: dict[str, dict[str, dict[str, Any]]] = {}
    for trial in trials:
        folder = TrialFolder(home / "trials" / trial.key)
        if not folder.done:
            raise RuntimeError(
                f"tune: trial {trial.arm} on {trial.task}, seed {trial.seed} has no record; run tune again"
            )
        arm, _, value = trial.arm.rpartition(SEPARATOR)
        measures = read_json(folder.record)["measures"]
        late = (measures.get("max_vio_batch") or {}).get("tail_mean")
        losses.setdefault(arm, {}).setdefault(trial.task, {}).setdefault(value, []).append(measures["val_loss"])
        violations.setdefault(arm, {}).setdefault(trial.task, {}).setdefault(value, []).append(late)
        found_under.setdefault(arm, {})[trial.task] = trial.cell.config
    chosen: dict[str, Any] = {}
    for entry in suite.strategies:
        if entry.name not in losses:
            continue
        knob = registry.get(entry.strategy).knob
        assert knob is not None
        tasks = {
            task: choice(knob.grid, by_value, violations[entry.name][task])
            for task, by_value in losses[entry.name].items()
        }
        under = {
            task: {"seeds": suite.tune_seeds, "made": now(), "conditions": conditions(config, knob.parameter)}
            for task, config in found_under[entry.name].items()
        }
        chosen[entry.name] = {"parameter": knob.parameter, "tasks": tasks, "under": under}
    file = path(home, suite.suite)
    before = read_json(file) if file.exists() else {}
    if before.get("protocol_digest") == suite.digest:  # a part of it was tuned: the rest keeps its choice
        chosen = joined(chosen, before["arms"])
    result = {
        "suite": suite.suite,
        "protocol_digest": suite.digest,
        "seeds": suite.tune_seeds,
        "made": now(),
        "arms": chosen,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    return result


def joined(arms: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen for arms, and for other arms or on other tasks of the same; of what both have, the first."""
    both = {**arms}
    for arm, entry in others.items():
        mine = both.get(arm, entry)
        both[arm] = {**mine, **{part: {**entry.get(part, {}), **mine.get(part, {})} for part in PARTS}}
    return both


def conditions(config: Mapping[str, Any], parameter: str) -> dict[str, Any]:
    """What a choice holds for: all that a trial's key is made of but the knob, the device and the seed.

    Args:
        config: resolved, as trials have it.
        parameter: the knob's.
    """
    rule, task = config["strategy"], config["task"]
    settings = {name: value for name, value in rule["config"].items() if name != parameter}
    return {name: value for name, value in config.items() if name not in ("device", "seed")} | {
        "strategy": {**rule, "config": settings},
        "task": {**task, "corpus": digest(task["corpus"])},
    }


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """The places at which two JSON values differ, with both values."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from differences(theirs.get(key), ours.get(key), f"{path}.{key}" if path else key)
    elif theirs != ours:
        yield f"{path} = {show(theirs)}, expected {show(ours)}"


def noted(home: Path, suite: Suite, arm: ArmEntry, tasks: Sequence[str]) -> ArmEntry:
    """The arm with a note where no value of its grid stays balanced."""
    chosen = read_json(path(home, suite.suite))["arms"].get(arm.name, {}).get("tasks", {})
    uneven = [task for task in tasks if task in chosen and not chosen[task]["balanced"]["under_1"]]
    if not uneven:
        return arm
    said = f"No value of its grid keeps MaxVio under 1 on {', '.join(uneven)}; the one with the lowest MaxVio is used."
    return arm.model_copy(update={"note": " ".join(part for part in (arm.note, said) if part)})


def chosen_settings(home: Path, suite: Suite, arm: ArmEntry, task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What tuning chose for an arm on a task, on the suite's track: {} for an arm without a knob.

    Args:
        config: the arm's on the task, resolved, but for what tuning chose.

    Raises:
        UsageError: the suite was not tuned, or not for this arm and task as they are now.
    """
    if registry.get(arm.strategy).knob is None:
        return {}
    file, command = path(home, suite.suite), f"`equipoise tune {shlex.quote(suite.typed or suite.suite)}`"
    if not file.exists():
        raise UsageError(f"track: {suite.track} needs {file.name} under {file.parent}; make it with {command}")
    written = read_json(file)
    if written["protocol_digest"] != suite.digest:
        raise UsageError(f"track: the suite has changed since it was tuned; run {command} again")
    entry = written["arms"].get(arm.name, {})
    chosen = entry.get("tasks", {}).get(task, {})
    value = (chosen if suite.track == "tuned" else chosen.get("balanced") or {}).get("value")
    if value is None:
        raise UsageError(f"track: tuning of {suite.suite} chose nothing for {arm.name} on {task}; run {command} again")
    under = entry.get("under", {})
    for name in (task, "conditions"):  # of a stranger's choice it may be anything
        under = under.get(name) if isinstance(under, dict) else {}
    wanted = json.loads(json.dumps(conditions(config, entry["parameter"])))
    others = list(differences(under if isinstance(under, dict) else {}, wanted))
    if others:
        more = f" and {len(others) - 6} more" if len(others) > 6 else ""
        raise UsageError(
            f"track: {arm.name} on {task} was tuned with {'; '.join(others[:6])}{more}; "
            f"run {command} again with the same --set"
        )
    return {entry["parameter"]: value}


def as_text(result: dict[str, Any]) -> str:
    """What was chosen, a line per arm and task, with the losses over the grid."""
    lines = [f"tuned {result['suite']} with {counted(result['seeds'], 'seed')} of its own"]
    for arm, entry in result["arms"].items():
        for task, chosen in entry["tasks"].items():
            grid = ", ".join(
                f"{value}: " + ("diverged" if None in seen else f"{np.mean([x for x in seen if x is not None]):.4f}")
                for value, seen in chosen["losses"].items()
            )
            edge = " (at the edge of its grid)" if chosen["at_edge"] else ""
            even = chosen.get("balanced") or {}
            kept = "" if even.get("under_1") else " (no value keeps MaxVio under 1)"
            picked = f"{chosen['value']}{edge}, balanced {even.get('value')}{kept}"
            lines.append(f"  {task} · {arm}: {entry['parameter']} = {picked}; {grid}")
    return "\n".join(lines)
