"""Slow, obvious oracles of the Bayesian vote methods: plain loops over (item, worker, label) triples."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict


def digamma(x):
    """Return the derivative of log gamma: recurrence, then three terms of its series."""
    y = x + 60
    series = math.log(y) - 1 / (2 * y) - 1 / (12 * y**2) + 1 / (120 * y**4)
    return series - math.fsum(1 / (x + n) for n in range(60))


def expected_log(counts):
    """Return {key: E[log p]} under a Dirichlet with these counts."""
    total = digamma(sum(counts.values()))
    return {key: digamma(count) - total for key, count in counts.items()}


def divergence(counts, prior):
    """Return the Kullback-Leibler divergence of a Dirichlet with ``counts`` from one with ``prior``."""
    log = expected_log(counts)
    value = math.lgamma(sum(counts.values())) - math.lgamma(sum(prior.values()))
    for key, count in counts.items():
        value += math.lgamma(prior[key]) - math.lgamma(count) + (count - prior[key]) * log[key]
    return value


def mixed(key):
    """Return splitmix64 of a whole number."""
    key = (key + 0x9E3779B97F4A7C15) % 2**64
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) % 2**64
    return key ^ (key >> 31)


def split(item, subtypes, salt):
    """Return how an item is split between subtypes at the start."""
    key = zlib.crc32(str(item).encode())
    bits = [mixed((mixed(key ^ salt) + m) % 2**64) >> 11 for m in range(subtypes)]
    parts = [-math.log((b + 1) / 2**53) for b in bits]
    return [part / sum(parts) for part in parts]


def shares(said, classes, gold, worker_weight):
    """Return {item: {class: share of its votes}}; a gold item has its gold class."""
    found = {}
    for item, votes in said.items():
        if item in gold:
            found[item] = {k: float(k == gold[item]) for k in classes}
            continue
        count = dict.fromkeys(classes, 0.0)
        for worker, label in votes:
            count[label] += worker_weight.get(worker, 1.0)
        total = sum(count.values())
        found[item] = {k: count[k] / total if total else 1 / len(classes) for k in classes}
    return found


def combination(
    votes, classes, n_iter, *, right, wrong, prior_class, subtypes=1, prior_subtypes=1.0, salt=None, as_voted=False,
    gold=None, item_weight=None, worker_weight=None, history=None,
):  # fmt: skip
    """Run ``n_iter`` rounds of variational classifier combination from the vote shares, split by ``salt``.

    Returns posterior {item: {class: p}}, confusion {worker: {(true, answer): p}}, class shares {class: p} and the
    evidence lower bound after each round, from its definition.
    """
    gold, item_weight, worker_weight = gold or {}, item_weight or {}, worker_weight or {}
    columns = [(k, m) for k in classes for m in range(subtypes)]
    workers = sorted({worker for _, worker, _ in votes})
    said = defaultdict(list)
    for item, worker, label in votes:
        said[item].append((worker, label))
    start = shares(said, classes, gold, worker_weight)
    whole = [1.0] * subtypes
    q = {}
    for item in said:
        parts = whole if salt is None else split(item, subtypes, salt)
        q[item] = {(k, m): start[item][k] * parts[m] for k, m in columns}
    D = {item: item_weight.get(item, 1.0) for item in said}
    S = {worker: worker_weight.get(worker, 1.0) for worker in workers}

    def known(worker, k, l):
        return history[worker][k, l] if history and worker in history else 0.0

    prior_of_class = dict.fromkeys(classes, prior_class)
    if as_voted:
        prior_of_class = {k: max(prior_class, sum(D[i] * start[i][k] for i in said)) for k in classes}
    prior_of_subtype = dict.fromkeys(range(subtypes), prior_subtypes / subtypes)
    prior = {
        (w, k): {l: (right if k == l else wrong) + known(w, k, l) for l in classes} for w in workers for k in classes
    }
    objective = []
    for _ in range(n_iter):
        of_class = {
            k: prior_of_class[k] + sum(D[i] * q[i][k, m] for i in said for m in prior_of_subtype) for k in classes
        }
        of_subtype = {
            k: {m: prior_of_subtype[m] + sum(D[i] * q[i][k, m] for i in said) for m in prior_of_subtype}
            for k in classes
        }
        counts = {(w, k, m): dict(prior[w, k]) for w in workers for k, m in columns}
        for item, worker, label in votes:
            for k, m in columns:
                counts[worker, k, m][label] += D[item] * S[worker] * q[item][k, m]
        log_class = expected_log(of_class)
        log_subtype = {k: expected_log(of_subtype[k]) for k in classes}
        log = {key: expected_log(count) for key, count in counts.items()}
        value = -divergence(of_class, prior_of_class)
        value -= sum(divergence(of_subtype[k], prior_of_subtype) for k in classes)
        value -= sum(divergence(counts[w, k, m], prior[w, k]) for w, k, m in counts)
        for item in said:
            score = {
                (k, m): log_class[k] + log_subtype[k][m] + sum(S[w] * log[w, k, m][l] for w, l in said[item])
                for k, m in columns
                if gold.get(item, k) == k
            }
            top = max(score.values())
            total = sum(math.exp(s - top) for s in score.values())
            q[item] = {c: math.exp(score[c] - top) / total if c in score else 0.0 for c in columns}
            value += D[item] * sum(p * (score[c] - math.log(p)) for c, p in q[item].items() if p > 0)
        objective.append(value)
    posterior = {i: {k: sum(q[i][k, m] for m in range(subtypes)) for k in classes} for i in said}
    confusion = {w: {(k, l): 0.0 for k in classes for l in classes} for w in workers}
    for (w, k, m), count in counts.items():
        share = of_subtype[k][m] / sum(of_subtype[k].values())
        for l in classes:
            confusion[w][k, l] += share * count[l] / sum(count.values())
    return posterior, confusion, {k: n / sum(of_class.values()) for k, n in of_class.items()}, objective


def weighted_average(
    votes, classes, n_iter, *, prior_votes, shrinkage, gold=None, item_weight=None, worker_weight=None, history=None
):
    """Run ``n_iter`` rounds of Bayesian weighted averaging, class by class, from the vote shares.

    Returns values {item: {class: z}}, precisions {worker: {class: v}}, means {class: mean} and the objective after each
    round, from its definition.
    """
    gold, item_weight, worker_weight = gold or {}, item_weight or {}, worker_weight or {}
    workers = sorted({worker for _, worker, _ in votes})
    said = defaultdict(list)
    for item, worker, label in votes:
        said[item].append((worker, label))
    value = shares(said, classes, gold, worker_weight)
    worth = [item_weight.get(item, 1.0) * worker_weight.get(worker, 1.0) for item, worker, _ in votes]
    correction = 4 * (1 - 1 / max(len(classes), 2))
    precision, mean, objective = {w: {} for w in workers}, {}, [0.0] * n_iter
    for k in classes:
        z = {item: value[item][k] for item in said}
        spread = sum(n * (z[i] - (l == k)) ** 2 for n, (i, _, l) in zip(worth, votes, strict=True))
        b = prior_votes * correction * max(spread, 0.25) / max(sum(worth), 1.0)
        for t in range(n_iter):
            mean[k] = sum(item_weight.get(i, 1.0) * z[i] for i in said) / sum(item_weight.get(i, 1.0) for i in said)
            given, errors = dict.fromkeys(workers, 0.0), dict.fromkeys(workers, 0.0)
            for n, (i, w, l) in zip(worth, votes, strict=True):
                given[w] += n
                errors[w] += n * (z[i] - (l == k)) ** 2
            for w in workers:
                for (true, answer), n in (history or {}).get(w, {}).items():
                    given[w] += n
                    errors[w] += n * ((true == k) != (answer == k))
                precision[w][k] = (prior_votes + given[w]) / (b + errors[w])
            for i in said:
                if i not in gold:
                    weight = {w: worker_weight.get(w, 1.0) * precision[w][k] for w, _ in said[i]}
                    top = shrinkage * mean[k] + sum(weight[w] for w, l in said[i] if l == k)
                    z[i] = top / (shrinkage + sum(weight[w] for w, _ in said[i]))
            for w in workers:
                v = precision[w][k]
                objective[t] += 0.5 * prior_votes * math.log(v) - 0.5 * b * v
                for (true, answer), n in (history or {}).get(w, {}).items():
                    objective[t] += 0.5 * n * (math.log(v) - v * ((true == k) != (answer == k)))
            for n, (i, w, l) in zip(worth, votes, strict=True):
                v = precision[w][k]
                objective[t] += 0.5 * n * (math.log(v) - v * (z[i] - (l == k)) ** 2)
            objective[t] -= 0.5 * shrinkage * sum(item_weight.get(i, 1.0) * (z[i] - mean[k]) ** 2 for i in said)
        for i in said:
            value[i][k] = z[i]
    return value, precision, mean, objective
