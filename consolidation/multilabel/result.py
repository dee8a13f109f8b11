"""What is said about items to which any number of classes apply. Plain data: nothing here computes a label."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MultiLabelResult"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MultiLabelResult:
    """A set of labels an item, and the probability of every class.

    Attributes:
        items: names of the items, shape (n_items,).
        classes: names of the classes, shape (n_classes,).
        workers: names of the workers, shape (n_workers,).
        applies: whether each class is among the item's labels, bool, shape (n_items, n_classes).
        probability: that each class applies to each item, shape (n_items, n_classes).
        worker_quality: how often each worker is right about each class, 0..1, as the method understands it; NaN if
            nothing is known, shape (n_workers, n_classes).
    """

    items: NDArray[Any]
    classes: NDArray[Any]
    workers: NDArray[Any]
    applies: NDArray[np.bool_]
    probability: NDArray[np.float64]
    worker_quality: NDArray[np.float64]

    @property
    def labels(self) -> list[frozenset[Any]]:
        """The labels of each item, a set that may be empty, n_items of them."""
        names = self.classes.tolist()
        return [frozenset(names[c] for c in np.flatnonzero(row)) for row in self.applies]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability that the decision on each class is right, shape (n_items, n_classes)."""
        return np.where(self.applies, self.probability, 1 - self.probability)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return columns ``item``, ``label``, ``confidence``, one row for each label of each item."""
        item, label = np.nonzero(self.applies)
        return {
            "item": self.items[item],
            "label": self.classes[label],
            "confidence": self.probability[item, label],
        }

    def __repr__(self) -> str:
        return (
            f"MultiLabelResult({self.items.size} items, {self.workers.size} workers, {self.classes.size} classes, "
            f"{int(self.applies.sum())} labels)"
        )
