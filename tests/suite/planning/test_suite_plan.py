"""Suites and plans: keys, interleaving, the A/A arm, and every mistake named in one line."""

from __future__ import annotations

import copy
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strategies import registry
from suite.planning import config, library, plan
from suite.storage.files import write_json


def made(data, **kwargs):
    return plan.make_plan(config.parse(data, "test"), **kwargs)


def keys(made_plan):
    return {(trial.arm, trial.task, trial.seed): trial.key for trial in made_plan.trials}


def test_keys_are_stable_and_distinct(tiny_suite):
    first, second = keys(made(tiny_suite)), keys(made(tiny_suite))
    assert first == second
    assert len(set(first.values())) == len(first) == 6
    assert all(re.fullmatch(r"[0-9a-f]{16}", key) for key in first.values())


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "reference"},
        {"threads": 2},
        {"precision": "bfloat16"},
        {"strategies": [{"strategy": "smebu", "set": {"rate": 0.25}}]},
        {"strategies": [{"strategy": "smebu", "terms": {"z_loss": 0.25}}]},
        {"strategies": [{"strategy": "smebu", "task": {"rung.score": "softmax"}}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_can_change_a_number_changes_the_key(tiny_suite, change):
    base = copy.deepcopy(tiny_suite) | {"strategies": ["smebu"], "baseline": "smebu"}
    assert set(keys(made(base)).values()).isdisjoint(keys(made(base | change)).values())


def test_names_titles_and_other_arms_do_not_change_the_key(tiny_suite):
    base = copy.deepcopy(tiny_suite)
    other = copy.deepcopy(tiny_suite) | {"suite": "x", "title": "y", "strategies": ["smebu"], "baseline": "smebu"}
    assert keys(made(base))["smebu", "zipf-nano", 0] == keys(made(other))["smebu", "zipf-nano", 0]
    renamed = other | {"strategies": [{"strategy": "smebu", "arm": "mine"}], "baseline": "mine"}
    assert keys(made(renamed))["mine", "zipf-nano", 0] == keys(made(other))["smebu", "zipf-nano", 0]


def test_trials_are_interleaved_seed_by_seed(tiny_suite):
    order = [(trial.seed, trial.arm) for trial in made(tiny_suite | {"seeds": 3}).trials]
    arms = [("none", "aux_loss", "smebu"), ("smebu", "aux_loss", "none"), ("aux_loss", "smebu", "none")]
    assert order == [(seed, arm) for seed in range(3) for arm in arms[seed]]


def test_the_aa_arm_is_the_baseline_with_seeds_of_its_own(tiny_suite):
    whole = made(tiny_suite | {"aa": True})
    twins = [trial for trial in whole.trials if trial.arm == "aux_loss-aa"]
    assert [trial.seed for trial in twins] == [0, 1]  # paired with the baseline's
    assert [trial.config_seed for trial in twins] == [config.AA_SEEDS, config.AA_SEEDS + 1]
    assert whole.manifest["aa_arm"] == "aux_loss-aa"
    assert len({trial.key for trial in whole.trials}) == 8


def test_an_unlisted_strategy_joins_with_its_defaults(tiny_suite):
    arms = {trial.arm for trial in made(tiny_suite, only_arms=["aux_loss", "sign_bias"]).trials}
    assert arms == {"aux_loss", "sign_bias"}


BAD = [
    ({"strategies": ["none", "smebo"], "baseline": "none"}, "smebu"),
    ({"tasks": ["zipf-nanno"]}, "zipf-nano"),
    ({"seed": 3}, "seeds"),
    ({"seeds": 0}, "at least one seed"),
    ({"seeds": "three"}, "seeds"),
    ({"threads": -1}, "threads"),
    ({"baseline": "smebuu"}, "smebu"),
    ({"backend": "groupd"}, "grouped"),
    ({"precision": "float8"}, "precision"),
    ({"strategies": ["none", "none"], "baseline": "none"}, "twice"),
    ({"strategies": [{"strategy": "smebu", "set": {"beta": 0.9}}], "baseline": "smebu"}, "beta"),
    ({"strategies": [{"strategy": "smebu", "set": {"rate": "fast"}}], "baseline": "smebu"}, "rate"),
    ({"strategies": [{"strategy": "smebu", "terms": {"zloss": 1.0}}], "baseline": "smebu"}, "z_loss"),
    ({"strategies": [{"strategy": "hash", "terms": {"z_loss": 1.0}}], "baseline": "hash"}, "hash"),
    ({"strategies": [{"strategy": "smebu", "arm": "../../etc"}], "baseline": "../../etc"}, "arm"),
    ({"tasks": [{"task": "zipf-nano", "set": {"rung.top_k": 99}}]}, "top_k"),
    ({"tasks": [{"task": "zipf-nano", "set": {"rung.width": -8}}]}, "width"),
    ({"tasks": []}, "tasks"),
    ({"tasks": ["zipf-nano", {"task": "zipf-nano", "set": {"rung.steps": 3}}]}, "twice"),
    ({"margin": -1.0}, "margin"),
    ({"control": "nobody"}, "control"),
]


@pytest.mark.parametrize(("change", "named"), BAD, ids=lambda value: value if isinstance(value, str) else None)
def test_a_mistake_is_one_line_that_names_it(tiny_suite, change, named):
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        made(tiny_suite | change)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_overrides_reach_suite_arm_terms_and_task(tiny_suite):
    settings = config.overrides(("smebu.rate=0.25", "smebu.terms.z_loss=0.5", "rung.steps=3", "margin=0.125"))
    suite, task_settings = config.apply_overrides(config.parse(tiny_suite, "test"), settings)
    whole = plan.make_plan(suite, task_settings)
    smebu = next(trial for trial in whole.trials if trial.arm == "smebu").definition["config"]
    assert smebu["strategy"]["config"]["rate"] == 0.25
    assert smebu["strategy"]["terms"] == {"z_loss": 0.5}
    assert smebu["task"]["rung"]["steps"] == 3
    assert whole.manifest["margin"] == 0.125
    assert whole.manifest["changed"] == settings


def test_a_suite_as_registered_has_changed_nothing(tiny_suite):
    assert plan.make_plan(config.parse(tiny_suite, "test")).manifest["changed"] == {}


def test_numbers_are_those_people_write():
    pairs = (
        "time=12:30:00",
        "steps=3",
        "rate=1e-4",
        "rate2=2.5e3",
        "x=.5",
        "name=e5",
        "seeds=[1, 2]",
        "off=false",
        "no=null",
    )
    expected = {"time": "12:30:00", "steps": 3, "rate": 1e-4, "rate2": 2500.0, "x": 0.5, "name": "e5"}
    assert config.overrides(pairs) == expected | {"seeds": [1, 2], "off": False, "no": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"tasks": [{"task": "zipf-nano", "sett": {}}]},
            "tasks.0.sett: unknown key (did you mean 'set'?); expected one of set, task",
        ),
        (
            {"tasks": [{"tsk": "zipf-nano"}]},
            "tasks.0.tsk: unknown key (did you mean 'task'?); expected one of set, task",
        ),
        ({"strategies": [{"strategy": "none", "sett": {}}]}, "strategies.0.sett: unknown key (did you mean 'set'?)"),
        ({"stratgies": []}, "stratgies: unknown key (did you mean 'strategies'?); expected one of aa, "),
    ],
)
def test_a_misspelt_key_is_named_with_those_of_its_place(tiny_suite, change, words):
    del tiny_suite["strategies"]
    with pytest.raises(config.UsageError) as error:
        config.parse(tiny_suite | change, "mine.yaml")
    assert words in str(error.value)
    assert "digest" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"suite": "../x"}, "suite: '../x': expected a name of lower-case letters"),
        ({"suite": "My Suite"}, "suite: 'My Suite': expected a name of lower-case letters"),
        ({"seeds": [0, 100_000]}, "expected distinct seeds of 0 to 99,999; larger ones are the A/A arm's and tuning's"),
        ({"seeds": [1, 1]}, "expected distinct seeds"),
    ],
)
def test_a_value_that_cannot_be_is_named(tiny_suite, change, words):
    with pytest.raises(config.UsageError) as error:
        config.parse(tiny_suite | change, "mine.yaml")
    assert words in str(error.value)


def test_what_no_file_states_and_what_is_given_twice_is_refused(suite_file):
    text = suite_file.read_text()
    for more, words in (("first_seed: 5", "first_seed: unknown key"), ("seeds: 3", "seeds is given twice")):
        suite_file.write_text(f"{text}{more}\n")
        with pytest.raises(config.UsageError, match=words):
            library.load(str(suite_file))


def test_a_value_over_a_merged_one_is_not_given_twice():
    text = "c: {p: {q: [&b {<<: {x: 1}, x: 3}]}}\nd: {<<: *b}"
    assert config.read_yaml(text) == {"c": {"p": {"q": [{"x": 3}]}}, "d": {"x": 3}}


def test_a_term_may_not_take_the_place_of_the_rules_own_loss(tiny_suite, monkeypatch):
    monkeypatch.setattr(registry.get("aux_loss"), "auxiliary", ("balance", "z_loss"))
    tiny_suite["strategies"] = [{"strategy": "aux_loss", "terms": {"z_loss": 0.001}}]
    with pytest.raises(config.UsageError, match="strategy aux_loss: terms: 'z_loss' is a loss of the rule's own"):
        made(tiny_suite | {"baseline": "aux_loss"})


def test_a_file_of_ones_own_may_not_pass_for_a_shipped_suite(tiny_suite, tmp_path):
    shipped = library.find("quick")
    (tmp_path / "copy.yaml").write_bytes(shipped.read_bytes())
    assert library.load(str(tmp_path / "copy.yaml")).suite == "quick"
    (tmp_path / "mine.yaml").write_text(shipped.read_text().replace("seeds: 2", "seeds: 3"))
    with pytest.raises(config.UsageError, match=r"mine\.yaml: suite: 'quick' is a board's name .* own"):
        library.load(str(tmp_path / "mine.yaml"))
    for name in ("quick-balanced", "main-cpu-tuned", "quick-tuning", "claims-smebu-overflow"):
        (tmp_path / "mine.yaml").write_text(shipped.read_text().replace("suite: quick", f"suite: {name}"))
        with pytest.raises(config.UsageError, match=f"suite: '{name}' is a board's name"):
            library.load(str(tmp_path / "mine.yaml"))


def test_a_hypothesis_that_was_another_is_told(tiny_suite, home):
    made(tiny_suite | {"hypothesis": "A leads."}).write_manifest(home)
    told = []
    made(tiny_suite | {"hypothesis": "A leads."}).write_manifest(home, told.append)
    assert told == []
    made(tiny_suite | {"hypothesis": "B leads."}).write_manifest(home, told.append)
    assert told == ["suite tiny: its hypothesis was another when it was last run: 'A leads.'"]


def test_a_part_of_a_suite_joins_what_was_run_before(tiny_suite, home):
    made(tiny_suite).write_manifest(home)
    path = made(tiny_suite, only_arms=["sign_bias"], seeds=[0]).write_manifest(home, pytest.fail)
    joined = plan.read_json(path)
    assert [arm["arm"] for arm in joined["arms"]] == ["none", "aux_loss", "smebu", "sign_bias"]
    assert joined["asks"] == {"tasks": ["zipf-nano"], "arms": ["none", "aux_loss", "smebu"], "seeds": 2}
    assert len(joined["trials"]) == 7
    shorter = copy.deepcopy(tiny_suite)
    shorter["tasks"][0]["set"]["rung.steps"] = 6  # other conditions: nothing is mixed
    told = []
    path = made(shorter, only_arms=["sign_bias"], seeds=[0]).write_manifest(home, told.append)
    assert len(plan.read_json(path)["trials"]) == 1
    assert len(told) == 2
    assert "no longer on its board, but still in the home: 6 trials of aux_loss, none, smebu, " in told[0]
    assert "suite tiny: its baseline 'aux_loss' has not been run and is not run now; without it" in told[1]


def changed_rule(monkeypatch, *names):
    """The rules' code is other than it was."""
    digest = registry.source_digest
    monkeypatch.setattr(registry, "source_digest", lambda cls: f"{'other ' if cls.name in names else ''}{digest(cls)}")


@pytest.mark.parametrize(
    ("engine", "rules", "left"),
    [
        (0, [], {"none": 2, "aux_loss": 2, "aux_loss-aa": 2, "smebu": 2, "sign_bias": 1}),
        (1, [], {"sign_bias": 1}),
        (0, ["smebu"], {"none": 2, "aux_loss": 2, "aux_loss-aa": 2, "sign_bias": 1}),
        (0, ["aux_loss"], {"none": 2, "smebu": 2, "sign_bias": 1}),
    ],
)
def test_what_other_code_trained_is_not_joined(tiny_suite, home, monkeypatch, engine, rules, left):
    """Neither of another engine nor of another rule: an arm whose trials would now have other keys is left out."""
    made(tiny_suite | {"aa": True}).write_manifest(home)
    monkeypatch.setattr(plan, "NUMERICS", plan.NUMERICS + engine)
    changed_rule(monkeypatch, *rules)
    manifest = plan.read_json(made(tiny_suite | {"aa": True}, only_arms=["sign_bias"], seeds=[0]).write_manifest(home))
    assert Counter(trial["arm"] for trial in manifest["trials"]) == left
    assert [arm["arm"] for arm in manifest["arms"]] == list(left)
    assert manifest["aa_arm"] == ("aux_loss-aa" if "aux_loss-aa" in left else None)


def test_seeds_trained_by_other_code_do_not_stay_in_a_row(tiny_suite, home, monkeypatch):
    made(tiny_suite).write_manifest(home)
    changed_rule(monkeypatch, "smebu")
    manifest = plan.read_json(made(tiny_suite, only_arms=["smebu"], seeds=[5]).write_manifest(home))
    assert [trial["seed"] for trial in manifest["trials"] if trial["arm"] == "smebu"] == [5]
    assert len([trial for trial in manifest["trials"] if trial["arm"] == "none"]) == 2


@pytest.mark.parametrize(("engine", "stays"), [(0, True), (1, False)])
def test_an_arm_whose_plug_in_is_not_at_hand_stays_with_its_engine(tiny_suite, home, monkeypatch, engine, stays):
    known = registry.available()
    made(tiny_suite, only_arms=["none", "sign_bias"]).write_manifest(home)
    monkeypatch.setattr(registry, "available", lambda: {n: cls for n, cls in known.items() if n != "sign_bias"})
    monkeypatch.setattr(plan, "NUMERICS", plan.NUMERICS + engine)
    manifest = plan.read_json(made(tiny_suite, only_arms=["smebu"]).write_manifest(home))
    assert ("sign_bias" in {trial["arm"] for trial in manifest["trials"]}) == stays


@pytest.mark.parametrize(("engine", "stays"), [(0, True), (1, False)])
def test_an_arm_without_its_plug_in_waits_alone_for_the_baseline(tiny_suite, home, monkeypatch, engine, stays):
    """No other arm shows that the engine is the same: its own trials' definitions do."""
    known = registry.available()
    first = made(tiny_suite, only_arms=["sign_bias"])
    first.write_manifest(home)
    for trial in first.trials:
        first.write_trial(home, trial)
    monkeypatch.setattr(registry, "available", lambda: {n: cls for n, cls in known.items() if n != "sign_bias"})
    monkeypatch.setattr(plan, "NUMERICS", plan.NUMERICS + engine)
    told = []
    manifest = plan.read_json(made(tiny_suite, only_arms=["aux_loss"]).write_manifest(home, told.append))
    assert Counter(trial["arm"] for trial in manifest["trials"]) == {"aux_loss": 2} | (
        {"sign_bias": 2} if stays else {}
    )
    assert [("2 trials of sign_bias" in line, "--plugin FILE" in line) for line in told] == [(True, True)] * (not stays)


@pytest.mark.parametrize(
    ("board", "advice"),
    [
        ("quick", "`equipoise run quick --seeds 6`"),
        ("quick-tuned", "`equipoise tune quick`, then `equipoise run quick --set track=tuned --seeds 6`"),
        ("quick-tuning", "`equipoise tune quick`"),
        ("claims-smebu-overflow", "`equipoise run claims:smebu-overflow --seeds 6`"),
        ("mine", "`equipoise run mine.yaml --seeds 6`"),
        ("mine-balanced", "`equipoise tune mine.yaml`, then `equipoise run mine.yaml --set track=balanced --seeds 6`"),
        ("folder/mine.yaml", "`equipoise run folder/mine.yaml --seeds 6`"),
    ],
)
def test_advice_on_how_to_run_a_board_can_be_followed(board, advice):
    assert library.how_to_run(board, " --seeds 6") == advice


def test_parts_submitted_at_the_same_time_all_join(tiny_suite, home, monkeypatch):
    def slowly(*arguments, joined=plan.joined):
        time.sleep(0.2)
        return joined(*arguments)

    monkeypatch.setattr(plan, "joined", slowly)
    path = made(tiny_suite, seeds=[0]).write_manifest(home)
    parts = [made(tiny_suite, seeds=[seed]) for seed in (1, 2, 3)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda part: part.write_manifest(home), parts))
    assert {trial["seed"] for trial in plan.read_json(path)["trials"]} == {0, 1, 2, 3}


def test_tasks_keep_the_suites_order_whichever_ran_first(tiny_suite, home):
    tiny_suite["tasks"].append({"task": "zipf-bench"})
    made(tiny_suite, only_tasks=["zipf-bench"]).write_manifest(home)
    path = made(tiny_suite, only_tasks=["zipf-nano"]).write_manifest(home)
    assert [task["name"] for task in plan.read_json(path)["tasks"]] == ["zipf-nano", "zipf-bench"]


def test_names_and_seeds_given_twice_count_once(tiny_suite):
    assert len(made(tiny_suite, only_arms=["smebu", "smebu"], seeds=[0, 0]).trials) == 1


@pytest.mark.parametrize("pair", ["rate", "=3", "rugn.steps=3", "smebo.rate=1", "suite=x"])
def test_an_override_that_says_nothing_known_is_refused(tiny_suite, pair):
    with pytest.raises(config.UsageError, match="--set"):
        config.apply_overrides(config.parse(tiny_suite, "test"), config.overrides((pair,)))


@pytest.mark.parametrize(
    ("pair", "meant"),
    [
        ("rate=1", "did you mean 'smebu.rate'?"),
        ("nosuch.rate=1", "did you mean 'smebu.rate'?"),
        ("aux_los.coefficient=1", "did you mean 'aux_loss.coefficient'?"),
        ("sede=1", "did you mean 'seeds'?"),
        ("strategie=none", "expected one of rung.…"),
    ],
)
def test_an_unknown_override_is_pointed_to_an_arm_that_has_the_parameter(tiny_suite, pair, meant):
    with pytest.raises(config.UsageError, match="--set") as refused:
        config.apply_overrides(config.parse(tiny_suite, "test"), config.overrides((pair,)))
    assert meant in str(refused.value)
    assert "strategies" not in str(refused.value)  # nothing that cannot be set is named


def test_every_shipped_suite_can_be_planned():
    for name in library.names():
        assert plan.make_plan(library.load(name)).trials


def test_a_price_goes_by_what_each_arm_took(tiny_suite, home):
    from suite.planning import estimate

    whole = made(tiny_suite | {"seeds": 5})
    for trial in whole.trials:
        if trial.seed < 2 and trial.arm != "none":
            folder = whole.write_trial(home, trial)
            took = {"smebu": 10.0, "aux_loss": 100.0}[trial.arm] + trial.seed
            write_json(folder.record, {"timing": {"train_seconds": took}})
    summary = estimate.summarise(whole, home)
    assert summary["cost"]["seconds"] == pytest.approx(3 * 10.5 + 3 * 100.5 + 5 * 55.5)  # none: as the others' median
    assert summary["tasks"][0]["seconds_per_trial"] == pytest.approx(summary["cost"]["seconds"] / 11)
    assert summary["cost"]["measured"]
    for trial in whole.trials:
        write_json(whole.write_trial(home, trial).record, {"timing": {"train_seconds": 7.0}})
    assert estimate.summarise(whole, home)["tasks"][0]["seconds_per_trial"] == 7.0  # said even where nothing is left


def test_a_hundred_thousand_trials_are_planned_in_seconds(tiny_suite, home):
    """The promise is 5 s with the imports; half of that here, on a busy machine."""
    from suite.planning import estimate

    started = time.process_time()
    whole = made(tiny_suite | {"seeds": 33_334})
    summary = estimate.summarise(whole, home)
    assert summary["trials"] == 100_002
    assert time.process_time() - started < 5


# What the sources say, by hand (docs/strategies.md): score, normalised gates; a rule not listed takes the rung's.
PUBLISHED = {
    "aux_loss": ("softmax", True),
    "growing_sparsity": ("softmax", True),  # an auxiliary loss with something more
    "expert_reset": ("softmax", True),
    "simbal": ("softmax", None),
    "sinkhorn": ("softmax", False),
    "expert_choice": ("softmax", False),
    "base": ("sigmoid", False),
    "stable_moe": ("sigmoid", False),
    "sign_bias": ("sigmoid", True),
    "proportional_bias": ("sigmoid", True),
    "smebu": ("sigmoid", True),
    "quantile": ("sigmoid", True),
}


def rungs_of(made_plan):
    return {trial.arm: trial.cell.task.rung for trial in made_plan.trials}


def test_every_rule_runs_with_the_scores_of_its_source(tiny_suite):
    names = [*PUBLISHED, "none", "dense", "hash", "bip", "expert_threshold", "remoe"]
    base = tiny_suite | {"strategies": names, "baseline": "aux_loss", "aa": False}
    for name, rung in rungs_of(made(base)).items():
        score, normalize = PUBLISHED.get(name, (None, None))
        assert (rung.score, rung.normalize_gates) == (score or "sigmoid", True if normalize is None else normalize), (
            name
        )


def test_a_stated_score_goes_before_the_published_one(tiny_suite):
    arms = ["aux_loss", {"strategy": "aux_loss", "arm": "other", "task": {"rung.score": "sigmoid"}}]
    base = tiny_suite | {"strategies": arms, "baseline": "aux_loss", "aa": False}
    assert {arm: rung.score for arm, rung in rungs_of(made(base)).items()} == {
        "aux_loss": "softmax",
        "other": "sigmoid",
    }
    set_by_hand = made(base | {"strategies": ["aux_loss"]}, task_settings={"rung.score": "sqrt_softplus"})
    assert rungs_of(set_by_hand)["aux_loss"].score == "sqrt_softplus"
    notes = {arm["arm"]: arm["note"] for arm in made(base).manifest["arms"]}
    assert notes == {"aux_loss": "Routers with softmax scores.", "other": None}


def test_with_one_expert_per_token_sinkhorn_takes_sigmoid_scores(tiny_suite):
    base = tiny_suite | {"strategies": ["sinkhorn"], "baseline": "sinkhorn", "aa": False}
    assert rungs_of(made(base, task_settings={"rung.top_k": 1}))["sinkhorn"].score == "sigmoid"


def test_a_rung_that_states_its_score_keeps_it(tiny_suite):
    base = tiny_suite | {
        "strategies": ["sign_bias"],
        "baseline": "sign_bias",
        "aa": False,
        "tasks": ["fineweb-large-olmoe-like"],
    }
    rung = rungs_of(made(base))["sign_bias"]
    assert (rung.score, rung.normalize_gates) == ("softmax", False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": [{"task": "zipf-nano", "set": {"rung.stepz": 2}}]}, "task zipf-nano: rung.stepz: unknown key"),
        (
            {"strategies": ["aux_loss", {"strategy": "none", "task": {"rung.top_k": 9000}}]},
            "strategy none on task zipf-nano: rung.top_k: 9000 is impossible",
        ),
        ({"tasks": ["zipf-nan"]}, "task: 'zipf-nan' is not a task"),
    ],
    ids=["task", "arm", "name"],
)
def test_a_mistake_in_a_tasks_values_says_whose_they_are(tiny_suite, change, said):
    with pytest.raises(config.UsageError, match=f"^{re.escape(said)}"):
        made(tiny_suite | change)


class TestThePageOnSuites:
    """docs/suites.md: its example is a suite, and its tables are the models' fields."""

    PAGE = (Path(__file__).parents[3] / "docs" / "suites.md").read_text(encoding="utf-8")

    def test_its_example_can_be_planned(self):
        (example,) = re.findall(r"```yaml\n(.*?)```", self.PAGE, re.DOTALL)
        made_plan = plan.make_plan(config.parse(config.read_yaml(example), "docs/suites.md"))
        arms = {(arm["arm"], arm["note"]) for arm in made_plan.manifest["arms"]}
        assert ("softmax", "ten times its rate. Routers with softmax scores.") in arms
        assert len(made_plan.trials) == 2 * 6 * (5 + 1)  # tasks · seeds · (arms and the A/A arm)

    @pytest.mark.parametrize(
        ("heading", "model"), [("Its keys", config.Suite), ("A task", config.TaskEntry), ("An arm", config.ArmEntry)]
    )
    def test_its_tables_have_every_key_and_no_other(self, heading, model):
        section = self.PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert named == [name for name in model.model_fields if name not in config.INTERNAL]

    def test_its_defaults_are_the_models(self):
        rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+\|$", self.PAGE, re.MULTILINE)
        said = {name: default.strip() for name, default in rows}
        for name in ("seeds", "aa", "horizons", "track", "tune_seeds", "backend", "precision", "device", "threads"):
            default = config.Suite.model_fields[name].default
            assert said[name] == (str(default).lower() if isinstance(default, bool) else str(default)), name
