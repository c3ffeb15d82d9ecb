"""Claims from the command line: `claims` stands for every testable one, and what verdicts rest on is published."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from results import claims as ledger
from suite.cli import main

ALWAYS = {"claimed": {"at_least": 0.0}, "contradicted": {"at_most": -1.0}}  # no MaxVio is negative


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return result


@pytest.fixture
def claims(tiny_suite, tmp_path, monkeypatch):
    """Three claims in place of the ledger's; two share an arm, one cannot be tested."""
    folder = tmp_path / "ledger"
    folder.mkdir()

    def write(name, arms, rule):
        whole = {
            "id": name, "topic": "Tiny", "statement": f"it is {name}", "measure": "MaxVio",
            "source": {"kind": "press", "title": "a paper", "where": "somewhere"},
            "said": {"number": "0", "scale": "any"}, "testable": bool(arms),
        }  # fmt: skip
        if arms:
            trials = {"strategies": arms, "tasks": tiny_suite["tasks"], "seeds": 6}
            whole |= {"tested_at": "tiny", "trials": trials, "rule": rule}
        else:
            whole |= {"why": "there is no such thing"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(whole))

    level = {"kind": "level", "of": "none", "measure": "max_vio_batch.tail_mean", **ALWAYS}
    write("a-level", ["none"], level)
    write("b-two", ["none", "smebu"], {"kind": "all", "rules": [level, level | {"of": "smebu"}]})
    write("c-advice", [], None)
    load_all, get = ledger.load_all, ledger.get
    monkeypatch.setattr(ledger, "load_all", lambda: load_all(folder))
    monkeypatch.setattr(ledger, "get", lambda name: get(name, folder))
    return write


def test_every_claim_is_planned_run_and_published_with_what_it_rests_on(claims, home, tmp_path):
    plans = json.loads(call("plan", "claims", "--json", "--home", home).stdout)
    assert [(p["suite"], p["trials"], p["states"]["new"]) for p in plans] == [
        ("claims-a-level", 6, 6),
        ("claims-b-two", 12, 6),  # the arm that both need is counted once
    ]
    text = call("plan", "claims", "--home", home).output
    assert "claims-b-two" in text
    assert "in all" in text

    ran = call("run", "claims", "--home", home, "--tracking", "none", "--jobs", 2)
    assert "6 trials finished, 0 reused" in ran.stderr
    assert "6 trials finished, 6 reused" in ran.stderr
    assert "nothing left to run" in call("plan", "claims", "--home", home).output

    claims("d-not-run", ["hash"], {"kind": "level", "of": "hash", "measure": "max_vio_batch.tail_mean", **ALWAYS})
    boards = tmp_path / "published"
    verdicts = json.loads(call("claims", "--publish", boards, "--json", "--home", home).stdout)
    assert {verdict["id"]: verdict["verdict"] for verdict in verdicts} == {
        "a-level": "reproduced",
        "b-two": "reproduced",
        "c-advice": "not testable here",
        "d-not-run": "undecided",
    }
    copied = [sorted(file.name for file in trial.iterdir()) for trial in (boards / "trials").iterdir()]
    assert copied == [["curves.parquet", "record.json"]] * 12

    kept = {place.name for place in (boards / "trials").iterdir()}
    (boards / "trials" / ("0" * 16)).mkdir()  # of an earlier rule
    call("claims", "--publish", boards, "--home", home)
    assert {place.name for place in (boards / "trials").iterdir()} == kept
    before = (boards / "claims.json").read_bytes()
    board = boards / "board"  # which rests on a trial that is made anew
    board.mkdir()
    key = min(kept)
    (board / "manifest.json").write_text(json.dumps({"trials": [{"trial_key": key}]}))
    file = home / "trials" / key / "record.json"
    made = file.read_text()
    file.write_text(json.dumps(json.loads(made) | {"attempts": []}))
    other = CliRunner().invoke(main, ["claims", "--publish", str(boards), "--home", str(home)])
    assert f"claims.json: trial {key}: loss" in other.output
    assert "needed by board too" in other.output
    file.write_text(made)
    into_home = CliRunner().invoke(main, ["claims", "--publish", str(home), "--home", str(home)])
    assert "home: is a home, with trials of its own" in into_home.output
    (tmp_path / "empty").mkdir()
    lost = CliRunner().invoke(main, ["claims", "--publish", str(boards), "--home", str(tmp_path / "empty")])
    assert "has a verdict on a-level, b-two, this home has not" in str(lost.exception) + lost.output
    assert (boards / "claims.json").read_bytes() == before
    assert {place.name for place in (boards / "trials").iterdir()} == kept


def test_one_verdict_is_published_among_the_others(claims, home, tmp_path):
    """From a home that has the trials of one claim alone; the others' verdicts, and their trials, stay."""
    boards, other = tmp_path / "published", tmp_path / "other"
    call("run", "claims:b-two", "--home", home, "--tracking", "none", "--jobs", 2)
    call("claims", "--publish", boards, "--home", home)
    kept = {place.name for place in (boards / "trials").iterdir()}
    before = json.loads((boards / "claims.json").read_text())
    claims("d-more", ["hash"], {"kind": "level", "of": "hash", "measure": "max_vio_batch.tail_mean", **ALWAYS})
    call("run", "claims:d-more", "--home", other, "--tracking", "none", "--jobs", 2)
    call("claims", "d-more", "--publish", boards, "--home", other)
    after = json.loads((boards / "claims.json").read_text())
    assert after[:-1] == before
    assert (after[-1]["id"], after[-1]["verdict"]) == ("d-more", "reproduced")
    assert {place.name for place in (boards / "trials").iterdir()} == kept | set(after[-1]["trial_keys"])

    key = min(verdict_on("a-level", after)["trial_keys"])  # which b-two rests on as well
    file = home / "trials" / key / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attempts": []}))
    whole = {path: path.read_bytes() for path in boards.rglob("*.json")}
    alone = CliRunner().invoke(main, ["claims", "a-level", "--publish", str(boards), "--home", str(home)])
    assert f"claims.json: trial {key}: loss" in alone.output
    assert "needed by the verdict on b-two too" in alone.output
    assert {path: path.read_bytes() for path in boards.rglob("*.json")} == whole
    call("claims", "a-level", "b-two", "--publish", boards, "--home", home)
    assert json.loads((boards / "trials" / key / "record.json").read_text())["attempts"] == []


def verdict_on(name, verdicts):
    return next(verdict for verdict in verdicts if verdict["id"] == name)


def test_a_claim_submitted_is_followed_by_the_name_it_was_submitted_under(claims, home):
    call("run", "claims:a-level", "--home", home, "--tracking", "none", "--jobs", 2)
    for name in ("claims:a-level", "claims-a-level"):
        assert "6 done" in call("status", name, "--home", home).output
    scripts = call("submit", "claims", "--profile", "example-cpu", "--dry-run", "--home", home).output
    assert scripts.count("#!/bin/bash") == 1  # a-level is done: one job array, of b-two's other arm
