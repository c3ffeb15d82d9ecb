"""What publishing writes among the trials that boards share, what it leaves alone, and what it removes."""

from __future__ import annotations

import json
import shutil

import pytest
from synthetic_records import ARMS, write_suite

from results.records.published import compact
from suite.running import publishing
from suite.running.publishing import folder_of_boards, publish_trials, refuse_to_change_trials


def whole(key):
    """Keys are spelt by one of their digits."""
    return key * 16 if len(key) == 1 else key


def trial(home, key, loss=4.0):
    folder = home / "trials" / whole(key)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"measures": {"val_loss": loss}, "provenance": {"started": "today", "hardware": {"label": "a CPU"}}}
    (folder / "record.json").write_text(json.dumps(record, indent=1))


def publish(boards, name, keys, home):
    """Write what rests on the trials, and then these."""
    place, keys = boards / name, [whole(key) for key in keys]
    refuse_to_change_trials(place, keys, home)
    if name == "claims.json":
        place.write_text(json.dumps([{"verdict": "reproduced", "trial_keys": keys}]))
    else:
        place.mkdir(parents=True, exist_ok=True)
        (place / "manifest.json").write_text(json.dumps({"trials": [{"trial_key": key} for key in keys]}))
    publish_trials(place, keys, home)


@pytest.fixture
def home(tmp_path):
    for key in "abcdef":
        trial(tmp_path / "home", key)
    return tmp_path / "home"


def killed(*_):
    raise KeyboardInterrupt


def held(boards):
    names = {path.parent.name for path in boards.glob("trials/*/record.json")}
    return {name[0] if name == name[0] * 16 else name for name in names}


def test_a_trial_of_several_boards_is_there_once(tmp_path, home):
    publish(tmp_path, "one", ["a", "b"], home)
    publish(tmp_path, "two", ["b", "c"], home)
    assert held(tmp_path) == {"a", "b", "c"}
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["manifest.json"]


def test_a_trial_goes_when_nothing_rests_on_it_any_more(tmp_path, home):
    publish(tmp_path, "one", ["a", "b", "c"], home)
    publish(tmp_path, "two", ["b"], home)
    publish(tmp_path, "claims.json", ["c", "d"], home)
    publish(tmp_path, "one", ["e"], home)
    assert held(tmp_path) == {"b", "c", "d", "e"}  # b is the other board's, c the verdict's
    publish(tmp_path, "claims.json", [], home)
    assert held(tmp_path) == {"b", "e"}


def test_what_a_kill_left_over_goes_next_time_and_nothing_else(tmp_path, home, monkeypatch):
    publish(tmp_path, "one", ["a", "b"], home)
    with monkeypatch.context() as patch:
        patch.setattr(publishing.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, "one", ["c", "d"], home)
    assert held(tmp_path) == {"a", "b", "c", "d"}  # everything is written before anything goes
    publish(tmp_path, "two", ["e"], home)
    assert held(tmp_path) == {"c", "d", "e"}


def test_what_publishing_did_not_write_stays(tmp_path, home):
    named = tmp_path / "trials" / "my-notes"
    beside, below, link = (tmp_path / "trials" / whole(digit) for digit in "123")
    for folder in (named, beside, below / "more"):
        folder.mkdir(parents=True)
    (named / "record.json").write_text("{}")
    (beside / "notes.txt").write_text("mine")
    link.symlink_to(home / "trials" / whole("a"))
    publish(tmp_path, "one", ["a"], home)
    assert all(path.exists() for path in (named / "record.json", beside / "notes.txt", below / "more", link))


def test_nothing_goes_while_nobody_knows_what_rests_on_it(tmp_path, home):
    publish(tmp_path, "one", ["a"], home)
    (tmp_path / "one" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"one/manifest.json: cannot be read \(JSONDecodeError"):
        publish(tmp_path, "two", ["b"], home)
    assert held(tmp_path) == {"a"}


@pytest.mark.parametrize("other", ["other", "claims.json"])
def test_the_first_record_stays_while_something_else_rests_on_it(tmp_path, home, other):
    publish(tmp_path, other, ["a", "b"], home)
    b = whole("b")
    before = (tmp_path / "trials" / b / "record.json").read_bytes()
    trial(home, "b", loss=5.0)
    said = (
        f"one: trial {b}: loss 5.0 of today on a CPU in this home, loss 4.0 of today on a CPU published; "
        f"expected the published records, needed by {other} too"
    )
    with pytest.raises(ValueError, match=said):
        publish(tmp_path, "one", ["b", "c"], home)
    assert not (tmp_path / "one").exists()
    assert (tmp_path / "trials" / b / "record.json").read_bytes() == before
    shutil.rmtree(home / "trials" / b)
    with pytest.raises(ValueError, match=f"trial {b}: no record in this home, loss 4.0 of today on a CPU published"):
        publish(tmp_path, "one", ["b", "c"], home)
    shutil.copytree(tmp_path / "trials" / b, home / "trials" / b)  # as it says
    publish(tmp_path, "one", ["b", "c"], home)
    assert held(tmp_path) == {"a", "b", "c"}


def test_how_many_records_differ_is_said(tmp_path, home):
    publish(tmp_path, "other", ["a", "b", "c"], home)
    for key in "abc":
        trial(home, key, loss=5.0)
    with pytest.raises(ValueError, match=r"trial a{16}: .* published, and 2 others; expected"):
        publish(tmp_path, "one", ["a", "b", "c"], home)


def test_a_board_that_alone_rests_on_a_trial_gets_the_homes_record(tmp_path, home):
    publish(tmp_path, "one", ["a"], home)
    trial(home, "a", loss=5.0)
    publish(tmp_path, "one", ["a"], home)
    published = (tmp_path / "trials" / whole("a") / "record.json").read_bytes()
    assert published == compact(json.loads((home / "trials" / whole("a") / "record.json").read_text()))


def test_a_board_that_waited_for_a_trial_does_not_keep_others_from_publishing_it(tmp_path, home):
    publish(tmp_path, "one", ["new"], home)
    trial(home, "new")
    publish(tmp_path, "two", ["new"], home)
    assert held(tmp_path) == {"new"}


def test_a_failure_gives_way_to_a_record(tmp_path, home):
    (home / "trials" / "late").mkdir()
    (home / "trials" / "late" / "failure.json").write_text('{"error": "E"}')
    publish(tmp_path, "one", ["late"], home)
    assert [path.name for path in (tmp_path / "trials" / "late").iterdir()] == ["failure.json"]
    trial(home, "late")
    publish(tmp_path, "one", ["late"], home)
    assert [path.name for path in (tmp_path / "trials" / "late").iterdir()] == ["record.json"]


def test_a_trial_that_is_there_stays_as_it_is_and_a_record_comes_last(tmp_path, monkeypatch):
    manifest, _ = write_suite(tmp_path / "home", ARMS[:2], seeds=1, aa=False)
    key = manifest["trials"][0]["trial_key"]
    curves = tmp_path / "trials" / key / "curves.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, "one", [key], tmp_path / "home")
    assert curves.exists()
    assert held(tmp_path) == set()  # whoever sees a record sees a whole trial
    publish(tmp_path, "one", [key], tmp_path / "home")
    assert held(tmp_path) == {key}
    before = curves.stat().st_mtime_ns
    publish(tmp_path, "two", [key], tmp_path / "home")
    assert curves.stat().st_mtime_ns == before
    curves.unlink()
    publish(tmp_path, "two", [key], tmp_path / "home")
    assert curves.exists()


def test_a_home_is_no_folder_of_boards(tmp_path, home):
    (home / "suites").mkdir()
    with pytest.raises(ValueError, match="home: is a home, with trials of its own; expected a folder of published"):
        folder_of_boards(home)
    assert folder_of_boards(tmp_path) == tmp_path
