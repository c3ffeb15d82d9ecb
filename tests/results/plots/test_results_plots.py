"""The figures: what is drawn is what the numbers say, and what is missing leaves its figure out."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from synthetic_records import ARMS, Arm, make_manifest, write_suite

from results import records
from results.boards import leaderboard
from results.plots import across, balance, biases, board_figures, curves, devices, differences, loads, task_figures
from results.plots.aggregate import over_seeds
from results.plots.sources import MAX_SEEDS, POINTS, Run, gather, read_loads
from results.plots.style import BAND, OVERLAY, ArmStyle, arm_styles

# ---------------------------------------------------------------- what is read


def test_interval_over_seeds_by_hand() -> None:
    rows = [("a", s, False, 1, 10.0, y) for s, y in enumerate((1.0, 2.0, 3.0, 6.0))]
    rows += [("a", 4, True, 1, 10.0, 99.0), ("b", 0, False, 1, 10.0, 5.0)]
    table = over_seeds(pd.DataFrame(rows, columns=["arm", "seed", "diverged", "step", "x", "y"]), "x", "y")
    a, b = table.to_dict("records")
    # mean 3, s = sqrt(14 / 3) = 2.160247, t(0.975, 3) = 3.182446: half width 3.182446 × 2.160247 / 2 = 3.437435
    assert (a["n"], a["mean"]) == (4, 3.0)
    assert a["low"] == pytest.approx(3 - 3.437435, abs=1e-5)
    assert a["high"] == pytest.approx(3 + 3.437435, abs=1e-5)
    assert (b["n"], b["low"], b["mean"], b["high"]) == (1, 5.0, 5.0, 5.0)


def test_few_seeds_show_their_range() -> None:
    rows = [("a", s, False, 1, 10.0, y) for s, y in enumerate((1.0, 2.0, 6.0))]
    table = over_seeds(pd.DataFrame(rows, columns=["arm", "seed", "diverged", "step", "x", "y"]), "x", "y")
    assert table[["low", "mean", "high"]].values.tolist() == [[1.0, 3.0, 6.0]]


def write_trial(folder: Path, steps: int, losses: dict[int, float]) -> Path:
    folder.mkdir(parents=True)
    index = np.arange(1, steps + 1)
    columns = {"step": index, "tokens": 10 * index, "seconds": 0.5 * index, "max_vio": index.astype(float)}
    columns["val_loss"] = pa.array([losses.get(int(i)) for i in index], pa.float64())
    pq.write_table(pa.table(columns), folder / "curves.parquet")
    (folder / "record.json").write_text('{"measures": {"max_vio_global": {"mean": 0.5}, "val_loss": 2.0}}')
    return folder


def test_curves_are_thinned_to_means_of_equal_stretches(tmp_path: Path) -> None:
    folder = write_trial(tmp_path / "t", 2 * POINTS, {10: 3.0, 2 * POINTS: 2.0})
    evidence = gather([Run("a", 0, False, folder)])
    assert len(evidence.curves) == POINTS
    assert evidence.curves["max_vio"].tolist() == [2 * i + 1.5 for i in range(POINTS)]
    assert evidence.curves["step"].tolist() == [2 * i + 2 for i in range(POINTS)]
    assert evidence.evaluations[["step", "tokens", "val_loss"]].values.tolist() == [
        [10, 100, 3.0], [2 * POINTS, 20 * POINTS, 2.0],
    ]  # fmt: skip
    assert evidence.points.to_dict("records") == [{"arm": "a", "seed": 0, "max_vio": 0.5, "val_loss": 2.0}]


def test_the_last_evaluation_is_the_records(tmp_path: Path) -> None:
    """Training evaluates before its end; the loss at the end is in the record alone."""
    folder = write_trial(tmp_path / "t", 40, {10: 3.0, 20: 2.5})
    taken = gather([Run("a", 0, False, folder)]).evaluations
    assert taken[["step", "val_loss"]].values.tolist() == [[10, 3.0], [20, 2.5], [40, 2.0]]
    assert gather([Run("a", 0, True, folder)]).evaluations["step"].tolist() == [10, 20]  # one that diverged has none


def test_only_a_bounded_number_of_trials_is_read(tmp_path: Path) -> None:
    folder = write_trial(tmp_path / "t", 5, {5: 2.0})
    runs = [Run("a", seed, False, folder) for seed in range(MAX_SEEDS)]
    runs += [Run("a", seed, False, tmp_path / "must not be opened") for seed in range(MAX_SEEDS, 50)]
    assert gather(runs).curves["seed"].nunique() == MAX_SEEDS


def test_trials_without_curves_leave_figures_out_but_no_error(tmp_path: Path) -> None:
    folder = write_trial(tmp_path / "t", 3, {})
    (folder / "curves.parquet").unlink()
    evidence = gather([Run("a", 0, False, folder)])
    assert evidence.curves.empty
    assert not evidence.loads
    assert gather([]).points.empty


@pytest.mark.parametrize("name", ["curves.parquet", "load.npz"])
@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: b"", lambda data: b"something else\n"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    folder = write_trial(tmp_path / "t", 5, {5: 2.0})
    np.savez(folder / "load.npz", load=np.ones((5, 1, 2), dtype=np.uint32))
    assert gather([Run("a", 0, False, folder)]).loads
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(
        ValueError, match=f"{re.escape(str(folder / name))}: cannot be read .*; expected a trial's"
    ) as caught:
        gather([Run("a", 0, False, folder)])
    assert "\n" not in str(caught.value)


def test_loads_are_ratios_to_the_ideal(tmp_path: Path) -> None:
    load_MLE = np.array([[[4, 0]], [[2, 2]], [[1, 3]]], dtype=np.uint32)
    np.savez(tmp_path / "load.npz", load=load_MLE, bias=np.arange(6, dtype=np.float32).reshape(3, 1, 2))
    read = read_loads(tmp_path / "load.npz")
    assert read.load_NLE[:, 0].tolist() == [[2, 0], [1, 1], [0.5, 1.5]]
    assert read.bias_NLE is not None
    assert read.bias_NLE[:, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert read.steps_N.tolist() == [1, 2, 3]
    assert read.tail_MLE.tolist() == [[[1, 3]]]


# ---------------------------------------------------------------- what is drawn


@pytest.fixture
def styles() -> dict[str, ArmStyle]:
    return arm_styles(make_manifest())


def lines_of(figure: Figure, style: ArmStyle) -> list[Line2D]:
    return [line for ax in figure.axes for line in ax.lines if line.get_gid() == style.gid]


def test_the_forest_shows_every_mean_interval_and_verdict(styles: dict[str, ArmStyle]) -> None:
    shown = [
        differences.Difference("bias", -0.012, -0.015, -0.009, 10, "better"),
        differences.Difference("table", 0.001, -0.004, 0.006, 9, "undecided"),
        differences.Difference("plain", None, None, None, 0, "indicative"),
    ]
    figure = differences.forest(shown, styles, 0.005, (-0.003, 0.002))
    bars, points = lines_of(figure, styles["bias"])
    assert list(bars.get_xdata()) == [-0.015, -0.009]
    assert list(points.get_xdata()) == [-0.012]
    assert list(points.get_ydata()) == [0]
    assert to_rgba(points.get_markerfacecolor()) == to_rgba(styles["bias"].color)
    assert lines_of(figure, styles["table"])[1].get_markerfacecolor() == "none"
    assert lines_of(figure, styles["plain"]) == []
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"better, n = 10", "undecided, n = 9", "no pair finished"} <= set(texts)
    bands = {(round(p.get_x(), 6), round(p.get_x() + p.get_width(), 6)) for p in figure.axes[0].patches}
    assert bands == {(-0.005, 0.005), (-0.003, 0.002)}


def evaluations(arms: list[str], seeds: int = 3) -> pd.DataFrame:
    rows = [
        {"arm": arm, "seed": seed, "diverged": False, "step": step, "tokens": 100 * step, "seconds": 2.0 * step,
         "val_loss": 5 - 0.1 * step + 0.01 * seed + 0.02 * i}
        for i, arm in enumerate(arms) for seed in range(seeds) for step in (5, 10, 20)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_loss_is_drawn_against_tokens_and_against_time(styles: dict[str, ArmStyle]) -> None:
    table = evaluations(["penalty", "bias"])
    for draw, x in ((curves.loss_against_tokens, [500, 1000, 2000]), (curves.loss_against_time, [10, 20, 40])):
        line = lines_of(draw(table, styles, "penalty"), styles["bias"])[0]
        assert list(line.get_xdata()) == x
        assert list(line.get_ydata()) == pytest.approx([4.53, 4.03, 3.03])


def test_differences_are_taken_within_a_seed(styles: dict[str, ArmStyle]) -> None:
    table = evaluations(["penalty", "bias"])
    figure = curves.difference_against_tokens(curves.differences(table, "penalty"), styles, "penalty")
    assert list(lines_of(figure, styles["bias"])[0].get_ydata()) == pytest.approx([0.02] * 3)
    band = next(c for c in figure.axes[0].collections if c.get_gid() == styles["bias"].gid)
    assert np.ptp(band.get_paths()[0].vertices[:, 1]) < 1e-9  # equal differences: no width, whatever the seeds do


def test_a_diverged_run_is_drawn_alone_and_ends_in_a_cross(styles: dict[str, ArmStyle]) -> None:
    table = evaluations(["penalty", "bias"])
    table.loc[(table["arm"] == "bias") & (table["seed"] == 2), "diverged"] = True
    table = table[~(table["diverged"] & (table["step"] > 10))]
    mean, run, cross = lines_of(curves.loss_against_tokens(table, styles, "penalty"), styles["bias"])[:3]
    assert list(mean.get_ydata()) == pytest.approx([4.525, 4.025, 3.025])
    assert list(run.get_xdata()) == [500, 1000]
    assert (cross.get_marker(), list(cross.get_xdata())) == ("x", [1000])


def test_max_vio_is_logarithmic_above_its_noise_floor(styles: dict[str, ArmStyle]) -> None:
    table = evaluations(["penalty", "bias"]).rename(columns={"val_loss": "max_vio"})
    ax = curves.max_vio_against_step(table, styles, "penalty", 0.25).axes[0]
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 0.25
    floor = next(c for c in ax.collections if to_rgba(BAND) == tuple(c.get_facecolor()[0]))
    assert floor.get_paths()[0].vertices[:, 1].max() == 0.25


def test_perfect_balance_lies_on_the_lower_edge(styles: dict[str, ArmStyle]) -> None:
    table = evaluations(["penalty", "bias"]).rename(columns={"val_loss": "max_vio"})
    table.loc[table["arm"] == "bias", "max_vio"] = 0.0
    figure = curves.max_vio_against_step(table, styles, "penalty", 0.25)
    edge = figure.axes[0].get_ylim()[0]
    assert edge > 0.1
    assert list(lines_of(figure, styles["bias"])[0].get_ydata()) == [edge] * 3
    points = pd.DataFrame({"arm": ["bias", "penalty"], "max_vio": [0.0, 0.5], "val_loss": [4.0, 4.1]})
    figure = balance.pareto(points, [], styles, 0.1)
    assert lines_of(figure, styles["bias"])[1].get_xdata()[0] == figure.axes[0].get_xlim()[0] < 0.1


def test_many_arms_get_a_panel_each_with_the_same_scales() -> None:
    arms = [Arm("base", "Base"), *(Arm(f"a{i}", f"Arm {i}") for i in range(OVERLAY + 1))]
    many = arm_styles(make_manifest(arms, baseline="base", aa=False))
    figure = curves.loss_against_tokens(evaluations(list(many)), many, "base")
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert [title for title in titles if title.startswith("Arm")] == [f"Arm {i}" for i in range(OVERLAY + 1)]
    ends = []
    for i in range(OVERLAY + 1):
        line = lines_of(figure, many[f"a{i}"])[0]
        inches = figure.axes[0].transData.inverted().transform(line.get_transform().transform(line.get_xydata()))
        ends.append(inches[-1] - inches[0])
        assert line.get_clip_path() is not None
    assert np.ptp(np.array(ends), axis=0) == pytest.approx([0, 0], abs=1e-9)  # equal falls look equal


def test_the_heatmap_sorts_by_the_end_and_leaves_balance_uncoloured(styles: dict[str, ArmStyle]) -> None:
    load_NE = np.array([[1.0, 1.0, 1.0], [0.25, 0.75, 2.0]])
    figure = loads.load_heatmap({"bias": load_NE}, np.array([1, 2]), styles)
    image = figure.axes[0].images[0]
    assert np.asarray(image.get_array()).tolist() == [[0, 1], [0, pytest.approx(math.log2(0.75))], [0, -2]]
    assert (image.norm.vmin, image.norm.vmax) == (-2, 2)
    assert loads.DIVERGING(0.5)[3] == pytest.approx(0, abs=0.01)
    below, above = loads.DIVERGING(0.0), loads.DIVERGING(1.0)
    assert below[2] > below[0]  # blue under the ideal
    assert above[0] > above[2]  # orange over it
    assert below[3] == above[3] == 1


def test_bias_trajectories_span_all_experts(styles: dict[str, ArmStyle]) -> None:
    bias_NE = np.array([[0.0] * 9, list(np.linspace(-0.3, 0.5, 9))])
    figure = biases.bias_trajectories({"bias": bias_NE}, np.array([1, 2]), styles)
    drawn = [line.get_ydata()[-1] for line in lines_of(figure, styles["bias"])[: biases.EXPERTS_SHOWN]]
    assert (min(drawn), max(drawn)) == pytest.approx((-0.3, 0.5))


def test_pareto_joins_one_strategy_over_its_knob(styles: dict[str, ArmStyle]) -> None:
    rows = [("gentle", 0.5, 4.0), ("gentle", 0.7, 4.2), ("gentle-fast", 0.2, 4.3), ("plain", 3.0, 4.4)]
    table = pd.DataFrame(rows, columns=["arm", "max_vio", "val_loss"])
    figure = balance.pareto(table, [["gentle", "gentle-fast"]], styles, 0.02)
    joined, seeds, mean = lines_of(figure, styles["gentle"])[:3]
    assert joined.get_xydata().tolist() == [[pytest.approx(0.6), pytest.approx(4.1)], [0.2, 4.3]]
    assert seeds.get_xydata().tolist() == [[0.5, 4.0], [0.7, 4.2]]
    assert mean.get_xydata().tolist() == [[pytest.approx(0.6), pytest.approx(4.1)]]


def test_families_follow_the_knob() -> None:
    arms = [
        Arm("x-high", "", strategy="x", config={"rate": 0.1}),
        Arm("x-low", "", strategy="x", config={"rate": 0.01}),
        Arm("y", "", config={"rate": 1.0}),
        Arm("penalty", ""),
    ]
    assert task_figures.families(make_manifest(arms)) == [["x-low", "x-high"]]


def test_overflow_dead_experts_and_fluctuation_in_percent(styles: dict[str, ArmStyle]) -> None:
    shares = {"bias": {"1.25": 0.05, "1.0": 0.2, "2.0": 0.0}, "plain": {"1.0": 0.4, "1.25": 0.3, "2.0": 0.1}}
    line = lines_of(balance.overflow(shares, styles, "plain"), styles["bias"])[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1.0, 1.25, 2.0], [20, 5, 0])
    dead = pd.DataFrame({"arm": ["bias"] * 2, "reading": ["zero", "low"], "share": [0.125, 0.25]})
    assert [p.get_xdata()[0] for p in lines_of(balance.dead_experts(dead, styles), styles["bias"])] == [12.5, 25]
    moved = pd.DataFrame({"arm": ["bias"] * 2, "after": [0.2, 0.8], "share": [0.4, 0.1]})
    points = lines_of(balance.fluctuation(moved, styles), styles["bias"])[1:]
    assert [(p.get_xdata()[0], p.get_markersize()) for p in points] == [(40, 6.0), (10, 4.4)]


def test_profile_and_ranks_and_devices_draw_their_numbers(styles: dict[str, ArmStyle]) -> None:
    figure = across.performance_profile([0.0, 0.1], {"bias": [0.5, 1.0], "plain": []}, styles, "penalty")
    assert list(lines_of(figure, styles["bias"])[0].get_ydata()) == [50, 100]
    assert lines_of(figure, styles["plain"]) == []
    entry = {"mean_rank": 1.5, "rank_low": 1.0, "rank_high": 2.0}
    entry |= {"improvement": 0.9, "improvement_low": 0.8, "improvement_high": 1.0}
    drawn = [list(line.get_xdata()) for line in lines_of(across.summary({"bias": entry}, styles), styles["bias"])]
    assert drawn == [[1.0, 2.0], [1.5], [0.8, 1.0], [0.9]]
    line = lines_of(devices.step_time([1, 2, 4], {"bias": [1.0, 1.2, 1.6]}, styles, "penalty"), styles["bias"])[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 4], [1.0, 1.2, 1.6])


# ---------------------------------------------------------------- which figures there are

WHOLE = ["difference-tokens", "loss-tokens", "loss-time", "pareto", "max-vio", "loads", "biases", "overflow", "dead",
         "fluctuation", "devices"]  # fmt: skip


DESCRIPTION = "{http://www.w3.org/2000/svg}desc"


def pictures(home: Path, arms: tuple[Arm, ...] = ARMS, **options: object) -> list[task_figures.Picture]:
    manifest, trials = write_suite(home, arms, **options)  # type: ignore[arg-type]
    collected = records.collect(manifest, trials)
    board = leaderboard.build(manifest, collected)
    runs = [
        Run(o.arm, o.seed, o.status == "diverged", trials / o.trial_key)
        for o in collected
        if o.status in ("finished", "diverged")
    ]
    styles = arm_styles(manifest)
    shown = task_figures.of_task(board, manifest, "mix-nano", gather(runs), styles, "t")
    return [board_figures.forest(board, "mix-nano", styles, "t-forest"), *shown]


def test_a_full_suite_has_every_figure_with_caption_and_alternative(tmp_path: Path) -> None:
    shown = pictures(tmp_path, seeds=6)
    assert [picture.name for picture in shown] == [f"t-{name}" for name in ("forest", *WHOLE)]
    for picture in shown:
        assert len(picture.caption) > 40
        assert any(digit in picture.alt for digit in "0123456789"), picture.name
        assert picture.alt in ElementTree.fromstring(picture.svg.split("\n", 1)[1]).find(DESCRIPTION).text
    captions = {picture.name: picture.caption for picture in shown}
    assert "n = 6" in captions["t-loss-tokens"]
    assert "95 % t interval" in captions["t-loss-tokens"]
    assert "±0.005" in captions["t-forest"]


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"seeds": 1, "aa": False}, set()),
        ({"seeds": 2, "curves": False},
         {"loss-tokens", "difference-tokens", "loss-time", "max-vio", "loads", "biases", "devices"}),
        ({"seeds": 1, "diverged": {(arm.name, "mix-nano", 0) for arm in ARMS}, "aa": False},
         {"pareto", "loads", "biases", "overflow", "dead", "fluctuation", "devices"}),
        ({"seeds": 1, "missing": {(arm.name, "mix-nano", 0) for arm in ARMS}, "aa": False}, set(WHOLE)),
        ({"seeds": 2, "failed": {("penalty", "mix-nano", 0), ("penalty", "mix-nano", 1)}, "aa": False},
         {"difference-tokens"}),
        ({"seeds": 1, "steps": 2, "aa": False}, set()),
    ],
    ids=["one seed", "no curves", "all diverged", "nothing run", "no baseline", "two steps"],
)  # fmt: skip
def test_what_is_missing_leaves_its_figures_out(tmp_path: Path, options: dict[str, object], missing: set[str]) -> None:
    assert [picture.name for picture in pictures(tmp_path, **options)][1:] == [
        f"t-{n}" for n in WHOLE if n not in missing
    ]


def test_one_arm_alone_can_be_drawn(tmp_path: Path) -> None:
    shown = pictures(tmp_path, (ARMS[1],), seeds=2, aa=False, control=None)
    assert [picture.name for picture in shown][1:3] == ["t-loss-tokens", "t-loss-time"]
