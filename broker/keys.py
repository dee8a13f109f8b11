"""The names of all keys in Redis, and who owns them. No other module spells a key.

Everything that one script touches shares a hash tag: ``{job.shard}`` for work, ``{pool.name}`` for access.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Keys", "ShardKeys"]

SHARD_PARTS: Final = ("m", "c", "o", "w", "q", "n", "l", "log", "bell", "res", "seg", "ids")


class ShardKeys(msgspec.Struct, frozen=True):
    """The keys of one shard of a job, all in one slot.

    ============ ====== ===========================================================================
    meta         hash   configuration, counters, head, epoch, clock
    chunks       hash   records of items in flight, packed by chunk of neighbours
    overflow     hash   records of items with a history: returned, extra or named tickets
    cursors      hash   worker -> how far they are in the main and in the reopened log
    reopened     zset   items with tickets that came back or were added, in order of their return
    named        zset   (worker, item): tickets for one worker only
    timers       zset   lease deadlines and retries by time
    log          stream the event log, one event a call
    bell         stream rung when work turns up for those who wait
    results      stream labels as they are settled or published
    segments     zset   first item -> where the payloads of a run of items lie in storage
    ids          hash   object id of a push -> item
    ============ ====== ===========================================================================
    """

    meta: str
    chunks: str
    overflow: str
    cursors: str
    reopened: str
    named: str
    timers: str
    log: str
    bell: str
    results: str
    segments: str
    ids: str

    def all(self) -> tuple[str, ...]:
        """Every key, in the order in which scripts declare them."""
        return (
            self.meta,
            self.chunks,
            self.overflow,
            self.cursors,
            self.reopened,
            self.named,
            self.timers,
            self.log,
            self.bell,
            self.results,
            self.segments,
            self.ids,
        )


class Keys(msgspec.Struct, frozen=True):
    """Builds key names under one prefix."""

    prefix: str = "vp"

    def shard(self, job: str, shard: int = 0) -> ShardKeys:
        """Return the keys of one shard."""
        return ShardKeys(*(f"{self.prefix}:{{{job}.{shard}}}:{part}" for part in SHARD_PARTS))

    def job(self, job: str) -> str:
        """Hash: the job's specification and status."""
        return f"{self.prefix}:{{job.{job}}}"

    @property
    def jobs(self) -> str:
        """Sorted set of all job names by creation time."""
        return f"{self.prefix}:jobs"

    def workforce(self, workforce: str) -> str:
        """Hash: the workforce's allowlist and its version."""
        return f"{self.prefix}:{{wf.{workforce}}}"

    def worker_index(self, workforce: str) -> str:
        """Hash: worker id -> index (u29) in the workforce; field "" counts them."""
        return f"{self.prefix}:{{wf.{workforce}}}:index"

    def workforce_pools(self, workforce: str) -> str:
        """Set: the pools of a workforce."""
        return f"{self.prefix}:{{wf.{workforce}}}:pools"

    @property
    def pools(self) -> str:
        """Set of all pools."""
        return f"{self.prefix}:pools"

    def pool(self, pool: str) -> str:
        """Hash: the pool's workforce, copy of its allowlist with the version, and access epoch."""
        return f"{self.prefix}:{{pool.{pool}}}"

    def members(self, pool: str) -> str:
        """Hash: worker id -> index in the workforce."""
        return f"{self.prefix}:{{pool.{pool}}}:members"

    def pool_shards(self, pool: str) -> str:
        """Set: live shards (``job/shard``) that must learn of a new epoch."""
        return f"{self.prefix}:{{pool.{pool}}}:shards"

    def refusals(self, pool: str, day: int) -> str:
        """Hash of one day (since the epoch): ``minute|reason|worker`` -> count."""
        return f"{self.prefix}:{{pool.{pool}}}:refusals:{day}"

    @property
    def wake(self) -> str:
        """Stream: shards with something new for the actors."""
        return f"{self.prefix}:wake"

    def queued(self, job: str, actor: str, shard: int = 0) -> str:
        """Flag with a lifetime: a message for this shard is on its way to an actor of this name, or in work there."""
        return f"{self.prefix}:{{{job}.{shard}}}:queued:{actor}"
