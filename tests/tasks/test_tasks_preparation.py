"""From a folder of text to token arrays: whole, once, the same everywhere; and what goes wrong says so."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from small_text import text_overrides, write_text
from tokenizers import Tokenizer

import tasks
from tasks import preparation
from tasks.errors import CorpusError


def quiet(text: str) -> None:
    pass


def documents(folder, name, split):
    """The texts of one side of the split, read back from its tokens."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens_N = np.load(folder / f"{name}.{split}.npy")
    end = json.loads((folder / "facts.json").read_text())["vocab_size"] - 1
    assert tokens_N[-1] == end
    return [
        tokenizer.decode(part[part != end].tolist()) for part in np.split(tokens_N, np.flatnonzero(tokens_N == end) + 1)
    ][:-1]


def test_every_document_is_on_one_side_of_the_split(text_task, text_folder, tmp_path):
    folder = tasks.prepare(text_task, tmp_path / "cache", quiet)
    for name in ("prose", "verse"):
        train, heldout = documents(folder, name, "train"), documents(folder, name, "heldout")
        written = [path.read_text(encoding="utf-8") for path in (text_folder / name).iterdir()]
        assert not set(train) & set(heldout)
        assert sorted(train + heldout) == sorted(written)
        assert 0.05 < sum(map(len, heldout)) / sum(map(len, written)) <= 0.10


def test_counts_and_bytes_belong_to_the_arrays(text_task, text_folder, tmp_path):
    folder = tasks.prepare(text_task, tmp_path / "cache", quiet)
    source = tasks.open_source(text_task, tmp_path / "cache", 0)
    assert source.vocab_size == 400
    assert source.domains == ["prose", "verse"]
    assert source.entropy is None
    arrays = {(n, s): np.load(folder / f"{n}.{s}.npy") for n in source.domains for s in ("train", "heldout")}
    assert all(tokens.dtype == np.uint16 for tokens in arrays.values())
    train = np.concatenate([arrays[name, "train"] for name in source.domains])
    assert np.array_equal(source.token_counts_V, np.bincount(train, minlength=400))
    total = sum(int(source.token_bytes_V[tokens].sum()) for tokens in arrays.values())
    assert total == sum(path.stat().st_size for path in text_folder.rglob("*.txt"))


def test_the_tokenizer_has_seen_the_training_side_only(text_task, tmp_path, monkeypatch):
    seen = []
    train = preparation.vocabulary.train

    def listen(texts, vocab_size):
        seen.extend(texts)
        return train(seen, vocab_size)

    monkeypatch.setattr(preparation.vocabulary, "train", listen)
    folder = tasks.prepare(text_task, tmp_path / "cache", quiet)
    assert sorted(seen) == sorted(text for name in ("prose", "verse") for text in documents(folder, name, "train"))


def test_a_prepared_corpus_is_used_again(text_task, tmp_path):
    said: list[str] = []
    folder = tasks.prepare(text_task, tmp_path / "cache", said.append)
    assert said
    said.clear()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert tasks.prepare(text_task, tmp_path / "cache", said.append) == folder
    assert said == []
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_another_mixture_shares_the_tokens_and_another_text_does_not(text_task, text_folder, tmp_path):
    folder = tasks.prepare(text_task, tmp_path / "cache", quiet)
    phases = [{"until": 1.0, "shares": {"prose": 3, "verse": 1}}]
    other = tasks.load("mix-nano", {**text_overrides(text_folder), "corpus.phases": phases, "rung.steps": 5})
    assert tasks.prepare(other, tmp_path / "cache", quiet) == folder
    write_text(text_folder / "prose" / "new.txt", 999, 40)
    assert tasks.prepare(text_task, tmp_path / "cache", quiet) != folder


@pytest.mark.parametrize("name", ["prose.train.npy", "facts.json", "token_bytes.npy"])
def test_a_damaged_preparation_is_named_and_made_again(text_task, tmp_path, name):
    folder = tasks.prepare(text_task, tmp_path / "cache", quiet)
    digest = tasks.open_source(text_task, tmp_path / "cache", 0).digest
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    said: list[str] = []
    tasks.prepare(text_task, tmp_path / "cache", said.append)
    assert said[0] == f"{folder}: damaged, preparing it again"
    assert tasks.open_source(text_task, tmp_path / "cache", 0).digest == digest


SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import tasks
task = tasks.load("mix-nano", json.loads(sys.argv[1]))
source = tasks.open_source(task, Path(sys.argv[2]), 3)
print(hashlib.sha256(source.digest.encode() + source.batch(7)[0].tobytes() + source.heldout()[0].tobytes()).hexdigest())
"""


def start(text_folder, cache, **environment):
    command = [sys.executable, "-P", "-c", SCRIPT, json.dumps(text_overrides(text_folder)), str(cache)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def test_several_processes_prepare_at_once_and_agree(text_folder, tmp_path):
    several = [start(text_folder, tmp_path / "cache") for _ in range(3)]
    alone = start(text_folder, tmp_path / "other", TOKENIZERS_PARALLELISM="false", PYTHONHASHSEED="1")
    output, told = zip(*(process.communicate(timeout=60) for process in several), strict=True)
    assert all(process.returncode == 0 for process in several)
    assert len(set(output)) == 1
    assert "".join(told).count("training a tokenizer") == 1
    assert alone.communicate(timeout=60)[0] == output[0]
    left = [path.name for path in (tmp_path / "cache" / "corpora").iterdir() if not path.name.endswith(".lock")]
    assert len(left) == 1


def refused(overrides, cache):
    with pytest.raises(CorpusError) as caught:
        tasks.open_source(tasks.load("mix-nano", overrides), cache, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unwritable_cache_is_refused(text_folder, tmp_path):
    (tmp_path / "file").touch()
    message = refused(text_overrides(text_folder), tmp_path / "file" / "cache")
    assert message.startswith(f"cache: cannot write {tmp_path / 'file' / 'cache'}")


def test_a_full_disk_is_one_line_and_loses_nothing(text_task, text_folder, tmp_path, monkeypatch):
    def full(path, array):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        message = refused(text_overrides(text_folder), tmp_path / "cache")
    assert "(No space left on device); expected a writable folder with space left" in message
    assert [path.name for path in (tmp_path / "cache" / "corpora").iterdir() if path.is_dir()] == []
    assert tasks.open_source(text_task, tmp_path / "cache", 0).batch(0)[0].shape == (4, 33)


def test_a_file_system_that_cannot_lock_is_named(text_folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    message = refused(text_overrides(text_folder), tmp_path / "cache")
    assert message == f"cache: {tmp_path / 'cache' / 'corpora'}: its file system cannot lock (No locks available)"


def test_text_that_is_not_utf8_is_named(text_folder, tmp_path):
    (text_folder / "prose" / "5.txt").write_bytes(b"caf\xe9 au lait")
    message = refused(text_overrides(text_folder), tmp_path / "cache")
    assert message == f"{text_folder / 'prose' / '5.txt'}: not UTF-8 (byte 0xe9 at offset 3); expected UTF-8 text"


def test_no_text_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(text_overrides(tmp_path / "empty"), tmp_path).endswith(
        "holds no text; expected files named like *.txt, *.md"
    )
    assert "does not exist; expected a text file or a folder" in refused(text_overrides(tmp_path / "gone"), tmp_path)
    (tmp_path / "empty" / "a.txt").touch()
    assert refused(text_overrides(tmp_path / "empty"), tmp_path).startswith("empty: 0 bytes of text are too little")


def test_a_single_file_is_a_corpus_of_one_domain(tmp_path):
    write_text(tmp_path / "book.log", 1, 600)
    source = tasks.open_source(tasks.load("mix-nano", text_overrides(tmp_path / "book.log")), tmp_path / "cache", 0)
    assert source.domains == ["book"]
    assert source.heldout()[0].shape == (12, 33)


def test_files_beside_the_subfolders_are_a_domain_of_their_own(text_folder, tmp_path):
    for number in range(12):
        write_text(text_folder / f"{number}.md", 200 + number, 40)
        write_text(text_folder / "prose" / "deeper" / f"{number}.txt", 300 + number, 40)
    source = tasks.open_source(tasks.load("mix-nano", text_overrides(text_folder)), tmp_path / "cache", 0)
    assert sorted(source.domains) == ["prose", "text", "verse"]


def test_phases_must_name_domains_of_the_folder(text_folder, tmp_path):
    phases = [{"until": 1.0, "shares": {"pros": 1}}]
    task = tasks.load("mix-nano", {**text_overrides(text_folder), "corpus.phases": phases})
    with pytest.raises(ValueError, match="'pros' is not a domain of this corpus; nearest: \"prose\""):
        tasks.open_source(task, tmp_path / "cache", 0)


def test_a_vocabulary_beyond_16_bits_is_kept_whole(text_folder, tmp_path):
    task = tasks.load("mix-nano", {**text_overrides(text_folder), "rung.vocab_size": 70_000})
    folder = tasks.prepare(task, tmp_path / "cache", quiet)
    tokens = np.load(folder / "prose.heldout.npy")
    assert tokens.dtype == np.uint32
    assert tokens[-1] == 69_999
