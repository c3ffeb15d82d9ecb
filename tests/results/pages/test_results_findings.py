"""Sentences held to boards: figures worked by hand against a board of three numbers."""

from __future__ import annotations

import json

import pytest

from results.pages.findings import agrees, disagreements, renewed, rounded, sentences


@pytest.fixture
def published(tmp_path):
    board = {
        "core_hours": 2.51,
        "tasks": [{"name": "t", "sensitivity": {"gain": 0.25}}],
        "rows": [
            {"arm": "a", "task": "t", "delta_loss": {"mean": -0.2104, "n": 6, "verdict": "better"},
             "overflow": {"1.25": 0.393}},
            {"arm": "b", "task": "t", "delta_loss": {"mean": 0.05, "n": 6, "verdict": "tie"}},
        ],
    }  # fmt: skip
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "leaderboard.json").write_text(json.dumps(board))
    verdict = {"id": "c", "verdict": "not reproduced", "figures": [{"estimate": 1.147}]}
    (tmp_path / "claims.json").write_text(json.dumps([verdict]))
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "No figure here, only `text-8` and [a link](figure-9.svg).",
        "A leads by 0.21 nats. <!-- - board/a/t delta_loss.mean -->",
        "A is at −0.210, over 6 seeds: better.\n<!-- board/a/t delta_loss.mean; delta_loss.n; delta_loss.verdict -->",
        "39 % of assignments are over. <!-- board/a/t overflow.1.25 -->",
        "A is 0.26 ahead of b. <!-- board/b/t delta_loss.mean - board/a/t delta_loss.mean -->",
        "At 4 of 256, a leads by 0.2. <!-- - board/a/t delta_loss.mean; \"4 of 256\" -->",
        "The task's gain is 0.25, at 2.5 core-hours. <!-- board/t sensitivity.gain; board core_hours -->",
        "It is 1.15 times as high, so not reproduced. <!-- claims/c figures.0.estimate; verdict -->",
        "Of all claims 1 is not reproduced. <!-- claims not_reproduced -->",
        "| a | −0.210 | better <!-- board/a/t delta_loss.mean; delta_loss.verdict --> |\n| --- | --- | --- |",
        "First: it is so. Then a leads by 0.21. <!-- - board/a/t delta_loss.mean --> And more.",
        "```sh\nrun --seeds 6\n```\nNothing.",
    ],
)  # fmt: skip
def test_what_the_boards_say_passes(published, text):
    assert disagreements(text, published) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A leads by 0.21.", "1 figures (0.21), 0 references"),
        ("A leads by 0.22. <!-- - board/a/t delta_loss.mean -->", "0.22: - board/a/t delta_loss.mean is 0.2104"),
        ("A is 0.21 behind. <!-- board/a/t delta_loss.mean -->", "0.21: board/a/t delta_loss.mean is -0.2104"),
        ("B is 0.26 ahead. <!-- board/a/t delta_loss.mean - board/b/t delta_loss.mean -->", "is -0.26"),
        ("A leads by 0.21. <!-- - board/a/t delta_loss.verdict -->", "a word has no sign"),
        ("A is at +0.21. <!-- board/a/t delta_loss.mean -->", "+0.21: "),
        ("Of all claims 2 are not reproduced. <!-- claims not_reproduced -->", "2: claims not_reproduced is 1"),
        ("A leads by 0.21. It has 6 seeds. <!-- board/a/t delta_loss.n -->", "0 references"),
        ("A leads by 0.21. <!-- - board/a/t delta_loss.mean --> So do 7.", "1 figures (7)"),
        ("- a leads by 0.21\n- by 6 <!-- board/a/t delta_loss.n -->", "1 figures (0.21)"),
        ("A leads by 0.21, a tie. <!-- board/a/t delta_loss.mean; delta_loss.verdict -->", "is 'better'"),
        ("A leads by 0.21. <!-- board/a/t delta_loss.mean; \"4 of 256\" -->", '"4 of 256" is not in the sentence'),
        ("A leads by 0.21. <!-- board/z/t delta_loss.mean -->", "no 'z/t'; expected one of a/t, b/t"),
        ("A leads by 0.21. <!-- nowhere/a/t delta_loss.mean -->", "no published board"),
        ("A leads by 0.21. <!-- board/a/t delta.mean -->", "no 'delta.mean'; expected one of"),
        ("A leads by 0.21. <!-- delta_loss.mean -->", "expected PLACE FIELD"),
        ("## Heading of 2026", "1 figures (2026)"),
        ("| a | 0.3 |", "1 figures (0.3)"),
    ],
)  # fmt: skip
def test_what_they_do_not_say_is_named(published, text, why):
    (line,) = disagreements(text, published)
    assert why in line


@pytest.mark.parametrize(
    ("figure", "value", "same"),
    [
        (("", "0.21", None), 0.2149, True),
        (("", "0.21", None), 0.2151, False),
        (("", "0.21", None), -0.2149, False),
        (("−", "0.21", None), -0.2149, True),
        (("−", "0.21", None), 0.21, False),
        (("", "1,024", None), 1024.4, True),
        (("", "3", " %"), 0.0349, True),
        (("", "3", " %"), 3.0, False),
    ],
)
def test_rounding(figure, value, same):
    assert agrees(*figure, value) is same


def test_a_comment_belongs_to_the_sentence_before_it():
    found = list(sentences("One. Two 2. <!-- a b; \"c; d\" -->\n\nThree."))  # fmt: skip
    assert [(s.text, s.references) for s in found] == [("One.", ()), ("Two 2.", ("a b", '"c; d"')), ("Three.", ())]


OLD = """# Heading

- It leads by 0.19 nats, over 7
  seeds (4 of 256, `8`), at 41 %. <!-- - board/a/t delta_loss.mean; "4 of 256"; "7 seeds"; overflow.1.25 -->

```sh
run 9
```

B is at +0.07, a tie. <!-- board/b/t delta_loss.mean; delta_loss.verdict --> The task's gain
is 0.31 (see [there](x-8.md)). <!-- board/t sensitivity.gain -->
"""


def test_figures_are_renewed_where_they_stand_and_nothing_else(published):
    text, changed = renewed(OLD, published)
    assert text == OLD.replace("0.19", "0.21").replace("41 %", "39 %").replace("+0.07", "+0.05").replace("0.31", "0.25")
    assert changed == [
        "- It leads by 0.21 nats, over 7 seeds (4 of 256, `8`), at 39 %.",
        "B is at +0.05, a tie.",
        "The task's gain is 0.25 (see [there](x-8.md)).",
    ]
    assert disagreements(text, published) == []
    assert renewed(text, published) == (text, [])


def test_what_cannot_be_renewed_stays_and_is_named(published):
    text = "A leads by 0.19, over 6 seeds. <!-- board/a/t delta_loss.mean -->\n"  # one reference for two figures
    assert renewed(text, published) == (text, [])
    text, changed = renewed(
        "A leads by 0.19, a tie. <!-- - board/a/t delta_loss.mean; delta_loss.verdict -->", published
    )
    assert changed == ["A leads by 0.21, a tie."]
    (line,) = disagreements(text, published)
    assert "is 'better', which the sentence does not say" in line


def test_words_stand_in_the_order_of_their_references(published):
    """A row of a table has several verdicts, and the one of another column is not its own."""
    row = "| A | {} | {} | <!-- board/a/t delta_loss.verdict; board/b/t delta_loss.verdict -->\n"
    assert disagreements(row.format("better", "tie"), published) == []
    (line,) = disagreements(row.format("tie", "better"), published)
    assert "board/b/t delta_loss.verdict is 'tie', which the sentence does not say there" in line


@pytest.mark.parametrize(
    ("figure", "value", "shown"),
    [
        (("", "0.20", None), 0.2149, "0.21"),
        (("", "0.20", None), -0.2149, "−0.21"),
        (("−", "0.20", None), -0.2149, "−0.21"),
        (("-", "0.20", None), -0.2149, "-0.21"),
        (("+", "0.20", None), -0.2149, "−0.21"),
        (("−", "0.2", None), 0.26, "+0.3"),
        (("", "12", " %"), 0.396, "40 %"),
        (("", "1,000", None), 12345.6, "12,346"),
    ],
)
def test_a_value_is_written_as_the_figure_was(figure, value, shown):
    assert rounded(*figure, value) == shown
