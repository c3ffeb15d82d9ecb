"""The router bench: how rules balance a router at any size, without training a model."""

from strategies.bench.floor import noise_floor
from strategies.bench.simulate import BenchResult, run
from strategies.bench.source import Drift

__all__ = ["BenchResult", "Drift", "noise_floor", "run"]
