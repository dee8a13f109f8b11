"""From clusters that stay to a result: members gathered, and the boxes of each item put in order of confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxpop.consolidation.boxes.sorting import sort_places
from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.cluster import Clusters

__all__ = ["Arranged", "arranged"]


class Arranged(NamedTuple):
    """Where the objects of a result stand.

    Attributes:
        order: places among the chosen clusters, each item's together, the most certain first, shape (n_chosen,).
        indptr: item ``i`` has the objects ``indptr[i]:indptr[i + 1]``, shape (n_items + 1,).
        member_indptr: object ``o`` has ``members[member_indptr[o]:member_indptr[o + 1]]``, shape (n_chosen + 1,).
        members: places among the objects of the table.
    """

    order: NDArray[np.int64]
    indptr: NDArray[np.int64]
    member_indptr: NDArray[np.int64]
    members: NDArray[np.int64]


def arranged(clusters: Clusters, chosen: NDArray[np.int64], confidence: NDArray[np.float64]) -> Arranged:
    """Return the order of the chosen clusters (ascending places); equal ones of an item stay from left to right."""
    indptr = np.searchsorted(chosen, clusters.indptr).astype(np.int64)
    order = np.empty(chosen.size, np.int64)
    _order(indptr, -confidence, order)
    rows = chosen[order]
    sizes = clusters.member_indptr[rows + 1] - clusters.member_indptr[rows]
    member_indptr = np.zeros(chosen.size + 1, np.int64)
    np.cumsum(sizes, out=member_indptr[1:])
    members = np.empty(int(member_indptr[-1]), np.int64)
    _gather(clusters.member_indptr, clusters.members, rows, member_indptr, members)
    return Arranged(order, indptr, member_indptr, members)


@kernel
def _order(indptr: NDArray[np.int64], doubt: NDArray[np.float64], order: NDArray[np.int64]) -> None:
    room = 1
    for item in range(indptr.size - 1):
        room = max(room, indptr[item + 1] - indptr[item])
    spare = np.empty(room, np.int64)
    for item in range(indptr.size - 1):
        start, stop = indptr[item], indptr[item + 1]
        sort_places(doubt[start:stop], order[start:stop], spare, stop - start)
        for i in range(start, stop):
            order[i] += start


@kernel
def _gather(
    member_indptr: NDArray[np.int64],
    members: NDArray[np.int64],
    rows: NDArray[np.int64],
    found_indptr: NDArray[np.int64],
    found: NDArray[Any],
) -> None:
    for o in range(rows.size):
        start = member_indptr[rows[o]]
        for i in range(found_indptr[o + 1] - found_indptr[o]):
            found[found_indptr[o] + i] = members[start + i]
