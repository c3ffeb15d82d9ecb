"""The machine as its tables name it, and what it can do at most: peaks measured now, not copied from a data sheet."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

from suite.storage import provenance

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def synchronise(device: torch.device) -> None:
    """Wait until everything asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median seconds of one call, after one that is not counted."""
    work()
    synchronise(device)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - started)
    return median(times)


def interleaved(
    builders: Mapping[str, Callable[[], Callable[[], Any]]], device: torch.device, repeats: int
) -> dict[str, float | Exception]:
    """Median seconds of one call of each, taken in turns, so that a machine that drifts does so for all of them.

    Args:
        builders: each makes what is timed; a builder or a call that fails is left out of the rest.

    Returns:
        Seconds, or why there are none.
    """
    found: dict[str, float | Exception] = {}
    work: dict[str, Callable[[], Any]] = {}
    for name, build in builders.items():
        try:
            ready = build()
            for _ in range(2):  # allocations, compilation, tuning
                ready()
            synchronise(device)
            work[name] = ready
        except Exception as error:
            found[name] = error
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            synchronise(device)
            times[name].append(time.perf_counter() - started)
    return found | {name: median(values) for name, values in times.items()}


def product_peak(device: torch.device, size: int, dtype: torch.dtype, repeats: int = 10) -> float:
    """FLOP/s of a square matrix product of random numbers."""
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / seconds_of(lambda: a @ b, device, repeats)


def copy_bandwidth(device: torch.device, megabytes: int, repeats: int = 10) -> float:
    """Bytes/s read and written by a copy within the device's memory."""
    a = torch.zeros(megabytes * 2**18, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / seconds_of(lambda: b.copy_(a), device, repeats)


def driver() -> str | None:
    """The accelerator's driver, where one can be asked."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def describe(device: torch.device, peaks: dict[str, int]) -> dict[str, Any]:
    """Hardware, versions and measured peaks."""
    git_revision, git_dirty = provenance.revision()
    size = peaks["product"]
    return {
        "hardware": provenance.hardware(device.type),
        "packages": provenance.packages(),
        "driver": driver(),
        "git_revision": git_revision,
        "git_dirty": git_dirty,
        "peaks": {
            "product_size": size,
            "float32": product_peak(device, size, torch.float32),
            "bfloat16": product_peak(device, size, torch.bfloat16),
            "copy_megabytes": peaks["copy_megabytes"],
            "bandwidth": copy_bandwidth(device, peaks["copy_megabytes"]),
        },
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The same for a page's head."""
    peaks = found["peaks"]
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    cuda = found["hardware"].get("cuda")
    return [
        f"Hardware: {found['hardware']['label']}" + (f" · CUDA {cuda} · driver {found['driver']}" if cuda else ""),
        "",
        f"Versions: {versions}; source {found['git_revision'] or 'unknown'}"
        + (" with changes" if found["git_dirty"] else ""),
        "",
        f"Measured peaks: {peaks['float32'] / 1e12:.3g} TFLOP/s float32, {peaks['bfloat16'] / 1e12:.3g} TFLOP/s "
        f"bfloat16 ({peaks['product_size']}³ products), {peaks['bandwidth'] / 1e9:.3g} GB/s "
        f"({peaks['copy_megabytes']} MiB copied)",
    ]
