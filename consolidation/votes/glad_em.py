"""Kernels of GLAD: one round over the items, and the labels of items under given abilities; ``glad.py`` calls them.

A worker of ability ``a`` is right about an item of easiness ``b`` with probability ``1 / (1 + exp(-x))``,
``x = a * exp(b)``, and otherwise calls each wrong class alike.

*The M-step.* ``log(1 + exp(-x))`` lies below a parabola of curvature ``tanh(x / 2) / (2 x)`` that touches it at the
current ``x`` (T. S. Jaakkola and M. I. Jordan, Statistics and Computing 10, 2000). Against the parabolas the best
abilities are quotients of two sums, and each item's easiness climbs a curve of one variable, so every step gains and no
step size is chosen.

*The E-step* needs an exponential a class, not a vote: in the ratio of two classes, votes for neither cancel.

*Sums over a worker's votes* are taken in whole numbers, as in ``em.py``, so that no order of votes and no number of
threads changes a bit. Weights are empty arrays where all are 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_STEP", "MEAN", "SMALL", "improve", "label"]

MEAN: Final = 1.0  # of the Gaussian priors on ability and on easiness; their variance is 1
MAX_STEP: Final = 1.0  # of an item's easiness at once, so that the largest is known before the sums are taken
_LABEL_ROUNDS: Final = 100
_LABEL_TOLERANCE: Final = 1e-8  # of the last step of easiness; the error left is about its square
_LARGE_PRODUCT: Final = 1e300
SMALL: Final = 1e-5  # of x: below, rounding is worse than the first term of the series
_CLIMB_STEPS: Final = 2
_CLIMB_HALVINGS: Final = 8
_CLIMB_TOLERANCE: Final = 1e-12


@kernel
def improve(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    ability: NDArray[np.float64],
    weight: NDArray[np.float64],
    item_weight: NDArray[np.float64],
    easiness: NDArray[np.float64],
    posterior: NDArray[np.float64],
    sums: NDArray[np.int64],
    slope_magic: float,
    curve_magic: float,
    expect: bool,  # noqa: FBT001 - kernels are called by position
    start: int,
    stop: int,
) -> float:
    """One round over the items ``start:stop``: E-step if wanted, better easiness, then the sums for the abilities.

    Args:
        indptr: rows of the votes.
        codes: the votes.
        gold: known classes.
        ability: of each worker.
        weight: what a vote of each worker is worth.
        item_weight: how much each item says about workers.
        easiness: logarithm of inverse difficulty; improved in place.
        posterior: written if ``expect``, else read, shape (n_items, K).
        sums: slope and curvature a worker, side by side, in whole numbers, without the worker's own weight.
        slope_magic: a power of two; see ``em.py``.
        curve_magic: the same for the curvatures.
        expect: whether the posterior is computed anew.
        start: the first item.
        stop: the item after the last.

    Returns:
        Log likelihood plus log prior of the easiness, before the step; meaningless without ``expect``.
    """
    K = np.uint32(posterior.shape[1])
    # One and a half times a power of two leaves room for negative numbers below it.
    slope_offset, curve_offset = np.float64(1.5 * slope_magic).view(np.int64), np.float64(curve_magic).view(np.int64)
    hit, said = np.zeros(K), np.zeros(K)
    log_wrong = math.log(max(K - 1.0, 1.0))
    value = 0.0
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        share = posterior[i]
        beta = math.exp(easiness[i])
        log_likelihood = 0.0
        if expect:
            _tally(codes, first, last, ability, weight, hit, said)
            log_likelihood = _expect(hit, said, gold[i], log_wrong, beta, share)
        slope, curve, misses = _parabola(codes, first, last, ability, weight, beta, share)
        u = item_weight[i] if item_weight.size > 0 else 1.0
        value += u * (log_likelihood - misses - (easiness[i] - MEAN) ** 2 / 2)
        easiness[i] = _climb(slope, curve, easiness[i])
        beta = math.exp(easiness[i])
        for j in range(first, last):
            w = codes[j] // K
            x = abs(ability[w]) * beta
            add = u * beta * (share[codes[j] - w * K] - 0.5)
            sums[2 * w] += np.float64(add + 1.5 * slope_magic).view(np.int64) - slope_offset
            add = u * beta * beta * _curvature(x, math.exp(-x))
            sums[2 * w + 1] += np.float64(add + curve_magic).view(np.int64) - curve_offset
    return value


@kernel
def label(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    ability: NDArray[np.float64],
    weight: NDArray[np.float64],
    easiness: NDArray[np.float64],
    posterior: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    """Climb, item by item, to the easiness of highest likelihood and prior, by Newton's method with halved steps.

    The abilities stay as they are; ``easiness`` is where each item starts, and where it ends.
    """
    K = posterior.shape[1]
    hit, said = np.zeros(K), np.zeros(K)
    log_wrong = math.log(max(K - 1.0, 1.0))
    for i in range(start, stop):
        first, last, share = indptr[i], indptr[i + 1], posterior[i]
        _tally(codes, first, last, ability, weight, hit, said)
        b = easiness[i]
        value, rise, bend = _hill(codes, first, last, ability, weight, hit, said, gold[i], log_wrong, b, share)
        step = min(max(rise / bend, -MAX_STEP), MAX_STEP)
        for _ in range(_LABEL_ROUNDS):
            if abs(step) < _LABEL_TOLERANCE:
                break
            new = _hill(codes, first, last, ability, weight, hit, said, gold[i], log_wrong, b + step, share)
            if new[0] < value:
                step /= 2
                continue
            b += step
            value, rise, bend = new
            step = min(max(rise / bend, -MAX_STEP), MAX_STEP)
        easiness[i] = b
        _expect(hit, said, gold[i], log_wrong, math.exp(b), share)


@kernel
def _tally(
    codes: NDArray[np.uint32],
    first: int,
    last: int,
    ability: NDArray[np.float64],
    weight: NDArray[np.float64],
    hit: NDArray[np.float64],
    said: NDArray[np.float64],
) -> None:
    """Set ``hit`` to the sum of abilities, and ``said`` to the number of votes, for each class of one item."""
    K = np.uint32(hit.size)
    hit[:] = 0.0
    said[:] = 0.0
    for j in range(first, last):
        w = codes[j] // K
        label = codes[j] - w * K
        m = weight[w] if weight.size > 0 else 1.0
        hit[label] += m * ability[w]
        said[label] += m


@kernel
def _expect(
    hit: NDArray[np.float64],
    said: NDArray[np.float64],
    gold: int,
    log_wrong: float,
    beta: float,
    share: NDArray[np.float64],
) -> float:
    """Write one item's posterior to ``share``; return its log likelihood but for what ``_parabola`` calls misses."""
    top = 0.0 if said.min() == 0.0 else -math.inf
    votes = 0.0
    for k in range(hit.size):
        if said[k] > 0.0:
            share[k] = hit[k] * beta + said[k] * log_wrong
            top = max(top, share[k])
            votes += said[k]
        else:
            share[k] = 0.0
    if gold >= 0:
        known: float = share[gold]
        share[:] = 0.0
        share[gold] = 1.0
        return known - votes * log_wrong
    nobody = math.exp(-top) if top > 0.0 else 1.0
    total = 0.0
    for k in range(hit.size):
        share[k] = math.exp(share[k] - top) if said[k] > 0.0 else nobody
        total += share[k]
    scale = 1.0 / total
    for k in range(hit.size):
        share[k] *= scale
    return top + math.log(total) - votes * log_wrong


@kernel
def _parabola(
    codes: NDArray[np.uint32],
    first: int,
    last: int,
    ability: NDArray[np.float64],
    weight: NDArray[np.float64],
    beta: float,
    share: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Return what one item's easiness climbs, and minus the log likelihood that all its votes are wrong.

    The first two are ``A`` and ``B`` of ``A * beta - B * beta**2 / 2``, a bound of the expected log likelihood.
    """
    K = np.uint32(share.size)
    slope = 0.0
    curve = 0.0
    misses = 0.0
    product = 1.0
    for j in range(first, last):
        w = codes[j] // K
        a = ability[w]
        m = weight[w] if weight.size > 0 else 1.0
        x = a * beta
        t = math.exp(-abs(x))
        slope += m * a * (share[codes[j] - w * K] - 0.5)
        curve += m * a * a * _curvature(abs(x), t)
        misses += m * max(x, 0.0)
        if weight.size > 0:
            misses += m * math.log1p(t)
        else:
            product *= 1.0 + t
            if product > _LARGE_PRODUCT:
                misses += math.log(product)
                product = 1.0
    return slope, curve, misses + math.log(product)


@kernel
def _hill(
    codes: NDArray[np.uint32],
    first: int,
    last: int,
    ability: NDArray[np.float64],
    weight: NDArray[np.float64],
    hit: NDArray[np.float64],
    said: NDArray[np.float64],
    gold: int,
    log_wrong: float,
    b: float,
    share: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Write one item's posterior at easiness ``b`` to ``share``.

    Returns:
        The item's log likelihood plus log prior; its derivative by ``b``; and minus the second derivative, or where
        that is not positive, its positive part.
    """
    K = np.uint32(hit.size)
    beta = math.exp(b)
    value = _expect(hit, said, gold, log_wrong, beta, share) - (b - MEAN) ** 2 / 2
    drift = 0.0
    for k in range(hit.size):
        drift += share[k] * hit[k]
    spread = 0.0
    for k in range(hit.size):
        spread += share[k] * (hit[k] - drift) ** 2
    narrow = 0.0
    for j in range(first, last):
        w = codes[j] // K
        a = ability[w]
        m = weight[w] if weight.size > 0 else 1.0
        x = a * beta
        t = math.exp(-abs(x))
        value -= m * (max(x, 0.0) + math.log1p(t))
        drift -= m * a * (1.0 if x >= 0.0 else t) / (1.0 + t)
        narrow += m * a * a * t / ((1.0 + t) * (1.0 + t))
    rise = drift * beta - (b - MEAN)
    positive = 1.0 + narrow * beta * beta + max(-drift * beta, 0.0)
    bend = 1.0 + (narrow - spread) * beta * beta - drift * beta
    return value, rise, bend if bend > positive / 8 else positive


@kernel
def _curvature(x: float, t: float) -> float:
    """Return ``tanh(x / 2) / (2 x)`` for ``x`` of 0 or more; ``t`` is ``exp(-x)``."""
    return (1.0 - t) / ((1.0 + t) * 2.0 * x) if x > SMALL else 0.25


@kernel
def _climb(slope: float, curve: float, start: float) -> float:
    """Return an easiness with more of ``slope * exp(b) - curve * exp(2 b) / 2 - (b - mean)**2 / 2`` than ``start``.

    A few steps of Newton's method, each halved until it gains; at most ``MAX_STEP`` away from ``start``.
    """
    b = start
    beta = math.exp(b)
    value = slope * beta - curve * beta * beta / 2 - (b - MEAN) ** 2 / 2
    for _ in range(_CLIMB_STEPS):
        rise = slope * beta - curve * beta * beta
        bend = 1.0 + 2 * curve * beta * beta - slope * beta
        if bend < 0.5:  # not yet where the curve is a hill
            bend = 1.0 + curve * beta * beta
        step = min(max(b + (rise - (b - MEAN)) / bend, start - MAX_STEP), start + MAX_STEP) - b
        if abs(step) < _CLIMB_TOLERANCE:
            break
        gained = False
        for _ in range(_CLIMB_HALVINGS):
            new_beta = math.exp(b + step)
            new_value = slope * new_beta - curve * new_beta * new_beta / 2 - (b + step - MEAN) ** 2 / 2
            if new_value >= value:
                gained = True
                break
            step /= 2
        if not gained:
            break
        b += step
        beta = new_beta
        value = new_value
    return b
