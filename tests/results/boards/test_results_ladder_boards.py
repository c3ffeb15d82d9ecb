"""Boards whose tasks differ in one number alone: recognised, and their slopes as a few lines of NumPy have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_records import Arm, write_suite

from results.boards.leaderboard import build
from results.boards.words import ladder_words, slopes
from results.pages import html
from results.pages.markdown import leaderboard_markdown
from results.records import collect

EXPERTS = {"few-nano": 8, "some-nano": 32, "many-nano": 128}
SEEDS = 6
ARMS = (
    Arm("plain", "No balancing", flatten=0.0),
    Arm("penalty", "Penalty"),
    Arm("table", "Fixed table"),
    Arm("dense", "Dense twin"),
)


def climb(home: Path, change: Any = None, **options: Any) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """A board of three tasks of 8, 32 and 128 experts; `change` alters each record's task before it is written."""
    manifest, trials = write_suite(
        home, ARMS, tuple(EXPERTS), SEEDS, curves=False, twin="dense", missing={("table", "few-nano", 2)}, **options
    )
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


def test_slopes_of_losses_differences_and_what_is_dropped(tmp_path: Path) -> None:
    board, manifest, trials = climb(tmp_path)
    ladder = board["ladder"]
    assert (ladder["of"], ladder["numbers"]) == ("experts", [8, 32, 128])
    assert ladder["tasks"] == list(EXPERTS)
    base = held(manifest, trials, "penalty", "val_loss")
    for arm in ("plain", "table", "dense"):
        entry, own = ladder["arms"][arm], held(manifest, trials, arm, "val_loss")
        assert entry["delta_loss"]["mean"] == pytest.approx(slope_of(own - base))
        assert entry["loss"]["mean"] == pytest.approx(slope_of(own))
        assert entry["dropped"]["mean"] == pytest.approx(slope_of(held(manifest, trials, arm, "dropped", "1.25")))
    assert ladder["arms"]["penalty"]["delta_loss"] is None
    assert [ladder["arms"][arm]["loss"]["n"] for arm in ("plain", "table")] == [6, 5]  # a seed lacks one task
    both = np.stack([held(manifest, trials, arm, "val_loss") for arm in ("plain", "penalty", "table")])
    apart = both.max(axis=0) - both.min(axis=0)  # NaN where a trial is missing; the twin has no experts
    assert ladder["range"]["mean"] == pytest.approx(slope_of(apart))
    assert ladder["range"]["n"] == 5


def test_the_pages_show_it(tmp_path: Path) -> None:
    board, manifest, trials = climb(tmp_path)
    text = leaderboard_markdown(board)
    assert "## Along experts" in text
    assert "8, 32, 128" in ladder_words(board["ladder"])
    order = [row[0] for row in slopes(board)]
    means = [(board["ladder"]["arms"][arm]["delta_loss"] or {"mean": 0.0})["mean"] for arm in order]
    assert set(order) == {"plain", "penalty", "table", "dense"}
    assert means == sorted(means)
    written = html.write_report(board, manifest, trials, tmp_path / "out")
    assert 'id="along"' in written[0].read_text()
    assert "along.svg" in [path.name for path in written]


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
