"""A home with a tiny suite trained in it, a stranger's rule among the arms, and its archive."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from submitted_files import RULE, TINY, Files

from results.submissions import archive, packing
from results.submissions.verify import verify


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


@pytest.fixture
def files(packed):
    return Files(archive.read(packed))
