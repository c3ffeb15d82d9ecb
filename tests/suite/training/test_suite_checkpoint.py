"""Checkpoints: whole or not at all, and never code."""

from __future__ import annotations

import errno
import os
import pickle
from types import SimpleNamespace

import pytest
import torch

from suite.training import checkpoint, trainer


def test_round_trip_and_the_one_before(tmp_path):
    checkpoint.save(tmp_path, {"step": 1, "weights": torch.arange(3)})
    checkpoint.save(tmp_path, {"step": 2, "weights": torch.arange(3)})
    assert checkpoint.load_newest(tmp_path, print)["step"] == 2
    assert checkpoint.read(tmp_path / checkpoint.PREVIOUS)["step"] == 1


def test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"step": 1})
    calls = []
    replace = os.replace

    def stop_at_third(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return replace(*args)

    monkeypatch.setattr(os, "replace", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, {"step": 2})
    assert checkpoint.load_newest(tmp_path, print)["step"] == 1


@pytest.mark.parametrize(
    ("waited", "took", "wanted", "due"),
    [
        (61, 0.5, False, True),  # a minute after the last
        (59, 0.5, False, False),
        (11, 0.5, True, True),  # asked for: twenty times what the last took is enough
        (9, 0.5, True, False),
        (1199, 60, True, False),  # a minute to save: every twenty minutes at most
        (1201, 60, False, True),
    ],
)
def test_saving_never_takes_more_than_a_twentieth_of_the_time(monkeypatch, waited, took, wanted, due):
    saved = []
    training = SimpleNamespace(
        rung=SimpleNamespace(steps=1000, checkpoint_every=100),
        step=100 if wanted else 99,
        save=lambda: saved.append(1),
        _checkpointed=0,
        _last_checkpoint=5000.0,
        _save_seconds=took,
    )
    monkeypatch.setattr("time.monotonic", lambda: 5000.0 + waited)
    trainer.Training._checkpoint_if_due(training)
    assert bool(saved) == due


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"step": 1})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, {"step": 2})
    assert checkpoint.load_newest(tmp_path, print)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NEWEST]


def test_a_stranger_s_pickle_is_refused(tmp_path):
    import hashlib
    import io

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    buffer = io.BytesIO()
    torch.save({"step": Evil()}, buffer)
    for data in (buffer.getvalue(), pickle.dumps(Evil())):
        tail = b"\nsha256:" + hashlib.sha256(data).hexdigest().encode()
        (tmp_path / checkpoint.NEWEST).write_bytes(data + tail)
        with pytest.raises(checkpoint.Damaged, match="not a checkpoint of plain tensors"):
            checkpoint.read(tmp_path / checkpoint.NEWEST)
    assert not (tmp_path / "owned").exists()


def test_an_ordinary_torch_load_reads_it_too(tmp_path):
    checkpoint.save(tmp_path, {"step": 7})
    assert torch.load(tmp_path / checkpoint.NEWEST, weights_only=True)["step"] == 7
