"""What the machine itself can do, measured in the same run: an empty loop and a STREAM-like triad, on 1 and 2 threads.

Nothing here is voxpop's; it is what voxpop's speed-up over threads is held against.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numba
import numpy as np
from benchmarks.harness import Case, Measured

from voxpop.consolidation.jit import Team, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["EMPTY_LOOP", "TRIAD", "yardsticks"]

EMPTY_LOOP: Final = "empty loop"
TRIAD: Final = "triad"
STEPS: Final = 200_000_000
ELEMENTS: Final = 2**24  # of each of the triad's three arrays: 128 MiB, far beyond any cache
PASSES: Final = 4


def yardsticks(threads: int, scale: float = 1.0) -> list[Case]:
    """Return the systems "empty loop" and "triad", each on ``threads`` threads and on one.

    Args:
        threads: as many as the system that they stand beside.
        scale: how much of the usual work they do.
    """
    steps, elements = max(threads, int(STEPS * scale)), max(1024, int(ELEMENTS * scale))
    a, b, c = (np.full(elements, value) for value in (0.0, 1.0, 2.0))

    def count(share: range) -> None:
        _count(share.start, share.stop)

    def triad(share: range) -> None:
        for _ in range(PASSES):
            _triad(a, b, c, share.start, share.stop)

    return [
        Case(
            f"{name}, {n} thread{'s' if n > 1 else ''}",
            numba.__version__,
            _shared(work, n, blocks, n_units),
            "steps" if name == EMPTY_LOOP else "bytes",
        )
        for n in (threads, 1)
        for name, work, blocks, n_units in (
            (EMPTY_LOOP, count, steps, steps),
            (TRIAD, triad, elements, 3 * 8 * elements * PASSES),
        )
    ]


def _shared(work: Callable[[range], None], threads: int, n_blocks: int, n_units: int) -> Callable[[int], Measured]:
    def run(_seed: int) -> Measured:
        with Team(threads) as team:
            team.run(lambda _thread, _share: work(range(1)), threads)  # compiled, and the threads have started
            since = time.perf_counter()
            team.run(lambda _thread, share: work(share), n_blocks)
            return Measured(time.perf_counter() - since, n_units)

    return run


@kernel
def _count(start: int, stop: int) -> int:
    """A chain of steps that no compiler can shorten, in registers."""
    x = np.uint64(start + 1)
    for _ in range(start, stop):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
    return int(x)


@kernel
def _triad(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], start: int, stop: int) -> None:
    """``a = b + 3 c``; McCalpin's STREAM, 1995."""
    for i in range(start, stop):
        a[i] = b[i] + 3.0 * c[i]
