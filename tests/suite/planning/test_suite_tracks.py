"""Tuning, the tuned track, publishing a board and reproducing one of its rows."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from click.testing import CliRunner

from strategies import registry
from suite import PROTOCOL
from suite.cli import main
from suite.cli.options import planned
from suite.errors import UsageError
from suite.planning import config, library, plan, tune
from suite.running import reproduce
from suite.running.attempt import run_trial
from suite.storage.files import read_json, write_json


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + result.stderr
    return result


def fake_record(folder, loss, max_vio=0.5):
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.record, {"measures": {"val_loss": loss, "max_vio_batch": {"tail_mean": max_vio}}})


def test_tuning_has_equal_budgets_and_seeds_no_board_reports(tiny_suite):
    suite = config.parse(tiny_suite | {"tune_seeds": 3}, "test")
    tuning = plan.make_plan(tune.tuning_suite(suite))
    arms = {trial.arm for trial in tuning.trials}
    assert {arm.split("@")[0] for arm in arms} == {"aux_loss", "smebu"}  # none has no knob
    assert len([arm for arm in arms if arm.startswith("smebu@")]) == len([arm for arm in arms if arm.startswith("aux")])
    assert {trial.seed for trial in tuning.trials} == {config.TUNE_SEEDS + index for index in range(3)}
    reported = {trial.key for trial in plan.make_plan(config.parse(tiny_suite | {"aa": True}, "test")).trials}
    assert reported.isdisjoint(trial.key for trial in tuning.trials)


def test_seeds_asked_for_are_counted_from_where_a_suites_own_are(tiny_suite, home):
    """Trials on other seeds than tuning and sweeps read would be run for nothing."""
    assert {trial.seed for trial in planned("tune:quick", "3", home).trials} == {200_000, 200_001, 200_002}
    assert {trial.seed for trial in planned("tune:quick", "0,7", home).trials} == {200_000, 200_007}
    assert {trial.seed for trial in planned("sweep:text-bench-muon", "1", home).trials} == {300_000}
    assert config.parse(tiny_suite, "test").seeds_for(4) == [0, 1, 2, 3]
    listed = config.parse(tiny_suite | {"seeds": [5, 6, 7]}, "test")
    assert [listed.seeds_for(asked) for asked in (None, 2, [7, 9])] == [[5, 6, 7], [5, 6], [7, 9]]
    with pytest.raises(UsageError, match="--seeds: 4; suite tiny lists 3 seeds"):
        listed.seeds_for(4)


def test_what_tunes_a_suite_is_a_suite_that_any_verb_takes():
    named = {trial.key for trial in plan.make_plan(library.load("tune:quick")).trials}
    assert named == {trial.key for trial in plan.make_plan(tune.tuning_suite(library.load("quick"))).trials}


def test_the_lowest_mean_wins_and_a_divergence_is_out(tiny_suite, home):
    suite = config.parse(tiny_suite | {"strategies": ["smebu"], "baseline": "smebu"}, "test")
    tuning = plan.make_plan(tune.tuning_suite(suite))
    losses = {"0.0005": (3.0, 3.0), "0.002": (2.0, 2.6), "0.005": (1.0, None), "0.01": (2.5, 2.0), "0.02": (4.0, 4.0)}
    seen: dict[str, int] = {}
    for trial in tuning.trials:
        value = trial.arm.split("@")[1]
        fake_record(tuning.folder(home, trial), losses[value][seen.get(value, 0)])
        seen[value] = seen.get(value, 0) + 1
    chosen = tune.choose(suite, tuning.trials, home)["arms"]["smebu"]["tasks"]["zipf-nano"]
    assert chosen["value"] == 0.01  # means 3.0, 2.3, out, 2.25, 4.0
    assert chosen["at_edge"] is False
    assert chosen["losses"]["0.005"] == [1.0, None]
    tuned = plan.make_plan(
        config.parse(tiny_suite | {"strategies": ["smebu"], "baseline": "smebu", "track": "tuned"}, "t"), home=home
    )
    assert tuned.trials[0].definition["config"]["strategy"]["config"]["rate"] == 0.01
    assert tuned.manifest["suite"] == "tiny-tuned"
    assert tuned.manifest["arms"][0]["config"]["rate"] == 0.01


@pytest.mark.parametrize(
    ("violations", "value", "note"),
    [
        ({"0.01": (0.2, 1.1), "0.002": (0.9, 0.9)}, 0.002, None),  # 0.01 has the lowest loss, but not under 1 always
        ({}, 0.01, None),
        (
            dict.fromkeys(("0.0005", "0.002", "0.005", "0.01"), (3.0, 3.0)) | {"0.02": (1.5, 2.0)},
            0.02,
            "keeps MaxVio under 1",
        ),
    ],
)
def test_balanced_is_the_lowest_loss_among_the_balanced(tiny_suite, home, violations, value, note):
    content = tiny_suite | {"strategies": ["smebu"], "baseline": "smebu"}
    suite = config.parse(content, "test")
    tuning = plan.make_plan(tune.tuning_suite(suite))
    losses = {"0.0005": 3.0, "0.002": 2.5, "0.005": 2.8, "0.01": 2.0, "0.02": 4.0}
    seen: dict[str, int] = {}
    for trial in tuning.trials:
        at = trial.arm.split("@")[1]
        index = seen.setdefault(at, 0)
        fake_record(tuning.folder(home, trial), losses[at], violations.get(at, (0.5, 0.5))[index])
        seen[at] += 1
    tune.choose(suite, tuning.trials, home)
    made = plan.make_plan(config.parse(content | {"track": "balanced"}, "test"), home=home)
    assert made.trials[0].definition["config"]["strategy"]["config"]["rate"] == value
    assert made.manifest["suite"] == "tiny-balanced"
    assert made.manifest["track"] == "balanced"
    assert (note is None and made.manifest["arms"][0]["note"] is None) or note in made.manifest["arms"][0]["note"]
    assert tune.choice_behind(home, "tiny-balanced") == tune.path(home, "tiny")
    tuned = plan.make_plan(config.parse(content | {"track": "tuned"}, "test"), home=home)
    assert tuned.trials[0].definition["config"]["strategy"]["config"]["rate"] == 0.01


def test_tuning_task_by_task_or_arm_by_arm_keeps_what_was_chosen_before(tiny_suite, home):
    suite = config.parse(tiny_suite | {"tasks": ["mix-nano", "mix-bench"]}, "test")

    def tuned(arms, tasks, loss):
        entries = plan.choose_arms(suite, arms)
        part = plan.make_plan(tune.tuning_suite(suite.model_copy(update={"strategies": entries})), only_tasks=tasks)
        for trial in part.trials:
            fake_record(part.folder(home, trial), loss if trial.arm.endswith("@0.005") else 9.0)
        tune.choose(suite.model_copy(update={"strategies": entries}), part.trials, home)

    tuned(("smebu",), ("mix-nano",), 1.0)
    tuned(("smebu",), ("mix-bench",), 2.0)
    tuned(("aux_loss",), ("mix-nano",), 3.0)
    chosen = read_json(tune.path(home, "tiny"))["arms"]
    assert set(chosen["smebu"]["tasks"]) == {"mix-nano", "mix-bench"}
    assert chosen["smebu"]["tasks"]["mix-nano"]["losses"]["0.005"] == [1.0] * suite.tune_seeds
    assert chosen["smebu"]["tasks"]["mix-bench"]["losses"]["0.005"] == [2.0] * suite.tune_seeds
    assert set(chosen["aux_loss"]["tasks"]) == {"mix-nano"}


@pytest.mark.parametrize(
    ("then", "since", "said"),
    [
        ({"rung.steps": 10}, {}, r"smebu on zipf-nano was tuned with .*task\.rung\.steps = 10, expected 12"),
        ({"smebu.kappa": 3.0}, {}, r"tuned with strategy\.config\.kappa = 3\.0, expected [\d.]+; run"),
        ({}, {"numerics": 1}, rf"tuned with numerics = {plan.NUMERICS}, expected {plan.NUMERICS + 1}; run"),
        ({}, {"source": "x"}, r"tuned with strategy\.source = '[0-9a-f]+', expected 'x[0-9a-f]+'; run"),
        ({"margin": 0.5, "device": "cpu"}, {}, None),  # says nothing of the trials' numbers
    ],
)
@pytest.mark.parametrize("track", config.CHOSEN)
def test_a_choice_holds_only_for_what_it_was_made_under(tiny_suite, home, monkeypatch, track, then, since, said):
    content = tiny_suite | {"strategies": ["smebu"], "baseline": "smebu"}
    suite, task_settings = config.apply_overrides(config.parse(content, "test"), then)
    tuning = plan.make_plan(tune.tuning_suite(suite), task_settings)
    for trial in tuning.trials:
        fake_record(tuning.folder(home, trial), 1.0)
    tune.choose(suite, tuning.trials, home)
    digest = registry.source_digest
    monkeypatch.setattr(registry, "source_digest", lambda cls: since.get("source", "") + digest(cls))
    monkeypatch.setattr(plan, "NUMERICS", plan.NUMERICS + since.get("numerics", 0))
    wanted = pytest.raises(config.UsageError, match=said) if said else nullcontext()
    with wanted:
        plan.make_plan(config.parse(content | {"track": track}, "test"), home=home)


def test_what_another_arm_was_tuned_with_stays(tiny_suite, home, monkeypatch):
    for arm, seeds in (("smebu", 2), ("aux_loss", 3)):
        monkeypatch.setattr(tune, "now", lambda seeds=seeds: f"at {seeds}")
        suite = config.parse(tiny_suite | {"strategies": [arm], "baseline": arm, "tune_seeds": seeds}, "test")
        tuning = plan.make_plan(tune.tuning_suite(suite))
        for trial in tuning.trials:
            fake_record(tuning.folder(home, trial), 1.0)
        tune.choose(suite, tuning.trials, home)
    under = {arm: entry["under"]["zipf-nano"] for arm, entry in read_json(tune.path(home, "tiny"))["arms"].items()}
    assert {arm: (said["seeds"], said["made"]) for arm, said in under.items()} == {
        "smebu": (2, "at 2"),
        "aux_loss": (3, "at 3"),
    }


def test_the_tuned_track_without_tuning_says_what_to_do(tiny_suite, home):
    suite = config.parse(tiny_suite | {"track": "tuned"}, "test")
    with pytest.raises(config.UsageError, match="equipoise tune tiny"):
        plan.make_plan(suite, home=home)


def test_advice_names_the_suite_as_it_was_typed(suite_file, home):
    said = call("plan", suite_file, "--set", "track=tuned", "--home", home, code=2).stderr
    assert f"make it with `equipoise tune {suite_file}`" in said
    said = call("plan", "quick", "--set", "track=tuned", "--home", home, code=2).stderr
    assert "make it with `equipoise tune quick`" in said


def test_publish_and_reproduce(suite_file, home, tmp_path):
    call("run", suite_file, "--home", home, "--tracking", "none", "--strategies", "none,aux_loss,smebu")
    boards = tmp_path / "published"
    call("report", "tiny", "--home", home, "--publish", boards)
    assert (boards / "index.html").exists()
    same = call("reproduce", "tiny/smebu/zipf-nano", "--boards", boards, "--home", home, "--json")
    answer = json.loads(same.stdout)
    assert answer["verdict"] == "identical"
    assert answer["differs"] == []
    assert (
        "did you mean" in call("reproduce", "tiny/smebo/zipf-nano", "--boards", boards, "--home", home, code=2).stderr
    )
    call("reproduce", "tiny/smebu/zipf-nano", "--seed", 9, "--boards", boards, "--home", home, code=2)


def test_a_row_is_found_by_its_arm_or_by_a_strategy_that_has_one(tmp_path):
    arms = {"aux_loss": "aux_loss", "aux_loss-sequence": "aux_loss", "slow": "smebu", "x": "hash", "y": "hash"}
    rows = [{"arm": arm, "strategy": strategy, "task": "t"} for arm, strategy in arms.items()]
    (tmp_path / "tiny").mkdir()
    write_json(tmp_path / "tiny" / "leaderboard.json", {"suite": "tiny", "protocol_version": PROTOCOL, "rows": rows})

    def arm_of(name):
        return reproduce.find_row(f"tiny/{name}/t", tmp_path)[1]["arm"]

    assert [arm_of(name) for name in arms] == list(arms)
    assert arm_of("smebu") == "slow"
    with pytest.raises(config.UsageError, match="'tiny/hash/t' has several arms on board tiny; expected one of x, y"):
        arm_of("hash")
    with pytest.raises(config.UsageError, match="did you mean 'tiny/aux_loss-sequence/t'"):
        arm_of("aux_loss-sequenc")


@pytest.mark.parametrize(
    ("version", "how"),
    [
        ("1", "`git checkout 59f394b`, then `equipoise reproduce tiny/smebu/zipf-nano`"),
        ("0", "the version of Equipoise that made it"),
    ],
)
def test_a_row_of_another_protocol_says_which_and_where_to_run_it(version, how, tmp_path):
    place = tmp_path / f"protocol-{version}" / "tiny"
    place.mkdir(parents=True)
    write_json(place / "leaderboard.json", {"suite": "tiny", "protocol_version": version, "rows": []})
    row = f"protocol-{version}/tiny/smebu/zipf-nano"
    said = call("reproduce", row, "--boards", tmp_path, "--home", tmp_path / "home", code=2).stderr
    assert said.splitlines() == [
        f"equipoise: row: {row} is of protocol {version}, this is {PROTOCOL}; run it with {how}"
    ]
    known = call("reproduce", "tiny/smebu/zipf-nano", "--boards", tmp_path, "--home", tmp_path / "home", code=2).stderr
    assert f"there are protocol-{version}/tiny" in known


def test_a_tuned_board_is_published_with_what_its_settings_were_chosen_by(suite_file, home, tmp_path):
    few = ("--home", home, "--tracking", "none", "--strategies", "aux_loss", "--jobs", 2)
    call("tune", suite_file, *few)
    call("run", suite_file, *few, "--set", "track=tuned")
    call("report", "tiny-tuned", "--home", home, "--publish", tmp_path)
    choice = read_json(tmp_path / "tiny-tuned" / "tuning.json")["arms"]["aux_loss"]["tasks"]["zipf-nano"]
    row = read_json(tmp_path / "tiny-tuned" / "leaderboard.json")["rows"][0]
    assert row["config"]["coefficient"] == choice["value"]
    assert len(choice["losses"]) == 5


def test_a_row_that_comes_out_otherwise_is_called_so(tiny_suite, home):
    made = plan.make_plan(config.parse(tiny_suite, "test"))
    folder = made.write_trial(home, made.trials[-1])
    run_trial(folder.path, home / "cache")
    again = read_json(folder.record)
    published = json.loads(json.dumps(again))
    loss = again["measures"]["val_loss"]
    published["measures"]["val_loss"] = loss + 0.04
    published["provenance"]["packages"]["torch"] = "2.11.0"
    published["provenance"]["hardware"]["label"] = "another machine"
    published["provenance"]["hardware"].pop("processor", None)
    again["provenance"]["hardware"]["processor"] = "Maker family 1 model 2"

    def judge(low, high):
        return reproduce.judge(published, again, {"val_loss": {"ci_low": low, "ci_high": high}})

    assert judge(loss - 0.05, loss + 0.05)["verdict"] == "within the row's interval"  # 0.04 ≤ half of 0.10
    assert judge(loss - 0.03, loss + 0.03)["verdict"] == "different"
    assert judge(None, None)["verdict"] == "different"
    said = " ".join(judge(0, 1)["differs"])
    assert "torch: 2.11.0 then" in said
    assert "another machine then" in said
    assert "processor: not recorded then, Maker family 1 model 2 now" in said
