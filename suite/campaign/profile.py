"""Part: where the device's time goes in a whole step, operation by operation, by torch's profiler."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from suite.campaign.ledger import Campaign
from suite.campaign.machine import synchronise
from suite.campaign.training import open_training, take_steps


def kernels(campaign: Campaign, rung: dict[str, Any], strategy: str, backend: str) -> dict[str, Any]:
    """Milliseconds of a step by the clock and in kernels, how many kernels it launches, and its longest operations."""
    settings = campaign.settings["profile"]
    kind = {"backend": backend, "precision": settings["precision"], "device": campaign.device.type}
    training = open_training(campaign.scratch, rung, strategy, **kind)
    take_steps(training, settings["warm_up"])
    synchronise(campaign.device)
    started = time.perf_counter()
    take_steps(training, settings["steps"])
    synchronise(campaign.device)
    wall = (time.perf_counter() - started) / settings["steps"]
    on_gpu = campaign.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as recorded:
        take_steps(training, settings["steps"])
        synchronise(campaign.device)
    # operations know what they launched; the kernels themselves are listed too, under names nobody can read
    spent = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / settings["steps"] / 1000
        for event in recorded.key_averages()
        if event.device_type == DeviceType.CPU
    }
    launched = [event for event in recorded.events() or [] if event.device_type == DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in launched) / settings["steps"] / 1000 if on_gpu else None
    longest = sorted(spent.items(), key=lambda item: -item[1])[: settings["longest"]]
    return {
        "ms": 1000 * wall,
        "kernel_ms": busy,
        "busy": busy / (1000 * wall) if busy is not None else None,
        "kernels": len(launched) // settings["steps"] if on_gpu else None,
        "longest": {name: milliseconds for name, milliseconds in longest if milliseconds > 0},
    }


def run(campaign: Campaign) -> bool:
    """A row per rung and strategy. Returns whether all could be measured."""
    ledger, settings = campaign.ledger("profile"), campaign.settings["profile"]
    for name, rung in settings["rungs"].items():
        for strategy in settings["strategies"]:
            for backend in settings["backends"]:
                ledger.measure(
                    {"rung": name, "strategy": strategy, "backend": backend},
                    partial(kernels, campaign, rung, strategy, backend),
                )
    ledger.note("`busy` is the time in kernels over the time of a step without the profiler.")
    columns = ["rung", "strategy", "backend", "ms", "kernel_ms", "busy", "kernels"]
    shown = [
        {key: row[key] for key in ("rung", "strategy", "backend")} | {"operation": name, "ms a step": milliseconds}
        for row in ledger.rows
        for name, milliseconds in row.get("longest", {}).items()
    ]
    tables = [
        ("Steps", columns, ledger.rows),
        ("Longest operations", ["rung", "strategy", "backend", "operation", "ms a step"], shown),
    ]
    ledger.finish("Where a step's time goes", tables)
    return not any("failed" in row for row in ledger.rows)
