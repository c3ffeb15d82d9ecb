"""Which trials published boards share, and what rests on each."""

from __future__ import annotations

import json
import re

import pytest

from results.records.published import resting, trial_folders, trials_of, unpublished


def board(folder, *keys, past=()):
    folder.mkdir(parents=True)
    superseded = {"superseded": {"arms": [], "trials": [{"trial_key": key} for key in past]}} if past else {}
    content = {"trials": [{"trial_key": key} for key in keys], **superseded}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def test_boards_and_verdicts_of_a_folder_share_its_trials(tmp_path):
    for place in ("main", "main-tuned", "claims.json"):
        assert trials_of(tmp_path / place) == tmp_path / "trials"
    assert trials_of(tmp_path / "protocol-1" / "main") == tmp_path / "protocol-1" / "trials"


def test_a_board_of_other_hardware_has_those_of_its_kind(tmp_path):
    for name in ("main@nvidia-h100", "other@nvidia-h100"):
        assert trials_of(tmp_path / name) == tmp_path / "trials@nvidia-h100"


def test_every_folder_of_trials_is_found_and_no_other(tmp_path):
    for name in ("trials", "trials@gpu", "protocol-1/trials", "main", "trials-cpu"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "main" / "trials").write_text("")
    found = [path.relative_to(tmp_path).as_posix() for path in trial_folders(tmp_path)]
    assert found == ["protocol-1/trials", "trials", "trials@gpu"]


def test_what_rests_on_a_trial(tmp_path):
    board(tmp_path / "one", "a", "b")
    board(tmp_path / "two", "b", past=["c"])
    board(tmp_path / "one@gpu", "a", "d")
    board(tmp_path / "protocol-1" / "one", "e")
    verdicts = [
        {"verdict": "reproduced", "trial_keys": ["b", "f"]},
        {"verdict": "undecided", "trial_keys": ["g"]},
        {"verdict": "not testable here", "trial_keys": []},
    ]
    (tmp_path / "claims.json").write_text(json.dumps(verdicts))
    assert resting(tmp_path / "trials") == {
        "a": {"one"},
        "b": {"one", "two", "claims.json"},
        "c": {"two"},
        "f": {"claims.json"},
    }
    assert resting(tmp_path / "trials@gpu") == {"a": {"one@gpu"}, "d": {"one@gpu"}}
    assert resting(tmp_path / "none" / "trials") == {}


@pytest.mark.parametrize("text", ["{", '"x"', '{"trials": [{}]}', '{"trials": null}', "[" * 100_000])
@pytest.mark.parametrize("name", ["one/manifest.json", "claims.json"])
def test_what_cannot_be_read_is_named_and_taken_for_nothing(tmp_path, name, text):
    (tmp_path / "one").mkdir()
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name}: cannot be read (")):
        resting(tmp_path / "trials")


def test_boards_that_list_a_trial_without_a_record_are_behind_once_it_is_published(tmp_path):
    place = board(tmp_path / "mine", "a", "b")
    board(tmp_path / "behind", "a")
    board(tmp_path / "abreast", "b")
    (tmp_path / "trials" / "b").mkdir(parents=True)
    (tmp_path / "trials" / "b" / "record.json").write_text("{}")
    assert unpublished(place, ["a", "b"]) == ["behind"]
