"""Which boxes of different workers mean the same thing: greedy merging by IoU, at most one box a worker in a cluster.

Pairs of boxes of one item whose IoU reaches the threshold are merged, the most similar first (Kruskal's order, as in
single linkage), unless both clusters have a box of the same worker. Equal similarities are decided by the places of
the boxes, so that neither the order of the workers nor their names matter.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.boxes.iou import aligned_iou, rotated_iou
from voxpop.consolidation.boxes.sorting import sort_places
from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["Clusters", "cluster_boxes"]

_WORD: Final = 64  # workers in one word of a cluster's set


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Every box stands in one cluster, maybe alone. Clusters of an item stand from left to right.

    Attributes:
        indptr: item ``i`` has the clusters ``indptr[i]:indptr[i + 1]``, int64, shape (n_items + 1,).
        member_indptr: cluster ``c`` has ``members[member_indptr[c]:member_indptr[c + 1]]``, int64, (n_clusters + 1,).
        members: places of the boxes among the objects of the table, from left to right, int64, shape (n_objects,).
    """

    indptr: NDArray[np.int64]
    member_indptr: NDArray[np.int64]
    members: NDArray[np.int64]


def cluster_boxes(table: Boxes, threshold: float, *, same_class: bool) -> Clusters:
    """Return the clusters of all items.

    Args:
        table: the boxes.
        threshold: least IoU of two boxes that are merged, above 0 and at most 1.
        same_class: whether only boxes of one class are merged.
    """
    n = table.n_objects
    corners = table.corners
    angle = np.zeros(0) if table.angle is None else table.angle
    indptr = np.zeros(table.n_items + 1, np.int64)
    member_indptr = np.zeros(n + 1, np.int64)
    members = np.empty(n, np.int64)
    objects = table.object_indptr
    count = _cluster(
        table.item_indptr,
        table.answer_indptr,
        corners,
        corners if table.angle is None else _extents(corners, angle),
        angle,
        table.label,
        threshold,
        same_class,
        int(np.diff(objects).max(initial=0)),
        int(np.diff(table.item_indptr).max(initial=0)),
        indptr,
        member_indptr,
        members,
    )
    return Clusters(indptr, member_indptr[: count + 1].copy(), members)


def _extents(corners: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return left, top, right and bottom of what turned boxes cover."""
    turn = np.radians(angle)
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    half = (corners[:, 2:] - corners[:, :2]) / 2
    centre = corners[:, :2] + half
    reach = np.column_stack([half[:, 0] * cos + half[:, 1] * sin, half[:, 0] * sin + half[:, 1] * cos])
    return np.hstack([centre - reach, centre + reach])


@kernel
def _before(group: NDArray[np.int64], keys: NDArray[np.float64], a: int, b: int) -> bool:
    """Return whether box ``a`` stands before ``b``: by group, then by where it is."""
    if group[a] != group[b]:
        return bool(group[a] < group[b])
    for k in range(keys.shape[1]):
        if keys[a, k] != keys[b, k]:
            return bool(keys[a, k] < keys[b, k])
    return False


@kernel
def _rank(
    group: NDArray[np.int64],
    keys: NDArray[np.float64],
    order: NDArray[np.int64],
    numbers: NDArray[np.float64],
    spare: NDArray[np.int64],
    n: int,
) -> None:
    """Sort boxes by ``_before``, equal ones in their order.

    They are sorted by one number made of group and left edge. It rounds, but never the wrong way; what it leaves equal,
    a last pass decides.
    """
    low, high = math.inf, -math.inf
    for i in range(n):
        low, high = min(low, keys[i, 0]), max(high, keys[i, 0])
    for i in range(n):
        numbers[i] = 2.0 * (high - low) * group[i] + (keys[i, 0] - low)
    sort_places(numbers, order, spare, n)
    for i in range(1, n):
        box, at = order[i], i
        while at > 0 and numbers[order[at - 1]] == numbers[box] and _before(group, keys, box, order[at - 1]):
            order[at] = order[at - 1]
            at -= 1
        order[at] = box


@kernel
def _copies_last(
    group: NDArray[np.int64], keys: NDArray[np.float64], answer: NDArray[np.int64], order: NDArray[np.int64], n: int
) -> None:
    """Put every worker's first copy of a box before anybody's second: equal boxes come in order of workers."""
    start = 0
    while start < n:
        stop = start + 1
        while stop < n and not _before(group, keys, order[start], order[stop]):
            stop += 1
        if stop - start > 2:
            size = stop - start
            copy = np.zeros(size, np.int64)
            for i in range(1, size):
                copy[i] = copy[i - 1] + 1 if answer[order[start + i]] == answer[order[start + i - 1]] else 0
            run = order[start:stop].copy()
            at = start
            for turn in range(size):
                for i in range(size):
                    if copy[i] == turn:
                        order[at] = run[i]
                        at += 1
        start = stop


@kernel
def _root(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def _unite(parent: NDArray[np.int64], workers: NDArray[np.uint64], a: int, b: int) -> bool:
    """Merge two clusters into the one that begins first; return whether they share a worker."""
    if b < a:
        a, b = b, a
    parent[b] = a
    shared = False
    for word in range(workers.shape[1]):
        shared = shared or (workers[a, word] & workers[b, word]) != 0
        workers[a, word] |= workers[b, word]
    return shared


@kernel
def _disjoint(workers: NDArray[np.uint64], a: int, b: int) -> bool:
    shared = np.uint64(0)
    for word in range(workers.shape[1]):
        shared |= workers[a, word] & workers[b, word]
    return bool(shared == 0)


@kernel
def _alone(parent: NDArray[np.int64], workers: NDArray[np.uint64], i: int, answer: int) -> None:
    parent[i] = i
    for word in range(workers.shape[1]):
        workers[i, word] = 0
    workers[i, answer // _WORD] = np.uint64(1) << np.uint64(answer % _WORD)


@kernel
def _cluster(
    item_indptr: NDArray[np.int64],
    answer_indptr: NDArray[np.int64],
    corners: NDArray[np.float64],
    extents: NDArray[np.float64],
    angle: NDArray[np.float64],
    label: NDArray[np.int64],
    threshold: float,
    same_class: bool,  # noqa: FBT001 - kernels take no keywords
    most_objects: int,
    most_answers: int,
    indptr: NDArray[np.int64],
    member_indptr: NDArray[np.int64],
    members: NDArray[np.int64],
) -> int:
    """Fill the arrays of ``Clusters``; return the number of clusters."""
    m = most_objects
    group, answer, parent = np.zeros(m, np.int64), np.empty(m, np.int64), np.empty(m, np.int64)
    order, spare, split = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(m, np.bool_)
    keys, numbers = np.empty((m, 4 if angle.size == 0 else 5)), np.empty(m)
    kind, whose, ranked = np.empty(m, np.int64), np.empty(m, np.int64), np.empty((m, 4))
    workers = np.empty((m, max(1, -(-most_answers // _WORD))), np.uint64)
    scratch = np.empty((4, 16))
    similarity, ends = np.empty(256), np.empty((256, 2), np.int64)
    n_clusters = 0
    for item in range(item_indptr.size - 1):
        first = answer_indptr[item_indptr[item]]
        n = answer_indptr[item_indptr[item + 1]] - first
        for a in range(item_indptr[item], item_indptr[item + 1]):
            for o in range(answer_indptr[a] - first, answer_indptr[a + 1] - first):
                answer[o] = a - item_indptr[item]
                group[o] = label[first + o] if same_class else 0
                for k in range(4):
                    keys[o, k] = extents[first + o, k]
                if angle.size:
                    keys[o, 4] = angle[first + o]
        _rank(group, keys, order, numbers, spare, n)
        _copies_last(group, keys, answer, order, n)
        n_edges = 0
        for i in range(n):
            _alone(parent, workers, i, answer[order[i]])
            split[i] = False
            kind[i], whose[i] = group[order[i]], answer[order[i]]
            for k in range(4):
                ranked[i, k] = keys[order[i], k]
        for i in range(n):
            for j in range(i + 1, n):
                if kind[j] != kind[i] or ranked[j, 0] >= ranked[i, 2]:
                    break  # all that follow are of another class, or further to the right
                # Bitwise, because nobody can guess which of them it is, least of all a processor.
                if (whose[i] == whose[j]) | (ranked[j, 1] >= ranked[i, 3]) | (ranked[i, 1] >= ranked[j, 3]):
                    continue
                if angle.size == 0:
                    iou = aligned_iou(ranked, i, ranked, j)
                else:
                    a, b = order[i], order[j]
                    turns = angle[first + a], angle[first + b]
                    iou = rotated_iou(corners, first + a, turns[0], corners, first + b, turns[1], scratch)
                if iou >= threshold:
                    if n_edges == similarity.size:
                        similarity = np.concatenate((similarity, similarity))
                        ends = np.concatenate((ends, ends))
                    similarity[n_edges], ends[n_edges, 0], ends[n_edges, 1] = iou, i, j
                    n_edges += 1
                    _join(parent, workers, split, i, j)
        _merge_in_order(parent, workers, split, order, answer, spare, similarity, ends, n, n_edges)
        n_clusters = _write(order, parent, spare, first, n, n_clusters, member_indptr, members)
        indptr[item + 1] = n_clusters
    return n_clusters


@kernel
def _join(parent: NDArray[np.int64], workers: NDArray[np.uint64], split: NDArray[np.bool_], i: int, j: int) -> None:
    """Merge two boxes' clusters whatever workers they have; mark one that has several boxes of a worker."""
    x, y = _root(parent, i), _root(parent, j)
    if x != y:
        either = split[x] or split[y]
        split[min(x, y)] = _unite(parent, workers, x, y) or either


@kernel
def _merge_in_order(
    parent: NDArray[np.int64],
    workers: NDArray[np.uint64],
    split: NDArray[np.bool_],
    order: NDArray[np.int64],
    answer: NDArray[np.int64],
    spare: NDArray[np.int64],
    similarity: NDArray[np.float64],
    ends: NDArray[np.int64],
    n: int,
    n_edges: int,
) -> None:
    """Take clusters that have several boxes of a worker apart, and merge them anew, the most similar first."""
    torn = False
    for i in range(n):
        spare[i] = split[_root(parent, i)]
        torn = torn or spare[i] != 0
    if not torn:  # elsewhere, any order gives the same clusters
        return
    for i in range(n):
        if spare[i]:
            _alone(parent, workers, i, answer[order[i]])
    kept = 0
    for e in range(n_edges):
        if spare[ends[e, 0]]:
            similarity[kept], ends[kept, 0], ends[kept, 1] = similarity[e], ends[e, 0], ends[e, 1]
            kept += 1
    by_similarity = np.empty(kept, np.int64)
    sort_places(-similarity[:kept], by_similarity, np.empty(kept, np.int64), kept)
    for edge in by_similarity:
        x, y = _root(parent, ends[edge, 0]), _root(parent, ends[edge, 1])
        if x != y and _disjoint(workers, x, y):
            _unite(parent, workers, x, y)


@kernel
def _write(
    order: NDArray[np.int64],
    parent: NDArray[np.int64],
    number: NDArray[np.int64],
    first: int,
    n: int,
    n_clusters: int,
    member_indptr: NDArray[np.int64],
    members: NDArray[np.int64],
) -> int:
    """Append the clusters of one item; return the number of clusters so far."""
    before = n_clusters
    for i in range(n):  # a cluster's root is its first box
        if parent[i] == i:
            number[i] = n_clusters
            n_clusters += 1
            member_indptr[n_clusters] = 0
    for i in range(n):
        member_indptr[number[_root(parent, i)] + 1] += 1
    at = first
    for c in range(before, n_clusters):  # each entry holds the size of its cluster, and takes its start for now
        size = member_indptr[c + 1]
        member_indptr[c + 1] = at
        at += size
    for i in range(n):
        c = number[_root(parent, i)]
        members[member_indptr[c + 1]] = first + order[i]
        member_indptr[c + 1] += 1
    return n_clusters
