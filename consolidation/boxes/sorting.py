"""Sorting the few boxes of an item: places by a number, equal ones in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["sort_places"]

_FEW: Final = 160  # so many are sorted by counting who is smaller, which takes n**2 steps without a single branch
_RUN: Final = 12  # so many entries of more are sorted by insertion, before the runs are merged


@kernel
def sort_places(keys: NDArray[np.float64], order: NDArray[np.int64], spare: NDArray[np.int64], n: int) -> None:
    """Fill ``order[:n]`` with the places of ``keys[:n]``, smallest first, equal ones in their order.

    ``spare`` is scratch of as many places.
    """
    if n <= _FEW:
        for i in range(n):
            order[i] = -1
        for i in range(n):
            key, at = keys[i], 0
            for j in range(n):
                at += keys[j] < key
            while order[at] >= 0:  # equal ones
                at += 1
            order[at] = i
        return
    for start in range(0, n, _RUN):
        for i in range(start, min(start + _RUN, n)):
            at = i
            while at > start and keys[i] < keys[order[at - 1]]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = i
    width = _RUN
    while width < n:
        for start in range(0, n, 2 * width):
            middle, stop = min(start + width, n), min(start + 2 * width, n)
            a, b = start, middle
            for k in range(start, stop):
                if a < middle and (b >= stop or keys[order[a]] <= keys[order[b]]):
                    spare[k] = order[a]
                    a += 1
                else:
                    spare[k] = order[b]
                    b += 1
        order[:n] = spare[:n]
        width *= 2
