"""Options that several verbs share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from suite.storage import home as home_folder


def home_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--home", metavar="DIR", help="Where cache, trials and reports are (EQUIPOISE_HOME; ./equipoise-home)."
    )(function)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


class _Names(click.ParamType):
    """Comma-separated names; the option may also be repeated."""

    name = "name,…"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


def selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--strategies --tasks --seeds --set --plugin: which part of a suite, and with what changes."""
    for option in (
        click.option(
            "--plugin",
            "plugins",
            multiple=True,
            metavar="FILE",
            help="A Python file with strategies of your own; may be given more than once.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change a value: rung.steps=50, smebu.rate=0.002, margin=0.01.",
        ),
        click.option("--seeds", metavar="N|a,b,…", help="How many seeds, or which."),
        click.option("--tasks", "only_tasks", type=_Names(), multiple=True, help="Only these tasks of the suite."),
        click.option(
            "--strategies",
            "only_arms",
            type=_Names(),
            multiple=True,
            help="Only these arms; a strategy the suite does not list joins with its defaults.",
        ),
    ):
        function = option(function)
    return function


def tracking_option(help: str = "Mirror trials to MLflow: SQLite under the home, or MLFLOW_TRACKING_URI.") -> Any:
    """`--tracking`, with what it is about."""
    choice = click.Choice(["mlflow", "none"])
    return click.option("--tracking", type=choice, default="mlflow", show_default=True, help=help)


def flat(groups: tuple[tuple[str, ...], ...]) -> list[str]:
    return [name for group in groups for name in group]


def parse_seeds(text: str | None) -> int | list[int] | None:
    """ "3" is the first three seeds, "0,7" those two."""
    from suite.planning.config import AA_SEEDS, MOST_SEEDS, out_of_range
    from tasks.errors import show

    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds: {show(text)}; expected a number of seeds or a list such as 0,1,2") from None
    if "," in text:
        if out_of_range(numbers):
            raise ValueError(f"--seeds: {show(text)}; expected seeds of 0 to {AA_SEEDS - 1:,}")
        return numbers
    if not 1 <= numbers[0] <= MOST_SEEDS:
        raise ValueError(f"--seeds: {show(text)}; expected at least one seed, at most {MOST_SEEDS:,}")
    return numbers[0]


def selected(
    suite_name: str,
    only_arms: tuple[tuple[str, ...], ...] = (),
    only_tasks: tuple[tuple[str, ...], ...] = (),
    settings: tuple[str, ...] = (),
    plugins: tuple[str, ...] = (),
    home: Path | None = None,
) -> tuple[Any, dict[str, Any], list[str], list[str], dict[str, str]]:
    """The suite with its overrides, task overrides, arms, tasks, and where plug-ins came from."""
    from strategies import registry
    from suite.planning import config, library, plan, sweep, tune

    if suite_name.startswith(library.TUNE):  # the suite's arms are what is chosen from, not each value of their grids
        name = suite_name.removeprefix(library.TUNE)
        suite, task_settings, arms, tasks, files = selected(name, only_arms, only_tasks, settings, plugins, home)
        tuning = tune.tuning_suite(suite)
        return tuning, task_settings, tune.arms_for(tuning, plan.choose_arms(suite, arms)), tasks, files
    sources: dict[str, str] = {}
    for file in plugins:
        for cls in registry.load_plugin(file):
            sources[cls.name] = str(Path(file).resolve())
    changes = config.overrides(settings)
    if suite_name.startswith(sweep.SWEEP) and home is not None:  # what comes next depends on the records there are
        suite = sweep.next_suite(sweep.load(suite_name.removeprefix(sweep.SWEEP)), home, changes)
    else:
        suite = library.load(suite_name)
    listed = [arm.name for arm in suite.strategies]
    arms = flat(only_arms)
    if sources and not arms:  # a plug-in on the command line is there to be compared
        used = {arm.strategy for arm in suite.strategies}  # an arm of the suite's own may be of it already
        arms = listed + [name for name in sources if name not in used]
    joining = [name for name in dict.fromkeys(arms) if name not in listed and name in registry.available()]
    more = [config.ArmEntry(strategy=name) for name in joining]  # so that --set can reach them
    suite = suite.model_copy(update={"strategies": [*suite.strategies, *more], "joined": [arm.name for arm in more]})
    suite, task_settings = config.apply_overrides(suite, changes)
    return suite, task_settings, arms or listed, flat(only_tasks), sources


def planned(suite_name: str, seeds: str | None = None, home: Path | None = None, **selection: Any) -> Any:
    """The plan that the selection options describe."""
    from suite.planning import plan

    suite, task_settings, arms, only_tasks, sources = selected(suite_name, home=home, **selection)
    chosen = suite.seeds_for(parse_seeds(seeds)) if seeds else []
    return plan.make_plan(suite, task_settings, arms, only_tasks, chosen, sources, home)


def resolve_home(home: str | None, write: bool = True) -> Path:
    return home_folder.resolve(home, write)


def print_json(value: Any) -> None:
    from suite.storage.files import plain

    click.echo(json.dumps(plain(value), indent=1, ensure_ascii=False))
