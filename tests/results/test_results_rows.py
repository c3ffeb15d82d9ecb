"""What a row averages, and over what."""

import pytest

from results.records import Outcome
from results.rows import overhead, row


def trial(seed, step, *, status="finished", host="here", speed=100.0, loss=4.0, cpu=None):
    record = {
        "measures": {
            "val_loss": loss, "max_vio_batch": {"tail_mean": step}, "max_vio_global": None, "dead_experts": None,
            "overflow": None, "bias": None,
        },
        "timing": {"tokens_per_second": speed, "step_ms": {"total": step} | ({"cpu": cpu} if cpu else {})},
        "attempts": [{"host": "elsewhere"}, {"host": host}],
    }  # fmt: skip
    return Outcome("arm", "task", seed, f"key-{seed}", status, record)


def test_overhead_is_the_median_over_paired_seeds():
    arm = [trial(0, 11), trial(1, 12), trial(2, 30)]
    reference = [trial(0, 10), trial(1, 10), trial(2, 10)]
    assert overhead(arm, reference) == pytest.approx(0.2)


def test_overhead_prefers_pairs_of_one_host_and_does_without_them():
    arm = [trial(0, 11), trial(1, 30, host="there")]
    reference = [trial(0, 10), trial(1, 10)]
    assert overhead(arm, reference) == pytest.approx(0.1)
    assert overhead(arm[1:], reference) == pytest.approx(2.0)


def test_overhead_goes_by_cpu_time_where_both_records_have_it():
    arm = [trial(0, 70, cpu=11), trial(1, 10, cpu=12), trial(2, 90)]
    reference = [trial(0, 10, cpu=10), trial(1, 10, cpu=10), trial(2, 10, cpu=10)]
    assert overhead(arm, reference) == pytest.approx(0.15)
    assert overhead(arm[2:], reference) == pytest.approx(8.0)


def test_overhead_without_a_pair():
    assert overhead([trial(0, 11)], [trial(1, 10)]) is None
    assert overhead([trial(0, 11)], [trial(0, 10, status="diverged")]) is None
    assert overhead([], []) is None


def test_diverged_trials_take_no_part_in_the_means():
    outcomes = [
        trial(0, 10, loss=4.0),
        trial(1, 10, loss=4.2, speed=120.0),
        trial(2, 90, status="diverged", speed=1e6, loss=None),
    ]
    arm = {"arm": "arm", "strategy": "arm", "title": "Arm"}
    shown = row(arm, "task", outcomes, {0: 3.9}, [])
    assert shown["val_loss"]["mean"] == pytest.approx(4.1)
    assert shown["max_vio_batch"] == 10
    assert shown["tokens_per_second"] == 110
    assert (shown["n_seeds"], shown["diverged"]) == (2, 1)
    assert [seed["delta"] for seed in shown["seeds"]] == [pytest.approx(0.1), None, None]


def test_what_no_record_has_is_none():
    shown = row({"arm": "arm", "strategy": "arm", "title": "Arm"}, "task", [], {}, [])
    for key in ("perplexity", "max_vio_global", "overflow", "dead_experts", "bias", "tokens_per_second", "overhead"):
        assert shown[key] is None
    assert shown["trial_keys"] == []
