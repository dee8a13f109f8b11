"""The bytes of a saved stream: a header in JSON, then arrays. Knows nothing of votes.

A magic word, a version byte, the header's length (8 bytes) and the header; the arrays one after the other, as
the header lists them; CRC-32 of everything before. All numbers are little-endian.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SnapshotError", "pack", "unpack"]

_MAGIC: Final = b"VOXPOP\x00"
_VERSION: Final = 1
_START: Final = len(_MAGIC) + 1
_LENGTH_BYTES: Final = 8
_CHECKSUM_BYTES: Final = 4
_DTYPES: Final = frozenset({"<u2", "<u4", "<i4", "<i8", "<f8"})


class SnapshotError(ValueError):
    """These bytes are no snapshot that this version can load."""


def pack(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return header and arrays as bytes; equal input gives equal bytes.

    Raises:
        TypeError: the header holds something that JSON cannot.
    """
    little = {name: np.ascontiguousarray(a, a.dtype.newbyteorder("<")) for name, a in arrays.items()}
    listing = [[name, array.dtype.str, list(array.shape)] for name, array in little.items()]
    head = json.dumps(header | {"arrays": listing}, separators=(",", ":")).encode()
    parts = [_MAGIC, bytes([_VERSION]), len(head).to_bytes(_LENGTH_BYTES, "little"), head]
    body = b"".join([*parts, *(array.tobytes() for array in little.values())])
    return body + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little")


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what ``pack`` was given; the arrays are read-only.

    Raises:
        SnapshotError: not a snapshot, of another version, or damaged.
    """
    if data[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError(f"not a saved stream: the bytes begin with {data[: len(_MAGIC)]!r}")
    if len(data) < _START + _LENGTH_BYTES + _CHECKSUM_BYTES:
        raise SnapshotError(f"the saved stream is cut off after {len(data)} bytes")
    if data[_START - 1] != _VERSION:
        raise SnapshotError(f"the saved stream has version {data[_START - 1]}; this program reads {_VERSION}")
    end = len(data) - _CHECKSUM_BYTES
    if zlib.crc32(memoryview(data)[:end]) != int.from_bytes(data[end:], "little"):
        raise SnapshotError("the saved stream is damaged: its checksum is wrong; load an earlier one")
    at = _START + _LENGTH_BYTES
    length = int.from_bytes(data[_START:at], "little")
    try:
        header: dict[str, Any] = json.loads(data[at : at + length])
        at += length
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype, shape in header.pop("arrays"):
            if dtype not in _DTYPES:
                raise SnapshotError(f"array {name!r} of the saved stream has type {dtype!r}")
            count = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(data, dtype, count, at).reshape(shape)
            at += count * np.dtype(dtype).itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"the saved stream's header cannot be read: {error}") from error
    return header, arrays
