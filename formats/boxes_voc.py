"""Pascal VOC: an XML file a picture, with ``object``s of a ``name`` and a ``bndbox`` of xmin, ymin, xmax, ymax.

``DIR/annotator/picture.xml``, or ``DIR/annotator/Annotations/picture.xml``. A file without objects says that nothing is
there. An item is called by ``filename``, or after the file if it has none. Width is ``xmax - xmin``, as today's tools
write it; the challenge itself counted whole pixels, both ends included.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Final

from voxpop.formats import storage
from voxpop.formats.box_rows import number_of
from voxpop.formats.boxes_yolo import PICTURES, picture_stem
from voxpop.formats.errors import InvalidUriError
from voxpop.formats.rows import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxpop.consolidation.boxes.table import Boxes
    from voxpop.formats.box_rows import BoxRows

__all__ = ["read_voc", "write_voc"]

ENDS: Final = ("xmin", "ymin", "xmax", "ymax")
# What describes the picture and not what somebody drew.
PICTURE: Final = {"folder", "filename", "path", "source", "owner", "size", "segmented", "object"}


def read_voc(rows: BoxRows, uri: str, below: list[tuple[list[str], str]], worker: str | None) -> None:
    """Read a folder of annotators' folders; of gold, the files stand in the folder itself or in one below it.

    Raises:
        StorageError: a file cannot be read.
    """
    for parts, file in below:
        if parts[-1].lower().endswith(PICTURES):
            continue
        folders = [part for part in parts[:-1] if part != "Annotations"]
        if not parts[-1].endswith(".xml") or len(folders) > 1 or (worker is None and not folders):
            rows.unused(uri, "/".join(parts))
            continue
        _read_file(rows, file, parts[-1][: -len(".xml")], worker or folders[0])


def write_voc(folder: str, boxes: Boxes, image_sizes: Mapping[str, tuple[float, float]] | None = None) -> list[str]:
    """Write a folder an annotator.

    Args:
        folder: where to.
        boxes: the table.
        image_sizes: width and height of items.

    Returns:
        What the format has no place for and was not written: ``["score"]``, or nothing.

    Raises:
        FormatError: a box is turned, or two items have names that differ in their suffix only.
        StorageError: it cannot be written.
    """
    if boxes.angle is not None:
        raise problem(folder, None, "Pascal VOC has no place for boxes that are turned; write CSV or COCO")
    stems = {item: picture_stem(str(item)) for item in boxes.items.tolist()}
    if len(set(stems.values())) < len(stems):
        raise problem(folder, None, "two items have names that differ in their suffix only")
    items = boxes.items[boxes.item_of_answer].tolist()
    for answer, item in enumerate(items):
        if "/" in stems[item]:
            raise InvalidUriError(folder, f"item {item!r} cannot be the name of a file")
        root = ET.Element("annotation")
        ET.SubElement(root, "filename").text = str(item)
        if image_sizes is not None and item in image_sizes:
            size = ET.SubElement(root, "size")
            for name, value in zip(("width", "height"), image_sizes[item], strict=True):
                ET.SubElement(size, name).text = f"{value:.17g}"
        for o in range(boxes.answer_indptr[answer], boxes.answer_indptr[answer + 1]):
            one = ET.SubElement(root, "object")
            ET.SubElement(one, "name").text = str(boxes.classes[boxes.label[o]])
            ends = ET.SubElement(one, "bndbox")
            for name, value in zip(ENDS, boxes.corners[o].tolist(), strict=True):
                ET.SubElement(ends, name).text = repr(value)
        ET.indent(root)
        data = ET.tostring(root, encoding="utf-8") + b"\n"
        worker = str(boxes.workers[boxes.worker[answer]])
        storage.write_atomic(storage.join(folder, worker, stems[item] + ".xml"), data)
    return [] if boxes.score is None else ["score"]


def _read_file(rows: BoxRows, file: str, stem: str, worker: str) -> None:
    data = storage.read_bytes(file)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        rows.refuse(file, "holds a document type or entities, which no annotation needs; remove them")
        return
    try:
        root = ET.fromstring(data)  # noqa: S314 - without entities, nothing grows and nothing is fetched
    except ET.ParseError as error:
        rows.refuse(f"{file} line {error.position[0]}", f"broken XML: {error}")
        return
    if root.tag != "annotation":
        rows.refuse(file, f"expected <annotation>, found <{root.tag[:40]}>")
        return
    item = (root.findtext("filename") or "").strip() or stem
    rows.looked(item, worker)
    size = number_of(root.findtext("size/width")), number_of(root.findtext("size/height"))
    if size[0] and size[1]:
        rows.image_sizes[item] = size[0], size[1]
    for element in root:
        if element.tag not in PICTURE:
            rows.unused(file, element.tag)
    for n, one in enumerate(root.findall("object")):
        place = f"{file} object {n + 1}"
        for element in one:
            if element.tag not in {"name", "bndbox"}:
                rows.unused(file, f"object/{element.tag}")
        ends = [number_of((one.findtext(f"bndbox/{end}") or "").strip()) for end in ENDS]
        wrong = [end for end, value in zip(ENDS, ends, strict=True) if value is None]
        if wrong:
            rows.refuse(place, "is missing or no number", f"bndbox/{wrong[0]}")
            continue
        left, top, right, bottom = (value or 0.0 for value in ends)
        label = (one.findtext("name") or "").strip() or None
        rows.box(place, item, worker, (left, top, right - left, bottom - top), label)
