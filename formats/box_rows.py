"""Boxes on their way from a file to a table: what every format of boxes hands over, and what is wrong with it.

A box without area is no box: it is left out and named, and its worker has looked all the same. Everything else that
cannot be a box refuses the input, each problem with its line and field. What files look like is the business of
`boxes.py`, `boxes_coco.py`, `boxes_yolo.py` and `boxes_voc.py`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Final

from voxpop.formats.limits import MAX_REPORTED_PROBLEMS
from voxpop.formats.model import FormatError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["SIDES", "BoxRows", "ReadBoxes", "is_empty", "number_of"]

SIDES: Final = ("left", "top", "width", "height")
_NOTHING: Final = (math.nan, math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class ReadBoxes:
    """Boxes of a file or folder.

    Attributes:
        boxes: the table that consolidation works on.
        image_sizes: width and height of the items whose size the file says.
        left_out: what the table does not hold: boxes without area, and fields that have no place in it.
    """

    boxes: Boxes
    image_sizes: dict[str, tuple[float, float]]
    left_out: list[Problem]


class BoxRows:
    """Collects boxes and problems; ``finish`` makes the table or refuses."""

    def __init__(self) -> None:
        self.image_sizes: dict[str, tuple[float, float]] = {}
        self._rows: list[tuple[str, str, Sequence[float], str | None, float, float]] = []
        self._looked: dict[tuple[str, str], str] = {}  # item and worker: where it says that nothing is there
        self._drawn: dict[tuple[str, str], str] = {}  # item and worker: where the first box is
        self._labeled: dict[bool, str] = {}  # with and without a class: where the first box is
        self._left_out: list[Problem] = []
        self._unused: dict[tuple[str, str], int] = {}
        self._problems: list[Problem] = []
        self._n_problems = 0
        self._with_scores = False

    def refuse(self, place: str, message: str, field: str | None = None) -> None:
        """Note something wrong; the input is refused at the end."""
        self._n_problems += 1
        if len(self._problems) < MAX_REPORTED_PROBLEMS:
            self._problems.append(Problem(place=place, message=message, field=field))

    def unused(self, file: str, field: str) -> None:
        """Note that a field of a file has no place in the table."""
        self._unused[file, field] = self._unused.get((file, field), 0) + 1

    def leave_out(self, place: str, message: str, field: str | None = None) -> None:
        """Note a box that is not used."""
        self._left_out.append(Problem(place=place, message=message, field=field))

    def nothing(self, place: str, item: str, worker: str) -> None:
        """Take down that a worker looked and found nothing."""
        self._looked.setdefault((item, worker), place)
        self.looked(item, worker)

    def looked(self, item: str, worker: str) -> None:
        """Take down that a worker looked; they may have found something."""
        self._rows.append((item, worker, _NOTHING, None, 0.0, 1.0))

    def box(
        self,
        place: str,
        item: str,
        worker: str,
        sides: Sequence[float],
        label: str | None,
        *,
        angle: float | None = None,
        score: float | None = None,
    ) -> None:
        """Take down a box: left, top, width and height."""
        for name, value in zip(SIDES, sides, strict=True):
            if not math.isfinite(value):
                self.refuse(place, f"is {value}; expected a finite number", name)
                return
        if sides[2] < 0 or sides[3] < 0:
            self.refuse(place, f"is {min(sides[2:]):g}; expected more than 0", SIDES[2 if sides[2] < 0 else 3])
        elif score is not None and not 0 < score <= 1:
            self.refuse(place, f"is {score:g}; expected above 0 and at most 1", "score")
        elif sides[2] == 0 or sides[3] == 0:
            self.leave_out(place, f"a box of {sides[2]:g} by {sides[3]:g} has no area")
            self.looked(item, worker)
        else:
            self._with_scores = self._with_scores or score is not None
            self._drawn.setdefault((item, worker), place)
            self._labeled.setdefault(label is not None, place)
            self._rows.append((item, worker, sides, label, angle or 0.0, 1.0 if score is None else score))

    def finish(self, uri: str) -> ReadBoxes:
        """Return everything as a table.

        Raises:
            FormatError: something was wrong, or nothing was there.
        """
        # This loads the compiler, which other formats need not.
        from voxpop.consolidation.boxes.table import Boxes  # noqa: PLC0415
        from voxpop.consolidation.errors import ConsolidationError  # noqa: PLC0415

        for pair, place in self._looked.items():
            if pair in self._drawn:
                self.refuse(
                    place,
                    f"worker {pair[1]!r} found nothing in item {pair[0]!r} here, and drew a box in it at "
                    f"{self._drawn[pair]}; leave out one of the two",
                )
        if len(self._labeled) > 1:
            self.refuse(self._labeled[False], "is missing, and other boxes have one; give all boxes a class", "label")
        if self._problems:
            raise FormatError(self._problems, self._n_problems)
        rows = [row for row in self._rows if row[2] is not _NOTHING or row[:2] not in self._drawn]
        rank = {item: i for i, item in enumerate(dict.fromkeys(row[0] for row in self._rows))}
        rows.sort(key=lambda row: rank[row[0]])  # items in the order in which the file names them
        if not rows:
            raise FormatError([Problem(place=uri, message="holds no boxes, and nobody who looked for any")])
        left, top, width, height = (list(column) for column in zip(*(row[2] for row in rows), strict=True))
        try:
            boxes = Boxes.from_columns(
                [row[0] for row in rows],
                [row[1] for row in rows],
                left,
                top,
                width,
                height,
                [row[3] for row in rows] if self._labeled.get(True) else None,
                angle=[row[4] for row in rows],
                score=[row[5] for row in rows] if self._with_scores else None,
            )
        except ConsolidationError as error:
            raise FormatError([Problem(place=uri, message=str(error))]) from None
        named = [
            Problem(place=file, message=f"is not used ({count:,} times)", field=field)
            for (file, field), count in self._unused.items()
        ]
        return ReadBoxes(boxes, self.image_sizes, self._left_out + named)


def is_empty(value: Any) -> bool:
    """Whether a cell or JSON value says nothing."""
    return value is None or (isinstance(value, str) and not value)


def number_of(value: Any) -> float | None:
    """Return a cell or JSON value as a number; None if it is none."""
    if isinstance(value, str):
        if "_" in value:  # which Python takes for a separator of thousands
            return None
        try:
            return float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
