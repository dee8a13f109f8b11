"""Every way in which storage says no. Each message names the place, what was found and what to do.

What is wrong *inside* a file is a `FormatError` of `model.py`; here is what is wrong around it.
"""

from __future__ import annotations

__all__ = [
    "AccessDeniedError",
    "AlreadyExistsError",
    "ChangedError",
    "InvalidUriError",
    "NotThereError",
    "StorageError",
    "StorageFullError",
    "UnavailableError",
]


class StorageError(Exception):
    """Base of all errors of storage; ``uri`` is the place it happened at. Nothing was half-written."""

    def __init__(self, uri: str, message: str) -> None:
        self.uri = uri
        super().__init__(f"{uri}: {message}")


class InvalidUriError(StorageError, ValueError):
    """Not a path or URI that can be read or written: unknown scheme, no bucket, or it leaves its root."""


class NotThereError(StorageError, LookupError):
    """No such file, object, prefix or bucket."""


class AccessDeniedError(StorageError):
    """The place is there, but these permissions or credentials do not open it."""


class AlreadyExistsError(StorageError):
    """``create`` found the object there already; it was not touched."""


class ChangedError(StorageError):
    """The object is not the version that was asked for, or changed while it was read."""


class StorageFullError(StorageError):
    """No space, quota or size left; the former content is still there, whole."""


class UnavailableError(StorageError):
    """The storage service cannot be reached, or answered with an error of its own; trying again may help."""
