"""The kinds of decision rules. Each turns a claim's trials into one number per seed; regions decide about their mean.

difference   value of one arm minus value of another, within a seed
ratio        value of one arm over value of another, within a seed; averaged as logarithms, so it must be positive
level        value of one arm
trend        slope of a value over arms that stand for a number, within a seed
ladder       the same of one arm over tasks that stand for a number
speedup      how much sooner one arm's held-out loss is down to another's final one, within a seed
all          several rules that must all hold
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from results.claims.regions import Region
from results.claims.values import Array, Value, curves, value_of
from results.statistics.ladder import slope


class Trial(BaseModel):
    """A finished trial as rules see it."""

    model_config = ConfigDict(frozen=True)

    record: dict[str, Any]
    folder: Path | None


Seeds = Mapping[int, Trial]
Curves = Mapping[str, Array]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Single(_Rule, ABC):
    """A rule with one figure."""

    claimed: Region  # the claim is reproduced if the mean lies here
    contradicted: Region | None = None  # and contradicted if here; elsewhere it is not reproduced

    @abstractmethod
    def arms(self) -> list[str]:
        """Names of the arms the rule needs."""

    def places(self, tasks: Sequence[str]) -> dict[str, dict[str, tuple[str, str]]]:
        """What each of its figures is called by (a task) → name in `values` → arm and task."""
        return {task: {arm: (arm, task) for arm in self.arms()} for task in tasks}

    @abstractmethod
    def values(self, trials: Mapping[str, Seeds]) -> dict[int, float]:
        """One number per seed that every arm finished."""

    def shown(self, mean: float) -> float:
        """The mean in the units of the regions and of the reader."""
        return mean

    def located(self, region: Region) -> Region:
        """A region in the units of `values`."""
        return region


class _Pair(Single):
    of: str
    to: str
    measure: Value

    def arms(self) -> list[str]:
        return [self.of, self.to]

    def pairs(self, trials: Mapping[str, Seeds]) -> dict[int, tuple[float, float]]:
        """Both arms' values, of seeds that ran on the same kind of hardware."""
        both = {}
        for seed in sorted(set(trials[self.of]) & set(trials[self.to])):
            first, second = trials[self.of][seed], trials[self.to][seed]
            if _hardware(first) == _hardware(second):
                values = [value_of(self.measure, trial.record, trial.folder) for trial in (first, second)]
                if values[0] is not None and values[1] is not None:
                    both[seed] = (values[0], values[1])
        return both


class Difference(_Pair):
    kind: Literal["difference"]

    def values(self, trials: Mapping[str, Seeds]) -> dict[int, float]:
        return {seed: first - second for seed, (first, second) in self.pairs(trials).items()}


class _Logarithmic(Single):
    """Numbers that are averaged as logarithms and shown as ratios."""

    def shown(self, mean: float) -> float:
        return math.exp(mean)

    def located(self, region: Region) -> Region:
        def log(edge: Any) -> Any:
            return None if edge is None else tuple(map(math.log, edge)) if isinstance(edge, tuple) else math.log(edge)

        return Region(**{name: log(getattr(region, name)) for name in Region.model_fields})


class Ratio(_Logarithmic, _Pair):
    kind: Literal["ratio"]

    def values(self, trials: Mapping[str, Seeds]) -> dict[int, float]:
        pairs = self.pairs(trials)
        return {seed: math.log(first / second) for seed, (first, second) in pairs.items() if first > 0 and second > 0}


class Level(Single):
    kind: Literal["level"]
    of: str
    measure: Value

    def arms(self) -> list[str]:
        return [self.of]

    def values(self, trials: Mapping[str, Seeds]) -> dict[int, float]:
        found = {seed: value_of(self.measure, t.record, t.folder) for seed, t in sorted(trials[self.of].items())}
        return {seed: value for seed, value in found.items() if value is not None}


class _Slope(Single):
    """Least-squares slope per doubling (`log2`) or per unit (`linear`) of what the keys of `over` stand for."""

    over: dict[str, float] = Field(min_length=3)
    scale: Literal["log2", "linear"] = "log2"
    measure: Value

    def values(self, trials: Mapping[str, Seeds]) -> dict[int, float]:
        x = [math.log2(x) if self.scale == "log2" else x for x in self.over.values()]
        slopes = {}
        for seed in sorted(set.intersection(*(set(trials[arm]) for arm in self.over))):
            held = [trials[arm][seed] for arm in self.over]
            y = [value_of(self.measure, trial.record, trial.folder) for trial in held]
            if None not in y and len({_hardware(trial) for trial in held}) == 1:
                slopes[seed] = slope(x, [value for value in y if value is not None])
        return slopes


class Trend(_Slope):
    """Over arms."""

    kind: Literal["trend"]

    def arms(self) -> list[str]:
        return list(self.over)


class Ladder(_Slope):
    """Of one arm over tasks: one figure for all of them."""

    kind: Literal["ladder"]
    of: str

    def arms(self) -> list[str]:
        return [self.of]

    def places(self, tasks: Sequence[str]) -> dict[str, dict[str, tuple[str, str]]]:
        low, high = (end(self.over, key=lambda task: self.over[task]) for end in (min, max))
        return {f"{low} … {high}": {task: (self.of, task) for task in self.over}}


class Speedup(_Logarithmic):
    """Tokens (or seconds) of `to`'s whole run over those that `of` needs to reach `to`'s final held-out loss.

    Between evaluations the loss is interpolated. Where `of` never gets there the roles change: what `to` needs to reach
    the final loss of `of`, over the whole run of `of`, which is at most 1.
    """

    kind: Literal["speedup"]
    of: str
    to: str
    against: Literal["tokens", "seconds"] = "tokens"

    def arms(self) -> list[str]:
        return [self.of, self.to]

    def values(self, trials: Mapping[str, Seeds]) -> dict[int, float]:
        gains = {}
        for seed in sorted(set(trials[self.of]) & set(trials[self.to])):
            first, second = trials[self.of][seed], trials[self.to][seed]
            if _hardware(first) != _hardware(second) or first.folder is None or second.folder is None:
                continue
            ahead, behind = curves(first.folder), curves(second.folder)
            if {"val_loss", self.against} <= ahead.keys() & behind.keys():
                final, goal = (value_of("val_loss", trial.record, trial.folder) for trial in (first, second))
                gains[seed] = self._gain(ahead, behind, final, goal)
        return gains

    def _gain(self, ahead: Curves, behind: Curves, final: float | None, goal: float | None) -> float:
        """Logarithm of the speedup; `final` and `goal` are the losses that the two runs end with."""
        spent = _reached(ahead[self.against], ahead["val_loss"], final, goal)
        if spent is not None:
            return math.log(behind[self.against][-1] / spent)
        spent = _reached(behind[self.against], behind["val_loss"], goal, final)
        return 0.0 if spent is None else math.log(spent / ahead[self.against][-1])


def _reached(budget_N: Array, loss_N: Array, end: float | None, target: float | None) -> float | None:
    """The budget at which a loss curve first is down to the target; None if it never is.

    Args:
        end: the loss of the last evaluation, after the last step: it is in the record, not in the curve.
    """
    if target is None:
        return None
    loss_N = np.array(loss_N, dtype=float)
    if end is not None:
        loss_N[-1] = end
    there = np.isfinite(loss_N)
    budget, loss = budget_N[there], loss_N[there]
    under = np.flatnonzero(loss <= target)
    if not len(under):
        return None
    index = int(under[0])
    if index == 0 or loss[index - 1] == loss[index]:
        return float(budget[index])
    share = (loss[index - 1] - target) / (loss[index - 1] - loss[index])
    return float(budget[index - 1] + share * (budget[index] - budget[index - 1]))


def _hardware(trial: Trial) -> str:
    return str(trial.record["provenance"]["hardware"]["label"])


_Kinds = Difference | Ratio | Level | Trend | Ladder | Speedup


class All(_Rule):
    kind: Literal["all"]
    rules: list[Annotated[_Kinds, Field(discriminator="kind")]] = Field(min_length=2)


Rule = Annotated[_Kinds | All, Field(discriminator="kind")]


def parts(rule: Single | All) -> Sequence[Single]:
    """The single rules of a rule."""
    return rule.rules if isinstance(rule, All) else [rule]
