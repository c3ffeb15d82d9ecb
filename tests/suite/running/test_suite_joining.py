"""What a submission writes beside a board's trials: texts of plug-ins, and what tuning chose."""

from __future__ import annotations

import json

from results.submissions.contents import Submission
from results.submissions.merging import Merged
from results.submissions.verify import Report
from strategies.registry.source_text import text_digest
from suite.running.joining import checked_choice, joined_choice, write

RULE = """
from strategies import BiasStrategy


class Strange(BiasStrategy):
    name = "strange"

    def step(self, violation_E):
        return 0.02 * violation_E.sign()
"""
KNOB = {"parameter": "p", "grid": [1, 2]}


def board(*arms, tasks=("a",)):
    arms = [{"arm": arm, "knob": KNOB} for arm in arms]
    return {"suite": "tiny", "arms": arms, "tasks": [{"name": task} for task in tasks], "trials": []}


def choice(arm, **values):
    """What was chosen for an arm: a value for each task."""
    under = {task: {"made": f"with {value}"} for task, value in values.items()}
    return {"arms": {arm: {"parameter": "p", "tasks": {t: {"value": v} for t, v in values.items()}, "under": under}}}


def join(folder, *, plugins=None, chosen=None, tasks=("a",)):
    manifest = board("tuned", tasks=tasks)
    submission = Submission({"by": "Ada", "board": "tiny"}, {"tiny": manifest}, chosen, plugins or {}, [])
    write(Merged(folder, "a CPU", manifest), Report(submission=submission))


def test_texts_of_two_rules_of_one_name_both_stay(tmp_path):
    other = RULE.replace("0.02", "0.03")
    for text in (RULE, other, f"# a remark, the same rule\n{RULE}"):
        join(tmp_path, plugins={"strange": text})
    texts = {path.name: path.read_text() for path in (tmp_path / "plugins").iterdir()}
    assert texts == {f"strange-{text_digest('strange', text)[:16]}.py.txt": text for text in (RULE, other)}


def test_what_tuning_chose_for_an_arm_on_other_tasks_joins_and_the_boards_stays(tmp_path):
    join(tmp_path, chosen=choice("tuned", a=1))
    join(tmp_path, chosen=choice("tuned", a=9, b=2), tasks=("a", "b"))
    entry = json.loads((tmp_path / "tuning.json").read_text())["arms"]["tuned"]
    assert entry == choice("tuned", a=1, b=2)["arms"]["tuned"]


def test_a_choice_of_another_digest_does_not_take_the_place_of_the_boards():
    ours, theirs = choice("tuned", a=1) | {"protocol_digest": "x"}, choice("new", a=2) | {"protocol_digest": "y"}
    both = joined_choice(ours, theirs)
    assert both == {"protocol_digest": "x", "arms": ours["arms"] | theirs["arms"]}


def test_only_what_was_checked_of_a_choice_is_merged():
    """Not what is of other tasks, arms without a knob or not submitted, nor conditions that are none."""
    chosen = {"seeds": 1, "arms": {**choice("x", a=1, b=2)["arms"], "none": 3, "b": {}}}
    manifest = board("x")
    manifest["arms"].append({"arm": "none", "knob": None})
    assert checked_choice(chosen, manifest) == {"seeds": 1, **choice("x", a=1)}
    chosen["arms"]["x"]["under"] = ["anything"]
    assert "under" not in checked_choice(chosen, manifest)["arms"]["x"]
