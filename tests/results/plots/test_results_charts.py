"""What the page draws from: numbers true to the records, few enough for a small page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_records import Arm, make_manifest

from results.plots import charts
from results.plots.style import ArmStyle, arm_styles

LABELS = ("training tokens", "held-out loss (nats/token)")


@pytest.fixture
def styles() -> dict[str, ArmStyle]:
    return arm_styles(make_manifest([Arm("penalty", "Penalty"), Arm("bias", "Bias")]))


def evaluations() -> pd.DataFrame:
    """Two arms, four seeds, three steps; seed 3 of the second diverges at step 10."""
    rows = [
        (arm, seed, (arm, seed) == ("bias", 3), step, 100.0 * step, 4 + level + 0.1 * seed + 1 / step)
        for arm, level in (("penalty", 0.0), ("bias", -0.5))
        for seed in range(4)
        for step in (5, 10, 20)
        if not ((arm, seed) == ("bias", 3) and step > 10)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "diverged", "step", "tokens", "val_loss"])


def test_a_curve_is_the_mean_with_its_interval_and_lost_runs_stand_alone(styles: dict[str, ArmStyle]) -> None:
    chart = charts.over_training(
        evaluations(), styles, "tokens", "val_loss", labels=LABELS, x_unit="tokens", unit="nats"
    )
    assert chart["xs"] == [[500, 1000, 2000], [500, 1000]]
    first, second, lost = chart["series"]
    assert (first["arm"], second["arm"], lost["arm"]) == (0, 1, 1)
    assert first["y"] == pytest.approx([4 + 0.15 + 1 / step for step in (5, 10, 20)])
    assert second["y"] == pytest.approx([3.5 + 0.1 + 1 / step for step in (5, 10, 20)])
    # n = 4 seeds 0, 0.1, 0.2, 0.3: standard deviation 0.1291, t(3, 0.975) = 3.182, over the root of 4
    assert first["up"] == first["down"] == pytest.approx([0.21] * 3)
    assert lost["y"] == pytest.approx([3.5 + 0.3 + 1 / step for step in (5, 10)])
    assert (lost["lost"], "lost" in second) == (True, False)
    assert (chart["kind"], chart["xLabel"], chart["xUnit"], chart["unit"]) == ("lines", LABELS[0], "tokens", "nats")


def test_one_seed_has_no_band_and_what_is_not_finite_is_left_out(styles: dict[str, ArmStyle]) -> None:
    table = evaluations()
    table = table[table["seed"] == 3].assign(diverged=lambda rows: rows["arm"] == "bias")
    table.loc[(table["arm"] == "bias") & (table["step"] == 10), "val_loss"] = np.inf
    chart = charts.over_training(table, styles, "tokens", "val_loss", labels=LABELS, x_unit="tokens")
    assert "up" not in chart["series"][0]
    assert chart["series"][1]["y"] == pytest.approx([4.0])


def test_a_lines_intervals_are_kept_as_distances_from_it(styles: dict[str, ArmStyle]) -> None:
    ends = {"bias": [(0.05, 0.2), (1.5, 3.0)]}
    chart = charts.lines([8, 32], {"bias": [0.1, 2.0]}, styles, LABELS, "experts", ends)
    assert chart["series"] == [{"arm": 1, "x": 0, "y": [0.1, 2], "down": [0.05, 0.5], "up": [0.1, 1]}]


def test_lines_and_rows_keep_values_by_arm(styles: dict[str, ArmStyle]) -> None:
    chart = charts.lines([1, 2], {"bias": [0.123456789, 2.0], "penalty": []}, styles, LABELS, "devices", base=0)
    assert chart["series"] == [{"arm": 1, "x": 0, "y": [0.12346, 2]}]
    assert chart["base"] == 0
    rows = charts.rows([(1, [[0.5, None, None], None], "tie, n = 6", True)], ["a", "b"], "x")
    assert rows["rows"] == [{"arm": 1, "marks": [[0.5, None, None], None], "note": "tie, n = 6", "hollow": True}]


def test_points_are_trials_with_their_mean(styles: dict[str, ArmStyle]) -> None:
    rows = [("bias", 7, 0.5, 4.0), ("bias", 9, 0.7, 4.2), ("penalty", 7, 3.0, 4.4)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "max_vio", "val_loss"])
    chart = charts.points(table, [["bias", "absent"]], styles, 0.02, LABELS)
    expected = {"arm": 1, "x": 0.6, "y": 4.1, "xs": [0.5, 0.7], "ys": [4, 4.2], "seeds": [7, 9]}
    assert chart["points"][0] == expected
    assert (chart["joined"], chart["floor"]) == ([[1]], 0.02)


def levels(strip: dict[str, object], reach: float) -> np.ndarray:
    """The ratios that a strip stands for, (lines, columns)."""
    places = [charts.LEVELS.index(character) for character in str(strip["levels"])]
    return 2 ** ((np.array(places) / 63 * 2 - 1) * reach).reshape(strip["lines"], -1)


def test_a_strip_says_the_loads_to_a_64th_heaviest_first(styles: dict[str, ArmStyle]) -> None:
    load_NE = np.array([[1.0, 1.0, 1.0], [0.3, 0.7, 2.0]])
    chart = charts.heat({"bias": load_NE}, np.array([5, 10]), styles, 2.0)
    (strip,) = chart["strips"]
    half_a_level = 2 ** (2.0 / 63)
    assert levels(strip, 2.0) / load_NE[:, [2, 1, 0]].T == pytest.approx(np.ones((3, 2)), rel=half_a_level - 1)
    assert chart["steps"] == [5, 10]
    far = charts.heat({"bias": np.array([[9.0, 0.0]])}, np.array([5]), styles, 2.0)["strips"][0]
    assert far["levels"] == charts.LEVELS[-1] + charts.LEVELS[0]


def test_many_experts_share_lines_but_for_the_heaviest_and_the_lightest(styles: dict[str, ArmStyle]) -> None:
    load_NE = np.linspace(0.3, 3.0, 256)[None]
    (strip,) = charts.heat({"bias": load_NE}, np.array([5]), styles, 2.0)["strips"]
    found = levels(strip, 2.0)[:, 0]
    assert len(found) == charts.STRIP_LINES
    assert found[[0, -1]] == pytest.approx([3.0, 0.3], rel=0.03)
    assert found.mean() == pytest.approx(load_NE.mean(), rel=0.02)
    assert (np.diff(found) <= 0).all()


def test_panels_show_the_range_and_single_experts(styles: dict[str, ArmStyle]) -> None:
    bias_NE = np.linspace(0, 1, 80)[:, None] * np.linspace(-0.3, 0.5, 9)
    chart = charts.panels({"bias": bias_NE}, np.arange(1, 81), styles, 3)
    (panel,) = chart["panels"]
    assert len(chart["steps"]) == len(panel["low"]) == charts.PANEL_POINTS
    assert chart["steps"][-1] == 80
    assert (panel["low"][-1], panel["high"][-1]) == (-0.3, 0.5)
    assert [line[-1] for line in panel["lines"]] == [-0.3, 0.1, 0.5]


def test_levels_are_those_the_script_knows() -> None:
    from results.pages import rendering

    script = rendering.script()
    assert f'const LEVELS = "{charts.LEVELS}"' in script
    for kind in ("lines", "rows", "points", "heat", "panels"):
        assert f"kinds.{kind} = " in script
