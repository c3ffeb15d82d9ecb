"""Small corpora made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_text import text_overrides, write_text

import tasks


@pytest.fixture
def text_folder(tmp_path: Path) -> Path:
    """Two domains of 12 files each."""
    for number in range(12):
        write_text(tmp_path / "text" / "prose" / f"{number}.txt", number, 40)
        write_text(tmp_path / "text" / "verse" / f"{number}.txt", 100 + number, 40)
    return tmp_path / "text"


@pytest.fixture
def text_task(text_folder: Path) -> tasks.Task:
    """A small task on `text_folder`."""
    return tasks.load("mix-nano", text_overrides(text_folder))
