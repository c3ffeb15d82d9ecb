"""What may reach a batch script, a path or a log: names are checked, values are one line, secrets stay out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SECRET_NAME = re.compile(
    r"(^|[._-])(token|secret|password|passwd|passphrase|credentials?|api_?key|access_?key|private_?key)s?($|[._-])",
    re.I,
)
_CREDENTIALS = re.compile(r"(://)[^/\s@]+@")
_ASSIGNMENT = re.compile(r"\b([A-Za-z_]\w*)=(?=\S)")


def check_line(where: str, value: str) -> str:
    """Refuse what would end a line of a batch script or confuse a terminal."""
    if not value or _CONTROL.search(value):
        raise ValueError(f"{where}: {value!r} is not one non-empty line of printable text")
    return value


def check_key(key: str) -> str:
    """A trial's key names files; it can't be a path."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"trial key: {key!r} is unusable; expected letters, digits, '.', '_' and '-', no path")
    return key


def check_folder(key: str, folder: Path) -> Path:
    """A trial's folder is absolute, is named by its key, and holds nothing that a shell or SLURM would read twice."""
    if not folder.is_absolute() or folder.name != key or ".." in folder.parts:
        raise ValueError(f"trial folder: {str(folder)!r} is unusable; expected an absolute path that ends in {key}")
    check_line("trial folder", str(folder))
    return folder


def check_logs(logs: Path) -> Path:
    """SLURM expands % and \\ in the names of log files, so neither may occur."""
    check_line("logs", str(logs))
    if set(str(logs)) & set("%\\"):
        raise ValueError(f"logs: {str(logs)!r} contains % or \\, which SLURM expands in file names")
    return logs


def check_entry(entry: str) -> str:
    if not _ENTRY.fullmatch(entry) or entry.startswith("__main__:"):
        raise ValueError(f"entry: {entry!r} is unusable; expected 'package.module:function', importable by name")
    return entry


def is_secret(name: str, value: str) -> bool:
    """Whether a setting must travel by environment only: it is called like a secret or carries credentials."""
    return bool(_SECRET_NAME.search(name) or _CREDENTIALS.search(value))


def secret_in_script(line: str) -> str | None:
    """The name of the secret that a line of shell would write into a batch script, if there is one."""
    for name in _ASSIGNMENT.findall(line):
        if _SECRET_NAME.search(name):
            return str(name)
    return "a URL's credentials" if _CREDENTIALS.search(line) else None


def check_payload(payload: dict[str, Any]) -> None:
    """A payload is pickled beside the logs; refuse secrets in it."""
    for name, value in _leaves(payload, "payload"):
        if value and is_secret(name.rsplit(".", 1)[-1], value):
            raise ValueError(f"{name}: looks like a secret, and a payload is written to disk; pass it by environment")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, name)
    elif isinstance(value, str):
        yield name, value


def redact(text: str) -> str:
    """The text without credentials in URLs and without the values of this process's secret-looking variables."""
    text = _CREDENTIALS.sub(r"\1***@", text)
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text
