"""Part: a recipe's sweep on this accelerator: whether what was found on a smaller rung carries to a larger one."""

from __future__ import annotations

from typing import Any

import tasks
from suite.campaign.board import until_time_is_over
from suite.campaign.ledger import Campaign
from suite.planning import sweep as sweeps
from suite.running.runner import Runner
from suite.storage.files import now, write_json


def run(campaign: Campaign) -> bool:
    """Walk the sweep as far as the time goes. Returns whether no trial failed."""
    ledger, settings = campaign.ledger("sweep"), campaign.settings["sweep"]
    stated = settings["sweep"]
    chosen = sweeps.load(stated) if isinstance(stated, str) else sweeps.Sweep.model_validate(stated)
    (campaign.out / "sweeps").mkdir(exist_ok=True)
    changes: dict[str, Any] = {**settings["set"], "device": campaign.device.type}
    walked: list[sweeps.Stage] = []
    failed: dict[str, str] = {}
    for stage in sweeps.stages(chosen, campaign.home, changes):
        for task in {trial.cell.task.name: trial.cell.task for trial in stage.plan.trials}.values():
            tasks.prepare(task, campaign.home / "cache", print)
        runner = Runner(stage.plan, campaign.home, campaign.jobs, lambda _: None)
        with until_time_is_over(ledger):
            outcome = runner.run()
        failed |= outcome.failed
        walked.append(sweeps.read(stage, campaign.home))
        table = walked[-1].table
        if table is None:
            ledger.note(f"{stage.coordinate.title}: not all trials have a record; the same command goes on from here.")
            break
        for row in table["values"]:
            told = {"coordinate": table["name"], "value": row["label"], "mean": row["mean"], "behind": row["behind"]}
            ledger.add({**told, "standard_error": row["standard_error"], "chosen": row["label"] == table["winner"]})
        said = sweeps.result(chosen, walked, changes, now())
        write_json(campaign.out / "sweeps" / f"{chosen.sweep}.json", said)
        (campaign.out / "sweeps" / f"{chosen.sweep}.md").write_text(sweeps.as_markdown(said), encoding="utf-8")
    for key, why in failed.items():
        ledger.note(f"failed: {key}: {why}")
    columns = ["coordinate", "value", "chosen", "mean", "behind", "standard_error"]
    ledger.finish(chosen.title, [(f"Sweep {chosen.sweep}", columns, ledger.rows)])
    return not failed
