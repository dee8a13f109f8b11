"""Kernels of variational inference over a vote table with Dirichlet priors; ``bayes.py`` calls them.

The model has K classes of items, M subtypes of each class, and for each worker, class and subtype a distribution over
answers. A *column* is a pair of class and subtype, ``class * M + subtype``; there are C = K * M of them.

Layout and sums are those of ``em.py``: for each ``worker * K + answer`` one row of C factors ``exp(E[log p])`` and C
sums of posteriors in whole numbers, of the unit that ``magic`` sets. Optional arrays are empty where there is nothing:
weights of items and workers (1 each), history of workers (none), keys of items (not split at random).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.lanes import prefetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "LOWEST_LOG",
    "add_shares",
    "collect",
    "expected_logs",
    "log_normaliser",
    "pass_kernel",
    "psi_and_log_gamma",
    "tabulate",
]

LOWEST_LOG: Final = -550.0  # of a factor, or of a few multiplied: the exponential is still a normal number
_VOTES_AHEAD: Final = 24  # how far rows are fetched before they are needed
_LINE: Final = 8  # numbers in a cache line of 64 bytes
_MAX_CONSTANT: Final = 16  # columns; beyond, code written out for their number is slower than a loop
_SMALLEST_PRODUCT: Final = 1e-30  # of normalisers, before its logarithm is taken
_HALF_LOG_2PI: Final = 0.5 * math.log(2 * math.pi)


@kernel
def psi_and_log_gamma(x: float) -> tuple[float, float]:
    """Return the digamma function and the logarithm of the gamma function of ``x`` > 0.

    Recurrence up to 10, then Stirling's series (Abramowitz and Stegun, 6.1.41 and 6.3.18): about 13 digits.
    """
    product = 1.0
    slope = 0.0  # of the product; slope / product is the sum of 1 / (x + n)
    while x < 10.0:
        slope = slope * x + product
        product *= x
        x += 1.0
    log_x = math.log(x)
    y = 1.0 / x
    z = y * y
    psi = log_x - 0.5 * y - z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132)))))
    tail = y * (1 / 12 - z * (1 / 360 - z * (1 / 1260 - z * (1 / 1680 - z * (1 / 1188)))))
    log_gamma = (x - 0.5) * log_x - x + _HALF_LOG_2PI + tail
    return psi - slope / product, log_gamma - math.log(product)


@kernel
def expected_logs(counts: NDArray[np.float64], prior: NDArray[np.float64], logs: NDArray[np.float64]) -> float:
    """Write E[log p] of Dirichlets with the rows of ``counts``; return minus their divergence from ``prior``."""
    value = 0.0
    for r in range(counts.shape[0]):
        mass = 0.0
        for l in range(counts.shape[1]):
            mass += counts[r, l]
        total, _ = psi_and_log_gamma(mass)
        for l in range(counts.shape[1]):
            logs[r, l] = psi_and_log_gamma(counts[r, l])[0] - total
            value -= (counts[r, l] - prior[r, l]) * logs[r, l]
    return value + log_normaliser(prior) - log_normaliser(counts)


@kernel
def log_normaliser(counts: NDArray[np.float64]) -> float:
    """Return the sum over rows of the logarithm of a Dirichlet density's constant."""
    value = 0.0
    for r in range(counts.shape[0]):
        mass = 0.0
        for l in range(counts.shape[1]):
            mass += counts[r, l]
            value -= psi_and_log_gamma(counts[r, l])[1]
        value += psi_and_log_gamma(mass)[1]
    return value


@kernel
def _mixed(key: np.uint64) -> np.uint64:
    """Splitmix64 (Steele, Lea and Flood, 2014)."""
    key += np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@kernel
def add_shares(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    item_weight: NDArray[np.float64],
    worker_weight: NDArray[np.float64],
    keys: NDArray[np.uint64],
    salt: np.uint64,
    n_classes: int,
    sums: NDArray[np.int64],
    totals: NDArray[np.int64],
    magic: float,
    start: int,
    stop: int,
) -> None:
    """Add each item's vote shares, split at random between subtypes, to its votes' rows: the start of a fit.

    ``keys`` makes the split an item's own, wherever it stands; without keys, and hence with one subtype, it is whole.
    """
    K, C = n_classes, totals.size
    M = C // K
    offset = np.float64(magic).view(np.int64)
    share = np.empty(K)
    split = np.ones(M)
    q = np.empty(C, np.int64)
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        if first == last and gold[i] < 0:
            continue
        for k in range(K):
            share[k] = 0.0
        total = 0.0
        if gold[i] >= 0:
            share[gold[i]] = total = 1.0
        else:
            for j in range(first, last):
                weight = worker_weight[codes[j] // np.uint32(K)] if worker_weight.size > 0 else 1.0
                share[codes[j] % np.uint32(K)] += weight
                total += weight
        if total == 0.0:  # nobody's vote counts here
            for k in range(K):
                share[k] = 1.0
            total = float(K)
        parts = 1.0
        if keys.size > 0:
            parts = 0.0
            for m in range(M):
                bits = _mixed(_mixed(keys[i] ^ salt) + np.uint64(m)) >> np.uint64(11)
                split[m] = -math.log((bits + 1.0) * 2.0**-53)
                parts += split[m]
        scale = (item_weight[i] if item_weight.size > 0 else 1.0) / (total * parts)
        for k in range(K):
            for m in range(M):
                q[k * M + m] = np.float64(share[k] * split[m] * scale + magic).view(np.int64) - offset
        for c in range(C):
            totals[c] += q[c]
        for j in range(first, last):
            at = np.int64(codes[j]) * (2 * C) + C
            for c in range(C):
                sums[at + c] += q[c]


@kernel
def collect(
    sums: NDArray[np.int64],
    unit: float,
    prior: NDArray[np.float64],
    history: NDArray[np.float64],
    worker_weight: NDArray[np.float64],
    counts: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    """Set ``counts[worker, answer, column]`` to prior, history and the threads' sums, and clear the sums."""
    K, C = counts.shape[1], counts.shape[2]
    M = C // K
    for w in range(start, stop):
        scale = unit * (worker_weight[w] if worker_weight.size > 0 else 1.0)
        for l in range(K):
            at = (w * K + l) * 2 * C + C
            for c in range(C):
                found = np.int64(0)
                for t in range(sums.shape[0]):
                    found += sums[t, at + c]
                    sums[t, at + c] = 0
                known = history[w, c // M, l] if history.size > 0 else 0.0
                counts[w, l, c] = prior[c // M, l] + known + found * scale


@kernel
def tabulate(
    counts: NDArray[np.float64],
    prior: NDArray[np.float64],
    history: NDArray[np.float64],
    worker_weight: NDArray[np.float64],
    table: NDArray[np.float64],
    workers: NDArray[np.int64],
    start: int,
    stop: int,
) -> tuple[float, float]:
    """Write the factors of ``workers[start:stop]`` into all threads' rows.

    Returns:
        Minus the divergence of these workers' distributions from their priors, without the priors' own constants, and
        the logarithm of the smallest factor.
    """
    K, C = counts.shape[1], counts.shape[2]
    M = C // K
    value = 0.0
    lowest = 0.0
    for at_worker in range(start, stop):
        w = workers[at_worker]
        weight = worker_weight[w] if worker_weight.size > 0 else 1.0
        for c in range(C):
            total = 0.0
            for l in range(K):
                total += counts[w, l, c]
            psi_total, log_gamma = psi_and_log_gamma(total)
            value -= log_gamma
            last = total
            log = 0.0
            for l in range(K):
                count = counts[w, l, c]
                if count != last:  # answers never given all have the prior's count
                    last = count
                    log, log_gamma = psi_and_log_gamma(count)
                    log -= psi_total
                known = history[w, c // M, l] if history.size > 0 else 0.0
                value += log_gamma - (count - prior[c // M, l] - known) * log
                bounded = max(log * weight, LOWEST_LOG)
                lowest = min(lowest, bounded)
                factor = math.exp(bounded)
                for t in range(table.shape[0]):
                    table[t, (w * K + l) * 2 * C + c] = factor
    return value, lowest


@functools.cache
def pass_kernel(n_columns: int) -> Callable[..., float]:
    """Return the fused pass for this number of columns, a constant of its machine code if they are few.

    It finds the posterior over columns of the items ``start:stop`` from the factors in ``table`` and ``prior``. If
    ``posterior`` has rows, each item's posterior over classes is written there, save for items without votes and gold;
    if it has none, posteriors over columns times the items' weights are added to the sums of the items' votes and to
    ``totals``, and the weighted sum of the logarithms of their normalisers is returned. At most ``factors`` factors are
    multiplied before the product is brought back to sum 1.
    """
    constant = n_columns if n_columns <= _MAX_CONSTANT else 0

    def columns_pass(
        indptr: NDArray[np.int64],
        codes: NDArray[np.uint32],
        gold: NDArray[np.int32],
        item_weight: NDArray[np.float64],
        table: NDArray[np.float64],
        sums: NDArray[np.int64],
        prior: NDArray[np.float64],
        totals: NDArray[np.int64],
        n_subtypes: int,
        posterior: NDArray[np.float64],
        magic: float,
        factors: int,
        start: int,
        stop: int,
    ) -> float:
        C = constant if constant > 0 else prior.size  # max() would hide the constant
        M = n_subtypes
        offset = np.float64(magic).view(np.int64)
        x = np.empty(C, np.float64)
        q = np.empty(C, np.int64)
        value = 0.0
        product = 1.0
        for i in range(start, stop):
            first, last = indptr[i], indptr[i + 1]
            g = gold[i]
            if first == last and g < 0:
                continue
            weight = item_weight[i] if item_weight.size > 0 else 1.0
            for c in range(C):
                x[c] = prior[c] if g < 0 or g == c // M else 0.0
            n = 1
            for j in range(first, last):
                if n == factors:
                    n = 0
                    total = 0.0
                    for c in range(C):
                        total += x[c]
                    product *= total
                    if product < _SMALLEST_PRODUCT:
                        value += weight * math.log(product)
                        product = 1.0
                    total = 1.0 / total
                    for c in range(C):
                        x[c] *= total
                n += 1
                at = np.int64(codes[j]) * (2 * C)
                for c in range(C):
                    x[c] *= table[at + c]
            total = 0.0
            for c in range(C):
                total += x[c]
            if posterior.shape[0] > 0:
                for k in range(posterior.shape[1]):
                    mass = 0.0
                    for c in range(k * M, (k + 1) * M):
                        mass += x[c]
                    posterior[i, k] = min(mass / total, 1.0) if g < 0 else np.float64(k == g)
                continue
            product *= total
            if product < _SMALLEST_PRODUCT or item_weight.size > 0:
                value += weight * math.log(product)
                product = 1.0
            weight /= total
            for c in range(C):
                q[c] = np.float64(x[c] * weight + magic).view(np.int64) - offset
                totals[c] += q[c]
            for j in range(first, last):
                if j + _VOTES_AHEAD < codes.size:
                    for c in range(0, 2 * C, _LINE):
                        prefetch(sums, np.int64(codes[j + _VOTES_AHEAD]) * (2 * C) + c)
                at = np.int64(codes[j]) * (2 * C) + C
                for c in range(C):
                    sums[at + c] += q[c]
        return value + math.log(product)

    return kernel(columns_pass)
