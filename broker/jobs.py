"""Jobs and their items: from the specification to the last appended item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec

from voxpop.broker.errors import ConflictError, InvalidInputError, NotFoundError, StoppedError
from voxpop.broker.limits import MAX_APPEND_ITEMS, MAX_ITEMS_PER_SHARD, MAX_NAMED_TICKETS
from voxpop.broker.models import Job, JobSpec, JobStatus, Pool, check_count
from voxpop.broker.pools import PoolOperations
from voxpop.broker.steps import Command, Run, Step, text
from voxpop.broker.wire import pack_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["JobOperations", "chunk_items"]

DEFAULT_LOG_HIGH_BYTES: Final = 256 * 2**20
RECORD_BYTES: Final = 1024  # aim for the packed record of a chunk; see scripts/lib/record.lua


def chunk_items(replication: int) -> int:
    """Return how many neighbours share a packed record."""
    return max(1, min(64, RECORD_BYTES // (2 + 8 * replication)))


def as_stored(spec: JobSpec) -> JobSpec:
    """Return a specification as it is read again: lists for tuples, say. Raises InvalidInputError for a wrong type."""
    try:
        return msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec)
    except (msgspec.MsgspecError, TypeError) as error:
        raise InvalidInputError(f"job {spec.name!r}: a value is not of its type: {error}") from None


def differences(stored: JobSpec, asked: JobSpec) -> str:
    """Return which fields of a stored job are not what is asked for now, and how they differ; empty if none."""
    pairs = [(name, getattr(stored, name), getattr(asked, name)) for name in JobSpec.__struct_fields__]
    return ", ".join(f"{name} {old!r:.60} -> {new!r:.60}" for name, old, new in pairs if old != new)


class JobOperations(PoolOperations):
    """Operations on jobs and their input."""

    def __init__(self, prefix: str = "vp", *, log_high_bytes: int = DEFAULT_LOG_HIGH_BYTES) -> None:
        super().__init__(prefix)
        self.log_high_bytes = log_high_bytes
        self._specs: dict[str, JobSpec] = {}

    def create_job(self, spec: JobSpec, request_token: str = "") -> Step[Job]:
        """Make a job; the same request again (same token) returns the same job. "" = a request of its own.

        Raises:
            ConflictError: there is another job of this name; or the request made one, and asked for something else.
            InvalidInputError: a value of the specification is not of its type.
            NotFoundError: there is no such pool.
        """
        spec = as_stored(spec)
        yield from self._pool_of(spec)
        made, _ = yield Run(
            "create_job", (self.keys.job(spec.name),), (msgspec.json.encode(spec), request_token or uuid4().hex)
        )
        if text(made) == "conflict":
            raise ConflictError(
                f"job {spec.name!r} exists; choose another name, or look at it: voxpop job show {spec.name}"
            )
        job = yield from self.job(spec.name)
        if other := differences(job.spec, spec):
            raise ConflictError(
                f"job {spec.name!r} was made by this request, which asked for something else then: {other}; "
                "ask for the same again, or make another job under another request token"
            )
        yield from self.open_job(job)
        return job

    def _pool_of(self, spec: JobSpec) -> Step[Pool]:
        try:
            return (yield from self.pool(spec.pool))
        except NotFoundError:
            raise NotFoundError(
                f"job {spec.name!r}: pool {spec.pool!r} not found; `voxpop pool create {spec.pool}` makes it"
            ) from None

    def open_job(self, job: Job) -> Step[None]:
        """Open the job's shards; done again, it changes nothing. Repairs a creation that was cut short."""
        spec, keys = job.spec, self.keys.shard(job.name)
        yield Command(("ZADD", self.keys.jobs, job.created_at_ms, job.name))
        # Register before reading the epoch: a change of the pool from here on reaches the shard, open or not. Tell the
        # shard before it opens: it lets nobody in whom an earlier change shut out.
        yield Command(("SADD", self.keys.pool_shards(spec.pool), f"{job.name}/0"))
        pool = yield from self.pool(spec.pool)
        yield Run("learn_pool", keys.all(), (pool.epoch, len(pool.members)))
        yield Run(
            "open",
            keys.all(),
            (
                spec.replication,
                chunk_items(spec.replication),
                int(spec.lease_seconds * 1000),
                int(spec.retry_seconds * 1000),
                spec.declines_allowed,
                self.log_high_bytes,
                int(spec.clock == "caller"),
            ),
        )

    def job(self, name: str) -> Step[Job]:
        """Return a job."""
        fields = ("spec", "status", "created_at_ms", "moved_at_ms", "failure_reason", "input_count", "output_uri")
        found = yield Command(("HMGET", self.keys.job(name), *fields))
        spec, status, created, moved, reason, count, output = found
        if spec is None:
            raise NotFoundError(f"job {name!r} not found; `voxpop job list` shows those that exist")
        state = JobStatus(text(status))
        return Job(
            spec=msgspec.json.decode(spec, type=JobSpec),
            status=state,
            created_at_ms=int(created),
            ended_at_ms=int(moved or 0) if state.is_final else 0,
            failure_reason=text(reason),
            input_count=int(count) if count else -1,
            output_uri=text(output),
        )

    def jobs(self) -> Step[list[str]]:
        """Return the names of all jobs, oldest first."""
        return list(map(text, (yield Command(("ZRANGE", self.keys.jobs, 0, -1)))))

    def set_job_fields(self, name: str, /, **fields: Any) -> Step[None]:
        """Set ``input_count``, ``output_uri`` or ``failure_reason`` of a job."""
        flat = [part for pair in fields.items() for part in pair]
        yield Command(("HSET", self.keys.job(name), *flat))

    def move_job(self, name: str, status: JobStatus, /, *, allowed: Iterable[JobStatus], **fields: Any) -> Step[bool]:
        """Change a job's status if it is in one of ``allowed``; returns whether this call or an earlier one did."""
        flat = [part for pair in fields.items() for part in pair]
        done, _ = yield Run("move_job", (self.keys.job(name),), (status, ",".join(allowed), *flat))
        if text(done) == "missing":
            raise NotFoundError(f"job {name!r} not found; `voxpop job list` shows those that exist")
        if status.is_final and text(done) == "ok":
            spec = yield from self._spec(name)
            yield Command(("SREM", self.keys.pool_shards(spec.pool), f"{name}/0"))
        return text(done) != "refused"

    def stop_job(self, name: str, *, revoke: bool = False) -> Step[Job]:
        """Stop a job: once this returns, nobody is given new work. Held leases may finish unless revoked."""
        job = yield from self.job(name)
        if not job.status.is_final:
            yield from self.move_job(name, JobStatus.STOPPING, allowed=(JobStatus.INITIALIZING, JobStatus.IN_PROGRESS))
            yield from self.open_job(job)
            _, wake = yield Run("stop", self.keys.shard(name).all(), (0, int(revoke)))
            yield from self._wake(name, wake)
        return (yield from self.job(name))

    def _spec(self, job: str) -> Step[JobSpec]:
        spec = self._specs.get(job)
        if spec is None:
            spec = (yield from self.job(job)).spec
            if len(self._specs) >= 10_000:
                self._specs.clear()
            self._specs[job] = spec
        return spec

    def append(
        self,
        job: str,
        count: int,
        *,
        at: int = -1,
        segment: str = "",
        named: Sequence[tuple[int, int]] = (),
        ids: Sequence[str] = (),
        now_ms: int = 0,
    ) -> Step[int]:
        """Add items and return the index of the first.

        Args:
            job: the job's name.
            count: how many items.
            at: where the first one goes; the same append again (same ``at``) changes nothing. -1 = at the end.
            segment: where their payloads lie in storage.
            named: tickets for one worker only, as (offset in this append, worker index).
            ids: an object id an item, to recognise a repeated push.
            now_ms: the time, for jobs with ``clock = "caller"``.

        Raises:
            ConflictError: a gap before ``at``, a known object id, or the input is complete; nothing was appended.
            StoppedError: the job takes nothing any more.
        """
        check_count("count", count, 1, MAX_APPEND_ITEMS)
        check_count("at", at, -1, MAX_ITEMS_PER_SHARD - count)
        if ids and len(ids) != count:
            raise InvalidInputError(f"{len(ids)} object ids for {count} items; pass one an item or none")
        self._check_named(count, named)
        status, first, wake = yield Run(
            "append",
            self.keys.shard(job).all(),
            (now_ms, at, count, segment, pack_pairs(sorted(named)), *ids),
        )
        yield from self._wake(job, wake)
        match text(status):
            case "ok" | "repeated":
                return int(first)
            case "gap":
                raise ConflictError(f"job {job!r}: items end at {first}, appending at {at} would leave a gap")
            case "taken":
                raise ConflictError(f"job {job!r}: an object id is already known; ask item_of() and push the others")
            case "sealed":
                raise ConflictError(f"job {job!r}: its input is complete; nothing can be appended")
        raise StoppedError(f"job {job!r} is stopping; nothing can be appended")

    def _check_named(self, count: int, named: Sequence[tuple[int, int]]) -> None:
        of_item: dict[int, set[int]] = {}
        for offset, worker in named:
            if not 0 <= offset < count:
                raise InvalidInputError(f"named ticket for item {offset} of an append of {count}")
            workers = of_item.setdefault(offset, set())
            if worker in workers:
                raise InvalidInputError(f"two named tickets of item {offset} for the same worker {worker}")
            workers.add(worker)
            if len(workers) > MAX_NAMED_TICKETS:
                raise InvalidInputError(
                    f"item {offset} names more than {MAX_NAMED_TICKETS} workers; that many can be granted to one item"
                )

    def item_of(self, job: str, object_id: str) -> Step[int | None]:
        """Return the item that was pushed under an object id, or None."""
        found = yield Command(("HGET", self.keys.shard(job).ids, object_id))
        return None if found is None else int(found)

    def segments(self, job: str, first: int, count: int) -> Step[list[tuple[int, int, str]]]:
        """Return (first item, count, where) of the segments in which the payloads of these items lie."""
        key = self.keys.shard(job).segments
        start = yield Command(("ZREVRANGEBYSCORE", key, first, "-inf", "LIMIT", 0, 1))
        rest = yield Command(("ZRANGEBYSCORE", key, f"({first}", first + count - 1))
        found = []
        for member in [*start, *rest]:
            at, length, where = text(member).split("|", 2)
            found.append((int(at), int(length), where))
        return found

    def seal(self, job: str, *, now_ms: int = 0) -> Step[None]:
        """Say that the input is complete."""
        _, wake = yield Run("seal", self.keys.shard(job).all(), (now_ms,))
        yield from self._wake(job, wake)
