"""Which seeds a part of a suite may have."""

from types import SimpleNamespace

import pytest

from results.submissions.grid import _asks, _cells


@pytest.mark.parametrize(
    ("suite", "theirs", "complaint"),
    [
        ([0, 1], [0, 1, 2, 3, 4, 5], None),  # counted on
        ([0, 1, 2], [0, 1], None),
        ([0, 1], [0, 2], "seed 2: not among the suite's first 2 (0, 1)"),
        ([3, 7], [3, 7, 8], "seed 8: not among the suite's first 3 (3, 7)"),  # chosen ones cannot be counted on
    ],
)
def test_a_part_has_the_suites_first_seeds_or_counts_on_from_them(suite, theirs, complaint):
    trials = [{"arm": "a", "task": "t", "seed": seed, "trial_key": f"k{seed}"} for seed in theirs]
    manifest = {"arms": [{"arm": "a"}], "tasks": [{"name": "t"}], "trials": trials, "baseline": "a"}
    said = list(_cells(manifest, SimpleNamespace(manifest={"baseline": "a"}, seeds=suite)))
    assert (said == []) if complaint is None else any(line.startswith(complaint) for line in said)


def test_what_a_suite_asks_for_is_told_apart_by_what_differs():
    names = [f"an-arm-with-a-long-name-{index}" for index in range(20)]
    ours = {"arms": names, "tasks": ["t", "u", "v"], "seeds": 2}
    manifest = {
        "asks": {"arms": [*names[:-1], "other", "own"], "tasks": ["t"], "seeds": 2},
        "arms": [{"arm": "own"}],
    }
    assert list(_asks(manifest, ours)) == [
        "asks: tasks: not as the suite says: lacks 'u', 'v'",
        "asks: arms: not as the suite says: lacks 'an-arm-with-a-long-name-19' and has 'other' besides",
    ]
