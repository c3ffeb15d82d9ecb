"""A suite small enough that a trial takes a fraction of a second: synthetic source, two layers, a dozen steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

TINY = {
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
}


@pytest.fixture(autouse=True)
def _plugins_of_its_own(monkeypatch):
    """A plug-in that a test loads is gone when the test ends: no test depends on those before it."""
    from strategies.registry import lookup

    monkeypatch.setattr(lookup, "_plugins", dict(lookup._plugins))


@pytest.fixture
def tiny_suite():
    """Parsed YAML of a tiny suite; tests change it and hand it to `suite.planning.config.parse`."""
    return {
        "suite": "tiny",
        "title": "a tiny suite",
        "tasks": [{"task": "zipf-nano", "set": dict(TINY)}],
        "strategies": ["none", "aux_loss", "smebu"],
        "baseline": "aux_loss",
        "seeds": 2,
        "aa": False,
    }


@pytest.fixture
def suite_file(tiny_suite, tmp_path: Path):
    """The tiny suite as a file for the command line."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_suite))
    return path


@pytest.fixture
def home(tmp_path: Path):
    from suite.storage.home import resolve

    return resolve(str(tmp_path / "home"))
