"""Weighted majority: a vote weighs the log odds of its worker being right. The log-odds vote itself stands here too.

S. Nitzan and J. Paroush, "Optimal Decision Rules in Uncertain Dichotomous Choice Situations", International Economic
Review 23 (1982), for more than two classes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels
from voxpop.consolidation.votes.wawa import agreement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["WeightedMajority", "WeightedMajorityState", "log_odds_posterior"]

# A vote that agrees with one of m tied classes agrees 1/m. In units of 1/720720, the least common multiple of 1 to 16,
# these are whole numbers, whose sums do not depend on the order of items.
_UNITS: Final = 720_720.0
_NEVER: Final = 1e-12
_SAME: Final = 1e-9  # class totals this close (relatively) are tied: sums of weights in another order must not decide


@dataclasses.dataclass(frozen=True)
class WeightedMajority:
    """Majority in which a vote weighs ``log((K - 1) * p / (1 - p))``, where p is its worker's accuracy.

    That is the best rule if a worker is right with probability p whatever the class, errs evenly, and all classes are
    as frequent; the posterior is the probability of each class under these assumptions. A worker below chance,
    p < 1/K, speaks against the class they choose. An item without votes has equal shares, a gold item its gold class.

    What the accuracy is learned from, in one pass:

    - with gold: the worker's votes on gold items, right if they are the gold class;
    - without any gold: all votes on items that others voted on too, right if the class is the one that the other
      workers there chose most (1/m right if it is one of m that they chose as often). A worker's own votes are left
      out, so that nobody is right for having been followed by nobody else;
    - in both cases the worker's history besides.

    With n such votes, of which r are right, ``p = (smoothing * mean + r) / (smoothing + n)``: the worker has
    ``smoothing`` votes of mean accuracy besides their own, where ``mean = (sum of r + 1) / (sum of n + 2)`` over all
    workers. So workers without votes on gold items count as average, and with little gold this is close to majority.

    Votes count in r and n by the weights of item and worker; a worker's weight multiplies the weight of their votes
    too. A worker's quality is p.

    Attributes:
        smoothing: how many votes of mean accuracy each worker has besides their own; more than 0.
        seed: breaks ties.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    smoothing: float = 4.0
    seed: int = 0
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        if not 0 < self.smoothing < math.inf:
            raise ValueError(f"smoothing is {self.smoothing!r}; expected more than 0")
        if not self.refit_growth >= 1:
            raise ValueError(f"refit_growth is {self.refit_growth!r}; expected at least 1")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "weighted_majority"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers."""
        votes = annotations
        right, total = agreement(votes, votes.gold.astype(np.int64))  # and the history
        if not (votes.gold >= 0).any():
            others_right, others_total = _agreement_with_others(votes)
            right, total = right + others_right, total + others_total
        mean = (right.sum() + 1) / (total.sum() + 2)
        accuracy = (self.smoothing * mean + right) / (self.smoothing + total)
        return self.label(votes, Learned({"accuracy": accuracy}, {}))

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the vote weighted by accuracies that were learned before."""
        accuracy = learned.workers["accuracy"]
        posterior = log_odds_posterior(votes, accuracy)
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=accuracy,
            learned=learned,
        )

    def state(self) -> WeightedMajorityState:
        """Start an empty stream."""
        return WeightedMajorityState(self)


class WeightedMajorityState(LearningState[WeightedMajority]):
    """The stream of ``WeightedMajority``: the vote weighted by the workers' accuracies as of the last fit."""

    method_type = WeightedMajority


def log_odds_posterior(votes: Votes, accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each class if workers err evenly and all classes are as frequent, shape (n_items, K).

    Args:
        votes: the votes; a worker's weight is the power to which their votes' likelihoods are raised.
        accuracy: how often each worker is right, 0..1, shape (n_workers,); nobody is believed to be
            closer than 1e-12 to never or always right.
    """
    others = max(votes.n_classes - 1, 1)
    believed = np.clip(accuracy, _NEVER, 1 - _NEVER)
    log_odds = np.log(others * believed / (1 - believed))
    if votes.worker_weight is not None:
        log_odds = log_odds * votes.worker_weight
    posterior = np.zeros((votes.n_items, votes.n_classes))
    _posterior(votes.indptr, votes.codes, votes.gold, log_odds, posterior)
    return posterior


def _agreement_with_others(votes: Votes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many votes of each worker agree with the others', and how many can be compared, (n_workers,)."""
    item_weight = np.ones(votes.n_items) if votes.item_weight is None else votes.item_weight
    worker_weight = np.ones(votes.n_workers) if votes.worker_weight is None else votes.worker_weight
    right, total = np.zeros(votes.n_workers), np.zeros(votes.n_workers)
    _leave_one_out(votes.indptr, votes.codes, votes.n_classes, item_weight, worker_weight, right, total)
    return right * worker_weight / _UNITS, total * worker_weight


@kernel
def _posterior(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    log_odds: NDArray[np.float64],
    posterior: NDArray[np.float64],
) -> None:
    n_items, K = posterior.shape
    for i in range(n_items):
        if gold[i] >= 0:
            posterior[i, gold[i]] = 1.0
            continue
        for j in range(indptr[i], indptr[i + 1]):
            w = codes[j] // np.uint32(K)
            posterior[i, codes[j] - w * np.uint32(K)] += log_odds[w]
        top = posterior[i, 0]
        for k in range(1, K):
            top = max(top, posterior[i, k])
        total = 0.0
        for k in range(K):
            posterior[i, k] = math.exp(posterior[i, k] - top)
            total += posterior[i, k]
        for k in range(K):
            posterior[i, k] /= total


@kernel
def _leave_one_out(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    item_weight: NDArray[np.float64],
    worker_weight: NDArray[np.float64],
    right: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    """Compare each worker's votes on an item with the others' there; ``right`` counts in ``1 / _UNITS``."""
    K = n_classes
    all_votes = np.empty(K)
    others = np.empty(K)
    for i in range(indptr.size - 1):
        first, last = indptr[i], indptr[i + 1]
        all_votes[:] = 0.0
        for j in range(first, last):
            all_votes[codes[j] % np.uint32(K)] += worker_weight[codes[j] // np.uint32(K)]
        j = first
        while j < last:  # votes of one worker stand together
            w = codes[j] // np.uint32(K)
            end = j
            for k in range(K):
                others[k] = all_votes[k]
            while end < last and codes[end] // np.uint32(K) == w:
                others[codes[end] % np.uint32(K)] -= worker_weight[w]
                end += 1
            top = 0.0
            for k in range(K):
                top = max(top, others[k])
            if top > _SAME * worker_weight[w]:  # otherwise nobody else voted: what is left is rounding
                tied = 0
                for k in range(K):
                    tied += others[k] >= top * (1 - _SAME)
                share = np.rint(_UNITS / tied)
                for vote in range(j, end):
                    total[w] += item_weight[i]
                    if others[codes[vote] % np.uint32(K)] >= top * (1 - _SAME):
                        right[w] += item_weight[i] * share
            j = end
