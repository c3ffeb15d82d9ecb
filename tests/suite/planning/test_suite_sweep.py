"""Sweeps: what each coordinate plans, whom it asks, what it chooses, worked by hand; and one run for real."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import yaml
from click.testing import CliRunner

import tasks
from suite.cli import main
from suite.errors import UsageError
from suite.planning import config, sweep
from suite.storage.files import read_json, write_json


@pytest.fixture
def data(tiny_suite):
    return {
        "sweep": "tiny",
        "title": "a tiny sweep",
        "task": "zipf-nano",
        "set": tiny_suite["tasks"][0]["set"],
        "coordinates": [
            {"key": "rung.hidden_rate", "values": [0.1, 0.2, 0.4]},
            {
                "key": "rung.router_rate",
                "times": [0.5, 2],
                "judges": ["none", {"strategy": "sign_bias", "follows": {"rate": 0.5}}],
            },
        ],
    }


def load(data, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(data))
    return sweep.load(str(path))


def record(stage, home, loss_of):
    for trial in stage.plan.trials:
        folder = stage.plan.folder(home, trial)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.record, {"measures": {"val_loss": loss_of(trial)}})


def test_a_coordinate_starts_from_what_the_ones_before_it_chose(data, home, tmp_path):
    made = load(data, tmp_path)
    walk = sweep.stages(made, home)
    first = next(walk)
    assert first.table is None
    assert {trial.seed for trial in first.plan.trials} == {300_000, 300_001}
    judged = {(trial.arm, trial.cell.task.rung.hidden_rate) for trial in first.plan.trials}
    assert judged == {(f"{judge}@{v}", v) for judge in ("dense", "none", "hash") for v in (0.1, 0.2, 0.4)}
    by_value = {"0.1": 3.0, "0.2": 2.0, "0.4": 2.5}
    offset = {"dense": 0.3, "none": 0.0, "hash": -0.3}

    def loss(trial):
        judge, _, value = trial.arm.partition("@")
        return by_value[value] + offset[judge] + (0.1 if trial.seed % 2 and value == "0.4" else 0.0)

    record(first, home, loss)
    second = next(walk)
    table = sweep.read(first, home).table
    assert table["winner"] == "0.2"
    assert not table["at_edge"]
    assert [row["mean"] for row in table["values"]] == pytest.approx([3.0, 2.0, 2.55])
    # differences to the winner at 0.4: three of 0.5 and three of 0.6; deviation √(6 · 0.05² / 5), over √6
    assert table["values"][2]["behind"] == pytest.approx(0.55)
    assert table["values"][2]["standard_error"] == pytest.approx(0.05 * (6 / 5) ** 0.5 / 6**0.5)
    assert {trial.cell.task.rung.hidden_rate for trial in second.plan.trials} == {0.2}
    start = tasks.load("zipf-nano", data["set"]).rung.router_rate
    for trial in second.plan.trials:
        rate = trial.cell.task.rung.router_rate
        assert rate / start in (pytest.approx(0.5, rel=1e-4), pytest.approx(2, rel=1e-4))
        if trial.arm.startswith("sign_bias"):
            assert trial.cell.config["strategy"]["config"]["rate"] == pytest.approx(rate / 2)
    assert len({trial.cell.task.rung.router_rate for trial in second.plan.trials}) == 2
    again = list(sweep.stages(made, home))
    assert [stage.table is None for stage in again] == [False, True]  # nothing is kept but the records
    assert sweep.next_suite(made, home, {}).suite == "sweep-tiny-router_rate"


def test_a_value_that_diverged_is_out_and_all_out_is_an_error(data, home, tmp_path):
    made = load(data, tmp_path)
    first = next(sweep.stages(made, home))
    record(first, home, lambda trial: None if trial.arm == "hash@0.1" else 2.0 + ("0.2" in trial.arm))
    table = sweep.read(first, home).table
    assert (table["winner"], table["values"][0]["mean"], table["at_edge"]) == ("0.4", None, True)
    record(first, home, lambda trial: None)
    with pytest.raises(RuntimeError, match="at every value of hidden_rate a trial diverged"):
        sweep.read(first, home)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"coordinates": [{"key": "rung.steps", "values": [4, 8]}]}, {"rung.warmup_steps": 1}, "of equal compute"),
        ({}, {"rung.router_rate": 0.1}, "--set rung.router_rate: sweep tiny chooses it"),
        ({"coordinates": [{"key": "rung.routr_rate", "values": [1.0]}]}, {}, 'nearest: "router_rate"'),
        ({"coordinates": [{"key": "rung.decay", "times": [1, 2]}]}, {}, "`times` needs a number of the rung"),
        ({"coordinates": [{"key": "rung.decay"}]}, {}, "expected either `values` or `times`"),
        ({"coordinates": [{"values": [{"rung.decay": "cosine"}]}]}, {}, "expected a `name`"),
        ({"seeds": 0}, {}, "seeds: 0"),
        ({"coordinates": [{"key": "rung.decay", "vals": [1]}]}, {}, "vals: unknown key (did you mean 'values'?)"),
        (
            {"coordinates": [{"key": "rung.hidden_rate", "values": [0.00123411, 0.00123412, 0.002]}]},
            {},
            "hidden_rate: two values are called 0.001234",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(change, settings, message, data, home, tmp_path):
    with pytest.raises(ValueError, match=r"(?s)^[^\n]*$") as error:
        list(sweep.stages(load(data | change, tmp_path), home, settings))
    assert message in str(error.value)


def test_a_judges_name_may_hold_what_parts_it_from_its_value(data, home, tmp_path):
    own = {"key": "rung.hidden_rate", "values": [0.1, 0.2], "judges": [{"strategy": "none", "arm": "none@home"}]}
    stage = next(sweep.stages(load(data | {"coordinates": [own]}, tmp_path), home))
    record(stage, home, lambda trial: 2.0 if trial.arm.endswith("@0.2") else 3.0)
    assert sweep.read(stage, home).table["winner"] == "0.2"


def test_values_that_move_together_have_a_name(data, home, tmp_path):
    pair = [{"rung.batch_sequences": 4, "rung.steps": 12}, {"rung.batch_sequences": 2, "rung.steps": 24}]
    made = load(data | {"coordinates": [{"name": "batch", "values": pair}]}, tmp_path)
    (stage,) = islice(sweep.stages(made, home), 1)
    assert {trial.cell.task.rung.tokens for trial in stage.plan.trials} == {12 * 4 * 16}
    assert "none@batch_sequences=2,steps=24" in {trial.arm for trial in stage.plan.trials}


@pytest.mark.parametrize("name", sweep.names())
def test_every_shipped_sweep_can_be_planned_and_is_named_by_its_file(name, home):
    made = sweep.load(name)
    assert made.sweep == name
    assert len(list(sweep.stages(made, home))) == len(made.coordinates)


def test_an_unknown_sweep_names_the_nearest():
    with pytest.raises(UsageError, match="text-bench-muon"):
        sweep.load("text-bench-moun")


def test_a_sweep_runs_goes_on_and_publishes(data, home, tmp_path):
    data["coordinates"] = [
        {"key": "rung.hidden_rate", "values": [0.001, 0.01], "judges": ["none"]},
        {"key": "rung.vector_rate", "values": [0.001, 0.01], "judges": ["none"]},
    ]
    load(data, tmp_path)
    order = ["sweep", str(tmp_path / "tiny.yaml"), "--home", str(home), "--tracking", "none", "--seeds", "1"]
    call = CliRunner().invoke(main, [*order, "--publish", str(tmp_path / "boards")])
    assert call.exit_code == 0, call.output
    said = read_json(tmp_path / "boards" / "sweeps" / "tiny.json")
    assert said["missing"] == []
    for table in said["coordinates"]:
        means = {row["label"]: row["mean"] for row in table["values"]}
        assert table["winner"] == min(means, key=means.get)
    assert set(said["chosen"]) == {"rung.hidden_rate", "rung.vector_rate"}
    text = (tmp_path / "boards" / "sweeps" / "tiny.md").read_text()
    assert f"| **{said['coordinates'][0]['winner']}** |" in text
    again = CliRunner().invoke(main, [*order, "--json"])
    assert json.loads(again.stdout)["coordinates"] == said["coordinates"]
    assert said["seeds"] == [config.SWEEP_SEEDS]


def test_the_trials_at_the_start_serve_every_coordinate(data, home, tmp_path):
    """As long as nothing is chosen, `times: 1` is the same point in each."""
    judged = {"times": [1, 2], "judges": ["none"]}
    data["coordinates"] = [{"key": f"rung.{name}_rate", **judged} for name in ("hidden", "embedding", "vector")]
    walked = list(sweep.stages(load(data, tmp_path), home))
    same = frozenset.intersection(*(frozenset(trial.key for trial in stage.plan.trials) for stage in walked))
    assert len(same) == len(walked[0].plan.trials) / 2
