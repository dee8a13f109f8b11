"""Kernels of expectation-maximisation over a vote table with a K x K confusion matrix a worker.

Nothing here knows priors' meaning, convergence or names: ``dawid_skene.py`` does. See
``docs/decisions/0003-votes-layout.md`` for the layouts that were tried.

*Cells.* One row of 2K numbers for each ``worker * K + label``: K probabilities of that answer given each true class
(float64), then K sums of posteriors (int64), side by side, because both are wanted for the same vote and a cache line
is fetched once. Each thread has its own copy.

*Fixed point.* Posteriors are summed as whole numbers: adding the power of two ``magic`` to a probability leaves it,
rounded to a fixed unit, in the low bits of the float. Whole numbers add up to the same in any order, so results have
the same bytes with any number of threads, and votes in any order teach the same of a worker. The unit is 2**-52 of
``magic``, chosen so that the largest sum cannot overflow: 2e-16 for up to 1,000 items and votes of one worker,
2e-10 for a billion. Smaller posteriors count as none.

*Linear space.* Probabilities are multiplied, not their logarithms added, and brought back to sum 1 every few votes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["FLOOR", "add_shares", "magic_for", "maximise", "pass_kernel", "pooled"]

FLOOR: Final = 1e-30  # no probability is below: eight of them multiplied are still a normal number
_VOTES_BEFORE_RESCALE: Final = 8
_SMALLEST_PRODUCT: Final = 1e-30  # of likelihoods, before its logarithm is taken
_MAX_UNROLLED: Final = 16  # classes; beyond, written-out code would take long to compile
_WORKERS_BEFORE_LOG: Final = 8


def magic_for(largest_count: int) -> float:
    """Return the power of two that makes sums of up to ``largest_count`` probabilities fit 63 bits."""
    return 2.0 ** max(0, math.ceil(math.log2(largest_count + 1)) - 10)


@kernel
def add_shares(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    n_classes: int,
    sums: NDArray[np.int64],
    totals: NDArray[np.int64],
    magic: float,
    start: int,
    stop: int,
) -> None:
    """Add each item's vote shares, or its gold class, to the sums of its votes' cells: the first M-step's input."""
    K = n_classes
    offset = np.float64(magic).view(np.int64)
    count = np.zeros(K, np.int64)
    share = np.zeros(K, np.int64)
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        count[:] = 0
        if gold[i] >= 0:
            count[gold[i]] = 1
            n = 1
        elif first == last:
            count[:] = 1
            n = K
        else:
            n = last - first
            for j in range(first, last):
                count[codes[j] % np.uint32(K)] += 1
        for k in range(K):
            share[k] = np.float64(count[k] / n + magic).view(np.int64) - offset
            totals[k] += share[k]
        for j in range(first, last):
            at = np.int64(codes[j]) * (2 * K) + K
            for k in range(K):
                sums[at + k] += share[k]


@kernel
def pooled(sums: NDArray[np.int64], unit: float, counts: NDArray[np.float64]) -> None:
    """Add the sums of all workers to ``counts[true, answer]``, shape (K, K)."""
    K = counts.shape[0]
    for w in range(sums.shape[1] // (2 * K * K)):
        for l in range(K):
            at = (w * K + l) * 2 * K + K
            for k in range(K):
                count = np.int64(0)
                for t in range(sums.shape[0]):
                    count += sums[t, at + k]
                counts[k, l] += count * unit


@kernel
def maximise(
    table: NDArray[np.float64],
    sums: NDArray[np.int64],
    pseudo: NDArray[np.float64],
    unit: float,
    start: int,
    stop: int,
) -> float:
    """Turn the sums of the workers ``start:stop`` into probabilities, in every thread's cells, and clear the sums.

    Args:
        table: the cells as float64, shape (threads, n_workers * K * 2K).
        sums: the same memory as int64.
        pseudo: counts added to each worker's own, ``pseudo[true, answer]``, all zero or all positive, shape (K, K).
        unit: what one in ``sums`` stands for.
        start: the first worker.
        stop: the worker after the last.

    Returns:
        The sum of ``pseudo * log(probability)`` over these workers.
    """
    K = pseudo.shape[0]
    threads = table.shape[0]
    penalised = pseudo[0, 0] > 0
    product = np.ones((K, K))  # of probabilities over a few workers, product[answer, true], to take few logarithms
    total = np.empty(K)
    penalty = 0.0
    for w in range(start, stop):
        total[:] = 0.0
        for l in range(K):
            at = (w * K + l) * 2 * K
            for k in range(K):
                count = np.int64(0)
                for t in range(threads):
                    count += sums[t, at + K + k]
                value = count * unit + pseudo[k, l]
                table[0, at + k] = value
                total[k] += value
        for k in range(K):
            if total[k] == 0.0:  # nothing is known of this worker and class: spread over the answers that they use
                total[k] = _spread_over_used(table, sums, w, k, K)
            total[k] = 1.0 / total[k]
        for l in range(K):
            at = (w * K + l) * 2 * K
            for k in range(K):
                value = max(table[0, at + k] * total[k], FLOOR)
                product[l, k] *= value
                for t in range(threads):
                    table[t, at + k] = value
                    sums[t, at + K + k] = 0
        if (w - start) % _WORKERS_BEFORE_LOG == _WORKERS_BEFORE_LOG - 1 or w == stop - 1:
            if penalised:
                for l in range(K):
                    for k in range(K):
                        penalty += pseudo[k, l] * math.log(product[l, k])
            product[:] = 1.0
    return penalty


@kernel
def _spread_over_used(table: NDArray[np.float64], sums: NDArray[np.int64], w: int, k: int, n_classes: int) -> float:
    K = n_classes
    used = 0.0
    for l in range(K):
        row = (w * K + l) * 2 * K
        mass = np.int64(0)
        for t in range(table.shape[0]):
            for c in range(K):
                mass += sums[t, row + K + c]
        table[0, row + k] = 1.0 if mass > 0 else 0.0
        used += table[0, row + k]
    if used == 0.0:
        for l in range(K):
            table[0, (w * K + l) * 2 * K + k] = 1.0
        used = float(K)
    return used


@kernel
def _pass_any(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    table: NDArray[np.float64],
    sums: NDArray[np.int64],
    prior: NDArray[np.float64],
    totals: NDArray[np.int64],
    posterior: NDArray[np.float64],
    magic: float,
    start: int,
    stop: int,
) -> float:
    """One E-step and the sums of the next M-step, fused, for any number of classes; see ``pass_kernel``."""
    K = prior.size
    offset = np.float64(magic).view(np.int64)
    x = np.empty(K, np.float64)
    q = np.empty(K, np.int64)
    log_likelihood = 0.0
    product = 1.0
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        for k in range(K):
            x[k] = prior[k] if gold[i] < 0 or gold[i] == k else 0.0
        for j in range(first, last):
            at = np.int64(codes[j]) * (2 * K)
            for k in range(K):
                x[k] *= table[at + k]
            if (j - first) % _VOTES_BEFORE_RESCALE == _VOTES_BEFORE_RESCALE - 1:
                total = 0.0
                for k in range(K):
                    total += x[k]
                product *= total
                if product < _SMALLEST_PRODUCT:
                    log_likelihood += math.log(product)
                    product = 1.0
                for k in range(K):
                    x[k] /= total
        total = 0.0
        for k in range(K):
            total += x[k]
        product *= total
        if product < _SMALLEST_PRODUCT:
            log_likelihood += math.log(product)
            product = 1.0
        if posterior.shape[0] > 0:
            for k in range(K):
                posterior[i, k] = min(x[k] / total, 1.0)
            continue
        for k in range(K):
            q[k] = np.float64(x[k] / total + magic).view(np.int64) - offset
            totals[k] += q[k]
        for j in range(first, last):
            at = np.int64(codes[j]) * (2 * K) + K
            for k in range(K):
                sums[at + k] += q[k]
    return log_likelihood + math.log(product)


# The same pass with the loops over classes written out, so that a posterior lives in registers: {x} stands for a line
# repeated for each class k. numba does not unroll such loops, and keeps arrays in memory.
_UNROLLED: Final = """
def pass_{K}(indptr, codes, gold, table, sums, prior, totals, posterior, magic, start, stop):
    offset = np.float64(magic).view(np.int64)
    {each: p@ = prior[@]}
    {each: t@ = np.int64(0)}
    log_likelihood = 0.0
    product = 1.0
    first = indptr[start]
    for i in range(start, stop):
        last = indptr[i + 1]
        {each: x@ = p@}
        g = gold[i]
        if g >= 0:
            {each: x@ = p@ if g == @ else 0.0}
        n = 0
        for j in range(first, last):
            at = np.int64(codes[j]) * (2 * {K})
            {each: x@ *= table[at + @]}
            n += 1
            if n == {rescale}:
                n = 0
                total = {sum: x@}
                product *= total
                if product < {smallest}:
                    log_likelihood += math.log(product)
                    product = 1.0
                total = 1.0 / total
                {each: x@ *= total}
        total = {sum: x@}
        product *= total
        if product < {smallest}:
            log_likelihood += math.log(product)
            product = 1.0
        total = 1.0 / total
        if posterior.shape[0] > 0:
            {each: posterior[i, @] = min(x@ * total, 1.0)}
            first = last
            continue
        {each: q@ = np.float64(x@ * total + magic).view(np.int64) - offset}
        {each: t@ += q@}
        for j in range(first, last):
            at = np.int64(codes[j]) * (2 * {K}) + {K}
            {each: sums[at + @] += q@}
        first = last
    {each: totals[@] += t@}
    return log_likelihood + math.log(product)
"""
_unrolled: dict[int, Callable[..., float]] = {}


def pass_kernel(n_classes: int) -> Callable[..., float]:
    """Return the fused pass for this number of classes.

    Called as ``(indptr, codes, gold, table, sums, prior, totals, posterior, magic, start, stop)`` it computes the
    posterior of the items ``start:stop`` under the table and returns their log likelihood. If ``posterior`` has rows,
    it is written there, shape (n_items, K); if it has none, it is added to the sums of the items' votes and to
    ``totals``. ``table`` and ``sums`` are one thread's cells as float64 and as int64.
    """
    if n_classes > _MAX_UNROLLED:
        chosen: Callable[..., float] = _pass_any
        return chosen
    if n_classes not in _unrolled:
        name = f"pass_{n_classes}"
        scope: dict[str, Any] = {"np": np, "math": math, "__name__": __name__}
        # numba keeps machine code beside the file that a function names as its source: this one.
        exec(compile(_source(n_classes), __file__, "exec"), scope)  # noqa: S102 - our own template, a whole number in
        _unrolled[n_classes] = kernel(scope[name])
    return _unrolled[n_classes]


def _source(n_classes: int) -> str:
    lines = []
    for template in _UNROLLED.splitlines():
        line = template.replace("{K}", str(n_classes)).replace("{rescale}", str(_VOTES_BEFORE_RESCALE))
        line = line.replace("{smallest}", repr(_SMALLEST_PRODUCT))
        for mark, glue in (("{each: ", "; "), ("{sum: ", " + ")):
            if mark in line:
                head, body = line.split(mark)
                repeated = glue.join(body[:-1].replace("@", str(k)) for k in range(n_classes))
                line = head + repeated
        lines.append(line)
    return "\n".join(lines)
