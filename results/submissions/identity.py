"""Whether a record is of the trial it is said to be: its key, and everything the key is a hash of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from results.submissions.choice import setting
from results.submissions.expected import AA_SEEDS, Expected, trial_key
from results.submissions.safe import strings, text_problem


def check_identity(
    record: Mapping[str, Any], cell: Mapping[str, Any], arm: Mapping[str, Any], expected: Expected
) -> Iterator[str]:
    """A line for everything that is another trial's, or was made under other conditions.

    Args:
        cell: the manifest's line of the trial.
        arm: the manifest's entry of its arm.
    """
    config = record["config"]
    try:
        key = trial_key(config)
    except ValueError as error:
        yield f"config: {error}"
        return
    if not cell["trial_key"] == record["trial_key"] == key:
        yield f"trial_key: {record['trial_key']!r:.40} says the record; its configuration's is {key!r}"
    aa = arm["arm"] == expected.manifest.get("aa_arm")
    seed = cell["seed"] + (AA_SEEDS if aa else 0)
    if config["seed"] != seed:
        yield f"config.seed: {config['seed']}; expected {seed}"
    wanted = expected.configs.get((arm["arm"], cell["task"]))
    if wanted is None:  # an arm of the submission's own: as the baseline, but for its strategy
        wanted = expected.configs.get((expected.manifest["baseline"], cell["task"]))
        if wanted is None:
            return  # the task itself is not the suite's, which was said
        yield from _own_strategy(config["strategy"], arm, cell["task"], expected.sources.get(arm["strategy"]))
        wanted = {**wanted, "task": _own_scores(wanted["task"], config["task"])}
    elif config["strategy"] != wanted["strategy"]:
        yield from _differences("config.strategy", config["strategy"], wanted["strategy"])
    for name in sorted((config.keys() | wanted.keys()) - {"strategy", "seed", "device"}):
        yield from _differences(f"config.{name}", config.get(name), wanted.get(name))
    device = (record["provenance"]["hardware"] or {}).get("device")
    if config.get("device") not in ("cpu", "cuda") or config.get("device") != device:
        yield f"config.device: {config.get('device')!r:.40}; its hardware is {device!r:.40}"
    facts = {name: arm.get(name) for name in ("title", "paper", "causal", "variable_k", "knob")}
    yield from _differences("facts", record.get("facts"), facts)
    yield from _task(record, config["task"])
    shown = (record.get("provenance"), record.get("attempts"), config["strategy"])
    for text in (text for part in shown for text in strings(part) if text):
        problem = text_problem(text)
        if problem:
            yield problem


def _own_strategy(strategy: Mapping[str, Any], arm: Mapping[str, Any], task: str, source: str | None) -> Iterator[str]:
    """An arm of the submission's own is what its entry says; `source`: today's code of a rule that comes along."""
    settings = dict(arm["config"])
    if arm.get("knob"):
        parameter = arm["knob"]["parameter"]
        settings[parameter] = setting(arm, task, parameter)
    if strategy["name"] != arm["strategy"]:
        yield f"config.strategy.name: {strategy['name']!r:.60}; the arm's is {arm['strategy']!r:.60}"
    if source is not None:
        yield from _differences("config.strategy.source", strategy.get("source"), source)
    yield from _differences("config.strategy.config", strategy["config"], settings)
    yield from _differences("config.strategy.terms", strategy["terms"], arm.get("terms"))


def _own_scores(baseline: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline's task with the scores and gates of a strategy of the submission's own: its class states them."""
    shown = own.get("rung")
    stated = (
        {name: shown[name] for name in ("score", "normalize_gates") if name in shown} if isinstance(shown, dict) else {}
    )
    return {**baseline, "rung": {**baseline["rung"], **stated}}


def _task(record: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    """The task as it can be trained again is the one of the configuration."""
    full = record.get("task")
    if not isinstance(full, dict) or not isinstance(full.get("rung"), dict):
        yield "task: missing; expected the task as it was trained"
        return
    rung = {name: value for name, value in full["rung"].items() if name != "checkpoint_every"}
    yield from _differences("task.name", full.get("name"), task["name"])
    yield from _differences("task.corpus", full.get("corpus"), task.get("corpus"))
    yield from _differences("task.rung", rung, task.get("rung"))


def _differences(where: str, theirs: Any, ours: Any) -> Iterator[str]:
    """The first place in which two JSON values differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                yield from _differences(f"{where}.{name}", theirs.get(name), ours.get(name))
                return
    elif theirs != ours:
        yield f"{where:.120}: {theirs!r:.80}; expected {ours!r:.80}"
