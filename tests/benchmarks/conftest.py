"""One thread, the allocator a trial has, and beside every benchmark what this machine can do at that moment."""

from __future__ import annotations

import gc
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from statistics import median

import pytest
import torch

from suite.training.memory import keep_freed_memory

sys.path.append(str(Path(__file__).parents[1] / "results"))  # its synthetic records, for the report's benchmark


def product() -> Callable[[], object]:
    """For what computes: a float32 matrix product, 512³."""
    a, b, out = torch.rand(512, 512), torch.rand(512, 512), torch.empty(512, 512)
    return lambda: torch.mm(a, b, out=out)


def interpreter() -> Callable[[], object]:
    """For what does not: building, writing, hashing and reading a few thousand small values."""

    def work() -> object:
        text = json.dumps({f"key {i}": [i, i / 7, str(i)] for i in range(2000)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest(), json.loads(text)

    return work


REFERENCES = {"product": product, "interpreter": interpreter}


@pytest.fixture(autouse=True, scope="session")
def _allocator() -> None:
    keep_freed_memory()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _reference(request: pytest.FixtureRequest) -> Iterator[None]:
    """Time a fixed piece of work before and after each benchmark, with its clock: compare.py divides by it.

    A module says which with `REFERENCE = "interpreter"`; otherwise it is the matrix product.
    """
    benchmark = request.getfixturevalue("benchmark") if "benchmark" in request.fixturenames else None
    if benchmark is None or not benchmark.enabled:
        yield
        return
    work = REFERENCES[getattr(request.module, "REFERENCE", "product")]()
    marker = request.node.get_closest_marker("benchmark")
    own_clock = marker.kwargs.get("timer") if marker else None
    clock = own_clock or resolve_name(str(request.config.getoption("benchmark_timer")))
    seconds: list[float] = []

    def several() -> None:
        work()
        gc.disable()  # a collection's time depends on what the tests before have left
        for _ in range(10):
            started = clock()
            work()
            seconds.append(clock() - started)
        gc.enable()

    several()
    yield
    several()
    benchmark.extra_info["reference"] = median(seconds)
