"""Where a claim says a figure lies, and whether the seeds put it there.

Shapes: N seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.special import stdtrit

from results.statistics.estimates import sign_flip_p
from results.statistics.power import ALPHA, smallest_p


class Region(BaseModel):
    """One of: at most, at least, between two numbers, outside of two numbers (ends included)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_most: float | None = None
    at_least: float | None = None
    between: tuple[float, float] | None = None
    outside: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one(self) -> Region:
        said = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(f"{', '.join(said) or 'nothing'}; expected one of at_most, at_least, between, outside")
        for pair in (self.between, self.outside):
            if pair is not None and pair[0] >= pair[1]:
                raise ValueError(f"{list(pair)}; expected the lower number first")
        return self

    def complement(self) -> Region:
        """Everything the region is not."""
        return Region(
            at_most=self.at_least, at_least=self.at_most, between=self.outside, outside=self.between
        )  # a shared edge belongs to both: no interval ends on it

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        if self.between is not None:
            return f"{self.between[0]:g} … {self.between[1]:g}"
        assert self.outside is not None
        return f"≤ {self.outside[0]:g} or ≥ {self.outside[1]:g}"


@dataclass(frozen=True)
class Located:
    """The mean of one value per seed with its t interval, to be placed in regions.

    `alpha` is 0.05 shared among the parts of a claim, so that the interval's level is 1 − alpha.
    """

    values_N: tuple[float, ...]
    mean: float
    low: float
    high: float
    alpha: float

    @classmethod
    def of(cls, values: Sequence[float], parts: int = 1) -> Located:
        """From at least two values; `parts` is how many such figures the claim rests on."""
        array = np.asarray(values, dtype=float)
        n, alpha = len(array), ALPHA / parts
        half = float(stdtrit(n - 1, 1 - alpha / 2)) * float(array.std(ddof=1)) / math.sqrt(n)
        mean = float(array.mean())
        return cls(tuple(float(value) for value in array), mean, mean - half, mean + half, alpha)

    def inside(self, region: Region) -> bool:
        """Whether the interval lies in the region, and the exact sign-flip test at its edge agrees where it can."""
        if region.at_most is not None:
            return self.high <= region.at_most and self._apart(region.at_most)
        if region.at_least is not None:
            return self.low >= region.at_least and self._apart(region.at_least)
        if region.between is not None:
            low, high = region.between
            return self.inside(Region(at_least=low)) and self.inside(Region(at_most=high))
        assert region.outside is not None
        low, high = region.outside
        return self.inside(Region(at_most=low)) or self.inside(Region(at_least=high))

    def _apart(self, edge: float) -> bool:
        """The exact test of the mean against an edge, at the strictest level that so few seeds can reach."""
        n = len(self.values_N)
        level = next((a for a in (self.alpha, ALPHA) if smallest_p(n) < a), None)
        if level is None:
            return True
        return bool(sign_flip_p(np.array([self.values_N]) - edge)[0] < level)
