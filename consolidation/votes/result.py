"""What a method says about a vote table. Plain data: nothing here computes a label."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from voxpop.consolidation.votes.table import NO_GOLD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Learned", "VoteResult"]


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """What a fit learned besides labels: enough to label items that come later. The names are each method's own.

    Attributes:
        workers: arrays whose first axis is the workers.
        shared: arrays that all workers share.
    """

    workers: dict[str, NDArray[Any]]
    shared: dict[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class VoteResult:
    """One label an item, with its probability, and what was learned of each worker.

    Attributes:
        items: names of the items, shape (n_items,).
        classes: names of the classes, shape (K,).
        workers: names of the workers, shape (n_workers,).
        label_codes: place of each item's label among the classes, int64, shape (n_items,).
        posterior: probability of each class, rows sum to 1, shape (n_items, K).
        worker_quality: how often the worker is right, 0..1, as the method understands it; NaN if nothing is known,
            shape (n_workers,).
        confusion: probability of each answer (last axis) given the true class (middle axis), rows sum to 1, shape
            (n_workers, K, K); None if the method has none.
        class_prior: share of each class, shape (K,); None if the method has none.
        objective: what the method maximises, after each iteration; None if it does not iterate.
        n_iter: number of iterations; None if it does not iterate.
        learned: what the method needs to label more items without another fit; None if it learns nothing.
    """

    items: NDArray[Any]
    classes: NDArray[Any]
    workers: NDArray[Any]
    label_codes: NDArray[np.int64]
    posterior: NDArray[Any]
    worker_quality: NDArray[np.float64]
    confusion: NDArray[np.float64] | None = None
    class_prior: NDArray[np.float64] | None = None
    objective: NDArray[np.float64] | None = None
    n_iter: int | None = None
    learned: Learned | None = None

    @property
    def labels(self) -> NDArray[Any]:
        """The label of each item, as the class is named, shape (n_items,)."""
        return self.classes[self.label_codes]

    @property
    def confidence(self) -> NDArray[Any]:
        """The posterior of each item's label, shape (n_items,)."""
        return self.posterior[np.arange(self.items.size), self.label_codes]

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return columns ``item``, ``label``, ``confidence`` of equal length, as any data frame takes them."""
        return {"item": self.items, "label": self.labels, "confidence": self.confidence}

    def gold_codes(self, gold: Mapping[Any, Any]) -> NDArray[np.int64]:
        """Return the place of each item's gold label among the classes; ``NO_GOLD`` where there is none.

        A gold label that nobody could have chosen is ``len(classes)``: whatever was said about that item is wrong.
        """
        place = {name: i for i, name in enumerate(self.classes.tolist())}
        return np.array(
            [place.get(gold[name], len(place)) if name in gold else NO_GOLD for name in self.items.tolist()],
            dtype=np.int64,
        )

    def __repr__(self) -> str:
        iterations = "" if self.n_iter is None else f", {self.n_iter} iterations"
        return (
            f"VoteResult({self.items.size} items, {self.workers.size} workers, {self.classes.size} classes{iterations})"
        )
