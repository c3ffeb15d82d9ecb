"""Whether a plan's tasks can judge balancing, from what is known before it runs: records here, or published boards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import results
from results import records
from results.boards.tasks import judge
from results.statistics.power import resolution
from suite import PROTOCOL
from suite.planning.plan import Plan

PUBLISHED = Path(results.__file__).parent / "published"
SAME = ("name", "tokens", "recipe", "experts", "top_k")
MOST_RECORDS = 500  # read here; seeds come first, so these are whole pairs


def expected_sensitivity(
    plan: Plan, home: Path, found: Mapping[str, str], published: Path = PUBLISHED
) -> dict[str, dict[str, Any] | None]:
    """Task → the sensitivity that its board will show, with the resolution at the plan's number of seeds.

    Args:
        found: state of every trial by key.

    Returns:
        A board's `sensitivity` with its `source`; None where no record and no published board of this protocol knows
        the task at this horizon, with this recipe and these experts.
    """
    here = _from_records(plan, home, found)
    boards = _boards(published)
    seeds = len({trial.seed for trial in plan.trials})
    compared = max(1, len(records.ranked_arms(plan.manifest)) - 1)
    recipes = {trial.task: trial.cell.task.rung.recipe for trial in plan.trials}
    answer: dict[str, dict[str, Any] | None] = {}
    for task in plan.manifest["tasks"]:
        known = here.get(task["name"]) or _published(boards, {**task, "recipe": recipes[task["name"]]})
        if known is not None:
            margin = known.pop("margin")
            known |= {"n": seeds, "resolution": resolution(seeds, known["spread"], compared, margin)}
        answer[task["name"]] = known
    return answer


def _from_records(plan: Plan, home: Path, found: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    done = {trial.key for trial in plan.trials if found[trial.key] == "done"}
    trials = [trial for trial in plan.manifest["trials"] if trial["trial_key"] in done][:MOST_RECORDS]
    if not trials:
        return {}
    manifest = {**plan.manifest, "trials": trials}
    try:
        about = judge(manifest, records.collect(manifest, home / "trials"))
    except (ValueError, OSError):
        return {}  # a damaged record is the report's business
    return {
        task: {**shown, "margin": about.margin(task), "source": "records here"}
        for task, shown in about.sensitivity.items()
        if shown["word"] is not None
    }


def _boards(published: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(published.glob("*/leaderboard.json"))]
    return [board for board in found if board["protocol_version"] == PROTOCOL]


def _published(boards: list[dict[str, Any]], task: Mapping[str, Any]) -> dict[str, Any] | None:
    """From the published board with the most seeds on this very task."""
    same = [
        {**shown["sensitivity"], "margin": shown["margin"]["value"], "source": f"published board {board['suite']}"}
        for board in boards
        for shown in board["tasks"]
        if all(shown.get(name) == task.get(name) for name in SAME) and shown["sensitivity"]["word"]
    ]
    return max(same, key=lambda known: known["n"], default=None)
