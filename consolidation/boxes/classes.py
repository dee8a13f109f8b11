"""Which class an object has, when its members disagree and workers are more or less often right.

A worker is right with a probability of their own, and else names any other class (the one-coin model); learned by
expectation-maximisation over the objects that several people marked. The prior of a worker's accuracy, worth
``smoothing`` objects, says ``TYPICAL_ACCURACY``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.cluster import Clusters
    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["TYPICAL_ACCURACY", "learn_classes"]

TYPICAL_ACCURACY: Final = 0.9


def learn_classes(
    table: Boxes,
    clusters: Clusters,
    exists: NDArray[np.float64],
    smoothing: float,
    max_iter: int,
    tol: float,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the most probable class of each cluster and its probability, each of shape (n_clusters,).

    Args:
        table: the boxes and their classes.
        clusters: what is one object.
        exists: how much each cluster counts when workers are learned, shape (n_clusters,).
        smoothing: what the prior of a worker's accuracy is worth, in objects; above 0.
        max_iter: the most iterations, at least 1.
        tol: stops when no accuracy changes by more than this.
        seed: breaks ties.
    """
    n_clusters, K = clusters.member_indptr.size - 1, table.n_classes
    label, worker = table.label[clusters.members], table.worker_of_object[clusters.members]
    if K == 1:
        return np.zeros(n_clusters, np.int64), np.ones(n_clusters)
    right = np.empty(label.size)
    accuracy = np.full(table.n_workers, TYPICAL_ACCURACY)
    for _ in range(max_iter):
        log_odds = np.log(accuracy) - np.log1p(-accuracy) + math.log(K - 1)
        hits, count = np.zeros(table.n_workers), np.zeros(table.n_workers)
        _expect(label, worker, clusters.member_indptr, exists, log_odds, K, right, hits, count)
        before, accuracy = accuracy, (hits + smoothing * TYPICAL_ACCURACY) / (count + smoothing)
        if float(np.abs(accuracy - before).max(initial=0.0)) <= tol:
            break
    found, probability, tied = np.empty(n_clusters, np.int64), np.empty(n_clusters), np.zeros(n_clusters, np.bool_)
    _choose(label, clusters.member_indptr, right, found, probability, tied)
    rows = np.flatnonzero(tied)
    if rows.size:
        posterior = np.zeros((rows.size, K))
        for row, c in enumerate(rows.tolist()):
            mine = slice(clusters.member_indptr[c], clusters.member_indptr[c + 1])
            posterior[row, label[mine]] = right[mine]
        items = np.searchsorted(clusters.indptr, rows, side="right") - 1
        found[rows] = choose_labels(posterior, table.items[items], table.classes, seed)
    return found, probability


@kernel
def _expect(
    label: NDArray[np.int64],
    worker: NDArray[np.int64],
    member_indptr: NDArray[np.int64],
    exists: NDArray[np.float64],
    log_odds: NDArray[np.float64],
    K: int,
    right: NDArray[np.float64],
    hits: NDArray[np.float64],
    count: NDArray[np.float64],
) -> None:
    """Fill the probability that each member's class is right, and add up those of each worker.

    A class is as probable as the product of the odds of those who gave it; one that nobody gave has the product 1.
    """
    for c in range(member_indptr.size - 1):
        start, stop = member_indptr[c], member_indptr[c + 1]
        highest, said = 0.0, 0
        for i in range(start, stop):
            right[i] = 0.0
            repeated = False
            for j in range(start, stop):
                if label[j] == label[i]:
                    right[i] += log_odds[worker[j]]
                    repeated = repeated or j < i
            highest = max(highest, right[i])
            said += 0 if repeated else 1
        whole = (K - said) * math.exp(-highest)
        for i in range(start, stop):
            right[i] = math.exp(right[i] - highest)
            repeated = False
            for j in range(start, i):
                repeated = repeated or label[j] == label[i]
            whole += 0.0 if repeated else right[i]
        for i in range(start, stop):
            right[i] = min(1.0, right[i] / whole)
            if stop - start > 1:
                hits[worker[i]] += exists[c] * right[i]
                count[worker[i]] += exists[c]


@kernel
def _choose(
    label: NDArray[np.int64],
    member_indptr: NDArray[np.int64],
    right: NDArray[np.float64],
    found: NDArray[np.int64],
    probability: NDArray[np.float64],
    tied: NDArray[np.bool_],
) -> None:
    for c in range(member_indptr.size - 1):
        best = member_indptr[c]
        for i in range(member_indptr[c], member_indptr[c + 1]):
            if right[i] > right[best]:
                best = i
        found[c], probability[c] = label[best], right[best]
        for i in range(member_indptr[c], member_indptr[c + 1]):
            if label[i] != label[best] and right[i] >= right[best] * (1.0 - 1e-9):
                tied[c] = True
