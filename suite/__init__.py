"""The engine: plans trials, trains them, records them, and drives the four floors below."""

NUMERICS = 2  # raised when a change of the engine changes a trial's numbers; a part of every trial's key
PROTOCOL = "1"  # raised when the rules of comparison change; boards of different protocols are never mixed
