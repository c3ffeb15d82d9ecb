"""The tutorial, run as written: its rule is saved, checked, trained and compared with its own commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from suite.cli import main

PAGE = Path(__file__).parents[3] / "docs" / "strategies.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def save(rule, folder):
    """Save a rule that is shown under its name, which is returned."""
    assert len([line for line in rule.splitlines() if line.strip()]) <= 30
    name = re.search(r'name = "(\w+)"', rule)[1]
    (folder / f"{name}.py").write_text(rule)
    return name


def test_the_tutorial_works_as_written(tiny_suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    saved = [save(rule, tmp_path) for rule in blocks("python")]
    assert saved == ["half_life", "controller", "spread"]
    Path("quick.yaml").write_text(yaml.safe_dump(tiny_suite))  # the same commands on a suite of seconds
    commands = [
        line for block in blocks("sh") for line in block.splitlines() if "tune" not in line and "tuned" not in line
    ]
    assert len(commands) == 5
    output = ""
    for line in commands:
        words = shlex.split(line.replace("--seeds 6", "--seeds 2"))[1:]
        words = ["quick.yaml" if word == "quick" else word for word in words]
        result = CliRunner().invoke(main, [*words, *(["--tracking", "none"] if words[0] == "run" else [])])
        assert result.exit_code == 0, (line, result.output, result.stderr)
        output += result.output
    assert "half_life against sign_bias: indicative" in output
    assert "controller: 1" in output  # passed as many rules as apply
    assert "spread: 1" in output
    assert output.count("trials finished") == 2


@pytest.mark.slow
def test_the_tuned_track_works_as_written(tiny_suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half_life.py").write_text(blocks("python")[0])
    Path("quick.yaml").write_text(yaml.safe_dump(tiny_suite))
    for line in (line for block in blocks("sh") for line in block.splitlines() if "tune" in line):
        words = [
            "quick.yaml" if word == "quick" else word
            for word in shlex.split(line.replace("--seeds 6", "--seeds 1"))[1:]
        ]
        result = CliRunner().invoke(main, [*words, "--tracking", "none"])
        assert result.exit_code == 0, (line, result.output, result.stderr)
    assert (tmp_path / "equipoise-home" / "suites" / "tiny-tuned.json").exists()


def test_a_cluster_is_handed_the_trials_that_tune_needs(tiny_suite, tmp_path, monkeypatch):
    """`tune:SUITE` with a plug-in and a choice of arms: a trial for each value of their grids, and no other."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half_life.py").write_text(blocks("python")[0])
    Path("quick.yaml").write_text(yaml.safe_dump(tiny_suite))
    words = ["plan", "tune:quick.yaml", "--plugin", "half_life.py", "--json"]
    for chosen, wanted in (("aux_loss,half_life", 2), ("half_life", 1), (None, 3)):
        result = CliRunner().invoke(main, [*words, *(["--strategies", chosen] if chosen else [])])
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["trials"] == 2 * 5 * wanted  # seeds and grids
