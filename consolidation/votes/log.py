"""A growing log of votes with interned names, from which tables of all items or of a few are made.

Each item's votes are chained (newest first), so that the votes of a few items are found without looking at others. A
vote costs about the same however many there are: columns grow in place, and names are sorted in, not sorted anew.
"""

from __future__ import annotations

import array
import bisect
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.columns import VotesError, name_array, sort_key, sort_names
from voxpop.consolidation.votes.snapshot import SnapshotError
from voxpop.consolidation.votes.table import NO_GOLD, Votes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["VoteLog"]

_END: Final = -1  # of a chain
_PLAIN: Final = (str, int, float)  # names that sort alike, whichever are compared
_FEW: Final = 8  # new names are sorted in one by one if they are less than one in so many


class VoteLog:
    """Votes in order of arrival."""

    def __init__(self) -> None:
        self.n_votes = 0
        self._items = _Names()
        self._workers = _Names()
        self._classes = _Names()
        self._item = _Growing(np.uint32)
        self._worker = _Growing(np.uint32)
        self._label = _Growing(np.uint16)
        self._previous = _Growing(np.int64)
        self._latest = _Growing(np.int64)  # of each item
        self._gold = _Growing(np.int32)  # of each item, as a class id
        self._class_order: list[int] = []  # class ids in the order of the tables
        # None until somebody gives some: by item, by worker, and by worker and class ids, true class by answer.
        self._item_weight: NDArray[np.float64] | None = None
        self._worker_weight: NDArray[np.float64] | None = None
        self._history: NDArray[np.float64] | None = None

    def add(self, votes: Votes) -> None:
        """Append all votes and gold labels of a table."""
        item_ids = self._items.intern(votes.items)
        worker_ids = self._workers.intern(votes.workers)
        class_ids = self._intern_classes(votes.classes)
        n_items, n_votes = len(self._items.names), self.n_votes + votes.n_votes
        self._latest.fill(n_items, _END)
        self._gold.fill(n_items, NO_GOLD)
        self._item.append(item_ids[votes.item_of_vote])
        self._worker.append(worker_ids[votes.worker_of_vote])
        self._label.append(class_ids[votes.label_of_vote])
        self._previous.fill(n_votes, _END)
        _chain(self._item.view(), self._previous.view(), self._latest.view(), self.n_votes, n_votes)
        judged = votes.gold >= 0
        self._gold.view()[item_ids[judged]] = class_ids[votes.gold[judged]]
        self._item_weight = _replaced(self._item_weight, votes.item_weight, item_ids, n_items)
        self._worker_weight = _replaced(self._worker_weight, votes.worker_weight, worker_ids, len(self._workers.names))
        if votes.history is not None:
            self._remember(votes.history, worker_ids, class_ids)
        self.n_votes = n_votes

    def votes(self, items: Iterable[Any] | None = None) -> Votes:
        """Return the votes of the items asked for, in that order, or of all, as a table with every worker and class.

        Raises:
            KeyError: nothing was said about one of the items.
            VotesError: there are no votes at all.
        """
        if self.n_votes == 0:
            raise VotesError("there are no votes yet; add some before asking for labels")
        rank = np.empty(len(self._class_order), np.uint32)
        rank[self._class_order] = np.arange(rank.size)
        worker, label, gold = self._worker.view(), self._label.view(), self._gold.view()
        if items is None:
            item = self._item.view()
            names = self._items.array()
            ids = np.arange(names.size)
        else:
            asked = list(items)
            ids = self._items.places(asked)
            names = name_array(asked)
            item, rows = self._rows_of(ids)
            worker, label, gold = worker[rows], label[rows], gold[ids]
        codes = self._workers.ranks()[worker]
        codes *= np.uint32(rank.size)
        codes += rank[label]
        gold = np.where(gold >= 0, rank[gold], NO_GOLD).astype(np.int32)
        order = self._workers.order()
        return Votes.assemble(
            names,
            self._workers.sorted_array(),
            name_array(self.class_names()),
            item,
            codes,
            gold,
            item_weight=_weights(self._item_weight, ids),
            worker_weight=_weights(self._worker_weight, order),
            history=self._history_of(order),
        )

    def class_names(self) -> list[Any]:
        """Return the names of the classes in the order of the tables."""
        return [self._classes.names[i] for i in self._class_order]

    def worker_ids(self) -> NDArray[np.int64]:
        """Return for each worker of the tables when they arrived, 0 for the first, shape (n_workers,)."""
        return self._workers.order()

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return names and arrays from which ``restore`` makes an equal log.

        Raises:
            TypeError: a name is neither text nor a number, and would not come back the same.
        """
        for kind, known in (("item", self._items), ("worker", self._workers), ("class", self._classes)):
            for name in known.names:
                if not isinstance(name, (str, int, float)):
                    raise TypeError(
                        f"{kind!r} has the name {name!r} ({type(name).__name__}); only text and numbers can be saved"
                    )
        header = {
            "items": self._items.names,
            "workers": self._workers.names,
            "classes": self._classes.names,
            "class_order": self._class_order,
        }
        arrays: dict[str, NDArray[Any]] = {
            "item": self._item.view(),
            "worker": self._worker.view(),
            "label": self._label.view(),
            "gold": self._gold.view(),
        }
        extra = {
            "item_weight": self._item_weight,
            "worker_weight": self._worker_weight,
            "history": self._history,
        }
        return header, arrays | {name: array for name, array in extra.items() if array is not None}

    @classmethod
    def restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the log that ``dump`` described.

        Raises:
            SnapshotError: names and arrays do not fit each other.
        """
        log = cls()
        log._items, log._workers, log._classes = (_Names(header[kind]) for kind in ("items", "workers", "classes"))
        log._class_order = list(header["class_order"])
        item, worker, label, gold = (arrays[name] for name in ("item", "worker", "label", "gold"))
        log.n_votes = item.size
        fits = (
            worker.size == label.size == item.size
            and gold.size == len(log._items.names)
            and sorted(log._class_order) == list(range(len(log._classes.names)))
            and all(
                places.size == 0 or int(places.max()) < len(names.names)
                for places, names in (
                    (item, log._items),
                    (worker, log._workers),
                    (label, log._classes),
                    (gold, log._classes),
                )
            )
        )
        if not fits:
            raise SnapshotError("the snapshot's votes do not fit its names")
        for column, saved in (
            (log._item, item),
            (log._worker, worker),
            (log._label, label),
            (log._gold, gold),
        ):
            column.append(saved)
        log._item_weight, log._worker_weight = arrays.get("item_weight"), arrays.get("worker_weight")
        log._history = arrays.get("history")
        log._previous.fill(item.size, _END)
        log._latest.fill(gold.size, _END)
        _chain(log._item.view(), log._previous.view(), log._latest.view(), 0, log.n_votes)
        return log

    def _intern_classes(self, classes: NDArray[Any]) -> NDArray[np.int64]:
        """Keep the classes in the order given while it stays the same; else in sorted order."""
        before = len(self._classes.names)
        ids = self._classes.intern(classes)
        if before == 0:
            self._class_order = ids.tolist()
        elif len(self._classes.names) > before:
            self._class_order = self._classes.order().tolist()
        return ids

    def _remember(
        self, history: NDArray[np.float64], worker_ids: NDArray[np.int64], class_ids: NDArray[np.int64]
    ) -> None:
        """Replace what is known of these workers; workers of whom the table knows nothing keep theirs."""
        C, W = len(self._classes.names), len(self._workers.names)
        grown = np.zeros((W, C, C))
        if self._history is not None:
            before, classes, _ = self._history.shape
            grown[:before, :classes, :classes] = self._history
        told = history.any(axis=(1, 2))
        grown[worker_ids[told]] = 0.0
        grown[np.ix_(worker_ids[told], class_ids, class_ids)] = history[told]
        self._history = grown

    def _history_of(self, worker_ids: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return the history of these workers, classes in the order of the tables."""
        if self._history is None:
            return None
        K = len(self._class_order)
        by_id = np.zeros((worker_ids.size, K, K))
        known, classes, _ = self._history.shape
        by_id[:known, :classes, :classes] = self._history
        return by_id[worker_ids][:, self._class_order][:, :, self._class_order]

    def _rows_of(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return the place in ``ids`` and the row in the log of each vote of these items."""
        latest, previous = self._latest.view(), self._previous.view()
        counts = np.zeros(ids.size, np.int64)
        _count(ids, latest, previous, counts)
        rows = np.empty(int(counts.sum()), np.int64)
        _walk(ids, latest, previous, rows)
        return np.repeat(np.arange(ids.size, dtype=np.uint32), counts), rows


class _Growing:
    """A column that grows in place; no view of it may be kept while it grows."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._array = array.array(self._dtype.char)

    def append(self, values: NDArray[Any]) -> None:
        self._array.frombytes(np.ascontiguousarray(values, self._dtype).view(np.uint8).data)

    def fill(self, size: int, value: int) -> None:
        """Grow to ``size`` with ``value``."""
        self.append(np.full(size - len(self._array), value, self._dtype))

    def view(self) -> NDArray[Any]:
        """Return all entries; writing to it writes to the column."""
        return np.frombuffer(self._array, self._dtype) if self._array else np.empty(0, self._dtype)


class _Names:
    """Names to ids in order of arrival, and their sorted order."""

    def __init__(self, names: list[Any] | None = None) -> None:
        self.names: list[Any] = list(names or [])
        self._ids = {name: i for i, name in enumerate(self.names)}
        self._plain = all(isinstance(name, _PLAIN) for name in self.names)
        self._order = np.empty(0, np.int64)
        self._ranks = np.empty(0, np.uint32)
        self._sorted = name_array([])

    def intern(self, names: NDArray[Any]) -> NDArray[np.int64]:
        ids, known = [], self._ids
        for name in names.tolist():
            place = known.get(name)
            if place is None:
                place = known[name] = len(self.names)
                self.names.append(name)
                self._plain = self._plain and isinstance(name, _PLAIN)
            ids.append(place)
        return np.array(ids, dtype=np.int64)

    def places(self, names: list[Any]) -> NDArray[np.int64]:
        try:
            return np.array([self._ids[name] for name in names], dtype=np.int64)
        except KeyError as error:
            raise KeyError(f"no votes on item {error.args[0]!r}; ask for items that somebody answered") from None

    def array(self) -> NDArray[Any]:
        return name_array(self.names)

    def order(self) -> NDArray[np.int64]:
        """Return the ids in the order of the sorted names."""
        new = self.names[self._order.size :]
        if new:
            if self._plain and len(new) * _FEW < self._order.size:
                self._sort_in(new)
            else:
                self._order = sort_names(self.names)
                self._sorted = name_array(self.names[i] for i in self._order.tolist())
            self._ranks = np.empty(self._order.size, np.uint32)
            self._ranks[self._order] = np.arange(self._order.size)
        return self._order

    def ranks(self) -> NDArray[np.uint32]:
        """Return the place of each id in ``order``."""
        self.order()
        return self._ranks

    def sorted_array(self) -> NDArray[Any]:
        self.order()
        return self._sorted

    def _sort_in(self, new: list[Any]) -> None:
        known = self._order.size
        ids = sort_names(new) + known
        places = [
            bisect.bisect_left(self._order, sort_key(self.names[i]), key=lambda at: sort_key(self.names[at]))
            for i in ids.tolist()
        ]
        added = name_array(self.names[i] for i in ids.tolist())
        if added.dtype == self._sorted.dtype:
            self._sorted = np.insert(self._sorted, places, added)
            self._sorted.flags.writeable = False
        else:
            self._sorted = name_array(np.insert(self._sorted.astype(object), places, added.astype(object)))
        self._order = np.insert(self._order, places, ids)


def _replaced(
    known: NDArray[np.float64] | None, new: NDArray[np.float64] | None, ids: NDArray[np.int64], count: int
) -> NDArray[np.float64] | None:
    """Return the weights by id with the new ones in their places; None while nobody has given any."""
    if new is None:
        return known
    grown = _weights(known, np.arange(count))
    grown = np.ones(count) if grown is None else grown
    grown[ids] = new
    return grown


def _weights(known: NDArray[np.float64] | None, ids: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return the weights of these ids, 1 for those that came later; None while nobody has given any."""
    if known is None:
        return None
    found = np.ones(ids.size)
    early = ids < known.size
    found[early] = known[ids[early]]
    return found


@kernel
def _chain(
    item: NDArray[np.uint32],
    previous: NDArray[np.int64],
    latest: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    for j in range(start, stop):
        previous[j] = latest[item[j]]
        latest[item[j]] = j


@kernel
def _count(
    ids: NDArray[np.int64],
    latest: NDArray[np.int64],
    previous: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    for i in range(ids.size):
        j = latest[ids[i]]
        while j >= 0:
            counts[i] += 1
            j = previous[j]


@kernel
def _walk(
    ids: NDArray[np.int64],
    latest: NDArray[np.int64],
    previous: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> None:
    at = 0
    for i in range(ids.size):
        j = latest[ids[i]]
        while j >= 0:
            rows[at] = j
            at += 1
            j = previous[j]
