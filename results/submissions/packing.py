"""From a home to an archive: what a submission needs, and nothing of the machine that it doesn't.

Hosts become host-1, host-2, … (which trials ran side by side matters to their speeds); jobs, process numbers and paths
are left out. Equal homes give equal archives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from results.records import load_record
from results.submissions import archive
from results.submissions.contents import environment
from results.submissions.safe import text_problem

RECORD = ("schema", "trial_key", "config", "facts", "task", "provenance", "status", "attempts", "measures", "timing")
ATTEMPT = ("started", "ended", "from_step", "to_step", "ended_by")
PROVENANCE = ("git_revision", "git_dirty", "packages", "hardware", "corpus_digest", "python", "platform", "started")
BUILD = ("backend", "ranks")  # of the experts' code, and how many processes


def cut(manifest: dict[str, Any], seeds: Sequence[int], arms: Sequence[str], tasks: Sequence[str]) -> dict[str, Any]:
    """The part of a manifest with these seeds, arms and tasks; an empty list leaves all."""
    kept_arms = [arm for arm in manifest["arms"] if not arms or arm["arm"] in arms]
    names = {arm["arm"] for arm in kept_arms}
    kept_tasks = [task for task in manifest["tasks"] if not tasks or task["name"] in tasks]
    trials = [
        trial
        for trial in manifest["trials"]
        if trial["arm"] in names
        and trial["task"] in {task["name"] for task in kept_tasks}
        and (not seeds or trial["seed"] in seeds)
    ]
    aa = manifest.get("aa_arm")
    return manifest | {
        "arms": kept_arms,
        "tasks": kept_tasks,
        "trials": sorted(trials, key=lambda trial: (trial["task"], trial["arm"], trial["seed"])),
        "aa_arm": aa if aa in names else None,
        "twin": manifest.get("twin") if manifest.get("twin") in names else None,
        "horizons": manifest.get("horizons") if names.issuperset((manifest.get("horizons") or {}).values()) else None,
    }


def unfinished(manifest: Mapping[str, Any], trials: Path) -> list[dict[str, Any]]:
    """The trials without a record: not run, or failed, which `run` may still mend."""
    return [trial for trial in manifest["trials"] if not (trials / trial["trial_key"] / "record.json").exists()]


def whole_seeds(manifest: Mapping[str, Any], trials: Path) -> int:
    """How many of the first seeds have every trial."""
    without = {trial["seed"] for trial in unfinished(manifest, trials)}
    seeds = seeds_of(manifest)
    return next((index for index, seed in enumerate(seeds) if seed in without), len(seeds))


def seeds_of(manifest: Mapping[str, Any]) -> list[int]:
    """A manifest's seeds, in its order."""
    return list(dict.fromkeys(trial["seed"] for trial in manifest["trials"]))


def pack(
    path: Path,
    manifests: Sequence[dict[str, Any]],
    trials: Path,
    *,
    by: str,
    version: str,
    plugins: Mapping[str, str] | None = None,
    choice: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a submission.

    Args:
        manifests: the board's, and behind it that of its tuning if there is one.
        trials: folder of the trials.
        by: who submits, as the board will show it.
        version: of Equipoise.
        plugins: source texts of strategies that do not come with Equipoise, by name.
        choice: what tuning chose.

    Returns:
        The archive's head.

    Raises:
        ValueError: something that cannot be submitted.
    """
    problem = text_problem(by, 60)
    if problem:
        raise ValueError(f"--by: {problem}")
    files: dict[str, Callable[[], bytes]] = {}
    environments: dict[bytes, dict[str, Any]] = {}
    hosts: dict[str, str] = {}
    for manifest in manifests:
        files[f"manifests/{manifest['suite']}.json"] = partial(encoded, manifest)
        for cell in manifest["trials"]:
            _add_trial(files, environments, hosts, trials / cell["trial_key"])
    for name, text in (plugins or {}).items():
        files[f"plugins/{name}.py"] = text.encode
    if choice is not None:
        files["choice.json"] = partial(encoded, dict(choice))
    head = {
        "schema": 1,
        "equipoise": version,
        "by": by,
        "board": manifests[0]["suite"],
        "environments": [environments[key] for key in sorted(environments)],
        "files": {name: hashlib.sha256(files[name]()).hexdigest() for name in sorted(files)},
    }
    files["submission.json"] = partial(encoded, head)
    archive.write(path, files)
    return head


def _add_trial(
    files: dict[str, Callable[[], bytes]],
    environments: dict[bytes, dict[str, Any]],
    hosts: dict[str, str],
    folder: Path,
) -> None:
    place = f"trials/{folder.name}"
    record = submitted(load_record(folder), hosts)
    made = environment(record)
    environments[encoded(made)] = made
    files[f"{place}/record.json"] = partial(encoded, record)
    files[f"{place}/curves.json"] = partial(curves, folder)
    for name in ("load", "val_load"):
        files[f"{place}/{name}.bin"] = partial(counts, folder, name)


def submitted(record: Mapping[str, Any], hosts: dict[str, str]) -> dict[str, Any]:
    """A record as it may leave home; `hosts` grows by the hosts met."""
    kept = {name: record[name] for name in RECORD if name in record}
    corpus = record["config"]["task"].get("corpus", {})
    if "path" in corpus:
        raise ValueError(
            f"trial {record['trial_key']}: trained on texts of your own ({Path(corpus['path']).name}), which nobody "
            "else has; expected a task's own corpus"
        )
    kept["provenance"] = {
        name: record["provenance"][name] for name in (*PROVENANCE, *BUILD) if name in record["provenance"]
    }
    kept["attempts"] = []
    for attempt in record.get("attempts") or []:
        host = hosts.setdefault(str(attempt.get("host")), f"host-{len(hosts) + 1}")
        unit = {"unit": attempt["unit"]} if attempt.get("unit") else {}
        kept["attempts"].append({name: attempt.get(name) for name in ATTEMPT} | {"host": host} | unit)
    return kept


def curves(folder: Path) -> bytes:
    """The curves as columns."""
    path = folder / "curves.parquet"
    if not path.exists():
        raise ValueError(f"{path}: not there; expected the curves of a trial that has a record")
    table = pq.read_table(path).to_pydict()
    return encoded({name: [_finite(value) for value in values] for name, values in table.items()}, indent=None)


def counts(folder: Path, name: str) -> bytes:
    """One array of `load.npz` as raw little-endian numbers."""
    path = folder / "load.npz"
    if not path.exists():
        raise ValueError(f"{path}: not there; a published record is without its loads and cannot be submitted again")
    with np.load(path, allow_pickle=False) as held:
        return np.ascontiguousarray(held[name], dtype="<u4" if name == "load" else "<u8").tobytes()


def encoded(value: Any, indent: int | None = 1) -> bytes:
    """JSON with sorted keys, no NaN."""
    return (json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
