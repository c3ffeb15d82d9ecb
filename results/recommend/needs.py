"""What people ask for. A need says which tasks answer it and which strategies may be the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from results.recommend.evidence import Cell, Row
from results.statistics.tuning import BALANCED_BELOW

TRACKS = ("as-published", "tuned", "balanced")
TEXT = ("text", "mix", "long")
SPARSE = ("text-sparse", "sparse")
SHIFT = ("text-shift", "recall-shift", "shift")
RECALL = ("recall",)
EXPERTS = "experts-"  # and how many: the text of TEXT, at another number of experts
TABLES = frozenset(yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text(encoding="utf-8"))["tables"])


@dataclass(frozen=True)
class Need:
    """One question. None: no condition."""

    name: str
    question: str
    kinds: tuple[str, ...] = TEXT  # of tasks that answer it
    devices: int = 1  # losses are compared at equal tokens on one device, at equal time on more
    causal: bool = True  # only rules that a decoder can use as they were trained
    knobless: bool = False  # only rules with nothing to tune
    recipe: str | None = None
    experts: int | None = None
    learned: bool = False  # only rules whose router goes on learning

    def asks_for(self, cell: Cell) -> bool:
        return (
            cell.kind in self.kinds
            and self.recipe in (None, cell.recipe)
            and (self.experts is None or self.experts == cell.experts)
        )

    def allows(self, row: Row, track: str) -> bool:
        """Whether a row may be the answer; on the balanced track only one that is balanced."""
        return (
            (row.causal or not self.causal)
            and (row.knob is None or not self.knobless)
            and (row.content["strategy"] not in TABLES or not self.learned)
            and (track != "balanced" or (row.max_vio is not None and row.max_vio < BALANCED_BELOW))
        )


NEEDS = (
    Need("loss", "the lowest loss"),
    Need("sparsity", "4 of 256 experts", SPARSE, experts=256),
    Need("shift", "a mixture that changes half-way", SHIFT),
    Need("facts", "memory of facts", RECALL),
    Need("devices", "equal time on 64 devices, simulated", devices=64),
    Need("adamw", "training with AdamW", recipe="adamw"),
)


def get(name: str) -> Need:
    """A need by name.

    Raises:
        ValueError: there is none of that name.
    """
    for need in NEEDS:
        if need.name == name:
            return need
    raise ValueError(f"need: {name!r} is unknown; expected one of {', '.join(need.name for need in NEEDS)}")
