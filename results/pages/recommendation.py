"""The recommendation where it is read: on the index, in the boards' README, and in the project's, with its figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from results.plots.picture import Picture
from results.recommend import evidence, figure, foretelling, glance, wording
from results.recommend.advise import advice
from results.recommend.block import renew
from results.recommend.rankings import rankings

FIGURE, FORETOLD, FORETELLING = "recommendation.svg", "foretelling.svg", "foretelling.json"


@dataclass(frozen=True)
class Recommendation:
    """What the published boards of one folder recommend."""

    answers: Sequence[Mapping[str, Any]]
    ranked: Sequence[Mapping[str, Any]]
    foretold: Sequence[Mapping[str, Any]]

    @cached_property
    def picture(self) -> Picture | None:
        return figure.behind_the_best([answer for answer in self.answers if answer["need"] == self.answers[0]["need"]])

    @property
    def markdown(self) -> list[str]:
        """For the README beside the boards: the table, and all that it leaves out."""
        table = glance.as_markdown(self.answers, "")
        lines = ["# Which one, for what", "", *table, *wording.in_full_as_markdown(self.answers, self.ranked, "")]
        return [*lines, *self._balance] if self.foretold else lines

    @property
    def _balance(self) -> list[str]:
        """What balance foretells, as a table and a figure."""
        drawn = self.drawn_shares
        lines = ["", "## What balance foretells", "", foretelling.READING, "", *glance.as_table(self.shares)]
        lines += ["", self.elsewhere] if self.elsewhere else []
        return [*lines, "", f"![{drawn.caption}]({FORETOLD})"] if drawn else lines

    @property
    def elsewhere(self) -> str:
        return foretelling.elsewhere(self.foretold)

    @cached_property
    def drawn_shares(self) -> Picture | None:
        return figure.foretold(self.foretold)

    @property
    def shares(self) -> list[list[str]]:
        return foretelling.grid(self.foretold)

    def block(self, folder: str) -> list[str]:
        """For a README elsewhere: the table with its figure; `folder` is the way to the boards and ends in a slash."""
        lines = [*glance.as_markdown(self.answers, folder), "", glance.travel_in_short(self.ranked)]
        way = f" [More]({folder}README.md#what-balance-foretells)"
        lines += ["", foretelling.in_short(self.foretold) + way] if self.foretold else []
        lines += ["", f"[In full]({folder}README.md#in-full), with intervals, seeds and what else was seen."]
        picture = self.picture
        return [*lines, "", f"![{picture.caption}]({folder}{FIGURE})"] if picture else lines

    def write_files(self, published: Path) -> None:
        """The figures, and what balance foretells in numbers; files that nothing is in any more go."""
        for name, drawn in ((FIGURE, self.picture), (FORETOLD, self.drawn_shares)):
            _write(published / name, drawn.svg if drawn else None)
        _write(published / FORETELLING, json.dumps(self.told, indent=1) + "\n" if self.told else None)

    @property
    def told(self) -> dict[str, Mapping[str, Any]]:
        """BOARD/TASK → what balance foretells there."""
        return {entry["key"]: entry for entry in self.foretold}

    @property
    def grid(self) -> list[list[Markup]]:
        """The table for the page beside the boards, every strategy linked to its row."""
        link, linked = self._links()
        return [[linked(words) for words in line] for line in glance.grid(self.answers, link)]

    @property
    def measured(self) -> list[list[Markup]]:
        """What the table rests on, for the same page."""
        link, linked = self._links()
        return [[linked(words) for words in line] for line in glance.measured(self.answers, link)]

    @property
    def in_full(self) -> list[tuple[str, Markup]]:
        """Which answer, and all of it, for the same page."""
        link, linked = self._links()
        return [(label, linked(words)) for label, words in wording.in_full(self.answers, link)]

    @staticmethod
    def _links() -> tuple[wording.Link, Callable[[str], Markup]]:
        """What marks a link in words, and what makes HTML of words that are marked so."""
        links: list[Markup] = []

        def link(words: str, row: str) -> str:
            links.append(Markup('<a href="{}">{}</a>').format(quote(wording.address(row), safe="/#"), words))
            return f"\0{len(links) - 1}\0"

        def linked(words: str) -> Markup:
            parts = words.split("\0")  # every second part is the number of a link
            return Markup("").join(links[int(part)] if i % 2 else escape(part) for i, part in enumerate(parts))

        return link, linked

    @property
    def reading_of_shares(self) -> str:
        return foretelling.READING

    @property
    def lead(self) -> list[str]:
        return glance.lead(self.answers)

    @property
    def below(self) -> str:
        return glance.below(self.answers)

    @property
    def reading(self) -> str:
        return wording.READING_IN_FULL

    @property
    def summary(self) -> str:
        return wording.summary(self.ranked)

    @property
    def travels(self) -> list[str]:
        return [wording.travels(entry) for entry in self.ranked if entry["word"] != "no evidence"]


def _write(file: Path, text: str | None) -> None:
    if text is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(text, encoding="utf-8")


def of(published: Path) -> Recommendation:
    """What the boards below a folder recommend."""
    boards = evidence.load(published)
    return Recommendation(advice(boards), rankings(boards), foretelling.foretelling(boards))


def renew_readme(published: Path, readme: Path) -> bool:
    """Put the recommendation between the markers of a README. Returns whether that changed it."""
    way = published.resolve().relative_to(readme.resolve().parent).as_posix()
    return renew(readme, of(published).block(f"{way}/"))
