"""A stranger's row on a copy of each board published under this protocol, and what becomes of the other rows."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import results
from results.records import load_record
from results.records.published import trials_of
from results.submissions import boards, merging, packing
from results.submissions.contents import Submission, Trial, columns
from results.submissions.expected import trial_key
from results.submissions.verify import Report
from suite import PROTOCOL

PUBLISHED = Path(results.__file__).parent / "published"
BOARDS = [
    path.parent
    for path in sorted(PUBLISHED.glob("*/manifest.json"))
    if json.loads(path.read_text())["protocol_version"] == PROTOCOL
]


def strangers(folder):
    """A submission to a published board: its baseline, and the trials of its first other arm as those of a new rule."""
    manifest = json.loads((folder / "manifest.json").read_text())
    beside = {manifest["baseline"], manifest.get("aa_arm"), *(manifest.get("horizons") or {}).values()} - {None}
    donor = next(arm for arm in manifest["arms"] if arm["arm"] not in beside and arm.get("knob") is None)
    theirs = copy.deepcopy(packing.cut(manifest, [], [*beside, donor["arm"]], [manifest["tasks"][0]["name"]]))
    theirs["trials"] = [cell for cell in theirs["trials"] if (trials_of(folder) / cell["trial_key"]).is_dir()]
    for arm in theirs["arms"]:
        if arm["arm"] == donor["arm"]:
            arm |= {"arm": "my_rule", "strategy": "my_rule", "title": "My rule"}
    trials = {}
    for cell in theirs["trials"]:
        place = trials_of(folder) / cell["trial_key"]
        record = load_record(place)
        if cell["arm"] == donor["arm"]:
            cell["arm"] = record["config"]["strategy"]["name"] = "my_rule"
            cell["trial_key"] = record["trial_key"] = trial_key(record["config"])
        table = pq.read_table(place / "curves.parquet").to_pydict()
        trials[cell["trial_key"]] = Trial(cell["trial_key"], record, columns(table))
    head = {"by": "Ada Lovelace", "board": theirs["suite"]}
    return donor["arm"], Report(
        submission=Submission(head, {theirs["suite"]: theirs}, None, {}, [], "a" * 64), trials=trials
    )


@pytest.mark.slow
@pytest.mark.parametrize("folder", BOARDS, ids=lambda folder: folder.name)
def test_a_strangers_row_on_a_copy_of_a_published_board(folder, tmp_path):
    from suite.cli.submissions import _renew
    from suite.running import joining

    shutil.copytree(folder, tmp_path / folder.name)
    for cell in json.loads((folder / "manifest.json").read_text())["trials"]:
        place = trials_of(folder) / cell["trial_key"]
        if place.is_dir():
            shutil.copytree(place, trials_of(tmp_path / folder.name) / place.name)
    before = json.loads((folder / "leaderboard.json").read_text())["rows"]
    donor, report = strangers(folder)
    merged = merging.merge(report.submission, report.trials, tmp_path, "2026-01-31")
    assert merged.folder == tmp_path / folder.name
    joining.write(merged, report)
    _renew(merged.folder, merged.hardware)

    after = json.loads((merged.folder / "leaderboard.json").read_text())["rows"]
    rows = {(row["arm"], row["task"]): row for row in after}
    for old in before:
        new = rows[old["arm"], old["task"]]
        assert new["seeds"] == old["seeds"]
        assert new["val_loss"]["mean"] == pytest.approx(old["val_loss"]["mean"], rel=1e-12)
        assert new["submitted"] == old.get("submitted")
    mine = [row for row in after if row["arm"] == "my_rule"]
    assert len(mine) == 1
    assert mine[0]["submitted"] == [{"by": "Ada Lovelace", "when": "2026-01-31"}]
    assert mine[0]["delta_loss"]["mean"] == rows[donor, mine[0]["task"]]["delta_loss"]["mean"]
    assert "My rule (by Ada Lovelace, 2026-01-31)" in (merged.folder / "leaderboard.md").read_text()
    assert boards.check_boards(tmp_path, [PROTOCOL]) == []
