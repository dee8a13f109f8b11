"""Kernels of the methods that come from ensembles of detectors: the same steps in the same order as in ensemble-boxes.

They are compiled without any liberties of arithmetic, and keep that package's mix of single and double precision:
running sums of coordinates are float32, everything else float64, as NumPy 2 evaluates its lines.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.boxes.sorting import sort_places
from voxpop.consolidation.boxes.strict import strict_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AVERAGE", "BOX_AND_MODEL", "MAXIMUM", "MISSING_MODELS", "fuse", "gather", "suppress", "weigh"]

AVERAGE: Final = 0
MAXIMUM: Final = 1
BOX_AND_MODEL: Final = 2
MISSING_MODELS: Final = 3

_PAIRWISE: Final = 128  # numpy adds up so many numbers in eight lanes
_LANES: Final = 8


@strict_kernel
def _sum(values: NDArray[np.float64], n: int) -> float:
    """Return the sum as numpy adds it up, of at most 128 numbers; blocks of 128 one after the other beyond."""
    total = 0.0
    for start in range(0, n, _PAIRWISE):
        size = min(_PAIRWISE, n - start)
        part = 0.0
        if size < _LANES:
            for i in range(start, start + size):
                part += values[i]
        else:
            lane = values[start : start + _LANES].copy()
            whole = size - size % _LANES
            for i in range(_LANES, whole):
                lane[i % _LANES] += values[start + i]
            part = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]))
            for i in range(start + whole, start + size):
                part += values[i]
        total = part if start == 0 else total + part
    return total


@strict_kernel
def _iou(one: NDArray[np.float64], i: int, other: NDArray[np.float64], j: int) -> float:
    """Return the IoU of two rows of left, top, right and bottom."""
    width = min(one[i, 2], other[j, 2]) - max(one[i, 0], other[j, 0])
    height = min(one[i, 3], other[j, 3]) - max(one[i, 1], other[j, 1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    common = width * height
    first = (one[i, 2] - one[i, 0]) * (one[i, 3] - one[i, 1])
    second = (other[j, 2] - other[j, 0]) * (other[j, 3] - other[j, 1])
    return float(common / (first + second - common))


@strict_kernel
def _ranked(
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    corners: NDArray[np.float64],
    rows: NDArray[np.int64],
    spare: NDArray[np.int64],
    keys: NDArray[np.float64],
    n: int,
) -> None:
    """Sort rows by class, then the surest first, equal ones from left to right.

    They are sorted by one number made of class and score. It rounds, but never the wrong way; what it leaves equal, a
    last pass decides. ``spare``, shape (2, n or more), and ``keys``, shape (n or more,), are scratch.
    """
    top = 1.0
    for i in range(n):
        top = max(top, score[rows[i]])
    for i in range(n):
        keys[i] = 2.0 * top * label[rows[i]] - score[rows[i]]
        spare[1, i] = rows[i]
    sort_places(keys, rows, spare[0], n)
    for i in range(n):
        row, key, at = spare[1, rows[i]], keys[rows[i]], i
        spare[0, i] = rows[i]
        while at > 0 and keys[spare[0, at - 1]] == key and _before(label, score, corners, row, rows[at - 1]):
            rows[at] = rows[at - 1]
            at -= 1
        rows[at] = row


@strict_kernel
def _before(label: NDArray[np.int64], score: NDArray[np.float64], corners: NDArray[np.float64], a: int, b: int) -> bool:
    if label[a] != label[b]:
        return bool(label[a] < label[b])
    if score[a] != score[b]:
        return bool(score[a] > score[b])
    for k in range(4):
        if corners[a, k] != corners[b, k]:
            return bool(corners[a, k] < corners[b, k])
    return a < b


@strict_kernel
def fuse(  # noqa: PLR0915 - one pass over an item's boxes, whose state would be the pieces' arguments
    item_indptr: NDArray[np.int64],
    answer_indptr: NDArray[np.int64],
    geometry: NDArray[np.float64],
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    weight: NDArray[np.float64],
    least_score: float,
    iou: float,
    confidence_type: int,
    indptr: NDArray[np.int64],
    cluster: NDArray[np.int64],
    fused: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> int:
    """Weighted boxes fusion of every item.

    Fills ``indptr`` (n_items + 1), ``cluster`` (the fused box of each box, -1 if its score is below the least one),
    and of each fused box, in the order in which they began, ``fused`` (left, top, right, bottom) and ``confidence``.
    ``score`` is as it came; ``weight`` is that of each answer.

    Returns:
        The number of fused boxes.
    """
    most = 0
    for item in range(item_indptr.size - 1):
        most = max(most, answer_indptr[item_indptr[item + 1]] - answer_indptr[item_indptr[item]])
    # Of the boxes of one item, and of its fused boxes:
    rows, spare, keys = np.empty(most, np.int64), np.empty((2, most), np.int64), np.empty(most)
    kind, weighted, own = np.empty(most, np.int64), np.empty(most), np.empty(most)
    corners = np.empty((most, 4))
    sums = np.empty((most, 4), np.float32)
    sure, top, weights = np.empty(most), np.empty(most), np.empty(most)
    size = np.empty(most, np.int64)
    count = 0
    for item in range(item_indptr.size - 1):
        first = answer_indptr[item_indptr[item]]
        n = 0
        for a in range(item_indptr[item], item_indptr[item + 1]):
            for o in range(answer_indptr[a], answer_indptr[a + 1]):
                cluster[o] = -1
                if not score[o] < least_score:
                    at = o - first
                    rows[n] = at
                    n += 1
                    kind[at], weighted[at], own[at] = label[o], score[o] * weight[a], weight[a]
                    corners[at, 0], corners[at, 1] = geometry[o, 0], geometry[o, 1]
                    corners[at, 2] = geometry[o, 0] + geometry[o, 2]
                    corners[at, 3] = geometry[o, 1] + geometry[o, 3]
        _ranked(kind, weighted, corners, rows, spare, keys, n)
        base = begin = count
        before = np.int64(-1)
        for r in range(n):
            o = rows[r]
            if kind[o] != before:
                begin, before = count, kind[o]
            best, best_iou = -1, iou
            for c in range(begin, count):
                found = _iou(fused, c, corners, o)
                if found > best_iou:
                    best, best_iou = c, found
            s = weighted[o]
            if best < 0:
                best = count
                count += 1
                confidence[best] = s
                at = best - base
                sure[at], top[at], weights[at], size[at] = s, s, own[o], 1
                for k in range(4):
                    sums[at, k] = np.float32(s * corners[o, k])
                    fused[best, k] = corners[o, k]
            else:
                at = best - base
                sure[at], top[at], weights[at], size[at] = (
                    sure[at] + s,
                    max(top[at], s),
                    weights[at] + own[o],
                    size[at] + 1,
                )
                for k in range(4):
                    sums[at, k] = np.float32(np.float64(sums[at, k]) + s * corners[o, k])
                    fused[best, k] = np.float64(np.float32(np.float64(sums[at, k]) / sure[at]))
            cluster[first + o] = best
        for c in range(base, count):
            at = c - base
            if size[at] > 1:  # a row of its own keeps single precision once it is fused
                mean = top[at] if confidence_type == MAXIMUM else sure[at] / np.float64(size[at])
                confidence[c] = np.float64(np.float32(mean))
                weights[at] = np.float64(np.float32(weights[at]))
        _rescale(
            item_indptr[item], item_indptr[item + 1], answer_indptr, weight, confidence_type, cluster,
            base, count, size, weights, confidence,
        )  # fmt: skip
        indptr[item + 1] = count
    return count


@strict_kernel
def _rescale(
    first_answer: int,
    last_answer: int,
    answer_indptr: NDArray[np.int64],
    weight: NDArray[np.float64],
    confidence_type: int,
    cluster: NDArray[np.int64],
    start: int,
    stop: int,
    size: NDArray[np.int64],
    weights: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> None:
    """Turn mean (or highest) scores into confidences by how many models there are, and how many found the box."""
    n = last_answer - first_answer
    chosen = np.empty(n)
    whole = _sum(weight[first_answer:last_answer], n)
    heaviest = 0.0
    for a in range(first_answer, last_answer):
        heaviest = max(heaviest, weight[a])
    for c in range(start, stop):
        at = c - start
        members = np.float64(size[at])
        if confidence_type == AVERAGE:
            confidence[c] = confidence[c] * np.float64(min(n, size[at])) / whole
        elif confidence_type == MAXIMUM:
            confidence[c] = confidence[c] / heaviest
        else:
            taken = 0
            for a in range(first_answer, last_answer):
                there = False
                for o in range(answer_indptr[a], answer_indptr[a + 1]):
                    there = there or cluster[o] == c
                if there == (confidence_type == BOX_AND_MODEL):
                    chosen[taken] = weight[a]
                    taken += 1
            if confidence_type == BOX_AND_MODEL:
                confidence[c] = confidence[c] * members / weights[at] * _sum(chosen, taken) / whole
            else:
                confidence[c] = confidence[c] * members / (weights[at] + _sum(chosen, taken))


@strict_kernel
def suppress(
    object_indptr: NDArray[np.int64],
    corners: NDArray[np.float64],
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    iou: float,
    sigma: float,
    least_score: float,
    linear: bool,  # noqa: FBT001 - kernels take no keywords
    indptr: NDArray[np.int64],
    cluster: NDArray[np.int64],
    confidence: NDArray[np.float64],
) -> int:
    """Soft suppression of every item and class: take the surest box, and lower the scores of those that overlap it.

    ``sigma`` above 0: by ``exp(-iou**2 / sigma)``. Else those above ``iou`` only: ``linear``ly by ``1 - iou``, or to 0.
    Fills ``indptr`` and ``cluster`` as ``fuse`` does, and the lowered scores of what it keeps, which it counts.
    """
    decayed = np.empty(score.size)
    count = 0
    most = 0
    for item in range(object_indptr.size - 1):
        most = max(most, object_indptr[item + 1] - object_indptr[item])
    rows, spare, keys = np.empty(most, np.int64), np.empty((2, most), np.int64), np.empty(most)
    for item in range(object_indptr.size - 1):
        n = object_indptr[item + 1] - object_indptr[item]
        for i in range(n):
            rows[i] = object_indptr[item] + i
            decayed[rows[i]] = score[rows[i]]
        _ranked(label, score, corners, rows, spare, keys, n)
        for i in range(n):
            stop = i + 1
            while stop < n and label[rows[stop]] == label[rows[i]]:
                stop += 1
            for j in range(i + 1, stop):  # equal ones: the one that stood before
                if decayed[rows[j]] > decayed[rows[i]]:
                    rows[i], rows[j] = rows[j], rows[i]
            a = rows[i]
            for j in range(i + 1, stop):
                b = rows[j]
                found = _iou(corners, a, corners, b)
                if sigma > 0.0:
                    decayed[b] *= math.exp(-(found * found) / sigma)
                elif found > iou:
                    decayed[b] *= 1.0 - found if linear else 0.0
        for i in range(n):
            cluster[rows[i]] = -1
            if decayed[rows[i]] > least_score:
                cluster[rows[i]] = count
                confidence[count] = decayed[rows[i]]
                count += 1
        indptr[item + 1] = count
    return count


@strict_kernel
def weigh(
    object_indptr: NDArray[np.int64],
    corners: NDArray[np.float64],
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    iou: float,
    indptr: NDArray[np.int64],
    cluster: NDArray[np.int64],
    fused: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> int:
    """Non-maximum weighted of every item: boxes join the surest one, and weigh by score times IoU with it.

    Boxes whose ``cluster`` is -1 before are left out. Fills the rest as ``fuse`` does; returns the number of boxes.
    """
    most = 0
    for item in range(object_indptr.size - 1):
        most = max(most, object_indptr[item + 1] - object_indptr[item])
    rows, spare, keys = np.empty(most, np.int64), np.empty((2, most), np.int64), np.empty(most)
    leader = np.empty(most, np.int64)
    sums, weights = np.empty((most, 4), np.float32), np.empty(most)
    count = 0
    for item in range(object_indptr.size - 1):
        n = 0
        for o in range(object_indptr[item], object_indptr[item + 1]):
            if cluster[o] >= 0:
                rows[n] = o
                n += 1
        _ranked(label, score, corners, rows, spare, keys, n)
        begin, before, base = count, np.int64(-1), count
        for r in range(n):
            o = rows[r]
            if label[o] != before:
                begin, before = count, label[o]
            best, best_iou = -1, iou
            for c in range(begin, count):
                a = leader[c - base]
                found = _iou(corners, a, corners, o)
                if found > best_iou:
                    best, best_iou = c, found
            if best < 0:
                best, best_iou = count, 1.0
                leader[count - base], weights[count - base] = o, 0.0
                sums[count - base] = 0.0
                confidence[count] = np.float64(np.float32(score[o]))
                count += 1
            at = best - base
            weight = score[o] * best_iou
            weights[at] += weight
            for k in range(4):
                sums[at, k] = np.float32(np.float64(sums[at, k]) + weight * corners[o, k])
            cluster[o] = best
        for c in range(base, count):
            for k in range(4):
                fused[c, k] = np.float64(np.float32(np.float64(sums[c - base, k]) / weights[c - base]))
        indptr[item + 1] = count
    return count


@strict_kernel
def gather(cluster: NDArray[np.int64], member_indptr: NDArray[np.int64], members: NDArray[np.int64]) -> None:
    """Fill the members of each cluster, in the order of the boxes; ``member_indptr`` is all 0 before."""
    for o in range(cluster.size):
        if cluster[o] >= 0:
            member_indptr[cluster[o] + 1] += 1
    before = 0
    for c in range(1, member_indptr.size):  # for now, each entry is where its cluster starts
        size = member_indptr[c]
        member_indptr[c] = before
        before += size
    for o in range(cluster.size):
        if cluster[o] >= 0:
            members[member_indptr[cluster[o] + 1]] = o
            member_indptr[cluster[o] + 1] += 1
