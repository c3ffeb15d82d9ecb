"""What a claim measures of one trial: a figure of its record, or of its curves.

In YAML a value is a path into the record (`val_loss`, `max_vio_batch.peak`, `timing.step_ms.total`) or one of

    {curve: bias_step, from: 0.25, to: 1.0}        mean of a curve over a part of training
    {steps_until: max_vio, below: 0.5}             steps until a curve stays under a number; all of them if it does not
    {minus: [val_loss, train_loss_tail]}           difference of two values of the same trial
    {over: [{curve: …}, {curve: …}]}               ratio of two values of the same trial
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Array = NDArray[np.float64]
Share = Annotated[float, Field(ge=0, le=1)]


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CurveMean(_Value):
    curve: str
    start: Share = Field(0.0, alias="from")
    end: Share = Field(1.0, alias="to")


class StepsUntil(_Value):
    """Routing starts near balance and leaves it as the router learns, so being under once is not enough."""

    steps_until: str
    below: float
    window: int = Field(1, ge=1)  # steps that are averaged


class Minus(_Value):
    minus: tuple[Value, Value]


class Over(_Value):
    over: tuple[Value, Value]


Value = str | CurveMean | StepsUntil | Minus | Over
for model in (Minus, Over):
    model.model_rebuild()


def value_of(value: Value, record: dict[str, Any], folder: Path | None) -> float | None:
    """The value in one finished trial; None where the record or its curves do not have it.

    Args:
        record: the trial's record.
        folder: the trial's folder, for values that need its curves.
    """
    if isinstance(value, str):
        return _at(record, value)
    if isinstance(value, CurveMean):
        return _mean(_curve(folder, value.curve), value.start, value.end)
    if isinstance(value, StepsUntil):
        return _until(_curve(folder, value.steps_until), value.below, value.window)
    first, second = (
        value_of(part, record, folder) for part in (value.minus if isinstance(value, Minus) else value.over)
    )
    if first is None or second is None:
        return None
    if isinstance(value, Minus):
        return first - second
    return first / second if second else None


def _at(record: dict[str, Any], path: str) -> float | None:
    """A path is taken in `measures`, or in `timing` where it says so; keys such as `1.25` may hold a dot."""
    found: Any = record["timing"] if path.startswith("timing.") else record["measures"]
    keys = path.removeprefix("timing.").split(".", 1)
    while keys and isinstance(found, dict):
        rest = ".".join(keys)
        if rest in found:
            found, keys = found[rest], []
        else:
            found, keys = found.get(keys[0]), keys[1].split(".", 1) if len(keys) > 1 else []
    return float(found) if isinstance(found, int | float) and not keys else None


def _mean(curve_N: Array | None, start: float, end: float) -> float | None:
    if curve_N is None or not len(curve_N):
        return None
    progress_N = (np.arange(len(curve_N)) + 0.5) / len(curve_N)
    part = curve_N[(progress_N >= start) & (progress_N <= end)]
    part = part[np.isfinite(part)]
    return float(part.mean()) if len(part) else None


def _until(curve_N: Array | None, below: float, window: int) -> float | None:
    if curve_N is None or len(curve_N) < window:
        return None
    smooth = np.convolve(curve_N, np.full(window, 1 / window), "valid")
    above = np.flatnonzero(~(smooth < below))
    steps = int(above[-1]) + 1 if len(above) else 0
    return float(min(steps + window, len(curve_N)))


def _curve(folder: Path | None, name: str) -> Array | None:
    columns = curves(folder) if folder is not None else {}
    return columns.get(name)


@lru_cache(maxsize=256)
def curves(folder: Path) -> dict[str, Array]:
    """The columns of a trial's curves, missing numbers as NaN; empty where there are none."""
    path = folder / "curves.parquet"
    if not path.exists():
        return {}
    data = pq.read_table(path)
    return {name: data[name].to_numpy(zero_copy_only=False).astype(float) for name in data.column_names}
