"""Packing and checking submissions: what of it needs to know suites, strategies and homes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.submissions import packing
from results.submissions.expected import Expected
from results.submissions.verify import Report
from results.submissions.verify import verify as verify_archive
from results.text import counted
from strategies import registry
from strategies.registry.source_text import text_digest
from suite.errors import UsageError
from suite.planning import library, tune
from suite.running import expectation
from suite.storage.files import read_json
from suite.storage.trial import TrialFolder
from suite.words import nearest


def manifest_to_pack(
    home: Path, suite: str, seeds: int | Sequence[int] | None, arms: Sequence[str], tasks: Sequence[str]
) -> dict[str, Any]:
    """The part of a suite's manifest that is asked for (so many of its first seeds, or those), each of whose trials has
    a record.

    Raises:
        UsageError: it was not run, has no such part, or not all of it has been run.
    """
    manifest = read_manifest(home, suite)
    for option, names, known in (
        ("--strategies", arms, [arm["arm"] for arm in manifest["arms"]]),
        ("--tasks", tasks, [task["name"] for task in manifest["tasks"]]),
    ):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(f"{option}: {unknown[0]!r} has not been run in {suite}{nearest(unknown[0], known)}")
    beside = [manifest["baseline"], manifest.get("aa_arm"), *(manifest.get("horizons") or {}).values()]
    always = [name for name in beside if name]
    part = packing.cut(
        manifest, _seeds_to_pack(packing.seeds_of(manifest), seeds), [*always, *arms] if arms else [], tasks
    )
    lacking = packing.unfinished(part, home / "trials")
    if lacking:
        first = lacking[0]
        whole = packing.whole_seeds(part, home / "trials")
        hint = f"`--seeds {whole}` packs those that are whole" if whole else f"{library.how_to_run(suite)} goes on"
        raise UsageError(
            f"{suite}: no record of {len(lacking)} of {counted(len(part['trials']), 'trial')}, such as {first['arm']} "
            f"on {first['task']}, seed {first['seed']}; {hint}"
        )
    if not part["trials"]:
        raise UsageError(f"{suite}: nothing of it is left to pack; expected seeds, strategies and tasks that were run")
    return part


def _seeds_to_pack(run: Sequence[int], asked: int | Sequence[int] | None) -> Sequence[int]:
    """The seeds asked for: so many of the first that were run, or those; none means all.

    Raises:
        UsageError: one of them was not run.
    """
    if isinstance(asked, int):
        if asked > len(run):
            raise UsageError(f"--seeds: {asked}; {len(run)} were run, expected at most these")
        return run[:asked]
    missing = [seed for seed in asked or [] if seed not in run]
    if missing:
        raise UsageError(f"--seeds: {missing[0]} was not run; expected some of {', '.join(map(str, run))}")
    return asked or []


def read_manifest(home: Path, suite: str) -> dict[str, Any]:
    """A suite's manifest as it was written, by its board's name or as `run` takes it."""
    name = suite if (home / "suites" / f"{suite}.json").is_file() else board_of(suite)
    path = home / "suites" / f"{name}.json"
    if not path.is_file():
        there = sorted(file.stem for file in (home / "suites").glob("*.json"))
        raise UsageError(
            f"suite: {suite!r} has not been run under {home}{nearest(suite, there)}; start it with "
            f"{library.how_to_run(suite, ran=False)}"
        )
    return read_json(path)


def board_of(suite: str) -> str:
    """The name of the board that a suite's trials make."""
    named = suite.startswith((library.CLAIM, library.TUNE)) or suite.endswith((".yaml", ".yml"))
    return library.load(suite).suite if named else suite


def tuning_behind(home: Path, manifest: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The manifest of the trials that tuned a board, and what was chosen by them; nothing for one as published."""
    file = tune.choice_behind(home, manifest["suite"])
    if file is None:
        return [], None
    tuning = read_manifest(home, f"{file.stem}{library.TUNING}")
    tuned = {arm["arm"] for arm in manifest["arms"]} | {tune.tuned_arm(tuning["baseline"])}
    arms = [arm["arm"] for arm in tuning["arms"] if tune.tuned_arm(arm["arm"]) in tuned]
    return [packing.cut(tuning, [], arms, [task["name"] for task in manifest["tasks"]])], read_json(file)


def plugin_texts(home: Path, manifests: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The texts of strategies that do not come with Equipoise, by name.

    Raises:
        UsageError: a text is not at hand, or is no longer what its trials were trained with.
    """
    texts: dict[str, str] = {}
    for manifest in manifests:
        strategies = {arm["arm"]: arm["strategy"] for arm in manifest["arms"]}
        for cell in manifest["trials"]:
            name = strategies[cell["arm"]]
            if name in texts or comes_along(name):
                continue
            texts[name] = _text_of(name, TrialFolder(home / "trials" / cell["trial_key"]))
    return texts


def comes_along(name: str) -> bool:
    """Whether a strategy is one of Equipoise's own."""
    cls = registry.available().get(name)
    return cls is not None and cls.__module__.startswith("strategies.")


def _text_of(name: str, folder: TrialFolder) -> str:
    """The text that a trial was trained with: kept beside it, or its file's, or the installed one's."""
    plugins = [Path(plugin) for plugin in read_json(folder.trial).get("plugins", [])]
    files = [file for file in (folder.plugin, *plugins) if file.is_file()]
    if not files and name in registry.available():
        files = [Path(inspect.getsourcefile(registry.get(name)) or "")]
    if not files:
        raise UsageError(
            f"strategy {name}: its file {', '.join(map(str, plugins))} is not there any more; expected its text"
        )
    source = read_json(folder.record)["config"]["strategy"]["source"]
    for file in files:
        text = file.read_text(encoding="utf-8")
        try:
            if text_digest(name, text) == source:
                return text
        except ValueError as error:
            if file == files[-1]:
                raise UsageError(f"strategy {name}: {file.name}: {error}") from None
    raise UsageError(f"strategy {name}: {files[-1].name} is no longer what it was trained with; run it again")


def check(path: Path, suites: Sequence[str] = ()) -> Report:
    """Everything that is wrong with an archive, by this version's suites and those in the given files."""

    def expect(name: str, choice: Mapping[str, Any] | None) -> Expected:
        return expectation.expect(name, choice, suites)

    return verify_archive(path, expect, text_digest)
