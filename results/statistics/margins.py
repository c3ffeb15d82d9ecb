"""Paired differences out of records, the baseline against itself, and the practical margin of each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.records import Records
from results.statistics.estimates import paired_many
from results.statistics.horizons import Horizons, token_margin


def paired_differences(records: Records, arm: str, other: str, task: str) -> list[float]:
    """`arm − other` in held-out loss, one per seed in which both finished."""
    return list(differences_by_seed(records, arm, other, task).values())


def differences_by_seed(records: Records, arm: str, other: str, task: str) -> dict[int, float]:
    """The same by seed."""
    losses = records.losses(other, task)
    return {seed: loss - losses[seed] for seed, loss in records.losses(arm, task).items() if seed in losses}


def horizons_of(manifest: Mapping[str, Any], records: Records, task: str) -> Horizons | None:
    """The baseline at half, whole and double the task's horizon; None where the suite has no such runs."""
    arms = manifest.get("horizons")
    if not arms:
        return None
    names = (arms["half"], manifest["baseline"], arms["double"])
    return Horizons.of(*(records.losses(name, task) for name in names))


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


def practical_margins(
    manifest: Mapping[str, Any], records: Records, aa: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """The practical margin of each task: `value` in nats/token, and its `source`.

    `stated`: the manifest's. Where it has none, `tokens`: what 2 % more training tokens would bring the baseline, from
    its runs at half, whole and double the horizon. Without those, `aa`: the standard deviation of one A/A difference,
    what changing the seed alone does; it does not shrink with the number of seeds. Without that either it is 0
    (`none`), and no tie can be shown.
    """
    return {task["name"]: _margin(manifest, records, aa, task["name"]) for task in manifest["tasks"]}


def _margin(manifest: Mapping[str, Any], records: Records, aa: Mapping[str, Any] | None, task: str) -> dict[str, Any]:
    if manifest.get("margin") is not None:
        return {"value": float(manifest["margin"]), "source": "stated"}
    horizons = horizons_of(manifest, records, task)
    worth = token_margin(horizons) if horizons else None
    if worth is not None:
        return worth
    spread = aa["tasks"].get(task, {}).get("sd") if aa else None
    return {"value": spread, "source": "aa"} if spread else {"value": 0.0, "source": "none"}
