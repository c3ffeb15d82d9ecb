"""Published boards whose figures or pages are not what their records give, tampered with where they lie."""

from __future__ import annotations

import json
import shutil

import pytest
from synthetic_records import ARMS, write_suite

from results.pages.remade import _differs, check_remade
from results.records import load_manifest

PROTOCOL = "1"  # of the synthetic suite


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A board as `report --publish` leaves it, with its records; without curves, so that few figures are drawn."""
    from suite.cli.reporting import publish_records, write_report

    home, published = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("checkout") / "results" / "published"
    write_suite(home, ARMS[:4], seeds=6, steps=40, curves=False)
    manifest = json.loads(json.dumps(load_manifest(home / "suites" / "synthetic.json"), sort_keys=True))
    write_report(manifest, home / "trials", published / "synthetic", None, "h100")
    publish_records(manifest, home, published / "synthetic")
    return published


@pytest.fixture
def published(rendered, tmp_path):
    shutil.copytree(rendered, tmp_path / "published")
    return tmp_path / "published"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, sort_keys=True))


def row(board):
    return next(row for row in board["rows"] if row["arm"] == "bias")


def test_as_rendered_it_is_in_order(rendered):
    assert check_remade(rendered, PROTOCOL) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda board: row(board)["step_time"].update({"64": 0.05}), "rows.bias/mix-nano.step_time.64: 0.05; its rec"),
        (lambda board: row(board)["delta_loss"].update(verdict="worse"), "delta_loss.verdict: 'worse'; its records"),
        (lambda board: row(board)["delta_loss"].update(ci_low=-9.0), "delta_loss.ci_low: -9.0; its records give"),
        (lambda board: row(board)["delta_loss"].update(p_adjusted=0.0), "delta_loss.p_adjusted: 0.0; its"),
        (lambda board: row(board).update(rank=7), "rows.bias/mix-nano.rank: 7; its records give"),
        (lambda board: row(board).update(max_vio_batch=0.01), "rows.bias/mix-nano.max_vio_batch: 0.01; its records"),
        (lambda board: row(board).update(title="Best"), "rows.bias/mix-nano.title: 'Best'; its records give 'Signed"),
        (lambda board: board["tasks"][0]["margin"].update(value=9.0), "tasks.0.margin.value: 9.0; its records give"),
        (lambda board: board["warnings"].append("All is well."), "warnings: 2 entries; its records give 1"),
        (lambda board: board["rows"].pop(), "leaderboard.json: rows: 3 entries; its records give 4"),
        (lambda board: board["machine"].update(title="Mine"), "machine: 'h100'; not one that comes with Equipoise"),
        (lambda board: board.pop("machine"), "synthetic/cannot be built again (KeyError: \"'machine'\")"),
    ],
)
def test_figures_that_the_records_do_not_give(published, change, said):
    edit(published / "synthetic" / "leaderboard.json", change)
    lines = check_remade(published, PROTOCOL)
    assert any(said in line for line in lines), lines
    assert all("`equipoise report synthetic --publish published` writes it anew" in line for line in lines)


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv"])
def test_a_text_that_is_not_its_boards(published, name):
    file = published / "synthetic" / name
    file.write_text(file.read_text().replace("Signed bias", "Signed genius"))
    lines = check_remade(published, PROTOCOL)
    assert len(lines) == 1
    assert f"synthetic/{name}: has '" in lines[0]
    assert "Signed genius" in lines[0]


def test_boards_of_another_protocol_are_left_as_they_were(published):
    edit(published / "synthetic" / "leaderboard.json", lambda board: row(board).update(rank=7))
    assert not [line for line in check_remade(published, "2") if line.startswith("synthetic")]


def test_rounding_is_no_difference(published):
    def change(board):
        row(board)["delta_loss"]["mean"] *= 1 + 1e-14
        row(board)["delta_loss"]["mean"] += 1e-16

    edit(published / "synthetic" / "leaderboard.json", change)
    lines = check_remade(published, PROTOCOL)
    assert [line for line in lines if "leaderboard.json" in line or "leaderboard.md" in line] == []


def test_pages_over_all_boards(published):
    for name in ("README.md", "synthetic/index.html"):
        file = published / name
        file.write_text(file.read_text().replace("Signed bias", "Signed genius", 1))
    lines = check_remade(published, PROTOCOL)
    assert [line.partition(": has ")[0] for line in lines] == ["synthetic/index.html", "README.md"]
    assert lines[1].endswith("; `equipoise recommend --renew` writes it anew")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</body>", "<script>alert(1)</script></body>", "<script>alert(1)"),
        ("Content-Security-Policy", "X", "http-equiv="),
        ("</figcaption>", '<a href="https://example.org">here</a></figcaption>', "https://example.org"),
        ("<figure ", '<figure onclick="x" ', "onclick"),
        ("<!-- tracks: end -->", "Buy now<!-- tracks: end -->", "Buy now"),
        ("-forest", "-other", "the numbers of a figure are not those of its board"),
    ],
)
def test_a_page_that_is_not_its_boards(rendered, tmp_path, old, new, said):
    page = (rendered / "synthetic" / "index.html").read_text()
    assert old in page
    (tmp_path / "index.html").write_text(page.replace(old, new))
    lines = list(_differs(tmp_path / "index.html", page, "index.html"))
    assert any(said in line for line in lines), lines
    assert list(_differs(rendered / "synthetic" / "index.html", page, "index.html")) == []


def test_a_drawing_of_whole_curves_is_free_in_its_words_alone(rendered, tmp_path):
    page = (rendered / "synthetic" / "index.html").read_text()
    drawing = (
        '<figure id="fig-a-loss" data-figure="a-loss">\n  <h4 class="named">Loss</h4>\n  <div class="drawing">'
        '<noscript><p class="sub">words</p></noscript></div>\n  <figcaption data-caption>words</figcaption>\n</figure>'
    )
    for change, differs in (("", False), ("words</p>", True), ("-loss", True), ("</figcaption>", True)):
        changed = drawing.replace(change, f"<b>x</b>{change}") if change else drawing
        (tmp_path / "index.html").write_text(page.replace("<figure ", f"{changed}<figure ", 1))
        assert bool(list(_differs(tmp_path / "index.html", page, "index.html"))) == differs, change


def test_numbers_that_no_board_gives_of_what_balance_foretells(published):
    (published / "foretelling.json").write_text(json.dumps({"synthetic/mix-nano": {"settings": 21}}))
    (line,) = check_remade(published, PROTOCOL)
    assert line.startswith("foretelling.json: synthetic/mix-nano: {'settings': 21}; its records give None; `equipoise")
