"""What a source of training data is, and the one behind a task."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.catalog import Task
from tasks.corpus import RecallCorpus, ZipfCorpus
from tasks.preparation import prepare
from tasks.recall import RecallSource
from tasks.windows import WindowSource
from tasks.zipf import ZipfSource


class Source(Protocol):
    """Training batches and a held-out set.

    Shapes: B sequences of a batch, S predicted tokens of a sequence, N held-out sequences, V vocabulary.
    """

    vocab_size: int
    digest: str  # of the data: corpus, split and tokenizer
    domains: list[str]
    token_bytes_V: NDArray[np.int64]  # bytes of text each token stands for
    token_counts_V: NDArray[np.int64]  # how often each token occurs in the training split
    entropy: float | None  # nats per predicted token that counts, where it is known
    counted_S: NDArray[np.bool_] | None  # which predicted tokens of a held-out sequence count; None: all

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens (B, S + 1) and domains (B,) of a training step, int64; depends on seed and step only."""
        ...

    def heldout(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens (N, S + 1) and domains (N,) of the held-out set, int64; the same for every seed, never trained on."""
        ...

    def summary(self, loss_by_domain: Mapping[str, float], parameters: int) -> dict[str, float]:
        """Figures of this source's own, from the held-out loss of each domain; empty where there are none."""
        ...


def open_source(task: Task, cache: Path, seed: int) -> Source:
    """A task's data, prepared if need be (which is told on standard error).

    Raises:
        CorpusError: the corpus cannot be had, read or written.
        ValueError: the rung does not fit the corpus.
    """
    if isinstance(task.corpus, ZipfCorpus):
        return ZipfSource(task.corpus, task.rung, seed)
    if isinstance(task.corpus, RecallCorpus):
        return RecallSource(task.corpus, task.rung, seed)
    folder = prepare(task, cache, lambda line: print(line, file=sys.stderr))
    return WindowSource(folder, task.rung, task.corpus.phases, seed)
