"""What a campaign is given, and where its rows go: JSON after every row, Markdown at the end of every part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from suite.campaign import machine
from suite.storage.files import now, write_json
from suite.storage.home import resolve

SETTINGS = Path(__file__).with_name("campaign.yaml")


@dataclass(frozen=True)
class Campaign:
    """This machine, and what to measure on it."""

    out: Path
    home: Path
    minutes: float  # of one part
    jobs: int
    device: torch.device
    settings: dict[str, Any]  # of the size that was asked for
    machine: dict[str, Any]
    tiny: bool
    tasks: tuple[str, ...] = ()  # of the board; all unless said
    seeds: int | None = None

    @classmethod
    def begin(cls, out: Path, home: Path | None, minutes: float, jobs: int, tiny: bool,
              tasks: tuple[str, ...] = (), seeds: int | None = None) -> Campaign:  # fmt: skip
        """Look at the machine and measure its peaks.

        Raises:
            ValueError: no accelerator, and not told to run in miniature; a folder that cannot be written to.
        """
        if not tiny and not torch.cuda.is_available():
            raise ValueError("no accelerator here; --tiny runs the same code in miniature on the CPU")
        if tiny:
            os.environ.setdefault("TRITON_INTERPRET", "1")  # before a training step imports Triton
        settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
        sizes = {**settings["tiny" if tiny else "full"], "arms": settings["arms"]}
        device = torch.device("cpu" if tiny else "cuda")
        out.mkdir(parents=True, exist_ok=True)
        found = machine.describe(device, sizes["peaks"])
        return cls(out.absolute(), resolve(str(home or out / "home")), minutes, jobs, device, sizes, found, tiny,
                   tasks, seeds)  # fmt: skip

    @property
    def scratch(self) -> Path:
        """Where trials go that are measured and not kept."""
        return self.home / "scratch"

    def ledger(self, part: str) -> Ledger:
        """An empty one for a part that starts now."""
        return Ledger(self, part, time.monotonic() + 60 * self.minutes)


@dataclass
class Ledger:
    """The rows of one part."""

    campaign: Campaign
    part: str
    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: str = field(default_factory=now)

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, at once on disk, and show it."""
        self.rows.append(row)
        self._write()
        print(
            "  " + " · ".join(f"{name} {shown(value)}" for name, value in row.items() if value is not None), flush=True
        )

    def measure(self, what: dict[str, Any], measurement: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A row of `what` and what the measurement says; if it fails or the time is up, of why there is nothing."""
        if self.seconds_left() < 0:
            row = {**what, "failed": f"not started: the part's {self.campaign.minutes:g} minutes were over"}
        else:
            try:
                row = {**what, **measurement()}
            except Exception as error:
                row = {**what, "failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        self.add(row)
        return row

    def note(self, text: str) -> None:
        """A finding in words, under the table."""
        self.notes.append(text)
        self._write()

    def command(self) -> str:
        """What runs this part again."""
        asked = self.campaign
        said = f"python -P -m suite.campaign {self.part} --out DIR --minutes {asked.minutes:g}"
        if self.part in ("board", "sweep"):
            said += f" --jobs {asked.jobs}"
        if self.part == "board":
            said += f" --tasks {','.join(asked.tasks)}" if asked.tasks else ""
            said += f" --seeds {asked.seeds}" if asked.seeds else ""
        return said + (" --tiny" if asked.tiny else "")

    def _write(self) -> None:
        facts: dict[str, Any] = {"part": self.part, "started": self.started, "ended": now(), "command": self.command()}
        facts |= {"tiny": self.campaign.tiny, "machine": self.campaign.machine, "rows": self.rows, "notes": self.notes}
        write_json(self.campaign.out / f"{self.part}.json", facts)

    def finish(self, title: str, tables: Sequence[tuple[str, Sequence[str], Sequence[dict[str, Any]]]]) -> None:
        """Write the part's page.

        Args:
            tables: heading, columns and rows of each; a failed row shows why.
        """
        self._write()
        lines = [f"# {title}", "", *machine.lines(self.campaign.machine), "", f"Command: `{self.command()}`", ""]
        if self.campaign.tiny:
            lines += ["In miniature: this shows that it runs, and nothing about speed.", ""]
        for heading, columns, rows in tables:
            lines += [f"## {heading}", "", *table(columns, rows), ""]
        lines += [f"- {text}" for text in self.notes]
        (self.campaign.out / f"{self.part}.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table; nested values are reached by dots, and a row that failed says why in its last column."""
    if not rows:
        return ["Nothing was measured."]
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        cells = [shown(lookup(row, column)) for column in columns]
        if "failed" in row:
            cells[-1] = str(row["failed"]).replace("|", "/")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def lookup(row: dict[str, Any], column: str) -> Any:
    value: Any = row
    for name in column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
