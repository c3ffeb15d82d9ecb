"""What a board knows of each task before it judges any arm: the practical margin, and whether the task can judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.records import Records, ranked_arms
from results.statistics import sensitivity
from results.statistics.estimates import Paired, paired_many
from results.statistics.horizons import Horizons
from results.statistics.margins import against_itself, horizons_of, paired_differences, practical_margins
from results.statistics.power import resolution


@dataclass(frozen=True)
class Tasks:
    """Task by task, by name."""

    aa: dict[str, Any] | None  # the baseline against itself
    margins: dict[str, dict[str, Any]]
    sensitivity: dict[str, dict[str, Any]]
    horizons: dict[str, Horizons | None]
    configs: dict[str, Mapping[str, Any]]  # each as the baseline's records have it

    def margin(self, task: str) -> float:
        return float(self.margins[task]["value"])

    def blunt(self, task: str) -> bool:
        return self.sensitivity[task]["word"] == "blunt"

    def described(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """A manifest's task with what the board adds: also what its baseline was trained with, and on."""
        name = task["name"]
        own = {"margin": self.margins[name], "sensitivity": self.sensitivity[name]}
        return {**task, **own, "recipe": _recipe(self.configs[name]), "corpus": _corpus(self.configs[name])}


def judge(manifest: Mapping[str, Any], records: Records) -> Tasks:
    """Margin and sensitivity of every task of a manifest."""
    aa = against_itself(manifest, records)
    margins = practical_margins(manifest, records, aa)
    names = [task["name"] for task in manifest["tasks"]]
    return Tasks(
        aa,
        margins,
        {name: _sensitivity(manifest, records, name, margins[name]["value"]) for name in names},
        {name: horizons_of(manifest, records, name) for name in names},
        {name: _config(records, manifest["baseline"], name) for name in names},
    )


def _config(records: Records, baseline: str, task: str) -> Mapping[str, Any]:
    """A task as the baseline's first record has it."""
    found = (outcome.record["config"]["task"] for outcome in records.cell(baseline, task) if outcome.record)
    return next(found, {})


def _recipe(task: Mapping[str, Any]) -> str | None:
    """The training recipe that a task's records name; those of protocol 1 name none."""
    return (task.get("rung") or {}).get("recipe")


def _corpus(task: Mapping[str, Any]) -> str | None:
    """What a task trains on, domains and mixture, as twelve characters that are the same for the same."""
    corpus = task.get("corpus")
    return hashlib.sha256(json.dumps(corpus, sort_keys=True).encode()).hexdigest()[:12] if corpus else None


def _sensitivity(manifest: Mapping[str, Any], records: Records, task: str, margin: float) -> dict[str, Any]:
    arms = [arm["arm"] for arm in ranked_arms(manifest) if arm["arm"] != manifest["baseline"]]
    compared = [arm for arm in arms if records.cell(arm, task)]
    summaries = paired_many(
        [paired_differences(records, arm, manifest["baseline"], task) for arm in compared], bootstrap=False
    )
    spread = sensitivity.spread([summary.sd for summary in summaries])
    found = sensitivity.gain(_ahead_of_the_twin(manifest, records, task))
    n = _seeds(summaries)
    finest = None if spread is None else resolution(n, spread, len(compared), margin)
    return sensitivity.summary(found, spread, finest) | {"n": n}


def _ahead_of_the_twin(manifest: Mapping[str, Any], records: Records, task: str) -> dict[str, dict[int, float]]:
    """Arm → seed → how far it is ahead of the dense twin, of causal arms that spend the same FLOPs on every token."""
    twin = manifest.get("twin")
    losses = records.losses(twin, task) if twin else {}
    if not losses:
        return {}
    equal = [
        arm["arm"]
        for arm in ranked_arms(manifest)
        if arm["arm"] != twin and arm.get("causal") is not False and not arm.get("variable_k") and not arm.get("task")
    ]
    ahead = {}
    for arm in equal:
        if any(outcome.status == "diverged" for outcome in records.cell(arm, task)):
            continue  # its finished seeds alone would flatter it
        own = {seed: losses[seed] - loss for seed, loss in records.losses(arm, task).items() if seed in losses}
        if own:
            ahead[arm] = own
    return ahead


def _seeds(summaries: Sequence[Paired]) -> int:
    """How many pairs a row of the task rests on: the middle one of its arms."""
    counts = sorted(summary.n for summary in summaries)
    return counts[len(counts) // 2] if counts else 0
