"""`equipoise recommend` as people ask it: in text, in JSON, with conditions of their own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from published_boards import board, losses, row, write

from suite.cli import main


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """One board: `close` is best, though not causal; at equal time `good` pays for its slow steps."""
    rows = [
        row(arm, "text-bench", losses(level, 8, 0), step_time=ratio, causal=arm != "close")
        for arm, level, ratio in (("good", 3.0, 4.0), ("close", 2.5, 1.0), ("far", 3.3, 1.0))
    ]
    return write(tmp_path_factory.mktemp("boards") / "published", board(rows=rows))


def ask(published, *words, code=0):
    result = CliRunner().invoke(main, ["recommend", "--published", str(published), *words])
    assert result.exit_code == code, result.output + result.stderr
    return result


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ("--devices 1", "close"),
        ("--causal", "good"),
        ("--causal --devices 64", "far"),
        ("--no-knob", "close"),
        ("--learned", "close"),
        ("--no-knob --causal", None),  # only one is left, and nothing to compare it with
        ("--experts 32 --causal", "good"),
        ("--experts 256", None),
        ("--recipe muon", "close"),
        ("--recipe adamw", None),
        ("--kind recall", None),
        ("--track tuned --causal", None),
    ],
)
def test_conditions_of_ones_own(published, options, best):
    track = [] if "--track" in options else ["--track", "as-published"]
    said = json.loads(ask(published, *options.split(), *track, "--json").stdout)
    assert said.keys() == {"answers"}
    (answer,) = said["answers"]
    assert answer["need"] == "yours"
    found = [entry["row"] for cell in answer["evidence"] for entry in cell["set"]]
    assert found == ([f"suite/{best}/text-bench"] if best else [])
    assert bool(answer["missing"]) == (best is None)


def test_text_says_what_was_asked_who_is_best_and_on_what_it_rests(published):
    lines = ask(published, "--causal", "--devices", "64", "--track", "as-published").output.splitlines()
    assert lines[0] == "the lowest loss, at equal time on 64 devices, routed as it was trained (as published)"
    assert lines[1].startswith("  Far: the one other compared is shown to be worse. Behind: Good by 0.4")
    assert (
        lines[2] == "    from suite: text-bench, 32 experts top-2, muon, equal time on 64 devices, simulated, 8 seeds"
    )
    assert lines[3] == "    Good: at equal time beyond half or double the horizon, extrapolated"
    assert lines[4] == "    Close left out: not causal in training"
    nothing = ask(published, "--experts", "256", "--track", "as-published").output
    assert "  No evidence.\n" in nothing
    assert (
        "has a task text-… or mix-… or long-… or text-sparse-… or sparse-… or experts-256-… with 256 experts" in nothing
    )


def test_without_conditions_every_need_is_answered_on_both_tracks(published):
    said = json.loads(ask(published, "--json").stdout)
    named = [line.split()[0] for line in ask(published, "--need", "list").output.splitlines()]
    assert [answer["need"] for answer in said["answers"]] == [name for name in named for _ in range(2)]
    assert {answer["track"] for answer in said["answers"]} == {"as-published", "balanced"}
    assert said["rankings"]
    text = ask(published, "--full").output
    assert all(answer["question"] in text for answer in said["answers"])
    assert "How rankings travel" in text
    glance = ask(published).output
    assert glance.startswith("Scale: ")
    assert all(words.lower() in glance.lower() for words in {answer["question"] for answer in said["answers"]})
    assert "--full" in glance.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--need", "speed"], "need: 'speed' is unknown; expected one of loss, sparsity, shift"),
        (["--need", "loss", "--causal"], "--need: names a need that is there already"),
        (["--experts", "1"], "--experts"),
    ],
)
def test_mistakes_are_named(published, words, said):
    assert said in ask(published, *words, code=2).stderr
