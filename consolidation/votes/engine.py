"""The arrays of one expectation-maximisation over a vote table, and its two steps, block by block over threads.

The kernels stand in ``em.py`` and ``m_step.py``; what the steps are for, and when to stop, in the method's own file.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from voxpop.consolidation.jit import Team, available_threads
from voxpop.consolidation.lanes import lanes_for
from voxpop.consolidation.votes import em, m_step
from voxpop.consolidation.votes.columns import VotesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = [
    "NO_WEIGHTS",
    "Engine",
    "aligned_zeros",
    "item_blocks",
    "item_weights",
    "posterior_under",
    "threads_for",
]

_VOTES_PER_BLOCK: Final = 32_768
_WORKERS_PER_BLOCK: Final = 512
_VOTES_PER_THREAD: Final = 100_000  # below, starting a thread costs more than it saves
_LINE: Final = 8  # int64 numbers in a cache line of 64 bytes
_MAX_CELLS: Final = 2**28  # of the confusion matrices, 16 bytes each and thread
NO_WEIGHTS: Final = np.empty(0)  # weights, where everything counts 1


def posterior_under(
    votes: Votes, confusion: NDArray[np.float64], class_prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the E-step: each item's posterior given confusion matrices and class prior, shape (n_items, K)."""
    K = votes.n_classes
    posterior = np.empty((votes.n_items, K))
    codes, weight = votes.codes, votes.worker_weight
    if votes.n_votes < votes.n_workers:  # cells of everybody would cost more than the labels
        present, place = np.unique(votes.worker_of_vote, return_inverse=True)
        codes = (place * K + votes.label_of_vote).astype(np.uint32)
        confusion = confusion[present]
        weight = None if weight is None else weight[present]
    totals = np.zeros(lanes_for(K), np.int64)
    bounds = np.array([0, votes.n_items])
    cells = _cells_of(confusion, weight)
    _pass(votes, codes, cells, class_prior, posterior, bounds, range(1), NO_WEIGHTS, totals, 1.0, np.zeros(1))
    return posterior


class Engine:
    """The arrays of one fit, and the two steps over them. Use it in a ``with`` statement: it holds threads.

    Blocks are fixed by the data, never by the number of threads.

    Attributes:
        threads: how many are used; fewer than asked for if there is little to do.
        prior: the share of each class, shape (K,).
        worth: how many votes all votes are worth: their number, if there are no weights.
    """

    def __init__(self, votes: Votes, *, smoothing: float, threads: int | None) -> None:
        W, K = votes.n_workers, votes.n_classes
        L = lanes_for(K)
        self.threads = threads_for(votes, threads)
        if W * K * L > _MAX_CELLS:
            raise VotesError(
                f"confusion matrices of {W} workers x {K} x {K} classes need {W * K * L * 16 / 1e9:.0f} GB a thread; "
                "use a method with fewer parameters a worker, such as majority or one_coin"
            )
        self.votes = votes
        self.smoothing = smoothing
        self._team = Team(self.threads)
        self._lanes = L
        self._sums = aligned_zeros(self.threads, W * K * 2 * L)
        self._table = self._sums.view(np.float64)
        self._totals = np.zeros((self.threads, L), np.int64)
        self.prior = np.full(K, 1.0 / K)
        self._pseudo = np.zeros((K, L))
        self._item_blocks = item_blocks(votes)
        self._worker_blocks = np.append(np.arange(0, W, _WORKERS_PER_BLOCK), W)
        self._penalty = 0.0

        self._item_weight, self._scale = item_weights(votes)
        self._worker_weight = NO_WEIGHTS if votes.worker_weight is None else votes.worker_weight
        self._history = _rows_of(votes.history, L)
        self._answered = np.zeros(W * K)
        em.count_answers(votes.indptr, votes.codes, self._item_weight, self._answered)
        by_worker = self._answered.reshape(W, K).sum(axis=1)
        self._magic = em.magic_for(max(math.ceil(by_worker.max(initial=0.0)), votes.n_items))
        self._unit = self._magic * 2.0**-52 * self._scale
        self.worth = self._scale * float(
            by_worker @ votes.worker_weight if self._worker_weight.size else by_worker.sum()
        )
        self._confusion = np.empty((0, 0, 0))

    def __enter__(self) -> Self:
        self._team.__enter__()
        self._add_shares()
        return self

    def __exit__(self, *_: object) -> None:
        self._team.__exit__()

    def _add_shares(self) -> None:
        votes = self.votes
        add_shares = em.shares_kernel(self._lanes)

        def work(thread: int, blocks: range) -> None:
            add_shares(
                votes.indptr, votes.codes, votes.gold, votes.n_classes, self._item_weight, self._worker_weight,
                self._sums[thread], self._totals[thread], self._magic,
                self._item_blocks[blocks.start], self._item_blocks[blocks.stop],
            )  # fmt: skip

        self._team.run(work, self._item_blocks.size - 1)
        if self.smoothing > 0:
            self._pseudo[:, : votes.n_classes] = self.smoothing * self._pooled().T

    def _pooled(self) -> NDArray[np.float64]:
        """Return how all workers together answer against the vote shares, rows sum to 1, shape (K, K).

        A class that is rarely met borrows K answers with the accuracy that workers have over all classes.
        """
        K = self.votes.n_classes
        pooled = np.zeros((K, K))
        m_step.pooled(self._sums, self._worker_weight, self._unit, self._lanes, pooled)
        right = (np.trace(pooled) + 1) / (pooled.sum() + 2)
        borrowed = np.full((K, K), (1 - right) / max(K - 1, 1))
        np.fill_diagonal(borrowed, right if K > 1 else 1.0)
        pooled += K * borrowed
        normal: NDArray[np.float64] = pooled / pooled.sum(axis=1, keepdims=True)
        return normal

    def maximise(self) -> None:
        """M-step: class prior and confusion matrices from the sums, and the log prior of both."""
        K = self.votes.n_classes
        pseudo_item = 1.0 / K if self.smoothing > 0 else 0.0
        mass = self._totals.sum(axis=0)[:K] * self._unit + pseudo_item
        self._totals[:] = 0
        self.prior = np.maximum(mass / mass.sum(), m_step.FLOOR) if mass.any() else np.full(K, 1.0 / K)
        penalty = np.zeros(self._worker_blocks.size - 1)
        maximise = m_step.maximise_kernel(self._lanes)

        def work(_thread: int, blocks: range) -> None:
            maximise(
                self._table, self._sums, self._pseudo, self._worker_weight, self._history, self._unit, penalty,
                self._worker_blocks, blocks.start, blocks.stop,
            )  # fmt: skip

        self._team.run(work, penalty.size)
        self._penalty = math.fsum(penalty)
        if pseudo_item:
            self._penalty += math.fsum(pseudo_item * np.log(self.prior))
        if self._worker_weight.size:
            self._confusion = self._matrices()
            self._penalty += self._scale * m_step.power(
                self._table, self._worker_weight, self._answered, K, self._lanes
            )

    def expect(self) -> float:
        """E-step: adds posteriors to the sums; returns the objective of the parameters it used."""
        values = self._expect(np.empty((0, self.votes.n_classes)))
        return math.fsum(values) * self._scale + self._penalty

    def posterior(self) -> NDArray[np.float64]:
        """Return the posterior of all items under the current parameters, shape (n_items, K)."""
        posterior = np.empty((self.votes.n_items, self.votes.n_classes))
        self._expect(posterior)
        return posterior

    def confusion(self) -> NDArray[np.float64]:
        """Return the confusion matrices, rows the true class, shape (n_workers, K, K)."""
        return self._confusion if self._confusion.size else self._matrices()

    def _matrices(self) -> NDArray[np.float64]:
        W, K, L = self.votes.n_workers, self.votes.n_classes, self._lanes
        cells = self._table[0, : W * K * 2 * L].reshape(W, K, 2 * L)[..., :K]
        return np.ascontiguousarray(cells.transpose(0, 2, 1))

    def _expect(self, posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pass over all items, into ``posterior`` or the sums; returns the log likelihood of each block."""
        values = np.zeros(self._item_blocks.size - 1)

        def work(thread: int, blocks: range) -> None:
            _pass(
                self.votes, self.votes.codes, self._sums[thread], self.prior, posterior, self._item_blocks, blocks,
                self._item_weight, self._totals[thread], self._magic, values,
            )  # fmt: skip

        self._team.run(work, values.size)
        return values


def _pass(
    votes: Votes,
    codes: NDArray[np.uint32],
    cells: NDArray[np.int64],
    class_prior: NDArray[np.float64],
    posterior: NDArray[np.float64],
    bounds: NDArray[np.int64],
    blocks: range,
    item_weight: NDArray[np.float64],
    totals: NDArray[np.int64],
    magic: float,
    values: NDArray[np.float64],
) -> None:
    """Call the E-step over blocks of items; see ``em.pass_kernel``."""
    prior = np.zeros(totals.size)
    prior[: class_prior.size] = class_prior
    em.pass_kernel(totals.size)(
        votes.indptr, codes, votes.gold, item_weight, cells.view(np.float64), cells, prior, totals, posterior,
        magic, bounds, values, blocks.start, blocks.stop,
    )  # fmt: skip


def _cells_of(confusion: NDArray[np.float64], worker_weight: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """Return cells with these confusion matrices, shape (n_workers, K, K), raised to the weights, and no sums."""
    W, K = confusion.shape[:2]
    L = lanes_for(K)
    cells = aligned_zeros(1, W * K * 2 * L)
    table = cells.view(np.float64)
    table[0, : W * K * 2 * L].reshape(W, K, 2 * L)[..., :K] = confusion.transpose(0, 2, 1)
    if worker_weight is not None:
        m_step.power(table, worker_weight, np.zeros(W * K), K, L)
    made: NDArray[np.int64] = cells[0]
    return made


def _rows_of(history: NDArray[np.float64] | None, lanes: int) -> NDArray[np.float64]:
    """Return counts by worker, answer and true class, made up to whole vectors, shape (n_workers, K, L)."""
    if history is None:
        return np.empty((0, 0, 0))
    W, K = history.shape[:2]
    rows = np.zeros((W, K, lanes))
    rows[..., :K] = history.transpose(0, 2, 1)
    return rows


def threads_for(votes: Votes, wanted: int | None) -> int:
    """Return how many threads to use: as many as wanted, all if None, fewer if there is little to do."""
    most = available_threads() if wanted is None else wanted
    return max(1, min(most, 1 + votes.n_votes // _VOTES_PER_THREAD))


def item_weights(votes: Votes) -> tuple[NDArray[np.float64], float]:
    """Return weights of at most 1, empty if there are none, and what they were divided by.

    Sums of whole numbers then fit, and lose no digits, whatever the weights.
    """
    if votes.item_weight is None:
        return NO_WEIGHTS, 1.0
    largest = float(votes.item_weight.max(initial=0.0)) or 1.0
    return votes.item_weight / largest, largest


def aligned_zeros(rows: int, columns: int) -> NDArray[np.int64]:
    """Return zeros whose rows begin at cache lines: cells of 2 or 4 classes then never cross one."""
    columns += -columns % _LINE
    flat = np.zeros(rows * columns + _LINE, np.int64)
    skip = (-flat.ctypes.data // flat.itemsize) % _LINE
    return flat[skip : skip + rows * columns].reshape(rows, columns)


def item_blocks(votes: Votes) -> NDArray[np.int64]:
    """Return the bounds of blocks of items with about as many votes each."""
    n_blocks = max(1, min(votes.n_items, votes.n_votes // _VOTES_PER_BLOCK))
    at_votes = np.linspace(0, votes.n_votes, n_blocks + 1).astype(np.int64)
    bounds = np.searchsorted(votes.indptr, at_votes).astype(np.int64)
    bounds[0], bounds[-1] = 0, votes.n_items
    return bounds
