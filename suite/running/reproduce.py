"""Running a published row again from its provenance, and saying whether it came out the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from strategies import registry
from suite import EARLIER, NUMERICS, PROTOCOL
from suite.errors import UsageError
from suite.storage.files import read_json, write_json
from suite.storage.trial import TrialFolder
from suite.words import nearest


def published_folder() -> Path:
    """Boards that come with the source tree."""
    return Path(__file__).resolve().parents[2] / "results" / "published"


def find_row(row: str, boards: Path) -> tuple[Path, dict[str, Any]]:
    """The board's folder and the row `BOARD/ARM/TASK` of its leaderboard; a strategy's name does where it has one arm.

    Raises:
        UsageError: there is no such board or row, or the board is of an earlier protocol.
    """
    parts = row.rsplit("/", 2)
    if len(parts) != 3:
        raise UsageError(f"row: {row!r}; expected BOARD/ARM/TASK, such as main-cpu/smebu/text-bench")
    name, arm, task = parts
    there = sorted(path.parent.relative_to(boards).as_posix() for path in boards.rglob("leaderboard.json"))
    if name not in there:
        raise UsageError(
            f"row: there is no board {name!r} in {boards}{nearest(name, there)}; there are {', '.join(there) or 'none'}"
        )
    board = read_json(boards / name / "leaderboard.json")
    if board["protocol_version"] != PROTOCOL:
        raise UsageError(_other_protocol(row, board))
    rows = board["rows"]
    for column in ("arm", "strategy"):
        found = [candidate for candidate in rows if (candidate[column], candidate["task"]) == (arm, task)]
        if len(found) > 1:
            arms = ", ".join(candidate["arm"] for candidate in found)
            raise UsageError(f"row: {row!r} has several arms on board {name}; expected one of {arms}")
        if found:
            return boards / name, found[0]
    known = [f"{name}/{candidate['arm']}/{candidate['task']}" for candidate in rows]
    raise UsageError(f"row: board {name} has no row {row!r}{nearest(row, known)}")


def _other_protocol(row: str, board: dict[str, Any]) -> str:
    """How to run a row of another protocol again."""
    version = board["protocol_version"]
    revision = EARLIER.get(version)
    how = f"`git checkout {revision}`, then `equipoise reproduce {board['suite']}/{'/'.join(row.rsplit('/', 2)[1:])}`"
    return f"row: {row} is of protocol {version}, this is {PROTOCOL}; run it with " + (
        how if revision else "the version of Equipoise that made it"
    )


def prepare(record: dict[str, Any], home: Path) -> TrialFolder:
    """A fresh folder with the published trial's definition, brought to today's code."""
    cls = registry.get(record["config"]["strategy"]["name"])
    config = {**record["config"], "numerics": NUMERICS}
    config["strategy"] = {**config["strategy"], "source": registry.source_digest(cls)}
    folder = TrialFolder(home / "reproductions" / record["trial_key"])
    begun = folder.trial.exists() and read_json(folder.trial)["config"] == config
    if folder.done or not begun:  # asked to run it again, or what is there was begun by other code
        shutil.rmtree(folder.path, ignore_errors=True)
    folder.path.mkdir(parents=True, exist_ok=True)
    definition = {key: record[key] for key in ("schema", "trial_key", "facts", "task")}
    write_json(folder.trial, {**definition, "config": config, "plugins": []})
    return folder


def judge(published: dict[str, Any], again: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """identical | within the row's interval | different, and everything that differs between the two runs.

    *Within* means: the held-out losses of the same seed differ by no more than half the width of the row's 95 %
    interval.
    """
    then, now_ = published["measures"]["val_loss"], again["measures"]["val_loss"]
    low, high = row["val_loss"]["ci_low"], row["val_loss"]["ci_high"]
    if published["measures"] == again["measures"]:
        verdict = "identical"
    elif None not in (then, now_, low, high) and abs(now_ - then) <= (high - low) / 2:
        verdict = "within the row's interval"
    else:
        verdict = "different"
    return {
        "verdict": verdict,
        "seed": published["config"]["seed"],
        "published_loss": then,
        "loss": now_,
        "interval": [low, high],
        "differs": differences(published, again),
    }


def differences(published: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """What is not the same about the circumstances of two runs."""
    found = []
    if published["config"]["strategy"]["source"] != again["config"]["strategy"]["source"]:
        found.append("the rule's code has changed since")
    if published["config"]["numerics"] != again["config"]["numerics"]:
        found.append(f"numerics {published['config']['numerics']} then, {again['config']['numerics']} now")
    old, new = published["provenance"], again["provenance"]
    if old["hardware"]["label"] != new["hardware"]["label"]:
        found.append(f"hardware: {old['hardware']['label']} then, {new['hardware']['label']} now")
    before, after = (facts["hardware"].get("processor", "not recorded") for facts in (old, new))
    if before != after:
        found.append(f"processor: {before} then, {after} now")
    for package in sorted(old["packages"].keys() | new["packages"].keys()):
        before, after = old["packages"].get(package), new["packages"].get(package)
        if before != after:
            found.append(f"{package}: {before} then, {after} now")
    if old["corpus_digest"] != new["corpus_digest"]:
        found.append("the prepared corpus")
    if old["git_revision"] != new["git_revision"]:
        found.append(f"revision: {str(old['git_revision'])[:10]} then, {str(new['git_revision'])[:10]} now")
    return found
