"""Where an object is: the edges of its boxes, each worker with a noise of their own, and with outliers.

An edge is off by the worker's deviation times the box's size in that direction times a draw of Student's t with
``DEGREES`` degrees of freedom: most people are precise most of the time, and now and then quite wrong. Boxes and
deviations are learned by expectation-maximisation with one weight an edge (K. L. Lange, R. J. A. Little and J. M. G.
Taylor, JASA 84 (1989), who find 4 degrees a good choice where there is little to learn them from).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEGREES", "learn_noise", "sizes_of"]

DEGREES: Final = 4.0
_START: Final = 0.1  # of the box's size
_SMALLEST: Final = 1e-6  # deviation: nobody is exact


def sizes_of(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what an error in each part is measured by: the size of the box in that direction, shape of ``parts``.

    For a turned box: centre by the square root of its area, width and height by themselves, and an angle by the one
    that moves the corners by that root.
    """
    if parts.shape[1] == 4:
        width, height = parts[:, 2] - parts[:, 0], parts[:, 3] - parts[:, 1]
        return np.column_stack([width, height, width, height])
    width, height = parts[:, 2], parts[:, 3]
    root = np.sqrt(width * height)
    return np.column_stack([root, root, width, height, np.degrees(2 * root / np.hypot(width, height))])


def learn_noise(
    parts: NDArray[np.float64],
    worker: NDArray[np.int64],
    member_indptr: NDArray[np.int64],
    exists: NDArray[np.float64],
    merged: NDArray[np.float64],
    n_workers: int,
    smoothing: float,
    max_iter: int,
    tol: float,
) -> NDArray[np.float64]:
    """Move ``merged`` from the medians of the clusters to their weighted means; return each worker's deviation.

    Args:
        parts: of each member, in the order of the clusters, shape (n, 4 or 5).
        worker: of each member, shape (n,).
        member_indptr: where the members of each cluster stand, shape (n_clusters + 1,).
        exists: how much each cluster counts when workers are learned, shape (n_clusters,).
        merged: the medians, shape (n_clusters, 4 or 5); written to.
        n_workers: how many workers there are.
        smoothing: what the prior of a deviation is worth, in boxes; it says what is typical of all workers. Above 0.
        max_iter: the most iterations, at least 1.
        tol: stops when no deviation changes by more than this share.

    Returns:
        Deviations as shares of a box's size, shape (n_workers,).
    """
    size = sizes_of(merged)
    deviation = np.full(n_workers, _START)
    for _ in range(max_iter):
        squares, count = np.zeros(n_workers), np.zeros(n_workers)
        _improve(parts, worker, member_indptr, exists, size, deviation**2, merged, squares, count)
        typical = n_workers / math.fsum(1 / deviation**2)  # as the most probable scale of an inverse gamma prior
        weight = smoothing * parts.shape[1]
        before = deviation
        deviation = np.maximum(np.sqrt((squares + weight * typical) / (count + weight)), _SMALLEST)
        if float(np.abs(deviation - before).max(initial=0.0)) <= tol * float(before.min(initial=math.inf)):
            break
    return deviation


@kernel
def _improve(
    parts: NDArray[np.float64],
    worker: NDArray[np.int64],
    member_indptr: NDArray[np.int64],
    exists: NDArray[np.float64],
    size: NDArray[np.float64],
    variance: NDArray[np.float64],
    merged: NDArray[np.float64],
    squares: NDArray[np.float64],
    count: NDArray[np.float64],
) -> None:
    """Take one step for every cluster of several members, and add up weighted squares of errors by worker."""
    for c in range(merged.shape[0]):
        start, stop = member_indptr[c], member_indptr[c + 1]
        if stop - start < 2:
            continue
        for k in range(merged.shape[1]):
            scale = 1.0 / size[c, k]
            middle = merged[c, k]
            total, shift = 0.0, 0.0
            for i in range(start, stop):
                off = (parts[i, k] - middle) * scale
                v = variance[worker[i]]
                precision = (DEGREES + 1.0) / (DEGREES * v + off * off)
                total += precision
                shift += precision * off
            shift /= total
            for i in range(start, stop):
                off = (parts[i, k] - middle) * scale
                v = variance[worker[i]]
                weight = (DEGREES + 1.0) * v / (DEGREES * v + off * off)
                off -= shift
                squares[worker[i]] += exists[c] * weight * (off * off + 1.0 / total)
                count[worker[i]] += exists[c]
            merged[c, k] = middle + shift * size[c, k]
