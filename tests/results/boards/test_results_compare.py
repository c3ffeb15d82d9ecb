"""Arms pair by pair."""

import numpy as np
import pytest
from synthetic_records import write_suite

from results.boards.compare import compare, to_text
from results.boards.leaderboard import build
from results.records import collect


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    manifest, trials = write_suite(tmp_path_factory.mktemp("suite"), curves=False, diverged={("plain", "mix-nano", 1)})
    return manifest, collect(manifest, trials)


def test_against_the_baseline_it_says_what_the_board_says(suite):
    board = {row["arm"]: row["delta_loss"] for row in build(*suite)["rows"]}
    (pair,) = compare(*suite, ["bias", "penalty"])["pairs"]
    for key in ("mean", "ci_low", "ci_high", "bootstrap_low", "p_t", "p_sign_flip", "hedges_g", "n"):
        assert pair[key] == board["bias"][key]
    assert pair["p_adjusted"] == pair["p_t"]  # a family of one
    assert compare(*suite, ["bias"])["arms"] == ["bias", "penalty"]


def test_every_pair_with_holm_over_the_pairs(suite):
    answer = compare(*suite, ["bias", "gentle", "plain"])
    assert [(p["first"], p["second"]) for p in answer["pairs"]] == [
        ("bias", "gentle"),
        ("bias", "plain"),
        ("gentle", "plain"),
    ]
    raw = np.array([p["p_t"] for p in answer["pairs"]])
    assert min(p["p_adjusted"] for p in answer["pairs"]) == pytest.approx(3 * raw.min())
    assert [p["verdict"] for p in answer["pairs"]] == ["tie", "better", "better"]
    assert answer["pairs"][1]["n"] == 9


def test_order_turns_the_sign(suite):
    (one,) = compare(*suite, ["bias", "plain"])["pairs"]
    (other,) = compare(*suite, ["plain", "bias"])["pairs"]
    assert other["mean"] == pytest.approx(-one["mean"])
    assert (one["verdict"], other["verdict"]) == ("better", "worse")
    assert one["measures"]["max_vio_batch"] == other["measures"]["max_vio_batch"][::-1]


def test_words(suite):
    text = to_text(compare(*suite, ["bias", "plain"]))
    assert "bias is better than plain (0.0414 nats/token lower" in text
    assert "1 of plain's diverged" in text
    assert "n = 9" in text
    assert "BCa bootstrap" in text
    assert "MaxVio batch: 0." in text
    assert "p adjusted over the one pair that is compared" in text
    assert "p adjusted over the 3 pairs of a task" in to_text(compare(*suite, ["bias", "gentle", "plain"]))


def test_too_few_seeds_are_indicative(tmp_path):
    manifest, trials = write_suite(tmp_path, seeds=2, curves=False)
    answer = compare(manifest, collect(manifest, trials), ["bias", "plain"])
    assert answer["pairs"][0]["verdict"] == "indicative"
    assert "bias against plain: indicative (2 paired seeds; a verdict needs 6)" in to_text(answer)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (["bias", "plane"], "'plane' is not in suite synthetic; did you mean 'plain'"),
        (["bias", "bias"], "two different arms"),
        ([], "two different arms"),
        (["penalty"], "two different arms"),
    ],
)
def test_usage(suite, arms, message):
    with pytest.raises(ValueError, match=message):
        compare(*suite, arms)
