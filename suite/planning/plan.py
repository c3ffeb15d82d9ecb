"""From a suite to its trials: resolved configurations, keys, manifest. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import torch

import tasks
from results.text import counted
from strategies import LayerSpec, Strategy
from strategies import registry as strategy_registry
from suite import NUMERICS, PROTOCOL, backends
from suite.errors import UsageError
from suite.planning import tune
from suite.planning.config import AA_SEEDS, AA_SUFFIX, CHOSEN, HORIZONS, ArmEntry, Suite, TaskEntry
from suite.planning.parts import joined
from suite.planning.trials import Cell, Trial, digest
from suite.storage.files import alone, read_json, write_atomically, write_json
from suite.storage.trial import TrialFolder
from suite.words import nearest
from tasks import Rung, Task


@dataclass(frozen=True)
class Plan:
    """A suite's trials in the order in which they run, and the manifest that ties them together."""

    suite: Suite
    trials: list[Trial]
    manifest: dict[str, Any]
    again: Callable[..., Plan] = field(repr=False, compare=False)  # other arms, tasks and seeds under its conditions

    def folder(self, home: Path, trial: Trial) -> TrialFolder:
        return TrialFolder(home / "trials" / trial.key)

    def manifest_path(self, home: Path) -> Path:
        return home / "suites" / f"{board_name(self.suite)}.json"

    def alone_with_manifest(self, home: Path) -> AbstractContextManager[None]:
        """Hold the manifest against other writers: two parts of a suite may be submitted at the same time."""
        path = self.manifest_path(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        return alone(path.with_name(f".{path.name}.lock"))

    def write_manifest(self, home: Path, say: Callable[[str], None] = lambda _: None) -> Path:
        """Write the suite's manifest; a part of a suite joins what was run of it before, under the same conditions.

        Args:
            say: told of trials that the manifest had and no longer has.
        """
        path = self.manifest_path(home)
        with self.alone_with_manifest(home):
            manifest = self.manifest
            if path.exists():
                before = read_json(path)
                if before.get("hypothesis") != manifest["hypothesis"]:
                    say(
                        f"suite {manifest['suite']}: its hypothesis was another when it was last run: "
                        f"{before.get('hypothesis')!r}"
                    )
                manifest = joined(before, manifest, self.suite, self.again, partial(self.by_this_engine, home))
                lost = _cells(before) - _cells(manifest)
                if lost:
                    arms = ", ".join(sorted({arm for arm, _, _ in lost}))
                    say(
                        f"suite {manifest['suite']}: no longer on its board, but still in the home: "
                        f"{counted(len(lost), 'trial')} of {arms}, made under other conditions, by code that has "
                        f"changed since, or with a plug-in that is not at hand (--plugin FILE)"
                    )
            if manifest["baseline"] not in {arm["arm"] for arm in manifest["arms"]}:
                say(
                    f"suite {manifest['suite']}: its baseline {manifest['baseline']!r} has not been run and is not run "
                    f"now; without it there is nothing to report or to hand in"
                )
            order = [task.task for task in self.suite.tasks]
            manifest["tasks"].sort(key=lambda task: order.index(task["name"]) if task["name"] in order else len(order))
            write_json(path, manifest)
        return path

    def by_this_engine(self, home: Path, key: str) -> bool:
        """Whether a trial was begun by the engine, and on the device, that this plan's are; so is one not begun."""
        file = TrialFolder(home / "trials" / key).trial
        return not file.exists() or _engine(read_json(file)["config"]) == _engine(self.trials[0].cell.config)

    def write_trial(self, home: Path, trial: Trial) -> TrialFolder:
        """Make the trial's folder and its definition, unless they are there."""
        folder = self.folder(home, trial)
        folder.path.mkdir(parents=True, exist_ok=True)
        known = read_json(folder.trial) if folder.trial.exists() else {}
        if not folder.done and known.get("plugins") != trial.cell.plugins:  # new, or its plug-in has moved
            for file in trial.cell.plugins:  # first: one that has vanished leaves no definition that looks complete
                write_atomically(folder.plugin, Path(file).read_bytes())
            write_json(folder.trial, {**known, **trial.definition})
        return folder


def _engine(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial is made with, of all that its key is made of."""
    return {name: value for name, value in config.items() if name not in ("strategy", "task", "seed")}


def _cells(manifest: Mapping[str, Any]) -> set[tuple[str, str, int]]:
    return {(trial["arm"], trial["task"], trial["seed"]) for trial in manifest["trials"]}


def board_name(suite: Suite) -> str:
    """Each track of a suite is a board of its own."""
    return f"{suite.suite}-{suite.track}" if suite.track in CHOSEN else suite.suite


def facts(cls: type[Strategy]) -> dict[str, Any]:
    """What tables say about a strategy."""
    return {
        "title": cls.title,
        "paper": asdict(cls.paper) if cls.paper else None,
        "causal": cls.causal,
        "variable_k": cls.variable_k,
        "knob": {"parameter": cls.knob.parameter, "grid": list(cls.knob.grid)} if cls.knob else None,
    }


def resolve_device(device: str) -> str:
    """ "auto" is the accelerator where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def make_cell(suite: Suite, arm: ArmEntry, task: Task, device: str, plugins: Mapping[str, str]) -> Cell:
    """Resolve an arm on a task; every mistake in either is a UsageError that names it."""
    cls = strategy_registry.get(arm.strategy)
    settings = strategy_registry.make_config(cls, arm.set)
    rung = task.rung
    spec = LayerSpec(
        width=rung.width,
        num_experts=rung.experts,
        top_k=rung.top_k,
        vocab_size=rung.vocab_size,
        score=rung.score,
        token_counts_V=torch.ones(rung.vocab_size),  # the real counts come with the corpus
    )
    try:
        strategy_registry.build(cls, spec, settings, arm.terms)
    except ValueError as error:
        raise UsageError(f"strategy {arm.name} on task {task.name}: {error}") from None
    taken = sorted(set(arm.terms) & set(cls.auxiliary))
    if taken:
        raise UsageError(
            f"strategy {arm.name}: terms: {taken[0]!r} is a loss of the rule's own, whose place it would take"
        )
    config = {
        "strategy": {
            "name": cls.name,
            "config": strategy_registry.config_dict(settings),
            "terms": dict(sorted(arm.terms.items())),
            "source": strategy_registry.source_digest(cls),
        },
        "task": task.resolved(),
        "backend": suite.backend,
        "precision": suite.precision,
        "device": device,
        "threads": suite.threads,
        "numerics": NUMERICS,
    }
    own = [plugins[cls.name]] if cls.name in plugins else []
    twin = cls.experts_to_build(spec) == spec.top_k < spec.num_experts
    return Cell(config, facts(cls), own, digest(config), task, twin)


def load_task(
    entry: TaskEntry,
    settings: Mapping[str, Any],
    arm: str | None = None,
    published: Callable[[int], Mapping[str, Any]] | None = None,
) -> Task:
    """A task of the catalogue with values changed; a mistake in them is a UsageError that says of which task or arm."""
    try:
        return tasks.load(entry.task, settings, published)
    except ValueError as error:
        where = f"strategy {arm} on task {entry.task}: " if arm else f"task {entry.task}: "
        raise UsageError(f"{where if entry.task in tasks.names() else ''}{error}") from None


def make_plan(
    suite: Suite,
    task_settings: Mapping[str, Any] | None = None,
    only_arms: Sequence[str] = (),
    only_tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    plugins: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> Plan:
    """All trials of a suite, or of a part of it, interleaved so that machine drift touches all arms alike.

    Args:
        task_settings: overrides for every task (`rung.…`, `corpus.…`).
        only_arms, only_tasks, seeds: the part; empty means all. A name in `only_arms` that the suite does not list
            but that is a known strategy is added with its defaults.
        plugins: strategy name → file it was loaded from.
        home: where the tuned and the balanced track find what tuning chose.
    """
    if suite.track in CHOSEN and home is None:
        raise UsageError(f"track: {suite.track} needs a home, where tuning wrote its choice")
    backends.get(suite.backend)
    device = resolve_device(suite.device)
    arms = choose_arms(suite, only_arms)
    entries = [entry for entry in suite.tasks if not only_tasks or entry.task in only_tasks]
    unknown = sorted(set(only_tasks) - {entry.task for entry in suite.tasks})
    if unknown:
        known = [entry.task for entry in suite.tasks]
        raise UsageError(
            f"--tasks: {unknown[0]!r} is not in suite {suite.suite}{nearest(unknown[0], known)}; "
            f"it has {', '.join(known)}"
        )
    seed_list = list(dict.fromkeys(seeds)) or suite.seed_list
    trials: list[Trial] = []
    plain: list[Task] = []
    aa = suite.aa and any(arm.name == suite.baseline for arm in arms)
    horizons = suite.horizons and any(arm.name == suite.baseline for arm in arms)
    for entry in entries:
        task = load_task(entry, {**entry.set, **(task_settings or {})})
        plain.append(task)
        cells: list[tuple[str, Cell, int]] = []
        for arm in arms:
            published = strategy_registry.get(arm.strategy).published.stated
            own = {**entry.set, **arm.task, **(task_settings or {})}
            arm_task = load_task(entry, own, arm.name, published)
            if suite.track in CHOSEN and home is not None:
                plain_cell = make_cell(suite, arm, arm_task, device, plugins or {})
                settings = tune.chosen_settings(home, suite, arm, entry.task, plain_cell.config)
                arm = arm.model_copy(update={"set": {**arm.set, **settings}})
            cell = make_cell(suite, arm, arm_task, device, plugins or {})
            cells.append((arm.name, cell, 0))
            if aa and arm.name == suite.baseline:
                cells.append((arm.name + AA_SUFFIX, cell, AA_SEEDS))
            if horizons and arm.name == suite.baseline:
                for name, factor in HORIZONS.items():
                    longer = {**own, "rung.steps": max(1, round(factor * arm_task.rung.steps))}
                    horizon = load_task(entry, longer, f"{arm.name}-{name}", published)
                    other = make_cell(suite, arm, horizon, device, plugins or {})
                    cells.append((f"{arm.name}-{name}", other, 0))
        for index, seed in enumerate(seed_list):
            for name, cell, offset in interleaved(cells, index):
                trials.append(Trial(name, task.name, seed, cell.key(seed + offset), cell, seed + offset))
    if len(entries) > 1:  # seeds outermost: a suite cut short has whole pairs on every task
        order = {seed: index for index, seed in enumerate(seed_list)}
        trials.sort(key=lambda trial: order[trial.seed])
    if suite.track == "balanced" and home is not None:
        arms = [tune.noted(home, suite, arm, [entry.task for entry in entries]) for arm in arms]
    again = partial(make_plan, suite, task_settings, plugins=plugins, home=home)
    return Plan(suite, trials, manifest(suite, arms, plain, trials, aa, horizons), again)


def interleaved(cells: list[Any], index: int) -> list[Any]:
    """The arms' order for the seed of that index: turned by one each second seed, and there and back.

    A worker's first trial, and whatever else runs on the machine at the time, then falls on every arm alike.
    """
    turn = index // 2 % len(cells)
    turned = cells[turn:] + cells[:turn]
    return turned[::-1] if index % 2 else turned


def choose_arms(suite: Suite, only: Sequence[str]) -> list[ArmEntry]:
    """The arms asked for; unlisted strategies join with their defaults."""
    if not only:
        return list(suite.strategies)
    by_name = {arm.name: arm for arm in suite.strategies}
    chosen = []
    for name in dict.fromkeys(only):
        if name not in by_name and name not in strategy_registry.available():
            words = [*by_name, *strategy_registry.available()]
            raise UsageError(
                f"--strategies: {name!r} is neither an arm of {suite.suite} nor a strategy{nearest(name, words)}"
            )
        chosen.append(by_name.get(name) or ArmEntry(strategy=name))
    return chosen


def describe_task(task: Task) -> dict[str, Any]:
    """A task as manifests carry it."""
    rung = task.rung
    return {
        "name": task.name,
        "title": task.title,
        "rung": rung.name,
        "steps": rung.steps,
        "tokens": rung.tokens,
        "experts": rung.experts,
        "top_k": rung.top_k,
        "moe_layers": len(rung.moe_layers()),
        "uniform_loss": log(rung.vocab_size),
        "parameters": rung.parameters(),
        "flops_per_token": rung.flops_per_token,
    }


def manifest(
    suite: Suite,
    arms: Iterable[ArmEntry],
    plain: Iterable[Task],
    trials: list[Trial],
    aa: bool,
    horizons: bool,
) -> dict[str, Any]:
    """What ties trials to a suite (docs/formats.md)."""
    rows = []
    described = [describe_task(task) for task in plain]
    rungs = {task.name: task.rung for task in plain}
    ran = {(trial.arm, trial.task): trial.cell.config["strategy"]["config"] for trial in trials}
    for arm in arms:
        cls = strategy_registry.get(arm.strategy)
        settings = strategy_registry.config_dict(strategy_registry.make_config(cls, arm.set))
        if suite.track in CHOSEN and cls.knob is not None:  # one value per task
            parameter = cls.knob.parameter
            values = {task["name"]: ran[arm.name, task["name"]][parameter] for task in described}
            settings[parameter] = values if len(set(values.values())) > 1 else next(iter(values.values()))
        rows.append(
            {
                "arm": arm.name,
                "strategy": cls.name,
                **facts(cls),
                "config": settings,
                "terms": arm.terms,
                "task": arm.task,
                "note": ". ".join(part for part in (arm.note, _scores(arm, rungs, trials)) if part) or None,
            }
        )
        base = rows[-1]
        if aa and arm.name == suite.baseline:
            rows.append({**base, "arm": arm.name + AA_SUFFIX, "note": "the baseline again, with seeds of its own"})
        if horizons and arm.name == suite.baseline:
            rows += [
                {**base, "arm": f"{arm.name}-{name}", "note": f"the baseline, trained for {factor:g} times the steps"}
                for name, factor in HORIZONS.items()
            ]
    return {
        "schema": 1,
        "suite": board_name(suite),
        "title": suite.title,
        "hypothesis": suite.hypothesis,
        "protocol_version": PROTOCOL,
        "protocol_digest": suite.digest,
        "changed": suite.changed,
        "asks": suite.asks,
        "baseline": suite.baseline,
        "control": suite.control,
        "twin": dense_twin(rows, trials),
        "aa_arm": suite.baseline + AA_SUFFIX if aa else None,
        "horizons": {name: f"{suite.baseline}-{name}" for name in HORIZONS} if horizons else None,
        "margin": suite.margin,
        "track": suite.track,
        "tasks": described,
        "arms": rows,
        "trials": [{"arm": t.arm, "task": t.task, "seed": t.seed, "trial_key": t.key} for t in trials],
    }


def _scores(arm: ArmEntry, plain: Mapping[str, Rung], trials: Iterable[Trial]) -> str | None:
    """How an arm's routers differ from the rung's own."""
    own = {trial.task: trial.cell.task.rung for trial in trials if trial.arm == arm.name}
    said = []
    if any(rung.score != plain[task].score for task, rung in own.items()):
        said.append(f"{' and '.join(sorted({rung.score for rung in own.values()}))} scores")
    if any(rung.normalize_gates != plain[task].normalize_gates and rung.top_k > 1 for task, rung in own.items()):
        said.append("gates as they are" if not next(iter(own.values())).normalize_gates else "normalised gates")
    return f"Routers with {', '.join(said)}." if said else None


def dense_twin(rows: Iterable[dict[str, Any]], trials: Iterable[Trial]) -> str | None:
    """The arm that sends every token to every expert it builds: what the gain of experts is measured against."""
    chosen = {trial.arm for trial in trials if trial.cell.twin}
    return next((row["arm"] for row in rows if row["arm"] in chosen and not row["task"]), None)


def states(plan: Plan, home: Path) -> dict[str, str]:
    """key → done | failed | started | new, from the folders alone."""
    found: dict[str, str] = {}
    root = home / "trials"
    present = {entry.name for entry in root.iterdir()} if root.is_dir() else set()
    for trial in plan.trials:
        if trial.key in found:
            continue
        if trial.key not in present:
            found[trial.key] = "new"
            continue
        folder = plan.folder(home, trial)
        if folder.done:
            found[trial.key] = "done"
        elif folder.failure.exists():
            found[trial.key] = "failed"
        else:
            found[trial.key] = "started" if folder.attempts.exists() else "new"
    return found


def failure_line(folder: TrialFolder) -> str:
    """Why a trial failed, in one line."""
    if not folder.failure.exists():
        return "ended without a word (killed?)"
    try:
        failure = read_json(folder.failure)
    except ValueError as error:
        return str(error)
    message = str(failure.get("message", "")).splitlines()
    return f"{failure.get('error')}: {message[0] if message else ''}"
