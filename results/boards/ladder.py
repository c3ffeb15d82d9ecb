"""A board whose tasks are a ladder: they differ in one number alone, such as the experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from results.records import Outcome, Records, ranked_arms
from results.statistics.ladder import per_doubling
from results.statistics.margins import differences_by_seed

FEWEST = 3  # tasks: through two points every line is straight
Seeds = Mapping[int, float]


def ladder(manifest: Mapping[str, Any], records: Records, configs: Mapping[str, Mapping[str, Any]]) -> Any:
    """What changes per doubling of the number in which all tasks differ; None where that is not all they differ in.

    Args:
        configs: by name, each task as the baseline's records have it.

    Returns:
        `of`: the number's name, `tasks` and `numbers`: in its order, `arms`: {arm: {`loss`, `delta_loss` (None of the
        baseline), `dropped`: assignments beyond 1.25 × the mean in all of training}}, each the fields of a `Trend`,
        for arms that have a seed with every task, and `range`: the same of the distance, within a seed, between the
        highest and the lowest loss of the arms with experts.
    """
    found = _only_difference({name: config for name, config in configs.items() if config})
    if found is None or len(found[1]) < max(FEWEST, len(manifest["tasks"])):
        return None
    of, numbers = found
    tasks = sorted(numbers, key=lambda task: numbers[task])
    steps = [numbers[task] for task in tasks]
    baseline = manifest["baseline"]
    arms: dict[str, Any] = {}
    for arm in (entry["arm"] for entry in ranked_arms(manifest)):
        losses = [records.losses(arm, task) for task in tasks]
        if not set.intersection(*map(set, losses)):
            continue
        differences = [differences_by_seed(records, arm, baseline, task) for task in tasks]
        dropped = [_by_seed(records.cell(arm, task), _dropped) for task in tasks]
        arms[arm] = {
            "loss": asdict(per_doubling(steps, losses)),
            "delta_loss": None if arm == baseline else asdict(per_doubling(steps, differences)),
            "dropped": asdict(per_doubling(steps, dropped)),
        }
    routed = [arm for arm in arms if arm != manifest.get("twin")]
    ranges = [_range([records.losses(arm, task) for arm in routed]) for task in tasks]
    return {"of": of, "tasks": tasks, "numbers": steps, "arms": arms, "range": asdict(per_doubling(steps, ranges))}


def _only_difference(configs: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, float]] | None:
    """The one key of a rung in which tasks differ, and its positive number by task."""
    rungs = {name: config.get("rung") or {} for name, config in configs.items()}
    rest = [{key: value for key, value in config.items() if key not in ("name", "rung")} for config in configs.values()]
    if not rest or any(other != rest[0] for other in rest):
        return None
    keys = {key for rung in rungs.values() for key in rung}
    unlike = [key for key in sorted(keys) if len({repr(rung.get(key)) for rung in rungs.values()}) > 1]
    if len(unlike) != 1:
        return None
    numbers = {name: rung[unlike[0]] for name, rung in rungs.items() if _positive(rung.get(unlike[0]))}
    return (unlike[0], numbers) if len(set(numbers.values())) == len(rungs) else None


def _positive(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and number > 0


def _dropped(measures: Mapping[str, Any]) -> float | None:
    return (measures.get("dropped") or {}).get("1.25")


def _by_seed(outcomes: Sequence[Outcome], measure: Callable[[Mapping[str, Any]], float | None]) -> dict[int, float]:
    found = {o.seed: measure(o.record["measures"]) for o in outcomes if o.status == "finished" and o.record}
    return {seed: value for seed, value in found.items() if value is not None}


def _range(losses: Sequence[Seeds]) -> dict[int, float]:
    """Seed → highest minus lowest loss, of the seeds that all arms have."""
    seeds = set.intersection(*map(set, losses)) if losses else set()
    return {seed: max(own) - min(own) for seed in seeds for own in [[loss[seed] for loss in losses]]}
