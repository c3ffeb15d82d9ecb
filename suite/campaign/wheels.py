"""Wheels brought along to a machine without a network. Standard library only: it runs before anything is there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def unpack(folder: Path) -> Path:
    """Install the wheels of a folder beside this Python's packages, for this process and its children.

    Raises:
        ValueError: no such folder, no wheels in it, or one that does not fit this Python.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise ValueError(f"--wheels {folder}: holds no .whl files")
    name = hashlib.sha256("\n".join(wheel.name for wheel in wheels).encode()).hexdigest()[:16]
    site = Path(tempfile.gettempdir()) / f"equipoise-wheels-{name}"
    if not (site / ".complete").exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        done = subprocess.run([*install, "--upgrade", "--target", str(site), *map(str, wheels)], capture_output=True)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(f"--wheels {folder}: cannot be installed ({''.join(last)})")
        (site / ".complete").touch()
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return site
