"""Where a training step's time goes on a CPU: `python -m tests.benchmarks.profile_step` prints shares by kind of work.

From torch.profiler: the time spent in each operator itself, sorted into kinds by the operator's name; what no operator
accounts for is Python and dispatch.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

import tasks
from tests.benchmarks.peers import SHAPES, ours, tokens_of

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "attention": ("aten::_scaled_dot_product",),
    "gather, sort, top-k": (
        "aten::index",
        "aten::gather",
        "aten::scatter",
        "aten::sort",
        "aten::argsort",
        "aten::topk",
    ),
    "optimizer": ("aten::_fused_adamw", "Optimizer.", "aten::_foreach"),
    "memory": ("aten::fill_", "aten::zero_", "aten::copy_", "aten::empty", "aten::cat", "aten::clone", "aten::stack"),
    "element by element": ("aten::",),
}
STEPS = 5


def kind_of(operator: str) -> str:
    for kind, starts in KINDS.items():
        if operator.startswith(starts):
            return kind
    return "Python and dispatch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="mix-nano,mix-bench,mix-micro,width 256")
    parser.add_argument("--strategy", default="smebu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    columns = {}
    for name in options.tasks.split(","):
        rung = tasks.load("mix-micro", SHAPES[name]).rung if name in SHAPES else tasks.load(name).rung
        step, tokens = ours(rung, options.strategy), tokens_of(rung)
        alone = []
        for _ in range(3 + STEPS):
            started = time.perf_counter()
            step(tokens)
            alone.append(time.perf_counter() - started)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(STEPS):
                step(tokens)
        shares = dict.fromkeys([*KINDS, "Python and dispatch"], 0.0)
        events = profiler.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        for event in events:
            shares[kind_of(event.key)] += event.self_cpu_time_total / total
        columns[name] = shares, 1e3 * median(alone[3:])
    print(f"| {options.threads} thread(s), {options.strategy} | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for kind in [*KINDS, "Python and dispatch"]:
        print(f"| {kind} | " + " | ".join(f"{shares[kind]:.0%}" for shares, _ in columns.values()) + " |")
    print("| a step, without the profiler | " + " | ".join(f"{ms:.0f} ms" for _, ms in columns.values()) + " |")


if __name__ == "__main__":
    main()
