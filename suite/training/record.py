"""From what a trial left while training to its record: the final measures, and the columnar copies of its curves.

Shapes: S steps, L MoE layers, E experts.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from results.statistics.expert_parallel import CAPACITY_FACTOR, mean_device_rows
from suite.storage.files import write_atomically
from suite.training import measures
from suite.training.evaluate import Evaluation, Probes
from suite.training.heldout import HeldOut
from suite.training.opening import Opened
from suite.training.recorder import SCALARS

CURVES = {"step": pa.int64(), "tokens": pa.int64()} | dict.fromkeys(
    (
        "seconds",
        "train_loss",
        "lr",
        "grad_norm",
        "max_vio",
        "max_vio_worst",
        "load_entropy",
        "val_loss",
        "bias_abs_max",
        "bias_common",
        "bias_step",
    ),
    pa.float64(),
)  # columns that are always there, null where there is nothing to say
WATCHED = (*SCALARS, "bias_abs_max")  # a gap in one of these is a divergence
LN2 = float(np.log(2))


def final_measures(
    opened: Opened,
    heldout: HeldOut,
    evaluation: Evaluation,
    curves: list[dict[str, Any]],
    load_SLE: NDArray[Any],
    bias_SLE: NDArray[Any] | None,
    diverged: bool,
) -> dict[str, Any]:
    """`measures` of a record, from the whole journal and the last evaluation."""
    rung, source, layers = opened.task.rung, opened.source, opened.model.moe_layers
    norm_LE = np.stack([layer.w_out_EFD.detach().float().flatten(1).norm(dim=1).cpu() for layer in layers])
    tail = max(1, len(curves) // 10)
    losses = [row["train_loss"] for row in curves[-tail:] if row["train_loss"] is not None]
    final = {
        "steps": len(curves),
        "tokens": len(curves) * rung.tokens_per_step,
        "train_loss_tail": float(np.mean(losses)) if losses else None,
        **quality_measures(evaluation, heldout.predicted_bytes),
        **load_measures(
            load_SLE, evaluation.load_LE, rung.warmup_steps, rung.tokens_per_step, heldout.predicted, rung.top_k
        ),
        "dead_experts": death_measures(load_SLE, norm_LE),
        **probe_measures(heldout.probes, layers[0].num_experts),
        "bias": None if bias_SLE is None else measures.bias_health(bias_SLE, measures.tail_length(len(curves))),
        "parameters": count_parameters(opened),
        "flops_per_token": rung.flops_per_token,
        "source_entropy": source.entropy,
        "source": source.summary(evaluation.loss_by_domain, count_parameters(opened)["total"]),
    }
    if diverged:
        step = next((row["step"] for row in curves if any(row.get(name, 0) is None for name in WATCHED)), None)
        final |= {"val_loss": None, "perplexity": None, "bits_per_byte": None, "diverged_at_step": step}
    return final


def count_parameters(opened: Opened) -> dict[str, int]:
    """Counted, not computed: all, and those one token uses."""
    rung, model = opened.task.rung, opened.model
    total = sum(parameter.numel() for parameter in model.parameters())
    idle = model.embedding.weight.numel() - rung.width  # a token reads one row of the embedding
    for layer in model.moe_layers:
        experts = layer.w_in_EDF.numel() + layer.w_out_EFD.numel()
        idle += experts - experts * min(rung.top_k, layer.num_experts) // layer.num_experts
    return {"total": total, "active": total - idle}


def load_measures(
    load_SLE: NDArray[Any], val_load_LE: NDArray[Any], warmup: int, tokens_per_step: int, val_tokens: int, top_k: int
) -> dict[str, Any]:
    """Everything computed from counts: MaxVio, noise floor, balance, overflow, deaths."""
    steps, _, experts = load_SLE.shape
    tail = measures.tail_length(steps)
    vio_SL = measures.max_vio(load_SLE)
    vio_L = measures.max_vio(val_load_LE)
    end_SLE = load_SLE[-tail:]
    after = vio_SL[min(warmup, steps - 1) :].mean(1)
    return {
        "max_vio_global": {"mean": vio_L.mean(), "worst": vio_L.max(), "layers": vio_L.tolist()},
        "max_vio_batch": {
            "tail_mean": vio_SL[-tail:].mean(),
            "tail_worst": vio_SL[-tail:].mean(0).max(),
            "peak": after.max(),
        },
        "noise_floor": {
            "batch": measures.noise_floor(tokens_per_step, experts, min(top_k, experts)),
            "global": measures.noise_floor(val_tokens, experts, min(top_k, experts)),
        },
        "balance": {
            "entropy": measures.entropy(end_SLE).mean(),
            "cv": measures.coefficient_of_variation(end_SLE).mean(),
            "gini": measures.gini(end_SLE).mean(),
            "min_max": measures.min_max(end_SLE).mean(),
            "efficiency": measures.efficiency(end_SLE).mean(),
        },
        "overflow": {str(cf): measures.overflow(end_SLE, cf).mean() for cf in measures.CAPACITY_FACTORS},
        "dropped": {str(CAPACITY_FACTOR): measures.overflow(load_SLE, CAPACITY_FACTOR).mean()},
        "device_rows": mean_device_rows(load_SLE, tokens_per_step),
    }


def death_measures(load_SLE: NDArray[Any], norm_LE: NDArray[Any]) -> dict[str, Any]:
    """The three readings of "dead expert", as shares of all experts."""
    window = min(measures.DEAD_WINDOW, len(load_SLE))
    return {
        "zero_in_window": measures.dead_in_window(load_SLE, window),
        "window_steps": window,
        "below_1_percent": measures.dead_by_share(load_SLE[-window:].sum(0)),
        "functional": measures.dead_by_norm(norm_LE),
    }


def quality_measures(evaluation: Evaluation, heldout_bytes: int) -> dict[str, Any]:
    """Held-out loss in nats per token, and the same per byte: comparable across tokenizers."""
    return {
        "val_loss": evaluation.loss,
        "perplexity": float(np.exp(min(evaluation.loss, 700.0))),
        "bits_per_byte": evaluation.nats / LN2 / heldout_bytes,
        "val_loss_by_domain": evaluation.loss_by_domain,
        "specialisation": float(np.mean([measures.specialisation(joint) for joint in evaluation.joint_LME])),
    }


def probe_measures(probes: Probes, experts: int) -> dict[str, Any]:
    """Routing fluctuation and saturation over the probes (the last one is the final model)."""
    if len(probes.progress) < 2:
        return {"fluctuation": None, "saturation": None}
    top, chosen = probes.arrays(experts)
    per_token = float(chosen[-1].sum(-1).mean()) or 1.0
    shares = measures.saturation(chosen, per_token)
    return {
        "fluctuation": measures.fluctuation(top, probes.progress),
        "saturation": [
            {"progress": progress, "share": share} for progress, share in zip(probes.progress, shares, strict=True)
        ],
    }


def write_columns(
    folder: Path, curves: list[dict[str, Any]], load_SLE: NDArray[Any], bias_SLE: NDArray[Any] | None, val_load: Any
) -> None:
    """`curves.parquet` and `load.npz`: on the disk before the record is, after which the journal goes."""
    names = list(dict.fromkeys([*CURVES, *(name for row in curves for name in row)]))
    columns = {name: pa.array([row.get(name) for row in curves], CURVES.get(name, pa.float64())) for name in names}
    table = io.BytesIO()
    pq.write_table(pa.table(columns), table, compression="zstd")
    write_atomically(folder / "curves.parquet", table.getvalue())
    arrays = {"load": load_SLE.astype(np.uint32), "val_load": np.asarray(val_load, dtype=np.uint64)}
    if bias_SLE is not None:
        arrays["bias"] = bias_SLE.astype(np.float32)
    archive = io.BytesIO()
    np.savez_compressed(archive, **arrays)  # type: ignore[arg-type]
    write_atomically(folder / "load.npz", archive.getvalue())
