"""The steps of a variational fit over a vote table, block by block over threads; the kernels stand in ``dirichlet.py``.

With one subtype a class the model is independent Bayesian classifier combination (``ibcc.py``), with more it is the
enhanced one (``ebcc.py``). Which priors, which start, and when to stop is the methods' own affair. Blocks are fixed by
the data, never by threads. Items that have neither votes nor gold say nothing, and are left out of learning.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from voxpop.consolidation.jit import Team
from voxpop.consolidation.votes import dirichlet
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.em import magic_for
from voxpop.consolidation.votes.engine import aligned_zeros, item_blocks, item_weights, threads_for
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["Beliefs", "Blocks", "Priors", "Variational", "check_parameters", "iterate", "labeled", "right_and_wrong"]

_WORKERS_PER_BLOCK: Final = 256
_MAX_CELLS: Final = 2**28  # 16 bytes each and thread
_MOST_FACTORS: Final = 8  # multiplied before the product is brought back to sum 1


def check_parameters(method: Any, *counts: str) -> None:
    """Check the parameters that all methods of this family have, and those named, which count something.

    Raises:
        ValueError: one of them is out of its range.
    """
    checks = [
        ("max_iter", method.max_iter >= 1, "at least 1"),
        ("tol", method.tol >= 0, "0 or more"),
        *((name, 0 < getattr(method, name) < math.inf, "a number above 0") for name in counts),
        ("threads", method.threads is None or method.threads >= 1, "at least 1, or None for all"),
        ("refit_growth", method.refit_growth >= 1, "at least 1"),
    ]
    for name, good, expected in checks:
        if not good:
            raise ValueError(f"{name} is {getattr(method, name)!r}; expected {expected}")


def iterate(step: Callable[[], float], *, max_iter: int, tol: float, n_votes: int) -> list[float]:
    """Call ``step`` until it gains less than ``tol`` a vote, at most ``max_iter`` times; return what it returned."""
    objective = [step()]
    while len(objective) < max_iter:
        objective.append(step())
        if tol > 0 and objective[-1] - objective[-2] < tol * n_votes:
            break
    return objective


def right_and_wrong(n_classes: int, right: float, wrong: float) -> NDArray[np.float64]:
    """Return a K x K matrix with ``right`` in its diagonal and ``wrong`` elsewhere."""
    matrix = np.full((n_classes, n_classes), float(wrong))
    np.fill_diagonal(matrix, right)
    return matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Priors:
    """Counts that are believed before any vote, all above 0.

    Attributes:
        confusion: of each answer (last axis) given the true class, for every worker, shape (K, K).
        n_subtypes: M.
        of_class: of each class.
        of_subtype: of each subtype of a class.
        classes_as_voted: whether a class counts as much as the items' vote shares of it, if that is more.
    """

    confusion: NDArray[np.float64]
    of_class: float
    n_subtypes: int = 1
    of_subtype: float = 1.0
    classes_as_voted: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Beliefs:
    """The Dirichlet parameters that a fit found; priors are counted in.

    Attributes:
        workers: of each answer (middle axis) of each worker, given class and subtype ``class * M + subtype`` (last
            axis), shape (n_workers, K, K * M).
        subtypes: of each subtype of each class, shape (K, M).
        classes: of each class, shape (K,).
    """

    workers: NDArray[np.float64]
    subtypes: NDArray[np.float64]
    classes: NDArray[np.float64]

    @classmethod
    def of(cls, learned: Learned) -> Self:
        """Take back what ``learned`` gave."""
        return cls(learned.workers["counts"], learned.shared["subtype_counts"], learned.shared["class_counts"])

    def learned(self, objective: list[float]) -> Learned:
        """Return copies for a result, with the objective of each iteration."""
        shared = {"subtype_counts": self.subtypes.copy(), "class_counts": self.classes.copy()}
        workers = {"counts": self.workers.copy(), "confusion": self._confusion()}
        return Learned(workers, shared | {"objective": np.array(objective)})

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """Expected share of each class, shape (K,)."""
        shares: NDArray[np.float64] = self.classes / self.classes.sum()
        return shares

    def log_column(self) -> NDArray[np.float64]:
        """Return E[log share] of each class and subtype, shape (K * M,)."""
        of_class, of_subtype = np.empty((1, self.classes.size)), np.empty_like(self.subtypes)
        dirichlet.expected_logs(self.classes[None], self.classes[None], of_class)
        dirichlet.expected_logs(self.subtypes, self.subtypes, of_subtype)
        log: NDArray[np.float64] = (of_class.T + of_subtype).ravel()
        return log

    def _confusion(self) -> NDArray[np.float64]:
        """Return the expected confusion matrices over all subtypes, rows the true class, shape (n_workers, K, K)."""
        W, K, _ = self.workers.shape
        shares = self.subtypes / self.subtypes.sum(axis=1, keepdims=True)
        counts = self.workers.reshape(W, K, K, -1)
        expected = np.einsum("wlkm,wkm,km->wkl", counts, 1.0 / counts.sum(axis=1), shares, optimize=True)
        return np.ascontiguousarray(expected)


class Blocks:
    """Votes cut into blocks with about as many votes each, and threads to share them. Use it in a ``with`` statement.

    Attributes:
        votes: the votes.
        threads: how many threads.
        item_weight: relative to the largest, so that no weight is above 1; empty if all are 1.
        worker_weight: as the votes have it; empty if all are 1.
        magic: the power of two whose last bit is the unit of posteriors times ``item_weight``.
        unit: what one in a sum stands for.
        scale: what 1 in ``item_weight`` stands for.
    """

    def __init__(self, votes: Votes, threads: int | None) -> None:
        self.votes = votes
        self.threads = threads_for(votes, threads)
        self.worker_weight = _given(votes.worker_weight, 1)
        weight, self.scale = item_weights(votes)
        self.item_weight = _given(weight if weight.size else None, 1)
        busiest = int(np.bincount(votes.worker_of_vote, minlength=1).max())
        self.magic = magic_for(max(busiest, votes.n_items))
        self.unit = self.magic * 2.0**-52 * self.scale
        self._bounds = item_blocks(votes)
        self._team = Team(self.threads)

    def __enter__(self) -> Self:
        self._team.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._team.__exit__()

    def over_items(self, work: Callable[[int, int, int], Any]) -> list[Any]:
        """Return ``work(thread, start, stop)`` of every block of items, in order."""
        bounds = self._bounds
        return self._run(lambda t, b: work(t, bounds[b], bounds[b + 1]), bounds.size - 1)

    def over_workers(self, work: Callable[[int, int, int], Any], n_workers: int) -> list[Any]:
        """Return ``work(thread, start, stop)`` of every block of workers, in order."""
        size = _WORKERS_PER_BLOCK
        return self._run(lambda t, b: work(t, b * size, min(n_workers, (b + 1) * size)), -(-n_workers // size))

    def _run(self, work: Callable[[int, int], Any], n_blocks: int) -> list[Any]:
        parts = self._team.run(lambda thread, blocks: [work(thread, b) for b in blocks], n_blocks)
        return [result for part in parts for result in part]


class Variational:
    """The arrays of one fit and its two steps.

    The objective is the evidence lower bound: the log probability of votes and gold labels, given what the priors and
    history say, is at least that high. The two steps raise it in turn.
    """

    def __init__(self, blocks: Blocks, priors: Priors) -> None:
        votes = blocks.votes
        W, K, M = votes.n_workers, votes.n_classes, priors.n_subtypes
        _check_size(W, K, M)
        self.blocks = blocks
        self.priors = priors
        self.history = _given(votes.history, 3)
        self.sums = aligned_zeros(blocks.threads, W * K * 2 * K * M)
        self.totals = np.zeros((blocks.threads, K * M), np.int64)
        self.beliefs = Beliefs(np.empty((W, K, K * M)), np.empty((K, M)), np.empty(K))
        self._everyone = np.arange(W)
        self._of_class = np.full(K, priors.of_class)
        self._constant = _prior_constant(priors.confusion, self.history, W) * M
        self._gain = 0.0  # minus the divergence of all beliefs from the priors
        self._column = np.empty(K * M)
        self._factors = 1

    def start(self, keys: NDArray[np.uint64] | None = None, salt: int = 0) -> None:
        """Count the vote shares, split between subtypes at random by each item's key and the salt.

        Without keys they are whole, which only one subtype can use.
        """
        if keys is None:
            keys = np.empty(0, np.uint64)
        blocks, votes = self.blocks, self.blocks.votes
        self.sums[:] = 0
        self.totals[:] = 0

        def work(thread: int, start: int, stop: int) -> None:
            dirichlet.add_shares(
                votes.indptr, votes.codes, votes.gold, blocks.item_weight, blocks.worker_weight, keys, np.uint64(salt),
                votes.n_classes, self.sums[thread], self.totals[thread], blocks.magic, start, stop,
            )  # fmt: skip

        blocks.over_items(work)
        if self.priors.classes_as_voted:
            self._of_class = np.maximum(self.priors.of_class, self._counted().sum(axis=1))

    def _counted(self) -> NDArray[np.float64]:
        """Return the sum of the posteriors that were counted last, shape (K, M)."""
        total: NDArray[np.float64] = self.totals.sum(axis=0).reshape(self.beliefs.subtypes.shape) * self.blocks.unit
        return total

    def step(self) -> float:
        """Find the best beliefs, then the best posteriors; return the objective."""
        self.maximise()
        return self.expect()

    def maximise(self) -> None:
        """Set the beliefs to the best for the posteriors that were counted last."""
        blocks, beliefs, priors = self.blocks, self.beliefs, self.priors
        counted = self._counted()
        beliefs.subtypes[:] = priors.of_subtype + counted
        beliefs.classes[:] = self._of_class + counted.sum(axis=1)
        self.totals[:] = 0
        of_class, of_subtype = np.empty((1, beliefs.classes.size)), np.empty(counted.shape)
        gain = dirichlet.expected_logs(beliefs.classes[None], self._of_class[None], of_class)
        gain += dirichlet.expected_logs(beliefs.subtypes, np.full(counted.shape, priors.of_subtype), of_subtype)

        def work(_thread: int, start: int, stop: int) -> tuple[float, float]:
            dirichlet.collect(
                self.sums, blocks.unit, priors.confusion, self.history, blocks.worker_weight, beliefs.workers,
                start, stop,
            )  # fmt: skip
            return dirichlet.tabulate(
                beliefs.workers, priors.confusion, self.history, blocks.worker_weight, self.sums.view(np.float64),
                self._everyone, start, stop,
            )  # fmt: skip

        parts = blocks.over_workers(work, self._everyone.size)
        self._gain = math.fsum([gain, self._constant, *(value for value, _ in parts)])
        self._column, lowest = _factors_of((of_class.T + of_subtype).ravel())
        self._factors = _how_many(min([lowest, *(low for _, low in parts)]))

    def expect(self) -> float:
        """Find and count the posteriors under the beliefs; return the objective of both."""
        nowhere = np.empty((0, self.blocks.votes.n_classes))
        values = _pass(self.blocks, list(self.sums), self.totals, self._column, nowhere, self._factors)
        return math.fsum(values) * self.blocks.scale + self._gain


def posterior_under(votes: Votes, beliefs: Beliefs, threads: int | None) -> NDArray[np.float64]:
    """Return the posterior of each item's class under these beliefs, shape (n_items, K).

    Items without votes have the expected class shares.
    """
    W, K, C = beliefs.workers.shape
    posterior = np.tile(beliefs.class_shares, (votes.n_items, 1))
    with Blocks(votes, threads) as blocks:
        cells = aligned_zeros(1, W * K * 2 * C)  # one for all threads: nothing is counted here
        workers = np.arange(W) if votes.n_votes > W else np.unique(votes.worker_of_vote)
        unused = np.zeros((K, K))
        _, lowest = dirichlet.tabulate(
            beliefs.workers, unused, _given(None, 3), blocks.worker_weight, cells.view(np.float64), workers,
            0, workers.size,
        )  # fmt: skip
        column, lowest_column = _factors_of(beliefs.log_column())
        totals = np.zeros((blocks.threads, C), np.int64)
        factors = _how_many(min(lowest, lowest_column))
        _pass(blocks, [cells[0]] * blocks.threads, totals, column, posterior, factors)
    return posterior


def labeled(votes: Votes, learned: Learned, *, seed: int, threads: int | None) -> VoteResult:
    """Return the labels under what ``IBCC`` or ``EBCC`` learned."""
    beliefs = Beliefs.of(learned)
    posterior = posterior_under(votes, beliefs, threads)
    confusion, class_shares = learned.workers["confusion"], beliefs.class_shares
    objective = learned.shared["objective"]
    return VoteResult(
        items=votes.items,
        classes=votes.classes,
        workers=votes.workers,
        label_codes=choose_labels(posterior, votes.items, votes.classes, seed),
        posterior=posterior,
        worker_quality=np.einsum("k,wkk->w", class_shares, confusion),
        confusion=confusion,
        class_prior=class_shares,
        objective=objective,
        n_iter=objective.size,
        learned=learned,
    )


def _pass(
    blocks: Blocks,
    sums: list[NDArray[np.int64]],
    totals: NDArray[np.int64],
    column: NDArray[np.float64],
    posterior: NDArray[np.float64],
    factors: int,
) -> list[float]:
    votes = blocks.votes
    n_subtypes = column.size // votes.n_classes
    run = dirichlet.pass_kernel(column.size)

    def work(thread: int, start: int, stop: int) -> float:
        return run(
            votes.indptr, votes.codes, votes.gold, blocks.item_weight, sums[thread].view(np.float64), sums[thread],
            column, totals[thread], n_subtypes, posterior, blocks.magic, factors, start, stop,
        )  # fmt: skip

    return blocks.over_items(work)


def _factors_of(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    bounded = np.maximum(logs, dirichlet.LOWEST_LOG)
    return np.exp(bounded), float(bounded.min())


def _how_many(lowest: float) -> int:
    """Return how many factors, none with a logarithm below ``lowest``, can be multiplied safely."""
    return max(1, min(_MOST_FACTORS, int(dirichlet.LOWEST_LOG / min(lowest, -1.0))))


def _given(array: NDArray[np.float64] | None, n_dimensions: int) -> NDArray[np.float64]:
    """Return a read-only view, empty if there is nothing: kernels compile once for either."""
    view = np.empty((0,) * n_dimensions) if array is None else np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _prior_constant(confusion: NDArray[np.float64], history: NDArray[np.float64], n_workers: int) -> float:
    """Return the sum over workers of the logarithms of their priors' constants."""
    if history.size == 0:
        return n_workers * dirichlet.log_normaliser(confusion)
    return math.fsum(dirichlet.log_normaliser(confusion + known) for known in history)


def _check_size(W: int, K: int, M: int) -> None:
    if W * K * K * M > _MAX_CELLS:
        subtypes = f" x {M} subtypes" if M > 1 else ""
        raise VotesError(
            f"confusion matrices of {W} workers x {K} x {K} classes{subtypes} need "
            f"{W * K * K * M * 16 / 1e9:.0f} GB a thread; use a method with fewer parameters a worker, such as majority"
        )
