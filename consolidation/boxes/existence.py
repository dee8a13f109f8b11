"""Is there an object? Learned from who marked it and who looked and did not; where it was marked does not matter.

Every candidate (a cluster of boxes, maybe of one) has a salience between 0 and 1: the share of all careful people who
would mark it. Beforehand, a share of the candidates is obvious (salience 1), and of the others all values are equally
likely. The object exists if most people would mark it: salience above one half. A worker sees a candidate with the
probability of its salience. Of what they see they miss a share, their *miss rate*; of what they do not see they mark a
share, their *false-positive rate*. All is learned by expectation-maximisation: the rates each under a prior worth
``smoothing`` candidates that says ``TYPICAL_RATE``, the share of the obvious under one that says that there are none.
Candidates that nobody marked are not in the data; the likelihood is that of the others, given that somebody marked
them, and the iteration counts those that must have gone unseen.

Were everything either obvious or not there (salience 0 or 1), this would be the model of Dawid and Skene (1979). Real
objects are not: some are hard for everybody, votes on them depend on each other, and that model is far too sure of
itself. ``docs/boxes.md`` shows by how much.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.cluster import Clusters
    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["TYPICAL_RATE", "Existence", "learn_existence"]

TYPICAL_RATE: Final = 0.05
_START: Final = 0.5  # obvious ones among the candidates
_SMALLEST: Final = 1e-12
_NODES: Final = 12  # of Gauss and Legendre in each half: exact for up to 22 workers an item


@dataclasses.dataclass(frozen=True, eq=False)
class Existence:
    """What was learned.

    Attributes:
        exists: probability that each candidate is an object, shape (n_clusters,).
        miss: miss rate of each worker, shape (n_workers,).
        false_positive: false-positive rate of each worker, shape (n_workers,).
        obvious: share of the candidates, those that nobody marked among them, that everybody sees.
        objective: log likelihood plus log prior before each update, and at the end, shape (n_iter,).
    """

    exists: NDArray[np.float64]
    miss: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    obvious: float
    objective: NDArray[np.float64]


def learn_existence(table: Boxes, clusters: Clusters, smoothing: float, max_iter: int, tol: float) -> Existence:
    """Learn miss and false-positive rates, and return the probability of each candidate under them.

    Args:
        table: who looked at what.
        clusters: the candidates.
        smoothing: what the prior of each rate is worth, in candidates; above 0.
        max_iter: the most iterations, at least 1.
        tol: stops when an iteration gains less than this a candidate, in nats.
    """
    nodes, weight = _quadrature()
    obvious = _START
    answer_of_member = table.answer_of_object[clusters.members]
    miss, false_positive = (np.full(table.n_workers, TYPICAL_RATE) for _ in range(2))
    exists = np.empty(clusters.member_indptr.size - 1)
    most = int(np.diff(table.item_indptr).max(initial=0))
    objective: list[float] = []
    while True:
        marks = nodes * (1 - miss)[:, None] + (1 - nodes) * false_positive[:, None]
        tables = np.stack([np.log(marks), np.log1p(-marks), nodes * (1 - miss)[:, None] / marks,
                           nodes * miss[:, None] / (1 - marks)])  # fmt: skip
        counts, by_node = np.zeros((4, table.n_workers)), np.zeros(nodes.size)
        log_weight = np.log(weight * np.where(nodes < 1, 1 - obvious, obvious))
        log_likelihood = _expect(
            table.item_indptr, table.worker, clusters.indptr, clusters.member_indptr, answer_of_member,
            tables, log_weight, np.zeros((most, nodes.size)), counts, by_node, exists,
        )  # fmt: skip
        priors = _log_prior(miss, smoothing) + _log_prior(false_positive, smoothing) + smoothing * math.log1p(-obvious)
        objective.append(log_likelihood + priors)
        gain = objective[-1] - objective[-2] if len(objective) > 1 else math.inf
        if len(objective) >= max_iter or gain < tol * max(1, exists.size):
            return Existence(exists, miss, false_positive, obvious, np.array(objective))
        seen, missed, unseen, marked = counts
        miss = (missed + smoothing * TYPICAL_RATE) / (seen + smoothing)
        false_positive = (marked + smoothing * TYPICAL_RATE) / (unseen + smoothing)
        obvious = max(float(by_node[-1] / (by_node.sum() + smoothing)), _SMALLEST)


def _log_prior(rate: NDArray[np.float64], smoothing: float) -> float:
    return smoothing * math.fsum(TYPICAL_RATE * np.log(rate) + (1 - TYPICAL_RATE) * np.log1p(-rate))


def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return saliences and their weights: as many below one half as above it, and at last 1 with the weight 1."""
    at, weight = np.polynomial.legendre.leggauss(_NODES)
    half = (at + 1) / 4
    return np.concatenate([half, half + 0.5, [1.0]]), np.concatenate([np.tile(weight / 4, 2), [1.0]])


@kernel
def _expect(
    item_indptr: NDArray[np.int64],
    worker: NDArray[np.int64],
    indptr: NDArray[np.int64],
    member_indptr: NDArray[np.int64],
    answer_of_member: NDArray[np.int64],
    tables: NDArray[np.float64],
    log_weight: NDArray[np.float64],
    own: NDArray[np.float64],
    counts: NDArray[np.float64],
    by_node: NDArray[np.float64],
    exists: NDArray[np.float64],
) -> float:
    """Fill ``exists`` and add up expected counts; return the log likelihood.

    ``tables``, shape (4, n_workers, n_nodes): log of marking, log of not marking, and the probability of having seen
    what was marked, and what was not. ``counts``, shape (4, n_workers): candidates seen, those of them missed, not
    seen, those of them marked. ``by_node``, shape (n_nodes,): candidates of each salience.
    ``own``, shape (answers of an item, n_nodes), is scratch.
    """
    Q = log_weight.size
    nobody, unseen, posterior, total = np.empty(Q), np.empty(Q), np.empty(Q), np.empty(Q)
    value = 0.0
    for item in range(item_indptr.size - 1):
        first, last = item_indptr[item], item_indptr[item + 1]
        if indptr[item] == indptr[item + 1]:
            continue
        mass = 0.0
        for q in range(Q):
            nobody[q] = 0.0
            total[q] = 0.0
        for a in range(first, last):
            for q in range(Q):
                nobody[q] += tables[1, worker[a], q]
                own[a - first, q] = 0.0
        for q in range(Q):
            unseen[q] = math.exp(nobody[q] + log_weight[q])
            mass += unseen[q]
        for q in range(Q):
            unseen[q] /= 1.0 - mass
        for c in range(indptr[item], indptr[item + 1]):
            highest = -math.inf
            for q in range(Q):
                posterior[q] = nobody[q] + log_weight[q]
            for i in range(member_indptr[c], member_indptr[c + 1]):
                w = worker[answer_of_member[i]]
                for q in range(Q):
                    posterior[q] += tables[0, w, q] - tables[1, w, q]
            for q in range(Q):
                highest = max(highest, posterior[q])
            whole = 0.0
            for q in range(Q):
                posterior[q] = math.exp(posterior[q] - highest)
                whole += posterior[q]
            value += highest + math.log(whole) - math.log1p(-mass)
            upper = 0.0
            for q in range(Q):
                posterior[q] /= whole
                total[q] += posterior[q] + unseen[q]
                if q >= Q // 2:
                    upper += posterior[q]
            exists[c] = min(upper, 1.0)
            for i in range(member_indptr[c], member_indptr[c + 1]):
                a = answer_of_member[i]
                for q in range(Q):
                    own[a - first, q] += posterior[q]
        for q in range(Q):
            by_node[q] += total[q]
        for a in range(first, last):
            w = worker[a]
            for q in range(Q):
                marked, passed = own[a - first, q], max(0.0, total[q] - own[a - first, q])
                seen, missed = marked * tables[2, w, q], passed * tables[3, w, q]
                counts[0, w] += seen + missed
                counts[1, w] += missed
                counts[2, w] += marked - seen + passed - missed
                counts[3, w] += marked - seen
    return value
