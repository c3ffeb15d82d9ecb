"""Articles out of a dump: what markup leaves behind, by hand."""

from __future__ import annotations

import gzip
from html import escape

import pytest

from tasks import wikipedia
from tasks.errors import CorpusError


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a [[load]] of [[expert (model)|experts]]", "a load of experts"),
        ("x [[Image:a.jpg|thumb|a [[small]] picture]] y", "x  y"),
        ("[[Category:Things]] [[de:Dinge]]", ""),
        ("{{box|a={{nested|b}}|c}}text", "text"),
        ("{|\n| cell\n|}\nafter", "after"),
        ("a<ref name=x>gone</ref>b<ref name=y />c", "abc"),
        ("<!-- gone -->''both'' '''kinds'''", "both kinds"),
        ("[http://a.b/c the words] [http://a.b/c]", "the words"),
        ("== Title ==\n\n\n\nbody", "Title\n\nbody"),
        ("5 &nbsp;&lt; 6 <br /> x = 1", "5 \xa0< 6  x = 1"),
    ],
)
def test_markup_goes_and_its_words_stay(markup, text):
    assert wikipedia.plain(escape(markup, quote=False)).strip() == text


def dump(*pages: tuple[str, str]) -> bytes:
    text = "".join(
        f'<page>\n<title>{title}</title>\n<text xml:space="preserve">{body}</text></page>\n' for title, body in pages
    )
    return gzip.compress(text.encode())


LONG = "many words " * 60


def test_redirects_and_stubs_are_left_out():
    content = dump(("A", "#REDIRECT [[B]]" + LONG), ("B &amp; C", LONG), ("D", "short"))
    assert list(wikipedia.articles(content, 10**6, "here")) == [("B & C", LONG.strip() + "\n")]


def test_only_the_beginning_is_read():
    content = dump(*((f"page {index}", LONG) for index in range(20)))
    found = [title for title, _ in wikipedia.articles(content, 5 * len(LONG), "here")]
    assert found == ["page 0", "page 1", "page 2", "page 3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"x", "here: not a gzipped dump"), (dump(), "here: holds no article")],
    ids=["no dump", "no article"],  # a name with the hour in it would differ between processes
)
def test_what_is_no_dump_is_refused(content, message):
    with pytest.raises(CorpusError, match=message):
        list(wikipedia.articles(content, 10**6, "here"))
