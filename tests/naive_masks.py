"""Slow, obvious oracles for masks: plain loops over pixels and runs."""

from __future__ import annotations

import math
from collections import Counter


def pixels_down_columns(mask):
    return [int(mask[y][x]) for x in range(len(mask[0])) for y in range(len(mask))]


def counts(mask):
    """Return COCO's counts of a mask, a list of rows."""
    found, value, length = [], 0, 0
    for pixel in pixels_down_columns(mask):
        if pixel != value:
            found.append(length)
            value, length = pixel, 0
        length += 1
    return [*found, length]


def coco_string(runs):
    """Return COCO's compressed string of counts."""
    text = ""
    for i, count in enumerate(runs):
        value = count - runs[i - 2] if i > 2 else count
        while True:
            digit = value & 31
            value >>= 5
            more = value != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
            if not more:
                break
    return text


def votes(masks, y, x):
    return [int(mask[y][x]) for mask in masks]


def pixelwise(masks, decide):
    """Return the image of what ``decide`` makes of the answers to each pixel."""
    return [[decide(votes(masks, y, x)) for x in range(len(masks[0][0]))] for y in range(len(masks[0]))]


def majority(masks, threshold, ties):
    """Return the mask of pixels that more than a share of the raters drew, or as many if ties are foreground."""

    def decide(said):
        share = sum(said) / len(said)
        if abs(share - threshold) < 1e-9:
            return int(ties == "foreground" or threshold == 1)
        return int(share > threshold)

    return pixelwise(masks, decide)


def best_classes(said):
    tally = Counter(said)
    return sorted(label for label, n in tally.items() if n == max(tally.values()))


def staple(masks, n_iter, weight=1.0):
    """Return W, sensitivities and specificities after ``n_iter`` iterations over all pixels."""
    said = [votes(masks, y, x) for y in range(len(masks[0])) for x in range(len(masks[0][0]))]
    R = len(masks)
    W = [sum(row) / R for row in said]
    prior = sum(W) / len(W) * weight
    p = q = [math.nan] * R
    for _ in range(n_iter):
        inside, outside = sum(W), sum(1 - w for w in W)
        p = [sum(w for w, row in zip(W, said, strict=True) if row[r]) / inside for r in range(R)]
        q = [sum(1 - w for w, row in zip(W, said, strict=True) if not row[r]) / outside for r in range(R)]
        for i, row in enumerate(said):
            a = prior * math.prod(p[r] if row[r] else 1 - p[r] for r in range(R))
            b = (1 - prior) * math.prod(1 - q[r] if row[r] else q[r] for r in range(R))
            W[i] = a / (a + b) if a + b > 0 else W[i]
    return W, p, q


def pooled_staple(images, n_iter):
    """Return W of each image and {worker: (sensitivity, specificity)}; an image is {worker: mask}."""
    flat = [{w: [pixel for row in mask for pixel in row] for w, mask in image.items()} for image in images]
    W = [
        [sum(image[w][i] for w in image) / len(image) for i in range(len(next(iter(image.values()))))] for image in flat
    ]
    prior = [sum(one) / len(one) for one in W]
    workers = sorted({w for image in flat for w in image})
    quality = {}
    for _ in range(n_iter):
        for who in workers:
            seen = [(image[who], one) for image, one in zip(flat, W, strict=True) if who in image]
            inside = sum(w for _, one in seen for w in one)
            outside = sum(1 - w for _, one in seen for w in one)
            hit = sum(w for mask, one in seen for m, w in zip(mask, one, strict=True) if m)
            left = sum(1 - w for mask, one in seen for m, w in zip(mask, one, strict=True) if not m)
            quality[who] = hit / inside, left / outside
        for image, one, g in zip(flat, W, prior, strict=True):
            for i in range(len(one)):
                a, b = g, 1 - g
                for who, mask in image.items():
                    p, q = quality[who]
                    a *= p if mask[i] else 1 - p
                    b *= 1 - q if mask[i] else q
                one[i] = a / (a + b)
    return W, quality


def multilabel_staple(images, K, n_iter):
    """Return for each pixel, in rows, the posterior after ``n_iter`` iterations, ties counted in equal parts."""
    said = [votes(images, y, x) for y in range(len(images[0])) for x in range(len(images[0][0]))]
    R = len(images)
    prior = [sum(row.count(k) for row in said) / (len(said) * R) for k in range(K)]
    matrix = [[[0.0] * K for _ in range(K)] for _ in range(R)]  # rater, answer, class
    for row in said:
        best = best_classes(row)
        for r in range(R):
            for k in best:
                matrix[r][row[r]][k] += 1 / len(best)
    for of_rater in matrix:
        for row in of_rater:
            whole = sum(row)
            row[:] = [value / whole if whole else 0.0 for value in row]
    posterior = []
    for step in range(n_iter + 1):
        posterior = []
        for row in said:
            W = [prior[k] * math.prod(matrix[r][row[r]][k] for r in range(R)) for k in range(K)]
            posterior.append([w / sum(W) if sum(W) else 0.0 for w in W])
        if step == n_iter:
            break
        matrix = [[[0.0] * K for _ in range(K)] for _ in range(R)]
        for row, W in zip(said, posterior, strict=True):
            for r in range(R):
                for k in range(K):
                    matrix[r][row[r]][k] += W[k]
        for of_rater in matrix:
            for k in range(K):
                whole = sum(of_rater[l][k] for l in range(K))
                for l in range(K):
                    of_rater[l][k] = of_rater[l][k] / whole if whole else 0.0
    return posterior


def smoothed(probability, strength, n_iter):
    """Return the mean field of Ising's model, renewed half way and all at once."""
    H, W = len(probability), len(probability[0])
    q = [list(row) for row in probability]
    for _ in range(n_iter):
        new = [list(row) for row in q]
        for y in range(H):
            for x in range(W):
                pull = sum(
                    2 * q[b][a] - 1
                    for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                    if 0 <= b < H and 0 <= a < W
                )
                p = min(max(probability[y][x], 1e-12), 1 - 1e-12)
                odds = math.log(p / (1 - p)) + strength * pull
                new[y][x] = (q[y][x] + 1 / (1 + math.exp(-odds))) / 2
        q = new
    return q


def clusters(masks, workers, least):
    """Return the members of each object: pairs by falling IoU, each worker once in an object; masks are pixel sets."""
    pairs = sorted(
        (-len(masks[a] & masks[b]) / len(masks[a] | masks[b]), a, b)
        for a in range(len(masks))
        for b in range(a + 1, len(masks))
        if workers[a] != workers[b]
    )
    found = [{i} for i in range(len(masks))]
    for similarity, a, b in pairs:
        one = next(c for c in found if a in c)
        other = next(c for c in found if b in c)
        if -similarity < least or one is other or {workers[i] for i in one} & {workers[i] for i in other}:
            continue
        found = [c for c in found if c is not one and c is not other] + [one | other]
    return sorted(sorted(c) for c in found)
