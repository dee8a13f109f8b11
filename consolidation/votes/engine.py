"""The arrays of one expectation-maximisation over a vote table, and its two steps, block by block over threads.

The kernels stand in ``em.py``; what the steps are for, and when to stop, in the method's own file.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from voxpop.consolidation.jit import Team, available_threads
from voxpop.consolidation.votes import em
from voxpop.consolidation.votes.columns import VotesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["Engine", "cells_of", "posterior_under"]

_VOTES_PER_BLOCK: Final = 32_768
_WORKERS_PER_BLOCK: Final = 512
_VOTES_PER_THREAD: Final = 100_000  # below, starting a thread costs more than it saves
_LINE: Final = 8  # int64 numbers in a cache line of 64 bytes
_MAX_CELLS: Final = 2**28  # of the confusion matrices, 16 bytes each and thread


def cells_of(confusion: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return cells with these confusion matrices, shape (n_workers, K, K), and no sums."""
    W, K = confusion.shape[:2]
    cells = _aligned_zeros(1, W * K * 2 * K)[0, : W * K * 2 * K]
    cells.view(np.float64).reshape(W, K, 2 * K)[..., :K] = confusion.transpose(0, 2, 1)
    return cells


def posterior_under(votes: Votes, cells: NDArray[np.int64], class_prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the E-step: each item's posterior given the workers' cells and the class prior, shape (n_items, K)."""
    posterior = np.empty((votes.n_items, votes.n_classes))
    if votes.n_items:
        _pass(votes, cells, class_prior, np.zeros(votes.n_classes, np.int64), posterior, 1.0, 0, votes.n_items)
    return posterior


class Engine:
    """The arrays of one fit, and the two steps over them. Use it in a ``with`` statement: it holds threads.

    Blocks are fixed by the data, never by the number of threads.
    """

    def __init__(self, votes: Votes, *, smoothing: float, threads: int | None) -> None:
        W, K = votes.n_workers, votes.n_classes
        wanted = available_threads() if threads is None else threads
        self.threads = max(1, min(wanted, 1 + votes.n_votes // _VOTES_PER_THREAD))
        if W * K * K > _MAX_CELLS:
            raise VotesError(
                f"confusion matrices of {W} workers x {K} x {K} classes need {W * K * K * 16 / 1e9:.0f} GB a thread; "
                "use a method with fewer parameters a worker, such as majority"
            )
        self.votes = votes
        self.smoothing = smoothing
        self._team = Team(self.threads)
        self.sums = _aligned_zeros(self.threads, W * K * 2 * K)
        self.table = self.sums.view(np.float64)
        self.totals = np.zeros((self.threads, K), np.int64)
        self.prior = np.full(K, 1.0 / K)
        self.pseudo = np.zeros((K, K))
        self.item_blocks = _item_blocks(votes)
        busiest = int(np.bincount(votes.worker_of_vote, minlength=1).max()) if votes.n_votes else 0
        self.magic = em.magic_for(max(busiest, votes.n_items))
        self.unit = self.magic * 2.0**-52
        self.penalty = 0.0

    def __enter__(self) -> Self:
        self._team.__enter__()
        self._add_shares()
        return self

    def __exit__(self, *_: object) -> None:
        self._team.__exit__()

    def _add_shares(self) -> None:
        votes = self.votes

        def work(thread: int, blocks: range) -> None:
            em.add_shares(
                votes.indptr, votes.codes, votes.gold, votes.n_classes, self.sums[thread], self.totals[thread],
                self.magic, self.item_blocks[blocks.start], self.item_blocks[blocks.stop],
            )  # fmt: skip

        self._team.run(work, self.item_blocks.size - 1)
        if self.smoothing > 0:
            self.pseudo = self.smoothing * self._pooled()

    def _pooled(self) -> NDArray[np.float64]:
        """Return how all workers together answer against the vote shares, rows sum to 1, shape (K, K).

        A class that is rarely met borrows K answers with the accuracy that workers have over all classes.
        """
        K = self.votes.n_classes
        pooled = np.zeros((K, K))
        em.pooled(self.sums, self.unit, pooled)
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
        mass = self.totals.sum(axis=0) * self.unit + pseudo_item
        self.totals[:] = 0
        self.prior = np.maximum(mass / mass.sum(), em.FLOOR)
        W = self.votes.n_workers
        n_blocks = -(-W // _WORKERS_PER_BLOCK)

        def work(_thread: int, blocks: range) -> list[float]:
            return [
                em.maximise(
                    self.table, self.sums, self.pseudo, self.unit,
                    b * _WORKERS_PER_BLOCK, min(W, (b + 1) * _WORKERS_PER_BLOCK),
                )
                for b in blocks
            ]  # fmt: skip

        parts = self._team.run(work, n_blocks)
        self.penalty = math.fsum(penalty for part in parts for penalty in part)
        if pseudo_item:
            self.penalty += math.fsum(pseudo_item * np.log(self.prior))

    def expect(self) -> float:
        """E-step: adds posteriors to the sums; returns the objective of the parameters it used."""
        votes = self.votes
        nowhere = np.empty((0, votes.n_classes))

        def work(thread: int, blocks: range) -> list[float]:
            return [
                _pass(
                    votes, self.sums[thread], self.prior, self.totals[thread], nowhere, self.magic,
                    self.item_blocks[b], self.item_blocks[b + 1],
                )
                for b in blocks
            ]  # fmt: skip

        parts = self._team.run(work, self.item_blocks.size - 1)
        return math.fsum(value for part in parts for value in part) + self.penalty

    def posterior(self) -> NDArray[np.float64]:
        """Return the posterior of all items under the current parameters, shape (n_items, K)."""
        votes = self.votes
        posterior = np.empty((votes.n_items, votes.n_classes))

        def work(_thread: int, blocks: range) -> None:
            _pass(
                votes, self.sums[0], self.prior, self.totals[0], posterior, self.magic,
                self.item_blocks[blocks.start], self.item_blocks[blocks.stop],
            )  # fmt: skip

        self._team.run(work, self.item_blocks.size - 1)
        return posterior

    def confusion(self) -> NDArray[np.float64]:
        """Return the confusion matrices, rows the true class, shape (n_workers, K, K)."""
        W, K = self.votes.n_workers, self.votes.n_classes
        cells = self.table[0, : W * K * 2 * K].reshape(W, K, 2 * K)[..., :K]
        return np.ascontiguousarray(cells.transpose(0, 2, 1))


def _pass(
    votes: Votes,
    cells: NDArray[np.int64],
    prior: NDArray[np.float64],
    totals: NDArray[np.int64],
    posterior: NDArray[np.float64],
    magic: float,
    start: int,
    stop: int,
) -> float:
    """Call the pass over the items ``start:stop`` for this number of classes; see ``em.pass_kernel``."""
    return em.pass_kernel(votes.n_classes)(
        votes.indptr, votes.codes, votes.gold, cells.view(np.float64), cells, prior, totals, posterior, magic,
        start, stop,
    )  # fmt: skip


def _aligned_zeros(rows: int, columns: int) -> NDArray[np.int64]:
    """Return zeros whose rows begin at cache lines: cells of 2 or 4 classes then never cross one."""
    columns += -columns % _LINE
    flat = np.zeros(rows * columns + _LINE, np.int64)
    skip = (-flat.ctypes.data // flat.itemsize) % _LINE
    return flat[skip : skip + rows * columns].reshape(rows, columns)


def _item_blocks(votes: Votes) -> NDArray[np.int64]:
    """Return the bounds of blocks of items with about as many votes each."""
    n_blocks = max(1, min(votes.n_items, votes.n_votes // _VOTES_PER_BLOCK))
    at_votes = np.linspace(0, votes.n_votes, n_blocks + 1).astype(np.int64)
    bounds = np.searchsorted(votes.indptr, at_votes).astype(np.int64)
    bounds[0], bounds[-1] = 0, votes.n_items
    return bounds
