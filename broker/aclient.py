"""The client for asyncio: the same operations as ``Client`` in ``client.py``."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import redis
import redis.asyncio

from voxpop.broker.connect import connect_async
from voxpop.broker.errors import BrokerError
from voxpop.broker.faults import can_repeat, delays, explain, pieces
from voxpop.broker.scripts import load
from voxpop.broker.steps import Command, Run, Step, Wait
from voxpop.broker.work import WorkOperations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["AsyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


def _driven(
    operation: Callable[Concatenate[WorkOperations, P], Step[T]],
) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    @wraps(operation)
    async def call(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.drive(operation(self.operations, *args, **kwargs))

    return call


class AsyncClient:
    """The broker, for asyncio."""

    def __init__(self, connection: redis.asyncio.Redis, *, prefix: str = "vp", patience_seconds: float = 10.0) -> None:
        self.connection = connection
        self.operations = WorkOperations(prefix)
        self.patience_seconds = patience_seconds

    @classmethod
    async def from_url(cls, url: str, *, prefix: str = "vp", patience_seconds: float = 10.0) -> Self:
        """Connect to a server: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with an ACL user if it has one.

        Raises:
            ConfigError: the URL is wrong, or the server too old.
            ServerUnavailableError: nobody answers there.
        """
        return cls(await connect_async(url), prefix=prefix, patience_seconds=patience_seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self.connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def drive(self, step: Step[T]) -> T:
        """Run an operation to its end."""
        try:
            wanted = next(step)
            while True:
                try:
                    reply = await self._patiently(wanted)
                except BrokerError as error:
                    wanted = step.throw(error)
                else:
                    wanted = step.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _patiently(self, wanted: Run | Command | Wait) -> Any:
        for delay_seconds in delays(self.patience_seconds if can_repeat(wanted) else 0.0):
            task = asyncio.current_task()
            cancelled_before = task.cancelling() if task else 0
            try:
                reply = await self._perform(wanted)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if delay_seconds is None:
                    raise explain(error, self.connection.connection_pool.connection_kwargs) from error
                await asyncio.sleep(delay_seconds)
            except redis.ResponseError as error:
                raise explain(error, {}) from error
            else:
                # redis-py waits with asyncio.wait_for, which on Python 3.11 forgets a cancellation that comes together
                # with the reply.
                if task and task.cancelling() > cancelled_before:
                    raise asyncio.CancelledError
                return reply
        return None

    async def _perform(self, wanted: Run | Command | Wait) -> Any:
        if isinstance(wanted, Command):
            return await self._send(*wanted.parts)
        if isinstance(wanted, Wait):
            # In pieces shorter than the connection's time-out.
            for milliseconds in pieces(wanted.milliseconds):
                rung = await self.connection.xread({wanted.stream: wanted.after}, count=1, block=milliseconds)
                if rung:
                    break
            return None
        script = load(wanted.script)
        parts = (len(wanted.keys), *wanted.keys, *wanted.args)
        try:
            return await self._send("EVALSHA", script.sha, *parts)
        except redis.exceptions.NoScriptError:
            return await self._send("EVAL", script.source, *parts)

    async def _send(self, *parts: Any) -> Any:
        return await self.connection.execute_command(*parts)  # type: ignore[no-untyped-call]  # redis-py leaves it so

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
