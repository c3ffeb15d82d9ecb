"""The process of one trial: `python -P -m slurm.worker ENTRY KEY FOLDER PAYLOAD PARENT`.

PAYLOAD is the path of a JSON file. The contract with the entry function, `function(key, folder, payload)`:
  - it runs the trial of `folder` and returns (None or an exit code), or resumes it from its checkpoint;
  - on SIGUSR2 or SIGTERM, which may come more than once, it writes a checkpoint and exits with 75;
  - an exception is a failure: exit code 1, and `failure.json` if the function left none.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slurm.trials import INTERRUPTED, report_death

SIGNALS = frozenset({signal.SIGUSR2, signal.SIGTERM})


def resolve(entry: str) -> Callable[[str, Path, dict[str, Any]], int | None]:
    """The function behind 'package.module:function'.

    Raises:
        ValueError: there is no such module or function.
    """
    module, _, name = entry.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"entry: {entry!r} cannot be imported ({error})") from None
    return function


def main() -> int:
    entry, key, folder, payload, parent = sys.argv[1:]
    for number in SIGNALS:
        signal.signal(number, _not_begun)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by the parent until now
    _end_with(int(parent))
    trial = Path(folder)
    code: int | None = 1
    try:
        code = resolve(entry)(key, trial, json.loads(Path(payload).read_text(encoding="utf-8")))
    except Exception as error:
        traceback.print_exc()
        if not (trial / "failure.json").exists():
            report_death(trial, type(error).__name__, str(error))
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a late signal must not change the exit code
    return code or 0


def _not_begun(*_: object) -> None:
    """Asked to stop before the trial has taken over: nothing is lost, so leave at once."""
    os._exit(INTERRUPTED)


def _end_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent dies: an orphan would hold the trial against its own successor."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
