"""What an operation may ask of Redis, and the ground that all operations stand on.

Operations are generators: they yield a ``Run``, ``Command`` or ``Wait`` and receive its reply. No connection lives
here; ``client.py`` and ``aclient.py`` drive the same generators, so that there is one place for what an operation
means, whichever way it is called.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import msgspec

from voxpop.broker.access import AccessCache
from voxpop.broker.keys import Keys

__all__ = ["Base", "Command", "Run", "Step", "Wait", "pairs_of", "text"]

T = TypeVar("T")
Step = Generator[Any, Any, T]


class Run(msgspec.Struct, frozen=True):
    """Run a script of ``broker/scripts``."""

    script: str
    keys: tuple[str, ...]
    args: tuple[Any, ...]


class Command(msgspec.Struct, frozen=True):
    """Send one Redis command."""

    parts: tuple[Any, ...]


class Wait(msgspec.Struct, frozen=True):
    """Block until the stream has an entry after ``after``, at most ``milliseconds``; the reply is not used."""

    stream: str
    after: str
    milliseconds: int


class Base:
    """What all operations share: the names of keys, and what this client has learned of access."""

    def __init__(self, prefix: str = "vp") -> None:
        self.keys = Keys(prefix)
        self.access = AccessCache()

    def _pool_keys(self, pool: str) -> tuple[str, str]:
        return self.keys.pool(pool), self.keys.members(pool)

    def _wake(self, job: str, wake: int) -> Step[None]:
        if wake:
            yield Command(("XADD", self.keys.wake, "MAXLEN", "~", 10_000, "*", "shard", f"{job}/0"))


def text(value: bytes | str | None) -> str:
    """Return Redis' reply as text."""
    return "" if value is None else value if isinstance(value, str) else value.decode()


def pairs_of(reply: dict[Any, Any] | Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return the fields of a hash, however the protocol version spells them."""
    return list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))
