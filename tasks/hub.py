"""Documents of Hugging Face data sets, streamed by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks.corpus import HubDomain
from tasks.errors import CorpusError

LARGEST_DOCUMENT = 10_000_000  # characters; a pattern that never matches must not fill the memory
COMMIT = re.compile(r"[0-9a-f]{40}")


def documents(domain: HubDomain) -> Iterator[tuple[str, str]]:
    """Number and text of each document, until `megabytes` (10⁶ bytes) of text are there or the split ends.

    Raises:
        CorpusError: `datasets` is not installed, the data set cannot be reached, or it has no such column.
    """
    taken = 0
    for number, text in enumerate(_joined(_rows(domain), domain.starts)):
        yield str(number), text
        taken += len(text.encode())
        if taken >= domain.megabytes * 1_000_000:
            return


def _joined(rows: Iterator[str], starts: str | None) -> Iterator[str]:
    """The rows, or documents of several rows each where a pattern says which rows start one."""
    if starts is None:
        yield from rows
        return
    parts: list[str] = []
    length = 0
    for row in rows:
        if parts and (re.search(starts, row) or length > LARGEST_DOCUMENT):
            yield "".join(parts)
            parts, length = [], 0
        parts.append(row)
        length += len(row)
    yield "".join(parts)


def revision(domain: HubDomain) -> str | None:
    """The commit at which a data set is read: what its `revision` names, or the newest. None if it is not the hub's.

    Raises:
        CorpusError: `datasets` is not installed, or the data set cannot be reached.
    """
    with _reached(domain) as datasets:
        builder = datasets.load_dataset_builder(
            domain.dataset, domain.subset, data_files=domain.data_files, revision=domain.revision
        )
    return builder.hash if COMMIT.fullmatch(builder.hash or "") else None


def _rows(domain: HubDomain) -> Iterator[str]:
    options: dict[str, Any] = {"split": domain.split, "streaming": True, "revision": domain.revision}
    with _reached(domain) as datasets:
        for row in datasets.load_dataset(domain.dataset, domain.subset, data_files=domain.data_files, **options):
            if domain.column not in row:
                raise CorpusError(
                    f"{domain.dataset}: has no column {domain.column!r}; columns: {', '.join(sorted(row))}"
                )
            yield row[domain.column] or ""


@contextmanager
def _reached(domain: HubDomain) -> Iterator[Any]:
    """The package `datasets`; whatever goes wrong with it becomes one line."""
    try:
        import datasets
    except ImportError:
        raise CorpusError(
            f"{domain.dataset}: needs the package datasets; install it with `pip install 'equipoise[hub]'`"
        ) from None
    try:
        yield datasets
    except CorpusError:
        raise
    except Exception as error:  # whatever a network, a hub or a parser comes up with
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise CorpusError(
            f"{domain.dataset}: cannot be read from the Hugging Face hub ({type(error).__name__}: {first[0][:200]}); "
            "check its name and the network, or run `equipoise prepare` where the hub can be reached"
        ) from error
