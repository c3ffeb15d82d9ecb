"""Training one trial: the loop, its journal and checkpoints, and the record at its end.

`suite.running.attempt.run_trial` takes a folder with a `trial.json` and leaves a `record.json` in it. Whatever happens
in between, running it again goes on from the last checkpoint and ends with the same numbers.

Shapes: B sequences per optimizer step, S sequence length, L MoE layers, E experts.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tasks
from strategies import RouteContext
from strategies import registry as strategy_registry
from suite import NUMERICS, backends
from suite.storage.trial import Journal, TrialFolder, now, read_json, write_json
from suite.training import checkpoint, distributed, optimizers, record, reset
from suite.training.evaluate import Probes, evaluate
from suite.training.measures import entropy, max_vio
from suite.training.memory import keep_freed_memory, peak_memory, start_counting_memory
from suite.training.model import Transformer
from tasks import Task

FLUSH_EVERY = 10  # steps between reads of what the device accumulated
STATUS_SECONDS = 2.0
CHECKPOINT_SECONDS = (2.0, 60.0)  # no checkpoint sooner than the one after the last, none later than the other

Event = Callable[[dict[str, Any]], None]


class Interrupted(Exception):
    """Asked to stop: the checkpoint is written, the trial can be resumed."""


class Training:
    """One attempt at a trial, from its definition to its record."""

    def __init__(self, folder: TrialFolder, cache: Path, world: distributed.World, event: Event) -> None:
        self.folder, self.world, self.event = folder, world, event
        self.definition = read_json(folder.trial)
        config = self.definition["config"]
        self.device = torch.device(config["device"])
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: 'cuda' is not there; expected a GPU, or --set device=cpu")
        keep_freed_memory()
        start_counting_memory(self.device)
        torch.set_num_threads(config["threads"])
        if config["numerics"] != NUMERICS:
            raise ValueError(f"trial {folder.key}: numerics {config['numerics']} is not this version's {NUMERICS}")
        for plugin in self.definition.get("plugins", []):
            strategy_registry.load_plugin(Path(plugin))
        cls = strategy_registry.get(config["strategy"]["name"])
        if strategy_registry.source_digest(cls) != config["strategy"]["source"]:
            raise ValueError(f"strategy {cls.name}: its code has changed since this trial was planned; plan it again")
        self.task = Task.model_validate(self.definition["task"])
        micro = self.task.rung.batch_sequences // self.task.rung.micro_batches
        if micro % world.size:
            raise ValueError(
                f"{world.size} processes cannot share a micro-batch of {micro} sequences; expected a divisor of {micro}"
            )
        if self.task.resolved() != config["task"]:
            raise ValueError(f"task {self.task.name}: it has changed since this trial was planned; plan it again")
        self.rung = self.task.rung
        self.source = tasks.open_source(self.task, cache, config["seed"])
        # a plug-in that draws from the global stream is still a function of its seed
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{config['seed']}/global".encode()).digest()[:7], "little"))
        settings = strategy_registry.make_config(cls, config["strategy"]["config"])
        counts_V = torch.from_numpy(np.asarray(self.source.token_counts_V, dtype=np.float32))
        self.model = Transformer(
            self.rung,
            lambda spec: strategy_registry.build(cls, spec, settings, config["strategy"]["terms"]),
            backends.get(config["backend"]).load(),
            config["seed"],
            counts_V,
        ).to(self.device)
        self.precision = torch.bfloat16 if config["precision"] == "bfloat16" else None
        self.optimizer = optimizers.build(self.model, self.rung)
        self.layers = self.model.moe_layers
        self.experts = self.layers[0].num_experts if self.layers else 0
        self.has_bias = any(layer.strategy.selection_bias() is not None for layer in self.layers)
        self.journal = Journal(folder.path, len(self.layers), self.experts, self.has_bias)
        self.probes = Probes()
        heldout, domain = self.source.heldout()
        self.heldout, self.heldout_domain = torch.from_numpy(heldout).to(self.device), torch.from_numpy(domain)
        self.heldout_domain = self.heldout_domain.to(self.device)
        self.step, self.seconds = 0, 0.0
        self.started_at = 0  # the step this attempt began with
        self._checkpointed = 0  # the step of the newest checkpoint
        self._bias_before = np.zeros((len(self.layers), self.experts), dtype=np.float32)
        self.seconds_balance = 0.0
        self.cpu_seconds: list[float] = []  # of each step of this attempt, by all threads; none on an accelerator
        self._rows: list[dict[str, Any]] = []
        self._loads: list[Tensor] = []
        self._biases: list[Tensor] = []
        self._last_status = self._last_checkpoint = time.monotonic()

    # -- one optimizer step ------------------------------------------------------------------------------------------

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None)

    def train_step(self) -> dict[str, Any]:
        """Forward, backward, update, rebalance. Returns the step's row; its tensors are read when it is flushed."""
        rung, world = self.rung, self.world
        tokens_BS, _ = self.source.batch(self.step)
        batch = torch.from_numpy(tokens_BS).to(self.device, non_blocking=True)
        for layer in self.layers:
            layer.start_step()
            layer.strategy.schedule(self.step / rung.steps)
        rate = optimizers.learning_rate(rung, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        context = RouteContext(
            sequence_length=rung.sequence_length, micro_batches=rung.micro_batches, sum_over_ranks=world.sum
        )
        total = torch.zeros((), device=self.device)
        terms: dict[str, Tensor] = {}
        for micro in batch.chunk(rung.micro_batches):
            with self._autocast():
                loss = self.model.loss(world.share(micro), context)
            objective = loss
            for layer in self.layers:
                for name, value in layer.losses.items():
                    objective = objective + value
                    terms[name] = terms.get(name, torch.zeros_like(total)) + value.detach() / rung.micro_batches
            (objective / rung.micro_batches).backward()
            total += loss.detach() / rung.micro_batches
        world.average_gradients(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), rung.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        started = time.perf_counter()
        self._rebalance()
        resets = reset.carry_out(self.model, self.optimizer, self.definition["config"]["seed"], self.step)
        self.seconds_balance += time.perf_counter() - started
        row: dict[str, Any] = {"step": self.step, "tokens": (self.step + 1) * rung.tokens_per_step, "lr": rate}
        row |= {"train_loss": world.sum(total) / world.size, "grad_norm": norm}
        row |= {f"loss_{name}": value for name, value in terms.items()} | resets
        return row

    @torch.no_grad()
    def _rebalance(self) -> None:
        loads = self.world.sum(torch.stack([layer.load_E for layer in self.layers])) if self.layers else None
        for index, layer in enumerate(self.layers):
            assert loads is not None
            pooled = {name: self.world.sum(layer.pooled[name]) for name in sorted(layer.pooled)}
            layer.strategy.rebalance(loads[index].float(), pooled)
        if loads is not None:
            self._loads.append(loads)
        if self.has_bias:
            zeros = torch.zeros(self.experts, device=self.device)
            biases = [layer.strategy.selection_bias() for layer in self.layers]
            self._biases.append(torch.stack([zeros if bias is None else bias.float() for bias in biases]))

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool]) -> str:
        """Train to the end. Returns "finished" or "diverged"; raises Interrupted when asked to stop."""
        rung = self.rung
        self.model.train()
        while self.step < rung.steps:
            if self._due(rung.probe_every):
                self._probe(self.step / rung.steps)
            started, worked = time.perf_counter(), time.process_time()
            row = self.train_step()
            if self.device.type == "cpu":
                self.seconds += time.perf_counter() - started
                self.cpu_seconds.append(time.process_time() - worked)
            else:
                self.seconds = self._device_seconds(started)
            row["seconds"] = self.seconds
            self.step += 1
            if self.step % rung.eval_every == 0 and self.step < rung.steps:
                row["val_loss"] = self._evaluate(loads=False).loss
            self._rows.append(row)
            if self.step % FLUSH_EVERY == 0 or self.step == rung.steps:
                if self._flush() is not None:
                    return "diverged"
                self._checkpoint_if_due()
            if self._all_stop(should_stop):
                self._flush()
                self.save()
                raise Interrupted(f"stopped at step {self.step} of {rung.steps}; run it again to resume")
        return "finished"

    def _all_stop(self, should_stop: Callable[[], bool]) -> bool:
        """Whether to stop now. Several ranks agree, at flushes only: one that stopped alone would hang the rest."""
        if self.world.size == 1:
            return should_stop()
        if self.step % FLUSH_EVERY:
            return False
        return bool(self.world.sum(torch.tensor(float(should_stop()), device=self.device)) > 0)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _device_seconds(self, started: float) -> float:
        """Training time so far on an accelerator; waits for the device only when rows are read anyway."""
        if (self.step + 1) % FLUSH_EVERY == 0:
            torch.cuda.synchronize()
        return self.seconds + time.perf_counter() - started

    def _probe(self, progress: float) -> None:
        with self._autocast():
            self.probes.take(self.model, self.heldout, progress)

    def _evaluate(self, loads: bool) -> Any:
        with self._autocast():
            return evaluate(self.model, self.heldout, self.heldout_domain, self.source.domains, loads)

    def _flush(self) -> int | None:
        """Write the rows since the last flush. Returns the step at which the loss stopped being a number, if it did."""
        if not self._rows:
            return None
        rows, self._rows = self._rows, []
        names = ("train_loss", "grad_norm")
        scalars = torch.stack([torch.stack([row[name].float() for name in names]) for row in rows]).tolist()
        load_RLE = torch.stack(self._loads).cpu().numpy()
        bias_RLE = torch.stack(self._biases).cpu().numpy() if self._biases else None
        self._loads, self._biases = [], []
        vio_RL, entropy_RL = max_vio(load_RLE), entropy(load_RLE)
        diverged = None
        for index, row in enumerate(rows):
            row |= dict(zip(names, scalars[index], strict=True))
            row |= {name: float(value) for name, value in row.items() if isinstance(value, Tensor)}
            row["max_vio"], row["max_vio_worst"] = float(vio_RL[index].mean()), float(vio_RL[index].max())
            row["load_entropy"] = float(entropy_RL[index].mean())
            if bias_RLE is not None:
                row["bias_abs_max"], row["bias_common"] = (
                    float(np.abs(bias_RLE[index]).max()),
                    float(bias_RLE[index].mean()),
                )
            if diverged is None and not np.isfinite(scalars[index]).all():
                diverged = row["step"]
        if bias_RLE is not None:
            self._bias_steps(rows, bias_RLE)
        if self.world.leads:
            arrays = {"load": load_RLE} | ({"bias": bias_RLE} if bias_RLE is not None else {})
            self.journal.append(rows, **arrays)
        self._report(rows[-1])
        return diverged

    def _bias_steps(self, rows: list[dict[str, Any]], bias_RLE: Any) -> None:
        """mean |Δb| of each row; the row before the first one is the last flushed."""
        moves = np.diff(np.concatenate([self._bias_before[None], bias_RLE]), axis=0)
        for row, move in zip(rows, moves, strict=True):
            row["bias_step"] = float(np.abs(move).mean())
        self._bias_before = bias_RLE[-1]

    def _report(self, row: dict[str, Any]) -> None:
        """Tell whoever watches, and the status file, now and then."""
        if not self.world.leads:
            return
        progress = {"step": self.step, "steps": self.rung.steps, "train_loss": row["train_loss"]}
        self.event({"event": "progress", "key": self.folder.key, **progress})
        if time.monotonic() - self._last_status > STATUS_SECONDS or self.step == self.rung.steps:
            self._last_status = time.monotonic()
            self.write_status("running", **progress, seconds_per_step=self.seconds / max(1, self.step))

    def write_status(self, state: str, **facts: Any) -> None:
        """`status.json`: for `equipoise status`, never read back by the trial."""
        host = {"host": os.uname().nodename, "pid": os.getpid(), "slurm_job": os.environ.get("SLURM_JOB_ID")}
        write_json(self.folder.status, {"state": state, "updated": now(), **facts, **host})

    # -- state -------------------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        soonest, latest = CHECKPOINT_SECONDS
        waited = time.monotonic() - self._last_checkpoint
        wanted = self.step // self.rung.checkpoint_every > self._checkpointed // self.rung.checkpoint_every
        if self.step < self.rung.steps and (waited > latest or (wanted and waited > soonest)):
            self.save()

    def save(self) -> None:
        """Write a checkpoint. A full disk costs the checkpoint, not the trial."""
        self._last_checkpoint, self._checkpointed = time.monotonic(), self.step
        if not self.world.leads:
            return
        state = {
            "step": self.step,
            "ranks": self.world.size,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "frozen": [name for name, parameter in self.model.named_parameters() if not parameter.requires_grad],
            "optimizer": self.optimizer.state_dict(),
            "probes": self.probes.state(),
            "rng": torch.get_rng_state(),
        }
        try:
            self.journal.sync()
            checkpoint.save(self.folder.path, state)
        except OSError as error:
            self.event({"event": "warning", "key": self.folder.key, "message": f"checkpoint not written: {error}"})

    def resume(self) -> int:
        """Go on from the newest whole checkpoint, if there is one. Returns the step to start from."""

        def warn(message: str) -> None:
            self.event({"event": "warning", "key": self.folder.key, "message": message})

        state = checkpoint.load_newest(self.folder.path, warn)
        if state is not None and self.journal.rows() < state["step"]:
            warn("the journal is shorter than the checkpoint (the machine stopped?); starting again")
            state = None
        if state is not None and state["ranks"] != self.world.size:
            raise ValueError(f"the trial was begun by {state['ranks']} processes, not {self.world.size}; resume it so")
        if state is not None:
            self.model.load_state_dict(state["model"])
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name not in state["frozen"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.probes = Probes(**state["probes"])
            torch.set_rng_state(state["rng"])
            self.step, self.seconds = state["step"], state["seconds"]
            self._checkpointed = self.step
        if self.world.leads:
            self.journal.cut(self.step)
        biases = self.journal.array("bias") if self.step else None
        if biases is not None:
            self._bias_before = biases[-1]
        return self.step

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self, status: str, attempts: list[dict[str, Any]]) -> None:
        """Final evaluation, columnar copies, and last of all the record."""
        rung = self.rung
        self._check_journal()
        evaluation = self._evaluate(loads=True)
        self._probe(1.0)
        if not self.world.leads:
            return
        curves, load_SLE, bias_SLE = self.journal.curves(), self.journal.array("load"), self.journal.array("bias")
        assert load_SLE is not None
        norm_LE = np.stack([layer.w_out_EFD.detach().float().flatten(1).norm(dim=1).cpu() for layer in self.layers])
        tail = max(1, len(curves) // 10)
        losses = [row["train_loss"] for row in curves[-tail:] if row["train_loss"] is not None]
        targets = self.heldout[:, 1:].cpu().numpy()
        measures = {
            "steps": len(curves),
            "tokens": len(curves) * rung.tokens_per_step,
            "train_loss_tail": float(np.mean(losses)) if losses else None,
            **record.quality_measures(evaluation, int(self.source.token_bytes_V[targets].sum())),
            **record.load_measures(
                load_SLE, evaluation.load_LE, rung.warmup_steps, rung.tokens_per_step, targets.size, rung.top_k
            ),
            "dead_experts": record.death_measures(load_SLE, norm_LE),
            **record.probe_measures(self.probes, self.experts),
            "bias": record.measures.bias_health(bias_SLE, record.measures.tail_length(len(curves)))
            if bias_SLE is not None
            else None,
            "parameters": self._parameters(),
            "flops_per_token": rung.flops_per_token,
            "source_entropy": self.source.entropy,
        }
        if status == "diverged":
            step = next((row["step"] for row in curves if row["train_loss"] is None or row["grad_norm"] is None), None)
            measures |= {"val_loss": None, "perplexity": None, "bits_per_byte": None, "diverged_at_step": step}
        record.write_columns(self.folder.path, curves, load_SLE, bias_SLE, evaluation.load_LE)
        head = {name: value for name, value in self.definition.items() if name != "plugins"}
        write_json(
            self.folder.record,
            {**head, "status": status, "attempts": attempts, "measures": measures, "timing": self._timing(curves)},
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

    def _parameters(self) -> dict[str, int]:
        """Counted, not computed: all, and those one token uses."""
        total = sum(parameter.numel() for parameter in self.model.parameters())
        idle = self.model.embedding.weight.numel() - self.rung.width  # a token reads one row of the embedding
        for layer in self.layers:
            experts = layer.w_in_EDF.numel() + layer.w_out_EFD.numel()
            idle += experts - experts * min(self.rung.top_k, layer.num_experts) // layer.num_experts
        return {"total": total, "active": total - idle}

    def _timing(self, curves: list[dict[str, Any]]) -> dict[str, Any]:
        """Times of this attempt's steps; the only part of a record that differs from run to run."""
        steps = max(1, self.step - self.started_at)
        durations = np.diff([0.0] + [row["seconds"] for row in curves])
        typical = median(durations) if self.device.type == "cpu" else self.seconds / len(curves)
        total = self.seconds / len(curves)
        split = {
            name: sum(layer.seconds[name] for layer in self.layers) / steps for name in ("route", "dispatch", "experts")
        }
        split["balance"] = self.seconds_balance / steps
        split |= {"total": total, "rest": max(0.0, total - sum(split.values()))}
        if self.cpu_seconds:  # what else the machine ran is not in it: the time to compare arms by
            split["cpu"] = median(self.cpu_seconds)
        return {
            "train_seconds": self.seconds,
            "tokens_per_second": self.rung.tokens_per_step / typical,
            "step_ms": {name: 1000 * value for name, value in split.items()},
            "peak_memory_bytes": peak_memory(self.device),
            "mfu": None,
        }
