"""Kernels of expectation-maximisation over a vote table with one accuracy a worker.

Their arrays, and what the steps are for, stand in ``one_coin.py``; fixed point and linear space are explained in
``em.py``.

*Cells.* Two numbers a worker side by side: the *ratio*, how many times more probable their vote makes its class than
any other class (float64), and the sum of the posteriors of the classes they voted for (int64). What a vote says of all
classes alike, ``(1 - accuracy) / (K - 1)``, changes no posterior and is added to the objective by worker.

*Few of many classes.* With many classes, only those that an item has votes for are multiplied; the rest keep the shares
of the class prior among them. How much of it each class has in the sum over items is its prior times the sum over all
items minus that over the items with votes for it.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.lanes import fixed, lanes_for, load, plus, scaled, scaled_at, store, times, total

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["SMALLEST_REST", "add_shares", "count_answers", "pass_kernel"]

_FEW_CLASSES: Final = 32  # up to here all classes are worked on, in registers
SMALLEST_REST: Final = 2.0**-10  # of the prior, in classes without votes; if less is left, they are worked on too
_VOTES_BEFORE_RESCALE: Final = 8
_SMALLEST_PRODUCT: Final = 1e-30  # of likelihoods, before its logarithm is taken; its inverse is the largest


@kernel
def count_answers(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    item_weight: NDArray[np.float64],
    answered: NDArray[np.float64],
) -> None:
    """Add to each worker how much the items weigh that they voted on, shape (n_workers,)."""
    for i in range(indptr.size - 1):
        weight = item_weight[i] if item_weight.size else 1.0
        for j in range(indptr[i], indptr[i + 1]):
            answered[codes[j] // np.uint32(n_classes)] += weight


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
    """Add each item's vote shares, or its gold class, to the totals and to the sums of those who voted so."""
    K = n_classes
    share = np.zeros(K)
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        weight = item_weight[i] if item_weight.size else 1.0
        worth = 0.0
        for j in range(first, last):
            worth += worker_weight[codes[j] // np.uint32(K)] if worker_weight.size else 1.0
        if gold[i] >= 0:
            share[gold[i]] = weight
            totals[gold[i]] += _whole(weight, magic)
        elif worth == 0.0:
            share[:] = weight / K
            for k in range(K):
                totals[k] += _whole(share[k], magic)
        else:
            for j in range(first, last):
                vote = worker_weight[codes[j] // np.uint32(K)] if worker_weight.size else 1.0
                vote *= weight / worth
                share[codes[j] % np.uint32(K)] += vote
                totals[codes[j] % np.uint32(K)] += _whole(vote, magic)
        for j in range(first, last):
            sums[2 * (codes[j] // np.uint32(K)) + 1] += _whole(share[codes[j] % np.uint32(K)], magic)
        if gold[i] >= 0 or worth == 0.0:
            share[:] = 0.0
        for j in range(first, last):
            share[codes[j] % np.uint32(K)] = 0.0


def pass_kernel(n_classes: int) -> Callable[..., None]:
    """Return the kernel of the E-step for this number of classes.

    It computes the posterior of the items of each block, and the block's log likelihood but for what all classes
    share. If ``posterior`` has rows, it is written there, shape (n_items, K); if it has none, it is added to the sums
    of the workers and to ``totals``, where many classes have three parts: K sums of posteriors of classes with votes,
    K sums over the items with votes for a class of what their other classes keep of the prior, and one such sum over
    all items; the latter two in a unit ``1 / SMALLEST_REST`` times larger.
    """
    return _pass_few(lanes_for(n_classes)) if n_classes <= _FEW_CLASSES else _pass_many


@functools.cache
def _pass_few(lanes: int) -> Callable[..., None]:
    @kernel
    def expect_few(
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
        K = np.uint32(prior.size)
        shares = np.zeros(lanes)
        whole = np.zeros(lanes, np.int64)
        only = np.zeros(lanes * lanes)
        for k in range(prior.size):
            shares[k] = prior[k]
            only[k * (lanes + 1)] = 1.0
        p = load(shares, 0, lanes)
        t = load(whole, 0, lanes)
        for b in range(start_block, stop_block):
            value = 0.0
            product = 1.0
            for i in range(bounds[b], bounds[b + 1]):
                first, last = np.uint64(indptr[i]), np.uint64(indptr[i + 1])
                weight = item_weight[i] if item_weight.size else 1.0
                x = p
                if gold[i] >= 0:
                    x = times(p, load(only, gold[i] * lanes, lanes))
                n = 0
                for j in range(first, last):
                    worker = codes[j] // K
                    x = scaled_at(x, codes[j] - worker * K, table[2 * np.uint64(worker)])
                    n += 1
                    if n == _VOTES_BEFORE_RESCALE:
                        n = 0
                        mass = total(x)
                        value += weight * math.log(mass)
                        x = scaled(x, 1.0 / mass)
                mass = total(x)
                product *= mass
                if item_weight.size or product < _SMALLEST_PRODUCT or product > 1.0 / _SMALLEST_PRODUCT:
                    value += weight * math.log(product)
                    product = 1.0
                if posterior.shape[0] > 0:
                    store(shares, 0, scaled(x, 1.0 / mass))
                    for k in range(posterior.shape[1]):
                        posterior[i, k] = min(shares[k], 1.0)
                    continue
                q = fixed(scaled(x, weight / mass), magic)
                t = plus(t, q)
                store(whole, 0, q)
                for j in range(first, last):
                    worker = codes[j] // K
                    sums[2 * np.uint64(worker) + np.uint64(1)] += whole[np.uint64(codes[j] - worker * K)]
            log_likelihood[b] = value + math.log(product)
        store(whole, 0, t)
        for k in range(prior.size):
            totals[k] += whole[k]

    made: Callable[..., None] = expect_few
    return made


@kernel
def _pass_many(
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
    K = prior.size
    x = np.zeros(K)
    q = np.zeros(K, np.int64)
    used = np.arange(K)  # the classes worked on ...
    seen = np.full(K, -1, np.int64)  # ... and the last item for which each was
    for b in range(start_block, stop_block):
        log_likelihood[b] = 0.0
        for i in range(bounds[b], bounds[b + 1]):
            first, last = indptr[i], indptr[i + 1]
            weight = item_weight[i] if item_weight.size else 1.0
            n_used, rest, shrunk, logs = _multiply(i, codes, first, last, gold[i], table, prior, x, used, seen)
            mass = _mass(x, used, n_used, rest * shrunk)
            log_likelihood[b] += weight * (logs + math.log(mass))
            if posterior.shape[0] > 0:
                for k in range(K):
                    posterior[i, k] = prior[k] * shrunk / mass if rest > 0.0 else 0.0
                for u in range(n_used):
                    posterior[i, used[u]] = min(x[used[u]] / mass, 1.0)
                continue
            factor = weight / mass
            for u in range(n_used):
                k = used[u]
                q[k] = _whole(x[k] * factor, magic)
                totals[k] += q[k]
            if rest > 0.0:
                kept = _whole(shrunk * factor * SMALLEST_REST, magic)
                totals[2 * K] += kept
                for u in range(n_used):
                    totals[K + used[u]] += kept
            for j in range(first, last):
                worker = codes[j] // np.uint32(K)
                sums[2 * worker + 1] += q[codes[j] - worker * np.uint32(K)]


@kernel
def _multiply(
    i: int,
    codes: NDArray[np.uint32],
    first: int,
    last: int,
    gold: int,
    table: NDArray[np.float64],
    prior: NDArray[np.float64],
    x: NDArray[np.float64],
    used: NDArray[np.int64],
    seen: NDArray[np.int64],
) -> tuple[int, float, float, float]:
    """Multiply what item ``i``'s votes say of each class into ``x``, for the classes in ``used[:n_used]``.

    Returns:
        n_used; how much of the prior the other classes have; what they were multiplied by; the logarithm of what
        everything was divided by.
    """
    K = prior.size
    n_used, rest, shrunk, logs = 0, 1.0, 1.0, 0.0
    n = 0
    for j in range(first, last):
        worker = codes[j] // np.uint32(K)
        l = codes[j] - worker * np.uint32(K)
        if seen[l] != i:
            seen[l], x[l], used[n_used] = i, prior[l] * shrunk, l
            n_used += 1
            rest -= prior[l]
        x[l] *= table[2 * worker]
        n += 1
        if n == _VOTES_BEFORE_RESCALE:
            n = 0
            mass = _mass(x, used, n_used, max(rest, 0.0) * shrunk)
            logs += math.log(mass)
            shrunk /= mass
            for u in range(n_used):
                x[used[u]] /= mass
    if gold >= 0:
        if seen[gold] != i:
            x[gold], used[n_used] = prior[gold] * shrunk, gold
            n_used += 1
        for u in range(n_used):
            x[used[u]] *= used[u] == gold
        rest = 0.0
    elif rest < SMALLEST_REST:  # too little is left to be told from rounding: work on all classes
        rest = 0.0
        for k in range(K):
            if seen[k] != i:
                x[k], used[n_used] = prior[k] * shrunk, k
                n_used += 1
    return n_used, rest, shrunk, logs


@kernel
def _mass(x: NDArray[np.float64], used: NDArray[np.int64], n_used: int, rest: float) -> float:
    mass = rest
    for u in range(n_used):
        mass += x[used[u]]
    return mass


@kernel
def _whole(value: float, magic: float) -> np.int64:
    """Return a float from 0 to ``magic`` as a whole multiple of ``magic * 2**-52``, rounded."""
    return np.float64(value + magic).view(np.int64) - np.float64(magic).view(np.int64)
