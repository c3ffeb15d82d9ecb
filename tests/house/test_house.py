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


def test_the_tables_that_recommendations_know_are_strategies():
    from results.recommend.needs import TABLES
    from strategies import registry

    assert set(registry.available()) >= TABLES


def test_every_readme_link_leads_somewhere():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_first_screen_says_what_the_published_boards_say():
    from results.pages import recommendation
    from results.recommend.block import put

    told = recommendation.of(ROOT / "results" / "published").block("results/published/")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert put(text, told) == text, "README.md is behind the boards: `equipoise recommend --renew`"


def test_findings_quote_the_published_boards():
    """Of protocol 1: every row with a verdict is a row of the board and task that its section names."""
    number = r"([+−]\d\.\d{3})"
    quoted, found = set(), {}
    for line in (ROOT / "docs" / "findings-protocol-1.md").read_text().splitlines():
        place = re.match(r"`([a-z-]+)`, `([a-z0-9-]+)`", line)
        if place:
            path = ROOT / "results" / "published" / "protocol-1" / place[1] / "leaderboard.json"
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


def test_every_figure_of_the_findings_is_one_of_the_published_boards():
    from results.pages.findings import disagreements

    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert disagreements(page, ROOT / "results" / "published") == []


def test_published_boards_stay_small():
    """Whole records are a release's archive (`equipoise pack`); what is published with the source is thinned."""
    size = sum(path.stat().st_size for path in (ROOT / "results" / "published").rglob("*") if path.is_file())
    assert size < 60e6, f"results/published holds {size / 1e6:.1f} MB; expected under 60"


def test_every_yaml_file_parses():
    for folder in ("suite", *FLOORS):
        for path in (ROOT / folder).rglob("*.yaml"):
            assert yaml.safe_load(path.read_text()) is not None, path


def edges(root, folders):
    """module → what it imports of `folders`, wherever in its code: at the top, in a function, for type checking."""
    paths = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            if "published" not in path.parts:
                paths[".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")] = path
    found = {}
    for module, path in paths.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                full = {f"{node.module}.{name.name}" for name in node.names}
                named |= {name if name in paths else node.module for name in full}
        found[module] = (named & paths.keys()) - {module}
    return found


def circle(graph):
    """The modules of one import circle, in order; None if there is none."""
    done: set[str] = set()

    def walk(module, trail):
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        for target in sorted(graph[module]):
            found = walk(target, [*trail, module])
            if found:
                return found
        done.add(module)
        return None

    return next((found for module in sorted(graph) if (found := walk(module, []))), None)


def test_no_import_circle_not_even_one_hidden_in_a_function():
    assert circle(edges(ROOT, ("suite", *FLOORS))) is None


def test_a_planted_circle_is_seen(tmp_path):
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "__init__.py").touch()
    (tmp_path / "suite" / "a.py").write_text("from suite import b\n")
    (tmp_path / "suite" / "b.py").write_text("def late():\n    from suite.a import b\n")
    assert circle(edges(tmp_path, ["suite"])) == ["suite.a", "suite.b", "suite.a"]
    (tmp_path / "suite" / "b.py").write_text("def late():\n    import json\n")
    assert circle(edges(tmp_path, ["suite"])) is None


def test_rules_stand_on_framework_families_and_assignment_only():
    """A rule imports those, or another rule; nothing below a rule imports one."""
    graph = edges(ROOT, ["strategies"])
    rules = {f"strategies.{path.stem}" for path in (ROOT / "strategies").glob("*.py")} - {"strategies.__init__"}
    assert len(rules) > 15
    below = ("strategies.framework", "strategies.families", "strategies.assignment")
    for module in sorted(graph):
        if module in rules:
            strangers = {name for name in graph[module] - rules if not name.startswith(below)}
            assert not strangers, f"{module} imports {strangers}"
        elif module.startswith(below):
            assert not graph[module] & rules, f"{module} imports {graph[module] & rules}"


def test_every_file_at_the_top_of_strategies_is_a_rule():
    for path in sorted((ROOT / "strategies").glob("*.py")):
        assert path.name == "__init__.py" or re.search(r"^    name = ", path.read_text(), re.MULTILINE), path.name


def test_every_file_the_architecture_names_is_there():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:suite|strategies|tasks|results|slurm|tests)/[\w./-]*)`", page)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_no_change_of_the_table_touches_more_than_three_places():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [line.split("|") for line in page.partition("## To change X")[2].splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 12
    assert all(1 <= len(re.findall(r"`[\w]+/", row[2])) <= 3 for row in rows)


def test_the_page_on_strategies_has_every_one_with_its_knob():
    """docs/strategies.md, "Those that come with it": names, what each was published with, the knob and its grid."""
    from strategies.registry import available

    said = {}
    for line in (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(r"`\w+`", cells[0]):
            said[cells[0].strip("`")] = cells[1:]
    assert said.keys() == available().keys()
    for name, cls in available().items():
        words, scores, knob = said[name]
        assert ("not causal in training" in words) == (not cls.causal), name
        assert ("experts per token vary" in words) == cls.variable_k, name
        if cls.published.score:
            assert scores.startswith(cls.published.score), name
        if cls.published.normalize_gates is not None:
            assert ("add up to one" if cls.published.normalize_gates else "scores as they are") in scores, name
        if cls.knob is None:
            assert knob == "–", name
        else:
            default = getattr(cls.Config(), cls.knob.parameter)
            grid = ", ".join(f"{value:g}" for value in cls.knob.grid)
            assert knob == f"`{cls.knob.parameter}` {default:g}: {grid}", name
