"""The table of answers that are sets of classes: who ticked what on which item. Nothing here decides anything.

An answer is one worker's set for one item, and an empty set is an answer too: it says of every class that it does not
apply. ``columns.py`` reads them; ``of_class`` gives the table of votes "applies" and "does not" on one class, which
every method for votes takes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from voxpop.consolidation.multilabel.columns import read_answers
from voxpop.consolidation.votes.columns import VotesError, name_array
from voxpop.consolidation.votes.known import NO_GOLD, places_of, some_names, weights_of
from voxpop.consolidation.votes.table import Repeats, Votes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.columns import Column

__all__ = ["MultiLabelVotes"]

# The classes of the table of one class: whether it applies.
APPLIES = name_array([False, True])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MultiLabelVotes:
    """What several workers ticked on many items. Build it with ``from_columns``.

    Attributes:
        items: names of the items in order of first appearance, shape (n_items,).
        workers: names of the workers, sorted, shape (n_workers,).
        classes: names of the classes, shape (n_classes,).
        item: place of each answer's item, int64, shape (n_answers,).
        worker: place of each answer's worker, int64, shape (n_answers,).
        indptr: class ``c`` was ticked in the answers ``ticked_in[indptr[c]:indptr[c + 1]]``, int64, shape
            (n_classes + 1,).
        ticked_in: answers in which each class was ticked, ascending within a class, int64, shape (n_ticks,).
        gold: whether each class is known to apply to each item (1), not to apply (0), or is not known (``NO_GOLD``),
            int32, shape (n_items, n_classes); None if nothing is known.
        item_weight: how much each item counts in learning, shape (n_items,); None if all count 1.
        worker_weight: how many answers each worker's is worth, shape (n_workers,); None if all are worth 1.
        history: how often each worker said that class c (second axis) does or does not apply (last axis) when it did
            or did not (third axis), shape (n_workers, n_classes, 2, 2), not first; None if nothing is known.
    """

    items: NDArray[Any]
    workers: NDArray[Any]
    classes: NDArray[Any]
    item: NDArray[np.int64]
    worker: NDArray[np.int64]
    indptr: NDArray[np.int64]
    ticked_in: NDArray[np.int64]
    gold: NDArray[np.int32] | None = None
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
        nothing: Any = None,
        abstain: Any = None,
    ) -> Self:
        """Read three columns: lists, or numpy, pandas, polars or Arrow columns.

        Args:
            items: the name of the item, text or numbers.
            workers: the name of the worker.
            labels: either collections (lists, tuples, sets, arrays), one entry an answer, of which an empty one says
                that nothing applies; or single labels, one row a tick, where all rows of a worker and an item are one
                answer.
            classes: all classes in the order wanted; by default those that occur, sorted.
            repeats: what several collections of one worker for one item mean. ``"all"``: each is an answer.
                ``"last"``: the last one replaces the ones before.
            nothing: a label that stands for "none of these"; it is no class. Beside other labels it says nothing.
            abstain: a label that stands for no opinion; an answer with it says nothing about any class. Items and
                workers with no other answer are kept.

        Raises:
            VotesError: no answers, columns of different lengths, a missing entry, collections and single labels mixed,
                a label that is not among ``classes``, or no class at all; the message names the row.
        """
        answers = read_answers(items, workers, labels, classes, repeats=repeats, nothing=nothing, abstain=abstain)
        pairs = np.unique(answers.tick_class * answers.item.size + answers.tick_answer)
        of_class, ticked_in = np.divmod(pairs, max(answers.item.size, 1))
        indptr = np.searchsorted(of_class, np.arange(len(answers.classes) + 1)).astype(np.int64)
        for array in (answers.item, answers.worker, indptr, ticked_in):
            array.flags.writeable = False
        return cls(
            name_array(answers.items),
            name_array(answers.workers),
            name_array(answers.classes),
            answers.item,
            answers.worker,
            indptr,
            ticked_in,
        )

    def with_gold(self, gold: Mapping[Any, Iterable[Any]]) -> Self:
        """Return these answers with all classes of some items known: a mapping from item to those that apply.

        Items without answers are passed over: a gold file may cover more than one job.

        Raises:
            VotesError: a gold label is not among the classes, or no gold item has any answers.
        """
        place = places_of(self.classes.tolist())
        codes = np.full((self.n_items, self.n_classes), NO_GOLD, np.int32)
        for i, name in enumerate(self.items.tolist()):
            if name not in gold:
                continue
            if isinstance(gold[name], str):
                raise VotesError(f"gold of item {name!r} is the text {gold[name]!r}; expected a set of labels")
            codes[i] = 0
            for label in gold[name]:
                if label not in place:
                    raise VotesError(
                        f"gold label {label!r} of item {name!r} is not among the classes "
                        f"({some_names(list(place))}); correct it, or name it in classes"
                    )
                codes[i, place[label]] = 1
        if gold and (codes == NO_GOLD).all():
            first = next(iter(gold))
            raise VotesError(f"none of the {len(gold)} gold items has answers; the first gold item is {first!r}")
        codes.flags.writeable = False
        return dataclasses.replace(self, gold=codes)

    def with_weights(
        self, *, items: Mapping[Any, float] | None = None, workers: Mapping[Any, float] | None = None
    ) -> Self:
        """Return these answers with weights, as ``Votes.with_weights`` understands them.

        Raises:
            VotesError: a weight is no number of 0 or more, or none of those named has answers.
        """
        item_weight = self.item_weight if items is None else weights_of(items, self.items, "item")
        worker_weight = self.worker_weight if workers is None else weights_of(workers, self.workers, "worker")
        return dataclasses.replace(self, item_weight=item_weight, worker_weight=worker_weight)

    def with_history(self, history: Mapping[Any, NDArray[np.float64]]) -> Self:
        """Return these answers with what is known of workers from before, as if it had been seen on other items.

        Args:
            history: for a worker, counts of shape (n_classes, 2, 2): whether the class applied, by whether it was
                ticked, "no" first. Counts may be fractions.

        Raises:
            VotesError: an entry has another shape, a count is negative, or none of the workers has answers.
        """
        counts = np.zeros((self.n_workers, self.n_classes, 2, 2))
        row = {name: w for w, name in enumerate(self.workers.tolist())}
        for name, given in history.items():
            matrix = np.asarray(given, dtype=np.float64)
            if matrix.shape != (self.n_classes, 2, 2) or not (np.isfinite(matrix) & (matrix >= 0)).all():
                raise VotesError(
                    f"the history of worker {name!r} is {given!r}; expected counts of shape ({self.n_classes}, 2, 2)"
                )
            if name in row:
                counts[row[name]] = matrix
        if history and not any(name in row for name in history):
            first = next(iter(history))
            raise VotesError(f"none of the {len(history)} workers with history has answers; the first is {first!r}")
        return dataclasses.replace(self, history=counts)

    def of_class(self, label: Any) -> Votes:
        """Return the votes on whether one class applies, classes ``False`` and ``True``; one vote an answer.

        Of a class that is not among the classes nobody thought: it is not ticked, and applies to no gold item.
        """
        place = {name: c for c, name in enumerate(self.classes.tolist())}.get(label)
        if place is None:
            return self.against_all()
        ticked = np.zeros(self.n_answers, np.uint32)
        ticked[self.ticked_in[self.indptr[place] : self.indptr[place + 1]]] = 1
        return self._votes(
            ticked,
            gold=None if self.gold is None else self.gold[:, place].copy(),
            history=None if self.history is None else self.history[:, place].copy(),
        )

    def against_all(self) -> Votes:
        """Return the votes on a class that nobody ticked."""
        gold = None if self.gold is None else np.minimum(self.gold[:, 0], 0)
        return self._votes(np.zeros(self.n_answers, np.uint32), gold=gold, history=None)

    def _votes(
        self, ticked: NDArray[np.uint32], *, gold: NDArray[np.int32] | None, history: NDArray[np.float64] | None
    ) -> Votes:
        return Votes.assemble(
            self.items,
            self.workers,
            APPLIES,
            self.item,
            self.worker.astype(np.uint32) * np.uint32(APPLIES.size) + ticked,
            gold,
            item_weight=self.item_weight,
            worker_weight=self.worker_weight,
            history=history,
        )

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
        """Number of classes."""
        return int(self.classes.size)

    @property
    def n_answers(self) -> int:
        """Number of answers, empty ones included."""
        return int(self.item.size)

    @property
    def n_ticks(self) -> int:
        """Number of classes ticked in all answers together."""
        return int(self.ticked_in.size)

    def __len__(self) -> int:
        return self.n_answers

    def __repr__(self) -> str:
        return (
            f"MultiLabelVotes({self.n_answers} answers, {self.n_ticks} ticks, {self.n_items} items, "
            f"{self.n_workers} workers, {self.n_classes} classes)"
        )
