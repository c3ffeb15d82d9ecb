"""`equipoise submit`, `status`, `cancel`, `resubmit`: a suite's trials on a SLURM cluster."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from results.text import counted
from suite.cli.options import (
    home_option,
    json_option,
    planned,
    print_json,
    resolve_home,
    selected,
    selection_options,
)
from suite.cli.reporting import manifest_of
from suite.storage.files import write_atomically

ENTRY = "suite.running.job:run"


def profile_option(
    required: bool = True, help: str = "A shipped profile's name, or a .yaml file: docs/cluster.md explains every key."
) -> Any:
    return click.option("--profile", "profile_name", required=required, metavar="P", help=help)


def override_option(function: Any) -> Any:
    return click.option(
        "--profile-set",
        "profile_settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a value of the profile: partition=gpu, time=120, extra.constraint=a100.",
    )(function)


def load_profile(name: str, settings: tuple[str, ...]) -> Any:
    from slurm import profiles
    from suite.planning.config import overrides

    changes: dict[str, Any] = {}
    for key, value in overrides(settings, "--profile-set", "partition=gpu or extra.constraint=a100").items():
        for part in reversed(key.split(".")):  # extra.constraint: a key of a key
            value = {part: value}
        changes = profiles.merged(changes, value)
    return profiles.load(name, changes)


def unmatched(profile: Any, suites: list[Any]) -> list[str]:
    """Patterns of a profile that none of these suites has a task or strategy for: mistyped, or meant for others."""
    names = {
        "per_task": {entry.task for suite in suites for entry in suite.tasks},
        "per_strategy": {arm.strategy for suite in suites for arm in suite.strategies},
    }
    return [
        f"{key}.{pattern}"
        for key, known in names.items()
        for pattern in getattr(profile, key)
        if not any(fnmatchcase(name, pattern) for name in known)
    ]


def device_of(profile: Any, name: str, selection: dict[str, Any], home: Path) -> str:
    """The suite's device; "auto" is what the jobs ask for, whatever the machine that submits them has."""
    choice = {key: selection[key] for key in selection if key != "seeds"}
    suite, _, arms, only_tasks, _ = selected(name, **choice, home=home)
    if suite.device != "auto":
        return str(suite.device)
    chosen = [arm.strategy for arm in suite.strategies if arm.name in arms]
    tasks = [entry.task for entry in suite.tasks if not only_tasks or entry.task in only_tasks]
    devices = {"cuda" if profile.resources_for(task, arm).gpus else "cpu" for task in tasks for arm in chosen}
    if len(devices) > 1:
        raise ValueError(
            "device: auto, but the profile asks for GPUs for some of the trials only; "
            "choose with --set device=cpu or --set device=cuda"
        )
    return devices.pop() if devices else "auto"


def payload(home: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """What every job is told; no secrets, these travel by environment."""
    names = {trial["trial_key"]: f"{trial['task']}/{trial['arm']}/{trial['seed']}" for trial in manifest["trials"]}
    return {"home": str(home), "suite": manifest["suite"], "names": names}


def jobs_of(home: Path, manifest: dict[str, Any]) -> list[Any]:
    """The manifest's trials as the cluster's floor knows them."""
    from slurm.trials import TrialJob, finished

    strategies = {arm["arm"]: arm["strategy"] for arm in manifest["arms"]}
    jobs = {}
    for trial in manifest["trials"]:
        folder = home / "trials" / trial["trial_key"]
        jobs[trial["trial_key"]] = TrialJob(
            trial["trial_key"], folder, trial["task"], strategies[trial["arm"]], finished(folder)
        )
    return list(jobs.values())


def plans_for(profile: Any, suite: str, selection: dict[str, Any], home: Path) -> list[Any]:
    """What a name stands for, planned for the profile's jobs; its patterns that match nothing of it are named."""
    from suite.planning.library import expand

    plans = []
    for name in expand(suite):
        device = (f"device={device_of(profile, name, selection, home)}",)
        plans.append(planned(name, home=home, **selection | {"settings": selection["settings"] + device}))
    for pattern in unmatched(profile, [made.suite for made in plans]):
        click.echo(f"profile {profile.name}: {pattern} matches nothing of {suite}", err=True)
    return plans


def hand_over(home: Path, made: Any, profile: Any, but: Container[str] = (), dry_run: bool = False) -> list[Any]:
    """Submit a plan's trials, or describe the jobs they would be in; `but` are keys of trials to leave out."""
    from slurm import logs_of
    from slurm.submit import submit as to_slurm

    jobs = [job for job in jobs_of(home, made.manifest) if job.key not in but]
    told = payload(home, made.manifest)
    return to_slurm(jobs, ENTRY, told, profile, logs_of(home), dry_run=dry_run, owner=made.manifest["suite"])


@click.command()
@click.argument("suite")
@profile_option()
@override_option
@selection_options
@click.option("--dry-run", is_flag=True, help="Show the batch scripts; submit nothing.")
@json_option
@home_option
def submit(
    suite: str,
    profile_name: str,
    profile_settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    home: str | None,
    **selection: Any,
) -> None:
    """Send SUITE's trials to SLURM and return at once. Again: only what is missing is submitted.

    \b
      equipoise prepare mix-nano                        # on the login node, once
      equipoise submit quick --profile my-cluster.yaml --dry-run
      equipoise submit quick --profile my-cluster.yaml
      equipoise status quick --watch
    """
    import tasks

    profile = load_profile(profile_name, profile_settings)
    folder = resolve_home(home)
    submissions: list[Any] = []
    boards: list[str] = []
    for made in plans_for(profile, suite, selection, folder):
        if dry_run:
            submissions += hand_over(folder, made, profile, dry_run=True)
            continue
        for task in {trial.cell.digest: trial.cell.task for trial in made.trials}.values():
            tasks.prepare(task, folder / "cache", lambda text: click.echo(text, err=True))
        with manifest_unless_refused(folder, made):
            for trial in {trial.key: trial for trial in made.trials}.values():
                made.write_trial(folder, trial)
            sent = hand_over(folder, made, profile)
        submissions += sent
        boards += [made.manifest["suite"]] if sent else []
    show_submissions(boards, submissions, as_json, home=home, dry_run=dry_run)


@contextmanager
def manifest_unless_refused(home: Path, made: Any) -> Iterator[None]:
    """Write the suite's manifest; where the cluster then takes nothing, put back what was there: its board stays."""
    from slurm import logs_of
    from slurm.ledger import Ledger

    def taken() -> set[str]:
        return {place.array.token for place in Ledger(logs_of(home)).all_places(made.manifest["suite"])}

    path, there = made.manifest_path(home), taken()
    before = path.read_bytes() if path.exists() else None
    made.write_manifest(home, lambda text: click.echo(text, err=True))
    written = path.read_bytes()
    try:
        yield
    except ValueError:
        with made.alone_with_manifest(home):
            if taken() <= there and path.read_bytes() == written:  # no other submission has joined it since
                path.unlink() if before is None else write_atomically(path, before)
        raise


def show_submissions(
    boards: list[str],
    submissions: list[Any],
    as_json: bool,
    *,
    home: str | None,
    dry_run: bool = False,
    nothing: str = "nothing to submit: every trial is done, queued or running",
) -> None:
    """What was submitted, or `nothing`, and how to follow it; `boards` are the suites it belongs to."""
    if as_json:
        print_json(
            [
                {"job_id": s.job_id, "jobs": len(s.elements), "trial_keys": s.keys, "script": s.script}
                for s in submissions
            ]
        )
        return
    if not submissions:
        click.echo(nothing)
    for submission in submissions:
        if dry_run:
            click.echo(submission.script)
        else:
            click.echo(f"job {submission.job_id}: {sizes(submission)}")
    for board in [] if dry_run else boards:
        there = f" --home {shlex.quote(home)}" if home else ""
        click.echo(f"follow them with `equipoise status {board} --watch{there}`", err=True)


def sizes(submission: Any) -> str:
    return f"{counted(len(submission.elements), 'job')}, {counted(len(submission.keys), 'trial')}"


@click.command()
@click.argument("suite")
@click.option("--watch", is_flag=True, help="Refresh until every trial has ended.")
@click.option("--every", default=5.0, show_default=True, type=click.FloatRange(0.2), help="Seconds between refreshes.")
@json_option
@home_option
def status(suite: str, watch: bool, every: float, as_json: bool, home: str | None) -> None:
    """Every trial of SUITE: queued, running (step, loss, time left), done, failed (why), preempted.

    \b
      equipoise status quick --watch
    """
    from slurm import logs_of, nodes
    from slurm.status import status as ask

    folder = resolve_home(home, write=False)
    manifest = manifest_of(folder, suite)
    jobs, owner = jobs_of(folder, manifest), manifest["suite"]
    labels = {t["trial_key"]: f"{t['task']} · {t['arm']} · {t['seed']}" for t in manifest["trials"]}
    if as_json:
        print_json([asdict(one) | {"log": str(one.log) if one.log else None} for one in ask(jobs, folder, owner)])
        return
    if not watch:
        click.echo(render(ask(jobs, folder, owner), labels, nodes.broken(logs_of(folder))))
        return
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=4) as live:
        while True:
            seen = ask(jobs, folder, owner)
            live.update(Text(render(seen, labels, nodes.broken(logs_of(folder)))))
            if all(
                one.state in ("done", "failed", "cancelled", "vanished", "unsubmitted", "preempted") for one in seen
            ):
                return
            time.sleep(every)


def render(seen: list[Any], labels: dict[str, str], broken: Mapping[str, str]) -> str:
    """Counts, broken nodes, then every trial that is not simply done; one without a label goes by its key."""
    from suite.words import duration

    counts = Counter(one.state for one in seen)
    lines = [", ".join(f"{number} {state}" for state, number in sorted(counts.items()))]
    lines += [f"{node} fails what it is given, other jobs leave it: {error}" for node, error in broken.items()]
    width = max((len(labels.get(one.key, one.key)) for one in seen), default=0)
    for one in seen:
        if one.state in ("done", "unsubmitted"):
            continue
        parts = [f"{labels.get(one.key, one.key):<{width}}  {one.state:<9}"]
        if one.job_id:
            parts.append(f"job {one.job_id}" + (f" on {one.nodes}" if one.nodes else ""))
        if one.step is not None and one.steps:
            parts.append(f"step {one.step}/{one.steps}" + (f", loss {one.loss:.3f}" if one.loss is not None else ""))
        if one.eta_seconds is not None:
            parts.append(f"{duration(one.eta_seconds)} left")
        if one.why:
            parts.append(one.why)
        lines.append("  ".join(parts))
        lines += [f"    | {line}" for line in one.log_tail]
    return "\n".join(lines)


@click.command()
@click.argument("suite")
@home_option
def cancel(suite: str, home: str | None) -> None:
    """Cancel SUITE's jobs, those of an earlier plan of it too. What runs writes a checkpoint first.

    `submit` again brings them back.

    \b
      equipoise cancel quick
    """
    from slurm import logs_of
    from slurm.submit import cancel as call_off

    folder = resolve_home(home)
    manifest = manifest_of(folder, suite)
    ended = call_off(jobs_of(folder, manifest), logs_of(folder), manifest["suite"])
    click.echo(f"cancelled {counted(len(ended), 'job')}" + (f": {', '.join(ended)}" if ended else ""))


@click.command()
@click.argument("suite")
@click.option(
    "--failed",
    is_flag=True,
    help="Those that failed, vanished or were preempted for good (without it: cancelled ones too).",
)
@profile_option()
@override_option
@json_option
@home_option
def resubmit(
    suite: str, failed: bool, profile_name: str, profile_settings: tuple[str, ...], as_json: bool, home: str | None
) -> None:
    """Submit SUITE's ended but unfinished trials again; they go on from their checkpoints.

    \b
      equipoise resubmit quick --failed --profile my-cluster.yaml
    """
    from slurm import logs_of
    from slurm.status import status as ask
    from slurm.submit import resubmit as again

    folder = resolve_home(home)
    manifest = manifest_of(folder, suite)
    jobs = jobs_of(folder, manifest)
    submissions = again(
        jobs,
        ENTRY,
        payload(folder, manifest),
        load_profile(profile_name, profile_settings),
        logs_of(folder),
        failed=failed,
        owner=manifest["suite"],
    )
    called_off = sum(one.state == "cancelled" for one in ask(jobs, folder)) if failed and not submissions else 0
    nothing = "nothing failed, vanished or was preempted for good" if failed else "nothing ended without being done"
    more = f"; {called_off} cancelled: they come back without --failed" if called_off else ""
    boards = [manifest["suite"]] if submissions else []
    show_submissions(boards, submissions, as_json, home=home, nothing=nothing + more)
