"""Recipes: what a rung takes from one, and the rules that carry it up the ladder, worked by hand."""

from __future__ import annotations

import pytest

import tasks
from tasks import recipes
from tasks.ladder import derive

RATES = ("embedding_rate", "head_rate", "hidden_rate", "router_rate", "vector_rate")


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_at_the_sizes_where_it_was_found_a_recipe_is_what_it_says(name):
    recipe, rung = recipes.get(name), tasks.load("mix-bench", {"rung.recipe": name}).rung
    found = recipe.found
    assert (rung.width, rung.tokens_per_step, rung.steps) == (found.width, found.tokens_per_step, found.steps)
    stated = recipe.rates
    expected = [stated.embedding, stated.embedding, stated.hidden, stated.router, stated.vector]
    assert [getattr(rung, field) for field in RATES] == pytest.approx(expected)
    assert rung.weight_decay == pytest.approx(recipe.weight_decay)
    assert (rung.optimizer, rung.beta1, rung.beta2) == (recipe.optimizer, *recipe.betas)
    assert rung.embedding_std == recipe.init.embedding
    assert rung.router_std == pytest.approx(recipe.init.gain / 8)  # √64
    assert rung.warmup_steps == recipe.warmup * found.steps


def at(recipe, **given):
    """A rung of the size recipes are found at, but for what is given."""
    sizes = {"depth": 2, "width": 64, "steps": 500, "batch_sequences": 16, "sequence_length": 128}
    return derive("x", {**sizes, "recipe": recipe, **given})


def factors(recipe, **given):
    plain, changed = at(recipe), at(recipe, **given)
    return [getattr(changed, field) / getattr(plain, field) for field in RATES]


@pytest.mark.parametrize(("recipe", "hidden"), [("adamw", 1 / 4), ("muon", 1 / 2)])
def test_four_times_the_width(recipe, hidden):
    assert factors(recipe, width=256) == pytest.approx([1, 1 / 4, hidden, 1 / 4, 1])
    assert at(recipe, width=256).router_std == pytest.approx(at(recipe).router_std / 2)
    assert at(recipe, width=256).embedding_std == at(recipe).embedding_std


@pytest.mark.parametrize("recipe", ["adamw", "muon"])
def test_batch_horizon_and_experts(recipe):
    assert factors(recipe, batch_sequences=64, steps=125) == pytest.approx([2] * 5)  # four times the batch, same tokens
    # 2^3.125 = 8.724 times the tokens: 0.32 · 3.125 = 1 halving
    assert factors(recipe, steps=4362) == pytest.approx([0.5] * 5, rel=1e-3)
    assert factors(recipe, experts=256) == [1] * 5


@pytest.mark.parametrize("recipe", ["adamw", "muon"])
@pytest.mark.parametrize("given", [{"width": 256}, {"steps": 4000}, {"batch_sequences": 64, "steps": 300}])
def test_weight_decay_reaches_back_the_same_share_of_training(recipe, given):
    def reach(rung):
        return rung.hidden_rate * rung.weight_decay * rung.steps

    assert reach(at(recipe, **given)) == pytest.approx(reach(at(recipe)))


def test_stated_values_win_and_move_what_hangs_on_them():
    rung = at("muon", router_rate=0.3, embedding_rate=0.1, width=128)
    assert (rung.router_rate, rung.embedding_rate) == (0.3, 0.1)
    assert rung.head_rate == pytest.approx(0.05)
    assert rung.hidden_rate == at("muon", width=128).hidden_rate
    assert at("muon", hidden_rate=0.04).weight_decay == at("muon").weight_decay
    one = at("muon", learning_rate=0.001, width=512, batch_sequences=64)
    assert [getattr(one, field) for field in RATES] == [0.001] * 5


def test_rungs_name_their_recipe_and_a_trial_s_key_sees_it():
    assert all(rung.recipe in recipes.recipes() for rung in tasks.rungs().values())
    plain = tasks.load("mix-bench").resolved()["rung"]
    other = tasks.load("mix-bench", {"rung.recipe": "adamw"}).resolved()["rung"]
    assert (plain["recipe"], plain["optimizer"]) == ("muon", "muon")
    assert (other["recipe"], other["optimizer"]) == ("adamw", "adamw")
    assert tasks.load("mix-bench", {"rung.router_rate": 0.01}).resolved()["rung"]["router_rate"] == 0.01


def test_no_recipe_is_an_error_that_names_them():
    with pytest.raises(ValueError, match="recipe: 'sgd' is not a recipe; valid: adamw, muon"):
        recipes.get("sgd")
