"""Studies: what `studies.yaml` says is simulated, run over several seeds and summed up."""

from __future__ import annotations

import difflib
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from strategies.bench.simulate import BenchResult, run
from strategies.registry import get, make_config

MEASURES = (
    "max_vio",
    "floor",
    "max_vio_global",
    "floor_global",
    "peak",
    "steps_to_balance",
    "steps_to_recover",
    "bias_step",
    "flip_rate",
    "bias_std",
    "bias_max",
    "milliseconds",
)


@dataclass(frozen=True)
class Case:
    """One arm in one setting: a row of the study's table."""

    strategy: str
    config: dict[str, Any]
    settings: dict[str, Any]  # arguments of `run`
    varied: Any  # the value of the study's `vary`, as `published` names it
    published: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The strategy and what of its configuration the study sets."""
        return " ".join([self.strategy, *(f"{key}={value}" for key, value in self.config.items())])

    def run(self, seed: int) -> BenchResult:
        cls = get(self.strategy)
        return run(cls, make_config(cls, self.config), seed=seed, **self.settings)


@dataclass(frozen=True)
class Study:
    """A named list of cases."""

    name: str
    title: str
    vary: str  # the setting that is run through
    columns: list[str]  # the measures that its table shows
    cases: list[Case]


def studies(path: Path | None = None) -> dict[str, Study]:
    """Every study of the file (None: the bench's own)."""
    file = path or Path(__file__).with_name("studies.yaml")
    text = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {name: _study(name, entry) for name, entry in text.items()}


def find(name: str) -> Study:
    """The study called `name`.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    known = studies()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        raise ValueError(f"study: {name!r} is unknown; expected one of {', '.join(known)}; nearest is {near}")
    return known[name]


def _study(name: str, entry: Mapping[str, Any]) -> Study:
    ((vary, values),) = entry["vary"].items()
    cases = []
    for arm in entry["arms"]:
        for config in _product(arm.get("config", {})):
            for value in values:
                settings = _settings({**entry["settings"], vary: value})
                published = arm.get("published", {}).get(value, {})
                cases.append(Case(arm["strategy"], config, settings, value, published))
    return Study(name, entry["title"], vary, entry["columns"], cases)


def _product(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that are lists."""
    lists = [value if isinstance(value, list) else [value] for value in config.values()]
    for values in itertools.product(*lists):
        yield dict(zip(config, values, strict=True))


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    mean_load = settings.pop("mean_load", None)
    if mean_load is not None:
        settings["tokens"] = mean_load * settings["experts"] // settings["top_k"]
    return settings


def run_study(
    study: Study, seeds: Sequence[int], report: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Run every case with every seed.

    Returns:
        One row per case: `label`, the varied setting, `n`, and for every measure its mean over seeds, `<measure>_sd`
        (None with one seed) and `<measure>_published` where there is one. A measure is None unless all seeds have it.
    """
    rows = []
    for case in study.cases:
        report(f"{case.label}, {study.vary} {case.varied}")
        results = [case.run(seed).row() for seed in seeds]
        row: dict[str, Any] = {"label": case.label, study.vary: case.varied, "n": len(seeds)}
        for measure in MEASURES:
            values = [result[measure] for result in results]
            known = None not in values
            row[measure] = statistics.fmean(values) if known else None
            row[f"{measure}_sd"] = statistics.stdev(values) if known and len(values) > 1 else None
            row[f"{measure}_published"] = case.published.get(measure)
        rows.append(row)
    return rows


def markdown(study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """A study's rows as a Markdown table: its measures as `mean ± sd` over seeds, with what was published beside."""
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        (key, _plain(key)) for key in ("label", study.vary, "n")
    ]
    for measure in study.columns:
        columns.append((HEADINGS.get(measure, measure), _measured(measure)))
        if any(row[f"{measure}_published"] is not None for row in rows):
            columns.append(("published", _plain(f"{measure}_published")))
    lines = [[heading for heading, _ in columns], ["---"] * len(columns)]
    lines += [[cell(row) for _, cell in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


HEADINGS = {
    "max_vio": "MaxVio_batch",
    "floor": "noise floor",
    "max_vio_global": "MaxVio_global",
    "floor_global": "its floor",
    "steps_to_balance": "steps to < 0.5",
    "steps_to_recover": "steps to recover",
    "bias_step": "mean abs Δb",
    "flip_rate": "flip rate",
    "bias_std": "std of b",
    "bias_max": "max abs b",
    "milliseconds": "ms a step",
}


def _plain(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[key] is None else f"{row[key]}"


def _measured(measure: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(row: Mapping[str, Any]) -> str:
        mean, sd = row[measure], row[f"{measure}_sd"]
        if mean is None:
            return "–"
        return _digits(mean, 3) if not sd else f"{_digits(mean, 3)} ± {_digits(sd, 1)}"

    return cell


def _digits(value: float, count: int) -> str:
    """So many significant digits, without an exponent where it can be helped."""
    return f"{float(f'{value:.{count}g}'):g}"
