"""The event log's schema: what happened in a shard, in order, one event a call.

Scripts write these as MessagePack arrays whose first element names the kind; everything that happens later (archive,
checker, replay, consolidation, metrics, worker models, forecasts) reads them through ``decode``. Fields are only ever
added at the end, so that an older archive stays readable.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Appended",
    "Claimed",
    "Closed",
    "Declined",
    "Event",
    "Expired",
    "Extended",
    "Labeled",
    "NamedTicket",
    "Released",
    "Renewed",
    "Sealed",
    "Settled",
    "Stopped",
    "Submitted",
    "SubmittedAnswer",
    "Ticket",
    "decode",
    "decode_many",
    "unpack_items",
]


class _Event(msgspec.Struct, frozen=True, array_like=True):
    """Every event: its number in the shard (from 1, without gaps) and the shard's time."""

    seq: int
    at_ms: int


class NamedTicket(msgspec.Struct, frozen=True, array_like=True):
    """A ticket that only ``worker`` may use."""

    item: int
    worker: int


class Appended(_Event, frozen=True, array_like=True, tag=1):
    """Items ``first`` to ``first + count - 1`` exist, each with the job's replication and the named tickets listed."""

    first: int
    count: int
    named: bytes  # packed pairs (item, worker), see unpack_pairs
    segment: str  # where their payloads lie


class Claimed(_Event, frozen=True, array_like=True, tag=2):
    """``worker`` took ``items`` under one claim, until ``deadline_ms`` unless renewed."""

    worker: int
    attempt: int
    deadline_ms: int
    items: bytes  # packed u32, see unpack_items


class SubmittedAnswer(msgspec.Struct, frozen=True, array_like=True):
    """One answer of a submit."""

    item: int
    attempt: int
    used: bool  # False: came too late, visible and payable but not counted
    full: bool  # True: with it, every granted ticket of the item is answered
    seconds: float
    content: bytes  # JSON


class Submitted(_Event, frozen=True, array_like=True, tag=3):
    """``worker`` submitted answers; repeats of an accepted one are not logged."""

    worker: int
    answers: list[SubmittedAnswer]


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """A ticket that left its holder."""

    item: int
    worker: int
    attempt: int


class Renewed(_Event, frozen=True, array_like=True, tag=4):
    """The leases of these claims now end at ``deadline_ms``."""

    worker: int
    deadline_ms: int
    tickets: list[Ticket]


class Released(_Event, frozen=True, array_like=True, tag=5):
    """The worker gave the tickets back."""

    tickets: list[Ticket]


class Declined(_Event, frozen=True, array_like=True, tag=6):
    """The worker passed the items on and will never see them again."""

    tickets: list[Ticket]


class Expired(_Event, frozen=True, array_like=True, tag=7):
    """The leases ended without an answer."""

    tickets: list[Ticket]


class Closed(_Event, frozen=True, array_like=True, tag=8):
    """These items give out no more tickets and none is out: the policy decides with what there is.

    They were declined too often, or by some and answered by everybody else of the pool, or name nobody.
    """

    items: bytes


class Extended(_Event, frozen=True, array_like=True, tag=9):
    """More tickets were granted: ``tickets`` open ones to each of ``items``, or named ones."""

    items: bytes
    tickets: int
    named: bytes


class Settled(_Event, frozen=True, array_like=True, tag=10):
    """The item ended (1 labeled, 2 failed, 3 unlabeled) and its record was freed."""

    ends: list[tuple[int, int, int, str, bytes]]  # item, end, version, reason, label (JSON)


class Labeled(_Event, frozen=True, array_like=True, tag=11):
    """A new version of the labels of items that had ended."""

    labels: list[tuple[int, int, int, str, bytes]]  # as in Settled


class Sealed(_Event, frozen=True, array_like=True, tag=12):
    """The input is complete: nothing more will be appended."""


class Stopped(_Event, frozen=True, array_like=True, tag=13):
    """No new work is given out. ``revoked``: leases that were held ended at once."""

    revoked: bool


Event = (
    Appended
    | Claimed
    | Submitted
    | Renewed
    | Released
    | Declined
    | Expired
    | Closed
    | Extended
    | Settled
    | Labeled
    | Sealed
    | Stopped
)

_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def decode(data: bytes) -> Event:
    """Return the event that a script wrote; raises msgspec.DecodeError or ValidationError for anything else."""
    return _decoder.decode(data)


def decode_many(frames: Iterable[bytes]) -> list[Event]:
    """Return the events of several frames."""
    return [_decoder.decode(frame) for frame in frames]


def unpack_items(data: bytes) -> tuple[int, ...]:
    """Return the items of a packed list (u32, little endian)."""
    return struct.unpack(f"<{len(data) // 4}I", data)


def unpack_pairs(data: bytes) -> list[tuple[int, int]]:
    """Return packed (item, worker) pairs."""
    flat = struct.unpack(f"<{len(data) // 4}I", data)
    return list(zip(flat[::2], flat[1::2], strict=True))
