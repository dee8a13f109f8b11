"""When the server refuses or goes away: what may be repeated, how long, and what to tell the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis

from voxpop.broker.errors import BrokerError, NotFoundError, ServerFullError, ServerUnavailableError
from voxpop.broker.steps import Command, Run, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["can_repeat", "delays", "explain", "pieces"]

FIRST_DELAY_SECONDS: Final = 0.02
LONGEST_DELAY_SECONDS: Final = 1.0
LONGEST_BLOCK_MS: Final = 2000


def can_repeat(wanted: Run | Command | Wait) -> bool:
    """Return whether a call whose reply was lost may be sent again.

    A claim may not: its leases would be held by nobody until they expire. Neither may what would be done twice: an
    append "at the end", a grant of tickets, a publication.
    """
    if isinstance(wanted, Run):
        once = wanted.script in ("claim", "extend", "publish") or (wanted.script == "append" and wanted.args[1] == -1)
        return not once
    return isinstance(wanted, Wait) or wanted.parts[0] != "HINCRBY"


def delays(patience_seconds: float) -> Iterator[float | None]:
    """Yield how long to wait after each failed attempt, growing; None when patience is over."""
    delay_seconds, waited_seconds = FIRST_DELAY_SECONDS, 0.0
    while waited_seconds < patience_seconds:
        yield delay_seconds
        waited_seconds += delay_seconds
        delay_seconds = min(2 * delay_seconds, LONGEST_DELAY_SECONDS)
    yield None


def pieces(milliseconds: int) -> Iterator[int]:
    """Yield lengths that add up to a long wait, each shorter than a connection's time-out."""
    while milliseconds > 0:
        piece = min(milliseconds, LONGEST_BLOCK_MS)
        yield piece
        milliseconds -= piece


def explain(error: redis.RedisError, connection: Mapping[str, Any]) -> BrokerError:
    """Return the broker's error for one of the Redis client."""
    message = str(error)
    if message.startswith("NOSHARD") or "NOSHARD" in message[:80]:
        return NotFoundError("no such job: it was deleted, or its creation was cut short; create it again")
    if message.startswith(("OOM", "MISCONF")):
        return ServerFullError(
            f"the server takes no more writes: {message}. Free memory or disk space; nothing was half-written, "
            "and calls go on as soon as there is room"
        )
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        where = connection.get("path") or f"{connection.get('host', '?')}:{connection.get('port', '?')}"
        return ServerUnavailableError(
            f"no answer from the Redis server at {where}: {message}. "
            "Is it running? `voxpop doctor` checks; calls may be repeated once it is back"
        )
    return BrokerError(f"the server refused a call: {message}")
