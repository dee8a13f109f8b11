"""What comparisons say about items: scores, a ranking, and which items were ever compared. Plain data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from voxpop.consolidation.votes.columns import sort_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PairwiseResult"]

_TIED: Final = 1e-9  # scores this close are equal: sums in another order must not decide


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PairwiseResult:
    """A score for each item, and what was learned of each worker.

    Attributes:
        items: names of the items, shape (n_items,).
        workers: names of the workers, shape (n_workers,).
        score: logarithm of each item's strength: one that is ahead by ``d`` wins with odds exp(d), shape (n_items,).
        component: items with the same number are linked by comparisons, int64 from 0 in order of their first items,
            shape (n_items,). Between two components nothing was compared: only the prior relates their scores.
        worker_quality: how often the worker is right about a pair, 0..1, as the method understands it; NaN if nothing
            is known, shape (n_workers,).
        worker_bias: how often the worker chooses the left item when they do not look, shape (n_workers,); None if the
            method has none.
        threshold: how far ahead an item must be to win as often as not where ties are possible, as a factor of
            strengths; 1 without ties.
        objective: log likelihood plus log prior after each iteration.
        n_iter: number of iterations.
    """

    items: NDArray[Any]
    workers: NDArray[Any]
    score: NDArray[np.float64]
    component: NDArray[np.int64]
    worker_quality: NDArray[np.float64]
    objective: NDArray[np.float64]
    n_iter: int
    worker_bias: NDArray[np.float64] | None = None
    threshold: float = 1.0

    @property
    def n_components(self) -> int:
        """Number of groups of items between which nothing was compared."""
        return np.unique(self.component).size

    @property
    def rank(self) -> NDArray[np.int64]:
        """Place of each item, 1 for the best; items of equal score share the best of their places, shape (n_items,)."""
        order = np.argsort(-self.score, kind="stable")
        falling = self.score[order]
        starts = np.concatenate([[True], falling[:-1] - falling[1:] > _TIED])[: order.size]
        rank = np.empty(order.size, np.int64)
        rank[order] = np.maximum.accumulate(np.where(starts, np.arange(1, order.size + 1), 0))
        return rank

    @property
    def ranking(self) -> list[Any]:
        """The items from best to worst; those of equal score sorted by name."""
        names = self.items.tolist()
        by_name = np.empty(len(names), np.int64)
        by_name[sort_names(names)] = np.arange(len(names))
        return [names[i] for i in np.lexsort((by_name, self.rank))]

    def probability(self, left: Any, right: Any) -> float:
        """Return how probable it is that ``left`` wins against ``right``; a tie is not a win.

        Raises:
            KeyError: nothing is known of one of them.
        """
        ahead, behind = self.of_items([left, right]).score
        return float(1 / (1 + self.threshold * np.exp(behind - ahead)))

    def of_items(self, items: Sequence[Any]) -> Self:
        """Return the result of these items, in this order.

        Raises:
            KeyError: nothing is known of one of them.
        """
        place = {name: i for i, name in enumerate(self.items.tolist())}
        try:
            rows = np.array([place[name] for name in items], dtype=np.int64)
        except KeyError as error:
            raise KeyError(f"no comparisons of item {error.args[0]!r}; ask for items that somebody compared") from None
        return dataclasses.replace(self, items=self.items[rows], score=self.score[rows], component=self.component[rows])

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return columns ``item``, ``score``, ``rank``, ``component`` of equal length."""
        return {"item": self.items, "score": self.score, "rank": self.rank, "component": self.component}

    def __repr__(self) -> str:
        return (
            f"PairwiseResult({self.items.size} items in {self.n_components} components, {self.workers.size} workers, "
            f"{self.n_iter} iterations)"
        )
