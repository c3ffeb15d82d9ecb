"""Numbers as text."""

from __future__ import annotations

import pytest

from results.text import counted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((0, "trial"), "0 trials"),
        ((1, "trial"), "1 trial"),
        ((1200, "trial"), "1,200 trials"),
        ((1, "strategy", "strategies"), "1 strategy"),
        ((2, "strategy", "strategies"), "2 strategies"),
    ],
)
def test_what_is_counted_agrees_with_its_number(words, said):
    assert counted(*words) == said
