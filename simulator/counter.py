"""Counter-based random numbers: each is a pure function of a seed and its coordinates, so that order does not matter.

The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
2014), applied once a coordinate. A stream keeps no state: the same (seed, worker, item, draw) gives the same number in
any process, thread and order.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from voxpop.consolidation.jit import kernel

__all__ = ["lognormal", "uniform"]

GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
SECOND: Final = np.uint64(0x94D049BB133111EB)
S30: Final = np.uint64(30)
S27: Final = np.uint64(27)
S31: Final = np.uint64(31)
S11: Final = np.uint64(11)
ONE: Final = np.uint64(1)
TO_UNIT: Final = 2.0**-53


@kernel
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> S30)) * FIRST
    x = (x ^ (x >> S27)) * SECOND
    return x ^ (x >> S31)


@kernel
def uniform(seed: int, worker: int, item: int, draw: int) -> float:
    """Return a number in [0, 1), uniform: draw ``draw`` of what ``worker`` does with ``item``. All whole, >= 0."""
    x = _mix(np.uint64(seed) + GOLDEN)
    x = _mix(x + (np.uint64(worker) + ONE) * GOLDEN)
    x = _mix(x + (np.uint64(item) + ONE) * GOLDEN)
    x = _mix(x + (np.uint64(draw) + ONE) * GOLDEN)
    return float(x >> S11) * TO_UNIT


@kernel
def lognormal(seed: int, worker: int, item: int, draw: int, median: float, spread: float) -> float:
    """Return a log-normal number with this median and standard deviation of the logarithm; uses two draws."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(seed, worker, item, draw)))
    angle = 2.0 * math.pi * uniform(seed, worker, item, draw + 1)
    return median * math.exp(spread * radius * math.cos(angle))
