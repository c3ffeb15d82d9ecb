"""What a row averages, and over what."""

from dataclasses import replace

import pytest

from results.boards.rows import overheads, row
from results.boards.words import overhead_words
from results.records import Outcome


def trial(seed, step, *, status="finished", host="here", speed=100.0, loss=4.0, cpu=None, processor=None):
    record = {
        "provenance": {"hardware": {"label": "CPU"} | ({"processor": processor} if processor else {})},
        "measures": {
            "val_loss": loss, "max_vio_batch": {"tail_mean": step}, "max_vio_global": None, "dead_experts": None,
            "overflow": None, "bias": None,
        },
        "timing": {"tokens_per_second": speed, "step_ms": {"total": step} | ({"cpu": cpu} if cpu else {})},
        "attempts": [{"host": "elsewhere"}, {"host": host}],
    }  # fmt: skip
    return Outcome("arm", "task", seed, f"key-{seed}", status, record)


def test_overhead_is_the_median_over_paired_seeds_and_its_range_their_ends():
    arm = [trial(0, 11), trial(1, 12), trial(2, 30)]
    reference = [trial(0, 10), trial(1, 10), trial(2, 10)]
    assert overheads(arm, reference) == pytest.approx([0.1, 0.2, 2.0])
    other = [replace(outcome, arm="none") for outcome in reference]
    shown = row({"arm": "arm", "strategy": "arm", "title": "Arm"}, "task", arm, other, other)
    assert shown["overhead"] == pytest.approx(0.2)
    assert shown["overhead_range"] == pytest.approx([0.1, 2.0])
    assert overhead_words(shown) == "+20.0% [+10.0%, +200.0%]"
    assert overhead_words(shown | {"overhead": None}) == "–"
    single = row({"arm": "arm", "strategy": "arm", "title": "Arm"}, "task", arm, other[:1], other[:1])
    assert (overhead_words(single), single["overhead_range"]) == ("+10.0%", None)
    itself = row({"arm": "none", "strategy": "none", "title": "None"}, "task", other, other, other)
    assert (itself["overhead"], itself["overhead_range"]) == (0, None)


def test_overhead_prefers_pairs_of_one_host_and_does_without_them():
    arm = [trial(0, 11), trial(1, 30, host="there")]
    reference = [trial(0, 10), trial(1, 10)]
    assert overheads(arm, reference) == pytest.approx([0.1])
    assert overheads(arm[1:], reference) == pytest.approx([2.0])


def test_overhead_compares_no_steps_of_different_processors():
    arm = [trial(0, 11, processor="new"), trial(1, 30, processor="new"), trial(2, 13)]
    reference = [trial(0, 10, processor="new"), trial(1, 10), trial(2, 10)]
    assert overheads(arm, reference) == pytest.approx([0.1, 0.3])


def test_overhead_without_a_pair():
    assert overheads([trial(0, 11)], [trial(1, 10)]) == []
    assert overheads([trial(0, 11)], [trial(0, 10, status="diverged")]) == []
    assert overheads([], []) == []


def test_diverged_trials_take_no_part_in_the_means():
    outcomes = [
        trial(0, 10, loss=4.0),
        trial(1, 10, loss=4.2, speed=120.0),
        trial(2, 90, status="diverged", speed=1e6, loss=None),
    ]
    arm = {"arm": "arm", "strategy": "arm", "title": "Arm"}
    shown = row(arm, "task", outcomes, [trial(seed, 10, loss=3.9) for seed in range(3)], [])
    assert shown["val_loss"]["mean"] == pytest.approx(4.1)
    assert shown["max_vio_batch"] == 10
    assert shown["tokens_per_second"] == 110
    assert (shown["n_seeds"], shown["diverged"]) == (2, 1)
    assert [seed["delta"] for seed in shown["seeds"]] == [pytest.approx(0.1), pytest.approx(0.3), None]


def test_what_stands_beside_a_difference_rests_on_the_same_seeds():
    arm = {"arm": "arm", "strategy": "arm", "title": "Arm"}
    outcomes = [trial(0, 10, loss=4.0), trial(1, 20, loss=5.0), trial(2, 90, loss=9.0)]
    shown = row(arm, "task", outcomes, [trial(0, 10, loss=3.9), trial(1, 10, loss=3.9)], [])
    assert shown["val_loss"]["mean"] == pytest.approx(4.5)
    assert shown["max_vio_batch"] == 15
    assert shown["n_seeds"] == 3


def test_parts_of_a_difference_are_paired():
    def scored(seed, training, **domains):
        outcome = trial(seed, 10)
        outcome.record["measures"] |= {"val_loss_by_domain": domains, "train_loss_tail": training}
        return outcome

    arm = {"arm": "arm", "strategy": "arm", "title": "Arm"}
    mine = [scored(0, 2.5, code=3.0, plays=5.0), scored(1, 2.5, code=3.4, plays=6.0)]
    base = [scored(0, 3.0, code=3.1, plays=4.0), scored(1, 3.0, code=3.3, plays=5.0)]
    found = row(arm, "task", mine, base, [])["parts"]
    assert list(found) == ["training", "code", "plays"]
    assert found["training"] == {"mean": -0.5, "ci_low": -0.5, "ci_high": -0.5}
    assert found["plays"]["mean"] == 1.0
    assert found["code"]["mean"] == pytest.approx(0.0)
    assert found["code"]["ci_high"] == pytest.approx(12.7062 * 0.1)  # t(0.975, 1) · sd 0.1·√2 / √2
    assert row(arm, "task", [trial(0, 10)], [trial(0, 10)], [])["parts"] is None


def test_a_cpu_trial_without_its_cpu_time_has_no_speed():
    def on_cpu(seed, step, cpu=None):
        outcome = trial(seed, step, cpu=cpu)
        outcome.record["config"] = {"device": "cpu"}
        outcome.record["measures"] |= {"tokens": 5000, "steps": 10}
        return outcome

    arm = {"arm": "arm", "strategy": "arm", "title": "Arm"}
    silent = row(arm, "task", [on_cpu(0, 70)], [on_cpu(0, 10)], [on_cpu(0, 10)])
    assert (silent["tokens_per_second"], silent["overhead"]) == (None, None)
    timed = row(arm, "task", [on_cpu(0, 70, cpu=50)], [on_cpu(0, 10)], [on_cpu(0, 10, cpu=40)])
    assert timed["tokens_per_second"] == pytest.approx(500 / 0.050)
    assert timed["overhead"] == pytest.approx(0.25)


def test_what_no_record_has_is_none():
    shown = row({"arm": "arm", "strategy": "arm", "title": "Arm"}, "task", [], [], [])
    for key in ("perplexity", "max_vio_global", "overflow", "dead_experts", "bias", "tokens_per_second", "overhead"):
        assert shown[key] is None
    assert shown["trial_keys"] == []
