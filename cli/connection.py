"""How a command finds its settings and the server that it talks to, and how it knows which stack runs here.

``voxpop up`` leaves a note in its data directory while it runs; the other commands read it, so that nobody has to pass
a URL around on one machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final

import msgspec

from voxpop.broker.config import Config
from voxpop.broker.errors import ServerUnavailableError
from voxpop.cli.output import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voxpop.broker import Client
    from voxpop.workers.services import Services

__all__ = ["announced", "connect", "load_config", "locate", "open_services"]

NOTE: Final = "up.json"


class _Note(msgspec.Struct, frozen=True):
    """What ``voxpop up`` says of itself while it runs."""

    pid: int
    environment: dict[str, str]  # its settings with the server's password, so the file is closed to other users


def load_config(redis: str | None = None, data_dir: Path | None = None, config: Path | None = None) -> Config:
    """Return the settings, with what the command line gives on top.

    Raises:
        ConfigError: names the setting, where it came from, what was found and what is expected.
    """
    return Config.load(config, explicit={"redis_url": redis, "data_dir": data_dir})


def locate(settings: Config) -> Config:
    """Return the settings for the server that is meant: the one they name, or the one that runs in the data directory.

    Raises:
        WrongInputError: they name none, and nothing runs here.
    """
    if settings.redis_url:
        return settings
    try:
        note = msgspec.json.decode((settings.data_dir / NOTE).read_bytes(), type=_Note)
    except (OSError, msgspec.DecodeError):
        raise WrongInputError(_nothing_runs(settings)) from None
    return Config.load(environment=note.environment)


def connect(settings: Config) -> Client:
    """Return a client for the server that the settings mean.

    Raises:
        ConfigError: the URL is wrong, or the server is not one that voxpop runs on.
        WrongInputError: nothing runs there.
    """
    from voxpop.broker import Client

    found = locate(settings)
    try:
        return Client.from_url(found.redis_url, prefix=found.key_prefix)
    except ServerUnavailableError as error:
        # An answer that never came is wrong input here: the caller named the place, or the note there is left over.
        raise WrongInputError(str(error) if settings.redis_url else _no_server(settings)) from error


@contextlib.contextmanager
def open_services(settings: Config) -> Iterator[Services]:
    """Give what the functions behind the broker need, for the server that the settings mean.

    What they log that a person has to know goes to stderr; stdout is for the command's result.

    Raises:
        ConfigError, WrongInputError: as ``connect``.
    """
    from voxpop.workers import logs
    from voxpop.workers.services import Services

    found = locate(settings)
    connect(found).close()
    logs.configure(log_format="console", log_level="error")
    with contextlib.closing(Services.from_config(found)) as services:
        yield services


@contextlib.contextmanager
def announced(settings: Config) -> Iterator[None]:
    """Leave a note in the data directory, while the block runs, of which server its commands should talk to."""
    path = settings.data_dir / NOTE
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{NOTE}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(_Note(pid=os.getpid(), environment=settings.environment())))
    temporary.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _no_server(settings: Config) -> str:
    """Say why nothing answers, although ``voxpop up`` left a note."""
    try:
        note = msgspec.json.decode((settings.data_dir / NOTE).read_bytes(), type=_Note)
        os.kill(note.pid, 0)
    except (OSError, msgspec.DecodeError):
        return _nothing_runs(settings)
    free_mib = shutil.disk_usage(settings.data_dir).free / 2**20
    return (
        f"`voxpop up` runs (process {note.pid}), but its server does not answer; it is started again when it can be. "
        f"{settings.data_dir} has {free_mib:,.0f} MiB free: if that is next to nothing, make room there. "
        f"What the server said last is in {settings.data_dir / 'server' / 'server.log'}"
    )


def _nothing_runs(settings: Config) -> str:
    return (
        f"nothing runs here (data directory {settings.data_dir}); start it in another terminal with `voxpop up`, "
        "or pass --redis URL"
    )
