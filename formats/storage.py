"""One URI scheme for everything that is read and written: local paths, ``file:``, ``s3://``, ``gs://``, ``az://``, ``memory://``.

A URI is taken apart here and nowhere else; the two stores below it (`local_files.py`, `object_store.py`) see paths and
keys. What the bytes mean is the business of the format modules.

==================================  =====================================================================
``birds.manifest``, ``/data/x``     local path, as the system reads it
``file:///data/a%20b``              local path, percent-encoded
``s3://bucket/key``                 S3; endpoint, region and credentials from the usual ``AWS_*`` variables
``gs://bucket/key``                 Google Cloud Storage; ``GOOGLE_*`` variables
``az://container/key``              Azure; ``AZURE_STORAGE_ACCOUNT_NAME``, ``AZURE_STORAGE_ACCOUNT_KEY``, ...
``memory://name/key``               this process only; for tests and simulations
==================================  =====================================================================
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import quote, unquote, urlsplit

from voxpop.formats.errors import InvalidUriError, NotThereError
from voxpop.formats.limits import MAX_LINE_BYTES, MAX_READ_BYTES
from voxpop.formats.local_files import LocalFiles
from voxpop.formats.object_store import SCHEMES, Objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from voxpop.formats.model import Version

__all__ = [
    "Store",
    "Writer",
    "absolute",
    "create",
    "delete",
    "join",
    "list_uris",
    "open_store",
    "open_writer",
    "read_bytes",
    "split_lines",
    "stream_chunks",
    "stream_lines",
    "version",
    "write_atomic",
]

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(file):")


class Writer(Protocol):
    """Bytes on their way to one object. Left without an exception it commits; otherwise nothing happened."""

    def __enter__(self) -> Self:
        """Start writing, invisibly."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or drop everything if there was an exception."""


class Store(Protocol):
    """What a place to keep objects can do; paths are relative to it. Errors: `voxpop.formats.errors`."""

    def version(self, path: str, /) -> Version:
        """Return what identifies the present content."""

    def chunks(self, path: str, pinned: Version | None, /) -> Iterator[bytes]:
        """Yield the content in pieces; of the ``pinned`` version only."""

    def listing(self, path: str, /) -> Iterator[str]:
        """Yield the paths of all objects below a folder or prefix, in an order that is always the same."""

    def put(self, path: str, data: bytes, /) -> None:
        """Write atomically; replaces."""

    def create(self, path: str, data: bytes, /) -> None:
        """Write atomically; refuses to replace."""

    def writer(self, path: str, /) -> Writer:
        """Write something big atomically; replaces."""

    def delete(self, path: str, /) -> None:
        """Remove."""


def open_store(uri: str) -> tuple[Store, str]:
    """Return the store that holds ``uri``, and the path within it.

    Raises:
        InvalidUriError: unknown scheme, no bucket, or a key with an empty, ``.`` or ``..`` segment.
    """
    scheme, bucket, path = _parse(uri)
    return (LocalFiles() if scheme == "file" else Objects(scheme, bucket)), path


def read_bytes(uri: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
    """Return a whole object of at most ``max_bytes``.

    Raises:
        StorageError: it is not there, cannot be read, or is larger.
    """
    pieces = []
    size = 0
    for chunk in stream_chunks(uri):
        size += len(chunk)
        if size > max_bytes:
            raise InvalidUriError(uri, f"is larger than the {max_bytes:,} bytes that are read whole")
        pieces.append(chunk)
    return b"".join(pieces)


def stream_chunks(uri: str, *, pinned: Version | None = None) -> Iterator[bytes]:
    """Yield the content of an object in pieces of a few MiB, in constant memory.

    Raises:
        ChangedError: it is not the ``pinned`` version, or changed while it was read.
        StorageError: it is not there or cannot be read.
    """
    store, path = open_store(uri)
    yield from store.chunks(path, pinned)


def stream_lines(
    uri: str, *, pinned: Version | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, bytes]]:
    """Yield ``(line number from 1, line)`` in constant memory: `split_lines` of `stream_chunks`."""
    return split_lines(stream_chunks(uri, pinned=pinned), max_line_bytes=max_line_bytes)


def split_lines(
    chunks: Iterable[bytes], *, max_line_bytes: int = MAX_LINE_BYTES, keep_ends: bool = False
) -> Iterator[tuple[int, bytes]]:
    r"""Yield ``(line number from 1, line)`` of a stream; ``\n`` and ``\r\n`` end a line and are kept only if asked for.

    Of a line that is longer than ``max_line_bytes`` only the first ``max_line_bytes + 1`` bytes are kept: the reader
    sees that it is too long, and a file without line ends cannot fill the memory.
    """
    number = 0
    rest = b""
    for chunk in chunks:
        lines = chunk.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()[: max_line_bytes + 2]  # one for "\r", one to see that it is too long
        for line in lines:
            number += 1
            if keep_ends:
                yield number, line[: max_line_bytes + 1] + b"\n"
            else:
                yield number, line.removesuffix(b"\r")[: max_line_bytes + 1]
    if rest:
        yield number + 1, (rest if keep_ends else rest.removesuffix(b"\r"))[: max_line_bytes + 1]


def list_uris(prefix: str) -> Iterator[str]:
    """Yield the URIs of all objects below a folder or prefix, in an order that is always the same, never an empty list.

    A prefix ends at a ``/``, written or not: ``s3://b/img`` holds ``s3://b/img/1.jpg`` and not ``s3://b/img2/1.jpg``.

    Raises:
        NotThereError: there is no such folder or bucket, or nothing in it.
        StorageError: something in it cannot be read; nothing is skipped silently.
    """
    scheme, bucket, path = _parse(prefix)
    store, _ = open_store(prefix)
    found = False
    for entry in store.listing(path.rstrip("/") or path):
        found = True
        if scheme != "file":
            yield f"{scheme}://{bucket}/{entry}"
        else:
            yield _file_uri(entry) if SCHEME.match(prefix) else entry
    if not found:
        raise NotThereError(prefix, "holds no files; check the spelling")


def write_atomic(uri: str, data: bytes) -> None:
    """Write a whole object: a crash at any moment leaves the old one or the new one. Folders are made as needed.

    A local file is on the disk, not only in its cache, when this returns.

    Raises:
        StorageError: it could not be written; what was there is untouched.
    """
    store, path = open_store(uri)
    store.put(path, data)


def create(uri: str, data: bytes) -> None:
    """Write a whole object, unless one is there: of several that try at once, exactly one succeeds.

    Raises:
        AlreadyExistsError: it is there already and was not touched.
        StorageError: it could not be written.
    """
    store, path = open_store(uri)
    store.create(path, data)


def delete(uri: str) -> None:
    """Remove an object. Whether one that is not there is an error is up to the store.

    Raises:
        StorageError: it could not be removed.
    """
    store, path = open_store(uri)
    store.delete(path)


def open_writer(uri: str) -> Writer:
    """Return a writer for something big, to be used in a ``with`` statement; commits at its end or not at all.

    Raises:
        StorageError: when it is entered, written to or left; what was there is untouched.
    """
    store, path = open_store(uri)
    return store.writer(path)


def version(uri: str) -> Version:
    """Return what identifies the present content of an object, to pin a later read to it.

    Raises:
        StorageError: it is not there, cannot be read, or is no file (a pipe can be read only once).
    """
    store, path = open_store(uri)
    return store.version(path)


def join(uri: str, *parts: str) -> str:
    """Return the URI of something below ``uri``; a part may itself hold several segments.

    Raises:
        InvalidUriError: a part is absolute or has an empty, ``.`` or ``..`` segment, so the result would not be below.
    """
    segments = [segment for part in parts for segment in part.split("/")]
    for segment in segments:
        if segment in {"", ".", ".."} or "\0" in segment:
            raise InvalidUriError(uri, f"{'/'.join(parts)!r} does not stay below it; use plain relative names")
    scheme, _, _ = _parse(uri)
    if scheme == "file" and SCHEME.match(uri):
        segments = [quote(segment) for segment in segments]
    return "/".join([uri.rstrip("/") if uri.strip("/") else uri[:1].rstrip("/"), *segments])


def absolute(uri: str) -> str:
    """Return a URI that means the same from every folder: a local path becomes ``file:///...``."""
    scheme, _, path = _parse(uri)
    return _file_uri(str(Path(path).absolute())) if scheme == "file" else uri


def _parse(uri: str) -> tuple[str, str, str]:
    """Take a URI apart into scheme, bucket and path; a local path is given back as it is."""
    match = SCHEME.match(uri)
    if match is None:
        if not uri or "\0" in uri:
            raise InvalidUriError(repr(uri), "a path or URI is expected")
        return "file", "", uri
    scheme = (match[1] or match[2]).lower()
    if scheme == "file":
        parsed = urlsplit(uri)
        if parsed.netloc not in {"", "localhost"} or not parsed.path.startswith("/"):
            raise InvalidUriError(uri, "a file URI has three slashes: file:///folder/name")
        return "file", "", unquote(parsed.path)
    if scheme not in SCHEMES:
        known = ", ".join(["file", *SCHEMES])
        raise InvalidUriError(uri, f"unknown scheme {scheme!r}; known are local paths and {known}")
    bucket, _, key = uri[match.end() :].partition("/")
    if not bucket:
        raise InvalidUriError(uri, f"no bucket; expected {scheme}://bucket/key")
    if any(segment in {"", ".", ".."} for segment in key.rstrip("/").split("/")) and key:
        raise InvalidUriError(uri, "a key may not have an empty, '.' or '..' segment")
    return scheme, bucket, key


def _file_uri(path: str) -> str:
    return "file://" + quote(path)
