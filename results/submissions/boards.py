"""Checking published boards where they lie: what a change adds under `results/published` is a stranger's until checked.

Loads stay at their home, so counts are not counted again here; that was done when the submission was merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from results.records import check_manifest, load_record
from results.records.published import VERDICTS, resting, trial_folders, trials_of
from results.submissions.contents import Trial
from results.submissions.expected import AA_SEEDS, trial_key
from results.submissions.merging import past_manifest
from results.submissions.plausible import check_record, check_thinned
from results.submissions.safe import Unreadable, parse, strings, text_problem

KINDS = (".json", ".md", ".csv", ".html", ".svg", ".parquet", ".npz", ".txt", ".js", ".css")
FILE_BYTES = 8 * 2**20
CLOSE = 1e-9
EARLIER = "protocol-"  # folders of boards that were made under rules of comparison that no longer hold

Records = dict[str, dict[str, Any]]  # by trial key


def check_boards(published: Path, protocols: Sequence[str], now: datetime | None = None) -> list[str]:
    """A line for everything that is wrong with the boards, and the trials that they and verdicts on claims rest on.

    Every trial is looked at once, whatever rests on it.
    """
    now = now or datetime.now(UTC)
    found = list(_files(published))
    records: dict[Path, Records] = {}
    for folder in sorted({*trial_folders(published), *map(trials_of, published.rglob(VERDICTS))}):
        records[folder], lines = _trials(folder, now)
        found += [f"{folder.relative_to(published).as_posix()}{line}" for line in lines]
    for path in sorted(published.rglob("manifest.json")):
        where, there = path.parent.relative_to(published).as_posix(), records.get(trials_of(path.parent), {})
        found += [f"{where}: {line}" for line in _board(path.parent, _protocols(path, published, protocols), there)]
    return found


def _protocols(path: Path, published: Path, protocols: Sequence[str]) -> Sequence[str]:
    """Those that a board may have: in a folder named for one, that one."""
    first = path.relative_to(published).parts[0]
    return [first.removeprefix(EARLIER)] if first.startswith(EARLIER) else protocols


def _files(published: Path) -> Iterator[str]:
    """Nothing but plain files of known kinds, none of them large."""
    for path in sorted(published.rglob("*")):
        where = path.relative_to(published).as_posix()
        if path.is_symlink():
            yield f"{where}: a link; expected plain files only"
        elif path.is_file():
            size = path.stat().st_size
            if path.suffix not in KINDS:
                yield f"{where}: no file of a board has that kind; expected {', '.join(KINDS)}"
            elif size > FILE_BYTES:
                yield f"{where}: {size:,} bytes; expected at most {FILE_BYTES:,}"


def _trials(folder: Path, now: datetime) -> tuple[Records, list[str]]:
    """The records of a folder of trials, and what is wrong with them or missing."""
    records: Records = {}
    lines = []
    there = {place.name: place for place in sorted(folder.iterdir())} if folder.is_dir() else {}
    for key, place in there.items():
        record, wrong = _record(place, now)
        lines += [f"/{key}: {line}" for line in wrong]
        if record is not None:
            records[key] = record
    try:
        rests = resting(folder)
    except ValueError as error:
        return records, [*lines, f": {error}"]
    for key in sorted(there.keys() - rests.keys()):
        lines.append(f"/{key}: no board and no verdict on a claim rests on it; publishing into this folder removes it")
    for key in sorted(key for key, names in rests.items() if VERDICTS in names and key not in records):
        lines.append(f": no record of trial {key!r:.40}, which a verdict on a claim rests on")
    return records, lines


def _board(folder: Path, protocols: Sequence[str], trials: Records) -> Iterator[str]:
    try:
        manifest = parse((folder / "manifest.json").read_bytes())
        check_manifest(manifest)
        board = parse((folder / "leaderboard.json").read_bytes())
        wholes = [manifest, past_manifest(manifest) or {"arms": [], "trials": []}]
        places = [[(whole["arms"], cell) for cell in whole["trials"]] for whole in wholes]
    except (Unreadable, OSError, KeyError, TypeError, ValueError) as error:
        yield f"not a board ({type(error).__name__}: {str(error)!a:.120})"
        return
    if manifest.get("protocol_version") not in protocols:
        yield f"protocol_version: {manifest.get('protocol_version')!r:.40}; expected {' or '.join(protocols)}"
    for text in strings([arm.get("title") for whole in wholes for arm in whole["arms"]] + [manifest.get("title")]):
        problem = text_problem(text, 400)
        if problem:
            yield f"manifest: {problem}"
    cells = {cell["trial_key"]: (arms, cell) for part in places for arms, cell in part}
    records = {key: trials[key] for key in cells if key in trials}
    for key, record in records.items():
        arms, cell = cells[key]
        where = f"{cell['arm']}/{cell['task']}/{cell['seed']}"
        yield from (f"{where}: {line}" for line in _cell(record, cell, arms, manifest.get("aa_arm")))
    try:
        yield from _rows(board, records)
    except (KeyError, TypeError, AttributeError) as error:
        yield f"leaderboard.json: not a leaderboard ({type(error).__name__}: {str(error)!a:.80})"


def _record(place: Path, now: datetime) -> tuple[dict[str, Any] | None, list[str]]:
    """A trial's record, and what its own key, curves and clocks say against it."""
    if not (place / "record.json").exists():
        return None, [] if (place / "failure.json").exists() else ["neither a record nor a failure"]
    trial = Trial(place.name)
    try:
        parse((place / "record.json").read_bytes())
        trial.record = load_record(place)
        key = trial_key(trial.record["config"])
        trial.curves = _curves(place / "curves.parquet")
    except (Unreadable, ValueError, KeyError, TypeError, OSError, pa.ArrowException) as error:
        return None, [f"cannot be read ({type(error).__name__}: {str(error)!a:.120})"]
    lines = []
    if not place.name == trial.record["trial_key"] == key:
        lines.append(f"trial_key: {trial.record['trial_key']!r:.40}; that of its configuration is {key!r}")
    try:
        thinned = _thinned(place / "curves.parquet")
        lines += check_thinned(trial, now) if thinned else check_record(trial, None, now)
    except (TypeError, KeyError, IndexError, AttributeError, ValueError, OverflowError) as error:
        lines.append(f"holds something of another kind than expected ({type(error).__name__}: {str(error)!a:.80})")
    return trial.record, lines


def _curves(path: Path) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    table = pq.read_table(path)
    return {name: np.asarray(table[name].to_numpy(), dtype=np.float64) for name in table.column_names}


def _thinned(path: Path) -> bool:
    """Whether curves are those that publishing leaves: single precision, a row for a stretch of steps."""
    return path.exists() and pq.read_schema(path).field("seconds").type == pa.float32()


def _cell(
    record: Mapping[str, Any], cell: Mapping[str, Any], arms: list[dict[str, Any]], aa: str | None
) -> Iterator[str]:
    """The record is of the arm, task and seed that the manifest says."""
    arm = next(arm for arm in arms if arm["arm"] == cell["arm"])
    config = record["config"]
    wanted = {
        "config.strategy.name": (config["strategy"]["name"], arm["strategy"]),
        "config.task.name": (config["task"]["name"], cell["task"]),
        "config.seed": (config["seed"], cell["seed"] + (AA_SEEDS if cell["arm"] == aa else 0)),
    }
    for name, (theirs, ours) in wanted.items():
        if theirs != ours:
            yield f"{name}: {theirs!r:.60}; the manifest says {ours!r:.60}"


def _rows(board: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Losses and differences of every row are those of its trials' records."""
    losses = {key: record["measures"]["val_loss"] for key, record in records.items()}
    labels = {key: record["provenance"]["hardware"]["label"] for key, record in records.items()}
    cells = {(row["arm"], row["task"]): {s["seed"]: s["trial_key"] for s in row["seeds"]} for row in board["rows"]}
    for row in board["rows"]:
        where = f"row {row['arm']} on {row['task']}"
        mine = _finished(cells[row["arm"], row["task"]], losses)
        base = _finished(cells.get((board["baseline"], row["task"]), {}), losses)
        for seed in row["seeds"]:
            shown = seed["status"] in ("finished", "diverged")
            if shown and seed["trial_key"] not in records:
                yield f"{where}: seed {seed['seed']}: no record of trial {seed['trial_key']!r:.40}"
            elif shown and labels[seed["trial_key"]] != board["hardware"]:
                yield f"{where}: seed {seed['seed']}: made on {labels[seed['trial_key']]!r:.60}, not the board's"
            elif seed["val_loss"] != losses.get(seed["trial_key"]):
                loss = losses.get(seed["trial_key"])
                yield f"{where}: seed {seed['seed']}: loss {seed['val_loss']}; its record has {loss}"
        shared = sorted(mine.keys() & base.keys())
        mean = _mean([mine[seed] for seed in shared or sorted(mine)])
        if not _close(row["val_loss"]["mean"], mean):
            yield f"{where}: val_loss.mean: {row['val_loss']['mean']}; its records have {mean}"
        if row["arm"] == board["baseline"]:
            continue
        delta = _mean([mine[seed] - base[seed] for seed in shared])
        if not _close(row["delta_loss"]["mean"], delta) or row["delta_loss"]["n"] != len(shared):
            yield (
                f"{where}: delta_loss: {row['delta_loss']['mean']} of {row['delta_loss']['n']} pairs; the records have "
                f"{delta} of {len(shared)}"
            )


def _finished(seeds: Mapping[int, str], losses: Mapping[str, float | None]) -> dict[int, float]:
    return {seed: loss for seed, key in seeds.items() for loss in [losses.get(key)] if loss is not None}


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _close(stated: float | None, value: float | None) -> bool:
    if stated is None or value is None:
        return stated is value
    return math.isclose(stated, value, rel_tol=CLOSE, abs_tol=CLOSE)
