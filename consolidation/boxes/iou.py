"""Intersection over union of boxes: axis-aligned in closed form, rotated by clipping one with the other.

Clipping is that of I. E. Sutherland and G. W. Hodgman, "Reentrant polygon clipping", CACM 17 (1974).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["aligned_iou", "pairwise_iou", "rotated_iou"]


def pairwise_iou(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    angle_of_one: NDArray[np.float64] | None = None,
    angle_of_other: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes, shape (n, m).

    Args:
        one: left, top, width and height of boxes, shape (n, 4).
        other: of others, shape (m, 4).
        angle_of_one: degrees clockwise about the centre, shape (n,); None if none is turned.
        angle_of_other: of the others, shape (m,).
    """
    found = np.zeros((one.shape[0], other.shape[0]))
    if angle_of_one is None and angle_of_other is None:
        _fill_aligned(_corners(one), _corners(other), found)
    else:
        angles = [
            np.zeros(boxes.shape[0]) if angle is None else np.asarray(angle, np.float64)
            for boxes, angle in ((one, angle_of_one), (other, angle_of_other))
        ]
        _fill_rotated(_corners(one), angles[0], _corners(other), angles[1], found)
    return found


@kernel
def aligned_iou(one: NDArray[np.float64], i: int, other: NDArray[np.float64], j: int) -> float:
    """Return the IoU of two boxes given as rows left, top, right, bottom."""
    width = min(one[i, 2], other[j, 2]) - max(one[i, 0], other[j, 0])
    height = min(one[i, 3], other[j, 3]) - max(one[i, 1], other[j, 1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    common = width * height
    first = (one[i, 2] - one[i, 0]) * (one[i, 3] - one[i, 1])
    second = (other[j, 2] - other[j, 0]) * (other[j, 3] - other[j, 1])
    return float(common / (first + second - common))


@kernel
def rotated_iou(
    one: NDArray[np.float64],
    i: int,
    angle_of_one: float,
    other: NDArray[np.float64],
    j: int,
    angle_of_other: float,
    scratch: NDArray[np.float64],
) -> float:
    """Return the IoU of two boxes given as rows left, top, right, bottom, turned by degrees about their centres.

    ``scratch`` has shape (4, 16): two polygons of x and y, of at most 8 vertices each.
    """
    if angle_of_one == 0.0 and angle_of_other == 0.0:
        return aligned_iou(one, i, other, j)
    # Everything in the frame of the other box, where it is a plain rectangle about the origin.
    turn = math.radians(angle_of_one - angle_of_other)
    back = math.radians(angle_of_other)
    dx = 0.5 * (one[i, 0] + one[i, 2] - other[j, 0] - other[j, 2])
    dy = 0.5 * (one[i, 1] + one[i, 3] - other[j, 1] - other[j, 3])
    cx = dx * math.cos(back) + dy * math.sin(back)
    cy = dy * math.cos(back) - dx * math.sin(back)
    w, h = one[i, 2] - one[i, 0], one[i, 3] - one[i, 1]
    other_w, other_h = other[j, 2] - other[j, 0], other[j, 3] - other[j, 1]
    cos, sin = math.cos(turn), math.sin(turn)
    for k in range(4):
        x = 0.5 * w if k == 1 or k == 2 else -0.5 * w  # noqa: PLR1714 - kernels take no "in" of a set
        y = 0.5 * h if k >= 2 else -0.5 * h
        scratch[0, k] = cx + x * cos - y * sin
        scratch[1, k] = cy + x * sin + y * cos
    n = 4
    for side in range(4):
        here, there = 2 * (side % 2), 2 * ((side + 1) % 2)
        limit = 0.5 * (other_w if side < 2 else other_h)
        sign = 1.0 if side % 2 == 0 else -1.0
        n = _clip(scratch, here, there, n, side // 2, sign, limit)
    twice = 0.0
    for k in range(n):
        after = (k + 1) % n
        twice += scratch[0, k] * scratch[1, after] - scratch[0, after] * scratch[1, k]
    common = 0.5 * abs(twice)
    return float(common / (w * h + other_w * other_h - common))


@kernel
def _clip(scratch: NDArray[np.float64], here: int, there: int, n: int, axis: int, sign: float, limit: float) -> int:
    """Keep what of a polygon has ``sign * coordinate <= limit``; return its number of vertices."""
    kept = 0
    for k in range(n):
        after = (k + 1) % n
        a = limit - sign * scratch[here + axis, k]
        b = limit - sign * scratch[here + axis, after]
        if a >= 0.0:
            scratch[there, kept] = scratch[here, k]
            scratch[there + 1, kept] = scratch[here + 1, k]
            kept += 1
        if (a > 0.0 and b < 0.0) or (a < 0.0 and b > 0.0):
            share = a / (a - b)
            for xy in range(2):
                start = scratch[here + xy, k]
                scratch[there + xy, kept] = start + share * (scratch[here + xy, after] - start)
            kept += 1
    return kept


@kernel
def _fill_aligned(one: NDArray[np.float64], other: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            found[i, j] = aligned_iou(one, i, other, j)


@kernel
def _fill_rotated(
    one: NDArray[np.float64],
    angle_of_one: NDArray[np.float64],
    other: NDArray[np.float64],
    angle_of_other: NDArray[np.float64],
    found: NDArray[np.float64],
) -> None:
    scratch = np.empty((4, 16))
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            found[i, j] = rotated_iou(one, i, angle_of_one[i], other, j, angle_of_other[j], scratch)


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    return found
