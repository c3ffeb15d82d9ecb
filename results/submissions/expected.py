"""What a suite wants of a submission. The suite's side fills it in; nothing here knows how a suite is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

AA_SEEDS = 100_000  # the A/A arm draws from the seeds that begin here


def trial_key(config: Mapping[str, Any]) -> str:
    """The key of a trial, from its resolved configuration alone (docs/formats.md)."""
    cell = {name: value for name, value in config.items() if name != "seed"}
    text = json.dumps(cell, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return hashlib.sha256(f"{digest}/{config['seed']}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Expected:
    """A suite as this version of Equipoise understands it."""

    manifest: Mapping[str, Any]  # as its own run would write it, all seeds and arms
    seeds: Sequence[int]
    configs: Mapping[tuple[str, str], Mapping[str, Any]]  # of each arm and task, without the seed
    facts: Mapping[str, Mapping[str, Any]]  # of every strategy that comes with Equipoise, by name
    sources: Mapping[str, str]  # digests of the code of the same strategies
    floors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # noise floors, by task
    listed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # further arms of its file

    @property
    def arms(self) -> Mapping[str, Mapping[str, Any]]:
        """The suite's own arms, by name."""
        return {arm["arm"]: arm for arm in self.manifest["arms"]}
