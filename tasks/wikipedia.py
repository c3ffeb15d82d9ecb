"""Articles out of a Wikipedia dump: redirects and stubs left out, markup taken off by rules that fit in a screen."""

from __future__ import annotations

import gzip
import html
import io
import re
import zlib
from collections.abc import Iterator

from tasks.errors import CorpusError

SHORTEST = 500  # characters of an article
NESTING = 4  # templates within templates that are taken out

PAGE = re.compile(r"<title>(.*?)</title>.*?<text[^>]*>(.*?)</text>", re.DOTALL)
# What goes with its content: comments, references, formulas, tables; then templates, from the innermost.
HIDDEN = re.compile(
    r"<!--.*?-->|<(ref|math|table|gallery)\b[^>]*?(?:/>|>.*?</\1>)|^\{\|.*?^\|\}", re.DOTALL | re.MULTILINE
)
TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
# What goes and leaves its words: links to articles, links out, quotes that stand for italics, tags, signs of headings.
LINK = re.compile(r"\[\[(?:[^\[\]|:]*\|)?([^\[\]|:]*)\]\]")
OTHER_LINK = re.compile(r"\[\[[^\[\]]*\]\]")  # images, categories, other languages: all of it goes
OUT = re.compile(r"\[\w+://\S+ ?([^\]]*)\]")
MARKS = re.compile(r"'{2,}|</?\w[^<>]{0,200}>|^=+ *| *=+$", re.MULTILINE)
BLANK = re.compile(r"[ \t]*\n(?:[ \t]*\n)+")


def articles(dump: bytes, most: int, where: str) -> Iterator[tuple[str, str]]:
    """Title and plain text of each article in the first `most` bytes of a gzipped dump.

    Raises:
        CorpusError: not gzipped, or without any article.
    """
    try:
        with gzip.open(io.BytesIO(dump)) as file:
            text = file.read(most).decode("utf-8", errors="ignore")  # the cut may fall within a character
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{where}: not a gzipped dump ({error})") from error
    empty = True
    for match in PAGE.finditer(text):
        article = plain(match[2])
        if len(article) >= SHORTEST and not article.startswith("#REDIRECT"):
            empty = False
            yield html.unescape(match[1]), article
    if empty:
        raise CorpusError(f"{where}: holds no article of at least {SHORTEST} characters")


def plain(markup: str) -> str:
    """An article's text without its markup. `markup` is as in the XML, escaped."""
    text = HIDDEN.sub("", html.unescape(html.unescape(markup)))
    for _ in range(NESTING):
        text = TEMPLATE.sub("", text)
    for _ in range(2):  # a link within an image's caption, then the image
        text = LINK.sub(r"\1", text)
    text = OUT.sub(r"\1", OTHER_LINK.sub("", text))
    return BLANK.sub("\n\n", MARKS.sub("", text)).strip() + "\n"
