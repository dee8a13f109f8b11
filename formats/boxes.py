"""Boxes that people drew, and merged ones: CSV and JSON Lines here; COCO, YOLO and Pascal VOC in files of their own.

Which format it is, is known by the name. A file ``.json`` is COCO; any other file is CSV or JSON Lines with the
columns ``item``, ``worker``, ``left``, ``top``, ``width``, ``height`` and, if wanted, ``label``, ``score``, ``angle``;
a row whose four numbers are empty says that its worker found nothing. A folder holds COCO files, one an annotator, or
a folder of YOLO or VOC files for each annotator.
"""

from __future__ import annotations

import gzip
import math
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from voxpop.formats import storage
from voxpop.formats.answers import write_columns
from voxpop.formats.augmented import encode_json
from voxpop.formats.box_rows import SIDES, BoxRows, ReadBoxes, is_empty, number_of
from voxpop.formats.boxes_coco import read_coco, write_coco
from voxpop.formats.boxes_voc import read_voc
from voxpop.formats.boxes_yolo import read_yolo
from voxpop.formats.errors import StorageError
from voxpop.formats.rows import is_jsonl, problem, read_csv, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from voxpop.consolidation.boxes.result import BoxesResult
    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["GOLD", "read_boxes", "read_gold_boxes", "write_boxes", "write_merged"]

GOLD: Final = "gold"  # the worker of gold boxes
KNOWN: Final = frozenset({"item", "worker", *SIDES, "label", "score", "angle"})


def read_boxes(uri: str) -> ReadBoxes:
    """Return everything that people drew.

    Args:
        uri: a file or a folder, as above; files may be gzipped.

    Raises:
        FormatError: something in it cannot be used; each problem with its line or field.
        StorageError: it cannot be read.
    """
    return _read(uri, None)


def read_gold_boxes(uri: str) -> ReadBoxes:
    """Return gold boxes: the same formats without a worker; of the worker ``GOLD``.

    Raises:
        FormatError, StorageError: as for ``read_boxes``.
    """
    return _read(uri, GOLD)


def write_boxes(uri: str, boxes: Boxes, image_sizes: Mapping[str, tuple[float, float]] | None = None) -> None:
    """Write everything that people drew as CSV, as JSON Lines, or as COCO (``.json``), by the name; ``.gz`` is gzipped.

    Args:
        uri: where to.
        boxes: the table.
        image_sizes: width and height of items, which only COCO has a place for.

    Raises:
        StorageError: it cannot be written; what was there is untouched.
    """
    if _is_coco(uri):
        write_coco(uri, boxes, image_sizes or {})
        return
    rows = [_row(boxes, answer, o) for answer, o in _lines(boxes)]
    if is_jsonl(uri):
        data = b"".join(encode_json({k: v for k, v in row.items() if v != ""}) + b"\n" for row in rows)
        storage.write_atomic(uri, gzip.compress(data, mtime=0) if uri.lower().endswith(".gz") else data)
    else:
        write_columns(uri, {name: [row[name] for row in rows] for name in rows[0]} if rows else {})


def write_merged(uri: str, result: BoxesResult, image_sizes: Mapping[str, tuple[float, float]] | None = None) -> None:
    """Write merged boxes: columns item, [label,] left, top, width, height, [angle,] confidence, n_workers; or COCO.

    In COCO, the confidence stands in ``score``, as detectors write it. Items in which nothing was found have no row;
    COCO lists them among the images.

    Raises:
        StorageError: it cannot be written; what was there is untouched.
    """
    if _is_coco(uri):
        from voxpop.consolidation.boxes.table import Boxes  # noqa: PLC0415 - brings the compiler

        merged = Boxes(
            items=result.items,
            workers=result.workers[:0],
            classes=result.classes,
            item_indptr=_counting(result.items.size),
            worker=_counting(result.items.size)[:-1] * 0,
            answer_indptr=result.indptr,
            label=result.label_codes,
            geometry=result.boxes,
            angle=result.angle,
            score=result.confidence,
        )
        write_coco(uri, merged, image_sizes or {}, annotators=False)
        return
    write_columns(uri, {name: column.tolist() for name, column in result.to_columns().items()})


def _read(uri: str, worker: str | None) -> ReadBoxes:
    rows = BoxRows()
    if _is_coco(uri):
        read_coco(rows, uri, worker)
        return rows.finish(uri)
    if uri.rsplit("/", 1)[-1].count(".") == 0:
        try:
            below = _below(uri)
        except StorageError:
            below = []  # no folder: a table without a suffix, or nothing at all, which reading it will say
        if below:
            _read_folder(rows, uri, below, worker)
            return rows.finish(uri)
    if is_jsonl(uri):
        for number, row in read_jsonl(uri):
            _name_unused(rows, uri, row)
            _take_row(rows, f"{uri} line {number}", row, worker)
        return rows.finish(uri)
    lines = read_csv(uri)
    number, columns = next(lines)
    needed = [*(["item", "worker"] if worker is None else ["item"]), *SIDES]
    missing = [name for name in needed if name not in columns]
    if missing:
        message = f"no column {', '.join(missing)}; expected {', '.join(needed)}, found {', '.join(columns)}"
        raise problem(uri, number, message)
    _name_unused(rows, uri, columns)
    for number, cells in lines:
        _take_row(rows, f"{uri} line {number}", dict(zip(columns, cells, strict=True)), worker)
    return rows.finish(uri)


def _read_folder(rows: BoxRows, uri: str, below: list[tuple[list[str], str]], worker: str | None) -> None:
    """Read a folder by the files in it: one format only."""
    suffixes = {parts[-1].rsplit(".", 1)[-1].lower() for parts, _ in below}
    kinds = [kind for kind in ("json", "xml", "txt") if kind in suffixes]
    if len(kinds) != 1:
        found = ", ".join(sorted(suffixes))
        raise problem(uri, None, f"expected COCO (.json), VOC (.xml) or YOLO (.txt) files; found {found}")
    if kinds == ["json"]:
        for parts, file in below:
            if len(parts) == 1 and parts[0].lower().endswith(".json"):
                read_coco(rows, file, worker, one_annotator=parts[0][: -len(".json")])
            else:
                rows.unused(uri, "/".join(parts))
    elif kinds == ["xml"]:
        read_voc(rows, uri, below, worker)
    else:
        read_yolo(rows, uri, below, worker)


def _name_unused(rows: BoxRows, uri: str, fields: Iterable[str]) -> None:
    for name in fields:
        if name not in KNOWN:
            rows.unused(uri, name)


def _take_row(rows: BoxRows, place: str, row: Mapping[str, Any], worker: str | None) -> None:
    item, name = _name(rows, place, row, "item"), worker or _name(rows, place, row, "worker")
    if item is None or name is None:
        return
    given = {side: row[side] for side in SIDES if not is_empty(row.get(side))}
    if not given:
        rows.nothing(place, item, name)
        return
    numbers = {key: number_of(row[key]) for key in (*SIDES, "score", "angle") if not is_empty(row.get(key))}
    for side in SIDES:
        if side not in given:
            rows.refuse(place, "is missing; give all of left, top, width and height, or none if nothing is there", side)
            return
    for key, value in numbers.items():
        if value is None or math.isnan(value):
            rows.refuse(place, f"is {str(row[key])[:40]!r}; expected a number", key)
            return
    label = row.get("label")
    if label is not None and (isinstance(label, (bool, float, dict, list)) or label == ""):
        rows.refuse(place, "is empty" if label == "" else "must be text or a whole number", "label")
        return
    rows.box(
        place,
        item,
        name,
        [numbers[side] or 0.0 for side in SIDES],
        None if label is None else str(label),
        angle=numbers.get("angle"),
        score=numbers.get("score"),
    )


def _name(rows: BoxRows, place: str, row: Mapping[str, Any], field: str) -> str | None:
    value = row.get(field)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    rows.refuse(place, "is missing or empty" if is_empty(value) else "must be text or a whole number", field)
    return None


def _is_coco(uri: str) -> bool:
    return uri.lower().removesuffix(".gz").endswith(".json")


def _below(uri: str) -> list[tuple[list[str], str]]:
    """Return the files below a folder: the segments of their names from there on, and their URIs."""
    root = storage.absolute(uri).rstrip("/")
    return [([unquote(part) for part in file[len(root) + 1 :].split("/")], file) for file in storage.list_uris(root)]


def _lines(boxes: Boxes) -> Iterator[tuple[int, int | None]]:
    """Yield each answer with each of its boxes; once with None if it has none."""
    bounds = boxes.answer_indptr.tolist()
    for answer in range(boxes.n_answers):
        if bounds[answer] == bounds[answer + 1]:
            yield answer, None
        for o in range(bounds[answer], bounds[answer + 1]):
            yield answer, o


def _row(boxes: Boxes, answer: int, o: int | None) -> dict[str, Any]:
    """Return one row, empty text where there is nothing."""
    item = int(boxes.item_of_answer[answer])
    row: dict[str, Any] = {"item": _plain(boxes.items[item]), "worker": _plain(boxes.workers[boxes.worker[answer]])}
    row |= {side: "" if o is None else float(boxes.geometry[o, i]) for i, side in enumerate(SIDES)}
    if boxes.classes.tolist() != [""]:
        row["label"] = "" if o is None else _plain(boxes.classes[boxes.label[o]])
    for name, column in (("score", boxes.score), ("angle", boxes.angle)):
        if column is not None:
            row[name] = "" if o is None else float(column[o])
    return row


def _plain(name: Any) -> str:
    return str(name)


def _counting(n: int) -> Any:
    import numpy as np  # noqa: PLC0415 - with the table above

    return np.arange(n + 1, dtype=np.int64)
