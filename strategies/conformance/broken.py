"""How a check says that a rule is broken, or that it has nothing to say."""

from __future__ import annotations


class Broken(Exception):
    """A rule is broken; `method` is the one to look at."""

    def __init__(self, message: str, method: str = "route") -> None:
        super().__init__(message)
        self.method = method


class NotApplicable(Exception):
    """A rule says nothing about this strategy; the message says why."""
