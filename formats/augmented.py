"""Augmented manifests: one input object plus the label pair ``<attribute>`` and ``<attribute>-metadata``, one a line.

Field names, key order and number forms are those of files that Ground Truth wrote (docs/formats.md). The
order of the lines is the business of `merge.py`; which label an item gets is nobody's here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

import msgspec

from voxpop.formats.limits import MAX_LABEL_ATTRIBUTE_CHARS
from voxpop.formats.model import FormatError, Item, Label, Problem

__all__ = [
    "check_label_attribute",
    "decode_json",
    "encode_json",
    "exact_number",
    "failed_metadata",
    "output_line",
    "read_label",
    "single_label_metadata",
]

SingleLabelType = Literal["image-classification", "text-classification"]

ATTRIBUTE_PATTERN = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9])*")
METADATA_SUFFIX = "-metadata"
FAILURE_REASON = "failure-reason"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def exact_number(text: str) -> float | Decimal:
    """Return a number that prints with the value it was read with: a float if it can hold it, else a Decimal."""
    value = float(text)
    if len(text) < 16 and "e" not in text and "E" not in text:
        return value  # at most 15 digits always survive
    exact = Decimal(text)
    return value if Decimal(repr(value)) == exact else exact


_decoder = msgspec.json.Decoder(float_hook=exact_number)
_encoder = msgspec.json.Encoder(decimal_format="number")


def decode_json(data: bytes) -> Any:
    """Return the JSON value of ``data``; no number loses a digit (those that a float cannot hold become Decimals).

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is not JSON.
    """
    return _decoder.decode(data)


def encode_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8, keys in their order: the exact inverse of `decode_json`."""
    return _encoder.encode(value)


def check_label_attribute(name: str, *, reference: bool = False) -> str:
    """Return ``name`` if it can name a label attribute, by the rules of Ground Truth.

    Args:
        name: the name to be.
        reference: the label will be a URI (segmentation, video): such a name must end in ``-ref``, others must not.

    Raises:
        FormatError: the name says what is wrong.
    """
    if len(name) > MAX_LABEL_ATTRIBUTE_CHARS or not ATTRIBUTE_PATTERN.fullmatch(name):
        message = f"must be 1 to {MAX_LABEL_ATTRIBUTE_CHARS} letters, digits and inner hyphens"
    elif name in {"source", "source-ref"}:
        message = "is the name of the input; choose another"
    elif name.endswith(METADATA_SUFFIX):
        message = f"may not end in {METADATA_SUFFIX!r}: that is the name of the second half of each label pair"
    elif reference and not name.endswith("-ref"):
        message = "must end in '-ref', because these labels are files"
    elif name.endswith("-ref") and not reference:
        message = "may not end in '-ref': that is for labels that are files"
    else:
        return name
    raise FormatError([Problem(place=f"label attribute {name!r}", message=message)])


def output_line(item: Item, label: Label | None, attribute: str) -> bytes:
    """Return the line of the output manifest for ``item``, without its line end.

    The input object comes first, untouched; a pair of the same attribute from an earlier job is replaced. Without a
    label the line is the input object alone. An item that failed has no ``<attribute>``, only the metadata, which then
    start with ``failure-reason`` (our extension, docs/formats.md).
    """
    if label is None:
        return encode_json(item.fields)
    fields = dict(item.fields)
    fields.pop(attribute, None)
    fields.pop(attribute + METADATA_SUFFIX, None)
    metadata = label.metadata or {}
    if label.failure_reason is not None:
        metadata = {FAILURE_REASON: label.failure_reason, **metadata}
    else:
        fields[attribute] = label.value
    fields[attribute + METADATA_SUFFIX] = metadata
    return encode_json(fields)


def single_label_metadata(
    label_type: SingleLabelType,
    *,
    confidence: float,
    job_name: str,
    class_name: str,
    created_at_ms: int,
    human_annotated: bool = True,
) -> dict[str, Any]:
    """Return the metadata of an image or text single-label item, in the order of real files.

    Args:
        label_type: ``image-classification`` or ``text-classification``.
        confidence: probability of the class, 0 to 1, written as it is given; 0 if one worker answered.
        job_name: as the user spells it; written as ``labeling-job/<lower case>``.
        class_name: the category that the label, a class index, stands for.
        created_at_ms: when the answers were consolidated, milliseconds since the epoch.
        human_annotated: False if a model chose the label.
    """
    return {
        "confidence": confidence,
        "job-name": f"labeling-job/{job_name.lower()}",
        "class-name": class_name,
        "human-annotated": "yes" if human_annotated else "no",
        "creation-date": _creation_date(created_at_ms),
        "type": f"groundtruth/{label_type}",
    }


def failed_metadata(label_type: str, *, job_name: str, created_at_ms: int) -> dict[str, Any]:
    """Return the metadata of an item that ended without a label; `output_line` puts the reason before them."""
    return {
        "job-name": f"labeling-job/{job_name.lower()}",
        "human-annotated": "yes",
        "creation-date": _creation_date(created_at_ms),
        "type": f"groundtruth/{label_type}",
    }


def read_label(item: Item, attribute: str) -> Label | None:
    """Return what an output manifest says of ``item`` under ``attribute``; None if it says nothing.

    The label has version 1; ``created_at_ms`` is 0 if there is no readable ``creation-date``.

    Raises:
        FormatError: the metadata are not an object.
    """
    metadata = item.fields.get(attribute + METADATA_SUFFIX)
    if metadata is not None and not isinstance(metadata, dict):
        message = f"must be an object, found {encode_json(metadata).decode()[:40]}"
        place = f"item {item.index}"
        raise FormatError([Problem(place=place, field=attribute + METADATA_SUFFIX, message=message)])
    found = dict(metadata or {})
    reason = found.pop(FAILURE_REASON, None)
    if attribute not in item.fields and reason is None:
        return None
    return Label(
        item=item.index,
        version=1,
        created_at_ms=_milliseconds(found.get("creation-date")),
        value=item.fields.get(attribute),
        metadata=found,
        failure_reason=None if attribute in item.fields else str(reason),
    )


@lru_cache(maxsize=1024)  # labels are settled many at a time
def _creation_date(at_ms: int) -> str:
    """UTC with microseconds and no zone, as the built-in task types of Ground Truth write it."""
    return (EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _milliseconds(text: object) -> int:
    """Read any of the spellings that real files have: no zone, ``Z`` or ``+0000``; micro-, milliseconds or none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return 0
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return (found - EPOCH) // timedelta(milliseconds=1)
