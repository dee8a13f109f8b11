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
    all_different,
    name_array,
    read_codes,
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
        item_names, item = read_codes(items, "items", "item")
        worker_names, worker = read_codes(workers, "workers", "worker")
        label_names, label = read_codes(labels, "labels", "label")
        if not item.size == worker.size == label.size:
            raise VotesError(
                f"items, workers and labels have {item.size}, {worker.size} and {label.size} entries; "
                "expected one entry a vote in each"
            )
        chosen = [name for name in label_names if abstain is None or name != abstain]
        class_names = _sorted_classes(chosen, label_names, label) if classes is None else list(classes)
        places = places_of(class_names)
        for name in chosen:
            if name not in places:
                row = _row_of(label, label_names.index(name))
                raise VotesError(
                    f"row {row}: label {name!r} is not among the {len(class_names)} classes "
                    f"({some_names(class_names)}); correct the label or add it to classes"
                )
        if len(chosen) < len(label_names):
            said = label != label_names.index(abstain)
            item, worker, label = item[said], worker[said], label[said]
        order = sort_names(worker_names)
        rank = np.empty(order.size, np.uint32)
        rank[order] = np.arange(order.size)
        recode = np.array([places.get(name, 0) for name in label_names], np.uint32)
        return cls._encoded(
            item,
            rank[worker],
            recode[label],
            name_array(item_names),
            name_array(worker_names[i] for i in order.tolist()),
            _different(name_array(class_names), "class"),
            repeats,
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
        return cls._encoded(
            item,
            worker,
            label,
            _different(name_array(items), "item"),
            _different(name_array(workers), "worker"),
            _different(name_array(classes), "class"),
            repeats,
        )

    @classmethod
    def _encoded(
        cls,
        item: NDArray[np.integer[Any]],
        worker: NDArray[np.integer[Any]],
        label: NDArray[np.integer[Any]],
        items: NDArray[Any],
        workers: NDArray[Any],
        classes: NDArray[Any],
        repeats: Repeats,
    ) -> Self:
        """Make one number of worker and label, of each vote that counts."""
        if item.size == 0:
            raise VotesError("there are no votes; expected at least one row of item, worker and label")
        if workers.size * classes.size >= _MAX_CODE:
            raise VotesError(f"{workers.size} workers x {classes.size} classes exceed {_MAX_CODE}; split the votes")
        if repeats == "last":
            keep = _last_of_each(item, worker, workers.size)
            item, worker, label = item[keep], worker[keep], label[keep]
        elif repeats != "all":
            raise VotesError(f"repeats is {repeats!r}; expected 'all' or 'last'")
        codes = np.empty(item.size, np.uint32)
        np.multiply(worker, classes.size, out=codes, casting="unsafe")
        np.add(codes, label, out=codes, casting="unsafe")
        return cls.assemble(items, workers, classes, item, codes)

    @classmethod
    def assemble(
        cls,
        items: NDArray[Any],
        workers: NDArray[Any],
        classes: NDArray[Any],
        item: NDArray[np.integer[Any]],
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
        _rows_by_item(item.astype(np.uint32, copy=False), codes, indptr, ordered)
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
    item: NDArray[np.uint32],
    codes: NDArray[np.uint32],
    indptr: NDArray[np.int64],
    ordered: NDArray[np.uint32],
) -> None:
    """Counting sort by item; Shell's sort by code within an item, which is insertion sort for a few votes."""
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
        gap = 1
        while gap < (stop - start) // 9:
            gap = 3 * gap + 1  # the gaps of Knuth, volume 3, 5.2.1
        while gap > 0:
            for j in range(start + gap, stop):
                code = ordered[j]
                at = j
                while at >= start + gap and ordered[at - gap] > code:
                    ordered[at] = ordered[at - gap]
                    at -= gap
                ordered[at] = code
            gap //= 3


def _last_of_each(
    item: NDArray[np.integer[Any]], worker: NDArray[np.integer[Any]], n_workers: int
) -> NDArray[np.int64]:
    pairs = (item.astype(np.uint64) * np.uint64(n_workers) + worker.astype(np.uint64))[::-1]
    _, from_end = np.unique(pairs, return_index=True)
    return np.sort(item.size - 1 - from_end)


def _codes(array: ArrayLike, count: int, kind: str) -> NDArray[np.integer[Any]]:
    if count >= _MAX_CODE:
        raise VotesError(f"there are {count} {kind} names; expected fewer than {_MAX_CODE}: split the votes")
    codes = np.asarray(array)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise VotesError(
            f"{kind} codes are {codes.dtype} of shape {codes.shape}; expected one dimension of whole numbers"
        )
    if codes.size and (codes.min() < 0 or codes.max() >= count):
        row = int(np.flatnonzero((codes < 0) | (codes >= count))[0])
        raise VotesError(f"row {row}: {kind} code {codes[row]} is outside 0..{count - 1}")
    return codes


def _sorted_classes(chosen: list[Any], names: list[Any], codes: NDArray[np.uint32]) -> list[Any]:
    """Return the names that were chosen, sorted; ``names`` and ``codes`` tell the row of each."""
    kinds = [float if isinstance(name, (int, float)) else type(name) for name in chosen]
    for name, kind in zip(chosen, kinds, strict=True):
        if kind is not kinds[0]:
            first, row = (_row_of(codes, names.index(found)) for found in (chosen[0], name))
            raise VotesError(
                f"labels are of mixed types: {chosen[0]!r} ({type(chosen[0]).__name__}) at row {first}, "
                f"{name!r} ({type(name).__name__}) at row {row}; make them one type, or name the classes in their order"
            )
    return sorted(chosen) if float in kinds else [chosen[i] for i in sort_names(chosen)]


def _different(names: NDArray[Any], kind: str) -> NDArray[Any]:
    if not all_different(names):
        raise VotesError(f"a name stands twice in the list of {kind} names; expected each once")
    return names


def _frozen(array: NDArray[np.float64]) -> NDArray[np.float64]:
    array.flags.writeable = False
    return array


def _row_of(codes: NDArray[np.uint32], code: int) -> int:
    return int(np.argmax(codes == code))
