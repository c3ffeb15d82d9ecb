"""Writing a merged submission into the folder of published boards, and training its trials again."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tasks
from results.records.published import compact, trials_of
from results.records.thinning import thin_curves
from results.statistics.estimates import mean_interval
from results.submissions.choice import beside
from results.submissions.contents import Trial
from results.submissions.merging import Merged
from results.submissions.verify import Report
from strategies import registry
from strategies.registry.source_text import text_digest
from suite.planning import tune
from suite.running import reproduce
from suite.running.attempt import run_trial
from suite.running.submitting import comes_along
from suite.storage.files import read_json, write_atomically, write_json


def write(merged: Merged, report: Report) -> None:
    """The manifest, plug-ins as text, what tuning chose, and curves and records of the trials that are new.

    The manifest comes first, since it says whose the trials are, and a trial's record last: after a kill the same
    submission joins again, and what the manifest lists without a record is what is still to be written.
    """
    assert report.submission is not None
    folder = merged.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "manifest.json", merged.manifest)
    for name, text in report.submission.plugins.items():
        path = folder / "plugins" / plugin_file(name, text)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomically(path, text.encode())
    if report.submission.choice is not None:
        path = folder / "tuning.json"
        ours = read_json(path) if path.exists() else None
        write_json(path, joined_choice(ours, checked_choice(report.submission.choice, report.submission.manifest)))
    for key in merged.added:
        if not merged.has(key):  # else it is of an entry that gave way, or of another board, and came out alike
            write_trial(trials_of(folder) / key, report.trials[key])


def write_trial(place: Path, trial: Trial) -> None:
    """A trial's curves, thinned, and then its record, as boards have them."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_curves(Path(scratch) / "curves.parquet", trial)
        thin_curves(Path(scratch) / "curves.parquet", place / "curves.parquet")
    write_atomically(place / "record.json", compact(trial.record))


def plugin_file(name: str, text: str) -> str:
    """What a plug-in's text is called on a board: by its rule's digest, which records have as the strategy's `source`.

    So rules of one name, by others or of an entry that gave way, lie side by side. It is a text: nothing imports it.
    """
    return f"{name}-{text_digest(name, text)[:16]}.py.txt"


def checked_choice(choice: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    """A choice without what the submission holds no trials of, and nothing therefore was checked."""
    arms = {arm["arm"] for arm in manifest["arms"] if arm.get("knob")} - beside(manifest)
    tasks = {task["name"] for task in manifest["tasks"]}

    def kept(entry: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {task: said for task, said in value.items() if task in tasks} if name in tune.PARTS else value
            for name, value in entry.items()
            if name not in tune.PARTS or isinstance(value, dict)
        }

    return {**choice, "arms": {arm: kept(entry) for arm, entry in choice["arms"].items() if arm in arms}}


def joined_choice(ours: dict[str, Any] | None, theirs: dict[str, Any]) -> dict[str, Any]:
    """What tuning chose for all arms of a board, on all their tasks; what is on the board stays."""
    if ours is None:
        return theirs
    return {**ours, "arms": tune.joined(ours["arms"], theirs["arms"])}


def write_curves(path: Path, trial: Trial) -> None:
    """Curves as trials keep them."""
    assert trial.curves is not None
    columns = {
        name: pa.array(values.astype(np.int64) if name in ("step", "tokens") else values, from_pandas=True)
        for name, values in trial.curves.items()
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def candidates(report: Report, trusted: bool) -> list[str]:
    """The trials that may be trained again: those of rules that come along, and with trust all.

    A name of which the archive holds a text needs trust, whatever else has that name.
    """
    assert report.submission is not None
    own = report.submission.plugins
    names = {
        key: trial.record["config"]["strategy"]["name"]
        for key, trial in sorted(report.trials.items())
        if trial.record is not None
    }
    return [key for key, name in names.items() if trusted or (comes_along(name) and name not in own)]


def rerun(
    report: Report, key: str, home: Path, say: Callable[[str], None], watch: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Train one trial again: *identical*, *within the spread* of its arm's seeds, or *different*.

    A plug-in's text is run for that: whoever calls has been shown it. One with the name of a rule that comes along is
    never run, the rule that comes along is.
    """
    assert report.submission is not None
    record = report.trials[key].record
    assert record is not None
    name = record["config"]["strategy"]["name"]
    if name in report.submission.plugins and not comes_along(name):
        file = home / "submissions" / report.submission.digest[:16] / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(report.submission.plugins[name], encoding="utf-8")
        registry.load_plugin(file)
    folder = reproduce.prepare(record, home)
    tasks.prepare(tasks.recorded(record["task"]), home / "cache", say)
    run_trial(folder.path, home / "cache", watch)
    _, low, high = mean_interval(_losses(report, key))
    answer = reproduce.judge(record, read_json(folder.record), {"val_loss": {"ci_low": low, "ci_high": high}})
    return answer | {"trial": where(report, key), "trial_key": key}


def _losses(report: Report, key: str) -> list[float]:
    """Held-out losses of all seeds of a trial's arm and task."""
    arm, task, _ = _place(report, key)
    found = []
    for other in report.trials:
        record = report.trials[other].record
        if (
            record is not None
            and _place(report, other)[:2] == (arm, task)
            and record["measures"]["val_loss"] is not None
        ):
            found.append(record["measures"]["val_loss"])
    return found


def where(report: Report, key: str) -> str:
    """A trial in words."""
    return "/".join(map(str, _place(report, key)))


def _place(report: Report, key: str) -> tuple[str, str, int]:
    assert report.submission is not None
    for manifest in report.submission.manifests.values():
        for cell in manifest["trials"]:
            if cell["trial_key"] == key:
                return cell["arm"], cell["task"], cell["seed"]
    raise KeyError(key)


def draw(keys: list[str], count: int) -> list[str]:
    """Which to train again: not for the submitter to know beforehand."""
    return random.SystemRandom().sample(keys, min(count, len(keys)))


def shown(text: str) -> str:
    """A stranger's program as a terminal may show it: what is invisible or steers the terminal is spelt out."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else f"\\u{ord(character):04x}"
        for character in text
    )
