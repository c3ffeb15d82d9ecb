"""Estimates, intervals, tests and verdicts; how much they can see; and what imbalance costs many devices."""
