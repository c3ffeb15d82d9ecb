"""Publishing a home's trials: into the folder that boards and verdicts share, and never over what others rest on."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from results import records
from results.records import Outcome
from results.records.published import compact, decided, resting, trials_of
from results.records.thinning import thin_curves
from results.submissions.archive import KEY
from suite.planning.library import how_to_run
from suite.storage.files import read_json, write_atomically

OF_A_TRIAL = {"record.json", "curves.parquet", "failure.json"}  # what a published trial's folder holds


def folder_of_boards(path: str | Path) -> Path:
    """The folder, which is no home: a home's trials are whole, and none of them is published or removed.

    Raises:
        ValueError: it is a home.
    """
    folder = Path(path)
    if (folder / "suites").is_dir() and (folder / "trials").is_dir():
        raise ValueError(f"{folder}: is a home, with trials of its own; expected a folder of published boards")
    return folder


def refuse_to_lose_trials(target: Path, manifest: Mapping[str, Any], home: Path, hardware: str | None) -> None:
    """Publishing leaves no entry of others behind, and no seed of an arm on a task of which this home has no record.

    A record of another kind of hardware than the board will show is none.

    A trial that was made anew, under another key, takes the older one's place.

    Raises:
        ValueError: it would; one line that says what would be lost, and what to do.
    """
    if not (target / "manifest.json").exists():
        return
    there, suite = read_json(target / "manifest.json"), manifest["suite"]
    if there.get("superseded") or any(arm.get("submitted") for arm in there["arms"]):
        raise ValueError(
            f"{target}: holds entries of others, which this home has not; join yours with `equipoise pack {suite}` "
            f"and `equipoise merge`"
        )
    kept, _ = records.collect(manifest, home / "trials").on_one(hardware)
    lost = Counter(arm for arm, *rest in recorded(records.collect(there, trials_of(target))) - recorded(kept))
    if lost:
        arms = ", ".join(f"{count} of {arm}" for arm, count in sorted(lost.items()))
        raise ValueError(
            f"{target}: has trials that this home has not ({arms}); copy what it lacks from {trials_of(target)} into "
            f"{home}/trials and {how_to_run(suite)}, which trains only what is missing, or name another folder; to "
            f"drop them on purpose, delete {target} first"
        )


def recorded(found: Iterable[Outcome]) -> set[tuple[str, str, int]]:
    """Arm, task and seed of the trials that have a record."""
    return {(outcome.arm, outcome.task, outcome.seed) for outcome in found if outcome.record}


def refuse_to_change_trials(
    place: Path, keys: Collection[str], home: Path, beside: Iterable[Mapping[str, Any]] = ()
) -> None:
    """No published trial gets another record while something else rests on it: the first that is published stays.

    Nor is a trial without a record here, while there is a published one: a board made from this home would not show it.

    Args:
        place: what is to be published: a board's folder, or the `claims.json` beside boards.
        keys: its trials.
        beside: verdicts that stay in that `claims.json` as they are.

    Raises:
        ValueError: one would; one line that says which, who rests on it, and what to do.
    """
    trials = trials_of(place)
    rests = resting(trials)
    verdicts: dict[str, set[str]] = defaultdict(set)
    for verdict in filter(decided, beside):
        for key in verdict["trial_keys"]:
            verdicts[key].add(f"the verdict on {verdict['id']}")
    changed = {}
    for key in sorted(keys):
        there, here = trials / key / "record.json", home / "trials" / key / "record.json"
        others = rests.get(key, set()) - {place.name} | verdicts.get(key, set())
        if others and there.exists() and not (here.exists() and compact(read_json(here)) == there.read_bytes()):
            changed[key] = f"trial {key}: {_said(here)} in this home, {_said(there)} published", others
    if changed:
        said, _ = next(iter(changed.values()))
        more = f", and {len(changed) - 1} others" if len(changed) > 1 else ""
        names = ", ".join(sorted(set().union(*(others for _, others in changed.values()))))
        raise ValueError(
            f"{place}: {said}{more}; expected the published records, needed by {names} too: put those from "
            f"{trials} in the place of this home's, or delete {names} there first and publish that anew too"
        )


def publish_trials(place: Path, keys: Collection[str], home: Path) -> None:
    """These trials, as far as there are any, to where published ones are; then those go that nothing rests on any more.

    What is published says already which trials it rests on, so that none of them goes when another is published. What
    publishing did not write stays.
    """
    trials = trials_of(place)
    for key in keys:
        publish_trial(home / "trials" / key, trials / key)
    rests = resting(trials)
    for there in sorted(trials.iterdir()) if trials.is_dir() else []:
        if there.name not in rests and _is_a_trial(there):
            shutil.rmtree(there)


def publish_trial(source: Path, target: Path) -> None:
    """A trial's curves, thinned to what figures show, and then its record; or why it has none.

    A trial that is there with the same record stays as it is, unless its curves are missing.
    """
    record, failure, curves = (source / name for name in ("record.json", "failure.json", "curves.parquet"))
    if record.exists():
        content = compact(read_json(record))
        same = (target / "record.json").exists() and (target / "record.json").read_bytes() == content
        if same and ((target / "curves.parquet").exists() or not curves.exists()):
            return
        target.mkdir(parents=True, exist_ok=True)
        if curves.exists():
            thin_curves(curves, target / "curves.parquet")
        write_atomically(target / "record.json", content)
        (target / "failure.json").unlink(missing_ok=True)
    elif failure.exists():
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "failure.json", compact(read_json(failure)))


def refuse_to_lose_verdicts(published: Path, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Publishing leaves no verdict behind that was reached by the same rule with trials which this home lacks.

    Raises:
        ValueError: it would; one line that names the claims.
    """
    before = json.loads(published.read_text(encoding="utf-8")) if published.exists() else []
    known = {verdict["id"]: verdict["digest"] for verdict in before if decided(verdict)}
    lost = [v["id"] for v in verdicts if not decided(v) and known.get(v["id"]) == v["digest"]]
    if lost:
        raise ValueError(
            f"{published}: has a verdict on {', '.join(lost)}, this home has not; publish from the home that has its "
            f"trials, or run them with `equipoise run claims:{lost[0]}`"
        )


def _is_a_trial(path: Path) -> bool:
    """Whether it is a published trial's folder, by its name and by all that it holds."""
    if path.is_symlink() or not path.is_dir() or not re.fullmatch(KEY, path.name):
        return False
    return {file.name for file in path.iterdir()} <= OF_A_TRIAL


def _said(path: Path) -> str:
    """A record in words."""
    if not path.exists():
        return "no record"
    record = read_json(path)
    loss, provenance = record["measures"]["val_loss"], record["provenance"]
    return f"loss {loss} of {provenance.get('started')} on {provenance['hardware']['label']}"
