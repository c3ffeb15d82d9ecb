"""From documents to a split: cleaned, cut where there are too few, and some held out, always the same ones."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.errors import CorpusError

FEWEST_DOCUMENTS = 10  # a domain with fewer is cut into sections, which are split like documents
LEAST_HELD_OUT, MOST_HELD_OUT = 0.08, 0.10  # of a domain's bytes


def sections(name: str, text: str, length: int) -> Iterator[tuple[str, str]]:
    """The text in pieces of at least `length` characters that end at a blank line, else a line's end, else anywhere."""
    start = 0
    for number in itertools.count(1):
        end = len(text)
        for mark in ("\n\n", "\n"):
            found = text.find(mark, start + length, start + 3 * length)
            if found >= 0:
                end = found + len(mark)
                break
        else:
            end = min(end, start + 3 * length)
        yield f"{name}#{number}", text[start:end]
        start = end
        if start >= len(text):
            return


def _enough(documents: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The documents, cut into sections where they are too few to hold some out."""
    rest = iter(documents)
    first = list(itertools.islice(rest, FEWEST_DOCUMENTS))
    if len(first) == FEWEST_DOCUMENTS:
        yield from itertools.chain(first, rest)
        return
    length = max(64, min(16_384, sum(len(text) for _, text in first) // 60))
    for name, text in first:
        yield from sections(name, text, length)


def drawn(documents: Iterable[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """Documents of at most `most` bytes in all, in their own order: a draw by the hashes of their names.

    The hashes are not those that hold documents out, so that the two draws have nothing to do with each other.
    """
    known = list(documents)
    chosen, taken = set(), 0
    for index in sorted(range(len(known)), key=lambda i: hashlib.sha256(f"drawn/{known[i][0]}".encode()).digest()):
        size = len(known[index][1].encode("utf-8", errors="surrogatepass"))
        if taken + size <= most:
            chosen.add(index)
            taken += size
    return [document for index, document in enumerate(known) if index in chosen]


class Spool:
    """A domain's documents on disk, to be read as often as needed; blank ones and exact repeats are left out.

    Args:
        domain: its name, for messages.
        path: where to keep them.
        documents: name and text of each.
    """

    def __init__(self, domain: str, path: Path, documents: Iterable[tuple[str, str]]) -> None:
        self._path = path
        self.names: list[str] = []
        self.sizes: list[int] = []  # bytes
        seen: set[bytes] = set()
        with open(path, "w", encoding="utf-8") as file:
            for name, text in _enough(documents):
                content = text.encode("utf-8", errors="surrogatepass")
                mark = hashlib.sha256(content).digest()[:16]
                if text.strip() and mark not in seen:
                    seen.add(mark)
                    self.names.append(name)
                    self.sizes.append(len(content))
                    file.write(json.dumps(text) + "\n")
        if len(self.names) < 2:
            raise CorpusError(
                f"{domain}: {sum(self.sizes)} bytes of text are too little to train on and to hold some out"
            )
        self.held_out = held_out(self.names, self.sizes)

    def texts(self, held_out: bool) -> Iterator[str]:
        """The texts of one side of the split."""
        with open(self._path, encoding="utf-8") as file:
            for index, line in enumerate(file):
                if (index in self.held_out) == held_out:
                    yield json.loads(line)


def held_out(names: list[str], sizes: list[int]) -> set[int]:
    """Indices of the documents to hold out: in the order of their names' hashes until 8 % of the bytes are reached.

    A document that would take them over 10 % is passed over; at least one is held out, the smallest if need be.
    """
    total, taken, chosen = sum(sizes), 0, set()
    for index in sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest()):
        if taken + sizes[index] <= MOST_HELD_OUT * total:
            chosen.add(index)
            taken += sizes[index]
        if taken >= LEAST_HELD_OUT * total:
            break
    return chosen or {min(range(len(sizes)), key=sizes.__getitem__)}
