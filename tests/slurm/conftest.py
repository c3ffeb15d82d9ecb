"""One test cluster for the whole session, and a home to submit from."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_campaign import TOY, Campaign

from slurm.testcluster import TestCluster, UnavailableError

ROOT = Path(sys.modules["slurm"].__file__).parents[1]


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    reason = TestCluster.obstacle()
    if reason:
        pytest.skip(reason)
    running = TestCluster()
    try:
        running.__enter__()
    except UnavailableError as error:
        pytest.skip(str(error))
    yield running
    running.__exit__(None, None, None)
    left = [
        path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if str(running.root).encode() in _read(path)
    ]
    assert not left, f"processes of the test cluster outlived it: {left}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`fake(command, script)` puts a command of SLURM's on the path; there are no others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for needed in ("sh", "cat", "bash"):
        (folder / needed).symlink_to(shutil.which(needed) or needed)
    monkeypatch.setenv("PATH", str(folder))

    def put(command: str, script: str) -> None:
        (folder / command).write_text(f"#!/bin/sh\n{script}\n")
        (folder / command).chmod(0o755)

    return put


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.syspath_prepend(str(TOY))
    return Campaign(tmp_path / "a home")


@pytest.fixture
def path_of_jobs(monkeypatch):
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(TOY), *filter(None, [inherited])]))
