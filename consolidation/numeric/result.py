"""What a method says about numbers. Plain data: nothing here computes an estimate."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["NumericResult"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NumericResult:
    """One number an item, with an interval, and what was learned of each worker.

    Attributes:
        items: names of the items, shape (n_items,).
        workers: names of the workers, shape (n_workers,).
        estimate: the value of each item; NaN if nobody said anything, shape (n_items,).
        low: lower end of the interval that holds the true value as often as the method's ``level`` says; infinite if
            the answers do not tell how far off workers are, shape (n_items,).
        high: its upper end, shape (n_items,).
        worker_deviation: how far off the worker's answers are, apart from their bias: a root mean square in the unit
            of the values; NaN if nothing is known, shape (n_workers,).
        worker_bias: by how much they exceed the truth on average, shape (n_workers,); None if the method has none.
        objective: what the method maximises, after each iteration; None if it maximises nothing.
        n_iter: number of iterations; None if it does not iterate.
    """

    items: NDArray[Any]
    workers: NDArray[Any]
    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    worker_deviation: NDArray[np.float64]
    worker_bias: NDArray[np.float64] | None = None
    objective: NDArray[np.float64] | None = None
    n_iter: int | None = None

    def of_items(self, items: Sequence[Any]) -> Self:
        """Return the result of these items, in this order.

        Raises:
            KeyError: nothing is known of one of them.
        """
        place = {name: i for i, name in enumerate(self.items.tolist())}
        try:
            rows = np.array([place[name] for name in items], dtype=np.int64)
        except KeyError as error:
            raise KeyError(f"no answers to item {error.args[0]!r}; ask for items that somebody answered") from None
        return dataclasses.replace(
            self, items=self.items[rows], estimate=self.estimate[rows], low=self.low[rows], high=self.high[rows]
        )

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return columns ``item``, ``estimate``, ``low``, ``high`` of equal length, as any data frame takes them."""
        return {"item": self.items, "estimate": self.estimate, "low": self.low, "high": self.high}

    def __repr__(self) -> str:
        iterations = "" if self.n_iter is None else f", {self.n_iter} iterations"
        return f"NumericResult({self.items.size} items, {self.workers.size} workers{iterations})"
