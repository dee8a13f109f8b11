"""Why a live job does not get on although nobody is missing: one text beside its record, until it gets on again.

A reason to fail is another thing (``Job.failure_reason``): whoever mends the cause of a trouble has lost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxpop.broker import Client

__all__ = ["note_trouble", "trouble_of"]

FIELD = "trouble"


def note_trouble(client: Client, job: str, reason: str) -> None:
    """Keep what holds a job up; "" if nothing does any more."""
    client.set_job_fields(job, **{FIELD: reason})


def trouble_of(client: Client, job: str) -> str:
    """Return what holds a job up; empty if nothing does, or there is no such job."""
    found: Any = client.connection.hget(client.operations.keys.job(job), FIELD)
    return found.decode() if found else ""
