"""From a corpus to token arrays in the cache: fetched, split, tokenised once, whoever asks and however many at once.

A prepared corpus is a folder `corpora/<key>/` of `<domain>.train.npy`, `<domain>.heldout.npy` (token ids),
`token_bytes.npy`, `token_counts.npy` (V,), `tokenizer.json` and `facts.json`. It appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import archives, hub, local, packages, vocabulary
from tasks.catalog import PREPARATION, Task
from tasks.corpus import HubCorpus, HubDomain, PackagesCorpus, RecallCorpus, TextCorpus, ZipfCorpus
from tasks.documents import Spool, drawn
from tasks.errors import CorpusError
from tasks.storage import locked, writable

TOKENIZER_BYTES = 1_000, 64_000_000  # of each domain's training text for a token of the tokenizer, and at most

Progress = Callable[[str], None]


def prepare(task: Task, cache: Path, progress: Progress = print) -> Path:
    """Fetch, verify and tokenise a task's corpus, unless that is done already.

    Args:
        task: from `load`.
        cache: the cache's folder, made if missing. Archives are kept in `cache/archives`.
        progress: is told what takes time, in lines.

    Returns:
        The prepared corpus' folder; the cache itself for a synthetic source, which needs no preparation.

    Raises:
        CorpusError: the corpus cannot be had, read or written.
    """
    cache = Path(cache)
    if isinstance(task.corpus, ZipfCorpus | RecallCorpus):
        return cache
    key = _key(task)
    folder = cache / "corpora" / key
    if facts(folder) is not None:
        return folder
    with locked(cache / "corpora" / f"{key}.lock"):
        if facts(folder) is not None:
            return folder  # another process was faster
        if folder.exists():
            progress(f"{folder}: damaged, preparing it again")
        with writable(cache), tempfile.TemporaryDirectory(dir=cache / "corpora", prefix=".prepare-") as scratch:
            _build(task, cache, Path(scratch), progress)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(Path(scratch) / "out", folder)
    return folder


def facts(folder: Path) -> dict[str, Any] | None:
    """A prepared corpus' facts; None if it is not there or not whole."""
    try:
        found = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in found["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return found if whole else None


def _key(task: Task) -> str:
    corpus = task.resolved()["corpus"]
    for other in ("phases", "path"):  # they say nothing about the text: the content's digest does
        corpus.pop(other, None)
    text = json.dumps([PREPARATION, corpus, task.rung.vocab_size], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _domains(
    task: Task, cache: Path, progress: Progress
) -> Iterator[tuple[str, Iterable[tuple[str, str]], dict[str, str]]]:
    """Name and documents of each domain, and what can only be known where they come from."""
    corpus = task.corpus
    if isinstance(corpus, PackagesCorpus):
        wanted = [source.archive for sources in corpus.domains.values() for source in sources.values()]
        archives.fetch_all(wanted, cache / "archives", progress)
        for name, sources in corpus.domains.items():
            found = chain.from_iterable(
                packages.documents(source, cache / "archives" / source.archive.file) for source in sources.values()
            )
            yield name, found if corpus.megabytes is None else drawn(found, corpus.megabytes * 1_000_000), {}
    elif isinstance(corpus, TextCorpus):
        for name, paths in local.domains(corpus).items():
            yield name, local.documents(paths), {}
    elif isinstance(corpus, HubCorpus):
        for name, source in corpus.domains.items():
            revision = hub.revision(source)
            progress(f"{name}: streaming {source.megabytes} MB of {source.dataset}{_at(name, source, revision)}")
            at = source.model_copy(update={"revision": revision or source.revision})
            yield name, hub.documents(at), {"dataset": source.dataset} | ({"revision": revision} if revision else {})


def _at(name: str, source: HubDomain, revision: str | None) -> str:
    """At which commit a data set is read, and how to keep to it."""
    if revision is None or revision == source.revision:
        return ""
    return f" at {revision}, as of now; corpus.domains.{name}.revision: {revision} keeps to it"


def _build(task: Task, cache: Path, scratch: Path, progress: Progress) -> None:
    out = scratch / "out"
    out.mkdir()
    spools: dict[str, Spool] = {}
    about: dict[str, Any] = {}
    for index, (name, documents, origin) in enumerate(_domains(task, cache, progress)):
        spools[name], about[name] = Spool(name, scratch / f"{index}.jsonl", documents), origin
    vocab_size = task.rung.vocab_size
    progress(f"{', '.join(spools)}: training a tokenizer of {vocab_size} tokens")
    tokenizer = vocabulary.train(chain.from_iterable(_some(s, vocab_size) for s in spools.values()), vocab_size)
    (out / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    np.save(out / "token_bytes.npy", vocabulary.token_bytes(tokenizer, vocab_size))
    counts_V = np.zeros(vocab_size, dtype=np.int64)
    for name, spool in spools.items():
        progress(f"{name}: tokenising {sum(spool.sizes) / 1e6:.1f} MB")
        lengths = {}
        for split, held_out in (("train", False), ("heldout", True)):
            tokens = vocabulary.encode(tokenizer, spool.texts(held_out), end=vocab_size - 1)
            tokens_N = _save(out / f"{name}.{split}.npy", scratch / "tokens", tokens, vocab_size)
            lengths[f"{split}_tokens"] = len(tokens_N)
            if not held_out:
                counts_V += _count(tokens_N, vocab_size)
        about[name] |= {
            "documents": len(spool.names),
            "heldout_documents": [spool.names[index] for index in sorted(spool.held_out)][:1000],
            "bytes": sum(spool.sizes),
            "heldout_bytes": sum(spool.sizes[index] for index in spool.held_out),
            **lengths,
        }
    np.save(out / "token_counts.npy", counts_V)
    files = sorted(out.iterdir())
    digest = hashlib.sha256("".join(f"{path.name} {archives.digest(path)}\n" for path in files).encode()).hexdigest()
    sizes = {path.name: path.stat().st_size for path in files}
    text = json.dumps(
        {"digest": digest, "domains": about, "files": sizes, "vocab_size": vocab_size}, indent=1, sort_keys=True
    )
    (out / "facts.json").write_text(text + "\n", encoding="utf-8")


def _some(spool: Spool, vocab_size: int) -> Iterator[str]:
    """Training texts for the tokenizer, from all over the domain."""
    total = sum(size for index, size in enumerate(spool.sizes) if index not in spool.held_out)
    share = min(TOKENIZER_BYTES[0] * vocab_size, TOKENIZER_BYTES[1]) / total
    taken = seen = 0
    for text in spool.texts(False):
        size = len(text.encode())
        seen += size
        if taken + size / 2 <= share * seen:
            yield text
            taken += size


def _save(path: Path, scratch: Path, documents: Iterable[NDArray[Any]], vocab_size: int) -> NDArray[Any]:
    """Writes token ids one document after another; the array, read back from disk."""
    dtype = np.uint16 if vocab_size <= 2**16 else np.uint32
    with open(scratch, "wb") as file:
        for tokens in documents:
            tokens.astype(dtype).tofile(file)
    length = scratch.stat().st_size // np.dtype(dtype).itemsize
    if length == 0:
        raise CorpusError(f"{path.stem}: no tokens at all; expected text")
    tokens_N = np.memmap(scratch, dtype=dtype, mode="r", shape=(length,))
    np.save(path, tokens_N)
    return np.load(path, mmap_mode="r")


def _count(tokens_N: NDArray[Any], vocab_size: int) -> NDArray[np.int64]:
    """How often each token occurs, (V,), a chunk at a time."""
    counts_V = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens_N), 2**24):
        counts_V += np.bincount(tokens_N[start : start + 2**24], minlength=vocab_size)
    return counts_V
