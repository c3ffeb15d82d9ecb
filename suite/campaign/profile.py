"""Part: where the device's time goes in a whole step, kernel by kernel, by torch's profiler."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from torch.profiler import ProfilerActivity, profile

from suite.campaign.ledger import Campaign
from suite.campaign.machine import synchronise
from suite.campaign.training import open_training, take_steps


def kernels(campaign: Campaign, rung: dict[str, Any], strategy: str, backend: str) -> dict[str, Any]:
    """Milliseconds of a step by the clock and in kernels, how many kernels it launches, and which take longest."""
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
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as recorded:
        take_steps(training, settings["steps"])
        synchronise(campaign.device)
    spent: dict[str, float] = defaultdict(float)
    launches = 0
    for event in recorded.events() or []:
        seconds = (event.device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
        if seconds > 0 and event.name != "cudaDeviceSynchronize":
            spent[event.name] += seconds / settings["steps"]
            launches += 1
    busy = sum(spent.values())
    longest = sorted(spent.items(), key=lambda item: -item[1])[: settings["longest"]]
    return {
        "ms": 1000 * wall,
        "kernel_ms": 1000 * busy,
        "busy": busy / wall,
        "kernels": launches // settings["steps"],
        "longest": {name[:90]: 1000 * seconds for name, seconds in longest},
    }


def run(campaign: Campaign) -> bool:
    """A row per rung and strategy. Returns whether all could be measured."""
    ledger, settings = campaign.ledger("profile"), campaign.settings["profile"]
    for name, rung in settings["rungs"].items():
        for strategy in settings["strategies"]:
            for backend in settings["backends"]:
                ledger.measure(
                    {"rung": name, "strategy": strategy, "backend": backend},
                    lambda rung=rung, strategy=strategy, backend=backend: kernels(campaign, rung, strategy, backend),
                )
    ledger.note("`busy` is the time in kernels over the time of a step without the profiler.")
    columns = ["rung", "strategy", "backend", "ms", "kernel_ms", "busy", "kernels"]
    shown = [
        {"rung": row["rung"], "strategy": row["strategy"], "backend": row["backend"], "kernel": kernel, "ms a step": ms}
        for row in ledger.rows
        for kernel, ms in row.get("longest", {}).items()
    ]
    tables = [
        ("Steps", columns, ledger.rows),
        ("Longest kernels", ["rung", "strategy", "backend", "kernel", "ms a step"], shown),
    ]
    ledger.finish("Where a step's time goes", tables)
    return not any("failed" in row for row in ledger.rows)
