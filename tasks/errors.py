"""Errors a user can act on: one line that names the key, the value, what was expected and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError


class CorpusError(ValueError):
    """A corpus could not be fetched, read or prepared: the request was well formed, the work failed."""


def show(value: Any, limit: int = 80) -> str:
    """A value as it appears in a message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def nearest(value: object, known: Iterable[str]) -> str:
    """`; nearest: "name"`, or the valid names if they are few, or nothing."""
    names = sorted(set(known))
    close = get_close_matches(str(value), names, n=1, cutoff=0.5)
    if close:
        return f'; nearest: "{close[0]}"'
    return f"; valid: {', '.join(names)}" if 0 < len(names) <= 12 else ""


def unknown_key(key: str, value: object, known: Iterable[str]) -> ValueError:
    """The error for a key that does not exist."""
    return ValueError(f"{key}: unknown key (value {show(value)}){nearest(key.split('.')[-1], known)}")


def unknown(key: str, value: object, what: str, known: Iterable[str]) -> ValueError:
    """The error for a value that is not one of the known names."""
    return ValueError(f"{key}: {show(value)} is not {what}{nearest(value, known)}")


def explain(error: ValidationError, prefix: str, known: Iterable[str], tags: Iterable[str] = ()) -> ValueError:
    """The most telling of pydantic's complaints as one line: an unknown key before what it may have left missing.

    Args:
        error: what pydantic raised.
        prefix: the key of the checked value ("rung", "corpus").
        known: names valid for a key, for the nearest one.
        tags: parts of a location that are pydantic's own and no key of the user's (the tags of a union).
    """
    first = min(error.errors(), key=lambda complaint: complaint["type"] != "extra_forbidden")
    parts = [str(part) for part in first["loc"] if part not in set(tags)]
    key = ".".join([prefix, *parts])
    if first["type"] == "extra_forbidden":
        return unknown_key(key, first["input"], known)
    if first["type"] == "missing":
        return ValueError(f"{key}: missing; expected a value")
    message = first["msg"][0].lower() + first["msg"][1:]
    return ValueError(f"{key}: {show(first['input'])} is impossible; {message.replace('input should', 'it should')}")
