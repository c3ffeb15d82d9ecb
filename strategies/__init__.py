"""Load-balancing strategies: one file per rule, and what a rule of your own needs to import."""

from strategies.biased import BiasedSelection, BiasStrategy
from strategies.contract import (
    REDRAWN,
    Balances,
    Knob,
    LayerSpec,
    Paper,
    Reset,
    RouteContext,
    Routing,
    Strategy,
    Waived,
)
from strategies.learned import TopKStrategy
from strategies.router import LinearRouter, choose, count, gates, probabilities, score

__all__ = [
    "REDRAWN",
    "Balances",
    "BiasStrategy",
    "BiasedSelection",
    "Knob",
    "LayerSpec",
    "LinearRouter",
    "Paper",
    "Reset",
    "RouteContext",
    "Routing",
    "Strategy",
    "TopKStrategy",
    "Waived",
    "choose",
    "count",
    "gates",
    "probabilities",
    "score",
]
