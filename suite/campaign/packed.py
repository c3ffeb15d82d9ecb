"""One of several trials that share an accelerator: `python -P -m suite.campaign.packed FOLDER CACHE SECONDS`.

Says "ready" once it has warmed up, starts at a line on standard input, and ends with `{"tokens", "seconds"}`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from suite.storage.trial import TrialFolder
from suite.training.distributed import World
from suite.training.trainer import Interrupted, Training

WARM_UP = 10  # steps


def main() -> int:
    folder, cache, seconds = TrialFolder(Path(sys.argv[1])), Path(sys.argv[2]), float(sys.argv[3])
    training = Training(folder, cache, World(), lambda _: None)

    def train_until(done: bool, deadline: float) -> None:
        """The engine's own loop, with its evaluations and probes."""
        try:
            training.run(lambda: training.step >= WARM_UP if done else time.monotonic() > deadline)
        except Interrupted:
            return
        raise ValueError(f"the trial ended after {training.step} steps; give it more")

    training.save = lambda: None  # type: ignore[method-assign]  # a checkpoint per trial is not what is timed
    train_until(True, 0.0)
    print("ready", flush=True)
    sys.stdin.readline()
    started, before = time.monotonic(), training.step
    train_until(False, started + seconds)
    tokens = (training.step - before) * training.rung.tokens_per_step
    print(json.dumps({"tokens": tokens, "seconds": time.monotonic() - started}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
