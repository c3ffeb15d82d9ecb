"""Experts that begin again: their weights and moments by NumPy, nothing else touched, and a resume that cannot tell."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import tasks
from strategies import REDRAWN, Reset, RouteContext, registry
from suite import backends
from suite.planning import config, plan
from suite.running.attempt import run_trial
from suite.storage.files import read_json
from suite.storage.trial import TrialFolder
from suite.training import optimizers, reset
from suite.training.model import Transformer, stream
from suite.training.muon import Together
from suite.training.trainer import Interrupted

OFTEN = {"every": 0.25, "below": 0.9}  # of twelve steps: after the fourth, the seventh and the tenth


@pytest.fixture(params=["adamw", "muon"])
def trained(request, tiny_suite):
    """A model and an optimizer that have taken two steps."""
    rung = tasks.load("zipf-nano", tiny_suite["tasks"][0]["set"] | {"rung.recipe": request.param}).rung
    cls = registry.get("expert_reset")
    model = Transformer(rung, lambda spec: registry.build(cls, spec), backends.get("reference").load(), 0)
    optimizer = optimizers.build(model, rung)
    for index in range(2):
        tokens_BS = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(index))
        model.loss(tokens_BS, RouteContext(sequence_length=16)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def moments(optimizer):
    """Every tensor of an optimizer's state by parameter and name, copied."""
    parts = optimizer.optimizers if isinstance(optimizer, Together) else [optimizer]
    return {
        (id(parameter), name): value.clone()
        for part in parts
        for parameter, state in part.state.items()
        for name, value in state.items()
    }


def test_weights_and_moments_by_numpy(trained):
    """Layer 0: expert 1 from expert 3, expert 2 drawn anew. Layer 1: nobody asked."""
    model, optimizer = trained
    first, second = model.moe_layers
    router = first.strategy.router.weight_ED
    asked = Reset(source_E=torch.tensor([0, 3, REDRAWN, 3]), noise=0.5, rows=(router,))
    first.strategy.experts_to_reset = lambda: asked
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    held = moments(optimizer)
    assert reset.carry_out(model, optimizer, seed=7, step=40)["experts_reset"] == 2
    gain = model.rung.init_gain
    for name, std in (
        ("w_in_EDF", gain / np.sqrt(32)),
        ("w_out_EFD", gain / np.sqrt(16) / np.sqrt(4)),
    ):  # √(2 · layers)
        old = before[f"blocks.0.feed_forward.{name}"].numpy()
        drawn = torch.empty(old.shape).normal_(generator=stream(7, f"reset/40/0/{name}")).numpy()
        new = old.copy()
        new[1] = old[3] + 0.5 * np.sqrt((old[3] ** 2).mean()) * drawn[1]
        new[2] = std * drawn[2]
        np.testing.assert_allclose(getattr(first, name).detach().numpy(), new, rtol=1e-5, atol=1e-8)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"blocks.0.feed_forward.w_in_EDF", "blocks.0.feed_forward.w_out_EFD"}  # the row is the rule's own
    by_expert = {id(parameter) for parameter in (first.w_in_EDF, first.w_out_EFD, router)}
    after = moments(optimizer)
    assert {key[0] for key in held} >= by_expert | {id(second.w_in_EDF)}
    for key, value in held.items():
        expected = value
        if key[0] in by_expert and value.ndim:
            assert value[[1, 2]].abs().sum() > 0  # there was something to forget
            expected = value.clone()
            expected[[1, 2]] = 0
        assert torch.equal(after[key], expected), key[1]


def test_what_is_drawn_depends_on_seed_step_layer_and_parameter(trained):
    model, optimizer = trained
    for layer in model.moe_layers:
        layer.strategy.experts_to_reset = lambda: Reset(source_E=torch.tensor([REDRAWN, 1, 2, 3]))

    def drawn(seed, step):
        reset.carry_out(model, optimizer, seed, step)
        return [layer.w_in_EDF[0].detach().clone() for layer in model.moe_layers]

    first = drawn(0, 3)
    assert all(torch.equal(one, same) for one, same in zip(first, drawn(0, 3), strict=True))
    assert not torch.equal(first[0], first[1])
    for other in (drawn(1, 3), drawn(0, 4)):
        assert not torch.equal(first[0], other[0])


def test_a_rule_that_never_asks_costs_and_changes_nothing(trained):
    model, optimizer = trained
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert reset.carry_out(model, optimizer, seed=0, step=0) == {}
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("weights", ["split", "fresh"])
def test_interrupted_after_a_reset_and_resumed_gives_the_same_record(weights, optimizer, tiny_suite, home, tmp_path):
    data = copy.deepcopy(tiny_suite) | {"baseline": "expert_reset", "seeds": 1}
    data["strategies"] = [{"strategy": "expert_reset", "set": OFTEN | {"weights": weights}}]
    data["tasks"][0]["set"]["rung.recipe"] = optimizer
    made = plan.make_plan(config.parse(data, "test"))
    folder = made.write_trial(home, made.trials[0])
    other = TrialFolder(tmp_path / folder.key)
    shutil.copytree(folder.path, other.path)
    run_trial(folder.path, home / "cache")
    for steps in (7, 2):  # right after a reset, and right before the next
        asked = iter(range(steps))
        with pytest.raises(Interrupted):
            run_trial(other.path, home / "cache", should_stop=lambda asked=asked, steps=steps: next(asked) + 1 == steps)
    run_trial(other.path, home / "cache")
    whole, resumed = read_json(folder.record), read_json(other.record)
    assert [a["from_step"] for a in resumed["attempts"]] == [0, 7, 9]
    assert resumed["measures"] == whole["measures"]
    curves = [pq.read_table(f.path / "curves.parquet").drop_columns(["seconds"]).to_pandas() for f in (folder, other)]
    assert curves[0].equals(curves[1])
    resets = curves[0]["experts_reset"].dropna()
    assert resets.index.tolist() == [3, 6, 9]
    assert (resets[6:] > 0).all()


def test_the_claim_on_growing_sparsity_compares_at_equal_flops():
    """Its third arm trains longer by what the first spends on more experts: 4 and 3 of them before 2."""
    from results import claims

    arms = {arm.name: arm for arm in claims.get("growing-sparsity-helps").trials.strategies}
    rung = tasks.load("mix-bench", {}).rung
    one_more = tasks.load("mix-bench", {"rung.top_k": rung.top_k + 1, "rung.expert_width": rung.expert_width}).rung
    settings = registry.make_config(registry.get("growing_sparsity"), arms["growing_sparsity"].set)
    strategy = (
        Transformer(
            rung,
            lambda spec: registry.build(registry.get("growing_sparsity"), spec, settings),
            backends.get("reference").load(),
            0,
        )
        .moe_layers[0]
        .strategy
    )
    extra = 0
    for step in range(rung.steps):
        strategy.schedule(step / rung.steps)
        extra += int(strategy.active) - rung.top_k
    flops = rung.steps * rung.flops_per_token + extra * (one_more.flops_per_token - rung.flops_per_token)
    longer = arms["aux_loss-same-flops"].task["rung.steps"]
    assert longer * rung.flops_per_token == pytest.approx(flops, rel=1e-3)
