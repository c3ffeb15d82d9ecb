"""Checkpoints that survive a kill at any moment and cannot run a stranger's code.

A checkpoint is an ordinary torch file followed by a digest of itself. The one before is kept: a damaged newest file
costs the steps since the previous one, not the trial.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from suite.storage.files import write_atomically

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
_MARK = b"\nsha256:"
_TAIL = len(_MARK) + 64


class Damaged(ValueError):
    """A checkpoint that is truncated or changed."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `checkpoint.pt`, keeping the last one as `checkpoint.previous.pt`.

    Raises:
        OSError: the disk is full or not writable; both earlier checkpoints are then still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    newest, previous = folder / NEWEST, folder / PREVIOUS
    temporary = folder / f".{NEWEST}.new"
    write_atomically(temporary, data + _MARK + hashlib.sha256(data).hexdigest().encode())
    if newest.exists():
        os.replace(newest, previous)
    os.replace(temporary, newest)


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file; tensors and plain values only (`weights_only=True`).

    Raises:
        Damaged: the digest does not match, or the content is not a plain checkpoint.
    """
    data = path.read_bytes()
    body, tail = data[:-_TAIL], data[-_TAIL:]
    if not tail.startswith(_MARK) or hashlib.sha256(body).hexdigest().encode() != tail[len(_MARK) :]:
        raise Damaged(f"{path}: damaged checkpoint (its digest does not match its content)")
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; each means that this is not one of our files
        raise Damaged(f"{path}: not a checkpoint of plain tensors and values ({type(error).__name__})") from error


def load_newest(folder: Path, warn: Any) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None to start from the beginning."""
    for name in (NEWEST, PREVIOUS):
        path = folder / name
        if path.exists():
            try:
                return read(path)
            except Damaged as error:
                warn(f"{error}; using the one before")
    return None
