"""`equipoise new strategy NAME`: a working rule to edit, and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Collection
from pathlib import Path

TEMPLATES = Path(__file__).parent


def write_strategy(name: str, folder: str | Path, taken: Collection[str]) -> list[Path]:
    """Write `<folder>/<name>.py` and `<folder>/test_<name>.py` from the templates.

    Raises:
        ValueError: the name is no identifier in small letters, is one of `taken` or a Python module's, or a file is in
            the way.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(f"name: {name!r} cannot name a strategy; expected small letters, digits and underscores")
    if name in taken:
        raise ValueError(f"name: {name!r} is already a strategy; expected a new name, such as 'my_{name}'")
    if importlib.util.find_spec(name):  # beside a test, such a file would be imported in the module's place
        raise ValueError(f"name: {name!r} is a Python module; expected another name, such as 'my_{name}'")
    folder = Path(folder)
    files = {folder / f"{name}.py": "template.py.tmpl", folder / f"test_{name}.py": "template_test.py.tmpl"}
    for file in files:
        if file.exists():
            raise ValueError(f"{file}: there is already a file; expected none, so that nothing is overwritten")
    words = [word for word in name.split("_") if word]
    title = " ".join(words).capitalize()
    class_name = "".join(word.capitalize() for word in words)
    folder.mkdir(parents=True, exist_ok=True)
    for file, template in files.items():
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        file.write_text(text.format(name=name, title=title, class_name=class_name), encoding="utf-8")
    return list(files)
