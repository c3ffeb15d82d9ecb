"""The ledger: published claims, each with its trials and its decision rule, written down before they run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from results.claims.rules import Rule, Single, parts
from results.records import nearest
from results.statistics.power import MIN_SEEDS


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Who says so."""

    kind: Literal["press", "report", "paper", "practice"]
    title: str
    year: int | None = None
    identifier: str | None = None
    where: str  # in it


class Said(_Strict):
    """What exactly is said."""

    number: str
    scale: str  # at which it was found


def _bare_strategy(value: Any) -> Any:
    return {"strategy": value} if isinstance(value, str) else value


def _bare_task(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


class Arm(_Strict):
    """A line of `strategies:`, in the words of suites."""

    strategy: str
    arm: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    terms: dict[str, float] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.arm or self.strategy


# What a claim is held to; a caveat may be added when its verdict is there, and says so.
BINDING = ("statement", "said", "measure", "registered", "trials", "rule")


class TaskLine(_Strict):
    """A line of `tasks:`, in the words of suites."""

    task: str
    set: dict[str, Any] = Field(default_factory=dict)


class Supersedes(_Strict):
    """The registration that this one takes the place of; its verdict stays published with its protocol's boards."""

    protocol: int = Field(ge=1)  # under which it was decided
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")  # of its file, as its verdict states it
    why: str = Field(min_length=1)  # trials and rule are others now


class Trials(_Strict):
    """The small suite that a claim brings."""

    strategies: list[Annotated[Arm, BeforeValidator(_bare_strategy)]] = Field(min_length=1)
    tasks: list[Annotated[TaskLine, BeforeValidator(_bare_task)]] = Field(min_length=1)
    seeds: int = Field(ge=MIN_SEEDS)

    @property
    def names(self) -> list[str]:
        """Of the tasks."""
        return [line.task for line in self.tasks]


class Claim(_Strict):
    """One file of the ledger."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    topic: str
    statement: str
    source: Source
    said: Said
    measure: str  # in words
    testable: bool
    why: str | None = None  # it is not
    tested_at: str | None = None  # scale
    caveat: str | None = None
    registered: date | None = None  # trials and rule were written down, if not with the ledger's first version
    supersedes: Supersedes | None = None
    trials: Trials | None = None
    rule: Rule | None = None
    digest: str = ""  # of what was written down before the trials ran: `BINDING`

    @model_validator(mode="after")
    def _whole(self) -> Claim:
        if self.supersedes and not self.registered:
            raise ValueError("supersedes: expected `registered` beside it, the date of this registration")
        if not self.testable:
            if not self.why or self.trials or self.rule:
                raise ValueError("testable: false; expected `why`, and neither `trials` nor `rule`")
            return self
        if not (self.trials and self.rule and self.tested_at) or self.why:
            raise ValueError("testable: true; expected `trials`, `rule` and `tested_at`, and no `why`")
        names = [arm.name for arm in self.trials.strategies]
        needed = [name for rule in self.rules for name in rule.arms()]
        for name in needed:
            if name not in names:
                raise ValueError(f"rule: arm {name!r} is not among its trials{nearest(name, names)}")
        for task in (task for rule in self.rules for cells in rule.places([]).values() for _, task in cells.values()):
            if task not in self.trials.names:
                raise ValueError(f"rule: task {task!r} is not among its trials{nearest(task, self.trials.names)}")
        idle = sorted(set(names) - set(needed))
        if idle or len(set(names)) < len(names):
            raise ValueError(
                f"trials.strategies: {(idle or names)[0]!r} is there twice or unused; expected each arm once"
            )
        return self

    @cached_property
    def rules(self) -> list[Single]:
        """The single rules, all of which must hold."""
        return list(parts(self.rule)) if self.rule else []

    @property
    def parts(self) -> int:
        """How many figures the claim rests on: one per rule and task, one per ladder of tasks."""
        return sum(len(rule.places(self.trials.names)) for rule in self.rules) if self.trials else 0


def load(path: Path) -> Claim:
    """One claim.

    Raises:
        ValueError: not YAML, an unknown key, a rule about an arm the claim does not run; one line naming file and key.
    """
    text = path.read_text(encoding="utf-8")
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a mapping with the keys {', '.join(Claim.model_fields)}")
    try:
        claim = Claim.model_validate(data | {"digest": _digest(data)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the claim"
        close = nearest(str(first["loc"][-1]), list(Claim.model_fields)) if first["type"] == "extra_forbidden" else ""
        raise ValueError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}{close}") from None
    if claim.id != path.stem:
        raise ValueError(f"{path}: id: {claim.id!r}; expected the file's name, {path.stem!r}")
    return claim


def _digest(data: Mapping[str, Any]) -> str:
    bound = {key: data.get(key) for key in BINDING}
    return hashlib.sha256(json.dumps(bound, sort_keys=True, default=str).encode()).hexdigest()


def load_all(folder: Path | None = None) -> list[Claim]:
    """Every claim of the ledger (or of a folder of one's own), by topic and id."""
    root = folder if folder is not None else Path(str(files("results.claims"))) / "ledger"
    return sorted((load(path) for path in root.glob("*.yaml")), key=lambda claim: (claim.topic, claim.id))


def get(name: str, folder: Path | None = None) -> Claim:
    """One claim by id. Raises ValueError with the nearest id."""
    claims = {claim.id: claim for claim in load_all(folder)}
    if name not in claims:
        raise ValueError(f"claim: {name!r} is unknown{nearest(name, list(claims))}")
    return claims[name]


def suite(claim: Claim) -> dict[str, Any]:
    """The content of a suite's file that runs a claim's trials.

    Raises:
        ValueError: the claim is not testable.
    """
    if claim.trials is None:
        raise ValueError(f"claim: {claim.id!r} is not testable here: {claim.why}")
    trials = claim.trials.model_dump(exclude_defaults=True)
    return {
        "suite": f"claims-{claim.id}",
        "title": claim.statement,
        "hypothesis": claim.statement,
        **trials,
        "baseline": claim.trials.strategies[0].name,
        "control": None,
        "aa": False,
    }
