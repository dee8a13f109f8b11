"""What callers of the broker hand in and get back: specifications, records, leases, receipts.

No behaviour beyond checks.

Times are milliseconds since the epoch (``_ms``) inside the broker and seconds (``_seconds``) where people set them.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from voxpop.broker.errors import InvalidInputError
from voxpop.broker.limits import (
    MAX_CATEGORIES,
    MAX_CATEGORY_CHARS,
    MAX_LEASE_SECONDS,
    MAX_REPLICATION,
    MAX_WORKER_ID_CHARS,
    NAME_PATTERN,
)

__all__ = [
    "Answer",
    "Claim",
    "ClaimStatus",
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
    "Token",
    "Workforce",
    "check_count",
    "check_list",
    "check_name",
    "check_range",
    "check_worker",
]

T = TypeVar("T")

# Control characters, line and paragraph separators, lone surrogates. Not all that str.isprintable refuses: there are
# scripts whose words need a zero-width non-joiner or a space of their own.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class JobStatus(StrEnum):
    """The life of a job; ``docs/state-machines.md`` draws it. The names are Ground Truth's."""

    INITIALIZING = "Initializing"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"

    @property
    def is_final(self) -> bool:
        """True when nothing about the job will change any more."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED)


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A labeling job as its requester describes it. Immutable once the job is created."""

    name: str
    task_type: str
    pool: str
    categories: tuple[str, ...] = ()
    replication: int = 3  # how many different workers answer an item; 0 with assignment = "named"
    assignment: Literal["open", "named"] = "open"  # named: only the people that an item names may answer it
    title: str = ""
    instructions: str = ""
    label_attribute: str = ""  # "" = the job's name
    method: str = ""  # consolidation method; "" = the task type's default
    method_parameters: dict[str, Any] = {}
    lease_seconds: float = 3600.0  # Ground Truth's TaskTimeLimitInSeconds
    retry_seconds: float = 60.0  # after which a former holder may take an item again
    worker_attribute: str = "workers"  # with assignment = "named": the attribute of an item that lists its people
    max_declines: int = 0  # 0 = as many as the replication
    clock: Literal["server", "caller"] = "server"
    input: str = ""  # URI of the input; "" = items are pushed
    output: str = ""  # URI under which <job name>/ is written

    def __post_init__(self) -> None:
        check_name("job name", self.name)
        check_name("pool name", self.pool)
        check_count("replication", self.replication, 0 if self.assignment == "named" else 1, MAX_REPLICATION)
        if self.assignment == "named" and self.replication:
            raise InvalidInputError(
                f"replication is {self.replication} but assignment is 'named': every ticket is then for one worker; "
                "set replication = 0"
            )
        check_range("lease_seconds", self.lease_seconds, 0.001, MAX_LEASE_SECONDS)
        check_range("retry_seconds", self.retry_seconds, 0, MAX_LEASE_SECONDS)
        check_count("max_declines", self.max_declines, 0, 255)
        if len(self.categories) > MAX_CATEGORIES:
            raise InvalidInputError(f"categories: {len(self.categories)} given, at most {MAX_CATEGORIES} allowed")
        if len(set(self.categories)) != len(self.categories):
            twice = sorted({c for c in self.categories if self.categories.count(c) > 1})
            raise InvalidInputError(f"categories: {', '.join(map(repr, twice))} given more than once")
        for category in self.categories:
            if not 0 < len(category) <= MAX_CATEGORY_CHARS:
                raise InvalidInputError(
                    f"categories: {category[:40]!r} has {len(category)} characters; 1 to {MAX_CATEGORY_CHARS} allowed"
                )
            if _CONTROL.search(category):
                raise InvalidInputError(
                    f"categories: {category!r} contains control characters; people read categories on terminals and "
                    "pages, so leave them out"
                )

    @property
    def attribute(self) -> str:
        """The label attribute's name in the output manifest: made from the job's name, by Ground Truth's rules."""
        if self.label_attribute:
            return self.label_attribute
        made = self.name.replace("_", "-").replace(".", "-")
        is_reserved = made == "source" or made.endswith(("-ref", "-metadata"))
        return f"{made}-label" if is_reserved else made

    @property
    def declines_allowed(self) -> int:
        """How many declines close an item; an item of named tickets closes when all of its people are through."""
        return self.max_declines or self.replication or 255


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the broker keeps it."""

    spec: JobSpec
    status: JobStatus
    created_at_ms: int
    ended_at_ms: int = 0
    failure_reason: str = ""
    input_count: int = -1  # items of the whole input, once it is validated; -1 = not known yet
    output_uri: str = ""  # the output manifest, once it is written

    @property
    def name(self) -> str:
        """The job's name, which is its identity."""
        return self.spec.name


class ShardState(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one shard of a job, read in one step."""

    appended: int
    settled: int
    labeled: int
    failed: int
    leased: int  # tickets under a live lease
    answers: int  # accepted
    lapsed: int  # leases that expired
    declined: int
    released: int
    head: int  # items before this have no ticket of the main log left
    sealed: bool  # nothing more will be appended by the input
    stopping: bool  # no new work is given out
    revoked: bool  # and held leases have ended
    seq: int  # the last event written
    log_bytes: int  # not archived yet
    reopened: int  # items with tickets that came back, or were added
    named: int  # tickets that wait for one worker
    next_timer_ms: int  # earliest lease deadline or retry; 0 = none
    now_ms: int

    @property
    def wants_answers(self) -> bool:
        """Whether a ticket is free or held: the job does not only wait for its labels."""
        return self.leased + self.reopened + self.named > 0 or self.head < self.appended

    @property
    def is_finished(self) -> bool:
        """Every item that will ever be appended has ended."""
        return self.sealed and self.settled == self.appended


class Workforce(msgspec.Struct, frozen=True, kw_only=True):
    """All the people of one kind, and from where they may connect."""

    name: str
    allow: tuple[str, ...] = ()  # CIDR ranges; empty = unrestricted


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A work team: some of the people of a workforce."""

    name: str
    workforce: str
    members: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()  # the workforce's
    epoch: int = 0  # rises with every change that can shut somebody out


_TOKEN = struct.Struct("<HIIIIH")


class Token(NamedTuple):
    """The name of one lease: who holds which ticket, since which claim. Opaque to those who hold it."""

    shard: int
    item: int
    worker: int  # index in the workforce
    attempt: int  # number of the claim in its shard
    first: int  # first item and length of the claim's range: they name its timer
    length: int

    def encode(self) -> str:
        """Return the text form that clients keep."""
        return base64.urlsafe_b64encode(_TOKEN.pack(*self)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Token:
        """Return the token that ``encode`` wrote; raises InvalidInputError for anything else."""
        try:
            return cls(*_TOKEN.unpack(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        except (ValueError, TypeError, struct.error, binascii.Error):
            raise InvalidInputError(
                f"lease token {str(text)[:60]!r} is not one that claim returned; pass lease.token on unchanged"
            ) from None


class Lease(msgspec.Struct, frozen=True):
    """One ticket held by one worker until a deadline."""

    token: str
    item: int  # index in the input
    deadline_ms: int


class ClaimStatus(StrEnum):
    """What a claim found."""

    MORE = "more"  # leases were given; there may be more
    WAIT = "wait"  # nothing now; something may come (new items, a ticket that returns)
    NONE = "none"  # every item has ended
    STOPPED = "stopped"  # the job gives out no new work


class Claim(msgspec.Struct, frozen=True):
    """The reply to a claim."""

    status: ClaimStatus
    leases: tuple[Lease, ...] = ()
    now_ms: int = 0
    next_ms: int = 0  # with WAIT: when a lease or a retry falls due; 0 = not known


class Answer(msgspec.Struct, frozen=True):
    """What the worker says under a lease."""

    token: str
    content: Any  # plain JSON values, as the task type's schema has it
    seconds: float = 0.0  # active time spent, as the client measured it


class SubmitStatus(StrEnum):
    """What became of one submitted answer."""

    ACCEPTED = "accepted"  # counted; also the reply to the same submit sent again
    EXPIRED = "expired"  # the ticket went to somebody else: archived as unused, payable
    SETTLED = "settled"  # the item had ended; the archive tells whether this answer was counted
    CONFLICT = "conflict"  # another answer was already accepted under this lease


class Receipt(msgspec.Struct, frozen=True):
    """The reply to one submitted answer."""

    token: str
    item: int
    status: SubmitStatus


class ItemEnd(Enum):
    """How an item ended."""

    LABELED = 1
    FAILED = 2
    UNLABELED = 3


class Settlement(msgspec.Struct, frozen=True):
    """The policy's verdict on one item: it ends, with this label or for this reason."""

    item: int
    end: ItemEnd
    version: int = 1
    label: bytes = b""  # JSON of the consolidated label
    reason: str = ""


def check_range(what: str, value: object, low: float, high: float) -> None:
    """Raise InvalidInputError unless ``value`` is a number and low <= value <= high."""
    if not isinstance(value, int | float):
        raise InvalidInputError(f"{what} is {value!r:.82}; expected a number, {low} to {high}")
    if not low <= value <= high:
        raise InvalidInputError(f"{what} is {value}; expected {low} to {high}")


def check_count(what: str, value: object, low: int, high: int) -> None:
    """Raise InvalidInputError unless ``value`` is a whole number and low <= value <= high."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInputError(f"{what} is {value!r:.82}; expected a whole number, {low} to {high}")
    check_range(what, value, low, high)


def check_name(what: str, name: object) -> str:
    """Return ``name`` if it may name a job, pool or workforce; raise InvalidInputError otherwise."""
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
        raise InvalidInputError(
            f"{what} {name!r:.82} is not allowed: 1 to 63 letters and digits, with single '-', '_' or '.' between them"
        )
    return name


def check_worker(worker: object) -> str:
    """Return ``worker`` if it may identify a person or model; raise InvalidInputError otherwise."""
    if not isinstance(worker, str) or not 0 < len(worker) <= MAX_WORKER_ID_CHARS or not worker.isprintable():
        raise InvalidInputError(
            f"worker id {worker!r:.82} is not allowed: 1 to {MAX_WORKER_ID_CHARS} printable characters"
        )
    return worker


def check_list(what: str, values: object, kind: type[T]) -> list[T]:
    """Return ``values`` as a list; raise InvalidInputError unless it is a sequence of ``kind``, and no single one."""
    expected = f"expected a list of {'texts' if kind is str else kind.__name__}"
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{what}: found {values!r:.82}; {expected}")
    found = list(values)
    for place, value in enumerate(found, 1):
        if not isinstance(value, kind):
            raise InvalidInputError(f"{what}: found {value!r:.82} in place {place}; {expected}")
    return found
