"""The one decorator that owns numba's flags. No kernels live here.

A kernel takes plain contiguous arrays and scalars, allocates little, raises nothing, and releases the GIL. Kernels are
compiled when they are first called and the machine code is kept on disk: beside the module, or, if that folder is
read-only, in the user's cache folder; where neither can be written, each process compiles for itself.

Threads are Python threads that call kernels on disjoint blocks (see ``Team``), not numba's own: numba's fallback
threading layer aborts the process when two threads of it start parallel work at once, which actors do.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Team", "available_threads", "kernel"]

F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")

# Infinities and NaN keep their meaning ("nnan" and "ninf" are missing on purpose). Reassociation changes the last bits
# against plain Python, but machine code is fixed once compiled, so equal input still gives equal bytes.
_FASTMATH: Final = frozenset({"nsz", "arcp", "contract", "reassoc"})


def kernel(function: F) -> F:
    """Compile ``function`` when it is first called; its machine code is cached on disk if any folder allows it."""
    flags: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(_FASTMATH)}
    try:
        compiled: F = numba.njit(cache=True, **flags)(function)
    except RuntimeError:  # numba found no folder to write to
        compiled = numba.njit(**flags)(function)
    return compiled


def available_threads() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Team:
    """Threads that share the blocks of one computation: the calling thread and ``threads - 1`` helpers.

    Whatever is computed for a block must not depend on the thread that computes it. Use it in a ``with`` statement;
    the helpers end with it, so that a process can fork between computations.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._helpers = ThreadPoolExecutor(threads - 1, "consolidation") if threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._helpers is not None:
            self._helpers.shutdown()

    def run(self, work: Callable[[int, range], T], n_blocks: int) -> list[T]:
        """Call ``work(thread, blocks)`` once a thread, on contiguous runs of ``range(n_blocks)``."""
        shares = [range(n_blocks * t // self.threads, n_blocks * (t + 1) // self.threads) for t in range(self.threads)]
        if self._helpers is None:
            return [work(0, shares[0])]
        waiting = [self._helpers.submit(work, t, shares[t]) for t in range(1, self.threads)]
        try:
            first = work(0, shares[0])
        finally:
            wait(waiting)  # nobody may write into arrays that the caller has given up
        return [first, *(share.result() for share in waiting)]
