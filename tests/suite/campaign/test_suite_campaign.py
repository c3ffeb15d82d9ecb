"""The GPU campaign in miniature: the same code, on a CPU; and its arithmetic by hand."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import threading
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from strategies import registry
from suite.campaign import __main__ as command
from suite.campaign import board, layer, loads, machine, overhead, packing, parity, step, sweep, wheels
from suite.campaign.ledger import Campaign, table

has_megablocks = all(find_spec(name) is not None for name in ("megablocks", "stk", "triton"))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return Campaign.begin(tmp_path_factory.mktemp("out"), None, minutes=5, jobs=1, tiny=True)


def written(campaign, part):
    return json.loads((campaign.out / f"{part}.json").read_text()), (campaign.out / f"{part}.md").read_text()


def of_megablocks(row):
    return "megablocks" in str(row).lower()


class TestParts:
    def test_parity(self, campaign):
        equal = parity.run(campaign)
        found, page = written(campaign, "parity")
        assert equal == has_megablocks
        assert {row["precision"] for row in found["rows"]} == {"float32", "bfloat16"}
        assert all(row.get("equal") for row in found["rows"] if has_megablocks or not of_megablocks(row))
        assert set(found["rows"][0]["error"]) == {"output", "hidden", "gates", "w_in", "w_out"}
        assert "| grouped | float32 | 8 | skewed |" in page
        assert "python -P -m suite.campaign parity --out DIR --minutes 5 --tiny" in page

    def test_layer(self, campaign):
        assert layer.run(campaign) == has_megablocks
        found, page = written(campaign, "layer")
        names = {row["name"] for row in found["rows"]}
        assert {"grouped", "megablocks", "MegaBlocks' own", "dense twin", "torch's grouped products alone"} <= names
        for row in found["rows"]:
            if has_megablocks or not of_megablocks(row):
                assert row["tokens_per_second"] == pytest.approx(1000 * row["tokens"] / row["ms"])
        assert ("megablocks over MegaBlocks' own" in page) == has_megablocks

    def test_step(self, campaign):
        assert step.run(campaign)
        _, page = written(campaign, "step")
        assert "| 4 experts | none | grouped |" in page

    def test_overhead(self, campaign):
        assert overhead.run(campaign)
        found, page = written(campaign, "overhead")
        added = {row["strategy"]: row["overhead"] for row in found["rows"]}
        assert all(len(row["ratios"]) == 2 for row in found["rows"])
        assert added.keys() == set(registry.available())
        assert "Bias strategies add" in page

    def test_sweep_chooses_the_lowest_mean(self, campaign):
        assert sweep.run(campaign)
        found, _ = written(campaign, "sweep")
        (chosen,) = [row for row in found["rows"] if row["chosen"]]
        assert chosen["mean"] == min(row["mean"] for row in found["rows"])
        assert len(found["rows"]) == 2
        assert json.loads((campaign.out / "sweeps" / "tiny-sweep.json").read_text())["missing"] == []

    def test_packing(self, campaign):
        assert packing.run(campaign), campaign.out
        (row,) = written(campaign, "packing")[0]["rows"]
        assert row["at_once"] == 2
        assert row["tokens_per_second"] == pytest.approx(row["slowest"] + row["fastest"])

    def test_board_keeps_what_is_finished_and_goes_on_from_it(self, campaign, tmp_path):
        assert board.run(campaign)
        found, page = written(campaign, "board")
        assert {row["arm"] for row in found["rows"]} == {"none", "sign_bias"}
        assert "2 trials finished in this sitting, 0 were there; 2 of 2 done" in page
        with tarfile.open(campaign.out / "board-001.tar.gz") as archive:
            names = archive.getnames()
        assert sum(name.endswith("/record.json") for name in names) == 2
        assert not any("checkpoint" in name for name in names)
        assert "suites/tiny-board.json" in names  # so that `report` finds its board where they are unpacked
        # the next sitting, on another machine
        elsewhere = Campaign.begin(campaign.out, tmp_path / "home", minutes=5, jobs=1, tiny=True)
        assert board.run(elsewhere)
        assert "0 trials finished in this sitting, 2 were there" in written(campaign, "board")[1]

    def test_a_trial_that_ends_after_the_stop_is_packed_too(self, tmp_path, monkeypatch):
        class Stopped(board.Runner):
            def run(self):
                outcome = super().run()
                outcome.finished.pop()  # its record came when nobody listened any more
                return outcome

        monkeypatch.setattr(board, "Runner", Stopped)
        late = Campaign.begin(tmp_path, None, minutes=5, jobs=1, tiny=True)
        assert board.run(late)
        with tarfile.open(tmp_path / "board-001.tar.gz") as archive:
            assert sum(name.endswith("/record.json") for name in archive.getnames()) == 2

    def test_a_sitting_ends_when_its_time_is_over(self, tmp_path, monkeypatch):
        class Endless(board.Runner):
            def run(self):
                try:
                    threading.Event().wait(60)
                except KeyboardInterrupt:  # as the runner does
                    self.outcome.interrupted = True
                return self.outcome

        monkeypatch.setattr(board, "Runner", Endless)
        monkeypatch.setattr(board, "SPARE_SECONDS", 1e9)
        short = Campaign.begin(tmp_path, None, minutes=5, jobs=1, tiny=True)
        assert board.run(short)  # nothing failed: it was stopped
        assert "0 trials finished in this sitting, 0 were there; 0 of 2 done" in written(short, "board")[1]


class TestLedger:
    def test_rows_are_on_disk_at_once_and_failures_say_why(self, campaign):
        ledger = campaign.ledger("trial")
        ledger.measure({"what": "good"}, lambda: {"value": 1.5})
        ledger.measure({"what": "bad"}, lambda: 1 / 0)
        rows = json.loads((campaign.out / "trial.json").read_text())["rows"]
        assert rows == [
            {"what": "good", "value": 1.5},
            {"what": "bad", "failed": "ZeroDivisionError: division by zero"},
        ]
        assert table(["what", "value"], rows)[2:] == [
            "| good | 1.5 |",
            "| bad | ZeroDivisionError: division by zero |",
        ]

    def test_nothing_is_started_once_the_time_is_over(self, campaign):
        ledger = campaign.ledger("late")
        ledger.deadline = 0.0
        assert "minutes were over" in ledger.measure({}, lambda: pytest.fail("started"))["failed"]

    def test_numbers_are_shown_to_be_read(self):
        row = {"a": True, "b": 12345.6, "c": 0.01234, "d": None, "e": {"f": 2}}
        assert table(["a", "b", "c", "d", "e.f"], [row])[-1] == "| yes | 12,346 | 0.0123 |  | 2 |"


SHAPE = {"tokens": 10, "width": 8, "experts": 4, "top_k": 2, "expert_width": 3}


class TestArithmetic:
    def test_flops_of_experts(self):
        """20 assignments, 3 matrices of 8 × 3, forward and twice backward, two FLOPs a multiply-add."""
        assert layer.expert_flops(SHAPE) == 20 * 3 * (8 * 3) * 3 * 2

    def test_bytes_that_have_to_move(self):
        d, f = 8, 3
        forward = [d, 2 * f, 2 * f, f, f, d]  # read and written by first product, activation, second product
        to_act, to_w_out = [d, f], [f, d]
        activation = [2 * f, f, 2 * f]
        to_rows, to_w_in = [2 * f, d], [d, 2 * f]
        elements = sum(forward + to_act + to_w_out + activation + to_rows + to_w_in)
        weights = 3 * d * f * 4  # read forward, read backward, gradient written
        assert layer.least_bytes(SHAPE, 2) == 2 * (20 * elements + 3 * weights)

    def test_errors_are_relative_to_the_largest_value(self):
        got, want = [torch.tensor([1.0, 4.5])] * 5, [torch.tensor([1.0, 5.0])] * 5
        assert parity.errors(got, want) == dict.fromkeys(parity.NAMES, pytest.approx(0.1))

    def test_a_backend_may_have_a_tolerance_of_its_own(self):
        allowed = {"float32": 1.0, "float32-sparse": 2.0, "bfloat16": 3.0}
        assert parity.tolerance(allowed, "megablocks", "float32") == 1.0
        assert parity.tolerance(allowed, "megablocks-sparse", "float32") == 2.0
        assert parity.tolerance(allowed, "megablocks-sparse", "bfloat16") == 3.0

    def test_a_call_that_fails_does_not_stop_the_others(self):
        found = machine.interleaved({"good": lambda: lambda: None, "bad": lambda: 1 / 0}, torch.device("cpu"), 3)
        assert isinstance(found["bad"], ZeroDivisionError)
        assert 0 <= found["good"] < 1


class TestLoads:
    @pytest.mark.parametrize("load", loads.LOADS)
    def test_every_token_has_k_different_experts_and_gates_that_sum_to_one(self, load):
        routing = loads.routing(load, 50, 8, 2, torch.device("cpu"))
        assert all(len(set(pair)) == 2 for pair in routing.expert_A.view(50, 2).tolist())
        torch.testing.assert_close(routing.gate_A.view(50, 2).sum(1), torch.ones(50))

    def test_loads_are_what_they_are_called(self):
        def load_of(name):
            experts = loads.routing(name, 4000, 8, 2, torch.device("cpu")).expert_A
            return torch.bincount(experts, minlength=8) / len(experts)

        assert load_of("even").max() < 0.15
        assert load_of("skewed")[0] > 2 * load_of("skewed")[7]
        assert load_of("single").tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0]
        assert load_of("empty")[4:].sum() == 0
        assert load_of("empty")[:4].min() > 0.2

    def test_an_unknown_load_names_the_nearest(self):
        with pytest.raises(ValueError, match="did you mean 'skewed'"):
            loads.routing("skew", 1, 2, 1, torch.device("cpu"))


class TestCommand:
    def test_an_unknown_part_is_named(self, tmp_path, capsys):
        with pytest.raises(SystemExit, match="2"):
            command.main(["partiy", "--out", str(tmp_path)])
        assert "PART: 'partiy' is unknown; expected one of parity, layer" in capsys.readouterr().err

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
    def test_without_an_accelerator_it_says_what_can_be_done(self, tmp_path, capsys):
        with pytest.raises(SystemExit, match="2"):
            command.main(["parity", "--out", str(tmp_path)])
        assert "no accelerator here; --tiny runs the same code in miniature" in capsys.readouterr().err

    def test_a_part_that_breaks_does_not_stop_the_next(self, tmp_path, monkeypatch):
        done = []

        def broken(campaign):
            raise RuntimeError("no")

        parts = {"layer": broken, "step": lambda campaign: done.append("step") or True}
        monkeypatch.setattr(
            command, "import_module", lambda name: types.SimpleNamespace(run=parts[name.split(".")[-1]])
        )
        assert command.main(["layer", "step", "--tiny", "--out", str(tmp_path)]) == 1
        assert done == ["step"]
        assert command.main(["step", "--tiny", "--out", str(tmp_path)]) == 0

    def test_wheels_are_unpacked_for_this_process_and_its_children(self, tmp_path, monkeypatch):
        """A wheel is an archive with a record of what is in it."""
        import zipfile

        folder = tmp_path / "wheels"
        folder.mkdir()
        with zipfile.ZipFile(folder / "brought_along-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("brought_along.py", "HERE = True\n")
            info = "brought_along-1.0.dist-info"
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: brought-along\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        monkeypatch.setattr(wheels.tempfile, "gettempdir", lambda: str(tmp_path))
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setenv("PYTHONPATH", "before")
        site = wheels.unpack(folder)
        assert (site / "brought_along.py").exists()
        assert sys.path[0] == str(site)
        assert os.environ["PYTHONPATH"] == f"{site}{os.pathsep}before"
        assert wheels.unpack(folder) == site

    def test_wheels_that_are_none_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no \.whl files"):
            wheels.unpack(tmp_path)
        (tmp_path / "broken-1.0-py3-none-any.whl").write_text("no")
        with pytest.raises(ValueError, match="cannot be installed"):
            wheels.unpack(tmp_path)


def test_the_full_size_names_what_exists():
    """What only an accelerator runs is at least spelled right."""
    import yaml

    import tasks
    from strategies import registry
    from suite import backends
    from suite.campaign.ledger import SETTINGS
    from suite.planning import library
    from suite.planning import sweep as sweeps

    settings = yaml.safe_load(Path(SETTINGS).read_text())
    assert settings["full"].keys() == settings["tiny"].keys()
    assert set(settings["full"]) == {"peaks", *command.PARTS}
    for strategy in settings["arms"].values():
        registry.get(strategy)
    for size in ("full", "tiny"):
        sizes = settings[size]
        for part in ("parity", "layer", "step"):
            assert sizes[part].keys() == settings["full" if size == "tiny" else "tiny"][part].keys()
            for backend in sizes[part]["backends"]:
                backends.get(backend)
        for rung in [*sizes["step"]["rungs"].values(), sizes["packing"]["rung"], sizes["overhead"]["rung"]]:
            tasks.load(rung["task"], rung["set"])
        assert set(sizes["parity"]["loads"]) | set(sizes["layer"]["loads"]) <= set(loads.LOADS)
    assert library.load(settings["full"]["board"]["suite"]).precision == "bfloat16"
    sweeps.load(settings["full"]["sweep"]["sweep"])
