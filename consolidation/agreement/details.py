"""Agreement in parts: which items, which classes, which workers, and which pairs of workers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxpop.consolidation.agreement.coefficients import AgreementError, alpha_of
from voxpop.consolidation.agreement.tallies import item_counts, tally
from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["WorkerPairs", "class_alpha", "cohen_kappa", "item_agreement", "worker_agreement", "worker_pairs"]

_PAIRS_AT_ONCE = 4_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class WorkerPairs:
    """Pairs of workers who voted on the same items.

    Attributes:
        first: place of one worker among ``votes.workers``, shape (n_pairs,).
        second: place of the other, greater than ``first``.
        n_items: pairs of votes on the same item; that many items if nobody voted twice on one.
        agreement: the share of these that agree.
        kappa: Cohen's kappa (1960); NaN where both always chose one and the same class.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    n_items: NDArray[np.int64]
    agreement: NDArray[np.float64]
    kappa: NDArray[np.float64]


def item_agreement(votes: Votes) -> NDArray[np.float64]:
    """Return the share of each item's pairs of votes that agree; NaN with fewer than two votes; shape (n_items,)."""
    return item_counts(votes)[1]


def class_alpha(votes: Votes) -> NDArray[np.float64]:
    """Return Krippendorff's alpha of each class against all others, shape (K,).

    It tells which class people cannot tell apart from the rest; NaN for a class that nobody or everybody chose.
    """
    coincidences = tally(votes).coincidences
    total, distance = coincidences.sum(), 1.0 - np.eye(2)
    found = np.empty(votes.n_classes)
    for c in range(votes.n_classes):
        chosen, row = coincidences[c, c], coincidences[c].sum()
        found[c] = alpha_of(np.array([[chosen, row - chosen], [row - chosen, total - 2 * row + chosen]]), distance)
    return found


def worker_agreement(votes: Votes) -> NDArray[np.float64]:
    """Return how often each worker agrees with another vote on the same item; NaN if there is none; shape (n_workers,).

    Votes of the worker themselves on the same item are left out.
    """
    pairs = worker_pairs(votes)
    sums = np.zeros((2, votes.n_workers))
    for place in (pairs.first, pairs.second):
        np.add.at(sums[0], place, pairs.agreement * pairs.n_items)
        np.add.at(sums[1], place, pairs.n_items)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = sums[0] / sums[1]
    return shares


def worker_pairs(votes: Votes, min_items: int = 1) -> WorkerPairs:
    """Return all pairs of workers with at least ``min_items`` items in common, ordered by places.

    Time and memory grow with the number of pairs of votes on one item: 1,000 votes on one item are half a million.
    """
    K = votes.n_classes
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    start = 0
    pairs_before = np.concatenate([[0], np.cumsum(np.diff(votes.indptr) * (np.diff(votes.indptr) - 1) // 2)])
    while start < votes.n_items:
        stop = max(int(np.searchsorted(pairs_before, pairs_before[start] + _PAIRS_AT_ONCE, "right")) - 1, start + 1)
        found = np.empty(int(pairs_before[stop] - pairs_before[start]), np.int64)
        n = _pair_keys(votes.indptr, votes.codes, K, votes.n_workers, start, stop, found)
        keys, counts = _added(keys, counts, found[:n])
        start = stop
    pair, cell = np.divmod(keys, K * K)
    places, row = np.unique(pair, return_inverse=True)
    tables = np.zeros((places.size, 2, K))  # what each of the two chose on their common items
    same = np.zeros(places.size)
    one, other = np.divmod(cell, K)
    np.add.at(tables[:, 0], (row, one), counts)
    np.add.at(tables[:, 1], (row, other), counts)
    np.add.at(same, row[one == other], counts[one == other])
    n_items = tables[:, 0].sum(axis=1)
    observed = same / n_items
    expected = (tables[:, 0] * tables[:, 1]).sum(axis=1) / n_items**2
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
    keep = n_items >= min_items
    first, second = np.divmod(places, votes.n_workers)
    return WorkerPairs(first[keep], second[keep], n_items[keep].astype(np.int64), observed[keep], kappa[keep])


def cohen_kappa(
    votes: Votes, first: Any, second: Any, weights: Literal["none", "linear", "quadratic"] = "none"
) -> float:
    """Return Cohen's kappa of two workers on the items that both voted on (1960; weighted: 1968).

    Args:
        votes: of one vote a worker and item; of repeated ones each counts.
        first: name of a worker.
        second: name of another.
        weights: ``linear`` and ``quadratic`` let a disagreement between distant classes, in the order of
            ``votes.classes``, weigh more.

    Returns:
        The coefficient; NaN if both always chose one and the same class.

    Raises:
        AgreementError: a worker without votes, no common item, or unknown weights.
    """
    powers = {"none": 0, "linear": 1, "quadratic": 2}
    if weights not in powers:
        raise AgreementError(f"weights is {weights!r}; expected one of {', '.join(powers)}")
    K = votes.n_classes
    table = np.zeros((K, K))
    a, b = (_labels_by_item(votes, name) for name in (first, second))
    for item in a.keys() & b.keys():
        for one in a[item]:
            for other in b[item]:
                table[one, other] += 1
    if not table.sum():
        raise AgreementError(f"workers {first!r} and {second!r} have no item in common; choose two who have")
    apart = np.abs(np.subtract.outer(np.arange(K), np.arange(K)))
    weight = (apart > 0).astype(float) if weights == "none" else apart.astype(float) ** powers[weights]
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    expected = (weight * by_chance).sum()
    return float(1 - (weight * table).sum() / expected) if expected > 0 else float("nan")


def _labels_by_item(votes: Votes, worker: Any) -> dict[int, list[int]]:
    place = np.flatnonzero(votes.workers == worker)
    if not place.size:
        raise AgreementError(f"worker {worker!r} has no votes; the first worker is {votes.workers[0]!r}")
    rows = np.flatnonzero(votes.worker_of_vote == place[0])
    labels: dict[int, list[int]] = {}
    for item, label in zip(votes.item_of_vote[rows].tolist(), votes.label_of_vote[rows].tolist(), strict=True):
        labels.setdefault(item, []).append(label)
    return labels


def _added(
    keys: NDArray[np.int64], counts: NDArray[np.int64], found: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sorted keys and their counts with those of ``found`` added."""
    new, times = np.unique(found, return_counts=True)
    together, inverse = np.unique(np.concatenate([keys, new]), return_inverse=True)
    total = np.bincount(inverse, np.concatenate([counts, times]), together.size)
    return together, total.astype(np.int64)


@kernel
def _pair_keys(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    n_workers: int,
    start: int,
    stop: int,
    keys: NDArray[np.int64],
) -> int:
    """Write ((worker * n_workers + other) * K + class) * K + the other's class of each pair; returns how many."""
    K = np.int64(n_classes)
    at = 0
    for i in range(start, stop):
        for a in range(indptr[i], indptr[i + 1]):
            w, c = np.int64(codes[a]) // K, np.int64(codes[a]) % K
            for b in range(a + 1, indptr[i + 1]):  # codes ascend within an item, so the other worker is never before
                v, k = np.int64(codes[b]) // K, np.int64(codes[b]) % K
                if v != w:
                    keys[at] = ((w * n_workers + v) * K + c) * K + k
                    at += 1
    return at
