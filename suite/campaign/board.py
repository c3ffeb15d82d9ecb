"""Part: a board of its own hardware, trained as far as the time goes.

Finished trials are packed into archives beside the results, and unpacked again by the next sitting, which may be on
another machine: `--out` is all that has to be kept.
"""

from __future__ import annotations

import signal
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results.text import counted
from suite.campaign import mps
from suite.campaign.ledger import Campaign, Ledger
from suite.planning import config, library
from suite.planning.plan import Plan, make_plan, states
from suite.running.runner import Runner
from suite.storage.files import read_json

KEPT = ("trial.json", "record.json", "curves.parquet", "load.npz")
ARCHIVE_BYTES = 15 * 2**20  # of finished trials in one archive, about
SPARE_SECONDS = 30.0  # to stop what is running and to pack


def unpack(out: Path, home: Path) -> tuple[int, set[str]]:
    """Bring back the trials of earlier sittings. Returns the last archive's number, and the trials' keys."""
    last, keys = 0, set()
    for path in sorted(out.glob("board-*.tar.gz")):
        with tarfile.open(path) as archive:
            if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on
                archive.extraction_filter = staticmethod(tarfile.data_filter)
            archive.extractall(home)
            keys |= {Path(name).parent.name for name in archive.getnames() if name.startswith("trials/")}
        last = int(path.name.removeprefix("board-").removesuffix(".tar.gz"))
    return last, keys


def pack(out: Path, home: Path, keys: list[str], last: int, manifest: Path) -> list[Path]:
    """Archives of finished trials, numbered from `last` + 1 on; the newest has the plan of all of them too."""
    batches: list[list[Path]] = [[]]
    size = 0
    for key in keys:
        files = [home / "trials" / key / name for name in KEPT if (home / "trials" / key / name).exists()]
        weight = sum(path.stat().st_size for path in files)
        if batches[-1] and size + weight > ARCHIVE_BYTES:
            batches.append([])
            size = 0
        batches[-1] += files
        size += weight
    made = []
    if batches[-1]:
        batches[-1].append(manifest)
    for index, files in enumerate(filter(None, batches), start=last + 1):
        made.append(out / f"board-{index:03}.tar.gz")
        unfinished = made[-1].with_name(f".{made[-1].name}")
        with tarfile.open(unfinished, "w:gz", compresslevel=1) as archive:
            for path in files:
                archive.add(path, path.relative_to(home))
        unfinished.replace(made[-1])
    return made


def make_board(campaign: Campaign) -> Plan:
    """The suite's plan on this machine."""
    settings = campaign.settings["board"]
    stated = settings["suite"]
    suite = library.load(stated) if isinstance(stated, str) else config.parse(stated, "campaign.yaml")
    suite, task_settings = config.apply_overrides(suite, {**settings["set"], "device": campaign.device.type})
    return make_plan(
        suite, task_settings, only_tasks=campaign.tasks, seeds=range(campaign.seeds or 0), home=campaign.home
    )


@contextmanager
def until_time_is_over(ledger: Ledger) -> Iterator[None]:
    """Stop a runner within when the part's time is nearly over."""

    def out_of_time(*_: Any) -> None:
        raise KeyboardInterrupt  # what the runner takes as a request to checkpoint and stop

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, ledger.seconds_left() - SPARE_SECONDS))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(campaign: Campaign) -> bool:
    """Train what has no record. Returns whether no trial failed."""
    import tasks

    ledger, home = campaign.ledger("board"), campaign.home
    last, packed = unpack(campaign.out, home)
    plan = make_board(campaign)
    for task in {trial.cell.task.name: trial.cell.task for trial in plan.trials}.values():
        tasks.prepare(task, home / "cache", print)
    manifest = plan.write_manifest(home)
    events: Counter[str] = Counter()

    def watch(event: dict[str, Any]) -> None:
        events[event["event"]] += 1
        if event["event"] == "done":
            measures = read_json(home / "trials" / event["key"] / "record.json")
            ledger.add(summary(plan, event["key"], measures))

    runner = Runner(plan, home, campaign.jobs, watch)
    with mps.shared(campaign.device.type == "cuda") as running, until_time_is_over(ledger):
        outcome = runner.run()
    # asked of the folders: a trial can end after the runner was told to stop
    keys = dict.fromkeys(trial.key for trial in plan.trials if plan.folder(home, trial).done)
    rows = {(row["arm"], row["task"], row["seed"]) for row in ledger.rows}
    done, held = [key for key in keys if key not in packed], [key for key in keys if key in packed]
    for key in done:
        row = summary(plan, key, read_json(home / "trials" / key / "record.json"))
        if (row["arm"], row["task"], row["seed"]) not in rows:
            ledger.add(row)
    archives = pack(campaign.out, home, done, last, manifest)
    counts = Counter(states(plan, home).values())
    ledger.note(
        f"{counted(len(done), 'trial')} finished in this sitting, {len(held)} were there; "
        f"{counts['done']} of {counts.total()} done. Multi-Process Service: {'on' if running else 'off'}."
    )
    for key, why in outcome.failed.items():
        ledger.note(f"failed: {key}: {why}")
    ledger.note(f"{counted(len(archives), 'new archive')}; to be kept where the next sitting's --out is.")
    columns = ["arm", "task", "seed", "status", "val_loss", "max_vio", "train_seconds", "tokens_per_second"]
    ledger.finish(f"Board: {plan.suite.title}", [("Trials of this sitting", columns, ledger.rows)])
    return not outcome.failed


def summary(plan: Plan, key: str, record: dict[str, Any]) -> dict[str, Any]:
    """A finished trial in a row."""
    trial = next(trial for trial in plan.trials if trial.key == key)
    return {
        "arm": trial.arm,
        "task": trial.task,
        "seed": trial.seed,
        "status": record["status"],
        "val_loss": record["measures"]["val_loss"],
        "max_vio": record["measures"]["max_vio_batch"]["tail_mean"],
        "train_seconds": record["timing"]["train_seconds"],
        "tokens_per_second": record["timing"]["tokens_per_second"],
    }
