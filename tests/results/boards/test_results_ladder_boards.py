"""Boards whose tasks differ in one number alone: recognised, and their slopes as a few lines of NumPy have them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_records import Arm, make_manifest, write_suite

import tasks
from results.boards.ladder import only_difference
from results.boards.leaderboard import build
from results.boards.words import ladder_words, slopes
from results.pages import html
from results.pages.markdown import leaderboard_markdown
from results.plots import ladders
from results.plots.style import arm_styles
from results.records import collect

EXPERTS = {"few-nano": 8, "some-nano": 32, "many-nano": 128}
SEEDS = 6
ARMS = (
    Arm("plain", "No balancing", flatten=0.0),
    Arm("penalty", "Penalty"),
    Arm("table", "Fixed table"),
    Arm("dense", "Dense twin"),
)


def climb(
    home: Path, change: Any = None, arms: tuple[Arm, ...] = ARMS, **options: Any
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """A board of three tasks of 8, 32 and 128 experts; `change` alters each record's task before it is written."""
    options = {"tasks": tuple(EXPERTS), "twin": "dense", "curves": False, **options}
    manifest, trials = write_suite(home, arms, seeds=SEEDS, **options)
    for trial in manifest["trials"]:
        path = trials / trial["trial_key"] / "record.json"
        if path.exists():
            record = json.loads(path.read_text())
            record["config"]["task"]["rung"] = {"name": "nano", "experts": EXPERTS[trial["task"]], "top_k": 2}
            if change:
                change(record["config"]["task"])
            path.write_text(json.dumps(record))
    return build(manifest, collect(manifest, trials)), manifest, trials


def held(manifest: dict[str, Any], trials: Path, arm: str, *keys: str) -> np.ndarray:
    """A measure by seed and task, in the order of the experts; NaN where a trial is missing."""
    value_NX = np.full((SEEDS, 3), np.nan)
    for trial in manifest["trials"]:
        path = trials / trial["trial_key"] / "record.json"
        if trial["arm"] == arm and path.exists():
            found = json.loads(path.read_text())["measures"]
            for key in keys:
                found = found[key]
            value_NX[trial["seed"], list(EXPERTS).index(trial["task"])] = found
    return value_NX


def slope_of(value_NX: np.ndarray) -> float:
    """Over log₂ of 8, 32 and 128, which lie evenly: half of last minus first, over two doublings."""
    own_N = (value_NX[:, 2] - value_NX[:, 0]) / 4
    return float(np.nanmean(own_N))


ONE_LACKS = {("table", "few-nano", 2)}


def test_slopes_of_losses_differences_and_what_is_dropped(tmp_path: Path) -> None:
    board, manifest, trials = climb(tmp_path, missing=ONE_LACKS)
    ladder = board["ladder"]
    assert (ladder["of"], ladder["numbers"], ladder["diverged"]) == ("experts", [8, 32, 128], [])
    assert ladder["tasks"] == list(EXPERTS)
    base = held(manifest, trials, "penalty", "val_loss")
    for arm in ("plain", "table"):
        entry, own = ladder["arms"][arm], held(manifest, trials, arm, "val_loss")
        assert entry["delta_loss"]["mean"] == pytest.approx(slope_of(own - base))
        assert entry["loss"]["mean"] == pytest.approx(slope_of(own))
        share = held(manifest, trials, arm, "dropped", "1.25")
        share[np.isnan(own).any(axis=1)] = np.nan
        assert entry["dropped"]["mean"] == pytest.approx(slope_of(share))
    assert ladder["arms"]["penalty"]["delta_loss"] is None
    assert ladder["arms"]["dense"]["dropped"] is None  # nothing is routed
    assert [ladder["arms"][arm]["loss"]["n"] for arm in ("plain", "table")] == [6, 5]  # a seed lacks one task
    both = np.stack([held(manifest, trials, arm, "val_loss") for arm in ("plain", "penalty")])  # what has all seeds
    assert ladder["range"]["mean"] == pytest.approx(slope_of(both.max(axis=0) - both.min(axis=0)))
    assert (ladder["range"]["n"], ladder["range"]["arms"]) == (6, 2)


def test_all_of_a_row_rests_on_the_seeds_it_shares_with_the_baseline(tmp_path: Path) -> None:
    board, manifest, trials = climb(tmp_path, missing={("penalty", "many-nano", seed) for seed in (1, 3)})
    entry = board["ladder"]["arms"]["plain"]
    assert {entry[name]["n"] for name in ("loss", "delta_loss", "dropped")} == {4}
    own = held(manifest, trials, "plain", "val_loss")[[0, 2, 4, 5]]
    assert entry["loss"]["mean"] == pytest.approx(slope_of(own))
    absent = {("penalty", "many-nano", seed) for seed in range(SEEDS)}
    assert "ladder" not in climb(tmp_path / "none", missing=absent)[0]  # two tasks are left


def test_an_arm_with_a_diverged_trial_has_no_slope_and_is_named(tmp_path: Path) -> None:
    board, manifest, trials = climb(tmp_path, diverged={("plain", "many-nano", 0)})
    assert (board["ladder"]["diverged"], "plain" in board["ladder"]["arms"]) == (["plain"], False)
    assert board["ladder"]["range"]["arms"] == 2
    assert ladder_words(board).endswith(" Left out, for trials that diverged: No balancing.")
    page = html.write_report(board, manifest, trials, tmp_path / "out")[0].read_text()
    assert "for trials that diverged: No balancing." in page


def test_a_range_is_of_two_arms_of_equal_flops_at_least(tmp_path: Path) -> None:
    few = (Arm("penalty", "Penalty"), Arm("choice", "Choice", causal=False), Arm("more", "More", variable_k=True))
    board, _, _ = climb(tmp_path, arms=few, twin=None, control=None)
    assert (board["ladder"]["range"], set(board["ladder"]["arms"])) == (None, {"penalty", "choice", "more"})
    assert "The distance" not in ladder_words(board)


def test_the_pages_show_it(tmp_path: Path) -> None:
    board, manifest, trials = climb(tmp_path, missing=ONE_LACKS)
    ladder = board["ladder"]
    assert "8, 32, 128" in ladder_words(board)
    assert f"changes by {ladder['range']['mean']:+.3f} [" in ladder_words(board)
    order = [row[0] for row in slopes(board)]
    means = [(ladder["arms"][arm]["delta_loss"] or {"mean": 0.0})["mean"] for arm in order]
    assert set(order) == {"plain", "penalty", "table", "dense"}
    assert means == sorted(means)
    text = leaderboard_markdown(board)
    page = html.write_report(board, manifest, trials, tmp_path / "out")
    (shown,) = re.findall(r'<section id="along">(.*?)</section>', page[0].read_text(), re.S)
    assert "## Along experts\n" in text
    entry = ladder["arms"]["table"]
    cells = [
        f"{one['mean']:+.4f} [{one['ci_low']:+.4f}, {one['ci_high']:+.4f}]"
        for one in (entry["delta_loss"], entry["loss"], entry["dropped"])
    ]
    assert f"| Fixed table | {' | '.join(cells)} | 5 |" in text
    assert "".join(f'<td class="num">{one.replace("-", "−")}</td>' for one in (*cells, "5")) in shown
    assert "along.svg" in [path.name for path in page]


@pytest.mark.parametrize("arms", [3, 9])
def test_the_figure_has_every_arms_line_and_marks_inside(arms: int) -> None:
    """More arms than one pair of axes can tell apart get a panel each; nothing is cut at the first or last number."""
    names = [f"arm{place}" for place in range(arms)]
    styles = arm_styles(make_manifest([Arm("penalty", "Penalty"), *(Arm(name, name) for name in names)]))
    means = {name: [0.1 * place, -0.2, 0.3] for place, name in enumerate(names)}
    ends = {name: [(mean - 0.05, mean + 0.05) for mean in own] for name, own in means.items()}
    figure = ladders.draw([8, 32, 128], means, ends, styles, ("experts", "difference"))
    drawn = [line.get_xydata() for ax in figure.axes for line in ax.get_lines()]
    for name in names:
        assert any(np.array_equal(data, np.stack([[8, 32, 128], means[name]], axis=1)) for data in drawn)
    if arms == 3:
        low, high = figure.axes[0].get_xlim()
        assert low < 8 < 128 < high


def test_the_catalogues_numbers_of_experts_are_a_ladder() -> None:
    """What `experts-cpu` runs: its tasks as they are derived from the catalogue."""
    names = ("experts-8-bench", "text-bench", "experts-128-bench", "experts-256-bench")
    configs = {name: tasks.load(name).resolved() for name in names}
    found = only_difference(configs)
    assert found == ("experts", dict(zip(names, (8, 32, 128, 256), strict=True)))


@pytest.mark.parametrize(
    "change",
    [
        lambda task: task["rung"].update(width=task["rung"]["experts"] * 2),  # two numbers differ
        lambda task: task.update(corpus={"kind": task["name"]}),  # something else than a rung's number
        lambda task: task["rung"].update(experts=8),  # nothing differs
        lambda task: task["rung"].update(experts=max(32, task["rung"]["experts"])),  # two are the same
        lambda task: task["rung"].update(experts=f"E{task['rung']['experts']}"),  # a word
        lambda task: task["rung"].update(experts=task["rung"]["experts"] - 8),  # 0 has no doubling
    ],
)
def test_other_tasks_are_no_ladder(tmp_path: Path, change: Any) -> None:
    board, manifest, trials = climb(tmp_path, change)
    assert "ladder" not in board
    assert "## Along" not in leaderboard_markdown(board)
    assert 'id="along"' not in html.write_report(board, manifest, trials, tmp_path / "out")[0].read_text()
