"""Votes on classes that have an order: each worker has a bias and a noise on the scale, not a confusion matrix.

A worker who sees class k means to say k plus a bias plus normal noise, and says the class that this is nearest to: the
discretised normal of ordinal regression (J. A. Anderson, "Regression and Ordered Categorical Variables", JRSS B 46,
1984), one for each worker as in Dawid and Skene (1979). Some answers are given without looking: they follow what is
answered most. The three numbers of a worker lie on a grid, so that what workers have in common is learned too.
"""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.e_step import Counts, expect
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["Ordinal", "OrdinalState"]

_BIASES: Final = np.arange(-4, 5) / 4  # in classes
_NOISES: Final = 10
_SMALLEST_NOISE: Final = 0.2
_CARELESS: Final = np.array([0.01, 0.1, 0.25, 0.5, 0.9])  # never none: no answer is impossible
_MOST_CLASSES: Final = 128
_MAX_CELLS: Final = 2**28  # of the workers' matrices, 32 bytes each
_NO_CHANCE: Final = 1e-300


@dataclasses.dataclass(frozen=True)
class Ordinal:
    """A vote on classes in their order (``classes`` of the table), in which near misses count for less than far ones.

    Each worker has a bias between -1 and 1 classes, a noise between .2 and K classes, and a share of careless answers,
    which follow the shares of all answers together: three numbers where a confusion matrix has K (K - 1), so few
    answers teach them. Variational Bayes: the three have a distribution over a grid for each worker, whose prior is
    what all workers have on average, with one more worker spread over the grid. The objective, a lower bound of the
    log likelihood plus log prior, never falls.

    The label is the most probable class. A worker's quality is the probability that they are right about an item of
    unknown class; ``confusion`` is what their three numbers lead to. Items without votes get the class prior.

    Use it for ratings, grades and relevance with few answers a worker; where classes have no order, or with hundreds of
    answers a worker, take ``DawidSkene``.

    Attributes:
        max_iter: the most iterations (E-steps); at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        seed: breaks ties.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
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
        return "ordinal"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers.

        Raises:
            VotesError: there are too many classes for a scale; take numbers (``NumericVotes``).
        """
        votes = annotations
        K = votes.n_classes
        if K > _MOST_CLASSES:
            raise VotesError(f"{K} ordered classes are more than {_MOST_CLASSES}; consolidate them as numbers")
        if votes.n_workers * K * K > _MAX_CELLS:
            raise VotesError(
                f"matrices of {votes.n_workers} workers x {K} x {K} classes need "
                f"{votes.n_workers * K * K * 32 / 1e9:.0f} GB; consolidate them as numbers (NumericVotes)"
            )
        answer_shares = _smoothed(np.bincount(votes.label_of_vote, minlength=K).astype(np.float64))
        log_grid = np.log(_grid(answer_shares))
        counts = Counts(votes)
        class_prior = np.full(K, 1 / K)
        grid_prior = np.full(log_grid.shape[0], 1 / log_grid.shape[0])
        mixture = np.tile(grid_prior, (votes.n_workers, 1))
        objective: list[float] = []
        while True:
            posterior, value = expect(votes, _likelihood(mixture, log_grid), class_prior, counts)
            objective.append(_bound(votes, value, mixture, log_grid, grid_prior, class_prior))
            gain = objective[-1] - objective[-2] if len(objective) > 1 else math.inf
            if len(objective) == self.max_iter or (self.tol > 0 and gain < self.tol * votes.n_votes):
                break
            class_prior = _smoothed(counts.of_classes(posterior))
            mixture = _mixture(counts.of_workers(), log_grid, grid_prior)
            grid_prior = _smoothed(mixture.sum(axis=0))
        learned = Learned(
            {"mixture": mixture},
            {"class_prior": class_prior, "answer_shares": answer_shares, "objective": np.array(objective)},
        )
        return self._result(votes, posterior, learned)

    def state(self) -> OrdinalState:
        """Start an empty stream."""
        return OrdinalState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the E-step under what was learned of workers and classes before."""
        likelihood = _likelihood(learned.workers["mixture"], np.log(_grid(learned.shared["answer_shares"])))
        posterior, _ = expect(votes, likelihood, learned.shared["class_prior"], None)
        return self._result(votes, posterior, learned)

    def _result(self, votes: Votes, posterior: NDArray[np.float64], learned: Learned) -> VoteResult:
        K = votes.n_classes
        class_prior, objective = learned.shared["class_prior"], learned.shared["objective"]
        confusion = (learned.workers["mixture"] @ _grid(learned.shared["answer_shares"])).reshape(-1, K, K)
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=np.einsum("k,wkk->w", class_prior, confusion),
            confusion=confusion,
            class_prior=class_prior,
            objective=objective,
            n_iter=objective.size,
            learned=learned,
        )


class OrdinalState(LearningState[Ordinal]):
    """The stream of ``Ordinal``: an E-step under what the last fit learned of the workers."""

    method_type = Ordinal


def _grid(answer_shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each answer given the true class, for each kind of worker.

    Args:
        answer_shares: how often each class is answered, shape (K,).

    Returns:
        Flattened matrices, the answer on the inner axis, shape (kinds of workers, K * K).
    """
    K = answer_shares.size
    looked = _looked(K)
    careless = _CARELESS[:, None, None, None]
    grid: NDArray[np.float64] = (1 - careless) * looked + careless * answer_shares
    return grid.reshape(-1, K * K)


@lru_cache(maxsize=8)
def _looked(n_classes: int) -> NDArray[np.float64]:
    """Return the probability of each answer (last axis) of those who look, shape (biases * noises, K, K)."""
    K = n_classes
    edges = np.arange(-K, K) + 0.5  # between answer and truth, in classes; those beyond the scale are open
    noises = np.geomspace(_SMALLEST_NOISE, max(K, 1), _NOISES)
    scaled = (edges - _BIASES[:, None, None]) / noises[:, None]
    below = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in scaled.ravel().tolist()])
    below = below.reshape(-1, edges.size)
    upper = np.arange(K) - np.arange(K)[:, None] + K  # of answer l (columns) to class k (rows)
    reached = below[:, np.minimum(upper, edges.size - 1)]
    reached[:, :, K - 1] = 1.0
    before = np.zeros_like(reached)
    before[:, :, 1:] = reached[:, :, :-1]
    looked: NDArray[np.float64] = np.maximum(reached - before, 0.0)
    looked.flags.writeable = False
    return looked


def _likelihood(mixture: NDArray[np.float64], log_grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the geometric mean of the grid's matrices for each worker, shape (n_workers, K, K)."""
    K = math.isqrt(log_grid.shape[1])
    likelihood: NDArray[np.float64] = np.exp(mixture @ log_grid).reshape(-1, K, K)
    return likelihood


def _mixture(
    counted: NDArray[np.float64], log_grid: NDArray[np.float64], grid_prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how probable each kind is for each worker, shape (n_workers, kinds)."""
    score = counted.reshape(counted.shape[0], -1) @ log_grid.T + np.log(grid_prior)
    mixture: NDArray[np.float64] = np.exp(score - score.max(axis=1, keepdims=True))
    mixture /= mixture.sum(axis=1, keepdims=True)
    return mixture


def _smoothed(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares, after one more is spread over all."""
    shares: NDArray[np.float64] = (mass + 1 / mass.size) / (mass.sum() + 1)
    return shares


def _bound(
    votes: Votes,
    value: NDArray[np.float64],
    mixture: NDArray[np.float64],
    log_grid: NDArray[np.float64],
    grid_prior: NDArray[np.float64],
    class_prior: NDArray[np.float64],
) -> float:
    """Return the lower bound of the log likelihood, plus the log priors of both sets of shares."""
    weighed = value if votes.item_weight is None else value * votes.item_weight
    scores = np.log(grid_prior) - np.log(np.maximum(mixture, _NO_CHANCE))
    if votes.history is not None:
        scores = scores + votes.history.reshape(votes.n_workers, -1) @ log_grid.T
    of_workers = (mixture * scores).sum(axis=1)
    of_shares = float(np.log(class_prior).mean() + np.log(grid_prior).mean())
    return math.fsum(weighed) + math.fsum(of_workers) + of_shares
