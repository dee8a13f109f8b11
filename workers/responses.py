"""Everything that people said about an item, together, once it has ended: out of the archive, in constant memory.

The answers of items that are open wait packed; how worker responses look in files is the business of
``voxpop.formats.responses``. Answers that came too late are in the archive, not here.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Any, Final

from voxpop.broker.events import Claimed, Event, Settled, Submitted
from voxpop.formats.augmented import decode_json
from voxpop.formats.model import Annotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["ended_annotations"]

_ANSWER: Final = struct.Struct("<IIqdI")  # worker, attempt, submitted at, seconds, bytes of content


def ended_annotations(events: Iterable[Event], workers: Mapping[int, str], element: str) -> Iterator[list[Annotation]]:
    """Yield the counted answers of each item that has any, when it ends, in order of submission.

    Args:
        events: the whole archive.
        workers: worker ids by index.
        element: the key under which an answer stands in its content, as a page submits it (Ground Truth's manual 1.4).
    """
    waiting: dict[int, bytes] = {}
    claimed_at = array("q", [0])  # by attempt, from 1
    for event in events:
        match event:
            case Claimed():
                claimed_at.append(event.at_ms)
            case Submitted():
                for answer in event.answers:
                    if answer.used:
                        packed = _ANSWER.pack(
                            event.worker, answer.attempt, event.at_ms, answer.seconds, len(answer.content)
                        )
                        waiting[answer.item] = waiting.get(answer.item, b"") + packed + answer.content
            case Settled():
                for item, *_ in event.ends:
                    if item in waiting:
                        yield list(_unpacked(item, waiting.pop(item), claimed_at, workers, element))
            case _:
                pass


def _unpacked(
    item: int, data: bytes, claimed_at: array[int], workers: Mapping[int, str], element: str
) -> Iterator[Annotation]:
    at = 0
    while at < len(data):
        worker, attempt, submitted_at_ms, seconds, size = _ANSWER.unpack_from(data, at)
        at += _ANSWER.size
        content: Any = decode_json(data[at : at + size])
        at += size
        yield Annotation(
            item=item,
            worker=workers.get(worker, f"worker-{worker}"),
            content={element: content},
            accepted_at_ms=claimed_at[attempt],
            submitted_at_ms=submitted_at_ms,
            seconds_spent=seconds or None,
        )
