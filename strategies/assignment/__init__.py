"""Balanced assignment: every expert gets its share of the tokens, and the scores' sum is as large as it can be.

`balanced_assignment` is exact; `auction_assignment` is the approximate auction that BASE layers were published with.
"""

from strategies.assignment.auction import auction_assignment
from strategies.assignment.exact import balanced_assignment

__all__ = ["auction_assignment", "balanced_assignment"]
