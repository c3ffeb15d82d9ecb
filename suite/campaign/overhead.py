"""Part: what every strategy adds to the control's step, and how often the host waits in it."""

from __future__ import annotations

from statistics import median
from typing import Any

import torch

from strategies import registry
from suite.campaign.ledger import Campaign
from suite.campaign.step import SPEED, note_waits, speeds, timed
from suite.campaign.training import open_training, take_steps


def biased(name: str) -> bool:
    """Rules that only move a bias come first: what they cost is asked about most."""
    return registry.get(name).selection_only_bias


def run(campaign: Campaign) -> bool:
    """A row per strategy, timed in turns with the control. Returns whether everything could be measured."""
    ledger = campaign.ledger("overhead")
    settings, step, control = (
        campaign.settings["overhead"],
        campaign.settings["step"],
        campaign.settings["arms"]["control"],
    )
    kind = {"backend": settings["backend"], "precision": step["precision"], "device": campaign.device.type}
    beside = open_training(campaign.scratch, settings["rung"], control, **kind)
    take_steps(beside, step["warm_up"])

    def measurement(name: str) -> dict[str, Any]:
        own = beside if name == control else open_training(campaign.scratch, settings["rung"], name, **kind)
        take_steps(own, step["warm_up"])
        rounds: list[tuple[float, float]] = []
        for number in range(settings["rounds"]):  # who goes first changes, since clocks and caches drift
            first, second = (beside, own) if number % 2 == 0 else (own, beside)
            earlier, later = timed(first, settings["steps"]), timed(second, settings["steps"])
            rounds.append((earlier, later) if number % 2 == 0 else (later, earlier))
        # round by round, as both were timed within the same seconds; the control's own says what noise does
        ratios = [mine / its for its, mine in rounds]
        said = {"overhead": median(ratios) - 1, "ratios": ratios, "bias": biased(name)}
        return said | speeds(own, median(mine for _, mine in rounds), campaign)

    slowest = campaign.settings["arms"]["slowest"]
    others = sorted(set(registry.available()) - {control}, key=lambda name: (name == slowest, not biased(name), name))
    for name in [control, *others]:
        ledger.measure({"strategy": name}, lambda name=name: measurement(name))  # type: ignore[misc]
        if campaign.device.type == "cuda":
            torch.cuda.empty_cache()
    biases = [row["overhead"] for row in ledger.rows if row.get("bias")]
    if biases:
        ledger.note(f"Bias strategies add {100 * min(biases):.2g} % to {100 * max(biases):.2g} % to a step.")
    note_waits(ledger)
    table = (f"By strategy ({settings['label']}, {settings['backend']})", ["strategy", "overhead", *SPEED], ledger.rows)
    ledger.finish("What a strategy adds to an optimizer step", [table])
    return not any("failed" in row for row in ledger.rows)
