"""Bayesian weighted average: a weighted vote on each class, weighted by how near each worker is to the others.

Y. Li, B. I. P. Rubinstein and T. Cohn, "Truth Inference at Scale: A Bayesian Model for Adjudicating Highly Redundant
Crowd Annotations", WWW 2019. The kernel stands here too: no other method uses it.

Each class is a question of its own, with the answers 1 (the vote is for it) and 0. The answer of worker w about item i
is Gaussian around the item's value, ``z[i, k]``, with the precision of the worker, ``v[w, k]``; values are Gaussian
around the class's mean with precision ``shrinkage``, and precisions have a Gamma prior worth ``prior_votes`` votes. All
three are set in turn to what is best for the others.

*Rows.* For each worker K precisions, then K sums of squared errors in whole numbers (see ``em.py``).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.bayes import Blocks, check_parameters, iterate
from voxpop.consolidation.votes.engine import aligned_zeros
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["BWA", "BWAState"]

_MAX_CONSTANT: Final = 16  # classes; beyond, code written out for their number is slower than a loop


@dataclasses.dataclass(frozen=True)
class BWA:
    """A vote weighted by each worker's precision on each class, which is learned from their distance to the outcome.

    The cheapest of the methods that learn of workers: one number a worker and class. It knows no confusions, so it
    cannot learn that a worker takes one class for another; it is hard to lead astray for the same reason.

    The posterior is the weighted share of votes, drawn a little towards the share of each class among all items. It is
    no calibrated probability. Items without votes have the class shares. A worker's quality is 1 less half the
    variance of their answers, summed over classes: with many votes the share of right ones, with few nearer to what
    the crowd's disagreement suggests, and 0 at least. Workers without votes have the prior's precision.

    The objective is the log density of votes, values and precisions, up to a constant; it never falls. Results have
    the same bytes with any number of threads, and votes in any order give the same posteriors, unless rounding of the
    objective's last bits ends the iterations one sooner or later.

    Attributes:
        max_iter: the most iterations; at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        prior_votes: votes that the prior of a worker's precision is worth; above 0.
        shrinkage: precision of items' values around the mean of the class; above 0.
        seed: breaks ties.
        threads: how many threads; by default as many as the process may use.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
    prior_votes: float = 15.0
    shrinkage: float = 1.0
    seed: int = 0
    threads: int | None = None
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        check_parameters(self, "prior_votes", "shrinkage")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "bwa"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers, from the vote shares on.

        The posterior is exactly the best one under what was learned, and the last entry of ``objective`` its value.
        """
        votes = annotations
        with Blocks(votes, self.threads) as blocks:
            model = _Precisions(blocks, self.prior_votes, self.shrinkage)
            objective = iterate(model.step, max_iter=self.max_iter, tol=self.tol, n_votes=votes.n_votes)
        shared = {"mean": model.mean, "objective": np.array(objective)}
        return self.label(votes, Learned({"precision": model.precision}, shared))

    def state(self) -> BWAState:
        """Start an empty stream."""
        return BWAState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the weighted votes under the precisions and the mean that were learned before."""
        precision, mean = learned.workers["precision"], learned.shared["mean"]
        posterior = np.empty((votes.n_items, votes.n_classes))
        with Blocks(votes, self.threads) as blocks:
            rows = aligned_zeros(1, 2 * precision.size)
            _write(rows, precision, blocks.worker_weight)
            totals = np.zeros((blocks.threads, mean.size + 1), np.int64)
            _pass(blocks, [rows[0]] * blocks.threads, totals, mean, self.shrinkage, posterior)
        objective = learned.shared["objective"]
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=np.maximum(0.0, 1.0 - 0.5 * (1.0 / precision).sum(axis=1)),
            class_prior=mean / mean.sum(),
            objective=objective,
            n_iter=objective.size,
            learned=learned,
        )


class BWAState(LearningState[BWA]):
    """The stream of ``BWA``: weighted votes under the workers' precisions as of the last fit."""

    method_type = BWA


class _Precisions:
    """The arrays of one fit and its step."""

    def __init__(self, blocks: Blocks, prior_votes: float, shrinkage: float) -> None:
        votes = blocks.votes
        W, K = votes.n_workers, votes.n_classes
        self.blocks = blocks
        self.shrinkage = shrinkage
        self.rows = aligned_zeros(blocks.threads, 2 * W * K)
        self.totals = np.zeros((blocks.threads, K + 1), np.int64)
        self.precision = np.ones((W, K))
        self.mean = np.full(K, 1.0 / K)
        self._nowhere = np.empty((0, K))
        # Without shrinkage and with equal precisions, the weighted votes are the vote shares.
        _write(self.rows, self.precision, blocks.worker_weight)
        _pass(blocks, list(self.rows), self.totals, self.mean, 0.0, self._nowhere)
        errors, given = self._errors(), _votes_given(blocks)
        self._counts = prior_votes + given
        correction = 4.0 * (1.0 - 1.0 / max(K, 2))
        # At least as much disagreement as one vote between two: unanimous workers are not infinitely precise.
        disagreement = np.maximum(errors.sum(axis=0), 0.25) / max(given.sum(), 1.0)
        self._prior_errors = prior_votes * correction * disagreement
        if votes.history is not None:
            answers = votes.history.sum(axis=1) + votes.history.sum(axis=2)  # for the class or of it, right ones twice
            self._known_errors = answers - 2.0 * np.einsum("wkk->wk", votes.history)
            self._counts = self._counts + votes.history.sum(axis=(1, 2))[:, None]
        else:
            self._known_errors = np.zeros((W, K))
        self._squares = errors + self._known_errors + self._prior_errors

    def step(self) -> float:
        """Set means and precisions to the best for the values, then the values; return the objective."""
        self.mean = self._class_mean()
        self.precision = self._counts / self._squares
        _write(self.rows, self.precision, self.blocks.worker_weight)
        spread = _pass(self.blocks, list(self.rows), self.totals, self.mean, self.shrinkage, self._nowhere)
        self._squares = self._errors() + self._known_errors + self._prior_errors
        value = 0.5 * float((self._counts * np.log(self.precision) - self.precision * self._squares).sum())
        return value - 0.5 * self.shrinkage * math.fsum(spread) * self.blocks.scale

    def _class_mean(self) -> NDArray[np.float64]:
        """Return the mean of the values that were counted last, and clear the count."""
        *values, items = self.totals.sum(axis=0).tolist()
        self.totals[:] = 0
        return np.array([value / items if items else 1.0 / len(values) for value in values])

    def _errors(self) -> NDArray[np.float64]:
        """Return the squared errors of each worker that were counted last, shape (W, K), and clear the count."""
        W, K = self.precision.shape
        sums = self.rows[:, : 2 * W * K].reshape(-1, W, 2, K)[:, :, 1]
        errors: NDArray[np.float64] = sums.sum(axis=0) * self.blocks.unit
        sums[:] = 0
        return errors * self.blocks.worker_weight[:, None] if self.blocks.worker_weight.size else errors


def _votes_given(blocks: Blocks) -> NDArray[np.float64]:
    """Return how many votes each worker gave, by weight, shape (W, 1)."""
    votes = blocks.votes
    if blocks.item_weight.size == 0:
        given: NDArray[np.float64] = np.bincount(votes.worker_of_vote, minlength=votes.n_workers).astype(np.float64)
    else:
        counts = np.zeros(votes.n_workers, np.int64)  # whole numbers: items in any order give the same sum
        units = np.rint(blocks.item_weight * blocks.scale / blocks.unit).astype(np.int64)
        np.add.at(counts, votes.worker_of_vote, units[votes.item_of_vote])
        given = np.multiply(counts, blocks.unit, dtype=np.float64)
    return (given * blocks.worker_weight if blocks.worker_weight.size else given)[:, None]


def _write(rows: NDArray[np.int64], precision: NDArray[np.float64], worker_weight: NDArray[np.float64]) -> None:
    """Write what a vote of each worker weighs into all threads' rows."""
    W, K = precision.shape
    weight = precision * worker_weight[:, None] if worker_weight.size else precision
    rows.view(np.float64)[:, : 2 * W * K].reshape(-1, W, 2, K)[:, :, 0] = weight


def _pass(
    blocks: Blocks,
    rows: list[NDArray[np.int64]],
    totals: NDArray[np.int64],
    mean: NDArray[np.float64],
    shrinkage: float,
    posterior: NDArray[np.float64],
) -> list[float]:
    """Find the values of all items, and count them or write posteriors; see ``_values_kernel``."""
    votes = blocks.votes
    run = _values_kernel(mean.size if mean.size <= _MAX_CONSTANT else 0)

    def work(thread: int, start: int, stop: int) -> float:
        return run(
            votes.indptr, votes.codes, votes.gold, blocks.item_weight, rows[thread].view(np.float64), rows[thread],
            mean, shrinkage, totals[thread], posterior, blocks.magic, start, stop,
        )  # fmt: skip

    return blocks.over_items(work)


@functools.cache
def _values_kernel(n_classes: int) -> Callable[..., float]:
    """Return the fused pass for this number of classes, a constant of its machine code; for any number if 0.

    It finds the values of the items ``start:stop``. If ``posterior`` has rows, they are written there, made to sum to
    1; if it has none, squared errors are added to the rows of the items' workers, values and weights to ``totals``, and
    the weighted sum of the values' squared distances from the mean is returned.
    """

    def values_pass(
        indptr: NDArray[np.int64],
        codes: NDArray[np.uint32],
        gold: NDArray[np.int32],
        item_weight: NDArray[np.float64],
        table: NDArray[np.float64],
        sums: NDArray[np.int64],
        mean: NDArray[np.float64],
        shrinkage: float,
        totals: NDArray[np.int64],
        posterior: NDArray[np.float64],
        magic: float,
        start: int,
        stop: int,
    ) -> float:
        K = n_classes if n_classes > 0 else mean.size  # max() would hide the constant
        offset = np.float64(magic).view(np.int64)
        z = np.empty(K)
        weight = np.empty(K)
        wrong = np.empty(K, np.int64)  # squared error of a vote for another class
        extra = np.empty(K, np.int64)  # and what a vote for this class has more
        spread = 0.0
        for i in range(start, stop):
            first, last = indptr[i], indptr[i + 1]
            g = gold[i]
            for k in range(K):
                z[k] = shrinkage * mean[k]
                weight[k] = shrinkage
            for j in range(first, last):
                w = codes[j] // np.uint32(K)
                at = np.int64(w) * (2 * K)
                for k in range(K):
                    weight[k] += table[at + k]
                label = np.int64(codes[j] - w * np.uint32(K))
                z[label] += table[at + label]
            for k in range(K):
                if g >= 0:
                    z[k] = 1.0 if k == g else 0.0
                elif weight[k] > 0.0:
                    z[k] /= weight[k]
                else:
                    z[k] = 1.0 / K
            if posterior.shape[0] > 0:
                total = 0.0
                for k in range(K):
                    total += z[k]
                for k in range(K):
                    posterior[i, k] = z[k] / total
                continue
            if first == last and g < 0:
                continue
            share = item_weight[i] if item_weight.size > 0 else 1.0
            distance = 0.0
            for k in range(K):
                distance += (z[k] - mean[k]) ** 2
                totals[k] += np.float64(z[k] * share + magic).view(np.int64) - offset
                wrong[k] = np.float64(z[k] * z[k] * share + magic).view(np.int64) - offset
                extra[k] = np.float64((1.0 - z[k]) ** 2 * share + magic).view(np.int64) - offset - wrong[k]
            totals[K] += np.float64(share + magic).view(np.int64) - offset
            spread += share * distance
            for j in range(first, last):
                w = codes[j] // np.uint32(K)
                at = np.int64(w) * (2 * K) + K
                for k in range(K):
                    sums[at + k] += wrong[k]
                label = np.int64(codes[j] - w * np.uint32(K))
                sums[at + label] += extra[label]
        return spread

    return kernel(values_pass)
