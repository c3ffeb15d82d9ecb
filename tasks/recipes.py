"""Training recipes: optimizer, rates by parameter group, initialisation and schedule, and how they climb the ladder.

A recipe's rates hold at the sizes it was found at (`found`). `RULES` carries them to a rung of another width w, batch
of B tokens, horizon of D = steps · B tokens; with w0, B0, D0 those of `found`:

    all groups   × √(B/B0) · (D0/D)^0.32
    hidden       × w0/w with AdamW, × √(w0/w) with Muon
    head, router × w0/w
    experts      × 1
    weight decay   hidden rate · decay · steps stays what it was

Batch: the square-root rule for adaptive optimizers (Malladi et al. 2022, arXiv:2205.10287). Horizon: the exponent that
Bjorck et al. fitted (arXiv:2409.19913, from memory). Width: the maximal-update rules (Yang et al., Tensor Programs V,
arXiv:2203.03466): with AdamW hidden matrices and the head go as 1/fan-in, embedding and vectors stay. A router maps the
width to logits of order one as the head does, so it goes with the head. Muon's update has one size in all directions:
RMS-matched as here (Liu et al., arXiv:2502.16982) its spectral norm grows with √w, and a step whose spectral norm does
not depend on the width (Yang et al., A Spectral Condition for Feature Learning, arXiv:2310.17813) needs √(w0/w). The
number of experts changes no rate: an expert that sees fewer tokens has smaller gradients, not smaller updates, as both
optimizers take the gradient's scale out; no rule beyond that is established. Initial values by fan-in: gain/√fan-in, an
embedding's whatever the width (both as in the two papers on width). Weight decay: AdamW's average over past updates
reaches back 1/(rate · decay) steps, the same share of training at any horizon (Wang and Aitchison, arXiv:2405.13698).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import unknown

HORIZON_EXPONENT = 0.32
LONGEST_WARMUP = 2000  # steps
GROUPS = ("embedding", "head", "hidden", "router", "vector")

Optimizer = Literal["adamw", "muon"]
Shape = Literal["cosine", "linear"]
Count = Annotated[int, Field(ge=1, le=10**12)]  # the most: so that what is derived ends at once, and fits a float
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Rates(_Strict):
    """Peak learning rates by parameter group, at the sizes of `Found`."""

    embedding: Positive  # and the head
    hidden: Positive
    router: Positive
    vector: Positive


class Init(_Strict):
    embedding: Positive  # standard deviation
    gain: Positive  # of matrices: standard deviation · √fan-in


class DecayTo(_Strict):
    shape: Shape
    to: Share


class Found(_Strict):
    """Where a recipe's rates were found, and by which command."""

    width: Count
    tokens_per_step: Count
    steps: Count
    command: str


class Recipe(_Strict):
    """One entry of recipes.yaml."""

    title: str
    optimizer: Optimizer
    rates: Rates
    weight_decay: NotNegative
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)]  # AdamW's
    momentum: Beta  # Muon's
    init: Init
    warmup: Share
    decay: DecayTo
    found: Found


@cache
def recipes() -> dict[str, Recipe]:
    """The recipes by name."""
    data = yaml.safe_load(files("tasks").joinpath("recipes.yaml").read_text(encoding="utf-8"))
    return {name: Recipe.model_validate(entry) for name, entry in data.items()}


def get(name: str, key: str = "recipe") -> Recipe:
    """A recipe by name; `key` is what messages call it."""
    if name not in recipes():
        raise unknown(key, name, "a recipe", recipes())
    return recipes()[name]


def _carried(rung: Any, group: str, width: float = 0.0) -> float:
    """The recipe's rate of a group at the rung's batch and horizon, and by a power of its width.

    A rung that states `learning_rate` uses it for every group instead, as it is.
    """
    if rung.learning_rate is not None:
        return rung.learning_rate
    found = get(rung.recipe).found
    tokens_per_step = rung.batch_sequences * rung.sequence_length
    batch = (tokens_per_step / found.tokens_per_step) ** 0.5
    horizon = (found.steps * found.tokens_per_step / (rung.steps * tokens_per_step)) ** HORIZON_EXPONENT
    return getattr(get(rung.recipe).rates, group) * batch * horizon * (found.width / rung.width) ** width


def _head(rung: Any) -> float:
    """With the embedding's rate, so that stating that one moves both."""
    return rung.embedding_rate * (1.0 if rung.learning_rate is not None else get(rung.recipe).found.width / rung.width)


def _weight_decay(rung: Any) -> float:
    """Rate · decay · steps of the hidden matrices as the recipe has it, whatever rate the rung states."""
    recipe = get(rung.recipe)
    rate = recipe.rates.hidden if rung.learning_rate is None else rung.learning_rate
    carried = _carried(rung, "hidden", 0.5 if rung.optimizer == "muon" else 1.0)
    return recipe.weight_decay * rate * recipe.found.steps / (carried * rung.steps)


RULES: dict[str, Callable[[Any], Any]] = {
    "recipe": lambda r: "muon",
    "optimizer": lambda r: get(r.recipe).optimizer,
    "embedding_rate": lambda r: _carried(r, "embedding"),
    "head_rate": _head,
    "hidden_rate": lambda r: _carried(r, "hidden", 0.5 if r.optimizer == "muon" else 1.0),
    "router_rate": lambda r: _carried(r, "router", 1.0),
    "vector_rate": lambda r: _carried(r, "vector"),
    "weight_decay": _weight_decay,
    "beta1": lambda r: get(r.recipe).betas[0],
    "beta2": lambda r: get(r.recipe).betas[1],
    "momentum": lambda r: get(r.recipe).momentum,
    "embedding_std": lambda r: get(r.recipe).init.embedding,
    "init_gain": lambda r: get(r.recipe).init.gain,
    "router_std": lambda r: r.init_gain / r.width**0.5,
    "warmup_steps": lambda r: min(LONGEST_WARMUP, int(get(r.recipe).warmup * r.steps)),
    "decay": lambda r: get(r.recipe).decay.shape,
    "min_learning_rate_ratio": lambda r: get(r.recipe).decay.to,
}
