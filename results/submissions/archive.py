"""The container of a submission: a tar in one exact form, compressed.

`pack` writes it and the reader knows nothing else: plain files with listed names, sorted, all with the same mode, owner
and date. A link, a path that leads elsewhere, a second file of the same name, or bytes between and behind the files
therefore do not need to be thought of one by one: their bytes are not the ones that `pack` would have written. The
reader never writes to a disk, and stops at the limits below however small the compressed archive was.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

MIB = 2**20
BLOCK = 512
COMPRESSION = 6
TOTAL_BYTES = 8192 * MIB  # of all files, uncompressed
FILES = 100_000
KEY = r"[0-9a-f]{16}"
LIMITS = {  # which files there may be, and how large one of them
    r"choice\.json": 16 * MIB,
    r"manifests/[a-z0-9][a-z0-9._-]{0,63}\.json": 64 * MIB,
    r"plugins/[a-z][a-z0-9_]{0,63}\.py": MIB // 4,
    r"submission\.json": 64 * MIB,
    rf"trials/{KEY}/curves\.json": 32 * MIB,
    rf"trials/{KEY}/load\.bin": 256 * MIB,
    rf"trials/{KEY}/record\.json": MIB,
    rf"trials/{KEY}/val_load\.bin": 4 * MIB,
}
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder"}


class Refused(ValueError):
    """The archive cannot be read any further; the message says where and why, in one line."""


def limit(name: str) -> int | None:
    """How many bytes a file of that name may have; None: there may be no such file."""
    return next((size for pattern, size in LIMITS.items() if re.fullmatch(pattern, name)), None)


def header(name: str, size: int) -> bytes:
    """The one header there is for a file of that name and size."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """What fills a file's last block."""
    return bytes(-size % BLOCK)


def write(path: Path, files: Mapping[str, Callable[[], bytes]]) -> None:
    """Write an archive; the same files give the same bytes. Contents are asked for one at a time.

    Raises:
        ValueError: a file has a name that none may have, or is larger than its kind may be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with (
            open(unfinished, "wb") as file,
            gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as out,  # neither a file's name nor a date
        ):
            for name in sorted(files):
                content = files[name]()
                most = limit(name)
                if most is None or len(content) > most:
                    expected = "a name that archives have" if most is None else f"at most {most:,}"
                    raise ValueError(f"{name}: {len(content):,} bytes; expected {expected}")
                out.write(header(name, len(content)) + content + padding(len(content)))
            out.write(bytes(2 * BLOCK))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive, one at a time, in order.

    Raises:
        Refused: it is not, byte for byte, in the form in which `write` leaves archives, or over a limit.
    """
    with open(path, "rb") as raw:
        stream = _Stream(raw)
        last = ""
        for count in range(FILES + 1):
            block = stream.read(BLOCK)
            if block == bytes(BLOCK):
                _check_end(stream)
                return
            name, size = _entry(block)
            if count == FILES:
                raise Refused(f"archive: more than {FILES:,} files")
            if name <= last:
                raise Refused(f"{name}: after {last!r}; expected sorted names, each once")
            content = stream.read(size)
            if stream.read(len(padding(size))) != padding(size):
                raise Refused(f"{name}: something stands between it and the next file")
            last = name
            yield name, content


def _entry(block: bytes) -> tuple[str, int]:
    """Name and size from a header, which must be the very one that `write` would have written."""
    name = block[:100].rstrip(b"\0").decode("utf-8", "replace")
    shown = _shown(name)
    kind = _KINDS.get(block[156:157])
    if kind:
        raise Refused(f"{shown}: {kind}; expected plain files only")
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise Refused(f"{shown}: its path leads out of the archive")
    most = limit(name)
    if most is None:
        raise Refused(f"{shown}: no file of a submission has that name")
    digits = block[124:135]
    if not re.fullmatch(rb"[0-7]{11}", digits):
        raise Refused(f"{shown}: its header gives no size")
    size = int(digits, 8)
    if size > most:
        raise Refused(f"{shown}: {size:,} bytes; at most {most:,} are read")
    if block != header(name, size):
        raise Refused(f"{shown}: its header is not the one that `equipoise pack` writes")
    return name, size


def _check_end(stream: _Stream) -> None:
    if stream.read(BLOCK) != bytes(BLOCK) or not stream.at_end():
        raise Refused("archive: something stands behind its last file: it was not packed by `equipoise pack`")


def _shown(name: str) -> str:
    """A stranger's name for a file as a line of a report may show it."""
    plain = "".join(character if character.isprintable() else "?" for character in name)
    return repr(plain if len(plain) <= 60 else f"{plain[:57]}…")


class _Stream:
    """The uncompressed bytes of one gzip member, counted: no more is ever held than was asked for."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._zip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._total = 0

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        self._total += count
        if self._total > TOTAL_BYTES:
            raise Refused(f"archive: more than {TOTAL_BYTES:,} bytes uncompressed")
        parts = []
        while count:
            part = self._some(count)
            if not part:
                raise Refused("archive: truncated")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def at_end(self) -> bool:
        """Whether nothing follows, compressed or not."""
        return not self._some(1) and self._zip.eof and not self._zip.unused_data and not self._raw.read(1)

    def _some(self, most: int) -> bytes:
        """Up to `most` bytes; none at the end."""
        while not self._zip.eof:
            waiting = self._zip.unconsumed_tail or self._raw.read(65536)
            try:
                part = self._zip.decompress(waiting, most)
            except zlib.error as error:
                raise Refused(f"archive: damaged ({error}); expected a .tar.gz") from None
            if part or not waiting:
                return part
        return b""
