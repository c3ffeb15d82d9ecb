"""Trials that shared an accelerator, and what that does to a board."""

from __future__ import annotations

import pytest

from results.boards.cost import costs
from results.boards.sharing import at_once, busy_seconds
from results.records import Outcome, Records


def trial(number, device, spans, host="node", **hardware):
    record = {
        "config": {"device": device, "threads": 1},
        "provenance": {"hardware": {"label": "one kind", "device": device, **hardware}},
        "attempts": [
            {"host": host, "started": f"2026-01-01T00:{a}Z", "ended": f"2026-01-01T00:{b}Z"} for a, b in spans
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
