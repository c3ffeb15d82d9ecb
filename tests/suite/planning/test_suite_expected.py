"""What a plan says of its tasks' sensitivity before anything of it has run."""

from __future__ import annotations

import json

import pytest

from suite import PROTOCOL
from suite.planning import config
from suite.planning.expected import expected_sensitivity
from suite.planning.plan import make_plan

SHOWN = {"word": "fit", "gain": None, "spread": 0.01, "n": 6}


@pytest.fixture
def plan(tiny_suite):
    return make_plan(config.parse(tiny_suite, "test"))


def publish(folder, plan, **changed):
    task = dict(plan.manifest["tasks"][0]) | {"recipe": plan.trials[0].cell.task.rung.recipe}
    task |= {"sensitivity": SHOWN, "margin": {"value": 0.05}} | changed
    (folder / "a-board").mkdir()
    board = {"suite": "a-board", "protocol_version": PROTOCOL, "tasks": [task]}
    (folder / "a-board" / "leaderboard.json").write_text(json.dumps(board))


def asked(plan, published, home):
    return expected_sensitivity(plan, home, {trial.key: "new" for trial in plan.trials}, published)["zipf-nano"]


def test_it_is_a_published_boards_where_that_is_of_the_same_task(plan, tmp_path):
    publish(tmp_path, plan)
    known = asked(plan, tmp_path, tmp_path / "home")
    assert known["source"] == "published board a-board"
    assert known["n"] == 2  # the plan's seeds, not the board's


@pytest.mark.parametrize("changed", [{"recipe": "adamw"}, {"experts": 512}, {"top_k": 3}, {"tokens": 1}])
def test_another_recipe_or_rung_is_another_task(plan, tmp_path, changed):
    publish(tmp_path, plan, **changed)
    assert asked(plan, tmp_path, tmp_path / "home") is None
