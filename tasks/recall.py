"""Facts to be remembered: keys and their values, drawn once, and seen as often as a Zipf law says.

A fact is `key` words and `value` words, each drawn evenly; keys differ. A training sequence is a marker and then facts
one after another, fact r with probability ∝ r^−exponent. The held-out set asks for every fact once, and only value
words count: a model that knows a fact loses nothing on it (the floor is 0), one that does not loses log W a word.
Nothing can be inferred, so what a model gains on log W it has stored.

Domains are tenths of the facts by frequency, `decile-1` the most frequent. With `replaced`, the facts of the first half
of training are replaced by others at half the run; both sets are asked for at its end, as `old-1` … and `new-1` ….

Shapes: F facts, B sequences, S predicted tokens, N held-out sequences, W words, V = W + 1 vocabulary (the marker last).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import log, log2

import numpy as np
from numpy.typing import NDArray

from tasks import streams
from tasks.corpus import RecallCorpus
from tasks.ladder import Rung

DECILES = 10
Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


class RecallSource:
    """The facts as a `Source`.

    Args:
        corpus: how many facts, of what lengths, how frequent.
        rung: its vocabulary holds the marker too; its sequences are as many whole facts as they hold tokens.
        seed: of the training sequences; the facts are the same for every seed.

    Raises:
        ValueError: sequences or tenths that are not of whole facts, or more facts than keys for them.
    """

    entropy: float | None = 0.0  # of a value word, given its key

    def __init__(self, corpus: RecallCorpus, rung: Rung, seed: int) -> None:
        self.vocab_size, self._words = rung.vocab_size, rung.vocab_size - 1
        self._corpus, self._rung, self._seed = corpus, rung, seed
        self._length = corpus.key + corpus.value
        self._check()
        sets = ("old", "new") if corpus.replaced else ("decile",)
        self.domains = [f"{name}-{decile}" for name in sets for decile in range(1, DECILES + 1)]
        self._sets = [self._draw_facts(index, len(sets)) for index in range(len(sets))]
        self.probability_F = np.arange(1, corpus.facts + 1, dtype=np.float64) ** -corpus.exponent
        self.probability_F /= self.probability_F.sum()
        self._cumulative_F = np.cumsum(self.probability_F)
        self.counted_S: NDArray[np.bool_] | None = np.tile(
            np.arange(self._length) >= corpus.key, rung.sequence_length // self._length
        )
        self.token_bytes_V = np.where(np.arange(rung.vocab_size) < self._words, 1, 0)
        self.token_counts_V = self._expected_counts()
        described = f"{corpus.model_dump_json()}/{rung.vocab_size}".encode()
        self.digest = hashlib.sha256(described + b"".join(facts.tobytes() for facts in self._sets)).hexdigest()

    def _check(self) -> None:
        corpus, rung = self._corpus, self._rung
        if rung.sequence_length % self._length:
            raise ValueError(
                f"rung.sequence_length: {rung.sequence_length} is impossible; expected a multiple of {self._length}, "
                "the length of a fact"
            )
        whole = DECILES * rung.sequence_length // self._length
        if corpus.facts % whole:
            raise ValueError(
                f"corpus.facts: {corpus.facts} is impossible; expected a multiple of {whole}: ten times the facts of a "
                "sequence"
            )
        if 4 * corpus.facts > self._words**corpus.key:
            most = self._words**corpus.key // 4
            raise ValueError(
                f"corpus.facts: {corpus.facts} is impossible; expected at most {most}, a quarter of the keys there are"
            )

    def _draw_facts(self, index: int, sets: int) -> NDArray[np.int64]:
        """Facts of one set, (F, key + value); keys of different sets differ too."""
        corpus, words = self._corpus, self._words
        name, total = f"recall/{corpus.table}", sets * corpus.facts
        numbers = (streams.raw(f"{name}/keys", 3 * total + 64) % np.uint64(words**corpus.key)).astype(np.int64)
        _, first = np.unique(numbers, return_index=True)
        key_F = numbers[np.sort(first)][index * corpus.facts : (index + 1) * corpus.facts]
        keys = key_F[:, None] // words ** np.arange(corpus.key) % words
        drawn = streams.raw(f"{name}/values/{index}", corpus.facts * corpus.value) % np.uint64(words)
        return np.concatenate([keys, drawn.astype(np.int64).reshape(corpus.facts, corpus.value)], axis=1)

    def _expected_counts(self) -> NDArray[np.int64]:
        """How often each token is expected among the inputs of the run, (V,)."""
        sequences = self._rung.steps * self._rung.batch_sequences
        facts = sequences * self._rung.sequence_length / self._length / len(self._sets)
        counts_V = np.zeros(self.vocab_size)
        for facts_FL in self._sets:
            weights = np.repeat(facts * self.probability_F, self._length)
            counts_V += np.bincount(facts_FL.ravel(), weights=weights, minlength=self.vocab_size)
        counts_V[-1] += sequences
        return np.rint(counts_V).astype(np.int64)

    def _sequences(self, facts_NL: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = facts_NL.reshape(-1, self._rung.sequence_length)
        return np.concatenate([np.full((len(rows), 1), self.vocab_size - 1), rows], axis=1)

    def batch(self, step: int) -> Batch:
        """Tokens (B, S + 1) and domains (B,) of a training step, int64; a sequence's domain is its set's first."""
        rung = self._rung
        count = rung.batch_sequences * rung.sequence_length // self._length
        uniform = streams.uniform(f"recall/train/{self._seed}/{step}", count)
        fact = np.minimum(np.searchsorted(self._cumulative_F, uniform, side="right"), self._corpus.facts - 1)
        index = int(len(self._sets) == 2 and 2 * step >= rung.steps)
        return self._sequences(self._sets[index][fact]), np.full(rung.batch_sequences, DECILES * index)

    def heldout(self) -> Batch:
        """Tokens (N, S + 1) and domains (N,), int64: every fact once, tenth after tenth, the same for every seed.

        The rung's `eval_sequences` says nothing here.
        """
        rows = []
        for index, facts_FL in enumerate(self._sets):
            for decile, part in enumerate(np.split(facts_FL, DECILES)):
                rows.append(self._sequences(part[streams.permutation(f"recall/heldout/{index}/{decile}", len(part))]))
        return np.concatenate(rows), np.repeat(np.arange(len(rows)), len(rows[0]))

    def summary(self, loss_by_domain: Mapping[str, float], parameters: int) -> dict[str, float]:
        """What the held-out losses say of memory.

        `bits_stored` is Σ over facts of value words × max(0, log2 W − loss / ln 2), the loss being its tenth's mean;
        `loss_old` and `loss_new` are the mean losses of the two sets, in nats above the floor.
        """
        words = self._corpus.facts / DECILES * self._corpus.value  # of a tenth
        bits = sum(words * max(0.0, log2(self._words) - loss / log(2)) for loss in loss_by_domain.values())
        found = {"bits_stored": bits, "bits_per_parameter": bits / parameters, "loss_of_unknown": log(self._words)}
        for name in ("old", "new"):
            losses = [loss for domain, loss in loss_by_domain.items() if domain.startswith(f"{name}-")]
            found |= {f"loss_{name}": float(np.mean(losses))} if losses else {}
        return found
