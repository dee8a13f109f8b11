"""Is a confidence a probability? Scores of labels and confidences against gold, in plain numpy.

Items without gold are left out by the caller: ``known = codes >= 0`` of ``VoteResult.gold_codes``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Reliability", "accuracy", "brier", "ece", "log_loss", "reliability"]


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: confidence against how often it was right, by bins of equal width.

    Attributes:
        edges: bounds of the bins, shape (n_bins + 1,).
        count: labels in each bin, shape (n_bins,).
        confidence: their mean confidence, NaN in an empty bin, shape (n_bins,).
        accuracy: the share of them that is right, NaN in an empty bin, shape (n_bins,).
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(confidence: ArrayLike, correct: ArrayLike, n_bins: int = 10) -> Reliability:
    """Return the reliability diagram of labels.

    Args:
        confidence: probability of each label, 0..1, shape (n,). A bin holds its upper edge, the first one also 0.
        correct: whether each label is right, shape (n,).
        n_bins: number of bins, at least 1.

    Raises:
        ValueError: shapes differ, or a confidence is outside 0..1 or NaN.
    """
    c, right = _vector(confidence, "confidence"), _vector(correct, "correct")
    _same_length(c, right, "confidence", "correct")
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; expected at least 1")
    bad = np.flatnonzero(~((c >= 0) & (c <= 1)))
    if bad.size:
        raise ValueError(f"confidence {int(bad[0])} is {c[bad[0]]}; expected a probability between 0 and 1")
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    at = np.clip(np.searchsorted(edges, c, side="left") - 1, 0, n_bins - 1)
    count = np.bincount(at, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges=edges,
            count=count,
            confidence=np.bincount(at, weights=c, minlength=n_bins) / count,
            accuracy=np.bincount(at, weights=right, minlength=n_bins) / count,
        )


def ece(confidence: ArrayLike, correct: ArrayLike, n_bins: int = 10) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy over bins of equal width.

    Naeini, Cooper and Hauskrecht, AAAI 2015. 0 is perfect; NaN without labels. Arguments as of ``reliability``.
    """
    bins = reliability(confidence, correct, n_bins)
    if not bins.count.sum():
        return float("nan")
    gaps = np.abs(bins.confidence - bins.accuracy)
    return float(np.nansum(gaps * bins.count) / bins.count.sum())


def brier(posterior: ArrayLike, truth: ArrayLike) -> float:
    """Return the Brier score: the mean squared distance between posterior and truth, 0 (best) to 2.

    Brier, Monthly Weather Review 1950, in its original form, summed over classes.

    Args:
        posterior: probabilities, shape (n, K).
        truth: place of each true class; K or more if it is none of the classes, shape (n,).
    """
    p, t = _posterior(posterior, truth)
    if not t.size:
        return float("nan")
    at_truth = _at_truth(p, t)
    return float(np.mean((p**2).sum(axis=1) - 2 * at_truth + 1))


def log_loss(posterior: ArrayLike, truth: ArrayLike, smallest: float = 1e-15) -> float:
    """Return the mean of ``-log(probability of the true class)`` in nats, 0 is perfect.

    Probabilities below ``smallest`` count as ``smallest``, so one wrong certainty does not make the mean infinite.
    Arguments as of ``brier``.
    """
    p, t = _posterior(posterior, truth)
    if not t.size:
        return float("nan")
    return float(-np.mean(np.log(np.maximum(_at_truth(p, t), smallest))))


def accuracy(labels: ArrayLike, gold: ArrayLike) -> float:
    """Return the share of labels that equal gold; NaN without labels. Both have shape (n,)."""
    found, expected = np.asarray(labels), np.asarray(gold)
    _same_length(found, expected, "labels", "gold")
    return float(np.mean(found == expected)) if found.size else float("nan")


def _vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; expected one dimension")
    return array


def _same_length(a: NDArray[Any], b: NDArray[Any], a_name: str, b_name: str) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{a_name} and {b_name} have shapes {a.shape} and {b.shape}; expected one entry a label")


def _posterior(posterior: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, t = np.asarray(posterior, dtype=np.float64), np.asarray(truth)
    if p.ndim != 2 or t.shape != p.shape[:1]:
        raise ValueError(f"posterior and truth have shapes {p.shape} and {t.shape}; expected (n, K) and (n,)")
    if t.size and (t.dtype.kind not in "iu" or t.min() < 0):
        raise ValueError("truth holds places among the classes, 0 or more; leave out items without gold")
    return p, t.astype(np.int64)


def _at_truth(p: NDArray[np.float64], t: NDArray[np.int64]) -> NDArray[np.float64]:
    padded = np.concatenate([p, np.zeros((p.shape[0], 1))], axis=1)  # no probability for what is not a class
    at: NDArray[np.float64] = padded[np.arange(t.size), np.minimum(t, p.shape[1])]
    return at
