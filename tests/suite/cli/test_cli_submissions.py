"""`pack`, `verify`, `merge` as a stranger and a maintainer type them: from a home to a row on a copy of a board."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from results.recommend.block import END, START
from suite.cli import main

RULE = '''
from strategies import BiasStrategy


class Strange(BiasStrategy):
    """A sign rule of a stranger."""

    name = "strange"
    title = "A stranger's rule"

    def step(self, violation_E):
        return 0.02 * violation_E.sign()
'''

TUNABLE = '''
from dataclasses import dataclass

from strategies import BiasStrategy, Knob


class Strange(BiasStrategy):
    """A sign rule of a stranger, with a knob."""

    name = "strange"
    title = "A stranger's rule"
    knob = Knob("rate", (0.001, 0.003, 0.01, 0.03, 0.1))

    @dataclass(frozen=True, kw_only=True)
    class Config(BiasStrategy.Config):
        rate: float = 0.02

    def step(self, violation_E):
        return self.config.rate * violation_E.sign()
'''


def call(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, (words, result.output, result.exception)
    return result.output


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Trials of a fraction of a second are trained here instead of in worker processes, which take longer to start."""
    from suite.running.attempt import run_trial
    from suite.running.runner import Outcome, Runner

    def run(runner):
        outcome = Outcome()
        for trial in runner.plan.trials:
            folder = runner.plan.write_trial(runner.home, trial)
            (outcome.reused if folder.done else outcome.finished).append(trial.key)
            run_trial(folder.path, runner.home / "cache")
        return outcome

    monkeypatch.setattr(Runner, "run", run)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """What the first test publishes, for the others to copy."""
    return tmp_path_factory.mktemp("published")


@pytest.fixture
def boards(published, tiny_suite, tmp_path, monkeypatch):
    """A suite's file, a home in which it ran, and its published board."""
    if not (published / "results").exists():
        monkeypatch.chdir(published)
        monkeypatch.setenv("EQUIPOISE_HOME", str(published / "publisher"))
        tiny_suite["strategies"] = ["none", "aux_loss"]
        Path("tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
        call("run", "tiny.yaml", "--tracking", "none")
        call("report", "tiny", "--publish", "results/published", "--tracking", "none")
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "stranger"))
    return tmp_path / "results" / "published"


def test_from_a_rule_to_its_row(boards):
    Path("strange.py").write_text(RULE)
    call("run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "aux_loss,strange", "--tracking", "none")
    said = call("pack", "tiny.yaml", "--by", "Ada Lovelace", "--strategies", "strange")
    assert "tiny.tar.gz: in order: tiny by Ada Lovelace, 2 arms on zipf-nano, 2 seeds" in said

    assert "tiny.tar.gz: in order" in call("verify", "tiny.tar.gz", "--suite", "tiny.yaml")
    answers = json.loads(call("verify", "tiny.tar.gz", "--suite", "tiny.yaml", "--json"))
    assert answers[0]["violations"] == []
    said = call("verify", "tiny.tar.gz", code=1)
    assert "tiny.tar.gz: suite: 'tiny' does not come with Equipoise; expected one of" in said

    Path("README.md").write_text(f"{START}\n{END}\n")
    said = call("merge", "tiny.tar.gz", "--into", "results/published", "--suite", "tiny.yaml", "--date", "2026-01-31")
    assert "| You need |" in Path("README.md").read_text()  # its recommendation is never behind the boards
    assert "2 trials joined tiny" in said
    board = json.loads((boards / "tiny" / "leaderboard.json").read_text())
    rows = {row["arm"]: row for row in board["rows"]}
    assert set(rows) == {"none", "aux_loss", "strange"}
    assert rows["strange"]["submitted"] == [{"by": "Ada Lovelace", "when": "2026-01-31"}]
    assert rows["strange"]["n_seeds"] == rows["strange"]["delta_loss"]["n"] == 2
    assert rows["aux_loss"]["submitted"] is None
    assert "A stranger's rule (by Ada Lovelace, 2026-01-31)" in (boards / "tiny" / "leaderboard.md").read_text()
    assert [path.read_text() for path in (boards / "tiny" / "plugins").glob("strange-*.py.txt")] == [RULE]
    assert "A stranger's rule" in (boards / "README.md").read_text()
    assert "published: in order: boards and claims of 6 trials" in call("verify", "results/published")

    said = call("merge", "tiny.tar.gz", "--into", "results/published", "--suite", "tiny.yaml")
    assert "tiny.tar.gz: tiny has every trial of the submission already" in said

    home = str(Path("publisher").resolve())
    said = call("report", "tiny", "--publish", "results/published", "--tracking", "none", "--home", home, code=2)
    assert "results/published/tiny: holds entries of others, which this home has not" in said
    assert {row["arm"] for row in json.loads((boards / "tiny" / "leaderboard.json").read_text())["rows"]} == set(rows)

    Path("strange.py").write_text(RULE.replace("0.02", "0.03"))
    call("run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "aux_loss,strange", "--tracking", "none")
    call("pack", "tiny.yaml", "--by", "Ada Lovelace", "--strategies", "strange")
    said = call("merge", "tiny.tar.gz", "--into", "results/published", "--suite", "tiny.yaml", "--date", "2026-02-01")
    assert "2 trials joined tiny; strange superseded" in said
    past = (boards / "tiny" / "superseded.md").read_text()
    assert "A stranger's rule until 2026-02-01 (by Ada Lovelace, 2026-01-31)" in past
    assert "superseded.md" in (boards / "tiny" / "leaderboard.md").read_text()
    assert len(list((boards / "trials").iterdir())) == 8
    assert len(list((boards / "tiny" / "plugins").iterdir())) == 2  # each by its digest, which its records have
    call("verify", "results/published")


class Killed(BaseException):
    """Nothing catches it."""


def dying(function, call_number):
    """The function, and the process killed when it is called for that time, counted from 1."""
    calls = iter(range(1, call_number + 1))

    def stand_in(*arguments):
        if next(calls) == call_number:
            raise Killed
        return function(*arguments)

    return stand_in


@pytest.mark.parametrize("into", ["results/published", "none-yet"])
def test_a_merge_that_was_killed_is_finished_by_the_next(into, boards, monkeypatch):
    from suite.cli import advising, submissions
    from suite.running import joining

    Path("strange.py").write_text(RULE)
    call("run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "none,aux_loss,strange", "--tracking", "none")
    call("pack", "tiny.yaml", "--by", "Ada", "--strategies", "none,strange")
    for cell in json.loads((boards / "tiny" / "manifest.json").read_text())["trials"]:
        if cell["arm"] == "none":  # what the board has planned and not run
            shutil.rmtree(boards / "trials" / cell["trial_key"])

    def merged(name, *kills):
        """Records and manifest, rows and index after a merge into a copy, killed at each of these and begun again."""
        folder = Path(name) / "boards"
        if Path(into).exists():
            shutil.copytree(into, folder)
        words = ("merge", "tiny.tar.gz", "--into", folder, "--suite", "tiny.yaml", "--date", "2026-01-31")
        for module, function, call_number in kills:
            with monkeypatch.context() as patch:
                patch.setattr(module, function, dying(getattr(module, function), call_number))
                with pytest.raises(Killed):
                    call(*words)
        call(*words)
        board = folder / "tiny"
        kept = [board / "manifest.json", *folder.rglob("record.json"), *folder.rglob("curves.parquet")]
        rows = json.loads((board / "leaderboard.json").read_text())["rows"]
        index = re.sub(r"made \S+", "", (folder / "README.md").read_text())  # the hour
        return {file.relative_to(folder): file.read_bytes() for file in kept}, rows, index

    kills = [(joining, "write_trial", 1), (joining, "write_trial", 4), (submissions, "_renew", 1)]
    assert merged("killed", *kills, (advising, "renewed", 1)) == merged("whole")


def test_none_is_joined_if_one_is_refused(boards):
    Path("strange.py").write_text(RULE)
    call("run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "aux_loss,strange", "--tracking", "none")
    call("pack", "tiny.yaml", "--by", "Ada", "--strategies", "strange", "--out", "ada.tar.gz")
    Path("strange.py").write_text(RULE.replace("0.02", "0.03"))
    call("run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "aux_loss,strange", "--tracking", "none")
    call("pack", "tiny.yaml", "--by", "Eve", "--strategies", "strange", "--out", "eve.tar.gz")
    before = {path: path.read_bytes() for path in boards.rglob("*") if path.is_file()}
    words = ("--into", "results/published", "--suite", "tiny.yaml")
    said = call("merge", "ada.tar.gz", "eve.tar.gz", *words, code=1)
    assert "eve.tar.gz: tiny: arm 'strange' is Ada's; expected an arm of another name" in said
    assert {path: path.read_bytes() for path in boards.rglob("*") if path.is_file()} == before


def test_a_board_that_shows_one_of_several_kinds_of_hardware_goes_on_showing_it(boards):
    board = boards / "tiny"
    for cell in json.loads((board / "manifest.json").read_text())["trials"]:
        if cell["arm"] == "none":  # as `report --hardware` leaves it: what it does not show lies beside it
            file = boards / "trials" / cell["trial_key"] / "record.json"
            record = json.loads(file.read_text())
            record["provenance"]["hardware"]["label"] = "another CPU"
            file.write_text(json.dumps(record))
    shown = json.loads((board / "leaderboard.json").read_text())["hardware"]
    Path("strange.py").write_text(RULE)
    call("run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "aux_loss,strange", "--tracking", "none")
    call("pack", "tiny.yaml", "--by", "Ada", "--strategies", "strange")
    call("merge", "tiny.tar.gz", "--into", "results/published", "--suite", "tiny.yaml")
    assert json.loads((board / "leaderboard.json").read_text())["hardware"] == shown


def test_a_suite_of_ones_own_may_list_the_rule(tmp_path, tiny_suite, monkeypatch):
    """Its arm has settings of its own; whoever checks has the suite's file, and the rule's text from the archive."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "home"))
    Path("strange.py").write_text(RULE)
    own = {"strategy": "strange", "arm": "stranger", "terms": {"z_loss": 0.001}, "note": "a second one"}
    tiny_suite["strategies"] = ["none", "aux_loss", "strange", own]
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
    tiny_suite["control"] = "strange"
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
    call(
        "run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "aux_loss,strange,stranger", "--tracking", "none"
    )
    Path("strange.py").write_text("")  # the text is kept with its trials
    said = call("pack", "tiny.yaml", "--by", "Ada Lovelace")
    Path("strange.py").write_text(RULE)
    assert "tiny.tar.gz: in order: tiny by Ada Lovelace, 3 arms on zipf-nano, 2 seeds" in said
    assert "tiny.tar.gz: in order" in call("verify", "tiny.tar.gz", "--suite", "tiny.yaml")
    own["terms"] = {"z_loss": 0.002}  # whoever checks has a file that says something else of the arm
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
    said = call("verify", "tiny.tar.gz", "--suite", "tiny.yaml", code=1)
    assert "arm 'stranger': terms: {'z_loss': 0.001}; the suite says {'z_loss': 0.002}" in said
    tiny_suite["control"] = None
    tiny_suite["baseline"] = "strange"
    Path("led.yaml").write_text(yaml.safe_dump(tiny_suite | {"suite": "led"}))
    call("run", "led.yaml", "--plugin", "strange.py", "--strategies", "none,strange", "--tracking", "none")
    said = call("pack", "led.yaml", "--by", "Ada Lovelace", code=1)
    assert "led.tar.gz: suite: baseline: 'strange' is a plug-in's; expected a strategy of Equipoise's" in said


@pytest.mark.parametrize("asked", ["aux_loss,strange", "strange,aux_loss"])
def test_a_part_of_a_suite_is_tuned_and_handed_in(tmp_path, tiny_suite, monkeypatch, asked):
    """What was left untuned, arms and tasks, is not asked for; of what is handed in everything is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "home"))
    Path("strange.py").write_text(TUNABLE)
    tiny_suite["strategies"] = ["smebu", "none", "aux_loss"]
    tiny_suite["tasks"].append({**tiny_suite["tasks"][0], "task": "zipf-bench"})
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
    part = ("tiny.yaml", "--plugin", "strange.py", "--tasks", "zipf-nano", "--tracking", "none")
    call("tune", *part, "--strategies", asked)
    call("run", *part, "--strategies", asked, "--set", "track=tuned")
    said = call("pack", "tiny-tuned", "--by", "Ada", "--strategies", "strange", "--suite", "tiny.yaml")
    assert "tiny-tuned.tar.gz: in order: tiny-tuned by Ada, 2 arms on zipf-nano, 2 seeds" in said
    call("tune", *part, "--strategies", "smebu")
    call("run", *part, "--strategies", "smebu", "--set", "track=tuned")
    assert "in order: tiny-tuned by Ada, 3 arms" in call("pack", "tiny-tuned", "--by", "Ada", "--suite", "tiny.yaml")
    choice = Path("home/tuning/tiny.json")
    stated = json.loads(choice.read_text())
    del stated["arms"]["smebu"]
    choice.write_text(json.dumps(stated))
    said = call("pack", "tiny-tuned", "--by", "Ada", "--suite", "tiny.yaml", code=1)
    assert "choice.json: smebu on zipf-nano: parameter: None; its knob is 'rate'" in said


def test_a_rule_whose_bias_is_no_number_is_handed_in_as_diverged(tmp_path, tiny_suite, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "home"))
    Path("strange.py").write_text(RULE.replace("violation_E.sign()", "violation_E.sign() / 0"))
    tiny_suite["strategies"] = ["none", "aux_loss"]
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
    call("run", "tiny.yaml", "--plugin", "strange.py", "--strategies", "aux_loss,strange", "--tracking", "none")
    records = [json.loads(file.read_text()) for file in (tmp_path / "home" / "trials").glob("*/record.json")]
    assert sorted(record["status"] for record in records) == ["diverged"] * 2 + ["finished"] * 2
    assert "tiny.tar.gz: in order" in call("pack", "tiny.yaml", "--by", "Ada Lovelace", "--strategies", "strange")


def test_a_board_is_not_replaced_by_a_smaller_one(boards, monkeypatch):
    from suite.planning import plan
    from suite.training import opening

    board, home = boards / "tiny", Path("stranger")
    publish = ("report", "tiny", "--publish", "results/published", "--tracking", "none")
    before = {path: path.read_bytes() for path in boards.rglob("*") if path.is_file()}
    call("run", "tiny.yaml", "--tracking", "none", "--strategies", "aux_loss", "--seeds", "1")
    said = call(*publish, code=2)
    assert "results/published/tiny: has trials that this home has not (1 of aux_loss, 2 of none); copy" in said
    assert "delete results/published/tiny first" in said
    assert {path: path.read_bytes() for path in boards.rglob("*") if path.is_file()} == before

    shutil.copytree(boards / "trials", home / "trials", dirs_exist_ok=True)  # as it says
    call("run", "tiny.yaml", "--tracking", "none")
    call(*publish)
    file = next(iter(sorted(home.glob("trials/*/record.json"))))
    made_here = file.read_text()
    elsewhere = json.loads(made_here)
    elsewhere["provenance"]["hardware"]["label"] = "Acme GPU"  # a board of it would show one trial
    file.write_text(json.dumps(elsewhere))
    assert "has trials that this home has not" in call(*publish, "--hardware", "Acme GPU", code=2)
    file.write_text(made_here)
    records = {path for path in before if path.name == "record.json"}
    assert set(boards.rglob("record.json")) == records
    assert {path: path.read_bytes() for path in records} == {path: before[path] for path in records}
    call("verify", "results/published")

    for module in (plan, opening):  # every trial is made anew
        monkeypatch.setattr(module, "NUMERICS", module.NUMERICS + 1)
    monkeypatch.setenv("EQUIPOISE_HOME", "anew")
    call("run", "tiny.yaml", "--tracking", "none")
    call(*publish)
    assert len(set(boards.rglob("record.json")) - records) == len(records)

    monkeypatch.setenv("EQUIPOISE_HOME", "smaller")
    call("run", "tiny.yaml", "--tracking", "none", "--strategies", "aux_loss")
    call(*publish, code=2)
    shutil.rmtree(board)
    call(*publish)


def test_boards_of_a_folder_share_trials(boards, tiny_suite, monkeypatch):
    """Each is there once, stays while another board rests on it, and is of one home."""
    home, publish = str(Path("publisher").resolve()), ("--publish", "results/published", "--tracking", "none")
    tiny_suite |= {"suite": "second", "strategies": ["aux_loss", "smebu"]}
    Path("second.yaml").write_text(yaml.safe_dump(tiny_suite))
    call("run", "second.yaml", "--tracking", "none", "--home", home)
    call("report", "second", *publish, "--home", home)

    def held():
        return {path.parent.name for path in boards.rglob("record.json")}

    def listed(name):
        return {cell["trial_key"] for cell in json.loads((boards / name / "manifest.json").read_text())["trials"]}

    assert len(listed("tiny") & listed("second")) == 2
    assert held() == listed("tiny") | listed("second")
    assert "in order: boards and claims of 6 trials" in call("verify", "results/published")

    call("run", "second.yaml", "--tracking", "none")  # another home, whose times are others
    before = {path: path.read_bytes() for path in boards.rglob("*") if path.is_file()}
    said = call("report", "second", *publish, code=2)
    assert re.search(r"second: trial \w+: loss \S+ of .* published, and 1 others; expected .* needed by tiny too", said)
    assert {path: path.read_bytes() for path in boards.rglob("*") if path.is_file()} == before

    shutil.rmtree(boards / "tiny")
    assert "no board and no verdict on a claim rests on it" in call("verify", "results/published", code=1)
    call("report", "second", *publish, "--home", home)
    assert held() == listed("second")
    assert "in order: boards and claims of 4 trials" in call("verify", "results/published")
    monkeypatch.setenv("EQUIPOISE_HOME", home)
    for words in (("report", "tiny", "--tracking", "none", "--publish"), ("merge", "any.tar.gz", "--into")):
        said = call(*words, home, code=2)
        assert "publisher: is a home, with trials of its own; expected a folder of published boards" in said


def test_a_board_that_is_behind_is_named(boards, tiny_suite):
    """It lists a trial without a record, and another board brings it."""
    home, gone = str(Path("publisher").resolve()), []
    for cell in json.loads((boards / "tiny" / "manifest.json").read_text())["trials"]:
        if cell["arm"] == "none":
            gone.append(boards / "trials" / cell["trial_key"])
            shutil.rmtree(gone[-1])
    call("run", "tiny.yaml", "--tracking", "none", "--home", home)
    tiny_suite |= {"suite": "second", "strategies": ["aux_loss", "none"]}
    Path("second.yaml").write_text(yaml.safe_dump(tiny_suite))
    call("run", "second.yaml", "--tracking", "none", "--home", home)
    behind = "tiny: rests on trials that are published only now; publish it anew"
    call("pack", "second.yaml", "--by", "Ada", "--home", home)
    copied = shutil.copytree(boards, "copied")
    said = call("merge", "second.tar.gz", "--into", copied, "--suite", "second.yaml")
    assert said.count(behind) == 1
    publish = ("--publish", "results/published", "--tracking", "none", "--home", home)
    assert behind in call("report", "second", *publish)
    assert all(place.is_dir() for place in gone)
    assert behind not in call("report", "second", *publish)


HERE = {  # what the pages' words are on a suite of seconds and its board
    "equipoise run": ["--tracking", "none"],
    "equipoise pack": ["--suite", "tiny.yaml"],
    "equipoise verify": ["--suite", "tiny.yaml"],
    "equipoise merge": ["--suite", "tiny.yaml"],
}


@pytest.mark.parametrize("page", ["docs/submissions.md", "CONTRIBUTING.md"])
def test_the_pages_work_as_written(page, boards):
    """The rule that is shown, and the commands in their order, on a suite of seconds; no published board is touched."""
    text = (Path(__file__).parents[3] / page).read_text()
    blocks = dict(re.findall(r"^```(python|sh|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    Path("my_rule.py").write_text(blocks.get("python", RULE.replace('"strange"', '"my_rule"')))
    said = ""
    for line in blocks["sh"].splitlines():
        tool, verb, *words = shlex.split(line, comments=True)
        assert verb != "merge" or "--into" in words, line  # the shown suite has no published board, and is to get none
        names = {"quick": "tiny.yaml", "quick.tar.gz": "tiny.tar.gz", "Your Name": "Ada Lovelace", "/tmp/boards": "own"}
        said += call(verb, *(names.get(word, word) for word in words), *HERE[f"{tool} {verb}"])
    for line in blocks.get("text", "").splitlines():
        assert line.replace("quick", "tiny").replace("mix-nano", "zipf-nano") in said
    rows = json.loads(Path("own/tiny/leaderboard.json").read_text())["rows"]
    row = next(row for row in rows if row["arm"] == "my_rule")
    assert row["submitted"][0]["by"] == "Ada Lovelace"
    assert row["delta_loss"]["n"] == 6  # the fewest that get a verdict
    assert f"{row['title']} (by Ada Lovelace, " in Path("own/tiny/leaderboard.md").read_text()


def test_trained_again(boards, monkeypatch, tmp_path):
    Path("strange.py").write_text(RULE)
    call(
        "run",
        "tiny.yaml",
        "--plugin",
        "strange.py",
        "--strategies",
        "aux_loss,strange",
        "--seeds",
        "1",
        "--tracking",
        "none",
    )
    call("pack", "tiny.yaml", "--by", "Ada", "--seeds", "1", "--strategies", "strange")
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "maintainer"))
    from strategies.registry import lookup

    lookup._plugins.clear()
    said = call("verify", "tiny.tar.gz", "--suite", "tiny.yaml", "--rerun", "9")
    assert "strange: not trained again without --trust-plugin" in said
    assert re.search(r"aux_loss/zipf-nano/0: identical: held-out loss", said)
    assert "strange/zipf-nano/0" not in said
    said = call("verify", "tiny.tar.gz", "--suite", "tiny.yaml", "--rerun", "9", "--trust-plugin")
    assert "plugins/strange.py of tiny.tar.gz, which is run now" in said
    assert "return 0.02 * violation_E.sign()" in said
    assert "strange/zipf-nano/0: identical" in said


def test_a_board_cut_short(boards):
    call("run", "tiny.yaml", "--tracking", "none", "--seeds", "1")
    Path("stranger/suites/tiny.json").write_text(Path("publisher/suites/tiny.json").read_text())  # planned: 2 seeds
    said = call("pack", "tiny.yaml", "--by", "Ada", code=2)
    assert "no record of 2 of 4 trials" in said
    assert "`--seeds 1` packs those that are whole" in said
    assert "1 seed\n" in call("pack", "tiny", "--by", "Ada", "--seeds", "1", "--suite", "tiny.yaml")


def test_what_is_refused_leaves_no_archive_and_an_earlier_one_alone(boards):
    call("run", "tiny.yaml", "--tracking", "none", "--seeds", "1")
    call("pack", "tiny.yaml", "--by", "Ada", "--out", "out/tiny.tar.gz")
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    said = call("pack", "tiny", "--by", "Ada", "--out", "out/tiny.tar.gz", code=1)  # of a suite that nobody knows
    assert "tiny.tar.gz: not fit to be handed in, and not written" in said
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [("3", "--seeds: 3; 2 were run, expected at most these"), ("0,7", "--seeds: 7 was not run; expected some of 0, 1")],
)
def test_seeds_that_were_not_run_are_not_packed_as_fewer(boards, seeds, reason):
    call("run", "tiny.yaml", "--tracking", "none")
    assert reason in call("pack", "tiny.yaml", "--by", "Ada", "--seeds", seeds, code=2)


def test_a_plug_in_that_ran_beside_it_is_nothing_a_suite_asks_for(boards):
    Path("strange.py").write_text(RULE)
    call("run", "tiny.yaml", "--plugin", "strange.py", "--tracking", "none")
    assert "tiny.tar.gz: in order" in call("pack", "tiny.yaml", "--by", "Ada", "--strategies", "none")


def test_a_rule_run_before_its_baseline_is_reported_once_both_are_there(boards):
    from strategies.registry import lookup

    Path("strange.py").write_text(RULE)
    lonely = ("run", "tiny.yaml", "--tracking", "none", "--strategies")
    said = call(*lonely, "strange", "--plugin", "strange.py")
    assert "suite tiny: its baseline 'aux_loss' has not been run and is not run now" in said
    said = call("report", "tiny.yaml", "--tracking", "none", code=2)
    assert "only strange; run it with `equipoise run tiny.yaml --strategies aux_loss`" in said
    lookup._plugins.clear()
    said = call(*lonely, "aux_loss")  # as it says
    assert "no longer on its board" not in said
    assert "A stranger's rule" in call("report", "tiny.yaml", "--tracking", "none")


def test_a_tampered_archive_is_neither_in_order_nor_merged(boards):
    import gzip

    call("run", "tiny.yaml", "--tracking", "none")
    said = call("pack", "tiny.yaml", "--by", "Ada")
    digest = hashlib.sha256(Path("tiny.tar.gz").read_bytes()).hexdigest()
    assert f"SHA-256 {digest}" in said
    assert Path("tiny.tar.gz.sha256").read_text() == f"{digest}  tiny.tar.gz\n"
    call("pack", "tiny.yaml", "--by", "Ada", "--out", "again.tar.gz")
    assert Path("again.tar.gz.sha256").read_text().split() == [digest, "again.tar.gz"]
    content = gzip.decompress(Path("tiny.tar.gz").read_bytes()).replace(b'"by": "Ada"', b'"by": "<i>"')
    Path("bad.tar.gz").write_bytes(gzip.compress(content))
    assert "bad.tar.gz: submission.json: by: '<i>': holds markup" in call(
        "verify", "bad.tar.gz", "--suite", "tiny.yaml", code=1
    )
    before = sorted(path.stat().st_mtime_ns for path in boards.rglob("*"))
    call("merge", "bad.tar.gz", "--into", "results/published", "--suite", "tiny.yaml", code=1)
    assert before == sorted(path.stat().st_mtime_ns for path in boards.rglob("*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pack", "quick", "--by", "Ada"], "home: is not there; expected a folder that `equipoise run` or"),
        (["pack", "tiny.yaml"], "Missing option '--by'"),
        (["verify", "nowhere.tar.gz"], "nowhere.tar.gz: there is no such archive"),
        (["merge", "tiny.yaml", "--date", "soon"], "--date: 'soon'; expected a day such as 2026-01-31"),
    ],
)
def test_usage(words, said, tiny_suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "home"))
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
    assert said in call(*words, code=2)
