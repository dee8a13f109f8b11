"""MMSR: worker accuracies from who agrees with whom, completed as a rank-one matrix and robust to adversaries.

Q. Ma and A. Olshevsky, "Adversarial Crowdsourcing Through Robust Rank-One Matrix Completion", NeurIPS 2020.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from voxpop.consolidation.jit import Team, available_threads, kernel
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels
from voxpop.consolidation.votes.wawa import agreement
from voxpop.consolidation.votes.weighted_majority import log_odds_posterior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["MMSR", "MMSRState"]

_MAX_PAIRS: Final = 2**26  # pairs (worker, other worker) that share an item: 20 bytes each
_PAIRS_PER_BLOCK: Final = 32_768  # blocks are shared among threads
_ZERO: Final = 1e-9  # skills below are 0 but for rounding
_SAME: Final = 1e-12  # values this close (relatively) to the current one are neither above nor below: rounding
_SIGN_ITERATIONS: Final = 500
_SIGN_TOLERANCE: Final = 1e-6


@dataclasses.dataclass(frozen=True)
class MMSR:
    """Matrix mean-subsequence-reduced: log-odds vote with skills that explain how often pairs of workers agree.

    *Agreement.* If workers err evenly and worker j is right with probability ``p = (1 + (K - 1) * s) / K``, two of them
    agree such that ``(K * share - 1) / (K - 1)`` has the mean ``s_i * s_j``: a matrix of rank one, of which the pairs
    with common items are seen.

    *Completion.* Two vectors in turn: ``v_j`` becomes the mean of ``|C_ij| / u_i`` over j's neighbours i, without the F
    largest values above the current one and the F smallest below; then u likewise from v. ``|s_j|`` is the root of
    ``u_j * v_j``, so that groups of workers who never met do not scale each other. Up to F neighbours who do not follow
    the model cannot move it far. F is half the number of neighbours less one, at least 0. The paper's program takes the
    F of the worker with the fewest neighbours for all; one worker with two neighbours would then switch it off. It
    draws the first u and v; here they are 1.

    *Signs.* They come from the leading eigenvector of the matrix of shared answers times C, each row divided by the sum
    of its absolute values, starting from all positive: of two camps that contradict each other the one with more shared
    answers is right. What is known of gold and history counts there as agreement with a worker who is always right.

    *Labels.* As by ``WeightedMajority``: a vote weighs ``log((K - 1) * p / (1 - p))`` and the posterior is the
    probability of each class if classes are as frequent. As in the paper, s stays ``1 / sqrt(number of items)`` (at
    most 1/2) away from its bounds.

    *What is known.* A worker's p is the mean over their votes: votes on gold items and history are right or not, all
    others are right with the p found above. Workers who share no item with anybody have the mean s of the others.
    Weights of items and workers count in the shares of agreement, weights of workers in the labels too. A worker's
    quality is p. An item without votes has equal shares, a gold item its gold class.

    *Reach.* ``|C_ij|`` of a pair with few common items is mostly noise: with two classes and one common item it is
    always 1. The method needs workers who share dozens of items; where most pairs share one or two, all skills look
    alike and the labels are about those of majority. Time and memory grow with the pairs of workers who share an item,
    up to 2**26 ordered pairs (8,192 workers who all met, or 20,000 who met 3,300 others each): 1.3 GB.

    Attributes:
        max_iter: the most rounds of the completion; at least 1.
        tol: stops when no s**2 changes by more than this; 0 for ``max_iter`` rounds.
        seed: breaks ties.
        threads: how many threads; by default as many as the process may use. The answer does not depend on it.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
    seed: int = 0
    threads: int | None = None
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", self.tol >= 0, "0 or more"),
            ("threads", self.threads is None or self.threads >= 1, "at least 1, or None for all"),
            ("refit_growth", self.refit_growth >= 1, "at least 1"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mmsr"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers.

        Raises:
            VotesError: more pairs of workers share an item than fit in memory.
        """
        votes = annotations
        item_weight = np.ones(votes.n_items) if votes.item_weight is None else votes.item_weight
        pairs = _pairs_of(votes, item_weight)
        labeled = float(item_weight[np.diff(votes.indptr) > 0].sum())
        chance = 1 / np.sqrt(labeled) if labeled > 0 else 1.0  # what a skill of 0 looks like, in the paper
        size, n_iter = self._complete(pairs, chance)
        skill = size * _signs(votes, pairs)
        met = np.diff(pairs.indptr) > 0
        if met.any():
            skill[~met] = skill[met].mean()
        accuracy = _accuracy(votes, skill, min(chance, 0.5))
        return self.label(votes, Learned({"accuracy": accuracy}, {"n_iter": np.array([n_iter])}))

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
            n_iter=int(learned.shared["n_iter"][0]),
            learned=learned,
        )

    def state(self) -> MMSRState:
        """Start an empty stream."""
        return MMSRState(self)

    def _complete(self, pairs: _Pairs, chance: float) -> tuple[NDArray[np.float64], int]:
        """Return the size of each worker's skill, shape (n_workers,), and the number of rounds."""
        W = pairs.indptr.size - 1
        u, v = np.ones(W), np.ones(W)
        n_blocks = max(1, pairs.other.size // _PAIRS_PER_BLOCK)
        bounds = np.searchsorted(pairs.indptr, np.linspace(0, pairs.other.size, n_blocks + 1))
        bounds[0], bounds[-1] = 0, W

        wanted = available_threads() if self.threads is None else self.threads
        n_iter = 0
        with Team(min(wanted, n_blocks)) as team:

            def reduce_means(known: NDArray[np.float64], means: NDArray[np.float64]) -> None:
                def work(_thread: int, blocks: range) -> None:
                    start, stop = int(bounds[blocks.start]), int(bounds[blocks.stop])
                    _reduce_means(pairs.indptr, pairs.other, pairs.agreement, known, means, chance, start, stop)

                team.run(work, n_blocks)

            while n_iter < self.max_iter:
                n_iter += 1
                before = u * v
                reduce_means(u, v)
                reduce_means(v, u)
                if np.abs(u * v - before).max() <= self.tol and self.tol > 0:
                    break
        return np.sqrt(u * v), n_iter


class MMSRState(LearningState[MMSR]):
    """The stream of ``MMSR``: the vote weighted by the workers' accuracies as of the last fit."""

    method_type = MMSR


class _Pairs(NamedTuple):
    """Who shares items with whom: compressed rows by worker, other workers ascending.

    ``agreement`` is C of the class's docstring, ``shared`` the number of shared answers.
    """

    indptr: NDArray[np.int64]
    other: NDArray[np.int32]
    agreement: NDArray[np.float64]
    shared: NDArray[np.float64]


def _pairs_of(votes: Votes, item_weight: NDArray[np.float64]) -> _Pairs:
    worker_weight = np.ones(votes.n_workers) if votes.worker_weight is None else votes.worker_weight
    by_worker = np.argsort(votes.worker_of_vote, kind="stable")
    item = votes.item_of_vote[by_worker]
    label = votes.label_of_vote[by_worker]
    rows = np.searchsorted(votes.worker_of_vote[by_worker], np.arange(votes.n_workers + 1))
    indptr = np.zeros(votes.n_workers + 1, np.int64)
    counted = (votes.indptr, votes.codes, votes.n_classes, rows, item, label, item_weight, worker_weight)
    _count_pairs(*counted, indptr)
    n_pairs = int(indptr[-1])
    if n_pairs > _MAX_PAIRS:
        raise VotesError(
            f"{n_pairs // 2} pairs of {votes.n_workers} workers share an item; expected at most {_MAX_PAIRS // 2}, "
            "which take 1.3 GB; use a method that does not compare workers by pairs, such as weighted_majority"
        )
    pairs = _Pairs(indptr, np.empty(n_pairs, np.int32), np.empty(n_pairs), np.empty(n_pairs))
    _fill_pairs(*counted, *pairs)
    return pairs


def _signs(votes: Votes, pairs: _Pairs) -> NDArray[np.float64]:
    """Return for each worker 1 if they tend to be right, -1 if they tend to be wrong, 0 if it cannot be told."""
    K = votes.n_classes
    right, known = agreement(votes, votes.gold.astype(np.int64))
    with_truth = (K * right - known) / max(K - 1, 1)
    sign = np.ones(votes.n_workers)
    for _ in range(_SIGN_ITERATIONS):
        before = sign.copy()
        _spread_signs(pairs.indptr, pairs.other, pairs.agreement, pairs.shared, with_truth, before, sign)
        largest = np.abs(sign).max()
        if largest <= _ZERO:
            break
        sign /= largest
        if np.abs(sign - before).max() <= _SIGN_TOLERANCE:
            break
    return np.where(np.abs(sign) > _ZERO, np.sign(sign), 0.0)


def _accuracy(votes: Votes, skill: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """Return how often each worker is right, known votes counted as they are, shape (n_workers,)."""
    K = votes.n_classes
    others = max(K - 1, 1)
    low, high = -1 / others + margin, 1 - margin
    accuracy = (1 + others * np.clip(skill, low, high)) / (others + 1)
    right, known = agreement(votes, votes.gold.astype(np.int64))
    total = agreement(votes, np.zeros(votes.n_items, np.int64))[1]
    counted = np.divide(right + (total - known) * accuracy, total, out=accuracy.copy(), where=total > 0)
    return np.clip(counted, (1 + others * low) / (others + 1), (1 + others * high) / (others + 1))


@kernel
def _count_pairs(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    rows: NDArray[np.int64],
    item: NDArray[np.int64],
    label: NDArray[np.int64],  # noqa: ARG001 - the arguments of _fill_pairs
    item_weight: NDArray[np.float64],
    worker_weight: NDArray[np.float64],
    pair_indptr: NDArray[np.int64],
) -> None:
    """Count with how many other workers each shares an item that counts, and add the counts up."""
    W = rows.size - 1
    met_by = np.zeros(W, np.int64)  # the last worker who was found to share an item with this one, from 1
    for w in range(W):
        met = 0
        for j in range(rows[w], rows[w + 1]):
            if item_weight[item[j]] * worker_weight[w] == 0.0:
                continue
            for at in range(indptr[item[j]], indptr[item[j] + 1]):
                other = codes[at] // np.uint32(n_classes)
                if met_by[other] != w + 1 and worker_weight[other] > 0.0:
                    met_by[other] = w + 1
                    met += other != w
        pair_indptr[w + 1] = pair_indptr[w] + met


@kernel
def _fill_pairs(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    rows: NDArray[np.int64],
    item: NDArray[np.int64],
    label: NDArray[np.int64],
    item_weight: NDArray[np.float64],
    worker_weight: NDArray[np.float64],
    pair_indptr: NDArray[np.int64],
    others: NDArray[np.int32],
    agreement: NDArray[np.float64],
    shared: NDArray[np.float64],
) -> None:
    """Add up one worker's row after the other, in a dense row of sums, as in sparse matrix products (Gustavson, 1978).

    The matrix is symmetric: what is found for a worker is written into the rows of the others, which are thus sorted.
    """
    W = rows.size - 1
    K = np.uint32(n_classes)
    same, both = np.zeros(W), np.zeros(W)
    met = np.empty(W, np.int64)
    filled = np.zeros(W, np.int64)
    for w in range(W):
        n_met = 0
        for j in range(rows[w], rows[w + 1]):
            for at in range(indptr[item[j]], indptr[item[j] + 1]):
                other = np.int64(codes[at] // K)
                weight = item_weight[item[j]] * worker_weight[w] * worker_weight[other]
                if other == w or weight == 0.0:
                    continue
                if both[other] == 0.0:
                    met[n_met] = other
                    n_met += 1
                both[other] += weight
                if np.int64(codes[at] % K) == label[j]:
                    same[other] += weight
        for m in range(n_met):
            other = met[m]
            at = pair_indptr[other] + filled[other]
            filled[other] += 1
            others[at] = w
            agreement[at] = (n_classes * same[other] - both[other]) / (max(n_classes - 1, 1) * both[other])
            shared[at] = both[other]
            same[other] = both[other] = 0.0


@kernel
def _select(values: NDArray[np.float64], n: int, k: int) -> None:
    """Reorder ``values[:n]`` so that the ``k`` smallest stand first (Hoare's selection, 1961); k is below n."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            return


@kernel
def _reduce_means(
    indptr: NDArray[np.int64],
    other: NDArray[np.int32],
    agreement: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    chance: float,
    start: int,
    stop: int,
) -> None:
    """Set ``v`` of the workers ``start:stop`` to the mean of their neighbours' values without the farthest from it."""
    most = 0
    for w in range(start, stop):
        most = max(most, indptr[w + 1] - indptr[w])
    below, above = np.empty(most), np.empty(most)
    for w in range(start, stop):
        n = indptr[w + 1] - indptr[w]
        if n == 0:
            continue
        F = max(n // 2 - 1, 0)
        n_below, n_above = 0, 0
        total = 0.0
        for at in range(indptr[w], indptr[w + 1]):
            value = abs(agreement[at]) / u[other[at]]
            if value < v[w] * (1.0 - _SAME):
                below[n_below] = value
                n_below += 1
            elif value > v[w] * (1.0 + _SAME):
                above[n_above] = value
                n_above += 1
            else:
                total += value
        drop_below, drop_above = min(F, n_below), min(F, n_above)
        if drop_below < n_below:
            _select(below, n_below, drop_below)
        if 0 < drop_above < n_above:
            _select(above, n_above, n_above - drop_above)
        for at in range(drop_below, n_below):
            total += below[at]
        for at in range(n_above - drop_above):
            total += above[at]
        left = n - drop_below - drop_above
        value = total / left
        v[w] = value if value > _ZERO else chance


@kernel
def _spread_signs(
    indptr: NDArray[np.int64],
    other: NDArray[np.int32],
    agreement: NDArray[np.float64],
    shared: NDArray[np.float64],
    with_truth: NDArray[np.float64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
) -> None:
    """Move each sign half way to what its neighbours, and the truth, say of the worker."""
    for w in range(indptr.size - 1):
        total, weight = with_truth[w], abs(with_truth[w])
        for at in range(indptr[w], indptr[w + 1]):
            pull = agreement[at] * shared[at]
            total += pull * before[other[at]]
            weight += abs(pull)
        after[w] = (before[w] + (total / weight if weight > 0.0 else 0.0)) / 2
