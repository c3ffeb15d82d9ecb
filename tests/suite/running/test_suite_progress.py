"""What a watcher is told of trials that were begun before."""

from __future__ import annotations

import json

import pytest

import tasks
from suite.planning import config, plan
from suite.running.attempt import run_trial
from suite.running.progress import LiveProgress, PlainProgress
from suite.training.trainer import Interrupted


@pytest.fixture
def made(tiny_suite):
    return plan.make_plan(config.parse(tiny_suite | {"seeds": 1, "strategies": ["aux_loss"]}, "test"))


@pytest.fixture
def folder(made, home):
    tasks.prepare(made.trials[0].cell.task, home / "cache", lambda _: None)
    return made.write_trial(home, made.trials[0])


def test_an_interrupted_trial_says_where_it_resumes(made, folder, home, capsys):
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        run_trial(folder.path, home / "cache", PlainProgress(made).watch, lambda: next(steps) == 4)
    assert capsys.readouterr().err == ""
    run_trial(folder.path, home / "cache", PlainProgress(made).watch)
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith("s] zipf-nano · aux_loss · seed 0: resumes from step 5 of 12")
    assert last.endswith("zipf-nano · aux_loss · seed 0: finished")
    assert json.loads(folder.record.read_text())["attempts"][1]["from_step"] == 5


def test_a_trial_that_goes_on_elsewhere_says_so(made, folder, home, capsys):
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        run_trial(folder.path, home / "cache", should_stop=lambda: next(steps) == 4)
    (begun,) = folder.history()
    folder.write_history([begun | {"hardware": "CPU · Other · 8 cores", "processor": "Maker family 1 model 2"}])
    run_trial(folder.path, home / "cache", PlainProgress(made).watch)
    said = capsys.readouterr().err
    assert f"hardware: begun with CPU · Other · 8 cores, goes on with {begun['hardware']}" in said
    assert f"processor: begun with Maker family 1 model 2, goes on with {begun.get('processor')}" in said


def test_a_trial_killed_before_its_first_checkpoint_says_that_it_begins_again(made, folder, home, capsys):
    folder.write_history([{"started": "2026-01-01T00:00:00Z", "from_step": 0, "to_step": None, "ended_by": "killed"}])
    run_trial(folder.path, home / "cache", PlainProgress(made).watch)
    assert "seed 0: begins again: it had written no checkpoint" in capsys.readouterr().err


def test_a_trial_that_diverges_says_when(tiny_suite, home, capsys):
    from rich.console import Console

    tiny_suite["tasks"][0]["set"] |= {"rung.learning_rate": 1e30, "rung.grad_clip": 1e30}
    made = plan.make_plan(config.parse(tiny_suite | {"seeds": 1, "strategies": ["aux_loss"]}, "test"))
    tasks.prepare(made.trials[0].cell.task, home / "cache", lambda _: None)
    folder = made.write_trial(home, made.trials[0])
    told = []
    run_trial(folder.path, home / "cache", told.append)
    step = json.loads(folder.record.read_text())["measures"]["diverged_at_step"]
    said = f"zipf-nano · aux_loss · seed 0: diverged: loss, gradient or bias not finite at step {step}"
    PlainProgress(made).watch(told[-1])
    assert said in capsys.readouterr().err
    console = Console(record=True, width=120)
    with LiveProgress(made, console) as display:
        display.watch(told[-1])
    assert said in console.export_text()


def test_a_terminal_is_told_too(made):
    from rich.console import Console

    console = Console(record=True, width=120)
    with LiveProgress(made, console) as display:
        display.watch({"event": "resumed", "key": made.trials[0].key, "message": "resumes from step 5 of 12"})
    assert "zipf-nano · aux_loss · seed 0: resumes from step 5 of 12" in console.export_text()
