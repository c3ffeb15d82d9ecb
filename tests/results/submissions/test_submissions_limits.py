"""What a stranger may write into JSON, into text, and anywhere else: never more than a line in the report."""

from __future__ import annotations

import copy
import json
import random
import time

import numpy as np
import pytest

from results.submissions import contents, recount, safe
from results.submissions.expected import trial_key
from suite.planning import trials
from suite.training import measures, record


@pytest.mark.parametrize(
    "content",
    [b"NaN", b"-Infinity", b"1e999", b'{"a": 1, "a": 2}', b"[" * 99, b'"\\ud800"', b"1" * 99, b"{", b"", b"\xff", b'"'],
)
def test_json_that_is_refused(content):
    with pytest.raises(safe.Unreadable) as caught:
        safe.parse(content)
    assert str(caught.value).isprintable()


def test_json_that_is_read():
    value = {"a": [1, 2.5, None, True, 'b[[[[[[[[[[[[[[[[[[[[["\\']}
    assert safe.parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "content", [b'"\\"' * 400_000, b'"' + b'\\"' * 400_000 + b"\\", b'"' * 400_001, b"[" * 800_000]
)
def test_depth_takes_no_longer_than_the_text_is_long(content):
    started = time.process_time()
    safe.depth(content)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "text",
    [
        *("<b>", "a|b", "[a](b)", "`a`", "https://a.b", "&lt;", "javascript:alert(1)", "{{a}}", "a\\b"),
        *("a\nb", "a\u200bb", "a\u202eb", "\x1b[31m", "\ud800", "", " ", 1, None, "x" * 201),
    ],
)
def test_text_that_no_board_shows(text):
    problem = safe.text_problem(text)
    assert problem
    assert problem.isprintable()


@pytest.mark.parametrize(
    "text", ["SMEBU", "Dense, equal FLOPs", "Müller & Söhne", "rate × 10⁻³", "均衡", "arXiv:2408.15664"]
)
def test_text_that_a_board_shows(text):
    assert safe.text_problem(text) is None


def test_the_key_is_the_plans_own():
    config = {"strategy": {"name": "x", "config": {"rate": 1e-3}, "terms": {}}, "task": {"name": "ä"}, "device": "cpu"}
    cell = trials.Cell(config, {}, [], trials.digest(config), None)
    assert trial_key({**config, "seed": 7}) == cell.key(7)
    assert trial_key({**config, "seed": 8}) != cell.key(7)


def test_the_recount_agrees_with_what_trials_write():
    """Two programs from one page of definitions: they must agree on any counts."""
    generator = np.random.default_rng(3)
    load_SLE = generator.integers(0, 50, (37, 3, 8)).astype(np.uint32)
    load_SLE[-25:, 1, 4] = 0  # dead in the window
    load_SLE[:, 2, 5] = 0
    load_SLE[-20:, 0, 1] = [0] * 19 + [1]  # alive, under a hundredth
    load_SLE[5] = 0
    val_LE = generator.integers(0, 900, (3, 8)).astype(np.uint64)
    ours = recount.recount(load_SLE, val_LE, warmup=4)
    theirs = record.load_measures(load_SLE, val_LE, 4, 200, 900, 2)
    theirs["dead_experts"] = record.death_measures(load_SLE, np.ones((3, 8)))
    assert len(ours) >= 13
    for path, value in ours.items():
        name, _, part = path.partition(".")
        assert value == pytest.approx(theirs[name][part], rel=1e-12), path
    assert ours["dead_experts.zero_in_window"] == pytest.approx(2 / 24)
    assert ours["dead_experts.below_1_percent"] == pytest.approx(3 / 24)
    assert measures.max_vio([[1, 3]]) == recount.violation(np.array([[1, 3]])) == [0.5]


def leaves(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))


def put(value, path, new):
    *folders, leaf = path
    for folder in folders:
        value = value[folder]
    value[leaf] = new


ODD = [None, True, -1, 0, 1e308, 10**30, "", "x" * 1000, "<b>\n", [], {}, [[]], {"a": None}, "../../x", ["a", 1]]


@pytest.mark.parametrize("part", ["record", "manifest", "head"])
def test_no_value_anywhere_ends_in_a_traceback(part, files, checked, tmp_path):
    """Odd values at random places: the report grows by lines of one kind, and the verifier goes on."""
    dice = random.Random(29)
    name = {"record": files.records("strange")[0], "manifest": "manifests/tiny.json", "head": "submission.json"}[part]
    content = json.loads(files[name])
    places = [path for path in leaves(content) if path]
    for _ in range(30):
        changed = copy.deepcopy(content)
        put(changed, dice.choice(places), dice.choice(ODD))
        files[name] = json.dumps(changed).encode()
        if part != "head":
            files.seal()
        report = checked(files.write(tmp_path / "odd.tar.gz"))
        assert all(line.isprintable() and len(line) < 400 for line in report.violations), report.violations


def test_every_figure_a_board_ranks_by_is_held_by_others(files, checked, tmp_path):
    """Each number of a record ten percent off: which of them pass is known, and none of them decides a rank.

    Those that pass are found by training again only; docs/submissions.md says so.
    """
    name = files.records("strange")[0]
    content = json.loads(files[name])
    passed = set()
    for path in leaves(content):
        value = content
        for step in path:
            value = value[step]
        if isinstance(value, bool) or not isinstance(value, int | float) or path[0] in ("config", "task", "facts"):
            continue
        changed = copy.deepcopy(content)
        put(changed, path, value * 1.1 + 0.01 if isinstance(value, float) else value + 1)
        files[name] = json.dumps(changed).encode()
        if not checked(files.seal().write(tmp_path / "off.tar.gz")).violations:
            passed.add(".".join(str(step) for step in path if not isinstance(step, int)))
    domains = {f"measures.val_loss_by_domain.domain-{index}" for index in range(8)}
    assert passed == domains | {
        "measures.bias.flip_rate",
        "measures.bias.mean_abs_step",
        "measures.bias.spread",
        "measures.bias.tail_std",
        "measures.dead_experts.functional",
        "measures.dead_experts.window_steps",
        "measures.device_rows.1",
        "measures.device_rows.64",
        "measures.device_rows.8",
        "measures.dropped.1.25",
        "measures.fluctuation.0.2",
        "measures.fluctuation.0.5",
        "measures.fluctuation.0.8",
        "measures.saturation.progress",
        "measures.saturation.share",
        "measures.source_entropy",
        "measures.specialisation",
        "provenance.ranks",
        "timing.peak_memory_bytes",
        "timing.step_ms.cpu",
    }


def test_what_is_wrong_takes_no_room(files, checked, tmp_path):
    """A trial that is refused keeps its record, by which others are judged, and nothing long."""
    name = files.records("strange")[0]
    files.json(name, lambda content: content["measures"].update(tokens=1))
    report = checked(files.seal().write(tmp_path / "odd.tar.gz"))
    curves = {key: trial.curves is not None for key, trial in report.trials.items()}
    assert curves == {key: key not in name for key in report.trials}
    assert len(curves) == 8


def test_curves_without_a_record_are_not_read(files):
    key = files.records("strange")[0].split("/")[1]
    assert contents.decode(key, {"curves.json": b"{", "record.json": b"{}"}).curves is None
    assert not [line for line in contents.decode(key, {"curves.json": b"{"}).problems if "curves" in line]


def test_no_more_is_held_before_the_trials_than_a_suite_needs(files, checked, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "BEFORE_TRIALS", sum(len(files[name]) for name in files if "trials/" not in name) - 1)
    said = checked(files.seal().write(tmp_path / "large.tar.gz")).violations
    assert len(said) == 1
    assert "bytes before the first trial" in said[0]
