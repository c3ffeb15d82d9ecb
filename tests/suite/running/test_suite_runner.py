"""The runner: a bad folder, a dead worker or a held trial costs that trial at most, never the others."""

from __future__ import annotations

import sys
import textwrap

import pytest

from strategies import registry
from suite.cli.running import summary_line
from suite.planning import config, plan
from suite.running.runner import Runner

PLUGIN = """
from strategies import BiasStrategy

class Mine(BiasStrategy):
    name = "mine"
    title = "Mine"

    def step(self, violation_E):
        return 0.01 * violation_E
"""


@pytest.fixture
def made(tiny_suite):
    """A plan of three trials of one arm."""
    return plan.make_plan(config.parse(tiny_suite | {"seeds": 3, "strategies": ["aux_loss"]}, "test"))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """`stand_in(source)`: the first worker runs `source`, told of `folder`, its first trial; later ones are real."""

    def install(source):
        marker, script = tmp_path / "second", tmp_path / "python"
        script.write_text(
            f"#!{sys.executable}\n"
            + textwrap.dedent(
                f"""\
                import os, pathlib, signal, sys
                marker, real = pathlib.Path({str(marker)!r}), {sys.executable!r}
                if marker.exists():
                    os.execv(real, [real, *sys.argv[1:]])
                marker.touch()
                print('{{"event": "ready"}}', flush=True)
                folder = pathlib.Path(sys.stdin.readline().strip())
                """
            )
            + textwrap.dedent(source)
        )
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return install


def run(made, home, jobs=1):
    """The outcome, and what was said on the way."""
    told = []
    return Runner(made, home, jobs, told.append).run(), told


def test_a_damaged_folder_fails_its_trial_and_no_other(made, home):
    first, *others = made.trials
    damaged = made.write_trial(home, first).trial
    damaged.write_text("{")
    outcome, told = run(made, home)
    assert list(outcome.failed) == [first.key]
    assert f"ValueError: {damaged}: damaged" in outcome.failed[first.key]
    assert {"event": "failed", "key": first.key, "message": outcome.failed[first.key]} in told
    assert outcome.finished == [trial.key for trial in others]


def test_a_plugin_that_has_vanished_fails_its_trials_and_no_others(tiny_suite, home, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    registry.load_plugin(file)
    suite = config.parse(tiny_suite | {"seeds": 1, "strategies": ["mine", "aux_loss"]}, "test")
    made = plan.make_plan(suite, plugins={"mine": str(file)})
    file.unlink()
    outcome, _ = run(made, home)
    keys = {trial.arm: trial.key for trial in made.trials}
    assert outcome.finished == [keys["aux_loss"]]
    assert list(outcome.failed) == [keys["mine"]]
    assert str(file) in outcome.failed[keys["mine"]]
    assert not (home / "trials" / keys["mine"] / "trial.json").exists()  # written whole when the plug-in is back


def test_where_no_folder_can_be_written_every_trial_says_why(made, home):
    (home / "trials").mkdir(exist_ok=True)
    for trial in made.trials:
        (home / "trials" / trial.key).write_text("")  # in the folder's place
    outcome, _ = run(made, home)
    assert list(outcome.failed) == [trial.key for trial in made.trials]
    assert all("FileExistsError" in why for why in outcome.failed.values())


def test_a_worker_that_dies_when_its_record_is_there_costs_nothing(made, home, stand_in):
    stand_in(
        """\
        (folder / "record.json").write_text('{"status": "finished"}')
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    outcome, told = run(made, home)
    assert outcome.failed == {}
    assert outcome.finished == [trial.key for trial in made.trials]
    assert {"event": "done", "key": made.trials[0].key, "status": "finished"} in told


def test_a_record_that_another_process_has_made_is_as_good(made, home, stand_in):
    stand_in(
        """\
        while folder.name:
            (folder / "record.json").write_text('{"status": "diverged", "measures": {"diverged_at_step": 3}}')
            print('{"event": "idle", "key": "%s"}' % folder.name, flush=True)
            folder = pathlib.Path(sys.stdin.readline().strip())
        """
    )
    outcome, told = run(made, home)
    assert (outcome.finished, outcome.diverged) == ([], [trial.key for trial in made.trials])
    assert [event["status"] for event in told if event["event"] == "done"] == ["diverged"] * 3
    assert summary_line(outcome) == "0 trials finished, 0 reused, 3 diverged"


def test_a_worker_that_dies_while_it_speaks_is_a_dead_worker(made, home, stand_in):
    stand_in(
        """\
        print('{"event": "progr', end="", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    outcome, _ = run(made, home)
    assert outcome.failed == {made.trials[0].key: "its process ended with signal 9; run again to resume"}
    assert outcome.finished == [trial.key for trial in made.trials[1:]]


def test_a_failure_that_cannot_be_read_is_still_one(made, home, stand_in):
    stand_in(
        """\
        (folder / "failure.json").write_text("{")
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    outcome, _ = run(made, home)
    (why,) = outcome.failed.values()
    assert "failure.json: damaged" in why
    assert outcome.finished == [trial.key for trial in made.trials[1:]]


def test_a_held_trial_is_spoken_of_when_something_changes(made, home, monkeypatch):
    monkeypatch.setattr("suite.running.runner.BUSY_PATIENCE", 3.0)
    held = made.trials[0]
    folder = made.write_trial(home, held)
    with folder.lock():
        outcome, told = run(made, home)
    said = [event for event in told if event.get("key") == held.key and event["event"] != "started"]
    assert [event["event"] for event in said] == ["busy", "failed"]
    assert "is being run by process" in outcome.failed[held.key]
    assert outcome.finished == [trial.key for trial in made.trials[1:]]
