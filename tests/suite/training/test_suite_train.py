"""A trial end to end: determinism, resume from any step, pairing, divergence, data parallel equality."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from suite.planning import config, plan
from suite.running.attempt import run_trial
from suite.storage.files import read_json
from suite.storage.trial import Busy, TrialFolder
from suite.training.checkpoint import NEWEST, PREVIOUS
from suite.training.clock import Clock
from suite.training.step import OptimizerStep
from suite.training.trainer import Interrupted, Training


def make(tiny, home, strategy="smebu", **changes):
    """The folder of the first trial of a one-arm suite."""
    data = copy.deepcopy(tiny) | {"strategies": [strategy], "baseline": strategy, "seeds": 1}
    data["tasks"][0]["set"] |= {key: value for key, value in changes.items() if key.startswith("rung.")}
    data |= {key: value for key, value in changes.items() if not key.startswith("rung.")}
    made = plan.make_plan(config.parse(data, "test"))
    return made.write_trial(home, made.trials[0])


def stop_after(steps):
    """`should_stop` that says yes after so many steps of this attempt."""
    asked = iter(range(10**9))
    return lambda: next(asked) + 1 >= steps


@pytest.mark.parametrize("strategy", ["none", "dense", "aux_loss", "sign_bias", "smebu", "stable_moe", "base", "hash"])
def test_interrupted_twice_and_resumed_gives_the_same_measures(strategy, tiny_suite, home, tmp_path):
    folder = make(tiny_suite, home, strategy)
    other = TrialFolder(tmp_path / folder.key)
    shutil.copytree(folder.path, other.path)
    assert run_trial(folder.path, home / "cache") == "finished"
    for steps in (3, 4):
        with pytest.raises(Interrupted):
            run_trial(other.path, home / "cache", should_stop=stop_after(steps))
    assert run_trial(other.path, home / "cache") == "finished"
    whole, resumed = read_json(folder.record), read_json(other.record)
    assert resumed["measures"] == whole["measures"]
    assert [a["ended_by"] for a in resumed["attempts"]] == ["interrupted", "interrupted", "finished"]
    assert [a["from_step"] for a in resumed["attempts"]] == [0, 3, 7]
    curves = [pq.read_table(f.path / "curves.parquet").drop_columns(["seconds"]) for f in (folder, other)]
    assert curves[0].equals(curves[1])
    loads = [np.load(f.path / "load.npz") for f in (folder, other)]
    assert all(np.array_equal(loads[0][name], loads[1][name]) for name in loads[0].files)


def test_a_record_says_what_was_trained_and_how_it_went(tiny_suite, home):
    folder = make(tiny_suite, home)
    run_trial(folder.path, home / "cache")
    done = read_json(folder.record)
    measures = done["measures"]
    assert measures["steps"] == 12
    assert measures["tokens"] == 12 * 4 * 16
    assert 0 < measures["val_loss"] < np.log(64) + 0.2
    load = np.load(folder.path / "load.npz")["load"]
    assert load.shape == (12, 2, 4)
    assert (load.sum(-1) == 4 * 16 * 2).all()  # every assignment counted once: B·S·K
    assert len(pq.read_table(folder.path / "curves.parquet")) == 12
    assert sorted(p.name for p in folder.path.iterdir() if not p.name.startswith(".")) == [
        "curves.parquet",
        "load.npz",
        "record.json",
        "trial.json",
    ]
    assert done["attempts"][0]["ended_by"] == "finished"


def test_cpu_time_of_a_step_leaves_out_what_it_waited_for(tiny_suite, home, monkeypatch):
    step = Training.train_step

    def waiting(self):
        time.sleep(0.1)
        return step(self)

    monkeypatch.setattr(Training, "train_step", waiting)
    folder = make(tiny_suite, home)
    run_trial(folder.path, home / "cache")
    took = read_json(folder.record)["timing"]["step_ms"]
    assert 0 < took["cpu"] < took["total"] - 50


def test_the_clock_waits_for_a_device_before_something_else_would(tiny_suite, home, monkeypatch):
    """Of 12 steps, before probes every 3, evaluations every 5, flushed rows every 10, and at the end."""
    waits, stop = [], Clock.stop

    def noting(self, wait):
        waits.append(wait)
        stop(self, wait)

    monkeypatch.setattr(Clock, "stop", noting)
    run_trial(make(tiny_suite, home).path, home / "cache")
    assert [step for step, wait in enumerate(waits, 1) if wait] == [3, 5, 6, 9, 10, 12]


def test_pairs_share_data_order_and_initial_values(tiny_suite, home):
    """Two arms with one seed differ in nothing but what the strategy owns."""
    from suite.training.distributed import World
    from suite.training.trainer import Training

    trainings = [
        Training(make(tiny_suite, home, name), home / "cache", World(), lambda _: None)
        for name in ("none", "hash", "dense")
    ]
    first = dict(trainings[0].model.named_parameters())
    for other in trainings[1:]:
        for name, parameter in other.model.named_parameters():
            if ".strategy." in name:
                continue
            shared = first[name][: len(parameter)] if "_E" in name else first[name]  # the dense twin has fewer experts
            assert torch.equal(parameter, shared), name
        assert np.array_equal(other.source.batch(7)[0], trainings[0].source.batch(7)[0])


def test_divergence_is_a_result(tiny_suite, home):
    folder = make(tiny_suite, home, **{"rung.learning_rate": 1e30, "rung.grad_clip": 1e30})
    assert run_trial(folder.path, home / "cache") == "diverged"
    done = read_json(folder.record)
    assert done["status"] == "diverged"
    assert done["measures"]["val_loss"] is None
    assert isinstance(done["measures"]["diverged_at_step"], int)
    assert "NaN" not in folder.record.read_text()


def test_a_bias_that_is_no_number_is_a_divergence_though_the_loss_goes_on(tiny_suite, home, monkeypatch):
    from strategies.smebu import Smebu

    steps = iter(range(1000))

    def rebalance(self, load_E, pooled):
        self.bias_E.fill_(float("nan") if next(steps) // 2 >= 3 else 0.0)  # of two layers, from the fourth step on

    monkeypatch.setattr(Smebu, "rebalance", rebalance)
    folder = make(tiny_suite, home)
    assert run_trial(folder.path, home / "cache") == "diverged"
    measures = read_json(folder.record)["measures"]
    assert measures["val_loss"] is None
    train_loss = pq.read_table(folder.path / "curves.parquet")["train_loss"].to_pylist()
    assert train_loss[measures["diverged_at_step"]] is not None
    assert measures["diverged_at_step"] == 3
    assert "NaN" not in folder.record.read_text()


def test_a_divergence_that_an_interruption_comes_upon_is_one(tiny_suite, home, tmp_path, monkeypatch):
    """The gradient is no number once, in the fourth step, and leaves the weights as they were: only its row tells."""
    take = OptimizerStep.take

    def once_infinite(self, tokens_BS, step):
        taken = take(self, tokens_BS, step)
        if step == 3:
            taken.row["grad_norm"] = torch.tensor(float("inf"))
        return taken

    monkeypatch.setattr(OptimizerStep, "take", once_infinite)
    folder = make(tiny_suite, home)
    other = TrialFolder(tmp_path / folder.key)
    shutil.copytree(folder.path, other.path)
    assert run_trial(folder.path, home / "cache") == "diverged"
    assert run_trial(other.path, home / "cache", should_stop=stop_after(5)) == "diverged"
    whole, asked = read_json(folder.record), read_json(other.record)
    assert asked["measures"] == whole["measures"]
    assert whole["measures"]["diverged_at_step"] == 3


def test_the_last_step_is_too_late_to_stop(tiny_suite, home):
    """All that is left is to evaluate; a resumed attempt would have no step of its own to take times from."""
    folder = make(tiny_suite, home)
    assert run_trial(folder.path, home / "cache", should_stop=stop_after(12)) == "finished"
    done = read_json(folder.record)
    assert len(done["attempts"]) == 1
    took = done["timing"]["step_ms"]
    assert all(took[part] > 0 for part in ("route", "dispatch", "experts", "cpu"))


def test_failure_is_written_down_and_forgotten_by_the_next_attempt(tiny_suite, home):
    folder = make(tiny_suite, home)
    definition = read_json(folder.trial)
    broken = copy.deepcopy(definition)
    broken["config"]["strategy"]["source"] = "0" * 64
    folder.trial.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="its code has changed"):
        run_trial(folder.path, home / "cache")
    assert read_json(folder.failure)["error"] == "ValueError"
    folder.trial.write_text(json.dumps(definition))
    assert run_trial(folder.path, home / "cache") == "finished"
    assert not folder.failure.exists()


def test_a_second_process_is_told_who_has_the_trial(tiny_suite, home):
    folder = make(tiny_suite, home)
    with folder.lock(), pytest.raises(Busy, match="process"):
        run_trial(folder.path, home / "cache")


def test_a_file_system_that_cannot_lock_is_named_and_no_second_process(tiny_suite, home, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    folder = make(tiny_suite, home)
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match=f"{folder.path}: its file system cannot lock"):
        run_trial(folder.path, home / "cache")


@pytest.mark.parametrize("file", ["curves.jsonl", "load.bin"])
@pytest.mark.parametrize("high", [{}, {"rung.learning_rate": 1e30, "rung.grad_clip": 1e30}])
def test_two_writers_of_one_trial_make_no_record(file, high, tiny_suite, home, monkeypatch):
    folder = make(tiny_suite, home, **high)  # a trial that diverges ends early, which is no sign of a second writer
    run = Training.run

    def beside_another(training, should_stop):
        status = run(training, should_stop)
        path = folder.path / file
        path.write_bytes(path.read_bytes() * 2)
        training.save()
        return status

    monkeypatch.setattr(Training, "run", beside_another)
    with pytest.raises(RuntimeError, match="another process wrote to this trial too; running it again starts afresh"):
        run_trial(folder.path, home / "cache")
    assert not list(folder.path.glob("checkpoint*"))
    assert not folder.record.exists()
    monkeypatch.undo()
    assert run_trial(folder.path, home / "cache") == ("diverged" if high else "finished")
    assert read_json(folder.record)["attempts"][-1]["from_step"] == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_costs_steps_not_the_trial(damage, tiny_suite, home, tmp_path):
    folder = make(tiny_suite, home)
    other = TrialFolder(tmp_path / folder.key)
    shutil.copytree(folder.path, other.path)
    run_trial(folder.path, home / "cache")
    for steps in (4, 4):
        with pytest.raises(Interrupted):
            run_trial(other.path, home / "cache", should_stop=stop_after(steps))
    newest = other.path / NEWEST
    data = bytearray(newest.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    newest.write_bytes(bytes(data))
    assert (other.path / PREVIOUS).exists()
    warnings = []
    run_trial(other.path, home / "cache", event=lambda e: warnings.append(e) if e["event"] == "warning" else None)
    assert "damaged checkpoint" in warnings[0]["message"]
    done = read_json(other.record)
    assert done["attempts"][-1]["from_step"] == 4
    assert done["measures"] == read_json(folder.record)["measures"]


def test_micro_batches_change_nothing_but_rounding(tiny_suite, home):
    losses = []
    for count in (1, 2):
        folder = make(tiny_suite, home, "smebu", **{"rung.micro_batches": count})
        run_trial(folder.path, home / "cache")
        losses.append(read_json(folder.record)["measures"]["val_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)


def test_reference_and_grouped_agree_on_held_out_loss(tiny_suite, home):
    losses = []
    for backend in ("reference", "grouped"):
        folder = make(tiny_suite, home, "aux_loss", backend=backend)
        run_trial(folder.path, home / "cache")
        losses.append(read_json(folder.record)["measures"]["val_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)


def test_auxiliary_terms_are_not_in_the_reported_loss(tiny_suite, home):
    """A coefficient of zero and the control train the same model; a huge one is reported beside, not in, the loss."""
    folder = make(tiny_suite, home, "none", strategies=[{"strategy": "none", "terms": {"z_loss": 100.0}}])
    run_trial(folder.path, home / "cache")
    curves = pq.read_table(folder.path / "curves.parquet").to_pylist()
    assert curves[0]["train_loss"] < np.log(64) + 0.5
    assert curves[0]["loss_z_loss"] > 10


def test_a_rule_that_draws_from_the_global_stream_is_still_a_function_of_its_seed(tiny_suite, home, tmp_path):
    plugin = tmp_path / "noisy.py"
    plugin.write_text(
        "import torch\nfrom strategies import TopKStrategy\n"
        "class Noisy(TopKStrategy):\n    name = 'noisy'\n    title = 'Noisy'\n"
        "    def __init__(self, *args):\n        super().__init__(*args)\n        self.extra = torch.nn.Linear(32, 4)\n"
        "    def route(self, hidden_TD, tokens_T, context):\n"
        "        return super().route(hidden_TD + 0.1 * torch.randn_like(hidden_TD), tokens_T, context)\n"
    )
    from strategies import registry

    registry.load_plugin(plugin)
    losses = []
    for place in ("a", "b"):
        torch.randn(len(losses) + 1)  # whatever the process did before
        folder = make(tiny_suite, tmp_path / place, "noisy")
        run_trial(folder.path, home / "cache")
        losses.append(read_json(folder.record)["measures"]["val_loss"])
    assert losses[0] == losses[1]


def test_an_unreadable_line_in_the_journal_costs_steps_not_the_trial(tiny_suite, home):
    folder = make(tiny_suite, home)
    with pytest.raises(Interrupted):
        run_trial(folder.path, home / "cache", should_stop=stop_after(6))
    curves = folder.path / "curves.jsonl"
    lines = curves.read_bytes().splitlines(keepends=True)
    curves.write_bytes(b"".join(lines[:3]) + b"\0" * 40 + b"\n" + b"".join(lines[4:]))
    assert run_trial(folder.path, home / "cache") == "finished"


def test_what_a_kill_left_beside_a_record_is_swept(tiny_suite, home):
    folder = make(tiny_suite, home)
    run_trial(folder.path, home / "cache")
    before = {path.name for path in folder.path.iterdir()}
    for name in ("checkpoint.pt", "curves.jsonl", "status.json", "..checkpoint.pt.new.17.tmp"):
        (folder.path / name).write_text("")
    run_trial(folder.path, home / "cache")
    assert {path.name for path in folder.path.iterdir()} == before


def test_no_record_is_written_before_all_that_it_rests_on_is_on_the_disk(tiny_suite, home, monkeypatch):
    """The journal goes when the record is there: curves and loads in the machine's memory only would go with a cut."""
    written, fsync = [], os.fsync

    def noting(number):
        written.append(os.readlink(f"/proc/self/fd/{number}"))
        fsync(number)

    folder = make(tiny_suite, home)
    monkeypatch.setattr(os, "fsync", noting)
    run_trial(folder.path, home / "cache")
    names = [Path(path).name.removeprefix(".").removesuffix(f".{os.getpid()}.tmp") for path in written]
    assert names[-3:] == ["curves.parquet", "load.npz", "record.json"]


def test_a_run_without_an_evaluation_on_the_way_can_be_reported(tiny_suite, home):
    folder = make(tiny_suite, home, **{"rung.steps": 2, "rung.eval_every": 100})
    run_trial(folder.path, home / "cache")
    assert "val_loss" in pq.read_table(folder.path / "curves.parquet").column_names
