"""Published boards as the recommendation reads them, with losses that are chosen."""

from __future__ import annotations

import json
import statistics

import numpy as np

LEVELS = {"good": 3.0, "close": 3.005, "far": 3.3, "twin": 3.5}
EXTRA = {"good": {"knob": {"parameter": "rate", "grid": [1, 2]}}, "close": {"causal": False}}


def losses(level, seeds, salt, noise=0.01):
    rng = np.random.default_rng([int(1000 * level), salt])
    return {seed: float(level + rng.normal(0, noise)) for seed in range(seeds)}


def row(arm, task, by_seed, *, max_vio=0.5, step_time=None, diverged=0, causal=True):
    """`step_time`: over the baseline's on 64 devices, of all seeds or by seed."""
    dense = arm == "twin"
    by_seed_64 = step_time if isinstance(step_time, dict) else dict.fromkeys(by_seed, step_time)
    return {
        "arm": arm, "strategy": arm, "task": task, "title": arm.capitalize(), "causal": causal, "variable_k": False,
        "config": {"rate": 0.1}, "diverged": diverged,
        "step_times": [{"seed": s, "1": 1.0, "64": ratio} for s, ratio in by_seed_64.items()] if step_time else [],
        "max_vio_batch": 0.0 if dense else max_vio, "max_vio_global": 0.0 if dense else max_vio,
        "delta_loss": {"mean": statistics.fmean(by_seed.values()) - 3, "verdict": "tie"},
        "seeds": [
            {"seed": seed, "val_loss": loss, "trial_key": f"{arm}{seed}"}
            for seed, loss in by_seed.items()
        ],
    }  # fmt: skip


def board(suite="suite", *, track="as-published", protocol="2", tasks=("text-bench",), recipe="muon", word="fit",
          levels=LEVELS, seeds=8, experts=32, steps=500, total=1000, vio=None, salt=0, rows=None):  # fmt: skip
    """leaderboard.json and manifest.json of one board."""
    vio = vio or {}
    described = [
        {"name": task, "title": f"Task {task}", "rung": task.rpartition("-")[2], "top_k": 2,
         "experts": 256 if "sparse" in task else experts, "corpus": "facts" if "recall" in task else "text",
         "steps": steps, "tokens": steps * 2048, "recipe": recipe, "parameters": {"total": total, "active": total // 5},
         "margin": {"value": 0.01, "half": 0.3, "double": 0.2},
         **({"sensitivity": {"word": word, "gain": {"mean": 0.04}}} if word else {})}
        for task in tasks
    ]  # fmt: skip
    own = rows or [
        row(arm, task, losses(level, seeds, salt + 10 * number), max_vio=vio.get(arm, 0.5),
            causal=EXTRA.get(arm, {}).get("causal", True))
        for number, task in enumerate(tasks) for arm, level in levels.items()
    ]  # fmt: skip
    arms = [{"arm": arm, "strategy": arm, "title": arm, "knob": EXTRA.get(arm, {}).get("knob")} for arm in levels]
    name = suite if track == "as-published" else f"{suite}-{track}"
    content = {
        "suite": name, "title": name, "protocol_version": protocol, "track": track, "hardware": "CPU",
        "baseline": "far",
        "margins": dict.fromkeys(tasks, 0.01), "tasks": described, "rows": own,
    }  # fmt: skip
    return content, {"suite": name, "baseline": "far", "twin": "twin", "arms": arms}


def write(published, *boards):
    """Boards into a folder of published ones, each under its suite's name."""
    for content, manifest in boards:
        folder = published / content["suite"]
        folder.mkdir(parents=True)
        (folder / "leaderboard.json").write_text(json.dumps(content))
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return published
