"""A home with a tiny suite trained in it, a stranger's rule among the arms, and its archive."""

from __future__ import annotations

import functools
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from results.submissions import archive, packing
from results.submissions.verify import verify

RULE = """
from dataclasses import dataclass
from pathlib import Path

from strategies import BiasStrategy, Knob


class Strange(BiasStrategy):
    name = "strange"
    title = "A stranger's rule"
    knob = Knob("rate", (0.001, 0.003, 0.01, 0.03, 0.1))

    @dataclass(frozen=True, kw_only=True)
    class Config(BiasStrategy.Config):
        rate: float = 0.01

    def step(self, violation_E):
        return self.rate * violation_E.sign()
"""
TINY = {
    "suite": "tiny",
    "title": "a tiny suite",
    "tasks": [
        {
            "task": "zipf-nano",
            "set": {
                "rung.steps": 12,
                "rung.width": 32,
                "rung.heads": 1,
                "rung.layers": 2,
                "rung.experts": 4,
                "rung.top_k": 2,
                "rung.expert_width": 16,
                "rung.vocab_size": 64,
                "rung.sequence_length": 16,
                "rung.batch_sequences": 4,
                "rung.eval_sequences": 8,
                "rung.checkpoint_every": 4,
                "rung.eval_every": 5,
                "rung.probe_every": 3,
                "rung.warmup_steps": 2,
            },
        }
    ],
    "strategies": ["none", "aux_loss"],
    "baseline": "aux_loss",
    "seeds": 3,
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The home, the suite's file and the plug-in's, after two of the suite's three seeds."""
    import tasks
    from strategies import registry
    from strategies.registry import lookup
    from suite.planning import library
    from suite.planning.plan import make_plan
    from suite.running.attempt import run_trial

    folder = tmp_path_factory.mktemp("home-of-grace-hopper")
    suite_file, rule = folder / "tiny.yaml", folder / "strange.py"
    suite_file.write_text(yaml.safe_dump(TINY))
    rule.write_text(RULE)
    before = dict(lookup._plugins)
    registry.load_plugin(rule)
    plan = make_plan(
        library.load(str(suite_file)),
        only_arms=["none", "aux_loss", "strange"],
        seeds=[0, 1],
        plugins={"strange": str(rule)},
        home=folder,
    )
    tasks.prepare(plan.trials[0].cell.task, folder / "cache", lambda _: None)
    plan.write_manifest(folder)
    for trial in plan.trials:
        run_trial(plan.write_trial(folder, trial).path, folder / "cache")
    lookup._plugins.clear()
    lookup._plugins.update(before)  # from here on the rule is a stranger's
    return folder


@pytest.fixture(scope="session")
def packed(trained):
    """The archive as `pack` makes it."""
    path = trained / "tiny.tar.gz"
    manifest = json.loads((trained / "suites" / "tiny.json").read_text())
    packing.pack(path, [manifest], trained / "trials", by="Ada Lovelace", version="0.1.0", plugins={"strange": RULE})
    return path


@pytest.fixture(scope="session")
def checked(trained):
    """Verify an archive by the tiny suite."""
    from strategies.registry.source_text import text_digest
    from suite.running import expectation

    @functools.cache
    def expect(name):
        return expectation.expect(name, None, [str(trained / "tiny.yaml")])

    def check(path: Path, now: datetime | None = None):
        return verify(path, lambda name, choice: expect(name), text_digest, now or datetime.now(UTC))

    return check


class Files(dict):
    """An archive's files, to be changed and written again as a stranger would who knows the format."""

    def json(self, name, change):
        """Change a JSON file in place."""
        value = json.loads(self[name])
        change(value)
        self[name] = packing.encoded(value)

    def records(self, arm=None):
        """Names of the records of an arm, by seed; of all arms."""
        manifest = json.loads(self["manifests/tiny.json"])
        cells = sorted(manifest["trials"], key=lambda cell: (cell["arm"], cell["seed"]))
        return [f"trials/{cell['trial_key']}/record.json" for cell in cells if arm in (None, cell["arm"])]

    def seal(self):
        """Digests that fit."""

        def renew(head):
            head["files"] = {
                name: hashlib.sha256(content).hexdigest() for name, content in self.items() if name != "submission.json"
            }

        self.json("submission.json", renew)
        return self

    def write(self, path):
        archive.write(path, {name: functools.partial(bytes, content) for name, content in self.items()})
        return path


@pytest.fixture
def files(packed):
    return Files(archive.read(packed))
