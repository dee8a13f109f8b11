"""A growing log of votes with interned names, from which tables of all items or of a few are made.

Each item's votes are chained (newest first), so that the votes of a few items are found without looking at others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.columns import VotesError, name_array, sort_names
from voxpop.consolidation.votes.snapshot import SnapshotError
from voxpop.consolidation.votes.table import NO_GOLD, Votes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["VoteLog"]

_SMALLEST: Final = 1024
_END: Final = -1  # of a chain


class VoteLog:
    """Votes in order of arrival; memory grows by doubling, so a vote costs O(1)."""

    def __init__(self) -> None:
        self.n_votes = 0
        self._items = _Names()
        self._workers = _Names()
        self._classes = _Names()
        self._item = np.empty(0, np.uint32)
        self._worker = np.empty(0, np.uint32)
        self._label = np.empty(0, np.uint16)
        self._previous = np.empty(0, np.int64)
        self._latest = np.empty(0, np.int64)  # of each item
        self._gold = np.empty(0, np.int32)  # of each item, as a class id
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
        known = self._latest.size
        n_items, n_votes = len(self._items.names), self.n_votes + votes.n_votes
        if n_items > known:
            size = max(n_items, 2 * known, _SMALLEST)
            self._latest = _grown(self._latest, size, _END)
            self._gold = _grown(self._gold, size, NO_GOLD)
        if n_votes > self._item.size:
            size = max(n_votes, 2 * self._item.size, _SMALLEST)
            self._item = _grown(self._item, size, 0)
            self._worker = _grown(self._worker, size, 0)
            self._label = _grown(self._label, size, 0)
            self._previous = _grown(self._previous, size, _END)
        new = slice(self.n_votes, n_votes)
        self._item[new] = item_ids[votes.item_of_vote]
        self._worker[new] = worker_ids[votes.worker_of_vote]
        self._label[new] = class_ids[votes.label_of_vote]
        _chain(self._item, self._previous, self._latest, self.n_votes, n_votes)
        judged = votes.gold >= 0
        self._gold[item_ids[judged]] = class_ids[votes.gold[judged]]
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
        rank = np.empty(len(self._class_order), np.int64)
        rank[self._class_order] = np.arange(rank.size)
        if items is None:
            chosen = slice(0, self.n_votes)
            item: NDArray[np.int64] = self._item[chosen].astype(np.int64)
            names, gold = self._items.array(), self._gold[: len(self._items.names)]
            worker, label = self._worker[chosen], self._label[chosen]
            ids = np.arange(names.size)
        else:
            asked = list(items)
            ids = self._items.places(asked)
            names, gold = name_array(asked), self._gold[ids]
            item, rows = self._rows_of(ids)
            worker, label = self._worker[rows], self._label[rows]
        K = rank.size
        codes = (self._workers.ranks()[worker] * K + rank[label]).astype(np.uint32)
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
        n = self.n_votes
        arrays: dict[str, NDArray[Any]] = {
            "item": self._item[:n],
            "worker": self._worker[:n],
            "label": self._label[:n],
            "gold": self._gold[: len(self._items.names)],
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
        log._item, log._worker, log._label = (arrays[name].copy() for name in ("item", "worker", "label"))
        log._gold = arrays["gold"].copy()
        log._item_weight, log._worker_weight = arrays.get("item_weight"), arrays.get("worker_weight")
        log._history = arrays.get("history")
        log.n_votes = log._item.size
        fits = (
            log._worker.size == log._label.size == log.n_votes
            and log._gold.size == len(log._items.names)
            and sorted(log._class_order) == list(range(len(log._classes.names)))
            and all(
                array.size == 0 or int(array.max()) < len(names.names)
                for array, names in (
                    (log._item, log._items),
                    (log._worker, log._workers),
                    (log._label, log._classes),
                    (log._gold, log._classes),
                )
            )
        )
        if not fits:
            raise SnapshotError("the snapshot's votes do not fit its names")
        log._previous = np.full(log.n_votes, _END, np.int64)
        log._latest = np.full(log._gold.size, _END, np.int64)
        _chain(log._item, log._previous, log._latest, 0, log.n_votes)
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

    def _rows_of(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the place in ``ids`` and the row in the log of each vote of these items."""
        counts = np.zeros(ids.size, np.int64)
        _count(ids, self._latest, self._previous, counts)
        rows = np.empty(int(counts.sum()), np.int64)
        _walk(ids, self._latest, self._previous, rows)
        return np.repeat(np.arange(ids.size, dtype=np.int64), counts), rows


class _Names:
    """Names to ids in order of arrival, and their sorted order, found anew only when a name was added."""

    def __init__(self, names: list[Any] | None = None) -> None:
        self.names: list[Any] = list(names or [])
        self._ids = {name: i for i, name in enumerate(self.names)}
        self._order = np.empty(0, np.int64)
        self._ranks = np.empty(0, np.int64)
        self._sorted = name_array([])

    def intern(self, names: NDArray[Any]) -> NDArray[np.int64]:
        ids, known = [], self._ids
        for name in names.tolist():
            place = known.get(name)
            if place is None:
                place = known[name] = len(self.names)
                self.names.append(name)
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
        if self._order.size != len(self.names):
            self._order = sort_names(self.names)
            self._ranks = np.empty_like(self._order)
            self._ranks[self._order] = np.arange(self._order.size)
            self._sorted = name_array(self.names[i] for i in self._order.tolist())
        return self._order

    def ranks(self) -> NDArray[np.int64]:
        self.order()
        return self._ranks

    def sorted_array(self) -> NDArray[Any]:
        self.order()
        return self._sorted


def _grown(array: NDArray[Any], size: int, fill: int) -> NDArray[Any]:
    grown = np.full(size, fill, array.dtype)
    grown[: array.size] = array
    return grown


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
