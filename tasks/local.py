"""Local text: files and folders the user names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from tasks.corpus import TextCorpus
from tasks.errors import CorpusError


def domains(corpus: TextCorpus) -> dict[str, list[Path]]:
    """Files of each domain, sorted. A folder's subfolders are domains; files beside them are a domain named after it.

    Raises:
        CorpusError: nothing there.
    """
    root = Path(corpus.path).expanduser()
    if root.is_file():
        return {root.stem: [root]}
    if not root.is_dir():
        raise CorpusError(f"corpus.path: {corpus.path!r} does not exist; expected a text file or a folder of them")
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in corpus.files):
            inside = path.relative_to(root)
            found.setdefault(inside.parts[0] if len(inside.parts) > 1 else root.resolve().name, []).append(path)
    if not found:
        raise CorpusError(
            f"corpus.path: {corpus.path!r} holds no text; expected files named like {', '.join(corpus.files)}"
        )
    return found


def content_digest(corpus: TextCorpus) -> str:
    """SHA-256 over the names and bytes of all files, by domain."""
    digest = hashlib.sha256()
    for domain, paths in domains(corpus).items():
        above = Path(os.path.commonpath([path.parent for path in paths]))
        for path in paths:
            content = hashlib.sha256(_read(path)).hexdigest()
            digest.update(f"{domain}\0{path.relative_to(above).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def decode(content: bytes, where: str) -> str:
    """UTF-8 text; CorpusError naming the place otherwise."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: not UTF-8 (byte {content[error.start]:#04x} at offset {error.start}); expected UTF-8 text"
        ) from None


def documents(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Name and text of each file. The name holds the folder too, but nothing above a domain's own."""
    above = Path(os.path.commonpath([path.parent for path in paths]))
    for path in paths:
        yield path.relative_to(above).as_posix(), decode(_read(path), str(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}); expected a readable text file") from error
