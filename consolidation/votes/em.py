"""Kernels of expectation-maximisation over a vote table: the E-step, which sums for the M-step as it goes.

Each worker has a K x K confusion matrix. Nothing here knows priors' meaning, convergence or names: ``dawid_skene.py``
does. The M-step stands in ``m_step.py``; ``docs/decisions/0003-votes-layout.md`` has the layouts that were tried.

*Cells.* One row of 2L numbers for each ``worker * K + label``: L probabilities of that answer given each true class
(float64), then L sums of posteriors (int64), side by side, because both are wanted for the same vote and a cache line
is fetched once. L is K made up to whole vectors (see ``lanes.py``); sums and priors beyond K are zero. Each thread
has its own copy.

*Fixed point.* Posteriors are summed as whole numbers: adding the power of two ``magic`` to a probability leaves it,
rounded to a fixed unit, in the low bits of the float. Whole numbers add up to the same in any order, so results have
the same bytes with any number of threads, and votes in any order teach the same of a worker. The unit is 2**-52 of
``magic``, chosen so that the largest sum cannot overflow: 2e-16 for up to 1,000 items and votes of one worker,
2e-10 for a billion. Smaller posteriors count as none.

*Linear space.* Probabilities are multiplied, not their logarithms added, and brought back to sum 1 every few votes.

Weights are arrays, empty where everything counts 1.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.lanes import add_to, fixed, load, piece_of, plus, prefetch, scaled, store, times, total

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["count_answers", "magic_for", "pass_kernel", "shares_kernel"]

_VOTES_BEFORE_RESCALE: Final = 8  # probabilities of 1e-30 or more: their product is still a normal number
_SMALLEST_PRODUCT: Final = 1e-30  # of likelihoods, before its logarithm is taken
_VOTES_AHEAD: Final = 24  # how far cells are fetched before they are needed
_LARGEST_ROW: Final = 128  # lanes; beyond, written-out code would take long to compile
_PIECE: Final = 8  # lanes of the pieces in which larger rows are worked on


def magic_for(largest_count: int) -> float:
    """Return the power of two that makes sums of up to ``largest_count`` probabilities fit 63 bits."""
    return 2.0 ** max(0, math.ceil(math.log2(largest_count + 1)) - 10)


@kernel
def count_answers(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    item_weight: NDArray[np.float64],
    answered: NDArray[np.float64],
) -> None:
    """Add to each cell how much the items weigh whose votes it has, ``answered[worker * K + label]``."""
    for i in range(indptr.size - 1):
        weight = item_weight[i] if item_weight.size else 1.0
        for j in range(indptr[i], indptr[i + 1]):
            answered[codes[j]] += weight


def shares_kernel(lanes: int) -> Callable[..., None]:
    """Return the kernel that adds each item's vote shares, or its gold class, to the sums of its votes' cells."""
    return _shares_of(piece_of(lanes))


def pass_kernel(lanes: int) -> Callable[..., None]:
    """Return the kernel of the E-step for posteriors of so many lanes.

    It computes the posterior of the items of each block under the table, and the block's log likelihood. If
    ``posterior`` has rows, it is written there, shape (n_items, K); if it has none, it is added to the sums of the
    items' votes and to ``totals``. ``table`` and ``sums`` are one thread's cells as float64 and as int64.
    """
    return _pass_in_registers(lanes) if lanes <= _LARGEST_ROW else _pass_in_pieces


@functools.cache
def _shares_of(piece: int) -> Callable[..., None]:
    @kernel
    def add_shares(
        indptr: NDArray[np.int64],
        codes: NDArray[np.uint32],
        gold: NDArray[np.int32],
        n_classes: int,
        item_weight: NDArray[np.float64],
        worker_weight: NDArray[np.float64],
        sums: NDArray[np.int64],
        totals: NDArray[np.int64],
        magic: float,
        start: int,
        stop: int,
    ) -> None:
        K, L = n_classes, totals.size
        share = np.zeros(L)
        for i in range(start, stop):
            first, last = indptr[i], indptr[i + 1]
            share[:] = 0.0
            worth = 0.0
            if gold[i] >= 0:
                share[gold[i]] = worth = 1.0
            else:
                for j in range(first, last):
                    if j + _VOTES_AHEAD < codes.size:
                        prefetch(sums, np.int64(codes[j + _VOTES_AHEAD]) * (2 * L) + L)
                    weight = worker_weight[codes[j] // np.uint32(K)] if worker_weight.size else 1.0
                    share[codes[j] % np.uint32(K)] += weight
                    worth += weight
            if worth == 0.0:
                share[:K] = 1.0
                worth = float(K)
            factor = (item_weight[i] if item_weight.size else 1.0) / worth
            for c in range(0, L, piece):
                row = fixed(scaled(load(share, c, piece), factor), magic)
                add_to(totals, c, row)
                for j in range(first, last):
                    add_to(sums, np.int64(codes[j]) * (2 * L) + L + c, row)

    made: Callable[..., None] = add_shares
    return made


@functools.cache
def _pass_in_registers(lanes: int) -> Callable[..., None]:
    @kernel
    def expect(
        indptr: NDArray[np.int64],
        codes: NDArray[np.uint32],
        gold: NDArray[np.int32],
        item_weight: NDArray[np.float64],
        table: NDArray[np.float64],
        sums: NDArray[np.int64],
        prior: NDArray[np.float64],
        totals: NDArray[np.int64],
        posterior: NDArray[np.float64],
        magic: float,
        bounds: NDArray[np.int64],
        log_likelihood: NDArray[np.float64],
        start_block: int,
        stop_block: int,
    ) -> None:
        weighted = item_weight.size > 0
        only = np.zeros(lanes * lanes)
        for k in range(lanes):
            only[k * (lanes + 1)] = 1.0
        shares = np.empty(lanes)
        p = load(prior, 0, lanes)
        t = load(np.zeros(lanes, np.int64), 0, lanes)
        for b in range(start_block, stop_block):
            value = 0.0
            product = 1.0
            for i in range(bounds[b], bounds[b + 1]):
                first, last = np.uint64(indptr[i]), np.uint64(indptr[i + 1])
                weight = item_weight[i] if weighted else 1.0
                x = p
                if gold[i] >= 0:
                    x = times(p, load(only, gold[i] * lanes, lanes))
                n = 0
                for j in range(first, last):
                    ahead = j + np.uint64(_VOTES_AHEAD)
                    if ahead < np.uint64(codes.size):
                        prefetch(sums, np.int64(codes[ahead]) * (2 * lanes))
                    x = times(x, load(table, np.int64(codes[j]) * (2 * lanes), lanes))
                    n += 1
                    if n == _VOTES_BEFORE_RESCALE:
                        n = 0
                        mass = total(x)
                        product *= mass
                        if product < _SMALLEST_PRODUCT:
                            value += weight * math.log(product)
                            product = 1.0
                        x = scaled(x, 1.0 / mass)
                mass = total(x)
                product *= mass
                if weighted or product < _SMALLEST_PRODUCT:
                    value += weight * math.log(product)
                    product = 1.0
                if posterior.shape[0] > 0:
                    store(shares, 0, scaled(x, 1.0 / mass))
                    for k in range(posterior.shape[1]):
                        posterior[i, k] = min(shares[k], 1.0)
                    continue
                q = fixed(scaled(x, weight / mass), magic)
                t = plus(t, q)
                for j in range(first, last):
                    add_to(sums, np.int64(codes[j]) * (2 * lanes) + lanes, q)
            log_likelihood[b] = value + math.log(product)
        add_to(totals, 0, t)

    made: Callable[..., None] = expect
    return made


@kernel
def _pass_in_pieces(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    item_weight: NDArray[np.float64],
    table: NDArray[np.float64],
    sums: NDArray[np.int64],
    prior: NDArray[np.float64],
    totals: NDArray[np.int64],
    posterior: NDArray[np.float64],
    magic: float,
    bounds: NDArray[np.int64],
    log_likelihood: NDArray[np.float64],
    start_block: int,
    stop_block: int,
) -> None:
    """Do what the pass in registers does, with a posterior in memory."""
    L = prior.size
    weighted = item_weight.size > 0
    x = np.empty(L)
    for b in range(start_block, stop_block):
        value = 0.0
        product = 1.0
        for i in range(bounds[b], bounds[b + 1]):
            first, last = indptr[i], indptr[i + 1]
            weight = item_weight[i] if weighted else 1.0
            for k in range(L):
                x[k] = prior[k] if gold[i] < 0 or gold[i] == k else 0.0
            n = 0
            for j in range(first, last):
                at = np.int64(codes[j]) * (2 * L)
                for c in range(0, L, _PIECE):
                    store(x, c, times(load(x, c, _PIECE), load(table, at + c, _PIECE)))
                n += 1
                if n == _VOTES_BEFORE_RESCALE:
                    n = 0
                    mass = _mass(x)
                    product *= mass
                    if product < _SMALLEST_PRODUCT:
                        value += weight * math.log(product)
                        product = 1.0
                    for c in range(0, L, _PIECE):
                        store(x, c, scaled(load(x, c, _PIECE), 1.0 / mass))
            mass = _mass(x)
            product *= mass
            if weighted or product < _SMALLEST_PRODUCT:
                value += weight * math.log(product)
                product = 1.0
            if posterior.shape[0] > 0:
                for k in range(posterior.shape[1]):
                    posterior[i, k] = min(x[k] / mass, 1.0)
                continue
            for c in range(0, L, _PIECE):
                q = fixed(scaled(load(x, c, _PIECE), weight / mass), magic)
                add_to(totals, c, q)
                for j in range(first, last):
                    add_to(sums, np.int64(codes[j]) * (2 * L) + L + c, q)
        log_likelihood[b] = value + math.log(product)


@kernel
def _mass(x: NDArray[np.float64]) -> float:
    row = load(x, 0, _PIECE)
    for c in range(_PIECE, x.size, _PIECE):
        row = plus(row, load(x, c, _PIECE))
    mass: float = total(row)
    return mass
