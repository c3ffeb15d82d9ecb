"""Tampered submissions: each is refused, with its reason. The stranger knows the format and makes all digests fit."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from submitted_files import drop_trials, rekeyed, renamed_arm, set_at


def of(arm="strange", seed=0):
    """A change of one trial's record."""

    def decorate(change):
        def tamper(files):
            files.json(files.records(arm)[seed], change)

        return tamper

    return decorate


def record(path, value, arm="strange", seed=0):
    return of(arm, seed)(set_at(path, value))


def every_record(path, value, arm=None):
    def tamper(files):
        for name in files.records(arm):
            files.json(name, set_at(path, value))

    return tamper


def manifest(path, value):
    return lambda files: files.json("manifests/tiny.json", set_at(path, value))


def arm_entry(name, field, value):
    def change(content):
        next(arm for arm in content["arms"] if arm["arm"] == name)[field] = value

    return lambda files: files.json("manifests/tiny.json", change)


def both(*changes):
    def tamper(files):
        for change in changes:
            change(files)

    return tamper


def better_loss(by=0.3, rise=False):
    """A lower loss, and everything in the record that follows from it."""

    def change(content):
        measures = content["measures"]
        loss = measures["val_loss"] - by
        measures["bits_per_byte"] *= loss / measures["val_loss"]
        measures["perplexity"] = math.exp(loss)
        measures["val_loss_by_domain"] = {
            name: value - by for name, value in (measures["val_loss_by_domain"] or {}).items()
        }
        measures["val_loss"] = loss

    return of()(change)


def swap(part, arm="strange"):
    """The same file of two seeds exchanged."""

    def tamper(files):
        one, two = (name.replace("record.json", part) for name in files.records(arm)[:2])
        files[one], files[two] = files[two], files[one]

    return tamper


def drop_arm(name):
    def tamper(files):
        drop_trials(lambda cell: cell["arm"] == name)(files)
        files.json(
            "manifests/tiny.json",
            lambda content: content.update(
                arms=[arm for arm in content["arms"] if arm["arm"] != name],
                aa_arm=None if content["aa_arm"] == name else content["aa_arm"],
            ),
        )

    return tamper


def curve(change, arm="strange", seed=0):
    def tamper(files):
        files.json(files.records(arm)[seed].replace("record.json", "curves.json"), change)

    return tamper


def counts(change, part="load.bin", kind="<u4"):
    def tamper(files):
        name = files.records("strange")[0].replace("record.json", part)
        load = np.frombuffer(files[name], dtype=kind).copy()
        change(load)
        files[name] = load.tobytes()

    return tamper


def move_a_token(load):
    load[np.argmax(load[:4])] -= 1
    load[np.argmin(load[:4])] += 1


def copied_seed(files):
    """One seed handed in twice: everything of it, under the other's key."""
    one, two = files.records("strange")[:2]
    first, second = json.loads(files[one]), json.loads(files[two])
    for part in ("curves.json", "load.bin", "val_load.bin"):
        files[two.replace("record.json", part)] = files[one.replace("record.json", part)]
    files[two] = json.dumps({**first, "trial_key": second["trial_key"], "config": second["config"]}).encode()


def plugin(text):
    def tamper(files):
        files["plugins/strange.py"] = text(files["plugins/strange.py"].decode()).encode()

    return tamper


def foreign_trial(files):
    name = files.records("strange")[0]
    files["trials/0123456789abcdef/record.json"] = files[name]
    files["trials/0123456789abcdef/curves.json"] = files[name.replace("record.json", "curves.json")]


def raw(part, content, arm="strange"):
    def tamper(files):
        files[files.records(arm)[0].replace("record.json", part)] = content

    return tamper


def diverged(content):
    content["status"] = "diverged"
    content["measures"] |= {"val_loss": None, "perplexity": None, "bits_per_byte": None, "diverged_at_step": 9}


def in_text(old, new):
    """Text replaced in a record, whatever JSON makes of it."""

    def tamper(files):
        name = files.records("strange")[0]
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return tamper


TAMPERINGS = {
    # losses
    "a loss changed": (record("measures.val_loss", lambda x: x - 0.01), "strange/zipf-nano/0: measures.perplexity"),
    "a loss and all that follows": (better_loss(3.0), "at the last evaluation before the end"),
    "a loss in other units": (record("measures.bits_per_byte", lambda x: 0.9 * x), "measures.bits_per_byte: .* of its"),
    "a training loss changed": (record("measures.train_loss_tail", lambda x: x - 0.01), "the curve's last tenth has"),
    "a bad seed called diverged": (of()(diverged), "measures.diverged_at_step: 9; the curve's first gap"),
    "a negative loss": (record("measures.val_loss", -1.0), r"measures.val_loss: -1\.0; expected nats"),
    "a loss left out": (record("measures.val_loss", None), "measures.val_loss: None; expected nats"),
    # the grid
    "a bad seed left out": (
        drop_trials(lambda cell: cell["arm"] == "strange" and cell["seed"] == 1),
        "strange on zipf-nano: no trial of seed 1; expected every seed of 0, 1",
    ),
    "a bad seed left out of all arms": (
        drop_trials(lambda cell: cell["seed"] == 0),
        r"seed 1: not among the suite's first 1 \(0\)",
    ),
    "the baseline left out": (drop_arm("aux_loss"), "arm 'aux_loss': missing"),
    "the second baseline left out": (drop_arm("aux_loss-aa"), "arm 'aux_loss-aa': missing"),
    "a record left out": (lambda files: files.pop(files.records("strange")[1]), "record.json: not in the archive"),
    "a whole trial left out": (
        lambda files: [
            files.pop(files.records("strange")[1].replace("record.json", part))
            for part in ("curves.json", "load.bin", "val_load.bin", "record.json")
        ],
        "strange/zipf-nano/1: no record of trial",
    ),
    "one seed handed in twice": (copied_seed, "the same losses at every step; seeds differ"),
    "an arm twice": (
        lambda files: files.json("manifests/tiny.json", lambda m: m["arms"].append(m["arms"][0])),
        "arms: .* is listed twice",
    ),
    # exchanged files
    "a curve of another trial": (swap("curves.json"), "the curve's last tenth has"),
    "the counts of another trial": (both(swap("load.bin"), swap("val_load.bin")), "the loads are another trial's"),
    "the record of another trial": (swap("record.json"), "trial_key: '.*' says the record"),
    "a foreign key": (foreign_trial, "trial 0123456789abcdef: no manifest lists it"),
    "a key of its own": (record("trial_key", "0123456789abcdef"), "trial_key: '0123456789abcdef' says the record; its"),
    # conditions
    "another protocol": (manifest("protocol_version", "0"), "protocol_version: '0'; this version compares under"),
    "another suite": (manifest("protocol_digest", "0" * 64), "protocol_digest: '0000"),
    "a wider margin": (manifest("margin", 9.0), "margin: 9.0; the suite says None"),
    "a suite that asks for less": (manifest("asks.seeds", 1), "asks: seeds: 1; the suite says "),
    "another baseline": (manifest("baseline", "none"), "baseline: 'none'; the suite says 'aux_loss'"),
    "an easier task": (manifest("tasks.0.experts", 2), "task zipf-nano: experts: not as the suite has it"),
    "another task's name": (manifest("tasks.0.name", "mix-nano"), "'zipf-nano' is not listed"),
    "more training": (rekeyed("config.task.rung.steps", 24), "config.task.rung.steps: 24; expected 12"),
    "a better rate": (rekeyed("config.task.rung.learning_rate", 0.01), "config.task.rung.learning_rate: 0.01; exp"),
    "a better rate without the key": (record("config.task.rung.learning_rate", 0.01), "trial_key: '.*' says the rec"),
    "a crippled baseline": (
        rekeyed("config.strategy.config", lambda old: {**old, "coefficient": 99.0}, "aux_loss"),
        "config.strategy.config.coefficient: 99.0; expected",
    ),
    "a baseline of other code": (
        rekeyed("config.strategy.source", "0" * 64, "aux_loss"),
        "config.strategy.source: '000",
    ),
    "other code in an arm of its own": (
        both(renamed_arm("none", "my_none"), rekeyed("config.strategy.source", "0" * 64, "my_none")),
        "my_none/zipf-nano/0: config.strategy.source: '0000.*; expected '",
    ),
    "another engine": (rekeyed("config.numerics", 0), "config.numerics: 0; expected"),
    "another precision": (rekeyed("config.precision", "bfloat16"), "config.precision: 'bfloat16'; expected 'float32'"),
    "other seeds": (rekeyed("config.seed", lambda seed: seed + 1000), r"config.seed: 1000; expected 0"),
    "settings that the arm does not tell": (
        rekeyed("config.strategy.config", lambda old: {**old, "rate": 0.5}),
        "config.strategy.config.rate: 0.5; expected 0.01",
    ),
    "the task told otherwise": (record("task.rung.width", 64), "task.rung.width: 64; expected 32"),
    # hardware, clocks
    "other hardware in one trial": (
        record("provenance.hardware.label", "NVIDIA H100"),
        "hardware: 2 kinds .*NVIDIA H100.*; a board compares on one",
    ),
    "a GPU's trial on a CPU": (record("provenance.hardware.device", "cuda"), "config.device: 'cpu'; its hardware is"),
    "another corpus": (record("provenance.corpus_digest", "0" * 64), "trained on 2 different corpora"),
    "a faster run": (record("timing.train_seconds", lambda x: x / 2), "timing.train_seconds: .*; the curve ends at"),
    "more tokens a second": (record("timing.tokens_per_second", lambda x: 2 * x), "timing.tokens_per_second"),
    "a shorter step": (record("timing.step_ms.total", lambda x: x / 2), "timing.step_ms.total"),
    "a clock turned back": (
        curve(lambda columns: columns["seconds"].__setitem__(5, 0.0)),
        "curves.seconds: expected times that grow",
    ),
    "ended in the future": (record("attempts.0.ended", "2999-01-01T00:00:00Z"), "attempts.0: .*none to come"),
    "an end that is no time": (record("attempts.0.ended", "garbage"), "attempts.0: expected `started` and `ended`"),
    "ended before it began": (record("attempts.0.ended", "2026-01-01T00:00:00Z"), "attempts.0: .*times in order"),
    "a part of it missing": (record("attempts.0.from_step", 6), "attempts.0.from_step: 6; the attempt before it"),
    "no attempt": (record("attempts", []), "attempts: the last ends at step None; expected 12"),
    "faster than any machine": (
        both(
            curve(lambda columns: columns.update(seconds=[1e-15 * x for x in range(1, 13)])),
            record("timing.train_seconds", 12e-15),
            record("timing.step_ms.total", 1e-12),
        ),
        "beyond any machine",
    ),
    # counts
    "counts that do not add up": (
        counts(lambda load: load.__setitem__(0, load[0] + 1)),
        "load: step 0, layer 0: 129 assignments; 64 tokens × 2 are 128",
    ),
    "a token moved": (counts(move_a_token), "curves.max_vio: not that of the loads"),
    "held-out counts that do not add up": (
        counts(lambda load: load.__setitem__(0, load[0] + 1), "val_load.bin", "<u8"),
        "val_load: layers with",
    ),
    "counts cut short": (raw("load.bin", b"\0" * 8), "expected counts of 12 steps"),
    "no counts": (raw("load.bin", b""), "expected counts of 12 steps"),
    "a better balance": (record("measures.max_vio_global.mean", 0.0), "measures.max_vio_global.mean: 0.0; the loads"),
    "a better balance in batches": (record("measures.max_vio_batch.tail_mean", 0.0), "max_vio_batch.tail_mean: 0.0;"),
    "less overflow": (
        record("measures.overflow", lambda old: {**old, "1.25": 0.0}),
        "measures.overflow.1.25: 0.0; the",
    ),
    "a lower noise floor": (record("measures.noise_floor.batch", 0.0), "measures.noise_floor.batch: 0.0; expected"),
    "fewer steps": (record("measures.steps", 6), "measures.steps: 6, curves of 12 rows; expected the task's 12"),
    "more tokens": (record("measures.tokens", 9999), "measures.tokens: 9999; 12 steps of 64 are 768"),
    "fewer FLOPs": (record("measures.flops_per_token", 1), r"measures.flops_per_token: 1\.0; the task's are"),
    "other sizes": (record("measures.parameters.total", 1), "2 different counts of parameters"),
    "a step missing": (curve(lambda c: [v.pop() for v in c.values()]), "curves of 11 rows; expected the task's 12"),
    "more rows than steps": (
        curve(lambda c: [v.append(v[-1]) for v in c.values()]),
        "curves.json: [a-z_]*: expected at most 12 numbers or nulls",
    ),
    "a column that no trial has": (curve(lambda c: c.update(mine=c["lr"])), "column 'mine'; expected step, tokens, "),
    "loss terms without end": (
        curve(lambda c: c.update({f"loss_a{index}": c["lr"] for index in range(17)})),
        "17 columns of loss terms; expected .* at most 16 of loss_TERM",
    ),
    "columns of two lengths": (curve(lambda c: c["lr"].pop()), "columns of .* rows; expected as many in each"),
    "no curve": (raw("curves.json", b"{}"), "curves.json: expected an object of columns"),
    "text in a curve": (curve(lambda c: c["lr"].__setitem__(0, "x")), "lr: expected at most"),
    # the plug-in
    "another rule's text": (
        plugin(lambda text: text.replace("violation_E.sign()", "violation_E")),
        "config.strategy.source: '.*; plugins/strange.py has '",
    ),
    "no text": (lambda files: files.pop("plugins/strange.py"), "strategy 'strange': comes neither with Equipoise nor"),
    "a text nobody uses": (
        lambda files: files.update({"plugins/other.py": b"import torch\n"}),
        "plugins/other.py: no arm uses it",
    ),
    "a text that needs others": (plugin(lambda text: "import requests\n" + text), "line 1: imports requests; expected"),
    "a text with a relative import": (plugin(lambda text: "from . import x\n" + text), "line 1: a relative import"),
    "no Python": (plugin(lambda text: "!" + text), "plugins/strange.py: not Python"),
    "Python too deep": (plugin(lambda text: text + "x = " + "-" * 100_000 + "1\n"), "nested too deeply to be read"),
    "Python too long a chain": (plugin(lambda text: text + "x = a" + ".b" * 100_000), "nested too deeply to be read"),
    "the name of a rule that comes along": (
        lambda files: files.json(
            "manifests/tiny.json",
            lambda m: next(a for a in m["arms"] if a["arm"] == "strange").update(strategy="smebu"),
        ),
        "title: \"A stranger's rule\"; smebu has 'SMEBU'",
    ),
    # what is shown
    "markup in a title": (arm_entry("strange", "title", "<script>alert(1)</script>"), "holds markup or a link"),
    "a link in a title": (arm_entry("strange", "title", "see https://example.org"), r"markup or a link \(://\)"),
    "Markdown in a note": (arm_entry("strange", "note", "![](x)"), "holds markup or a link"),
    "text that runs backwards": (arm_entry("strange", "title", "a\u202eb"), r"invisible character U\+202E"),
    "a title without end": (arm_entry("strange", "title", "x" * 5000), "5000 characters; expected at most"),
    "a title that the record lacks": (arm_entry("strange", "title", "Best of all"), "facts.title: .*; expected 'Best"),
    "another rule's title": (arm_entry("none", "title", "Worst of all"), "title: 'Worst of all'; the suite says"),
    "markup in a record": (record("provenance.platform", "<b>"), "holds markup or a link"),
    "markup in hardware": (every_record("provenance.hardware.label", "<img src=x>"), "holds markup or a link"),
    "markup in the name": (
        lambda files: files.json("submission.json", lambda head: head.update(by="[me](http://x)")),
        "submission.json: by: .*markup",
    ),
    "no name": (
        lambda files: files.json("submission.json", lambda head: head.update(by=" ")),
        "by: ' ': expected a te",
    ),
    # what JSON may hold
    "NaN": (in_text(b'"val_loss": ', b'"val_loss": NaN, "was": '), "record.json: NaN; expected null"),
    "infinity": (in_text(b'"val_loss": ', b'"val_loss": 1e999, "was": '), "'1e999' is not a finite number"),
    "a key twice": (in_text(b'"val_loss": ', b'"val_loss": 1.0, "val_loss": '), "the key 'val_loss' is there twice"),
    "a number without end": (in_text(b'"steps": 12', b'"steps": ' + b"1" * 9999), "a number of 9999 digits"),
    "JSON too deep": (raw("record.json", b"[" * 100_000), "nested deeper than 16 levels"),
    "a lone surrogate": (in_text(b'"val_loss": ', rb'"\ud800": 1, "val_loss": '), "not Unicode text"),
    "not UTF-8": (raw("record.json", b'{"a": "\xff"}'), "record.json: not Unicode text"),
    "no object": (raw("record.json", b"1"), "record.json: "),
    "a text for a number": (record("measures.val_loss", "4.0"), "record.json: measures.val_loss: '4.0'"),
    "a manifest that is none": (lambda files: files.update({"manifests/tiny.json": b"[]"}), "manifests/tiny.json: "),
    "no head": (lambda files: files.update({"submission.json": b"{}"}), "submission.json: "),
    "an environment that is not told": (
        lambda files: files.json("submission.json", lambda head: head.update(environments=[])),
        "environments: a trial was made in one that is not listed",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_refused_with_its_reason(name, files, checked, tmp_path):
    change, reason = TAMPERINGS[name]
    change(files)
    if name != "no head":
        files.seal()
    report = checked(files.write(tmp_path / "tampered.tar.gz"))
    said = "\n".join(report.violations)
    assert re.search(reason, said), said
    assert all("\n" not in line and line.isprintable() for line in report.violations), report.violations
    assert all(len(line) < 400 for line in report.violations), report.violations


def test_untouched_it_is_in_order(files, checked, tmp_path):
    report = checked(files.seal().write(tmp_path / "same.tar.gz"))
    assert report.violations == []


def test_an_arm_of_its_own_of_a_rule_that_comes_along_is_in_order(files, checked, tmp_path):
    renamed_arm("none", "my_none")(files)
    assert checked(files.seal().write(tmp_path / "own.tar.gz")).violations == []


@pytest.mark.parametrize("part", ["manifests/tiny.json", "plugins/strange.py", "record", "curves", "load"])
def test_a_wrong_digest(part, files, checked, tmp_path):
    names = {"record": "record.json", "curves": "curves.json", "load": "load.bin"}
    name = files.records("strange")[0].replace("record.json", names[part]) if part in names else part
    files[name] += b" "
    report = checked(files.write(tmp_path / "tampered.tar.gz"))
    assert any(line.startswith(f"{name}: its SHA-256 is ") for line in report.violations), report.violations


def test_a_file_that_nobody_listed_and_one_that_is_missing(files, checked, tmp_path):
    files["plugins/extra.py"] = b""
    del files[files.records("none")[0].replace("record.json", "load.bin")]
    said = "\n".join(checked(files.write(tmp_path / "tampered.tar.gz")).violations)
    assert "plugins/extra.py: submission.json does not list it" in said
    assert "submission.json lists it, the archive lacks it" in said


def test_a_plug_in_is_never_run(files, checked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = files["plugins/strange.py"].decode().replace("class Strange", "Path('ran').touch()\n\n\nclass Strange")
    files["plugins/strange.py"] = text.encode()
    report = checked(files.seal().write(tmp_path / "tampered.tar.gz"))
    assert report.violations
    assert not (tmp_path / "ran").exists()
