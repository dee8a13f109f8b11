"""Why a live job does not get on although nobody is missing: one text beside its record, until it gets on again.

A reason to fail is another thing (``Job.failure_reason``): whoever mends the cause of a trouble has lost nothing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog

from voxpop.broker.errors import BrokerError
from voxpop.formats.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxpop.broker import Client
    from voxpop.workers.dispatch import ActorName

__all__ = ["told_if_it_fails", "trouble_of"]

log = structlog.get_logger()

FIELD = "trouble"
WHAT_FAILS: Final = {
    "ingest": "the input cannot be queued",
    "attend": "answers cannot be labeled",
    "export": "the output cannot be written",
}


@contextlib.contextmanager
def told_if_it_fails(client: Client, job: str, actor: ActorName) -> Iterator[None]:
    """Keep beside the job what its actor fails on, and that it does not any more.

    What the storage refuses is no fault of ours: it is told without a traceback and not raised, so that nothing tries
    again at once; the sweeper asks again. Everything else is told and raised. A broker that cannot be reached can be
    told nothing, and says so itself.
    """
    what = WHAT_FAILS[actor]
    try:
        yield
    except (BrokerError, redis.RedisError):
        raise
    except StorageError as error:
        _note(client, job, f"{what}: {error}")
        log.warning(what, job=job, reason=str(error))
    except Exception as error:
        _note(client, job, f"{what}: {type(error).__name__}: {error}")
        raise
    else:
        if trouble_of(client, job).startswith(what):
            _note(client, job, "")


def trouble_of(client: Client, job: str) -> str:
    """Return what holds a job up; empty if nothing does, or there is no such job."""
    found: Any = client.connection.hget(client.operations.keys.job(job), FIELD)
    return found.decode() if found else ""


def _note(client: Client, job: str, reason: str) -> None:
    client.set_job_fields(job, **{FIELD: reason})
