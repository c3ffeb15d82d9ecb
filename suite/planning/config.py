"""Suites: what is compared, on what, how often. YAML in, checked against the models below.

A suite is data. Whatever it says that can change a trial's numbers ends up in the trial's key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from results.text import counted
from strategies import registry
from suite.errors import UsageError
from suite.words import nearest
from tasks.errors import show

CHOSEN = ("tuned", "balanced")  # tracks whose knobs tuning sets; their boards are called SUITE-TRACK

AA_SUFFIX = "-aa"
HORIZONS = {"half": 0.5, "double": 2.0}  # of the baseline's further runs, over the task's own
RUNTIME = ("device", "track")  # not what the suite is to find out: `--set` may say them without a word on the board
AA_SEEDS = 100_000  # the A/A arm's seeds start here, the tuning seeds below
TUNE_SEEDS = 200_000
SWEEP_SEEDS = 300_000
MOST_SEEDS = AA_SEEDS  # of which none is the A/A arm's
MOST_THREADS = 1_024
LARGEST_NUMBER = 10**300
INTERNAL = ("digest", "typed", "changed", "first_seed", "joined")  # of a suite, which no file states
UNSETTABLE = ("suite", "tasks", "strategies", *INTERNAL)  # by `--set`


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are those people write: 1e-4 is one, 12:30:00 is none; no key is given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # as it is written: nothing has been merged into it yet
        keys = [key.value for key, _ in node.value]
        doubled = [key for key in keys if keys.count(key) > 1]
        if doubled:
            raise ValueError(f"{doubled[0]} is given twice")
        return node


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf)$|^\.(?:nan|NaN)$"
    ),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> Any:
    """A YAML value."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader: plain values only


def explain(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """A pydantic error as one line: key, value, what was expected, nearest valid key."""
    first = min(error.errors(), key=lambda complaint: complaint["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "(top level)"
    if first["type"] == "extra_forbidden":
        last = str(first["loc"][-1])
        expected = sorted(set(_model_at(model, first["loc"]).model_fields) - set(INTERNAL))
        return f"{where}: {key}: unknown key{nearest(last, expected)}; expected one of {', '.join(expected)}"
    shown = "" if first["type"] == "missing" else f" {show(first['input'])}:"
    return f"{where}: {key}:{shown} {first['msg'].removeprefix('Value error, ').replace('Input should be', 'expected')}"


def _model_at(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    """The model whose key the last part of a place should have been."""
    for part in place[:-1]:
        if part in model.model_fields:
            model = next(_models(model.model_fields[str(part)].annotation), model)
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


class Strict(BaseModel):
    """No unknown keys, no values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ArmEntry(Strict):
    """One line of `strategies:`. A bare name stands for `{strategy: name}`."""

    strategy: str
    arm: str | None = None  # how tables call it; the strategy's name unless said
    set: dict[str, Any] = Field(default_factory=dict)  # parameters, by name
    terms: dict[str, float] = Field(default_factory=dict)  # auxiliary terms that combine with any strategy
    task: dict[str, Any] = Field(default_factory=dict)  # overrides of the task for this arm only (ablations)
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"strategy": value} if isinstance(value, str) else value

    @field_validator("arm")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        if value is not None and (not value or any(c in value for c in "/\\\n\r\0") or value.startswith(".")):
            raise ValueError("an arm's name may not be empty, start with a dot or hold slashes")
        return value

    @field_validator("set")
    @classmethod
    def _fits_a_float(cls, value: dict[str, Any]) -> dict[str, Any]:
        large = [name for name, number in value.items() if isinstance(number, int) and abs(number) > LARGEST_NUMBER]
        if large:
            raise ValueError(f"{large[0]}: expected a number of at most {LARGEST_NUMBER:.0e}")
        return value

    @property
    def name(self) -> str:
        return self.arm or self.strategy


class TaskEntry(Strict):
    """One line of `tasks:`. A bare name stands for `{task: name}`."""

    task: str
    set: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"task": value} if isinstance(value, str) else value


class Suite(Strict):
    """A suite's file."""

    suite: str
    title: str
    hypothesis: str | None = None  # what the suite is to find out, written down before it runs
    tasks: list[TaskEntry] = Field(min_length=1)
    strategies: list[ArmEntry] = Field(min_length=1)
    seeds: int | list[int] = 10
    baseline: str  # the arm every other is compared with
    control: str | None = None  # the arm overhead is measured against; null: the baseline
    aa: bool = True  # run the baseline a second time with seeds of its own: the noise floor
    horizons: bool = False  # run the baseline at half and double the steps too: what a difference is worth in tokens
    margin: float | None = None  # practical margin in nats/token; null: 2 % more tokens, or else the A/A arm's spread
    track: Literal["as-published", "tuned", "balanced"] = "as-published"
    tune_seeds: int = 2
    backend: str = "grouped"
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1  # of one trial on a CPU: fixed, because it can change the last bits
    digest: str = ""  # of the file, filled in by `load`
    typed: str = ""  # as verbs took it, a name or a file: what errors advise
    changed: dict[str, Any] = Field(default_factory=dict)  # by `--set` since then, which the board says
    joined: list[str] = Field(default_factory=list)  # arms that the command line added: nothing that the suite asks for
    first_seed: int = 0  # seeds are counted from here: tuning and sweeps have some that no board reports

    @field_validator("suite")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,54}", value):  # files, folders and runs are called so, and archives
            raise ValueError("expected a name of lower-case letters, digits, dots, hyphens and underscores, at most 55")
        return value

    @field_validator("seeds")
    @classmethod
    def _some_seeds(cls, value: int | list[int]) -> int | list[int]:
        if isinstance(value, int) and not 1 <= value <= MOST_SEEDS:
            raise ValueError(f"expected at least one seed, at most {MOST_SEEDS:,}")
        if isinstance(value, list) and (not value or len(set(value)) != len(value) or out_of_range(value)):
            raise ValueError(
                f"expected distinct seeds of 0 to {AA_SEEDS - 1:,}; larger ones are the A/A arm's and tuning's"
            )
        return value

    @field_validator("margin")
    @classmethod
    def _a_width(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError("expected a width in nats/token of 0 or more, or null")
        return value

    @field_validator("threads", "tune_seeds")
    @classmethod
    def _a_number(cls, value: int, about: ValidationInfo) -> int:
        most = MOST_THREADS if about.field_name == "threads" else MOST_SEEDS
        if not 1 <= value <= most:
            raise ValueError(f"expected 1 to {most:,}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        names = [arm.name for arm in self.strategies]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"strategies: {doubled[0]!r} is there twice; give one of them an `arm` name of its own")
        if self.baseline not in names:
            raise ValueError(f"baseline: {self.baseline!r} is not an arm{nearest(self.baseline, names)}")
        if self.control is not None and self.control not in names:
            raise ValueError(f"control: {self.control!r} is not an arm{nearest(self.control, names)}")
        beside = [self.baseline + AA_SUFFIX] * self.aa + [
            f"{self.baseline}-{name}" for name in HORIZONS
        ] * self.horizons
        taken = sorted(set(names) & set(beside))
        if taken:
            raise ValueError(
                f"strategies: {taken[0]!r} is what a further run of the baseline is called; rename the arm"
            )
        tasks = [entry.task for entry in self.tasks]
        if len(set(tasks)) < len(tasks):
            raise ValueError(
                f"tasks: {max(tasks, key=tasks.count)!r} is there twice; cross it with arms' `task` instead"
            )
        return self

    @property
    def seed_list(self) -> list[int]:
        return self.seeds_for(None)

    def seeds_for(self, asked: int | Sequence[int] | None) -> list[int]:
        """The seeds of its trials: its own, as many of them as are asked for, or those that are named.

        Raises:
            UsageError: more are asked for than it lists; where it only counts them, it counts on.
        """
        if not isinstance(asked, int):
            own = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
            return [self.first_seed + seed for seed in dict.fromkeys(own if asked is None else asked)]
        if isinstance(self.seeds, int):
            return [self.first_seed + seed for seed in range(asked)]
        if asked > len(self.seeds):
            raise UsageError(
                f"--seeds: {asked}; suite {self.suite} lists {counted(len(self.seeds), 'seed')}, expected at most these"
            )
        return [self.first_seed + seed for seed in self.seeds[:asked]]

    @property
    def asks(self) -> dict[str, Any]:
        """All that it asks for, as manifests carry it: a part of it says so on its board."""
        arms = [arm.name for arm in self.strategies if arm.name not in self.joined]
        names = {"tasks": [entry.task for entry in self.tasks], "arms": arms}
        return {**names, "seeds": len(self.seed_list)}


def out_of_range(seeds: Iterable[int]) -> list[int]:
    """The seeds that no trial can have."""
    return [seed for seed in seeds if not 0 <= seed < AA_SEEDS]


def parse(data: Any, where: str, digest: str = "") -> Suite:
    """A suite from parsed YAML; `where` names it in errors."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a mapping with the keys {', '.join(Suite.model_fields)}")
    try:
        return Suite.model_validate({**data, "digest": digest})
    except ValidationError as error:
        raise UsageError(explain(error, where, Suite)) from None


def overrides(
    pairs: tuple[str, ...], option: str = "--set", such_as: str = "rung.steps=50 or smebu.rate=0.001"
) -> dict[str, Any]:
    """`a.b=c` from the command line; values are YAML, so 3 is a number and [1, 2] a list."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{option} {pair!r}: expected KEY=VALUE, such as {such_as}")
        try:
            settings[key] = read_yaml(value)
        except (yaml.YAMLError, ValueError, RecursionError):  # no YAML; no such date or number; nested without end
            raise UsageError(f"{option} {key}: {show(value)} is not a YAML value") from None
    return settings


def apply_overrides(suite: Suite, settings: Mapping[str, Any]) -> tuple[Suite, dict[str, Any]]:
    """Apply `--set`: suite keys by name, `ARM.parameter`, and the rest (`rung.…`, `corpus.…`) for the tasks.

    Returns the changed suite and the task overrides.
    """
    data = suite.model_dump(exclude={"digest", "changed"})
    task_settings: dict[str, Any] = {}
    arms = {arm["arm"] or arm["strategy"]: arm for arm in data["strategies"]}
    for key, value in settings.items():
        head, dot, rest = key.partition(".")
        if head in ("rung", "corpus") and dot:
            task_settings[key] = value
        elif head in arms and dot:
            section = "terms" if rest.startswith("terms.") else "set"
            arms[head][section][rest.removeprefix("terms.")] = value
        elif not dot and head in data and head not in UNSETTABLE:
            data[head] = value
        else:
            keys = [name for name in data if name not in UNSETTABLE]
            words = ["rung.…", "corpus.…", *(f"{arm}.…" for arm in arms), *keys]
            meant = nearest(key, _parameters_like(key, suite), cutoff=0) or nearest(key, words)
            raise UsageError(f"--set {key}: unknown key{meant}; expected one of {', '.join(words)}")
    changed = {key: value for key, value in settings.items() if key not in RUNTIME}
    data["changed"] = {**suite.changed, **changed}
    return parse(data, "--set", suite.digest), task_settings


def _parameters_like(key: str, suite: Suite) -> list[str]:
    """`ARM.parameter` for every arm that has a parameter of the key's last name."""
    name = key.rpartition(".")[2]
    known = registry.available()
    return [
        f"{arm.name}.{name}"
        for arm in suite.strategies
        if arm.strategy in known and name in {field.name for field in fields(known[arm.strategy].Config)}
    ]
