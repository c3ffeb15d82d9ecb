"""Differences in what people pay: training tokens, and time on 1, 8 and 64 devices.

Time is simulated from every trial's own recorded loads (`results.statistics.expert_parallel`) on a stated machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from results.records import Records
from results.statistics.expert_parallel import DEVICES
from results.statistics.horizons import Horizons, longer, tokens_saved
from results.statistics.machine import Machine
from results.statistics.margins import differences_by_seed


def savings(
    manifest: Mapping[str, Any],
    records: Records,
    arm: str,
    task: Mapping[str, Any],
    horizons: Horizons | None,
    machine: Machine,
) -> dict[str, Any]:
    """What a row says of tokens and time.

    Returns:
        `tokens_saved`: how much longer the baseline would have to train for the arm's loss, as a share of the horizon,
        with its interval; null without the baseline's other horizons. `step_time`: step time over the baseline's, by
        number of devices; `step_times`: the same of each seed. `time_saved`: how much longer than the arm the baseline
        would take for the arm's loss, by number of devices. Null where records do not say.
    """
    baseline = manifest["baseline"]
    slower = {count: _slower(manifest, records, arm, task, count, machine) for count in DEVICES}
    step_time = {
        str(count): math.exp2(math.fsum(ratio.values()) / len(ratio)) if ratio else None
        for count, ratio in slower.items()
    }
    by_seed = [
        {"seed": seed, **{str(count): math.exp2(ratio[seed]) for count, ratio in slower.items() if seed in ratio}}
        for seed in sorted(set().union(*slower.values()))
    ]
    saved: dict[str, Any] = {
        "tokens_saved": None,
        "time_saved": None,
        "step_time": step_time,
        "step_times": by_seed,
    }
    if horizons is None or horizons.curve is None or arm == baseline:
        return saved
    differences = differences_by_seed(records, arm, baseline, task["name"])
    saved["tokens_saved"] = tokens_saved(differences, horizons)
    saved["time_saved"] = {str(count): longer(differences, horizons, ratio) for count, ratio in slower.items()}
    return saved


def _slower(
    manifest: Mapping[str, Any], records: Records, arm: str, task: Mapping[str, Any], devices: int, machine: Machine
) -> dict[int, float]:
    """Seed → log₂ of the arm's step time over the baseline's, of seeds whose records hold both loads."""
    mine, theirs = (_seconds(manifest, records, name, task, devices, machine) for name in (arm, manifest["baseline"]))
    return {seed: math.log2(seconds / theirs[seed]) for seed, seconds in mine.items() if seed in theirs}


def _seconds(
    manifest: Mapping[str, Any], records: Records, arm: str, task: Mapping[str, Any], devices: int, machine: Machine
) -> dict[int, float]:
    layers, top_k = task.get("moe_layers"), task.get("top_k")
    if not layers or not top_k:
        return {}
    found = {}
    for outcome in records.cell(arm, task["name"]):
        rows = ((outcome.record or {}).get("measures", {}).get("device_rows") or {}).get(str(devices))
        if rows is not None and outcome.status == "finished":
            found[outcome.seed] = machine.step_seconds(rows, devices, layers, top_k, routed=arm != manifest.get("twin"))
    return found
