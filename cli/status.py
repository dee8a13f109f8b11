"""How a job stands, as every command that speaks of one shows it; and pools, made when missing.

Reading and wording only; what moves while one looks on is in ``live.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import msgspec

from voxpop.broker.access import parse_ranges
from voxpop.broker.errors import ConflictError, NotFoundError
from voxpop.broker.models import Job, JobSpec, ShardState, check_name, check_worker
from voxpop.workers.trouble import trouble_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxpop.broker import Client, Pool

__all__ = ["JobView", "check_people", "described", "look", "make_pool", "people_needed"]


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job, its counters and its people at one moment."""

    job: Job
    counters: ShardState | None  # None: its creation was cut short
    people: int  # in its pool
    people_needed: int  # that many more have to join before every item can get its answers
    trouble: str = ""  # why it does not get on although nobody is missing

    @property
    def items(self) -> int:
        """How many items the job has, as far as is known."""
        appended = self.counters.appended if self.counters else 0
        return max(self.job.input_count, appended)

    @property
    def needs(self) -> str:
        """Return ``needs 2 more people``; empty if there are enough, or the job is over."""
        if not self.people_needed or self.job.status.is_final:
            return ""
        return f"needs {'1 more person' if self.people_needed == 1 else f'{self.people_needed:,} more people'}"

    @property
    def needs_because(self) -> str:
        """Return ``needs 2 more people (replication 5, pool team has 3)``; empty if there are enough."""
        spec = self.job.spec
        return (
            f"{self.needs} (replication {spec.replication}, pool {spec.pool} has {self.people:,})" if self.needs else ""
        )

    @classmethod
    def of(cls, job: Job, counters: ShardState | None, people: int, trouble: str = "") -> Self:
        """Put a job, its counters, the size of its pool and what holds it up together."""
        needed = people_needed(job.spec, people)
        return cls(job=job, counters=counters, people=people, people_needed=needed, trouble=trouble)


def people_needed(spec: JobSpec, people: int) -> int:
    """Return how many people a pool of ``people`` lacks for every item to get its answers."""
    return max(0, spec.replication - people) if spec.assignment == "open" else 0


def look(client: Client, name: str) -> JobView:
    """Return how a job stands.

    Raises:
        NotFoundError: no such job.
    """
    job = client.job(name)
    try:
        counters = client.shard_state(name)
    except NotFoundError:
        counters = None
    trouble = "" if job.status.is_final else trouble_of(client, name)
    return JobView.of(job, counters, len(client.pool(job.spec.pool).members), trouble)


def described(view: JobView) -> str:
    """Return a job for people: status, counters, who is asked, where the labels go."""
    job, spec = view.job, view.job.spec
    rows = [("status", job.status.value + (f": {job.failure_reason}" if job.failure_reason else ""))]
    if view.needs:
        rows.append(("", view.needs_because))
    if view.trouble:
        rows.append(("trouble", f"{view.trouble}; tried again until it works"))
    if view.counters:
        now = view.counters
        unlabeled = now.settled - now.labeled - now.failed
        ends = [(now.labeled, "labeled"), (now.failed, "failed"), (unlabeled, "unlabeled")]
        told = ", ".join(f"{count:,} {word}" for count, word in ends if count or word == "labeled")
        rows.append(("items", f"{view.items:,}: {told}"))
        rows.append(("answers", f"{now.answers:,}"))
        rows.append(("leases", f"{now.leased:,} held, {now.lapsed:,} expired, {now.released:,} given back"))
        rows.append(("declines", f"{now.declined:,}"))
    asked = "the people that each item names" if spec.assignment == "named" else f"{spec.replication} people an item"
    rows.append(("asked", f"{asked}, of pool {spec.pool} ({view.people:,})"))
    rows.append(("task", f"{spec.task_type}{': ' if spec.categories else ''}{_shortened(spec.categories)}"))
    rows.append(("created", _moment(job.created_at_ms)))
    if job.ended_at_ms:
        rows.append(("ended", _moment(job.ended_at_ms)))
    if spec.input:
        rows.append(("input", spec.input))
    if job.output_uri:
        rows.append(("output", job.output_uri))
    return "\n".join([f"Job {job.name}", *(f"  {name:<9} {value}" for name, value in rows)])


def check_people(
    client: Client, pool: str, workforce: str, members: Sequence[str] = (), allow: Sequence[str] | None = None
) -> None:
    """Find out whether ``make_pool`` would be refused; changes nothing.

    Raises:
        ConflictError: the pool is there, in another workforce.
        InvalidInputError: a name, a member or a range is wrong.
    """
    check_name("pool name", pool)
    check_name("workforce name", workforce)
    for worker in members:
        check_worker(worker)
    parse_ranges(list(allow or ()))
    try:
        found = client.pool(pool).workforce
    except NotFoundError:
        return
    if found != workforce:
        raise ConflictError(f"pool {pool!r} exists in workforce {found!r}, not {workforce!r}; choose another name")


def make_pool(
    client: Client, pool: str, workforce: str, members: Sequence[str] = (), allow: Sequence[str] | None = None
) -> Pool:
    """Make a pool and its workforce, or add members to the pool that is there.

    Args:
        client: the broker.
        pool: the pool's name.
        workforce: its workforce's name.
        members: who is in it.
        allow: replaces the workforce's allowlist; None leaves it as it is, and unrestricted if it is new.

    Raises:
        ConflictError: the pool is there, in another workforce.
        InvalidInputError: a name, a member or a range is wrong.
    """
    check_people(client, pool, workforce, members, allow)  # before the allowlist is replaced
    if allow is not None:
        client.create_workforce(workforce, allow)
    else:
        try:
            client.workforce(workforce)
        except NotFoundError:
            client.create_workforce(workforce)
    return client.create_pool(pool, workforce, members)


def _shortened(categories: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(categories[:most])
    return shown if len(categories) <= most else f"{shown}, ... ({len(categories):,} categories)"


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
