"""Which answer to ask for next: what one more vote is expected to gain, by item and by worker.

Adaptive replication spends its extra tickets where this is highest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from voxpop.consolidation.errors import ConsolidationError
from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from voxpop.consolidation.votes.result import VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = ["Gain", "NextVoteError", "average_worker", "expected_gain"]

Gain = Literal["information", "accuracy"]


class NextVoteError(ConsolidationError):
    """The gain cannot be computed: the message says why."""


def expected_gain(posterior: ArrayLike, confusion: ArrayLike, gain: Gain = "information") -> NDArray[np.float64]:
    """Return what one more vote on each item is expected to gain, given who gives it.

    ``information`` is the expected fall of the posterior's entropy, in nats: the mutual information of vote and truth.
    It is never negative, and 0 only if the vote can tell nothing. ``accuracy`` is the expected rise of the probability
    that the label is right; 0 for every vote that cannot change the label, so it looks one step ahead only.

    Args:
        posterior: of each item, rows sum to 1, shape (n, K).
        confusion: how the one who votes answers, true class by answer, rows sum to 1: shape (K, K) for one kind of
            worker, or (n_workers, K, K).
        gain: which of the two.

    Returns:
        Shape (n,), or (n, n_workers).

    Raises:
        NextVoteError: shapes that do not fit, numbers that are no probabilities, or an unknown gain.
    """
    p = np.ascontiguousarray(posterior, dtype=np.float64)
    matrices = np.ascontiguousarray(confusion, dtype=np.float64)
    if gain not in ("information", "accuracy"):
        raise NextVoteError(f"gain is {gain!r}; expected 'information' or 'accuracy'")
    if p.ndim != 2 or matrices.ndim not in (2, 3) or matrices.shape[-2:] != (p.shape[1], p.shape[1]):
        raise NextVoteError(
            f"posterior and confusion have shapes {p.shape} and {matrices.shape}; "
            "expected (n, K) and (K, K), or (n_workers, K, K)"
        )
    for array, what in ((p, "posterior"), (matrices, "confusion")):
        if not (np.all(array >= 0) and np.allclose(array.sum(axis=-1), 1, atol=1e-6)):
            raise NextVoteError(f"{what} holds rows that are no probabilities; expected 0 or more, with sum 1")
    several = matrices.reshape(-1, *matrices.shape[-2:])
    found = np.empty((p.shape[0], several.shape[0]))
    (_information if gain == "information" else _accuracy)(p, several, found)
    return found if matrices.ndim == 3 else found[:, 0]


def average_worker(votes: Votes, result: VoteResult) -> NDArray[np.float64]:
    """Return how the one who is to vote next answers if nobody knows who that is, shape (K, K).

    The mean over workers of their confusion, weighted by how much each has voted; for methods without confusion
    matrices, of a worker who is right as often as their quality says and wrong in all ways alike.

    Raises:
        NextVoteError: nothing is known of any worker.
    """
    given = np.bincount(votes.worker_of_vote, minlength=votes.n_workers).astype(np.float64)
    if result.confusion is not None:
        known = given * np.isfinite(result.confusion).all(axis=(1, 2))
        if known.sum():
            mean: NDArray[np.float64] = np.einsum("w,wkl->kl", known / known.sum(), np.nan_to_num(result.confusion))
            return mean
    quality = result.worker_quality
    known = given * np.isfinite(quality)
    if not known.sum():
        raise NextVoteError("nothing is known of any worker; fit votes with more than one worker an item first")
    right = float(np.clip((known * np.nan_to_num(quality)).sum() / known.sum(), 0, 1))
    K = votes.n_classes
    alike = np.full((K, K), (1 - right) / max(K - 1, 1))
    np.fill_diagonal(alike, right if K > 1 else 1.0)
    return alike


@kernel
def _information(p: NDArray[np.float64], confusion: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    """Sum over answers of sum over classes of p C log(C / (p C summed over classes))."""
    n, K = p.shape
    for i in range(n):
        for w in range(confusion.shape[0]):
            total = 0.0
            for l in range(K):
                said = 0.0
                for k in range(K):
                    said += p[i, k] * confusion[w, k, l]
                for k in range(K):
                    joint = p[i, k] * confusion[w, k, l]
                    if joint > 0.0:
                        total += joint * np.log(confusion[w, k, l] / said)
            found[i, w] = max(total, 0.0)


@kernel
def _accuracy(p: NDArray[np.float64], confusion: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    """Sum over answers of the largest joint probability, minus the largest probability now."""
    n, K = p.shape
    for i in range(n):
        now = p[i, 0]
        for k in range(1, K):
            now = max(now, p[i, k])
        for w in range(confusion.shape[0]):
            total = 0.0
            for l in range(K):
                best = 0.0
                for k in range(K):
                    best = max(best, p[i, k] * confusion[w, k, l])
                total += best
            found[i, w] = max(total - now, 0.0)
