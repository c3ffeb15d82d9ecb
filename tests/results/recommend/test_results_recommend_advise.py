"""Answers follow from rows, and lead back to them."""

from __future__ import annotations

import re

import pytest
from published_boards import LEVELS, board, losses, row, write

from results.recommend import evidence, needs
from results.recommend.advise import advice, rows_behind
from results.recommend.glance import below, grid, lead, measured
from results.recommend.rankings import rankings
from results.recommend.wording import as_text, basis, brief, caveats, verdict


def loaded(tmp_path, *boards):
    return evidence.load(write(tmp_path / "published", *boards))


def answers(boards, need, tracks=("as-published",)):
    """By a need's name, or a need of one's own; in the tests' own `loss` rules that are not causal take part."""
    need = needs.Need("loss", "the lowest loss", causal=False) if need == "loss" else need
    found = advice(boards, tracks, [needs.get(need) if isinstance(need, str) else need])
    return found[0] if len(tracks) == 1 else found


def arms(entries):
    return [entry["row"].split("/")[1] for entry in entries]


def test_every_statement_leads_back_to_rows_that_bear_it(tmp_path):
    """Each number is computed again from the seeds of the rows that the statement names."""
    tasks = ("text-bench", "recall-bench", "text-shift-bench")
    boards = loaded(tmp_path, board(tasks=tasks), board(track="balanced", salt=5))
    by_folder = {b.folder: b.content for b in boards}
    given = advice(boards)

    def seeds_of(key):
        folder, arm, task = key.rsplit("/", 2)
        rows = [r for r in by_folder[folder]["rows"] if (r["arm"], r["task"]) == (arm, task)]
        assert len(rows) == 1, key
        return {seed["seed"]: seed["val_loss"] for seed in rows[0]["seeds"]}

    told = 0
    for answer in given:
        for found in answer["evidence"]:
            for entry in (*found["set"], *found["behind"], *found["learned"]["set"], *found["learned"]["behind"]):
                mine, theirs = seeds_of(entry["row"]), seeds_of(entry["against"])
                mean = sum(mine[seed] - theirs[seed] for seed in mine) / len(mine)
                assert entry["mean"] == pytest.approx(mean)
                assert entry["n"] == len(mine)
                if entry["worse_than"]:
                    better = seeds_of(entry["worse_than"])
                    assert sum(mine.values()) / len(mine) > sum(better.values()) / len(better)
                told += 1
        for missed in answer["missing"]:
            assert all(place.split("/")[0] in by_folder for place in missed["where"])
    assert told == 4 * 2 * 2  # four cells, two causal rules, once among all and once among learned routers
    assert {key.rsplit("/", 2)[0] for key in rows_behind(given)} == set(by_folder)


def test_the_lowest_loss_and_who_is_behind(tmp_path):
    found = answers(loaded(tmp_path, board()), "loss")["evidence"][0]
    assert set(arms(found["set"])) == {"good", "close"}
    assert arms(found["behind"]) == ["far"]
    assert found["behind"][0]["mean"] == pytest.approx(0.3, abs=0.02)
    assert found["behind"][0]["low"] < found["behind"][0]["mean"] < found["behind"][0]["high"]


def test_the_dense_twin_is_no_strategy(tmp_path):
    levels = LEVELS | {"twin": 1.0}
    given = answers(loaded(tmp_path, board(levels=levels)), "loss")
    assert "twin" not in " ".join(rows_behind([given]))


def test_a_rule_with_changed_values_answers_for_nobody(tmp_path):
    """An arm of another name is a question of its board, and no strategy as its track has it."""
    levels = LEVELS | {"good-other": 0.5}
    rows = [row(arm, "text-bench", losses(level, 8, 10 * number)) for number, (arm, level) in enumerate(levels.items())]
    assert "good-other" in " ".join(
        rows_behind([answers(loaded(tmp_path / "a", board(levels=levels, rows=rows)), "loss")])
    )
    rows = [one | {"strategy": one["arm"].removesuffix("-other")} for one in rows]
    assert "other" not in " ".join(
        rows_behind([answers(loaded(tmp_path / "b", board(levels=levels, rows=rows)), "loss")])
    )


def test_causal_and_without_a_knob_leave_others_out_and_say_so(tmp_path):
    boards = loaded(tmp_path, board())
    causal = answers(boards, needs.get("loss"))["evidence"][0]
    assert arms(causal["set"]) == ["good"]
    assert causal["left_out"] == [{"row": "suite/close/text-bench", "title": "Close", "why": "not causal in training",
                                   "uneven": False}]  # fmt: skip
    knobless = answers(boards, needs.Need("own", "own", causal=False, knobless=True))["evidence"][0]
    assert arms(knobless["left_out"]) == ["good"]
    assert knobless["left_out"][0]["why"] == "has a knob, rate"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"word": "blunt"}, "text-bench on suite is too blunt to judge balancing (experts gain 0.040"),
        ({"word": None}, "text-bench on suite does not say whether balancing can be seen on it"),
        ({"seeds": 5}, "text-bench on suite has no two strategies with 6 seeds to compare"),
        ({"tasks": ("recall-bench",)}, "no board, as published, has a task text-… or mix-…"),
    ],
)
def test_what_is_no_evidence_is_said_to_be_none(tmp_path, changes, words):
    given = answers(loaded(tmp_path, board(**changes)), "loss")
    assert given["evidence"] == []
    assert given["missing"][0]["words"].startswith(words)
    assert "No evidence." in as_text([given])


@pytest.mark.parametrize(("gain", "counts"), [(0.15, True), (0.149, False)])
def test_where_experts_pay_a_wide_spread_leaves_evidence_and_says_so(tmp_path, gain, counts):
    """A gain of 0.15 nats/token is enough; under ten spreads the answer says that it is blunt."""
    content, manifest = board(word="blunt")
    content["tasks"][0]["sensitivity"]["gain"]["mean"] = gain
    given = answers(loaded(tmp_path, (content, manifest)), "loss")
    said = as_text([given])
    assert [found["blunt"] for found in given["evidence"]] == [True] * counts
    assert ("less than ten times the spread" in said) == counts
    assert (", blunt, " in said) == counts


def test_a_lead_that_the_dense_twin_has_elsewhere_is_told(tmp_path):
    """On a task too blunt to go by, whoever leads here is behind a network without experts."""
    lost = board("suite-adamw", recipe="adamw", word="blunt", levels={"good": 3.4, "far": 3.0, "twin": 3.2})
    boards = loaded(tmp_path, board(), lost)
    answer = answers(boards, "loss")
    assert "; behind the dense twin on text-bench of suite-adamw: Good by 0.197" in brief(answer)
    assert "Behind the dense twin on text-bench of suite-adamw: Good by 0.197" in as_text([answer])
    said = brief(answers(boards, "adamw"))
    assert said.startswith("No evidence: text-bench is too blunt to judge balancing (experts gain 0.040")
    assert said.endswith("; there Far leads, Good is last.")
    level = board("suite-adamw", recipe="adamw", word="blunt", levels={"good": 3.0, "far": 3.001, "twin": 3.2})
    said = brief(answers(loaded(tmp_path / "level", level), "adamw"))
    assert said.endswith("; there none is shown to be worse than another.")
    assert "suite-adamw/far/text-bench" in rows_behind([answer])
    assert "dense twin" not in brief(answers(loaded(tmp_path / "one", board()), "loss"))


def test_the_dense_twin_waits_for_nobody_and_the_answer_at_equal_time_says_so(tmp_path):
    """Half the tokens cost 0.3: the strategy's 3.0 becomes 3.3 in the time in which the twin has 3.2."""
    rows = [
        row(arm, "text-bench", losses(level, 8, 0, 0.001), step_time=ratio)
        for arm, level, ratio in (("good", 3.0, 2.0), ("far", 3.5, 2.0), ("twin", 3.2, 1.0))
    ]
    boards = loaded(tmp_path, board(rows=rows))
    said = brief(answers(boards, "devices"))
    assert "equal time on 64 devices, simulated" in said
    assert "; the dense twin, without experts, is ahead of Good by 0.100 [" in said
    assert "dense twin" not in brief(answers(boards, "loss"))


def test_the_table_says_what_size_it_is_from(tmp_path):
    large = board("large", tasks=("text-micro",), total=9_470_000, steps=1600)
    (said,) = lead(advice(loaded(tmp_path, board(total=1_250_000), large), ("as-published",)))
    assert said.startswith(
        "Scale: 0.25 to 1.89 M active parameters (1.25 to 9.47 M in all), 1.7 to 4.1 tokens per active parameter."
    )
    assert lead(advice([])) == []


def test_who_was_not_run_on_a_task_is_not_taken_for_beaten(tmp_path):
    content, manifest = board()
    absent = row("late", "text-bench", {0: 1.0}, max_vio=None) | {"seeds": []}
    few = row("few", "text-bench", losses(2.0, 4, 0))
    content["rows"] += [absent, few]
    content["tasks"][0]["not_run"] = [{"arm": "elsewhere", "title": "Elsewhere"}]
    manifest["arms"] += [{"arm": name, "title": name.capitalize()} for name in ("late", "few", "elsewhere")]
    answer = answers(loaded(tmp_path, (content, manifest)), "loss")
    assert "; not compared for want of seeds: Few, Late, Elsewhere" in brief(answer)
    assert "Late, Elsewhere not run" in caveats(answer["evidence"][0])


def test_of_equal_size_the_board_that_compares_most_answers_first(tmp_path):
    narrow = board("a-narrow", levels={"good": 3.0, "far": 3.3})
    given = answers(loaded(tmp_path, narrow, board("wide", salt=5)), "loss")
    assert [found["board"] for found in given["evidence"]] == ["wide", "a-narrow"]


def test_the_same_trials_on_another_board_are_no_second_measurement(tmp_path):
    """Whatever the arms beside them; but an arm of its own, a seed more or another task is one."""
    wide = board("wide", levels={"best": 2.5, "good": 3.0, "far": 3.3})
    narrow = board("narrow", levels={"good": 3.0, "far": 3.3})
    given = answers(loaded(tmp_path, wide, narrow), "loss")
    assert [(found["board"], found["same_trials"]) for found in given["evidence"]] == [("wide", ["narrow"])]
    assert "the same trials also on narrow" in as_text([given])
    longer = board("longer", levels={"good": 3.0, "far": 3.3}, seeds=9)
    given = answers(loaded(tmp_path / "seeds", wide, longer), "loss")
    assert [(found["board"], found["same_trials"]) for found in given["evidence"]] == [("wide", []), ("longer", [])]


def table(given):
    return grid(given)[1:]


LEARNT = {"hash": 2.8, "stable_moe": 2.801, "good": 3.0, "close": 3.002, "mid": 3.1, "far": 3.3, "twin": 3.5}


def test_the_table_names_the_lowest_loss_and_what_a_learned_router_costs(tmp_path):
    """Learned routers first; `good` is the best of them, `close` takes no part, being not causal."""
    content, manifest = board(levels=LEARNT)
    given = advice(loaded(tmp_path, (content, manifest)), ("as-published",))
    (first, *_, last) = table(given)
    assert (first[0], first[2]) == ("The lowest loss", "Stable_moe (1.5 ×) or Hash (1.5 ×)")
    assert first[1].startswith("Good (1.5 ×); 2 others 0.")
    assert float(first[3]) == pytest.approx(0.2, abs=0.01)
    assert first[4] == "text-bench, muon"
    assert last == ["Training with AdamW", "", "No evidence.", "", ""]
    (learned,) = [found["learned"] for found in given[0]["evidence"]]
    assert arms(learned["set"]) == ["good"]
    assert arms(learned["behind"]) == ["mid", "far"]
    assert "of learned routers Good: the 2 others compared are shown to be worse." in as_text(given)


def test_the_table_says_how_few_were_compared_and_what_the_margin_does_not_carry(tmp_path):
    (line, *_) = table(advice(loaded(tmp_path / "few", board()), ("as-published",)))
    assert line[1:4] == ["Good (1.5 ×); the other 0.300 behind", "the same (of 2 compared)", ""]
    content, manifest = board(levels={"hash": 2.99, "good": 3.0, "mid": 3.1, "other": 3.2, "far": 3.3}, seeds=20)
    content["margins"]["text-bench"] = 0.02
    (line, *_) = table(advice(loaded(tmp_path / "margin", (content, manifest)), ("as-published",)))
    assert line[2] == "Hash (1.5 ×)"
    assert line[3].endswith(" †")
    assert re.fullmatch(r"Good \(1\.5 ×\); 3 others 0\.10\d to 0\.30\d behind", line[1])
    content["margins"]["text-bench"] = 0.15  # more than the nearest of the learned is behind, less than the last
    (line, *_) = table(advice(loaded(tmp_path / "straddled", (content, manifest)), ("as-published",)))
    assert re.fullmatch(r"Good \(1\.5 ×\); 3 others 0\.10\d † to 0\.30\d behind", line[1])
    content["margins"]["text-bench"] = 0.001
    (line, *_) = table(advice(loaded(tmp_path / "narrow", (content, manifest)), ("as-published",)))
    assert "†" not in line[3]


def test_lines_of_one_need_say_in_what_they_differ(tmp_path):
    """The longest training first, then the largest model; a track that chose a value says which."""
    large = board("large", levels=LEARNT, tasks=("text-micro",), total=9000, steps=4500)
    long = board("long", levels=LEARNT, tasks=("long-bench",), steps=40_000, salt=3)
    tuned = board(track="balanced", levels=LEARNT, salt=5)
    given = advice(loaded(tmp_path, board(levels=LEARNT), large, long, tuned))
    lines = {line[0]: line for line in table(given)}
    assert list(lines)[:4] == [
        "The lowest loss",
        "– larger model, shorter training",
        "– shorter training",
        "– tuned, balanced, shorter training",
    ]
    assert lines["– shorter training"][4] == "text-bench, muon"
    assert lines["– tuned, balanced, shorter training"][1].startswith("Good (rate 0.1, 1.5 ×); ")
    places = measured(given)[1:]
    assert [line[0] for line in places] == ["long-bench, muon", "text-micro, muon", "text-bench, muon"]
    assert places[1][1:] == ["2 of 32", "0.0018 M (0.009 M)", "9.22 M", "5,120", "8"]
    assert "No board, balanced: 4 of 256 experts, a mixture that changes half-way" in below(given)


def test_a_need_that_only_a_balanced_board_answers_says_so(tmp_path):
    given = advice(loaded(tmp_path, board(track="balanced", levels=LEARNT)))
    assert table(given)[0][0] == "The lowest loss, tuned, balanced"


def test_nothing_to_compare_is_no_second_measurement(tmp_path):
    """All uneven on the balanced track: that is said, and not that its trials stand elsewhere."""
    full, uneven = board("full", track="balanced"), board("uneven", track="balanced", vio={"good": 2.0, "far": 2.0})
    given = answers(loaded(tmp_path, full, uneven), needs.get("loss"), ("balanced",))
    assert [found["same_trials"] for found in given["evidence"]] == [[]]
    assert [missed["where"] for missed in given["missing"]] == [["uneven-balanced/text-bench"]]


def test_the_table_says_where_a_dense_network_is_ahead(tmp_path):
    rows = [
        row(arm, "text-bench", losses(level, 8, 0, 0.001), step_time=ratio)
        for arm, level, ratio in (("good", 3.0, 2.0), ("far", 3.5, 2.5), ("twin", 3.2, 1.0))
    ]
    given = answers(loaded(tmp_path, board(rows=rows)), "devices")
    (line,) = table([given])
    assert line[1:3] == [
        "Good (1.5 ×); the other 0.626 behind",
        "the same (of 2 compared); a dense network is ahead of all",
    ]
    assert "Times on several devices are simulated" in below([given])


def test_one_learned_router_is_too_few_to_compare(tmp_path):
    boards = loaded(tmp_path, board(levels={"hash": 2.8, "good": 3.0, "twin": 3.5}))
    (line,) = table([answers(boards, "loss")])
    assert line[1:4] == ["too few to compare", "Hash (1.5 ×) (of 2 compared)", ""]


def test_a_superseded_protocol_is_no_evidence(tmp_path):
    old, new = board("old", protocol="1", levels={"good": 9.0, "far": 1.0}), board("new", tasks=("recall-bench",))
    given = answers(loaded(tmp_path, old, new), "loss")
    assert given["evidence"] == []
    assert given["missing"][0]["words"].endswith("boards of protocol 1 are superseded")
    assert given["missing"][0]["where"] == ["old"]


def test_where_nothing_fits_it_says_what_comes_nearest(tmp_path):
    """A condition let go at a time; what is too blunt to judge by is nothing that comes near."""
    many = board("many", tasks=("text-micro",), experts=64)
    ladder = board("ladder", tasks=("experts-8-bench",), experts=8)
    few = board("few", tasks=("text-small",), experts=16, seeds=3)
    blunt = board("blunt", tasks=("text-small",), experts=16, word="blunt")
    boards = loaded(tmp_path, board(), many, ladder, few, board("chosen", track="tuned"), blunt)

    def missing(track="as-published", **conditions):
        (found,) = advice(boards, (track,), [needs.Need("own", "own", **conditions)])
        return found["missing"][0]["words"]

    assert missing(experts=128).endswith("with 128 experts; there is one with 8, 32 or 64 experts")
    assert missing(recipe="adamw").endswith("trained with adamw; there is one trained with muon")
    assert missing("balanced").endswith("; there is one as published or tuned")
    assert missing(kinds=("recall",)).endswith("has a task recall-…; there is one on experts-8 or text")
    assert missing("balanced", kinds=("recall",)).endswith("has a task recall-…")


def test_equal_time_is_judged_by_losses_at_equal_time(tmp_path):
    rows = []
    for arm, level, ratio in (("good", 3.0, 4.0), ("far", 3.3, 1.0)):
        rows.append(row(arm, "text-bench", losses(level, 8, 0), step_time=ratio))
    boards = loaded(tmp_path, board(rows=rows))
    assert arms(answers(boards, "loss")["evidence"][0]["set"]) == ["good"]
    assert arms(answers(boards, "devices")["evidence"][0]["set"]) == ["far"]
    silent = answers(loaded(tmp_path / "silent", board()), "devices")
    assert silent["missing"][0]["words"] == "text-bench on suite has no losses at equal time on 64 devices"


@pytest.mark.parametrize(("ratio", "lost"), [(1.0, 0.0), (2.0, 0.3), (0.5, -0.2), (4.0, 0.3 + 0.45)])
def test_a_slower_step_costs_what_fewer_tokens_cost_the_baseline(tmp_path, ratio, lost):
    """Its loss is 0.3 higher at half the tokens and 0.2 lower at double; each halving costs 1.5 times the last."""
    rows = [row("good", "text-bench", {0: 3.0, 1: 3.5}, step_time=ratio)]
    (cell,) = evidence.cells(loaded(tmp_path, board(rows=rows)))
    assert cell.losses_at(cell.rows[0], 64) == pytest.approx({0: 3.0 + lost, 1: 3.5 + lost})


def test_each_seed_pays_for_its_own_steps(tmp_path):
    """Halved and doubled tokens: 0.3 lost and 0.2 won, by which seeds of equal losses come apart."""
    times = {seed: 2.0 if seed % 2 else 0.5 for seed in range(8)}
    rows = [row("good", "text-bench", dict.fromkeys(range(8), 3.0), step_time=times)]
    (cell,) = evidence.cells(loaded(tmp_path, board(rows=rows)))
    assert cell.losses_at(cell.rows[0], 64) == pytest.approx({seed: 3.3 if seed % 2 else 2.8 for seed in range(8)})


def test_what_lies_beyond_the_horizons_is_named(tmp_path):
    rows = []
    for arm, level, ratio in (("good", 3.0, 2.5), ("far", 3.3, 1.9)):
        rows.append(row(arm, "text-bench", losses(level, 8, 0), step_time=ratio))
    found = answers(loaded(tmp_path, board(rows=rows)), "devices")["evidence"][0]
    assert found["extrapolated"] == ["Good"]
    assert "Good: at equal time beyond half or double the horizon, extrapolated" in caveats(found)
    assert answers(loaded(tmp_path / "one", board(rows=rows)), "loss")["evidence"][0]["extrapolated"] == []


def test_balanced_means_balanced_and_tracks_never_mix(tmp_path):
    boards = loaded(tmp_path, board(), board(track="balanced", vio={"good": 1.2}, levels=LEVELS | {"far": 2.0}))
    published, balanced = answers(boards, "loss", ("as-published", "balanced"))
    assert {key.split("/")[0] for key in rows_behind([published])} == {"suite"}
    assert {key.split("/")[0] for key in rows_behind([balanced])} == {"suite-balanced"}
    assert arms(balanced["evidence"][0]["set"]) == ["far"]
    assert balanced["evidence"][0]["left_out"][0]["why"] == "MaxVio of late batches 1.20, not under 1"
    assert "; not balanced: Good" in brief(balanced)


def test_a_diverged_arm_is_not_recommended(tmp_path):
    rows = [row(arm, "text-bench", losses(level, 8, 0), diverged=arm == "wild") for arm, level in
            (("good", 3.0), ("far", 3.3), ("wild", 2.0))]  # fmt: skip
    found = answers(loaded(tmp_path, board(rows=rows)), "loss")["evidence"][0]
    assert arms(found["set"]) == ["good"]
    assert arms(found["diverged"]) == ["wild"]


@pytest.mark.parametrize(("steps", "order"), [(1900, ["large", "small"]), (2100, ["small", "large"])])
def test_the_longest_training_answers_first_and_then_the_largest_model(tmp_path, steps, order):
    """Tokens per active parameter, in steps of four: 500 steps of a ninth of the parameters are nine times as long."""
    large = board("large", tasks=("text-micro",), total=9000, steps=9 * 500)
    boards = loaded(tmp_path, board("small", steps=steps), large)
    assert [found["board"] for found in answers(boards, "loss")["evidence"]] == order


def test_recipes_and_experts_are_asked_for_by_name(tmp_path):
    sparse = board("sparse", tasks=("text-sparse-bench",), experts=256)
    boards = loaded(tmp_path, board(), board("suite-adamw", recipe="adamw"), sparse)
    assert [found["board"] for found in answers(boards, "adamw")["evidence"]] == ["suite-adamw"]
    own = needs.Need("own", "training with Muon", recipe="muon")
    assert [found["board"] for found in answers(boards, own)["evidence"]] == ["suite"]
    assert [found["board"] for found in answers(boards, "sparsity")["evidence"]] == ["sparse"]
    with pytest.raises(ValueError, match="need: 'speed' is unknown; expected one of loss, sparsity, shift"):
        needs.get("speed")


def test_rankings_are_compared_between_cells_that_differ_in_one_thing(tmp_path):
    many = {f"arm{i}": 3.0 + 0.2 * i for i in range(6)}
    turned = {f"arm{i}": 3.0 + 0.2 * (5 - i) for i in range(6)}
    boards = loaded(
        tmp_path,
        board(levels=many, tasks=("text-bench", "recall-bench")),
        board("suite-adamw", recipe="adamw", levels=turned),
        board(track="balanced", levels=many, salt=5),
        board("long", levels=many, steps=4000, salt=6),
        board("experts", levels=many, experts=128, salt=7),
        board("large", levels=many, tasks=("text-micro",), total=9000, salt=8),
        board("blunt", levels=many, recipe="other", word="blunt"),
    )
    found = {(e["dimension"], e["first"], e["second"]): e for e in rankings(boards) if "first" in e}
    assert not any("blunt" in name for key in found for name in key)
    assert found["recipe", "suite-adamw/text-bench", "suite/text-bench"]["word"] == "low"
    assert found["recipe", "suite-adamw/text-bench", "suite/text-bench"]["tau"] == pytest.approx(-1)
    for key in (
        ("track", "suite/text-bench", "suite-balanced/text-bench"),
        ("horizon", "suite/text-bench", "long/text-bench"),
        ("experts", "experts/text-bench", "suite/text-bench"),
        ("size", "suite/text-bench", "large/text-micro"),
        ("task", "suite/recall-bench", "suite/text-bench"),
    ):
        assert found[key]["word"] == "high", key
    assert ("track", "suite/recall-bench", "suite-balanced/text-bench") not in found


def test_another_size_may_be_on_other_hardware_and_a_sparse_sibling_has_more_experts(tmp_path):
    many = {f"arm{i}": 3.0 + 0.2 * i for i in range(6)}
    large = board("large", levels=many, tasks=("text-micro", "text-sparse-micro", "recall-micro"), total=9000, salt=8)
    other = board("other", levels=many, recipe="adamw", salt=3)
    large[0]["hardware"] = other[0]["hardware"] = "Acme GPU"
    ranked = rankings(loaded(tmp_path, board(levels=many), large, other))
    found = {(entry["dimension"], entry["first"], entry["second"]) for entry in ranked if "first" in entry}
    assert ("size", "suite/text-bench", "large/text-micro") in found
    assert ("experts", "large/text-micro", "large/text-sparse-micro") in found
    assert ("task", "large/recall-micro", "large/text-micro") in found
    # the same rung on other hardware differs in two things
    assert not any({"suite/text-bench", "other/text-bench"} == {first, second} for _, first, second in found)


def test_tasks_on_one_corpus_are_compared_where_horizon_or_experts_alone_differ(tmp_path):
    """Whatever they are called; once for each pair of tasks, within a board where there is one."""
    many = {f"arm{i}": 3.0 + 0.2 * i for i in range(6)}
    both = board("both", levels=many, tasks=("text-bench", "text-sparse-bench"), salt=4)
    long, apart = board("long", levels=many, tasks=("long-bench",), steps=4000, salt=6), board("apart", levels=many)
    collapse = board("collapse", levels=many, tasks=("collapse-bench",), recipe="adamw", salt=7)
    ranked = rankings(loaded(tmp_path, both, long, apart, collapse))
    found = {(entry["dimension"], entry["first"], entry["second"]) for entry in ranked if "first" in entry}
    assert ("experts", "both/text-bench", "both/text-sparse-bench") in found
    assert [{first.split("/")[1], second} for dimension, first, second in found if dimension == "horizon"] == [
        {"text-bench", "long/long-bench"}
    ]
    assert len(found) == 2
    long[0]["tasks"][0]["corpus"] = "another text"
    again = rankings(loaded(tmp_path / "apart", both, long))
    assert not any(entry["dimension"] == "horizon" for entry in again if "first" in entry)


def test_the_short_answer_names_what_other_boards_say_and_who_was_not_compared(tmp_path):
    turned = {"good": 3.3, "far": 3.0, "twin": 3.5}
    large = board("large", levels=turned, tasks=("text-micro",), total=9000, steps=4500)
    few = row("late", "text-micro", losses(2.5, 4, 0))
    large[0]["rows"].append(few)
    boards = loaded(tmp_path, board("small"), large)
    answer = answers(boards, "loss")
    said = brief(answer)
    assert said.startswith("Far; the other behind, Good by")
    assert "not compared for want of seeds: Late" in said
    assert said.endswith("; on text-bench: Good, Close (not causal in training)")
    assert verdict(answer["evidence"][0]).startswith("Far: the one other compared is shown to be worse.")
    assert "; on " not in brief(answers(loaded(tmp_path / "same", board("small"), board("again")), "loss"))


def test_the_short_answer_marks_what_is_extrapolated(tmp_path):
    rows = [row(arm, "text-bench", losses(level, 8, 0), step_time=ratio)
            for arm, level, ratio in (("good", 3.0, 0.9), ("far", 3.3, 2.5))]  # fmt: skip
    assert "] (extrapolated)" in brief(answers(loaded(tmp_path, board(rows=rows)), "devices"))


def test_the_same_trials_under_two_names_are_no_second_ranking(tmp_path):
    many = {f"arm{i}": 3.0 + 0.2 * i for i in range(6)}
    boards = loaded(
        tmp_path,
        board(levels=many),
        board(track="tuned", levels=many, salt=5),
        board(track="balanced", levels=many, salt=5),
    )
    compared = [{entry["first"], entry["second"]} for entry in rankings(boards) if "first" in entry]
    assert {"suite/text-bench", "suite-tuned/text-bench"} in compared
    assert {"suite-tuned/text-bench", "suite-balanced/text-bench"} not in compared


def test_some_of_the_trials_under_another_name_are_no_second_ranking(tmp_path):
    many = {f"arm{i}": 3.0 + 0.2 * i for i in range(7)}
    few = {arm: level for arm, level in many.items() if arm != "arm6"}
    tuned = board(track="tuned", levels=many, salt=5)
    same, fresh, short = (
        board("few", levels=few),
        board("fresh", levels=few, salt=9),
        board("short", levels=few, seeds=6),
    )
    compared = [
        {e["first"], e["second"]}
        for e in rankings(loaded(tmp_path, same, board(levels=many), tuned, fresh, short))
        if "first" in e
    ]
    assert {"suite/text-bench", "suite-tuned/text-bench"} in compared
    assert {"few/text-bench", "suite-tuned/text-bench"} not in compared
    assert {"short/text-bench", "suite-tuned/text-bench"} not in compared
    assert {"fresh/text-bench", "suite-tuned/text-bench"} in compared


def test_without_boards_every_way_says_no_evidence():
    found = rankings([])
    assert {entry["word"] for entry in found} == {"no evidence"}
    assert len(found) == 6


def test_a_file_that_is_no_board_is_named(tmp_path):
    published = write(tmp_path / "published", board())
    (published / "suite" / "leaderboard.json").write_text("{}")
    with pytest.raises(ValueError, match=r"suite/leaderboard\.json: not a leaderboard"):
        evidence.load(published)
    (published / "suite" / "leaderboard.json").write_text("{")
    with pytest.raises(ValueError, match=r"suite/leaderboard\.json: cannot be read"):
        evidence.load(published)


def test_at_equal_size_a_board_that_was_handed_in_stands_behind(tmp_path):
    """Whatever its folder is called, and whether it has a hardware's name or only a submitter's."""
    own, other, early = board("main"), board("main", salt=3), board("early", salt=5)
    for content, hardware in ((own[0], "CPU"), (other[0], "Acme GPU")):
        content["hardware"] = hardware
    early[0]["rows"][2]["submitted"] = [{"by": "Ada", "when": "2026-01-31"}]
    assert early[0]["rows"][2]["arm"] == early[0]["baseline"]
    published = write(tmp_path / "published", own, early)
    folder = write(tmp_path / "other", other) / "main"
    folder.rename(published / "main@acme-gpu")
    given = answers(evidence.load(published), "loss")
    assert [found["board"] for found in given["evidence"]] == ["main", "early", "main@acme-gpu"]
    said = [basis(found) for found in given["evidence"]]
    assert ["CPU" in said[0], "CPU" in said[1], "Acme GPU" in said[2]] == [True, False, True]


def test_tuned_boards_answer_where_no_balanced_one_does(tmp_path):
    tuned, balanced = board(track="tuned", levels=LEARNT, salt=5), board(track="balanced", levels=LEARNT, salt=6)
    (first, second, *_) = advice(loaded(tmp_path / "tuned", board(levels=LEARNT), tuned))
    assert (first["track"], second["track"]) == ("as-published", "tuned")
    given = advice(loaded(tmp_path / "both", board(levels=LEARNT), tuned, balanced))
    assert [answer["track"] for answer in given[:2]] == ["as-published", "balanced"]
    lines = [line[0] for line in table(advice(loaded(tmp_path / "again", board(levels=LEARNT), tuned)))]
    assert "– tuned" in lines
    assert "whatever its MaxVio" in below(advice(loaded(tmp_path / "below", tuned)))
    assert "whatever its MaxVio" not in below(given)
    alone = advice(loaded(tmp_path / "asked", tuned), ("balanced",))
    assert not alone[0]["evidence"]  # what was asked for is not answered by something else
