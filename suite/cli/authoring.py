"""`equipoise check`, `new`: for people with a strategy of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from suite.cli.options import json_option, print_json


@click.command()
@click.argument("names", nargs=-1, metavar="NAME…")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="A Python file with strategies, checked too if no NAME is given; may be given more than once.",
)
@click.option("--all", "everything", is_flag=True, help="Check every strategy there is.")
@click.option(
    "--simulate",
    is_flag=True,
    help="Also run each on the router bench: no training, a frozen router, thousands of steps.",
)
@click.option("--experts", default=32, show_default=True, type=click.IntRange(2), help="Experts on the router bench.")
@click.option("--steps", default=1000, show_default=True, type=click.IntRange(1), help="Steps on the router bench.")
@click.option("--verbose", is_flag=True, help="Print every rule in words, also where none is broken.")
@json_option
def check(
    names: tuple[str, ...],
    plugins: tuple[str, ...],
    everything: bool,
    simulate: bool,
    experts: int,
    steps: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Hold strategies to the conformance rules: a line for each strategy, and the rules in words for one that breaks
    any. Exit code 1 if one does.

    \b
      equipoise check smebu sign_bias
      equipoise check --plugin my_rule.py --verbose
      equipoise check smebu --simulate --experts 256
    """
    from strategies import conformance, registry

    files = {cls: Path(file) for file in plugins for cls in registry.load_plugin(file)}
    loaded = list(files)
    chosen = [registry.get(name) for name in names] or loaded
    if everything:
        chosen = list(registry.available().values())
    if not chosen:
        raise ValueError(
            "check: expected a strategy's name, --plugin FILE or --all; `equipoise list strategies` shows the names"
        )
    failed = False
    answers: list[dict[str, Any]] = []
    for cls in chosen:
        outcomes = conformance.check(cls)
        broken = [outcome for outcome in outcomes if outcome.status == "failed"]
        failed = failed or bool(broken)
        answer: dict[str, Any] = {
            "strategy": cls.name,
            "passed": not broken,
            "rules": [
                {
                    "id": o.rule.id,
                    "number": o.rule.number,
                    "rule": o.rule.text,
                    "status": o.status,
                    "message": o.message,
                    "where": o.where,
                }
                for o in outcomes
            ],
        }
        if cls in files:
            answer["submission"] = _unfit(cls, files[cls])
        if simulate:
            answer["simulation"] = simulated(cls, experts, steps)
        answers.append(answer)
        if not as_json:
            show(answer, verbose)
    if as_json:
        print_json(answers)
    sys.exit(1 if failed else 0)


MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "waived": ("–", "yellow"), "unchecked": ("–", "yellow")}


def show(answer: dict[str, Any], verbose: bool) -> None:
    """One strategy in a line; a line for each rule below it if wanted, or if one is broken.

    Those that are not checked for the same reason share one.
    """
    counts = {status: sum(rule["status"] == status for rule in answer["rules"]) for status in MARKS}
    mark, colour = MARKS["passed" if answer["passed"] else "failed"]
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    click.echo(f"{click.style(mark, fg=colour)} {click.style(answer['strategy'], bold=True)}: {said}")
    first: dict[tuple[str, str | None], int] = {}  # a failure → the first rule that met it
    unchecked: dict[str, list[str]] = {}  # why → numbers of the rules
    for rule in answer["rules"] if verbose or not answer["passed"] else ():
        if rule["status"] == "unchecked":
            unchecked.setdefault(rule["message"], []).append(str(rule["number"]))
            continue
        mark, colour = MARKS[rule["status"]]
        click.echo(f"  {click.style(mark, fg=colour)} {rule['number']:2d} {rule['rule']}")
        met = first.setdefault((rule["message"], rule["where"]), rule["number"])
        if rule["message"]:
            where = f"  ({rule['where']})" if rule["where"] else ""
            same = rule["status"] == "failed" and met != rule["number"]
            click.echo(f"       {rule['status']}: {f'as in {met}' if same else rule['message'] + where}")
    for why, numbers in unchecked.items():
        click.echo(f"  {click.style('–', fg='yellow')} not checked, {why}: {', '.join(numbers)}")
    if answer.get("submission"):
        click.echo(f"  its results can't be handed in (docs/submissions.md): {answer['submission']}")
    for drift, result in answer.get("simulation", {}).items():
        click.echo(
            f"  router bench, {drift}: "
            + ", ".join(f"{key} {value:.3g}" for key, value in result.items() if isinstance(value, int | float))
        )


def _unfit(cls: Any, file: Path) -> str | None:
    """Why a submission of a plug-in's results would be refused; None if neither its title nor its text is a reason."""
    from results.submissions.safe import text_problem
    from strategies.registry.source_text import text_digest

    problem = text_problem(cls.title)
    if problem:
        return f"title: {problem}"
    try:
        text_digest(cls.name, file.read_text(encoding="utf-8"))  # who checks a submission reads it, and imports nothing
    except ValueError as error:
        return str(error)
    return None


def simulated(cls: Any, experts: int, steps: int) -> dict[str, Any]:
    """The router bench for one strategy, static and drifting."""
    from strategies.bench import run

    return {
        drift: run(cls, None, experts=experts, top_k=2, tokens=2048, steps=steps, drift=drift, seed=0).row()
        for drift in ("static", "drifting")
    }


@click.group()
def new() -> None:
    """Start something of your own.

    \b
      equipoise new strategy half_life
    """


@new.command("strategy")
@click.argument("name")
@click.option("--folder", default=".", show_default=True, metavar="DIR", help="Where to write the file and its test.")
def new_strategy(name: str, folder: str) -> None:
    """Write NAME.py, a working bias rule to edit, and its test. It passes `equipoise check` as it is."""
    from strategies import registry
    from strategies.registry.new import write_strategy

    files = write_strategy(name, folder, registry.available())
    for file in files:
        click.echo(f"written: {file}")
    click.echo(
        f"next: equipoise check --plugin {files[0]}\n"
        f"      equipoise run quick --plugin {files[0]} --strategies aux_loss,sign_bias,{name} --seeds 6\n"
        f"      equipoise compare {name} sign_bias"
    )
