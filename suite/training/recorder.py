"""Rows of the journal: kept on the device for a few steps, then read at once, completed and written.

Shapes: R rows of one flush, L MoE layers, E experts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.storage.journal import Journal
from suite.training.measures import entropy, max_vio
from suite.training.step import Taken

SCALARS = ("train_loss", "grad_norm")


class Recorder:
    """Holds what steps left until it is flushed."""

    def __init__(self, journal: Journal, layers: int, experts: int, leads: bool) -> None:
        self.journal, self._leads = journal, leads
        self.held: list[Taken] = []
        self.diverged = False  # in a row flushed so far loss, gradient or a bias is no number
        self._bias_before = np.zeros((layers, experts), dtype=np.float32)

    def keep(self, taken: Taken) -> None:
        self.held.append(taken)

    def go_on_from(self, step: int) -> None:
        """Cut the journal back to `step`; the first row after it is compared with the last one before."""
        if self._leads:
            self.journal.cut(step)
        biases = self.journal.array("bias") if step else None
        if biases is not None:
            self._bias_before = biases[-1]

    def flush(self) -> dict[str, Any] | None:
        """Write the rows held. Returns the last one; None if no row is held."""
        if not self.held:
            return None
        held, self.held = self.held, []
        rows = [taken.row for taken in held]
        scalars = torch.stack([torch.stack([row[name].float() for name in SCALARS]) for row in rows]).tolist()
        load_RLE = torch.stack([taken.load_LE for taken in held]).cpu().numpy()
        biases = [taken.bias_LE for taken in held if taken.bias_LE is not None]
        bias_RLE = torch.stack(biases).cpu().numpy() if biases else None
        vio_RL, entropy_RL = max_vio(load_RLE), entropy(load_RLE)
        for index, row in enumerate(rows):
            row |= dict(zip(SCALARS, scalars[index], strict=True))
            row |= {name: float(value) for name, value in row.items() if isinstance(value, Tensor)}
            row["max_vio"], row["max_vio_worst"] = float(vio_RL[index].mean()), float(vio_RL[index].max())
            row["load_entropy"] = float(entropy_RL[index].mean())
        if bias_RLE is not None:
            self._describe_biases(rows, bias_RLE)
        if self._leads:
            arrays = {"load": load_RLE} | ({"bias": bias_RLE} if bias_RLE is not None else {})
            self.journal.append(rows, **arrays)
        finite = np.isfinite(scalars).all() and (bias_RLE is None or np.isfinite(bias_RLE).all())
        self.diverged |= not finite
        return rows[-1]

    def _describe_biases(self, rows: list[dict[str, Any]], bias_RLE: Any) -> None:
        """Size, common part, and mean |Δb| of each row; the row before the first one is the last flushed."""
        with np.errstate(invalid="ignore"):  # a bias may have left the numbers
            moves = np.diff(np.concatenate([self._bias_before[None], bias_RLE]), axis=0)
        for row, bias_LE, move_LE in zip(rows, bias_RLE, moves, strict=True):
            row["bias_abs_max"], row["bias_common"] = float(np.abs(bias_LE).max()), float(bias_LE.mean())
            row["bias_step"] = float(np.abs(move_LE).mean())
        self._bias_before = bias_RLE[-1]
