"""What every part of the suite may raise."""

from __future__ import annotations


class UsageError(ValueError):
    """Something the caller asked for that cannot be: one line that names the key, the value and what was expected."""
