"""Kernels that count who agreed with whom. What the counts mean stands in the files beside."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["Tally", "item_counts", "tally"]


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """What coefficients are made of. Items are counted as often as their multiplicity says.

    Attributes:
        coincidences: how often one vote of an item is ``c`` and another ``k``, each pair worth 1 / (votes - 1), so that
            an item counts as many times as it has votes; symmetric, shape (K, K).
        shares: sum over items of the share of its votes that each class has, shape (K,).
        judged: number of items with a vote.
        paired: number of items with two votes or more.
        agreed: sum over these of the share of pairs of votes that agree.
    """

    coincidences: NDArray[np.float64]
    shares: NDArray[np.float64]
    judged: float
    paired: float
    agreed: float


def tally(votes: Votes, multiplicity: NDArray[np.float64] | None = None) -> Tally:
    """Count the votes; ``multiplicity`` says how often each item counts, shape (n_items,), once each if None."""
    K = votes.n_classes
    coincidences, shares, sums = np.zeros((K, K)), np.zeros(K), np.zeros(3)
    times = np.ones(votes.n_items) if multiplicity is None else multiplicity
    _tally(votes.indptr, votes.codes, times, coincidences, shares, sums)
    return Tally(coincidences, shares, *sums.tolist())


def item_counts(votes: Votes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many votes each item has, and which share of its pairs of votes agree (NaN without a pair)."""
    agreed = np.full(votes.n_items, np.nan)
    _pairs_that_agree(votes.indptr, votes.codes, np.zeros(votes.n_classes, np.int64), agreed)
    return np.diff(votes.indptr), agreed


@kernel
def _tally(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    multiplicity: NDArray[np.float64],
    coincidences: NDArray[np.float64],
    shares: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    K = shares.size
    count = np.zeros(K, np.int64)
    met = np.empty(K, np.int64)  # classes of the item, in order of appearance
    for i in range(indptr.size - 1):
        first, last = indptr[i], indptr[i + 1]
        n, times = last - first, multiplicity[i]
        if n == 0 or times == 0.0:
            continue
        kinds = 0
        for j in range(first, last):
            c = np.int64(codes[j] % np.uint32(K))
            if count[c] == 0:
                met[kinds] = c
                kinds += 1
            count[c] += 1
        sums[0] += times
        same = 0
        for a in range(kinds):
            c = met[a]
            shares[c] += times * count[c] / n
            same += count[c] * (count[c] - 1)
        if n > 1:
            sums[1] += times
            sums[2] += times * same / (n * (n - 1))
            for a in range(kinds):
                c = met[a]
                coincidences[c, c] += times * count[c] * (count[c] - 1) / (n - 1)
                for b in range(a):
                    pairs = times * count[c] * count[met[b]] / (n - 1)
                    coincidences[c, met[b]] += pairs
                    coincidences[met[b], c] += pairs
        for a in range(kinds):
            count[met[a]] = 0


@kernel
def _pairs_that_agree(
    indptr: NDArray[np.int64], codes: NDArray[np.uint32], count: NDArray[np.int64], agreed: NDArray[np.float64]
) -> None:
    K = count.size
    for i in range(agreed.size):
        first, last = indptr[i], indptr[i + 1]
        n, same = last - first, 0
        for j in range(first, last):
            c = codes[j] % np.uint32(K)
            same += 2 * count[c]
            count[c] += 1
        for j in range(first, last):
            count[codes[j] % np.uint32(K)] = 0
        if n > 1:
            agreed[i] = same / (n * (n - 1))
