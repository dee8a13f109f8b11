"""MACE: each worker either knows an item's class or answers by habit, learned together with the labels.

D. Hovy, T. Berg-Kirkpatrick, A. Vaswani and E. Hovy, "Learning Whom to Trust with MACE", NAACL-HLT 2013. The
arithmetic stands in ``mace_em.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from voxpop.consolidation.votes.bayes import Blocks, check_parameters, iterate
from voxpop.consolidation.votes.engine import aligned_zeros
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.mace_em import MAX_LOG, collect, expect, tabulate
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["MACE", "MACEState"]

_MAX_CELLS: Final = 2**28  # of the confusion matrices in the result, 8 bytes each
_ROUNDING: Final = 1e-9  # of the objective: a restart that is better by less is not better


@dataclasses.dataclass(frozen=True)
class MACE:
    """Variational inference of each worker's trust and strategy, from several starts; the best evidence wins.

    With ``inference="vb"`` trust has a Beta prior with both parameters ``trust_prior``, and strategies a symmetric
    Dirichlet prior with parameter ``strategy_prior``; the defaults are those of the paper. The objective is the
    evidence lower bound in nats. With ``inference="em"`` it is the log likelihood, penalised by ``smoothing / K`` votes
    added to each count of an M-step. Neither ever falls. All classes are as likely beforehand.

    The first start trusts everybody one half and takes strategies as even. Each other start draws every worker's trust
    at random from the seed; a later start is taken only if its objective is better by more than ``tol`` a vote.

    The posterior is the E-step under what was learned. ``worker_quality`` is the expected trust: how often the worker
    knows the class. They are right more often than that, because a habit hits by chance: see ``confusion``, the
    expected probability of each answer, which is None if it had more than 2**28 cells. Items without votes have equal
    shares; workers without votes are as the prior and their history have them.

    Results have the same bytes with any number of threads, and votes in any order give the same posteriors, unless
    rounding of the objective's last bits ends the iterations one sooner or later.

    Attributes:
        max_iter: the most iterations of each start; at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        restarts: how many starts; at least 1.
        inference: variational Bayes, or expectation-maximisation.
        trust_prior: with "vb", votes known and votes by habit that are added for each worker; above 0.
        strategy_prior: with "vb", votes by habit that are added for each worker and answer; above 0.
        smoothing: with "em", K times the votes that are added to each count; above 0.
        seed: of the random starts, and breaks ties.
        threads: how many threads; by default as many as the process may use.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 50
    tol: float = 1e-6
    restarts: int = 10
    inference: Literal["vb", "em"] = "vb"
    trust_prior: float = 0.5
    strategy_prior: float = 10.0
    smoothing: float = 0.01
    seed: int = 0
    threads: int | None = None
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        check_parameters(self, "trust_prior", "strategy_prior", "smoothing")
        if self.restarts < 1:
            raise ValueError(f"restarts is {self.restarts!r}; expected at least 1")
        if self.inference not in {"vb", "em"}:
            raise ValueError(f"inference is {self.inference!r}; expected 'vb' or 'em'")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mace"

    def fit(self, annotations: Votes) -> VoteResult:
        """Learn all workers from several starts, then label all items under the best."""
        votes = annotations
        best: tuple[list[float], _Beliefs] | None = None
        with Blocks(votes, self.threads) as blocks:
            fit = _Fit(blocks, self)
            for r in range(self.restarts):
                fit.start(_first_beliefs(votes.n_workers, votes.n_classes, self.seed, r))
                objective = iterate(fit.step, max_iter=self.max_iter, tol=self.tol, n_votes=votes.n_votes)
                margin = 0.0 if best is None else max(self.tol * votes.n_votes, _ROUNDING * abs(best[0][-1]))
                if best is None or objective[-1] > best[0][-1] + margin:
                    best = objective, fit.beliefs
        assert best is not None  # there is at least one start
        found, beliefs = best
        return self.label(
            votes, Learned({"trust": beliefs.trust, "strategy": beliefs.strategy}, {"objective": np.array(found)})
        )

    def state(self) -> MACEState:
        """Start an empty stream."""
        return MACEState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the E-step under the trust and the strategies that were learned before."""
        beliefs = _Beliefs(learned.workers["trust"], learned.workers["strategy"])
        W, K = votes.n_workers, votes.n_classes
        posterior = np.empty((votes.n_items, K))
        with Blocks(votes, self.threads) as blocks:
            cells = aligned_zeros(1, 2 * W * K)  # one for all threads: nothing is counted here
            present = np.flatnonzero(np.bincount(votes.worker_of_vote, minlength=W))
            nothing = _Known(np.empty((0, K)), np.empty((0, K)), np.empty((0, K)))
            _, logarithms = _over_workers(blocks, beliefs, nothing, self, cells, present)
            _over_items(blocks, [cells[0]] * blocks.threads, posterior, logarithms=logarithms)
        trust = beliefs.trust[:, 0] / beliefs.trust.sum(axis=1)
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=trust,
            confusion=_confusion(trust, beliefs.strategy) if W * K * K <= _MAX_CELLS else None,
            objective=learned.shared["objective"],
            n_iter=learned.shared["objective"].size,
            learned=learned,
        )

    def counts_before(self, n_classes: int) -> tuple[float, float]:
        """Return what is added to each worker's counts of known and habitual votes, and of each habitual answer."""
        if self.inference == "vb":
            return self.trust_prior, self.strategy_prior
        return self.smoothing / n_classes, self.smoothing / n_classes


class MACEState(LearningState[MACE]):
    """The stream of ``MACE``: an E-step under the workers' trust and strategies as of the last fit."""

    method_type = MACE


@dataclasses.dataclass(frozen=True, eq=False)
class _Beliefs:
    """What is known of workers, as counts of votes, those added beforehand included.

    Attributes:
        trust: votes known and votes by habit, shape (n_workers, 2).
        strategy: votes by habit for each class, shape (n_workers, K).
    """

    trust: NDArray[np.float64]
    strategy: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class _Known:
    """What an M-step needs besides the sums; all of shape (n_workers, K), or without rows where nothing is learned.

    Attributes:
        given: votes of each worker for each class, weighted, those of the history included.
        right: votes of the history that were right.
        share: probability that a vote is known, not by habit, if the class is true.
    """

    given: NDArray[np.float64]
    right: NDArray[np.float64]
    share: NDArray[np.float64]


class _Fit:
    """The arrays of one fit, and its steps."""

    def __init__(self, blocks: Blocks, method: MACE) -> None:
        votes = blocks.votes
        W, K = votes.n_workers, votes.n_classes
        self.blocks = blocks
        self.method = method
        self.sums = aligned_zeros(blocks.threads, 2 * W * K)
        weight = None if votes.item_weight is None else np.repeat(votes.item_weight, np.diff(votes.indptr))
        given = np.bincount(votes.codes, weights=weight, minlength=W * K).reshape(W, K).astype(np.float64)
        if votes.worker_weight is not None:
            given *= votes.worker_weight[:, None]
        right = np.zeros((W, K))
        if votes.history is not None:
            given += votes.history.sum(axis=1)
            right += votes.history.diagonal(axis1=1, axis2=2)
        self.known = _Known(given, right, np.zeros((W, K)))
        self.beliefs = _Beliefs(np.empty((W, 2)), np.empty((W, K)))

    def start(self, beliefs: _Beliefs) -> None:
        """Find the posterior under the means of these beliefs."""
        self.beliefs = beliefs
        self.sums[:] = 0
        self._expect(dataclasses.replace(self.method, inference="em"))

    def step(self) -> float:
        """M-step, then E-step; returns the objective."""
        blocks, (W, K) = self.blocks, self.known.given.shape
        beliefs = _Beliefs(np.empty((W, 2)), np.empty((W, K)))

        def work(_thread: int, start: int, stop: int) -> None:
            collect(
                self.sums, blocks.unit, self.known.given, self.known.right, self.known.share, blocks.worker_weight,
                *self.method.counts_before(K), beliefs.trust, beliefs.strategy, start, stop,
            )  # fmt: skip

        blocks.over_workers(work, W)
        self.beliefs = beliefs
        return self._expect(self.method)

    def _expect(self, method: MACE) -> float:
        blocks, votes = self.blocks, self.blocks.votes
        everyone = np.arange(votes.n_workers)
        workers, logarithms = _over_workers(blocks, self.beliefs, self.known, method, self.sums, everyone)
        items = _over_items(blocks, list(self.sums), np.empty((0, votes.n_classes)), logarithms=logarithms)
        worth = math.fsum(votes.item_weight) if votes.item_weight is not None else votes.n_items
        return math.fsum(items) * blocks.scale + math.fsum(workers) - worth * math.log(votes.n_classes)


def _first_beliefs(n_workers: int, n_classes: int, seed: int, restart: int) -> _Beliefs:
    trust = np.full(n_workers, 0.5)
    if restart > 0:
        trust = np.random.default_rng([seed % 2**64, restart]).uniform(0.01, 0.99, n_workers)
    return _Beliefs(np.column_stack([trust, 1 - trust]), np.ones((n_workers, n_classes)))


def _over_workers(
    blocks: Blocks,
    beliefs: _Beliefs,
    known: _Known,
    method: MACE,
    cells: NDArray[np.int64],
    workers: NDArray[np.int64],
) -> tuple[list[float], bool]:
    """Write the ratios of ``workers`` into all rows of cells, or their logarithms if one is too large.

    Returns:
        The workers' parts of the objective, and whether the cells hold logarithms.
    """
    table = cells.view(np.float64)
    vb = method.inference == "vb"
    before = method.counts_before(beliefs.strategy.shape[1])

    def tabulated(*, logarithms: bool) -> list[tuple[float, float]]:
        def work(_thread: int, start: int, stop: int) -> tuple[float, float]:
            return tabulate(
                beliefs.trust, beliefs.strategy, known.given, known.right, known.share, blocks.worker_weight, vb,
                *before, logarithms, table, workers, start, stop,
            )  # fmt: skip

        return blocks.over_workers(work, workers.size)

    parts = tabulated(logarithms=False)
    logarithms = any(highest > MAX_LOG for _, highest in parts)
    if logarithms:
        parts = tabulated(logarithms=True)
    return [value for value, _ in parts], logarithms


def _over_items(
    blocks: Blocks, cells: list[NDArray[np.int64]], posterior: NDArray[np.float64], *, logarithms: bool
) -> list[float]:
    votes = blocks.votes

    def work(thread: int, start: int, stop: int) -> float:
        return expect(
            votes.indptr, votes.codes, votes.gold, blocks.item_weight, votes.n_classes, logarithms,
            cells[thread].view(np.float64), cells[thread], posterior, blocks.magic, start, stop,
        )  # fmt: skip

    return blocks.over_items(work)


def _confusion(trust: NDArray[np.float64], strategy: NDArray[np.float64]) -> NDArray[np.float64]:
    K = strategy.shape[1]
    habit = (1 - trust)[:, None] * strategy / strategy.sum(axis=1, keepdims=True)
    confusion = np.repeat(habit[:, None, :], K, axis=1)
    confusion[:, np.arange(K), np.arange(K)] += trust[:, None]
    return confusion
