"""Part: the tests that need an accelerator."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from suite.campaign.ledger import Campaign

ROOT = Path(__file__).resolve().parents[2]
NO_TESTS = 5  # pytest's exit code


def outcome(case: ElementTree.Element) -> tuple[str, str]:
    """passed, failed or skipped, and why."""
    for kind, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(kind)
        if found is not None:
            return word, (found.get("message") or "").splitlines()[0][:200] if found.get("message") else ""
    return "passed", ""


def run(campaign: Campaign) -> bool:
    """All tests marked `gpu`. Returns whether none failed."""
    ledger = campaign.ledger("tests")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        paths = [str(ROOT / path) for path in campaign.settings["tests"]["paths"]]
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}", *paths]
        if campaign.tiny:
            command.append("--collect-only")
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        try:
            code = subprocess.run(command, cwd=ROOT, env=environment, timeout=ledger.seconds_left()).returncode
        except subprocess.TimeoutExpired:
            code = -1
            ledger.note("The part's time was over before the tests were.")
        if report.exists():
            for case in ElementTree.parse(report).iter("testcase"):
                word, why = outcome(case)
                seconds = float(case.get("time", 0))
                name = f"{case.get('classname')}::{case.get('name')}"
                ledger.add({"test": name, "outcome": word, "seconds": seconds, "why": why})
    counts = [sum(row["outcome"] == word for row in ledger.rows) for word in ("passed", "failed", "skipped")]
    ledger.note("{} passed, {} failed, {} skipped.".format(*counts))
    ledger.finish("Tests that need an accelerator", [("Tests", ["test", "outcome", "seconds", "why"], ledger.rows)])
    return code in (0, NO_TESTS)
