"""COCO: one JSON document of images, categories and annotations with ``bbox`` [left, top, width, height].

COCO knows no annotators. Either an annotation has a field ``annotator``, or there is one file an annotator, named after
them. Who looked and found nothing: in a file of one annotator, they looked at every image; else an image may list all
who did in a field ``annotators`` (those who drew something need not be listed). An item is called by the image's
``file_name``, or its ``id`` if it has none. ``attributes.rotation`` is the angle, as CVAT writes it.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from voxpop.formats import storage
from voxpop.formats.augmented import decode_json, encode_json
from voxpop.formats.box_rows import is_empty, number_of
from voxpop.formats.limits import MAX_READ_BYTES
from voxpop.formats.rows import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxpop.consolidation.boxes.table import Boxes
    from voxpop.formats.box_rows import BoxRows

__all__ = ["read_coco", "write_coco"]

# Area follows from the box, ids from the order; what else an annotation may hold is named as not used.
KNOWN: Final = {"id", "image_id", "category_id", "bbox", "area", "annotator", "score", "iscrowd", "attributes"}


def read_coco(rows: BoxRows, uri: str, worker: str | None, *, one_annotator: str | None = None) -> None:
    """Read one file.

    Args:
        rows: takes the boxes.
        uri: the file.
        worker: the worker of all boxes, whatever the file says; None to read it.
        one_annotator: the annotator of boxes that do not say theirs; None if each has to.

    Raises:
        FormatError: the file is no COCO document.
        StorageError: it cannot be read.
    """
    document = _document(uri)
    default = worker or one_annotator
    items = _items(rows, uri, document, default)
    categories: dict[str, str] = {}
    for n, category in enumerate(document.get("categories", [])):
        if not (isinstance(category, dict) and isinstance(category.get("name"), str) and "id" in category):
            rows.refuse(uri, "expected an object with id and name", f"categories[{n}]")
        else:
            categories[_key(category["id"])] = category["name"]
    for n, annotation in enumerate(document["annotations"]):
        place = f"{uri} annotations[{n}]"
        if not isinstance(annotation, dict):
            rows.refuse(place, "an object is expected")
            continue
        for field in annotation:
            if field not in KNOWN and annotation[field] not in (None, "", [], {}):
                rows.unused(uri, f"annotations.{field}")
        item = items.get(_key(annotation.get("image_id")))
        if item is None:
            rows.refuse(place, f"no image has the id {annotation.get('image_id')!r}", "image_id")
            continue
        name = worker or annotation.get("annotator", one_annotator)
        if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
            message = "is missing; name who drew it, or give a folder with one file an annotator"
            rows.refuse(place, message if is_empty(name) else "must be text or a whole number", "annotator")
            continue
        _take(rows, place, annotation, item, str(name), categories)


def write_coco(
    uri: str, boxes: Boxes, image_sizes: Mapping[str, tuple[float, float]], *, annotators: bool = True
) -> None:
    """Write a table as one document, with a field ``annotator`` in annotations and ``annotators`` in images.

    Args:
        uri: where to; gzipped if it ends in ``.gz``.
        boxes: the table.
        image_sizes: width and height of items.
        annotators: whether to say who drew what.

    Raises:
        StorageError: it cannot be written; what was there is untouched.
    """
    images: list[dict[str, Any]] = []
    for i, item in enumerate(boxes.items.tolist()):
        image: dict[str, Any] = {"id": i + 1, "file_name": str(item)}
        if item in image_sizes:
            image |= dict(zip(("width", "height"), image_sizes[item], strict=True))
        if annotators:
            mine = slice(boxes.item_indptr[i], boxes.item_indptr[i + 1])
            image["annotators"] = [str(name) for name in boxes.workers[boxes.worker[mine]].tolist()]
        images.append(image)
    named = boxes.classes.tolist() != [""]
    item_of = boxes.item_of_answer[boxes.answer_of_object].tolist()
    annotations = []
    for o, sides in enumerate(boxes.geometry.tolist()):
        one: dict[str, Any] = {"id": o + 1, "image_id": item_of[o] + 1}
        if named:
            one["category_id"] = int(boxes.label[o]) + 1
        one |= {"bbox": sides, "area": sides[2] * sides[3], "iscrowd": 0}
        if annotators:
            one["annotator"] = str(boxes.workers[boxes.worker_of_object[o]])
        if boxes.score is not None:
            one["score"] = float(boxes.score[o])
        if boxes.angle is not None:
            one["attributes"] = {"rotation": float(boxes.angle[o])}
        annotations.append(one)
    categories = [{"id": k + 1, "name": str(name)} for k, name in enumerate(boxes.classes.tolist()) if named]
    data = encode_json({"images": images, "categories": categories, "annotations": annotations})
    storage.write_atomic(uri, gzip.compress(data, mtime=0) if uri.lower().endswith(".gz") else data)


def _document(uri: str) -> dict[str, Any]:
    data = storage.read_bytes(uri)
    if uri.lower().endswith(".gz"):
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            data = inflater.decompress(data, MAX_READ_BYTES)
        except zlib.error as error:
            raise problem(uri, None, f"broken gzip data ({error}); is it really gzipped?") from error
        if not inflater.eof:
            raise problem(uri, None, f"the gzip data end too early, or hold more than {MAX_READ_BYTES:,} bytes")
    try:
        document = decode_json(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise problem(uri, None, f"broken JSON: {error}") from error
    if not isinstance(document, dict):
        raise problem(uri, None, "expected a COCO document: an object with images and annotations")
    for field in ("images", "annotations"):
        if not isinstance(document.get(field), list):
            raise problem(uri, None, "expected a list, as in every COCO document", field)
    return document


def _items(rows: BoxRows, uri: str, document: dict[str, Any], looker: str | None) -> dict[str, str]:
    """Return the name of each image by its id, and take down who looked."""
    items: dict[str, str] = {}
    for n, image in enumerate(document["images"]):
        place = f"{uri} images[{n}]"
        if not isinstance(image, dict) or isinstance(image.get("id"), (type(None), bool, float, list, dict)):
            rows.refuse(place, "expected an object with a whole number or text", "id")
            continue
        name = image.get("file_name") or str(image["id"])
        if not isinstance(name, str):
            rows.refuse(place, "must be text", "file_name")
            continue
        if items.setdefault(_key(image["id"]), name) != name:
            rows.refuse(place, f"two images have the id {image['id']!r}", "id")
        size = number_of(image.get("width")), number_of(image.get("height"))
        if size[0] and size[1]:
            rows.image_sizes[name] = size[0], size[1]
        lookers = [looker] if looker else image.get("annotators", [])
        if not (isinstance(lookers, list) and all(isinstance(one, (str, int)) for one in lookers)):
            rows.refuse(place, "expected a list of names", "annotators")
            continue
        for one in lookers:
            rows.looked(name, str(one))
    return items


def _take(
    rows: BoxRows, place: str, annotation: dict[str, Any], item: str, worker: str, categories: dict[str, str]
) -> None:
    if annotation.get("iscrowd"):
        rows.leave_out(place, "marks a crowd, not an object", "iscrowd")
        rows.looked(item, worker)
        return
    given = annotation.get("bbox")
    sides = [None if isinstance(side, str) else number_of(side) for side in given] if isinstance(given, list) else []
    if len(sides) != 4 or None in sides:
        rows.refuse(place, f"is {str(given)[:60]}; expected left, top, width and height", "bbox")
        return
    label = None
    if "category_id" in annotation:
        label = categories.get(_key(annotation["category_id"]))
        if label is None:
            rows.refuse(place, f"no category has the id {annotation['category_id']!r}", "category_id")
            return
    attributes = annotation.get("attributes") or {}
    angle = number_of(attributes.get("rotation")) if isinstance(attributes, dict) else None
    score = annotation.get("score")
    if score is not None and number_of(score) is None:
        rows.refuse(place, f"is {str(score)[:40]!r}; expected a number", "score")
        return
    rows.box(place, item, worker, [side or 0.0 for side in sides], label, angle=angle, score=number_of(score))


def _key(identifier: Any) -> str:
    """Ids may be numbers in one place and text in the other."""
    return str(identifier)
