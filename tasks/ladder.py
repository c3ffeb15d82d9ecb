"""The scale ladder: one dial per rung, everything else derived by the rules in this file and in recipes.py (training).

A rung's YAML says `depth` and what is genuinely its own; `RULES` derives the rest, in this order, and any derived
value can be stated instead. `horizon` is a second dial for rungs that do not state `steps`: training tokens per
active parameter. `learning_rate` is a third, for one peak rate in all parameter groups instead of the recipe's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import isqrt
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tasks import recipes
from tasks.errors import explain, unknown_key
from tasks.recipes import Beta, Count, NotNegative, Optimizer, Positive, Shape, Share

Index = Annotated[int, Field(ge=0, le=10**12)]
Layers = Annotated[int, Field(ge=1, le=10_000)]
Experts = Annotated[int, Field(ge=1, le=2**20)]
Horizon = Annotated[float, Field(gt=0, le=1e6)]

SMALLEST_VOCABULARY = 2
LARGEST_VOCABULARY = 2**24
LARGEST_MODEL = 10**13  # parameters
LARGEST_MICRO_BATCH = 32_768  # tokens
LARGEST_EVALUATION = 4_194_304


class Rung(BaseModel):
    """All sizes of a model and of its training. Build one with `derive`, which also checks it as a whole.

    A layer is attention (four width × width matrices) and one feed-forward network: dense SwiGLU of `dense_width`, or
    MoE: `experts` SwiGLU experts of `expert_width` of which a token uses `top_k`, plus `shared_experts` of the same
    width that every token uses. Input and output embeddings are two matrices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    width: Count
    layers: Layers
    heads: Count
    experts: Experts
    top_k: Count
    expert_width: Count
    shared_experts: Index
    dense_width: Count  # hidden width of the dense layers' networks
    dense_layers: Index  # how many first layers are dense
    moe_positions: list[Index] | None  # None: every layer after the dense ones
    vocab_size: Count
    sequence_length: Count
    batch_sequences: Count  # per optimizer step, over all micro-batches and ranks
    micro_batches: Count
    steps: Count
    recipe: str  # in tasks/recipes.yaml: where what follows comes from, unless stated
    optimizer: Optimizer
    embedding_rate: Positive  # peak learning rates of the parameter groups
    head_rate: Positive
    hidden_rate: Positive
    router_rate: Positive
    vector_rate: Positive
    weight_decay: NotNegative  # on embedding, head and hidden matrices
    beta1: Beta  # AdamW's
    beta2: Beta
    momentum: Beta  # Muon's
    embedding_std: Positive  # initial standard deviation
    init_gain: Positive  # of a matrix's initial values: standard deviation · √fan-in
    router_std: Positive
    warmup_steps: Index
    decay: Shape  # after the warm-up
    min_learning_rate_ratio: Share  # what is left of the peak at the end
    grad_clip: Positive
    score: Literal["sigmoid", "softmax", "sqrt_softplus"]
    normalize_gates: bool
    route_scale: Positive
    eval_sequences: Count  # of the held-out set, the same ones for every seed
    checkpoint_every: Count
    eval_every: Count
    probe_every: Count

    @property
    def tokens_per_step(self) -> int:
        """Tokens predicted in one optimizer step."""
        return self.batch_sequences * self.sequence_length

    @property
    def tokens(self) -> int:
        """Tokens predicted in the whole run."""
        return self.steps * self.tokens_per_step

    def moe_layers(self) -> list[int]:
        """Indices of the MoE layers, ascending."""
        return list(range(self.dense_layers, self.layers)) if self.moe_positions is None else list(self.moe_positions)

    def parameters(self) -> dict[str, int]:
        """Parameter counts.

        Returns:
            `total`; `active`: those one token uses, of the routed experts top_k, of the input embedding one row;
            `expert`: all routed experts together. Routers count as experts × width each, whatever a strategy
            makes of them; norms are counted.
        """
        moe = len(self.moe_layers())
        one_expert = 3 * self.width * self.expert_width
        backbone = (
            self.layers * (4 * self.width**2 + 2 * self.width)
            + (self.layers - moe) * 3 * self.width * self.dense_width
            + moe * (self.experts * self.width + self.shared_experts * one_expert)
            + self.width
            + self.vocab_size * self.width  # output embedding
        )
        expert = moe * self.experts * one_expert
        return {
            "total": backbone + self.vocab_size * self.width + expert,
            "active": backbone + self.width + moe * self.top_k * one_expert,
            "expert": expert,
        }

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs of one token, forward and backward: 6 · active + 12 · layers · width · sequence_length.

        A multiply-add is two FLOPs and the backward pass costs twice the forward one; the second term is attention's
        scores and sums over the whole sequence, the causal half not deducted (Chowdhery et al., PaLM, appendix B).
        """
        return 6 * self.parameters()["active"] + 12 * self.layers * self.width * self.sequence_length


def _splits(sequences: int, most: int) -> int:
    """The least number of equal parts of `sequences`, none of more than `most`."""
    low = [n for n in range(1, isqrt(sequences) + 1) if sequences % n == 0]
    return min(n for n in (*low, *(sequences // n for n in low)) if sequences // n <= most or n == sequences)


def _multiple_of_8(value: float) -> int:
    return max(8, 8 * round(value / 8))


RULES: dict[str, Callable[[Any], Any]] = {
    "layers": lambda r: r.depth,
    "width": lambda r: 32 * r.layers,
    "heads": lambda r: max(1, r.width // (32 if r.width < 512 else 64)),  # head width 32, from width 512 on 64
    "experts": lambda r: 64,
    "top_k": lambda r: 4,
    "shared_experts": lambda r: 0,
    # Active compute does not depend on experts, top_k or shared_experts: together a token's experts are as wide as
    # the dense SwiGLU network with the parameters of the usual two-matrix network of 4 × width.
    "expert_width": lambda r: _multiple_of_8(8 / 3 * r.width / (r.top_k + r.shared_experts)),
    "dense_width": lambda r: r.expert_width * (r.top_k + r.shared_experts),
    "dense_layers": lambda r: 0,
    "moe_positions": lambda r: None,
    "vocab_size": lambda r: 512 * r.layers,
    "sequence_length": lambda r: min(2048, 64 * r.layers),
    "batch_sequences": lambda r: 8 * r.layers,
    "micro_batches": lambda r: _splits(r.batch_sequences, LARGEST_MICRO_BATCH // r.sequence_length),
    "steps": lambda r: max(1, round(r.horizon * _active(r) / (r.batch_sequences * r.sequence_length))),
    **recipes.RULES,
    "grad_clip": lambda r: 1.0,
    "score": lambda r: "sigmoid",
    "normalize_gates": lambda r: True,
    "route_scale": lambda r: 1.0,
    "eval_sequences": lambda r: max(1, min(6 * r.batch_sequences, LARGEST_EVALUATION // r.sequence_length)),
    "checkpoint_every": lambda r: min(1000, max(1, r.steps // 5)),
    "eval_every": lambda r: max(1, r.steps // 4),
    "probe_every": lambda r: max(1, r.steps // 20),
}

DIALS: dict[str, Any] = {"depth": Layers, "horizon": Horizon, "learning_rate": Positive}


def _active(r: Any) -> int:
    """Active parameters of a rung whose training is not decided yet."""
    sizes = {name: getattr(r, name) for name in Rung.model_fields if hasattr(r, name)}
    return Rung.model_construct(**sizes).parameters()["active"]


def derive(name: str, given: Mapping[str, Any], key: str = "rung") -> Rung:
    """A rung from its dial and whatever it states itself.

    Args:
        name: of the rung.
        given: the dials and any field of `Rung` except its name.
        key: how messages call the rung.

    Raises:
        ValueError: an unknown key, a wrong type, or sizes that do not go together.
    """
    stated = {field: _checked(key, field, value) for field, value in given.items()}
    if "depth" not in stated and "layers" not in stated:
        raise ValueError(f"{key}.depth: missing; expected the number of layers, from which the rest is derived")
    if "recipe" in stated:
        recipes.get(stated["recipe"], f"{key}.recipe")
    values = SimpleNamespace(
        name=name,
        depth=stated.get("depth"),
        horizon=stated.get("horizon", 20.0),
        learning_rate=stated.get("learning_rate"),
    )
    for field, rule in RULES.items():
        setattr(values, field, stated[field] if field in stated else rule(values))
    try:
        rung = Rung(**{field: getattr(values, field) for field in Rung.model_fields})
    except ValidationError as error:  # of what was derived
        raise explain(error, key, ()) from None
    _check_whole(rung, key)
    return rung


@cache
def _adapter(field: str) -> TypeAdapter[Any]:
    return TypeAdapter(DIALS[field] if field in DIALS else get_type_hints(Rung, include_extras=True)[field])


def _checked(key: str, field: str, value: Any) -> Any:
    if field not in RULES and field not in DIALS:
        raise unknown_key(f"{key}.{field}", value, [*RULES, *DIALS])
    try:
        return _adapter(field).validate_python(value, strict=True)
    except ValidationError as error:
        raise explain(error, f"{key}.{field}", ()) from None


def _check_whole(rung: Rung, key: str) -> None:
    def refuse(field: str, expected: str) -> None:
        raise ValueError(f"{key}.{field}: {getattr(rung, field)} is impossible; expected {expected}")

    moe = rung.moe_layers()
    if rung.top_k > rung.experts:
        refuse("top_k", f"at most experts = {rung.experts}")
    if rung.width % (2 * rung.heads):
        refuse("heads", f"a divisor of width / 2 = {rung.width / 2:g} (rotary positions pair the channels of a head)")
    if rung.dense_layers > rung.layers:
        refuse("dense_layers", f"at most layers = {rung.layers}")
    if rung.moe_positions is not None and (moe != sorted(set(moe)) or (moe and moe[-1] >= rung.layers)):
        refuse("moe_positions", f"different layer indices in ascending order, each under layers = {rung.layers}")
    if not moe:
        refuse("dense_layers" if rung.moe_positions is None else "moe_positions", "at least one MoE layer")
    total = rung.parameters()["total"]
    if total > LARGEST_MODEL:
        sizes = ", ".join(f"{name} {getattr(rung, name)}" for name in ("layers", "width", "experts", "expert_width"))
        raise ValueError(f"{key}: {sizes} make {total:.3g} parameters; expected at most {LARGEST_MODEL:.0e}")
    if rung.batch_sequences % rung.micro_batches:
        refuse("micro_batches", f"a divisor of batch_sequences = {rung.batch_sequences}")
    if rung.warmup_steps > rung.steps:
        refuse("warmup_steps", f"at most steps = {rung.steps}")
    if not SMALLEST_VOCABULARY <= rung.vocab_size <= LARGEST_VOCABULARY:
        refuse("vocab_size", f"between {SMALLEST_VOCABULARY} and {LARGEST_VOCABULARY}")
