"""Where things go: `--home DIR` or `EQUIPOISE_HOME`, by default `./equipoise-home`."""

from __future__ import annotations

import os
from pathlib import Path

from suite.errors import UsageError


def resolve(home: str | None, write: bool = True) -> Path:
    """The home's absolute path, made if need be; without `write` it has to be there, and may be one only to be read.

    Raises:
        UsageError: it cannot be made or written to, or is not there to be read.
    """
    path = Path(home or os.environ.get("EQUIPOISE_HOME") or "equipoise-home").expanduser().absolute()
    if not write:
        if not path.is_dir():
            raise UsageError(
                f"--home {path}: is not there; expected a folder that `equipoise run` or `submit` made, by --home or "
                f"EQUIPOISE_HOME"
            )
        return path
    try:
        for name in ("cache", "trials", "suites", "reports"):
            (path / name).mkdir(parents=True, exist_ok=True)
        probe = path / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--home {path}: cannot be written to ({error.strerror})") from None
    return path
