"""The table of comparisons: who found which of two items the better one. Nothing here decides anything.

Items stand in order of first appearance, left before right, workers in sorted order; comparisons are sorted by their
codes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from voxpop.consolidation.votes.columns import VotesError, intern, name_array, read_column, sort_names
from voxpop.consolidation.votes.known import weights_of
from voxpop.consolidation.votes.snapshot import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.columns import Column
    from voxpop.consolidation.votes.table import Repeats

__all__ = ["LEFT", "RIGHT", "TIE", "PairwiseVotes"]

LEFT: Final = 1
TIE: Final = 0
RIGHT: Final = -1


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PairwiseVotes:
    """Comparisons of two items by several workers. Build it with ``from_columns``.

    Attributes:
        items: names of the items, shape (n_items,).
        workers: names of the workers, shape (n_workers,).
        worker: place of each comparison's worker, int64, shape (n_votes,).
        left: place of the item shown first, int64, shape (n_votes,).
        right: place of the other one, int64, shape (n_votes,).
        outcome: ``LEFT``, ``RIGHT`` or ``TIE``, int64, shape (n_votes,).
        worker_weight: how many comparisons each worker's is worth, shape (n_workers,).
        history: how many comparisons each worker got right and wrong before, shape (n_workers, 2).
    """

    items: NDArray[Any]
    workers: NDArray[Any]
    worker: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    outcome: NDArray[np.int64]
    worker_weight: NDArray[np.float64]
    history: NDArray[np.float64]

    @classmethod
    def from_columns(
        cls,
        workers: Column,
        lefts: Column,
        rights: Column,
        winners: Column,
        *,
        tie: Any = None,
        repeats: Repeats = "all",
        abstain: Any = None,
    ) -> Self:
        """Read four columns with one entry a comparison: lists, or numpy, pandas, polars or Arrow columns.

        Args:
            workers: the name of the worker; text or numbers.
            lefts: the name of the item shown first.
            rights: the name of the other item.
            winners: which of the two the worker found better, by its name, or ``tie``.
            tie: the entry that stands for "equally good"; by default there are no ties.
            repeats: what several comparisons of two items by one worker mean, shown either way. ``"all"``: each counts.
                ``"last"``: the last row replaces the ones before.
            abstain: the entry that stands for no opinion; it is no comparison. Items and workers with nothing else are
                kept.

        Raises:
            VotesError: no comparisons, columns of different lengths, a missing entry, an item compared with itself, or
                a winner that is neither of the two; the message names the row.
        """
        named = {"workers": workers, "lefts": lefts, "rights": rights, "winners": winners}
        columns = [read_column(column, name) for name, column in named.items()]
        lengths = [len(column) for column in columns]
        if len(set(lengths)) > 1:
            raise VotesError(
                "workers, lefts, rights and winners have {}, {}, {} and {} entries; expected as many".format(*lengths)
            )
        n = lengths[0]
        if n == 0:
            raise VotesError("there are no comparisons; expected at least one row of worker, left, right and winner")
        if repeats not in {"all", "last"}:
            raise VotesError(f"repeats is {repeats!r}; expected 'all' or 'last'")
        worker_names, worker = intern(columns[0], "worker")
        left_names, left = intern(columns[1], "left")
        right_names, right = intern(columns[2], "right")
        names, left, right = _in_order(left_names, right_names, left, right)
        if (left == right).any():
            row = int(np.flatnonzero(left == right)[0])
            raise VotesError(f"row {row}: {names[left[row]]!r} is compared with itself; expected two items")
        outcome, said = _outcomes(list(columns[3]), [names[i] for i in left], [names[i] for i in right], tie, abstain)
        if repeats == "last":
            low, high = np.minimum(left, right), np.maximum(left, right)
            same = np.stack([worker, low, high], axis=1)[::-1]
            _, from_end = np.unique(same, axis=0, return_index=True)
            last = np.zeros(n, bool)
            last[n - 1 - from_end] = True
            said &= last
        order = sort_names(worker_names)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        return cls.assemble(
            names, [worker_names[w] for w in order], rank[worker[said]], left[said], right[said], outcome[said]
        )

    @classmethod
    def assemble(
        cls,
        items: Sequence[Any],
        workers: Sequence[Any],
        worker: NDArray[np.int64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        outcome: NDArray[np.int64],
    ) -> Self:
        """Sort comparisons that are known to be valid; nothing else is known."""
        order = np.lexsort((worker, outcome, right, left))
        return cls(
            name_array(items),
            name_array(workers),
            worker[order],
            left[order],
            right[order],
            outcome[order],
            worker_weight=np.ones(len(workers)),
            history=np.zeros((len(workers), 2)),
        )

    def with_weights(self, workers: Mapping[Any, float]) -> Self:
        """Return these comparisons with weights, numbers of 0 or more; whoever is not named has weight 1.

        Raises:
            VotesError: a weight is no number of 0 or more, or none of those named compared anything.
        """
        return dataclasses.replace(self, worker_weight=weights_of(workers, self.workers, "worker"))

    def with_history(self, history: Mapping[Any, Sequence[float]]) -> Self:
        """Return these comparisons with how often workers were right and wrong before, as if it had been seen here.

        Raises:
            VotesError: an entry is no pair of numbers of 0 or more, or none of the workers compared anything.
        """
        known = np.zeros((self.n_workers, 2))
        row = {name: w for w, name in enumerate(self.workers.tolist())}
        for name, given in history.items():
            entry = np.asarray(given, dtype=np.float64)
            if entry.shape != (2,) or not np.isfinite(entry).all() or (entry < 0).any():
                raise VotesError(
                    f"the history of worker {name!r} is {given!r}; expected how often right, how often wrong"
                )
            if name in row:
                known[row[name]] = entry
        if history and not any(name in row for name in history):
            first = next(iter(history))
            raise VotesError(
                f"none of the {len(history)} workers with history compared anything; the first is {first!r}"
            )
        return dataclasses.replace(self, history=known)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return all comparisons of one or more tables; weights and history of the last that names a worker."""
        items, item_of = _union([part.items.tolist() for part in parts])
        unsorted, worker_of = _union([part.workers.tolist() for part in parts])
        order = sort_names(unsorted)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        whole = cls.assemble(
            items,
            [unsorted[w] for w in order],
            rank[np.concatenate([place[part.worker] for part, place in zip(parts, worker_of, strict=True)])],
            np.concatenate([place[part.left] for part, place in zip(parts, item_of, strict=True)]),
            np.concatenate([place[part.right] for part, place in zip(parts, item_of, strict=True)]),
            np.concatenate([part.outcome for part in parts]),
        )
        for part, place in zip(parts, worker_of, strict=True):
            weighed, met = part.worker_weight != 1, part.history.any(axis=1)
            whole.worker_weight[rank[place[weighed]]] = part.worker_weight[weighed]
            whole.history[rank[place[met]]] = part.history[met]
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
        codes = ((table.worker, table.n_workers), (table.left, table.n_items), (table.right, table.n_items))
        fits = (
            table.worker.shape == table.left.shape == table.right.shape == table.outcome.shape
            and table.worker_weight.shape == (table.n_workers,)
            and table.history.shape == (table.n_workers, 2)
            and all(code.size == 0 or 0 <= code.min() <= code.max() < count for code, count in codes)
        )
        if not fits:
            raise SnapshotError("the snapshot's comparisons do not fit its names")
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
        """Number of comparisons, repeated ones included."""
        return int(self.worker.size)

    def __len__(self) -> int:
        return self.n_votes

    def __repr__(self) -> str:
        return f"PairwiseVotes({self.n_votes} comparisons, {self.n_items} items, {self.n_workers} workers)"


def _in_order(
    left_names: list[Any], right_names: list[Any], left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[list[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return the names of both sides in order of first appearance, left before right in a row, and their codes."""
    names, (of_left, of_right) = _union([left_names, right_names])
    sides = np.stack([of_left[left], of_right[right]], axis=1)
    _, first = np.unique(sides, return_index=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return [names[i] for i in order], rank[sides[:, 0]], rank[sides[:, 1]]


def _outcomes(
    winners: list[Any], lefts: list[Any], rights: list[Any], tie: Any, abstain: Any
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each comparison's outcome, and which of them are comparisons."""
    outcome = np.zeros(len(winners), np.int64)
    said = np.ones(len(winners), bool)
    for row, (winner, left, right) in enumerate(zip(winners, lefts, rights, strict=True)):
        if winner == left:
            outcome[row] = LEFT
        elif winner == right:
            outcome[row] = RIGHT
        elif abstain is not None and winner == abstain:
            said[row] = False
        elif tie is None or winner != tie:
            raise VotesError(
                f"row {row}: the winner is {winner!r}; expected {left!r} or {right!r}"
                + ("" if tie is None else f", or {tie!r} for a tie")
            )
    return outcome, said


def _union(names: Sequence[list[Any]]) -> tuple[list[Any], list[NDArray[np.int64]]]:
    """Return all names in order of first appearance, and where each of the given ones stands among them."""
    place: dict[Any, int] = {}
    found = [np.array([place.setdefault(name, len(place)) for name in some], dtype=np.int64) for some in names]
    return list(place), found
