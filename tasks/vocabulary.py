"""Byte-level BPE, trained on the training split: every text can be written, and a token's length in bytes is exact.

Tokens 0 … V−2 belong to the tokenizer; V−1 ends a document and cannot be written by any text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

BATCH_CHARACTERS = 4_000_000


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer with at most `vocab_size` − 1 tokens (fewer where the text has no more pairs to merge)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Iterable[str], end: int) -> Iterator[list[int]]:
    """Token ids of each text, followed by `end`."""
    for batch in _batches(texts):
        for encoding in tokenizer.encode_batch_fast(batch):
            yield [*encoding.ids, end]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def token_bytes(tokenizer: Tokenizer, vocab_size: int) -> NDArray[np.int64]:
    """Bytes that each token stands for, (V,): byte-level BPE writes a character per byte; the end stands for none."""
    bytes_V = np.zeros(vocab_size, dtype=np.int64)
    for token, index in tokenizer.get_vocab().items():
        bytes_V[index] = len(token)
    return bytes_V
