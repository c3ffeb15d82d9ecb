"""What balance foretells: which settings take part, what the pages say of it."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_boards import board, losses, row, write

from results.recommend import evidence
from results.recommend.foretelling import MEASURES, elsewhere, foretelling, grid, in_short

LEVELS = {f"rule{place}": 3.0 + 0.02 * place for place in range(9)}


def setting(arm, level, dropped, *, late=1.0, strategy="rule", salt=0, **more):
    return {
        **row(arm, "text-bench", losses(level, 6, salt, noise=0), max_vio=late, **more),
        "strategy": strategy, "dropped": {"1.25": dropped}, "overflow": {"1.25": 0.1}, "peak_max_vio": 3.0,
        "device_rows": {"8": 5 + dropped}, "trial_keys": [f"{arm}-{seed}" for seed in range(6)],
        "dead_experts": 0.0, "delta_loss": {"mean": level - 3, "verdict": "tie"},
    }  # fmt: skip


def settings(count=9, **more):
    """Settings whose loss follows what they drop, and not their late MaxVio."""
    return [
        setting(
            f"rule{place}", 3 + 0.02 * place, 0.05 * (place + 1), late=1 + place % 2, strategy=f"s{place % 2}", **more
        )
        for place in range(count)
    ]


def boards(tmp_path, rows, suite="suite"):
    return evidence.load(write(tmp_path, board(suite, levels=LEVELS, rows=rows)))


def test_measures_are_read_from_the_rows(tmp_path):
    (entry,) = foretelling(boards(tmp_path, settings()))
    assert (entry["key"], entry["settings"], entry["rules"], entry["pairs"], entry["seeds"]) == (
        "suite/text-bench", 9, 2, 36, 6)  # fmt: skip
    shares = {name: told["share"]["mean"] for name, told in entry["measures"].items()}
    assert shares["dropped"] == shares["device_rows"] == 1.0
    assert shares["peak"] == shares["overflow"] == shares["dead"] == 0.5  # all alike: no word
    # By hand: 16 of 36 pairs have the same late MaxVio; of the 20 of an odd and an even place the even is the lower,
    # and it is the earlier one in 10 of them.
    assert shares["max_vio_batch"] == pytest.approx((16 * 0.5 + 10) / 36)
    assert entry["measures"]["max_vio_batch"]["other_rules"] == 0.5
    assert json.dumps(entry)  # plain


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"strategy": "hash"}, 8),  # a table
        ({"causal": False}, 8),
        ({"diverged": 1}, 8),
        ({"dropped": {"1.25": None}}, 8),  # records of old
        ({"dropped": {}}, 8),
        ({"delta_loss": {"mean": None, "verdict": "undecided"}}, 8),  # no seed in common with the baseline
        ({}, 9),
    ],
)
def test_only_settings_of_learned_rules_that_say_all_take_part(tmp_path, change, left):
    rows = settings()
    rows[3] |= change
    (entry,) = foretelling(boards(tmp_path, rows))
    assert entry["settings"] == left


def test_the_balance_of_each_tenth_of_training_is_read_from_curves(tmp_path):
    """Curves of 20 steps in rows of two: the first tenth is in the order of the losses, the last in the opposite."""
    rows = settings(8)
    for place, own in enumerate(rows):
        own["trial_keys"] = [f"key{place}"]
    found = boards(tmp_path, rows)
    assert foretelling(found)[0]["parts"] == []  # no curves
    for place in range(8):
        folder = found[0].trials / f"key{place}"
        folder.mkdir(parents=True)
        max_vio = [1.0 + place, *([2.0] * 8), 9.0 - place]
        pq.write_table(pa.table({"step": list(range(1, 20, 2)), "max_vio": max_vio}), folder / "curves.parquet")
    assert foretelling(found)[0]["parts"] == [1.0, *([0.5] * 8), 0.0]


def test_few_settings_say_nothing(tmp_path):
    assert foretelling(boards(tmp_path, settings(5))) == []


def test_a_board_whose_settings_another_has_is_not_told_again(tmp_path):
    write(tmp_path, board("whole", levels=LEVELS, rows=settings()))
    found = foretelling(boards(tmp_path, settings(8), "part"))
    assert [entry["board"] for entry in found] == ["whole"]
    others = [row | {"trial_keys": ["more", *row["trial_keys"]]} for row in settings(8)]
    found = foretelling(boards(tmp_path, others, "more"))
    assert [entry["board"] for entry in found] == ["whole", "more"]  # of other trials, whatever their losses


def test_the_half_that_ends_most_even_is_told_apart(tmp_path):
    """Late MaxVio is 1 and 2 in turn: the five that have 1 all measure alike by it, and in order by what is dropped."""
    (entry,) = foretelling(boards(tmp_path, settings()))
    assert entry["even_at_end"]["settings"] == 5
    assert (entry["even_at_end"]["dropped"], entry["even_at_end"]["max_vio_batch"]) == (1.0, 0.5)


def test_trials_of_fewer_steps_than_parts_have_no_parts(tmp_path):
    rows = settings(8)
    for own in rows:
        own["trial_keys"] = ["short"]
    found = boards(tmp_path, rows)
    (found[0].trials / "short").mkdir(parents=True)
    pq.write_table(pa.table({"step": [0, 1, 2], "max_vio": [1.0] * 3}), found[0].trials / "short" / "curves.parquet")
    assert foretelling(found)[0]["parts"] == []


def test_words(tmp_path):
    found = foretelling(boards(tmp_path, settings()))
    head, *lines = grid(found)
    assert head == ["Measure", "Counted over", "text-bench, 9 settings of suite"]
    assert len(lines) == len(MEASURES)
    assert lines[0] == ["Dropped: assignments beyond 1.25 × the mean", "all of training", "100 % [100, 100]"]
    assert "has the lower loss in 100 % [100, 100] of pairs on text-bench;" in in_short(found)
    assert in_short([]) == elsewhere(found) == ""
    write(tmp_path / "more", board("whole", levels=LEVELS, rows=settings()))
    other = [setting(f"other{i}", 3 + 0.03 * i, 0.1 + 0.1 * i) for i in range(6)]
    both = foretelling(boards(tmp_path / "more", other, "other"))
    assert [entry["board"] for entry in both] == ["whole", "other"]
    assert elsewhere(both).endswith("text-bench of other 100 % [100, 100] and 50 % [50, 50] (6 settings).")
    assert len(grid(both)[0]) == 3  # the board with the most settings alone
