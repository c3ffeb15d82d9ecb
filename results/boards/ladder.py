"""A board whose tasks are a ladder: they differ in one number alone, such as the experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from results.records import Records, ranked_arms
from results.statistics.ladder import per_doubling

FEWEST = 3  # tasks: through two points every line is straight
Seeds = Mapping[int, float]


def ladder(manifest: Mapping[str, Any], records: Records, configs: Mapping[str, Mapping[str, Any]]) -> Any:
    """What changes per doubling of the number in which all tasks differ; None where that is not all they differ in.

    An arm has slopes if no trial of it on the ladder diverged, whose loss would be left out; all of them are over the
    seeds that it and the baseline have on every task.

    Args:
        configs: by name, each task as the baseline's records have it.

    Returns:
        `of`: the number's key and `title`: its name in words, `tasks` and `numbers`: in its order, `arms`: {arm:
        {`loss`, `delta_loss` (None of the baseline), `dropped`: assignments beyond 1.25 × the mean in all of training
        (None of the dense twin)}}, each the fields of a `Trend`, `diverged`: the arms left out for that, and `range`:
        the same of the distance, within a seed, between the highest and the lowest loss of arms with experts, equal
        FLOPs and all of the baseline's seeds, with how many `arms` these are; None if fewer than two.
    """
    found = only_difference(configs)
    if found is None or len(found[1]) < FEWEST:
        return None
    of, numbers = found
    tasks = sorted(numbers, key=lambda task: numbers[task])
    steps = [numbers[task] for task in tasks]
    baseline, twin = manifest["baseline"], manifest.get("twin")
    base = [records.losses(baseline, task) for task in tasks]
    whole = set.intersection(*map(set, base))
    if not whole:
        return None
    arms: dict[str, Any] = {}
    diverged: list[str] = []
    alike: list[Sequence[Seeds]] = []  # by arm and task, losses of those that the range is of
    for entry in ranked_arms(manifest):
        arm = entry["arm"]
        losses = [records.losses(arm, task) for task in tasks]
        if any(outcome.status == "diverged" for task in tasks for outcome in records.cell(arm, task)):
            diverged.append(arm)
            continue
        seeds = whole.intersection(*map(set, losses))
        if not seeds:
            continue
        own = [{seed: loss[seed] for seed in seeds} for loss in losses]
        differences = [{seed: loss[seed] - at[seed] for seed in seeds} for loss, at in zip(losses, base, strict=True)]
        dropped = [_dropped(records, arm, task, seeds) for task in tasks]
        arms[arm] = {
            "loss": asdict(per_doubling(steps, own)),
            "delta_loss": None if arm == baseline else asdict(per_doubling(steps, differences)),
            "dropped": None if arm == twin else asdict(per_doubling(steps, dropped)),
        }
        if arm != twin and seeds == whole and entry.get("causal") is not False and not entry.get("variable_k"):
            alike.append(own)
    return {
        "of": of,
        "title": of.replace("_", " "),
        "tasks": tasks,
        "numbers": steps,
        "arms": arms,
        "diverged": diverged,
        "range": _range(steps, alike) if len(alike) > 1 else None,
    }


def only_difference(configs: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, float]] | None:
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


def _dropped(records: Records, arm: str, task: str, seeds: set[int]) -> dict[int, float]:
    """Seed → share dropped; records of old do not say."""
    found = {
        outcome.seed: (outcome.record["measures"].get("dropped") or {}).get("1.25")
        for outcome in records.cell(arm, task)
        if outcome.record and outcome.seed in seeds
    }
    return {seed: share for seed, share in found.items() if share is not None}


def _range(steps: Sequence[float], alike: Sequence[Sequence[Seeds]]) -> dict[str, Any]:
    """Of the distance between the highest and the lowest loss; all arms have the same seeds."""
    apart = [
        {seed: max(loss[seed] for loss in at) - min(loss[seed] for loss in at) for seed in at[0]}
        for at in zip(*alike, strict=True)
    ]
    return {**asdict(per_doubling(steps, apart)), "arms": len(alike)}
