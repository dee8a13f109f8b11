"""The vote table: who called which item what, as coded arrays. Methods read it; nothing here decides anything.

Layout (see ``docs/decisions/0003-votes-layout.md``): compressed rows by item, one unsigned 32-bit number
``worker * n_classes + label`` a vote, sorted within each item. Items stand in order of first appearance, workers and
classes in sorted order, so that two tables of the same votes differ in the order of their items only.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.columns import (
    Column,
    VotesError,
    intern,
    name_array,
    read_column,
    sort_names,
)
from voxpop.consolidation.votes.known import NO_GOLD, gold_codes, history_counts, places_of, some_names, weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["NO_GOLD", "Repeats", "Votes", "VotesError"]

Repeats = Literal["all", "last"]
_MAX_CODE: Final = 2**32


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Votes:
    """What several workers said about many items. Build it with ``from_columns`` or ``from_coded``.

    Attributes:
        items: names of the items, shape (n_items,).
        workers: names of the workers, shape (n_workers,).
        classes: names of the classes, shape (n_classes,).
        indptr: item ``i`` has the votes ``indptr[i]:indptr[i + 1]``, int64, shape (n_items + 1,).
        codes: ``worker * n_classes + label`` of each vote, uint32, ascending within an item, shape (n_votes,).
        gold: known class of each item, ``NO_GOLD`` where it is not known, int32, shape (n_items,).
        item_weight: how much each item counts in learning, shape (n_items,); None if all count 1.
        worker_weight: how many votes each worker's vote is worth, shape (n_workers,); None if all are worth 1.
        history: how often each worker called class k (middle axis) l (last axis) before, shape (n_workers, K, K);
            None if nothing is known.
    """

    items: NDArray[Any]
    workers: NDArray[Any]
    classes: NDArray[Any]
    indptr: NDArray[np.int64]
    codes: NDArray[np.uint32]
    gold: NDArray[np.int32]
    item_weight: NDArray[np.float64] | None = None
    worker_weight: NDArray[np.float64] | None = None
    history: NDArray[np.float64] | None = None

    @classmethod
    def from_columns(
        cls,
        items: Column,
        workers: Column,
        labels: Column,
        *,
        classes: Sequence[Any] | None = None,
        repeats: Repeats = "all",
        abstain: Any = None,
    ) -> Self:
        """Read three columns with one entry a vote: lists, or numpy, pandas, polars or Arrow columns.

        Args:
            items: the name of each vote's item; text or numbers.
            workers: the name of each vote's worker.
            labels: the class that the worker chose.
            classes: all classes in the order wanted; by default those that occur, sorted.
            repeats: what several votes of one worker on one item mean. ``"all"``: each counts, as for the observer who
                answered three times in Dawid and Skene (1979). ``"last"``: the last row replaces the ones before.
            abstain: a label that stands for no opinion ("can't tell"). It is no class and no vote; items and workers
                with nothing else are kept, without votes.

        Raises:
            VotesError: no votes, columns of different lengths, a missing entry, a label that is not among ``classes``,
                or labels of mixed types; the message names the row.
        """
        columns = [
            read_column(column, name) for column, name in ((items, "items"), (workers, "workers"), (labels, "labels"))
        ]
        lengths = [len(column) for column in columns]
        if len(set(lengths)) > 1:
            raise VotesError(
                "items, workers and labels have {}, {} and {} entries; expected one entry a vote in each".format(
                    *lengths
                )
            )
        item_names, item_codes = intern(columns[0], "item")
        worker_names, worker_codes = intern(columns[1], "worker")
        label_names, label_codes = intern(columns[2], "label")
        if abstain is not None and abstain in label_names:
            label_names, label_codes = _without(label_names, label_codes, label_names.index(abstain))
        class_names = _sorted_classes(label_names, columns[2]) if classes is None else list(classes)
        place = places_of(class_names)
        for name in label_names:
            if name not in place:
                row = _row_of(columns[2], name)
                raise VotesError(
                    f"row {row}: label {name!r} is not among the {len(class_names)} classes "
                    f"({some_names(class_names)}); correct the label or add it to classes"
                )
        recode = np.array([place[name] for name in label_names], dtype=np.int64)
        order = sort_names(worker_names)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        said = label_codes >= 0
        if not said.all():
            item_codes, worker_codes, label_codes = item_codes[said], worker_codes[said], label_codes[said]
        return cls.from_coded(
            item_codes,
            rank[worker_codes] if order.size else worker_codes,
            recode[label_codes] if recode.size else label_codes,
            items=item_names,
            workers=[worker_names[i] for i in order],
            classes=class_names,
            repeats=repeats,
        )

    @classmethod
    def from_coded(
        cls,
        items_coded: ArrayLike,
        workers_coded: ArrayLike,
        labels_coded: ArrayLike,
        *,
        items: Sequence[Any],
        workers: Sequence[Any],
        classes: Sequence[Any],
        repeats: Repeats = "all",
    ) -> Self:
        """Take votes whose items, workers and labels are already places in the given name lists.

        Items and workers without votes are allowed. Workers are kept in the order given: the same votes with the
        workers in another order give the same labels, but posteriors may differ in their last bits.

        Raises:
            VotesError: no votes, different lengths, a code outside its list, or a name given twice.
        """
        item, worker, label = (
            _codes(array, len(names), kind)
            for array, names, kind in (
                (items_coded, items, "item"),
                (workers_coded, workers, "worker"),
                (labels_coded, classes, "label"),
            )
        )
        if not item.size == worker.size == label.size:
            raise VotesError(
                f"items, workers and labels have {item.size}, {worker.size} and {label.size} codes; "
                "expected one a vote in each"
            )
        if item.size == 0:
            raise VotesError("there are no votes; expected at least one row of item, worker and label")
        for names, kind in ((items, "item"), (workers, "worker"), (classes, "class")):
            if len(set(names)) != len(names):
                raise VotesError(f"a name stands twice in the list of {kind} names; expected each once")
        if len(workers) * len(classes) >= _MAX_CODE:
            raise VotesError(f"{len(workers)} workers x {len(classes)} classes exceed {_MAX_CODE}; split the votes")
        if repeats == "last":
            keep = _last_of_each(item, worker, len(workers))
            item, worker, label = item[keep], worker[keep], label[keep]
        elif repeats != "all":
            raise VotesError(f"repeats is {repeats!r}; expected 'all' or 'last'")
        codes = (worker * len(classes) + label).astype(np.uint32)
        return cls.assemble(name_array(items), name_array(workers), name_array(classes), item, codes)

    @classmethod
    def assemble(
        cls,
        items: NDArray[Any],
        workers: NDArray[Any],
        classes: NDArray[Any],
        item: NDArray[np.int64],
        codes: NDArray[np.uint32],
        gold: NDArray[np.int32] | None = None,
        *,
        item_weight: NDArray[np.float64] | None = None,
        worker_weight: NDArray[np.float64] | None = None,
        history: NDArray[np.float64] | None = None,
    ) -> Self:
        """Sort votes that are known to be valid into rows by item; for the states, which validated them before."""
        indptr = np.zeros(items.size + 1, np.int64)
        ordered = np.empty(codes.size, np.uint32)
        _rows_by_item(item, codes, indptr, ordered)
        if gold is None:
            gold = np.full(items.size, NO_GOLD, np.int32)
        for array in (indptr, ordered, gold):
            array.flags.writeable = False
        return cls(items, workers, classes, indptr, ordered, gold, item_weight, worker_weight, history)

    def with_gold(self, gold: Mapping[Any, Any] | Column, labels: Column | None = None) -> Self:
        """Return these votes with the classes of some items known: a mapping from item to label, or two columns.

        Items without votes are passed over: a gold file may cover more than one job.

        Raises:
            VotesError: a gold label is not among the classes, an item has two, or no gold item has any votes.
        """
        codes = gold_codes(gold, labels, self.items, self.classes)
        codes.flags.writeable = False
        return dataclasses.replace(self, gold=codes)

    def with_weights(
        self, *, items: Mapping[Any, float] | None = None, workers: Mapping[Any, float] | None = None
    ) -> Self:
        """Return these votes with weights, numbers of 0 or more; whoever is not named has weight 1.

        A worker's weight says how many votes each of their votes is worth when an item is labeled. An item's weight
        says how much it counts when workers and classes are learned; its own label does not depend on it.

        Raises:
            VotesError: a weight is no number of 0 or more, or none of those named has votes.
        """
        item_weight = self.item_weight if items is None else _frozen(weights_of(items, self.items, "item"))
        worker_weight = self.worker_weight if workers is None else _frozen(weights_of(workers, self.workers, "worker"))
        return dataclasses.replace(self, item_weight=item_weight, worker_weight=worker_weight)

    def with_history(self, history: Mapping[Any, ArrayLike]) -> Self:
        """Return these votes with what is known of workers from before, as if it had been seen on other items.

        Args:
            history: for a worker, K x K counts, true class by answer, in the order of the classes; or the pair (right,
                wrong). Counts may be fractions: scale them down to trust the past less.

        Raises:
            VotesError: an entry is neither, a count is negative, or none of the workers has votes.
        """
        return dataclasses.replace(self, history=_frozen(history_counts(history, self.workers, self.classes)))

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
    def n_votes(self) -> int:
        """Number of votes, repeated ones included."""
        return int(self.codes.size)

    @property
    def item_of_vote(self) -> NDArray[np.int64]:
        """Place of each vote's item, shape (n_votes,)."""
        return np.repeat(np.arange(self.n_items, dtype=np.int64), np.diff(self.indptr))

    @property
    def worker_of_vote(self) -> NDArray[np.int64]:
        """Place of each vote's worker, shape (n_votes,)."""
        return (self.codes // np.uint32(self.n_classes)).astype(np.int64)

    @property
    def label_of_vote(self) -> NDArray[np.int64]:
        """Place of the class that each vote chose, shape (n_votes,)."""
        return (self.codes % np.uint32(self.n_classes)).astype(np.int64)

    def __len__(self) -> int:
        return self.n_votes

    def __repr__(self) -> str:
        return (
            f"Votes({self.n_votes} votes, {self.n_items} items, {self.n_workers} workers, "
            f"{self.n_classes} classes, {int((self.gold >= 0).sum())} gold)"
        )


@kernel
def _rows_by_item(
    item: NDArray[np.int64],
    codes: NDArray[np.uint32],
    indptr: NDArray[np.int64],
    ordered: NDArray[np.uint32],
) -> None:
    """Counting sort by item; insertion sort by code within an item, numpy's sort for items with many votes."""
    n_items = indptr.size - 1
    for j in range(item.size):
        indptr[item[j] + 1] += 1
    for i in range(n_items):
        indptr[i + 1] += indptr[i]
    for j in range(item.size):  # indptr[i] walks to the end of row i ...
        at = indptr[item[j]]
        ordered[at] = codes[j]
        indptr[item[j]] = at + 1
    for i in range(n_items, 0, -1):  # ... and is moved back by one row
        indptr[i] = indptr[i - 1]
    indptr[0] = 0
    for i in range(n_items):
        start, stop = indptr[i], indptr[i + 1]
        if stop - start > 64:
            ordered[start:stop].sort()
            continue
        for j in range(start + 1, stop):
            code = ordered[j]
            at = j
            while at > start and ordered[at - 1] > code:
                ordered[at] = ordered[at - 1]
                at -= 1
            ordered[at] = code


def _last_of_each(item: NDArray[np.int64], worker: NDArray[np.int64], n_workers: int) -> NDArray[np.int64]:
    pairs = (item * n_workers + worker)[::-1]
    _, from_end = np.unique(pairs, return_index=True)
    return np.sort(item.size - 1 - from_end)


def _codes(array: ArrayLike, count: int, kind: str) -> NDArray[np.int64]:
    codes = np.asarray(array)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise VotesError(
            f"{kind} codes are {codes.dtype} of shape {codes.shape}; expected one dimension of whole numbers"
        )
    if codes.size and (codes.min() < 0 or codes.max() >= count):
        row = int(np.flatnonzero((codes < 0) | (codes >= count))[0])
        raise VotesError(f"row {row}: {kind} code {codes[row]} is outside 0..{count - 1}")
    return codes.astype(np.int64, copy=False)


def _sorted_classes(names: list[Any], labels: list[Any] | NDArray[Any]) -> list[Any]:
    if not names:
        return []
    kinds = [float if isinstance(name, (int, float)) else type(name) for name in names]
    for name, kind in zip(names, kinds, strict=True):
        if kind is not kinds[0]:
            raise VotesError(
                f"labels are of mixed types: {names[0]!r} ({type(names[0]).__name__}) at row "
                f"{_row_of(labels, names[0])}, {name!r} ({type(name).__name__}) at row {_row_of(labels, name)}; "
                "make them one type, or name the classes in their order"
            )
    return sorted(names) if kinds[0] is float else [names[i] for i in sort_names(names)]


def _without(names: list[Any], codes: NDArray[np.int64], place: int) -> tuple[list[Any], NDArray[np.int64]]:
    """Return names and codes without the name at ``place``: -1 stands where it stood."""
    recode = np.arange(len(names)) - (np.arange(len(names)) > place)
    recode[place] = -1
    return names[:place] + names[place + 1 :], recode[codes]


def _frozen(array: NDArray[np.float64]) -> NDArray[np.float64]:
    array.flags.writeable = False
    return array


def _row_of(column: list[Any] | NDArray[Any], value: object) -> int:
    return next(i for i, entry in enumerate(column) if entry == value)
