"""The cache on disk: locks between processes, and failures in one line."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import CorpusError


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turns what the file system says while writing under `path` into one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise CorpusError(
            f"cache: cannot write {where} ({error.strerror or error}); expected a writable folder with space left"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file; the system releases it when the process ends, however it ends.

    Raises:
        CorpusError: it can't be written, or can't be held there.
    """
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise CorpusError(f"cache: {path.parent}: its file system cannot lock ({error.strerror})") from None
        yield
