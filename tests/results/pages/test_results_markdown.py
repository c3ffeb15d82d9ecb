"""The leaderboard for people and for spreadsheets."""

import csv
import io

import pytest
from synthetic_records import Arm, write_suite

from results.boards.leaderboard import build
from results.pages.markdown import leaderboard_csv, leaderboard_markdown
from results.records import collect

HOSTILE = "Nice | [name](http://evil) <script>\nnew line"


@pytest.fixture
def board(tmp_path):
    arms = (
        Arm("penalty", "Penalty", config={"coefficient": 0.01}),
        Arm("bad", HOSTILE, effect=0.02, causal=False, note="=SUM(A1)"),
        Arm("biased", "Biased", effect=-0.02, has_bias=True),
    )
    manifest, trials = write_suite(
        tmp_path, arms, ("mix-nano", "shift-nano"), 7, control=None, curves=False, diverged={("bad", "mix-nano", 0)}
    )
    return build(manifest, collect(manifest, trials), generated="2026-01-02")


def test_markdown_says_what_a_reader_needs(board):
    text = leaderboard_markdown(board)
    row = next(line for line in text.splitlines() if line.startswith("| 1 | Biased"))
    delta = next(r for r in board["rows"] if r["arm"] == "biased")["delta_loss"]
    assert f"{delta['mean']:+.4f} [{delta['ci_low']:+.4f}, {delta['ci_high']:+.4f}]" in row
    assert "| better |" in row
    assert "| 7 |" in row
    assert "worse (1 diverged)" in text
    assert "not causal in training" in text
    assert "> 1 of 56 trials diverged." in text
    assert "A/A, n = 7" in text
    assert "Noise floor of MaxVio" in text
    assert "Margin ±0.005" in text
    assert "made 2026-01-02" in text
    assert "## Across tasks" in text


def test_every_table_line_has_the_same_number_of_cells(board):
    lines = [
        line for line in leaderboard_markdown(board).splitlines() if line.startswith("| ") and "Strategy" not in line
    ]
    wide = [line.replace("\\|", "").count("|") for line in lines]
    assert sorted(set(wide)) == [4, 6, 10, 13]  # across tasks, by part, savings, boards


def test_hostile_titles_stay_text(board):
    text = leaderboard_markdown(board)
    assert "<script>" not in text
    assert "](http" not in text
    assert not any(line.startswith("new line") for line in text.splitlines())


def test_csv_reads_back(board):
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(board))))
    assert len(rows) == 6
    biased = next(row for row in rows if row["arm"] == "biased" and row["task"] == "mix-nano")
    source = next(row for row in board["rows"] if row["arm"] == "biased" and row["task"] == "mix-nano")
    assert float(biased["delta_loss.mean"]) == source["delta_loss"]["mean"]
    assert biased["delta_loss.verdict"] == "better"
    assert float(biased["overflow.1.25"]) == source["overflow"]["1.25"]
    assert float(biased["bias.max_abs"]) == source["bias"]["max_abs"]
    assert "bias" not in biased
    assert biased["config.coefficient"] == ""


def test_csv_runs_nothing_in_a_spreadsheet(board):
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(board))))
    assert {row["note"] for row in rows if row["arm"] == "bad"} == {"'=SUM(A1)"}


def test_a_title_carries_what_its_loss_cannot_be_compared_without():
    from results.pages.markdown import named

    assert named({"title": "A", "causal": True, "variable_k": False}) == "A"
    assert named({"title": "A", "causal": False, "variable_k": True}) == "A (not causal in training, variable FLOPs)"
