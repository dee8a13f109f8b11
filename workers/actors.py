"""The dramatiq actors: thin shells around ``ingest``, ``attend`` and ``export``, and the queue that they hang on.

A message names an actor and a job, nothing else: what is to be done is read from the broker when it arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from voxpop.broker.connect import connect
from voxpop.broker.errors import NotFoundError
from voxpop.workers import consolidate
from voxpop.workers import export as export_module
from voxpop.workers import ingest as ingest_module
from voxpop.workers.dispatch import enqueue_once, in_work
from voxpop.workers.logs import LogContext
from voxpop.workers.trouble import told_if_it_fails

if TYPE_CHECKING:
    from voxpop.broker.config import Config
    from voxpop.workers.dispatch import ActorName, Enqueue
    from voxpop.workers.services import Services

__all__ = ["make_queue", "register"]

MAX_RETRIES: Final = 3  # then the sweeper asks again, as long as there is something to do
MIN_BACKOFF_MS: Final = 200
MAX_BACKOFF_MS: Final = 5_000


def make_queue(config: Config) -> dramatiq.Broker:
    """Return dramatiq's broker on its own logical database, without time limits: a big export takes what it takes."""
    retries = Retries(max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MS, max_backoff=MAX_BACKOFF_MS)
    return RedisBroker(  # type: ignore[no-untyped-call]  # dramatiq leaves it so
        client=connect(config.queue_url),
        namespace=f"{config.key_prefix}:queue",
        middleware=[retries, LogContext()],
    )


def register(queue: dramatiq.Broker, services: Services) -> Enqueue:
    """Declare the actors on a queue; returns what sends them messages."""

    def attend(*, job: str) -> None:
        with told_if_it_fails(services.client, job, "attend"):
            with in_work(services, "attend", job):
                attended = consolidate.attend(services, job)
            # A wake that came too late for that pass and before the flag was cleared was not sent on.
            if services.client.is_dirty(job):
                enqueue_once(services, send, "attend", job)
            if attended.is_finished:
                enqueue_once(services, send, "export", job)

    def export(*, job: str) -> None:
        with in_work(services, "export", job), told_if_it_fails(services.client, job, "export"):
            export_module.export(services, job)

    def ingest(*, job: str) -> None:
        with in_work(services, "ingest", job), told_if_it_fails(services.client, job, "ingest"):
            ingest_module.ingest(services, job)

    actors: dict[str, dramatiq.Actor[Any, Any]] = {
        function.__name__: dramatiq.actor(
            actor_name=function.__name__, broker=queue, queue_name="voxpop", throws=(NotFoundError,)
        )(function)
        for function in (attend, export, ingest)
    }

    def send(actor: ActorName, job: str) -> None:
        actors[actor].send(job=job)

    return send
