"""A tuned board's archive: its choice is made again from its tuning's records, and what they do not give is refused."""

from __future__ import annotations

import functools
import json
import re
from datetime import UTC, datetime

import pytest
import yaml
from submitted_files import RULE, TINY, Files, drop_trials, set_at

from results.submissions import archive, packing
from results.submissions.verify import verify

TASK = "arms.strange.tasks.zipf-nano"
TUNING = "manifests/tiny-tuning.json"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The archive of a tiny suite's tuned track with a stranger's arm, and the suite's file."""
    import tasks
    from strategies import registry
    from strategies.registry import lookup
    from suite.planning import library, tune
    from suite.planning.plan import choose_arms, make_plan
    from suite.running import submitting
    from suite.running.attempt import run_trial

    folder = tmp_path_factory.mktemp("tuner")
    suite_file, rule = folder / "tiny.yaml", folder / "strange.py"
    suite_file.write_text(yaml.safe_dump(TINY | {"strategies": ["aux_loss"], "seeds": 1, "tune_seeds": 1}))
    rule.write_text(RULE)
    before = dict(lookup._plugins)
    registry.load_plugin(rule)

    def train(suite):
        plan = make_plan(suite, only_arms=arms, plugins={"strange": str(rule)}, home=folder)
        tasks.prepare(plan.trials[0].cell.task, folder / "cache", lambda _: None)
        plan.write_manifest(folder)
        for trial in plan.trials:
            run_trial(plan.write_trial(folder, trial).path, folder / "cache")
        return plan.trials

    suite = library.load(str(suite_file))
    arms = []
    with_strange = suite.model_copy(update={"strategies": choose_arms(suite, ["aux_loss", "strange"])})
    tune.choose(with_strange, train(tune.tuning_suite(with_strange)), folder)
    arms = ["aux_loss", "strange"]
    train(suite.model_copy(update={"track": "tuned"}))
    manifest = submitting.manifest_to_pack(folder, "tiny-tuned", [], [], [])
    tuning, choice = submitting.tuning_behind(folder, manifest)
    path = folder / "tiny-tuned.tar.gz"
    plugins = submitting.plugin_texts(folder, [manifest, *tuning])
    packing.pack(
        path, [manifest, *tuning], folder / "trials", by="Ada", version="0.1.0", plugins=plugins, choice=choice
    )
    lookup._plugins.clear()
    lookup._plugins.update(before)
    return path, suite_file


@pytest.fixture
def files(tuned):
    return Files(archive.read(tuned[0]))


@functools.cache
def expected(name, choice, suite_file):
    from suite.running import expectation

    return expectation.expect(name, json.loads(choice), [str(suite_file)])


def violations(path, suite_file):
    from strategies.registry.source_text import text_digest

    return verify(
        path, lambda name, choice: expected(name, json.dumps(choice), suite_file), text_digest, datetime.now(UTC)
    ).violations


def test_an_honest_one_is_in_order(tuned):
    assert violations(*tuned) == []


def in_choice(path, value):
    return lambda files: files.json("choice.json", set_at(path, value))


def other(value):
    """A value of the grid that was not chosen."""
    return 0.001 if value != 0.001 else 0.1


def board_arm(change):
    def tamper(files):
        files.json(
            "manifests/tiny-tuned.json", lambda board: change(next(a for a in board["arms"] if a["arm"] == "strange"))
        )

    return tamper


def without(wanted):
    """Trials of the tuning left out, and the arms that have none then."""

    def tamper(files):
        drop_trials(wanted, TUNING)(files)

        def arms(content):
            left = {cell["arm"] for cell in content["trials"]}
            content["arms"] = [arm for arm in content["arms"] if arm["arm"] in left]

        files.json(TUNING, arms)

    return tamper


def without_tuning(files):
    without(lambda cell: True)(files)
    del files[TUNING]


def worse_best(files):
    """The record of the value that won says another loss."""
    value = json.loads(files["choice.json"])["arms"]["strange"]["tasks"]["zipf-nano"]["value"]
    cells = json.loads(files[TUNING])["trials"]
    key = next(cell["trial_key"] for cell in cells if cell["arm"] == f"strange@{value:g}")
    files.json(f"trials/{key}/record.json", set_at("measures.val_loss", 9.0))


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (
            in_choice(f"{TASK}.value", other),
            r"choice.json: strange on zipf-nano: value: [\d.]+; the tuning's records give",
        ),
        (in_choice(f"{TASK}.losses", lambda losses: {v: [1.0] for v in losses}), r"zipf-nano: losses: .* records give"),
        (in_choice(f"{TASK}.word", "x"), "strange on zipf-nano: word: 'x'; the tuning's records give None"),
        (in_choice("arms.strange", {}), "choice.json: strange on zipf-nano: parameter: None; its knob is 'rate'"),
        (in_choice("arms.aux_loss", {}), "choice.json: holds something of another kind than expected"),
        (in_choice("arms", []), "choice.json: holds something of another kind than expected"),
        (in_choice("seeds", 3), "choice.json: seeds: 3; the tuning has 1"),
        (in_choice("made", "<b>"), "choice.json: '<b>': holds markup"),
        (board_arm(set_at("config.rate", other)), r"the board's arm has rate = [\d.]+; the tuning's records give"),
        (
            board_arm(set_at("knob.grid", lambda grid: [*grid, 1.0])),
            "grids of .* values; equal budgets need equal grids",
        ),
        (
            without(lambda cell: cell["arm"] == "strange@0.1"),
            "no trial of strange@0.1; expected every value of its grid",
        ),
        (
            without_tuning,
            "manifests/tiny-tuning.json, choice.json: expected the tuning that the board's settings come from",
        ),
        (worse_best, r"choice.json: strange on zipf-nano: value: [\d.]+; the tuning's records give"),
    ],
)
def test_a_choice_that_the_records_do_not_give_is_refused(tamper, reason, files, tuned, tmp_path):
    tamper(files)
    lines = violations(files.seal().write(tmp_path / "bad.tar.gz"), tuned[1])
    assert [line for line in lines if re.search(reason, line)], lines


def test_a_choice_beside_a_board_as_published_is_refused(packed, checked, tmp_path):
    files = Files(archive.read(packed))
    files["choice.json"] = packing.encoded({"arms": {}})
    lines = checked(files.seal().write(tmp_path / "bad.tar.gz")).violations
    assert lines == ["track: 'as-published'; expected neither a choice nor a tuning beside the board"]
