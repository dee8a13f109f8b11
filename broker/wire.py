"""What scripts take and reply, packed: items, pairs and tokens (little endian), and reply codes."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxpop.broker.models import Token

__all__ = ["Code", "pack_items", "pack_pairs", "pack_tokens", "unpack_items"]

_TOKEN = struct.Struct("<IIIIH")


class Code(IntEnum):
    """The reply to one token or item of a call."""

    UNKNOWN = 0
    DONE = 1  # accepted, given back, renewed, granted, settled
    REPEATED = 2
    EXPIRED = 3
    SETTLED = 4
    CONFLICT = 5
    OVER_MAXIMUM = 6
    HAS_IT = 7
    NOBODY_LEFT = 8  # everybody of the pool has or had the item


def pack_items(items: Sequence[int]) -> bytes:
    """Return items as u32."""
    return struct.pack(f"<{len(items)}I", *items)


def unpack_items(data: bytes) -> tuple[int, ...]:
    """Return the items that ``pack_items``, or a script, packed."""
    return struct.unpack(f"<{len(data) // 4}I", data)


def pack_pairs(pairs: Sequence[tuple[int, int]]) -> bytes:
    """Return pairs of u32."""
    return b"".join(struct.pack("<II", first, second) for first, second in pairs)


def pack_tokens(tokens: Sequence[Token]) -> bytes:
    """Return tokens as scripts take them: without the shard, which names the keys."""
    return b"".join(_TOKEN.pack(*token[1:]) for token in tokens)
