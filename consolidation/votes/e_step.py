"""One pass over a vote table under any likelihood table a worker: posteriors, and the counts that teach of workers.

For methods whose likelihoods of K x K answers are neither confusion matrices with a Dirichlet prior (``engine.py``) nor
a single number a worker. Nothing here knows what the likelihoods mean or when to stop.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.em import magic_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["FLOOR", "Counts", "expect"]

_VOTES_BEFORE_RESCALE: Final = 8
FLOOR: Final = 1e-30  # no likelihood is below: eight of them multiplied are still a normal number


class Counts:
    """Posteriors counted by worker and answer, and by class; whole numbers, so in any order alike (see ``em.py``)."""

    def __init__(self, votes: Votes) -> None:
        W, K = votes.n_workers, votes.n_classes
        taught = (np.diff(votes.indptr) > 0) | (votes.gold >= 0)
        weight = np.ones(votes.n_items) if votes.item_weight is None else votes.item_weight
        largest = float(weight.max(initial=0.0)) or 1.0
        busiest = int(np.bincount(votes.worker_of_vote, minlength=1).max()) if votes.n_votes else 0
        self.sums = np.zeros((W, K, K), np.int64)  # worker, answer, true class
        self.item_weight = weight / largest
        self.magic = magic_for(max(busiest, votes.n_items))
        self._unit = self.magic * 2.0**-52 * largest
        self._class_weight = (self.item_weight * taught)[:, None]
        self._worker_weight = np.ones(W) if votes.worker_weight is None else votes.worker_weight
        self._history = votes.history

    def of_classes(self, posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many items each class has, without those that have neither votes nor gold, shape (K,)."""
        weighed = posterior * self._class_weight + self.magic
        whole = weighed.view(np.int64) - np.float64(self.magic).view(np.int64)
        mass: NDArray[np.float64] = whole.sum(axis=0) * self._unit
        return mass

    def of_workers(self) -> NDArray[np.float64]:
        """Return how often each worker called true class k (middle axis) l, history included; clears the sums.

        Returns:
            Counts, shape (n_workers, K, K).
        """
        counted = self.sums.transpose(0, 2, 1) * (self._unit * self._worker_weight)[:, None, None]
        self.sums[:] = 0
        return counted if self._history is None else counted + self._history


def expect(
    votes: Votes, likelihood: NDArray[np.float64], class_prior: NDArray[np.float64], counts: Counts | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each item's posterior, shape (n_items, K), and the logarithm of its likelihood, shape (n_items,).

    Args:
        votes: the votes; each is taken as many times as its worker's weight says.
        likelihood: of each answer (last axis) given the true class (middle axis), any positive numbers, shape
            (n_workers, K, K).
        class_prior: shape (K,).
        counts: what the posteriors are added to, if anything is to be learned.
    """
    table = np.ascontiguousarray(likelihood.transpose(0, 2, 1))
    if votes.worker_weight is not None:
        table = table ** votes.worker_weight[:, None, None]
    table = np.maximum(table, FLOOR)
    posterior = np.empty((votes.n_items, votes.n_classes))
    value = np.empty(votes.n_items)
    sums = np.zeros((0, votes.n_classes, votes.n_classes), np.int64) if counts is None else counts.sums
    weight = np.ones(0) if counts is None else counts.item_weight
    magic = 1.0 if counts is None else counts.magic
    prior = np.maximum(class_prior, FLOOR)
    _pass(votes.indptr, votes.codes, votes.gold, table, prior, weight, magic, sums, posterior, value)
    return posterior, value


@kernel
def _pass(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    table: NDArray[np.float64],
    class_prior: NDArray[np.float64],
    item_weight: NDArray[np.float64],
    magic: float,
    sums: NDArray[np.int64],
    posterior: NDArray[np.float64],
    value: NDArray[np.float64],
) -> None:
    """E-step of all items, and the sums of the next M-step unless ``sums`` has no rows.

    ``table`` and ``sums`` have the worker, the answer and the true class on their axes; ``value`` takes each item's log
    likelihood.
    """
    n_items, K = posterior.shape
    offset = np.float64(magic).view(np.int64)
    share = np.empty(K)
    whole = np.empty(K, np.int64)
    for i in range(n_items):
        first, last = indptr[i], indptr[i + 1]
        if gold[i] >= 0:
            share[:] = 0.0
            share[gold[i]] = class_prior[gold[i]]
        else:
            share[:] = class_prior
        log_scale = 0.0
        for j in range(first, last):
            w, l = codes[j] // np.uint32(K), codes[j] % np.uint32(K)
            for k in range(K):
                share[k] *= table[w, l, k]
            if (j - first) % _VOTES_BEFORE_RESCALE == _VOTES_BEFORE_RESCALE - 1:
                total = share.sum()  # above 0, since no factor is below FLOOR
                log_scale += math.log(total)
                for k in range(K):
                    share[k] /= total
        total = share.sum()
        value[i] = log_scale + math.log(total)
        for k in range(K):
            share[k] /= total
            posterior[i, k] = share[k]
        if sums.shape[0] > 0:
            for k in range(K):
                whole[k] = np.float64(share[k] * item_weight[i] + magic).view(np.int64) - offset
            for j in range(first, last):
                w, l = codes[j] // np.uint32(K), codes[j] % np.uint32(K)
                for k in range(K):
                    sums[w, l, k] += whole[k]
