"""A part of a suite joins what was run of it before: what this version, as it is now, would run in just that way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from results.records.reader import beside
from strategies import registry
from suite.planning.config import Suite
from suite.planning.trials import Trial

OWN = ("arms", "trials", "aa_arm", "horizons", "twin", "asks")  # what a part may have of its own


class Planned(Protocol):
    """A plan, of which only the trials are asked for."""

    @property
    def trials(self) -> list[Trial]: ...


def joined(
    old: dict[str, Any],
    new: dict[str, Any],
    suite: Suite,
    again: Callable[..., Planned],
    by_this_engine: Callable[[str], bool],
) -> dict[str, Any]:
    """The new manifest, with the arms and trials that the old one has beside it if their conditions are the same.

    Args:
        again: plans `only_arms`, `only_tasks` and `seeds` of the suite under the new manifest's conditions.
        by_this_engine: of a trial's key: whether the engine and the device that it was begun with are those of now.
    """
    names = {task["name"] for task in new["tasks"]}
    shared = [task for task in old["tasks"] if task["name"] in names]
    same = all(old.get(key) == new[key] for key in new if key not in (*OWN, "tasks"))
    if not same or any(task not in new["tasks"] for task in shared):
        return new
    kept = unchanged(old, suite, again, by_this_engine)
    kept -= {arm["arm"] for arm in old["arms"] for own in new["arms"] if differ(arm, own)}
    arms = {arm["arm"]: arm for arm in old["arms"] if arm["arm"] in kept} | {arm["arm"]: arm for arm in new["arms"]}
    before = [trial for trial in old["trials"] if trial["arm"] in kept]
    trials = {(trial["arm"], trial["task"], trial["seed"]): trial for trial in [*before, *new["trials"]]}
    tried = {trial["task"] for trial in before} - names
    there = {"twin": [old.get("twin")], "aa_arm": [old.get("aa_arm")], "horizons": (old.get("horizons") or {}).values()}
    return new | {
        "arms": list(arms.values()),
        "tasks": [*(task for task in old["tasks"] if task["name"] in tried), *new["tasks"]],
        "trials": list(trials.values()),
        **{key: new[key] or (old.get(key) if arms.keys() >= set(arm) else None) for key, arm in there.items()},
    }


def differ(arm: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows of one arm say other settings: tuning may have chosen some for each task."""
    return arm["arm"] == other["arm"] and arm["config"] != other["config"]


def unchanged(
    old: dict[str, Any], suite: Suite, again: Callable[..., Planned], by_this_engine: Callable[[str], bool]
) -> set[str]:
    """The old manifest's arms whose trials would all have the keys they have: the same rule, engine, task and device.

    An arm that is neither the suite's nor named like a strategy at hand (a plug-in's, of the run before) cannot be
    planned again. It stays where another arm does, which shows that the engine has not changed, or where there is no
    other and none of its trials was begun by another engine.
    """
    further, known = beside(old), registry.available()  # the baseline brings its further runs
    named = {*(arm.name for arm in suite.strategies), *known, *further}
    at_hand = {arm["arm"] for arm in old["arms"] if arm["strategy"] in known and arm["arm"] in named}
    keys: dict[tuple[str, str, int], str] = {}
    for arm in sorted(at_hand - set(further)):
        keys |= keys_now([arm], old, again)
    changed = {
        trial["arm"]
        for trial in old["trials"]
        if keys.get((trial["arm"], trial["task"], trial["seed"])) != trial["trial_key"]
    }
    kept = at_hand - changed
    same = bool(kept) if at_hand else all(by_this_engine(trial["trial_key"]) for trial in old["trials"])
    return kept | {arm["arm"] for arm in old["arms"] if arm["arm"] not in at_hand} if same else set()


def keys_now(
    arms: Sequence[str], old: dict[str, Any], again: Callable[..., Planned]
) -> dict[tuple[str, str, int], str]:
    """The keys of arms on the old manifest's tasks and seeds; none for what can no longer be planned."""
    tasks, seeds = [task["name"] for task in old["tasks"]], {trial["seed"] for trial in old["trials"]}
    try:
        plan = again(only_arms=arms, only_tasks=tasks, seeds=sorted(seeds))
    except ValueError:  # a setting that tuning no longer gives, say
        return {}
    return {(trial.arm, trial.task, trial.seed): trial.key for trial in plan.trials}
