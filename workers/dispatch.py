"""From wakes to messages: reads the wake stream and keeps at most one message a shard and actor on its way.

A flag with a lifetime stands for a message that waits or is in work. If its actor process dies, the flag lapses after
half of ``sweep_seconds`` and the sweeper, which looks as often, sends another: nothing waits longer than that, although
dramatiq itself takes a minute to notice. A message too many does no harm, since every actor may run twice.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxpop.workers.services import Services

__all__ = ["ActorName", "Enqueue", "dispatch_once", "enqueue_once", "in_work", "request"]

ActorName = Literal["attend", "export", "ingest"]

GROUP: Final = "dispatch"
CONSUMER: Final = "dispatch"  # shared by all dispatchers: what one read and did not acknowledge, another takes over
STREAM_ENTRIES: Final = 10_000  # kept, about
READ_ENTRIES: Final = 500
MAX_BLOCK_MS: Final = 500  # shorter than the connection's time-out, and a stop does not wait long


class Enqueue(Protocol):
    """Sends one message to an actor."""

    def __call__(self, actor: ActorName, job: str) -> None:
        """Send it."""


def request(services: Services, actor: ActorName, job: str) -> None:
    """Ask for an actor from a process that has no queue, such as the command line: through the wake stream."""
    services.client.connection.xadd(
        services.client.operations.keys.wake,
        {"shard": f"{job}/0", "actor": actor},
        maxlen=STREAM_ENTRIES,
        approximate=True,
    )


def dispatch_once(services: Services, enqueue: Enqueue, *, block_ms: int = MAX_BLOCK_MS) -> int:
    """Wait for wakes, at most ``block_ms``, and turn them into messages; returns how many wakes there were.

    A wake is acknowledged after its message is sent; those that another dispatcher read and did not acknowledge are
    taken over after the lifetime of a flag.
    """
    entries = _read(services, min(block_ms, MAX_BLOCK_MS))
    wanted = dict.fromkeys((_actor_of(fields), _job_of(fields)) for _, fields in entries if fields)
    for actor, job in wanted:
        enqueue_once(services, enqueue, actor, job)
    if entries:
        connection = services.client.connection
        connection.xack(services.client.operations.keys.wake, GROUP, *(entry for entry, _ in entries))
    return len(entries)


def enqueue_once(services: Services, enqueue: Enqueue, actor: ActorName, job: str) -> bool:
    """Send a message unless one is on its way or in work; returns whether this call sent it."""
    key = services.client.operations.keys.queued(job, actor)
    if not services.client.connection.set(key, 1, nx=True, px=_flag_ms(services)):
        return False
    enqueue(actor, job)
    return True


@contextlib.contextmanager
def in_work(services: Services, actor: ActorName, job: str) -> Iterator[None]:
    """Keep the flag standing while a message is in work, so that no second process does the same at once."""
    ended = threading.Event()
    key, lifetime_ms = services.client.operations.keys.queued(job, actor), _flag_ms(services)

    def renew() -> None:
        while True:
            with contextlib.suppress(redis.RedisError):  # then the flag lapses, and a second message is sent
                services.client.connection.set(key, 1, px=lifetime_ms)
            if ended.wait(lifetime_ms / 3000):
                return

    thread = threading.Thread(target=renew, name=f"{actor} {job} in work", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        services.client.connection.delete(key)


def _flag_ms(services: Services) -> int:
    return max(1, int(services.config.sweep_seconds * 500))


def _read(services: Services, block_ms: int) -> list[tuple[bytes, dict[bytes, bytes] | None]]:
    connection, stream = services.client.connection, services.client.operations.keys.wake
    try:
        claimed: Any = connection.xautoclaim(stream, GROUP, CONSUMER, _flag_ms(services), count=READ_ENTRIES)
        if claimed[1]:
            return list(claimed[1])
        found: Any = connection.xreadgroup(GROUP, CONSUMER, {stream: ">"}, count=READ_ENTRIES, block=max(1, block_ms))
    except redis.ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
        with contextlib.suppress(redis.ResponseError):  # another dispatcher made it at the same time
            connection.xgroup_create(stream, GROUP, id="0", mkstream=True)
        return _read(services, block_ms)
    return list(found[0][1]) if found else []


def _job_of(fields: dict[bytes, bytes]) -> str:
    return fields[b"shard"].decode().rpartition("/")[0]


def _actor_of(fields: dict[bytes, bytes]) -> ActorName:
    match fields.get(b"actor"):
        case b"ingest":
            return "ingest"
        case b"export":
            return "export"
    return "attend"
