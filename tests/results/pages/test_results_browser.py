"""The report in a real browser: sorting, filtering, details, themes, keyboard, and nothing asked of the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium_pipe import Browser, find_chromium
from synthetic_records import ARMS, Arm, write_suite

from results import claims, records
from results.boards import leaderboard
from results.pages import html, site

HOSTILE = '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=1">{{ 7 * 7 }}'
BINARY = find_chromium()
pytestmark = pytest.mark.skipif(BINARY is None, reason="no Chromium here; install one to test the pages")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with one board of two tasks; one arm's title is an attack, one trial diverged, one failed."""
    home = tmp_path_factory.mktemp("home")
    arms = (*ARMS, Arm("hostile", HOSTILE, effect=0.004, note=HOSTILE))
    manifest, trials = write_suite(
        home, arms, ("mix-nano", "code-nano"), seeds=7, diverged={("plain", "mix-nano", 3)},
        failed={("table", "code-nano", 1)},
    )  # fmt: skip
    board = leaderboard.build(manifest, records.collect(manifest, trials))
    folder = tmp_path_factory.mktemp("published") / "a board"
    html.write_report(board, manifest, trials, folder)
    (folder / "leaderboard.json").write_text(json.dumps(board))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder.parent / "claims.json").write_text(json.dumps([claims.evaluate(claim) for claim in claims.load_all()]))
    site.write_index(folder.parent)
    return folder.parent


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    assert BINARY
    with Browser(BINARY) as browser:
        yield browser


@pytest.fixture
def page(running: Browser, published: Path) -> Iterator[Browser]:
    """The board's page, freshly opened; whatever a test does, the page must not err or ask for anything."""
    running.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    report = published / "a board" / "index.html"
    running.open(report)
    running.js("localStorage.clear()")
    yield running
    assert running.errors == []
    assert {url.split("#")[0] for url in running.requests} == {report.as_uri()}
    assert running.js("window.pwned") is None


def column(page: Browser, name: str) -> list[str]:
    """What the visible rows hold under a heading, as sorting sees it."""
    return page.js(
        f"(() => {{ const i = [...board.tHead.rows[0].cells].findIndex((h) => h.textContent === {json.dumps(name)});"
        "return [...board.tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.cells[i].dataset.v) })()"
    )


def click_heading(page: Browser, name: str) -> None:
    page.js(f"[...board.tHead.querySelectorAll('button')].find((b) => b.textContent === {json.dumps(name)}).click()")


def sort_state(page: Browser) -> list[Any]:
    return page.js("[...board.tHead.rows[0].cells].filter((h) => h.ariaSort).map((h) => [h.textContent, h.ariaSort])")


def test_headings_sort_both_ways_with_numbers_as_numbers(page: Browser) -> None:
    before = column(page, "Δ loss")
    assert before != sorted(before, key=float)
    click_heading(page, "Δ loss")
    assert column(page, "Δ loss") == sorted(before, key=float)
    assert sort_state(page) == [["Δ loss", "ascending"]]
    click_heading(page, "Δ loss")
    assert column(page, "Δ loss") == sorted(before, key=float, reverse=True)
    assert sort_state(page) == [["Δ loss", "descending"]]
    click_heading(page, "Strategy")
    assert column(page, "Strategy") == sorted(before_titles := column(page, "Strategy"), key=str.casefold)
    assert len(before_titles) == 14
    assert sort_state(page) == [["Strategy", "ascending"]]


def test_missing_values_stay_last_either_way(page: Browser) -> None:
    page.js("board.tBodies[0].rows[0].cells[5].dataset.v = ''")
    for _ in range(2):
        click_heading(page, "Loss")
        assert column(page, "Loss").index("") == 13


def test_the_table_is_filtered_by_words_task_and_verdict(page: Browser) -> None:
    def choose(field: str, value: str) -> None:
        element = f"document.getElementById('{field}')"  # `find` alone is the window's own
        page.js(f"{element}.value = {json.dumps(value)}; {element}.dispatchEvent(new Event('input'))")

    assert page.js("count.textContent") == "14 rows"
    choose("find", "GENTLE fast")
    assert column(page, "Strategy") == ["gentle bias, fast"] * 2
    choose("task", "code-nano")
    assert column(page, "Strategy") == ["gentle bias, fast"]
    assert page.js("count.textContent") == "1 of 14 rows"
    choose("find", "")
    choose("task", "")
    choose("verdict", "worse")
    assert set(column(page, "Strategy")) == {"no balancing"}
    choose("verdict", "baseline")
    assert set(column(page, "Strategy")) == {"penalty"}
    choose("find", "no such thing")
    assert column(page, "Strategy") == []


def test_a_row_opens_its_details_and_can_be_linked_to(page: Browser, published: Path) -> None:
    page.js("document.querySelector('#board a[href=\"#row-bias-mix-nano\"]').click()")
    assert page.js("document.querySelector('dialog[open]').id") == "row-bias-mix-nano"
    text = page.js("document.querySelector('dialog[open]').innerText")
    for expected in (
        "Signed bias",
        "equipoise reproduce synthetic/bias/mix-nano",
        "CPU · Synthetic · 2 cores",
        "2.13.0",
    ):
        assert expected in text
    assert page.js("document.querySelectorAll('dialog[open] .seeds tbody tr').length") == 7
    assert '"rate": 0.001' in page.js("document.querySelector('dialog[open] pre').textContent")
    assert page.js("location.hash") == "#row-bias-mix-nano"
    page.press("Escape", 27)
    page.wait("!document.querySelector('dialog[open]')")
    assert page.js("location.hash") == ""
    page.open(published / "a board" / "index.html", "#row-plain-mix-nano")
    assert "diverged" in page.js("document.querySelector('dialog[open]').innerText")
    page.js("document.querySelector('dialog[open] [data-close]').click()")
    page.wait("!document.querySelector('dialog[open]')")


def test_everything_can_be_reached_by_keyboard(page: Browser) -> None:
    page.js("board.tHead.querySelector('button').focus()")
    page.press("Tab", 9)
    assert page.js("document.activeElement.textContent") == "Strategy"
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter", 13, "\r")
    assert sort_state(page) == [["Strategy", "ascending"]]
    page.js("board.querySelector('tbody a').focus()")
    page.press("Enter", 13, "\r")
    page.wait("document.querySelector('dialog[open]')")
    assert page.js("document.querySelector('dialog[open]').contains(document.activeElement)")
    page.press("Escape", 27)
    page.wait("!document.querySelector('dialog[open]')")
    assert page.js("document.activeElement.matches('#board tbody a')")


def background(page: Browser) -> int:
    """Red of the page's background: high in the light theme, low in the dark one."""
    return int(page.js("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))


def test_both_themes_by_system_button_and_address(page: Browser, published: Path) -> None:
    ink = "getComputedStyle(document.querySelector('.plot text')).fill"
    assert background(page) > 240
    light = page.js(ink)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert background(page) < 40
    assert page.js(ink) != light
    assert page.js("theme.textContent") == "Light theme"
    page.js("theme.click()")
    assert background(page) > 240
    assert page.js(ink) == light
    page.js("localStorage.clear()")
    page.open(published / "a board" / "index.html", "#light")
    assert background(page) > 240
    page.open(published / "a board" / "index.html", "#dark")
    assert background(page) < 40


def test_the_toggle_works_where_storage_is_denied(page: Browser) -> None:
    denied = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied') }})"
    script = page.call("Page.addScriptToEvaluateOnNewDocument", source=denied)["identifier"]
    try:
        page.call("Page.reload")
        page.wait("document.readyState === 'complete' && !theme.hidden")
        page.js("theme.click()")
        assert background(page) < 40
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_the_key_of_the_figures_lets_others_step_back(page: Browser) -> None:
    chip = "[...key.children].find((b) => b.textContent === 'Signed bias')"
    number = page.js(f"{chip}.dataset.arm")
    page.js(f"{chip}.click()")
    shown = f"[...document.querySelectorAll('#figures .plot .{number}')].map((p) => getComputedStyle(p).opacity)"
    assert set(page.js(shown)) == {"1"}
    others = shown.replace(f".{number}", f"[class^=arm-]:not(.{number})")
    assert set(page.js(others)) == {"0.13"}
    page.js(f"{chip}.click()")
    assert set(page.js(others)) == {"1"}


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_spills_over_the_window(page: Browser, published: Path, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500)
    try:
        assert page.js("document.documentElement.scrollWidth") <= width
        page.js("document.querySelector('#board tbody a').click()")
        assert page.js("document.querySelector('dialog[open]').getBoundingClientRect().right") <= width
        assert page.js("(d => d.scrollWidth - d.clientWidth)(document.querySelector('dialog[open]'))") <= 0
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_no_label_is_cut_off_or_covers_another(page: Browser) -> None:
    outside = page.js("""[...document.querySelectorAll('.plot text')].filter((t) => {
      const [a, b] = [t.getBoundingClientRect(), t.ownerSVGElement.getBoundingClientRect()];
      return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
    }).map((t) => `${t.ownerSVGElement.querySelector('title').textContent}: ${t.textContent}`)""")
    assert outside == []
    overlaps = page.js("""[...document.querySelectorAll('.plot')].flatMap((plot) => {
      const boxes = [...plot.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
      const across = (p, q) => Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const down = (p, q) => Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) => across(p, q) > 1 && down(p, q) > 3)
        .map(([b]) => `${plot.querySelector('title').textContent}: ${a} / ${b}`));
    })""")
    assert overlaps == []


def test_the_index_leads_to_every_board(running: Browser, published: Path) -> None:
    running.open(published / "index.html")
    assert running.js("document.querySelector('h1').textContent").startswith("Which load-balancing strategy")
    assert running.js("document.querySelectorAll('article').length") == 1
    running.js("document.querySelector('article h3 a').click()")
    running.wait("location.href.endsWith('a%20board/index.html') && document.readyState === 'complete'")
    assert running.errors == []
    assert all(url.startswith(published.as_uri()) for url in running.requests)
    assert running.js("window.pwned") is None


def test_a_claim_can_be_linked_to(running: Browser, published: Path) -> None:
    identifier = claims.load_all()[-1].id
    running.open(published / "claims.html", f"#claim-{identifier}")
    assert running.js("[...document.querySelectorAll('.claim[open]')].map((c) => c.id)") == [f"claim-{identifier}"]
    assert running.errors == []
    assert len(running.requests) == 1
