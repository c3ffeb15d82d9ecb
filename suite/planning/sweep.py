"""Sweeps: how a recipe is found. One value after another, judged by arms it names, on seeds that no board reports.

A sweep is a YAML file with the coordinates of a grid. Each coordinate is an ordinary suite, with an arm for every judge
and value; the value with the lowest mean held-out loss over judges and seeds, all at equal compute, is where the next
coordinate starts from. Nothing is kept but the trials' records: what was chosen is worked out from them again, so a
sweep goes on wherever it stopped, in order. No strategy under test has a vote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

import tasks
from results.text import counted
from suite import PROTOCOL
from suite.errors import UsageError
from suite.planning import config, library, plan
from suite.planning.config import SWEEP_SEEDS, ArmEntry, Suite
from suite.storage.files import read_json
from suite.words import nearest

SWEEPS = Path(__file__).parents[1] / "sweeps"
SWEEP = "sweep:"
SEPARATOR = "@"
CONTROLS = ("dense", "none", "hash")


class Judge(ArmEntry):
    """A control with a vote. `follows` sets a parameter to a multiple of the coordinate's value."""

    follows: dict[str, float] = Field(default_factory=dict)


def _controls() -> list[Judge]:
    return [Judge(strategy=name) for name in CONTROLS]


class Coordinate(config.Strict):
    """One value of the recipe, or several that move together, and the grid to choose from."""

    key: str | None = None  # rung.hidden_rate
    name: str | None = None  # how tables call it; the key's last part unless said
    values: list[Any] = Field(default_factory=list)  # of the key, or without one mappings from keys to values
    times: list[float] = Field(default_factory=list)  # instead: multiples of what the rung has where the sweep starts
    judges: list[Judge] = Field(default_factory=_controls, min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Coordinate:
        if bool(self.values) == bool(self.times):
            raise ValueError("expected either `values` or `times`")
        if self.key is None and (self.name is None or not all(isinstance(value, dict) for value in self.values)):
            raise ValueError("without a `key`, expected a `name` and `values` that map keys to values")
        if self.key is None and (self.times or any(judge.follows for judge in self.judges)):
            raise ValueError("`times` and `follows` need a `key`")
        return self

    @property
    def title(self) -> str:
        return self.name or str(self.key).rpartition(".")[2]

    @property
    def keys(self) -> set[str]:
        return {self.key} if self.key else {key for value in self.values for key in value}


class Sweep(config.Strict):
    """A sweep's file."""

    sweep: str
    title: str
    task: str
    set: dict[str, Any] = Field(default_factory=dict)  # where it starts, where that is not the task's own recipe
    coordinates: list[Coordinate] = Field(min_length=1)  # in the order in which they are chosen
    seeds: int = Field(default=2, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _different(self) -> Sweep:
        titles = [coordinate.title for coordinate in self.coordinates]
        doubled = sorted({title for title in titles if titles.count(title) > 1})
        if doubled:
            raise ValueError(f"coordinates: {doubled[0]!r} is there twice; give one of them a `name` of its own")
        return self


@dataclass(frozen=True)
class Stage:
    """A coordinate at the point where its turn came: its plan, and what its records say, if all are there."""

    coordinate: Coordinate
    grid: dict[str, dict[str, Any]]  # label → overrides
    plan: plan.Plan
    table: dict[str, Any] | None


def names() -> list[str]:
    """The sweeps that come with Equipoise."""
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def load(name_or_path: str) -> Sweep:
    """A sweep by name, or a path ending in .yaml.

    Raises:
        UsageError: unknown name, broken YAML, unknown key, wrong type, impossible value.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
    elif name_or_path in names():
        path = SWEEPS / f"{name_or_path}.yaml"
    else:
        raise UsageError(
            f"sweep: {name_or_path!r} is unknown; expected one of {', '.join(names())} or a .yaml file"
            + nearest(name_or_path, names())
        )
    data, _ = library.read(path, "sweep")
    try:
        return Sweep.model_validate(data)
    except ValidationError as error:
        raise UsageError(config.explain(error, str(path), Sweep)) from None


def stages(sweep: Sweep, home: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Stage]:
    """The coordinates in order, each at what the ones before it chose; a coordinate without all its records chooses
    nothing and leaves its key as it was, so that what follows can be priced.

    Whoever runs a stage before asking for the next one walks the sweep.

    Args:
        settings: overrides as of `--set`.

    Raises:
        UsageError: a setting that the sweep moves, a value that cannot be, values of unequal compute.
    """
    point: dict[str, Any] = {}
    for coordinate in sweep.coordinates:
        for key in sorted(coordinate.keys & set(settings or {})):
            raise UsageError(f"--set {key}: sweep {sweep.sweep} chooses it; expected a key that it leaves alone")
        grid = _grid(sweep, coordinate, point, settings or {})
        suite, task_settings = config.apply_overrides(_suite(sweep, coordinate, grid), settings or {})
        made = plan.make_plan(suite, task_settings, home=home)
        _check_compute(sweep, coordinate, made)
        stage = read(Stage(coordinate, grid, made, None), home)
        yield stage
        table = read(stage, home).table  # whoever asked may have run it since
        if table is not None:
            point |= grid[table["winner"]]


def read(stage: Stage, home: Path) -> Stage:
    """The stage with what its records say now."""
    return replace(stage, table=_table(stage.coordinate, stage.grid, stage.plan, home))


def next_suite(sweep: Sweep, home: Path, settings: Mapping[str, Any]) -> Suite:
    """The suite of the first coordinate with a trial to run, or of the last one; settings are yet to be applied."""
    for stage in stages(sweep, home, settings):
        found = stage
        if stage.table is None:
            break
    return _suite(sweep, found.coordinate, found.grid)


def _grid(
    sweep: Sweep, coordinate: Coordinate, point: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Label → overrides, with what was chosen before, for each value."""
    if coordinate.key is None:
        return _labelled(sweep, coordinate, [{**point, **value} for value in coordinate.values], coordinate.values)
    values = coordinate.values
    if coordinate.times:
        stated = {key: value for key, value in settings.items() if key.startswith(("rung.", "corpus."))}
        rung = tasks.load(sweep.task, {**sweep.set, **stated}).rung
        field = coordinate.key.removeprefix("rung.")
        start = getattr(rung, field, None)
        if not isinstance(start, int | float):
            raise UsageError(f"sweep {sweep.sweep}: {coordinate.key}: `times` needs a number of the rung")
        # once is the rung's own value to the last digit: the trials of one coordinate serve the next
        values = [start if factor == 1 else float(f"{start * factor:.6g}") for factor in coordinate.times]
    return _labelled(sweep, coordinate, [{**point, coordinate.key: value} for value in values], values)


def _labelled(
    sweep: Sweep, coordinate: Coordinate, overrides: Sequence[dict[str, Any]], values: Sequence[Any]
) -> dict[str, dict[str, Any]]:
    """Overrides by the label of their value; two of one label would be one arm."""
    labels = [_label(value) for value in values]
    doubled = [label for label in labels if labels.count(label) > 1]
    if doubled:
        raise UsageError(
            f"sweep {sweep.sweep}: {coordinate.title}: two values are called {doubled[0]}; expected values that "
            "differ in their first four digits"
        )
    return dict(zip(labels, overrides, strict=True))


def _label(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key.rpartition('.')[2]}={_label(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _suite(sweep: Sweep, coordinate: Coordinate, grid: Mapping[str, dict[str, Any]]) -> Suite:
    """A coordinate as a suite: every judge at every value."""
    arms = []
    for judge in coordinate.judges:
        for label, overrides in grid.items():
            entry = judge.model_dump(exclude={"follows"})
            following = {name: factor * float(overrides[str(coordinate.key)]) for name, factor in judge.follows.items()}
            arms.append(
                {
                    **entry,
                    "arm": f"{judge.name}{SEPARATOR}{label}",
                    "set": {**judge.set, **following},
                    "task": {**judge.task, **overrides},
                }
            )
    return config.parse(
        {
            "suite": f"sweep-{sweep.sweep}-{coordinate.title}",
            "title": f"{sweep.title}: {coordinate.title}",
            "tasks": [{"task": sweep.task, "set": sweep.set}],
            "strategies": arms,
            "seeds": sweep.seeds,
            "first_seed": SWEEP_SEEDS,
            "baseline": arms[0]["arm"],
            "aa": False,
            "precision": sweep.precision,
            "device": sweep.device,
        },
        f"sweep {sweep.sweep}: {coordinate.title}",
    )


def _check_compute(sweep: Sweep, coordinate: Coordinate, made: plan.Plan) -> None:
    """A value that trains longer would win for that."""
    tokens = {trial.arm: trial.cell.task.rung.tokens for trial in made.trials}
    if len(set(tokens.values())) > 1:
        least, most = min(tokens, key=lambda arm: tokens[arm]), max(tokens, key=lambda arm: tokens[arm])
        raise UsageError(
            f"sweep {sweep.sweep}: {coordinate.title}: {least} trains on {tokens[least]} tokens, {most} on "
            f"{tokens[most]}; expected values of equal compute"
        )


def _table(
    coordinate: Coordinate, grid: Mapping[str, dict[str, Any]], made: plan.Plan, home: Path
) -> dict[str, Any] | None:
    """What a coordinate's records say: None while one is missing. A value at which a trial diverged is out.

    Raises:
        RuntimeError: every value is out.
    """
    losses: dict[str, dict[str, list[float | None]]] = {label: {} for label in grid}
    for trial in sorted(made.trials, key=lambda trial: trial.seed):
        folder = made.folder(home, trial)
        if not folder.done:
            return None
        judge, _, label = trial.arm.rpartition(SEPARATOR)
        losses[label].setdefault(judge, []).append(read_json(folder.record)["measures"]["val_loss"])
    cells = {label: [loss for seen in judged.values() for loss in seen] for label, judged in losses.items()}
    means = {label: float(np.mean(seen)) for label, seen in cells.items() if None not in seen}  # type: ignore[arg-type]
    if not means:
        raise RuntimeError(f"sweep: at every value of {coordinate.title} a trial diverged")
    winner = min(means, key=lambda label: means[label])
    rows = []
    for label, overrides in grid.items():
        row: dict[str, Any] = {
            "value": {key: overrides[key] for key in sorted(coordinate.keys) if key in overrides},
            "label": label,
            "losses": losses[label],
            "mean": means.get(label),
            "behind": None,
            "standard_error": None,
        }
        if label in means:
            differences = np.subtract(cells[label], cells[winner])  # type: ignore[arg-type]
            row["behind"] = float(differences.mean())
            if label != winner and len(differences) > 1:
                row["standard_error"] = float(differences.std(ddof=1) / len(differences) ** 0.5)
        rows.append(row)
    labels = list(grid)
    ordered = all(
        isinstance(value, int | float) for overrides in grid.values() for value in _own(coordinate, overrides)
    )
    return {
        "name": coordinate.title,
        "judges": [judge.name for judge in coordinate.judges],
        "values": rows,
        "winner": winner,
        "at_edge": ordered and len(labels) > 2 and winner in (labels[0], labels[-1]),
    }


def _own(coordinate: Coordinate, overrides: Mapping[str, Any]) -> list[Any]:
    return [overrides[key] for key in coordinate.keys if key in overrides]


def result(sweep: Sweep, walked: list[Stage], settings: Mapping[str, Any], made: str) -> dict[str, Any]:
    """What a sweep says so far: a table for each coordinate that has all its records, and the values chosen."""
    tables = [stage.table for stage in walked if stage.table is not None]
    chosen: dict[str, Any] = {}
    for stage in walked:
        if stage.table is not None:
            own = stage.grid[stage.table["winner"]]
            chosen |= {key: own[key] for key in sorted(stage.coordinate.keys) if key in own}
    changes = "".join(f" --set {key}={value}" for key, value in settings.items())
    return {
        "schema": 1,
        "sweep": sweep.sweep,
        "title": sweep.title,
        "task": sweep.task,
        "start": sweep.set,
        "protocol_version": PROTOCOL,
        "command": f"equipoise sweep {sweep.sweep}{changes}",
        "seeds": walked[0].plan.suite.seed_list,
        "made": made,
        "coordinates": tables,
        "missing": [c.title for c in sweep.coordinates[len(tables) :]],
        "chosen": chosen,
    }


def as_markdown(said: Mapping[str, Any]) -> str:
    """A sweep's tables for people."""
    lines = [
        f"# {said['title']}",
        "",
        f"Sweep `{said['sweep']}` on `{said['task']}` · protocol {said['protocol_version']} · "
        f"{counted(len(said['seeds']), 'seed')} that no board reports · `{said['command']}`",
        "",
        "Mean held-out loss in nats/token over controls and seeds, all at equal compute; the lowest wins, and the next "
        "value is chosen from there. *Behind*: mean paired difference to the winner ± its standard error.",
    ]
    for table in said["coordinates"]:
        judges = table["judges"]
        edge = ", at the edge of its grid" if table["at_edge"] else ""
        lines += ["", f"## {table['name']}: {table['winner']}{edge}", ""]
        lines += [f"| {table['name']} | {' | '.join(judges)} | mean | behind |", "| --- " * (len(judges) + 3) + "|"]
        for row in table["values"]:
            seen = [_loss(row["losses"][judge]) for judge in judges]
            error = row["standard_error"]
            behind = "–" if row["behind"] is None else f"{row['behind']:.4f}" + (f" ± {error:.4f}" if error else "")
            own = f"**{row['label']}**" if row["label"] == table["winner"] else row["label"]
            lines.append(f"| {own} | {' | '.join(seen)} | {_loss([row['mean']])} | {behind} |")
    if said["missing"]:
        lines += ["", f"Not yet chosen: {', '.join(said['missing'])}."]
    if said["chosen"]:
        lines += ["", "Chosen: " + ", ".join(f"`{key}={value}`" for key, value in said["chosen"].items()) + "."]
    return "\n".join(lines) + "\n"


def _loss(seen: list[float | None]) -> str:
    return "diverged" if None in seen else f"{np.mean(seen):.4f}"  # type: ignore[arg-type]
