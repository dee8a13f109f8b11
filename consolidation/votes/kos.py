"""KOS: messages between items and workers tell whom to believe, without a model of how they err.

D. Karger, S. Oh and D. Shah, "Iterative Learning for Reliable Crowdsourcing Systems", NeurIPS 2011, and "Budget-Optimal
Task Allocation for Reliable Crowdsourcing Systems", Operations Research 62 (2014).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels, mix, name_keys
from voxpop.consolidation.votes.wawa import agreement, share_right, weighted_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["KOS", "KOSState"]

# What rounding leaves of sums that cancel must not grow to a message: it is 0, relative to the sum of absolute values.
_ROUNDING: Final = 1e-12
_TINY: Final = 1e-300


@dataclasses.dataclass(frozen=True)
class KOS:
    """Message passing between items and workers, a power iteration that leaves out what the receiver said.

    *Messages.* With two classes a vote is A = +1 or -1. In turn, an item tells each of its workers the vote of its
    other workers, weighted with their messages, ``x = sum of A y``; and a worker tells each of their items how far
    they agree with their other items' messages, ``y = sum of A x``. The first ``y`` are drawn from a normal
    distribution with mean 1 and variance 1, by the seed and the names of item and worker.

    *More than two classes.* One-vs-rest for all classes at once: a vote is the vector of 1 - 1/K at its class and -1/K
    elsewhere, an item's message a vector, a worker's message one number, shared by the classes. With two classes this
    is the paper's (times 1/2), and renaming classes changes nothing.

    *Uneven crowds.* The paper has every worker give as many votes. Where they do not, sums listen to the busiest
    workers and to whoever met them, and labels can be as bad as chance. So a worker's message is the mean over their
    other items; if all give as many votes that is the paper's message up to a constant factor. ``average=False``
    keeps sums.

    *Labels.* Each worker weighs as much as their message, all their items included; a worker with a negative message
    speaks for the other classes, in equal shares. The paper leaves out the item that is labeled here too. For two
    classes and settled sums this comes to the same, as the parts left out then point where the rest does; it is what
    lets new items be labeled without another fit. The posterior is the share of these weights, no calibrated
    probability. Where no voter has a message, as where votes form no loop of items and workers, it is the share of
    votes; an item without votes has equal shares, a gold item its gold class.

    *What is known.* A gold item's message is its gold class, with the weight that the other voters of an average vote
    would have had, had they all chosen it. History counts as that many such items. A worker with weight m counts as
    one who gave each vote m times; an item's weight multiplies its messages to workers.

    A worker's quality is the share of their votes, history included, that agree with the labels; of workers without
    votes the mean of the others. Several votes of one worker on an item are left out together.

    Attributes:
        max_iter: the most iterations, at least 1.
        tol: stops when no worker's message changes by more than this share of the largest; 0 for ``max_iter``
            iterations.
        average: whether a worker's message is a mean; False for a sum, as published.
        seed: draws the first messages and breaks ties.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
    average: bool = True
    seed: int = 0
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", self.tol >= 0, "0 or more"),
            ("refit_growth", self.refit_growth >= 1, "at least 1"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "kos"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers."""
        votes = annotations
        message, n_iter = self._pass_messages(votes)
        labels = choose_labels(_shares_by(votes, message), votes.items, votes.classes, self.seed)
        quality = share_right(*agreement(votes, labels))
        return self.label(votes, Learned({"message": message, "quality": quality}, {"n_iter": np.array([n_iter])}))

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the vote weighted by messages that were learned before."""
        posterior = _shares_by(votes, learned.workers["message"])
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=learned.workers["quality"],
            n_iter=int(learned.shared["n_iter"][0]),
            learned=learned,
        )

    def state(self) -> KOSState:
        """Start an empty stream."""
        return KOSState(self)

    def _pass_messages(self, votes: Votes) -> tuple[NDArray[np.float64], int]:
        """Return each worker's message over all their items, shape (n_workers,), and the number of iterations."""
        K = votes.n_classes
        item_weight = np.ones(votes.n_items) if votes.item_weight is None else votes.item_weight
        weight = np.ones(votes.n_workers) if votes.worker_weight is None else votes.worker_weight
        given, known = _counts(votes, item_weight, weight)
        others = _mean_other_voters(votes, item_weight, weight)
        y = np.empty(votes.n_votes)
        item_keys = mix(name_keys(votes.items) + np.uint64(self.seed * 0x9E3779B97F4A7C15 % 2**64))
        _draw(votes.indptr, votes.codes, K, item_keys, mix(name_keys(votes.workers)), y)
        divisor = np.maximum(given, _TINY) if self.average else np.ones(votes.n_workers)
        message, spread = np.zeros(votes.n_workers), np.empty(votes.n_workers)
        n_iter = 0
        while n_iter < self.max_iter:
            n_iter += 1
            before = message
            size = others * float(np.abs(y).mean())  # of a gold item's message
            message = size * known
            np.abs(message, out=spread)
            _to_workers(votes.indptr, votes.codes, votes.gold, K, item_weight, weight, size, y, message, spread)
            largest = _to_items(
                votes.indptr, votes.codes, K, item_weight, weight, message, spread, given, self.average, y
            )
            if not largest > 0:  # no loop of items and workers: messages die out
                return np.zeros(votes.n_workers), n_iter
            y /= largest
            message = np.where(np.abs(message) > _ROUNDING * spread, message, 0.0) / (divisor * largest)
            if self.tol > 0 and np.abs(message - before).max() <= self.tol:
                break
        return message, n_iter


class KOSState(LearningState[KOS]):
    """The stream of ``KOS``: the vote weighted by the workers' messages as of the last fit."""

    method_type = KOS


def _shares_by(votes: Votes, message: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each class's share of the votes weighted by messages, shape (n_items, K)."""
    weight = message if votes.worker_weight is None else message * votes.worker_weight
    shares = weighted_shares(votes, np.ones(votes.n_workers))
    _weigh(votes.indptr, votes.codes, votes.gold, weight, shares)
    return shares


def _counts(
    votes: Votes, item_weight: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each worker's number of votes, history included, and how far the history agrees with the truth."""
    per_vote = np.repeat(item_weight, np.diff(votes.indptr))
    given = weight * np.bincount(votes.worker_of_vote, weights=per_vote, minlength=votes.n_workers)
    if votes.history is None:
        return given, np.zeros(votes.n_workers)
    seen = votes.history.sum(axis=(1, 2))
    return given + seen, np.trace(votes.history, axis1=1, axis2=2) - seen / votes.n_classes


def _mean_other_voters(votes: Votes, item_weight: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return how many others voted on the item of a vote, on average, and at least 1."""
    of_vote = weight[votes.worker_of_vote]
    on_item = np.bincount(votes.item_of_vote, weights=of_vote, minlength=votes.n_items)
    counted = float((item_weight * on_item).sum())
    others = float((item_weight[votes.item_of_vote] * of_vote * (on_item[votes.item_of_vote] - of_vote)).sum())
    return max(others / counted, 1.0) if counted > 0 else 1.0


def _mean(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def _largest_mean(total: NDArray[np.float64], count: NDArray[np.float64]) -> float:
    return float(np.abs(_mean(total, count)).max())


@kernel
def _draw(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    item_keys: NDArray[np.uint64],
    worker_keys: NDArray[np.uint64],
    y: NDArray[np.float64],
) -> None:
    """Draw a first message for each item and worker from the normal distribution around 1 (Box and Muller, 1958)."""
    for i in range(indptr.size - 1):
        for j in range(indptr[i], indptr[i + 1]):
            key = item_keys[i] ^ worker_keys[codes[j] // np.uint32(n_classes)]
            key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64
            key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            key ^= key >> np.uint64(31)
            radius = (np.float64(key >> np.uint64(32)) + 0.5) * 2.0**-32
            angle = np.float64(key & np.uint64(0xFFFFFFFF)) * 2.0**-32
            y[j] = 1.0 + math.sqrt(-2.0 * math.log(radius)) * math.cos(2.0 * math.pi * angle)


@kernel
def _to_workers(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    n_classes: int,
    item_weight: NDArray[np.float64],
    weight: NDArray[np.float64],
    size: float,
    y: NDArray[np.float64],
    message: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> None:
    """Replace each vote's ``y`` by its agreement with the item's message to its worker, and add that to the worker's.

    ``spread`` sums the absolute values of what ``message`` sums.
    """
    K = n_classes
    said = np.empty(K)
    for i in range(indptr.size - 1):
        first, last = indptr[i], indptr[i + 1]
        if gold[i] >= 0:
            for j in range(first, last):
                w = codes[j] // np.uint32(K)
                right = np.int64(codes[j] - w * np.uint32(K)) == gold[i]
                y[j] = size * ((1.0 if right else 0.0) - 1.0 / K)
                message[w] += item_weight[i] * weight[w] * y[j]
                spread[w] += item_weight[i] * weight[w] * abs(y[j])
            continue
        said[:] = 0.0
        total, noise = 0.0, 0.0
        for j in range(first, last):
            w = codes[j] // np.uint32(K)
            said[codes[j] - w * np.uint32(K)] += weight[w] * y[j]
            total += weight[w] * y[j]
            noise += weight[w] * abs(y[j])
        noise *= _ROUNDING
        j = first
        while j < last:  # votes of one worker stand together and carry one message
            w = codes[j] // np.uint32(K)
            own = weight[w] * y[j]
            end = j
            while end < last and codes[end] // np.uint32(K) == w:
                said[codes[end] - w * np.uint32(K)] -= own
                end += 1
            rest = total - own * (end - j)
            for vote in range(j, end):
                told = said[codes[vote] - w * np.uint32(K)] - rest / K
                y[vote] = told if abs(told) > noise else 0.0
                message[w] += item_weight[i] * weight[w] * y[vote]
                spread[w] += item_weight[i] * weight[w] * abs(y[vote])
            for vote in range(j, end):
                said[codes[vote] - w * np.uint32(K)] += own
            j = end


@kernel
def _to_items(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    item_weight: NDArray[np.float64],
    weight: NDArray[np.float64],
    message: NDArray[np.float64],
    spread: NDArray[np.float64],
    given: NDArray[np.float64],
    average: bool,  # noqa: FBT001 - kernels take plain positional arguments
    y: NDArray[np.float64],
) -> float:
    """Replace what each vote added to its worker's message by the worker's message to the item, without it.

    Returns the largest absolute value of the messages.
    """
    K = np.uint32(n_classes)
    largest = 0.0
    for i in range(indptr.size - 1):
        last = indptr[i + 1]
        j = indptr[i]
        while j < last:
            w = codes[j] // K
            share = item_weight[i] * weight[w]
            left, count = message[w], given[w]
            end = j
            while end < last and codes[end] // K == w:
                left -= share * y[end]
                count -= share
                end += 1
            if abs(left) <= _ROUNDING * spread[w] or count <= _ROUNDING * given[w]:
                left = 0.0
            elif average:
                left /= count
            largest = max(largest, abs(left))
            for vote in range(j, end):
                y[vote] = left
            j = end
    return largest


@kernel
def _weigh(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    weight: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> None:
    """Replace the shares of items whose votes weigh anything; a negative weight counts for all other classes alike."""
    n_items, K = shares.shape
    said = np.empty(K)
    for i in range(n_items):
        total, against = 0.0, 0.0
        said[:] = 0.0
        for j in range(indptr[i], indptr[i + 1]):
            w = codes[j] // np.uint32(K)
            label = codes[j] - w * np.uint32(K)
            total += abs(weight[w])
            if weight[w] >= 0:
                said[label] += weight[w]
            elif K > 1:
                against -= weight[w] / (K - 1)
                said[label] += weight[w] / (K - 1)
        if gold[i] < 0 and total > 0.0 and K > 1:
            for k in range(K):
                shares[i, k] = min(max((said[k] + against) / total, 0.0), 1.0)  # but for rounding it is
