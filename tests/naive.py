"""Slow, obvious oracles, one for every kernel: plain loops over (item, worker, label) triples."""

from __future__ import annotations

import math
from collections import Counter, defaultdict


def vote_shares(votes, classes, gold=None):
    """Return {item: {class: share of its votes}}; a gold item has its gold class."""
    gold = gold or {}
    counts = defaultdict(Counter)
    for item, _worker, label in votes:
        counts[item][label] += 1
    return {
        item: {c: float(gold[item] == c) if item in gold else count[c] / sum(count.values()) for c in classes}
        for item, count in counts.items()
    }


def pooled_answers(votes, classes, shares):
    """Return {(true, answer): probability} over all workers, each class helped by K answers of average accuracy."""
    K = len(classes)
    count = {(k, l): 0.0 for k in classes for l in classes}
    for item, _worker, label in votes:
        for k in classes:
            count[k, label] += shares[item][k]
    right = (sum(count[k, k] for k in classes) + 1) / (sum(count.values()) + 2)
    for k in classes:
        for l in classes:
            count[k, l] += K * ((right if K > 1 else 1.0) if k == l else (1 - right) / (K - 1))
    return {(k, l): count[k, l] / sum(count[k, m] for m in classes) for k in classes for l in classes}


def dawid_skene(votes, classes, n_iter, smoothing=0.0, gold=None):
    """Run ``n_iter`` rounds of M-step, E-step from the vote shares.

    Returns posterior {item: {class: p}}, confusion {worker: {(true, answer): p}}, prior {class: p} and the list of
    objectives: log likelihood plus log prior, up to a constant, after each round.
    """
    gold = gold or {}
    items = list(dict.fromkeys(item for item, _, _ in votes))
    workers = sorted({worker for _, worker, _ in votes})
    said = defaultdict(list)
    for item, worker, label in votes:
        said[item].append((worker, label))
    posterior = vote_shares(votes, classes, gold)
    pooled = pooled_answers(votes, classes, posterior)
    pseudo = {pair: smoothing * p for pair, p in pooled.items()}
    objective = []
    for _ in range(n_iter):
        extra = 1 / len(classes) if smoothing else 0.0
        mass = {k: extra + sum(posterior[item][k] for item in items) for k in classes}
        prior = {k: mass[k] / sum(mass.values()) for k in classes}
        count = {w: dict(pseudo) for w in workers}
        for item, worker, label in votes:
            for k in classes:
                count[worker][k, label] += posterior[item][k]
        confusion = {}
        for w in workers:
            used = {label for _, worker, label in votes if worker == w}
            confusion[w] = {}
            for k in classes:
                total = sum(count[w][k, l] for l in classes)
                for l in classes:
                    # A mass too small for the kernels' fixed point teaches nothing of this worker and class.
                    confusion[w][k, l] = count[w][k, l] / total if total > 1e-15 else (l in used) / len(used)
        value = sum(
            pseudo[k, l] * math.log(confusion[w][k, l]) for w in workers for k in classes for l in classes if smoothing
        )
        value += sum(extra * math.log(prior[k]) for k in classes if smoothing)
        posterior = {}
        for item in items:
            weight = {
                k: prior[k] * math.prod(confusion[w][k, l] for w, l in said[item]) if gold.get(item, k) == k else 0.0
                for k in classes
            }
            value += math.log(sum(weight.values()))
            posterior[item] = {k: weight[k] / sum(weight.values()) for k in classes}
        objective.append(value)
    return posterior, confusion, prior, objective


def calibration_error(confidence, correct, n_bins):
    """Return the expected calibration error; bin b holds (b / n_bins, (b + 1) / n_bins], the first one also 0."""
    bins = defaultdict(list)
    for c, right in zip(confidence, correct, strict=True):
        bins[max(0, math.ceil(c * n_bins - 1e-12) - 1)].append((c, right))
    gaps = 0.0
    for members in bins.values():
        mean_confidence = sum(c for c, _ in members) / len(members)
        share_right = sum(right for _, right in members) / len(members)
        gaps += len(members) * abs(mean_confidence - share_right)
    return gaps / len(confidence)
