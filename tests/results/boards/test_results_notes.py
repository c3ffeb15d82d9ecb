"""Notes: what an arm has of its own, and a bias that had no time to act."""

import copy
import json

import pytest
from synthetic_records import write_suite

from results.boards.leaderboard import build
from results.boards.notes import bias_note, own_note
from results.records import Outcome, collect


@pytest.fixture
def outcomes(tmp_path):
    manifest, trials = write_suite(tmp_path, seeds=3, curves=False)
    records = collect(manifest, trials)
    return {arm: [copy.deepcopy(o) for o in records.cell(arm, "mix-nano")] for arm in ("plain", "bias", "penalty")}


def slow(outcomes, flip_rate=0.02, tail=2.4):
    for outcome in outcomes:
        outcome.record["measures"]["bias"] |= {"flip_rate": flip_rate, "max_abs": 0.05}
        outcome.record["measures"]["max_vio_batch"]["tail_mean"] = tail
    return outcomes


def test_a_bias_without_effect_that_still_moves_one_way(outcomes):
    note = bias_note(slow(outcomes["bias"]), outcomes["plain"])
    assert note.startswith(
        "The step size is too small for so short a horizon: after 120 steps the bias had reached 0.05"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"flip_rate": 0.5},  # at rest: more steps would not help
        {"tail": 1.0},  # it balances
    ],
)
def test_otherwise_nothing_is_said(outcomes, change):
    assert bias_note(slow(outcomes["bias"], **change), outcomes["plain"]) is None


def test_rules_without_a_bias_and_missing_figures(outcomes):
    assert bias_note(outcomes["penalty"], outcomes["plain"]) is None
    assert bias_note([], outcomes["plain"]) is None
    assert bias_note(slow(outcomes["bias"]), []) is None


def test_the_note_stands_in_the_row_beside_the_suites_own(tmp_path):
    manifest, trials = write_suite(tmp_path, seeds=3, curves=False)
    manifest["arms"][2]["note"] = "As published."
    for trial in manifest["trials"]:
        if trial["arm"] == "bias":
            path = trials / trial["trial_key"] / "record.json"
            record = json.loads(path.read_text(encoding="utf-8"))
            slow([Outcome("bias", "mix-nano", 0, "", "finished", record)])
            path.write_text(json.dumps(record), encoding="utf-8")
    row = next(row for row in build(manifest, collect(manifest, trials))["rows"] if row["arm"] == "bias")
    assert row["note"].startswith("As published. The step size is too small")


def test_an_arms_own_terms_and_values_are_said_beside_what_words_say_already():
    arm = {"terms": {"sequence_loss": 1e-4, "z_loss": 0.5}, "task": {"rung.score": "softmax", "rung.steps": 200}}
    assert own_note(arm) == "With sequence_loss 0.0001, z_loss 0.5, rung.steps 200"
    assert own_note({"terms": {}, "task": {"rung.score": "softmax", "rung.normalize_gates": False}}) is None
    assert own_note({}) is None


def test_a_rows_note_tells_them(tmp_path):
    manifest, trials = write_suite(tmp_path, seeds=3, curves=False)
    manifest["arms"][2] |= {"note": "As published.", "terms": {"z_loss": 0.001}}
    row = next(row for row in build(manifest, collect(manifest, trials))["rows"] if row["arm"] == "bias")
    assert row["note"] == "As published. With z_loss 0.001"
