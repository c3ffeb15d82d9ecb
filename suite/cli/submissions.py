"""`equipoise pack`, `verify`, `merge`: results that leave home, and results from strangers."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from results.records import ranked_arms
from results.text import counted
from suite.cli.options import home_option, json_option, parse_seeds, print_json, resolve_home
from suite.words import quantity

suite_option = click.option(
    "--suite", "suites", multiple=True, metavar="FILE", help="A suite's file, where it does not come with Equipoise."
)


@click.command()
@click.argument("suite")
@click.option("--by", required=True, help="Who submits, as the board will show it.")
@click.option("--out", metavar="FILE", help="The archive (default: SUITE.tar.gz here).")
@click.option("--seeds", metavar="N", help="Only the first N seeds: a board that was cut short.")
@click.option("--tasks", metavar="name,…", help="Only these tasks.")
@click.option(
    "--strategies", metavar="name,…", help="Only these arms; the baseline, and its second run, always come along."
)
@suite_option
@home_option
def pack(
    suite: str,
    by: str,
    out: str | None,
    seeds: str | None,
    tasks: str | None,
    strategies: str | None,
    suites: tuple[str, ...],
    home: str | None,
) -> None:
    """Pack what was run of SUITE into one archive that others can check, and check it.

    \b
      equipoise pack quick --by "Ada Lovelace"
      equipoise pack standard-cpu --by "Ada Lovelace" --seeds 6 --strategies my_rule

    Beside it FILE.sha256 holds its digest, as `sha256sum --check` reads it. A board's release is its archive: whole
    records, where published ones are thinned; equal trials give equal bytes.

    The archive holds records, curves, counts and the texts of plug-ins, and nothing of this machine but what its
    numbers depend on: kind of hardware, versions, revision.
    """
    from results.submissions import packing
    from suite.running import submitting
    from tasks import archives

    folder = resolve_home(home, write=False)
    manifest = submitting.manifest_to_pack(folder, suite, parse_seeds(seeds), _names(strategies), _names(tasks))
    target = Path(out or f"{manifest['suite']}.tar.gz")
    tuning, choice = submitting.tuning_behind(folder, manifest)
    parts = [manifest, *tuning]
    unchecked = target.with_name(f".{target.name}.unchecked")  # what is refused takes no earlier archive's place
    try:
        head = packing.pack(
            unchecked,
            parts,
            folder / "trials",
            by=by,
            version=metadata.version("equipoise"),
            plugins=submitting.plugin_texts(folder, parts),
            choice=choice,
        )
        report = submitting.check(unchecked, (*suites, *([suite] if suite.endswith((".yaml", ".yml")) else [])))
        _say(target, report)
        if report.violations:
            click.echo(f"{target}: not fit to be handed in, and not written", err=True)
            sys.exit(1)
        unchecked.replace(target)
    finally:
        unchecked.unlink(missing_ok=True)
    count = sum(name.endswith("/record.json") for name in head["files"])
    digest = archives.digest(target)
    target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n", encoding="utf-8")
    click.echo(
        f"{target}: {counted(count, 'trial')}, {quantity(target.stat().st_size, 'B')}, SHA-256 {digest}", err=True
    )


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="ARCHIVE|BOARDS…")
@click.option("--rerun", type=click.IntRange(0), default=0, metavar="N", help="Also train N trials of each again.")
@click.option("--trust-plugin", is_flag=True, help="Let --rerun run the plug-ins of the archive, after showing them.")
@suite_option
@json_option
@home_option
def verify(
    paths: tuple[str, ...], rerun: int, trust_plugin: bool, suites: tuple[str, ...], as_json: bool, home: str | None
) -> None:
    """Check submissions: a line for everything that is wrong, and exit code 1 if anything is. Runs nothing of them.

    \b
      equipoise verify quick.tar.gz
      equipoise verify quick.tar.gz --rerun 2
      equipoise verify results/published

    A folder is one of published boards: their records, curves and rows are checked where they lie, and boards of
    today's protocol are built anew from their records, with their pages, and compared with what is published.

    With --rerun trials drawn by chance are trained again under the home: identical, within the spread of their arm's
    seeds, or different. A plug-in is a stranger's program: it is trained only with --trust-plugin, and shown first.
    """
    answers: list[dict[str, Any]] = []
    for folder in (path for path in map(Path, paths) if path.is_dir()):
        answers.append(_check_folder(folder, as_json))
    for path in _archives(path for path in paths if not Path(path).is_dir()):
        from suite.running import submitting

        report = submitting.check(path, suites)
        answer: dict[str, Any] = {
            "archive": str(path),
            "violations": report.violations,
            "remarks": report.remarks,
            "again": [],
        }
        if not as_json:
            _say(path, report)
        if rerun and not report.violations:
            answer["again"] = _again(path, report, rerun, trust_plugin, resolve_home(home), as_json)
        answers.append(answer)
    if as_json:
        print_json(answers)
    wrong = [answer for answer in answers if answer["violations"]]
    different = [once for answer in answers for once in answer["again"] if once["verdict"] == "different"]
    sys.exit(1 if wrong or different else 0)


def _check_folder(folder: Path, quiet: bool) -> dict[str, Any]:
    """Published boards, checked where they lie, then built anew from their records and compared."""
    from results.pages.remade import check_remade
    from results.submissions.boards import check_boards
    from suite import EARLIER, PROTOCOL

    lines = check_boards(folder, (*EARLIER, PROTOCOL)) or check_remade(folder, PROTOCOL)
    if not quiet:
        count = sum(1 for _ in folder.rglob("record.json"))
        for line in lines or [f"in order: boards and claims of {counted(count, 'trial')}"]:
            click.echo(f"{folder.name}: {line}")
    return {"archive": str(folder), "violations": lines, "remarks": [], "again": []}


def _again(path: Path, report: Any, count: int, trusted: bool, folder: Path, quiet: bool) -> list[dict[str, Any]]:
    """Train some of a submission's trials again, and say what came of each."""
    from suite.running import joining

    plugins = report.submission.plugins
    if trusted:
        for name, text in plugins.items():
            click.echo(
                f"--- plugins/{name}.py of {path.name}, which is run now ---\n{joining.shown(text)}---", err=True
            )
    elif plugins:
        click.echo(f"{path.name}: {', '.join(plugins)}: not trained again without --trust-plugin", err=True)
    answers = []
    for key in joining.draw(joining.candidates(report, trusted), count):
        click.echo(f"{path.name}: {joining.where(report, key)}: training it again", err=True)
        answer = joining.rerun(report, key, folder, lambda text: click.echo(text, err=True), lambda event: None)
        answers.append(answer)
        if not quiet:
            differs = "".join(f"\n  differs: {line}" for line in answer["differs"])
            losses = f"held-out loss {answer['loss']} now, {answer['published_loss']} submitted"
            click.echo(f"{path.name}: {answer['trial']}: {answer['verdict']}: {losses}{differs}")
    return answers


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="ARCHIVE…")
@click.option(
    "--into",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="The published boards (default: results/published of the source tree).",
)
@click.option("--date", "when", metavar="DAY", help="The day on the rows (default: today, in UTC).")
@suite_option
def merge(paths: tuple[str, ...], into: str | None, when: str | None, suites: tuple[str, ...]) -> None:
    """Join submissions with the published boards: all are checked first, and none is joined if one is refused.

    \b
      equipoise merge main-cpu.tar.gz
      equipoise merge quick.tar.gz --into boards

    A board shows one kind of hardware: results from another kind get a board of their own. Rows say who submitted
    them, and when. A newer entry of the same submitter takes the older one's place, which stays readable in
    superseded.md beside the board. Safe to repeat: what was interrupted is finished.
    """
    from results.records.published import unpublished
    from results.submissions import merging
    from suite.cli.advising import renewed
    from suite.cli.reporting import say_behind
    from suite.running import joining, submitting
    from suite.running.publishing import folder_of_boards
    from suite.running.reproduce import published_folder
    from suite.storage.files import now

    published = folder_of_boards(into) if into else published_folder()
    day = _day(when) if when else now()[:10]
    reports = {path: submitting.check(path, suites) for path in _archives(paths)}
    for path, report in reports.items():
        _say(path, report)
    if any(report.violations for report in reports.values()):
        sys.exit(1)
    boards: dict[Path, merging.Merged] = {}
    joined: dict[Path, merging.Merged] = {}
    for path, report in reports.items():
        assert report.submission is not None
        try:
            joined[path] = merging.merge(report.submission, report.trials, published, day, boards)
        except merging.Apart as error:
            click.echo(f"{path.name}: {error}")
            sys.exit(1)
        boards[joined[path].folder] = joined[path]
    behind = {name for merged in joined.values() for name in unpublished(merged.folder, merged.added)}
    for path, merged in joined.items():
        joining.write(merged, reports[path])
    for merged in boards.values():
        _renew(merged.folder, merged.hardware)
    for path, merged in joined.items():
        for line in merged.remarks:
            click.echo(f"{path.name}: remark: {line}")
        board, gone = merged.folder.name, f"; {', '.join(merged.superseded)} superseded" if merged.superseded else ""
        new = f"{counted(len(merged.added), 'trial')} joined {board}{gone}"
        click.echo(f"{path.name}: {new if merged.added else f'{board} has every trial of the submission already'}")
    say_behind(sorted(behind - {merged.folder.name for merged in boards.values()}))
    renewed(published)


def _renew(folder: Path, hardware: str) -> None:
    """A board's pages from its manifest and records of one kind of hardware, and the list of what is superseded."""
    from results import records
    from results.boards import leaderboard
    from results.pages import markdown
    from results.records.published import trials_of
    from results.statistics.machine import DEFAULT
    from results.submissions import merging
    from suite.cli.reporting import write_report
    from suite.storage.files import read_json, write_json

    manifest, trials = records.load_manifest(folder / "manifest.json"), trials_of(folder)
    write_report(manifest, trials, folder, hardware, DEFAULT)
    page = folder / "leaderboard.md"
    past = merging.past_manifest(read_json(folder / "manifest.json"))
    if past is not None:
        board = leaderboard.build(past, records.collect(past, trials), hardware=hardware)
        write_json(folder / "superseded.json", board)
        (folder / "superseded.md").write_text(markdown.leaderboard_markdown(board), encoding="utf-8")
        page.write_text(f"{page.read_text('utf-8')}\n[Superseded entries](superseded.md)\n", encoding="utf-8")


def _archives(paths: Iterable[str]) -> list[Path]:
    found = [Path(path) for path in paths]
    for path in found:
        if not path.is_file():
            raise ValueError(f"{path}: there is no such archive; expected one that `equipoise pack` made")
    return found


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"--date: {text!r}; expected a day such as 2026-01-31") from None


def _say(path: Path, report: Any) -> None:
    for line in report.violations:
        click.echo(f"{path.name}: {line}")
    for line in report.remarks:
        click.echo(f"{path.name}: remark: {line}")
    if not report.violations:
        click.echo(f"{path.name}: {summary(report)}")


def summary(report: Any) -> str:
    """A submission in one line."""
    manifest = report.submission.manifest
    arms, tasks = ranked_arms(manifest), [task["name"] for task in manifest["tasks"]]
    seeds = {trial["seed"] for trial in manifest["trials"]}
    return (
        f"in order: {manifest['suite']} by {report.submission.head['by']}, {len(arms)} arm{'s' * (len(arms) != 1)} "
        f"on {', '.join(tasks)}, {len(seeds)} seed{'s' * (len(seeds) != 1)}"
    )


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
