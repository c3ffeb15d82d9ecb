"""Where published boards keep their trials, and what rests on each.

The boards of a folder share its trials, and so do the verdicts on claims beside them: a trial that several of them
need is there once. A board of another kind of hardware, `BOARD@HARDWARE`, shares with those of its kind, since a
trial's key does not say where it ran.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

VERDICTS = "claims.json"  # beside the boards: a list of verdicts on claims
NO_VERDICTS = ("undecided", "not testable here")


def trials_of(place: Path) -> Path:
    """The folder of the trials that something published rests on.

    Args:
        place: a board's folder, or the `claims.json` beside boards.
    """
    _, at, hardware = place.name.partition("@")
    return place.with_name(f"trials{at}{hardware}")


def trial_folders(published: Path) -> Iterator[Path]:
    """Every folder of trials below a folder of published boards."""
    for path in sorted(published.rglob("trials*")):
        if path.is_dir() and path.name.partition("@")[0] == "trials":
            yield path


def resting(trials: Path) -> dict[str, set[str]]:
    """key → names of the boards that list the trial, superseded entries included, and of decided verdicts' file.

    Raises:
        ValueError: a manifest or the verdicts cannot be read, so that nobody knows what rests on what.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for path in [*sorted(trials.parent.glob("*/manifest.json")), *trials.parent.glob(VERDICTS)]:
        place = path if path.name == VERDICTS else path.parent
        if trials_of(place) == trials:
            for key in _keys(path):
                found[key].add(place.name)
    return dict(found)


def unpublished(place: Path, keys: Collection[str]) -> list[str]:
    """What else rests on some of these trials while there is no record of them: with it, it is to be published anew."""
    trials = trials_of(place)
    rests = resting(trials)
    new = [key for key in keys if not (trials / key / "record.json").exists()]
    return sorted({name for key in new for name in rests.get(key, ())} - {place.name})


def decided(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict on a claim says something: its trials are published with it."""
    return verdict["verdict"] not in NO_VERDICTS


def compact(content: Any) -> bytes:
    """A record, or why there is none, as it is published: whole, without white space."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"{text}\n".encode()


def _keys(path: Path) -> list[str]:
    """The trials that a manifest lists, or that decided verdicts name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.name == VERDICTS:
            return [str(key) for verdict in content if decided(verdict) for key in verdict["trial_keys"]]
        past = (content.get("superseded") or {}).get("trials", [])
        return [str(cell["trial_key"]) for cell in [*content["trials"], *past]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path}: cannot be read ({type(error).__name__}: {str(error)!a:.120}); expected the trials it rests on"
        ) from None
