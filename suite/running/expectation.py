"""What this version expects of a submission: a suite's own plan, in the words in which submissions are checked."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.submissions.expected import Expected
from strategies import registry
from suite.errors import UsageError
from suite.planning import library, tune
from suite.planning.config import CHOSEN, Suite
from suite.planning.plan import facts, make_plan
from suite.storage.files import write_json
from suite.training.measures import noise_floor
from suite.words import nearest
from tasks import Task


def expect(name: str, choice: Mapping[str, Any] | None = None, files: Sequence[str] = ()) -> Expected:
    """The suite behind a board's name.

    Args:
        name: as manifests have it: a suite's, a track's of it, or its tuning's.
        choice: what tuning chose, for a track that rests on a choice.
        files: suites' files beside those that come with Equipoise.

    Raises:
        UsageError: there is no such suite, or the choice does not fit it.
    """
    built_in = {n: cls for n, cls in registry.available().items() if cls.__module__.startswith("strategies.")}
    whole = _behind(name, files)
    suite = _board(_without_plugins(whole, built_in), name)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        if suite.track in CHOSEN:
            if choice is None:
                raise UsageError(f"{name}: its settings were chosen by tuning; expected choice.json")
            suite = _tuned_part(suite, choice)
            path = tune.path(home, suite.suite)
            path.parent.mkdir(parents=True)
            write_json(path, dict(choice))
        plan = make_plan(suite, home=home)
    cells = {(trial.arm, trial.task): trial.cell for trial in plan.trials}
    return Expected(
        manifest=plan.manifest
        | ({} if name.endswith(library.TUNING) else {"asks": whole.asks, "control": whole.control}),
        seeds=suite.seed_list,
        configs={place: cell.config for place, cell in cells.items()},
        facts={n: facts(cls) for n, cls in built_in.items()},
        sources={n: registry.source_digest(cls) for n, cls in built_in.items()},
        floors={task: floors(cell.task) for (_, task), cell in cells.items()},
        listed={
            arm.name: {"strategy": arm.strategy, "set": arm.set, "terms": arm.terms, "task": arm.task}
            for arm in whole.strategies
            if arm not in suite.strategies
        },
    )


def _without_plugins(suite: Suite, built_in: Container[str]) -> Suite:
    """The suite without arms of plug-ins, which come with a submission: checking runs nothing of theirs.

    Raises:
        UsageError: the others are compared with one of them.
    """
    kept = [arm for arm in suite.strategies if arm.strategy in built_in]
    names = [arm.name for arm in kept]
    if suite.baseline not in names:
        raise UsageError(f"baseline: {suite.baseline!r} is a plug-in's; expected a strategy of Equipoise's")
    control = suite.control if suite.control in names else None
    return suite.model_copy(update={"strategies": kept, "control": control})


def _tuned_part(suite: Suite, choice: Mapping[str, Any]) -> Suite:
    """The suite without arms and tasks that were not tuned; the baseline stays, which every board needs.

    What is handed in of them all the same has no choice that its settings could come from, and is refused for that.
    """
    chosen = choice["arms"]
    tasks = {task for entry in chosen.values() for task in entry["tasks"]}
    tuned = {suite.baseline, *chosen}
    arms = [arm for arm in suite.strategies if arm.name in tuned or registry.get(arm.strategy).knob is None]
    return suite.model_copy(
        update={"strategies": arms, "tasks": [entry for entry in suite.tasks if entry.task in tasks]}
    )


def floors(task: Task) -> dict[str, float]:
    """MaxVio that chance alone gives on a task's batch and on what it holds out."""
    rung = task.rung
    top_k = min(rung.top_k, rung.experts)
    return {
        "batch": noise_floor(rung.tokens_per_step, rung.experts, top_k),
        "global": noise_floor(task.heldout_tokens, rung.experts, top_k),
    }


def _behind(name: str, files: Sequence[str]) -> Suite:
    """The suite whose board, or track, or tuning the name is.

    Raises:
        UsageError: there is none.
    """
    known = [library.load(source) for source in (*files, *library.names())]
    for suite in known:
        if name in library.boards(suite.suite):
            return suite
    names = [suite.suite for suite in known]
    raise UsageError(
        f"{name!r} does not come with Equipoise{nearest(name, names)}; expected one of {', '.join(names)}, or a file "
        "named with --suite"
    )


def _board(suite: Suite, name: str) -> Suite:
    """The suite as the name says: itself, on a track, or its tuning."""
    if name == f"{suite.suite}{library.TUNING}":
        return tune.tuning_suite(suite)
    track = name.removeprefix(suite.suite).removeprefix("-")
    return suite.model_copy(update={"track": track}) if track else suite
