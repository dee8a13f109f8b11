"""Kernels of expectation-maximisation over a vote table: the M-step, from sums to each worker's confusion matrix.

The cells, and what the sums are, stand in ``em.py``.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.lanes import at_least, load, piece_of, plus, reals, scaled, spread, store, times

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["FLOOR", "maximise_kernel", "pooled", "power"]

FLOOR: Final = 1e-30  # no probability is below: eight of them multiplied are still a normal number
_WORKERS_BEFORE_LOG: Final = 8
_SMALLEST_PRODUCT: Final = 1e-60  # of probabilities, before logarithms are taken: eight floors below are still no zero


def maximise_kernel(lanes: int) -> Callable[..., None]:
    """Return the kernel that turns sums into probabilities, in every thread's cells, and clears the sums.

    Its arguments are:
        table: the cells as float64, shape (threads, at least n_workers * K * 2L).
        sums: the same memory as int64.
        pseudo: counts added to each worker's own, ``pseudo[answer, true]``, all zero or all positive, shape (K, L).
        worker_weight: how often each worker's votes count, shape (n_workers,), or empty.
        history: counts added to one worker's, ``[worker, answer, true]``, shape (n_workers, K, L), or empty.
        unit: what one in ``sums`` stands for.
        penalty: becomes the sum of added counts times log(probability) of each block.
        bounds: the first worker of each block, and the worker after the last.
        start_block: the first block.
        stop_block: the block after the last.
    """
    return _maximise_of(piece_of(lanes))


@functools.cache
def _maximise_of(piece: int) -> Callable[..., None]:
    @kernel
    def maximise(
        table: NDArray[np.float64],
        sums: NDArray[np.int64],
        pseudo: NDArray[np.float64],
        worker_weight: NDArray[np.float64],
        history: NDArray[np.float64],
        unit: float,
        penalty: NDArray[np.float64],
        bounds: NDArray[np.int64],
        start_block: int,
        stop_block: int,
    ) -> None:
        K, L = pseudo.shape
        threads, size = table.shape
        penalised = pseudo[0, 0] > 0
        known = history.size > 0
        whole = np.empty(L)  # of each column, then what it is multiplied by
        product = np.ones((K, L))  # of probabilities over a few workers, to take few logarithms
        for b in range(start_block, stop_block):
            penalty[b] = 0.0
            for w in range(bounds[b], bounds[b + 1]):
                factor = unit * worker_weight[w] if worker_weight.size else unit
                whole[:] = 0.0
                for l in range(K):
                    at = (w * K + l) * 2 * L
                    for c in range(0, L, piece):
                        count = load(sums, at + L + c, piece)
                        for t in range(1, threads):
                            count = plus(count, load(sums, t * size + at + L + c, piece))
                        value = plus(scaled(reals(count), factor), load(pseudo, l * L + c, piece))
                        if known:
                            value = plus(value, load(history, (w * K + l) * L + c, piece))
                        store(table, at + c, value)
                        store(whole, c, plus(load(whole, c, piece), value))
                for k in range(K):
                    if whole[k] == 0.0:  # nothing is known of this worker and class
                        whole[k] = _spread_over_used(table[0], sums, w, k, K, L)
                    whole[k] = 1.0 / whole[k]
                for l in range(K):
                    at = (w * K + l) * 2 * L
                    for c in range(0, L, piece):
                        value = at_least(times(load(table, at + c, piece), load(whole, c, piece)), FLOOR)
                        store(product, l * L + c, times(load(product, l * L + c, piece), value))
                        for t in range(threads):
                            store(table, t * size + at + c, value)
                            store(sums, t * size + at + L + c, spread(np.int64(0), piece))
                if known:
                    for l in range(K):
                        for k in range(K):
                            if history[w, l, k] > 0.0:
                                penalty[b] += history[w, l, k] * math.log(table[0, (w * K + l) * 2 * L + k])
                if penalised and (w - bounds[b]) % _WORKERS_BEFORE_LOG == _WORKERS_BEFORE_LOG - 1:
                    penalty[b] += _logs_if_small(product, pseudo)
            if penalised:
                penalty[b] += _logs(product, pseudo)

    made: Callable[..., None] = maximise
    return made


@kernel
def _logs_if_small(product: NDArray[np.float64], pseudo: NDArray[np.float64]) -> float:
    K = pseudo.shape[0]
    smallest = 1.0
    for l in range(K):
        for k in range(K):
            smallest = min(smallest, product[l, k])
    return _logs(product, pseudo) if smallest < _SMALLEST_PRODUCT else 0.0


@kernel
def _logs(product: NDArray[np.float64], pseudo: NDArray[np.float64]) -> float:
    K = pseudo.shape[0]
    value = 0.0
    for l in range(K):
        for k in range(K):
            value += pseudo[l, k] * math.log(product[l, k])
    product[:] = 1.0
    return value


@kernel
def _spread_over_used(
    cells: NDArray[np.float64], sums: NDArray[np.int64], w: int, k: int, n_classes: int, lanes: int
) -> float:
    """Count one of each answer that this worker uses, for true class ``k``, of which nothing is known."""
    K, L = n_classes, lanes
    used = 0.0
    for l in range(K):
        row = (w * K + l) * 2 * L
        mass = np.int64(0)
        for t in range(sums.shape[0]):
            for c in range(K):
                mass += sums[t, row + L + c]
        cells[row + k] = 1.0 if mass > 0 else 0.0
        used += cells[row + k]
    if used == 0.0:
        for l in range(K):
            cells[(w * K + l) * 2 * L + k] = 1.0
        used = float(K)
    return used


@kernel
def power(
    table: NDArray[np.float64],
    worker_weight: NDArray[np.float64],
    answered: NDArray[np.float64],
    n_classes: int,
    lanes: int,
) -> float:
    """Raise the probabilities of workers to their weights, each row divided by its largest to stay far from zero.

    Args:
        table: the cells of each thread, all alike, shape (threads, at least n_workers * K * 2L).
        worker_weight: how many votes each worker's vote is worth, shape (n_workers,).
        answered: how much the items weigh on which each worker gave each answer, shape (n_workers * K,).
        n_classes: K.
        lanes: L.

    Returns:
        What was taken from the log likelihood of all items by dividing.
    """
    K, L = n_classes, lanes
    taken = 0.0
    for w in range(worker_weight.size):
        if worker_weight[w] == 1.0:
            continue
        for l in range(K):
            at = (w * K + l) * 2 * L
            largest = 0.0
            for k in range(K):
                largest = max(largest, table[0, at + k])
            taken += worker_weight[w] * math.log(largest) * answered[w * K + l]
            for k in range(K):
                value = max((table[0, at + k] / largest) ** worker_weight[w], FLOOR)
                for t in range(table.shape[0]):
                    table[t, at + k] = value
    return taken


@kernel
def pooled(
    sums: NDArray[np.int64], worker_weight: NDArray[np.float64], unit: float, lanes: int, counts: NDArray[np.float64]
) -> None:
    """Add the sums of all workers, as often as their votes count, to ``counts[true, answer]``, shape (K, K)."""
    K, L = counts.shape[0], lanes
    for w in range(sums.shape[1] // (2 * K * L)):
        factor = unit * worker_weight[w] if worker_weight.size else unit
        for l in range(K):
            at = (w * K + l) * 2 * L + L
            for k in range(K):
                count = np.int64(0)
                for t in range(sums.shape[0]):
                    count += sums[t, at + k]
                counts[k, l] += count * factor
