"""The ledger, its rules on numbers worked by hand, and verdicts on suites whose truth is known."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import TypeAdapter
from synthetic_records import Arm, write_suite

from results import claims
from results.claims.ledger import load
from results.claims.regions import Located, Region
from results.claims.rules import Rule, Trial
from results.claims.values import Value, curves, value_of
from results.records import Records, collect


def value(data, record=None, folder=None):
    return value_of(TypeAdapter(Value).validate_python(data), record or {}, folder)


@pytest.fixture
def folder(tmp_path):
    """A trial of four steps."""
    columns = {
        "tokens": [10, 20, 30, 40],
        "seconds": [1.0, 2.0, 3.0, 8.0],
        "max_vio": [3.0, 1.0, 0.4, 0.6],
        "bias_step": [0.8, 0.4, 0.2, 0.2],
        "val_loss": [None, 5.0, 3.0, None],
    }
    pq.write_table(pa.table(columns), tmp_path / "curves.parquet")
    return tmp_path


RECORD = {
    "measures": {"val_loss": 4.0, "overflow": {"1.25": 0.3}, "max_vio_batch": {"peak": 2.0}, "bias": None},
    "timing": {"step_ms": {"total": 60}},
}


class TestValues:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("val_loss", 4.0),
            ("overflow.1.25", 0.3),
            ("max_vio_batch.peak", 2.0),
            ("timing.step_ms.total", 60.0),
            ("bias.max_abs", None),
            ("max_vio_batch", None),
            ("val_loss.deeper", None),
            ("nothing", None),
        ],
    )
    def test_paths(self, path, expected):
        assert value(path, RECORD) == expected

    def test_curves(self, folder):
        assert value({"curve": "bias_step", "from": 0.25, "to": 1.0}, folder=folder) == pytest.approx(0.8 / 3)
        assert value({"curve": "val_loss"}, folder=folder) == 4.0  # steps without an evaluation do not count
        # 3, 1, 0.4, 0.6: under 2 from the second step on; under 0.5 only in passing; pairs average 2, 0.7, 0.5.
        assert value({"steps_until": "max_vio", "below": 2.0}, folder=folder) == 2
        assert value({"steps_until": "max_vio", "below": 0.5}, folder=folder) == 4
        assert value({"steps_until": "max_vio", "below": 0.6, "window": 2}, folder=folder) == 4
        assert value({"steps_until": "max_vio", "below": 1.0, "window": 2}, folder=folder) == 3
        assert value({"steps_until": "max_vio", "below": 9.0}, folder=folder) == 1
        assert value({"curve": "absent"}, folder=folder) is None
        assert value({"curve": "bias_step"}) is None

    def test_arithmetic(self, folder):
        late = {"curve": "bias_step", "from": 0.5, "to": 1.0}
        early = {"curve": "bias_step", "from": 0.0, "to": 0.25}
        assert value({"over": [late, early]}, folder=folder) == pytest.approx(0.25)
        assert value({"minus": ["val_loss", "max_vio_batch.peak"]}, RECORD) == 2.0
        assert value({"minus": ["val_loss", "nothing"]}, RECORD) is None


def trial(folder=None, label="CPU", **measures):
    return Trial(
        record={"measures": measures, "timing": {}, "provenance": {"hardware": {"label": label}}}, folder=folder
    )


def rule(**data):
    return TypeAdapter(Rule).validate_python({"claimed": {"at_most": 0}, **data})


class TestRules:
    def test_difference_and_ratio_are_taken_within_a_seed(self):
        trials = {"a": {0: trial(x=2.0), 1: trial(x=6.0), 2: trial(x=1.0)}, "b": {0: trial(x=1.0), 1: trial(x=3.0)}}
        assert rule(kind="difference", of="a", to="b", measure="x").values(trials) == {0: 1.0, 1: 3.0}
        ratios = rule(kind="ratio", of="a", to="b", measure="x", claimed={"at_most": 1})
        assert ratios.values(trials) == pytest.approx({0: math.log(2), 1: math.log(2)})
        assert ratios.shown(math.log(2)) == pytest.approx(2)
        assert ratios.located(Region(between=(1.0, 2.0))).between == pytest.approx((0, math.log(2)))

    def test_level(self):
        assert rule(kind="level", of="a", measure="x").values({"a": {0: trial(x=0.5), 1: trial()}}) == {0: 0.5}

    def test_trend_is_the_slope_per_doubling(self):
        trials = {name: {0: trial(x=x)} for name, x in (("e8", 1.0), ("e16", 3.0), ("e64", 3.0))}
        # Points (3, 1), (4, 3), (6, 3): slope Σ(x − 13/3)(y − 7/3) / Σ(x − 13/3)² = (16/9 − 2/9 + 10/9) / (42/9) = 4/7.
        slope = rule(kind="trend", over={"e8": 8, "e16": 16, "e64": 64}, measure="x")
        assert slope.values(trials) == pytest.approx({0: 4 / 7})

    def test_ladder_is_the_slope_over_tasks(self):
        trials = {name: {0: trial(x=x)} for name, x in (("t8", 1.0), ("t16", 3.0), ("t64", 3.0))}
        slope = rule(kind="ladder", of="a", over={"t8": 8, "t16": 16, "t64": 64}, measure="x")
        assert slope.places(["t8", "t16", "t64", "t1"]) == {
            "t8 … t64": {"t8": ("a", "t8"), "t16": ("a", "t16"), "t64": ("a", "t64")}
        }
        assert slope.values(trials) == pytest.approx({0: 4 / 7})  # as for the trend above

    def test_speedup_interpolates_between_evaluations(self, folder):
        # Down from 3 at 30 tokens to 2 at 40, after the last step, which only the record holds: 2.5 is reached at 35.
        trials = {"a": {0: trial(folder, val_loss=2.0)}, "b": {0: trial(folder, val_loss=2.5)}}
        gain = rule(kind="speedup", of="a", to="b", claimed={"at_least": 1})
        assert gain.values(trials) == pytest.approx({0: math.log(40 / 35)})
        against_time = rule(kind="speedup", of="a", to="b", against="seconds", claimed={"at_least": 1})
        assert against_time.values(trials) == pytest.approx({0: math.log(8 / 5.5)})
        # Never down to 2, but the other is down to its 2.5 at 35 of 40 tokens: slower by as much.
        slower = {"a": {0: trial(folder, val_loss=2.5)}, "b": {0: trial(folder, val_loss=2.0)}}
        assert gain.values(slower) == pytest.approx({0: math.log(35 / 40)})
        early = {"a": {0: trial(folder, val_loss=2.0)}, "b": {0: trial(folder, val_loss=4.0)}}
        assert gain.values(early) == pytest.approx({0: math.log(40 / 25)})

    def test_pairs_from_different_hardware_do_not_count(self):
        trials = {"a": {0: trial(x=2.0)}, "b": {0: trial(label="GPU", x=1.0)}}
        assert rule(kind="difference", of="a", to="b", measure="x").values(trials) == {}


class TestRegions:
    def test_t_interval_by_hand(self):
        # 2.570582 is the 97.5 % point of t on 5 degrees of freedom; two parts take the 98.75 % point, 3.163381.
        values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        error = math.sqrt(3.5 / 6)
        assert Located.of(values).high == pytest.approx(3.5 + 2.570582 * error, abs=1e-5)
        assert Located.of(values, parts=2).high == pytest.approx(3.5 + 3.163381 * error, abs=1e-5)

    @pytest.mark.parametrize(
        ("region", "inside"),
        [
            ({"at_most": 8.0}, True),
            ({"at_most": 3.5}, False),
            ({"at_least": 0.5}, True),
            ({"at_least": 3.0}, False),
            ({"between": (0.5, 8.0)}, True),
            ({"between": (3.0, 8.0)}, False),
            ({"outside": (-1.0, 0.5)}, True),
            ({"outside": (0.0, 8.0)}, False),
        ],
    )
    def test_inside(self, region, inside):
        assert Located.of([2.0, 3.0, 3.0, 4.0, 4.0, 5.0]).inside(Region(**region)) is inside

    def test_the_exact_test_must_agree(self):
        # The t interval clears 0, yet four of 64 signings are as extreme: 0.0625.
        located = Located.of([-0.0300, -0.0301, -0.0299, -0.0302, -0.0298, 0.0010])
        assert located.high < 0
        assert not located.inside(Region(at_most=0.0))

    def test_complement_and_words(self):
        for region in (Region(at_most=1), Region(at_least=1), Region(between=(0, 1)), Region(outside=(0, 1))):
            assert region.complement().complement() == region
        assert str(Region(outside=(0, 1))) == "≤ 0 or ≥ 1"

    @pytest.mark.parametrize("data", [{}, {"at_most": 1, "at_least": 0}, {"between": (1, 0)}])
    def test_nonsense(self, data):
        with pytest.raises(ValueError, match="expected"):
            Region(**data)


CLAIM = {
    "id": "bias-beats-plain",
    "topic": "Test",
    "statement": "A bias beats nothing",
    "source": {"kind": "paper", "title": "T", "where": "abstract"},
    "said": {"number": "−0.04", "scale": "large"},
    "measure": "loss",
    "testable": True,
    "tested_at": "small",
    "trials": {"strategies": ["bias", {"strategy": "plain"}], "tasks": ["mix-nano"], "seeds": 8},
    "rule": {
        "kind": "difference", "of": "bias", "to": "plain", "measure": "val_loss",
        "claimed": {"at_most": -0.02}, "contradicted": {"at_least": 0.0},
    },
}  # fmt: skip


OLD = {"protocol": 1, "digest": "a" * 64, "why": "its task was blunt"}


def claim_of(tmp_path, **changes):
    path = tmp_path / f"{CLAIM['id']}.yaml"
    path.write_text(yaml.safe_dump(CLAIM | changes), encoding="utf-8")
    return load(path)


def verdict_of(tmp_path, effect, *, seeds=8, curves=False, **options):
    arms = (Arm("plain", "Plain"), Arm("bias", "Bias", effect=effect, has_bias=True))
    manifest, trials = write_suite(
        tmp_path, arms, seeds=seeds, baseline="bias", control=None, aa=False, curves=curves, **options
    )
    return claims.evaluate(claim_of(tmp_path), collect(manifest, trials))


class TestVerdicts:
    @pytest.mark.parametrize(
        ("effect", "word"),
        [(-0.04, "reproduced"), (0.03, "contradicted"), (-0.01, "not reproduced"), (-0.02, "undecided")],
    )
    def test_words(self, tmp_path, effect, word):
        verdict = verdict_of(tmp_path, effect)
        assert verdict["verdict"] == word
        figure = verdict["figures"][0]
        assert figure["estimate"] == pytest.approx(effect, abs=0.005)
        assert figure["low"] < figure["estimate"] < figure["high"]
        assert figure["level"] == pytest.approx(0.95)
        assert figure["n"] == len(figure["values"]) == 8

    def test_evidence(self, tmp_path):
        verdict = verdict_of(tmp_path, -0.04)
        assert len(verdict["trial_keys"]) == 16
        assert verdict["date"] == "2026-01-01"
        assert verdict["hardware"] == ["CPU · Synthetic · 2 cores"]
        json.dumps(verdict, allow_nan=False)

    @pytest.mark.parametrize("seeds", [1, 2, 5])
    def test_too_few_seeds_never_get_a_verdict(self, tmp_path, seeds):
        verdict = verdict_of(tmp_path, -0.04, seeds=seeds)
        assert verdict["verdict"] == "undecided"
        assert "indicative" in verdict["words"]

    def test_a_ladder_of_tasks_is_one_figure(self, tmp_path):
        names = ["mix-nano", "mix-bench", "mix-micro"]
        arms = (Arm("plain", "Plain"), Arm("bias", "Bias", has_bias=True))
        options = {"seeds": 8, "baseline": "bias", "control": None, "aa": False, "curves": False}
        manifest, trials = write_suite(tmp_path, arms, tasks=names, **options)
        ladder = {
            "kind": "ladder",
            "of": "bias",
            "over": dict(zip(names, (8, 16, 32), strict=True)),
            "measure": "val_loss",
        }
        claim = claim_of(
            tmp_path,
            trials={"strategies": ["bias"], "tasks": names, "seeds": 8},
            rule=ladder | {"claimed": {"between": [-9.0, 9.0]}},
        )
        verdict = claims.evaluate(claim, collect(manifest, trials))
        assert (claim.parts, len(verdict["figures"])) == (1, 1)
        figure = verdict["figures"][0]
        assert (figure["task"], figure["n"], verdict["verdict"]) == ("mix-nano … mix-micro", 8, "reproduced")

    def test_nor_do_fewer_than_planned(self, tmp_path):
        verdict = verdict_of(tmp_path, -0.04, missing={("plain", "mix-nano", 0)})
        assert verdict["verdict"] == "undecided"
        assert "7 of 8 planned seeds" in verdict["words"]

    def test_nor_do_divergences(self, tmp_path):
        verdict = verdict_of(tmp_path, -0.04, diverged={("plain", "mix-nano", 0)})
        assert verdict["verdict"] == "undecided"
        assert "1 trial diverged" in verdict["words"]

    def test_nothing_run(self, tmp_path):
        for verdict in (claims.evaluate(claim_of(tmp_path)), claims.evaluate(claim_of(tmp_path), Records([]))):
            assert verdict["verdict"] == "undecided"
            assert verdict["words"] == "none of its trials has been run"

    def test_the_worst_part_decides(self, tmp_path):
        parts = [
            {"kind": "difference", "of": "bias", "to": "plain", "measure": "val_loss", "claimed": {"at_most": -0.02}},
            {"kind": "level", "of": "plain", "measure": "val_loss", "claimed": {"at_most": 1.0}},
        ]
        verdict_of(tmp_path, -0.04)
        claim = claim_of(tmp_path, rule={"kind": "all", "rules": parts})
        arms = (Arm("plain", "Plain"), Arm("bias", "Bias", effect=-0.04, has_bias=True))
        manifest, trials = write_suite(tmp_path, arms, seeds=8, baseline="bias", control=None, aa=False, curves=False)
        verdict = claims.evaluate(claim, collect(manifest, trials))
        assert [figure["verdict"] for figure in verdict["figures"]] == ["reproduced", "not reproduced"]
        assert verdict["verdict"] == "not reproduced"
        assert verdict["figures"][0]["level"] == pytest.approx(0.975)

    def test_curves_are_read_from_the_trials_folders(self, tmp_path):
        manifest, trials = write_suite(tmp_path, seeds=8)
        curves.cache_clear()
        claim = claim_of(
            tmp_path,
            rule={
                "kind": "level",
                "of": "bias",
                "measure": {"curve": "max_vio", "from": 0.9},
                "claimed": {"at_most": 1},
            },
            trials={"strategies": ["bias"], "tasks": ["mix-nano"], "seeds": 8},
        )
        verdict = claims.evaluate(claim, collect(manifest, trials))
        assert verdict["verdict"] == "reproduced"
        assert 0.1 < verdict["figures"][0]["estimate"] < 0.6


def holds(region, x):
    if region.at_most is not None:
        return x <= region.at_most
    if region.at_least is not None:
        return x >= region.at_least
    low, high = region.between or region.outside
    return (x >= low) & (x <= high) if region.between else (x <= low) | (x >= high)


class TestLedger:
    LEDGER = claims.load_all()

    def test_every_claim_is_complete(self):
        assert len(self.LEDGER) == len({claim.id for claim in self.LEDGER}) >= 25
        for claim in self.LEDGER:
            assert claim.testable == (claim.why is None) == (claim.trials is not None)
            assert len(claim.digest) == 64

    def test_a_verdict_is_of_what_is_registered_today(self):
        """Statement, figures, measure, trials and rule; a caveat may come later."""
        published = json.loads((Path(__file__).parents[3] / "results" / "published" / "claims.json").read_text())
        assert {v["id"]: v["digest"] for v in published} == {claim.id: claim.digest for claim in self.LEDGER}

    def test_a_caveat_leaves_the_digest_and_a_bound_does_not(self, tmp_path):
        text = (Path(claims.__file__).parent / "ledger" / "smebu-overflow.yaml").read_text()
        digests = []
        for changed in (
            text,
            text.replace("Published step sizes", "Step sizes as published"),
            text.replace("0.01}", "0.02}"),
        ):
            (tmp_path / "smebu-overflow.yaml").write_text(changed)
            digests.append(claims.load_all(tmp_path)[0].digest)
        assert digests[0] == digests[1] != digests[2]

    def test_no_figure_can_both_bear_out_and_contradict(self):
        grid = np.linspace(-5, 5, 10_001)
        for claim in self.LEDGER:
            for single in claim.rules:
                if single.contradicted is not None:
                    both = holds(single.claimed, grid) & holds(single.contradicted, grid)
                    assert both.sum() <= 2, claim.id  # a shared edge

    def test_nothing_run_is_undecided(self):
        verdicts = {claims.evaluate(claim)["verdict"] for claim in self.LEDGER if claim.testable}
        assert verdicts == {"undecided"}

    def test_what_is_superseded_is_published_with_its_verdict(self):
        published = Path(__file__).parents[3] / "results" / "published"
        anew = [claim for claim in self.LEDGER if claim.supersedes]
        assert len(anew) == 23
        later = [claim for claim in self.LEDGER if claim.testable and not claim.supersedes]
        for claim in later:
            assert claim.registered, claim.id
            assert "seen when this was" in (claim.caveat or "").lower(), (
                f"{claim.id}: expected a caveat that says what had been seen"
            )
        for claim in anew:
            kept = json.loads((published / f"protocol-{claim.supersedes.protocol}" / "claims.json").read_text())
            (old,) = [verdict for verdict in kept if verdict["id"] == claim.id]
            assert (old["digest"], old["statement"]) == (claim.supersedes.digest, claim.statement)
            assert claim.digest != claim.supersedes.digest

    def test_untestable_claims_say_why(self):
        verdicts = [claims.evaluate(claim) for claim in self.LEDGER if not claim.testable]
        assert {verdict["verdict"] for verdict in verdicts} == {"not testable here"}
        assert all(verdict["words"] for verdict in verdicts)

    def test_a_claims_suite_speaks_the_words_of_suites(self):
        suite = claims.suite(claims.get("smebu-momentum-matters"))
        assert suite["suite"] == "claims-smebu-momentum-matters"
        assert suite["seeds"] == 6
        assert suite["tasks"] == [{"task": "text-bench"}]
        assert suite["strategies"][0]["set"]["momentum"] == 0.9
        assert suite["baseline"] == "smebu-b09"
        with pytest.raises(ValueError, match="not testable here"):
            claims.suite(claims.get("smebu-momentum-value"))

    def test_markdown(self):
        text = claims.claims_markdown([claims.evaluate(claim) for claim in self.LEDGER])
        headings = [line.removeprefix("### ").lower() for line in text.splitlines() if line.startswith("### ")]
        anchors = {"".join(c for c in h.replace(" ", "-") if c.isalnum() or c in "-_") for h in headings}
        linked = re.findall(r"\]\(#([^)]*)\)", text)
        assert len(linked) == len(self.LEDGER)
        assert set(linked) == anchors
        for claim in self.LEDGER:
            assert f"`{claim.id}`" in text
        assert text.startswith("# Claims\n\n")
        assert text.count("- Registered: 2026-11-27, in place of that of protocol 1 (digest ") == 23
        assert " not testable here." in text.splitlines()[2]

    def test_unknown_claim(self):
        with pytest.raises(ValueError, match="did you mean 'smebu-overflow'"):
            claims.get("smebu-overflows")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"seed": 3}, "seed: Extra inputs"),
            ({"why": "no"}, "no `why`"),
            ({"testable": False}, "neither `trials` nor `rule`"),
            ({"rule": CLAIM["rule"] | {"of": "bais"}}, "'bais' is not among its trials; did you mean 'bias'"),
            ({"rule": CLAIM["rule"] | {"kind": "guess"}}, "rule: "),
            ({"trials": CLAIM["trials"] | {"seeds": 3}}, "trials.seeds: "),
            ({"supersedes": OLD}, "supersedes: expected `registered` beside it"),
            ({"registered": "2026-11-27", "supersedes": OLD | {"digest": "ab"}}, "supersedes.digest: "),
            ({"registered": "2026-11-27", "supersedes": OLD | {"protocol": 0}}, "supersedes.protocol: "),
            ({"registered": "soon"}, "registered: "),
            (
                {
                    "rule": {
                        "kind": "ladder",
                        "of": "bias",
                        "over": {"mix-nano": 1, "mix-bnch": 2, "x": 3},
                        "measure": "val_loss",
                        "claimed": {"at_most": 0.0},
                    }
                },
                "task 'mix-bnch' is not among its trials",
            ),
            (
                {"trials": CLAIM["trials"] | {"strategies": ["bias", "plain", "idle"]}},
                "'idle' is there twice or unused",
            ),
            ({"id": "another-name"}, "expected the file's name, 'bias-beats-plain'"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, changes, message):
        with pytest.raises(ValueError, match=r"bias-beats-plain\.yaml") as error:
            claim_of(tmp_path, **changes)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_broken_yaml(self, tmp_path):
        path = tmp_path / "x.yaml"
        path.write_text("a: [")
        with pytest.raises(ValueError, match="not YAML"):
            load(path)
        path.write_text("- a")
        with pytest.raises(ValueError, match="expected a mapping"):
            load(path)
