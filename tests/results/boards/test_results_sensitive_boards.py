"""Boards on fit and blunt tasks, with and without the baseline's other horizons."""

import json
import math

import numpy as np
import pytest
from synthetic_records import HORIZONS, Arm, write_suite

from results.boards.leaderboard import build
from results.boards.words import margin_words, saved_words, sensitivity_words
from results.pages.markdown import leaderboard_csv, leaderboard_markdown
from results.records import collect
from results.statistics.machine import load

ARMS = (
    Arm("penalty", "Penalty", noise=0.004),
    Arm("level", "Level", effect=0.0002, noise=0.004),
    Arm("ahead", "Ahead", effect=-0.04, noise=0.004),
    Arm("seer", "Sees the future", effect=-0.2, noise=0.004, causal=False),
    Arm("more", "More FLOPs", effect=-0.2, noise=0.004, variable_k=True),
    Arm("heap", "Collapsed", effect=-0.04, noise=0.004, flatten=0.0),
)


def board_of(path, gain=0.3, **options):
    arms = (*ARMS, Arm("twin", "Twin", effect=gain, noise=0.004))
    options = {"control": None, "margin": 0.03, "twin": "twin"} | options
    manifest, trials = write_suite(path, arms, curves=False, **options)
    return build(manifest, collect(manifest, trials)), manifest, trials


def test_a_task_carries_the_recipe_its_baseline_was_trained_with(tmp_path):
    manifest, trials = write_suite(tmp_path, ARMS[:2], seeds=2, curves=False, control=None)
    assert build(manifest, collect(manifest, trials))["tasks"][0]["recipe"] is None
    for trial in manifest["trials"]:
        path = trials / trial["trial_key"] / "record.json"
        record = json.loads(path.read_text())
        record["config"]["task"]["rung"]["recipe"] = "muon" if trial["arm"] == "penalty" else "its own"
        path.write_text(json.dumps(record))
    assert build(manifest, collect(manifest, trials))["tasks"][0]["recipe"] == "muon"


def rows_of(board):
    return {row["arm"]: row for row in board["rows"]}


def losses(manifest, trials, arm):
    keys = [t["trial_key"] for t in manifest["trials"] if t["arm"] == arm]
    return np.array([json.loads((trials / key / "record.json").read_text())["measures"]["val_loss"] for key in keys])


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    return board_of(tmp_path_factory.mktemp("fit"), horizons=True, margin=None)


def test_gain_is_of_causal_arms_at_equal_flops(fit):
    board, manifest, trials = fit
    found = board["tasks"][0]["sensitivity"]
    ahead = losses(manifest, trials, "twin") - losses(manifest, trials, "ahead")
    heap = losses(manifest, trials, "twin") - losses(manifest, trials, "heap")
    assert min(ahead.mean(), heap.mean()) - 0.01 < found["gain"]["mean"] < max(ahead.mean(), heap.mean()) + 0.01
    assert found["gain"]["arm"] == ("ahead" if ahead.mean() > heap.mean() else "heap")
    base = losses(manifest, trials, "penalty")
    deviations = [(losses(manifest, trials, arm.name) - base).std(ddof=1) for arm in ARMS if arm.name != "penalty"]
    deviations.append((losses(manifest, trials, "twin") - base).std(ddof=1))
    assert found["spread"] == pytest.approx(np.median(deviations))
    assert (found["word"], found["n"]) == ("fit", 10)
    assert "Fit to judge balancing" in sensitivity_words(found)


def test_a_blunt_task_calls_no_tie_and_keeps_its_figures(tmp_path):
    sharp, _, _ = board_of(tmp_path / "fit")
    assert rows_of(sharp)["level"]["delta_loss"]["verdict"] == "tie"
    board, _, _ = board_of(tmp_path / "blunt", gain=0.05)
    level = rows_of(board)["level"]["delta_loss"]
    assert board["tasks"][0]["sensitivity"]["word"] == "blunt"
    assert level["verdict"] == "undecided"
    assert "too blunt" in level["words"]
    assert level["p_tie"] < 0.05
    assert rows_of(board)["seer"]["delta_loss"]["verdict"] == "better"
    assert any("Too blunt to judge balancing: mix-nano" in warning for warning in board["warnings"])


def test_without_a_twin_nothing_is_said(tmp_path):
    board, _, _ = board_of(tmp_path, twin=None)
    found = board["tasks"][0]["sensitivity"]
    assert (found["word"], found["gain"]["mean"]) == (None, None)
    assert rows_of(board)["level"]["delta_loss"]["verdict"] == "tie"
    assert "unknown" in sensitivity_words(found)


def test_the_margin_is_two_percent_of_the_tokens(fit):
    board, manifest, trials = fit
    margin = board["tasks"][0]["margin"]
    whole, half, double = (losses(manifest, trials, f"penalty{end}") for end in ("", "-half", "-double"))
    e0, e1 = (half - whole).mean(), (whole - double).mean()
    assert e0 == pytest.approx(HORIZONS["half"], abs=0.01)
    ratio = e1 / e0
    assert margin["value"] == pytest.approx(e1 * (ratio ** math.log2(1.02) - 1) / (ratio - 1))
    assert (margin["source"], board["margins"]["mix-nano"]) == ("tokens", margin["value"])
    assert margin["ci_low"] < margin["value"] < margin["ci_high"]
    assert "2% more training tokens" in margin_words(margin)


def test_horizons_and_the_second_run_are_never_ranked(fit):
    board = fit[0]
    assert set(rows_of(board)) == {*(arm.name for arm in ARMS), "twin"}
    assert board["n_arms"] == 6


def test_without_horizons_the_margin_falls_back_and_says_so(tmp_path):
    board, _, _ = board_of(tmp_path, margin=None)
    assert board["tasks"][0]["margin"]["source"] == "aa"
    assert rows_of(board)["ahead"]["tokens_saved"] is None
    assert any("cannot be told in tokens" in warning for warning in board["warnings"])


def test_tokens_saved_of_a_row(fit):
    board, manifest, trials = fit
    rows = rows_of(board)
    whole, half, double = (losses(manifest, trials, f"penalty{end}") for end in ("", "-half", "-double"))
    e0, e1 = (half - whole).mean(), (whole - double).mean()
    delta = (losses(manifest, trials, "ahead") - whole).mean()
    doublings = math.log(1 - delta * (1 / e0 - 1 / e1)) / math.log(e1 / e0)
    saved = rows["ahead"]["tokens_saved"]
    assert saved["mean"] == pytest.approx(2**doublings - 1)
    assert saved["ci_low"] < saved["mean"] < saved["ci_high"]
    assert rows["level"]["tokens_saved"]["ci_low"] < 0 < rows["level"]["tokens_saved"]["ci_high"]
    assert rows["seer"]["tokens_saved"]["extrapolated"] is True
    assert saved_words(rows["seer"]["tokens_saved"]).startswith("over 2.0 ×")
    assert rows["penalty"]["tokens_saved"] is None
    assert saved_words({"mean": 1.43, "ci_low": 0.96, "ci_high": 1.87, "extrapolated": False}) == "2.4 × [+96%, 2.9 ×]"


def test_time_on_many_devices_punishes_a_collapsed_load(fit):
    board, manifest, trials = fit
    rows, machine = rows_of(board), load()
    for count in ("1", "8", "64"):
        times = {}
        for arm in ("heap", "penalty"):
            keys = [t["trial_key"] for t in manifest["trials"] if t["arm"] == arm]
            records = [json.loads((trials / key / "record.json").read_text()) for key in keys]
            loads = [record["measures"]["device_rows"][count] for record in records]
            times[arm] = np.array([machine.step_seconds(rows_, int(count), 2, 2) for rows_ in loads])
        expected = np.exp(np.log(times["heap"] / times["penalty"]).mean())
        assert rows["heap"]["step_time"][count] == pytest.approx(expected)
    assert rows["heap"]["step_time"]["1"] == pytest.approx(1.0)
    assert rows["heap"]["step_time"]["64"] > 1.2
    # The same loss: what it saves in tokens it loses in time.
    assert rows["heap"]["time_saved"]["64"]["mean"] < rows["ahead"]["time_saved"]["64"]["mean"] - 0.1
    assert rows["heap"]["time_saved"]["1"]["mean"] == pytest.approx(rows["heap"]["tokens_saved"]["mean"])
    assert rows["heap"]["dropped"]["1.25"] > rows["ahead"]["dropped"]["1.25"]


def test_the_twin_exchanges_nothing(fit):
    assert rows_of(fit[0])["twin"]["step_time"]["64"] < 1


def test_core_hours_are_the_steps_cpu_time(fit):
    board, manifest, trials = fit
    keys = {trial["trial_key"] for trial in manifest["trials"]}
    records = [json.loads((trials / key / "record.json").read_text()) for key in keys]
    spent = sum(r["timing"]["step_ms"]["cpu"] * r["measures"]["steps"] for r in records)
    assert board["core_hours"] == pytest.approx(spent / 3.6e6)
    assert board["accelerator_hours"] is None


def test_every_form_of_the_board_says_it(fit):
    board = fit[0]
    text = leaderboard_markdown(board)
    for words in ("Fit to judge balancing", "2% more training tokens", "Tokens saved", "core-hours", "H100 SXM"):
        assert words in text
    head = leaderboard_csv(board).splitlines()[0].split(",")
    assert {"sensitivity.word", "sensitivity.gain.mean", "task_margin.source", "tokens_saved.mean"} <= set(head)
    assert {"step_time.64", "time_saved.64.mean", "dropped.1.25"} <= set(head)
