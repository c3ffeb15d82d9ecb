"""Part: how much more several small trials get out of one accelerator than one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

from suite.campaign import mps
from suite.campaign.ledger import Campaign
from suite.campaign.training import make_trial

PATIENCE = 180.0  # seconds for all processes to warm up


def start(campaign: Campaign, number: int) -> subprocess.Popen[str]:
    """A process that trains a trial of its own."""
    settings = campaign.settings["packing"]
    kind = {"backend": settings["backend"], "precision": settings["precision"], "device": campaign.device.type}
    home = campaign.scratch / str(number)
    folder = make_trial(home, settings["rung"], campaign.settings["arms"]["packed"], **kind)
    command = [sys.executable, "-P", "-m", "suite.campaign.packed", str(folder.path), str(home / "cache")]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(settings["seconds"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
    )


def together(campaign: Campaign, count: int) -> dict[str, Any]:
    """Tokens/s of `count` trials that train at the same time, added up."""
    processes = [start(campaign, number) for number in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                _, errors = process.communicate(timeout=PATIENCE)
                raise RuntimeError(errors.strip().splitlines()[-1] if errors.strip() else "a trial ended at once")
        results = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            out, errors = process.communicate(timeout=campaign.settings["packing"]["seconds"] + PATIENCE)
            if process.returncode:
                raise RuntimeError(errors.strip().splitlines()[-1] if errors.strip() else f"code {process.returncode}")
            results.append(json.loads(out))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    rates = [result["tokens"] / result["seconds"] for result in results]
    return {"tokens_per_second": sum(rates), "slowest": min(rates), "fastest": max(rates)}


def run(campaign: Campaign) -> bool:
    """All numbers of trials, without and with NVIDIA's Multi-Process Service. Returns whether all could be measured."""
    ledger = campaign.ledger("packing")
    on_gpu = campaign.device.type == "cuda"
    for with_mps in (False, True) if on_gpu and mps.installed() else (False,):
        with mps.shared(with_mps) as running:
            for count in campaign.settings["packing"]["at_once"]:
                ledger.measure({"at_once": count, "mps": running}, partial(together, campaign, count))
    alone = next((row.get("tokens_per_second") for row in ledger.rows if row["at_once"] == 1), None)
    for row in ledger.rows:
        if alone and "failed" not in row:
            row["gain"] = row["tokens_per_second"] / alone
    if on_gpu and not mps.installed():
        ledger.note("NVIDIA's Multi-Process Service is not installed here: processes take turns on the device.")
    columns = ["at_once", "mps", "tokens_per_second", "gain", "slowest", "fastest"]
    ledger.finish("Several trials on one accelerator", [("Tokens/s of all trials together", columns, ledger.rows)])
    return not any("failed" in row for row in ledger.rows)
