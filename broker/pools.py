"""Workforces, pools, members, allowlists: who may work, and from where."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from voxpop.broker.access import parse_ranges
from voxpop.broker.errors import ConflictError, InvalidInputError, NotFoundError
from voxpop.broker.limits import MAX_WORKERS_PER_WORKFORCE
from voxpop.broker.models import Pool, Workforce, check_list, check_name, check_worker
from voxpop.broker.steps import Base, Command, Run, Step, pairs_of, text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DAY_SECONDS", "REFUSAL_DAYS", "PoolOperations"]

DAY_SECONDS: Final = 86_400
REFUSAL_DAYS: Final = 7  # after which counts of refusals are dropped


class PoolOperations(Base):
    """Operations on people. A change that can shut somebody out is in force everywhere once it returns."""

    def create_workforce(self, name: str, allow: Sequence[str] = ()) -> Step[Workforce]:
        """Make a workforce, or replace the allowlist of one that is there."""
        check_name("workforce name", name)
        return (yield from self._allow(name, parse_ranges(check_list("allowlist", allow, str))))

    def workforce(self, name: str) -> Step[Workforce]:
        """Return a workforce."""
        allow, _ = yield from self._allowlist(name)
        return Workforce(name=name, allow=tuple(json.loads(allow)))

    def set_allowlist(self, workforce: str, allow: Sequence[str]) -> Step[Workforce]:
        """Replace the ranges from which a workforce may connect. Once this returns, nobody outside gets in.

        Of two lists set at the same time, the one that the workforce took last holds, in all of its pools.
        """
        ranges = parse_ranges(check_list("allowlist", allow, str))
        yield from self.workforce(workforce)
        return (yield from self._allow(workforce, ranges))

    def create_pool(self, name: str, workforce: str, members: Sequence[str] = ()) -> Step[Pool]:
        """Make a pool of a workforce; the same pool again adds the members."""
        check_name("pool name", name)
        check_workers(members)
        yield from self.workforce(workforce)
        # Made without an allowlist, it lets nobody in. Then it is listed: from here on a change of the list reaches it.
        # Then it gets the list as it stands now, unless a change was quicker. Cut short anywhere, nobody comes in who
        # may not, and the same call again goes on.
        made = yield Run("create_pool", (self.keys.pool(name),), (workforce,))
        if text(made[0]) == "conflict":
            raise ConflictError(f"pool {name!r} exists in another workforce; choose another name")
        yield Command(("SADD", self.keys.workforce_pools(workforce), name))
        allow, version = yield from self._allowlist(workforce)
        yield from self._edit_pool(name, "allow", workforce, version, allow)
        yield Command(("SADD", self.keys.pools, name))
        if members:
            yield from self.add_members(name, members)
        return (yield from self.pool(name))

    def pool(self, name: str) -> Step[Pool]:
        """Return a pool with its members."""
        workforce, allow, epoch = yield Command(("HMGET", self.keys.pool(name), "workforce", "allow", "epoch"))
        if allow is None:  # there is none, or its creation was cut short
            raise NotFoundError(f"pool {name!r} not found; `voxpop pool create {name}` makes it")
        members = yield Command(("HKEYS", self.keys.members(name)))
        return Pool(
            name=name,
            workforce=text(workforce),
            members=tuple(sorted(map(text, members))),
            allow=tuple(json.loads(allow)),
            epoch=int(epoch),
        )

    def pools(self) -> Step[list[str]]:
        """Return the names of all pools."""
        return sorted(map(text, (yield Command(("SMEMBERS", self.keys.pools)))))

    def add_members(self, pool: str, workers: Sequence[str]) -> Step[int]:
        """Add people to a pool; returns how many were not in it."""
        check_workers(workers)
        workforce = (yield from self.pool(pool)).workforce
        added = 0
        for start in range(0, len(workers), 1000):
            some = workers[start : start + 1000]
            indexes = yield Run("enroll", (self.keys.worker_index(workforce),), (MAX_WORKERS_PER_WORKFORCE, *some))
            if -1 in indexes:
                raise InvalidInputError(f"workforce {workforce!r} is full: {MAX_WORKERS_PER_WORKFORCE} people")
            flat = [part for pair in zip(some, indexes, strict=True) for part in pair]
            added += yield from self._edit_pool(pool, "add", *flat)
        return added

    def remove_members(self, pool: str, workers: Sequence[str]) -> Step[int]:
        """Take people out of a pool. Once this returns, none of them gets in; returns how many were in it."""
        check_workers(workers)
        yield from self.pool(pool)
        return (yield from self._edit_pool(pool, "remove", *workers)) if workers else 0

    def worker_indexes(self, workforce: str) -> Step[dict[str, int]]:
        """Return the index of every worker of a workforce."""
        found = yield Command(("HGETALL", self.keys.worker_index(workforce)))
        return {text(worker): int(index) for worker, index in pairs_of(found) if worker}

    def refusals(self, pool: str) -> Step[dict[str, int]]:
        """Return how often callers were refused in the last days, by ``minute|reason|worker``."""
        seconds, _ = yield Command(("TIME",))
        today = int(seconds) // DAY_SECONDS
        counts: dict[str, int] = {}
        for day in range(today - REFUSAL_DAYS + 1, today + 1):
            found = yield Command(("HGETALL", self.keys.refusals(pool, day)))
            counts |= {text(field): int(count) for field, count in pairs_of(found)}
        return counts

    def _allowlist(self, workforce: str) -> Step[tuple[bytes, int]]:
        """Return a workforce's allowlist (JSON) and its version; raises NotFoundError."""
        allow, version = yield Command(("HMGET", self.keys.workforce(workforce), "allow", "version"))
        if allow is None:
            raise NotFoundError(f"workforce {workforce!r} not found; `voxpop pool create` makes one")
        return allow, int(version or 0)

    def _allow(self, workforce: str, ranges: tuple[str, ...]) -> Step[Workforce]:
        """Write the list and its version, then take it to every pool that is listed."""
        allow = json.dumps(ranges)
        (version,) = yield Run("edit_workforce", (self.keys.workforce(workforce),), (allow,))
        pools = yield Command(("SMEMBERS", self.keys.workforce_pools(workforce)))
        for pool in sorted(map(text, pools)):
            with suppress(NotFoundError):  # listed by an earlier version, and never made or another workforce's
                yield from self._edit_pool(pool, "allow", workforce, version, allow)
        return Workforce(name=workforce, allow=ranges)

    def _edit_pool(self, pool: str, *args: Any) -> Step[int]:
        """Write the pool, tell every live shard, then return: the order is the promise."""
        status, epoch, changed, people = yield Run("edit_pool", self._pool_keys(pool), args)
        if text(status) == "missing":
            raise NotFoundError(f"pool {pool!r} not found; `voxpop pool create {pool}` makes it")
        shards = yield Command(("SMEMBERS", self.keys.pool_shards(pool)))
        for name in sorted(map(text, shards)):
            job, _, shard = name.rpartition("/")
            yield Run("learn_pool", self.keys.shard(job, int(shard)).all(), (epoch, people))
        self.access.forget(pool)
        return int(changed)


def check_workers(workers: Sequence[str]) -> None:
    """Raise InvalidInputError unless ``workers`` is a list of worker ids."""
    for worker in check_list("workers", workers, str):
        check_worker(worker)
