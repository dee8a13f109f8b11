"""What became one box, and how its workers compare with it. How boxes are merged is the methods' affair."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from voxpop.consolidation.objects.stream import SelectableObjects

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["BoxesResult", "agreement_of_workers"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BoxesResult(SelectableObjects):
    """Consolidated boxes, those of each item together, the most certain first.

    Attributes:
        boxes: left, top, width and height, of a turned box before it is turned, float64, shape (n_objects, 4).
        angle: by how much each box is turned about its centre, degrees clockwise from -90 to 90, shape (n_objects,);
            None if nobody turned any.
    """

    geometry: ClassVar[tuple[str, ...]] = ("boxes", "angle")

    boxes: NDArray[np.float64]
    angle: NDArray[np.float64] | None = None

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return columns item, label, left, top, width, height, [angle,] confidence and n_workers, a row a box."""
        columns: dict[str, NDArray[Any]] = {"item": self.items[self.item_of_object]}
        if self.classes.tolist() != [""]:
            columns["label"] = self.labels
        columns |= {name: self.boxes[:, i] for i, name in enumerate(("left", "top", "width", "height"))}
        if self.angle is not None:
            columns["angle"] = self.angle
        return columns | {"confidence": self.confidence, "n_workers": self.n_members}


def agreement_of_workers(table: Boxes, members: NDArray[np.int64], indptr: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the F1 score of each worker's boxes against the merged ones of the items they looked at, (n_workers,).

    A worker's box is right if it is a member of a merged box. NaN where a worker drew nothing and nothing was merged.
    """
    n_workers = table.n_workers
    right = np.bincount(table.worker_of_object[members], minlength=n_workers)
    drawn = np.bincount(table.worker, np.diff(table.answer_indptr), n_workers)
    there = np.bincount(table.worker, np.diff(indptr)[table.item_of_answer], n_workers)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = 2 * right / (drawn + there)
    return found
