"""Package archives: fetched through pip from a local folder, verified, and nothing in them is ever run."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tasks import archives, packages
from tasks.corpus import Archive, PackageSource
from tasks.errors import CorpusError


def make_tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pin(path: Path, requirement: str) -> Archive:
    return Archive(requirement=requirement, file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that stands for the user's package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def said():
    return []


def wheel(index: Path) -> Archive:
    metadata = b"Metadata-Version: 2.1\nName: parcel\nVersion: 2.0\n"
    members = {
        "parcel/a.py": b"x = 1\n",
        "parcel-2.0.dist-info/METADATA": metadata,
        "parcel-2.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "parcel-2.0.dist-info/RECORD": b"",
    }
    return pin(make_zip(index / "parcel-2.0-py3-none-any.whl", members), "parcel==2.0")


@pytest.mark.parametrize("backend", [None, *archives.BUILD_BACKENDS])
def test_setup_py_is_not_run(tmp_path, index, said, monkeypatch, backend):
    marker = tmp_path / "it-ran"
    setup = f"open({str(marker)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='parcel', version='1.0')\n"
    members = {"parcel-1.0/setup.py": setup.encode(), "parcel-1.0/text.txt": b"to be or not to be\n"}
    if backend:
        build = f'[build-system]\nrequires = ["{backend.split(".")[0]}"]\nbuild-backend = "{backend}"\n'
        members["parcel-1.0/pyproject.toml"] = build.encode()
    archive = pin(make_tar(index / "parcel-1.0.tar.gz", members), "parcel==1.0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = archives.fetch(archive, tmp_path / "cache", said.append)
    assert not marker.exists()
    assert list(archives.read(path, ["*.txt"], [])) == [("parcel-1.0/text.txt", b"to be or not to be\n")]
    assert said == ["parcel==1.0: fetching with pip"]


def test_a_name_with_a_dash_is_fetched(tmp_path, index, said):
    """A metadata folder's name ends at its first dash, so the package's own become underscores."""
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    members = {"two_words-1.0/pyproject.toml": build.encode(), "two_words-1.0/text.txt": b"text"}
    archive = pin(make_tar(index / "two_words-1.0.tar.gz", members), "two-words==1.0")
    assert archives.fetch(archive, tmp_path / "cache", said.append).exists()


def test_all_are_fetched_each_once(tmp_path, index, said):
    archive = wheel(index)
    archives.fetch_all([archive, archive], tmp_path / "cache", said.append)
    assert said == ["parcel==2.0: fetching with pip"]
    with pytest.raises(CorpusError, match=r"parcel==2\.0: cannot be fetched"):
        archives.fetch_all([archive, archive.model_copy(update={"file": "other.whl"})], tmp_path / "cache", said.append)


def test_an_archive_is_fetched_once(tmp_path, index, said):
    archive = wheel(index)
    path = archives.fetch(archive, tmp_path / "cache", said.append)
    (index / archive.file).unlink()
    assert archives.fetch(archive, tmp_path / "cache", said.append) == path
    assert len(said) == 1
    assert {child.name for child in (tmp_path / "cache").iterdir()} == {archive.file, f"{archive.file}.lock"}


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"x" + content[1:]])
def test_a_damaged_archive_is_named_and_fetched_again(tmp_path, index, said, damage):
    archive = wheel(index)
    path = archives.fetch(archive, tmp_path / "cache", said.append)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    said.clear()
    archives.fetch(archive, tmp_path / "cache", said.append)
    assert path.read_bytes() == whole
    assert said[0].startswith(f"{path}: damaged (SHA-256 ")
    assert said[0].endswith("fetching it again")


def test_an_archive_copied_into_the_cache_needs_no_index(tmp_path, index, said, monkeypatch):
    archive = wheel(index)
    cache = tmp_path / "cache"
    cache.mkdir()
    (index / archive.file).rename(cache / archive.file)
    archives.fetch(archive, cache, said.append)
    assert said == []


def refused(archive: Archive, cache: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        archives.fetch(archive, cache, lambda text: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_hash_is_refused(tmp_path, index):
    archive = wheel(index).model_copy(update={"sha256": "0" * 64})
    message = refused(archive, tmp_path / "cache")
    assert message.startswith("parcel==2.0: cannot be fetched from pip's package index (")
    assert not (tmp_path / "cache" / archive.file).exists()


def test_without_an_index_the_message_says_what_to_do(tmp_path, index):
    archive = Archive(requirement="parcel==3.0", file="parcel-3.0.tar.gz", sha256="0" * 64)
    message = refused(archive, tmp_path / "cache")
    assert "No matching distribution found for parcel==3.0" in message
    assert message.endswith(
        "run `equipoise prepare` where an index can be reached, or copy parcel-3.0.tar.gz into "
        + str(tmp_path / "cache")
    )


def test_without_pip_the_message_says_so(tmp_path, index, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\nexec {sys.executable} -S -I -m pip\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    assert "No module named pip" in refused(wheel(index), tmp_path / "cache")


def test_an_unwritable_cache_is_refused_in_one_line(tmp_path, index):
    (tmp_path / "file").touch()
    message = refused(wheel(index), tmp_path / "file" / "cache")
    assert message.startswith("cache: cannot write ")
    assert message.endswith("expected a writable folder with space left")


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "..\\out.txt"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_paths_that_lead_out_are_refused(tmp_path, make, name):
    path = make(tmp_path / ("a.tar.gz" if make is make_tar else "a.zip"), {name: b"x", "fine.txt": b"y"})
    with pytest.raises(CorpusError, match="a path that leads out of it; refused"):
        list(archives.read(path, ["*"], []))
    assert not (tmp_path.parent / "out.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_members_that_are_no_plain_files_are_refused(tmp_path, kind):
    path = make_tar(tmp_path / "a.tar.gz", {"a.txt": link("a.txt", "/etc/hostname", kind)})
    with pytest.raises(CorpusError, match=r"a\.txt is not a plain file; refused"):
        list(archives.read(path, ["*.txt"], []))


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_archives_too_large_unpacked_are_refused(tmp_path, make, monkeypatch):
    path = make(tmp_path / ("a.tar.gz" if make is make_tar else "a.zip"), {"a.txt": b"0" * 3000, "b.txt": b"0" * 3000})
    monkeypatch.setattr(archives, "LARGEST_ARCHIVE", 5000)
    with pytest.raises(CorpusError, match=r"b\.txt makes it too large"):
        list(archives.read(path, ["*"], []))
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 2000)
    with pytest.raises(CorpusError, match=r"a\.txt makes it too large"):
        list(archives.read(path, ["*"], []))


def test_patterns_choose_and_leave_out(tmp_path):
    members = {name: name.encode() for name in ("p/b.py", "p/a.py", "p/tests/t.py", "p/data.bin")}
    path = make_zip(tmp_path / "a.zip", members)
    assert [name for name, _ in archives.read(path, ["p/*.py"], ["*/tests/*"])] == ["p/a.py", "p/b.py"]


def test_a_truncated_archive_is_no_traceback(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", {"a.txt": bytes(range(256)) * 4000})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CorpusError, match="not a whole archive"):
        list(archives.read(path, ["*"], []))


MODULE = """
open({marker!r}, "w").close()
from nowhere import Bible
bible = Bible(Version.X, "short", 3, {text!r}, {{1001001: 0, 1001002: 6, 2001001: 12, 2002001: 20}}, {{1: 2}})
"""


def test_books_are_read_from_a_string_literal_without_importing_it(tmp_path):
    marker, text = tmp_path / "it-ran", "first\nverse\nsecond. second chapter"
    found = list(packages.books(MODULE.format(marker=str(marker), text=text), "here"))
    assert found == [("book-01", "first\nverse\n"), ("book-02", "second. second chapter")]
    assert not marker.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [("x = 1", "here: expected a call with a long string"), ("def", "here: not Python")],
)
def test_a_module_of_another_form_is_refused(source, message):
    with pytest.raises(CorpusError, match=message):
        list(packages.books(source, "here"))


def test_an_archive_without_the_wanted_files_is_refused(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.txt": b"x", "bad.txt": b"\xff\xfe"})
    archive = Archive(requirement="a==1", file="a.zip", sha256="0" * 64)
    with pytest.raises(CorpusError, match=r"holds no file named like \*\.py"):
        list(packages.documents(PackageSource(archive=archive, files=["*.py"]), path))
    with pytest.raises(CorpusError, match=r"bad\.txt: not UTF-8 \(byte 0xff at offset 0\)"):
        list(packages.documents(PackageSource(archive=archive, files=["*.txt"]), path))


def test_long_files_are_cut_into_documents(tmp_path):
    text = "".join(f"line {number}\n" for number in range(5000))
    path = make_zip(tmp_path / "a.zip", {"a.js": text.encode()})
    archive = Archive(requirement="a==1", file="a.zip", sha256="0" * 64)
    found = list(packages.documents(PackageSource(archive=archive, files=["*.js"], reader="sections"), path))
    assert len(found) > 2
    assert "".join(part for _, part in found) == text
