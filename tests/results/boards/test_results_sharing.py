"""Trials that shared an accelerator, by hand, and what that does to a board."""

from __future__ import annotations

import pytest
from synthetic_records import write_suite

from results.boards.cost import costs
from results.boards.leaderboard import build
from results.boards.sharing import at_once, busy_seconds, crowded
from results.records import Outcome, Records, collect


def trial(number, device, spans, host="node", **more):
    record = {
        "config": {"device": device, "threads": 1},
        "provenance": {"hardware": {"label": "one kind", "device": device}},
        "attempts": [
            {"host": host, "started": f"2026-01-01T00:{a}Z", "ended": f"2026-01-01T00:{b}Z", **more} for a, b in spans
        ],
        "timing": {"train_seconds": 30.0, "step_ms": {}},
        "measures": {"steps": 1},
    }
    return Outcome("arm", "task", number, f"key{number}", "finished", record)


@pytest.mark.parametrize(
    ("trials", "most", "busy"),
    [
        # 0–30 s and 20–50 s overlap, 60–70 s stands alone: two at once, busy for 50 + 10 s
        ([("cuda", [("00:00", "00:30")], {}), ("cuda", [("00:20", "00:50"), ("01:00", "01:10")], {})], 2, 60),
        # one ends in the second in which the other starts
        ([("cuda", [("00:00", "00:30")], {}), ("cuda", [("00:30", "00:50")], {})], 1, 50),
        # on two accelerators of one machine, and on two machines
        ([("cuda", [("00:00", "00:30")], {"unit": "a"}), ("cuda", [("00:00", "00:30")], {"unit": "b"})], 1, 60),
        ([("cuda", [("00:00", "00:30")], {"host": "x"}), ("cuda", [("00:00", "00:30")], {"host": "y"})], 1, 60),
        # a CPU's cores are not one device
        ([("cpu", [("00:00", "00:30")], {}), ("cpu", [("00:00", "00:30")], {})], 0, 0),
    ],
)
def test_overlaps_by_hand(trials, most, busy):
    records = Records([trial(number, device, spans, **more) for number, (device, spans, more) in enumerate(trials)])
    assert at_once(records) == most
    assert busy_seconds(records) == busy


def test_an_accelerator_s_hours_are_its_own_not_its_trials():
    shared = Records([trial(number, "cuda", [("00:00", "00:36")]) for number in range(5)])
    assert costs(shared) == {"core_hours": None, "accelerator_hours": pytest.approx(0.01)}
    unnoted = Records([trial(0, "cuda", [])])
    assert costs(unnoted)["accelerator_hours"] == pytest.approx(30 / 3600)


def test_who_was_beside_another():
    """The first two overlap; the third is alone; the fourth on another accelerator."""
    spans = [[("00:00", "00:30")], [("00:20", "00:50")], [("01:00", "01:10")]]
    trials = [trial(number, "cuda", span) for number, span in enumerate(spans)]
    assert crowded(Records([*trials, trial(3, "cuda", [("00:00", "01:10")], host="other")])) == {"key0", "key1"}


def test_a_trial_is_not_beside_itself_and_each_attempt_is_where_it_was():
    moved = trial(0, "cuda", [("00:00", "00:30"), ("00:40", "01:00")], host="first")
    moved.record["attempts"][1]["unit"] = "b"
    others = [trial(1, "cuda", [("00:40", "01:00")], "first"), trial(2, "cuda", [("00:00", "00:30")], "second")]
    assert crowded(Records([moved, *others])) == set()


@pytest.mark.parametrize("ended", [None, "garbage", 5, ["x"], "0001-01-01T00:00:00", "2026-01-01T00:00:05"])
def test_times_that_are_none_count_by_what_training_took(ended):
    odd = trial(0, "cuda", [("00:00", "00:30")])
    odd.record["attempts"][0]["ended"] = ended
    both = Records([odd, trial(1, "cuda", [("00:00", "00:36")])])
    assert at_once(both) == 1
    assert costs(both)["accelerator_hours"] == pytest.approx((30 + 36) / 3600)


def test_a_board_shows_no_speed_of_rows_that_shared_and_says_so(tmp_path):
    manifest, trials = write_suite(tmp_path, seeds=2, curves=False)
    alone = build(manifest, collect(manifest, trials))
    records = collect(manifest, trials)
    for outcome in records:
        if outcome.arm in ("bias", "plain"):  # all synthetic attempts are of the same two minutes
            outcome.record["config"]["device"] = "cuda"
    board = build(manifest, records)
    for mine, before in zip(board["rows"], alone["rows"], strict=True):
        shared = mine["arm"] in ("bias", "plain")
        assert (mine["tokens_per_second"] is None) == shared
        assert before["tokens_per_second"] is not None
    assert board["at_once"] == 4
    assert "Up to 4 trials had one accelerator at once: their speeds and overheads are not shown." in board["warnings"]
    assert not any("accelerator" in line for line in alone["warnings"])
