"""A synthetic source of known entropy with separable domains.

Every domain is a Markov chain over the same words. Given the domain and the word before, the next word's rank r has
probability ∝ r^−exponent (Zipf's law); which word has which rank is a table drawn for (domain, word before). So every
predicted token has exactly the entropy of one Zipf distribution, whatever came before, and no model can have a lower
expected loss. The tables prefer the same words everywhere, so that words are unevenly frequent, as in text.

A sequence starts with its domain's marker (never predicted): a model can know the domain, and the domain's number is
what an oracle router would route by.

Shapes: B sequences, S predicted tokens, W words, M domains, V = W + M vocabulary (words first, markers after them).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tasks import streams
from tasks.catalog import zipf_domains
from tasks.corpus import ZipfCorpus
from tasks.ladder import Rung
from tasks.schedule import Schedule, spread

LARGEST_TABLE = 2**28  # entries
Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


class ZipfSource:
    """The synthetic source as a `Source`.

    Args:
        corpus: domains, exponent, which tables.
        rung: its vocabulary holds the markers too.
        seed: of the training sequences; the tables and the held-out sequences are the same for every seed.

    Raises:
        ValueError: a vocabulary too large.
    """

    counted_S: NDArray[np.bool_] | None = None

    def __init__(self, corpus: ZipfCorpus, rung: Rung, seed: int) -> None:
        words = rung.vocab_size - corpus.domains
        if corpus.domains * (words + 1) * words > LARGEST_TABLE:
            raise ValueError(
                f"rung.vocab_size: {rung.vocab_size} is impossible; expected tables ({corpus.domains} × words²) "
                f"of at most {LARGEST_TABLE} entries"
            )
        self.vocab_size = rung.vocab_size
        self.domains = zipf_domains(corpus.domains)
        self._rung, self._words, self._seed = rung, words, seed
        self._schedule = Schedule(self.domains, corpus.phases, rung.steps, rung.batch_sequences)
        self.probability_W = np.arange(1, words + 1, dtype=np.float64) ** -corpus.exponent
        self.probability_W /= self.probability_W.sum()
        self.entropy: float | None = float(-(self.probability_W * np.log(self.probability_W)).sum())
        self._cumulative_W = np.cumsum(self.probability_W)
        self.table_MXW = self._draw_table(corpus)
        self.token_bytes_V = np.where(np.arange(rung.vocab_size) < words, 1, 0)  # bits per byte are bits per word
        self.token_counts_V = self._expected_counts()
        described = f"{corpus.model_dump_json(exclude={'phases'})}/{rung.vocab_size}".encode()
        self.digest = hashlib.sha256(described + self.table_MXW.tobytes()).hexdigest()

    def _draw_table(self, corpus: ZipfCorpus) -> NDArray[np.uint32]:
        """The word of each rank after each word, (M, W + 1, W); the last row follows the marker.

        Ranks are a random order in which word w comes early with weight (w + 1)^−exponent (Gumbel's trick).
        """
        shape = (corpus.domains, self._words + 1, self._words)
        uniform = streams.uniform(f"zipf/{corpus.table}/{shape}", int(np.prod(shape))).reshape(shape)
        gumbel = -np.log(-np.log(uniform + 2.0**-54))
        return np.argsort(-(np.log(self.probability_W) + gumbel), axis=-1, kind="stable").astype(np.uint32)

    def _expected_counts(self) -> NDArray[np.int64]:
        """How often each token is expected among the inputs of the run, (V,), domains in equal shares."""
        counts_V = np.zeros(self.vocab_size)
        sequences = self._rung.steps * self._rung.batch_sequences / len(self.domains)
        for domain, table_XW in enumerate(self.table_MXW):
            transition_XW = np.empty(table_XW.shape)
            np.put_along_axis(
                transition_XW, table_XW.astype(np.int64), self.probability_W[None].repeat(len(table_XW), 0), axis=1
            )
            share_W = transition_XW[-1]
            for _ in range(self._rung.sequence_length):
                counts_V[: self._words] += sequences * share_W
                share_W = share_W @ transition_XW[:-1]
            counts_V[self._words + domain] += sequences
        return np.rint(counts_V).astype(np.int64)

    def _draw(self, name: str, domain_B: NDArray[np.int64]) -> NDArray[np.int64]:
        length = self._rung.sequence_length
        uniform = streams.uniform(name, len(domain_B) * length).reshape(length, -1)
        rank_SB = np.minimum(np.searchsorted(self._cumulative_W, uniform, side="right"), self._words - 1)
        tokens_BS1 = np.empty((len(domain_B), length + 1), dtype=np.int64)
        tokens_BS1[:, 0] = self._words + domain_B
        before_B = np.full(len(domain_B), self._words)
        for position, rank_B in enumerate(rank_SB, start=1):
            before_B = self.table_MXW[domain_B, before_B, rank_B]
            tokens_BS1[:, position] = before_B
        return tokens_BS1

    def batch(self, step: int) -> Batch:
        """Tokens (B, S + 1) and domains (B,) of a training step, int64."""
        domain_B, _ = self._schedule.at(step)
        return self._draw(f"zipf/train/{self._seed}/{step}", domain_B), domain_B

    def summary(self, loss_by_domain: Mapping[str, float], parameters: int) -> dict[str, float]:
        """Nothing that the losses themselves do not say."""
        return {}

    def heldout(self) -> Batch:
        """Tokens (N, S + 1) and domains (N,) of the held-out set, int64: the same for every seed."""
        total = self._rung.eval_sequences
        domain_N = np.repeat(np.arange(len(self.domains)), spread(total, [total] * len(self.domains)))
        return self._draw("zipf/heldout", domain_N), domain_N
