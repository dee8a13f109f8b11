"""Slow, obvious oracles of the methods for other scales than plain categories: loops over tuples, dictionaries."""

from __future__ import annotations

import math
from collections import defaultdict


def constant_matrix(accuracy, classes):
    """Return {(true, answer): p} with ``accuracy`` on the diagonal and the rest spread evenly."""
    K = len(classes)
    if K == 1:
        return {(classes[0], classes[0]): 1.0}
    return {(k, l): accuracy if k == l else (1 - accuracy) / (K - 1) for k in classes for l in classes}


def capped(shares, cap):
    """Return the shares with the highest cut to ``cap`` and the others raised in proportion."""
    best = max(shares, key=shares.get)
    others = sum(p for k, p in shares.items() if k != best)
    if shares[best] <= cap or len(shares) == 1:
        return dict(shares)
    even = 1 / (len(shares) - 1)
    return {k: cap if k == best else (1 - cap) * (p / others if others else even) for k, p in shares.items()}


def ground_truth(votes, classes, n_iter, cap=1.0, gold=None, history=None, worker_weight=None, item_weight=None):
    """Run the service's modified Dawid-Skene for ``n_iter`` rounds over (item, worker, label).

    Returns posterior {item: {class: p}}, the matrices {worker: {(true, answer): p}} and the class prior that gave it,
    and the log likelihood of each round.
    """
    gold, history = gold or {}, history or {}
    items = list(dict.fromkeys(item for item, _, _ in votes))
    workers = sorted({worker for _, worker, _ in votes})
    of_worker = defaultdict(lambda: 1.0, worker_weight or {})
    of_item = defaultdict(lambda: 1.0, item_weight or {})
    K = len(classes)
    posterior = {i: {k: float(gold[i] == k) if i in gold else 1 / K for k in classes} for i in items}
    mean_accuracy = 0.7
    matrix = {w: constant_matrix(mean_accuracy, classes) for w in workers}
    likelihoods = []
    for n in range(n_iter):
        mass = {k: sum(of_item[i] * posterior[i][k] for i in items) for k in classes}
        prior = {k: mass[k] / sum(mass.values()) if sum(mass.values()) else 1 / K for k in classes}
        posterior, likelihood = {}, 0.0
        for item in items:
            weight = {k: prior[k] if gold.get(item, k) == k else 0.0 for k in classes}
            for i, w, l in votes:
                if i == item:
                    weight = {k: weight[k] * matrix[w][k, l] ** of_worker[w] for k in classes}
            likelihood += math.log(sum(weight.values()))
            posterior[item] = {k: weight[k] / sum(weight.values()) for k in classes}
        likelihoods.append(likelihood)
        if n == n_iter - 1:
            break
        accuracy, count = {}, {}
        for worker in workers:
            count[worker] = dict(history.get(worker, {(k, l): 0.0 for k in classes for l in classes}))
            for i, w, l in votes:
                if w == worker:
                    for k in classes:
                        count[worker][k, l] += of_worker[w] * of_item[i] * posterior[i][k]
            given = sum(count[worker].values())
            if given:
                accuracy[worker] = sum(count[worker][k, k] for k in classes) / given
        for worker in workers:
            given = sum(count[worker].values()) or 1.0
            own = constant_matrix(accuracy.get(worker, mean_accuracy), classes)
            everybody = constant_matrix(mean_accuracy, classes)
            total = {pair: count[worker][pair] + given * own[pair] + given / 2 * everybody[pair] for pair in own}
            row = {k: sum(total[k, l] for l in classes) for k in classes}
            matrix[worker] = {(k, l): total[k, l] / row[k] for k, l in total}
        mean_accuracy = sum(accuracy.values()) / len(accuracy) if accuracy else mean_accuracy
    final = {i: posterior[i] if i in gold else capped(posterior[i], cap) for i in items}
    return final, matrix, prior, likelihoods


def ticks_as_votes(answers, label):
    """Return (item, worker, whether ``label`` was ticked) of each (item, worker, set)."""
    return [(item, worker, label in ticked) for item, worker, ticked in answers]


def tick_shares(answers, classes, gold=None):
    """Return {item: {class: share of its answers in which the class was ticked}}; gold items as gold says."""
    gold = gold or {}
    shares = {}
    for item in dict.fromkeys(item for item, _, _ in answers):
        sets = [ticked for i, _, ticked in answers if i == item]
        shares[item] = {
            c: float(c in gold[item]) if item in gold else sum(c in ticked for ticked in sets) / len(sets)
            for c in classes
        }
    return shares


def weighted_median(pairs):
    """Return the value with half of the weight on either side, of (value, weight); between two values, their middle."""
    pairs = sorted(pair for pair in pairs if pair[1] > 0)
    total, below = sum(weight for _, weight in pairs), 0.0
    for at, (value, weight) in enumerate(pairs):
        below += weight
        if math.isclose(below, total / 2):
            return (value + pairs[at + 1][0]) / 2
        if below > total / 2:
            return value
    return math.nan


def bias_and_noise(answers, n_iter, smoothing, gold=None, history=None, worker_weight=None, item_weight=None):
    """Run ``n_iter`` rounds of M-step, E-step over (item, worker, value) from medians.

    Returns the mean and variance of each item, the bias and variance of each worker, and the objectives.
    """
    gold, history = gold or {}, history or {}
    of_worker = defaultdict(lambda: 1.0, worker_weight or {})
    of_item = defaultdict(lambda: 1.0, item_weight or {})
    items, workers = list(dict.fromkeys(a[0] for a in answers)), sorted({a[1] for a in answers})
    value, doubt = {}, {}
    squares = free = mass = rows = 0.0
    for item in items:
        said = [(v, of_worker[w]) for i, w, v in answers if i == item]
        mean = gold.get(item, sum(v * p for v, p in said) / sum(p for _, p in said))
        squares += sum(of_item[item] * p * (v - mean) ** 2 for v, p in said)
        used = sum(of_item[item] * p > 0 for _, p in said)
        rows, mass = rows + used, mass + sum(of_item[item] * p for _, p in said)
        free += used - (item not in gold and used > 0)
        value[item], doubt[item] = gold.get(item, weighted_median(said)), 0.0
    pooled = squares / (mass / rows) / free
    bias, variance = dict.fromkeys(workers, 0.0), dict.fromkeys(workers, pooled)
    spread = None
    objective = []
    for _ in range(n_iter):
        for worker in workers:
            own = [(v - value[i], doubt[i], of_worker[worker] * of_item[i]) for i, w, v in answers if w == worker]
            n, mean, mean_square = history.get(worker, (0, 0, 0))
            own_sums = (
                n + sum(p for *_, p in own),
                n * mean + sum(p * e for e, _, p in own),
                n * mean_square + sum(p * e * e for e, _, p in own),
                sum(p * d for _, d, p in own),
            )
            bias[worker] = own_sums
        if spread is None:
            counted = [s for s in bias.values() if s[0] > 0]
            spread = sum(s[1] ** 2 / s[0] - pooled for s in counted) / sum(s[0] for s in counted)
            spread = max(spread, 0.0)
        typical = len(workers) / sum(1 / variance[w] for w in workers)
        for worker, (count, first, second, doubts) in bias.items():
            b = first / (count + variance[worker] / spread) if spread else 0.0
            squared = second - 2 * b * first + b * b * count + doubts
            bias[worker], variance[worker] = b, (smoothing * typical + squared) / (smoothing + count)
        typical = len(workers) / sum(1 / variance[w] for w in workers)
        total = 0.0
        for item in items:
            said = [(v - bias[w], of_worker[w] / variance[w], of_worker[w], w) for i, w, v in answers if i == item]
            precision = sum(p for _, p, _, _ in said)
            value[item] = gold.get(item, sum(v * p for v, p, _, _ in said) / precision)
            doubt[item] = 0.0 if item in gold else 1 / precision
            log_p = sum(
                -0.5 * u * (math.log(2 * math.pi * variance[w]) + (v - value[item]) ** 2 / variance[w])
                for v, _, u, w in said
            )
            total += of_item[item] * (log_p + (0 if item in gold else 0.5 * math.log(2 * math.pi / precision)))
        for worker in workers:
            n, mean, mean_square = history.get(worker, (0, 0, 0))
            off = n * (mean_square - 2 * bias[worker] * mean + bias[worker] ** 2)
            total -= 0.5 * (n * math.log(2 * math.pi * variance[worker]) + off / variance[worker])
            total -= 0.5 * smoothing * math.log(variance[worker] / typical)
            total -= 0.5 * bias[worker] ** 2 / spread if spread else 0.0
        objective.append(total)
    return value, doubt, bias, variance, objective


def kinds_of_raters(K, answer_shares):
    """Return the matrices {(true, answer): p} of all kinds of workers on a scale of K classes."""

    def below(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    kinds = []
    for careless in (0.01, 0.1, 0.25, 0.5, 0.9):
        for b in range(-4, 5):
            for j in range(10):
                noise = 0.2 * (max(K, 1) / 0.2) ** (j / 9)
                matrix = {}
                for k in range(K):
                    for l in range(K):
                        upper = 1.0 if l == K - 1 else below((l + 0.5 - k - b / 4) / noise)
                        lower = 0.0 if l == 0 else below((l - 0.5 - k - b / 4) / noise)
                        matrix[k, l] = (1 - careless) * (upper - lower) + careless * answer_shares[l]
                kinds.append(matrix)
    return kinds


def ordinal(votes, K, n_iter, gold=None, history=None, worker_weight=None, item_weight=None):
    """Run ``n_iter`` E-steps over (item, worker, class number); return posterior, class prior and the bounds."""
    gold, history = gold or {}, history or {}
    of_worker = defaultdict(lambda: 1.0, worker_weight or {})
    of_item = defaultdict(lambda: 1.0, item_weight or {})
    items, workers = list(dict.fromkeys(i for i, _, _ in votes)), sorted({w for _, w, _ in votes})
    shares = [(sum(l == k for _, _, l in votes) + 1 / K) / (len(votes) + 1) for k in range(K)]
    kinds = kinds_of_raters(K, shares)
    G = len(kinds)
    prior, kind_prior = [1 / K] * K, [1 / G] * G
    mixture = {w: [1 / G] * G for w in workers}
    bounds = []
    for n in range(n_iter):
        table = {
            w: {
                pair: math.exp(sum(q * math.log(m[pair]) for q, m in zip(mixture[w], kinds, strict=True)))
                for pair in kinds[0]
            }
            for w in workers
        }
        posterior, bound = {}, 0.0
        for item in items:
            weight = {k: prior[k] if gold.get(item, k) == k else 0.0 for k in range(K)}
            for i, w, l in votes:
                if i == item:
                    weight = {k: weight[k] * table[w][k, l] ** of_worker[w] for k in weight}
            bound += of_item[item] * math.log(sum(weight.values()))
            posterior[item] = [weight[k] / sum(weight.values()) for k in range(K)]
        for w in workers:
            past = history.get(w, {})
            for q, m, rho in zip(mixture[w], kinds, kind_prior, strict=True):
                if q > 0:
                    bound += q * (math.log(rho / q) + sum(c * math.log(m[pair]) for pair, c in past.items()))
        bound += sum(map(math.log, prior)) / K + sum(map(math.log, kind_prior)) / G
        bounds.append(bound)
        if n == n_iter - 1:
            break
        mass = [sum(of_item[i] * posterior[i][k] for i in items) for k in range(K)]
        prior = [(m + 1 / K) / (sum(mass) + 1) for m in mass]
        for w in workers:
            count = defaultdict(float, history.get(w, {}))
            for i, u, l in votes:
                if u == w:
                    for k in range(K):
                        count[k, l] += of_worker[w] * of_item[i] * posterior[i][k]
            score = [
                math.log(rho) + sum(c * math.log(m[pair]) for pair, c in count.items())
                for m, rho in zip(kinds, kind_prior, strict=True)
            ]
            top = max(score)
            total = sum(math.exp(s - top) for s in score)
            mixture[w] = [math.exp(s - top) / total for s in score]
        kind_prior = [(sum(mixture[w][g] for w in workers) + 1 / G) / (len(workers) + 1) for g in range(G)]
    return posterior, prior, bounds


def pairwise_objective(comparisons, score, prior, threshold=1.0, ties="half"):
    """Return the log posterior of Bradley-Terry scores of (worker, left, right, winner), winner "=" for a tie."""

    def beats(a, b):
        return math.exp(score[a]) / (math.exp(score[a]) + threshold * math.exp(score[b]))

    total = sum(
        prior / 2 * (math.log(1 / (1 + math.exp(-s))) + math.log(1 / (1 + math.exp(s)))) for s in score.values()
    )
    for _, left, right, winner in comparisons:
        if winner != "=":
            total += math.log(beats(winner, right if winner == left else left))
        elif ties == "half":
            total += 0.5 * math.log(beats(left, right)) + 0.5 * math.log(beats(right, left))
        else:
            total += math.log(1 - beats(left, right) - beats(right, left))
    return total


def bradley_terry(comparisons, prior):
    """Climb the log posterior one score at a time, by bisection of its slope, until nothing moves."""
    items = list(dict.fromkeys(name for _, left, right, _ in comparisons for name in (left, right)))
    score = dict.fromkeys(items, 0.0)
    games = defaultdict(list)
    for _, left, right, winner in comparisons:
        for own, other in ((left, right), (right, left)):
            games[own].append((other, 0.5 if winner == "=" else float(winner == own)))
    for _ in range(2000):
        moved = 0.0
        for item in items:

            def slope(s, score=score, played=games[item]):
                pull = prior / 2 - prior / (1 + math.exp(-s))
                return pull + sum(won - 1 / (1 + math.exp(score[other] - s)) for other, won in played)

            low, high = -40.0, 40.0
            while high - low > 1e-12:
                middle = (low + high) / 2
                low, high = (middle, high) if slope(middle) > 0 else (low, middle)
            moved = max(moved, abs(low - score[item]))
            score[item] = low
        if prior == 0:
            mean = sum(score.values()) / len(items)
            score = {item: s - mean for item, s in score.items()}
        if moved < 1e-10:
            break
    return score


def noisy_likelihood(comparisons, score, skill, bias):
    """Return the log likelihood of (worker, left, right, winner) without ties under skills and left-biases."""
    total = 0.0
    for worker, left, right, winner in comparisons:
        ahead = score[left] - score[right]
        looked = 1 / (1 + math.exp(-ahead if winner == left else ahead))
        side = bias[worker] if winner == left else 1 - bias[worker]
        total += math.log(skill[worker] * looked + (1 - skill[worker]) * side)
    return total
