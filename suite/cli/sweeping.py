"""`equipoise sweep`: how recipes are found."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from suite.cli.options import home_option, json_option, print_json, resolve_home


@click.command()
@click.argument("name")
@click.option("--seeds", type=click.IntRange(1), help="How many of the sweep's own seeds (default: the sweep's).")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value: device=cuda, rung.steps=50."
)
@click.option("--jobs", type=click.IntRange(1), help="Trials at a time.")
@click.option("--tracking", type=click.Choice(["mlflow", "none"]), default="mlflow", show_default=True)
@click.option("--publish", metavar="DIR", help="Also write the tables to DIR/sweeps: what `results/published` holds.")
@json_option
@home_option
def sweep(
    name: str,
    seeds: int | None,
    settings: tuple[str, ...],
    jobs: int | None,
    tracking: str,
    publish: str | None,
    as_json: bool,
    home: str | None,
) -> None:
    """Choose a training recipe: value after value of sweep NAME, by the lowest loss of controls alone.

    \b
      equipoise plan sweep:text-bench-muon     what its next value's trials would cost
      equipoise sweep text-bench-muon          run what is missing, then choose; again: goes on where it stopped
      equipoise submit sweep:text-bench-muon --profile P     its next value's trials, on a cluster

    The tables go to sweeps/NAME.json and NAME.md under the home. Nothing is written into tasks/recipes.yaml.
    """
    from suite.cli.running import execute
    from suite.planning import config
    from suite.planning import sweep as sweeps
    from suite.storage.files import now, write_json

    folder = resolve_home(home)
    chosen = sweeps.load(name)
    if seeds is not None:
        chosen = chosen.model_copy(update={"seeds": seeds})
    changes = config.overrides(settings)
    walked: list[sweeps.Stage] = []
    for stage in sweeps.stages(chosen, folder, changes):
        if stage.table is None:
            click.echo(f"{chosen.sweep}: {stage.coordinate.title}", err=True)
            outcome = execute(stage.plan, folder, jobs, tracking)
            if outcome.failed or outcome.interrupted:
                click.echo(f"`equipoise sweep {name}` again goes on from here", err=True)
                sys.exit(1)
        walked.append(sweeps.read(stage, folder))
        said = sweeps.result(chosen, walked, changes, now())
        text = sweeps.as_markdown(said)
        for place in [folder / "sweeps", *([Path(publish) / "sweeps"] if publish else [])]:
            place.mkdir(parents=True, exist_ok=True)
            write_json(place / f"{chosen.sweep}.json", said)
            (place / f"{chosen.sweep}.md").write_text(text, encoding="utf-8")
    if as_json:
        print_json(said)
    else:
        click.echo(text)
