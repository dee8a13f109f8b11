"""Slow, obvious oracles for boxes: plain loops over (item, worker, (left, top, width, height), label)."""

from __future__ import annotations

import itertools
import math
from collections import Counter


def iou(a, b):
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, wide) * max(0.0, high)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def corners(box, degrees):
    """Return the four corners of a box turned about its centre."""
    left, top, width, height = box
    x, y, turn = left + width / 2, top + height / 2, math.radians(degrees)
    return [
        (x + dx * math.cos(turn) - dy * math.sin(turn), y + dx * math.sin(turn) + dy * math.cos(turn))
        for dx, dy in (
            (-width / 2, -height / 2),
            (width / 2, -height / 2),
            (width / 2, height / 2),
            (-width / 2, height / 2),
        )
    ]


def inside(point, polygon):
    """Whether a point is in a convex polygon that runs clockwise as seen on the screen."""
    return all(
        (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) >= -1e-9
        for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True)
    )


def crossing(a, b, c, d):
    """Return where the segments a-b and c-d cross, or None."""
    r, s = (b[0] - a[0], b[1] - a[1]), (d[0] - c[0], d[1] - c[1])
    across = r[0] * s[1] - r[1] * s[0]
    if abs(across) < 1e-12:
        return None
    t = ((c[0] - a[0]) * s[1] - (c[1] - a[1]) * s[0]) / across
    u = ((c[0] - a[0]) * r[1] - (c[1] - a[1]) * r[0]) / across
    return (a[0] + t * r[0], a[1] + t * r[1]) if -1e-12 <= t <= 1 + 1e-12 and -1e-12 <= u <= 1 + 1e-12 else None


def turned_iou(a, angle_a, b, angle_b):
    """Intersect by vertices: corners inside the other box, and crossings of sides, sorted around their middle."""
    one, other = corners(a, angle_a), corners(b, angle_b)
    points = [p for p in one if inside(p, other)] + [p for p in other if inside(p, one)]
    sides = [list(itertools.pairwise([*polygon, polygon[0]])) for polygon in (one, other)]
    points += [p for p in (crossing(*x, *y) for x in sides[0] for y in sides[1]) if p]
    common = 0.0
    if len(points) >= 3:
        mx, my = sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)
        points.sort(key=lambda p: math.atan2(p[1] - my, p[0] - mx))
        common = 0.5 * sum(p[0] * q[1] - p[1] * q[0] for p, q in itertools.pairwise([*points, points[0]]))
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def clusters(marks, threshold, *, same_class):
    """Return the clusters of one item as sets of places in ``marks``, a list of (worker, box, label)."""
    edges = []
    for (i, a), (j, b) in itertools.combinations(enumerate(marks), 2):
        if a[0] != b[0] and (a[2] == b[2] or not same_class) and iou(a[1], b[1]) >= threshold:
            ends = sorted([(a[1], a[2]), (b[1], b[2])])
            edges.append((-iou(a[1], b[1]), ends, i, j))
    found = [{i} for i in range(len(marks))]
    for _, _, i, j in sorted(edges):
        one = next(c for c in found if i in c)
        other = next(c for c in found if j in c)
        if one is not other and not {marks[k][0] for k in one} & {marks[k][0] for k in other}:
            found.remove(other)
            one |= other
    return found


def median(values):
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def merged(answers, quorum, threshold, *, same_class=False):
    """Return {item: [(box, labels that have most votes, confidence, members)]}.

    ``answers`` is {item: {worker: [(box, label)]}}.
    """
    found = {}
    for item, by_worker in answers.items():
        marks = [(worker, box, label) for worker, drawn in by_worker.items() for box, label in drawn]
        n = len(by_worker)
        found[item] = []
        for cluster in clusters(marks, threshold, same_class=same_class):
            if len(cluster) < quorum * n:
                continue
            boxes = [marks[k][1] for k in cluster]
            left, top = median(b[0] for b in boxes), median(b[1] for b in boxes)
            right, bottom = median(b[0] + b[2] for b in boxes), median(b[1] + b[3] for b in boxes)
            votes = Counter(marks[k][2] for k in cluster)
            best = max(votes.values())
            heads = sum(math.comb(n + 1, v) for v in range(len(cluster) + 1)) / 2 ** (n + 1)
            found[item].append(
                (
                    (left, top, right - left, bottom - top),
                    {label for label, count in votes.items() if count == best},
                    heads * best / len(cluster),
                    {(marks[k][0], marks[k][1]) for k in cluster},
                )
            )
    return found


def existence(candidates, miss, false_positive, obvious, nodes=4000):
    """Return log likelihood and probability of existence of each candidate: (workers who marked it, who did not)."""
    total, exists = 0.0, []
    saliences = [((k + 0.5) / nodes, (1 - obvious) / nodes) for k in range(nodes)] + [(1.0, obvious)]
    for marked, passed in candidates:
        there = whole = nobody = 0.0
        for s, weight in saliences:
            rate = {w: s * (1 - miss[w]) + (1 - s) * false_positive[w] for w in [*marked, *passed]}
            p = math.prod(rate[w] for w in marked) * math.prod(1 - rate[w] for w in passed) * weight
            whole += p
            there += p if s > 0.5 else 0.0
            nobody += math.prod(1 - r for r in rate.values()) * weight
        total += math.log(whole / (1 - nobody))
        exists.append(there / whole)
    return total, exists


def existence_objective(candidates, miss, false_positive, obvious, smoothing, typical):
    prior = sum(
        smoothing * (typical * math.log(r) + (1 - typical) * math.log(1 - r))
        for rates in (miss, false_positive)
        for r in rates.values()
    )
    prior += smoothing * math.log(1 - obvious)
    return existence(candidates, miss, false_positive, obvious)[0] + prior
