"""A trial that only counts, for jobs on the test cluster. What it should do wrong is in the payload, by key."""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

_asked = False


def _ask(*_):
    global _asked
    _asked = True


def run(key, folder, payload):
    """Hash the key payload["steps"] times, with a checkpoint on the signal and every payload["every"] steps."""
    signal.signal(signal.SIGUSR2, _ask)
    signal.signal(signal.SIGTERM, _ask)
    if payload.get("mischief", {}).get(key) == "deaf":
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mischief = payload.get("mischief", {}).get(key, "")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.json"
    start, value = json.loads(checkpoint.read_text()).values() if checkpoint.exists() else (0, key)
    history = folder / "attempts.jsonl"
    with history.open("a") as file:
        node = os.environ.get("SLURMD_NODENAME")
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        pid = os.getpid()
        file.write(json.dumps({"from": start, "node": node, "restarts": restarts, "pid": pid}) + "\n")
    if mischief == "needs peers":
        (folder / f"pid.{restarts}.{os.environ['RANK']}").write_text(str(os.getpid()))
    if mischief == "fail":
        print("about to divide")
        raise ZeroDivisionError("this trial divides by zero")
    if node in payload.get("broken", ()):
        raise OSError("no device")
    if mischief == "code":
        sys.exit(9)
    if mischief == "silent":
        return
    for step in range(start, payload["steps"]):
        _status(folder, step, payload["steps"])
        if mischief == f"fail at {step}":
            (folder / "failure.json").write_text(json.dumps({"error": "E", "message": "m", "step": step}))
            raise ZeroDivisionError("late")
        if mischief == "die" or (mischief == "die once" and start == 0 and step == 3):
            if mischief == "die once":
                _checkpoint(folder, step, value)
            os.kill(os.getpid(), signal.SIGKILL)
        if mischief == "needs peers":
            _meet(folder.glob(f"pid.{restarts}.*"))
        if _asked:
            _checkpoint(folder, step, value)
            print("interrupted at", step)
            sys.exit(75)
        if step and step % payload.get("every", 1000) == 0:
            _checkpoint(folder, step, value)
        value = hashlib.sha256(value.encode()).hexdigest()
        time.sleep(payload.get("seconds", 0.0))
    if mischief == "needs peers":
        (folder / f"pid.{restarts}.{os.environ['RANK']}").unlink()
    import tasks

    names = (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
    )
    said = {
        "value": value,
        "environ": {name: os.environ.get(name) for name in (*names, *payload.get("show", []))},
        "cwd": os.getcwd(),
        "tasks": tasks.__file__,
        "job": os.environ.get("SLURM_JOB_ID"),
        "node": os.environ.get("SLURMD_NODENAME"),
    }
    if os.environ.get("RANK", "0") != "0":
        (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(said))
        return
    draft = folder / ".record"
    draft.write_text(json.dumps(said))
    draft.rename(folder / "record.json")


def _meet(peers):
    """What an all-reduce does when another rank has died; the ranks are on one machine."""
    for peer in peers:
        try:
            state = Path(f"/proc/{peer.read_text() or os.getpid()}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = "gone"
        if state in ("gone", "Z", "X") and peer.exists():  # one that has ended well took its file with it
            raise ConnectionError("connection closed by peer")


def _checkpoint(folder: Path, step: int, value: str) -> None:
    draft = folder / f".checkpoint.{os.getpid()}"
    draft.write_text(json.dumps({"step": step, "value": value}))
    draft.rename(folder / "checkpoint.json")


def _status(folder: Path, step: int, steps: int) -> None:
    updated = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"state": "running", "step": step, "steps": steps, "train_loss": 4.5, "seconds_per_step": 0.5}
    draft = folder / f".status.{os.getpid()}"
    draft.write_text(json.dumps(said | {"updated": updated, "host": os.uname().nodename, "pid": os.getpid()}))
    draft.rename(folder / "status.json")
