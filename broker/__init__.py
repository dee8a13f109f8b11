"""Work as state in Redis: pools, jobs, items, tickets, leases, answers; and the client.

Importing this package costs little more than ``import redis``: no compiler, no task queue.
"""

from voxpop.broker.aclient import AsyncClient
from voxpop.broker.client import Client
from voxpop.broker.models import (
    Answer,
    Claim,
    ClaimStatus,
    ItemEnd,
    Job,
    JobSpec,
    JobStatus,
    Lease,
    Pool,
    Receipt,
    Settlement,
    ShardState,
    SubmitStatus,
    Workforce,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "Claim",
    "ClaimStatus",
    "Client",
    "ItemEnd",
    "Job",
    "JobSpec",
    "JobStatus",
    "Lease",
    "Pool",
    "Receipt",
    "Settlement",
    "ShardState",
    "SubmitStatus",
    "Workforce",
]
