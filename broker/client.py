"""The client, for threads and scripts. ``AsyncClient`` in ``aclient.py`` is the same for asyncio.

Every method is an operation of ``pools.py``, ``jobs.py``, ``upkeep.py`` or ``work.py``, driven over one connection
pool. Calls survive a server that goes away and comes back: whatever is safe to repeat is repeated for
``patience_seconds``.
"""

from __future__ import annotations

import time
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import redis

from voxpop.broker.connect import connect
from voxpop.broker.errors import BrokerError
from voxpop.broker.faults import can_repeat, delays, explain, pieces
from voxpop.broker.scripts import load
from voxpop.broker.steps import Command, Run, Step, Wait
from voxpop.broker.work import WorkOperations

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")


def _driven(operation: Callable[Concatenate[WorkOperations, P], Step[T]]) -> Callable[Concatenate[Client, P], T]:
    @wraps(operation)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.drive(operation(self.operations, *args, **kwargs))

    return call


class Client:
    """The broker, for callers that block. Safe to share between threads."""

    def __init__(self, connection: redis.Redis, *, prefix: str = "vp", patience_seconds: float = 10.0) -> None:
        self.connection = connection
        self.operations = WorkOperations(prefix)
        self.patience_seconds = patience_seconds

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "vp", patience_seconds: float = 10.0) -> Self:
        """Connect to a server: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with an ACL user if it has one.

        Raises:
            ConfigError: the URL is wrong, or the server too old.
            ServerUnavailableError: nobody answers there.
        """
        return cls(connect(url), prefix=prefix, patience_seconds=patience_seconds)

    def close(self) -> None:
        """Close all connections."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def drive(self, step: Step[T]) -> T:
        """Run an operation to its end."""
        try:
            wanted = next(step)
            while True:
                try:
                    reply = self._patiently(wanted)
                except BrokerError as error:
                    wanted = step.throw(error)
                else:
                    wanted = step.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _patiently(self, wanted: Run | Command | Wait) -> Any:
        for delay_seconds in delays(self.patience_seconds if can_repeat(wanted) else 0.0):
            try:
                return self._perform(wanted)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if delay_seconds is None:
                    raise explain(error, self.connection.connection_pool.connection_kwargs) from error
                time.sleep(delay_seconds)
            except redis.ResponseError as error:
                raise explain(error, {}) from error
        return None

    def _perform(self, wanted: Run | Command | Wait) -> Any:
        if isinstance(wanted, Command):
            return self._send(*wanted.parts)
        if isinstance(wanted, Wait):
            # In pieces shorter than the connection's time-out.
            for milliseconds in pieces(wanted.milliseconds):
                rung = self.connection.xread({wanted.stream: wanted.after}, count=1, block=milliseconds)
                if rung:
                    break
            return None
        script = load(wanted.script)
        parts = (len(wanted.keys), *wanted.keys, *wanted.args)
        try:
            return self._send("EVALSHA", script.sha, *parts)
        except redis.exceptions.NoScriptError:
            return self._send("EVAL", script.source, *parts)

    def _send(self, *parts: Any) -> Any:
        return self.connection.execute_command(*parts)  # type: ignore[no-untyped-call]  # redis-py leaves it so

    create_workforce = _driven(WorkOperations.create_workforce)
    workforce = _driven(WorkOperations.workforce)
    set_allowlist = _driven(WorkOperations.set_allowlist)
    create_pool = _driven(WorkOperations.create_pool)
    pool = _driven(WorkOperations.pool)
    pools = _driven(WorkOperations.pools)
    add_members = _driven(WorkOperations.add_members)
    remove_members = _driven(WorkOperations.remove_members)
    worker_indexes = _driven(WorkOperations.worker_indexes)
    refusals = _driven(WorkOperations.refusals)

    create_job = _driven(WorkOperations.create_job)
    open_job = _driven(WorkOperations.open_job)
    job = _driven(WorkOperations.job)
    jobs = _driven(WorkOperations.jobs)
    move_job = _driven(WorkOperations.move_job)
    set_job_fields = _driven(WorkOperations.set_job_fields)
    stop_job = _driven(WorkOperations.stop_job)
    append = _driven(WorkOperations.append)
    item_of = _driven(WorkOperations.item_of)
    segments = _driven(WorkOperations.segments)
    seal = _driven(WorkOperations.seal)

    claim = _driven(WorkOperations.claim)
    submit = _driven(WorkOperations.submit)
    renew = _driven(WorkOperations.renew)
    release = _driven(WorkOperations.release)
    decline = _driven(WorkOperations.decline)

    shard_state = _driven(WorkOperations.shard_state)
    is_dirty = _driven(WorkOperations.is_dirty)
    expire = _driven(WorkOperations.expire)
    read_log = _driven(WorkOperations.read_log)
    trim_log = _driven(WorkOperations.trim_log)
    settle = _driven(WorkOperations.settle)
    publish = _driven(WorkOperations.publish)
    extend = _driven(WorkOperations.extend)
