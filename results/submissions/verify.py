"""Checking a submission without running anything that is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.submissions import archive
from results.submissions.across import Together
from results.submissions.choice import check_choice
from results.submissions.contents import Submission, Trial, environment, open_archive
from results.submissions.expected import Expected
from results.submissions.grid import check_grid
from results.submissions.identity import check_identity
from results.submissions.plausible import check_loads, check_record
from results.submissions.safe import text_problem

BY = 60  # characters of the submitter's name
UNFORESEEN = (TypeError, KeyError, IndexError, AttributeError, ValueError, OverflowError)  # of a stranger's values

Suites = Callable[[str, Mapping[str, Any] | None], Expected]  # (name, what tuning chose) → the suite; ValueError
SourceDigest = Callable[[str, str], str]  # (strategy, source text) → digest of the rule; ValueError


@dataclass
class Report:
    """What was found."""

    violations: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    submission: Submission | None = None
    trials: dict[str, Trial] = field(default_factory=dict)  # without their loads; what is wrong, without its curves


def verify(
    path: Path, suites: Suites, source_digest: SourceDigest, now: datetime | None = None, keep: bool = False
) -> Report:
    """Everything that is wrong with an archive.

    Args:
        suites: what the suite of a name expects.
        source_digest: of a plug-in's text, found without importing it.
        keep: whether trials are wanted with their loads.
    """
    report = Report()
    try:
        _verify(report, path, suites, source_digest, now or datetime.now(UTC), keep)
    except archive.Refused as error:
        report.violations.append(str(error))
    return report


def _verify(report: Report, path: Path, suites: Suites, source_digest: SourceDigest, now: datetime, keep: bool) -> None:
    submission, trials = open_archive(path)
    report.submission = submission
    report.violations += _check_head(submission)
    expected: dict[str, Expected] = {}
    for name, manifest in submission.manifests.items():
        try:
            expected[name] = suites(name, submission.choice)
        except ValueError as error:
            report.violations.append(f"suite: {error}")
            continue
        except UNFORESEEN as error:  # of a choice; everything else is the suite's own
            report.violations.append(f"choice.json: {_unforeseen(error)}")
            continue
        report.violations += [
            f"{name}: {line}" for line in _sensible(check_grid(manifest, expected[name], submission.plugins))
        ]
    sources = _sources(report, submission, source_digest, {name for each in expected.values() for name in each.facts})
    cells = _cells(submission)
    together = Together()
    for trial in trials:
        if trial.key not in cells:
            report.violations.append(f"trial {trial.key}: no manifest lists it")
            continue
        board, cell, arm = cells.pop(trial.key)
        where = f"{cell['arm']}/{cell['task']}/{cell['seed']}"
        lines = []
        if board in expected:
            lines = list(_sensible(_check_trial(trial, cell, arm, expected[board], sources, now)))
            report.violations += [f"{where}: {line}" for line in lines]
        if trial.record is not None:
            together.add(trial, cell["arm"], cell["task"], where)
        if lines or board not in expected:
            trial.curves = None  # nothing is done with what is refused: it takes no room
        if lines or not keep:
            trial.load_SLE = trial.val_load_LE = None
        report.trials[trial.key] = trial
    for key, (_, cell, _) in cells.items():
        where = f"{cell['arm']}/{cell['task']}/{cell['seed']}"
        report.violations.append(f"{where}: no record of trial {key}; expected one for every trial listed")
    report.violations += _sensible(check_choice(submission, report.trials))
    report.violations += submission.problems
    report.violations += together.problems()
    report.remarks += together.remarks()
    made = [environment(trial.record) for trial in report.trials.values() if trial.record is not None]
    if not all(one in submission.head["environments"] for one in made):
        report.violations.append("submission.json: environments: a trial was made in one that is not listed")


def _sensible(lines: Iterator[str]) -> Iterator[str]:
    """The same lines; where a stranger's value is of a kind that nobody thought of, that is one more."""
    try:
        yield from lines
    except UNFORESEEN as error:
        yield _unforeseen(error)


def _unforeseen(error: Exception) -> str:
    return f"holds something of another kind than expected ({type(error).__name__}: {str(error)!a:.80})"


def _check_head(submission: Submission) -> Iterator[str]:
    problem = text_problem(submission.head["by"], BY)
    if problem:
        yield f"submission.json: by: {problem}"
    if len(submission.manifests) > 2:
        yield f"manifests: {len(submission.manifests)}; expected the board's, and that of its tuning if it is tuned"


def _sources(report: Report, submission: Submission, source_digest: SourceDigest, built_in: Set[str]) -> dict[str, str]:
    """Digests of the plug-ins' rules, by strategy; none may have the name of a strategy that comes along."""
    found = {}
    used = {arm["strategy"] for manifest in submission.manifests.values() for arm in manifest["arms"]}
    for name, text in submission.plugins.items():
        if name not in used:
            report.violations.append(f"plugins/{name}.py: no arm uses it")
        if name in built_in:
            report.violations.append(f"plugins/{name}.py: {name} comes with Equipoise; expected a name of its own")
        try:
            found[name] = source_digest(name, text)
        except ValueError as error:
            report.violations.append(f"plugins/{name}.py: {error}")
    return found


def _cells(submission: Submission) -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """key → the manifest's name, the trial's line in it, its arm."""
    return {
        cell["trial_key"]: (name, cell, arm)
        for name, manifest in submission.manifests.items()
        for arms in [{arm["arm"]: arm for arm in manifest["arms"]}]
        for cell in manifest["trials"]
        for arm in [arms.get(cell["arm"])]
        if arm is not None
    }


def _check_trial(
    trial: Trial,
    cell: Mapping[str, Any],
    arm: Mapping[str, Any],
    expected: Expected,
    sources: Mapping[str, str],
    now: datetime,
) -> Iterator[str]:
    yield from trial.problems
    record = trial.record
    if record is None:
        return
    wrong = list(check_identity(record, cell, arm, expected))
    source = record["config"]["strategy"].get("source")
    if arm["strategy"] in sources and source != sources[arm["strategy"]]:
        wrong.append(
            f"config.strategy.source: {source!r:.20}; plugins/{arm['strategy']}.py has {sources[arm['strategy']]!r:.20}"
        )
    yield from wrong
    tasks = {task["name"]: task for task in expected.manifest["tasks"]}
    if cell["task"] not in tasks:
        return
    task = tasks[cell["task"]]
    yield from check_record(trial, task.get("flops_per_token"), now)
    if trial.curves is not None and not wrong:  # else the sizes to check against are not to be trusted
        floor = expected.floors.get(cell["task"], {})
        yield from check_loads(trial, task["top_k"], bool(arm.get("variable_k")), floor)
