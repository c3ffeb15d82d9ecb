"""`equipoise compare`, `report`, `sync`: what the records say."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.text import counted
from suite.cli.advising import renewed
from suite.cli.options import home_option, json_option, print_json, resolve_home, tracking_option

if TYPE_CHECKING:
    from suite.planning.plan import Plan


def hardware_option(function: Any) -> Any:
    return click.option(
        "--hardware", help="The hardware label to report, where a suite has records from several kinds."
    )(function)


def manifest_of(home: Path, suite: str) -> dict[str, Any]:
    """The manifest that `run` or `submit` left for a suite, or for one named as those verbs name it (`claims:ID`)."""
    from results import records
    from suite.planning import library
    from suite.running.submitting import board_of
    from suite.words import nearest

    asked = suite
    if not (home / "suites" / f"{suite}.json").is_file():
        suite = board_of(suite)
    path = home / "suites" / f"{suite}.json"
    if not path.is_file():
        there = sorted(file.stem for file in (home / "suites").glob("*.json"))
        have = f"; there are {', '.join(there)}" if there else ""
        raise ValueError(
            f"suite: {suite!r} has not been run under {home}{nearest(suite, there)}{have}. "
            f"Start it with {library.how_to_run(asked, ran=False)}; on a cluster, `submit` in the place of `run`"
        )
    manifest = records.load_manifest(path)
    if asked != suite and library.load(asked).digest != manifest.get("protocol_digest"):
        click.echo(f"{asked}: has changed since it was run; what follows is of what ran", err=True)
    return manifest


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def newest_with(home: Path, arms: tuple[str, ...]) -> str:
    """The suite run last that has all these arms."""
    from results import records

    files = sorted((home / "suites").glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        if set(arms) <= {arm["arm"] for arm in records.load_manifest(file)["arms"]}:
            return file.stem
    raise ValueError(
        f"no suite run under {home} has all of {', '.join(arms)}; name one with --suite, or run one that has"
    )


@click.command()
@click.argument("arms", nargs=-1, required=True, metavar="A B…")
@click.option("--suite", help="The suite to read (default: the one run last that has all these arms).")
@hardware_option
@json_option
@home_option
def compare(arms: tuple[str, ...], suite: str | None, hardware: str | None, as_json: bool, home: str | None) -> None:
    """Compare strategies pair by pair: differences of held-out loss with intervals, tests, and a verdict in words.

    \b
      equipoise compare smebu sign_bias
    """
    from results import records
    from results.boards import compare as comparison

    if len(arms) < 2:
        raise ValueError("compare: expected at least two arms, such as `equipoise compare smebu sign_bias`")
    folder = resolve_home(home, write=False)
    manifest = manifest_of(folder, suite or newest_with(folder, arms))
    answer = comparison.compare(manifest, records.collect(manifest, folder / "trials"), list(arms), hardware=hardware)
    if as_json:
        print_json(answer)
    else:
        click.echo(comparison.to_text(answer))


@click.command()
@click.argument("suite")
@click.option("--out", metavar="DIR", help="Where to write (default: reports/SUITE under the home).")
@click.option(
    "--publish",
    metavar="DIR",
    help="Write the board to DIR/SUITE, its records to DIR/trials, and DIR's index: what `results/published` holds.",
)
@hardware_option
@click.option(
    "--machine",
    default="h100",
    show_default=True,
    metavar="NAME|FILE",
    help="What step times on many devices are simulated for: a100, h100, h800, or a .yaml file like theirs.",
)
@tracking_option("Also put the board into the suite's run in MLflow.")
@json_option
@home_option
def report(
    suite: str,
    out: str | None,
    publish: str | None,
    hardware: str | None,
    machine: str,
    tracking: str,
    as_json: bool,
    home: str | None,
) -> None:
    """Write SUITE's leaderboard: leaderboard.json, .md, .csv, and index.html, one page that needs no network.

    \b
      equipoise report quick
      equipoise report standard-cpu --publish results/published

    Publishing never replaces a board by a smaller one: a seed of an arm that is published must have a record in the
    home, be it of a trial that was made anew. To drop some on purpose, delete the board's folder first.
    """
    from results.pages.markdown import leaderboard_markdown
    from suite.planning.library import how_to_run
    from suite.running.publishing import folder_of_boards, refuse_to_change_trials, refuse_to_lose_trials

    if out and publish:
        raise ValueError("--out and --publish: expected one of them; --publish writes to DIR/SUITE")
    folder = resolve_home(home, write=not (out or publish))
    asked, manifest = suite, manifest_of(folder, suite)
    suite = manifest["suite"]
    ran = [arm["arm"] for arm in manifest["arms"]]
    baseline = manifest["baseline"]
    if baseline not in ran:
        raise ValueError(
            f"suite {suite}: its baseline {baseline!r} has not been run, only {', '.join(ran)}; "
            f"run it with {how_to_run(asked, f' --strategies {baseline}')}"
        )
    target = folder_of_boards(publish) / suite if publish else Path(out) if out else folder / "reports" / suite
    if publish:
        refuse_to_lose_trials(target, manifest, folder, hardware)
        refuse_to_change_trials(target, [trial["trial_key"] for trial in manifest["trials"]], folder)
    board = write_report(manifest, folder / "trials", target, hardware, machine)
    if publish:
        publish_records(manifest, folder, target)
    if tracking == "mlflow":
        send_board(board, folder, target)
    if as_json:
        print_json(board)
        return
    click.echo(leaderboard_markdown(board))
    click.echo(f"written: {target / 'index.html'}", err=True)


def publish_records(manifest: dict[str, Any], home: Path, target: Path) -> None:
    """The board's records and curves among those of its folder, and the index over all boards there.

    Loads step by step stay at home: they are most of a trial's size, and figures that need them are on the board. A
    tuned board brings the losses that its settings were chosen by.
    """
    from results.records.published import unpublished
    from suite.planning import tune
    from suite.running.publishing import publish_trials

    choice = tune.choice_behind(home, manifest["suite"])
    if choice is not None:
        shutil.copyfile(choice, target / "tuning.json")
    keys = [trial["trial_key"] for trial in manifest["trials"]]
    behind = unpublished(target, [key for key in keys if (home / "trials" / key / "record.json").exists()])
    publish_trials(target, keys, home)
    say_behind(behind)
    renewed(target.parent)


def say_behind(names: Iterable[str]) -> None:
    """Name what was published before some of its trials were."""
    for name in names:
        click.echo(f"{name}: rests on trials that are published only now; publish it anew", err=True)


def send_board(board: dict[str, Any], home: Path, target: Path) -> None:
    """The board into MLflow, where there is one; a server's trouble is a remark, not a failure."""
    import os

    from suite.running.tracking import Mirror, redacted

    if not (os.environ.get("MLFLOW_TRACKING_URI") or (home / "mlflow.db").exists()):
        return
    mirror = Mirror(home)
    try:
        mirror.log_board(board, target)
    except Exception as error:  # whatever the client raises means the same: not now
        said = f"{type(error).__name__}: {first_line(error)}"
        click.echo(f"MLflow at {redacted(mirror.uri)} has not received the board ({said})", err=True)


def write_report(
    manifest: dict[str, Any], trials: Path, target: Path, hardware: str | None, machine: str
) -> dict[str, Any]:
    """All forms of a board under `target`, from a folder of trials. Returns the board."""
    from results import records
    from results.boards import leaderboard
    from results.pages import html, markdown
    from results.statistics.machine import load
    from suite.storage.files import now, write_json

    simulated = load(machine)
    target.mkdir(parents=True, exist_ok=True)
    found = records.collect(manifest, trials)
    board = leaderboard.build(manifest, found, hardware=hardware, generated=now(), machine=simulated)
    write_json(target / "leaderboard.json", board)
    write_json(target / "manifest.json", manifest)
    (target / "leaderboard.md").write_text(markdown.leaderboard_markdown(board), encoding="utf-8")
    (target / "leaderboard.csv").write_text(markdown.leaderboard_csv(board), encoding="utf-8")
    html.write_report(board, manifest, trials, target)
    return board


@click.command()
@click.argument("suites", nargs=-1)
@home_option
def sync(suites: tuple[str, ...], home: str | None) -> None:
    """Send MLflow what it has not received: all suites under the home, or those named. Safe to repeat.

    \b
      equipoise sync quick
    """
    from suite.running.tracking import DAMAGED, Mirror, redacted
    from suite.storage.trial import TrialFolder

    folder = resolve_home(home)
    names = suites or tuple(sorted(file.stem for file in (folder / "suites").glob("*.json")))
    mirror = Mirror(folder)
    became: dict[str, str] = {}  # a trial that several suites have counts once
    for manifest in [manifest_of(folder, name) for name in names]:
        for trial in manifest["trials"]:
            key, title = trial["trial_key"], f"{trial['task']}/{trial['arm']}/{trial['seed']}"
            kept = TrialFolder(folder / "trials" / key)
            try:
                done = mirror.sync_trial(kept, manifest["suite"], title)
            except DAMAGED as error:
                said = f"{type(error).__name__}: {first_line(error)}"
                click.echo(f"equipoise: trial {key} ({title}) cannot be sent: {said}", err=True)
                became[key] = "damaged"
                continue
            except Exception as error:  # whatever the client raises means the same: not now
                click.echo(
                    f"equipoise: MLflow at {redacted(mirror.uri)}: {type(error).__name__}: {first_line(error)}",
                    err=True,
                )
                sys.exit(1)
            became[key] = "recorded" if done else "failed" if kept.failure.exists() else "not finished yet"
    counts = Counter(became.values())
    more = [f", {counts[word]} {word}" for word in ("failed", "damaged") if counts[word]]
    said = (
        f"{counted(counts['recorded'], 'trial')} recorded, {counts['not finished yet']} not finished yet{''.join(more)}"
    )
    click.echo(f"MLflow at {redacted(mirror.uri)}: {said}")
    if counts["damaged"]:
        sys.exit(1)


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--out", metavar="DIR", help="Also write claims.json and claims.md there.")
@click.option(
    "--publish",
    metavar="DIR",
    help="Write claims.json to DIR, what the verdicts rest on to DIR/trials, and renew DIR's pages; other claims than "
    "the IDs stay as they are published.",
)
@json_option
@home_option
def claims(ids: tuple[str, ...], out: str | None, publish: str | None, as_json: bool, home: str | None) -> None:
    """Verdicts on published claims, from the records there are. `equipoise run claims:ID` runs what one needs.

    \b
      equipoise list claims
      equipoise run claims:smebu-momentum-matters
      equipoise claims smebu-momentum-matters
      equipoise claims smebu-momentum-matters --publish results/published
    """
    from results import claims as ledger
    from results.pages import site
    from results.records.published import VERDICTS, decided, unpublished
    from suite.running.publishing import (
        folder_of_boards,
        publish_trials,
        refuse_to_change_trials,
        refuse_to_lose_verdicts,
    )
    from suite.storage.files import write_json

    folder = resolve_home(home, write=False)
    chosen = [ledger.get(name) for name in ids] if ids else ledger.load_all()
    verdicts = [verdict_on(claim, folder) for claim in chosen]
    keys = {key for verdict in verdicts if decided(verdict) for key in verdict["trial_keys"]}
    if publish:
        published = folder_of_boards(publish) / VERDICTS
        refuse_to_lose_verdicts(published, verdicts)
        whole = among_published(published, verdicts)
        refuse_to_change_trials(published, keys, folder, [verdict for verdict in whole if verdict not in verdicts])
    for place in filter(None, (out, publish)):
        Path(place).mkdir(parents=True, exist_ok=True)
        written = whole if place == publish else verdicts
        write_json(Path(place) / VERDICTS, written)
        (Path(place) / "claims.md").write_text(ledger.claims_markdown(written), encoding="utf-8")
    if publish:
        behind = unpublished(published, keys)
        publish_trials(published, keys, folder)
        say_behind(behind)
        site.write_index(published.parent)
    if as_json:
        print_json(verdicts)
    elif ids:
        click.echo(ledger.claims_markdown(verdicts))
    else:
        width = max(len(verdict["id"]) for verdict in verdicts)
        for verdict in verdicts:
            click.echo(f"{verdict['id']:<{width}}  {verdict['verdict']}: {verdict['statement']}")


def among_published(published: Path, verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These verdicts, and the published ones on all other claims, in the ledger's order."""
    from results import claims as ledger

    known = json.loads(published.read_text(encoding="utf-8")) if published.exists() else []
    by_id = {verdict["id"]: verdict for verdict in [*known, *verdicts]}
    return [by_id[claim.id] for claim in ledger.load_all() if claim.id in by_id]


def verdict_on(claim: Any, home: Path) -> dict[str, Any]:
    """One claim's verdict; its trials are found by key, whichever suite ran them."""
    from results import claims as ledger
    from results import records

    if claim.trials is None:
        return ledger.evaluate(claim)
    return ledger.evaluate(claim, records.collect(plan_of(claim, home).manifest, home / "trials"))


def plan_of(claim: Any, home: Path) -> Plan:
    """The trials that a testable claim rests on."""
    from suite.planning import library, plan

    return plan.make_plan(library.load(f"{library.CLAIM}{claim.id}"), home=home)
