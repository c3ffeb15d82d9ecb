"""The most memory a trial held at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch


def start_counting_memory(device: torch.device) -> None:
    """Forget the peak of whatever ran in this process before."""
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
