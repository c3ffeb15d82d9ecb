"""The memory of a trial: how the allocator keeps it, and the most that was held at once."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

# glibc's mallopt: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
KEEP_FREED = ((-1, 2**31 - 1), (-2, 2**26), (-4, 0))


def keep_freed_memory() -> None:
    """Let freed memory be used again instead of going back to the system (glibc only; elsewhere nothing happens).

    Every step frees and takes the same megabytes; given back, each page costs a fault when it is next touched.
    """
    with suppress(OSError, AttributeError):
        for name, value in KEEP_FREED:
            ctypes.CDLL(None).mallopt(name, value)


def start_counting_memory(device: torch.device) -> None:
    """Forget the peak of whatever ran in this process before, and what it left."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Most memory held at once, in bytes: of the device, or of the process on a CPU (None where it cannot be read)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return None
