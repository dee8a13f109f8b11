"""Consolidated objects against gold: a one-to-one matching in each item, precision, recall and F1."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["MatchScores", "match_objects", "scores_of"]


@dataclasses.dataclass(frozen=True)
class MatchScores:
    """How well found objects match gold ones.

    Attributes:
        n_gold: gold objects in the items compared.
        n_found: found objects in these items.
        n_matched: pairs of them.
        mean_similarity: mean similarity of the pairs; NaN without any.
    """

    n_gold: int
    n_found: int
    n_matched: int
    mean_similarity: float

    @property
    def precision(self) -> float:
        """Share of the found objects that are there; 1 if nothing was found."""
        return self.n_matched / self.n_found if self.n_found else 1.0

    @property
    def recall(self) -> float:
        """Share of the gold objects that were found; 1 if there are none."""
        return self.n_matched / self.n_gold if self.n_gold else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall over all items together (micro-average)."""
        total = self.n_found + self.n_gold
        return 2 * self.n_matched / total if total else 1.0


def match_objects(similarity: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Return pairs (found, gold), the most similar first, each used once; ``similarity`` has shape (n_found, n_gold).

    Greedy, as detection benchmarks do it (Everingham et al., IJCV 2010). Ties go to the first of each.
    """
    order = np.argsort(-similarity, axis=None, kind="stable")
    found_free, gold_free = np.ones(similarity.shape[0], np.bool_), np.ones(similarity.shape[1], np.bool_)
    pairs: list[tuple[int, int]] = []
    for flat in order.tolist():
        found, gold = divmod(flat, similarity.shape[1])
        if similarity[found, gold] < least or similarity[found, gold] <= 0:
            break
        if found_free[found] and gold_free[gold]:
            found_free[found] = gold_free[gold] = False
            pairs.append((found, gold))
    return pairs


def scores_of(
    items: list[tuple[int, int]], similarity_of: Callable[[int], NDArray[np.float64]], least: float
) -> MatchScores:
    """Return the scores over items.

    Args:
        items: of each item how many objects were found, and how many gold ones there are.
        similarity_of: returns the similarities of the n-th item's objects, shape (n_found, n_gold); 0 for objects that
            must not be matched, such as those of different classes. Called only where there are both.
        least: the least similarity of a pair, such as an IoU of .5.
    """
    total = 0.0
    n_matched = 0
    for place, (n_found, n_gold) in enumerate(items):
        if n_found and n_gold:
            similarity = similarity_of(place)
            pairs = match_objects(similarity, least)
            n_matched += len(pairs)
            total += sum(float(similarity[pair]) for pair in pairs)
    return MatchScores(
        n_gold=sum(n_gold for _, n_gold in items),
        n_found=sum(n_found for n_found, _ in items),
        n_matched=n_matched,
        mean_similarity=total / n_matched if n_matched else float("nan"),
    )
