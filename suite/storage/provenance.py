"""Where a trial's numbers come from: code revision, packages, hardware. No host paths, no user names, no secrets."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scipy", "tokenizers", "megablocks", "triton")


def _told(*keys: str) -> list[str] | None:
    """What Linux says of the processor under these keys; None where it does not say all of them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = [re.search(rf"^{key}\s*:\s*(.+)", text, re.MULTILINE) for key in keys]
    return None if None in found else [match.group(1).strip() for match in found if match]


@cache
def cpu_name() -> str:
    """The processor's model name, shortened."""
    told = _told("model name")
    if told is None:
        return platform.processor() or platform.machine()
    return re.sub(r"\s+", " ", re.sub(r"\(R\)|\(TM\)|CPU|@.*", "", told[0])).strip()


@cache
def generation() -> str | None:
    """Which processor it is of those that share a name: maker, family and model as Linux tells them; None elsewhere.

    A cloud's machines call several generations by one name, and kernels chosen for each end on other last bits.
    """
    told = _told("vendor_id", "cpu family", "model")
    return None if told is None else "{} family {} model {}".format(*told)


@cache
def hardware(device: str) -> dict[str, Any]:
    """Hardware as boards name it: one label is one kind, whatever share of a machine a job was given (`cores`)."""
    cores = len(os.sched_getaffinity(0))
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
        facts = {"label": name, "device": "cuda", "name": name, "cores": cores, "cuda": torch.version.cuda}
        # which one it was of its kind, by which trials that shared it are told from others on the same machine
        own = str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))
        return facts | ({"unit": hashlib.sha256(own.encode()).hexdigest()[:12]} if own else {})
    which = generation()
    return {
        "label": f"CPU · {cpu_name()} · {os.cpu_count()} cores",
        "device": "cpu",
        "name": cpu_name(),
        "cores": cores,
    } | ({"processor": which} if which else {})


@cache
def revision() -> tuple[str | None, bool | None]:
    """Git revision of this source tree and whether it has uncommitted changes; (None, None) outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "--no-optional-locks", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not (root / ".git").exists():
        return None, None
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD"), None if changed is None else bool(changed)


@cache
def packages() -> dict[str, str]:
    """Versions of what can change a number."""
    versions = {}
    for name in ("equipoise", *PACKAGES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def collect(device: str, corpus_digest: str, started: str) -> dict[str, Any]:
    """The `provenance` of a trial (docs/formats.md)."""
    git_revision, git_dirty = revision()
    return {
        "git_revision": git_revision,
        "git_dirty": git_dirty,
        "packages": packages(),
        "hardware": hardware(device),
        "corpus_digest": corpus_digest,
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": f"{platform.system()}-{platform.machine()}",
        "started": started,
    }
