"""Worker processes: what a signal asks for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

import tasks
from strategies import registry
from suite.planning import config, plan
from suite.running import worker
from suite.running.attempt import run_trial

LISTENER = """
import time
from suite.running.worker import listen_for_signals, stop_requested
listen_for_signals()
print("ready", flush=True)
while not stop_requested():
    pass
time.sleep(0.5)  # the rest of the burst arrives
"""


def test_signals_that_interrupt_each_other_do_not_hang_the_worker():
    """A killed parent's threads are announced one by one: a second signal comes while the first is handled."""
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-P", "-c", LISTENER], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "ready\n"
            for _ in range(2000):
                for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
                    process.send_signal(number)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.stdout.close()


RULE = """
from strategies import BiasStrategy


class Mine(BiasStrategy):
    name = "mine"
    title = "Mine"

    def step(self, violation_E):
        return STEP
"""


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("violation_E[:3]", "in a trial of mine)"),  # the family's line, at which nothing of the rule's is left to see
        ("violation_E.nothing()", " (mine.py, line 10)"),
        ("self.router(violation_E)", "; mine.py, line 10)"),
    ],
    ids=["what it returned", "its own line", "what it called"],
)
def test_a_failure_names_the_rule(step, said, tiny_suite, home, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(RULE.replace("STEP", step))
    registry.load_plugin(file)
    suite = config.parse(tiny_suite | {"seeds": 1, "strategies": ["mine"], "baseline": "mine"}, "test")
    made = plan.make_plan(suite, plugins={"mine": str(file)})
    tasks.prepare(made.trials[0].cell.task, home / "cache", lambda _: None)
    folder = made.write_trial(home, made.trials[0])
    with pytest.raises((RuntimeError, AttributeError)) as failure:
        run_trial(folder.path, home / "cache")
    place = worker._where(failure.value, folder.path)
    assert place.endswith(said)


def test_a_failure_without_a_definition_still_has_its_line(home):
    with pytest.raises(ZeroDivisionError) as failure:
        1 / 0  # noqa: B018
    line = failure.tb.tb_lineno
    assert worker._where(failure.value, home / "trials" / "none") == f" (test_suite_worker.py, line {line})"


def test_a_worker_nobody_listens_to_writes_its_checkpoint_and_goes(tiny_suite, home):
    """The runner was killed between two events, and the news of its death has not come yet."""
    tiny_suite["tasks"][0]["set"] |= {"rung.steps": 100_000}
    made = plan.make_plan(config.parse(tiny_suite | {"seeds": 1, "strategies": ["aux_loss"]}, "test"))
    folder = made.write_trial(home, made.trials[0])
    command = [sys.executable, "-P", "-m", "suite.running.worker", str(home / "cache")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        process.stdin.write(f"{folder.path}\n")
        process.stdin.flush()
        while json.loads(process.stdout.readline())["event"] != "progress":
            pass
        process.stdout.close()
        assert process.wait(30) == 75
    finally:
        process.kill()
        process.stdin.close()
    assert not folder.failure.exists()
    assert list(folder.path.glob("checkpoint*"))
