"""The house stands: who may import whom, and who may know a strategy by name."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FLOORS = ("strategies", "tasks", "results", "slurm")


def python_files(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "published" not in path.parts)


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


@pytest.mark.parametrize("floor", FLOORS)
def test_the_four_floors_import_neither_each_other_nor_the_suite(floor):
    forbidden = {"suite", *FLOORS} - {floor}
    for path in python_files(floor):
        found = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))} & forbidden
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


@pytest.mark.parametrize(("floor", "heavy"), [("results", "torch"), ("tasks", "torch"), ("slurm", "torch")])
def test_floors_without_torch_stay_without_it(floor, heavy):
    """Also through what they import: checked in a process of its own."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in python_files(floor)]
    modules = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
    code = (
        f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\nassert {heavy!r} not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd="/")


def test_no_code_outside_strategies_knows_one_by_name():
    from strategies import registry

    names = set(registry.available()) - {"none", "base", "hash", "dense"}  # ordinary words; compared below all the same
    for folder in ("suite", "results", "slurm", "tasks"):
        for path in python_files(folder):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert node.value not in names, f"{path.relative_to(ROOT)}:{node.lineno} knows {node.value!r}"
                if isinstance(node, ast.Compare) and "strategy" in ast.unparse(node):
                    known = {c.value for c in node.comparators if isinstance(c, ast.Constant)} & set(
                        registry.available()
                    )
                    assert not known, f"{path.relative_to(ROOT)}:{node.lineno} compares with {known}"


def test_every_readme_link_leads_somewhere():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_first_screen_shows_a_published_board_row_for_row():
    published = (ROOT / "results" / "published" / "README.md").read_text().splitlines()
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) > 15
    start = published.index(rows[0])
    assert published[start : start + len(rows)] == rows


def test_findings_quote_the_published_boards():
    """Every row with a difference, an interval and a verdict is a row of the board and task that its section names."""
    number = r"([+−]\d\.\d{3})"
    quoted, found = set(), {}
    for line in (ROOT / "docs" / "findings.md").read_text().splitlines():
        place = re.match(r"`([a-z-]+)`, `([a-z0-9-]+)`", line)
        if place:
            path = ROOT / "results" / "published" / place[1] / "leaderboard.json"
            for row in json.loads(path.read_text())["rows"]:
                delta = row["delta_loss"]
                if row["task"] == place[2] and delta["mean"] is not None and delta["ci_low"] is not None:
                    shown = (f"{delta[key]:+.3f}".replace("-", "−") for key in ("mean", "ci_low", "ci_high"))
                    found[(place[1], place[2], *shown, delta["verdict"])] = row["title"]
            here = (place[1], place[2])
        row = re.match(rf"\| .+? \| {number} \[{number}, {number}\] \| (\w+) \|", line)
        if row:
            quoted.add((*here, *row.groups()))
    assert len(quoted) > 20
    assert not quoted - found.keys()


def test_every_yaml_file_parses():
    for folder in ("suite", *FLOORS):
        for path in (ROOT / folder).rglob("*.yaml"):
            assert yaml.safe_load(path.read_text()) is not None, path
