"""From a trial's definition to what trains it: checked, built, and on its device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tasks
from strategies import registry as strategy_registry
from suite import NUMERICS, backends
from suite.storage.files import read_json
from suite.storage.trial import TrialFolder
from suite.training.memory import keep_freed_memory, start_counting_memory
from suite.training.model import Transformer
from tasks import Task

AGAIN = "run or submit its suite again"


@dataclass
class Opened:
    """A trial ready to train: its definition, its data and its model."""

    definition: dict[str, Any]
    task: Task
    source: tasks.Source
    model: Transformer
    device: torch.device
    precision: torch.dtype | None  # of autocast; None: everything in float32

    @property
    def seed(self) -> int:
        return int(self.definition["config"]["seed"])

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None)


def open_trial(folder: TrialFolder, cache: Path, ranks: int) -> Opened:
    """Check that the trial can be run here as it was planned, and build its model.

    Raises:
        ValueError: there is no such device, or engine, strategy or task are not what they were when it was planned.
    """
    definition = read_json(folder.trial)
    config = definition["config"]
    device = torch.device(config["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' is not there; expected a GPU, or --set device=cpu")
    keep_freed_memory()
    start_counting_memory(device)
    torch.set_num_threads(config["threads"])
    if config["numerics"] != NUMERICS:
        raise ValueError(f"trial {folder.key}: numerics {config['numerics']} is not this version's {NUMERICS}")
    for plugin in definition.get("plugins", []):
        strategy_registry.load_plugin(Path(plugin))
    cls = strategy_registry.get(config["strategy"]["name"])
    if strategy_registry.source_digest(cls) != config["strategy"]["source"]:
        raise ValueError(
            f"strategy {cls.name}: its code has changed since this trial was planned; {AGAIN}, with --plugin if it is "
            f"of one"
        )
    task = Task.model_validate(definition["task"])
    micro = task.rung.batch_sequences // task.rung.micro_batches
    if micro % ranks:
        raise ValueError(
            f"{ranks} processes cannot share a micro-batch of {micro} sequences; expected a divisor of {micro}"
        )
    if task.resolved() != config["task"]:
        raise ValueError(f"task {task.name}: it has changed since this trial was planned; {AGAIN}")
    source = tasks.open_source(task, cache, config["seed"])
    # a plug-in that draws from the global stream is still a function of its seed
    torch.manual_seed(int.from_bytes(hashlib.sha256(f"{config['seed']}/global".encode()).digest()[:7], "little"))
    settings = strategy_registry.make_config(cls, config["strategy"]["config"])
    model = Transformer(
        task.rung,
        lambda spec: strategy_registry.build(cls, spec, settings, config["strategy"]["terms"]),
        backends.get(config["backend"]).load(),
        config["seed"],
        torch.from_numpy(np.asarray(source.token_counts_V, dtype=np.float32)),
    ).to(device)
    precision = torch.bfloat16 if config["precision"] == "bfloat16" else None
    return Opened(definition, task, source, model, device, precision)
