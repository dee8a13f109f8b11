"""From columns of any kind to coded answers that are sets of classes, with complaints about what cannot be one.

What an answer is stands in ``table.py``; this is only the door to it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from voxpop.consolidation.votes.columns import VotesError, intern, read_column, sort_names
from voxpop.consolidation.votes.known import places_of, some_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.columns import Column
    from voxpop.consolidation.votes.table import Repeats

__all__ = ["Answers", "read_answers"]

_COLLECTIONS = (list, tuple, set, frozenset, np.ndarray)


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """Coded answers: item and worker of each, and (answer, class) pairs of what was ticked, perhaps more than once."""

    items: list[Any]
    workers: list[Any]
    classes: list[Any]
    item: NDArray[np.int64]
    worker: NDArray[np.int64]
    tick_answer: NDArray[np.int64]
    tick_class: NDArray[np.int64]


def read_answers(
    items: Column,
    workers: Column,
    labels: Column,
    classes: Sequence[Any] | None,
    *,
    repeats: Repeats,
    nothing: Any,
    abstain: Any,
) -> Answers:
    """Return coded answers; see ``MultiLabelVotes.from_columns``.

    Raises:
        VotesError: the message names the row.
    """
    if repeats not in {"all", "last"}:
        raise VotesError(f"repeats is {repeats!r}; expected 'all' or 'last'")
    item_column, worker_column = read_column(items, "items"), read_column(workers, "workers")
    label_column = [_plain(entry) for entry in read_column(labels, "labels")]
    lengths = (len(item_column), len(worker_column), len(label_column))
    if len(set(lengths)) > 1:
        raise VotesError("items, workers and labels have {}, {} and {} entries; expected as many".format(*lengths))
    if not label_column:
        raise VotesError("there are no answers; expected at least one row of item, worker and labels")
    item_names, item = intern(item_column, "item")
    worker_names, worker = intern(worker_column, "worker")
    order = sort_names(worker_names)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    pair = item * len(worker_names) + worker
    in_sets = _are_collections(label_column)
    if in_sets:
        row_of_tick = np.repeat(np.arange(len(label_column)), [len(entry) for entry in label_column])
        flat = [label for entry in label_column for label in entry]
        first_row = _last_of_each(pair) if repeats == "last" else np.arange(len(label_column))
        answer_of_row = np.full(len(label_column), -1, np.int64)
        answer_of_row[first_row] = np.arange(first_row.size)
    else:
        row_of_tick, flat = np.arange(len(label_column)), label_column
        first_row, answer_of_row = _merged(pair)
    label_names, label_codes = _intern_labels(flat, row_of_tick, nothing)
    class_of_name, class_names = _classes_of(label_names, classes, {nothing, abstain} - {None}, flat, row_of_tick)
    tick_answer = answer_of_row[row_of_tick]
    silent = np.zeros(first_row.size, bool)
    if abstain is not None and abstain in label_names:
        abstained = tick_answer[label_codes == label_names.index(abstain)]
        silent[abstained[abstained >= 0]] = True
    tick_class = class_of_name[label_codes]
    kept = (tick_answer >= 0) & (tick_class >= 0)
    kept[kept] &= ~silent[tick_answer[kept]]
    renumbered = np.cumsum(~silent) - 1
    return Answers(
        items=item_names,
        workers=[worker_names[w] for w in order],
        classes=class_names,
        item=item[first_row][~silent],
        worker=rank[worker[first_row]][~silent],
        tick_answer=renumbered[tick_answer[kept]],
        tick_class=tick_class[kept],
    )


def _plain(entry: Any) -> Any:
    if isinstance(entry, np.ndarray):
        return entry.tolist()
    return entry.to_list() if hasattr(entry, "to_list") else entry  # a polars list


def _are_collections(column: list[Any]) -> bool:
    kinds = [isinstance(entry, _COLLECTIONS) for entry in column]
    if any(kinds) and not all(kinds):
        row = kinds.index(not kinds[0])
        raise VotesError(
            f"row {row}: labels is {column[row]!r}, but {column[0]!r} at row 0; expected collections in every row "
            "(an empty one where nothing was ticked), or single labels in every row"
        )
    return kinds[0]


def _last_of_each(pair: NDArray[np.int64]) -> NDArray[np.int64]:
    _, from_end = np.unique(pair[::-1], return_index=True)
    return np.sort(pair.size - 1 - from_end)


def _merged(pair: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each worker and item, in order, and which of them each row belongs to."""
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return first[order], rank[inverse].astype(np.int64)


def _intern_labels(
    flat: list[Any], row_of_tick: NDArray[np.int64], nothing: Any
) -> tuple[list[Any], NDArray[np.int64]]:
    """Return distinct labels and codes, -1 for a label that stands for nothing.

    Raises:
        VotesError: a label is missing or cannot be a name.
    """
    said = [i for i, label in enumerate(flat) if label is not nothing]
    codes = np.full(len(flat), -1, np.int64)
    try:
        names, codes[said] = intern([flat[i] for i in said], "label")
    except VotesError:
        for i in said:  # again one by one, for the row in the caller's columns
            try:
                intern([flat[i]], "label")
            except VotesError as error:
                raise VotesError(f"row {row_of_tick[i]}{str(error).removeprefix('row 0')}") from None
        raise
    return names, codes


def _classes_of(
    names: list[Any],
    classes: Sequence[Any] | None,
    no_classes: set[Any],
    flat: list[Any],
    row_of_tick: NDArray[np.int64],
) -> tuple[NDArray[np.int64], list[Any]]:
    """Return the class of each label name, -1 where it is none (and at the end, for "nothing"), and the classes."""
    wanted = [name for name in names if name not in no_classes]
    if classes is None:
        kinds = {type(name).__name__ for name in wanted} - {"int", "float", "bool"}
        if kinds and (len(kinds) > 1 or any(isinstance(name, (int, float)) for name in wanted)):
            raise VotesError(
                f"labels are of mixed types ({some_names(wanted)}); make them one type, or name the classes"
            )
        ordered = [wanted[i] for i in sort_names(wanted)]
    else:
        ordered = list(classes)
    if not ordered:
        raise VotesError("nobody ticked anything, so the classes are not known; name them in classes")
    place = places_of(ordered)
    if len(place) != len(ordered):
        raise VotesError("a name stands twice in the list of class names; expected each once")
    for name in wanted:
        if name not in place:
            row = row_of_tick[next(i for i, label in enumerate(flat) if label == name)]
            raise VotesError(
                f"row {row}: label {name!r} is not among the {len(ordered)} classes ({some_names(ordered)}); "
                "correct the label or add it to classes"
            )
    found = [-1 if name in no_classes else place[name] for name in names]
    return np.array([*found, -1], dtype=np.int64), ordered
