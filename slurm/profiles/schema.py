"""What a cluster profile may say, and how wrong values are answered."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slurm.trust import check_line, is_secret, secret_in_script

_HELD_BY_US = {  # sbatch options that a profile has a key for, or that requeueing depends on
    **{name: f"use the profile's key {name}" for name in ("partition", "account", "qos", "time", "nodes")},
    "mem": "use the profile's key memory",
    "ntasks-per-node": "use the profile's key tasks_per_node",
    "ntasks": "use the profile's keys nodes and tasks_per_node",
    "cpus-per-task": "use the profile's key cpus_per_task",
    **dict.fromkeys(
        ("gpus-per-node", "gpus", "gpus-per-task", "gpus-per-socket"), "use the profile's key gpus_per_node"
    ),
    "signal": "use the profile's key signal_delay",
    **dict.fromkeys(
        ("array", "output", "error", "open-mode", "chdir", "comment", "job-name", "wrap", "requeue", "no-requeue"),
        "it is set for every job",
    ),
    "export": "jobs get the environment they are submitted from",
}

_EARLY_SECONDS = 60  # by how much SLURM may send the warning before its time

Model = TypeVar("Model", bound=BaseModel)


def minutes(value: Any) -> int:
    """A time limit in minutes, from minutes or from 'HH:MM:SS', 'D-HH', 'D-HH:MM', 'D-HH:MM:SS'; rounded up."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"{value} is impossible; expected at least one minute")
        return value
    text = str(value)
    if re.fullmatch(r"\d+:\d+", text):
        raise ValueError(f"'{text}' could be hours or minutes; write '{text}:00' for hours, or a number of minutes")
    found = re.fullmatch(r"(?:(?P<d>\d+)-(?P<h>\d+)(?::(?P<m>\d+)(?::(?P<s>\d+))?)?)|(\d+):(\d+):(\d+)", text)
    if not found:
        raise ValueError(f"{value!r} is no time limit; expected minutes or a quoted 'HH:MM:SS' or 'D-HH:MM:SS'")
    days, hours, mins, seconds = (int(part or 0) for part in found.group("d", "h", "m", "s"))
    if found.group("d") is None:
        hours, mins, seconds = (int(part) for part in found.groups()[-3:])
    total = -(-(((days * 24 + hours) * 60 + mins) * 60 + seconds) // 60)
    if total < 1:
        raise ValueError(f"{text!r} is impossible; expected at least one minute")
    return total


def _gpus(asked: str) -> int:
    """How many of `4`, `a100:4`, `gpu`, `gpu:4` or `gpu:a100:4(S:0)`."""
    last = asked.split("(")[0].split(":")[-1]
    return int(last) if last.isdecimal() else 1


def _lines(value: Any) -> Any:
    return [line for line in value.splitlines() if line.strip()] if isinstance(value, str) else value


def _words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{value!r}: {error}") from None


def _scalar(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} could be several texts; put it in quotes")
    return str(value) if isinstance(value, int | float) else value


def _line(value: str) -> str:
    return check_line("value", value)


Line = Annotated[str, AfterValidator(_line)]
Scalar = Annotated[str, BeforeValidator(_scalar), AfterValidator(_line)]
Minutes = Annotated[int, BeforeValidator(minutes)]
Memory = Annotated[str, BeforeValidator(_scalar), Field(pattern=r"^\d+[KMGT]B?$")]
Gpus = Annotated[str, BeforeValidator(_scalar), Field(pattern=r"^([A-Za-z0-9_.-]+:)?\d+$")]
Positive = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]


class Resources(BaseModel):
    """What one job asks for and how it runs: the part of a profile that tasks and strategies may override."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: Scalar | None = None
    account: Scalar | None = None
    qos: Scalar | None = None
    time: Minutes = 60
    nodes: Positive = 1
    tasks_per_node: Positive = 1
    gpus_per_node: Gpus = "0"
    cpus_per_task: Positive = 1
    memory: Memory | None = None  # per node
    packing: Positive = 1  # trials that run side by side in one job
    signal_delay: Positive = 90  # seconds between the warning and the time limit
    max_requeues: Natural = 20  # how often a job may reach its time limit and go on
    restarts: Natural = 3  # how often a trial that died without a word is started again
    modules: Annotated[tuple[Line, ...], BeforeValidator(_lines)] = ()
    env: dict[str, Scalar] = Field(default={}, repr=False)  # may hold secrets
    setup: Annotated[tuple[Line, ...], BeforeValidator(_lines)] = ()
    container: Annotated[tuple[Line, ...], BeforeValidator(_words)] = ()
    python: Line | None = None
    extra: dict[str, bool | Scalar] = {}

    @model_validator(mode="before")
    @classmethod
    def _left_empty(cls, values: Any) -> Any:
        """A key without a value, its lines commented out perhaps, is a key left out."""
        return (
            {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.packing > 1 and self.tasks > 1:
            raise ValueError(f"packing: {self.packing} trials can't share a job of {self.tasks} tasks; expected 1")
        if self.signal_delay + _EARLY_SECONDS >= self.time * 60:
            raise ValueError(
                f"signal_delay: {self.signal_delay} s, and up to {_EARLY_SECONDS} s that SLURM may be early, leave "
                f"nothing of the time limit of {self.time} min"
            )
        for name in self.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"env: {name!r} is no name of an environment variable")
        for line in self.setup:
            secret = secret_in_script(line)
            if secret:
                raise ValueError(f"setup: would write {secret} into a batch script; put it under env or in your shell")
        for option, value in self.extra.items():
            _check_option(option, value)
        if _gpus(self.gpus_per_node) and self.gres:
            raise ValueError(f"gpus_per_node: {self.gpus_per_node}, and extra.gres asks for GPUs as well; expected one")
        return self

    @property
    def tasks(self) -> int:
        """Processes of one trial: the world size."""
        return self.nodes * self.tasks_per_node

    @property
    def gpus(self) -> int:
        """Of one node, of whatever type, whichever way they are asked for."""
        return _gpus(self.gpus_per_node) or sum(map(_gpus, self.gres))

    @property
    def gres(self) -> list[str]:
        """The GPUs among what `extra` asks for as generic resources: some sites know no other way."""
        return [one for one in str(self.extra.get("gres", "")).split(",") if re.match(r"gpu(:|$)", one.strip())]


class Profile(Resources):
    """A cluster, as one user sees it."""

    name: Line = "profile"
    description: str = ""
    array_parallelism: Positive | None = None  # elements of an array that may run at once
    max_array_size: Positive | None = None  # None: ask the cluster
    per_task: dict[str, dict[str, Any]] = {}
    per_strategy: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _overrides(self) -> Self:
        for section in ("per_task", "per_strategy"):
            for pattern, changes in getattr(self, section).items():
                self._changed([changes], f"{section}.{pattern}")
        return self

    def resources_for(self, task: str, strategy: str) -> Resources:
        """The resources of one trial: the profile's, then its task's overrides, then its strategy's.

        Raises:
            ValueError: the two overrides contradict each other.
        """
        changes = [c for pattern, c in self.per_task.items() if fnmatchcase(task, pattern)]
        changes += [c for pattern, c in self.per_strategy.items() if fnmatchcase(strategy, pattern)]
        return self._changed(changes, f"{task}, {strategy}")

    def _changed(self, changes: list[dict[str, Any]], where: str) -> Resources:
        plain = {name: getattr(self, name) for name in Resources.model_fields}
        for change in changes:
            plain = merged(plain, change)
        return validated(Resources, plain, where)


def _check_option(option: str, value: bool | str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", option):
        raise ValueError(f"extra: {option!r} is no long option of sbatch")
    reason = _HELD_BY_US.get(option.replace("_", "-"))
    if reason:
        raise ValueError(f"extra.{option}: cannot be set here; {reason}")
    if value is False:
        raise ValueError(f"extra.{option}: false means nothing to sbatch; leave the key out")
    if isinstance(value, str) and secret_in_script(value):
        raise ValueError(f"extra.{option}: would write a secret into a batch script; put it under env")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`; mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Check values against a model; the first thing wrong becomes a `ValueError` of one line."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part not in ("bool", "str"))
    given = "its value" if is_secret(path, "") else repr(first["input"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(model.model_fields))}"
        raise ValueError(f"{where}: {path} is no key of a profile{hint}")
    said = str(first.get("ctx", {}).get("error", "")) or f"{given} is wrong; {_in_words(path, first['msg'])}"
    said = said.removeprefix("value: ")
    raise ValueError(f"{where}: {path}: {said}" if path else f"{where}: {said}")


def _in_words(path: str, message: str) -> str:
    examples = {"memory": "expected a size per node such as '32GB'", "gpus_per_node": "expected a number, or 'a100:2'"}
    return examples.get(path, message[0].lower() + message[1:])
