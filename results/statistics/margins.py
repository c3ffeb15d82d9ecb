"""Paired differences out of records, the baseline against itself, and the practical margin that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.records import Records
from results.statistics.estimates import paired_many


def paired_differences(records: Records, arm: str, other: str, task: str) -> list[float]:
    """`arm − other` in held-out loss, one per seed in which both finished."""
    losses = records.losses(other, task)
    return [loss - losses[seed] for seed, loss in records.losses(arm, task).items() if seed in losses]


def against_itself(manifest: Mapping[str, Any], records: Records) -> dict[str, Any] | None:
    """The A/A arm against the baseline, per task: what a difference of nothing looks like. None without such an arm."""
    arm, baseline = manifest.get("aa_arm"), manifest["baseline"]
    if not arm:
        return None
    tasks = [task["name"] for task in manifest["tasks"]]
    summaries = paired_many([paired_differences(records, arm, baseline, task) for task in tasks])
    shown = {}
    for task, summary in zip(tasks, summaries, strict=True):
        losses = records.losses(baseline, task)
        shown[task] = {
            "mean": summary.mean,
            "ci_low": summary.ci_low,
            "ci_high": summary.ci_high,
            "sd": summary.sd,
            "n": summary.n,
            "p_t": summary.p_t,
            "seeds": [
                {"seed": o.seed, "trial_key": o.trial_key, "status": o.status, "val_loss": o.val_loss}
                | {"delta": None if o.val_loss is None or o.seed not in losses else o.val_loss - losses[o.seed]}
                for o in records.cell(arm, task)
            ],
        }
    return {"arm": arm, "tasks": shown}


def practical_margins(manifest: Mapping[str, Any], aa: Mapping[str, Any] | None) -> dict[str, float]:
    """The practical margin of each task, in nats/token.

    The manifest's; where it has none, the standard deviation of one A/A difference: what changing the seed alone does.
    It does not shrink with the number of seeds. Without either it is 0, and no tie can be shown.
    """
    if manifest.get("margin") is not None:
        return {task["name"]: float(manifest["margin"]) for task in manifest["tasks"]}
    spreads = aa["tasks"] if aa else {}
    return {task["name"]: spreads.get(task["name"], {}).get("sd") or 0.0 for task in manifest["tasks"]}
