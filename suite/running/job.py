"""What a cluster job calls for one of its trials (the contract is stated in slurm/worker.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from suite.running.worker import INTERRUPTED, listen_for_signals, stop_requested

MIRROR_PATIENCE = 20.0


def run(key: str, folder: Path, payload: dict[str, Any]) -> int:
    """Train one trial, or go on with it. Returns 0 when its record is there.

    With a tracking server the job mirrors its own trial. A SQLite file is left to `equipoise sync`: many nodes writing
    one file over a shared file system damage it.
    """
    listen_for_signals()
    from suite.running.attempt import run_trial
    from suite.running.tracking import BackgroundMirror
    from suite.storage.trial import Busy
    from suite.training.trainer import Interrupted

    home = Path(payload["home"])
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    leads = os.environ.get("RANK", "0") == "0"
    mirror = None
    if leads and uri and not uri.startswith(("sqlite:", "file:")):
        mirror = BackgroundMirror(home, uri, {key: (payload["suite"], payload["names"].get(key, key))})
    try:
        run_trial(folder, home / "cache", report, stop_requested)
    except (Interrupted, Busy) as stopped:  # busy: what the last attempt left behind still ends; come back later
        print(stopped, flush=True)
        if mirror is not None:
            mirror.close(1.0)
        sys.exit(INTERRUPTED)
    except BaseException:
        if mirror is not None:  # the server is told that it failed
            mirror.close(MIRROR_PATIENCE)
        raise
    if mirror is not None and mirror.close(MIRROR_PATIENCE):
        print(
            f"MLflow has not received this trial ({mirror.error or 'slow'}): `equipoise sync` will send it", flush=True
        )
    return 0


def report(event: dict[str, Any]) -> None:
    """Lines for the job's log."""
    if event["event"] == "progress":
        print(f"step {event['step']}/{event['steps']} loss {event['train_loss']}", flush=True)
    else:
        print({name: value for name, value in event.items() if name != "key"}, flush=True)
