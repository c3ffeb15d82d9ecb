"""Conformance: rules that every strategy is held to, a stranger's as well as our own, through the contract alone."""

from strategies.conformance.checking import check, parametrize
from strategies.conformance.rule import Outcome, Rule
from strategies.conformance.rules import RULES

__all__ = ["RULES", "Outcome", "Rule", "check", "parametrize"]
