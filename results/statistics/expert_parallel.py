"""What imbalance would cost under expert parallelism, from recorded loads: a model, not a measurement.

    t_step = t_rest + Σ_layers [ max_r (a + b·n_lr) + t_a2a(max_r bytes_lr) ]

The slowest device decides each layer, and layers wait for each other: the maximum is taken per layer, then summed. The
same routing serves forward and backward pass, which `b` and the bytes both include.

Experts are placed on devices as blocks of E/G (G ≤ E) or every expert on G/E devices that share its rows evenly
(G > E). One of G and E must divide the other.

Shapes: S steps, L layers, E experts, G devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Placement = Literal["contiguous", "greedy"]


@dataclass(frozen=True)
class Machine:
    """Costs of one device and its link.

    The defaults are illustrative, not measured: SwiGLU experts of width 2048 × 1024 in bfloat16 at 400 TFLOP/s
    (3 matrices, forward and backward: 38 MFLOP a row), 50 GB/s per device.
    """

    seconds_per_layer: float = 100e-6  # a: launches and the like, whatever the load
    seconds_per_row: float = 0.1e-6  # b: expert computation of one assignment, forward and backward
    bytes_per_row: float = 4096.0  # one hidden state
    exchanges: int = 4  # dispatch and combine, forward and backward
    bandwidth: float = 50e9  # bytes per second and device
    latency: float = 80e-6  # of a layer's exchanges together
    rest_seconds: float = 0.0  # attention, embeddings, optimizer


def device_load(load_SLE: ArrayLike, devices: int, placement: Placement = "contiguous") -> Array:
    """Rows per device, (S, L, G) for G ≤ E; beyond, the rows of one of each expert's devices, (S, L, E).

    Args:
        load_SLE: assignments per expert.
        placement: `contiguous`: expert e on device e·G/E; `greedy`: each layer's experts, heaviest over all steps
            first, to the least loaded device that still has room. One placement for the whole run, with hindsight.

    Raises:
        ValueError: neither of G and E divides the other, or the placement is unknown.
    """
    load = np.asarray(load_SLE, dtype=float)
    experts = load.shape[-1]
    if devices < 1 or (experts % devices and devices % experts):
        raise ValueError(f"devices: {devices} do not share {experts} experts evenly; expected a divisor or a multiple")
    if devices >= experts:
        return load / (devices // experts)
    if placement == "greedy":
        order_LE = _greedy_order(load.sum(0), devices)
        load = np.take_along_axis(load, order_LE[None], axis=-1)
    elif placement != "contiguous":
        raise ValueError(f"placement: {placement!r} is unknown; expected 'contiguous' or 'greedy'")
    return load.reshape(*load.shape[:-1], devices, experts // devices).sum(-1)


def _greedy_order(total_LE: Array, devices: int) -> NDArray[np.int64]:
    """Experts of each layer, listed device by device."""
    experts = total_LE.shape[1]
    room = experts // devices
    order_LE = np.empty(total_LE.shape, dtype=np.int64)
    for layer, total_E in enumerate(total_LE):
        carried_G = np.zeros(devices)
        held: list[list[int]] = [[] for _ in range(devices)]
        for expert in np.argsort(-total_E, kind="stable"):
            device = int(np.argmin(carried_G))
            held[device].append(int(expert))
            carried_G[device] += total_E[expert]
            if len(held[device]) == room:
                carried_G[device] = np.inf
        order_LE[layer] = np.concatenate(held)
    return order_LE


def step_seconds(
    load_SLE: ArrayLike, devices: int, machine: Machine | None = None, placement: Placement = "contiguous"
) -> Array:
    """Time of each step, (S,), with the load as recorded (the batch is shared by all devices)."""
    machine = machine or Machine()
    most_SL = device_load(load_SLE, devices, placement).max(-1)
    return _seconds(most_SL, devices, machine)


def balanced_seconds(load_SLE: ArrayLike, devices: int, machine: Machine | None = None) -> Array:
    """The same with every layer's rows spread evenly: nobody is faster, (S,)."""
    load = np.asarray(load_SLE, dtype=float)
    return _seconds(load.sum(-1) / devices, devices, machine or Machine())


def _seconds(most_SL: Array, devices: int, machine: Machine) -> Array:
    compute_SL = machine.seconds_per_layer + machine.seconds_per_row * most_SL
    elsewhere = (devices - 1) / devices  # share of a device's rows that come from another
    sent_SL = machine.exchanges * machine.bytes_per_row * elsewhere * most_SL
    exchange_SL = sent_SL / machine.bandwidth + (machine.latency if devices > 1 else 0.0)
    return machine.rest_seconds + (compute_SL + exchange_SL).sum(-1)


def sweep(
    load_SLE: ArrayLike,
    devices: Sequence[int],
    machine: Machine | None = None,
    placement: Placement = "contiguous",
    rows_per_device: float | None = None,
) -> list[dict[str, Any]]:
    """Mean step time over the recorded steps against the number of devices; counts that do not fit are left out.

    Args:
        load_SLE: assignments per expert, of the steps that are to count (usually the tail of training).
        rows_per_device: assignments per device and layer; the recorded shares are scaled to it, so that the batch grows
            with the devices (weak scaling). None: the batch stays as recorded.

    Returns:
        Per count: `devices`, `seconds`, `balanced_seconds`, `slowdown` (their ratio) and `device_max_vio` (mean over
        steps and layers of max_r n_r / n̄ − 1, which expert-level MaxVio overstates).
    """
    load = np.asarray(load_SLE, dtype=float)
    experts = load.shape[-1]
    shown = []
    for count in devices:
        if experts % count and count % experts:
            continue
        scale = 1.0 if rows_per_device is None else rows_per_device * count / load.sum(-1, keepdims=True)
        rows = load * scale
        most_SL = device_load(rows, count, placement).max(-1)
        seconds = float(_seconds(most_SL, count, machine or Machine()).mean())
        balanced = float(balanced_seconds(rows, count, machine).mean())
        violation = float((most_SL * count / rows.sum(-1)).mean()) - 1
        shown.append(
            {
                "devices": count,
                "seconds": seconds,
                "balanced_seconds": balanced,
                "slowdown": seconds / balanced,
                "device_max_vio": violation,
            }
        )
    return shown
