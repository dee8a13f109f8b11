"""What became one object: labels, confidences, and whose marks it was made of. The geometry is each shape's own."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.objects.table import ObjectTable

__all__ = ["Objects"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Objects:
    """Consolidated objects, those of each item together, the most certain first. Shapes add their geometry.

    Attributes:
        items: names of the items, shape (n_items,).
        classes: names of the classes, shape (K,).
        workers: names of the workers, shape (n_workers,).
        indptr: item ``i`` has the objects ``indptr[i]:indptr[i + 1]``, int64, shape (n_items + 1,).
        label_codes: place of each object's class, int64, shape (n_objects,).
        confidence: probability that the object is there and is of this class, 0..1, shape (n_objects,).
        member_indptr: object ``o`` was made of the marks ``members[member_indptr[o]:member_indptr[o + 1]]``, int64,
            shape (n_objects + 1,).
        members: places of marks among the objects of the table that was fitted, at most one a worker in each object.
        worker_quality: how good each worker is, 0..1, as the method understands it; NaN if nothing is known, shape
            (n_workers,).
    """

    items: NDArray[Any]
    classes: NDArray[Any]
    workers: NDArray[Any]
    indptr: NDArray[np.int64]
    label_codes: NDArray[np.int64]
    confidence: NDArray[np.float64]
    member_indptr: NDArray[np.int64]
    members: NDArray[np.int64]
    worker_quality: NDArray[np.float64]

    @property
    def n_objects(self) -> int:
        """Number of consolidated objects."""
        return int(self.label_codes.size)

    @property
    def labels(self) -> NDArray[Any]:
        """The class of each object, as it is named, shape (n_objects,)."""
        return self.classes[self.label_codes]

    @property
    def item_of_object(self) -> NDArray[np.int64]:
        """Place of each object's item, shape (n_objects,)."""
        return np.repeat(np.arange(self.items.size, dtype=np.int64), np.diff(self.indptr))

    @property
    def n_members(self) -> NDArray[np.int64]:
        """Of how many marks each object was made, shape (n_objects,)."""
        return np.diff(self.member_indptr)

    def annotators(self, table: ObjectTable) -> list[list[Any]]:
        """Return the names of the workers who marked each object; ``table`` is the one that was fitted."""
        names = self.workers[table.worker_of_object[self.members]].tolist()
        bounds = self.member_indptr.tolist()
        return [names[start:stop] for start, stop in itertools.pairwise(bounds)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_objects} objects in {self.items.size} items)"
