"""Latent classes anchored to the vote shares: the models that ``Auto`` averages.

A class has one subtype, or two: items on which people agree, and items on which they do not. Each worker has a row of
answer probabilities a subtype. Items teach by their posterior mixed with their vote shares, the fewer votes they have
the more by the shares: so labels cannot drift away from what was said, which is how expectation-maximisation falls
below a majority vote on sparse crowds.

Posteriors are summed as whole numbers, so that neither threads nor the order of votes change a byte.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import Team, kernel
from voxpop.consolidation.votes.engine import item_blocks, item_weights, threads_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["AnchoredModel", "fit_anchored", "label_anchored", "vote_shares"]

_ONE: Final = 2.0**32  # a probability of 1 in the sums: 2e-10 is the unit, and two billion votes of one worker fit
_ANCHOR_VOTES: Final = 1.0  # an item with so many votes teaches half by its shares
_ABILITY_ANSWERS: Final = 4.0  # of the average worker, believed of each before their own ability
_LEAST, _MOST = 1e-3, 1 - 1e-3  # of a probability whose odds are taken


@dataclasses.dataclass(frozen=True, eq=False)
class AnchoredModel:
    """What a fit found; ``S`` is K or 2 K, subtype ``s`` is one of class ``s % K``.

    Attributes:
        answers: probability of each answer (middle axis) given the subtype (last axis), shape (n_workers, K, S).
        log_prior: log share of each subtype, shape (S,).
        class_of: the class that an item of each subtype is labeled, int64, shape (S,).
        n_iter: number of iterations.
    """

    answers: NDArray[np.float64]
    log_prior: NDArray[np.float64]
    class_of: NDArray[np.int64]
    n_iter: int


def vote_shares(votes: Votes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each item's vote shares, shape (n_items, K), 0 without votes, and its votes, weights counted, (n_items,).

    Gold plays no part here.
    """
    shares = np.zeros((votes.n_items, votes.n_classes))
    weight = np.ones(votes.n_workers) if votes.worker_weight is None else votes.worker_weight
    given = np.zeros(votes.n_items)
    _count_votes(votes.indptr, votes.codes, weight, shares, given)
    return shares, given


def fit_anchored(
    votes: Votes,
    shares: NDArray[np.float64],
    given: NDArray[np.float64],
    *,
    levels: int,
    smoothing: float,
    max_iter: int,
    tol: float,
    threads: int | None,
) -> AnchoredModel:
    """Fit a model with ``levels`` subtypes a class, 1 or 2.

    Args:
        votes: with everything that is known.
        shares: as ``vote_shares`` returns them.
        given: same.
        levels: 1, or 2 for items that are easy and hard.
        smoothing: answers that each worker's row has before any vote, as workers of their ability give them.
        max_iter: the most iterations.
        tol: stops when posteriors change by less than this an item, summed over subtypes.
        threads: how many; None for all.
    """
    start = _start(votes, shares, levels)
    anchor = _ANCHOR_VOTES / (_ANCHOR_VOTES + given)
    weight, scale = item_weights(votes)
    teaches = (given > 0) | (votes.gold >= 0)
    weight = np.where(teaches, weight if weight.size else 1.0, 0.0)
    passes = _Passes(votes, start, anchor, weight, scale, threads)
    with passes.team:
        counts, totals = passes.count(start)
        pooled = _pooled(counts)
        posterior = start.copy()
        n_iter = 0
        while True:
            answers = _maximised(counts, pooled, smoothing)
            mass = totals + 1.0 / votes.n_classes
            log_prior = np.log(mass / mass.sum())
            change = passes.expect(answers, log_prior, posterior)
            counts, totals = passes.count(posterior)
            n_iter += 1
            if n_iter == max_iter or change < tol * votes.n_items:
                break
    class_of = np.tile(np.arange(votes.n_classes), levels)
    if levels > 1:  # what people mostly answer about a hard item is what it is taken for
        class_of[votes.n_classes :] = counts.sum(axis=0).argmax(axis=0)[votes.n_classes :]
    return AnchoredModel(answers, log_prior, class_of, n_iter)


def label_anchored(votes: Votes, model: AnchoredModel) -> NDArray[np.float64]:
    """Return each item's posterior under a model, shape (n_items, K)."""
    S = model.log_prior.size
    posterior = np.zeros((votes.n_items, S))
    _expect(
        votes.indptr, votes.codes, votes.gold, votes.n_classes, _table(votes, model.answers), model.log_prior,
        posterior, 0, votes.n_items,
    )  # fmt: skip
    labels = np.zeros((votes.n_items, votes.n_classes))
    for s, k in enumerate(model.class_of.tolist()):
        labels[:, k] += posterior[:, s]
    return labels


class _Passes:
    """The two passes over the votes of one fit, block by block over threads."""

    def __init__(
        self,
        votes: Votes,
        start: NDArray[np.float64],
        anchor: NDArray[np.float64],
        weight: NDArray[np.float64],
        scale: float,
        threads: int | None,
    ) -> None:
        self.votes = votes
        self.start, self.anchor, self.weight, self.scale = start, anchor, weight, scale
        self.bounds = item_blocks(votes)
        self.team = Team(threads_for(votes, threads))
        self.sums = np.zeros((self.team.threads, votes.n_workers, votes.n_classes, start.shape[1]), np.int64)

    def expect(
        self, answers: NDArray[np.float64], log_prior: NDArray[np.float64], posterior: NDArray[np.float64]
    ) -> float:
        """Write the new posterior in the place of the old one; returns how far they are apart, summed."""
        votes, bounds, table = self.votes, self.bounds, _table(self.votes, answers)

        def work(_thread: int, blocks: range) -> int:
            return int(
                _expect(
                    votes.indptr, votes.codes, votes.gold, votes.n_classes, table, log_prior, posterior,
                    bounds[blocks.start], bounds[blocks.stop],
                )
            )  # fmt: skip

        return sum(self.team.run(work, bounds.size - 1)) / _ONE

    def count(self, posterior: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what items teach of each worker, (n_workers, K, S), history counted in, and of the subtypes, (S,)."""
        votes, bounds = self.votes, self.bounds
        S = posterior.shape[1]
        totals = np.zeros((self.team.threads, S), np.int64)
        self.sums[:] = 0

        def work(thread: int, blocks: range) -> None:
            _add(
                votes.indptr, votes.codes, self.start, self.anchor, self.weight, posterior,
                self.sums[thread].reshape(-1), totals[thread], bounds[blocks.start], bounds[blocks.stop],
            )  # fmt: skip

        self.team.run(work, bounds.size - 1)
        unit = self.scale / _ONE
        counts = self.sums.sum(axis=0) * unit
        if votes.worker_weight is not None:
            counts *= votes.worker_weight[:, None, None]
        if votes.history is not None:
            levels = S // votes.n_classes
            counts += np.tile(votes.history.transpose(0, 2, 1), (1, 1, levels)) / levels
        return counts, totals.sum(axis=0) * unit


def _start(votes: Votes, shares: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """Return the first posterior: with two levels the chance that two votes agree on a class is the easy part of it."""
    p = shares.copy()
    voiceless = np.flatnonzero(p.sum(axis=1) == 0)
    p[voiceless] = 1.0 / votes.n_classes
    easy = p * p
    known = np.flatnonzero(votes.gold >= 0)
    agreed = p[known, votes.gold[known]]
    p[known] = easy[known] = 0.0
    p[known, votes.gold[known]] = 1.0
    easy[known, votes.gold[known]] = agreed
    return p if levels == 1 else np.concatenate([easy, p - easy], axis=1)


def _pooled(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how all workers together answer, shape (K, S); rare subtypes borrow K answers of average accuracy."""
    _, K, S = counts.shape
    own, subtype = np.arange(S) % K, np.arange(S)
    pooled = counts.sum(axis=0)
    right = (pooled[own, subtype].sum() + 1) / (pooled.sum() + 2)
    borrowed = np.full((K, S), (1 - right) / max(K - 1, 1))
    borrowed[own, subtype] = right if K > 1 else 1.0
    pooled = pooled + K * borrowed
    normal: NDArray[np.float64] = pooled / pooled.sum(axis=0)
    return normal


def _maximised(counts: NDArray[np.float64], pooled: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """Return each worker's answer probabilities, shrunk towards the pooled ones at the worker's own ability.

    A worker's ability is the odds of being right against what the pooled rows expect of somebody with these items.
    """
    _, K, S = counts.shape
    own, subtype = np.arange(S) % K, np.arange(S)
    expected = np.clip(pooled[own, subtype], _LEAST, _MOST)
    seen = counts.sum(axis=1)
    total = seen.sum(axis=1) + _ABILITY_ANSWERS
    average = np.clip((seen @ expected + _ABILITY_ANSWERS * expected.mean()) / total, _LEAST, _MOST)
    right = counts[:, own, subtype].sum(axis=1)
    ability = np.clip((right + _ABILITY_ANSWERS * average) / total, _LEAST, _MOST)
    odds = (ability / (1 - ability) / (average / (1 - average)))[:, None] * (expected / (1 - expected))
    believed = odds / (1 + odds)
    wrong = pooled.copy()
    wrong[own, subtype] = 0.0
    wrong /= np.maximum(wrong.sum(axis=0), 1e-300)
    answers: NDArray[np.float64] = (smoothing * (1 - believed))[:, None, :] * wrong
    answers[:, own, subtype] = smoothing * believed
    answers += counts
    answers /= answers.sum(axis=1, keepdims=True)
    return answers


def _table(votes: Votes, answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms that each vote adds, a row of S for each worker and answer; flat."""
    table = np.log(np.maximum(answers, 1e-12))
    if votes.worker_weight is not None:
        table *= votes.worker_weight[:, None, None]
    return np.ascontiguousarray(table).reshape(-1)


@kernel
def _count_votes(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    weight: NDArray[np.float64],
    shares: NDArray[np.float64],
    given: NDArray[np.float64],
) -> None:
    K = shares.shape[1]
    for i in range(given.size):
        for j in range(indptr[i], indptr[i + 1]):
            w = weight[codes[j] // np.uint32(K)]
            shares[i, codes[j] % np.uint32(K)] += w
            given[i] += w
        if given[i] > 0.0:
            for k in range(K):
                shares[i, k] /= given[i]


@kernel
def _expect(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    n_classes: int,
    table: NDArray[np.float64],
    log_prior: NDArray[np.float64],
    posterior: NDArray[np.float64],
    start: int,
    stop: int,
) -> int:
    """Replace the posteriors of some items; returns how far old and new are apart, in whole numbers."""
    S, K = log_prior.size, n_classes
    x = np.empty(S)
    change = np.int64(0)
    for i in range(start, stop):
        for s in range(S):
            x[s] = log_prior[s]
        for j in range(indptr[i], indptr[i + 1]):
            at = np.int64(codes[j]) * S
            for s in range(S):
                x[s] += table[at + s]
        largest = -np.inf
        for s in range(S):
            if gold[i] >= 0 and s % K != gold[i]:
                x[s] = -np.inf
            largest = max(largest, x[s])
        total = 0.0
        for s in range(S):
            x[s] = np.exp(x[s] - largest)
            total += x[s]
        for s in range(S):
            new = x[s] / total
            change += np.int64(abs(new - posterior[i, s]) * _ONE)
            posterior[i, s] = new
    return int(change)


@kernel
def _add(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    anchored: NDArray[np.float64],
    anchor: NDArray[np.float64],
    weight: NDArray[np.float64],
    posterior: NDArray[np.float64],
    sums: NDArray[np.int64],
    totals: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    S = totals.size
    taught = np.empty(S, np.int64)
    for i in range(start, stop):
        if weight[i] == 0.0:
            continue
        a = anchor[i]
        for s in range(S):
            taught[s] = np.int64(weight[i] * ((1.0 - a) * posterior[i, s] + a * anchored[i, s]) * _ONE)
            totals[s] += taught[s]
        for j in range(indptr[i], indptr[i + 1]):
            at = np.int64(codes[j]) * S
            for s in range(S):
                sums[at + s] += taught[s]
