"""Slow, obvious oracle of ``Auto``: plain loops over (item, worker, label) triples."""

from __future__ import annotations

import math
from collections import defaultdict

ANCHOR = 1.0
LEAST = 1e-3


def clip(p):
    return min(max(p, LEAST), 1 - LEAST)


def odds(p):
    return p / (1 - p)


class Model:
    """Classes with one or two subtypes, each a pair (level, class)."""

    def __init__(self, votes, items, workers, classes, levels, smoothing, gold, history, worker_weight, item_weight):
        self.votes, self.items, self.workers, self.classes = votes, items, workers, classes
        self.subtypes = [(level, k) for level in range(levels) for k in classes]
        self.levels, self.smoothing, self.gold, self.history = levels, smoothing, gold, history
        self.ww = {w: worker_weight.get(w, 1.0) for w in workers}
        self.iw = {i: item_weight.get(i, 1.0) for i in items}
        self.said = defaultdict(list)
        for item, worker, label in votes:
            self.said[item].append((worker, label))
        self.given = {i: sum(self.ww[w] for w, _ in self.said[i]) for i in items}
        self.shares = {
            i: {
                k: sum(self.ww[w] for w, l in self.said[i] if l == k) / self.given[i] if self.given[i] else 0.0
                for k in classes
            }
            for i in items
        }

    def start(self):
        first = {}
        for i in self.items:
            if i in self.gold:
                agreed = self.shares[i][self.gold[i]] if self.given[i] else 1 / len(self.classes)
                p = {k: float(k == self.gold[i]) for k in self.classes}
                easy = {k: agreed * p[k] for k in self.classes}
            else:
                p = self.shares[i] if self.given[i] else dict.fromkeys(self.classes, 1 / len(self.classes))
                easy = {k: p[k] ** 2 for k in self.classes}
            if self.levels == 1:
                first[i] = {(0, k): p[k] for k in self.classes}
            else:
                first[i] = {(0, k): easy[k] for k in self.classes} | {(1, k): p[k] - easy[k] for k in self.classes}
        return first

    def count(self, posterior, first):
        counts = {(w, s, l): 0.0 for w in self.workers for s in self.subtypes for l in self.classes}
        totals = dict.fromkeys(self.subtypes, 0.0)
        for i in self.items:
            if not self.given[i] and i not in self.gold:
                continue
            a = ANCHOR / (ANCHOR + self.given[i])
            for s in self.subtypes:
                taught = self.iw[i] * ((1 - a) * posterior[i][s] + a * first[i][s])
                totals[s] += taught
                for w, l in self.said[i]:
                    counts[w, s, l] += self.ww[w] * taught
        for w, matrix in self.history.items():
            for s in self.subtypes:
                for l in self.classes:
                    counts[w, s, l] += matrix[self.classes.index(s[1])][self.classes.index(l)] / self.levels
        return counts, totals

    def pooled(self, counts):
        K = len(self.classes)
        p = {(s, l): sum(counts[w, s, l] for w in self.workers) for s in self.subtypes for l in self.classes}
        right = (sum(p[s, s[1]] for s in self.subtypes) + 1) / (sum(p.values()) + 2)
        for s in self.subtypes:
            for l in self.classes:
                p[s, l] += K * ((right if K > 1 else 1.0) if l == s[1] else (1 - right) / (K - 1))
        return {(s, l): p[s, l] / sum(p[s, m] for m in self.classes) for s in self.subtypes for l in self.classes}

    def answers(self, counts, pooled):
        found = {}
        expected = {s: clip(pooled[s, s[1]]) for s in self.subtypes}
        mean = sum(expected.values()) / len(expected)
        for w in self.workers:
            seen = {s: sum(counts[w, s, l] for l in self.classes) for s in self.subtypes}
            total = sum(seen.values()) + 4
            average = clip((sum(seen[s] * expected[s] for s in self.subtypes) + 4 * mean) / total)
            ability = clip((sum(counts[w, s, s[1]] for s in self.subtypes) + 4 * average) / total)
            for s in self.subtypes:
                o = odds(ability) / odds(average) * odds(expected[s])
                believed = o / (1 + o)
                wrong = sum(pooled[s, l] for l in self.classes if l != s[1])
                for l in self.classes:
                    prior = believed if l == s[1] else (1 - believed) * pooled[s, l] / wrong
                    found[w, s, l] = counts[w, s, l] + self.smoothing * prior
                norm = sum(found[w, s, l] for l in self.classes)
                for l in self.classes:
                    found[w, s, l] /= norm
        return found

    def fit(self, n_iter):
        """Return {item: {class: probability}} after so many rounds."""
        first = self.start()
        counts, totals = self.count(first, first)
        pooled = self.pooled(counts)
        for _ in range(n_iter):
            answers = self.answers(counts, pooled)
            mass = {s: totals[s] + 1 / len(self.classes) for s in self.subtypes}
            posterior = {}
            for i in self.items:
                x = {}
                for s in self.subtypes:
                    log = math.log(mass[s] / sum(mass.values()))
                    log += sum(self.ww[w] * math.log(max(answers[w, s, l], 1e-12)) for w, l in self.said[i])
                    x[s] = -math.inf if self.gold.get(i, s[1]) != s[1] else log
                top = max(x.values())
                total = sum(math.exp(v - top) for v in x.values())
                posterior[i] = {s: math.exp(v - top) / total for s, v in x.items()}
            counts, totals = self.count(posterior, first)
        names = {}
        for s in self.subtypes:
            said = {l: sum(counts[w, s, l] for w in self.workers) for l in self.classes}
            names[s] = s[1] if s[0] == 0 else max(self.classes, key=said.__getitem__)
        return {
            i: {k: sum(p for s, p in posterior[i].items() if names[s] == k) for k in self.classes} for i in self.items
        }


def auto(votes, items, workers, classes, n_iter, gold=None, history=None, worker_weight=None, item_weight=None):
    """Return {item: {class: probability}}."""
    known = gold or {}, history or {}, worker_weight or {}, item_weight or {}
    plain = Model(votes, items, workers, classes, 1, 4.0, *known)
    levelled = Model(votes, items, workers, classes, 2, 16.0, *known)
    one, two = plain.fit(n_iter), levelled.fit(n_iter)
    voted = [i for i in items if plain.given[i]]
    mean = {k: sum(plain.shares[i][k] for i in voted) / len(voted) for k in classes}
    found = {}
    for i in items:
        n = plain.given[i]
        found[i] = {
            k: one[i][k] / 4 + two[i][k] / 2 + (plain.shares[i][k] * n + mean[k]) / (n + 1) / 4 for k in classes
        }
        if i in known[0]:
            found[i] = {k: float(k == known[0][i]) for k in classes}
    return found
