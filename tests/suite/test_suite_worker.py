"""Worker processes: what a signal asks for."""

from __future__ import annotations

import signal
import subprocess
import sys

LISTENER = """
import time
from suite.worker import listen_for_signals, stop_requested
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
