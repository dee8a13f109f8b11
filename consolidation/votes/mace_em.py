"""Kernels of MACE: the counts of an M-step, what they say about a vote, and the E-step; ``mace.py`` calls them.

With probability *trust* a worker gives the item's class, otherwise an answer drawn from their own *strategy*, whatever
the item. So a vote for class ``l`` is ``1 + trust / ((1 - trust) * strategy[l])`` times as likely if ``l`` is true as
if it is not: an E-step needs one number a vote, and what it teaches is, for each worker and answer, the sum of the
posteriors of the classes answered.

A *cell* for each ``worker * K + answer`` holds that ratio (float64) and the sum (int64, in whole numbers as in
``em.py``), side by side. Each thread has its own cells. Weights are empty arrays where all are 1.

Ratios are multiplied, and brought back when they grow: 3.6 times as fast as adding logarithms. Where one of them has a
logarithm above ``MAX_LOG``, as a heavy vote or a tiny prior can make it, cells hold the logarithms instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.dirichlet import psi_and_log_gamma

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_LOG", "collect", "expect", "tabulate"]

_LARGE: Final = 1e100  # products above it are scaled down
MAX_LOG: Final = 400.0  # of a ratio: times a product that was not too large it is still a number


@kernel
def collect(
    sums: NDArray[np.int64],
    unit: float,
    given: NDArray[np.float64],
    right: NDArray[np.float64],
    share: NDArray[np.float64],
    weight: NDArray[np.float64],
    before_trust: float,
    before_strategy: float,
    trust: NDArray[np.float64],
    strategy: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    """Set the counts of the workers ``start:stop`` from all threads' sums, and clear the sums."""
    K = given.shape[1]
    for w in range(start, stop):
        m = weight[w] if weight.size > 0 else 1.0
        trust[w, 0] = trust[w, 1] = before_trust
        for l in range(K):
            strategy[w, l] = before_strategy
            if given[w, l] > 0.0:
                at = 2 * (w * K + l) + 1
                found = np.int64(0)
                for t in range(sums.shape[0]):
                    found += sums[t, at]
                    sums[t, at] = 0
                knows = (found * unit * m + right[w, l]) * share[w, l]
                habit = max(given[w, l] - knows, 0.0)
                trust[w, 0] += knows
                trust[w, 1] += habit
                strategy[w, l] += habit


@kernel
def tabulate(
    trust: NDArray[np.float64],
    strategy: NDArray[np.float64],
    given: NDArray[np.float64],
    right: NDArray[np.float64],
    share: NDArray[np.float64],
    weight: NDArray[np.float64],
    vb: bool,  # noqa: FBT001 - kernels are called by position
    before_trust: float,
    before_strategy: float,
    logarithms: bool,  # noqa: FBT001 - kernels are called by position
    table: NDArray[np.float64],
    workers: NDArray[np.int64],
    start: int,
    stop: int,
) -> tuple[float, float]:
    """Write the ratios of ``workers[start:stop]`` into all rows of ``table``, and their shares of known votes.

    Without rows in ``given`` nothing is learned and all answers are tabulated, otherwise those that were given.

    Returns:
        The log likelihood of the workers' votes if none were right, plus what right ones in the history add, plus log
        prior or minus divergence from it; and the largest logarithm of a ratio.
    """
    K = strategy.shape[1]
    learns = given.shape[0] > 0
    trust_logs, logs = np.empty(2), np.empty(K)
    value = 0.0
    highest = 0.0
    for n in range(start, stop):
        w = workers[n]
        m = weight[w] if weight.size > 0 else 1.0
        value += _expected_logs(trust[w], before_trust, vb, trust_logs)
        value += _expected_logs(strategy[w], before_strategy, vb, logs)
        for l in range(K):
            if learns and given[w, l] == 0.0:  # such votes, if there are any, count nothing
                for t in range(table.shape[0]):
                    table[t, 2 * (w * K + l)] = 0.0 if logarithms else 1.0
                continue
            habit = trust_logs[1] + logs[l]
            gap = trust_logs[0] - habit
            tail = math.exp(-abs(gap))
            ratio = max(gap, 0.0) + math.log1p(tail)
            highest = max(highest, ratio * m)
            cell = ratio * m if logarithms else math.exp(min(ratio * m, MAX_LOG))
            for t in range(table.shape[0]):
                table[t, 2 * (w * K + l)] = cell
            if learns:
                share[w, l] = (1.0 if gap > 0.0 else tail) / (1.0 + tail)
                value += given[w, l] * habit + right[w, l] * ratio
    return value, highest


@kernel
def _expected_logs(
    counts: NDArray[np.float64],
    before: float,
    vb: bool,  # noqa: FBT001 - kernels are called by position
    logs: NDArray[np.float64],
) -> float:
    """Write the logarithms of a distribution with these counts, or under a Dirichlet their expectations.

    Returns:
        ``before`` times their sum, or minus the divergence from a symmetric Dirichlet with parameter ``before``.
    """
    K = counts.size
    total = counts.sum()
    if not vb:
        value = 0.0
        for l in range(K):
            logs[l] = math.log(counts[l] / total)
            value += before * logs[l]
        return value
    psi_before, log_gamma_before = psi_and_log_gamma(before)
    psi_total, log_gamma_total = psi_and_log_gamma(total)
    value = psi_and_log_gamma(K * before)[1] - log_gamma_total
    for l in range(K):
        logs[l] = psi_before - psi_total
        if counts[l] > before:
            psi, log_gamma = psi_and_log_gamma(counts[l])
            logs[l] = psi - psi_total
            value += log_gamma - log_gamma_before - (counts[l] - before) * logs[l]
    return value


@kernel
def expect(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    item_weight: NDArray[np.float64],
    n_classes: int,
    logarithms: bool,  # noqa: FBT001 - kernels are called by position
    table: NDArray[np.float64],
    sums: NDArray[np.int64],
    posterior: NDArray[np.float64],
    magic: float,
    start: int,
    stop: int,
) -> float:
    """E-step of the items ``start:stop``.

    Args:
        indptr: rows of the votes.
        codes: the votes.
        gold: known classes.
        item_weight: empty if all are 1.
        n_classes: K.
        logarithms: whether the cells hold the ratios' logarithms.
        table: one thread's cells as float64; even places hold ratios.
        sums: the same memory; odd places get the posteriors of the classes answered, times the items' weights.
        posterior: if it has rows, posteriors are written there, shape (n_items, K), and nothing is added to sums.
        magic: see ``em.py``.
        start: the first item.
        stop: the item after the last.

    Returns:
        The weighted sum of the logarithms of the items' normalisers, without habits and the classes' prior.
    """
    K = np.uint32(n_classes)
    offset = np.float64(magic).view(np.int64)
    log_large = math.log(_LARGE)
    x = np.empty(n_classes)
    q = np.empty(n_classes, np.int64)
    value = 0.0
    product = 1.0
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        weight = item_weight[i] if item_weight.size > 0 else 1.0
        log_scale = 0.0
        if logarithms:
            log_scale = _add_logarithms(codes, first, last, table, x)
        else:
            for k in range(n_classes):
                x[k] = 1.0
            for j in range(first, last):
                label = codes[j] % K
                x[label] *= table[2 * np.int64(codes[j])]
                while x[label] > _LARGE:
                    for k in range(n_classes):
                        x[k] /= _LARGE
                    log_scale += log_large
        g = gold[i]
        total = 0.0
        if g >= 0:  # what it is scaled by may hide a class that nobody voted for
            known: float = _log_of(codes, first, last, table, n_classes, g, logarithms)
            for k in range(n_classes):
                x[k] = 0.0
            x[g] = 1.0
            total = 1.0
            log_scale = known
        else:
            for k in range(n_classes):
                total += x[k]
        if posterior.shape[0] > 0:
            for k in range(n_classes):
                posterior[i, k] = min(x[k] / total, 1.0)
            continue
        if item_weight.size > 0:
            value += weight * (log_scale + math.log(total))
        else:
            value += log_scale
            product *= total
            if product > _LARGE:
                value += math.log(product)
                product = 1.0
        scale = weight / total
        for k in range(n_classes):
            q[k] = np.float64(x[k] * scale + magic).view(np.int64) - offset
        for j in range(first, last):
            sums[2 * np.int64(codes[j]) + 1] += q[codes[j] % K]
    return value + math.log(product)


@kernel
def _add_logarithms(
    codes: NDArray[np.uint32], first: int, last: int, table: NDArray[np.float64], x: NDArray[np.float64]
) -> float:
    """Set ``x`` to the products of one item's ratios over the largest of them; return its logarithm."""
    K = np.uint32(x.size)
    x[:] = 0.0
    for j in range(first, last):
        x[codes[j] % K] += table[2 * np.int64(codes[j])]
    top: float = x.max()
    for k in range(x.size):
        x[k] = math.exp(x[k] - top)
    return top


@kernel
def _log_of(
    codes: NDArray[np.uint32],
    first: int,
    last: int,
    table: NDArray[np.float64],
    n_classes: int,
    gold: int,
    logarithms: bool,  # noqa: FBT001 - kernels are called by position
) -> float:
    """Return the logarithm of the product of the ratios of one item's votes for its gold class."""
    value = 0.0
    K = np.uint32(n_classes)
    for j in range(first, last):
        if codes[j] % K == np.uint32(gold):
            cell = table[2 * np.int64(codes[j])]
            value += cell if logarithms else math.log(cell)
    return value
