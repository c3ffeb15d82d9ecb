"""Which figures one task has, with their captions and text alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from results.plots import balance, biases, charts, curves, devices, loads
from results.plots.aggregate import few_seeds
from results.plots.picture import Picture, picture, spoken
from results.plots.sources import MAX_SEEDS, Evidence
from results.plots.style import ArmStyle
from results.records import beside
from results.statistics.expert_parallel import sweep
from results.statistics.machine import Machine

READINGS = {"zero_in_window": "no token in a window", "below_1_percent": "load < 1 %", "functional": "functionally"}
DEVICES = tuple(2**power for power in range(11))
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One figure: how it is drawn as a file, and what the page draws."""

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    chart: charts.Chart
    of: str = ""
    view: str = ""


def of_task(
    board: Row, manifest: Row, task: str, evidence: Evidence, styles: Mapping[str, ArmStyle], prefix: str
) -> list[Picture]:
    """Every figure of one task that its records can fill, in reading order; the forest plot stands apart."""
    rows = [row for row in board["rows"] if row["task"] == task]
    makers = (_losses, _trade_off, _violation, _loads, _biases, _capacity, _devices)
    pictures = []
    for maker in makers:
        for one in maker(board, manifest, rows, evidence, styles):
            of = f"{prefix}-{one.of or one.name}"
            drawing = one.draw()
            pictures.append(
                picture(f"{prefix}-{one.name}", one.title, one.caption, one.alt, drawing, one.chart, of, one.view)
            )
    return pictures


def _losses(board: Row, manifest: Row, rows: Sequence[Row], evidence: Evidence, styles: Any) -> Iterator[Entry]:
    table, base = evidence.evaluations, board["baseline"]
    if table.empty:
        return
    seeds, nats = _seeds(table, rows), {"unit": "nats"}
    final = table[~table["diverged"].astype(bool)].sort_values("step").groupby(["arm", "seed"]).tail(1)
    means = final.groupby("arm")["val_loss"].mean()
    alt = "Final held-out loss: " + spoken([f"{styles[arm].title} {means[arm]:.4f}" for arm in styles if arm in means])
    band = f"Mean over seeds ({seeds}); band: {_band(table)}. × marks a run that diverged."
    if (table["arm"] == base).any() and table["arm"].nunique() > 1:
        caption = (
            f"Held-out loss minus the baseline's of the same seed at the same step ({seeds}); band: {_band(table)}."
        )
        paired = curves.differences(table, base)
        chart = charts.over_training(paired, styles, "tokens", "difference", labels=("training tokens", curves.CHANGE),
                                     x_unit="tokens", settled=0.3, zero=True, **nats)  # fmt: skip
        yield Entry("difference-tokens", "Difference against tokens", caption, alt,
                    lambda: curves.difference_against_tokens(paired, styles, base), chart, "loss",
                    "difference to the baseline")  # fmt: skip
    chart = charts.over_training(table, styles, "tokens", "val_loss", labels=("training tokens", curves.LOSS),
                                 x_unit="tokens", settled=0.3, **nats)  # fmt: skip
    yield Entry("loss-tokens", "Loss against tokens", f"Held-out loss. {band} The first fall runs off the top.", alt,
                lambda: curves.loss_against_tokens(table, styles, base), chart, "loss", "loss")  # fmt: skip
    if board.get("at_once", 0) > 1 or board.get("processors"):
        return  # a second of a trial that shared its device, or of another processor, is not another's
    caption = f"The same against training time on {board['hardware']}. {band}"
    chart = charts.over_training(table, styles, "seconds", "val_loss", labels=("training time (s)", curves.LOSS),
                                 x_unit="s", settled=0.3, **nats)  # fmt: skip
    yield Entry("loss-time", "Loss against time", caption, alt,
                lambda: curves.loss_against_time(table, styles, base), chart, "loss", "loss by time")  # fmt: skip


def _trade_off(board: Row, manifest: Row, rows: Sequence[Row], evidence: Evidence, styles: Any) -> Iterator[Entry]:
    points = evidence.points.dropna()
    if points.empty:
        return
    floor = _floor(rows, "global")
    joined = families(manifest)
    caption = (
        "Held-out loss against MaxVio on the held-out set; lower and further left is better. Large points: means over "
        f"seeds; small ones: single seeds ({_seeds(points, rows)}). "
        + ("Lines join one strategy at several values of its knob. " if joined else "")
        + (f"Grey: the noise floor, {floor:.3f}." if floor else "")
    )
    means = points.groupby("arm")[["max_vio", "val_loss"]].mean()
    said = [
        f"{styles[a].title} MaxVio {means.max_vio[a]:.3f}, loss {means.val_loss[a]:.4f}"
        for a in styles
        if a in means.index
    ]
    chart = charts.points(points, joined, styles, floor, ("MaxVio (held-out set)", curves.LOSS))
    yield Entry("pareto", "Loss and balance", caption, spoken(said),
                lambda: balance.pareto(points, joined, styles, floor), chart)  # fmt: skip


def _violation(board: Row, manifest: Row, rows: Sequence[Row], evidence: Evidence, styles: Any) -> Iterator[Entry]:
    table = evidence.curves
    if table.empty:
        return
    floor = _floor(rows, "batch")
    caption = (
        f"MaxVio of each step's batch, mean over layers and over seeds ({_seeds(table, rows)}), logarithmic; "
        f"band: {_band(table)}."
        + (f" Grey: the noise floor, what sampling alone gives a balanced router ({floor:.3f})." if floor else "")
    )
    said = [
        f"{styles[row['arm']].title} {row['max_vio_batch']:.3f}" for row in rows if row["max_vio_batch"] is not None
    ]
    look = {"log": "y"} | ({"floor": floor} if floor else {})
    chart = charts.over_training(table, styles, "step", "max_vio", labels=("step", "MaxVio"), x_unit="steps", **look)
    yield Entry("max-vio", "MaxVio against step", caption, "MaxVio over the last fifth of training: " + spoken(said),
                lambda: curves.max_vio_against_step(table, styles, board["baseline"], floor), chart)  # fmt: skip


def _loads(board: Row, manifest: Row, rows: Sequence[Row], evidence: Evidence, styles: Any) -> Iterator[Entry]:
    if not evidence.loads:
        return
    layer = _worst_layer(evidence)
    shown = {arm: run.load_NLE[:, layer] for arm, run in evidence.loads.items()}
    steps = max((run.steps_N for run in evidence.loads.values()), key=len)
    caption = (
        f"Load of each expert over its ideal, MoE layer {layer + 1} (the least balanced), seed {evidence.load_seed}. "
        "One strip per arm, experts sorted by load at the end of training, the heaviest on top; blue is less than the "
        "ideal, orange more, no colour balanced."
    )
    said = [f"{styles[arm].title} {load_NE[-1].max():.2f}" for arm, load_NE in shown.items()]
    yield Entry("loads", "Load of every expert", caption, "Largest load over ideal at the end: " + spoken(said),
                lambda: loads.load_heatmap(shown, steps, styles),
                charts.heat(shown, steps, styles, loads.REACH))  # fmt: skip


def _biases(board: Row, manifest: Row, rows: Sequence[Row], evidence: Evidence, styles: Any) -> Iterator[Entry]:
    if not any(run.bias_NLE is not None for run in evidence.loads.values()):
        return
    layer = _worst_layer(evidence)
    shown = {arm: run.bias_NLE[:, layer] for arm, run in evidence.loads.items() if run.bias_NLE is not None}
    steps = max((evidence.loads[arm].steps_N for arm in shown), key=len)
    caption = (
        f"What a bias rule adds to an expert's score for selection, MoE layer {layer + 1}, seed {evidence.load_seed}. "
        f"Band: all experts; lines: {biases.EXPERTS_SHOWN} of them, from lowest to highest."
    )
    said = [f"{styles[arm].title} {np.abs(bias_NE[-1]).max():.3f}" for arm, bias_NE in shown.items()]
    chart = charts.panels(shown, steps, styles, biases.EXPERTS_SHOWN)
    yield Entry("biases", "Bias trajectories", caption, "Largest absolute bias at the end: " + spoken(said),
                lambda: biases.bias_trajectories(shown, steps, styles), chart)  # fmt: skip


def _capacity(board: Row, manifest: Row, rows: Sequence[Row], evidence: Evidence, styles: Any) -> Iterator[Entry]:
    dropped = {
        row["arm"]: {k: v for k, v in row["overflow"].items() if v is not None} for row in rows if row["overflow"]
    }
    dropped = {arm: shares for arm, shares in dropped.items() if shares}
    if dropped:
        caption = (
            "Assignments that a capacity limit would drop, mean over seeds. Nothing was dropped in these runs: it is "
            "what a capacity-limited run with the same loads would lose."
        )
        said = [f"{styles[arm].title} {shares['1.25']:.1%}" for arm, shares in dropped.items() if "1.25" in shares]
        factors, shares = balance.common_factors(dropped)
        labels = ("capacity factor", "assignments over capacity (%)")
        chart = charts.lines(factors, shares, styles, labels, "× capacity",
                             unit="%", base=0, ticks=factors, named=0)  # fmt: skip
        yield Entry("overflow", "Overflow", caption, "At capacity factor 1.25: " + spoken(said),
                    lambda: balance.overflow(dropped, styles, board["baseline"]), chart)  # fmt: skip
    dead = [
        {"arm": row["arm"], "reading": words, "share": row["dead_expert_readings"][key]}
        for row in rows
        for key, words in READINGS.items()
        if (row["dead_expert_readings"] or {}).get(key) is not None
    ]
    if dead:
        caption = (
            "Share of experts that are dead, mean over seeds, by three readings: no token within a window of steps, "
            "load under 1 % of the mean, and output weights of a norm under 10 % of the layer's median."
        )
        said = [
            f"{styles[row['arm']].title} {row['dead_experts']:.1%}" for row in rows if row["dead_experts"] is not None
        ]
        chart = charts.rows(_marked(dead, "reading", list(READINGS.values()), styles), list(READINGS.values()),
                            "experts (%)", unit="%", base=0, shapes=["o", "s", "D"])  # fmt: skip
        yield Entry("dead", "Dead experts", caption, "Experts under 1 % of the mean load: " + spoken(said),
                    lambda: balance.dead_experts(pd.DataFrame(dead), styles), chart)  # fmt: skip
    moved = [
        {"arm": row["arm"], "after": float(after), "share": share}
        for row in rows
        for after, share in (row["fluctuation"] or {}).items()
        if share is not None
    ]
    if moved:
        caption = (
            "Held-out tokens whose first expert still changes after a share of training, mean over seeds. "
            "Fewer is calmer."
        )
        said = [f"{styles[m['arm']].title} {m['share']:.1%}" for m in moved if m["after"] == 0.8]
        after = sorted({entry["after"] for entry in moved})
        chart = charts.rows(_marked(moved, "after", after, styles), [f"after {share:.0%}" for share in after],
                            "held-out tokens (%)", unit="%", base=0)  # fmt: skip
        yield Entry("fluctuation", "Routing fluctuation", caption, "After 80 % of training: " + spoken(said),
                    lambda: balance.fluctuation(pd.DataFrame(moved), styles), chart)  # fmt: skip


def _devices(board: Row, manifest: Row, rows: Sequence[Row], evidence: Evidence, styles: Any) -> Iterator[Entry]:
    task = next(task for task in board["tasks"] if task["name"] == rows[0]["task"])
    machine = Machine.model_validate(board["machine"])
    steps, top_k = task.get("steps"), task.get("top_k")
    if not steps or not top_k:
        return
    swept = {
        arm: {
            point["devices"]: point["slowdown"]
            for point in sweep(run.tail_MLE, DEVICES, machine, task["tokens"] // steps, top_k)
        }
        for arm, run in evidence.loads.items()
        if len(run.tail_MLE)
    }
    counts = sorted(set.intersection(*(set(points) for points in swept.values()))) if swept else []
    if len(counts) < 2:
        return
    relative = {arm: [points[count] for count in counts] for arm, points in swept.items()}
    caption = (
        "Simulated, not measured: the slowest device decides each layer. Loads of the last fifth of training, seed "
        f"{evidence.load_seed}, scaled to {machine.layer.tokens_per_device:,} tokens per device; experts placed in "
        f"blocks; machine: {machine.title}."
    )
    said = [f"{styles[arm].title} {times[-1]:.2f}" for arm, times in relative.items()]
    alt = f"Step time over balanced at {counts[-1]} devices: {spoken(said)}"
    chart = charts.lines(counts, relative, styles, ("devices", "step time (balanced = 1)"), "devices", log="x",
                         ticks=counts[:: 1 + len(counts) // 6])  # fmt: skip
    yield Entry("devices", "Expert-parallel step time", caption, alt,
                lambda: devices.step_time(counts, relative, styles, board["baseline"]), chart)  # fmt: skip


def _marked(
    readings: Sequence[Row], key: str, marks: Sequence[Any], styles: Mapping[str, ArmStyle]
) -> list[tuple[int, list[list[float] | None], str, bool]]:
    """Shares by arm and mark, in percent, as `charts.rows` wants them."""
    share = {(entry["arm"], entry[key]): 100 * entry["share"] for entry in readings}
    return [
        (style.index, [[share[arm, mark]] if (arm, mark) in share else None for mark in marks], "", False)
        for arm, style in styles.items()
        if any((arm, mark) in share for mark in marks)
    ]


def _seeds(table: pd.DataFrame, rows: Sequence[Row]) -> str:
    """How many seeds a curve rests on, and whether the suite has more."""
    counts = table.groupby("arm")["seed"].nunique()
    low, high = int(counts.min()), int(counts.max())
    said = f"n = {high}" if low == high else f"n = {low} to {high}"
    planned = max(len(row["seeds"]) for row in rows)
    return f"{said}, the first of {planned}" if high == MAX_SEEDS < planned else said


def _band(table: pd.DataFrame) -> str:
    return "range of the seeds" if few_seeds(table) else "95 % t interval"


def _floor(rows: Sequence[Row], which: str) -> float | None:
    return next((row["noise_floor"][which] for row in rows if (row["noise_floor"] or {}).get(which)), None)


def families(manifest: Row) -> list[list[str]]:
    """Arms that are one strategy at several values of its knob, in the knob's order."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for arm in manifest["arms"]:
        value = (arm.get("config") or {}).get((arm.get("knob") or {}).get("parameter"))
        if arm["arm"] not in beside(manifest) and isinstance(value, int | float):
            groups.setdefault(arm["strategy"], []).append((float(value), arm["arm"]))
    return [[name for _, name in sorted(members)] for members in groups.values() if len(members) > 1]


def _worst_layer(evidence: Evidence) -> int:
    """The layer with the largest load over ideal, averaged over training and arms."""
    layers = min(run.load_NLE.shape[1] for run in evidence.loads.values())
    return int(np.mean([run.load_NLE[:, :layers].max(-1).mean(0) for run in evidence.loads.values()], axis=0).argmax())
