"""Documents out of package archives: plain files, pieces of long ones, string literals and dumps, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tasks import archives, wikipedia
from tasks.corpus import PackageSource
from tasks.documents import sections
from tasks.errors import CorpusError
from tasks.local import decode

VERSES_PER_BOOK = 1_000_000  # a verse's number is book · 1,000,000 + chapter · 1,000 + verse
SECTION = 16_384  # characters at least of a piece of a long file


def documents(source: PackageSource, path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each document of an archive.

    Raises:
        CorpusError: the archive does not hold what the catalog says.
    """
    empty = True
    for name, content in archives.read(path, source.files, source.leave_out):
        empty = False
        where = f"{path}: {name}"
        match source.reader:
            case "wikipedia":
                yield from wikipedia.articles(content, source.dump_megabytes * 1_000_000, where)
            case "verses":
                yield from books(decode(content, where), where)
            case "sections":
                yield from sections(name, decode(content, where), SECTION)
            case "text":
                yield name, decode(content, where)
    if empty:
        raise CorpusError(f"{path}: holds no file named like {', '.join(source.files)}")


def books(source: str, where: str) -> Iterator[tuple[str, str]]:
    """Name and text of each book in a module that calls something with a long string and a table of verse starts.

    Raises:
        CorpusError: the module is of another form.
    """
    for node in ast.walk(_parse(source, where)):
        if isinstance(node, ast.Call):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            tables = [a for a in node.args if isinstance(a, ast.Dict)]
            if texts and tables:
                text, starts = max(texts, key=len), ast.literal_eval(tables[0])
                break
    else:
        raise CorpusError(f"{where}: expected a call with a long string and a table of verse starts")
    first: dict[int, int] = {}
    for verse, start in starts.items():
        book = verse // VERSES_PER_BOOK
        first[book] = min(start, first.get(book, start))
    order = sorted(first, key=first.__getitem__)
    ends = [first[book] for book in order[1:]] + [len(text)]
    for book, end in zip(order, ends, strict=True):
        yield f"book-{book:02d}", text[first[book] : end]


def _parse(source: str, where: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise CorpusError(f"{where}: not Python ({error})") from None
