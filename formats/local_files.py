"""Local files as a store: reads that notice a change, writes that survive a crash whole or not at all.

Written against the system, not through obstore: its local store neither syncs to disk nor reports a full disk by type,
loops for ever on a folder that cannot be made, and hides files whose names end in ``#1`` (docs/storage.md).
Paths only; what a URI looks like is the business of `storage.py`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from voxpop.formats.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ChangedError,
    InvalidUriError,
    NotThereError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from voxpop.formats.model import Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["LocalFiles", "system_errors"]

CHUNK_BYTES = 1024 * 1024
PART_SUFFIX = ".voxpop-part"  # an unfinished write; never listed, swept by the next writer of the same file
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalFiles:
    """The file system of this machine. A path is what the system calls a path."""

    def version(self, path: str) -> Version:
        """Return what identifies the present content of a regular file."""
        with system_errors(path):
            return _version(path, Path(path).stat())

    def chunks(self, path: str, pinned: Version | None) -> Iterator[bytes]:
        """Yield the content in pieces of at most 1 MiB.

        Raises:
            ChangedError: the file is not ``pinned``, or was changed while it was read.
        """
        with system_errors(path), Path(path).open("rb", buffering=0) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            if pinned is not None and _version(path, os.fstat(file.fileno())) != pinned:
                raise ChangedError(path, "changed since it was checked; check it again, then start again")
            before = os.fstat(file.fileno())
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            after = os.fstat(file.fileno())
            if regular and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
                raise ChangedError(path, "changed while it was read; let its writer finish, then start again")

    def listing(self, path: str) -> Iterator[str]:
        """Yield every file below a folder, folder by folder in the order of their names; links are followed.

        Raises:
            StorageError: a folder cannot be read, links go in a circle or nowhere, or a name is not UTF-8: nothing is
                skipped silently.
        """
        with system_errors(path):
            yield from _walk(Path(path), frozenset())

    def put(self, path: str, data: bytes) -> None:
        """Write a whole file atomically and durably; what was there is replaced."""
        with _LocalWriter(path, replace=True) as out:
            out.write(data)

    def create(self, path: str, data: bytes) -> None:
        """Write a whole file atomically and durably, unless the name is taken.

        Raises:
            AlreadyExistsError: the name is taken; what stands there was not touched.
        """
        with _LocalWriter(path, replace=False) as out:
            out.write(data)

    def writer(self, path: str) -> _LocalWriter:
        """Return a writer that puts the file there when it is left without an exception.

        What killed writers of the same file left beside it is removed first.
        """
        with system_errors(path):
            _sweep(path)
        return _LocalWriter(path, replace=True)

    def delete(self, path: str) -> None:
        """Remove a file.

        Raises:
            NotThereError: there is none.
        """
        with system_errors(path):
            Path(path).unlink()


class _LocalWriter:
    """A hidden file beside the target, locked while its writer lives, synced, then renamed (or linked) into place."""

    def __init__(self, path: str, *, replace: bool) -> None:
        self._path = path
        self._replace = replace
        self._target = Path(path)
        self._part = self._target.parent / f".{self._target.name}.{secrets.token_hex(6)}{PART_SUFFIX}"
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        with system_errors(self._path):
            try:
                self._part.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:  # what is there is no folder
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._path) from None
            if self._target.is_dir() or self._path.endswith("/"):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
            self._file = _open_locked(self._part)
        return self

    def write(self, data: bytes) -> None:
        """Take the next bytes; they become visible only with the whole file."""
        with system_errors(self._path):
            self._file.write(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with system_errors(self._path):
                    self._commit()
        finally:
            with contextlib.suppress(OSError):  # closing flushes; on a full disk that fails once more
                self._file.close()
            with contextlib.suppress(OSError):
                self._part.unlink()

    def _commit(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._replace:
            self._part.replace(self._target)
        else:
            self._target.hardlink_to(self._part)  # unlike a rename, refuses to replace
        folder = os.open(self._part.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _open_locked(part: Path) -> IO[bytes]:
    while True:
        file = part.open("xb", buffering=CHUNK_BYTES)
        with contextlib.suppress(OSError):  # no locks on this file system: then nothing is swept either
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # swept between its opening and its locking


def _sweep(path: str) -> None:
    """Remove the parts of ``path`` whose writers are dead: a living writer holds a lock."""
    target = Path(path)
    if not target.parent.is_dir():
        return
    for entry in target.parent.iterdir():
        if entry.name.startswith(f".{target.name}.") and entry.name.endswith(PART_SUFFIX):
            with contextlib.suppress(OSError), entry.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                entry.unlink()


def _version(path: str, found: os.stat_result) -> Version:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidUriError(path, "is a pipe or a device, which can be read only once; copy it to a file first")
    return Version(size_bytes=found.st_size, tag=f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}")


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    here = folder.stat()
    if (here.st_dev, here.st_ino) in above:
        raise StorageError(str(folder), "is a link to a folder above itself; remove the link")
    above |= {(here.st_dev, here.st_ino)}
    for path in sorted(folder.iterdir()):
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise StorageError(repr(str(path)), "the file name is not UTF-8; rename the file") from None
        if path.name.startswith(".") and path.name.endswith(PART_SUFFIX):
            continue
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise StorageError(str(path), "is a link to nothing; remove it, or point it to a file") from None
        if stat.S_ISDIR(mode):
            yield from _walk(path, above)
        elif stat.S_ISREG(mode):
            yield str(path)
        else:
            raise StorageError(str(path), "is neither a file nor a folder; move it elsewhere")


@contextlib.contextmanager
def system_errors(path: str) -> Iterator[None]:
    """Turn what the system says into what a user can act on."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise NotThereError(path, "no such file or folder; check the spelling") from error
    except PermissionError as error:
        raise AccessDeniedError(path, "permission denied; check owner and mode of the file and its folder") from error
    except FileExistsError as error:
        raise AlreadyExistsError(path, "is there already, and was not touched") from error
    except IsADirectoryError as error:
        raise InvalidUriError(path, "is a folder; a file is expected") from error
    except NotADirectoryError as error:
        raise InvalidUriError(path, "a file stands where a folder is expected") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in FULL:
            message = f"cannot be written ({reason}); free some space or raise the quota, then run the same again: "
            raise StorageFullError(path, message + "what stood there before is untouched") from error
        if error.errno in {errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}:
            raise InvalidUriError(path, reason.lower()) from error
        raise UnavailableError(path, f"{reason.lower()} (errno {error.errno})") from error
    except ValueError as error:  # a NUL in the path
        raise InvalidUriError(repr(path), str(error)) from error
