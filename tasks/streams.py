"""Random streams that depend on their name only, the same on every machine and with every release of NumPy.

NumPy promises the raw output of its bit generators for ever, but not what its distributions make of it; so only the
raw output is used.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def raw(name: str, count: int) -> NDArray[np.uint64]:
    """`count` uniform 64-bit numbers of the stream `name`."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Philox(key=key).random_raw(count)


def uniform(name: str, count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1)."""
    return (raw(name, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(name: str, count: int) -> NDArray[np.int64]:
    """A uniform permutation of range(count)."""
    return np.argsort(raw(name, count), kind="stable")
