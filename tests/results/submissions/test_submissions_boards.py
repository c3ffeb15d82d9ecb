"""Published boards, tampered with where they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from results.records.published import trials_of
from results.submissions import boards as checking
from results.submissions.boards import check_boards

PROTOCOLS = ("1", "2")
PUBLISHED = Path(__file__).parents[3] / "results" / "published"
QUICK = next(path.parent for path in sorted(PUBLISHED.rglob("leaderboard.json")) if path.parent.name == "quick")


@pytest.fixture
def boards(tmp_path):
    shutil.copytree(QUICK, tmp_path / "boards" / "quick")
    for cell in json.loads((QUICK / "manifest.json").read_text())["trials"]:
        key = cell["trial_key"]
        shutil.copytree(trials_of(QUICK) / key, tmp_path / "boards" / "trials" / key)
    return tmp_path / "boards"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def row(content):
    return next(row for row in content["rows"] if row["arm"] != content["baseline"])


def record_of(boards):
    board = json.loads((boards / "quick" / "leaderboard.json").read_text())
    return boards / "trials" / row(board)["trial_keys"][0] / "record.json"


def test_as_published_it_is_in_order(boards):
    assert check_boards(boards, PROTOCOLS) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda board: row(board)["val_loss"].update(mean=1.0), "val_loss.mean: 1.0; its records have"),
        (lambda board: row(board)["delta_loss"].update(mean=-1.0), "delta_loss: -1.0 of"),
        (lambda board: row(board)["delta_loss"].update(n=99), "of 99 pairs; the records have"),
        (lambda board: row(board)["seeds"][0].update(val_loss=1.0), "loss 1.0; its record has"),
        (lambda board: row(board)["seeds"][0].update(trial_key="x"), "no record of trial 'x'"),
        (lambda board: board.update(hardware="NVIDIA H100"), "not the board's"),
        (lambda board: board.pop("rows"), "leaderboard.json: not a leaderboard"),
    ],
)
def test_a_row_that_its_records_do_not_bear_out(boards, change, said):
    edit(boards / "quick" / "leaderboard.json", change)
    lines = check_boards(boards, PROTOCOLS)
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["measures"].update(val_loss=1.0), "measures.perplexity"),
        (lambda record: record["config"].update(seed=7), "that of its configuration is"),
        (lambda record: record["config"]["task"]["rung"].update(learning_rate=1.0), "that of its configuration is"),
        (lambda record: record["timing"].update(train_seconds=1.0), "the curve ends at"),
        (lambda record: record.update(status="maybe"), "cannot be read"),
    ],
)
def test_a_record_that_contradicts_itself(boards, change, said):
    edit(record_of(boards), change)
    lines = check_boards(boards, PROTOCOLS)
    assert any(said in line for line in lines), lines


def test_files_that_no_board_has(boards):
    (boards / "quick" / "run.sh").write_text("rm -rf /")
    (boards / "quick" / "figures" / "link.svg").symlink_to("/etc/passwd")
    (boards / "quick" / "giant.json").write_bytes(bytes(9 * 2**20))
    lines = "\n".join(check_boards(boards, PROTOCOLS))
    assert "quick/run.sh: no file of a board has that kind" in lines
    assert "quick/figures/link.svg: a link; expected plain files only" in lines
    assert "quick/giant.json: 9,437,184 bytes" in lines


def test_markup_in_a_title_and_another_protocol(boards):
    edit(boards / "quick" / "manifest.json", lambda content: content["arms"][0].update(title="<b>"))
    assert any("holds markup" in line for line in check_boards(boards, PROTOCOLS))
    assert any("protocol_version: " in line for line in check_boards(boards, ("99",)))


def test_a_trial_of_two_boards_is_looked_at_once(boards, monkeypatch):
    shutil.copytree(boards / "quick", boards / "again")
    looked, check = [], checking._record
    monkeypatch.setattr(checking, "_record", lambda place, now: looked.append(place.name) or check(place, now))
    assert check_boards(boards, PROTOCOLS) == []
    assert sorted(looked) == sorted(path.name for path in (boards / "trials").iterdir())


def test_a_trial_that_nothing_rests_on(boards):
    def drop(manifest):
        manifest["trials"].pop()

    key = json.loads((boards / "quick" / "manifest.json").read_text())["trials"][-1]["trial_key"]
    edit(boards / "quick" / "manifest.json", drop)
    said = f"trials/{key}: no board and no verdict on a claim rests on it"
    assert any(line.startswith(said) for line in check_boards(boards, PROTOCOLS))
    (boards / "claims.json").write_text(json.dumps([{"verdict": "reproduced", "trial_keys": [key]}]))
    assert not any(line.startswith(said) for line in check_boards(boards, PROTOCOLS))


def test_a_trial_of_an_earlier_layout(boards):
    shutil.copytree(boards / "trials", boards / "quick" / "trials")
    lines = check_boards(boards, PROTOCOLS)
    assert len(lines) == len(list((boards / "trials").iterdir()))
    assert all(line.startswith("quick/trials/") and "rests on it" in line for line in lines)


def test_a_verdict_whose_trial_is_gone(boards):
    (boards / "claims.json").write_text(json.dumps([{"verdict": "reproduced", "trial_keys": ["x"]}]))
    said = ["trials: no record of trial 'x', which a verdict on a claim rests on"]
    assert check_boards(boards, PROTOCOLS) == said
    for name in ("quick", "trials"):
        shutil.rmtree(boards / name)
    assert check_boards(boards, PROTOCOLS) == said


@pytest.mark.parametrize("name", ["quick/manifest.json", "claims.json"])
def test_what_says_whose_trials_are_cannot_be_read(boards, name):
    (boards / name).write_text("{")
    lines = check_boards(boards, PROTOCOLS)
    assert any(line.startswith("trials: ") and f"{name}: cannot be read" in line for line in lines)
    assert not any("rests on it" in line for line in lines)


def test_a_curve_that_is_gone(boards):
    record_of(boards).with_name("curves.parquet").unlink()
    assert any("curves: missing" in line for line in check_boards(boards, PROTOCOLS))
