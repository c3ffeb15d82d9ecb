"""The container: whatever is not the exact form that `write` leaves is refused before its content is looked at."""

from __future__ import annotations

import functools
import gzip
import io
import random
import tarfile
import tracemalloc

import pytest

from results.submissions import archive

NAME = "plugins/a.py"
OTHER = "plugins/b.py"


def member(name, content=b"x", form=tarfile.USTAR_FORMAT, **fields):
    """A file as tarfile would write it, its header's fields free to choose."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    for field, value in fields.items():
        setattr(entry, field, value)
    body = content + archive.padding(len(content)) if entry.isreg() or entry.type == tarfile.LNKTYPE else b""
    return entry.tobuf(form) + body


END = bytes(1024)
HEADER = archive.header(NAME, 1)


def with_size(digits):
    """A header that gives a size of its own, its checksum right."""
    header = bytearray(HEADER)
    header[124:136] = digits
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


CONTAINERS = {
    "a path that leads out": (member("../../etc/passwd") + END, "its path leads out of the archive"),
    "a path that leads out from inside": (member("trials/../../x") + END, "its path leads out of the archive"),
    "an absolute path": (member("/etc/passwd") + END, "its path leads out of the archive"),
    "a path of another system": (member("plugins\\..\\a.py") + END, "its path leads out of the archive"),
    "a symbolic link": (member(NAME, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd") + END, "a symbolic link"),
    "a hard link": (member(NAME, b"", type=tarfile.LNKTYPE, linkname=OTHER) + END, "a hard link"),
    "a device": (member(NAME, b"", type=tarfile.CHRTYPE) + END, "a device"),
    "a folder": (member("plugins", b"", type=tarfile.DIRTYPE) + END, "a folder"),
    "a name it may not have": (member("notes.txt") + END, "no file of a submission has that name"),
    "a program": (member("plugins/a.so") + END, "no file of a submission has that name"),
    "a name with a line end": (member("plugins/a.py\nall is well") + END, "no file of a submission has that name"),
    "a long name": (member("x" * 300, form=tarfile.PAX_FORMAT) + END, "no file of a submission has that name"),
    "a name by a pax header": (
        member("plugins/a.py", pax_headers={"path": "../x"}, form=tarfile.PAX_FORMAT) + END,
        "no file of a submission has that name",
    ),
    "a file twice": (member(NAME) + member(NAME) + END, "expected sorted names, each once"),
    "files out of order": (member(OTHER) + member(NAME) + END, "expected sorted names, each once"),
    "a program's mode": (member(NAME, mode=0o4755) + END, "its header is not the one"),
    "an owner": (member(NAME, uname="ada") + END, "its header is not the one"),
    "a date": (member(NAME, mtime=1.0) + END, "its header is not the one"),
    "a giant": (with_size(b"77777777777\0") + END, "at most 262,144 are read"),
    "a size in binary": (with_size(b"\x80" + b"\0" * 10 + b"\x01") + END, "its header gives no size"),
    "a negative size": (with_size(b"-0000000001\0") + END, "its header gives no size"),
    "something between files": (member(NAME)[:-1] + b"!" + END, "something stands between it and the next file"),
    "something behind the files": (member(NAME) + END + b"more", "something stands behind its last file"),
    "another archive behind it": (member(NAME) + END + member(OTHER) + END, "something stands behind its last file"),
    "no end": (member(NAME), "truncated"),
    "half an end": (member(NAME) + bytes(512), "truncated"),
    "cut within a file": (member(NAME)[:514], "truncated"),
    "nothing": (b"", "truncated"),
}


def refusal(path):
    with pytest.raises(archive.Refused) as caught:
        for _ in archive.read(path):
            pass
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 250
    return said


@pytest.mark.parametrize("name", CONTAINERS)
def test_refused(name, tmp_path):
    content, reason = CONTAINERS[name]
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(content, mtime=0))
    assert reason in refusal(path)


def test_what_is_behind_the_compressed_stream_is_refused(tmp_path):
    path = tmp_path / "a.tar.gz"
    whole = gzip.compress(member(NAME) + END)
    for more in (b"x", gzip.compress(b"x")):
        path.write_bytes(whole + more)
        assert "something stands behind its last file" in refusal(path)
    path.write_bytes(whole[:-12])
    assert "behind its last file" in refusal(path) or "truncated" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + bytes(100), member(NAME) + END, b"\x1f\x8b" + b"\xff" * 99])
def test_what_is_no_gzip_is_refused(content, tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    assert "damaged" in refusal(path) or "truncated" in refusal(path)


def test_a_bomb_is_stopped_early(tmp_path, monkeypatch):
    """A gigabyte of files in a few hundred kilobytes: it is never held, and reading stops at the limit."""
    monkeypatch.setattr(archive, "TOTAL_BYTES", 32 * archive.MIB)
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", 9) as out:
        for index in range(40):
            content = bytes(4 * archive.MIB)
            name = f"trials/{index:016x}/val_load.bin"
            out.write(archive.header(name, len(content)) + content)
    tracemalloc.start()
    try:
        said = refusal(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "more than 33,554,432 bytes uncompressed" in said
    assert most < 24 * archive.MIB


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FILES", 3)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(b"".join(member(f"plugins/a{index}.py") for index in range(4)) + END))
    assert "more than 3 files" in refusal(path)


def test_written_and_read_again_and_known_to_other_readers(tmp_path):
    files = {NAME: b"first", OTHER: bytes(512), "submission.json": b""}
    path = tmp_path / "a.tar.gz"
    archive.write(path, {name: functools.partial(bytes, content) for name, content in reversed(files.items())})
    assert dict(archive.read(path)) == files
    with tarfile.open(path) as held:  # nothing of its own: any tar opens it
        assert {entry.name: held.extractfile(entry).read() for entry in held} == files


def test_equal_files_give_equal_bytes(tmp_path):
    files = {NAME: lambda: b"first", OTHER: lambda: b"second"}
    archive.write(tmp_path / "a.tar.gz", files)
    archive.write(tmp_path / "elsewhere" / "b.tar.gz", dict(reversed(files.items())))
    one, two = (tmp_path / "a.tar.gz").read_bytes(), (tmp_path / "elsewhere" / "b.tar.gz").read_bytes()
    assert one == two
    assert b"a.tar" not in one  # gzip would have written the file's name and the time
    assert one[4:8] == bytes(4)


@pytest.mark.parametrize(
    ("name", "size", "reason"), [("notes.txt", 1, "a name that archives have"), (NAME, 2**20, "at most 262,144")]
)
def test_what_could_not_be_read_is_not_written(name, size, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        archive.write(tmp_path / "a.tar.gz", {name: lambda: bytes(size)})
    assert list(tmp_path.iterdir()) == []


def test_no_damage_ends_in_anything_but_a_refusal_or_the_same_files(packed, tmp_path):
    """Bytes flipped in the compressed file and under it: refused, or without effect on what is read."""
    whole, dice = packed.read_bytes(), random.Random(17)
    before = dict(archive.read(packed))
    plain = gzip.decompress(whole)
    path = tmp_path / "damaged.tar.gz"
    for round_ in range(150):
        compressed = round_ % 2 == 0
        content = bytearray(whole if compressed else plain)
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(bytes(content) if compressed else gzip.compress(bytes(content), 1))
        try:
            after = dict(archive.read(path))
        except archive.Refused:
            continue
        changed = [name for name in before if after.get(name) != before[name]]
        assert after.keys() == before.keys()
        assert changed or compressed  # a flipped bit of a header never passes
        if compressed:
            assert not changed  # the stream's own checksum


def test_reading_needs_no_seekable_memory(packed):
    """The first file is there before the archive was read to its end."""
    files = archive.read(packed)
    name, content = next(files)
    assert name == "manifests/tiny.json"
    assert io.BytesIO(content).read(1) == b"{"


def test_an_archive_that_other_hands_packed_is_called_so(tmp_path):
    """What `tar` writes is filled up to ten kilobytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(NAME)
        entry.size, entry.mode = 1, 0o644
        tar.addfile(entry, io.BytesIO(b"x"))
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(content.getvalue()))
    with pytest.raises(archive.Refused, match="it was not packed by `equipoise pack`"):
        list(archive.read(path))
