"""What imbalance would cost under expert parallelism, from recorded loads: a model, not a measurement.

    t_step = Σ_layers [ a + rest + b · max_r n_lr + exchanges(max_r n_lr) ]

The slowest device decides each layer, and layers wait for each other: the maximum is taken per layer, then summed. The
same routing serves forward and backward pass. Time is linear in that sum, so its mean over training, which every record
holds for 1, 8 and 64 devices (`device_rows`), is all that a machine's constants have to be applied to.

Experts are placed on devices as blocks of E/G (G ≤ E), or every expert on G/E devices that share its rows evenly
(G > E). One of G and E must divide the other.

Shapes: S steps, L layers, E experts, G devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.statistics.machine import Machine

Array = NDArray[np.float64]

DEVICES = (1, 8, 64)  # numbers of devices that records and boards speak of
CAPACITY_FACTOR = 1.25  # of training that drops what does not fit, as boards report it


def fits(experts: int, devices: int) -> bool:
    """Whether so many devices share so many experts evenly."""
    return experts % devices == 0 or devices % experts == 0


def device_load(load_SLE: ArrayLike, devices: int) -> Array:
    """Rows per device, (S, L, G) for G ≤ E; beyond, the rows of one of each expert's devices, (S, L, E).

    Args:
        load_SLE: assignments per expert.

    Raises:
        ValueError: neither of G and E divides the other.
    """
    load = np.asarray(load_SLE, dtype=float)
    experts = load.shape[-1]
    if devices < 1 or not fits(experts, devices):
        raise ValueError(f"devices: {devices} do not share {experts} experts evenly; expected a divisor or a multiple")
    if devices >= experts:
        return load / (devices // experts)
    return load.reshape(*load.shape[:-1], devices, experts // devices).sum(-1)


def device_rows(load_SLE: ArrayLike, tokens_per_step: int, devices: int) -> Array:
    """Assignments that the slowest device of each layer computes for every token a device brings, summed over layers.

    Layers × k where the load is balanced, whatever the number of devices.

    Returns:
        (S,); the batch is shared by all devices.
    """
    return device_load(load_SLE, devices).max(-1).sum(-1) * devices / tokens_per_step


def mean_device_rows(load_SLE: ArrayLike, tokens_per_step: int) -> dict[str, float | None]:
    """`device_rows` averaged over training, for every count of DEVICES; null where it does not share the experts."""
    experts = np.shape(load_SLE)[-1]
    return {
        str(count): float(device_rows(load_SLE, tokens_per_step, count).mean()) if fits(experts, count) else None
        for count in DEVICES
    }


def sweep(
    load_SLE: ArrayLike, devices: Sequence[int], machine: Machine, tokens_per_step: int, top_k: int
) -> list[dict[str, Any]]:
    """Mean step time over the recorded steps against the number of devices; counts that do not fit are left out.

    Args:
        load_SLE: assignments per expert, of the steps that are to count (usually the tail of training).

    Returns:
        Per count: `devices`, `seconds`, `slowdown` (over the same batch spread evenly) and `device_max_vio` (mean over
        steps of Σ max_r n / Σ n̄ − 1, which expert-level MaxVio overstates).
    """
    load = np.asarray(load_SLE, dtype=float)
    layers, experts = load.shape[1:]
    even = float(load.sum((1, 2)).mean()) / tokens_per_step
    shown = []
    for count in devices:
        if not fits(experts, count):
            continue
        rows = float(device_rows(load, tokens_per_step, count).mean())
        seconds = machine.step_seconds(rows, count, layers, top_k)
        balanced = machine.step_seconds(even, count, layers, top_k)
        shown.append(
            {
                "devices": count,
                "seconds": seconds,
                "slowdown": seconds / balanced,
                "device_max_vio": rows / even - 1,
            }
        )
    return shown
