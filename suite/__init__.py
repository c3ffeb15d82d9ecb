"""The engine: plans trials, trains them, records them, and drives the four floors below."""

NUMERICS = 3  # raised when a change of the engine changes a trial's numbers; a part of every trial's key
PROTOCOL = "2"  # raised when the rules of comparison change; boards of different protocols are never mixed
EARLIER = {"1": "59f394b"}  # the last revision of each earlier protocol: where its rows can be run again
