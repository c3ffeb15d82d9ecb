"""The command line as people use it: verbs, JSON, exit codes, and mistakes in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from click.testing import CliRunner

from slurm import logs_of, profiles
from slurm.commands import ClusterError
from slurm.ledger import Ledger
from slurm.queue import JobState
from suite.cli import VERBS, cluster, main
from suite.cli.reporting import manifest_of
from suite.planning.library import load
from suite.planning.plan import make_plan


@pytest.fixture(autouse=True)
def own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def call(*arguments, code=0):
    """Run a verb in this process; the exit code is part of the contract."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + result.stderr
    return result


def spawn(*arguments, **kwargs):
    """Run a verb as its own process."""
    command = [sys.executable, "-P", "-c", "from suite.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_teaches_by_an_example_that_is_one(verb):
    """Verbs of an example exist, and so do its options."""
    shown = [line.split() for line in call(verb, "--help").output.splitlines() if line.startswith("    equipoise ")]
    assert any(words[1] == verb for words in shown)
    for words in shown:
        names = [words[1], words[2]] if words[1] == "new" else [words[1]]
        told = call(*names, "--help").output
        assert all(option in told for option in words if option.startswith("--")), words
        if "--tasks" in words:
            asked = words[words.index("--tasks") + 1].split(",")
            assert set(asked) <= {entry.task for entry in load(words[2]).tasks}, words


@pytest.mark.parametrize("kind", ["strategies", "tasks", "rungs", "suites", "claims", "backends"])
def test_lists_come_as_text_and_as_json(kind):
    rows = json.loads(call("list", kind, "--json").output)
    text = call("list", kind).output
    assert rows
    assert all(row["name"] in text for row in rows)


def test_run_report_compare_and_the_second_run_reuses(suite_file, home):
    first = call("run", suite_file, "--home", home, "--json", "--jobs", 2)
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert len(rows) == 6
    assert {"trial_key", "strategy", "task", "seed", "val_loss"} <= rows[0].keys()
    assert "6 trials finished, 0 reused" in first.stderr
    second = call("run", suite_file, "--home", home, "--json")
    assert "0 trials finished, 6 reused" in second.stderr
    assert second.stdout == first.stdout
    board = json.loads(call("report", "tiny", "--home", home, "--json").stdout)
    by_file = json.loads(call("report", suite_file, "--home", home, "--json").stdout)  # as `run` names it
    assert by_file | {"generated": None} == board | {"generated": None}
    assert {row["strategy"] for row in board["rows"]} == {"none", "aux_loss", "smebu"}
    assert all(row["n_seeds"] == 2 for row in board["rows"])
    names = {path.name for path in (home / "reports" / "tiny").iterdir()}
    assert {"leaderboard.json", "leaderboard.md", "leaderboard.csv", "index.html", "manifest.json"} <= names
    assert "indicative" in call("compare", "smebu", "aux_loss", "--home", home).output
    assert "6 trials recorded" in call("sync", "--home", home).output
    plan = json.loads(call("plan", suite_file, "--home", home, "--json").output)
    assert plan["states"]["done"] == 6


MISTAKES = [
    (["run", "quik"], "did you mean 'quick'"),
    (["plan", "missing.yaml"], "missing.yaml"),
    (["run", "quick", "--strategies", "smebo"], "did you mean 'smebu'"),
    (["run", "quick", "--tasks", "mix-nan"], "did you mean 'mix-nano'"),
    (["run", "quick", "--seeds", "many"], "--seeds"),
    (["run", "quick", "--seeds", "-1,2"], "--seeds"),
    (["plan", "quick", "--seeds", "99999999"], "--seeds: '99999999'; expected at least one seed, at most 100,000"),
    (["plan", "quick", "--seeds", "0,99999999999999999999"], "expected seeds of 0 to 99,999"),
    (["plan", "quick", "--set", "seeds=99999999"], "--set: seeds: 99999999: expected at least one seed"),
    (
        ["plan", "quick", "--set", "tune_seeds=99999999"],
        "tune_seeds: 99999999: expected 1 to 100,000",
    ),
    (
        ["plan", "quick", "--set", "rung.batch_sequences=99999999999999999999"],
        "rung.batch_sequences: 99999999999999999999 is impossible; it should be less than or equal to 1000000000000",
    ),
    (["plan", "quick", "--set", f"smebu.rate={10**400}"], "rate: expected a number of at most 1e+300"),
    (["plan", "quick", "--set", "margin=2001-13-45"], "--set margin: '2001-13-45' is not a YAML value"),
    (["run", "quick", "--set", "rung.stepps=3"], 'nearest: "steps"'),
    (["run", "quick", "--set", "rung.steps=soon"], "rung.steps"),
    (["run", "quick", "--set", "rung.top_k=99"], "top_k"),
    (["run", "quick", "--set", "smebu.rate=-1"], "rate"),
    (["run", "quick", "--set", "backend=gruped"], "grouped"),
    (["run", "quick", "--plugin", "nowhere.py"], "nowhere.py"),
    (["prepare", "mix-nanno"], "mix-nano"),
    (["check", "smebo"], "smebu"),
    (["report", "never-run"], "never-run"),
    (["compare", "smebu"], "at least two"),
    (["compare", "smebu", "nothing"], "nothing"),
    (["status", "never-run"], "never-run"),
    (["submit", "quick", "--profile", "nocluster"], "nocluster"),
    (["reproduce", "quick/smebu"], "BOARD/ARM/TASK"),
    (["run", "claims:smebu-momentum-mater"], "smebu-momentum-matters"),
    (["claims", "smebu-momentum-mater"], "smebu-momentum-matters"),
    (["frobnicate"], "frobnicate"),
    (["run"], "SUITE"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_exit_2_and_a_line_that_names_it(arguments, named, home):
    where = [] if arguments[0] in ("check", "frobnicate") else ["--home", home]
    result = call(*arguments, *where, code=2)
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    said = [line for line in result.stderr.splitlines() if not line.startswith(("Usage:", "Try ")) and line]
    assert len(said) == 1


def test_check_is_a_line_for_each_strategy_and_the_rules_where_one_is_broken(tmp_path, monkeypatch):
    from strategies import conformance
    from strategies.conformance import RULES, Outcome

    def outcomes(cls):
        broken = cls.name == "smebu"
        return [
            Outcome(RULES[0], "passed"),
            Outcome(RULES[4], "failed" if broken else "waived", "does not move" if broken else "has no selection bias"),
        ]

    monkeypatch.setattr(conformance, "check", outcomes)
    names = [row["name"] for row in json.loads(call("list", "strategies", "--json").stdout)]
    lines = call("check", "--all", code=1).stdout.splitlines()
    assert {f"✓ {name}: 1 passed, 1 waived" for name in names if name != "smebu"} <= set(lines)
    at = lines.index("✗ smebu: 1 passed, 1 failed")
    assert lines[at + 1] == f"  ✓  1 {RULES[0].text}"
    assert lines[at + 2 : at + 4] == [f"  ✗  5 {RULES[4].text}", "       failed: does not move"]
    assert len(lines) == len(names) + 3
    assert call("check", "none").stdout == "✓ none: 1 passed, 1 waived\n"
    assert "waived: has no selection bias" in call("check", "none", "--verbose").stdout


def test_check_has_one_line_for_rules_that_presume_a_broken_one(monkeypatch):
    from strategies import conformance
    from strategies.conformance import RULES, Outcome

    later = [Outcome(rule, "unchecked", "presumes rule constructs") for rule in RULES[1:]]
    monkeypatch.setattr(conformance, "check", lambda cls: [Outcome(RULES[0], "failed", "no"), *later])
    assert call("check", "none", code=1).stdout.splitlines() == [
        "✗ none: 1 failed, 16 unchecked",
        f"  ✗  1 {RULES[0].text}",
        "       failed: no",
        "  – not checked, presumes rule constructs: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17",
    ]


def test_a_new_strategy_is_told_the_way_to_a_verdict(tmp_path):
    said = call("new", "strategy", "half_life", "--folder", tmp_path).stdout
    assert "--strategies aux_loss,sign_bias,half_life --seeds 6\n" in said


@pytest.mark.parametrize(
    ("first", "title", "said"),
    [
        ("", "Own rule", None),
        ("import yaml\n", "Own rule", "line 1: imports yaml; expected the standard library"),
        ("", "<b>x</b> | [y](http://z)", "title: '<b>x</b> | [y](http://z)': holds markup or a link (<)"),
    ],
)
def test_check_says_of_a_plugin_whether_its_results_can_be_handed_in(first, title, said, tmp_path, monkeypatch):
    from strategies import conformance
    from strategies.registry import lookup

    monkeypatch.setattr(lookup, "_plugins", {})
    monkeypatch.setattr(conformance, "check", lambda cls: [])
    rule = tmp_path / "own_rule.py"
    rule.write_text(
        f"{first}from strategies import BiasStrategy\n\n\nclass OwnRule(BiasStrategy):\n"
        f'    """b moves."""\n\n    name = "own_rule"\n    title = "{title}"\n\n'
        "    def step(self, violation_E):\n        return violation_E\n"
    )
    lines = call("check", "--plugin", rule).stdout.splitlines()
    assert (lines[1:] == []) if said is None else (said in lines[1] and "can't be handed in" in lines[1])


def test_a_suites_file_that_changed_since_it_was_run_is_told(tmp_path, tiny_suite, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_suite))
    make_plan(load(str(file))).write_manifest(tmp_path)
    assert manifest_of(tmp_path, str(file))["suite"] == "tiny"
    assert capsys.readouterr().err == ""
    file.write_text(yaml.safe_dump(tiny_suite | {"seeds": 3}))
    manifest_of(tmp_path, str(file))
    assert "tiny.yaml: has changed since it was run; what follows is of what ran" in capsys.readouterr().err


def test_a_home_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert str(blocked) in call("run", "quick", "--home", blocked / "home", code=2).stderr


def test_a_damaged_record_is_named(suite_file, home):
    call("run", suite_file, "--home", home, "--seeds", 1, "--strategies", "none,aux_loss", "--tracking", "none")
    record = next((home / "trials").glob("*/record.json"))
    record.write_text(record.read_text()[:100])
    result = call("report", "tiny", "--home", home, code=2)
    assert str(record) in result.stderr


def test_one_failing_arm_does_not_stop_the_others(suite_file, home, tmp_path):
    plugin = tmp_path / "explodes.py"
    plugin.write_text(
        "from strategies import BiasStrategy\n"
        "class Explodes(BiasStrategy):\n"
        "    name = 'explodes'\n    title = 'Explodes'\n"
        "    def step(self, violation_E):\n        raise RuntimeError('boom')\n"
    )
    result = call("run", suite_file, "--home", home, "--seeds", 1, "--plugin", plugin, "--tracking", "none", code=1)
    assert "3 trials finished, 0 reused, 1 failed" in result.stderr
    assert "RuntimeError: boom (explodes.py, line 6)" in result.stderr
    assert json.loads(call("report", "tiny", "--home", home, "--json").stdout)["rows"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_stopped_in_the_middle_and_run_again_gives_the_same_records(number, tiny_suite, tmp_path):
    """The main process is stopped while trials run; the second run ends with what an undisturbed one has."""
    rarely = {"rung.eval_every": 100, "rung.probe_every": 100}  # what is asked is of checkpoints, not of evaluations
    tiny_suite["tasks"][0]["set"] |= {"rung.steps": 300, "rung.checkpoint_every": 10, **rarely}
    tiny_suite |= {"seeds": 1, "strategies": ["aux_loss", "smebu"]}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_suite))
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    call("run", file, "--home", undisturbed, "--tracking", "none")
    process = spawn("run", file, "--home", disturbed, "--tracking", "none", "--jobs", 2, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(disturbed.glob("trials/*/checkpoint.pt")):
        assert time.monotonic() < deadline, "no checkpoint in five minutes"
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.kill()
    process.communicate(timeout=60)
    assert process.returncode != 0
    said = call("run", file, "--home", disturbed, "--tracking", "none").stderr
    attempts = []
    for record in undisturbed.glob("trials/*/record.json"):
        again = json.loads((disturbed / record.relative_to(undisturbed)).read_text())
        assert again["measures"] == json.loads(record.read_text())["measures"]
        attempts += again["attempts"]
    resumed = [attempt["from_step"] for attempt in attempts if attempt["from_step"]]
    assert resumed
    assert all(f"resumes from step {step} of " in said for step in resumed)


@pytest.mark.parametrize(
    ("settings", "gpus", "device"),
    [((), 1, "cuda"), ((), 0, "cpu"), (("device=cpu",), 1, "cpu"), (("device=cuda",), 0, "cuda")],
)
def test_the_device_of_a_submitted_suite_is_what_its_jobs_ask_for(suite_file, home, settings, gpus, device):
    profile = profiles.load("example-gpu", {"gpus_per_node": gpus})
    selection = {"settings": settings, "only_arms": (("smebu",),), "only_tasks": (), "plugins": (), "seeds": "1"}
    assert cluster.device_of(profile, str(suite_file), selection, home) == device
    assert cluster.device_of(profile, "sweep:text-bench-muon", selection | {"only_arms": ()}, home) == device


def test_tuning_takes_a_number_of_seeds_and_no_list(home):
    assert "tuning has seeds of its own" in call("tune", "quick", "--seeds", "7,9", "--home", home, code=2).stderr


@pytest.mark.parametrize(("count", "warned"), [(1, True), (2, False), (3, True)])
def test_a_number_of_tuning_seeds_that_cannot_be_handed_in_is_warned_of_first(home, monkeypatch, count, warned):
    from suite.cli import running

    def started(*arguments):
        raise RuntimeError("training has begun")

    monkeypatch.setattr(running, "execute", started)
    said = call("tune", "quick", "--seeds", count, "--home", home, code=1).stderr
    assert ("other than its 2 tune_seeds cannot be handed in" in said) == warned
    assert "training has begun" in said


def test_a_tuned_board_that_was_not_run_is_tuned_first(home):
    said = call("report", "quick-tuned", "--home", home, code=2).stderr
    assert "Start it with `equipoise tune quick`, then `equipoise run quick --set track=tuned`" in said


def test_a_suite_submitted_from_a_machine_without_gpus_is_planned_for_the_jobs_gpus(suite_file, home, monkeypatch):
    planned = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(cluster, "jobs_of", lambda home, manifest: planned.append(manifest) or [])
    wanted = []
    for profile in ("example-gpu", "example-cpu"):
        call("submit", suite_file, "--profile", profile, "--dry-run", "--home", home)
        device = "cuda" if profile == "example-gpu" else "cpu"
        wanted.append(make_plan(load(str(suite_file)).model_copy(update={"device": device})).manifest["trials"])
    assert [manifest["trials"] for manifest in planned] == wanted
    assert planned[0]["changed"] == {}
    mixed = call(
        "submit", suite_file, "--profile", "example-gpu", "--profile-set", "per_strategy={none: {gpus_per_node: 0}}",
        "--dry-run", "--home", home, code=2,
    ).stderr  # fmt: skip
    assert "device: auto, but the profile asks for GPUs for some of the trials only" in mixed


def test_a_plan_says_what_the_jobs_of_a_profile_would_take(suite_file, home, monkeypatch):
    monkeypatch.setattr("slurm.submit.setting", None)  # no cluster is asked
    settings = ("--profile", "example-cpu", "--profile-set", "packing=2", "--profile-set", "cpus_per_task=2")
    said = call("plan", suite_file, *settings, "--home", home).stdout.splitlines()[-1]
    assert said.startswith("example-cpu, partition cpu: 3 jobs of 2 cores for 6 trials, ")
    (array,) = json.loads(call("plan", suite_file, *settings, "--json", "--home", home).stdout)["jobs"]
    assert (array["jobs"], array["trials"], array["unit"]) == (3, 6, "core-hours")
    assert "accelerator-hours" in call("plan", suite_file, "--profile", "example-gpu", "--home", home).stdout
    assert "expected --profile as well" in call("plan", suite_file, *settings[2:], "--home", home, code=2).stderr
    assert not (home / "slurm").exists()


def test_trials_of_an_earlier_plan_are_seen_and_cancelled_under_the_suites_name(suite_file, home, monkeypatch):
    cancelled = []
    monkeypatch.setattr("slurm.ledger.states", lambda ids: {job: JobState("PENDING", "Priority") for job in ids})
    monkeypatch.setattr("slurm.submit.run", cancelled.append)
    monkeypatch.setattr("slurm.submit.setting", lambda name: None)
    monkeypatch.setattr("slurm.submit._hand_over", lambda *_: str(7 + len(Ledger(logs_of(home)).arrays)))
    for rate in (0.25, 0.125):
        settings = ("--strategies", "smebu", "--seeds", 1, "--set", f"smebu.rate={rate}")
        call("submit", suite_file, "--profile", "example-cpu", *settings, "--home", home)
    said = call("status", "tiny", "--home", home).output.splitlines()
    assert said[0] == "2 queued"
    assert said[1].split() == ["zipf-nano", "·", "smebu", "·", "0", "queued", "job", "9", "Priority"]
    assert " ".join(said[2].split()[1:]) == "queued job 8 of an earlier plan; Priority"
    assert call("cancel", "tiny", "--home", home).stdout == "cancelled 2 jobs: 8, 9\n"
    assert sorted(cancelled[0]) == ["8", "9", "scancel"]


def test_status_names_broken_nodes_before_the_trials():
    shown = cluster.render([], {}, {"n1": "RuntimeError: CUDA error"})
    assert shown.splitlines()[1:] == ["n1 fails what it is given, other jobs leave it: RuntimeError: CUDA error"]


def test_a_refused_submission_leaves_the_suites_board_as_it_was(suite_file, home, monkeypatch):
    manifest = home / "suites" / "tiny.json"

    def refuse(*_):
        raise ClusterError("the cluster refused the job")

    monkeypatch.setattr("slurm.submit.setting", lambda name: None)
    monkeypatch.setattr("slurm.submit.run", lambda command: "")
    monkeypatch.setattr("slurm.submit._hand_over", lambda *_: "7")
    ask = ("submit", suite_file, "--profile", "example-cpu", "--home", home, "--seeds", 1, "--strategies")
    told = call(*ask, "smebu").stderr
    assert f"--watch --home {home}" in told
    before = manifest.read_bytes()
    monkeypatch.setattr("slurm.submit._hand_over", refuse)
    monkeypatch.setattr("slurm.ledger.states", lambda ids: {})
    assert "the cluster refused the job" in call(*ask, "none", "--set", "rung.steps=3", code=2).stderr
    assert manifest.read_bytes() == before
    monkeypatch.setattr("slurm.submit._hand_over", lambda *_: "8")
    call(*ask, "none", "--set", "rung.steps=3")
    assert manifest.read_bytes() != before


def test_a_profiles_patterns_that_match_nothing_are_named_and_keys_of_keys_can_be_set(suite_file, home):
    odd = ("per_task.zipf-nno={time: 5}", "per_strategy.sme*={time: 7}", "extra.exclude=n9")
    settings = [word for one in odd for word in ("--profile-set", one)]
    shown = call("submit", suite_file, "--profile", "example-cpu", *settings, "--dry-run", "--home", home)
    assert "per_task.zipf-nno matches nothing of" in shown.stderr
    assert "per_strategy" not in shown.stderr
    assert "--exclude=n9" in shown.stdout
    said = call(
        "submit", suite_file, "--profile", "example-cpu", "--profile-set", "time", "--home", home, code=2
    ).stderr
    assert "--profile-set 'time': expected KEY=VALUE, such as partition=gpu" in said


def test_a_home_that_is_not_there_is_not_made_to_be_looked_at(tmp_path):
    assert "--home" in call("status", "quick", "--home", tmp_path / "hoem", code=2).stderr
    assert not (tmp_path / "hoem").exists()


def test_resubmitting_says_what_was_called_off(suite_file, home, monkeypatch):
    monkeypatch.setattr("slurm.submit.setting", lambda name: None)
    monkeypatch.setattr("slurm.submit._hand_over", lambda *_: "7")
    ask = (suite_file, "--profile", "example-cpu", "--home", home)
    assert "job 7: 1 job, 1 trial\n" in call("submit", *ask, "--seeds", 1, "--strategies", "smebu").stdout
    monkeypatch.setattr("slurm.ledger.states", lambda ids: {job: JobState("CANCELLED") for job in ids})
    said = call("resubmit", "tiny", "--failed", *ask[1:]).stdout
    assert said.strip() == (
        "nothing failed, vanished or was preempted for good; 1 cancelled: they come back without --failed"
    )
