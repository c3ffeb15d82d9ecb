"""A stranger's program under the name of a strategy that comes along: refused, and never run without trust."""

from __future__ import annotations

import json

import pytest
from submitted_files import rekeyed, renamed_arm

from strategies.registry.source_text import text_digest

PROGRAM = """
from pathlib import Path

from strategies import BiasStrategy

Path("ran").touch()


class Mine(BiasStrategy):
    name = "none"
    title = "x"

    def step(self, violation_E):
        return violation_E
"""


@pytest.fixture
def report(files, checked, tmp_path, monkeypatch):
    """What `verify` says of an archive whose arm of its own, `my_none`, brings a text named like the built-in rule."""
    monkeypatch.chdir(tmp_path)
    renamed_arm("none", "my_none")(files)
    rekeyed("config.strategy.source", text_digest("none", PROGRAM), "my_none")(files)
    files["plugins/none.py"] = PROGRAM.encode()
    return checked(files.seal().write(tmp_path / "tampered.tar.gz"))


def keys_of(report, strategy):
    return [key for key, trial in report.trials.items() if trial.record["config"]["strategy"]["name"] == strategy]


def test_it_is_refused(report):
    assert "plugins/none.py: none comes with Equipoise; expected a name of its own" in report.violations


def test_it_needs_trust(report):
    from suite.running import joining

    assert len(keys_of(report, "none")) == 2
    assert joining.candidates(report, trusted=False) == sorted(keys_of(report, "aux_loss"))
    assert joining.candidates(report, trusted=True) == sorted(report.trials)


def test_even_trusted_it_is_the_rule_that_comes_along_that_is_trained(report, tmp_path):
    from suite.running import joining

    key = keys_of(report, "none")[0]
    again = joining.rerun(report, key, tmp_path / "home", lambda _: None, lambda _: None)
    assert not (tmp_path / "ran").exists()
    assert again["verdict"] == "identical"
    assert "the rule's code has changed since" in again["differs"]
    record = json.loads((tmp_path / "home" / "reproductions" / key / "record.json").read_text())
    assert record["config"]["strategy"]["source"] != text_digest("none", PROGRAM)
