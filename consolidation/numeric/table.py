"""The table of numbers that workers gave to items, as coded arrays. Nothing here decides anything.

Layout: compressed rows by item, sorted by worker and value within an item. Items stand in order of first appearance,
workers in sorted order, as in ``votes/table.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from voxpop.consolidation.votes.columns import VotesError, intern, name_array, read_column, sort_names
from voxpop.consolidation.votes.known import weights_of
from voxpop.consolidation.votes.snapshot import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.columns import Column
    from voxpop.consolidation.votes.table import Repeats

__all__ = ["NumericVotes"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NumericVotes:
    """Numbers that several workers gave to many items. Build it with ``from_columns``.

    Attributes:
        items: names of the items, shape (n_items,).
        workers: names of the workers, shape (n_workers,).
        indptr: item ``i`` has the answers ``indptr[i]:indptr[i + 1]``, int64, shape (n_items + 1,).
        worker: place of each answer's worker, int64, shape (n_votes,).
        value: what they said, finite float64, shape (n_votes,).
        gold: known value of each item, NaN where it is not known, shape (n_items,).
        item_weight: how much each item counts in learning, shape (n_items,).
        worker_weight: how many answers each worker's is worth, shape (n_workers,).
        history: of each worker's answers from before their number, and mean and mean square of their errors (answer
            minus truth), shape (n_workers, 3).
    """

    items: NDArray[Any]
    workers: NDArray[Any]
    indptr: NDArray[np.int64]
    worker: NDArray[np.int64]
    value: NDArray[np.float64]
    gold: NDArray[np.float64]
    item_weight: NDArray[np.float64]
    worker_weight: NDArray[np.float64]
    history: NDArray[np.float64]

    @classmethod
    def from_columns(
        cls, items: Column, workers: Column, values: Column, *, repeats: Repeats = "all", abstain: Any = None
    ) -> Self:
        """Read three columns with one entry an answer: lists, or numpy, pandas, polars or Arrow columns.

        Args:
            items: the name of each answer's item; text or numbers.
            workers: the name of each answer's worker.
            values: the number that the worker gave.
            repeats: what several answers of one worker to one item mean. ``"all"``: each counts. ``"last"``: the last
                row replaces the ones before.
            abstain: an entry of ``values`` that stands for no opinion; it is no answer. Items and workers with nothing
                else are kept, without answers.

        Raises:
            VotesError: no answers, columns of different lengths, a missing entry, or a value that is no finite number;
                the message names the row.
        """
        item_column, worker_column, value_column = (
            read_column(column, name) for column, name in ((items, "items"), (workers, "workers"), (values, "values"))
        )
        lengths = (len(item_column), len(worker_column), len(value_column))
        if len(set(lengths)) > 1:
            raise VotesError("items, workers and values have {}, {} and {} entries; expected as many".format(*lengths))
        if not lengths[0]:
            raise VotesError("there are no answers; expected at least one row of item, worker and value")
        if repeats not in {"all", "last"}:
            raise VotesError(f"repeats is {repeats!r}; expected 'all' or 'last'")
        value, said = _numbers(value_column, abstain)
        item_names, item = intern(item_column, "item")
        worker_names, worker = intern(worker_column, "worker")
        if repeats == "last":
            pair = (item * len(worker_names) + worker)[::-1]
            _, from_end = np.unique(pair, return_index=True)
            last = np.zeros(item.size, bool)
            last[item.size - 1 - from_end] = True
            said &= last
        order = sort_names(worker_names)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        return cls.assemble(item_names, [worker_names[w] for w in order], item[said], rank[worker[said]], value[said])

    @classmethod
    def assemble(
        cls,
        items: Sequence[Any],
        workers: Sequence[Any],
        item: NDArray[np.int64],
        worker: NDArray[np.int64],
        value: NDArray[np.float64],
    ) -> Self:
        """Sort answers that are known to be valid into rows by item; nothing else is known."""
        order = np.lexsort((value, worker, item))
        indptr = np.searchsorted(item[order], np.arange(len(items) + 1)).astype(np.int64)
        n_items, n_workers = len(items), len(workers)
        return cls(
            name_array(items),
            name_array(workers),
            indptr,
            worker[order],
            value[order],
            gold=np.full(n_items, np.nan),
            item_weight=np.ones(n_items),
            worker_weight=np.ones(n_workers),
            history=np.zeros((n_workers, 3)),
        )

    def with_gold(self, gold: Mapping[Any, float]) -> Self:
        """Return these answers with the values of some items known.

        Items without answers are passed over: a gold file may cover more than one job.

        Raises:
            VotesError: a gold value is no finite number, or no gold item has any answers.
        """
        known = np.full(self.n_items, np.nan)
        for i, name in enumerate(self.items.tolist()):
            if name in gold:
                known[i] = _number(gold[name], f"gold of item {name!r}")
        if gold and np.isnan(known).all():
            first = next(iter(gold))
            raise VotesError(f"none of the {len(gold)} gold items has answers; the first gold item is {first!r}")
        return dataclasses.replace(self, gold=known)

    def with_weights(
        self, *, items: Mapping[Any, float] | None = None, workers: Mapping[Any, float] | None = None
    ) -> Self:
        """Return these answers with weights, numbers of 0 or more; whoever is not named has weight 1.

        A worker's weight says how many answers each of theirs is worth; an item's how much it counts when workers are
        learned, while its own estimate does not depend on it.

        Raises:
            VotesError: a weight is no number of 0 or more, or none of those named has answers.
        """
        item_weight = self.item_weight if items is None else weights_of(items, self.items, "item")
        worker_weight = self.worker_weight if workers is None else weights_of(workers, self.workers, "worker")
        return dataclasses.replace(self, item_weight=item_weight, worker_weight=worker_weight)

    def with_history(self, history: Mapping[Any, Sequence[float]]) -> Self:
        """Return these answers with what is known of workers from before, as if it had been seen on other items.

        Args:
            history: for a worker, the number of answers, and mean and mean square of their errors (answer minus truth).

        Raises:
            VotesError: an entry is nothing of the kind, or none of the workers has answers.
        """
        known = np.zeros((self.n_workers, 3))
        row = {name: w for w, name in enumerate(self.workers.tolist())}
        for name, given in history.items():
            entry = np.asarray(given, dtype=np.float64)
            if entry.shape != (3,) or not np.isfinite(entry).all() or entry[0] < 0 or entry[1] ** 2 > entry[2]:
                raise VotesError(
                    f"the history of worker {name!r} is {given!r}; expected the number of answers, and mean and mean "
                    "square of their errors"
                )
            if name in row:
                known[row[name]] = entry
        if history and not any(name in row for name in history):
            first = next(iter(history))
            raise VotesError(f"none of the {len(history)} workers with history has answers; the first is {first!r}")
        return dataclasses.replace(self, history=known)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return all answers of one or more tables; gold, weights and history of the last that names somebody."""
        items, item_of = _union([part.items for part in parts])
        unsorted, worker_of = _union([part.workers for part in parts])
        order = sort_names(unsorted)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        whole = cls.assemble(
            items,
            [unsorted[w] for w in order],
            np.concatenate([place[part.item_of_vote] for part, place in zip(parts, item_of, strict=True)]),
            rank[np.concatenate([place[part.worker] for part, place in zip(parts, worker_of, strict=True)])],
            np.concatenate([part.value for part in parts]),
        )
        for part, item, worker in zip(parts, item_of, worker_of, strict=True):
            told, weighed, met = ~np.isnan(part.gold), part.worker_weight != 1, part.history[:, 0] > 0
            whole.gold[item[told]] = part.gold[told]
            whole.item_weight[item[part.item_weight != 1]] = part.item_weight[part.item_weight != 1]
            whole.worker_weight[rank[worker[weighed]]] = part.worker_weight[weighed]
            whole.history[rank[worker[met]]] = part.history[met]
        return whole

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return names and arrays from which ``restore`` makes an equal table."""
        arrays = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in {"items", "workers"}
        }
        return {"items": self.items.tolist(), "workers": self.workers.tolist()}, arrays

    @classmethod
    def restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the table that ``dump`` described.

        Raises:
            SnapshotError: names and arrays do not fit each other.
        """
        table = cls(name_array(header["items"]), name_array(header["workers"]), **arrays)
        n_items, n_workers = table.n_items, table.n_workers
        fits = (
            table.indptr.shape == (n_items + 1,)
            and table.gold.shape == table.item_weight.shape == (n_items,)
            and table.worker_weight.shape == (n_workers,)
            and table.history.shape == (n_workers, 3)
            and table.worker.shape == table.value.shape == (table.indptr[-1],)
            and (table.worker.size == 0 or 0 <= table.worker.min() <= table.worker.max() < n_workers)
        )
        if not fits:
            raise SnapshotError("the snapshot's answers do not fit its names")
        return table

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.items.size)

    @property
    def n_workers(self) -> int:
        """Number of workers."""
        return int(self.workers.size)

    @property
    def n_votes(self) -> int:
        """Number of answers, repeated ones included."""
        return int(self.value.size)

    @property
    def item_of_vote(self) -> NDArray[np.int64]:
        """Place of each answer's item, shape (n_votes,)."""
        return np.repeat(np.arange(self.n_items, dtype=np.int64), np.diff(self.indptr))

    def __len__(self) -> int:
        return self.n_votes

    def __repr__(self) -> str:
        return f"NumericVotes({self.n_votes} answers, {self.n_items} items, {self.n_workers} workers)"


def _numbers(column: list[Any] | NDArray[Any], abstain: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the values as float64 and which of them are answers."""
    if isinstance(column, np.ndarray) and abstain is None:
        return column.astype(np.float64), np.ones(column.size, bool)
    said = np.array([abstain is None or entry != abstain for entry in column], dtype=bool)
    values = np.zeros(said.size)
    for row in np.flatnonzero(said).tolist():
        values[row] = _number(column[row], f"row {row}: value")
    return values, said


def _number(entry: Any, what: str) -> float:
    if isinstance(entry, (str, bytes)):  # float() would take text
        raise VotesError(f"{what} is {entry!r}; expected a number")
    try:
        value = float(entry)
    except (TypeError, ValueError, OverflowError):
        raise VotesError(f"{what} is {entry!r}; expected a number") from None
    if not math.isfinite(value):
        raise VotesError(f"{what} is {entry!r}; expected a finite number, and no row where nothing was said")
    return value


def _union(names: Sequence[NDArray[Any]]) -> tuple[list[Any], list[NDArray[np.int64]]]:
    """Return all names in order of first appearance, and where each of the given ones stands among them."""
    place: dict[Any, int] = {}
    found = [np.array([place.setdefault(name, len(place)) for name in some.tolist()], dtype=np.int64) for some in names]
    return list(place), found
