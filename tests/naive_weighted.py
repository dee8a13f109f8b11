"""Slow, obvious oracles of the weighted votes: plain loops over (item, worker, label) triples.

``Known`` holds gold {item: class}, weights {item: number} and {worker: number}, 1 where none is given, and history
{worker: {(true, answer): count}}. ``tie(item, {class: score})`` names the label where scores are tied.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from typing import NamedTuple


class Known(NamedTuple):
    gold: dict
    items: dict
    workers: dict
    history: dict


def on_items(votes):
    said = defaultdict(list)
    for item, worker, label in votes:
        said[item].append((worker, label))
    return said


def shares(votes, classes, known, skill):
    """Return {item: {class: share}} of the votes weighted by {worker: skill} and by the workers' weights."""
    result = {}
    for item, said in on_items(votes).items():
        score = dict.fromkeys(classes, 0.0)
        for worker, label in said:
            score[label] += skill[worker] * known.workers.get(worker, 1)
        total = sum(score.values())
        result[item] = {k: score[k] / total if total else 1 / len(classes) for k in classes}
        if item in known.gold:
            result[item] = {k: float(k == known.gold[item]) for k in classes}
    return result


def agreements(votes, labels, known):
    """Return {worker: right} and {worker: counted}; items that are not in ``labels`` do not count."""
    right, total = defaultdict(float), defaultdict(float)
    for item, worker, label in votes:
        if item in labels:
            count = known.items.get(item, 1) * known.workers.get(worker, 1)
            total[worker] += count
            right[worker] += count * (label == labels[item])
    for worker, counts in known.history.items():
        total[worker] += sum(counts.values())
        right[worker] += sum(count for (true, answer), count in counts.items() if true == answer)
    return right, total


def skills(votes, labels, known):
    right, total = agreements(votes, labels, known)
    skill = {w: right[w] / total[w] for _, w, _ in votes if total[w]}
    mean = sum(skill.values()) / len(skill) if skill else 1.0
    return {w: skill.get(w, mean) for _, w, _ in votes}


def wawa(votes, classes, known, tie):
    even = shares(votes, classes, known, {w: 1.0 for _, w, _ in votes})
    skill = skills(votes, {i: tie(i, even[i]) for i in even}, known)
    return shares(votes, classes, known, skill), skill


def zero_based_skill(votes, classes, known, tie, max_iter):
    """Return posterior, skill and the list of objectives, one an iteration."""
    skill, labels, objective = {w: 1.0 for _, w, _ in votes}, None, []
    for _ in range(max_iter):
        vote = shares(votes, classes, known, skill)
        new = {i: tie(i, vote[i]) for i in vote}
        if new == labels:
            break
        labels = new
        skill = skills(votes, labels, known)
        right, total = agreements(votes, labels, known)
        objective.append(sum(skill[w] * right[w] - skill[w] ** 2 * total[w] / 2 for w in skill))
    return shares(votes, classes, known, skill), skill, objective


def one_coin(votes, classes, known, accuracy):
    """Return {item: {class: p}} where workers err evenly and all classes are as frequent."""
    K = len(classes)
    result = {}
    for item, said in on_items(votes).items():
        weight = {}
        for k in classes:
            weight[k] = 1.0
            for w, label in said:
                p = accuracy[w] if label == k else (1 - accuracy[w]) / max(K - 1, 1)
                weight[k] *= p ** known.workers.get(w, 1)
        total = sum(weight.values())
        result[item] = {k: weight[k] / total for k in classes}
        if item in known.gold:
            result[item] = {k: float(k == known.gold[item]) for k in classes}
    return result


def weighted_majority(votes, classes, known, smoothing):
    right, total = agreements(votes, known.gold, known)
    if not known.gold:
        said = on_items(votes)
        for item, worker, label in votes:
            others = defaultdict(float)
            for other, answer in said[item]:
                if other != worker:
                    others[answer] += known.workers.get(other, 1)
            if sum(others.values()) == 0:
                continue
            best = [k for k in others if others[k] > max(others.values()) - 1e-9]
            count = known.items.get(item, 1) * known.workers.get(worker, 1)
            total[worker] += count
            right[worker] += count * (label in best) / len(best)
    mean = (sum(right.values()) + 1) / (sum(total.values()) + 2)
    accuracy = {w: (smoothing * mean + right[w]) / (smoothing + total[w]) for _, w, _ in votes}
    return one_coin(votes, classes, known, accuracy), accuracy


def _mix(x):
    """Return splitmix64 of a whole number."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    return _stir(x)


def _stir(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def first_message(item, worker, seed):
    item_key = _mix((zlib.crc32(str(item).encode()) + seed * 0x9E3779B97F4A7C15) % 2**64)
    key = _stir(item_key ^ _mix(zlib.crc32(str(worker).encode())))
    radius, angle = ((key >> 32) + 0.5) / 2**32, (key & 0xFFFFFFFF) / 2**32
    return 1 + math.sqrt(-2 * math.log(radius)) * math.cos(2 * math.pi * angle)


def _zero(x, terms):
    """Sums that cancel are 0, whatever rounding leaves."""
    return 0.0 if abs(x) <= 1e-12 * sum(abs(term) for term in terms) else x


def kos(votes, classes, known, n_iter, average, seed):
    """Return the posterior after ``n_iter`` rounds of messages, each kept for a pair of item and worker."""
    K = len(classes)
    a = {w: known.workers.get(w, 1) for _, w, _ in votes}
    c = {i: known.items.get(i, 1) for i, _, _ in votes}
    pairs = defaultdict(list)
    for item, worker, label in votes:
        pairs[item, worker].append(label)
    y = {pair: first_message(*pair, seed) for pair in pairs}
    counted = sum(c[i] * a[w] for i, w, _ in votes)
    met = sum(c[i] * a[w] * (sum(a[v] for j, v, _ in votes if j == i) - a[w]) for i, w, _ in votes)
    others = max(met / counted, 1) if counted else 1
    seen = {w: sum(known.history.get(w, {}).values()) for w in a}
    hits = {w: sum(n for (t, l), n in known.history.get(w, {}).items() if t == l) for w in a}
    message = dict.fromkeys(a, 0.0)
    for _ in range(n_iter):
        size = others * sum(abs(y[i, w]) for i, w, _ in votes) / len(votes)
        z = {}  # how far each vote agrees with what the other workers say of the item
        for i, w in pairs:
            for label in set(pairs[i, w]):
                if i in known.gold:
                    z[i, w, label] = size * ((label == known.gold[i]) - 1 / K)
                    continue
                said = [(a[v] * y[i, v], l) for (j, v) in pairs if j == i and v != w for l in pairs[i, v]]
                everything = [a[v] * y[i, v] for (j, v) in pairs if j == i for l in pairs[i, v]]
                z[i, w, label] = _zero(sum(m * ((l == label) - 1 / K) for m, l in said), everything)
        added = {w: {i: [c[i] * a[w] * z[i, w, l] for l in pairs[i, v]] for i, v in pairs if v == w} for w in a}
        past = {w: size * (hits[w] - seen[w] / K) for w in a}
        given = {w: seen[w] + sum(c[i] * a[w] for i, v, _ in votes if v == w) for w in a}
        new = {}
        for i, w in pairs:
            terms = [past[w], *(term for j in added[w] for term in added[w][j])]
            rest = [past[w], *(term for j in added[w] if j != i for term in added[w][j])]
            count = given[w] - c[i] * a[w] * len(pairs[i, w])
            left = _zero(sum(rest), terms) if count > 1e-12 * given[w] else 0.0
            new[i, w] = left / count if average and left else left
        largest = max(abs(m) for m in new.values())
        if largest == 0:
            message = dict.fromkeys(a, 0.0)
            break
        y = {pair: m / largest for pair, m in new.items()}
        for w in a:
            terms = [past[w], *(term for j in added[w] for term in added[w][j])]
            message[w] = _zero(sum(terms), terms) / largest
            if average and given[w]:
                message[w] /= given[w]
    result = shares(votes, classes, known, dict.fromkeys(a, 1.0))
    for item, said in on_items(votes).items():
        score = dict.fromkeys(classes, 0.0)
        for w, label in said:
            m = message[w] * a[w]
            for k in classes:
                if m >= 0:
                    score[k] += m * (k == label)
                elif k != label:
                    score[k] += -m / (K - 1)
        if sum(score.values()) > 0 and item not in known.gold:
            result[item] = {k: score[k] / sum(score.values()) for k in classes}
    return result


def mmsr(votes, classes, known, n_iter):
    """Return the posterior and {worker: accuracy} after ``n_iter`` rounds of the completion."""
    K, others = len(classes), max(len(classes) - 1, 1)
    workers = sorted({w for _, w, _ in votes})
    same, both = defaultdict(float), defaultdict(float)
    for item, said in on_items(votes).items():
        for v, answer in said:
            for w, label in said:
                weight = known.items.get(item, 1) * known.workers.get(v, 1) * known.workers.get(w, 1)
                if v != w and weight:
                    both[v, w] += weight
                    same[v, w] += weight * (answer == label)
    C = {pair: (K * same[pair] - both[pair]) / (others * both[pair]) for pair in both}
    near = {w: [v for v in workers if (v, w) in C] for w in workers}
    n_items = sum(known.items.get(i, 1) for i in on_items(votes))
    chance = 1 / math.sqrt(n_items) if n_items else 1
    u, v = dict.fromkeys(workers, 1.0), dict.fromkeys(workers, 1.0)
    for _ in range(n_iter):
        for fixed, free in ((u, v), (v, u)):
            free |= {w: _reduced_mean([abs(C[o, w]) / fixed[o] for o in near[w]], free[w], chance) for w in workers}
    size = {w: math.sqrt(u[w] * v[w]) for w in workers}
    right, seen = agreements(votes, known.gold, known)
    truth = {w: (K * right[w] - seen[w]) / others for w in workers}
    sign = dict.fromkeys(workers, 1.0)
    for _ in range(500):
        new = {}
        for w in workers:
            pulls = [C[o, w] * both[o, w] for o in near[w]]
            total = truth[w] + sum(p * sign[o] for p, o in zip(pulls, near[w], strict=True))
            weight = abs(truth[w]) + sum(abs(p) for p in pulls)
            new[w] = (sign[w] + (total / weight if weight else 0)) / 2
        largest = max(abs(x) for x in new.values())
        if largest <= 1e-9:
            sign = dict.fromkeys(workers, 0.0)
            break
        before, sign = sign, {w: new[w] / largest for w in workers}
        if max(abs(sign[w] - before[w]) for w in workers) <= 1e-6:
            break
    skill = {w: size[w] * ((sign[w] > 1e-9) - (sign[w] < -1e-9)) for w in workers}
    alone = [w for w in workers if not near[w]]
    if len(alone) < len(workers):
        mean = sum(skill[w] for w in workers if near[w]) / (len(workers) - len(alone))
        skill |= dict.fromkeys(alone, mean)
    margin = min(chance, 0.5)
    low, high = -1 / others + margin, 1 - margin
    accuracy = {}
    everything = agreements(votes, {i: classes[0] for i, _, _ in votes}, known)[1]
    for w in workers:
        p = (1 + others * max(min(skill[w], high), low)) / (others + 1)
        if everything[w]:
            p = (right[w] + (everything[w] - seen[w]) * p) / everything[w]
        accuracy[w] = max(min(p, (1 + others * high) / (others + 1)), (1 + others * low) / (others + 1))
    return one_coin(votes, classes, known, accuracy), accuracy


def _reduced_mean(values, now, chance):
    F = max(len(values) // 2 - 1, 0)
    below = sorted(x for x in values if x < now * (1 - 1e-12))[F:]
    above = sorted(x for x in values if x > now * (1 + 1e-12))
    above = above[: max(len(above) - F, 0)]
    kept = below + above + [x for x in values if abs(x - now) <= now * 1e-12]
    if not kept:
        return now
    mean = sum(kept) / len(kept)
    return mean if mean > 1e-9 else chance
