"""A label on its way through the broker: ``{"value": ..., "metadata": {...}}`` as JSON, in settlements and results.

Here it is made from a method's result and read again. When an item gets one is decided in ``policy.py``; how it looks
in a file is the business of ``voxpop.formats.augmented``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from voxpop.broker.models import ItemEnd, Settlement
from voxpop.formats.augmented import decode_json, encode_json
from voxpop.formats.model import Label

if TYPE_CHECKING:
    from voxpop.broker.models import JobSpec
    from voxpop.workers.task_types import TaskType

__all__ = ["LabelReader", "LabelWriter", "earlier_label", "read_label"]


class LabelWriter:
    """Writes the labels of one job at one moment.

    Args:
        spec: the job.
        task_type: spells values and metadata.
        created_at_ms: when these labels are made, milliseconds since the epoch.
    """

    def __init__(self, spec: JobSpec, task_type: TaskType, created_at_ms: int) -> None:
        self._spec = spec
        self._task_type = task_type
        self._created_at_ms = created_at_ms

    def labeled(self, item: int, version: int, place: int, confidence: float) -> Settlement:
        """Return the end of an item with the category at ``place``, or a new version of its label."""
        value = self._task_type.value(self._spec, place)
        metadata = self._task_type.metadata(self._spec, place, confidence, self._created_at_ms)
        label = encode_json({"value": value, "metadata": metadata})
        return Settlement(item=item, end=ItemEnd.LABELED, version=version, label=label)

    def failed(self, item: int, reason: str) -> Settlement:
        """Return the end of an item that nobody could label."""
        metadata = self._task_type.failed_metadata(self._spec, self._created_at_ms)
        return Settlement(item=item, end=ItemEnd.FAILED, label=encode_json({"metadata": metadata}), reason=reason)


def earlier_label(item: int, label: Label) -> Settlement:
    """Return the end of an item that came with a label of its own: it keeps that."""
    return Settlement(
        item=item, end=ItemEnd.LABELED, label=encode_json({"value": label.value, "metadata": label.metadata})
    )


class _Wire(msgspec.Struct):
    value: Any = None
    metadata: dict[str, Any] | None = None


def read_label(end: tuple[int, int, int, str, bytes], at_ms: int) -> Label:
    """Return what an entry of a Settled or Labeled event says; items without a label have a reason instead."""
    item, ending, version, reason, data = end
    wire = msgspec.convert(decode_json(data), _Wire) if data else _Wire()
    return Label(
        item=item,
        version=version,
        created_at_ms=at_ms,
        value=wire.value,
        metadata=wire.metadata,
        failure_reason=None if ending == ItemEnd.LABELED.value else reason,
    )


class _Written(msgspec.Struct, frozen=True):
    confidence: float = 0.0


class _WrittenLabel(msgspec.Struct, frozen=True):
    value: msgspec.Raw
    metadata: _Written = _Written()


class LabelReader:
    """Reads back, from the labels of a job, which category was written with which confidence; quick.

    Args:
        spec: the job.
        task_type: spells the values.
    """

    def __init__(self, spec: JobSpec, task_type: TaskType) -> None:
        self._place_of = {encode_json(task_type.value(spec, place)): place for place in range(len(spec.categories))}
        self._decoder = msgspec.json.Decoder(_WrittenLabel)

    def place_and_confidence(self, label: bytes) -> tuple[int, float]:
        """Return the place of the category (-1 if it is none of the job's) and the confidence as it was written."""
        try:
            written = self._decoder.decode(label)
        except msgspec.ValidationError:  # it came with the input, from another kind of job
            return -1, 0.0
        return self._place_of.get(bytes(written.value), -1), written.metadata.confidence
