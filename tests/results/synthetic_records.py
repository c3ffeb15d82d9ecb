"""Synthetic suites: a manifest and a folder of schema-complete trials whose effects are chosen, not trained.

    manifest, trials_dir = write_suite(tmp_path, seeds=10, diverged={("plain", "mix-nano", 3)})

Losses are `level + seed effect + arm effect + noise`: the seed effect is shared by every arm (that is what pairing
removes), except by the A/A arm, which has seeds of its own. Loads are drawn from a skewed distribution that each
arm flattens at its own speed, and every load measure is computed from them.

Shapes: N steps, L layers, E experts.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HARDWARE = "CPU · Synthetic · 2 cores"
DOMAINS = ("drama", "scripture", "code")
CAPACITY_FACTORS = (1.0, 1.25, 1.5, 2.0)
HORIZONS = {"half": 0.10, "double": -0.08}  # nats/token, of the baseline's further runs
Trial = tuple[str, str, int]  # arm, task, seed


@dataclass(frozen=True)
class Arm:
    """One arm: its loss relative to the baseline's and how it balances."""

    name: str
    title: str
    effect: float = 0.0  # nats/token added to the loss
    noise: float = 0.002  # standard deviation of the loss beyond the seed's effect
    flatten: float = 0.05  # share of the remaining skew removed per step
    has_bias: bool = False
    slowdown: float = 0.0  # share of a step added to its time
    strategy: str | None = None  # several arms may be one strategy with other parameters
    config: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    causal: bool = True
    variable_k: bool = False
    note: str | None = None


ARMS = (
    Arm("plain", "No balancing", effect=0.030, flatten=0.0),
    Arm("penalty", "Penalty", flatten=0.03, slowdown=0.01, config={"coefficient": 0.01}),
    Arm("bias", "Signed bias", effect=-0.012, has_bias=True, slowdown=0.002, config={"rate": 0.001}),
    Arm("gentle", "Gentle bias", effect=-0.011, has_bias=True, flatten=0.04, slowdown=0.003, config={"rate": 0.0005}),
    Arm("gentle-fast", "Gentle bias, fast", effect=-0.009, has_bias=True, flatten=0.08, slowdown=0.003,
        strategy="gentle", config={"rate": 0.01}),
    Arm("table", "Fixed table", effect=0.0005, flatten=0.02, slowdown=-0.01),
)  # fmt: skip


def make_manifest(
    arms: Sequence[Arm] = ARMS,
    tasks: Sequence[str] = ("mix-nano",),
    seeds: int = 10,
    *,
    suite: str = "synthetic",
    baseline: str = "penalty",
    control: str | None = "plain",
    aa: bool = True,
    horizons: bool = False,
    twin: str | None = None,
    margin: float | None = 0.005,
    experts: int = 16,
    top_k: int = 2,
    steps: int = 120,
) -> dict[str, Any]:
    """The manifest of a suite of `arms` × `tasks` × `seeds`, with an A/A arm unless `aa` is false."""
    aa_arm = f"{baseline}-aa" if aa else None
    listed = list(arms)
    if aa_arm:
        base = next(arm for arm in arms if arm.name == baseline)
        listed.append(Arm(aa_arm, f"{base.title} (A/A)", strategy=base.strategy or base.name, config=base.config))
    if horizons:
        base = next(arm for arm in arms if arm.name == baseline)
        listed += [
            Arm(f"{baseline}-{name}", f"{base.title} ({name})", strategy=base.strategy or base.name, config=base.config)
            for name in ("half", "double")
        ]
    return {
        "schema": 1, "suite": suite, "title": f"Synthetic suite {suite}", "protocol_version": "1",
        "protocol_digest": hashlib.sha256(suite.encode()).hexdigest(), "baseline": baseline, "control": control,
        "aa_arm": aa_arm, "twin": twin,
        "horizons": {name: f"{baseline}-{name}" for name in ("half", "double")} if horizons else None,
        "margin": margin, "track": "as-published",
        "tasks": [
            {"name": task, "title": f"Task {task}", "rung": "nano", "steps": steps, "tokens": steps * 2048,
             "moe_layers": 2, "experts": experts, "top_k": top_k, "uniform_loss": math.log(1024)}
            for task in tasks
        ],
        "arms": [
            {"arm": arm.name, "strategy": arm.strategy or arm.name, "title": arm.title,
             "paper": {"citation": f"A. Author, {arm.title}", "year": 2024, "identifier": "arXiv:0000.00000"},
             "causal": arm.causal, "variable_k": arm.variable_k, "task": {},
             "config": dict(arm.config), "terms": dict(arm.terms),
             "knob": {"parameter": next(iter(arm.config), ""), "grid": [0.0001, 0.001, 0.01]}, "note": arm.note}
            for arm in listed
        ],
        "trials": [
            {"arm": arm.name, "task": task, "seed": seed, "trial_key": trial_key(suite, arm.name, task, seed)}
            for task in tasks for seed in range(seeds) for arm in listed
        ],
    }  # fmt: skip


def trial_key(suite: str, arm: str, task: str, seed: int) -> str:
    return hashlib.sha256(f"{suite}/{arm}/{task}/{seed}".encode()).hexdigest()[:16]


def write_suite(
    home: Path,
    arms: Sequence[Arm] = ARMS,
    tasks: Sequence[str] = ("mix-nano",),
    seeds: int = 10,
    *,
    diverged: Collection[Trial] = (),
    failed: Collection[Trial] = (),
    missing: Collection[Trial] = (),
    hardware: Mapping[str, str] | None = None,
    seed_effect: float = 0.01,
    layers: int = 2,
    curves: bool = True,
    **manifest_options: Any,
) -> tuple[dict[str, Any], Path]:
    """Write a suite under `home` and return its manifest and the folder of its trials.

    Args:
        diverged, failed, missing: trials as (arm, task, seed) that end so.
        hardware: label per arm, for boards that mix machines; `HARDWARE` otherwise.
        seed_effect: standard deviation of what a seed does to the loss of every arm alike.
        curves: also write curves.parquet and load.npz (about 10 ms a trial).
    """
    manifest = make_manifest(arms, tasks, seeds, **manifest_options)
    by_name = {arm.name: arm for arm in arms}
    trials_dir = home / "trials"
    for trial in manifest["trials"]:
        name: Trial = (trial["arm"], trial["task"], trial["seed"])
        if name in missing:
            continue
        folder = trials_dir / trial["trial_key"]
        folder.mkdir(parents=True, exist_ok=True)
        head = _head(manifest, trial, (hardware or {}).get(trial["arm"], HARDWARE))
        _write_json(folder / "trial.json", head)
        if name in failed:
            failure = {
                "error": "MemoryError",
                "message": "out of memory",
                "traceback": "",
                "step": 12,
                "time": "2026-01-01T00:01:00Z",
            }
            _write_json(folder / "failure.json", failure)
            continue
        arm = by_name.get(trial["arm"], by_name[manifest["baseline"]])
        loss = _loss(manifest, trial, arm, seed_effect)
        history = _history(manifest, trial, arm, layers, loss)
        _write_json(folder / "record.json", head | _record(manifest, arm, history, loss, name in diverged))
        if curves:
            _write_curves(folder, history, loss, name in diverged)
    path = home / "suites" / f"{manifest['suite']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_json(path, manifest)
    return manifest, trials_dir


@dataclass(frozen=True)
class History:
    """What a trial's steps leave behind."""

    load: np.ndarray  # (N, L, E)
    bias: np.ndarray | None  # (N, L, E)
    max_vio: np.ndarray  # (N, L)
    train_loss: np.ndarray  # (N,)
    seconds: np.ndarray  # (N,)
    tokens_per_step: int


def _rng(*words: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("/".join(map(str, words)).encode()))


def _loss(manifest: dict[str, Any], trial: dict[str, Any], arm: Arm, seed_effect: float) -> float:
    stream = trial["arm"] if trial["arm"] == manifest["aa_arm"] else "shared"
    level = 4.2 + 0.1 * (zlib.crc32(trial["task"].encode()) % 7)
    shared = seed_effect * _rng("seed", stream, trial["task"], trial["seed"]).standard_normal()
    own = arm.noise * _rng("own", trial["trial_key"]).standard_normal()
    horizon = HORIZONS.get(trial["arm"].removeprefix(f"{manifest['baseline']}-"), 0.0)
    return float(level + shared + arm.effect + horizon + own)


def _device_rows(load_NLE: np.ndarray, devices: int, tokens: int) -> float:
    """What the busiest of so many devices computes for each token it brings, summed over layers, mean over steps."""
    parts = np.array_split(load_NLE, devices, axis=-1) if devices <= load_NLE.shape[-1] else [load_NLE]
    own_GNL = [part.sum(-1) for part in parts] if len(parts) > 1 else [load_NLE.max(-1) * load_NLE.shape[-1] / devices]
    return (
        float((np.max(own_GNL, axis=0).sum(-1) * devices / tokens).mean())
        if devices > 1
        else float((load_NLE.sum((1, 2)) / tokens).mean())
    )


def _history(manifest: dict[str, Any], trial: dict[str, Any], arm: Arm, layers: int, loss: float) -> History:
    task = next(task for task in manifest["tasks"] if task["name"] == trial["task"])
    experts, top_k = task["experts"], task["top_k"]
    per_step = 2048
    steps = task["tokens"] // per_step
    rng = _rng("load", trial["trial_key"])
    skew_LE = 0.9 * _rng("skew", trial["task"], trial["seed"]).standard_normal((layers, experts))
    left_N = (1 - arm.flatten) ** np.arange(steps)
    logit_NLE = skew_LE * (0.15 + 0.85 * left_N)[:, None, None]
    share_NLE = np.exp(logit_NLE)
    share_NLE /= share_NLE.sum(-1, keepdims=True)
    load_NLE = rng.multinomial(per_step * top_k, share_NLE).astype(np.uint32)
    mean = per_step * top_k / experts
    return History(
        load=load_NLE,
        bias=(logit_NLE - skew_LE).astype(np.float32) * 0.2 if arm.has_bias else None,
        max_vio=load_NLE.max(-1) / mean - 1,
        train_loss=loss + (6.9 - loss) * np.exp(-np.arange(steps) / (steps / 5)) + 0.03 * rng.standard_normal(steps),
        seconds=np.cumsum(0.06 * (1 + arm.slowdown) * (1 + 0.02 * rng.random(steps))),
        tokens_per_step=per_step,
    )


def _head(manifest: dict[str, Any], trial: dict[str, Any], label: str) -> dict[str, Any]:
    arm = next(arm for arm in manifest["arms"] if arm["arm"] == trial["arm"])
    task = next(task for task in manifest["tasks"] if task["name"] == trial["task"])
    return {
        "schema": 1, "trial_key": trial["trial_key"],
        "config": {
            "strategy": {"name": arm["strategy"], "config": arm["config"], "terms": arm["terms"], "source": "0" * 64},
            "task": {"name": task["name"], "corpus": {"kind": "synthetic"}, "rung": {"name": task["rung"]}},
            "seed": trial["seed"], "backend": "grouped", "precision": "float32", "device": "cpu", "threads": 1,
            "numerics": 1,
        },
        "facts": {key: arm[key] for key in ("title", "paper", "causal", "knob")},
        "provenance": {
            "git_revision": "0" * 40, "git_dirty": False, "packages": {"torch": "2.13.0"},
            "hardware": {"label": label, "device": "cpu", "cores": 2}, "corpus_digest": "0" * 64, "python": "3.11.7",
            "started": "2026-01-01T00:00:00Z",
        },
    }  # fmt: skip


def _record(manifest: dict[str, Any], arm: Arm, history: History, loss: float, diverged: bool) -> dict[str, Any]:
    steps, _, experts = history.load.shape
    load_LE = history.load[-max(1, steps // 10) :].sum(0).astype(float)
    mean_L1 = load_LE.mean(-1, keepdims=True)
    share_LE = load_LE / load_LE.sum(-1, keepdims=True)
    vio_L = (load_LE.max(-1, keepdims=True) / mean_L1 - 1)[:, 0]
    sorted_LE = np.sort(share_LE, -1)
    gini = 1 + (1 - 2 * (np.cumsum(sorted_LE, -1)).sum(-1)) / experts
    tail_NL = history.max_vio[-max(1, steps // 5) :]
    assignments = history.load[0, 0].sum()
    floor = math.sqrt(2 * math.log(experts) * experts / assignments)
    seconds = float(history.seconds[-1])
    step_ms = 1000 * seconds / steps
    end = 31 if diverged else steps
    return {
        "status": "diverged" if diverged else "finished",
        "attempts": [{"started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:02:00Z", "host": "synthetic",
                      "from_step": 0, "to_step": end, "ended_by": "diverged" if diverged else "finished"}],
        "measures": {
            **({"diverged_at_step": end} if diverged else {}),
            "steps": end, "tokens": end * history.tokens_per_step,
            "val_loss": None if diverged else loss,
            "perplexity": None if diverged else math.exp(loss),
            "bits_per_byte": None if diverged else loss / math.log(2) / 2.9,
            "val_loss_by_domain": {} if diverged else {d: loss + 0.2 * (i - 1) for i, d in enumerate(DOMAINS)},
            "train_loss_tail": None if diverged else float(history.train_loss[-steps // 5 :].mean()),
            "max_vio_global": {"mean": float(vio_L.mean()), "worst": float(vio_L.max()), "layers": vio_L.tolist()},
            "max_vio_batch": {"tail_mean": float(tail_NL.mean()), "tail_worst": float(tail_NL.max(-1).mean()),
                              "peak": float(history.max_vio[steps // 10 :].mean(-1).max())},
            "noise_floor": {"batch": floor, "global": floor / 4},
            "balance": {
                "entropy": float((-(share_LE * np.log(share_LE)).sum(-1) / math.log(experts)).mean()),
                "cv": float((load_LE.std(-1) / mean_L1[:, 0]).mean()), "gini": float(gini.mean()),
                "min_max": float((load_LE.min(-1) / load_LE.max(-1)).mean()),
                "efficiency": float((1 / (1 + vio_L)).mean()),
            },
            "overflow": {
                str(cf): float((np.maximum(load_LE - np.ceil(cf * mean_L1), 0).sum(-1) / load_LE.sum(-1)).mean())
                for cf in CAPACITY_FACTORS
            },
            "dropped": {"1.25": float(
                (np.maximum(history.load - np.ceil(1.25 * history.load.mean(-1, keepdims=True)), 0).sum(-1)
                 / history.load.sum(-1)).mean()
            )},
            "device_rows": {
                str(devices): _device_rows(history.load.astype(float), devices, history.tokens_per_step)
                for devices in (1, 8, 64)
            },
            "dead_experts": {"zero_in_window": 0.0, "window_steps": 20,
                             "below_1_percent": float((load_LE < 0.01 * mean_L1).mean()), "functional": 0.0},
            "fluctuation": {"0.2": 0.4 - arm.flatten, "0.5": 0.3 - arm.flatten, "0.8": 0.15 - arm.flatten},
            "saturation": [{"progress": p, "share": 0.5 + 0.5 * p} for p in (0.1, 0.3, 0.5, 0.7, 0.9)],
            "bias": None if history.bias is None else {
                "max_abs": float(np.abs(history.bias[-1]).max()), "common": float(history.bias[-1].mean()),
                "mean_abs_step": float(np.abs(np.diff(history.bias, axis=0)).mean()), "flip_rate": 0.4,
                "tail_std": float(history.bias[-max(1, steps // 5) :].std(0).mean()),
            },
            "specialisation": 0.12, "parameters": {"total": 1_000_000, "active": 400_000},
            "flops_per_token": 2_400_000,
        },
        "timing": {
            "train_seconds": seconds, "tokens_per_second": steps * history.tokens_per_step / seconds,
            "peak_memory_bytes": 200_000_000, "mfu": None,
            "step_ms": {"total": step_ms, "cpu": 0.9 * step_ms, "route": 0.02 * step_ms, "dispatch": 0.05 * step_ms,
                        "experts": 0.5 * step_ms, "balance": max(0.0, arm.slowdown) * step_ms, "rest": 0.4 * step_ms},
        },
    }  # fmt: skip


def _write_curves(folder: Path, history: History, loss: float, diverged: bool) -> None:
    steps, _, experts = history.load.shape
    end = 31 if diverged else steps
    share_NLE = history.load / history.load.sum(-1, keepdims=True)
    entropy_N = -(share_NLE * np.log(np.maximum(share_NLE, 1e-12))).sum(-1).mean(-1) / math.log(experts)
    index_N = np.arange(1, steps + 1)
    bias = history.bias
    moves = None if bias is None else np.abs(np.diff(bias, axis=0, prepend=bias[:1]))
    none = pa.nulls(steps, pa.float64())
    val_loss = [loss + (6.9 - loss) * math.exp(-5 * n / steps) if n % (steps // 6 or 1) == 0 else None for n in index_N]
    if not diverged:
        val_loss[-1] = loss
    table = pa.table({
        "step": index_N, "tokens": index_N * history.tokens_per_step, "seconds": history.seconds,
        "train_loss": history.train_loss, "lr": 3e-3 * (0.55 + 0.45 * np.cos(np.pi * index_N / steps)),
        "grad_norm": np.full(steps, 0.5), "max_vio": history.max_vio.mean(-1),
        "max_vio_worst": history.max_vio.max(-1), "load_entropy": entropy_N,
        "bias_abs_max": none if bias is None else np.abs(bias).max((1, 2)).astype(float),
        "bias_common": none if bias is None else bias.mean((1, 2)).astype(float),
        "bias_step": none if moves is None else moves.mean((1, 2)).astype(float),
        "val_loss": pa.array(val_loss, pa.float64()),
    })  # fmt: skip
    pq.write_table(table.slice(0, end), folder / "curves.parquet")
    val_load_LE = history.load[-max(1, steps // 10) :].sum(0).astype(np.uint64)
    extra = {} if bias is None else {"bias": bias[:end]}
    np.savez_compressed(folder / "load.npz", load=history.load[:end], val_load=val_load_LE, **extra)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False), encoding="utf-8")
