"""Small texts made on the spot: no network, no time."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = ["load", "expert", "token", "gate", "route", "bias", "batch", "küche", "naïve", "λ", "😀", "value", "the", "of"]


def write_text(path: Path, seed: int, paragraphs: int) -> None:
    """A file of random sentences, some of it beyond ASCII."""
    draw = random.Random(seed)
    lines = [" ".join(draw.choices(WORDS, k=12)) + f" {draw.randrange(10**6)}.\n" for _ in range(paragraphs)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def text_overrides(path: Path) -> dict[str, object]:
    """A small task on the text at `path`."""
    return {
        "corpus.kind": "text",
        "corpus.path": str(path),
        "rung.vocab_size": 400,
        "rung.sequence_length": 32,
        "rung.eval_sequences": 12,
        "rung.steps": 10,
        "rung.batch_sequences": 4,
    }
