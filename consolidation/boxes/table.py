"""The table of boxes that workers drew, checked and as coded arrays. Nothing here decides anything."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from voxpop.consolidation.objects.stream import StreamedObjects
from voxpop.consolidation.objects.table import ObjectsError, ObjectTable
from voxpop.consolidation.votes.columns import VotesError, read_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.columns import Column

__all__ = ["Boxes", "BoxesError"]

_SIDES = ("left", "top", "width", "height")
_SMALLEST, _LARGEST = 1e-12, 1e12  # beyond, products of sizes lose their digits
_SLACK = 1e-6  # of the image's size: left + width may round to just beyond it


class BoxesError(ObjectsError):
    """A box cannot be used: the message names its row, what was found and what to do."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Boxes(StreamedObjects):
    """Boxes that several workers drew in many items. Build it with ``from_columns``.

    Attributes:
        geometry: left, top, width and height of each box, in pixels or any other unit, y pointing down, float64, shape
            (n_objects, 4). Of a rotated box: as it is before it is turned about its centre.
        angle: by how much each box is turned about its centre, degrees clockwise as seen on the screen, float64, shape
            (n_objects,); None if no box is.
        score: how sure its worker (often a model) is of each box, above 0 and at most 1, float64, shape (n_objects,);
            None if nobody said. Only the methods made for models look at it.
    """

    geometry: NDArray[np.float64]
    angle: NDArray[np.float64] | None = None
    score: NDArray[np.float64] | None = None

    @classmethod
    def from_columns(  # type: ignore[override] # a shape has columns of its own
        cls,
        items: Column,
        workers: Column,
        left: Column,
        top: Column,
        width: Column,
        height: Column,
        labels: Column | None = None,
        *,
        angle: Column | None = None,
        score: Column | None = None,
        classes: Sequence[Any] | None = None,
        image_sizes: Mapping[Any, tuple[float, float]] | None = None,
    ) -> Self:
        """Read columns with one entry a box: lists, or numpy, pandas, polars or Arrow columns.

        A row in which left, top, width and height are all missing (None or NaN) says that its worker looked at its
        item and found nothing.

        Args:
            items: the name of each box's item; text or numbers.
            workers: the name of each box's worker.
            left: x of its left edge.
            top: y of its top edge.
            width: its width, above 0.
            height: its height, above 0.
            labels: its class; None for no classes.
            angle: by how much it is turned, degrees clockwise; a missing one is 0. None if no box is turned.
            score: how sure its worker is of it, above 0 and at most 1; a missing one is 1.
            classes: all classes in the order wanted; by default those that occur, sorted.
            image_sizes: width and height of items; boxes of items that are named must lie within.

        Raises:
            BoxesError: a box that is partly missing, infinite, without area or negative, or outside its image, or a
                score that is none; the message names the row.
            ObjectsError: as in ``ObjectTable.from_columns``.
        """
        columns = [_numbers(column, name) for name, column in zip(_SIDES, (left, top, width, height), strict=True)]
        if len({column.size for column in columns}) > 1:
            sizes = ", ".join(f"{name} {column.size}" for name, column in zip(_SIDES, columns, strict=True))
            raise BoxesError(f"the columns of the boxes differ in length: {sizes}; expected one entry a row in each")
        rows = np.column_stack(columns)
        present = np.asarray(~np.isnan(rows).all(axis=1))
        _check_sides(rows, present)
        names = read_column(items, "items")
        if len(names) != present.size:
            raise BoxesError(f"items and left have {len(names)} and {present.size} entries; expected one a row in each")
        turned = None if angle is None else _filled_column(angle, "angle", present, 0.0)
        sure = None if score is None else _filled_column(score, "score", present, 1.0)
        if sure is not None:
            _check_scores(sure)
        if image_sizes is not None:
            _check_inside(rows, present, turned, names, image_sizes)
        table, kept = ObjectTable.from_columns(names, workers, labels, present=present, classes=classes)
        coded = {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}
        return cls(
            **coded,
            geometry=rows[kept],
            angle=None if turned is None or not turned[kept].any() else turned[kept],
            score=None if sure is None else sure[kept],
        )

    @functools.cached_property
    def corners(self) -> NDArray[np.float64]:
        """Left, top, right and bottom of each box before it is turned, shape (n_objects, 4)."""
        found = self.geometry.copy()
        found[:, 2:] += found[:, :2]
        return found

    def _filled(self, name: str) -> NDArray[Any]:
        return np.zeros(self.n_objects) if name == "angle" else np.ones(self.n_objects)

    def __repr__(self) -> str:
        return super().__repr__().replace("ObjectTable", "Boxes", 1)


def _numbers(column: Column, name: str) -> NDArray[np.float64]:
    """Return a column as float64, NaN where an entry is missing."""
    if type(column) is np.ndarray and column.ndim == 1 and column.dtype.kind == "f":
        return column.astype(np.float64)
    try:
        values = read_column(column, name)
    except VotesError as error:
        raise BoxesError(str(error)) from None
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    found = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            found[row] = math.nan if value is None else value
        except (TypeError, ValueError, OverflowError):
            try:
                missing = bool(value != value)  # noqa: PLR0124 - NaN of any kind
            except TypeError:  # pandas.NA has no truth value
                missing = True
            if not missing or isinstance(value, str):
                raise BoxesError(f"row {row}: {name} is {value!r}; expected a number") from None
            found[row] = math.nan
        else:
            if isinstance(value, str):  # numpy would take text
                raise BoxesError(f"row {row}: {name} is {value!r}; expected a number")
    return found


def _filled_column(column: Column, name: str, present: NDArray[np.bool_], missing: float) -> NDArray[np.float64]:
    values = _numbers(column, name)
    if values.size != present.size:
        raise BoxesError(f"left and {name} have {present.size} and {values.size} entries; expected one a row in each")
    values[np.isnan(values) | ~present] = missing
    bad = np.flatnonzero(np.isinf(values))
    if bad.size:
        raise BoxesError(f"row {bad[0]}: {name} is {values[bad[0]]}; expected a finite number")
    return values


def _check_sides(rows: NDArray[np.float64], present: NDArray[np.bool_]) -> None:
    wrong = ~(np.abs(rows) <= _LARGEST) | (rows < _SMALLEST) & np.array([False, False, True, True])
    bad = np.argwhere(wrong & present[:, None])
    if not bad.size:
        return
    row, side = int(bad[0, 0]), int(bad[0, 1])
    name, value = _SIDES[side], float(rows[row, side])
    if math.isnan(value):
        raise BoxesError(
            f"row {row}: {name} is missing and others are there; give all of left, top, width and height, or none of "
            "them if the worker found nothing"
        )
    if math.isinf(value):
        raise BoxesError(f"row {row}: {name} is {value}; expected a finite number")
    if abs(value) > _LARGEST:
        raise BoxesError(f"row {row}: {name} is {value:g}; expected at most {_LARGEST:g}, in pixels or any other unit")
    raise BoxesError(f"row {row}: {name} is {value}; expected more than 0: leave out boxes without area")


def _check_scores(score: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~((score > 0) & (score <= 1)))
    if bad.size:
        raise BoxesError(f"row {bad[0]}: score is {score[bad[0]]}; expected above 0 and at most 1")


def _check_inside(
    rows: NDArray[np.float64],
    present: NDArray[np.bool_],
    angle: NDArray[np.float64] | None,
    names: Sequence[Any] | NDArray[Any],
    image_sizes: Mapping[Any, tuple[float, float]],
) -> None:
    half = rows[:, 2:] / 2
    centre = rows[:, :2] + half
    if angle is not None:
        turn = np.radians(angle)
        cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
        half = np.column_stack([half[:, 0] * cos + half[:, 1] * sin, half[:, 0] * sin + half[:, 1] * cos])
    low, high = centre - half, centre + half
    for row in np.flatnonzero(present).tolist():
        size = image_sizes.get(names[row])
        if size is None:
            continue
        slack = _SLACK * max(size)
        if low[row].min() < -slack or high[row, 0] > size[0] + slack or high[row, 1] > size[1] + slack:
            raise BoxesError(
                f"row {row}: the box spans {low[row, 0]:g}..{high[row, 0]:g} by {low[row, 1]:g}..{high[row, 1]:g}, "
                f"outside its image of {size[0]:g} by {size[1]:g}; clip or correct it"
            )
