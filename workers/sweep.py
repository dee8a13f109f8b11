"""What a crash left, and what time brings: looks at every live job, ends leases, and sends messages that are missing.

Everything that can be left undone shows in the broker's own state, so nothing has to be remembered between sweeps: the
input is not sealed, the log is not archived, the shard is dirty, the job is stopping, or it is finished and still open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from voxpop.broker.errors import BrokerError, NotFoundError
from voxpop.broker.models import JobStatus
from voxpop.workers.dispatch import enqueue_once

if TYPE_CHECKING:
    from voxpop.broker.models import Job, ShardState
    from voxpop.workers.dispatch import ActorName, Enqueue
    from voxpop.workers.services import Services

__all__ = ["sweep_once", "wanted_actors"]

log = structlog.get_logger()


def sweep_once(services: Services, enqueue: Enqueue, over: set[str]) -> int:
    """Look at every live job once; returns how many messages were sent.

    Args:
        services: the broker.
        enqueue: sends a message.
        over: the jobs that are over, as this caller has seen: they are passed over, and those found now are added.
    """
    sent = 0
    for job in services.client.jobs():
        if job in over:
            continue
        try:
            record, state = _look(services, job)
            actors = wanted_actors(record, state, is_dirty=services.client.is_dirty(job))
            if record.status.is_final and not actors:
                over.add(job)
            sent += sum(enqueue_once(services, enqueue, actor, job) for actor in actors)
        except BrokerError as error:
            log.warning("this job could not be swept", job=job, reason=str(error))
    return sent


def wanted_actors(record: Job, state: ShardState, *, is_dirty: bool) -> list[ActorName]:
    """Return the actors that a job needs, from what the broker says of it. Pure."""
    if record.status.is_final:
        return ["attend"] if state.log_bytes else []
    wanted: list[ActorName] = []
    is_queued = state.sealed or state.stopping or not record.spec.input
    if record.status is JobStatus.INITIALIZING or not is_queued:
        wanted.append("ingest")
    if state.is_finished and record.status is not JobStatus.INITIALIZING:
        wanted.append("export")
    elif is_dirty or state.log_bytes or state.stopping:
        wanted.append("attend")
    return wanted


def _look(services: Services, job: str) -> tuple[Job, ShardState]:
    record = services.client.job(job)
    try:
        state = services.client.shard_state(job)
    except NotFoundError:  # its creation was cut short between the job and its shard
        services.client.open_job(record)
        state = services.client.shard_state(job)
    if 0 < state.next_timer_ms <= state.now_ms and not record.status.is_final:
        services.client.expire(job)
        state = services.client.shard_state(job)
    return record, state
