"""A leaderboard from synthetic records: figures against a few lines of NumPy, and what the protocol promises."""

import json
import math
import resource
import time

import numpy as np
import pytest
from scipy import stats
from synthetic_records import ARMS, HARDWARE, Arm, write_suite

from results.boards.leaderboard import build
from results.pages.markdown import boards_markdown, leaderboard_markdown
from results.records import collect


def board_of(tmp_path, **options):
    manifest, trials = write_suite(tmp_path, curves=False, **options)
    return build(manifest, collect(manifest, trials)), manifest, trials


def rows_of(board, task="mix-nano"):
    return {row["arm"]: row for row in board["rows"] if row["task"] == task}


def losses_of(manifest, trials, arm, task="mix-nano"):
    keys = [t["trial_key"] for t in manifest["trials"] if t["arm"] == arm and t["task"] == task]
    return np.array([json.loads((trials / k / "record.json").read_text())["measures"]["val_loss"] for k in keys])


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return board_of(tmp_path_factory.mktemp("full"), tasks=("mix-nano", "shift-nano"))


def test_differences_against_numpy(full):
    board, manifest, trials = full
    base = losses_of(manifest, trials, "penalty")
    p_values = []
    for arm in ("plain", "bias", "gentle", "gentle-fast", "table"):
        delta = rows_of(board)[arm]["delta_loss"]
        difference = losses_of(manifest, trials, arm) - base
        se = difference.std(ddof=1) / math.sqrt(10)
        assert delta["mean"] == pytest.approx(difference.mean())
        assert delta["ci_high"] - delta["mean"] == pytest.approx(2.262157 * se, rel=1e-6)  # t, 9 degrees of freedom
        p_values.append(2 * stats.t.sf(abs(difference.mean() / se), 9))
        assert delta["p_t"] == pytest.approx(p_values[-1])
        assert delta["n"] == 10
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(np.array(p_values)[order] * [5, 4, 3, 2, 1])
    shown = [rows_of(board)[a]["delta_loss"]["p_adjusted"] for a in ("plain", "bias", "gentle", "gentle-fast", "table")]
    assert np.array(shown)[order] == pytest.approx(np.minimum(adjusted, 1))


def test_the_chosen_effects_come_out(full):
    rows = rows_of(full[0])
    assert {arm: row["delta_loss"]["verdict"] for arm, row in rows.items()} == {
        "bias": "better",
        "gentle": "better",
        "gentle-fast": "better",
        "penalty": "baseline",
        "table": "tie",
        "plain": "worse",
    }


def test_schema_of_the_design(full):
    board = json.loads(json.dumps(full[0], allow_nan=False))
    for key in ("suite", "protocol_version", "hardware", "baseline", "tasks", "rows"):
        assert board[key]
    assert board["hardware"] == HARDWARE
    for row in board["rows"]:
        assert row["val_loss"].keys() == {"mean", "ci_low", "ci_high"}
        assert {"mean", "ci_low", "ci_high", "p_adjusted", "verdict"} <= row["delta_loss"].keys()
        assert {"1.0", "1.25", "2.0"} <= row["overflow"].keys()
        for key in ("max_vio_global", "max_vio_batch", "dead_experts", "tokens_per_second", "overhead"):
            assert isinstance(row[key], float)
        assert len(row["trial_keys"]) == len(row["seeds"]) == row["n_seeds"] == 10


def test_means_medians_and_overhead_against_the_files(full):
    board, manifest, trials = full
    keys = {
        a: [t["trial_key"] for t in manifest["trials"] if (t["arm"], t["task"]) == (a, "mix-nano")]
        for a in ("bias", "plain")
    }
    bias, plain = ([json.loads((trials / k / "record.json").read_text()) for k in keys[a]] for a in ("bias", "plain"))
    row = rows_of(board)["bias"]
    assert row["max_vio_batch"] == pytest.approx(np.mean([r["measures"]["max_vio_batch"]["tail_mean"] for r in bias]))
    assert row["overflow"]["1.25"] == pytest.approx(np.mean([r["measures"]["overflow"]["1.25"] for r in bias]))
    rates = [r["measures"]["tokens"] / r["measures"]["steps"] / r["timing"]["step_ms"]["cpu"] * 1000 for r in bias]
    assert row["tokens_per_second"] == pytest.approx(np.median(rates))
    step = [a["timing"]["step_ms"]["cpu"] / b["timing"]["step_ms"]["cpu"] for a, b in zip(bias, plain, strict=True)]
    assert row["overhead"] == pytest.approx(np.median(step) - 1)
    assert rows_of(board)["plain"]["overhead"] == 0
    assert row["perplexity"] == pytest.approx(math.exp(row["val_loss"]["mean"]))


def test_the_aa_arm_is_measured_but_never_ranked(full):
    board, manifest, trials = full
    assert "penalty-aa" not in rows_of(board)
    difference = losses_of(manifest, trials, "penalty-aa") - losses_of(manifest, trials, "penalty")
    assert board["aa"]["tasks"]["mix-nano"]["sd"] == pytest.approx(difference.std(ddof=1))
    assert board["aa"]["tasks"]["mix-nano"]["mean"] == pytest.approx(difference.mean())
    assert board["n_arms"] == 5


def test_without_a_margin_the_aa_spread_sets_it(tmp_path):
    board, manifest, trials = board_of(tmp_path, margin=None)
    spread = (losses_of(manifest, trials, "penalty-aa") - losses_of(manifest, trials, "penalty")).std(ddof=1)
    assert board["margins"]["mix-nano"] == pytest.approx(spread)
    assert rows_of(board)["table"]["delta_loss"]["verdict"] == "tie"


def test_without_margin_and_aa_no_tie_can_be_shown(tmp_path):
    board, _, _ = board_of(tmp_path, margin=None, aa=False)
    assert board["aa"] is None
    assert board["margins"] == {"mix-nano": 0.0}
    assert rows_of(board)["table"]["delta_loss"]["verdict"] == "undecided"
    assert any("the margin is 0" in warning for warning in board["warnings"])


def test_diverged_failed_and_missing_are_shown_and_counted(tmp_path):
    gone = {("table", "mix-nano", seed) for seed in range(10)}
    board, _, _ = board_of(
        tmp_path,
        diverged={("bias", "mix-nano", 3), ("gentle", "mix-nano", 1), ("gentle", "mix-nano", 2)},
        failed={("plain", "mix-nano", 5)},
        missing=gone,
    )
    rows = rows_of(board)
    assert [row["arm"] for row in board["rows"]] == ["gentle-fast", "penalty", "plain", "bias", "gentle", "table"]
    assert [row["rank"] for row in board["rows"]] == [1, 2, 3, 4, 5, None]
    assert (rows["bias"]["diverged"], rows["gentle"]["diverged"], rows["plain"]["failed"]) == (1, 2, 1)
    assert rows["bias"]["delta_loss"]["verdict"] == "undecided"  # its nine finished seeds are clearly lower
    assert rows["bias"]["seeds"][3] | {"trial_key": ""} == {
        "seed": 3,
        "trial_key": "",
        "status": "diverged",
        "val_loss": None,
        "delta": None,
    }
    assert rows["plain"]["seeds"][5]["failure"] == "MemoryError: out of memory"
    assert rows["table"]["missing"] == 10
    assert rows["table"]["delta_loss"] | {"words": ""} == rows["table"]["delta_loss"] | {
        "n": 0,
        "mean": None,
        "words": "",
    }
    assert rows["table"]["delta_loss"]["verdict"] == "indicative"
    assert board["warnings"][:3] == [
        "10 of 70 trials not run yet.",
        "1 of 70 trials failed.",
        "3 of 70 trials diverged.",
    ]


def test_a_baseline_that_diverged_leaves_the_other_seeds_to_compare(tmp_path):
    board, _, _ = board_of(tmp_path, diverged={("penalty", "mix-nano", 0)})
    rows = rows_of(board)
    assert rows["bias"]["delta_loss"]["n"] == 9
    assert rows["bias"]["delta_loss"]["verdict"] == "better"
    assert "1 of the baseline's diverged" in rows["bias"]["delta_loss"]["words"]
    assert rows["penalty"]["rank"] == 6


def test_rank_follows_the_paired_difference_not_the_luck_of_the_seeds(tmp_path):
    # The better arm misses the seed with the lowest losses; its plain mean is the higher one.
    arms = (Arm("penalty", "P"), Arm("good", "G", effect=-0.001, noise=0.0), Arm("base", "B", noise=0.0))
    options = {"arms": arms, "control": None, "aa": False, "seeds": 8, "seed_effect": 0.1}
    _, manifest, trials = board_of(tmp_path / "all", **options)
    lucky = int(np.argmin(losses_of(manifest, trials, "penalty")))
    board, _, _ = board_of(tmp_path / "part", **options, missing={("good", "mix-nano", lucky)})
    rows = rows_of(board)
    assert rows["good"]["val_loss"]["mean"] > rows["base"]["val_loss"]["mean"]
    assert rows["good"]["rank"] < rows["base"]["rank"]


def test_few_seeds_are_indicative(tmp_path):
    board, _, _ = board_of(tmp_path, seeds=2)
    assert {row["delta_loss"]["verdict"] for row in board["rows"]} == {"indicative", "baseline"}
    assert any(warning.startswith("Indicative") for warning in board["warnings"])


def test_what_the_exact_test_cannot_reach_is_said(tmp_path):
    board, _, _ = board_of(tmp_path, seeds=6)
    assert any("6 seeds and 5 arms the exact test cannot reach 0.05" in warning for warning in board["warnings"])


def test_a_margin_too_narrow_to_protect_is_said(tmp_path):
    board, _, _ = board_of(tmp_path / "narrow", margin=0.0)
    assert any("bias on mix-nano" in warning for warning in board["warnings"])
    board, _, _ = board_of(tmp_path / "wide")
    assert not any("half the spread" in warning for warning in board["warnings"])


def test_one_seed_and_no_record_at_all_have_answers(tmp_path):
    board, _, _ = board_of(tmp_path / "one", seeds=1)
    assert rows_of(board)["bias"]["delta_loss"]["ci_low"] is None
    gone = {(arm.name, "mix-nano", 0) for arm in ARMS} | {("penalty-aa", "mix-nano", 0)}
    board, _, _ = board_of(tmp_path / "none", seeds=1, missing=gone)
    assert board["hardware"] is None
    assert all(row["rank"] is None for row in board["rows"])
    json.dumps(board, allow_nan=False)


def test_a_suite_cut_down_to_arms_without_its_baseline_is_still_shown(tmp_path):
    _, manifest, trials = board_of(tmp_path, seeds=2, aa=False)
    kept = manifest | {
        "arms": [arm for arm in manifest["arms"] if arm["arm"] in ("bias", "table")],
        "trials": [trial for trial in manifest["trials"] if trial["arm"] in ("bias", "table")],
    }
    board = build(kept, collect(kept, trials))
    assert {row["arm"] for row in board["rows"]} == {"bias", "table"}
    assert any("baseline 'penalty' is not in this suite" in warning for warning in board["warnings"])


def test_one_kind_of_hardware_per_board(tmp_path):
    manifest, trials = write_suite(tmp_path, seeds=1, curves=False, hardware={"plain": "GPU"})
    records = collect(manifest, trials)
    with pytest.raises(ValueError, match="2 kinds"):
        build(manifest, records)
    board = build(manifest, records, hardware=HARDWARE)
    assert rows_of(board)["plain"]["missing"] == 1


def test_equal_records_give_equal_bytes(full):
    board, manifest, trials = full
    again = build(manifest, collect(manifest, trials))
    assert json.dumps(again, sort_keys=True) == json.dumps(board, sort_keys=True)


def test_ten_thousand_records_cost_no_more_each_than_a_thousand(tmp_path):
    """Reading and comparing; the page has its own budget. Seconds would measure what else is running."""
    arms = tuple(Arm(f"arm-{i:02d}", f"Arm {i}") for i in range(19))
    tasks = tuple(f"task-{i}" for i in range(25))
    manifest, trials = write_suite(
        tmp_path, arms, tasks, seeds=1, baseline="arm-00", control=None, curves=False, steps=10, experts=4, layers=1
    )
    whole = [_sibling(trials, trial, seed) for seed in range(20) for trial in manifest["trials"]]
    few, many = whole[:1000], whole
    seconds = {}
    for part in (few, many):
        start = time.process_time()
        board = build(manifest | {"trials": part}, collect(manifest | {"trials": part}, trials))
        seconds[len(part)] = time.process_time() - start
    assert list(seconds) == [1_000, 10_000]
    assert len(board["rows"]) == 19 * 25
    assert len({row["delta_loss"]["p_t"] for row in board["rows"]}) > 400
    assert seconds[10_000] < 40 * seconds[1_000]  # every record against every other would be 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000  # KiB
    print(f"10,000 records in {seconds[10_000]:.1f} s, 1,000 in {seconds[1_000]:.1f} s")


def _sibling(trials, trial, seed):
    """The same trial with another seed, key and loss."""
    record = json.loads((trials / trial["trial_key"] / "record.json").read_text(encoding="utf-8"))
    record["trial_key"] = f"{trial['trial_key']}-{seed}"
    record["measures"]["val_loss"] += 0.01 * math.sin(1000 * record["measures"]["val_loss"] + seed)
    (trials / record["trial_key"]).mkdir()
    (trials / record["trial_key"] / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return trial | {"seed": seed, "trial_key": record["trial_key"]}


def test_what_was_changed_on_the_command_line_is_said(tmp_path):
    board, manifest, trials = board_of(tmp_path, seeds=2)
    assert not any("command line" in warning for warning in board["warnings"])
    changed = manifest | {"changed": {"margin": 0.5}}
    assert any("margin = 0.5" in warning for warning in build(changed, collect(changed, trials))["warnings"])


def test_horizons_that_have_not_run_are_not_said_to_have_brought_nothing(tmp_path):
    _, manifest, trials = board_of(tmp_path, seeds=2)
    planned = manifest | {"horizons": {"half": "plain-half", "double": "plain-double"}, "margin": None}
    said = [line for line in build(planned, collect(planned, trials))["warnings"] if "A/A spread" in line]
    assert len(said) == 1
    assert "the baseline has no other horizons" in said[0]


def test_a_part_of_a_suite_says_what_it_lacks(tmp_path):
    board, manifest, trials = board_of(tmp_path, seeds=2)
    assert not any("its suite asks for" in warning for warning in board["warnings"])
    names = [arm["arm"] for arm in manifest["arms"] if arm["arm"] != manifest["aa_arm"]]
    tasks = [task["name"] for task in manifest["tasks"]]

    def said(**asks):
        part = manifest | {"asks": {"tasks": tasks, "arms": names, "seeds": 2} | asks}
        return [line for line in build(part, collect(part, trials))["warnings"] if "its suite asks for" in line]

    assert said() == []
    assert said(seeds=10) == ["A part of what its suite asks for: 2 of 10 seeds."]
    short = [cell for cell in manifest["trials"] if (cell["arm"], cell["seed"]) != (names[0], 1)]
    part = manifest | {"asks": {"tasks": tasks, "arms": names, "seeds": 2}, "trials": short}
    hole = f"A part of what its suite asks for: {len(names) * len(tasks) * 2 - len(tasks)} of"
    assert any(line.startswith(hole) for line in build(part, collect(part, trials))["warnings"])
    (line,) = said(tasks=[*tasks, "later"], arms=[*names, "simbal"])
    assert line.endswith(f"asks for: {len(tasks)} of {len(tasks) + 1} tasks, {len(names)} of {len(names) + 1} arms.")


def test_an_arm_of_other_tasks_is_named_below_the_table_and_not_in_it(tmp_path):
    _, manifest, trials = board_of(tmp_path, tasks=("mix-nano", "shift-nano"), seeds=6)
    manifest["trials"] = [t for t in manifest["trials"] if (t["arm"], t["task"]) != ("bias", "shift-nano")]
    board = build(manifest, collect(manifest, trials))
    (title,) = [arm["title"] for arm in manifest["arms"] if arm["arm"] == "bias"]
    first, second = board["tasks"]
    assert "not_run" not in first
    assert second["not_run"] == [{"arm": "bias", "title": title}]
    assert [row["task"] for row in board["rows"] if row["arm"] == "bias"] == ["mix-nano"]
    assert not any("Indicative" in warning for warning in board["warnings"])
    text = leaderboard_markdown(board)
    assert text.count(f"Not run on this task: {title}.") == boards_markdown([("b", board, None)]).count("Not run") == 1


def test_the_boards_have_a_table_of_contents(tmp_path):
    board, _, _ = board_of(tmp_path, seeds=6)
    lines = boards_markdown([("own", board | {"title": "What | is asked"}, None), ("old", board, "2")]).splitlines()
    arms = len({row["arm"] for row in board["rows"]})
    assert f"| [own](own/leaderboard.md) | What \\| is asked | as published | `mix-nano` | {arms} | 6 |" in lines
    assert any(line.startswith("| [old](old/leaderboard.md) | ") and ", superseded |" in line for line in lines)
    assert "## own: What \\| is asked" in lines


def test_a_tasks_words_do_not_depend_on_arms_that_are_not_run_on_it(tmp_path):
    """Holm's family, power and the number of seeds are those of the arms there."""
    _, manifest, trials = board_of(tmp_path, tasks=("mix-nano", "shift-nano"), seeds=6)
    names = ("penalty", "bias", "table")
    there = [t for t in manifest["trials"] if t["task"] == "mix-nano" or t["arm"] in names]
    both = manifest | {"trials": there}
    alone = manifest | {
        "tasks": [task for task in manifest["tasks"] if task["name"] == "shift-nano"],
        "arms": [arm for arm in manifest["arms"] if arm["arm"] in names],
        "trials": [t for t in there if t["task"] == "shift-nano"],
        "control": None,
    }
    joined, single = (build(each, collect(each, trials)) for each in (both, alone))
    deltas = [{a: row["delta_loss"] for a, row in rows_of(b, "shift-nano").items()} for b in (joined, single)]
    assert deltas[0] == deltas[1]
    assert deltas[0]["bias"]["p_adjusted"] <= 2 * deltas[0]["bias"]["p_t"]
    assert joined["tasks"][1]["sensitivity"] == single["tasks"][0]["sensitivity"]
    assert joined["tasks"][1]["sensitivity"]["n"] == 6
    assert [w for w in joined["warnings"] if "exact test" in w] == [  # 5 / 2⁵ and 2 / 2⁵
        "With 6 seeds and 5 arms the exact test cannot reach 0.05 after Holm's adjustment (smallest p 0.156); "
        "verdicts on mix-nano rest on the t test.",
        "With 6 seeds and 2 arms the exact test cannot reach 0.05 after Holm's adjustment (smallest p 0.062); "
        "verdicts on shift-nano rest on the t test.",
    ]
    few = manifest | {"trials": [t for t in there if t["task"] == "mix-nano" or t["seed"] < 3]}
    said = [w.partition(" ")[0] for w in build(few, collect(few, trials))["warnings"]]
    assert said.count("Indicative:") == 1  # a task short of seeds does not hide what holds for the other
    assert said.count("With") == 1


def test_what_was_registered_stands_on_the_board(tmp_path):
    board, manifest, trials = board_of(tmp_path, seeds=2)
    assert "Expected beforehand" not in leaderboard_markdown(board)
    board = build(manifest | {"hypothesis": "Biases | win."}, collect(manifest, trials))
    assert (
        "Expected beforehand, and written down before its trials (a prediction, not a result): Biases \\| win."
        in leaderboard_markdown(board)
    )


def test_a_task_without_a_record_has_no_table_yet(tmp_path):
    _, manifest, trials = board_of(tmp_path, seeds=2)
    later = {**manifest["tasks"][0], "name": "later"}
    again = [{**trial, "task": "later", "trial_key": f"later{i}"} for i, trial in enumerate(manifest["trials"])]
    longer = manifest | {"tasks": [later, *manifest["tasks"]], "trials": [*manifest["trials"], *again]}
    board = build(longer, collect(longer, trials))
    assert [task["name"] for task in board["tasks"]] == [task["name"] for task in manifest["tasks"]]
    assert "later" not in {row["task"] for row in board["rows"]} | set(board["margins"])
    assert any(f"{len(again)} of {2 * len(again)} trials not run yet" in warning for warning in board["warnings"])


@pytest.mark.parametrize(
    ("field", "value", "words"), [("corpus_digest", "1" * 64, "different corpora"), ("ranks", 2, "numbers of ranks")]
)
def test_trials_that_no_key_tells_apart_are_said(tmp_path, field, value, words):
    board, manifest, trials = board_of(tmp_path, seeds=2)
    assert not any("differences are not of the strategies alone" in warning for warning in board["warnings"])
    one = trials / manifest["trials"][0]["trial_key"] / "record.json"
    record = json.loads(one.read_text(encoding="utf-8"))
    record["provenance"][field] = value
    one.write_text(json.dumps(record), encoding="utf-8")
    said = build(manifest, collect(manifest, trials))["warnings"]
    assert any(f"Trials of {manifest['trials'][0]['task']} rest on" in line and words in line for line in said)


def test_processors_of_one_name_are_counted_where_they_mix(tmp_path):
    board, manifest, trials = board_of(tmp_path, seeds=2)
    assert not any("by processor" in warning for warning in board["warnings"])
    for trial in manifest["trials"][:3]:
        path = trials / trial["trial_key"] / "record.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["provenance"]["hardware"]["processor"] = "Maker family 1 model 2"
        path.write_text(json.dumps(record), encoding="utf-8")
    mixed = build(manifest, collect(manifest, trials))
    others = len(manifest["trials"]) - 3
    assert any(f"Maker family 1 model 2: 3, not recorded: {others}." in line for line in mixed["warnings"])
    assert mixed["processors"] == {"Maker family 1 model 2": 3, "not recorded": others}
    assert "processors" not in board
    assert any(row["tokens_per_second"] for row in board["rows"])
    assert not any(row["tokens_per_second"] for row in mixed["rows"])
