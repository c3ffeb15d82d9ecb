"""Reading records: what is accepted, and what each kind of damage is called."""

import json

import pytest
from synthetic_records import HARDWARE, write_suite

from results.records import check_manifest, collect, load_manifest, load_record


@pytest.fixture
def suite(tmp_path):
    return write_suite(
        tmp_path,
        seeds=2,
        curves=False,
        diverged={("plain", "mix-nano", 0)},
        failed={("bias", "mix-nano", 1)},
        missing={("table", "mix-nano", 0)},
    )


def test_every_outcome_is_told_apart(suite):
    records = collect(*suite)
    assert len(records) == 14
    assert [o.status for o in records.cell("plain", "mix-nano")] == ["diverged", "finished"]
    assert [o.status for o in records.cell("bias", "mix-nano")] == ["finished", "failed"]
    assert [o.status for o in records.cell("table", "mix-nano")] == ["missing", "finished"]
    assert records.cell("bias", "mix-nano")[1].failure == "MemoryError: out of memory"
    assert records.losses("plain", "mix-nano").keys() == {1}
    assert records.hardware() == [HARDWARE]
    assert records.cell("plain", "elsewhere") == []


def test_record_is_returned_as_written(suite):
    manifest, trials = suite
    folder = trials / manifest["trials"][1]["trial_key"]
    assert load_record(folder) == json.loads((folder / "record.json").read_text(encoding="utf-8"))


def edit(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


DAMAGE = {
    "schema: 2": lambda r: r.update(schema=2),
    "status: 'done'": lambda r: r.update(status="done"),
    "measures.steps: field required": lambda r: r["measures"].pop("steps"),
    "measures.val_loss: 'low'": lambda r: r["measures"].update(val_loss="low"),
    "measures.val_loss: null in a finished trial": lambda r: r["measures"].update(val_loss=None),
    "measures.val_loss: nan": lambda r: r["measures"].update(val_loss=float("nan")),
    "measures.max_vio_batch.peak: field required": lambda r: r["measures"]["max_vio_batch"].pop("peak"),
    "config.seed: True": lambda r: r["config"].update(seed=True),
    "provenance.hardware.label: field required": lambda r: r["provenance"]["hardware"].pop("label"),
    "trial_key: 'abc' is another trial's": lambda r: r.update(trial_key="abc"),
    "config.task.name: 'other' is another trial's": lambda r: r["config"]["task"].update(name="other"),
    "config.strategy.name: 'other' is another trial's": lambda r: r["config"]["strategy"].update(name="other"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_named_with_file_and_field(suite, message):
    manifest, trials = suite
    path = trials / manifest["trials"][1]["trial_key"] / "record.json"
    edit(path, DAMAGE[message])
    with pytest.raises(ValueError, match=r"record\.json") as error:
        collect(manifest, trials)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "trial', b"\xff\xfe", b"[1, 2]"])
def test_truncated_and_foreign_files(suite, content):
    manifest, trials = suite
    path = trials / manifest["trials"][1]["trial_key"] / "record.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected a trial's record"):
        load_record(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="not there; expected a trial's record"):
        load_record(tmp_path)
    with pytest.raises(ValueError, match="not there; expected a suite's manifest"):
        load_manifest(tmp_path / "none.json")


def test_a_damaged_failure_is_still_a_failure(suite):
    manifest, trials = suite
    key = next(t["trial_key"] for t in manifest["trials"] if t["arm"] == "bias" and t["seed"] == 1)
    (trials / key / "failure.json").write_text("{")
    assert "unreadable" in collect(manifest, trials).cell("bias", "mix-nano")[1].failure


class TestManifest:
    def test_round_trip(self, suite, tmp_path):
        assert load_manifest(tmp_path / "suites" / "synthetic.json") == suite[0]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda m: m["trials"][0].update(arm="plane"),
                "trials.0.arm: 'plane' is not listed; did you mean 'plain'?",
            ),
            (
                lambda m: m["trials"][0].update(task="zzz"),
                "trials.0.task: 'zzz' is not listed; expected one of mix-nano",
            ),
            (lambda m: m["trials"].append(m["trials"][0]), "trials.14: plain/mix-nano/0 is listed twice"),
            (lambda m: m["arms"].append(m["arms"][0]), "arms: 'plain' is listed twice"),
            (lambda m: m["trials"][0].update(trial_key="../../etc"), "trials.0.trial_key: '../../etc'"),
            (lambda m: m.pop("baseline"), "baseline: field required"),
        ],
    )
    def test_contradictions_are_named(self, suite, tmp_path, change, message):
        path = tmp_path / "suites" / "synthetic.json"
        edit(path, change)
        with pytest.raises(ValueError, match=r"synthetic\.json") as error:
            load_manifest(path)
        assert message in str(error.value)

    def test_a_baseline_may_be_absent(self, suite):
        manifest = suite[0] | {"baseline": "elsewhere", "control": "nowhere"}
        check_manifest(manifest)


class TestHardware:
    def test_several_kinds_must_be_chosen_from(self, tmp_path):
        manifest, trials = write_suite(tmp_path, seeds=1, curves=False, hardware={"plain": "GPU"})
        records = collect(manifest, trials)
        with pytest.raises(ValueError, match=r"2 kinds \('CPU · Synthetic · 2 cores', 'GPU'\)"):
            records.on_one()
        with pytest.raises(ValueError, match="did you mean 'GPU'"):
            records.on_one("GPUs")
        chosen, label = records.on_one("GPU")
        assert label == "GPU"
        assert [o.arm for o in chosen if o.status == "finished"] == ["plain"]
        assert [o.status for o in chosen.cell("bias", "mix-nano")] == ["missing"]


def test_two_settings_of_one_strategy_have_titles_of_their_own(suite, tmp_path):
    manifest, _ = suite
    first, *others = manifest["arms"]
    named = {**first, "arm": first["strategy"]}
    again = {**first, "arm": "another-setting"}
    short = {**first, "arm": f"{first['strategy']}-long"}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**manifest, "arms": [named, again, short, *others], "trials": [], "aa_arm": None}))
    titles = {arm["arm"]: arm["title"] for arm in load_manifest(path)["arms"]}
    assert titles[named["arm"]] == first["title"]
    assert titles["another-setting"] == f"{first['title']} (another-setting)"
    assert titles[short["arm"]] == f"{first['title']} (long)"
