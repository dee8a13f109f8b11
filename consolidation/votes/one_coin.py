"""One coin: each worker is right with one probability, whatever the class, and errs evenly among the other classes.

Y. Zhang, X. Chen, D. Zhou and M. I. Jordan, "Spectral Methods Meet EM: A Provably Optimal Algorithm for
Crowdsourcing", JMLR 17 (2016), section 2; expectation-maximisation as in Dawid and Skene (1979). The arithmetic
stands in ``coins.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np

from voxpop.consolidation.jit import Team
from voxpop.consolidation.votes.coins import SMALLEST_REST, add_shares, count_answers, pass_kernel
from voxpop.consolidation.votes.em import magic_for
from voxpop.consolidation.votes.engine import NO_WEIGHTS, aligned_zeros, item_blocks, item_weights, threads_for
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["OneCoin", "OneCoinState"]

_FLOOR: Final = 1e-10  # no worker is taken to be right, or wrong, less often
_SMALLEST_SHARE: Final = 1e-30  # of a class
_LARGEST_LOG: Final = 80.0  # of a ratio: eight multiplied are still a normal number


@dataclasses.dataclass(frozen=True)
class OneCoin:
    """Expectation-maximisation with one accuracy a worker, shrunk towards the accuracy of all workers.

    The method for few votes a worker or many classes: two numbers a worker, and only the classes that an item has
    votes for cost time. What confuses workers it cannot learn: for that take ``DawidSkene``.

    Starts from the vote shares. Each worker's accuracy has a Beta prior worth ``smoothing`` answers, as often right as
    all workers together against the vote shares. The prior is fixed before the first iteration, so the objective, log
    likelihood plus log prior, never falls. With ``smoothing=0`` there is no prior, as published. Nobody is taken for
    more certain than one error, or one right answer, in 10**10.

    Results have the same bytes with any number of threads. Votes in another order give the same labels.

    Attributes:
        max_iter: the most iterations (E-steps); at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        smoothing: weight of the prior in answers a worker; 0 for none.
        seed: breaks ties.
        threads: how many threads; by default as many as the process may use.
        dtype: of the posterior in the result. The arithmetic is always float64.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
    smoothing: float = 4.0
    seed: int = 0
    threads: int | None = None
    dtype: Literal["float64", "float32"] = "float64"
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", self.tol >= 0, "0 or more"),
            ("smoothing", 0 <= self.smoothing < math.inf, "0 or more"),
            ("threads", self.threads is None or self.threads >= 1, "at least 1, or None for all"),
            ("dtype", self.dtype in {"float64", "float32"}, "'float64' or 'float32'"),
            ("refit_growth", self.refit_growth >= 1, "at least 1"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "one_coin"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers.

        The posterior is exactly the E-step under the returned accuracies (``worker_quality``) and ``class_prior``, and
        the last entry of ``objective`` is their value. Items without votes get the class prior, workers without votes
        the accuracy of all workers together.
        """
        votes = annotations
        objective: list[float] = []
        with _Coins(votes, smoothing=self.smoothing, threads=self.threads) as coins:
            for _ in range(self.max_iter):
                coins.maximise()
                objective.append(coins.expect())
                gain = objective[-1] - objective[-2] if len(objective) > 1 else math.inf
                if self.tol > 0 and gain <= self.tol * coins.worth:
                    break
            learned = Learned(
                {"accuracy": coins.accuracy}, {"class_prior": coins.prior, "objective": np.array(objective)}
            )
            return self._result(votes, coins.posterior(), learned)

    def state(self) -> OneCoinState:
        """Start an empty stream."""
        return OneCoinState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the E-step under the accuracies and the class prior that were learned before."""
        posterior = _posterior_under(votes, learned.workers["accuracy"], learned.shared["class_prior"])
        return self._result(votes, posterior, learned)

    def _result(self, votes: Votes, posterior: NDArray[Any], learned: Learned) -> VoteResult:
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior.astype(self.dtype, copy=False),
            worker_quality=learned.workers["accuracy"],
            class_prior=learned.shared["class_prior"],
            objective=learned.shared["objective"],
            n_iter=learned.shared["objective"].size,
            learned=learned,
        )


class OneCoinState(LearningState[OneCoin]):
    """The stream of ``OneCoin``: an E-step under the workers' accuracies as of the last fit."""

    method_type = OneCoin


def _posterior_under(
    votes: Votes, accuracy: NDArray[np.float64], class_prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the E-step: each item's posterior given accuracies and class prior, shape (n_items, K)."""
    W, K = votes.n_workers, votes.n_classes
    posterior = np.empty((votes.n_items, K))
    cells = np.zeros(2 * W, np.int64)
    table = cells.view(np.float64)
    weight = np.ones(W) if votes.worker_weight is None else votes.worker_weight
    table[::2] = np.exp(_log_ratios(accuracy, K, weight))
    pass_kernel(K)(
        votes.indptr, votes.codes, votes.gold, NO_WEIGHTS, table, cells, class_prior, np.zeros(2 * K + 1, np.int64),
        posterior, 1.0, np.array([0, votes.n_items]), np.zeros(1), 0, 1,
    )  # fmt: skip
    return posterior


class _Coins:
    """The arrays of one fit, and the two steps over them. Use it in a ``with`` statement: it holds threads.

    Attributes:
        accuracy: how often each worker is right, shape (n_workers,).
        prior: the share of each class, shape (K,).
        worth: how many votes all votes are worth: their number, if there are no weights.
    """

    def __init__(self, votes: Votes, *, smoothing: float, threads: int | None) -> None:
        W, K = votes.n_workers, votes.n_classes
        n_threads = threads_for(votes, threads)
        self.votes = votes
        self._smoothing = smoothing
        self._team = Team(n_threads)
        self._cells = aligned_zeros(n_threads, 2 * W)
        self._totals = aligned_zeros(n_threads, 2 * K + 1)
        self._blocks = item_blocks(votes)
        self._item_weight, scale = item_weights(votes)
        self._weight = np.ones(W) if votes.worker_weight is None else votes.worker_weight
        answered = np.zeros(W)
        count_answers(votes.indptr, votes.codes, K, self._item_weight, answered)
        self._magic = magic_for(max(math.ceil(answered.max(initial=0.0)), votes.n_items))
        self._scale = scale
        self._unit = self._magic * 2.0**-52 * scale
        self._answered = answered * scale * self._weight
        self.worth = math.fsum(self._answered)
        self._added_right, self._added = np.zeros(W), np.zeros(W)  # answers besides those in the votes
        self._pooled = 1.0
        self.accuracy = np.ones(W)
        self.prior = np.full(K, 1.0 / K)
        self._penalty = 0.0

    def __enter__(self) -> Self:
        self._team.__enter__()
        self._add_shares()
        return self

    def __exit__(self, *_: object) -> None:
        self._team.__exit__()

    def _add_shares(self) -> None:
        votes = self.votes
        weight = NO_WEIGHTS if votes.worker_weight is None else votes.worker_weight

        def work(thread: int, blocks: range) -> None:
            add_shares(
                votes.indptr, votes.codes, votes.gold, votes.n_classes, self._item_weight, weight,
                self._cells[thread], self._totals[thread], self._magic,
                self._blocks[blocks.start], self._blocks[blocks.stop],
            )  # fmt: skip

        self._team.run(work, self._blocks.size - 1)
        self._pooled = (math.fsum(self._right()) + 1) / (self.worth + 2)
        self._added_right[:], self._added[:] = self._smoothing * self._pooled, self._smoothing
        if votes.history is not None:
            self._added_right += np.trace(votes.history, axis1=1, axis2=2)
            self._added += votes.history.sum(axis=(1, 2))

    def _right(self) -> NDArray[np.float64]:
        """Return how many votes' worth each worker was right, shape (n_workers,)."""
        right: NDArray[np.float64] = self._cells[:, 1 : 2 * self._weight.size : 2].sum(axis=0) * self._unit
        return right * self._weight

    def maximise(self) -> None:
        """M-step: class prior and accuracies from the sums, and the log prior of both."""
        K = self.votes.n_classes
        totals = self._totals.sum(axis=0)
        mass = totals[:K] + self.prior / SMALLEST_REST * (totals[2 * K] - totals[K : 2 * K])
        pseudo_item = 1.0 / K if self._smoothing > 0 else 0.0
        mass = mass * self._unit + pseudo_item
        self.prior = np.maximum(mass / mass.sum(), _SMALLEST_SHARE) if mass.any() else np.full(K, 1.0 / K)
        right, given = self._right() + self._added_right, self._answered + self._added
        self.accuracy = np.clip(
            np.divide(right, given, out=np.full(right.size, self._pooled), where=given > 0), _FLOOR, 1 - _FLOOR
        )
        wrong = np.log1p(-self.accuracy)
        self._penalty = math.fsum(self._added_right * np.log(self.accuracy))
        self._penalty += math.fsum((self._added - self._added_right) * wrong)
        self._penalty += math.fsum(self._answered * (wrong - math.log(max(K - 1, 1))))
        self._penalty += math.fsum(pseudo_item * np.log(self.prior))
        self._totals[:] = 0
        self._cells[:] = 0
        ratios = np.exp(_log_ratios(self.accuracy, K, self._weight))
        self._cells.view(np.float64)[:, : 2 * ratios.size : 2] = ratios

    def expect(self) -> float:
        """E-step: adds posteriors to the sums; returns the objective of the parameters it used."""
        values = self._expect(np.empty((0, self.votes.n_classes)))
        return math.fsum(values) * self._scale + self._penalty

    def posterior(self) -> NDArray[np.float64]:
        """Return the posterior of all items under the current parameters, shape (n_items, K)."""
        posterior = np.empty((self.votes.n_items, self.votes.n_classes))
        self._expect(posterior)
        return posterior

    def _expect(self, posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        votes = self.votes
        values = np.zeros(self._blocks.size - 1)
        expect = pass_kernel(votes.n_classes)

        def work(thread: int, blocks: range) -> None:
            cells = self._cells[thread]
            expect(
                votes.indptr, votes.codes, votes.gold, self._item_weight, cells.view(np.float64), cells, self.prior,
                self._totals[thread], posterior, self._magic, self._blocks, values, blocks.start, blocks.stop,
            )  # fmt: skip

        self._team.run(work, values.size)
        return values


def _log_ratios(accuracy: NDArray[np.float64], n_classes: int, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    ratios = np.log(accuracy) - np.log1p(-accuracy) + math.log(max(n_classes - 1, 1))
    return np.clip(weight * ratios, -_LARGEST_LOG, _LARGEST_LOG)
