"""Strategies that are broken on purpose, each in one way, and the rule of conformance that is meant to catch it.

Shapes: T tokens, E experts, K experts per token, A assignments, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from strategies import Balances, BiasStrategy, Knob, Routing, TopKStrategy, Waived, choose, count, gates, score

CAUGHT_BY: dict[type, str] = {}


def caught_by(rule):
    """Note which rule must catch the class below."""

    def note(cls):
        cls.name = cls.title = cls.__name__
        CAUGHT_BY[cls] = rule
        return cls

    return note


class Sound(BiasStrategy):
    """Nothing is wrong with it: what the broken ones start from."""

    name = "sound"
    title = "Sound"
    balances = Waived("promises nothing")

    @dataclass(frozen=True, kw_only=True)
    class Config(BiasStrategy.Config):
        rate: float = 1e-2

    def step(self, violation_E):
        return self.rate * violation_E.sign()


class SoundTopK(TopKStrategy):
    """Likewise, without a bias."""

    name = "sound_top_k"
    title = "Sound top-k"


@caught_by("constructs")
class MissesMethod(BiasStrategy):
    balances = Waived("promises nothing")


@caught_by("constructs")
class DefaultOfAnotherType(Sound):
    @dataclass(frozen=True, kw_only=True)
    class Config(BiasStrategy.Config):
        rate: float = "1e-2"  # a text, as YAML 1.1 would have it


@caught_by("constructs")
class CannotBeBuilt(Sound):
    def __init__(self, spec, config=None, terms=None):
        raise RuntimeError("not today")


@caught_by("constructs")
class RefusesSilently(Sound):
    @classmethod
    def unsupported(cls, spec):
        return "" if spec.top_k == 4 else None


@caught_by("constructs")
class LongGrid(Sound):
    knob = Knob("rate", (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0))


@caught_by("routes")
class WrongShape(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.gate_A = routing.gate_A.view(-1, self.spec.top_k)
        return routing


@caught_by("routes")
class OutOfRange(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.expert_A = routing.expert_A + 1
        return routing


@caught_by("routes")
class NotARouting(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        return routing.expert_A, routing.gate_A


@caught_by("routes")
class SameExpertTwice(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.expert_A = routing.expert_A.view(-1, self.spec.top_k)[:, :1].expand(-1, self.spec.top_k).reshape(-1)
        return routing


@caught_by("routes")
class ReturnsNaN(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.gate_A = routing.gate_A / 0.0 * 0.0
        return routing


@caught_by("routes")
class ListsExpertByExpert(Sound):
    """Right assignments, but not in the order that `per_token` promises."""

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        order_A = routing.expert_A.argsort(stable=True)
        routing.token_A, routing.expert_A = routing.token_A[order_A], routing.expert_A[order_A]
        routing.gate_A = routing.gate_A[order_A]
        return routing


@caught_by("routes")
class ForgetsLogits(SoundTopK):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.logits_TE = None
        return routing


@caught_by("seed")
class NotFixed(Sound):
    fixed_rule = True


@caught_by("seed")
class GlobalRandomness(Sound):
    """The draw changes nothing of its own, but every parameter that the engine draws after it."""

    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        torch.rand(1)


@caught_by("seed")
class IgnoresSeed(Sound):
    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        nn.init.normal_(self.router.weight_ED, generator=torch.Generator().manual_seed(1))


@caught_by("eval")
class MovesInEval(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if not self.training:
            self.bias_E -= 1e-3 * count(routing.expert_A, self.spec.num_experts)
        return routing


@caught_by("eval")
class CountsEvaluations(Sound):
    """Its state is untouched, but its next update is not."""

    evaluated = 0

    def route(self, hidden_TD, tokens_T, context):
        self.evaluated += not self.training
        return super().route(hidden_TD, tokens_T, context)

    def step(self, violation_E):
        return super().step(violation_E) * (1 + self.evaluated)


@caught_by("eval")
class Peeks(Sound):
    """Chooses by the next token's scores as well."""

    def route(self, hidden_TD, tokens_T, context):
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        sequences = scores_TE.detach().unflatten(0, (-1, context.sequence_length))
        next_TE = sequences.roll(-1, dims=1).flatten(0, 1).nan_to_num()
        experts_TK = choose(self.select(scores_TE.detach() + self.sight() * next_TE), self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)

    def sight(self):
        return 1.0


@caught_by("eval")
class PeeksInTraining(Peeks):
    def sight(self):
        return float(self.training)


@caught_by("bias-moves")
class NeverMoves(Sound):
    def rebalance(self, load_E, pooled):
        pass


@caught_by("bias-moves")
class WrongDirection(Sound):
    def step(self, violation_E):
        return -super().step(violation_E)


@caught_by("bias-moves")
class Restless(Sound):
    def step(self, violation_E):
        return super().step(violation_E) + 1e-4 * torch.arange(len(violation_E), device=violation_E.device)


@caught_by("bias-selects")
class NeverApplied(Sound):
    def select(self, scores_TE):
        return scores_TE


@caught_by("bias-selects")
class BiasInGate(Sound):
    def route(self, hidden_TD, tokens_T, context):
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        experts_TK = choose(scores_TE.detach() + self.bias_E, self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE + self.bias_E, experts_TK, self.spec), logits_TE, scores_TE)


@caught_by("micro-batches")
class PerMicroBatch(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            load_E = context.sum_over_ranks(count(routing.expert_A, self.spec.num_experts))
            super().rebalance(load_E, {})
        return routing

    def rebalance(self, load_E, pooled):
        pass


@caught_by("micro-batches")
class LastMicroBatch(Sound):
    """Moves once, but by the last micro-batch alone."""

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            self.last_E = context.sum_over_ranks(count(routing.expert_A, self.spec.num_experts))
        return routing

    def rebalance(self, load_E, pooled):
        super().rebalance(self.last_E if load_E.unique().numel() > 1 else load_E, pooled)


@caught_by("ranks")
class OwnCountsOnly(Sound):
    """Counts its own tokens, and takes them for everybody's."""

    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.register_buffer("seen_E", torch.zeros(spec.num_experts), persistent=False)

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            self.seen_E = self.seen_E + count(routing.expert_A, self.spec.num_experts).nan_to_num()
        return routing

    def rebalance(self, load_E, pooled):
        super().rebalance(self.seen_E if load_E.unique().numel() > 1 else load_E, pooled)
        self.seen_E = torch.zeros_like(load_E)


@caught_by("ranks")
class Deadlock(Sound):
    """Communicates only when its own tokens say so."""

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training and int(tokens_T[0]) % 2:
            context.sum_over_ranks(count(routing.expert_A, self.spec.num_experts))
        return routing


@caught_by("resume")
class BufferNotSaved(Sound):
    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.register_buffer("bias_E", torch.zeros(spec.num_experts), persistent=False)


@caught_by("resume")
class PhaseNotSaved(Sound):
    """Its second phase routes at random of the router; the phase is a plain attribute."""

    late = False

    def schedule(self, progress):
        self.late = progress > 0.9

    def select(self, scores_TE):
        return -scores_TE if self.late else super().select(scores_TE)

    def rebalance(self, load_E, pooled):
        super().rebalance(-load_E if self.late else load_E, pooled)


@caught_by("resume")
class AverageNotSaved(Sound):
    """Goes by the sign of a running average of its loads, which is not saved: while the loads keep their sign,
    an average that begins again at zero has the same one."""

    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.register_buffer("average_E", torch.zeros(spec.num_experts), persistent=False)

    def step(self, violation_E):
        self.average_E = self.average_E.lerp(violation_E, 0.1)
        return self.rate * self.average_E.sign()


@caught_by("resume")
class StateWithCode(SoundTopK):
    def get_extra_state(self):
        return {"spec": self.spec}

    def set_extra_state(self, state):
        pass


@caught_by("gradients")
class NormalisesSingleGate(SoundTopK):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        gates_TK = routing.gate_A.view(-1, self.spec.top_k)
        routing.gate_A = self.spec.route_scale * (gates_TK / gates_TK.sum(-1, keepdim=True)).reshape(-1)
        return routing


@caught_by("gradients")
class DetachedTerm(SoundTopK):
    auxiliary = ("balance",)

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            routing.losses["balance"] = routing.scores_TE.mean().detach()
        return routing


@caught_by("gradients")
class IdleParameter(SoundTopK):
    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.idle_E = nn.Parameter(torch.ones(spec.num_experts))


@caught_by("gradients")
class DetachedLogits(SoundTopK):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.logits_TE = routing.logits_TE.detach()
        return routing


@caught_by("gradients")
class PoolsGradients(SoundTopK):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.pooled["scores_E"] = routing.scores_TE.nan_to_num().sum(0)
        return routing


@caught_by("gradients")
class UndeclaredTraining(SoundTopK):
    task_trains_router = False


class _WithBalance(SoundTopK):
    auxiliary = ("balance",)

    def balance(self, routing):
        return routing.logits_TE.logsumexp(-1).square().mean()


class _Inject(torch.autograd.Function):
    """Passes gates on, and adds the gradient of a loss to whatever comes back."""

    @staticmethod
    def forward(ctx, gate_A, loss):
        return gate_A.clone()

    @staticmethod
    def backward(ctx, gradient_A):
        return gradient_A, torch.ones(())


@caught_by("terms")
class TermInBackward(_WithBalance):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            routing.gate_A = _Inject.apply(routing.gate_A, self.balance(routing))
        return routing


@caught_by("terms")
class TermInGate(_WithBalance):
    """The gates keep their values and carry the term's gradient."""

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            term = self.balance(routing)
            routing.gate_A = routing.gate_A + (term - term.detach()).nan_to_num()
        return routing


class TermInReportedLoss(_WithBalance):
    """The gates, and so the reported loss, grow with the term: every gate then depends on the whole batch."""

    name = title = "TermInReportedLoss"

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            routing.gate_A = routing.gate_A * (1 + self.balance(routing).nan_to_num())
        return routing


@caught_by("terms")
class TermAtEval(_WithBalance):
    """An engine that adds up all terms would report it with the loss."""

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.losses["balance"] = self.balance(routing)
        return routing


@caught_by("terms")
class UndeclaredTerm(_WithBalance):
    auxiliary = ()

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            routing.losses["balance"] = self.balance(routing)
        return routing


@caught_by("float32")
class BFloat16Bias(Sound):
    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.register_buffer("bias_E", torch.zeros(spec.num_experts, dtype=torch.bfloat16))


@caught_by("float32")
class RouterUnderAutocast(Sound):
    def route(self, hidden_TD, tokens_T, context):
        logits_TE = nn.functional.linear(hidden_TD, self.router.weight_ED).float()
        scores_TE = score(logits_TE, self.spec.score)
        experts_TK = choose(self.select(scores_TE.detach()), self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)


@caught_by("hostile")
class SpreadsNaN(Sound):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.gate_A = routing.gate_A * (1 + 0 * hidden_TD.detach().sum())
        return routing


@caught_by("hostile")
class KeepsNaN(Sound):
    """NaN reaches its state by way of the statistics."""

    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.register_buffer("mean_E", torch.zeros(spec.num_experts))

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.pooled["scores_E"] = routing.scores_TE.detach().sum(0)
        return routing

    def rebalance(self, load_E, pooled):
        super().rebalance(load_E, pooled)
        self.mean_E.copy_(pooled.get("scores_E", self.mean_E))


@caught_by("hostile")
class DividesByLoad(Sound):
    def rebalance(self, load_E, pooled):
        self.bias_E += self.rate * (1 - load_E / load_E.mean())


@caught_by("balances")
class EmptyPromise(SoundTopK):
    balances = Balances(max_vio=0.5, steps=100)


@caught_by("speed")
class LoopsOverTokens(Sound):
    def select(self, scores_TE):
        selection_TE = super().select(scores_TE)
        return torch.stack([torch.stack([score + 0.0 for score in scores_E]) for scores_E in selection_TE])


@caught_by("eval")
class LooksAheadFaintly(SoundTopK):
    """A tenth of the next token's scores: few tokens are routed otherwise for it."""

    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        ahead_TE = routing.scores_TE.roll(-1, 0).detach().nan_to_num(0)
        experts_TK = choose((routing.scores_TE + 0.1 * ahead_TE).detach(), self.spec.top_k)
        return Routing.top_k(
            experts_TK, gates(routing.scores_TE, experts_TK, self.spec), routing.logits_TE, routing.scores_TE
        )


@caught_by("resume")
class CountsBesideItsState(Sound):
    """Steps counted in an attribute, and something done at the fiftieth."""

    seen = 0

    def step(self, violation_E):
        self.seen += 1
        return super().step(violation_E) * (0.5 if self.seen > 50 else 1.0)


@caught_by("settings")
class IgnoresTheScale(SoundTopK):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.gate_A = routing.gate_A / self.spec.route_scale
        return routing


@caught_by("settings")
class DropsItsParameters(Sound):
    knob = Knob("rate", (1e-4, 1e-3, 1e-2, 1e-1, 1.0))

    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, None, terms)


class IgnoresItsKnob(Sound):
    """No failure, since a knob may act late: said among what is waived."""

    name = title = "ignores_its_knob"
    knob = Knob("rate", (1e-4, 1e-3, 1e-2, 1e-1, 1.0))

    def step(self, violation_E):
        return 1e-2 * violation_E.sign()


@caught_by("constructs")
class TakesNoTerms(Sound):
    def __init__(self, spec, config=None):
        super().__init__(spec, config)


@caught_by("constructs")
class NamesAConfiguredTerm(Sound):
    auxiliary = ("z_loss",)


@caught_by("constructs")
class ForgetsAComma(Sound):
    auxiliary = "capacity"


@caught_by("constructs")
class TakesTheTermsPlace(Sound):
    def forward(self, hidden_TD, tokens_T, context):
        return self.route(hidden_TD, tokens_T, context)


@caught_by("constructs")
class GridOfAnotherKind(Sound):
    knob = Knob("fast", (0.0, 1.0, 2.0, 3.0, 4.0))

    @dataclass(frozen=True, kw_only=True)
    class Config(Sound.Config):
        fast: bool = False


@caught_by("device")
class MakesOnTheHost(Sound):
    def step(self, violation_E):
        return super().step(violation_E) + torch.zeros(len(violation_E))


@caught_by("device")
class ListsOnTheHost(SoundTopK):
    def route(self, hidden_TD, tokens_T, context):
        routing = super().route(hidden_TD, tokens_T, context)
        routing.token_A = torch.arange(len(tokens_T)).repeat_interleave(self.spec.top_k)
        return routing


@caught_by("device")
class KeepsBesideItsBuffers(Sound):
    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self._still_E = torch.zeros(spec.num_experts)

    def select(self, scores_TE):
        return super().select(scores_TE) + self._still_E


@caught_by("device")
class ReadsWithNumpy(Sound):
    def step(self, violation_E):
        return torch.from_numpy(super().step(violation_E).numpy()).to(violation_E)


class Noisy(SoundTopK):
    """Nothing is wrong with it either: noise on the choice, of a stream for each step, drawn on the host and moved."""

    name = title = "noisy"

    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.register_buffer("passed", torch.tensor(0))

    def stream(self):
        return f"noise {int(self.passed)}"

    def noise(self, logits_TE):
        return torch.randn(logits_TE.shape, generator=self.spec.generator(self.stream())).to(logits_TE.device)

    def route(self, hidden_TD, tokens_T, context):
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        noisy_TE = scores_TE.detach() + (0.01 * self.noise(logits_TE) if self.training else 0.0)
        experts_TK = choose(noisy_TE, self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)

    def rebalance(self, load_E, pooled):
        self.passed += 1


@caught_by("seed")
class SameNoise(Noisy):
    def stream(self):
        return "noise"


@caught_by("device")
class DrawsWithTheHostsGenerator(Noisy):
    def noise(self, logits_TE):
        return torch.randn(logits_TE.shape, generator=self.spec.generator(self.stream()), device=logits_TE.device)
