"""What a stream of marked objects needs of its tables and results, for every shape whose geometry has a row an object.

The stream itself is ``RefitState`` in ``consolidation/refit.py``. A shape's table derives from ``StreamedObjects`` and
its result from ``SelectableObjects``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from voxpop.consolidation.objects.result import Objects
from voxpop.consolidation.objects.table import ObjectTable
from voxpop.consolidation.votes.columns import name_array, sort_names
from voxpop.consolidation.votes.snapshot import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["SelectableObjects", "StreamedObjects"]

_NAMES = ("items", "workers", "classes")
_OF_TABLE = {field.name for field in dataclasses.fields(ObjectTable)}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StreamedObjects(ObjectTable):
    """A table that can be joined and written down. Its own fields are arrays with a row an object, or None."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return all answers of one or more tables, those of one worker to one item together, objects in order.

        Of a field that is None in some part, the others' objects keep what they have: see ``_filled``.
        """
        items, item_of = _union([part.items for part in parts], ordered=False)
        workers, worker_of = _union([part.workers for part in parts], ordered=True)
        # A table without any objects has the one class "", which is none of the others'.
        used = [part.classes if part.n_objects or part.n_classes > 1 else part.classes[:0] for part in parts]
        used = used if any(one.size for one in used) else [part.classes for part in parts]
        classes, class_of = _union(used, ordered=not _same(used))
        key = np.concatenate(
            [
                item[part.item_of_answer] * len(workers) + worker[part.worker]
                for part, item, worker in zip(parts, item_of, worker_of, strict=True)
            ]
        )
        answers, answer = np.unique(key, return_inverse=True)
        answer = answer.reshape(-1)
        starts = np.cumsum([0, *(part.n_answers for part in parts)])
        of_object = np.concatenate(
            [answer[start + part.answer_of_object] for part, start in zip(parts, starts, strict=False)]
        )
        order = np.argsort(of_object, kind="stable")
        item_of_answer, worker_of_answer = np.divmod(answers, len(workers))
        label = np.concatenate([place[part.label] for part, place in zip(parts, class_of, strict=True)])
        return cls(
            items=name_array(items),
            workers=name_array(workers),
            classes=name_array(classes),
            item_indptr=_indptr(np.bincount(item_of_answer, minlength=len(items))),
            worker=worker_of_answer.astype(np.int64),
            answer_indptr=_indptr(np.bincount(of_object, minlength=answers.size)),
            label=label[order].astype(np.int64),
            **{name: _joined_field(name, parts, order) for name in cls._own_fields()},
        )

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return names and arrays from which ``restore`` makes an equal table."""
        fields = [field.name for field in dataclasses.fields(self) if field.name not in _NAMES]
        arrays = {name: getattr(self, name) for name in fields if getattr(self, name) is not None}
        return {name: getattr(self, name).tolist() for name in _NAMES}, arrays

    @classmethod
    def restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the table that ``dump`` described.

        Raises:
            SnapshotError: names and arrays do not fit each other.
        """
        table = cls(**{name: name_array(header[name]) for name in _NAMES}, **arrays)
        fits = (
            table.item_indptr.shape == (table.n_items + 1,)
            and table.worker.shape == (table.item_indptr[-1],)
            and table.answer_indptr.shape == (table.n_answers + 1,)
            and table.label.shape == (table.answer_indptr[-1],)
            and all(
                getattr(table, name) is None or getattr(table, name).shape[0] == table.n_objects
                for name in cls._own_fields()
            )
            and bool((np.diff(table.item_indptr) >= 0).all() and (np.diff(table.answer_indptr) >= 0).all())
            and _places(table.worker, table.n_workers)
            and _places(table.label, table.n_classes)
        )
        if not fits:
            raise SnapshotError("the snapshot's objects do not fit its names")
        return table

    @property
    def item_of_answer(self) -> NDArray[np.int64]:
        """Place of each answer's item, shape (n_answers,)."""
        return np.repeat(np.arange(self.n_items, dtype=np.int64), np.diff(self.item_indptr))

    @classmethod
    def _own_fields(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls) if field.name not in _OF_TABLE]

    def _filled(self, name: str) -> NDArray[Any]:
        """Return what a field that is None here stands for, with a row an object; a shape with such fields says it."""
        raise NotImplementedError(name)

    def __len__(self) -> int:
        return self.n_answers


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SelectableObjects(Objects):
    """A result of which some items can be had. A shape names its fields that have a row an object, or are None."""

    geometry: ClassVar[tuple[str, ...]] = ()

    def of_items(self, items: Sequence[Any]) -> Self:
        """Return the result of these items, in this order.

        Raises:
            KeyError: nobody looked at one of the items.
        """
        place = {name: i for i, name in enumerate(self.items.tolist())}
        for name in items:
            if name not in place:
                raise KeyError(f"no answers to item {name!r}; ask for items that somebody looked at")
        chosen = np.array([place[name] for name in items], np.int64)
        rows = _ranges(self.indptr[chosen], self.indptr[chosen + 1])
        marks = _ranges(self.member_indptr[rows], self.member_indptr[rows + 1])
        geometry = {name: getattr(self, name)[rows] for name in self.geometry if getattr(self, name) is not None}
        return dataclasses.replace(
            self,
            items=name_array(items),
            indptr=_indptr(np.diff(self.indptr)[chosen]),
            label_codes=self.label_codes[rows],
            confidence=self.confidence[rows],
            member_indptr=_indptr(np.diff(self.member_indptr)[rows]),
            members=self.members[marks],
            **geometry,
        )


def _joined_field(name: str, parts: Sequence[StreamedObjects], order: NDArray[np.int64]) -> NDArray[Any] | None:
    if all(getattr(part, name) is None for part in parts):
        return None
    columns = [part._filled(name) if getattr(part, name) is None else getattr(part, name) for part in parts]  # noqa: SLF001 - of the same class
    joined: NDArray[Any] = np.concatenate(columns)[order]
    return joined


def _same(columns: Sequence[NDArray[Any]]) -> bool:
    return len({tuple(column.tolist()) for column in columns if column.size}) == 1


def _union(columns: Sequence[NDArray[Any]], *, ordered: bool) -> tuple[list[Any], list[NDArray[np.int64]]]:
    """Return all names, sorted or in order of first appearance, and where each of the given ones stands among them."""
    names = list(dict.fromkeys(name for column in columns for name in column.tolist()))
    if ordered:
        names = [names[i] for i in sort_names(names).tolist()]
    place = {name: i for i, name in enumerate(names)}
    return names, [np.array([place[name] for name in column.tolist()], np.int64) for column in columns]


def _ranges(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of several slices, one after the other."""
    counts = stops - starts
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()), dtype=np.int64)


def _indptr(counts: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _places(codes: NDArray[np.int64], count: int) -> bool:
    return codes.size == 0 or 0 <= int(codes.min()) <= int(codes.max()) < count
