"""Slow, obvious oracles of agreement: every pair of votes in a plain loop."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict


def by_item(votes):
    items = defaultdict(list)
    for item, worker, label in votes:
        items[item].append((worker, label))
    return items


def krippendorff_alpha(votes, distance):
    """Return 1 - observed / expected disagreement; ``distance(c, k)`` is squared."""
    items = [[label for _, label in said] for said in by_item(votes).values() if len(said) > 1]
    pooled = [label for labels in items for label in labels]
    n = len(pooled)
    if n < 2:
        return math.nan
    observed = sum(
        sum(distance(c, k) for c, k in itertools.permutations(labels, 2)) / (len(labels) - 1) for labels in items
    )
    expected = sum(distance(c, k) for c, k in itertools.permutations(pooled, 2)) / (n - 1)
    return 1 - observed / expected if expected else math.nan


def ordinal_distance(votes, classes):
    items = [said for said in by_item(votes).values() if len(said) > 1]
    count = Counter(label for said in items for _, label in said)

    def distance(c, k):
        low, high = sorted((classes.index(c), classes.index(k)))
        between = sum(count[classes[g]] for g in range(low, high + 1))
        return (between - (count[c] + count[k]) / 2) ** 2

    return distance


def pair_shares(votes):
    """Return {item: share of pairs that agree} of the items with two votes or more."""
    return {
        item: sum(a == b for (_, a), (_, b) in itertools.combinations(said, 2)) / math.comb(len(said), 2)
        for item, said in by_item(votes).items()
        if len(said) > 1
    }


def class_shares(votes, classes):
    items = by_item(votes).values()
    return {c: sum(sum(label == c for _, label in said) / len(said) for said in items) / len(items) for c in classes}


def fleiss_kappa(votes, classes):
    shares = pair_shares(votes)
    if not shares:
        return math.nan
    observed, expected = sum(shares.values()) / len(shares), sum(p**2 for p in class_shares(votes, classes).values())
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def gwet_ac1(votes, classes):
    shares = pair_shares(votes)
    if not shares or len(classes) == 1:
        return math.nan
    observed = sum(shares.values()) / len(shares)
    expected = sum(p * (1 - p) for p in class_shares(votes, classes).values()) / (len(classes) - 1)
    return (observed - expected) / (1 - expected)


def pairs_of_workers(votes):
    """Return {(worker, other): [(label, the other's label), ...]} on the items of both."""
    found = defaultdict(list)
    for said in by_item(votes).values():
        for (w, a), (v, b) in itertools.combinations(sorted(said), 2):
            if w != v:
                found[w, v].append((a, b))
    return found


def cohen_kappa(pairs, classes, distance=lambda c, k: c != k):
    n = len(pairs)
    observed = sum(distance(a, b) for a, b in pairs) / n
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(one[c] * other[k] * distance(c, k) for c in classes for k in classes) / n**2
    return 1 - observed / expected if expected else math.nan
