"""Byte-level BPE, trained on the training split: every text can be written, and a token's length in bytes is exact.

Tokens 0 … V−2 belong to the tokenizer; V−1 ends a document and cannot be written by any text.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

BATCH_CHARACTERS = 4_000_000

# The words that byte-level BPE splits a text into before it merges: the pattern of GPT-2, which `ByteLevel` uses too,
# for Python's `re`, where \w is letters, numbers and "_". Its \d lacks some numbers, its \s has more: those are RARE.
WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
RARE = frozenset("\x1c\x1d\x1e\x1f").union(
    char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) in ("Nl", "No")
)


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


def encode(tokenizer: Tokenizer, texts: Iterable[str], end: int) -> Iterator[NDArray[np.uint32]]:
    """Token ids of each text, followed by `end`: as the tokenizer gives them, each different word encoded only once."""
    numbers: dict[str, int] = {}  # of the words seen so far
    tokens_N = np.empty(0, dtype=np.uint32)  # their tokens, side by side
    first_W = length_W = np.empty(0, dtype=np.int64)
    for batch in _batches(texts):
        split = [WORD.findall(text) if RARE.isdisjoint(text) else None for text in batch]
        fresh = list(set().union(*filter(None, split)).difference(numbers))
        numbers.update(zip(fresh, range(len(numbers), len(numbers) + len(fresh)), strict=True))
        encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(fresh)]
        length_W = np.append(length_W, np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
        first_W = np.cumsum(length_W) - length_W
        tokens_N = np.append(tokens_N, np.fromiter(chain.from_iterable(encoded), dtype=np.uint32))
        for text, words in zip(batch, split, strict=True):
            if words is None:
                yield np.array([*tokenizer.encode(text).ids, end], dtype=np.uint32)
                continue
            word_K = np.fromiter(map(numbers.__getitem__, words), dtype=np.int64, count=len(words))
            length_K = length_W[word_K]
            offset_K = first_W[word_K] - (np.cumsum(length_K) - length_K)  # from a token's place here to its own
            yield np.append(tokens_N[np.repeat(offset_K, length_K) + np.arange(length_K.sum())], np.uint32(end))


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
