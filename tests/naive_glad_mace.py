"""Slow, obvious oracles of GLAD and MACE: plain loops over (item, worker, label) triples, nothing shared with either.

Both take what is known besides the votes in the same form: ``gold`` {item: class}, ``item_weight`` {item: number},
``worker_weight`` {worker: number}, and ``history`` {worker: {(true, answer): count}}.
"""

from __future__ import annotations

import math
from collections import defaultdict

MEAN = 1.0  # of the Gaussian priors of GLAD; their variance is 1


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def logistic(x):
    return math.exp(-softplus(-x))


def root(falling, low, high):
    """Return where a function that is above 0 at ``low`` and below at ``high`` crosses it."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def glad_item(said, ability, b, classes, gold=None, worker_weight=None):
    """Return the posterior {class: p} and the log likelihood of an item of easiness ``b``."""
    log = {}
    for k in classes:
        log[k] = 0.0
        for worker, label in said:
            x = ability[worker] * math.exp(b)
            right, wrong = -softplus(-x), -softplus(x) - math.log(max(len(classes) - 1, 1))
            log[k] += (worker_weight or {}).get(worker, 1.0) * (right if label == k else wrong)
    if gold is not None:
        return {k: float(k == gold) for k in classes}, log[gold]
    top = max(log.values())
    total = sum(math.exp(log[k] - top) for k in classes)
    return {k: math.exp(log[k] - top) / total for k in classes}, top + math.log(total)


def glad(
    votes, classes, n_iter, n_rounds, gold=None, item_weight=None, worker_weight=None, history=None
):  # fmt: skip
    """Run ``n_iter`` times E-step and M-step; each M-step is ``n_rounds`` of exact coordinate ascent.

    Returns posteriors of the last E-step {item: {class: p}}, ability {worker: a}, easiness {item: b}, and the
    objective before each M-step, up to a constant.
    """
    gold, item_weight, worker_weight, history = gold or {}, item_weight or {}, worker_weight or {}, history or {}
    said, given = defaultdict(list), defaultdict(list)
    for item, worker, label in votes:
        said[item].append((worker, label))
        given[worker].append((item, label))
    ability = dict.fromkeys(given, MEAN)
    easiness = dict.fromkeys(said, MEAN)
    known = {
        w: (sum(n for (k, l), n in pairs.items() if k == l), sum(n for (k, l), n in pairs.items() if k != l))
        for w, pairs in history.items()
    }
    objective = []
    for _ in range(n_iter):
        posterior = {}
        value = -sum((a - MEAN) ** 2 / 2 for a in ability.values())
        for w, (right, wrong) in known.items():
            x = ability[w] * math.exp(MEAN)
            value -= right * softplus(-x) + wrong * softplus(x)
        for i, b in easiness.items():
            posterior[i], log = glad_item(said[i], ability, b, classes, gold.get(i), worker_weight)
            value += item_weight.get(i, 1.0) * (log - (b - MEAN) ** 2 / 2)
        objective.append(value)
        for _ in range(n_rounds):
            for i in said:
                easiness[i] = root(
                    lambda b, i=i, posterior=posterior: MEAN - b + sum(
                        worker_weight.get(w, 1.0) * (posterior[i][label] - logistic(ability[w] * math.exp(b)))
                        * ability[w] * math.exp(b)
                        for w, label in said[i]
                    ),
                    -9.0, 9.0,
                )  # fmt: skip
            for w, own in given.items():
                right, wrong = known.get(w, (0, 0))
                ability[w] = root(
                    lambda a, w=w, own=own, right=right, wrong=wrong, posterior=posterior: MEAN - a + sum(
                        item_weight.get(i, 1.0) * worker_weight.get(w, 1.0) * math.exp(easiness[i])
                        * (posterior[i][label] - logistic(a * math.exp(easiness[i])))
                        for i, label in own
                    ) + math.exp(MEAN) * (right - (right + wrong) * logistic(a * math.exp(MEAN))),
                    -30.0, 30.0,
                )  # fmt: skip
    return posterior, ability, easiness, objective


def glad_label(said, ability, classes, gold=None, worker_weight=None):
    """Return the posterior of an item and its easiness: the best of a fine grid, made finer twice."""
    low, high = -6.0, 9.0
    for _ in range(4):
        step = (high - low) / 400
        grid = [low + step * n for n in range(401)]
        values = [glad_item(said, ability, b, classes, gold, worker_weight)[1] - (b - MEAN) ** 2 / 2 for b in grid]
        best = grid[values.index(max(values))]
        low, high = best - step, best + step
    return glad_item(said, ability, best, classes, gold, worker_weight)[0], best


def digamma(x):
    """By recurrence up to a number so large that the first terms of the series are exact."""
    steps = [x + n for n in range(2000)]
    y = steps[-1] + 1
    return math.log(y) - 1 / (2 * y) - 1 / (12 * y * y) - math.fsum(1 / s for s in steps)


def divergence(counts, prior):
    """Return the divergence of a Dirichlet from a symmetric one."""
    total = sum(counts)
    value = math.lgamma(total) - math.lgamma(prior * len(counts))
    for a in counts:
        value += math.lgamma(prior) - math.lgamma(a) + (a - prior) * (digamma(a) - digamma(total))
    return value


def mace(
    votes, classes, n_iter, start, inference="vb", trust_prior=0.5, strategy_prior=10.0, smoothing=0.01,
    gold=None, item_weight=None, worker_weight=None, history=None,
):  # fmt: skip
    """Run an E-step from trust ``start`` {worker: p} and even strategies, then ``n_iter`` times M-step and E-step.

    Returns posterior {item: {class: p}}, trust {worker: p}, strategy {worker: {class: p}}, both expected, and the
    objective after each iteration.
    """
    gold, item_weight, worker_weight, history = gold or {}, item_weight or {}, worker_weight or {}, history or {}
    K = len(classes)
    said = defaultdict(list)
    for item, worker, label in votes:
        said[item].append((worker, label))
    if inference == "em":
        trust_prior = strategy_prior = smoothing / K
    knows = dict(start)
    habit = {w: dict.fromkeys(classes, (1 - start[w]) / K) for w in start}
    objective, counts, prior = [], {}, 0.0
    for n in range(n_iter + 1):
        right = dict.fromkeys(start, 0.0)
        by_habit = {w: dict.fromkeys(classes, 0.0) for w in start}
        posterior, value = {}, 0.0
        for i, own in said.items():
            weight = {}
            for k in classes:
                weight[k] = 1 / K if gold.get(i, k) == k else 0.0
                for w, l in own:
                    weight[k] *= (habit[w][l] + (knows[w] if l == k else 0.0)) ** worker_weight.get(w, 1.0)
            value += item_weight.get(i, 1.0) * math.log(sum(weight.values()))
            posterior[i] = {k: weight[k] / sum(weight.values()) for k in classes}
            for w, l in own:
                worth = item_weight.get(i, 1.0) * worker_weight.get(w, 1.0)
                known = posterior[i][l] * knows[w] / (knows[w] + habit[w][l])
                right[w] += worth * known
                by_habit[w][l] += worth * (1 - known)
        for w, pairs in history.items():
            for (k, l), count in pairs.items():
                known = knows[w] / (knows[w] + habit[w][l]) if k == l else 0.0
                right[w] += count * known
                by_habit[w][l] += count * (1 - known)
                value += count * math.log(habit[w][l] + (knows[w] if k == l else 0.0))
        if n > 0:
            objective.append(value + prior)
        if n == n_iter:
            break
        counts = {
            w: (
                [right[w] + trust_prior, sum(by_habit[w].values()) + trust_prior],
                [by_habit[w][l] + strategy_prior for l in classes],
            )
            for w in start
        }
        prior = 0.0
        for w, (trust, strategy) in counts.items():
            if inference == "vb":
                prior -= divergence(trust, trust_prior) + divergence(strategy, strategy_prior)
                log_trust, log_strategy = ([digamma(a) - digamma(sum(row)) for a in row] for row in (trust, strategy))
            else:
                log_trust, log_strategy = ([math.log(a / sum(row)) for a in row] for row in (trust, strategy))
                prior += trust_prior * sum(log_trust) + strategy_prior * sum(log_strategy)
            knows[w] = math.exp(log_trust[0])
            habit[w] = {l: math.exp(log_trust[1] + log_strategy[n]) for n, l in enumerate(classes)}
    trusted = {w: trust[0] / sum(trust) for w, (trust, _) in counts.items()}
    strategies = {w: {l: s[n] / sum(s) for n, l in enumerate(classes)} for w, (_, s) in counts.items()}
    return posterior, trusted, strategies, objective
