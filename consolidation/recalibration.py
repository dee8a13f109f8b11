"""Confidences corrected from gold items, so that of labels with confidence .9 nine in ten are right.

What is corrected must have been labeled from the answers alone: an item whose gold label the method was told has a
confidence of 1, and teaches nothing. How good confidences are is measured in ``calibration.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final, Protocol, Self

import numpy as np

from voxpop.consolidation.errors import ConsolidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["CORRECTIONS", "Correction", "Isotonic", "RecalibrationError", "Temperature", "cross_validated"]

SMALLEST: Final = 1e-12  # probability of a class that a method has ruled out: gold may still say it
COLDEST, HOTTEST = 1 / 64, 64.0


class RecalibrationError(ConsolidationError):
    """Confidences cannot be corrected from these gold items: the message says why."""


class Correction(Protocol):
    """A correction that was fitted to gold items."""

    def apply(self, posterior: ArrayLike) -> NDArray[np.float64]:
        """Return the corrected posterior, shape (n, K); the most probable class stays the most probable."""

    @classmethod
    def fit(cls, posterior: ArrayLike, truth: ArrayLike) -> Self:
        """Fit to the posteriors of gold items, shape (n, K), and their true classes, places among K, shape (n,)."""


@dataclasses.dataclass(frozen=True)
class Temperature:
    """Temperature scaling: probabilities to the power ``1 / temperature``, normalised.

    One number, found by the log loss on gold, so a few dozen gold items are enough. Guo, Pleiss, Sun and Weinberger,
    "On Calibration of Modern Neural Networks", ICML 2017.

    Attributes:
        temperature: above 1 for a method that is too sure, below 1 for one that is not sure enough.
    """

    temperature: float

    @classmethod
    def fit(cls, posterior: ArrayLike, truth: ArrayLike) -> Self:
        """Find the temperature with the least log loss.

        Raises:
            RecalibrationError: no gold item, or shapes that do not fit.
        """
        p, t = _checked(posterior, truth)
        logs = np.log(np.maximum(p, SMALLEST))

        def loss(log_temperature: float) -> float:
            scaled = logs * math.exp(-log_temperature)
            top = scaled.max(axis=1)
            norm = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
            return float(np.mean(norm - scaled[np.arange(t.size), t]))

        return cls(math.exp(_golden_section(loss, math.log(COLDEST), math.log(HOTTEST))))

    def apply(self, posterior: ArrayLike) -> NDArray[np.float64]:
        """Return the corrected posterior, shape (n, K)."""
        scaled = np.log(np.maximum(np.asarray(posterior, dtype=np.float64), SMALLEST)) / self.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        corrected: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return corrected


@dataclasses.dataclass(frozen=True, eq=False)
class Isotonic:
    """Isotonic regression of being right on confidence, by pooling adjacent violators.

    It takes any shape that rises, and needs some hundred gold items for that. Of the other classes the proportions are
    kept. Zadrozny and Elkan, KDD 2002.

    Attributes:
        confidence: where the curve was learned, ascending, shape (n_steps,).
        right: how often a label of that confidence is right, never falling; linear in between, shape (n_steps,).
    """

    confidence: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def fit(cls, posterior: ArrayLike, truth: ArrayLike) -> Self:
        """Find the rising curve with the least squared error.

        Each step of the curve counts half a right and half a wrong label more, so that a few lucky ones do not make a
        certainty.

        Raises:
            RecalibrationError: no gold item, or shapes that do not fit.
        """
        p, t = _checked(posterior, truth)
        order = np.argsort(p.max(axis=1), kind="stable")
        confidence, right = p.max(axis=1)[order], (p.argmax(axis=1) == t)[order].astype(np.float64)
        blocks: list[list[float]] = []  # sum right, count, sum confidence
        for c, hit in zip(confidence.tolist(), right.tolist(), strict=True):
            blocks.append([hit, 1.0, c])
            while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
                last = blocks.pop()
                blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
        sums = np.array(blocks)
        shrunk = (sums[:, 0] + 0.5) / (sums[:, 1] + 1)
        return cls(sums[:, 2] / sums[:, 1], np.maximum.accumulate(shrunk))

    def apply(self, posterior: ArrayLike) -> NDArray[np.float64]:
        """Return the corrected posterior, shape (n, K)."""
        p = np.asarray(posterior, dtype=np.float64)
        n, K = p.shape
        top = p.argmax(axis=1)
        before = p[np.arange(n), top]
        # A label that is right less often than any other class would be is still the label: 1 / K is the least.
        after = np.maximum(np.interp(before, self.confidence, self.right), 1.0 / K)
        rest = np.where(before < 1, before, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            others = np.where(before[:, None] < 1, p * ((1 - after) / (1 - rest))[:, None], 0.0)
        even = np.flatnonzero(before == 1)
        others[even] = ((1 - after[even]) / max(K - 1, 1))[:, None]
        second = np.where(np.arange(K) == top[:, None], 0.0, others).max(axis=1)
        others[np.arange(n), top] = np.maximum(after, second)
        corrected: NDArray[np.float64] = others / others.sum(axis=1, keepdims=True)
        return corrected


CORRECTIONS: Final[dict[str, type[Temperature | Isotonic]]] = {"temperature": Temperature, "isotonic": Isotonic}


def cross_validated(
    kind: type[Correction], posterior: ArrayLike, truth: ArrayLike, *, folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """Return each gold item's posterior corrected by a fit to the other folds, shape (n, K).

    Scores of these are honest; scores of items that the correction was fitted to are not.

    Raises:
        RecalibrationError: fewer gold items than folds.
    """
    p, t = _checked(posterior, truth)
    if t.size < folds:
        raise RecalibrationError(f"{t.size} gold items cannot make {folds} folds; give at least {folds}")
    fold = np.random.default_rng(seed).permutation(t.size) % folds
    corrected = np.empty_like(p)
    for f in range(folds):
        inside = fold == f
        corrected[inside] = kind.fit(p[~inside], t[~inside]).apply(p[inside])
    return corrected


def _checked(posterior: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, t = np.asarray(posterior, dtype=np.float64), np.asarray(truth)
    if p.ndim != 2 or t.shape != p.shape[:1]:
        raise RecalibrationError(f"posterior and truth have shapes {p.shape} and {t.shape}; expected (n, K) and (n,)")
    if not t.size:
        raise RecalibrationError("there are no gold items; a correction needs some dozens")
    if t.dtype.kind not in "iu" or t.min() < 0 or t.max() >= p.shape[1]:
        raise RecalibrationError(f"truth holds places among the {p.shape[1]} classes; leave out other items")
    return p, t.astype(np.int64)


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function of one number with one minimum has it, to six digits (Kiefer, 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = loss(a), loss(b)
    while high - low > 1e-6:
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = loss(b)
    return (low + high) / 2
