"""The archive of a job's event log: compressed parts in storage, in a chain without gaps.

A part is named after its first event and holds a run of events; the next part begins where it ends. So the place of the
next part follows from the last event read, nothing is ever listed, and of several processes that archive the same
events one wins and the others read what it wrote. What events mean is the business of ``fold.py`` and ``responses.py``.

``jobs/<job>/<created at>/log/<first event, 12 digits>.log.gz`` is a gzip of frames: length (u32, little endian), then
the event.
"""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING, Final

import msgspec

from voxpop.broker.errors import BrokerError
from voxpop.broker.events import Event, decode
from voxpop.formats import storage
from voxpop.formats.errors import AlreadyExistsError, NotThereError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxpop.workers.services import Services

__all__ = ["ArchiveError", "Part", "drain", "next_part", "read_archive"]

PART_BYTES: Final = 4 * 2**20  # a part is closed when it has that many bytes; one event more may exceed it
READ_EVENTS: Final = 256  # of the log in one call
GZIP_LEVEL: Final = 3  # half of level 9's time and nine tenths of its effect, on these events
_LENGTH: Final = struct.Struct("<I")


class ArchiveError(BrokerError):
    """Archive and server disagree about what happened: names the job and the event. Nothing was written."""


class Part(msgspec.Struct, frozen=True):
    """One part of the archive, with its events decoded."""

    events: list[Event]
    log_bytes: int  # what its events took in the server's log
    in_log: bool  # they may still be there

    @property
    def last(self) -> int:
        """The number of its last event."""
        return self.events[-1].seq


def next_part(services: Services, job: str, after: int) -> Part | None:
    """Return the part that begins after event ``after``, written by somebody or now; None if nothing happened since.

    Args:
        services: the broker and the storage.
        job: the job's name.
        after: the last event of the part before, 0 at the beginning.

    Raises:
        ArchiveError: the server's log goes on behind events that are not archived, or not as the archive says.
        StorageError: the archive cannot be read or written.
    """
    for _ in range(2):  # looked at again, since somebody may archive and trim between two looks
        first = services.client.read_log(job, after=after, count=1)
        if first and first[0][1].seq == after + 1:
            return _write(services, job, after)
        found = _read(services, job, after + 1, in_log=False)
        if found is not None:
            return found
        last = services.client.shard_state(job).seq
        if last == after:
            return None
        if last < after:
            raise ArchiveError(
                f"job {job!r}: the archive at {services.uri(job, 'log')} knows events up to {after}, the server only "
                f"up to {last}; the server was restored to an earlier state; stop the job and start it under another "
                "name"
            )
        upto = first[0][1].seq - 1 if first else last
    raise ArchiveError(
        f"job {job!r}: events {after + 1} to {upto} are neither in the server's log nor in the archive at "
        f"{services.uri(job, 'log')}; restore the archive, or the storage that was used before"
    )


def read_archive(services: Services, job: str, after_seq: int = 0) -> Iterator[Event]:
    """Yield the archived events after ``after_seq`` in order, one part in memory at a time.

    Raises:
        ArchiveError: a part is damaged.
        StorageError: a part cannot be read.
    """
    last = after_seq
    part = _read(services, job, last + 1, in_log=False)
    if part is None:  # after_seq lies inside a part, or nothing was archived after it: walk from the beginning
        last = 0
        part = _read(services, job, 1, in_log=False)
    while part is not None:
        for event in part.events:
            if event.seq > after_seq:
                yield event
        last = part.last
        part = _read(services, job, last + 1, in_log=False)


def drain(services: Services, job: str) -> int:
    """Archive and trim everything that is in the server's log now; returns the number of events.

    The log begins where a part begins, since it is trimmed part by part.
    """
    drained = 0
    while first := services.client.read_log(job, count=1):
        part = _write(services, job, first[0][1].seq - 1)
        services.client.trim_log(job, part.last, part.log_bytes)
        drained += len(part.events)
    return drained


def _uri(services: Services, job: str, first: int) -> str:
    return services.uri(job, "log", f"{first:012}.log.gz")


def _write(services: Services, job: str, after: int) -> Part:
    """Archive what the log holds after an event; if somebody else was quicker, return their part."""
    frames: list[bytes] = []
    events: list[Event] = []
    size = 0
    while size < PART_BYTES and (found := services.client.read_log(job, after=after + len(events), count=READ_EVENTS)):
        for frame, event in found:
            if event.seq != after + 1 + len(events) or size >= PART_BYTES:
                break  # a jump: somebody archived and trimmed what lies between while this was reading
            frames.append(frame)
            events.append(event)
            size += len(frame)
        else:
            continue
        break
    uri = _uri(services, job, after + 1)
    if not events:  # trimmed since the caller looked, so it is archived
        part = _read(services, job, after + 1, in_log=False)
        if part is None:
            raise ArchiveError(f"{uri}: event {after + 1} of job {job!r} left the server's log without being archived")
        return part
    try:
        storage.create(uri, _encode(frames))
    except AlreadyExistsError:
        part = _read(services, job, after + 1, in_log=True)
        assert part is not None
        if part.events[: len(events)] != events[: len(part.events)]:
            raise ArchiveError(
                f"{uri}: the archive has other events than the server from {after + 1} on; the server was restored to "
                f"an earlier state; stop job {job!r} and start it under another name"
            ) from None
        return part
    return Part(events=events, log_bytes=size, in_log=True)


def _read(services: Services, job: str, first: int, *, in_log: bool) -> Part | None:
    uri = _uri(services, job, first)
    try:
        data = storage.read_bytes(uri)
    except NotThereError:
        return None
    try:
        frames = _decode(data)
        events = [decode(frame) for frame in frames]
    except (OSError, EOFError, struct.error, msgspec.DecodeError, ValueError) as error:
        raise ArchiveError(f"{uri}: the part is damaged ({error}); restore it from a backup") from error
    _check_order(uri, first, events)
    return Part(events=events, log_bytes=sum(map(len, frames)), in_log=in_log)


def _check_order(uri: str, first: int, events: Sequence[Event]) -> None:
    for seq, event in enumerate(events, start=first):
        if event.seq != seq:
            raise ArchiveError(f"{uri}: event {event.seq} stands where {seq} is expected; events are missing")
    if not events:
        raise ArchiveError(f"{uri}: the part is empty; restore it from a backup")


def _encode(frames: Sequence[bytes]) -> bytes:
    return gzip.compress(b"".join(_LENGTH.pack(len(frame)) + frame for frame in frames), GZIP_LEVEL, mtime=0)


def _decode(data: bytes) -> list[bytes]:
    raw = gzip.decompress(data)
    frames = []
    at = 0
    while at < len(raw):
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + length > len(raw):
            raise ValueError("its last event is cut off")
        frames.append(raw[at : at + length])
        at += length
    return frames
