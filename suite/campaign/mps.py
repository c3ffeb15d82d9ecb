"""NVIDIA's Multi-Process Service for the processes started within: their kernels then share the device at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CONTROL = "nvidia-cuda-mps-control"
PROBE = "import torch; torch.ones(1, device='cuda').item()"


def installed() -> bool:
    return shutil.which(CONTROL) is not None


@contextmanager
def shared(wanted: bool) -> Iterator[bool]:
    """Start the service for child processes, and stop it. Yields whether it runs; without it everything works too."""
    if not (wanted and installed()):
        yield False
        return
    with tempfile.TemporaryDirectory(prefix="equipoise-mps-") as folder:
        places = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        before = {name: os.environ.get(name) for name in places}
        environment = {**os.environ, **places}
        started = subprocess.run([CONTROL, "-d"], env=environment, capture_output=True).returncode == 0
        # a service that starts where its clients cannot reach the device is worse than none
        try:
            usable = started and not subprocess.run([sys.executable, "-c", PROBE], env=environment).returncode
            if usable:
                os.environ.update(places)
            yield usable
        finally:
            if started:
                subprocess.run([CONTROL], input=b"quit\n", env=environment, capture_output=True)
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
