"""Batches out of token arrays: every window once per epoch, in an order that depends on the seed and the epoch only.

Shapes: B sequences of a batch, S predicted tokens of a sequence, N held-out sequences, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import streams
from tasks.corpus import Phase
from tasks.errors import CorpusError
from tasks.ladder import Rung
from tasks.preparation import facts
from tasks.schedule import Schedule, spread

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


class WindowSource:
    """A prepared corpus as a `Source`.

    An epoch cuts a domain's training tokens into windows of S tokens, from an offset drawn for the epoch, and goes
    through them in an order drawn for the epoch. The draws depend on seed, domain and epoch alone, so any batch can
    be had at any time and resuming needs no state.

    Raises:
        ValueError: the corpus is too short for the rung.
    """

    entropy: float | None = None
    counted_S: NDArray[np.bool_] | None = None

    def __init__(self, folder: Path, rung: Rung, phases: Sequence[Phase], seed: int) -> None:
        about = facts(folder)
        if about is None:
            raise CorpusError(f"{folder}: not a whole prepared corpus; prepare the task again")
        self.vocab_size: int = about["vocab_size"]
        self.digest: str = about["digest"]
        self.domains: list[str] = list(about["domains"])
        self.token_bytes_V: NDArray[np.int64] = np.load(folder / "token_bytes.npy")
        self.token_counts_V: NDArray[np.int64] = np.load(folder / "token_counts.npy")
        self._train = [_open(folder / f"{name}.train.npy") for name in self.domains]
        self._heldout = [_open(folder / f"{name}.heldout.npy") for name in self.domains]
        self._length = rung.sequence_length
        self._eval_sequences = rung.eval_sequences
        self._seed = seed
        self._schedule = Schedule(self.domains, phases, rung.steps, rung.batch_sequences)
        self._span = np.arange(self._length + 1)
        # one window less than fits, so that every offset under S leaves the same number of windows
        self._windows = np.array([(len(tokens) - 1) // self._length - 1 for tokens in self._train])
        for name, tokens, windows in zip(self.domains, self._train, self._windows, strict=True):
            if windows < 1:
                raise ValueError(
                    f"rung.sequence_length: {self._length} is impossible; expected at most {(len(tokens) - 1) // 2}: "
                    f"{name} has {len(tokens)} training tokens"
                )
        self._order = lru_cache(maxsize=2 * len(self.domains))(self._draw_order)

    def _draw_order(self, domain: int, epoch: int) -> tuple[int, NDArray[np.int64]]:
        """Offset and order of the windows of an epoch."""
        name = f"windows/{self._seed}/{self.domains[domain]}/{epoch}"
        offset = int(streams.raw(f"{name}/offset", 1)[0] % np.uint64(self._length))
        return offset, streams.permutation(name, int(self._windows[domain]))

    def batch(self, step: int) -> Batch:
        """Tokens (B, S + 1) and domains (B,) of a training step, int64."""
        domain_B, position_B = self._schedule.at(step)
        tokens_BS1 = np.empty((len(domain_B), self._length + 1), dtype=np.int64)
        epoch_B, place_B = np.divmod(position_B, self._windows[domain_B])
        for row, (domain, epoch, place) in enumerate(
            zip(domain_B.tolist(), epoch_B.tolist(), place_B.tolist(), strict=True)
        ):
            offset, order = self._order(domain, epoch)
            start = offset + int(order[place]) * self._length
            tokens_BS1[row] = self._train[domain][start : start + self._length + 1]
        return tokens_BS1, domain_B

    def passes(self) -> dict[str, float]:
        """How often a whole run reads each domain's training text: up to 1, it reads no token twice."""
        return dict(zip(self.domains, (self._schedule.totals() / self._windows).tolist(), strict=True))

    def summary(self, loss_by_domain: Mapping[str, float], parameters: int) -> dict[str, float]:
        """Nothing that the losses themselves do not say."""
        return {}

    def heldout(self) -> Batch:
        """Tokens (N, S + 1) and domains (N,) of the held-out set, int64: evenly spread, the same for every seed.

        Raises:
            ValueError: less text is held out than the rung wants.
        """
        available = [(len(tokens) - 1) // self._length for tokens in self._heldout]
        parts = spread(self._eval_sequences, available)
        rows, domain_N = [], np.repeat(np.arange(len(parts)), parts)
        for tokens, part, windows in zip(self._heldout, parts, available, strict=True):
            starts = (2 * np.arange(part) + 1) * windows // (2 * part) * self._length
            rows.append(tokens[starts[:, None] + self._span].astype(np.int64))
        return np.concatenate(rows), domain_N


def _open(path: Path) -> NDArray[Any]:
    """A token array on disk; a plain view, because np.memmap makes slices slow."""
    return np.asarray(np.load(path, mmap_mode="r"))
