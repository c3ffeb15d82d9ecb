"""Load-balancing strategies: one file per rule, and what a rule of your own needs to import."""

from strategies.families.biased import BiasedSelection, BiasStrategy
from strategies.families.learned import TopKStrategy
from strategies.framework.contract import (
    Balances,
    Knob,
    LayerSpec,
    Paper,
    Published,
    Reset,
    RouteContext,
    Routing,
    Strategy,
    Waived,
)
from strategies.framework.interface import REDRAWN
from strategies.framework.router import LinearRouter, choose, count, gates, probabilities, score

__all__ = [
    "REDRAWN",
    "Balances",
    "BiasStrategy",
    "BiasedSelection",
    "Knob",
    "LayerSpec",
    "LinearRouter",
    "Paper",
    "Published",
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
