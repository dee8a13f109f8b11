"""Slow, obvious oracles, one for every kernel: plain loops over (item, worker, label) triples."""

from __future__ import annotations

import math
from collections import Counter, defaultdict


def vote_shares(votes, classes, gold=None, worker_weight=None):
    """Return {item: {class: share of its votes}}; a gold item has its gold class, one without votes equal shares."""
    gold, worker_weight = gold or {}, worker_weight or {}
    counts = defaultdict(Counter)
    for item, worker, label in votes:
        counts[item][label] += worker_weight.get(worker, 1)
    shares = {}
    for item, count in counts.items():
        whole = sum(count.values())
        shares[item] = {c: count[c] / whole if whole else 1 / len(classes) for c in classes}
        if item in gold:
            shares[item] = {c: float(gold[item] == c) for c in classes}
    return shares


def pooled_answers(votes, classes, shares, item_weight, worker_weight):
    """Return {(true, answer): probability} over all workers, each class helped by K answers of average accuracy."""
    K = len(classes)
    count = {(k, l): 0.0 for k in classes for l in classes}
    for item, worker, label in votes:
        for k in classes:
            count[k, label] += shares[item][k] * item_weight.get(item, 1) * worker_weight.get(worker, 1)
    right = (sum(count[k, k] for k in classes) + 1) / (sum(count.values()) + 2)
    for k in classes:
        for l in classes:
            count[k, l] += K * ((right if K > 1 else 1.0) if k == l else (1 - right) / (K - 1))
    return {(k, l): count[k, l] / sum(count[k, m] for m in classes) for k in classes for l in classes}


def class_shares(posterior, classes, item_weight, smoothing):
    """Return {class: probability}: the mean posterior, helped by one item of unknown class if there is a prior."""
    extra = 1 / len(classes) if smoothing else 0.0
    mass = {k: extra + sum(p[k] * item_weight.get(item, 1) for item, p in posterior.items()) for k in classes}
    whole = sum(mass.values())
    return {k: mass[k] / whole if whole else 1 / len(classes) for k in classes}


def dawid_skene(votes, classes, n_iter, smoothing=0.0, gold=None, item_weight=None, worker_weight=None, history=None):
    """Run ``n_iter`` rounds of M-step, E-step from the vote shares.

    ``history`` is {worker: {(true, answer): count}}. Returns posterior {item: {class: p}}, confusion {worker: {(true,
    answer): p}}, prior {class: p} and the list of objectives: log likelihood plus log prior, up to a constant, after
    each round.
    """
    gold, item_weight, worker_weight = gold or {}, item_weight or {}, worker_weight or {}
    items = list(dict.fromkeys(item for item, _, _ in votes))
    workers = sorted({worker for _, worker, _ in votes})
    said = defaultdict(list)
    for item, worker, label in votes:
        said[item].append((worker, label))
    posterior = vote_shares(votes, classes, gold, worker_weight)
    pooled = pooled_answers(votes, classes, posterior, item_weight, worker_weight)
    added = {w: {pair: smoothing * p for pair, p in pooled.items()} for w in workers}
    for w, counts in (history or {}).items():
        for pair, count in counts.items():
            added[w][pair] += count
    objective = []
    for _ in range(n_iter):
        prior = class_shares(posterior, classes, item_weight, smoothing)
        count = {w: dict(added[w]) for w in workers}
        for item, worker, label in votes:
            for k in classes:
                worth = item_weight.get(item, 1) * worker_weight.get(worker, 1)
                count[worker][k, label] += posterior[item][k] * worth
        confusion = {}
        for w in workers:
            used = {label for _, worker, label in votes if worker == w}
            confusion[w] = {}
            for k in classes:
                total = sum(count[w][k, l] for l in classes)
                for l in classes:
                    # A mass too small for the kernels' fixed point teaches nothing of this worker and class.
                    confusion[w][k, l] = count[w][k, l] / total if total > 1e-15 else (l in used) / len(used)
        value = sum(n * math.log(confusion[w][pair]) for w in workers for pair, n in added[w].items() if n)
        value += sum(math.log(prior[k]) / len(classes) for k in classes if smoothing)
        posterior = {}
        for item in items:
            weight = {
                k: prior[k] * math.prod(confusion[w][k, l] ** worker_weight.get(w, 1) for w, l in said[item])
                if gold.get(item, k) == k
                else 0.0
                for k in classes
            }
            value += item_weight.get(item, 1) * math.log(sum(weight.values()))
            posterior[item] = {k: weight[k] / sum(weight.values()) for k in classes}
        objective.append(value)
    return posterior, confusion, prior, objective


def one_coin(votes, classes, n_iter, smoothing=0.0, gold=None, item_weight=None, worker_weight=None, history=None):
    """Run ``n_iter`` rounds of M-step, E-step from the vote shares.

    ``history`` is {worker: (right, wrong)}. Returns posterior {item: {class: p}}, accuracy {worker: p}, prior {class:
    p} and the list of objectives: log likelihood plus log prior, up to a constant, after each round.
    """
    gold, item_weight, worker_weight, history = gold or {}, item_weight or {}, worker_weight or {}, history or {}
    items = list(dict.fromkeys(item for item, _, _ in votes))
    workers = sorted({worker for _, worker, _ in votes})
    worth = [item_weight.get(item, 1) * worker_weight.get(worker, 1) for item, worker, _ in votes]
    others = max(len(classes) - 1, 1)
    posterior = vote_shares(votes, classes, gold, worker_weight)
    agreed = sum(n * posterior[item][label] for n, (item, _, label) in zip(worth, votes, strict=True))
    pooled = (agreed + 1) / (sum(worth) + 2)
    objective = []
    for _ in range(n_iter):
        prior = class_shares(posterior, classes, item_weight, smoothing)
        right = {w: smoothing * pooled + history.get(w, (0, 0))[0] for w in workers}
        wrong = {w: smoothing * (1 - pooled) + history.get(w, (0, 0))[1] for w in workers}
        value = sum(math.log(prior[k]) / len(classes) for k in classes if smoothing)
        added = dict(right), dict(wrong)
        for n, (item, worker, label) in zip(worth, votes, strict=True):
            right[worker] += n * posterior[item][label]
            wrong[worker] += n * (1 - posterior[item][label])
        accuracy = {}
        for w in workers:
            given = right[w] + wrong[w]
            accuracy[w] = min(max(right[w] / given if given else pooled, 1e-10), 1 - 1e-10)
            value += added[0][w] * math.log(accuracy[w]) + added[1][w] * math.log(1 - accuracy[w])
        chance = {item: {k: prior[k] if gold.get(item, k) == k else 0.0 for k in classes} for item in items}
        for item, worker, label in votes:
            for k in classes:
                said = accuracy[worker] if k == label else (1 - accuracy[worker]) / others
                chance[item][k] *= said ** worker_weight.get(worker, 1)
        for item in items:
            whole = sum(chance[item].values())
            value += item_weight.get(item, 1) * math.log(whole)
            posterior[item] = {k: chance[item][k] / whole for k in classes}
        objective.append(value)
    return posterior, accuracy, prior, objective


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
