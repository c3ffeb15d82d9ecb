"""Part: whole optimizer steps: tokens/s of each backend and rung, how often the host waits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from suite import backends
from suite.campaign.ledger import Campaign, Ledger
from suite.campaign.machine import synchronise
from suite.campaign.training import open_training, take_steps
from suite.training.trainer import Training

SPEED = ["ms", "tokens_per_second", "share_of_peak", "host_waits"]


def host_waits(step: Callable[[], Any], device: torch.device) -> int | None:
    """How often the host waits for the device in a call, by torch's own warnings; None where there is no device."""
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def timed(training: Training, steps: int) -> float:
    """Seconds of one step, over several."""
    synchronise(training.device)
    started = time.perf_counter()
    take_steps(training, steps)
    synchronise(training.device)
    return (time.perf_counter() - started) / steps


def speeds(training: Training, seconds: float, campaign: Campaign) -> dict[str, Any]:
    """What a step's time means."""
    rung = training.rung
    rate = rung.tokens_per_step / seconds
    peak = campaign.machine["peaks"][campaign.settings["step"]["precision"]]
    return {
        "ms": 1000 * seconds,
        "tokens_per_second": rate,
        "share_of_peak": rung.flops_per_token * rate / peak,
        "host_waits": host_waits(partial(take_steps, training, 1), campaign.device),
    }


def by_rung(ledger: Ledger) -> None:
    """A row per rung and backend, and one for the dense twin."""
    campaign = ledger.campaign
    settings, arms = campaign.settings["step"], campaign.settings["arms"]
    for name, rung in settings["rungs"].items():
        variants = [(arms["control"], backend) for backend in settings["backends"]]
        for strategy, backend in [*variants, (arms["dense"], settings["backends"][0])]:

            def measurement(rung: dict[str, Any] = rung, strategy: str = strategy, backend: str = backend) -> Any:
                training = open_training(
                    campaign.scratch,
                    rung,
                    strategy,
                    backend=backend,
                    precision=settings["precision"],
                    device=campaign.device.type,
                )
                take_steps(training, settings["warm_up"])
                times = [timed(training, settings["steps"]) for _ in range(settings["rounds"])]
                label = {"backend": backends.get(backend).label()}
                return label | speeds(training, median(times), campaign)

            ledger.measure({"rung": name, "strategy": strategy, "backend": backend}, measurement)
            if campaign.device.type == "cuda":
                torch.cuda.empty_cache()


def run(campaign: Campaign) -> bool:
    """A row per rung, backend and control. Returns whether everything could be measured."""
    ledger = campaign.ledger("step")
    by_rung(ledger)
    note_waits(ledger)
    ledger.finish(
        "Whole optimizer steps", [("By rung and backend", ["rung", "strategy", "backend", *SPEED], ledger.rows)]
    )
    return not any("failed" in row for row in ledger.rows)


def note_waits(ledger: Ledger) -> None:
    """How many kinds of step never wait, and what no step's time holds."""
    waits = [row["host_waits"] for row in ledger.rows if row.get("host_waits") is not None]
    if waits:
        ledger.note(f"{sum(count == 0 for count in waits)} of {len(waits)} kinds of step never wait for the device.")
    ledger.note("Batches were drawn beforehand: what drawing costs is not in these times.")
