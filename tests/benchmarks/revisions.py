"""A whole training step at two revisions of this repository, in turns: was it a gain?

`python -m tests.benchmarks.revisions 82909bd HEAD` checks both out beside each other, gives each a process of its own,
and lets them take turns step by step. Ratios are medians over rounds, of CPU time: waiting for a core is not counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

# What both revisions must have: the names below, which are those since 82909bd.
STEPPER = """
import sys, time, torch
import tasks
from strategies import RouteContext, registry
from suite import backends
from suite.training import memory, optimizers
from suite.training.model import Transformer

task, strategy, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
memory.keep_freed_memory()
rung = tasks.load(task).rung
cls = registry.get(strategy)
load = backends.get("grouped").load()
model = Transformer(rung, lambda spec: registry.build(cls, spec), load, 0, torch.ones(rung.vocab_size))
optimizer = optimizers.build(model, rung)
context = RouteContext(sequence_length=rung.sequence_length)
shape = rung.batch_sequences, rung.sequence_length + 1
weights = 1 / torch.arange(1.0, rung.vocab_size + 1)
tokens = torch.multinomial(weights, shape[0] * shape[1], replacement=True).view(shape)
for line in sys.stdin:
    started = time.process_time()
    for layer in model.moe_layers:
        layer.start_step()
    loss = model.loss(tokens, context)
    for layer in model.moe_layers:
        for term in layer.losses.values():
            loss = loss + term
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), rung.grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for layer in model.moe_layers:
        layer.strategy.rebalance(layer.load_E.float(), layer.pooled)
    print(time.process_time() - started, flush=True)
"""


def check_out(revision: str, into: Path) -> str:
    """The revision's files in a folder of their own. Returns its commit."""
    commit = subprocess.check_output(["git", "rev-parse", "--short", f"{revision}^{{commit}}"], text=True).strip()
    into.mkdir()
    archive = subprocess.Popen(["git", "archive", commit], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(into)], stdin=archive.stdout, check=True)
    return commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--tasks", default="mix-nano,mix-bench,sparse-bench,mix-micro", help="whose shapes to step")
    parser.add_argument("--strategy", default="smebu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in ("before", "after")}
        commits = {name: check_out(getattr(options, name), folder) for name, folder in folders.items()}
        print(f"{commits['before']} → {commits['after']}: {options.strategy}, {options.threads} thread(s)")
        print(f"\n| task | before | after | faster by, of {options.rounds} rounds |\n| --- | --- | --- | --- |")
        for task in options.tasks.split(","):
            steppers = {}
            for name, folder in folders.items():
                command = [sys.executable, "-P", "-c", STEPPER, task, options.strategy, str(options.threads)]
                steppers[name] = subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(options.threads)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            seconds: dict[str, list[float]] = {name: [] for name in steppers}
            for number in range(options.rounds + 3):
                for name, stepper in steppers.items():
                    assert stepper.stdin is not None
                    assert stepper.stdout is not None
                    stepper.stdin.write("\n")
                    stepper.stdin.flush()
                    spent = float(stepper.stdout.readline())
                    if number >= 3:
                        seconds[name].append(spent)
            for stepper in steppers.values():
                stepper.communicate()
            ratios = sorted(b / a for b, a in zip(seconds["before"], seconds["after"], strict=True))
            tenth = len(ratios) // 10
            before, after = (f"{1e3 * median(seconds[name]):.1f} ms" for name in ("before", "after"))
            spread = f"{ratios[tenth]:.2f} … {ratios[-1 - tenth]:.2f}"
            print(f"| {task} | {before} | {after} | {median(ratios):.2f} × ({spread}) |", flush=True)


if __name__ == "__main__":
    main()
