"""Every way in which the broker says no. Each message names what was found and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxpop.broker.models import Receipt

__all__ = [
    "BrokerError",
    "BusyError",
    "ConfigError",
    "ConflictError",
    "DataDirectoryError",
    "InvalidInputError",
    "NotFoundError",
    "ServerFullError",
    "ServerUnavailableError",
    "StoppedError",
    "UnknownLeaseError",
]


class BrokerError(Exception):
    """Base of all errors of voxpop.broker."""


class InvalidInputError(BrokerError, ValueError):
    """The caller's input is wrong; nothing was changed."""


class ConfigError(InvalidInputError):
    """A setting is wrong: names the setting, where it came from, what was found and what is expected."""


class NotFoundError(BrokerError, LookupError):
    """No such job, pool, workforce or worker, or none that this caller may see. The two look the same on purpose."""


class UnknownLeaseError(NotFoundError):
    """An answer names no lease of its worker. ``receipts`` are those of the other answers, which were handled."""

    def __init__(self, message: str, receipts: Sequence[Receipt]) -> None:
        super().__init__(message)
        self.receipts = tuple(receipts)


class ConflictError(BrokerError):
    """The name is taken by something else, or the state does not allow the change; nothing was changed."""


class BusyError(BrokerError):
    """The shard's event log is full until it is archived; claims wait, submits still go through."""


class StoppedError(BrokerError):
    """The job takes no new work."""


class ServerUnavailableError(BrokerError, ConnectionError):
    """The Redis server cannot be reached: names the URL without its password, and what to try."""


class ServerFullError(BrokerError):
    """The Redis server is out of memory or disk space; the call changed nothing."""


class DataDirectoryError(BrokerError):
    """The data directory cannot be used: in use, of another version, not writable, or full."""
