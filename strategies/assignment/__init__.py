"""Balanced assignment: every expert gets its share of the tokens, and the scores' sum is as large as it can be."""

from strategies.assignment.exact import balanced_assignment

__all__ = ["balanced_assignment"]
