"""Training one trial: the loop, from its definition to its record.

`suite.running.attempt.run_trial` takes a folder with a `trial.json` and leaves a `record.json` in it. Whatever happens
in between, running it again goes on from the last checkpoint and ends with the same numbers.

Each duty is an object of its own: `open_trial` checks and builds, `OptimizerStep` takes a step (and tells a batch's and
a load vector's way), `Recorder` writes the journal, `HeldOut` evaluates, `Clock` measures time, `Reporter` tells
whoever watches. Here they are put together, and made to survive a kill.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from suite.storage.files import write_json
from suite.storage.journal import Journal
from suite.storage.trial import TrialFolder
from suite.training import checkpoint, optimizers, record
from suite.training.clock import Clock
from suite.training.distributed import World
from suite.training.evaluate import Probes
from suite.training.heldout import HeldOut
from suite.training.opening import open_trial
from suite.training.recorder import Recorder
from suite.training.reporter import Event, Reporter
from suite.training.step import OptimizerStep, Taken

FLUSH_EVERY = 10  # steps between reads of what the device accumulated
CHECKPOINT_SECONDS = (2.0, 60.0)  # no checkpoint sooner than the one after the last, none later than the other
SAVE_SHARE = 20  # but never more than a twentieth of the time: a large model's takes minutes on a shared file system


class Interrupted(Exception):
    """Asked to stop: the checkpoint is written, the trial can be resumed."""


class Training:
    """One attempt at a trial."""

    def __init__(self, folder: TrialFolder, cache: Path, world: World, event: Event) -> None:
        self.folder, self.world = folder, world
        self.opened = open_trial(folder, cache, world.size)
        self.definition, self.source, self.model = self.opened.definition, self.opened.source, self.opened.model
        self.rung, self.device = self.opened.task.rung, self.opened.device
        self.layers = self.model.moe_layers
        self.experts = self.layers[0].num_experts
        self.optimizer = optimizers.build(self.model, self.rung)
        self.optimizer_step = OptimizerStep(self.opened, self.optimizer, world)
        has_bias = any(layer.strategy.selection_bias() is not None for layer in self.layers)
        self.journal = Journal(folder.path, len(self.layers), self.experts, has_bias)
        self.recorder = Recorder(self.journal, len(self.layers), self.experts, world.leads)
        self.heldout, self.clock, self.reporter = HeldOut(self.opened), Clock(self.device), Reporter(folder, event)
        self.step = 0
        self.started_at = 0  # the step this attempt began with
        self._checkpointed, self._last_checkpoint = 0, time.monotonic()  # the newest one's step, and when it was there
        self._save_seconds = 0.0  # what it took

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool]) -> str:
        """Train to the end. Returns "finished" or "diverged"; raises Interrupted when asked to stop.

        What ends by itself is not stopped: after the last step only the end is left, and a divergence ends at the next
        flush, with the rows that an undisturbed attempt has.
        """
        rung = self.rung
        self.model.train()
        while self.step < rung.steps:
            if rung.probe_every > 0 and self.step % rung.probe_every == 0:
                self.heldout.probe(self.step / rung.steps)
            self.clock.start()
            taken = self.train_step()
            self.step += 1
            self.clock.stop(wait=self._read_next())
            taken.row["seconds"] = self.clock.seconds
            if self.step % rung.eval_every == 0 and self.step < rung.steps:
                taken.row["val_loss"] = self.heldout.evaluate(loads=False).loss
            self.recorder.keep(taken)
            if self.step % FLUSH_EVERY == 0 or self.step == rung.steps:
                if self.flush():
                    return "diverged"
                self._checkpoint_if_due()
            if self.step < rung.steps and self._all_stop(should_stop) and not self.flush():
                self.save()
                raise Interrupted(f"stopped at step {self.step} of {rung.steps}; run it again to resume")
        return "finished"

    def _read_next(self) -> bool:
        """Whether something now reads from the device, which would wait for work that is still queued off the clock."""
        rung = self.rung
        every = (FLUSH_EVERY, rung.eval_every, rung.probe_every)
        return self.step == rung.steps or any(count > 0 and self.step % count == 0 for count in every)

    def train_step(self) -> Taken:
        """One optimizer step on the next batch."""
        tokens_BS, _ = self.source.batch(self.step)
        return self.optimizer_step.take(tokens_BS, self.step)

    def flush(self) -> bool:
        """Write the rows since the last flush. Returns whether training has diverged."""
        row = self.recorder.flush()
        if row is not None and self.world.leads:
            self.reporter.progress(self.step, self.rung.steps, row["train_loss"], self.clock.seconds)
        return self.recorder.diverged

    def _all_stop(self, should_stop: Callable[[], bool]) -> bool:
        """Whether to stop now. Several ranks agree, at flushes only: one that stopped alone would hang the rest."""
        if self.world.size == 1:
            return should_stop()
        if self.step % FLUSH_EVERY:
            return False
        return bool(self.world.sum(torch.tensor(float(should_stop()), device=self.device)) > 0)

    # -- state -------------------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        soonest, latest = (max(limit, SAVE_SHARE * self._save_seconds) for limit in CHECKPOINT_SECONDS)
        waited = time.monotonic() - self._last_checkpoint
        wanted = self.step // self.rung.checkpoint_every > self._checkpointed // self.rung.checkpoint_every
        if self.step < self.rung.steps and (waited > latest or (wanted and waited > soonest)):
            self.save()

    def save(self) -> None:
        """Write a checkpoint. A full disk costs the checkpoint, not the trial."""
        begun, self._checkpointed = time.monotonic(), self.step
        if self.world.leads:
            self._write_checkpoint()
        self._last_checkpoint = time.monotonic()
        self._save_seconds = self._last_checkpoint - begun

    def _write_checkpoint(self) -> None:
        state = {
            "step": self.step,
            "ranks": self.world.size,
            "seconds": self.clock.seconds,
            "model": self.model.state_dict(),
            "frozen": [name for name, parameter in self.model.named_parameters() if not parameter.requires_grad],
            "optimizer": self.optimizer.state_dict(),
            "probes": self.heldout.probes.state(),
            "rng": torch.get_rng_state(),
        }
        try:
            self.journal.sync()
            checkpoint.save(self.folder.path, state)
        except OSError as error:
            self.reporter.warn(f"checkpoint not written: {error}")

    def resume(self) -> int:
        """Go on from the newest whole checkpoint, if there is one. Returns the step to start from."""
        state = checkpoint.load_newest(self.folder.path, self.reporter.warn)
        if state is not None and self.journal.rows() < state["step"]:
            self.reporter.warn("the journal is shorter than the checkpoint (the machine stopped?); starting again")
            state = None
        if state is not None and state["ranks"] != self.world.size:
            raise ValueError(f"processes: the trial was begun by {state['ranks']}, not {self.world.size}; resume it so")
        if state is not None:
            self.model.load_state_dict(state["model"])
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name not in state["frozen"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.heldout.probes = Probes(**state["probes"])
            torch.set_rng_state(state["rng"])
            self.step, self.clock.seconds = state["step"], state["seconds"]
            self._checkpointed = self.step
        self.recorder.go_on_from(self.step)
        self.started_at = self.step
        return self.step

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self, status: str, attempts: list[dict[str, Any]]) -> None:
        """Final evaluation, columnar copies, and last of all the record."""
        self._check_journal()
        evaluation = self.heldout.evaluate(loads=True)
        self.heldout.probe(1.0)
        if not self.world.leads:
            return
        curves, load_SLE, bias_SLE = self.journal.curves(), self.journal.array("load"), self.journal.array("bias")
        assert load_SLE is not None
        measures = record.final_measures(
            self.opened, self.heldout, evaluation, curves, load_SLE, bias_SLE, diverged=status == "diverged"
        )
        record.write_columns(self.folder.path, curves, load_SLE, bias_SLE, evaluation.load_LE)
        head = {name: value for name, value in self.definition.items() if name != "plugins"}
        timing = self.clock.timing(curves, self.step - self.started_at, self.optimizer_step)
        write_json(
            self.folder.record,
            {**head, "status": status, "attempts": attempts, "measures": measures, "timing": timing},
        )
        self.folder.sweep()

    def _check_journal(self) -> None:
        """Locks may fail to keep a second process out (docs/cluster.md); its rows beside ours show that they did."""
        if self.world.leads and not self.journal.holds(self.step):
            for name in (checkpoint.NEWEST, checkpoint.PREVIOUS):
                (self.folder.path / name).unlink(missing_ok=True)
            raise RuntimeError(
                f"trial {self.folder.key}: its journal has not one row for each step, so another process wrote to this "
                "trial too; running it again starts afresh"
            )
