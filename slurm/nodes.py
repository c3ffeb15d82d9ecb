"""Which nodes fail every trial that they are given, so that a broken one does not eat a suite.

A broken node is always free, since its jobs end at once: the scheduler hands it one trial after another. Every node
keeps a list of its own, `nodes/<node>.jsonl` among the logs: `{"time": …, "job": …, "key": …}` for a trial that made a
step there, with `"error"` for one that failed before it did. `job` is the submission, an array by its own id: what
another asked for, other nodes or another device, says nothing of this one.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

FAILURES = 2  # trials that fail at their start before a node is called broken
_DAY = 24 * 3600.0  # what was seen longer ago has been mended, or is seen again


@dataclass
class Seen:
    """What became of a submission's trials on a node of late."""

    good: bool = False
    errors: dict[str, str] = field(default_factory=dict)  # by trial


def note(logs: Path, node: str, job: str, key: str, error: str | None = None) -> None:
    """Write down that a trial made a step on a node, or the error that it failed with before it did."""
    said = {"time": time.time(), "job": job, "key": key} | ({} if error is None else {"error": _alike(error)})
    with suppress(OSError):  # a full disk must not become the trial's error
        (logs / "nodes").mkdir(exist_ok=True)
        with (logs / "nodes" / f"{node}.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(said)}\n")


def broken(logs: Path, job: str | None = None) -> dict[str, str]:
    """Nodes that failed at least two trials of a submission and ran none, where others ran some, and an error of each.

    An error that also occurs where trials run is the trial's, not the node's.

    Args:
        job: the submission; None: any of the last day.
    """
    seen: dict[str, dict[str, Seen]] = defaultdict(dict)  # by submission and node
    for path in sorted((logs / "nodes").glob("*.jsonl")):
        for submission, one in _read(path).items():
            seen[submission][path.stem] = one
    found: dict[str, str] = {}
    for submission, nodes in seen.items():
        if job in (None, submission):
            found |= _broken(nodes)
    return found


def _broken(nodes: dict[str, Seen]) -> dict[str, str]:
    trials_own = {error for one in nodes.values() if one.good for error in one.errors.values()}
    found = {}
    for node, one in nodes.items():
        errors = [error for error in one.errors.values() if error not in trials_own]
        if not one.good and len(errors) >= FAILURES and any(other.good for other in nodes.values()):
            found[node] = errors[-1]
    return found


def _read(path: Path) -> dict[str, Seen]:
    """What a node noted, by submission."""
    seen: dict[str, Seen] = defaultdict(Seen)
    for job, key, error in _lines(path):
        if error is None:
            seen[job].good = True
            seen[job].errors.pop(key, None)
        else:
            seen[job].errors[key] = error
    return seen


def _lines(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """The entries of the last day; a line cut short is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            said = json.loads(line)
            if time.time() - said["time"] < _DAY:
                yield said["job"], said["key"], said.get("error")


def _alike(error: str) -> str:
    """An error without what differs from trial to trial."""
    return re.sub(r"[0-9a-f]{8,}|\d+", "#", " ".join(error.split()))[:200]
