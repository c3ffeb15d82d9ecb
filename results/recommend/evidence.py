"""What the published boards hold, cell by cell: one task of one board, with its rows and every seed's loss."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from results.records.published import trials_of
from results.statistics.horizons import Curve
from results.statistics.sensitivity import FIT_GAIN

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Board:
    """A published board: its folder below the published ones, its leaderboard.json and manifest.json, its trials."""

    folder: str
    content: Json
    manifest: Json
    trials: Path

    @property
    def protocol(self) -> int:
        return int(self.content["protocol_version"])

    @property
    def track(self) -> str:
        return str(self.content.get("track") or "as-published")


@dataclass(frozen=True)
class Row:
    """One row of a board: an arm on a task."""

    key: str  # BOARD/ARM/TASK, as `equipoise reproduce` takes it
    content: Json
    knob: Json | None

    @property
    def arm(self) -> str:
        return str(self.content["arm"])

    @property
    def title(self) -> str:
        return str(self.content["title"])

    @property
    def causal(self) -> bool:
        return self.content.get("causal") is not False

    @property
    def max_vio(self) -> float | None:
        """MaxVio of late training batches."""
        return self.content.get("max_vio_batch")

    @property
    def setting(self) -> Json | None:
        """Its knob's parameter and the value it ran with; None without a knob."""
        config = self.content.get("config") or {}
        return {name: config[name] for name in [self.knob["parameter"]] if name in config} if self.knob else None

    @property
    def routes(self) -> bool:
        """Whether tokens are sent anywhere by a rule: not so in the dense twin, whose load cannot but be even."""
        return bool(self.content["max_vio_global"] or self.max_vio)

    @property
    def losses(self) -> dict[int, float]:
        """Seed → held-out loss of the finished trials."""
        return {s["seed"]: s["val_loss"] for s in self.content["seeds"] if s["val_loss"] is not None}

    def slower(self, devices: int) -> dict[int, float]:
        """Seed → log₂ of its step time over the baseline's on so many devices."""
        times = {entry["seed"]: entry.get(str(devices)) for entry in self.content.get("step_times") or []}
        return {seed: math.log2(ratio) for seed, ratio in times.items() if ratio}


@dataclass(frozen=True)
class Cell:
    """One task of one board."""

    board: Board
    task: Json

    @property
    def name(self) -> str:
        return str(self.task["name"])

    @property
    def key(self) -> str:
        return f"{self.board.folder}/{self.name}"

    @property
    def kind(self) -> str:
        """What is trained on: a task is called `<kind>-<rung>`."""
        return self.name.rpartition("-")[0] or self.name

    @property
    def corpus(self) -> str:
        """A digest of what is trained on; the same for kinds of tasks that differ in something else."""
        return str(self.task.get("corpus") or self.kind)

    @property
    def recipe(self) -> str:
        return str(self.task.get("recipe") or "")

    @property
    def experts(self) -> int:
        return int(self.task.get("experts") or 0)

    @property
    def steps(self) -> int:
        return int(self.task.get("steps") or 0)

    @property
    def tokens(self) -> int:
        return int(self.task.get("tokens") or 0)

    @property
    def size(self) -> tuple[int, int]:
        """What makes one cell say more of large models than another: parameters, then tokens."""
        parameters = self.task.get("parameters") or {}
        return int(parameters.get("total") or 0), self.tokens

    @property
    def vocabulary(self) -> int | None:
        """Tokens that there are; None where the board does not say what guessing among them costs."""
        guessed = self.task.get("uniform_loss")
        return round(math.exp(guessed)) if guessed else None

    @property
    def length(self) -> float:
        """How long it is trained: tokens per active parameter; 0 where the board does not say."""
        active = int((self.task.get("parameters") or {}).get("active") or 0)
        return self.tokens / active if active else 0.0

    @property
    def margin(self) -> float:
        return float(self.board.content["margins"][self.name])

    @property
    def sensitivity(self) -> str | None:
        """`fit` or `blunt`; None where the board does not say whether balancing can be seen on the task."""
        return (self.task.get("sensitivity") or {}).get("word")

    @property
    def gain(self) -> float | None:
        """What experts are ahead of the dense twin, nats/token."""
        mean = ((self.task.get("sensitivity") or {}).get("gain") or {}).get("mean")
        return None if mean is None else float(mean)

    @property
    def experts_pay(self) -> bool:
        """Whether it is evidence: where experts bring next to nothing, learned routers can hardly be told apart."""
        return self.sensitivity == "fit" or (self.gain is not None and self.gain >= FIT_GAIN)

    def losses_at(self, row: Row, devices: int) -> dict[int, float]:
        """Seed → loss in the baseline's time on so many devices; empty where the board does not say.

        A trial whose step takes r times as long as the baseline's of its seed gets 1/r of the tokens. What they would
        have brought is read off the baseline's own losses at half, whole and double horizon; the margin of the task
        carries them.
        """
        worth = self.task.get("margin") or {}
        half, double = worth.get("half"), worth.get("double")
        if not half or not double or not Curve(half, double).usable:
            return {}
        lost, losses = Curve(half, double).difference, row.losses
        return {seed: losses[seed] + lost(-log) for seed, log in row.slower(devices).items() if seed in losses}

    def extrapolated(self, row: Row, devices: int) -> bool:
        """Whether its tokens at equal time lie beyond the baseline's horizons, half and double."""
        logs = row.slower(devices).values()
        return bool(logs) and abs(math.fsum(logs) / len(logs)) > 1

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that are strategies: not the dense twin, nor a rule with changed values, which has another name."""
        return [row for row in self.settings if row.arm == row.content["strategy"]]

    @cached_property
    def settings(self) -> list[Row]:
        """The rows that are strategies in whatever setting, rules with changed values among them."""
        return [row for row in self._all if row.arm != self.board.manifest.get("twin") and row.routes]

    @property
    def not_run(self) -> list[Mapping[str, Any]]:
        """The board's arms, as its manifest has them, that have not a finished seed on this task."""
        absent = {arm["arm"] for arm in self.task.get("not_run") or []}
        absent |= {row.arm for row in self._all if not row.losses and not row.content["diverged"]}
        own = (arm for arm in self.board.manifest["arms"] if arm.get("strategy", arm["arm"]) == arm["arm"])
        return [arm for arm in own if arm["arm"] in absent - {self.board.manifest.get("twin")}]

    @property
    def twin(self) -> Row | None:
        """The row without experts to choose from, at equal FLOPs."""
        return next((row for row in self._all if row.arm == self.board.manifest.get("twin")), None)

    @cached_property
    def _all(self) -> list[Row]:
        knobs = {arm["arm"]: arm.get("knob") for arm in self.board.manifest["arms"]}
        return [
            Row(f"{self.board.folder}/{row['arm']}/{self.name}", row, knobs.get(row["arm"]))
            for row in self.board.content["rows"]
            if row["task"] == self.name
        ]


def load(published: Path) -> list[Board]:
    """Every board below a folder of published ones.

    Raises:
        ValueError: a board cannot be read; one line naming its file.
    """
    boards = []
    for file in sorted(published.rglob("leaderboard.json")):
        if file.parent == published:
            continue
        content, manifest = _read(file), _read(file.with_name("manifest.json"))
        board = Board(file.parent.relative_to(published).as_posix(), content, manifest, trials_of(file.parent))
        try:
            for cell in cells([board]):
                _ = cell.margin, [row.losses for row in cell.rows], board.protocol
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{file}: not a leaderboard ({error!r})") from None
        boards.append(board)
    return boards


def cells(boards: Sequence[Board]) -> list[Cell]:
    return [Cell(board, task) for board in boards for task in board.content["tasks"]]


def current(boards: Sequence[Board]) -> tuple[list[Board], list[Board]]:
    """The boards of the newest protocol there is, and those it supersedes."""
    newest = max((board.protocol for board in boards), default=0)
    return [b for b in boards if b.protocol == newest], [b for b in boards if b.protocol < newest]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None
