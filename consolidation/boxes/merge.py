"""Kernels over the boxes of one cluster: their middle, edge by edge, and their most frequent class.

Axis-aligned boxes are merged by their edges: left, top, right and bottom. Turned boxes by centre, width, height and
angle, each in the quarter turn that is nearest to the first box's: a box of 10 by 20 turned by 90 degrees is one of
20 by 10.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.cluster import Clusters
    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["as_boxes", "merged_boxes", "parts_of", "plurality"]


def parts_of(table: Boxes, clusters: Clusters) -> NDArray[np.float64]:
    """Return the numbers by which each member is merged, in the order of ``clusters.members``, float64, (n, 4 or 5).

    Left, top, right and bottom; if any box is turned: x and y of the centre, width, height, angle.
    """
    if table.angle is None:
        return table.corners[clusters.members]
    parts = np.empty((table.n_objects, 5))
    _turned_parts(table.geometry, table.angle, clusters.member_indptr, clusters.members, parts)
    return parts


def as_boxes(
    parts: NDArray[np.float64], alone: NDArray[np.int64], table: Boxes
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return geometry and angle of merged parts; ``alone`` is the only member of each cluster, -1 if it has several.

    What one worker drew comes back as it was, to the last bit.
    """
    single = alone >= 0
    boxes = parts[:, :4].copy()
    if table.angle is None:
        boxes[:, 2:] -= boxes[:, :2]
        boxes[single] = table.geometry[alone[single]]
        return boxes, None
    boxes[:, :2] -= boxes[:, 2:] / 2
    boxes[single] = table.geometry[alone[single]]
    angle = np.where(single, table.angle[alone], parts[:, 4])
    return boxes, (angle + 90.0) % 180.0 - 90.0


def plurality(
    table: Boxes, clusters: Clusters, chosen: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the most frequent class of the members of the chosen clusters, and its share of them, each (n_chosen,).

    Ties are broken by the seed and the names of item and class.
    """
    labels, share = np.empty(chosen.size, np.int64), np.empty(chosen.size)
    tied = np.zeros(chosen.size, np.bool_)
    count = np.zeros(table.n_classes, np.int64)
    _plurality(table.label, clusters.member_indptr, clusters.members, chosen, count, labels, share, tied)
    rows = np.flatnonzero(tied)
    if rows.size:
        votes: NDArray[Any] = np.zeros((rows.size, table.n_classes))
        of_row = chosen[rows]
        starts, stops = clusters.member_indptr[of_row], clusters.member_indptr[of_row + 1]
        for row, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            np.add.at(votes[row], table.label[clusters.members[start:stop]], 1.0)
        items = np.searchsorted(clusters.indptr, of_row, side="right") - 1
        labels[rows] = choose_labels(votes, table.items[items], table.classes, seed)
    return labels, share


@kernel
def merged_boxes(
    parts: NDArray[np.float64],
    member_indptr: NDArray[np.int64],
    chosen: NDArray[np.int64],
    median: bool,  # noqa: FBT001 - kernels take no keywords
    merged: NDArray[np.float64],
) -> None:
    """Fill ``merged`` with the median or mean of the parts of each chosen cluster."""
    room = 1
    for c in chosen:
        room = max(room, member_indptr[c + 1] - member_indptr[c])
    sorted_part = np.empty(room)
    for row in range(chosen.size):
        start, stop = member_indptr[chosen[row]], member_indptr[chosen[row] + 1]
        n = stop - start
        for k in range(parts.shape[1]):
            if median:
                for i in range(n):
                    value, at = parts[start + i, k], i
                    while at > 0 and sorted_part[at - 1] > value:
                        sorted_part[at] = sorted_part[at - 1]
                        at -= 1
                    sorted_part[at] = value
                low, high = sorted_part[(n - 1) // 2], sorted_part[n // 2]
                merged[row, k] = low if n % 2 else low + 0.5 * (high - low)
            else:
                total = 0.0
                for i in range(start, stop):
                    total += parts[i, k]
                merged[row, k] = total / n


@kernel
def _plurality(
    label: NDArray[np.int64],
    member_indptr: NDArray[np.int64],
    members: NDArray[np.int64],
    chosen: NDArray[np.int64],
    count: NDArray[np.int64],
    labels: NDArray[np.int64],
    share: NDArray[np.float64],
    tied: NDArray[np.bool_],
) -> None:
    for row in range(chosen.size):
        start, stop = member_indptr[chosen[row]], member_indptr[chosen[row] + 1]
        best = label[members[start]]
        for i in range(start, stop):
            k = label[members[i]]
            count[k] += 1
            if count[k] > count[best]:
                best = k
        for i in range(start, stop):
            k = label[members[i]]
            tied[row] = tied[row] or (k != best and count[k] == count[best])
        labels[row] = best
        share[row] = count[best] / (stop - start)
        for i in range(start, stop):
            count[label[members[i]]] = 0


@kernel
def _turned_parts(
    geometry: NDArray[np.float64],
    angle: NDArray[np.float64],
    member_indptr: NDArray[np.int64],
    members: NDArray[np.int64],
    parts: NDArray[np.float64],
) -> None:
    for c in range(member_indptr.size - 1):
        reference = angle[members[member_indptr[c]]]
        for row in range(member_indptr[c], member_indptr[c + 1]):
            o = members[row]
            quarters = math.floor((angle[o] - reference) / 90.0 + 0.5)
            wide, high = geometry[o, 2], geometry[o, 3]
            parts[row, 0] = geometry[o, 0] + 0.5 * wide
            parts[row, 1] = geometry[o, 1] + 0.5 * high
            parts[row, 2] = wide if quarters % 2 == 0 else high
            parts[row, 3] = high if quarters % 2 == 0 else wide
            parts[row, 4] = angle[o] - 90.0 * quarters
