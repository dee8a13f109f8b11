"""Objects of S3, Google Cloud Storage, Azure and memory as a store, through obstore.

An object is read in ranges under the entity tag of its first look: a slow reader holds no connection open, and a change
in between is an error instead of a mixture. Keys only; what a URI looks like is the business of `storage.py`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import obstore
from obstore.exceptions import AlreadyExistsError as TakenError
from obstore.exceptions import (
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from voxpop.formats.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ChangedError,
    NotThereError,
    UnavailableError,
)
from voxpop.formats.model import Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from obstore.store import ClientConfig, RetryConfig

    _AnyStore = AzureStore | GCSStore | MemoryStore | S3Store

__all__ = ["SCHEMES", "Objects"]

READ_BYTES = 8 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024
SETTINGS = {"s3": ("AWS_",), "gs": ("GOOGLE_",), "az": ("AZURE_",), "memory": ()}
SCHEMES = tuple(SETTINGS)
RETRY: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
NO_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true for a public bucket)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Objects:
    """One bucket (S3, GCS), container (Azure) or named memory."""

    def __init__(self, scheme: str, bucket: str) -> None:
        self._root = f"{scheme}://{bucket}"
        names = sorted(name for name in os.environ if name.startswith(SETTINGS[scheme]))
        with _errors(self._root):
            self._store = _connect(scheme, bucket, tuple((name, os.environ[name]) for name in names))

    def version(self, key: str) -> Version:
        """Return what identifies the present content of an object."""
        with _errors(self._uri(key)):
            found = obstore.head(self._store, key)
        return Version(size_bytes=found["size"], tag=found["e_tag"] or found["last_modified"].isoformat())

    def chunks(self, key: str, pinned: Version | None) -> Iterator[bytes]:
        """Yield the content in pieces of at most 8 MiB.

        Raises:
            ChangedError: the object is not ``pinned``, or was replaced while it was read.
        """
        version = self.version(key)
        if pinned is not None and version != pinned:
            raise ChangedError(self._uri(key), "changed since it was checked; check it again, then start again")
        for start in range(0, version.size_bytes, READ_BYTES):
            end = min(start + READ_BYTES, version.size_bytes)
            with _errors(self._uri(key)):
                found = obstore.get(self._store, key, options={"range": (start, end), "if_match": version.tag})
                chunk = found.bytes().to_bytes()
            yield chunk

    def listing(self, key: str) -> Iterator[str]:
        """Yield the keys of all objects below a prefix that ends at a ``/``, in the order of the service."""
        with _errors(self._uri(key)):
            for found in obstore.list(self._store, prefix=key or None, chunk_size=1000):
                for entry in found:
                    yield entry["path"]

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object atomically; what was there is replaced."""
        with _errors(self._uri(key)):
            obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes) -> None:
        """Write a whole object atomically, unless the key is taken (``If-None-Match: *``).

        Raises:
            AlreadyExistsError: the key is taken; what stands there was not touched.
        """
        with _errors(self._uri(key)):
            obstore.put(self._store, key, data, mode="create", use_multipart=False)

    def writer(self, key: str) -> _ObjectWriter:
        """Return a writer that puts the object there when it is left without an exception."""
        return _ObjectWriter(self._store, key, self._uri(key))

    def delete(self, key: str) -> None:
        """Remove an object; services say nothing if there is none."""
        with _errors(self._uri(key)):
            obstore.delete(self._store, key)

    def _uri(self, key: str) -> str:
        return f"{self._root}/{key}"


class _ObjectWriter:
    """A multipart upload, completed at the end or aborted; an object below 8 MiB is one put."""

    def __init__(self, store: _AnyStore, key: str, uri: str) -> None:
        self._store = store
        self._key = key
        self._uri = uri
        self._upload: Any

    def __enter__(self) -> Self:
        with _errors(self._uri):
            self._upload = obstore.open_writer(self._store, self._key, buffer_size=PART_BYTES)
            self._upload.__enter__()
        return self

    def write(self, data: bytes) -> None:
        """Take the next bytes; they become visible only with the whole object."""
        with _errors(self._uri):
            self._upload.write(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _errors(self._uri):
            self._upload.__exit__(kind, error, trace)


@functools.lru_cache(maxsize=64)  # a store keeps its connections; one memory is the same memory for everybody
def _connect(scheme: str, bucket: str, settings: tuple[tuple[str, str], ...]) -> _AnyStore:
    # Whoever names an http:// endpoint has decided on http; obstore wants it said twice.
    plain = any("ENDPOINT" in name and value.startswith("http://") for name, value in settings)
    client: ClientConfig = {"connect_timeout": "5s", "timeout": "60s", "allow_http": plain}
    if scheme == "s3":
        return S3Store(bucket, client_options=client, retry_config=RETRY)
    if scheme == "gs":
        return GCSStore(bucket, client_options=client, retry_config=RETRY)
    if scheme == "az":
        return AzureStore(bucket, client_options=client, retry_config=RETRY)
    return MemoryStore()


@contextlib.contextmanager
def _errors(uri: str) -> Iterator[None]:
    """Turn what the service says into what a user can act on."""
    try:
        yield
    except FileNotFoundError as error:
        raise _not_there(uri, str(error)) from error
    except TakenError as error:
        raise AlreadyExistsError(uri, "is there already, and was not touched") from error
    except (PreconditionError, NotModifiedError) as error:
        raise ChangedError(uri, "changed while it was read; let its writer finish, then start again") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise AccessDeniedError(uri, f"access denied; check the credentials: {_credentials(uri)}") from error
    except BaseError as error:
        text = str(error)
        if "NoSuchBucket" in text:
            raise _not_there(uri, text) from error
        if "169.254.169.254" in text or "Account must be specified" in text:
            raise AccessDeniedError(uri, f"no credentials found: {_credentials(uri)}") from error
        raise UnavailableError(uri, f"{text.splitlines()[0]}; check the endpoint, then try again") from error


def _not_there(uri: str, text: str) -> NotThereError:
    if "NoSuchBucket" in text:
        return NotThereError("/".join(uri.split("/")[:3]), "no such bucket; create it, or check the spelling")
    return NotThereError(uri, "no such object, or no such bucket; check the spelling")


def _credentials(uri: str) -> str:
    return NO_CREDENTIALS.get(uri.partition("://")[0], "")
