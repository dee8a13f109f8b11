"""What is known besides the votes: gold labels, weights, and what workers did before. Names in, coded arrays out.

What it means for a label is each method's own affair, within the rules that ``Votes`` states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxpop.consolidation.votes.columns import Column, VotesError, intern, read_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["NO_GOLD", "gold_codes", "history_counts", "places_of", "some_names", "weights_of"]

NO_GOLD: Final = -1


def gold_codes(
    gold: Mapping[Any, Any] | Column, labels: Column | None, items: NDArray[Any], classes: NDArray[Any]
) -> NDArray[np.int32]:
    """Return the place of each item's gold label, ``NO_GOLD`` where there is none, int32, shape (n_items,).

    Raises:
        VotesError: a gold label is not among the classes, an item has two, or no gold item has any votes.
    """
    known = _gold_mapping(gold, labels)
    place = places_of(classes.tolist())
    codes = np.full(items.size, NO_GOLD, np.int32)
    names = items.tolist()
    for i, name in enumerate(names):
        if name in known:
            label = known[name]
            if label not in place:
                raise VotesError(
                    f"gold label {label!r} of item {name!r} is not among the classes "
                    f"({some_names(list(place))}); correct it, or name it in classes"
                )
            codes[i] = place[label]
    if known and (codes == NO_GOLD).all():
        first = next(iter(known))
        raise VotesError(
            f"none of the {len(known)} gold items has votes; the first gold item is {first!r} "
            f"({type(first).__name__}), the first item with votes {names[0]!r} ({type(names[0]).__name__})"
        )
    return codes


def weights_of(weights: Mapping[Any, float], names: NDArray[Any], kind: str) -> NDArray[np.float64]:
    """Return the weight of each name, 1 where none is given, shape of ``names``.

    Raises:
        VotesError: a weight is no number of 0 or more, or none of the names given has votes.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise VotesError(f"the weight of {kind} {name!r} is {weight!r}; expected a number, 0 or more")
    found = np.array([weights.get(name, 1.0) for name in names.tolist()], np.float64)
    _check_known(weights, names, kind, "weights")
    return found


def history_counts(history: Mapping[Any, Any], workers: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return how often each worker called class k (middle axis) l (last axis) before, shape (n_workers, K, K).

    Raises:
        VotesError: an entry is neither a K x K matrix of counts nor a pair (right, wrong), or no worker has votes.
    """
    K = classes.size
    counts = np.zeros((workers.size, K, K))
    row = {name: w for w, name in enumerate(workers.tolist())}
    for name, given in history.items():
        matrix = np.asarray(given, dtype=np.float64)
        if matrix.shape not in {(K, K), (2,)} or not (np.isfinite(matrix) & (matrix >= 0)).all():
            raise VotesError(
                f"the history of worker {name!r} is {given!r}; expected {K} x {K} counts, true class by answer, "
                "or the pair (right, wrong)"
            )
        if name in row:
            counts[row[name]] = matrix if matrix.ndim == 2 else _spread(matrix, K)
    _check_known(history, workers, "worker", "history")
    return counts


def places_of(names: list[Any]) -> dict[Any, int]:
    """Return where each name stands.

    Raises:
        VotesError: something cannot be a name.
    """
    try:
        return {name: i for i, name in enumerate(names)}
    except TypeError:
        raise VotesError(f"classes are {names!r}; expected text or numbers") from None


def some_names(names: Sequence[Any]) -> str:
    """Return the first few names for a message."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (", ..." if len(names) > 8 else "")


def _spread(right_and_wrong: NDArray[np.float64], n_classes: int) -> NDArray[np.float64]:
    """Return counts of a worker of whom only right and wrong answers were counted: spread evenly."""
    K = n_classes
    right, wrong = right_and_wrong
    counts = np.full((K, K), wrong / (K * max(K - 1, 1)))
    np.fill_diagonal(counts, right / K)
    return counts


def _check_known(given: Mapping[Any, Any], names: NDArray[Any], kind: str, what: str) -> None:
    known = names.tolist()
    if given and not any(name in given for name in known):
        first = next(iter(given))
        raise VotesError(
            f"none of the {len(given)} {kind}s with {what} has votes; the first is {first!r} "
            f"({type(first).__name__}), the first {kind} with votes {known[0]!r} ({type(known[0]).__name__})"
        )


def _gold_mapping(gold: Mapping[Any, Any] | Column, labels: Column | None) -> dict[Any, Any]:
    if isinstance(gold, Mapping):
        return dict(gold)
    if labels is None:
        raise VotesError("gold is neither a mapping from item to label nor two columns, items and labels")
    item_column, label_column = read_column(gold, "gold items"), read_column(labels, "gold labels")
    if len(item_column) != len(label_column):
        raise VotesError(
            f"gold items and labels have {len(item_column)} and {len(label_column)} entries; expected as many"
        )
    item_names, item_codes = intern(item_column, "gold item")
    label_names, label_codes = intern(label_column, "gold label")
    known: dict[Any, Any] = {}
    for row, (item, label) in enumerate(zip(item_codes.tolist(), label_codes.tolist(), strict=True)):
        name, value = item_names[item], label_names[label]
        if known.setdefault(name, value) != value:
            raise VotesError(f"row {row}: gold item {name!r} is {value!r} here and {known[name]!r} before")
    return known
