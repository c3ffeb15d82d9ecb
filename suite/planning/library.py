"""Suites by name: those that come with Equipoise, files, the trials of a claim, and those that tune a suite."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from suite.errors import UsageError
from suite.planning.config import CHOSEN, INTERNAL, Suite, parse, read_yaml
from suite.planning.tune import tuning_suite
from suite.words import nearest

SUITES = Path(__file__).parents[1] / "suites"
CLAIM = "claims:"
EVERY_CLAIM = "claims"
TUNE = "tune:"
TUNING = "-tuning"  # what the board of a suite's tuning is called behind the suite's name


def names() -> list[str]:
    """The suites that come with Equipoise."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def find(name_or_path: str) -> Path:
    """The file of a suite: a shipped name, or a path ending in .yaml."""
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UsageError(f"suite: no file {name_or_path!r}")
        return path
    if name_or_path not in names():
        raise UsageError(
            f"suite: {name_or_path!r} is unknown; expected one of {', '.join(names())}, claims:ID or a .yaml file"
            + nearest(name_or_path, names())
        )
    return SUITES / f"{name_or_path}.yaml"


def expand(name: str) -> list[str]:
    """The suites a name stands for: `claims` is every claim that can be tested, all else is itself."""
    if name != EVERY_CLAIM:
        return [name]
    from results import claims

    return [f"{CLAIM}{claim.id}" for claim in claims.load_all() if claim.trials is not None]


def load(name_or_path: str) -> Suite:
    """Read and check a suite: a shipped name, a .yaml file, `claims:ID`, the trials that a claim rests on, or
    `tune:SUITE`, those that tune a suite's arms.

    Raises:
        UsageError: unknown name, broken YAML, unknown key, wrong type, impossible value.
    """
    if name_or_path.startswith(CLAIM):
        from results import claims

        claim = claims.get(name_or_path.removeprefix(CLAIM))
        return _typed(parse(claims.suite(claim), f"claim {claim.id}", claim.digest), name_or_path)
    if name_or_path.startswith(TUNE):
        return tuning_suite(load(name_or_path.removeprefix(TUNE)))
    path = find(name_or_path)
    data, text = read(path, "suite")
    stated = [key for key in INTERNAL if isinstance(data, dict) and key in data]
    if stated:
        raise UsageError(f"{path}: {stated[0]}: unknown key; no file states it")
    suite = parse(data, str(path), hashlib.sha256(text.encode()).hexdigest())
    own = path.resolve().parent == SUITES or (suite.suite in names() and text == find(suite.suite).read_text("utf-8"))
    taken = {board for name in names() for board in boards(name)}
    if not own and (suite.suite in taken or suite.suite.startswith(f"{EVERY_CLAIM}-")):
        raise UsageError(
            f"{path}: suite: {suite.suite!r} is a board's name that comes with Equipoise; expected a name of its own, "
            "or the shipped suite with --set, --seeds, --tasks or --strategies"
        )
    return _typed(suite, name_or_path)


def _typed(suite: Suite, name_or_path: str) -> Suite:
    return suite.model_copy(update={"typed": name_or_path})


def boards(suite: str) -> list[str]:
    """What a suite's boards are called: its own, one for each track that tuning chooses, and its tuning's."""
    return [suite, *(f"{suite}-{track}" for track in CHOSEN), f"{suite}{TUNING}"]


def how_to_run(board: str, more: str = "", ran: bool = True) -> str:
    """The commands that make a board's trials, as errors advise them: on a track that tuning chooses, tuning first.

    Args:
        board: its name, or a suite as verbs take it. One that does not come with Equipoise is taken to be in a file.
        more: options of `run`.
        ran: whether it was run before. One that was not is advised as it was typed, mistyped perhaps.
    """
    ending = next((ending for ending in (*(f"-{track}" for track in CHOSEN), TUNING) if board.endswith(ending)), "")
    name = board.removesuffix(ending)
    claim = name.removeprefix(f"{EVERY_CLAIM}-")
    known = name in names() or name.startswith((CLAIM, TUNE)) or name.endswith((".yaml", ".yml"))
    suite = f"{CLAIM}{claim}" if claim != name else name if known or not ran else f"{name}.yaml"
    if not ending:
        return f"`equipoise run {suite}{more}`"
    then = "" if ending == TUNING else f", then `equipoise run {suite} --set track={ending[1:]}{more}`"
    return f"`equipoise tune {suite}`{then}"


def read(path: Path, what: str) -> tuple[Any, str]:
    """The value and the text of a YAML file; `what` says what it should have held."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text; expected a {what}'s YAML") from None
    except OSError:
        raise UsageError(f"{what}: no file {str(path)!r}") from None
    try:
        return read_yaml(text), text
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # no YAML; no such date or number; nested without end
        raise UsageError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
