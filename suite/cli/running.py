"""`equipoise prepare`, `plan`, `run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from results.text import counted
from suite.cli.cluster import hand_over, load_profile, override_option, plans_for, profile_option
from suite.cli.options import (
    home_option,
    json_option,
    planned,
    print_json,
    resolve_home,
    selection_options,
    tracking_option,
)

MIRROR_PATIENCE = 60.0  # seconds to let MLflow catch up once the trials are done


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="TASK…")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value: corpus.megabytes=3.")
@home_option
def prepare(names: tuple[str, ...], settings: tuple[str, ...], home: str | None) -> None:
    """Fetch, verify and tokenise the corpora of tasks, ahead of time (on a cluster: on the login node).

    \b
      equipoise prepare text-bench
      equipoise prepare text-micro text-sparse-micro
    """
    import tasks
    from suite.planning.config import overrides

    chosen = [tasks.load(name, overrides(settings)) for name in names]
    cache = resolve_home(home) / "cache"
    for task in chosen:
        tasks.prepare(task, cache, lambda text: click.echo(text, err=True))
        click.echo(f"{task.name}: ready")


@click.command()
@click.argument("suite")
@selection_options
@profile_option(required=False, help="Also the jobs that `submit` would make with this profile of a cluster.")
@override_option
@json_option
@home_option
def plan(
    suite: str,
    profile_name: str | None,
    profile_settings: tuple[str, ...],
    as_json: bool,
    home: str | None,
    **selection: Any,
) -> None:
    """The trials of SUITE, what is there already, and what the rest would cost. Starts nothing.

    `claims` lists every claim in the order in which `run claims` trains them: next comes the one that adds least to
    those before it, and what it says is left is what it adds. With a profile it says how many jobs there would be, how
    long they run and what they hold; no cluster is asked, so trials that are queued count as left.

    \b
      equipoise plan quick
      equipoise plan standard --tasks fineweb-small --seeds 6
      equipoise plan quick --profile my-cluster.yaml
    """
    from suite.planning import estimate, jobs

    folder = resolve_home(home)
    if profile_settings and profile_name is None:
        raise ValueError(f"--profile-set: {profile_settings[0]}; expected --profile as well")
    profile = load_profile(profile_name, profile_settings) if profile_name else None
    summaries: list[dict[str, Any]] = []
    before: set[str] = set()  # trials of plans before: one that several need counts once
    for made in ordered_plans(suite, folder, selection, profile):
        summaries.append(estimate.summarise(made, folder, before))
        if profile is not None:
            arrays = hand_over(folder, made, profile, but=before, dry_run=True)
            summaries[-1]["jobs"] = jobs.priced(made, folder, arrays)
        before |= {trial.key for trial in made.trials}
    if as_json:
        print_json(summaries[0] if len(summaries) == 1 else summaries)
        return
    click.echo(estimate.as_text(summaries[0]) if len(summaries) == 1 else estimate.table(summaries))
    if profile is not None:
        lines = jobs.as_text(profile.name, [array for summary in summaries for array in summary["jobs"]])
        click.echo("\n".join(lines))


@click.command()
@click.argument("suite")
@selection_options
@click.option(
    "--jobs", type=click.IntRange(1), help="Trials at a time (default: CPU cores / threads of a trial; 1 on a GPU)."
)
@tracking_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per trial that has a record.")
@home_option
def run(suite: str, jobs: int | None, tracking: str, as_json: bool, home: str | None, **selection: Any) -> None:
    """Train the trials of SUITE here. Finished trials are reused, interrupted ones resume.

    \b
      equipoise run quick
      equipoise run quick --strategies smebu,sign_bias --seeds 6 --set smebu.rate=0.005
      equipoise run quick --plugin my_rule.py

    SUITE is a shipped name, a .yaml file, `claims:ID`, the trials that a claim rests on (`claims`: every claim's, the
    cheapest first), or `tune:SUITE`, those that tune a suite's arms: `equipoise tune SUITE` runs them here and then
    chooses.
    """
    folder = resolve_home(home)
    failed = False
    plans = ordered_plans(suite, folder, selection)
    for made in plans:
        if len(plans) > 1:
            click.echo(f"{made.suite.suite}: {made.suite.title}", err=True)
        outcome = execute(made, folder, jobs, tracking)
        if as_json:
            print_finished(made, folder)
        if outcome.interrupted:
            click.echo(f"interrupted; `equipoise run {suite}` again goes on from the checkpoints", err=True)
            sys.exit(1)
        failed |= bool(outcome.failed)
    if failed:
        sys.exit(1)


def ordered_plans(suite: str, folder: Path, selection: dict[str, Any], profile: Any = None) -> list[Any]:
    """What a name stands for, planned for here or for a profile's jobs; several plans cheapest first."""
    from suite.planning import estimate, library

    if profile is None:
        plans = [planned(name, home=folder, **selection) for name in library.expand(suite)]
    else:
        plans = plans_for(profile, suite, selection, folder)
    return estimate.cheapest_first(plans, folder) if len(plans) > 1 else plans


def execute(made: Any, folder: Path, jobs: int | None, tracking: str) -> Any:
    """Prepare corpora, run what has no record, mirror it. Returns the runner's outcome."""
    import tasks
    from suite.running import progress
    from suite.running.runner import Runner
    from suite.running.tracking import BackgroundMirror, redacted

    cache = folder / "cache"
    for task in {trial.cell.digest: trial.cell.task for trial in made.trials}.values():
        tasks.prepare(task, cache, lambda text: click.echo(text, err=True))
    made.write_manifest(folder, lambda text: click.echo(text, err=True))
    mirror = None
    if tracking == "mlflow":
        names = {trial.key: (made.manifest["suite"], f"{trial.task}/{trial.arm}/{trial.seed}") for trial in made.trials}
        mirror = BackgroundMirror(folder, None, names)
    with progress.for_terminal(made) as display:
        outcome = Runner(made, folder, jobs or default_jobs(made), display.watch).run()
    click.echo(summary_line(outcome), err=True)
    for key, why in outcome.failed.items():
        click.echo(f"  failed: {progress.label(made, key)}: {why}", err=True)
    if mirror is not None:
        left = mirror.close(MIRROR_PATIENCE)
        where = redacted(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}")
        if left - len(outcome.failed) > 0 and not outcome.interrupted:
            click.echo(
                f"MLflow at {where} has not received {counted(left, 'trial')} ({mirror.error or 'slow'}); "
                "nothing is lost: `equipoise sync` completes it",
                err=True,
            )
    return outcome


def summary_line(outcome: Any) -> str:
    parts = [f"{counted(len(outcome.finished), 'trial')} finished", f"{len(outcome.reused)} reused"]
    rare = {"diverged": outcome.diverged, "failed": outcome.failed}
    return ", ".join(parts + [f"{len(keys)} {word}" for word, keys in rare.items() if keys])


def default_jobs(made: Any) -> int:
    """As many trials as there are cores for; on a GPU one."""
    if made.trials and made.trials[0].cell.config["device"] == "cuda":
        return 1
    return max(1, len(os.sched_getaffinity(0)) // made.suite.threads)


def print_finished(made: Any, folder: Path) -> None:
    """One JSON object a line for each trial with a record."""
    import json

    from suite.storage.files import read_json

    for trial in made.trials:
        trial_folder = made.folder(folder, trial)
        if trial_folder.done:
            done = read_json(trial_folder.record)
            measures = done["measures"]
            row = {
                "trial_key": trial.key,
                "strategy": done["config"]["strategy"]["name"],
                "arm": trial.arm,
                "task": trial.task,
                "seed": trial.seed,
                "status": done["status"],
                "val_loss": measures["val_loss"],
                "bits_per_byte": measures["bits_per_byte"],
                "max_vio_global": measures["max_vio_global"]["mean"],
                "max_vio_batch": measures["max_vio_batch"]["tail_mean"],
                "tokens_per_second": done["timing"]["tokens_per_second"],
                "folder": str(trial_folder.path),
            }
            click.echo(json.dumps(row))


@click.command()
@click.argument("suite")
@selection_options
@click.option("--jobs", type=click.IntRange(1), help="Trials at a time.")
@tracking_option()
@json_option
@home_option
def tune(suite: str, jobs: int | None, tracking: str, as_json: bool, home: str | None, **selection: Any) -> None:
    """Tune every strategy of SUITE over its one knob: equal grids, seeds of its own.

    \b
      equipoise tune standard-cpu
      equipoise run standard-cpu --set track=tuned        the value with the lowest loss
      equipoise run standard-cpu --set track=balanced     of those whose MaxVio stays under 1
    """
    from suite.cli.options import parse_seeds, selected
    from suite.planning import plan as planning
    from suite.planning import tune as tuning

    folder = resolve_home(home)
    chosen, task_settings, arms, only_tasks, sources = selected(
        suite, **{k: v for k, v in selection.items() if k != "seeds"}
    )
    if selection["seeds"]:
        count = parse_seeds(selection["seeds"])
        if not isinstance(count, int):
            raise ValueError(f"--seeds: {selection['seeds']}; expected a number: tuning has seeds of its own")
        if count != chosen.tune_seeds:
            click.echo(
                f"--seeds: {count}; a board of suite {chosen.suite} that is tuned with other than its "
                f"{chosen.tune_seeds} tune_seeds cannot be handed in",
                err=True,
            )
        chosen = chosen.model_copy(update={"tune_seeds": count})
    whole = tuning.tuning_suite(chosen)
    part = tuning.arms_for(whole, planning.choose_arms(chosen, arms))
    made = planning.make_plan(whole, task_settings, part, only_tasks, (), sources, folder)
    outcome = execute(made, folder, jobs, tracking)
    if outcome.failed or outcome.interrupted:
        sys.exit(1)
    result = tuning.choose(chosen, made.trials, folder)
    if as_json:
        print_json(result)
    else:
        click.echo(tuning.as_text(result))


@click.command()
@click.argument("row")
@click.option(
    "--boards",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Published boards (default: results/published of the source tree).",
)
@click.option("--seed", type=int, help="Which of the row's seeds (default: its first).")
@json_option
@home_option
def reproduce(row: str, boards: str | None, seed: int | None, as_json: bool, home: str | None) -> None:
    """Run a published row again, ROW being BOARD/ARM/TASK: identical, within the row's interval, or different.

    \b
      equipoise reproduce main-cpu/smebu/text-bench
    """
    import tasks
    from results.records.published import trials_of
    from suite.running import reproduce as again
    from suite.running.attempt import run_trial
    from suite.storage.files import read_json

    board, found = again.find_row(row, Path(boards) if boards else again.published_folder())
    seeds = {entry["seed"]: entry["trial_key"] for entry in found["seeds"]}
    wanted = next(iter(seeds)) if seed is None else seed
    if wanted not in seeds:
        raise ValueError(f"--seed: {seed} is not among the row's seeds {sorted(seeds)}")
    published = read_json(trials_of(board) / seeds[wanted] / "record.json")
    folder = resolve_home(home)
    trial = again.prepare(published, folder)
    click.echo(f"{row}, seed {wanted}: training it again", err=True)
    tasks.prepare(tasks.recorded(published["task"]), folder / "cache", lambda text: click.echo(text, err=True))

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and sys.stderr.isatty():
            click.echo(f"\r  step {event['step']}/{event['steps']}  ", nl=False, err=True)

    run_trial(trial.path, folder / "cache", watch)
    answer = {"row": row, **again.judge(published, read_json(trial.record), found)}
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{answer['verdict']}: held-out loss {answer['loss']} now, {answer['published_loss']} published")
        for line in answer["differs"]:
            click.echo(f"  differs: {line}")
    sys.exit(0 if answer["verdict"] != "different" else 1)
