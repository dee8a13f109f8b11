"""What people chose, as columns: the votes of a job on their way from the archive to the consolidation method.

Three coded columns, 12 bytes an answer. Which answers can be used is decided here, once; what they add up to is the
method's business.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxpop.consolidation.votes.table import Votes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from voxpop.broker.models import JobSpec
    from voxpop.workers.task_types import TaskType

__all__ = ["Ballots"]

UNUSABLE: Final = -1
MAX_REMEMBERED: Final = 100_000
MAX_REMEMBERED_BYTES: Final = 256  # longer contents are not likely to come again


class Ballots:
    """The answers of one job. Used by one thread at a time.

    Args:
        spec: the job.
        task_type: says which category an answer chooses.
    """

    def __init__(self, spec: JobSpec, task_type: TaskType) -> None:
        self._spec = spec
        self._task_type = task_type
        self._items = array("I")
        self._workers = array("I")
        self._places = array("i")  # among the job's categories
        self._place_of: dict[bytes, int] = {}
        self._handed_on = 0
        self._usable = np.zeros(0, np.uint8)
        self._unusable: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: int, worker: int, content: bytes) -> None:
        """Take one counted answer: item, worker index, content as JSON."""
        place = self._place_of.get(content)
        if place is None:
            place = self._read(content)
        self._items.append(item)
        self._workers.append(worker)
        self._places.append(place)

    def usable(self, item: int) -> int:
        """Return how many usable answers of an item were handed on."""
        return int(self._usable[item]) if item < self._usable.size else 0

    def unusable(self, item: int) -> int:
        """Return how many answers of an item were passed over because they cannot be used."""
        return self._unusable[item]

    def confidences(self, items: NDArray[np.int64], posteriors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the confidences to write of items that have usable answers, all of the same shape.

        One answer says nothing about itself, so such an item has 0, as in Ground Truth (its manual 1.5).
        """
        return np.where(self._usable[items] > 1, posteriors, 0.0)

    def all(self) -> Votes | None:
        """Return all usable votes that were handed on; None if there are none."""
        items, workers, places = self._columns(slice(0, self._handed_on))
        usable = places != UNUSABLE
        return self._votes(items[usable], workers[usable], places[usable])

    def hand_on(self, offered: Callable[[Sequence[int]], Mapping[int, frozenset[int]]]) -> Votes | None:
        """Return the usable votes that came since the last call; None if there are none.

        Args:
            offered: returns, for those of some items that offer a part of the job's categories only, which places.
        """
        new = slice(self._handed_on, len(self))
        items, workers, places = self._columns(new)
        self._handed_on = len(self)
        if items.size == 0:
            return None
        usable = places != UNUSABLE
        own = offered(np.unique(items).tolist())
        if own:
            for row, (item, place) in enumerate(zip(items.tolist(), places.tolist(), strict=True)):
                if item in own and place not in own[item]:
                    usable[row] = False
                    self._places[new.start + row] = UNUSABLE
        self._unusable.update(items[~usable].tolist())
        items, workers, places = items[usable], workers[usable], places[usable]
        self._count(items)
        return self._votes(items, workers, places)

    def _columns(self, rows: slice) -> list[NDArray[np.int64]]:
        columns = (self._items, self._workers, self._places)
        return [np.frombuffer(column, column.typecode)[rows].astype(np.int64) for column in columns]

    def _votes(self, items: NDArray[Any], workers: NDArray[Any], places: NDArray[Any]) -> Votes | None:
        if items.size == 0:
            return None
        item_names, item_codes = np.unique(items, return_inverse=True)
        worker_names, worker_codes = np.unique(workers, return_inverse=True)
        return Votes.from_coded(
            item_codes,
            worker_codes,
            places,
            items=item_names.tolist(),
            workers=worker_names.tolist(),
            classes=self._spec.categories,
        )

    def _count(self, items: NDArray[Any]) -> None:
        if items.size == 0:
            return
        counts = np.bincount(items)
        if counts.size > self._usable.size:
            grown = np.zeros(max(counts.size, 2 * self._usable.size), np.uint8)
            grown[: self._usable.size] = self._usable
            self._usable = grown
        self._usable[: counts.size] += counts.astype(np.uint8)

    def _read(self, content: bytes) -> int:
        place = self._task_type.vote_of(self._spec, content)
        place = UNUSABLE if place is None else place
        if len(content) <= MAX_REMEMBERED_BYTES and len(self._place_of) < MAX_REMEMBERED:
            self._place_of[content] = place
        return place
