"""A stranger's rule, a suite of seconds, and an archive's files to be changed and sealed again."""

from __future__ import annotations

import functools
import hashlib
import json

from results.submissions import archive, packing
from results.submissions.expected import trial_key

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


def set_at(path, value):
    """A change of one value, `value` being it or a function of what was there."""

    def change(content):
        *folders, leaf = path.split(".")
        for folder in folders:
            content = content[int(folder) if isinstance(content, list) else folder]
        content[leaf] = value(content[leaf]) if callable(value) else value

    return change


def drop_trials(wanted, manifest="manifests/tiny.json"):
    """Trials left out of a manifest, with their files."""

    def tamper(files):
        content = json.loads(files[manifest])
        gone = [cell for cell in content["trials"] if wanted(cell)]
        assert gone
        for cell in gone:
            for part in ("record.json", "curves.json", "load.bin", "val_load.bin"):
                del files[f"trials/{cell['trial_key']}/{part}"]
        set_at("trials", [cell for cell in content["trials"] if cell not in gone])(content)
        files[manifest] = json.dumps(content).encode()

    return tamper


def rekeyed(path, value, arm="strange"):
    """A configuration changed in all of an arm's trials, with the keys, folders and manifest that fit."""

    def tamper(files):
        renamed = {}
        for name in files.records(arm):
            content = json.loads(files[name])
            set_at(path, value)(content)
            old, new = content["trial_key"], trial_key(content["config"])
            content["trial_key"] = renamed[old] = new
            for part in ("curves.json", "load.bin", "val_load.bin"):
                files[f"trials/{new}/{part}"] = files.pop(f"trials/{old}/{part}")
            del files[name]
            files[f"trials/{new}/record.json"] = json.dumps(content).encode()

        def change(content):
            for cell in content["trials"]:
                cell["trial_key"] = renamed.get(cell["trial_key"], cell["trial_key"])

        files.json("manifests/tiny.json", change)

    return tamper


def renamed_arm(old, new, manifest="manifests/tiny.json"):
    """An arm under another name, so that it is the submission's own; its trials stay what they were."""

    def change(content):
        for entry in (*content["arms"], *content["trials"]):
            if entry["arm"] == old:
                entry["arm"] = new

    return lambda files: files.json(manifest, change)
