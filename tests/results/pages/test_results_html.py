"""The report and the site as text: complete, self-contained, escaped, honest about what is missing."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import ARMS, Arm, write_suite

from results import claims, records
from results.boards import leaderboard
from results.pages import html, rendering, site

VOID = {"meta", "link", "input", "br", "img", "hr"}
ATTACKS = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--<script>",
    "{{ 7 * 7 }}{% raise %}",
    "$\\frac{1}{0}$ & <b>",
    "line\u2028separator \x00\x08 and \ud800 half a pair",
    "]]></title></svg><svg onload=alert(1)>",
)


class Parsed(HTMLParser):
    """Elements, attributes and text of a page; complains of what is opened and never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.data: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self._open[-1:] != ["p"]:
            raise AssertionError(f"</p> closes {self._open[-3:]}")
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        (self.data if inside == "script" else self.text).append(data)

    def all(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


def build(home: Path, arms: tuple[Arm, ...] = ARMS, **options: Any) -> tuple[dict[str, Any], dict[str, Any], Path]:
    manifest, trials = write_suite(home, arms, **options)
    return (
        leaderboard.build(manifest, records.collect(manifest, trials), generated="2026-01-02T03:04:05Z"),
        manifest,
        trials,
    )


def page_of(home: Path, arms: tuple[Arm, ...] = ARMS, **options: Any) -> str:
    board, manifest, trials = build(home, arms, **options)
    return html.write_report(board, manifest, trials, home / "out")[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The report of a suite of two tasks."""
    home = tmp_path_factory.mktemp("home")
    board, manifest, trials = build(home, tasks=("mix-nano", "code-nano"), seeds=1)
    return html.write_report(board, manifest, trials, home / "out")


def test_the_page_stands_alone(written: list[Path]) -> None:
    page = written[0].read_text(encoding="utf-8")
    parsed = Parsed(page)
    assert all(value.startswith("data:") for name in ("src", "srcset", "data", "poster") for value in parsed.all(name))
    links = [attributes["href"] for tag, attributes in parsed.elements if tag == "a"]
    assert links
    assert all(link and link.startswith(("#", "https://arxiv.org/abs/")) for link in links)
    loads = [
        attributes for tag, attributes in parsed.elements if tag in ("link", "script", "iframe", "object", "embed")
    ]
    assert all((a.get("href") or a.get("src") or "data:").startswith("data:") for a in loads)
    assert not re.search(r"@import|url\((?!#)", page)
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert len(written) == 1 + 2 * 12 + 2
    assert all(file.suffix == ".svg" and file.parent.name == "figures" and file.stat().st_size for file in written[1:])


def test_the_policy_names_exactly_the_script_that_is_there(tmp_path: Path) -> None:
    page = page_of(tmp_path, seeds=1, curves=False)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_ids_are_unique_and_every_anchor_leads_somewhere(written: list[Path]) -> None:
    parsed = Parsed(written[0].read_text(encoding="utf-8"))
    ids = Counter(parsed.all("id"))
    assert ids.most_common(1)[0][1] == 1
    for value in [link[1:] for link in parsed.all("href") + parsed.all("xlink:href") if link.startswith("#")]:
        assert value in ids
    for name in ("aria-labelledby", "aria-describedby", "for"):
        assert all(word in ids for value in parsed.all(name) for word in value.split())


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], Path, Parsed]:
    """A board, its manifest, its trials and its page before anybody tampers with it."""
    home = tmp_path_factory.mktemp("home")
    board, manifest, trials = build(home, (*ARMS[:2], Arm("odd", "Odd", note="n")), seeds=1, curves=False)
    page = html.write_report(board, manifest, trials, home / "honest")[0]
    return board, manifest, trials, Parsed(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_words_stay_words(
    tmp_path: Path, honest: tuple[dict[str, Any], dict[str, Any], Path, Parsed], attack: str
) -> None:
    board, manifest, trials = copy.deepcopy(honest[:3])
    manifest["arms"][2]["title"] = attack
    board["title"] = board["warnings"][0] = board["tasks"][0]["title"] = attack
    for row in board["rows"]:
        row |= {"title": attack, "note": attack}
        row["paper"] = {"citation": attack, "year": 2024, "identifier": "javascript:alert(1)//arXiv:2401.00001"}
        row["seeds"].append(
            {"seed": 9, "status": "failed", "failure": attack, "trial_key": attack, "val_loss": None, "delta": None}
        )
    parsed = Parsed(html.write_report(board, manifest, trials, tmp_path / "out")[0].read_text(encoding="utf-8"))
    for dangerous in ("script", "img", "iframe", "svg", "style"):
        count = [sum(tag == dangerous for tag, _ in page.elements) for page in (honest[3], parsed)]
        assert count[0] == count[1], dangerous
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert not [link for link in parsed.all("href") if link.startswith("javascript:")]
    assert "49" not in "".join(parsed.text).split()
    shown = re.sub(r"\s+", " ", "".join(parsed.text))
    expected = re.sub(r"\s+", " ", attack.replace("\ud800", "?").replace("\x00", ""))
    assert shown.replace("\ufffd", "").replace("\x00", "").count(expected) >= 4
    data = next(text for text in parsed.data if text.startswith("{"))
    assert json.loads(data)["title"].replace("\ud800", "?") == attack.replace("\ud800", "?")


def block(page: str, name: str) -> Any:
    """What the page carries in itself under a name."""
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)[1])  # type: ignore[index]


def test_every_row_carries_seeds_configuration_provenance_and_command(tmp_path: Path) -> None:
    board, manifest, trials = build(tmp_path, seeds=6, failed={("table", "mix-nano", 4)}, curves=False)
    page = html.write_report(board, manifest, trials, tmp_path / "out")[0].read_text(encoding="utf-8")
    assert block(page, "data") == json.loads(json.dumps(board))  # every digit of it, for whoever saves it
    made = block(page, "rows-data")
    for row, slug, head in zip(board["rows"], made["slugs"], made["heads"], strict=True):
        assert f'<tr id="{slug}"' in page
        assert f'data-copy="equipoise reproduce synthetic/{row["arm"]}/mix-nano"' in page
        record = json.loads((trials / row["seeds"][0]["trial_key"] / "record.json").read_text(encoding="utf-8"))
        for part in ("config", "provenance"):
            assert {key: made["parts"][place] for key, place in head[part].items()} == record[part]
        assert head["measures"]["val_loss"] == pytest.approx(record["measures"]["val_loss"], rel=1e-5)
    assert made["parts"].count("2.13.0") == 0
    assert len(made["parts"]) == len({json.dumps(part, sort_keys=True) for part in made["parts"]})
    assert "MemoryError: out of memory" in page


def test_a_task_of_eighteen_arms_and_256_experts_leaves_room_for_three_more(tmp_path: Path) -> None:
    """18 arms on 4 tasks with 10 seeds must stay under 1.5 MB; seeds beyond the first only add to the board's JSON."""
    arms = (ARMS[0], *(Arm(f"rule{i}", f"Some rule number {i}", has_bias=i % 2 == 0) for i in range(17)))
    page = page_of(tmp_path, arms, seeds=1, baseline="rule0", experts=256, top_k=4, steps=60)
    sizes = {name: len(json.dumps(block(page, name), separators=(",", ":"))) for name in
             ("data", "rows-data", "figures-data")}  # fmt: skip
    rest = len(page) - sum(sizes.values())
    more_seeds = 9 * 18 * 140  # nine entries of seeds in each row
    assert 4 * (sum(sizes.values()) + more_seeds + rest / 2) + rest / 2 < 1_500_000, (sizes, rest)


def test_what_rows_share_is_carried_once(tmp_path: Path) -> None:
    page = page_of(tmp_path, seeds=1, curves=False)
    assert len(block(page, "rows-data")["heads"]) == 6
    assert page.count('"' + "0" * 40 + '"') == 1


def test_without_trials_the_board_is_still_shown(tmp_path: Path) -> None:
    board, manifest, _ = build(tmp_path, seeds=6)
    files = html.write_report(board, manifest, tmp_path / "elsewhere", tmp_path / "out")
    page = files[0].read_text(encoding="utf-8")
    assert set(block(page, "rows-data")["heads"]) == {None}
    assert {file.stem for file in files[1:]} == {f"mix-nano-{n}" for n in ("forest", "overflow", "dead", "fluctuation")}
    assert any(row["config"] == {"rate": 0.001} for row in block(page, "data")["rows"])


def test_failures_and_divergences_are_shown(tmp_path: Path) -> None:
    page = page_of(tmp_path, seeds=6, diverged={("plain", "mix-nano", 3)}, failed={("table", "mix-nano", 4)},
                   missing={("bias", "mix-nano", 5)}, curves=False)  # fmt: skip
    lost = re.search(r'<details class="lost".*?</details>', page, re.S)
    assert lost
    text = " ".join(Parsed(lost[0]).text)
    for words in ("Trials without a loss", "diverged", "MemoryError: out of memory", "not run yet"):
        assert words in text
    assert "1 diverged" in page
    assert 'class="lost"' not in page_of(tmp_path / "well", seeds=1, curves=False)


def test_too_few_seeds_are_said_aloud(tmp_path: Path) -> None:
    assert "Indicative only" in page_of(tmp_path / "few", seeds=3, curves=False)
    assert "Indicative only" not in page_of(tmp_path / "many", seeds=6, curves=False)
    one_short = page_of(tmp_path / "short", seeds=6, missing={("bias", "mix-nano", 5)}, curves=False)
    assert "Indicative only" not in one_short  # a row of five seeds says so itself; the others have their verdicts
    assert "rows with fewer than 6 paired seeds get no verdict" in one_short


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    board, manifest, trials = build(tmp_path, seeds=1)
    first = [path.read_bytes() for path in html.write_report(board, manifest, trials, tmp_path / "one")]
    assert [path.read_bytes() for path in html.write_report(board, manifest, trials, tmp_path / "two")] == first


def test_task_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    board, manifest, trials = build(tmp_path, tasks=("../../etc", "..//..//ETC"), seeds=1, curves=False)
    files = html.write_report(board, manifest, trials, tmp_path / "out")
    assert {file.parent for file in files} == {tmp_path / "out", tmp_path / "out" / "figures"}
    assert len(files) == len(set(files))
    assert (tmp_path / "out" / "figures" / "etc-2-forest.svg") in files


@pytest.mark.parametrize(
    ("identifier", "link"),
    [
        ("arXiv:2408.15664", "https://arxiv.org/abs/2408.15664"),
        ("arXiv:2408.15664v2", "https://arxiv.org/abs/2408.15664v2"),
        ("doi:10.1000/xyz-1", "https://doi.org/10.1000/xyz-1"),
        ("arXiv:2408.15664\nx", None),
        ("https://example.org", None),
        ('doi:10.1000/"onclick=1', None),
        (None, None),
    ],
)
def test_only_known_identifiers_become_links(identifier: str | None, link: str | None) -> None:
    assert rendering.citation_link({"identifier": identifier}) == link


@pytest.mark.parametrize(("run", "said"), [((10, 10), "10"), ((6, 6), "6 of 10"), ((6, 9), "6 to 9 of 10")])
def test_a_board_says_how_many_of_its_seeds_have_run(run: tuple[int, int], said: str) -> None:
    assert rendering.seeds_run([{"seeds": [{}] * 10, "delta_loss": {"n": n}} for n in run]) == said


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(0.00004, 4, "0.0000"), (-0.00004, 4, "0.0000"), (0.5, 1, "+0.5"), (-1.25, 2, "−1.25"), (None, 4, "–")],
)
def test_signs_are_honest(value: float | None, digits: int, shown: str) -> None:
    assert rendering.signed(value, digits) == shown


def publish(folder: Path, home: Path, **options: Any) -> None:
    board, manifest, trials = build(home, **options)
    html.write_report(board, manifest, trials, folder)
    (folder / "leaderboard.json").write_text(json.dumps(board))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_boards_set_aside_are_marked_superseded_even_alone(tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish(published / "protocol-1" / "old", tmp_path / "1", seeds=2, curves=False)
    assert "protocol 2 trains differently" in site.write_index(published).read_text(encoding="utf-8")
    text = (published / "README.md").read_text(encoding="utf-8")
    assert "**superseded** by protocol 2, kept as what it was · [whole board](protocol-1/old/leaderboard.md)" in text
    beside = (published / "protocol-1" / "README.md").read_text(encoding="utf-8")
    assert beside.startswith("# Superseded: boards of protocol 1\n")
    assert "](old/leaderboard.md) ([page](old/index.html))" in beside
    (published / "protocol-1").rename(published / "protocols")
    assert "trains differently" not in site.write_index(published).read_text(encoding="utf-8")


def test_the_index_lists_every_board_and_puts_the_indicative_last(tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish(published / "a few", tmp_path / "1", seeds=2, curves=False)
    publish(published / "deep" / "sure", tmp_path / "2", seeds=6, curves=False)
    index = site.write_index(published)
    parsed = Parsed(index.read_text(encoding="utf-8"))
    boards = [link for link in parsed.all("href") if link.endswith("index.html")]
    assert boards == ["deep/sure/index.html", "a%20few/index.html"]
    text = " ".join("".join(parsed.text).split())
    assert text.count("Indicative only") == 1
    assert "5 strategies against Penalty" in text
    assert not (published / "claims.html").exists()


def test_a_board_of_one_seed_is_of_1_seed(tmp_path: Path) -> None:
    publish(tmp_path / "one", tmp_path / "home", seeds=1, curves=False)
    assert " · 1 seed · " in site.write_index(tmp_path).read_text(encoding="utf-8")


def test_the_index_begins_with_the_largest_model_and_then_the_board_that_compares_most(tmp_path: Path) -> None:
    published = tmp_path / "published"
    for name, total, rows in (("a-small", 1000, 9), ("b-few", 2000, 2), ("c-many", 2000, 9), ("d-large", 3000, 2)):
        publish(published / name, tmp_path / name, seeds=6, curves=False)
        file = published / name / "leaderboard.json"
        board = json.loads(file.read_text())
        board["tasks"][0]["parameters"] = {"total": total, "active": 100}
        file.write_text(json.dumps(board | {"rows": board["rows"][:rows]}))
    parsed = Parsed(site.write_index(published).read_text(encoding="utf-8"))
    boards = [link.partition("/")[0] for link in parsed.all("href") if link.endswith("index.html")]
    assert boards == ["d-large", "c-many", "b-few", "a-small"]


def test_the_boards_can_be_read_as_text(tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish(published / "a few", tmp_path / "1", seeds=2, curves=False)
    publish(published / "sure", tmp_path / "2", seeds=6, curves=False)
    site.write_index(published)
    text = (published / "README.md").read_text(encoding="utf-8")
    assert text.index("](sure/leaderboard.md)") < text.index("| [a few](a%20few/leaderboard.md) |")
    rows = json.loads((published / "sure" / "leaderboard.json").read_text())["rows"]
    shown = [line for line in text.partition("## sure: ")[2].partition("## a few: ")[0].splitlines() if " | " in line][
        2:
    ]
    for row in rows:
        delta, found = row["delta_loss"], [line for line in shown if f"| {row['title']}" in line]
        assert any(f"| {row['max_vio_batch']:.2f} |" in line for line in found)
        if delta["verdict"] != "baseline":
            assert any(f"| {delta['mean']:+.4f} [{delta['ci_low']:+.4f}, " in line for line in found)


def test_boards_of_an_older_protocol_are_marked_and_come_last(tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish(published / "new", tmp_path / "1", seeds=2, curves=False)
    publish(published / "older", tmp_path / "2", seeds=6, curves=False)
    assert "Superseded" not in site.write_index(published).read_text(encoding="utf-8")
    path = published / "new" / "leaderboard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol_version": "2"}))
    index = site.write_index(published).read_text(encoding="utf-8")
    cards = re.findall(r'<article class="card" id="([^"]+)">(.*?)</article>', index, re.S)
    assert [(name, "Superseded" in card) for name, card in cards] == [
        ("board-new", False), ("board-older", True)]  # fmt: skip
    assert "protocol 2 trains differently" in cards[1][1]


def test_a_strategys_tracks_stand_side_by_side(tmp_path: Path) -> None:
    published = tmp_path / "published"
    for number, track in enumerate(("tuned", "balanced", "as-published")):
        publish(published / track, tmp_path / str(number), seeds=6, curves=False)
        path = published / track / "leaderboard.json"
        board = json.loads(path.read_text()) | {"track": track}
        if track == "balanced":
            board["rows"] = [row for row in board["rows"] if row["arm"] != "table"]
        path.write_text(json.dumps(board))
    index = site.write_index(published).read_text(encoding="utf-8")
    places = ("as-published", "tuned", "balanced")

    def section_of(page: str) -> str:
        (found,) = re.findall(r'<section id="tracks">(.*?)</section>', page, re.S)
        assert re.findall(r'<th scope="col">([^<]+)</th>', found) == ["Strategy", "as published", *places[1:]]
        return found

    links = re.findall(r'href="([^"]+)"', section_of(index))
    assert {f"{place}/index.html#row-bias-mix-nano" for place in places} <= set(links)
    assert "balanced/index.html#row-table-mix-nano" not in links
    for link in links:
        page, anchor = link.split("#")
        assert f'<tr id="{anchor}"' in (published / page).read_text(encoding="utf-8")
    own = published / "tuned" / "index.html"  # the same rows on a board's own page, its own ones first
    first = own.read_text(encoding="utf-8")
    mine = [link.replace("tuned/index.html", "") if "tuned/" in link else f"../{link}" for link in links]
    assert re.findall(r'href="([^"]+)"', section_of(first)) == mine
    Parsed(first)
    own.write_text(first.replace("<!-- tracks: start -->", "").replace("<!-- tracks: end -->", ""), encoding="utf-8")
    without = own.read_text(encoding="utf-8")
    site.write_index(published)
    assert own.read_text(encoding="utf-8") == without  # a page made before there were markers
    other = published / "as-published" / "index.html"
    once = other.read_text(encoding="utf-8")
    site.write_index(published)
    assert other.read_text(encoding="utf-8") == once


def test_the_board_with_most_settings_says_what_balance_foretells(tmp_path: Path) -> None:
    published = tmp_path / "published"
    dense, more = Arm("dense", "Dense twin", effect=0.3), Arm("more", "One more", effect=0.02)
    publish(published / "most", tmp_path / "0", arms=(*ARMS, more, dense), seeds=6, twin="dense")
    publish(published / "fewer", tmp_path / "1", arms=(*ARMS, dense), tasks=("code-nano",), seeds=6, twin="dense")
    index = site.write_index(published).read_text(encoding="utf-8")
    own = (published / "most" / "index.html").read_text(encoding="utf-8")
    (said,) = re.findall(r'<section id="foretells">(.*?)</section>', own, re.S)
    Parsed(own)
    told = json.loads((published / "foretelling.json").read_text())["most/mix-nano"]
    assert "fewer/code-nano" in json.loads((published / "foretelling.json").read_text())
    share = told["measures"]["dropped"]["share"]
    assert f"<td>{100 * share['mean']:.0f} % [" in said
    assert f"<td>{100 * share['mean']:.0f} % [" in index
    assert all((published / "most" / way).is_file() for way in re.findall(r'href="([^"]+)"', said))
    assert 'id="foretells"' not in (published / "fewer" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("change", [{"hardware": "another"}, {"suite": "other"}, {"protocol_version": "0"}])
def test_tracks_of_other_conditions_are_not_put_together(tmp_path: Path, change: dict[str, str]) -> None:
    published = tmp_path / "published"
    for number, track in enumerate(("tuned", "as-published")):
        publish(published / track, tmp_path / str(number), seeds=2, curves=False)
        path = published / track / "leaderboard.json"
        own = {"track": track, **(change if track == "tuned" else {})}
        path.write_text(json.dumps(json.loads(path.read_text()) | own))
    assert '<section id="tracks">' not in site.write_index(published).read_text(encoding="utf-8")
    assert '<section id="tracks">' not in (published / "tuned" / "index.html").read_text(encoding="utf-8")


def test_what_a_board_says_of_a_task_stands_beside_its_rows(tmp_path: Path) -> None:
    board, manifest, trials = build(tmp_path, seeds=6, curves=False)
    gain = {"mean": 0.25, "ci_low": 0.2, "ci_high": 0.3, "arm": "hash"}
    board["tasks"][0] |= {"sensitivity": {"gain": gain, "spread": 0.01, "resolution": 0.02, "word": "fit"},
                          "margin": {"source": "tokens", "value": 0.005, "more_tokens": 0.02},
                          "recipe": "muon"}  # fmt: skip
    board |= {"core_hours": 3.25, "track": "balanced"}
    slower = {"mean": -0.2, "ci_low": None, "ci_high": None, "extrapolated": True}
    board["rows"][0] |= {"tokens_saved": {"mean": 0.3, "ci_low": 0.1, "ci_high": 0.5, "extrapolated": False},
                         "time_saved": {"64": slower}}  # fmt: skip
    page = html.write_report(board, manifest, trials, tmp_path / "out")[0].read_text(encoding="utf-8")
    text = " ".join("".join(Parsed(page).text).split())
    for said in ("0.250 [0.200, 0.300] nats/token below the dense twin of equal FLOPs (hash)", "Fit: experts help",
                 "±0.005 nats/token, what 2% more training tokens would bring", "recipe muon", "3.25 core-hours",
                 "+30.0 %", "+10.0 % … +50.0 %", "−20.0 %extrapolated", "Time saved, 64",
                 "balanced"):  # fmt: skip
        assert said in text, said
    assert "Time saved, 8" not in text
    board["tasks"][0]["sensitivity"]["word"] = "blunt"
    page = html.write_report(board, manifest, trials, tmp_path / "out")[0].read_text(encoding="utf-8")
    said = "Blunt: experts gain less than 0.15 nats/token, or less than 10 spreads of a difference; no tie is called."
    assert said in " ".join("".join(Parsed(page).text).split())
    plain = " ".join("".join(Parsed(page_of(tmp_path / "plain", seeds=6, curves=False)).text).split())
    assert "Tokens saved" not in plain


def test_an_empty_site_says_so(tmp_path: Path) -> None:
    assert "No leaderboard has been published yet" in site.write_index(tmp_path / "published").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("leaderboard.json", "{", "leaderboard.json: cannot be read"), ("leaderboard.json", "{}", "not a leaderboard"),
     ("manifest.json", "{}", "manifest.json"), ("index.html", None, "index.html: not there")],
)  # fmt: skip
def test_a_broken_board_is_named(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    published = tmp_path / "published"
    publish(published / "board", tmp_path / "home", seeds=1, curves=False)
    path = published / "board" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        site.write_index(published)
    assert "\n" not in str(caught.value)


def verdicts() -> list[dict[str, Any]]:
    """The whole ledger; the first claim with figures is given evidence."""
    said = [claims.evaluate(claim) for claim in claims.load_all()]
    shown = next(verdict for verdict in said if verdict["figures"])
    shown |= {"verdict": "contradicted", "words": "it is the other way round", "trial_keys": ["k1", "k2"]}
    shown["figures"][0] |= {"estimate": -0.0123456, "low": -0.02, "high": -0.004, "level": 0.95, "n": 8,
                            "verdict": "contradicted", "values": [{"seed": 3, "value": -0.0111}]}  # fmt: skip
    return said


def test_claims_have_a_page_with_their_evidence(tmp_path: Path) -> None:
    said = verdicts()
    (tmp_path / "claims.json").write_text(json.dumps(said))
    index = site.write_index(tmp_path).read_text(encoding="utf-8")
    assert 'href="claims.html"' in index
    assert f"{len(said)} published claims" in index
    page = (tmp_path / "claims.html").read_text(encoding="utf-8")
    parsed = Parsed(page)
    text = " ".join("".join(parsed.text).split())
    for verdict in said:
        assert f"claim-{verdict['id']}" in parsed.all("id")
        assert " ".join(verdict["statement"].split()) in text
        assert (f"equipoise run claims:{verdict['id']}" in text) == verdict["testable"]
    for shown in ("It is the other way round.", "−0.01235", "−0.02 … −0.004, 95.0%", "3: −0.0111", "1 contradicted"):
        assert shown in text
    for word in claims.WORDS:
        assert word in text


def test_claims_say_what_they_supersede_and_where_its_verdict_is(tmp_path: Path) -> None:
    said = verdicts()
    anew = [verdict for verdict in said if verdict["supersedes"]]
    old = [{k: v for k, v in verdict.items() if k not in ("registered", "supersedes")} for verdict in said]
    (tmp_path / "protocol-1").mkdir()
    for place, content in ((tmp_path, said), (tmp_path / "protocol-1", old)):
        (place / "claims.json").write_text(json.dumps(content))
    site.write_index(tmp_path)
    page = Parsed((tmp_path / "claims.html").read_text(encoding="utf-8"))
    kept = Parsed((tmp_path / "protocol-1" / "claims.html").read_text(encoding="utf-8"))
    links = [link for link in page.all("href") if link.startswith("protocol-1/")]
    assert sorted(links) == sorted(f"protocol-1/claims.html#claim-{verdict['id']}" for verdict in anew)
    assert {link.partition("#")[2] for link in links} <= set(kept.all("id"))
    assert "".join(page.text).count("Registered 2026-11-27, in place of that of protocol 1 (digest ") == len(anew) == 23
    assert "Verdicts under protocol 1, whose trials no longer count" in "".join(kept.text)
    assert {"../index.html", "../claims.html"} <= set(kept.all("href"))


def test_claims_can_stand_on_a_board(tmp_path: Path) -> None:
    board, manifest, trials = build(tmp_path, seeds=1, curves=False)
    said = verdicts()
    said[0]["statement"] = ATTACKS[0]
    page = html.write_report(board, manifest, trials, tmp_path / "out", said)[0].read_text(encoding="utf-8")
    parsed = Parsed(page)
    assert "#claims" in parsed.all("href")
    assert ATTACKS[0] in "".join(parsed.text)
    assert "#claims" not in Parsed(page_of(tmp_path / "none", seeds=1, curves=False)).all("href")


@pytest.mark.parametrize("content", ['[{"id": "x"}]', '{"a": 1}', '["x"]', "[1]"])
def test_a_broken_ledger_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "claims.json").write_text(content)
    with pytest.raises(ValueError, match=r"claims\.json: not a list of verdicts"):
        site.write_index(tmp_path)


@pytest.mark.slow
def test_twenty_strategies_on_three_tasks_stay_below_three_megabytes(tmp_path: Path) -> None:
    arms = ARMS + tuple(Arm(f"extra{i}", f"Extra rule {i}", flatten=0.01 * i, has_bias=i % 2 == 0) for i in range(14))
    page = page_of(tmp_path, arms, tasks=("mix-nano", "mix-small", "code-nano"), seeds=10)
    assert len(page.encode()) < 3e6
