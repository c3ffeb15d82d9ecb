"""Reading what trials leave behind: records, manifests, and what became of every trial of a suite."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from results.records.schema import Manifest, Record

Status = Literal["finished", "diverged", "failed", "missing"]

_RECORD: TypeAdapter[Any] = TypeAdapter(Record)
_MANIFEST: TypeAdapter[Any] = TypeAdapter(Manifest)


def load_record(folder: Path | str) -> dict[str, Any]:
    """The record of a finished trial.

    Args:
        folder: the trial's folder, or its record.json.

    Raises:
        ValueError: the file is missing, truncated, no record of schema 1, or says `finished` without a loss;
            one line naming file and field.
    """
    path = Path(folder)
    path = path if path.suffix == ".json" else path / "record.json"
    record = _load(path, _RECORD, "a trial's record")
    if record["status"] == "finished" and record["measures"]["val_loss"] is None:
        raise ValueError(f"{path}: measures.val_loss: null in a finished trial; expected a number")
    return record


def load_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest of a suite, checked in itself: every trial names an arm and a task that are listed.

    Raises:
        ValueError: the file is missing, truncated or inconsistent; one line naming file and field.
    """
    manifest = _load(Path(path), _MANIFEST, "a suite's manifest")
    try:
        check_manifest(manifest)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    titles = Counter(arm["title"] for arm in manifest["arms"] if arm.get("title"))
    for arm in manifest["arms"]:  # one strategy in several settings: readers must be able to tell its arms apart
        if titles[arm.get("title")] > 1 and arm["arm"] != arm["strategy"]:
            arm["title"] = f"{arm['title']} ({arm['arm'].removeprefix(arm['strategy']).strip('-_') or arm['arm']})"
    return manifest


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError where a manifest contradicts itself."""
    arms = [arm["arm"] for arm in manifest["arms"]]
    tasks = [task["name"] for task in manifest["tasks"]]
    for key, names in (("arms", arms), ("tasks", tasks)):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{key}: {twice[0]!r} is listed twice; expected distinct names")
    known = [*arms, *beside(manifest)]
    seen = set()
    for index, trial in enumerate(manifest["trials"]):
        for key, names in (("arm", known), ("task", tasks)):
            if trial[key] not in names:
                raise ValueError(f"trials.{index}.{key}: {trial[key]!r} is not listed{nearest(trial[key], names)}")
        name = (trial["arm"], trial["task"], trial["seed"])
        if name in seen:
            raise ValueError(f"trials.{index}: {'/'.join(map(str, name))} is listed twice; expected one trial each")
        seen.add(name)


def beside(manifest: Mapping[str, Any]) -> list[str]:
    """Arms that are runs of the baseline and never ranked: its second run (A/A), and its other horizons."""
    aa = [manifest["aa_arm"]] if manifest.get("aa_arm") else []
    return [*aa, *(manifest.get("horizons") or {}).values()]


def ranked_arms(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The manifest's arms that a board ranks, the baseline among them."""
    others = beside(manifest)
    return [arm for arm in manifest["arms"] if arm["arm"] not in others]


def nearest(name: str, names: list[str]) -> str:
    """`; did you mean 'x'?`, or what there is, for an error line."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(sorted(names)) or 'none'}"


@dataclass(frozen=True)
class Outcome:
    """What became of one trial."""

    arm: str
    task: str
    seed: int
    trial_key: str
    status: Status
    record: dict[str, Any] | None = None  # of finished and diverged trials
    failure: str | None = None  # why a failed one failed, in one line

    @property
    def val_loss(self) -> float | None:
        """Held-out loss in nats/token; None unless the trial finished."""
        return self.record["measures"]["val_loss"] if self.record and self.status == "finished" else None

    @property
    def hardware(self) -> str | None:
        return self.record["provenance"]["hardware"]["label"] if self.record else None


class Records:
    """The outcomes of a suite's trials, by arm and task in order of seed."""

    def __init__(self, outcomes: list[Outcome], trials_dir: Path | None = None) -> None:
        self.trials_dir = trials_dir
        self.outcomes = sorted(outcomes, key=lambda outcome: (outcome.task, outcome.arm, outcome.seed))
        self._cells: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            self._cells.setdefault((outcome.arm, outcome.task), []).append(outcome)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def cell(self, arm: str, task: str) -> list[Outcome]:
        """Every outcome of one arm on one task, by seed; empty where the suite has none."""
        return self._cells.get((arm, task), [])

    def folder(self, outcome: Outcome) -> Path | None:
        """Where a trial's curves and loads are; None for records that came without folders."""
        return None if self.trials_dir is None else self.trials_dir / outcome.trial_key

    def hardware(self) -> list[str]:
        """The kinds of hardware the records were made on, sorted."""
        return sorted({outcome.hardware for outcome in self.outcomes if outcome.hardware is not None})

    def losses(self, arm: str, task: str) -> dict[int, float]:
        """Held-out loss per seed of one arm's finished trials on one task."""
        return {o.seed: o.val_loss for o in self.cell(arm, task) if o.val_loss is not None}

    def on_one(self, hardware: str | None = None) -> tuple[Records, str | None]:
        """The same suite as seen from one kind of hardware (trials of other kinds are missing), and its label.

        Raises:
            ValueError: records of several kinds and none chosen, or a label nothing was run on.
        """
        labels = self.hardware()
        if hardware is None and len(labels) > 1:
            shown = ", ".join(map(repr, labels))
            raise ValueError(f"hardware: records of {len(labels)} kinds ({shown}); expected one: choose a label")
        if hardware is not None and hardware not in labels:
            raise ValueError(f"hardware: {hardware!r} has no record{nearest(hardware, labels)}")
        if len(labels) <= 1:
            return self, labels[0] if labels else None
        seen = [o if o.hardware in (None, hardware) else _missing(o) for o in self.outcomes]
        return Records(seen, self.trials_dir), hardware


def collect(manifest: Mapping[str, Any], trials_dir: Path | str) -> Records:
    """What became of every trial the manifest lists: finished, diverged, failed or missing.

    Reads record.json (and failure.json where there is no record) of each trial, nothing else.

    Raises:
        ValueError: a record is corrupt, or belongs to another trial than its folder says.
    """
    strategies = {arm["arm"]: arm["strategy"] for arm in manifest["arms"]}
    outcomes = []
    for trial in manifest["trials"]:
        folder = Path(trials_dir) / trial["trial_key"]
        identity = {key: trial[key] for key in ("arm", "task", "seed", "trial_key")}
        if (folder / "record.json").exists():
            record = load_record(folder)
            _check_identity(folder, record, trial, strategies.get(trial["arm"]))
            outcomes.append(Outcome(**identity, status=record["status"], record=record))
        elif (folder / "failure.json").exists():
            outcomes.append(Outcome(**identity, status="failed", failure=_reason(folder / "failure.json")))
        else:
            outcomes.append(Outcome(**identity, status="missing"))
    return Records(outcomes, Path(trials_dir))


def _check_identity(folder: Path, record: dict[str, Any], trial: Mapping[str, Any], strategy: str | None) -> None:
    wanted = {
        "trial_key": (record["trial_key"], trial["trial_key"]),
        "config.task.name": (record["config"]["task"]["name"], trial["task"]),
        "config.strategy.name": (
            record["config"]["strategy"]["name"],
            strategy or record["config"]["strategy"]["name"],
        ),
    }
    for field, (found, expected) in wanted.items():
        if found != expected:
            path = folder / "record.json"
            raise ValueError(f"{path}: {field}: {found!r} is another trial's; expected {expected!r}")


def _reason(path: Path) -> str:
    try:
        failure = json.loads(path.read_text(encoding="utf-8"))
        return f"{failure['error']}: {failure['message']}".splitlines()[0]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path}: unreadable"


def _missing(outcome: Outcome) -> Outcome:
    return Outcome(outcome.arm, outcome.task, outcome.seed, outcome.trial_key, "missing")


def _load(path: Path, adapter: TypeAdapter[Any], what: str) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: not there; expected {what}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); expected {what}") from None
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise ValueError(f"{path}: corrupt or truncated ({first['ctx']['error']}); expected {what}") from None
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        value = repr(first["input"])
        shown = "" if first["type"] == "missing" else f" {value if len(value) < 60 else value[:57] + '…'}:"
        raise ValueError(f"{path}: {field}:{shown} {_lower(first['msg'])}; expected {what} of schema 1") from None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
