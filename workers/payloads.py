"""What an item is: from its number to the line that was queued, through the segments that ingest wrote.

For those who show items (``voxpop work``, portals), and for consolidation where items offer their own categories.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from voxpop.broker.errors import NotFoundError
from voxpop.formats import storage
from voxpop.formats.manifest import CATEGORIES_FIELD, parse_item

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxpop.broker.models import JobSpec
    from voxpop.formats.model import Item
    from voxpop.workers.services import Services

__all__ = ["SegmentCache", "item_lines", "offered_places", "payload", "queued_items"]

CACHE_BYTES: Final = 32 * 2**20
LISTED_ITEMS: Final = 100_000  # whose segments are asked for in one call


class SegmentCache:
    """The segments read last, up to a number of bytes. Segments never change. Safe to share between threads."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lines: OrderedDict[str, list[bytes]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def lines(self, uri: str) -> list[bytes]:
        """Return the lines of a segment; raises StorageError if it cannot be read."""
        with self._lock:
            if uri in self._lines:
                self._lines.move_to_end(uri)
                return self._lines[uri]
        data = storage.read_bytes(uri)
        lines = data.split(b"\n")[:-1]
        with self._lock:
            if uri not in self._lines:
                self._lines[uri] = lines
                self._sizes[uri] = len(data)
                self._bytes += len(data)
            while self._bytes > self._max_bytes and len(self._lines) > 1:
                dropped, _ = self._lines.popitem(last=False)
                self._bytes -= self._sizes.pop(dropped)
        return lines


def payload(services: Services, job: str, item: int) -> Item:
    """Return an item as it was queued.

    Raises:
        NotFoundError: the job has no such item.
        StorageError: its segment cannot be read.
    """
    for _, line in item_lines(services, job, [item]):
        return parse_item(line, item, place=f"job {job!r} item {item}")
    raise NotFoundError(f"job {job!r} has no item {item}")


def item_lines(services: Services, job: str, items: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (item, line as it was queued) of some items, which are in ascending order."""
    at = 0
    while at < len(items):
        before = at
        for first, count, where in services.client.segments(
            job, items[at], min(LISTED_ITEMS, items[-1] - items[at] + 1)
        ):
            lines: list[bytes] = []
            while at < len(items) and first <= items[at] < first + count:
                lines = lines or services.segments.lines(services.uri(job, *where.split("/")))
                yield items[at], lines[items[at] - first]
                at += 1
        if at == before:
            return  # no segment holds it


def queued_items(services: Services, job: str, count: int) -> Iterator[Item]:
    """Yield the first ``count`` items of a job in order, in constant memory."""
    for item, line in item_lines(services, job, range(count)):
        yield parse_item(line, item, place=f"job {job!r} item {item}")


def offered_places(services: Services, spec: JobSpec, items: Sequence[int]) -> dict[int, frozenset[int]]:
    """Return, for those items that offer a part of the job's categories only, the places of these among the job's."""
    mark = CATEGORIES_FIELD.encode()
    own = {}
    for item, line in item_lines(services, spec.name, items):
        if mark in line:
            categories = parse_item(line, item, place=f"job {spec.name!r} item {item}").categories
            if categories is not None:
                own[item] = frozenset(spec.categories.index(name) for name in categories if name in spec.categories)
    return own
