"""Kernels over wins, and who can be compared with whom. What a win means is the methods' affair.

A *win* is (winner, loser, weight). The steps are those of D. R. Hunter, "MM Algorithms for Generalized Bradley-Terry
Models", Annals of Statistics 32 (2004): each raises the log likelihood of

    weight * log(strength[winner] / (strength[winner] + threshold * strength[loser])),

summed over wins, plus the prior: ``prior`` wins and losses of each item, half and half, against one of strength 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["components_of", "is_strongly_connected", "log_prior", "minorise", "raised"]

_SHIFTS: Final = 4


@kernel
def minorise(
    winner: NDArray[np.int64],
    loser: NDArray[np.int64],
    weight: NDArray[np.float64],
    strength: NDArray[np.float64],
    threshold: float,
    sums: NDArray[np.float64],
) -> float:
    """Add up what the next step needs, and return the log likelihood.

    ``sums``, shape (3, n_items), takes each item's wins, the weights over the strengths of its games, and (in the first
    place of the last row) the same times the loser's strength, for the threshold.
    """
    value = 0.0
    for j in range(winner.size):
        a, b, w = winner[j], loser[j], weight[j]
        both = strength[a] + threshold * strength[b]
        share = w / both
        sums[0, a] += w
        sums[1, a] += share
        sums[1, b] += threshold * share
        sums[2, 0] += strength[b] * share
        value += w * math.log(strength[a] / both)
    return value


def raised(
    strength: NDArray[np.float64],
    wins: NDArray[np.float64],
    losses: NDArray[np.float64],
    prior: float,
    component: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the strengths after one step, given what ``minorise`` added up; without a prior their mean log is 0.

    With a prior, a second step moves each component as a whole: only the prior holds it in its place, and so weakly
    that Hunter's step alone would take thousands of rounds to get there. It raises the log prior and leaves games as
    they are.
    """
    step: NDArray[np.float64] = (wins + prior / 2) / (losses + prior / (strength + 1))
    if prior == 0:
        return step / math.exp(np.log(step).mean())
    size = np.bincount(component)
    for _ in range(_SHIFTS):
        away = np.bincount(component, 0.5 - 1 / (step + 1)) / size
        step *= np.exp(-4 * away)[component]  # the log prior bends by a quarter at most: this never goes too far
    return step


def log_prior(strength: NDArray[np.float64], prior: float) -> float:
    """Return the log likelihood of the games against an item of strength 1."""
    return 0.5 * prior * math.fsum(np.log(strength) - 2 * np.log(strength + 1))


def components_of(n_items: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each item the number of its component, from 0 in order of their first items, int64, (n_items,)."""
    parent = np.arange(n_items)
    _unite(left, right, parent)
    _, first, component = np.unique(parent, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    numbered: NDArray[np.int64] = rank[component.reshape(-1)]
    return numbered


def is_strongly_connected(n_items: int, winner: NDArray[np.int64], loser: NDArray[np.int64]) -> bool:
    """Return whether every item beat every other one, directly or through others."""
    return all(_reached(n_items, start, end).all() for start, end in ((winner, loser), (loser, winner)))


def _reached(n_items: int, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which items can be reached from the first one along the arcs."""
    order = np.argsort(start, kind="stable")
    indptr = np.searchsorted(start[order], np.arange(n_items + 1))
    arcs = end[order]
    reached = np.zeros(n_items, bool)
    reached[0] = True
    edge = [0]
    while edge:
        here = edge.pop()
        for there in arcs[indptr[here] : indptr[here + 1]].tolist():
            if not reached[there]:
                reached[there] = True
                edge.append(there)
    return reached


@kernel
def _unite(left: NDArray[np.int64], right: NDArray[np.int64], parent: NDArray[np.int64]) -> None:
    """Point each item to the lowest item that it is linked with."""
    for j in range(left.size):
        a, b = left[j], right[j]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for i in range(parent.size):
        parent[i] = parent[parent[i]]
