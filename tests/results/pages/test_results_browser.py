"""The report in a real browser: sorting, filtering, details, themes, keyboard, and nothing asked of the network."""

from __future__ import annotations

import json
import os
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


MIX = "document.querySelector('#task-mix-nano table')"


def column(page: Browser, name: str) -> list[str]:
    """What the first task's visible rows hold under a heading, as sorting sees it."""
    return page.js(
        f"(() => {{ const table = {MIX};"
        f"const i = [...table.tHead.rows[0].cells].findIndex((h) => h.textContent === {json.dumps(name)});"
        "return [...table.tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.cells[i].dataset.v) })()"
    )


def click_heading(page: Browser, name: str) -> None:
    page.js(f"[...{MIX}.tHead.querySelectorAll('button')].find((b) => b.textContent === {json.dumps(name)}).click()")


def sort_state(page: Browser) -> list[Any]:
    return page.js(f"[...{MIX}.tHead.rows[0].cells].filter((h) => h.ariaSort).map((h) => [h.textContent, h.ariaSort])")


def test_headings_sort_both_ways_with_numbers_as_numbers(page: Browser) -> None:
    click_heading(page, "MaxVio")
    found = column(page, "MaxVio")
    assert found == sorted(found, key=float)
    assert sort_state(page) == [["MaxVio", "ascending"]]
    click_heading(page, "MaxVio")
    assert column(page, "MaxVio") == found[::-1] != found
    assert sort_state(page) == [["MaxVio", "descending"]]
    click_heading(page, "Strategy")
    assert column(page, "Strategy") == sorted(titles := column(page, "Strategy"), key=str.casefold)
    assert len(titles) == 7
    assert sort_state(page) == [["Strategy", "ascending"]]


def test_missing_values_stay_last_either_way(page: Browser) -> None:
    page.js(f"{MIX}.tBodies[0].rows[0].cells[4].dataset.v = ''")
    for _ in range(2):
        click_heading(page, "Loss")
        assert column(page, "Loss").index("") == 6


def choose(page: Browser, field: str, value: str) -> None:
    element = f"document.getElementById('{field}')"  # `find` alone is the window's own
    page.js(f"{element}.value = {json.dumps(value)}; {element}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def shown_tasks(page: Browser) -> list[str]:
    return page.js("[...document.querySelectorAll('section[data-task]')].filter((s) => !s.hidden).map((s) => s.id)")


def test_rows_are_found_by_words_and_verdict(page: Browser) -> None:
    assert page.js("count.textContent") == "7 rows"
    choose(page, "find", "GENTLE fast")
    assert column(page, "Strategy") == ["gentle bias, fast"]
    assert page.js("count.textContent") == "1 of 7 rows"
    choose(page, "find", "")
    choose(page, "verdict", "worse")
    assert set(column(page, "Strategy")) == {"no balancing"}
    choose(page, "verdict", "baseline")
    assert set(column(page, "Strategy")) == {"penalty"}
    choose(page, "find", "no such thing")
    assert column(page, "Strategy") == []


def test_one_task_is_shown_at_a_time_or_all_and_can_be_linked_to(page: Browser, published: Path) -> None:
    assert shown_tasks(page) == ["task-mix-nano"]
    page.js("document.querySelector('label[for=\"pick-code-nano\"]').click()")
    assert shown_tasks(page) == ["task-code-nano"]
    assert page.js("location.hash") == "#task-code-nano"
    page.js("document.querySelector('label[for=\"pick\"]').click()")
    assert shown_tasks(page) == ["task-mix-nano", "task-code-nano"]
    assert page.js("count.textContent") == "14 rows"
    page.open(published / "a board" / "index.html", "#task-code-nano")
    assert shown_tasks(page) == ["task-code-nano"]
    page.open(published / "a board" / "index.html", "#row-bias-code-nano")
    assert shown_tasks(page) == ["task-code-nano"]


def test_a_row_opens_its_details_and_can_be_linked_to(page: Browser, published: Path) -> None:
    page.js("document.querySelector('table.board a[href=\"#row-bias-mix-nano\"]').click()")
    assert page.js("document.querySelector('dialog[open]').dataset.row") == "row-bias-mix-nano"
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
    page.js("document.querySelector('dialog[open] a[href=\"#row-bias-code-nano\"]').click()")
    assert page.js("document.querySelector('dialog[open]').innerText").count("code-nano") >= 2
    page.press("Escape", 27)
    page.wait("!document.querySelector('dialog[open]')")
    assert page.js("location.hash") == ""
    page.open(published / "a board" / "index.html", "#row-plain-mix-nano")
    assert "diverged" in page.js("document.querySelector('dialog[open]').innerText")
    page.js("document.querySelector('dialog[open] [data-close]').click()")
    page.wait("!document.querySelector('dialog[open]')")


def test_hostile_words_stay_words_in_the_details(page: Browser, published: Path) -> None:
    page.open(published / "a board" / "index.html", "#row-hostile-mix-nano")
    assert HOSTILE in page.js("document.querySelector('dialog[open] .saying').textContent")
    assert page.js("document.querySelectorAll('dialog img, dialog script').length") == 0


def test_commands_and_links_are_copied(page: Browser) -> None:
    caught = "window.caught = []; navigator.clipboard.writeText = async (text) => { window.caught.push(text) }"
    page.js(f"{caught}; 0")
    page.js("document.querySelector('#row-bias-mix-nano [data-copy]').click()")
    page.wait("said.textContent !== ''")
    page.js("document.querySelector('#row-bias-mix-nano a').click()")
    page.js("document.querySelector('dialog [data-copy=link]').click()")
    page.wait("window.caught.length === 2")
    command, link = page.js("window.caught")
    assert command == "equipoise reproduce synthetic/bias/mix-nano"
    assert link.endswith("/a%20board/index.html#row-bias-mix-nano")


def test_a_refused_clipboard_is_said(page: Browser) -> None:
    page.js("navigator.clipboard.writeText = async () => { throw new Error('no') }; 0")
    page.js("document.execCommand = () => false; 0")
    page.js("document.querySelector('#row-bias-mix-nano [data-copy]').click()")
    page.wait("said.textContent.includes('does not allow')")


def test_everything_can_be_reached_by_keyboard(page: Browser) -> None:
    page.js(f"{MIX}.tHead.querySelector('button').focus()")
    page.press("Tab", 9)
    assert page.js("document.activeElement.textContent") == "Strategy"
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter", 13, "\r")
    assert sort_state(page) == [["Strategy", "ascending"]]
    page.js(f"{MIX}.querySelector('tbody a').focus()")
    page.press("Enter", 13, "\r")
    page.wait("document.querySelector('dialog[open]')")
    assert page.js("document.querySelector('dialog[open]').contains(document.activeElement)")
    page.press("Escape", 27)
    page.wait("!document.querySelector('dialog[open]')")
    assert page.js("document.activeElement.matches('table.board tbody a')")


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
    page.wait("theme.textContent === 'Light theme'")  # the page hears of the change a moment after its style has it
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


SECTION = "document.getElementById('task-mix-nano')"
LOSS = "document.getElementById('fig-mix-nano-loss')"


def test_arms_are_switched_off_and_on_everywhere(page: Browser) -> None:
    chip = f"[...{SECTION}.querySelectorAll('.chip')].find((b) => b.textContent === 'Signed bias')"
    count = f"{SECTION}.querySelectorAll('.plot [data-arm=\"2\"]').length"
    before = page.js(count)
    assert before > 10
    page.js(f"{chip}.click()")
    assert page.js(count) == 0
    assert page.js(f"{chip}.getAttribute('aria-pressed')") == "false"
    page.js(f"{SECTION}.querySelector('.key .quiet:nth-of-type(2)').click()")
    assert page.js(f"{SECTION}.querySelectorAll('.plot [data-arm]').length") == 0
    page.js(f"{chip}.click()")
    assert page.js(count) == before
    page.js(f"{SECTION}.querySelector('.key .quiet').click()")
    assert page.js(f"new Set([...{LOSS}.querySelectorAll('[data-arm]')].map((p) => p.dataset.arm)).size") == 7


def test_every_kind_of_figure_is_drawn(page: Browser) -> None:
    names = page.js(f"[...{SECTION}.querySelectorAll('figure')].map((f) => f.dataset.figure)")
    kinds = ("forest", "loss", "pareto", "max-vio", "loads", "biases", "overflow", "dead", "fluctuation", "devices")
    assert names == [f"mix-nano-{kind}" for kind in kinds]
    parts = page.js(f"[...{SECTION}.querySelectorAll('figure .plot')].map((p) => p.querySelectorAll('*').length)")
    assert min(parts) > 20
    assert page.js("[...document.querySelectorAll('.plot')].some((p) => p.innerHTML.includes('NaN'))") is False
    assert page.js("[...document.querySelectorAll('.plot')].some((p) => p.innerHTML.includes('undefined'))") is False


def test_values_are_read_by_pointer(page: Browser) -> None:
    page.js(f"{LOSS}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    box = page.js(f"(({{left, top, width, height}}) => [left, top, width, height])({LOSS}.querySelector('.plot')"
                  ".getBoundingClientRect())")  # fmt: skip
    place = [box[0] + box[2] / 3, box[1] + box[3] / 2]
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    page.wait(f"!{LOSS}.querySelector('.readout').hidden")
    title, at, value = page.js(f"[...{LOSS}.querySelector('.readout').children].map((c) => c.textContent)")
    assert at.endswith(" tokens")
    assert value[0] in "+−0"
    assert title in page.js(f"{LOSS}.querySelector('.plot').textContent")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    page.wait(f"{LOSS}.querySelector('.readout').hidden")


def test_values_are_read_by_keyboard_and_are_those_of_the_board(page: Browser) -> None:
    forest = "document.querySelector('#fig-mix-nano-forest [role=slider]')"
    page.js(f"{forest}.focus()")
    said = []
    for _ in range(3):
        page.press("ArrowDown", 40)
        said.append(page.js(f"{forest}.getAttribute('aria-valuetext')"))
    rows = [row for row in page.js("JSON.parse(document.getElementById('data').textContent).rows")
            if row["task"] == "mix-nano" and row["delta_loss"]["verdict"] != "baseline"]  # fmt: skip
    for row, words in zip(rows, said, strict=False):
        delta = row["delta_loss"]
        assert words.startswith(row["title"][:20])
        numbers = (f"{delta[key]:+.4f}".replace("-", "−") for key in ("mean", "ci_low", "ci_high"))
        assert [number in words for number in numbers] == [True] * 3, words
        assert delta["verdict"] in words
    page.press("Escape", 27)
    assert page.js("document.querySelector('#fig-mix-nano-forest .readout').hidden") is True


def test_left_and_right_go_along_a_curve_up_and_down_to_the_next(page: Browser) -> None:
    cursor = f"{LOSS}.querySelector('[role=slider]')"
    page.js(f"{cursor}.focus()")
    words = []
    for key, code in (("ArrowRight", 39), ("ArrowRight", 39), ("ArrowDown", 40), ("ArrowDown", 40), ("End", 35)):
        page.press(key, code)
        words.append(page.js(f"{cursor}.getAttribute('aria-valuetext')"))
    arm = [said.split(",")[0] for said in words]
    at = [said.split(", ")[-1].split(":")[0] for said in words]
    assert arm[0] == arm[1]
    assert arm[3] == arm[4] != arm[0]  # between them the run that diverged
    assert at[0] != at[1]
    assert at[3] != at[4]


def test_a_figure_shows_its_views_and_its_values_as_a_table(page: Browser) -> None:
    assert page.js(f"[...{LOSS}.querySelectorAll('.segments label')].map((l) => l.textContent)") == [
        "difference to the baseline", "loss", "loss by time"]  # fmt: skip
    before = page.js(f"{LOSS}.querySelector('figcaption').textContent")
    page.js(f"{LOSS}.querySelectorAll('.segments label')[1].click()")
    assert page.js(f"{LOSS}.querySelector('figcaption').textContent") != before
    assert "held-out loss" in page.js(f"{LOSS}.querySelector('.plot').textContent")
    page.js(f"{LOSS}.querySelector('.values').open = true")
    page.wait(f"{LOSS}.querySelector('.values table')")
    cells = page.js(f"[...{LOSS}.querySelectorAll('.values tbody tr')].map((r) => r.lastChild.textContent)")
    assert len(cells) == 9  # seven arms, the A/A arm, and the run that diverged
    assert all(3 < float(cell.split(" ")[0]) < 6 for cell in cells if not cell.startswith("–"))


def test_a_screen_reader_hears_figures_tasks_and_rows(page: Browser) -> None:
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    heard: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            heard.setdefault(node["role"]["value"], []).append((node.get("name") or {}).get("value") or "")
    assert {"mix-nano", "code-nano", "all 2"} <= set(heard["radio"])
    assert "Values of Difference to the baseline" in heard["slider"]
    images = [name for name in heard["image"] if name.startswith("Difference to the baseline. ")]
    assert len(images) == 1
    assert "Signed bias −0.01" in images[0].replace("-", "−")
    assert "Copy the command that runs Signed bias on mix-nano again" in heard["button"]
    assert all(heard["button"])
    assert all(heard["link"])
    assert {"banner", "main", "navigation", "contentinfo"} <= set(heard)


AXE = next((path for path in (
    Path(os.environ.get("EQUIPOISE_AXE", "axe.min.js")),
    Path("node_modules/axe-core/axe.min.js"),
    Path("/usr/local/lib/node_modules/axe-core/axe.min.js"),
    Path("/usr/lib/node_modules/axe-core/axe.min.js"),
) if path.is_file()), None)  # fmt: skip


@pytest.mark.skipif(AXE is None, reason="no axe-core here; npm install axe-core, or name axe.min.js in EQUIPOISE_AXE")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_rule_of_accessibility_fails(running: Browser, published: Path, width: int, theme: str) -> None:
    assert AXE
    running.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    running.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500)
    try:
        for place, fragment in (("a board/index.html", ""), ("a board/index.html", "#row-bias-mix-nano"),
                                ("index.html", ""), ("claims.html", "")):  # fmt: skip
            running.open(published / place, fragment)
            running.js(AXE.read_text(encoding="utf-8") + "; 0")
            failing = running.js(
                "axe.run({resultTypes: ['violations']}).then((found) => found.violations.map("
                "(rule) => [rule.id, rule.nodes.slice(0, 3).map((node) => node.html.slice(0, 160))]))"
            )
            assert failing == [], (place, fragment)
    finally:
        running.call("Emulation.clearDeviceMetricsOverride")
        running.call("Emulation.setEmulatedMedia", features=[])


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_spills_over_the_window(page: Browser, published: Path, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500)
    try:
        assert page.js("document.documentElement.scrollWidth") <= width
        page.js("document.querySelector('table.board tbody a').click()")
        assert page.js("document.querySelector('dialog[open]').getBoundingClientRect().right") <= width
        assert page.js("(d => d.scrollWidth - d.clientWidth)(document.querySelector('dialog[open]'))") <= 0
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_no_label_is_cut_off_or_covers_another(page: Browser) -> None:
    outside = page.js("""[...document.querySelectorAll('.plot text')].filter((t) => {
      const [a, b] = [t.getBoundingClientRect(), t.ownerSVGElement.getBoundingClientRect()];
      return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
    }).map((t) => `${t.ownerSVGElement.ariaLabel}: ${t.textContent}`)""")
    assert outside == []
    overlaps = page.js("""[...document.querySelectorAll('.plot')].flatMap((plot) => {
      const boxes = [...plot.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
      const across = (p, q) => Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const down = (p, q) => Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) => across(p, q) > 1 && down(p, q) > 3)
        .map(([b]) => `${plot.ariaLabel}: ${a} / ${b}`));
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
