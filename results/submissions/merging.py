"""How a checked submission joins a board: whose rows stand, which give way, and when the two do not go together.

A board shows one kind of hardware. A submission from another kind makes a board of its own; one from the same kind
joins the board that is there, if the trials they have in common came out alike. What is on the board stays: a
submission adds arms, and seeds that were missing. Only an entry by the same submitter gives way to a newer one, and
stays readable under `superseded`. The same holds for trials that other boards of the folder have already.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from results.records import load_record
from results.records.published import trials_of
from results.statistics.estimates import mean_interval
from results.submissions.contents import Submission, Trial

CONDITIONS = ("protocol_version", "protocol_digest", "baseline", "control", "margin", "track", "aa_arm")


class Apart(ValueError):
    """The submission does not go together with the board; the message says why."""


@dataclass
class Merged:
    """A board as it will be: what is to be written."""

    folder: Path
    hardware: str
    manifest: dict[str, Any]
    unwritten: dict[str, dict[str, Any]] = field(default_factory=dict)  # key → record, of all that have joined by now
    added: list[str] = field(default_factory=list)  # keys of trials that the board did not list, or had no record of
    superseded: list[str] = field(default_factory=list)  # arms that gave way
    remarks: list[str] = field(default_factory=list)

    def has(self, key: str) -> bool:
        """Whether the trial's record is published, be it by another board of the folder."""
        return (trials_of(self.folder) / key / "record.json").exists()

    def record(self, key: str) -> dict[str, Any] | None:
        """The trial's record: the published one, or else that of a submission that joined before."""
        return load_record(trials_of(self.folder) / key) if self.has(key) else self.unwritten.get(key)


Boards = Mapping[Path, Merged]  # folder → the board as it will be, of those that something joins


def place(published: Path, board: str, hardware: str, keys: Collection[str], before: Boards) -> Path:
    """Where the board of that name on that hardware is, or will be.

    Args:
        keys: the trials that it will have; where they are published from other hardware, it is not among those boards.
    """
    first = published / board
    if _hardware(first, keys, before) in (hardware, None):
        return first
    return published / f"{board}@{re.sub(r'[^a-z0-9]+', '-', hardware.lower()).strip('-')}"


def merge(
    submission: Submission,
    trials: Mapping[str, Trial],
    published: Path,
    when: str,
    before: Boards = MappingProxyType({}),
) -> Merged:
    """Join a submission that `verify` found nothing against with the board it belongs to. Writes nothing.

    What is new is what the board's manifest does not list, or lists without a record: a record alone does not say whose
    it is. A submission that the board has already adds nothing, so that joining it again is safe.

    Args:
        when: the day, as 2026-01-31.
        before: boards that others join first, as those will leave them.

    Raises:
        Apart: it cannot be joined.
    """
    theirs = submission.manifest
    records = {
        key: trial.record for key, trial in trials.items() if trial.record is not None and key in _cells_by_key(theirs)
    }
    label = next(iter(records.values()))["provenance"]["hardware"]["label"]
    folder = place(published, theirs["suite"], label, records, before)
    mark = {"by": submission.head["by"], "when": when, "archive": submission.digest[:16]}
    merged = _there(folder, label, before)
    if merged is None:
        manifest = copy.deepcopy(theirs)
        _mark(manifest, {key: mark for key in records})
        unwritten = _unwritten(folder, before)
        merged = Merged(folder, label, manifest, unwritten, added=sorted(records))
        _compare_shared(merged, theirs, records)
        merged.unwritten = records | unwritten
        return merged
    ours = merged.manifest
    _check_conditions(ours, theirs, folder.name)
    if mark["archive"] in {past["archive"] for past in _marks(ours.get("superseded") or {"arms": []}).values()}:
        past = _cells_by_key(ours["superseded"])  # it has joined, and a newer entry has taken its place
        merged.added = sorted(key for key in records if key in past and merged.record(key) is None)
        merged.unwritten = {key: records[key] for key in merged.added} | merged.unwritten
        return merged
    merged.superseded = _give_way(merged, theirs, mark)
    _compare_shared(merged, theirs, records)
    marks = _marks(ours)
    listed = _cells_by_key(ours)
    arms = {arm["arm"] for arm in ours["arms"]}
    ours["arms"] += [copy.deepcopy(arm) for arm in theirs["arms"] if arm["arm"] not in arms]
    tasks = {task["name"] for task in ours["tasks"]}
    ours["tasks"] += [task for task in theirs["tasks"] if task["name"] not in tasks]
    cells = {(cell["arm"], cell["task"], cell["seed"]): cell for cell in [*theirs["trials"], *ours["trials"]]}
    ours["trials"] = list(cells.values())
    for key in sorted(records):
        if key not in listed or merged.record(key) is None:
            merged.added.append(key)
            marks[key] = mark
    merged.unwritten = {key: records[key] for key in merged.added} | merged.unwritten
    for name in ("aa_arm", "twin", "horizons"):
        ours[name] = ours.get(name) or theirs.get(name)
    _mark(ours, marks)
    return merged


def _hardware(folder: Path, keys: Collection[str], before: Boards) -> str | None:
    """What the board in that folder shows, or, where it has no pages yet, its trials; None where neither is there."""
    if folder in before:
        return before[folder].hardware
    path = folder / "leaderboard.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8")).get("hardware")
    board = _there(folder, "", before) or Merged(folder, "", {"trials": []}, _unwritten(folder, before))
    found = map(board.record, [*sorted(_cells_by_key(board.manifest)), *sorted(keys)])
    return next((record["provenance"]["hardware"]["label"] for record in found if record is not None), None)


def _there(folder: Path, hardware: str, before: Boards) -> Merged | None:
    """The board in that folder, nothing joined to it yet but what joins before; None where there is none."""
    unwritten = _unwritten(folder, before)
    if folder in before:
        return Merged(folder, hardware, copy.deepcopy(before[folder].manifest), unwritten)
    path = folder / "manifest.json"
    return Merged(folder, hardware, json.loads(path.read_text(encoding="utf-8")), unwritten) if path.exists() else None


def _unwritten(folder: Path, before: Boards) -> dict[str, dict[str, Any]]:
    """What others will have written by then where the board's trials are."""
    joined = [merged.unwritten for merged in before.values() if trials_of(merged.folder) == trials_of(folder)]
    return {key: record for records in joined for key, record in records.items()}


def _cells_by_key(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {cell["trial_key"]: cell for cell in manifest["trials"]}


def _check_conditions(ours: Mapping[str, Any], theirs: Mapping[str, Any], board: str) -> None:
    for name in CONDITIONS:
        if ours.get(name) != theirs.get(name):
            raise Apart(f"{board}: {name}: the board has {ours.get(name)!r}, the submission {theirs.get(name)!r}")
    tasks = {task["name"]: task for task in ours["tasks"]}
    for task in theirs["tasks"]:
        if tasks.get(task["name"], task) != task:
            raise Apart(f"{board}: task {task['name']} has changed since the board was made")


def _give_way(merged: Merged, theirs: Mapping[str, Any], mark: Mapping[str, Any]) -> list[str]:
    """Move arms that the submission has anew, in other settings or of other code, to `superseded`."""
    ours = merged.manifest
    keys = {(cell["arm"], cell["task"], cell["seed"]): cell["trial_key"] for cell in theirs["trials"]}
    gone = []
    for arm in list(ours["arms"]):
        cells = [cell for cell in ours["trials"] if cell["arm"] == arm["arm"]]
        places = [(cell["arm"], cell["task"], cell["seed"]) for cell in cells]
        if all(
            keys.get(where, cell["trial_key"]) == cell["trial_key"] for where, cell in zip(places, cells, strict=True)
        ):
            continue
        before = arm.get("submitted") or []
        if not before:
            raise Apart(
                f"{merged.folder.name}: arm {arm['arm']!r}: the board's trials are of another version of its code; the "
                "board has to be made anew before anything is compared with it"
            )
        if {entry["by"] for entry in before} != {mark["by"]}:
            raise Apart(
                f"{merged.folder.name}: arm {arm['arm']!r} is {before[0]['by']}'s; expected an arm of another name"
            )
        _supersede(ours, arm, cells, mark["when"])
        gone.append(arm["arm"])
    return gone


def _supersede(manifest: dict[str, Any], arm: dict[str, Any], cells: Sequence[Mapping[str, Any]], when: str) -> None:
    past = manifest.setdefault("superseded", {"arms": [], "trials": []})
    name = f"{arm['arm']} until {when}"
    count = sum(entry["arm"].startswith(name) for entry in past["arms"])
    name += f" ({count + 1})" if count else ""
    past["arms"].append({**arm, "arm": name, "title": f"{arm['title']} until {when}", "superseded": when})
    past["trials"] += [{**cell, "arm": name} for cell in cells]
    manifest["arms"].remove(arm)
    manifest["trials"] = [cell for cell in manifest["trials"] if cell not in cells]


def _compare_shared(merged: Merged, theirs: Mapping[str, Any], records: Mapping[str, dict[str, Any]]) -> None:
    """Trials that both have must have come out alike: that is what lets the others stand side by side.

    Those are what the folder's boards have published; on the board's own, records may still be missing, if joining the
    same submission was interrupted.
    """
    listed = _cells_by_key(merged.manifest)
    arms = {(cell["arm"], cell["task"]) for cell in theirs["trials"]}
    for arm, task in sorted(arms):
        cells = [cell for cell in theirs["trials"] if (cell["arm"], cell["task"]) == (arm, task)]
        keys = [cell["trial_key"] for cell in cells]
        if arm == theirs["baseline"] and not listed.keys() & keys:
            raise Apart(f"{merged.folder.name}: no trial of {arm} on {task} is in both; nothing ties them together")
        there = {key: record for key in keys if (record := merged.record(key)) is not None}
        losses = [record["measures"]["val_loss"] for record in there.values()]
        room = _room([loss for loss in losses if loss is not None])
        for key, record in there.items():
            _compare(merged, f"{arm} on {task}", record, records[key], room)


def _compare(merged: Merged, where: str, ours: dict[str, Any], theirs: dict[str, Any], room: float) -> None:
    label, other = (record["provenance"]["hardware"]["label"] for record in (ours, theirs))
    one, two = ours["measures"]["val_loss"], theirs["measures"]["val_loss"]
    if label != other:
        raise Apart(f"{merged.folder.name}: {where}: made on {label}, the submission's on {other}")
    if one == two:
        return
    both = f"{where}, seed {ours['config']['seed']}: {two} in the submission, {one} published"
    if one is None or two is None or abs(one - two) > room:
        raise Apart(
            f"{merged.folder.name}: {both}, further apart than the published seeds allow ({room:.3g}): the same "
            "trial came out differently"
        )
    merged.remarks.append(f"{both}; within the spread of its seeds, and the published one stays")


def _room(losses: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a row's mean loss."""
    _, low, high = mean_interval(list(losses))
    return math.inf if low is None or high is None else (high - low) / 2


def _marks(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """key → who submitted it, as the arms of a board say."""
    return {
        key: {name: entry[name] for name in ("by", "when", "archive")}
        for arm in manifest["arms"]
        for entry in arm.get("submitted") or []
        for key in entry["trials"]
    }


def _mark(manifest: dict[str, Any], marks: Mapping[str, Mapping[str, Any]]) -> None:
    """Write on each arm who submitted which of its trials."""
    for arm in manifest["arms"]:
        entries: dict[str, dict[str, Any]] = {}
        for cell in manifest["trials"]:
            mark = marks.get(cell["trial_key"])
            if cell["arm"] == arm["arm"] and mark is not None:
                entries.setdefault(mark["archive"], {**mark, "trials": []})["trials"].append(cell["trial_key"])
        arm.pop("submitted", None)
        if entries:
            arm["submitted"] = sorted(entries.values(), key=lambda entry: (entry["when"], entry["archive"]))


def past_manifest(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of what gave way, with the baseline it was and is compared with; None where nothing has."""
    past = manifest.get("superseded")
    if not past:
        return None
    kept = (manifest["baseline"], manifest.get("aa_arm"))
    return {name: value for name, value in manifest.items() if name != "superseded"} | {
        "title": f"{manifest['title']}: superseded entries",
        **{"control": None, "twin": None, "horizons": None},
        "arms": [arm for arm in manifest["arms"] if arm["arm"] in kept] + past["arms"],
        "trials": [cell for cell in manifest["trials"] if cell["arm"] in kept] + past["trials"],
    }
