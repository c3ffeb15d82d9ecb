"""Which submissions join which boards, and what stays of those that give way."""

from __future__ import annotations

import copy
import json

import pytest

from results.records.published import trials_of
from results.submissions import merging
from results.submissions.contents import Submission, Trial

LABEL = "CPU · AMD EPYC · 2 cores"
ARM = {"strategy": "x", "config": {}, "terms": {}}


def manifest(arms, seeds=(0, 1), suffix=""):
    """A manifest of these arms; a trial's key is spelt from its cell and the suffix."""
    cells = [
        {"arm": arm, "task": "t", "seed": seed, "trial_key": f"{arm}{seed}" + (suffix if arm not in ("base",) else "")}
        for arm in arms
        for seed in seeds
    ]
    return {
        "schema": 1,
        "suite": "tiny",
        "title": "tiny",
        "protocol_version": "2",
        "protocol_digest": "d",
        "baseline": "base",
        "control": None,
        "margin": None,
        "track": "as-published",
        "aa_arm": None,
        "tasks": [{"name": "t", "tokens": 10}],
        "arms": [{**ARM, "arm": arm, "title": arm} for arm in arms],
        "trials": cells,
    }


def record(key, loss, label=LABEL):
    return {
        "schema": 1,
        "trial_key": key,
        "config": {"strategy": ARM | {"name": "x"}, "task": {"name": "t"}, "seed": 0},
        "provenance": {"hardware": {"label": label}},
        "status": "finished",
        "measures": {
            "steps": 1,
            "tokens": 10,
            "val_loss": loss,
            "max_vio_global": None,
            "max_vio_batch": None,
            "overflow": None,
            "dead_experts": None,
        },
        "timing": {"train_seconds": 1.0, "tokens_per_second": 1.0, "step_ms": {}},
    }


def submission(content, by="Ada", digest="a" * 64):
    return Submission({"by": by, "board": "tiny"}, {"tiny": content}, None, {}, [], digest)


def trials(content, loss=4.0, label=LABEL):
    return {
        cell["trial_key"]: Trial(cell["trial_key"], record(cell["trial_key"], loss + 0.1 * cell["seed"], label))
        for cell in content["trials"]
    }


@pytest.fixture
def board(tmp_path):
    """A published board with a baseline and one arm of Equipoise's own."""
    publish(tmp_path / "tiny", manifest(["base", "own"]))
    return tmp_path


def publish(folder, content, label=LABEL):
    folder.mkdir()
    for key, trial in trials(content, label=label).items():
        (trials_of(folder) / key).mkdir(parents=True, exist_ok=True)
        (trials_of(folder) / key / "record.json").write_text(json.dumps(trial.record))
    (folder / "manifest.json").write_text(json.dumps(content))
    (folder / "leaderboard.json").write_text(json.dumps({"hardware": label}))


def join(board, content, by="Ada", when="2026-01-31", digest="a" * 64, **made):
    merged = merging.merge(submission(content, by, digest), trials(content, **made), board, when)
    held = trials(content, **made)
    merged.folder.mkdir(exist_ok=True)
    for key in (key for key in merged.added if not merged.has(key)):
        (trials_of(merged.folder) / key).mkdir(parents=True, exist_ok=True)
        (trials_of(merged.folder) / key / "record.json").write_text(json.dumps(held[key].record))
    (merged.folder / "manifest.json").write_text(json.dumps(merged.manifest))
    (merged.folder / "leaderboard.json").write_text(json.dumps({"hardware": made.get("label", LABEL)}))
    return merged


def arms(merged):
    return {arm["arm"]: arm for arm in merged.manifest["arms"]}


def test_a_strangers_arm_joins_with_who_and_when(board):
    merged = join(board, manifest(["base", "strange"]))
    assert merged.folder == board / "tiny"
    assert merged.added == ["strange0", "strange1"]
    assert list(arms(merged)) == ["base", "own", "strange"]
    mark = {"by": "Ada", "when": "2026-01-31", "archive": "a" * 16, "trials": ["strange0", "strange1"]}
    assert arms(merged)["strange"]["submitted"] == [mark]
    assert "submitted" not in arms(merged)["base"]  # the board's own records stand
    assert len(merged.manifest["trials"]) == 6


def test_other_hardware_makes_a_board_of_its_own(board):
    merged = join(board, manifest(["base", "strange"]), label="NVIDIA H100 80GB HBM3")
    assert merged.folder == board / "tiny@nvidia-h100-80gb-hbm3"
    assert merged.added == ["base0", "base1", "strange0", "strange1"]
    assert arms(merged)["base"]["submitted"][0]["by"] == "Ada"
    again = join(board, manifest(["base", "other"]), label="NVIDIA H100 80GB HBM3")
    assert again.folder == merged.folder
    assert again.added == ["other0", "other1"]
    assert json.loads((board / "tiny" / "manifest.json").read_text()) == manifest(["base", "own"])


def test_the_first_board_of_a_suite_takes_the_suites_name(tmp_path):
    assert join(tmp_path, manifest(["base"]), label="NVIDIA H100").folder == tmp_path / "tiny"


def test_a_baseline_that_came_out_differently_is_refused(board):
    with pytest.raises(merging.Apart, match=r"base on t, seed 0: 9\.0 in the submission, 4\.0 published, further"):
        join(board, manifest(["base", "strange"]), loss=9.0)


def test_a_baseline_within_the_spread_is_remarked(board):
    merged = join(board, manifest(["base", "strange"]), loss=4.001)
    assert len(merged.remarks) == 2
    assert "within the spread of its seeds, and the published one stays" in merged.remarks[0]


def test_a_submission_without_a_common_trial_is_refused(board):
    with pytest.raises(merging.Apart, match="no trial of base on t is in both; nothing ties them together"):
        join(board, manifest(["base", "strange"], seeds=(7, 8)))


def second(arms):
    """A manifest of another board's."""
    return manifest(arms) | {"suite": "second"}


def test_a_board_shares_the_trials_that_others_have(board):
    before = (board / "trials" / "base0" / "record.json").read_bytes()
    merged = join(board, second(["base", "strange"]), loss=4.001)
    assert merged.folder == board / "second"
    assert merged.added == ["base0", "base1", "strange0", "strange1"]
    assert len(merged.remarks) == 2
    assert (board / "trials" / "base0" / "record.json").read_bytes() == before  # the first that is published stays
    assert arms(merged)["strange"]["submitted"][0]["trials"] == ["strange0", "strange1"]


def test_a_trial_that_another_board_has_otherwise_is_refused(board):
    with pytest.raises(merging.Apart, match=r"second: base on t, seed 0: 9\.0 in the submission, 4\.0 published"):
        join(board, second(["base", "strange"]), loss=9.0)


def test_trials_of_other_hardware_are_not_shared(board):
    """Nor does the board take the suite's name, whose trials lie among those of the first hardware."""
    merged = join(board, second(["base", "strange"]), label="NVIDIA H100")
    assert merged.folder == board / "second@nvidia-h100"
    assert merged.remarks == []
    assert (board / "trials@nvidia-h100" / "base0" / "record.json").exists()


def test_the_second_of_two_finds_the_trials_that_the_first_will_share(tmp_path):
    first = manifest(["base"])
    boards = {tmp_path / "tiny": merging.merge(submission(first), trials(first), tmp_path, "2026-01-31")}
    other = second(["base", "strange"])

    def merge(**made):
        return merging.merge(submission(other), trials(other, **made), tmp_path, "2026-01-31", boards)

    assert merge(label="NVIDIA H100").folder == tmp_path / "second@nvidia-h100"
    with pytest.raises(merging.Apart, match=r"second: base on t, seed 0: 9\.0 in the submission, 4\.0 published"):
        merge(loss=9.0)
    merged = merge(loss=4.001)
    assert merged.folder == tmp_path / "second"
    assert merged.unwritten["base0"]["measures"]["val_loss"] == 4.0


def test_the_record_that_another_board_will_write_first_stays_on_a_board_that_is_there(board):
    publish(board / "second", second(["base"]))
    first, late = manifest(["base", "strange"]), second(["base", "strange"])
    boards = {board / "tiny": merging.merge(submission(first), trials(first), board, "2026-01-31")}
    merged = merging.merge(submission(late), trials(late, loss=4.001), board, "2026-01-31", boards)
    assert merged.added == ["strange0", "strange1"]
    assert merged.unwritten["strange0"]["measures"]["val_loss"] == 4.0  # as remarked


def test_nothing_new_adds_nothing(board):
    content = manifest(["base", "own"])
    merged = join(board, content)
    assert merged.added == merged.superseded == []
    assert merged.manifest == content | {"twin": None, "horizons": None}


def test_a_record_alone_does_not_say_whose_it_is(board):
    """What is new is what the manifest does not list, or lists without a record."""
    content = manifest(["base", "strange"])
    stray = board / "trials" / "strange0"
    stray.mkdir()
    (stray / "record.json").write_text(json.dumps(trials(content)["strange0"].record))
    (board / "trials" / "own1" / "record.json").unlink()
    merged = join(board, manifest(["base", "own", "strange"]))
    assert merged.added == ["own1", "strange0", "strange1"]
    assert arms(merged)["own"]["submitted"][0]["trials"] == ["own1"]
    assert arms(merged)["strange"]["submitted"][0]["trials"] == ["strange0", "strange1"]


def test_an_entry_that_gave_way_may_come_back(board):
    for suffix, digest in (("", "a"), ("-new", "b"), ("", "c")):
        merged = join(board, manifest(["base", "strange"], suffix=suffix), digest=digest * 64)
    assert merged.added == ["strange0", "strange1"]
    assert arms(merged)["strange"]["submitted"][0]["archive"] == "c" * 16


@pytest.mark.parametrize("field", ["protocol_version", "protocol_digest", "margin", "baseline", "track", "control"])
def test_other_conditions_are_refused(board, field):
    content = manifest(["base", "strange"])
    content[field] = "other"
    with pytest.raises(merging.Apart, match=f"tiny: {field}: the board has"):
        join(board, content)


def test_a_task_that_changed_is_refused(board):
    content = manifest(["base", "strange"])
    content["tasks"][0]["tokens"] = 11
    with pytest.raises(merging.Apart, match="task t has changed since the board was made"):
        join(board, content)


def test_missing_seeds_are_added_to_an_arm_of_the_board(board):
    merged = join(board, manifest(["base", "own"], seeds=(0, 1, 2)))
    assert merged.added == ["base2", "own2"]
    assert arms(merged)["own"]["submitted"] == [
        {"by": "Ada", "when": "2026-01-31", "archive": "a" * 16, "trials": ["own2"]}
    ]


def test_a_boards_own_arm_does_not_give_way(board):
    with pytest.raises(merging.Apart, match="arm 'own': the board's trials are of another version of its code"):
        join(board, manifest(["base", "own"], suffix="-new"))


def test_an_entry_of_another_submitter_does_not_give_way(board):
    join(board, manifest(["base", "strange"]))
    with pytest.raises(merging.Apart, match="arm 'strange' is Ada's; expected an arm of another name"):
        join(board, manifest(["base", "strange"], suffix="-new"), by="Eve")


def test_a_newer_entry_of_the_same_submitter_takes_the_place_and_the_older_one_stays_readable(board):
    join(board, manifest(["base", "strange"]))
    merged = join(board, manifest(["base", "strange"], suffix="-new"), when="2026-02-01", digest="b" * 64)
    assert merged.superseded == ["strange"]
    assert arms(merged)["strange"]["submitted"][0]["when"] == "2026-02-01"
    live = {cell["trial_key"] for cell in merged.manifest["trials"]}
    assert {"strange0-new", "strange1-new"} <= live
    assert "strange0" not in live
    third = join(board, manifest(["base", "strange"], suffix="-newer"), when="2026-02-01", digest="c" * 64)
    past = merging.past_manifest(third.manifest)
    assert [arm["arm"] for arm in past["arms"]] == ["base", "strange until 2026-02-01", "strange until 2026-02-01 (2)"]
    assert {cell["trial_key"] for cell in past["trials"]} == {
        *("base0", "base1", "strange0", "strange1", "strange0-new", "strange1-new")
    }
    assert past["arms"][1]["submitted"][0]["when"] == "2026-01-31"  # as it was, who and when
    for key in ("strange0", "strange1"):
        assert (board / "trials" / key / "record.json").exists()


def test_an_archive_that_gave_way_does_not_come_back_by_itself(board):
    """Joining the older and the newer one again leaves the board as it is."""
    older, newer = manifest(["base", "strange"]), manifest(["base", "strange"], suffix="-new")
    join(board, older)
    once = join(board, newer, digest="b" * 64)
    for content, digest in ((older, "a"), (newer, "b")):
        again = join(board, content, when="2026-02-02", digest=digest * 64)
        assert again.added == again.superseded == []
        assert again.manifest == once.manifest


def test_an_entry_that_gave_way_before_it_was_written_gets_its_records(board):
    older, newer = manifest(["base", "strange"]), manifest(["base", "strange"], suffix="-new")
    join(board, older)
    join(board, newer, digest="b" * 64)
    lost = board / "trials" / "strange1" / "record.json"
    lost.unlink()  # as after a kill of the first
    assert join(board, older, when="2026-02-02").added == ["strange1"]
    assert lost.exists()


def test_a_board_that_was_interrupted_before_its_pages_is_of_the_hardware_of_its_records(board):
    (board / "tiny" / "leaderboard.json").unlink()
    assert join(board, manifest(["base", "strange"]), label="NVIDIA H100").folder == board / "tiny@nvidia-h100"
    assert join(board, manifest(["base", "strange"])).folder == board / "tiny"


def test_the_second_of_two_finds_the_board_as_the_first_will_leave_it(board):
    """Nothing of the first is on the disk yet."""
    first, second = manifest(["base", "strange"], seeds=(0, 1, 2)), manifest(["base", "other"], seeds=(0, 1, 2))
    boards = {}
    for content, by in ((first, "Ada"), (second, "Eve")):
        merged = merging.merge(submission(content, by), trials(content), board, "2026-01-31", boards)
        boards[merged.folder] = merged
    assert merged.added == ["other0", "other1", "other2"]  # base2 is Ada's
    assert list(arms(merged)) == ["base", "own", "strange", "other"]
    assert arms(merged)["base"]["submitted"][0]["by"] == "Ada"
    late = manifest(["base", "third"], seeds=(0, 1, 2))
    apart = trials(late) | {"base2": Trial("base2", record("base2", 9.0))}
    with pytest.raises(merging.Apart, match=r"base on t, seed 0: 9.0 in the submission, 4.2 published"):
        merging.merge(submission(late), apart, board, "2026-01-31", boards)


def test_the_first_of_two_on_different_hardware_takes_the_suites_name(tmp_path):
    boards = {}
    for label in ("NVIDIA H100", LABEL):
        merged = merging.merge(
            submission(manifest(["base"])), trials(manifest(["base"]), label=label), tmp_path, "2026-01-31", boards
        )
        boards[merged.folder] = merged
    assert [folder.name for folder in boards] == ["tiny", "tiny@cpu-amd-epyc-2-cores"]


def test_a_board_with_nothing_superseded_has_no_past(board):
    assert merging.past_manifest(manifest(["base"])) is None


def test_merging_changes_neither_the_submission_nor_the_board_on_disk(board):
    content = manifest(["base", "strange"])
    before, kept = (board / "tiny" / "manifest.json").read_text(), copy.deepcopy(content)
    merging.merge(submission(content), trials(content), board, "2026-01-31")
    assert (board / "tiny" / "manifest.json").read_text() == before
    assert content == kept
