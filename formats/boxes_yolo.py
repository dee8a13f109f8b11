"""YOLO: a text file a picture, a line a box: class, centre x and y, width and height in shares of the picture, [score].

``DIR/annotator/picture.txt``, or ``DIR/annotator/labels/picture.txt``. An empty file says that nothing is there. Class
names stand one a line in ``classes.txt`` (or ``obj.names``) in the annotator's folder or in ``DIR``; without one, a
class is called by its number. Boxes stay in shares of the picture: pictures need not be there, and no intersection
over union depends on the unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voxpop.formats import storage
from voxpop.formats.box_rows import number_of
from voxpop.formats.errors import InvalidUriError
from voxpop.formats.rows import problem, read_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxpop.consolidation.boxes.table import Boxes
    from voxpop.formats.box_rows import BoxRows

__all__ = ["read_yolo", "write_yolo"]

NAMES: Final = {"classes.txt", "obj.names"}
PICTURES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_yolo(rows: BoxRows, uri: str, below: list[tuple[list[str], str]], worker: str | None) -> None:
    """Read a folder of annotators' folders; of gold, the files stand in the folder itself or in one below it.

    Raises:
        FormatError: a file is not UTF-8 text.
        StorageError: it cannot be read.
    """
    names = {tuple(parts[:-1]): _class_names(file) for parts, file in below if parts[-1] in NAMES}
    for parts, file in below:
        if parts[-1] in NAMES or parts[-1].lower().endswith(PICTURES):
            continue
        folders = [part for part in parts[:-1] if part != "labels"]
        if not parts[-1].endswith(".txt") or len(folders) > 1 or (worker is None and not folders):
            rows.unused(uri, "/".join(parts))
            continue
        classes = names.get(tuple(parts[:-1]), names.get(tuple(folders), names.get(())))
        _read_file(rows, file, parts[-1][: -len(".txt")], worker or folders[0], classes)


def write_yolo(folder: str, boxes: Boxes, image_sizes: Mapping[str, tuple[float, float]] | None = None) -> list[str]:
    """Write a folder an annotator, with ``classes.txt`` beside them.

    Args:
        folder: where to.
        boxes: the table.
        image_sizes: width and height of each item; None if the boxes are in shares of the picture already.

    Returns:
        What the format has no place for and was not written: nothing, so far.

    Raises:
        FormatError: a box is turned, an item has no size, or two items have names that differ in their suffix only.
        StorageError: it cannot be written.
    """
    if boxes.angle is not None:
        raise problem(folder, None, "YOLO has no place for boxes that are turned; write CSV or COCO")
    stems = {item: picture_stem(str(item)) for item in boxes.items.tolist()}
    if len(set(stems.values())) < len(stems):
        raise problem(folder, None, "two items have names that differ in their suffix only; YOLO has no suffixes")
    for item, stem in stems.items():
        if image_sizes is not None and item not in image_sizes:
            raise problem(folder, None, f"the size of item {item!r} is not known, and YOLO needs it")
        if "/" in stem:
            raise InvalidUriError(folder, f"item {item!r} cannot be the name of a file")
    items = boxes.items[boxes.item_of_answer].tolist()
    for answer, item in enumerate(items):
        width, height = (1.0, 1.0) if image_sizes is None else image_sizes[item]
        lines = []
        for o in range(boxes.answer_indptr[answer], boxes.answer_indptr[answer + 1]):
            left, top, w, h = boxes.geometry[o].tolist()
            cells = [(left + w / 2) / width, (top + h / 2) / height, w / width, h / height]
            cells += [] if boxes.score is None else [float(boxes.score[o])]
            lines.append(" ".join([str(int(boxes.label[o])), *map(repr, cells)]) + "\n")
        worker = str(boxes.workers[boxes.worker[answer]])
        storage.write_atomic(storage.join(folder, worker, stems[item] + ".txt"), "".join(lines).encode())
    names = "".join(f"{name}\n" for name in boxes.classes.tolist() if name != "")
    if names:
        storage.write_atomic(storage.join(folder, "classes.txt"), names.encode())
    return []


def picture_stem(item: str) -> str:
    """Return an item's name without the suffix of a picture."""
    for suffix in PICTURES:
        if item.lower().endswith(suffix) and len(item) > len(suffix):
            return item[: -len(suffix)]
    return item


def _class_names(file: str) -> list[str]:
    lines = [line.strip() for _, line in read_lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _read_file(rows: BoxRows, file: str, item: str, worker: str, classes: list[str] | None) -> None:
    rows.looked(item, worker)
    for number, line in read_lines(file):
        cells = line.split()
        if not cells:
            continue
        place = f"{file} line {number}"
        values = [number_of(cell) for cell in cells[1:]]
        if len(cells) not in {5, 6} or any(value is None for value in values):
            rows.refuse(
                place,
                f"found {line.strip()[:60]!r}; expected class, centre x, centre y, width, height and maybe a score",
            )
            continue
        if not cells[0].isascii() or not cells[0].isdigit():
            rows.refuse(place, f"is {cells[0][:40]!r}; expected a whole number", "class")
            continue
        code = int(cells[0])
        if classes is not None and code >= len(classes):
            rows.refuse(place, f"is {code}; there are {len(classes)} class names, from 0", "class")
            continue
        x, y, w, h = (value or 0.0 for value in values[:4])
        if max(x, y, w, h) > 1 or min(x, y) < 0:
            rows.refuse(place, f"{line.strip()[:60]!r} is not in shares of the picture, from 0 to 1")
            continue
        label = str(code) if classes is None else classes[code]
        score = values[4] if len(values) > 4 else None
        rows.box(place, item, worker, (x - w / 2, y - h / 2, w, h), label, score=score)
