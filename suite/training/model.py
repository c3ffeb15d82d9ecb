"""A decoder-only transformer with MoE layers: RMSNorm, RoPE attention, SwiGLU experts, dropless dispatch.

Every shared parameter draws its initial values from a stream named after itself and the seed, so that two strategies
with the same seed start from the same model, whatever parameters of their own they have.

Shapes: B sequences, S positions, T = B·S tokens, D width, H heads, C channels per head, E experts, F expert width,
V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strategies import LayerSpec, RouteContext, Routing, Strategy
from suite import backends
from suite.training.loss import cross_entropy, mean_cross_entropy
from tasks import Rung

EPSILON = 1e-6


def stream(seed: int, name: str) -> torch.Generator:
    """The random stream of one parameter."""
    digest = hashlib.sha256(f"{seed}/model/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


class SwiGLU(nn.Module):
    """A dense gated network, (…, D) → (…, D): first layers and shared experts."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w_in = nn.Linear(width, 2 * hidden, bias=False)
        self.w_out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.w_in(x).chunk(2, dim=-1)
        return self.w_out(F.silu(a) * b)


class Attention(nn.Module):
    """Causal self-attention with rotary positions (Su et al., RoFormer, arXiv:2104.09864)."""

    def __init__(self, width: int, heads: int, sequence_length: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.w_out = nn.Linear(width, width, bias=False)
        channels = width // heads
        frequency_C = 10_000.0 ** (-torch.arange(0, channels, 2).float() / channels)
        angle_SC = torch.arange(sequence_length).float()[:, None] * frequency_C
        # cos and sin side by side for every head of q and k: a complex factor of neighbouring channels
        self.turn_SC2: Tensor
        turn_SC2 = torch.stack((angle_SC.cos(), angle_SC.sin()), dim=-1)
        self.register_buffer("turn_SC2", turn_SC2.repeat(1, 2 * heads, 1), persistent=False)

    def _rotate(self, x_BSC: Tensor) -> Tensor:
        """Turn each pair of neighbouring channels by its position's angle: one complex product, in float32."""
        turn_SC = torch.view_as_complex(self.turn_SC2[: x_BSC.shape[1]])
        pairs_BSC = torch.view_as_complex(x_BSC.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs_BSC * turn_SC).flatten(-2).to(x_BSC.dtype)

    def forward(self, x_BSD: Tensor) -> Tensor:
        batch, length, width = x_BSD.shape
        qkv_BSD = self.qkv(x_BSD)
        qk_BSD, v_BSD = qkv_BSD[..., : 2 * width], qkv_BSD[..., 2 * width :]
        q, k = self._rotate(qk_BSD).view(batch, length, 2, self.heads, -1).unbind(2)
        v = v_BSD.view(batch, length, self.heads, -1)
        y_BHSC = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        return self.w_out(y_BHSC.transpose(1, 2).reshape(batch, length, width))


class MoELayer(nn.Module):
    """Routes with its strategy, computes with its backend, and keeps what the step wants to know of it.

    `load_E` and `pooled` add up over the micro-batches of an optimizer step while training; `losses` are those of the
    last forward pass; `routing` is kept only when `keep_routing` is set (evaluation and probes read it).
    """

    def __init__(self, rung: Rung, strategy: Strategy, experts: backends.ExpertFunction) -> None:
        super().__init__()
        self.num_experts = strategy.experts_to_build(strategy.spec)
        self.strategy = strategy
        self.experts: backends.ExpertFunction = experts
        self.w_in_EDF = nn.Parameter(torch.empty(self.num_experts, rung.width, 2 * rung.expert_width))
        self.w_out_EFD = nn.Parameter(torch.empty(self.num_experts, rung.expert_width, rung.width))
        self.shared = SwiGLU(rung.width, rung.shared_experts * rung.expert_width) if rung.shared_experts else None
        self.load_E: Tensor
        self.register_buffer("load_E", torch.zeros(self.num_experts, dtype=torch.int64), persistent=False)
        self.pooled: dict[str, Tensor] = {}
        self.losses: dict[str, Tensor] = {}
        self.routing: Routing | None = None
        self.keep_routing = False
        self.seconds = {"route": 0.0, "dispatch": 0.0, "experts": 0.0}

    def forward(self, x_BSD: Tensor, tokens_T: Tensor, context: RouteContext) -> Tensor:
        hidden_TD = x_BSD.reshape(-1, x_BSD.shape[-1])
        started = perf_counter()
        routing = self.strategy(hidden_TD, tokens_T, context)
        routed = perf_counter()
        plan = backends.plan_dispatch(routing, self.num_experts)
        if self.training:
            self.load_E += plan.load_E
            for name, value in routing.pooled.items():
                self.pooled[name] = self.pooled[name] + value if name in self.pooled else value
            self.losses = routing.losses
        dispatched = perf_counter()
        out_TD = self.experts(hidden_TD, plan, self.w_in_EDF, self.w_out_EFD)
        done = perf_counter()
        if self.training:
            self.seconds["route"] += routed - started
            self.seconds["dispatch"] += dispatched - routed
            self.seconds["experts"] += done - dispatched
        if self.keep_routing:
            self.routing = routing
        out_BSD = out_TD.view_as(x_BSD)
        return out_BSD if self.shared is None else out_BSD + self.shared(x_BSD)

    def start_step(self) -> None:
        """Forget the last optimizer step's counts."""
        self.load_E.zero_()
        self.pooled = {}


class Block(nn.Module):
    def __init__(self, rung: Rung, feed_forward: nn.Module) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(rung.width, eps=EPSILON)
        self.attention = Attention(rung.width, rung.heads, rung.sequence_length)
        self.norm_feed_forward = nn.RMSNorm(rung.width, eps=EPSILON)
        self.feed_forward = feed_forward

    def forward(self, x_BSD: Tensor, tokens_T: Tensor, context: RouteContext) -> Tensor:
        x_BSD = x_BSD + self.attention(self.norm_attention(x_BSD))
        hidden_BSD = self.norm_feed_forward(x_BSD)
        if isinstance(self.feed_forward, MoELayer):
            return x_BSD + self.feed_forward(hidden_BSD, tokens_T, context)
        return x_BSD + self.feed_forward(hidden_BSD)


class Transformer(nn.Module):
    """The model every strategy trains.

    Args:
        rung: sizes.
        make_strategy: builds a layer's strategy from its `LayerSpec`.
        experts: the backend's function.
        seed: of the trial.
        token_counts_V: how often each token occurs in the training text, (V,).
    """

    def __init__(
        self,
        rung: Rung,
        make_strategy: Callable[[LayerSpec], Strategy],
        experts: backends.ExpertFunction,
        seed: int,
        token_counts_V: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.rung = rung
        positions = rung.moe_layers()
        self.embedding = nn.Embedding(rung.vocab_size, rung.width)
        self.blocks = nn.ModuleList()
        for index in range(rung.layers):
            if index in positions:
                spec = LayerSpec(
                    width=rung.width,
                    num_experts=rung.experts,
                    top_k=rung.top_k,
                    vocab_size=rung.vocab_size,
                    layer=positions.index(index),
                    num_layers=len(positions),
                    score=rung.score,
                    normalize_gates=rung.normalize_gates,
                    route_scale=rung.route_scale,
                    router_std=rung.router_std,
                    seed=seed,
                    token_counts_V=token_counts_V,
                )
                feed_forward: nn.Module = MoELayer(rung, make_strategy(spec), experts)
            else:
                feed_forward = SwiGLU(rung.width, rung.dense_width)
            self.blocks.append(Block(rung, feed_forward))
        self.norm = nn.RMSNorm(rung.width, eps=EPSILON)
        self.head = nn.Linear(rung.width, rung.vocab_size, bias=False)
        self.moe_layers = [block.feed_forward for block in self.blocks if isinstance(block.feed_forward, MoELayer)]
        self._initialise(seed)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        for name, parameter in self.named_parameters():
            if ".strategy." in name or parameter.ndim < 2:
                continue  # a strategy's own parameters are its own business; norms start at one
            parameter.normal_(std=self.initial_std(name, parameter), generator=stream(seed, name))

    def initial_std(self, name: str, parameter: Tensor) -> float:
        """The recipe's: by fan-in; projections back into the residual stream smaller by √(2·layers) (GPT-2's rule)."""
        if name == "embedding.weight":
            return self.rung.embedding_std
        fan_in = parameter.shape[-1] if name.endswith("weight") else parameter.shape[-2]  # experts keep (E, in, out)
        std = self.rung.init_gain / fan_in**0.5
        return std / (2 * self.rung.layers) ** 0.5 if "w_out" in name else std

    def forward(self, tokens_BS: Tensor, context: RouteContext) -> Tensor:
        """Final hidden states, (B, S, D); `head` makes them logits."""
        tokens_T = tokens_BS.reshape(-1)
        x_BSD = self.embedding(tokens_BS)
        for block in self.blocks:
            x_BSD = block(x_BSD, tokens_T, context)
        return self.norm(x_BSD)

    def loss(self, tokens_BS1: Tensor, context: RouteContext) -> Tensor:
        """Mean next-token loss in nats, a scalar with gradient. Auxiliary terms are not in it."""
        hidden_BSD = self(tokens_BS1[:, :-1], context)
        return mean_cross_entropy(hidden_BSD.flatten(0, 1), self.head.weight, tokens_BS1[:, 1:].flatten())

    def losses(self, tokens_BS1: Tensor, context: RouteContext) -> Tensor:
        """Next-token loss of each position in nats, (B, S) float32, without gradient."""
        hidden_BSD = self(tokens_BS1[:, :-1], context)
        flat_T = cross_entropy(hidden_BSD.flatten(0, 1), self.head.weight, tokens_BS1[:, 1:].flatten())
        return flat_T.view(hidden_BSD.shape[:2])
