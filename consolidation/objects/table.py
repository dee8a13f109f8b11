"""Who marked which objects in which item, as coded arrays. The geometry of the objects is each shape's own.

Layout: compressed rows twice. An item has *answers*, one for each worker who looked at it; an answer has *objects*,
none if the worker found nothing there, which is an answer and counts as one. A shape keeps its geometry as arrays with
one row an object, in the order of this table.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from voxpop.consolidation.errors import ConsolidationError
from voxpop.consolidation.votes.columns import Column, VotesError, intern, name_array, read_column, sort_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ObjectTable", "ObjectsError"]


class ObjectsError(ConsolidationError):
    """What people marked cannot be used: the message says what was found, where, what was expected and what to do."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ObjectTable:
    """Items, the answers of workers to them, and the objects of each answer. Build it with ``from_columns``.

    Items stand in order of first appearance, workers and classes in sorted order, the answers of an item by worker, the
    objects of an answer as they came.

    Attributes:
        items: names of the items, shape (n_items,).
        workers: names of the workers, shape (n_workers,).
        classes: names of the classes, shape (K,); one, ``""``, if the objects have none.
        item_indptr: item ``i`` has the answers ``item_indptr[i]:item_indptr[i + 1]``, int64, shape (n_items + 1,).
        worker: place of each answer's worker, int64, shape (n_answers,).
        answer_indptr: answer ``a`` has the objects ``answer_indptr[a]:answer_indptr[a + 1]``, int64, shape
            (n_answers + 1,).
        label: place of each object's class, int64, shape (n_objects,).
    """

    items: NDArray[Any]
    workers: NDArray[Any]
    classes: NDArray[Any]
    item_indptr: NDArray[np.int64]
    worker: NDArray[np.int64]
    answer_indptr: NDArray[np.int64]
    label: NDArray[np.int64]

    @classmethod
    def from_columns(
        cls,
        items: Column,
        workers: Column,
        labels: Column | None = None,
        *,
        present: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
    ) -> tuple[Self, NDArray[np.int64]]:
        """Read one row an object, or a row of an item and a worker who found nothing there.

        Args:
            items: the name of each row's item; text or numbers.
            workers: the name of each row's worker.
            labels: the class of each row's object; of rows without an object it is not looked at. None for no classes.
            present: whether the row has an object, shape (n_rows,); None if all have.
            classes: all classes in the order wanted; by default those that occur, sorted.

        Returns:
            The table, and for each of its objects the row it came from, shape (n_objects,): ``geometry[rows]`` stands
            in the table's order.

        Raises:
            ObjectsError: no rows, columns of different lengths, a missing name, a class that is not among ``classes``,
                or a worker who both found nothing and marked something in one item; the message names the row.
        """
        item_names, item_codes = _interned(items, "item", None)
        n_rows = item_codes.size
        worker_names, worker_codes = _interned(workers, "worker", n_rows)
        if not n_rows:
            raise ObjectsError("there are no rows; expected at least one of item and worker")
        there = np.ones(n_rows, np.bool_) if present is None else np.asarray(present, dtype=np.bool_)
        if there.shape != (n_rows,):
            raise ObjectsError(f"present has shape {there.shape}; expected one entry for each of the {n_rows} rows")
        class_names, label = _labels(labels, there, classes)
        order_of_workers = sort_names(worker_names)
        rank = np.empty_like(order_of_workers)
        rank[order_of_workers] = np.arange(order_of_workers.size)
        worker_codes = rank[worker_codes]
        key = item_codes * len(worker_names) + worker_codes
        rows = np.argsort(key, kind="stable")
        answers, first, count = np.unique(key[rows], return_index=True, return_counts=True)
        objects = np.add.reduceat(there[rows].astype(np.int64), first)
        _check_empty_answers(rows, there, first, count, objects)
        item_of_answer, worker = np.divmod(answers, len(worker_names))
        kept = rows[there[rows]]
        table = cls(
            items=name_array(item_names),
            workers=name_array(worker_names[w] for w in order_of_workers.tolist()),
            classes=name_array(class_names),
            item_indptr=_indptr(np.bincount(item_of_answer, minlength=len(item_names))),
            worker=worker,
            answer_indptr=_indptr(objects),
            label=label[kept],
        )
        return table, kept

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.items.size)

    @property
    def n_workers(self) -> int:
        """Number of workers."""
        return int(self.workers.size)

    @property
    def n_classes(self) -> int:
        """Number of classes, K."""
        return int(self.classes.size)

    @property
    def n_answers(self) -> int:
        """Number of answers: pairs of an item and a worker who looked at it."""
        return int(self.worker.size)

    @property
    def n_objects(self) -> int:
        """Number of objects that were marked."""
        return int(self.label.size)

    @property
    def answer_of_object(self) -> NDArray[np.int64]:
        """Place of each object's answer, shape (n_objects,)."""
        return np.repeat(np.arange(self.n_answers, dtype=np.int64), np.diff(self.answer_indptr))

    @property
    def worker_of_object(self) -> NDArray[np.int64]:
        """Place of each object's worker, shape (n_objects,)."""
        return self.worker[self.answer_of_object]

    @property
    def object_indptr(self) -> NDArray[np.int64]:
        """Item ``i`` has the objects ``object_indptr[i]:object_indptr[i + 1]``, of all its answers, (n_items + 1,)."""
        return self.answer_indptr[self.item_indptr]

    def __repr__(self) -> str:
        return (
            f"ObjectTable({self.n_objects} objects, {self.n_answers} answers, {self.n_items} items, "
            f"{self.n_workers} workers, {self.n_classes} classes)"
        )


def _interned(column: Column, name: str, n_rows: int | None) -> tuple[list[Any], NDArray[np.int64]]:
    try:
        names, codes = intern(read_column(column, f"{name}s"), name)
    except VotesError as error:
        raise ObjectsError(str(error)) from None
    if n_rows is not None and codes.size != n_rows:
        raise ObjectsError(f"items and {name}s have {n_rows} and {codes.size} entries; expected one a row in each")
    return names, codes.astype(np.int64)


def _labels(
    labels: Column | None, there: NDArray[np.bool_], classes: Sequence[Any] | None
) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the names of the classes, and the place of each row's, 0 where there is no object."""
    codes = np.zeros(there.size, np.int64)
    if labels is None:
        return list(classes or [""]), codes
    column = read_column(labels, "labels")
    if len(column) != there.size:
        raise ObjectsError(f"items and labels have {there.size} and {len(column)} entries; expected one a row in each")
    rows = np.flatnonzero(there)
    said = [column[row] for row in rows.tolist()]
    names, found = _interned(said, "label", None)
    ordered = [names[i] for i in sort_names(names)] if classes is None else list(classes)
    place = {name: i for i, name in enumerate(ordered)}
    for name in names:
        if name not in place:
            row = int(rows[said.index(name)])
            raise ObjectsError(f"row {row}: label {name!r} is not among the {len(ordered)} classes; correct or add it")
    if found.size:
        codes[rows] = np.array([place[name] for name in names], np.int64)[found]
    return ordered or [""], codes


def _check_empty_answers(
    rows: NDArray[np.int64],
    there: NDArray[np.bool_],
    first: NDArray[np.int64],
    count: NDArray[np.int64],
    objects: NDArray[np.int64],
) -> None:
    for answer in np.flatnonzero((objects > 0) & (objects < count)).tolist():
        mine = rows[first[answer] : first[answer] + count[answer]]
        empty = int(mine[~there[mine]][0])
        raise ObjectsError(
            f"row {empty}: the worker found nothing here, and marked an object of the same item in row "
            f"{int(mine[there[mine]][0])}; leave out one of the two"
        )


def _indptr(counts: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
