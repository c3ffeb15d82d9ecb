"""Whether a tuned board's settings are what its tuning gives: the choice is made again, from the tuning's records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from results.statistics.tuning import arm_at, choice
from results.submissions.contents import Submission, Trial
from results.submissions.safe import strings, text_problem

TUNED = {"tuned": lambda chosen: chosen["value"], "balanced": lambda chosen: chosen["balanced"]["value"]}


def check_choice(submission: Submission, trials: Mapping[str, Trial]) -> Iterator[str]:
    """A line for everything in `choice.json`, or in the board's settings, that the records do not give."""
    board, stated = submission.manifest, submission.choice
    track = board.get("track")
    if track not in TUNED:
        if stated is not None or len(submission.manifests) > 1:
            yield f"track: {track!r:.40}; expected neither a choice nor a tuning beside the board"
        return
    name = f"{board['suite'].removesuffix(f'-{track}')}-tuning"
    tuning = submission.manifests.get(name)
    if tuning is None or stated is None:
        yield f"manifests/{name}.json, choice.json: expected the tuning that the board's settings come from"
        return
    for text in strings(stated):
        problem = text_problem(text) if text else None
        if problem:
            yield f"choice.json: {problem}"
    seeds = {cell["seed"] for cell in tuning["trials"]}
    if stated.get("seeds") != len(seeds):
        yield f"choice.json: seeds: {stated.get('seeds')!r:.40}; the tuning has {len(seeds)}"
    arms = [arm for arm in board["arms"] if arm.get("knob") and arm["arm"] not in beside(board)]
    lengths = {arm["arm"]: len(arm["knob"]["grid"]) for arm in arms}
    if len(set(lengths.values())) > 1:
        yield f"knobs: grids of {lengths!r:.200} values; equal budgets need equal grids"
    for arm in arms:
        for task in board["tasks"]:
            lines = _check(arm, task["name"], track, stated["arms"].get(arm["arm"]) or {}, tuning, trials)
            yield from (f"choice.json: {arm['arm']} on {task['name']}: {line}" for line in lines)


def beside(board: Mapping[str, Any]) -> set[str | None]:
    """The further runs of the baseline, which have its settings."""
    return {board.get("aa_arm"), *(board.get("horizons") or {}).values()}


def _check(
    arm: Mapping[str, Any],
    task: str,
    track: str,
    stated: Mapping[str, Any],
    tuning: Mapping[str, Any],
    trials: Mapping[str, Trial],
) -> Iterator[str]:
    """One arm on one task: its whole grid was run as the arm is, and the value is what the grid's records give."""
    parameter, grid = arm["knob"]["parameter"], arm["knob"]["grid"]
    known = {entry["arm"]: entry for entry in tuning["arms"]}
    for value in grid:
        at = known.get(arm_at(arm["arm"], value))
        if at is None:
            yield f"no trial of {arm_at(arm['arm'], value)}; expected every value of its grid"
            return
        for field, wanted in (
            ("strategy", arm["strategy"]),
            ("config", {**arm["config"], parameter: value}),
            ("terms", arm["terms"]),
            ("task", arm["task"]),
        ):
            if at.get(field) != wanted:
                yield f"{at['arm']}: {field}: {at.get(field)!r:.80}; the board's arm has {wanted!r:.80}"
    losses, late = _figures(arm["arm"], task, grid, tuning, trials)
    found = choice(grid, losses, late)
    theirs = (stated.get("tasks") or {}).get(task) or {}
    if stated.get("parameter") != parameter:
        yield f"parameter: {stated.get('parameter')!r:.60}; its knob is {parameter!r:.60}"
    for field in sorted(found.keys() | theirs.keys()):
        if theirs.get(field) != found.get(field):
            yield f"{field}: {theirs.get(field)!r:.120}; the tuning's records give {found.get(field)!r:.120}"
    used, wanted = setting(arm, task, parameter), TUNED[track](found)
    if used != wanted:
        yield f"the board's arm has {parameter} = {used!r:.40}; the tuning's records give {wanted!r:.40}"


def setting(arm: Mapping[str, Any], task: str, parameter: str) -> Any:
    """An arm's value of a parameter on a task: tuning may have chosen one for each."""
    value = arm["config"].get(parameter)
    return value.get(task) if isinstance(value, dict) else value


def _figures(
    arm: str, task: str, grid: list[float], tuning: Mapping[str, Any], trials: Mapping[str, Trial]
) -> tuple[dict[str, list[float | None]], dict[str, list[float | None]]]:
    """Held-out losses and late MaxVio of an arm's grid, seed by seed, from the records."""
    names = {arm_at(arm, value): f"{value:g}" for value in grid}
    losses: dict[str, list[float | None]] = {text: [] for text in names.values()}
    late: dict[str, list[float | None]] = {text: [] for text in names.values()}
    for cell in sorted(tuning["trials"], key=lambda cell: cell["seed"]):
        trial = trials.get(cell["trial_key"])
        if cell["arm"] in names and cell["task"] == task and trial is not None and trial.record is not None:
            measures = trial.record["measures"]
            losses[names[cell["arm"]]].append(measures["val_loss"])
            late[names[cell["arm"]]].append((measures.get("max_vio_batch") or {}).get("tail_mean"))
    return losses, late
