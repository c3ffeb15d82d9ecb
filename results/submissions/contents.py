"""What is in a submission, decoded: its head and manifests first, then one trial at a time.

Shapes: S steps, L MoE layers, E experts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from results.records.schema import Manifest, Record
from results.submissions import archive
from results.submissions.safe import Unreadable, parse

MAX_STEPS = 1_000_000
BEFORE_TRIALS = 64 * archive.MIB  # of everything that is held at once: head, manifests, choice, plug-ins
COLUMNS = (  # of curves, beside those of the strategy's own loss terms (docs/formats.md)
    *("step", "tokens", "seconds", "train_loss", "lr", "grad_norm", "max_vio", "max_vio_worst", "load_entropy"),
    *("bias_abs_max", "bias_common", "bias_step", "experts_reset", "val_loss"),
)
OWN_COLUMN = r"loss_[a-z][a-z0-9_]{0,31}"
OWN_COLUMNS = 16
Columns = dict[str, NDArray[np.float64]]  # NaN where a curve has nothing to say


class Head(TypedDict):
    """`submission.json`."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]
    schema: Literal[1]
    equipoise: str  # the version that packed it
    by: str
    board: str  # the manifest that is to become rows; another one holds the trials that tuned it
    environments: list[dict[str, Any]]
    files: dict[str, str]  # SHA-256 of every other file


_HEAD: TypeAdapter[Any] = TypeAdapter(Head)
_MANIFEST: TypeAdapter[Any] = TypeAdapter(Manifest)
_RECORD: TypeAdapter[Any] = TypeAdapter(Record)


@dataclass
class Trial:
    """A trial's files, as far as they could be read."""

    key: str
    record: dict[str, Any] | None = None
    curves: Columns | None = None
    load_SLE: NDArray[np.uint32] | None = None
    val_load_LE: NDArray[np.uint64] | None = None
    problems: list[str] = field(default_factory=list)


@dataclass
class Submission:
    """Everything but the trials; `problems` grows until the last trial was read."""

    head: dict[str, Any]
    manifests: dict[str, dict[str, Any]]
    choice: dict[str, Any] | None
    plugins: dict[str, str]  # strategy → source text, never imported
    problems: list[str]
    digest: str = ""  # of the head, which holds the digests of all other files

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the board."""
        return self.manifests[self.head["board"]]


def environment(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of where it was made, as far as it matters to its numbers."""
    names = ("git_revision", "git_dirty", "hardware", "packages", "platform", "python")
    return {name: record["provenance"].get(name) for name in names}


def open_archive(path: Path) -> tuple[Submission, Iterator[Trial]]:
    """The submission's head, and its trials, which are read as they are asked for.

    Raises:
        archive.Refused: what is in the way of reading any further.
    """
    files = archive.read(path)
    first: dict[str, bytes] = {}
    waiting: list[tuple[str, bytes]] = []
    held = 0
    for name, content in files:
        if name.startswith("trials/"):
            waiting.append((name, content))
            break
        first[name] = content
        held += len(content)
        if held > BEFORE_TRIALS:
            raise archive.Refused(f"{name}: more than {BEFORE_TRIALS:,} bytes before the first trial")
    submission = _submission(first)
    return submission, _trials(submission, set(first), waiting, files)


def _submission(files: Mapping[str, bytes]) -> Submission:
    head = _parsed("submission.json", files, _HEAD)
    manifests = {
        name.removeprefix("manifests/").removesuffix(".json"): _parsed(name, files, _MANIFEST)
        for name in files
        if name.startswith("manifests/")
    }
    if head["board"] not in manifests:
        raise archive.Refused(f"submission.json: board: {head['board']!r:.60} has no manifest in the archive")
    choice = _parsed("choice.json", files) if "choice.json" in files else None
    if choice is not None and not isinstance(choice, dict):
        raise archive.Refused("choice.json: expected a JSON object")
    plugins = {}
    problems = []
    for name, content in files.items():
        if name.startswith("plugins/"):
            try:
                plugins[Path(name).stem] = content.decode("utf-8")
            except UnicodeDecodeError:
                raise archive.Refused(f"{name}: not UTF-8 text") from None
        if name != "submission.json":
            problems += _digest_problem(head, name, content)
    digest = hashlib.sha256(files["submission.json"]).hexdigest()
    return Submission(head, manifests, choice, plugins, problems, digest)


def _trials(
    submission: Submission, seen: set[str], waiting: list[tuple[str, bytes]], files: Iterator[tuple[str, bytes]]
) -> Iterator[Trial]:
    def all_files() -> Iterator[tuple[str, bytes]]:
        yield from waiting
        waiting.clear()
        yield from files

    for key, group in groupby(all_files(), lambda file: file[0].split("/")[1]):
        own = dict(group)
        seen |= set(own)
        for name, content in own.items():
            submission.problems += _digest_problem(submission.head, name, content)
        yield decode(key, {name.rsplit("/", 1)[1]: content for name, content in own.items()})
    for name in sorted(submission.head["files"].keys() - seen):
        submission.problems.append(f"{name!r:.80}: submission.json lists it, the archive lacks it")


def _digest_problem(head: Mapping[str, Any], name: str, content: bytes) -> list[str]:
    stated = head["files"].get(name)
    if stated is None:
        return [f"{name}: submission.json does not list it"]
    found = hashlib.sha256(content).hexdigest()
    return [] if found == stated else [f"{name}: its SHA-256 is {found[:12]}…; submission.json says {stated!r:.15}…"]


def decode(key: str, files: Mapping[str, bytes]) -> Trial:
    """A trial from its files in an archive; what cannot be read is a problem, not an exception."""
    trial = Trial(key)
    try:
        trial.record = _parsed("record.json", files, _RECORD)
    except archive.Refused as error:
        trial.problems.append(str(error))
    try:
        if trial.record is not None and "curves.json" in files:  # without a record nothing says how long they are
            trial.curves = columns(parse(files["curves.json"]), _steps(trial.record))
    except Unreadable as error:
        trial.problems.append(f"curves.json: {error}")
    if trial.curves is not None and "val_load.bin" in files and "load.bin" in files:
        _decode_loads(trial, files["load.bin"], files["val_load.bin"])
    return trial


def _steps(record: Mapping[str, Any]) -> int:
    """How many steps the trial's task has."""
    rung = record["config"]["task"].get("rung")
    steps = rung.get("steps") if isinstance(rung, dict) else None
    return min(steps, MAX_STEPS) if isinstance(steps, int) else MAX_STEPS


def columns(content: Any, steps: int = MAX_STEPS) -> Columns:
    """Curves as columns of equal length, at most a row for each step; null becomes NaN.

    Raises:
        Unreadable: they are no such columns.
    """
    if not isinstance(content, dict) or not content:
        raise Unreadable("expected an object of columns")
    own = [name for name in content if name not in COLUMNS]
    strange = [name for name in own if not re.fullmatch(OWN_COLUMN, name)]
    if strange or len(own) > OWN_COLUMNS:
        shown = f"column {strange[0]!a:.60}" if strange else f"{len(own)} columns of loss terms"
        raise Unreadable(f"{shown}; expected {', '.join(COLUMNS)} and at most {OWN_COLUMNS} of loss_TERM")
    found: Columns = {}
    lengths = set()
    for name, values in content.items():
        if (
            not isinstance(values, list)
            or len(values) > steps
            or not all(
                value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
            )
        ):
            raise Unreadable(f"{name}: expected at most {steps:,} numbers or nulls")
        lengths.add(len(values))
        found[name] = np.array([float("nan") if value is None else float(value) for value in values])
    if len(lengths) > 1 or lengths == {0}:
        raise Unreadable(f"columns of {sorted(lengths)} rows; expected as many in each, at least one")
    return found


def _decode_loads(trial: Trial, load: bytes, val_load: bytes) -> None:
    """Raw little-endian counts: uint32 (S, L, E) and uint64 (L, E), L and E from the record."""
    assert trial.curves is not None
    steps = len(next(iter(trial.curves.values())))
    layers = len(((trial.record or {}).get("measures", {}).get("max_vio_global") or {}).get("layers") or [])
    cells = len(val_load) // 8
    if not layers or not cells or len(val_load) != cells * 8 or cells % layers or len(load) != steps * cells * 4:
        trial.problems.append(
            f"load.bin, val_load.bin: {len(load):,} and {len(val_load):,} bytes; expected counts of {steps:,} steps "
            f"and {layers} layers, 4 and 8 bytes each"
        )
        return
    trial.load_SLE = np.frombuffer(load, dtype="<u4").reshape(steps, layers, -1)
    trial.val_load_LE = np.frombuffer(val_load, dtype="<u8").reshape(layers, -1)


def _parsed(name: str, files: Mapping[str, bytes], adapter: TypeAdapter[Any] | None = None) -> Any:
    """A JSON file of the archive, checked against its shape."""
    if name not in files:
        raise archive.Refused(f"{name}: not in the archive")
    try:
        value = parse(files[name])
        return value if adapter is None else adapter.validate_python(value)
    except Unreadable as error:
        raise archive.Refused(f"{name}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        shown = "" if first["type"] == "missing" else f" {first['input']!a:.60}:"
        raise archive.Refused(f"{name}: {where:.80}:{shown} {first['msg']}") from None
