"""Whether the trials of a submission belong together: one kind of hardware, one corpus, no trial handed in twice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from results.submissions.contents import Trial
from results.text import counted

CLOSE = 1e-6


@dataclass
class Together:
    """What is kept of every trial to compare it with the others."""

    hardware: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # label → trials
    corpora: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    bytes_a_token: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))  # by task
    curves: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # digest → trials
    sizes: dict[tuple[str, str], dict[str, list[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    changed_code: int = 0

    def add(self, trial: Trial, arm: str, task: str, where: str) -> None:
        """Note a trial that has a record."""
        record = trial.record
        assert record is not None
        provenance, measures = record["provenance"], record["measures"]
        self.hardware[provenance["hardware"]["label"]].append(where)
        self.corpora[task][str(provenance.get("corpus_digest"))].append(where)
        self.sizes[arm, task][str(measures.get("parameters"))].append(where)
        self.changed_code += provenance.get("git_dirty") is True
        if measures["val_loss"] and measures.get("bits_per_byte"):
            self.bytes_a_token[task].append((measures["bits_per_byte"] / measures["val_loss"], where))
        if trial.curves is not None and "train_loss" in trial.curves:
            digest = hashlib.sha256(trial.curves["train_loss"].tobytes()).hexdigest()
            self.curves[f"{arm} on {task} {digest}"].append(where)

    def problems(self) -> Iterator[str]:
        """A line for everything that keeps the trials from being compared with each other."""
        if len(self.hardware) > 1:
            yield f"hardware: {len(self.hardware)} kinds ({_shown(self.hardware)}); a board compares on one"
        for task, digests in self.corpora.items():
            if len(digests) > 1:
                yield f"{task}: trained on {len(digests)} different corpora ({_shown(digests)})"
        for (arm, task), sizes in self.sizes.items():
            if len(sizes) > 1:
                yield f"{arm} on {task}: {len(sizes)} different counts of parameters ({_shown(sizes)})"
        for task, ratios in self.bytes_a_token.items():
            usual = sorted(ratio for ratio, _ in ratios)[len(ratios) // 2]
            for ratio, where in ratios:
                if abs(ratio - usual) > CLOSE * usual:
                    yield (
                        f"{where}: measures.bits_per_byte: {ratio:.6g} of its loss; {usual:.6g} in the other trials "
                        f"of {task}"
                    )
        for same in self.curves.values():
            if len(same) > 1:
                yield f"{' and '.join(same)}: the same losses at every step; seeds differ"

    def remarks(self) -> Iterator[str]:
        """What a reader should know that forbids nothing."""
        if self.changed_code:
            made = counted(self.changed_code, "trial was", "trials were")
            yield f"{made} made with changes to the code that no revision holds"


def _shown(groups: Mapping[str, list[Any]]) -> str:
    """The groups, largest first, with one member of each."""
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return "; ".join(f"{name!r:.60} in {len(members)}, as in {members[0]}" for name, members in ordered[:4])
