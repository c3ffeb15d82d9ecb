"""A process that trains trials one after another: `python -P -m suite.running.worker CACHE`.

Folders come in on standard input, one a line; events go out on standard output, one JSON object a line. Asked to stop
(SIGTERM, SIGUSR2, SIGINT, or the parent's death) it writes a checkpoint and exits with 75, "try again later".
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

INTERRUPTED = 75  # sysexits' EX_TEMPFAIL
_asked: list[
    int
] = []  # signals received; appended to, since a lock would deadlock when one interrupts another's handler


def stop_requested() -> bool:
    return bool(_asked)


def listen_for_signals() -> None:
    """Turn signals into a request that training honours after the current step; die with the parent.

    A killed parent's death is announced once for each of its threads, so several signals come at one time.
    """
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, lambda number, _: _asked.append(number))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _where(error: Exception, folder: Path) -> str:
    """The innermost line that is no library's, and the rule's part in it: its own innermost line, or else its name."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    name, plugins = _rule_of(folder)
    own = [frame for frame in frames if frame.filename in plugins]
    places = [f"{Path(frame.filename).name}, line {frame.lineno}" for frame in (*frames[-1:], *own[-1:])]
    if name and not own:
        places.append(f"in a trial of {name}")
    return f" ({'; '.join(dict.fromkeys(places))})" if places else ""


def _rule_of(folder: Path) -> tuple[str, list[str]]:
    """The name of a trial's strategy and the plug-ins' files; nothing of a definition that cannot be read."""
    from suite.storage.files import read_json
    from suite.storage.trial import TrialFolder

    try:
        definition = read_json(TrialFolder(folder).trial)
        return definition["config"]["strategy"]["name"], definition.get("plugins", [])
    except (OSError, ValueError, KeyError):
        return "", []


def main() -> int:
    listen_for_signals()
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not reach the channel
    from suite.running.attempt import run_trial
    from suite.storage.trial import Busy
    from suite.training.trainer import Interrupted

    def emit(event: dict[str, Any]) -> None:
        try:
            channel.write(json.dumps(event) + "\n")
        except BrokenPipeError:  # nobody listens any more: the same as being asked to stop, not the trial's failure
            _asked.append(signal.SIGPIPE)

    cache = Path(sys.argv[1])
    emit({"event": "ready"})
    for line in sys.stdin:
        if stop_requested():
            return INTERRUPTED
        folder = Path(line.strip())
        emit({"event": "started", "key": folder.name})
        try:
            run_trial(folder, cache, emit, stop_requested)
        except Interrupted:
            return INTERRUPTED
        except Busy as error:
            emit({"event": "busy", "key": folder.name, "message": str(error)})
        except Exception as error:
            message = f"{type(error).__name__}: {error}{_where(error, folder)}"
            emit({"event": "failed", "key": folder.name, "message": message})
        else:
            emit({"event": "idle", "key": folder.name})
        if stop_requested():
            return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
