"""Promise 5, whoever changes access at the same time and wherever they die: random interleavings on real servers.

A history is a seed. In each of its rounds several clients change workforces, pools and members, or make jobs, all at
once: each is taken one request further at a time, asks again for replies that it lost, and may die between any two
requests. Meanwhile and afterwards others claim and answer, with whatever they remember of access.

``VOXPOP_ACCESS`` sets how many histories a server gets (default 80), ``VOXPOP_ACCESS_SEED`` where their seeds begin; a
failure names its seed and prints the requests that led to it.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from dataclasses import dataclass
from math import inf

import pytest
import redis
from faults import planted

from voxpop.broker import Answer, Client, JobSpec
from voxpop.broker.errors import BrokerError, ConflictError, NotFoundError
from voxpop.broker.faults import can_repeat
from voxpop.broker.history import lies_in, possible

HISTORIES = int(os.environ.get("VOXPOP_ACCESS", "80"))
FIRST_SEED = int(os.environ.get("VOXPOP_ACCESS_SEED", "0"))
WORKFORCES, POOLS, PEOPLE = ("crew", "vendor"), ("team", "night"), ("ann", "bob")
ROUNDS = 6
MOST_HISTORIES = 200  # in which a planted fault must be found
RECENT = 3  # jobs of a pool that people still work on
OPS = ("create_workforce", "set_allowlist", "create_pool", "add_members", "remove_members", "create_job")
HOME, AWAY = ("10.0.0.0/8",), ("192.168.0.0/16",)
LISTS = ((), HOME, HOME, HOME, AWAY, AWAY)
ADDRESSES = ("10.0.0.1", "192.168.0.1")
NOWHERE = ("203.0.113.0/24",)
THERE = "203.0.113.7"


@dataclass
class Change:
    """What somebody asked for between two moments; ``ended`` stays infinite if nobody was told that it is done."""

    began: float
    ended: float
    told: object


class Caller:
    """A client that is taken one request further at a time; ``wanted`` is what it asks for next."""

    def __init__(self, history, name):
        self.history, self.name = history, name
        self.die()

    def die(self):
        """Forget everything: another process takes its place."""
        self.client = Client(self.history.connection, prefix=self.history.prefix)
        self.what, self.steps, self.wanted, self.mine, self.who = "", None, None, [], ()
        self.tokens = {}

    def start(self, op, *args, mine=(), needs="", who=()):
        """Begin a call: ``mine`` are the changes that it makes, ``needs`` what has to be there, ``who`` works."""
        self.what, self.mine, self.needs, self.who = f"{op}{args}", list(mine), needs, who
        self.began = self.history.now
        self.steps = getattr(self.client.operations, op)(*args)
        self.history.note(f"{self.name} begins {self.what}")
        return self.go(lambda: next(self.steps))

    def request(self, *, lose=False):
        """Send what is wanted. A reply that is lost is asked for again, by and by."""
        try:
            reply = self.client._patiently(self.wanted)
        except BrokerError as error:
            self.history.note(f"{self.name} {self.wanted} -> {error}")
            refusal = error
            return self.go(lambda: self.steps.throw(refusal))
        self.history.note(f"{self.name} {self.wanted} -> {reply}{' (lost)' if lose else ''}")
        return None if lose else self.go(lambda: self.steps.send(reply))

    def go(self, resume):
        """Go on to the next request; returns (result, error) when there is none."""
        try:
            self.wanted = resume()
        except StopIteration as stop:
            done = (stop.value, None)
        except BrokerError as error:
            done = (None, error)
        else:
            return None
        self.steps = self.wanted = None
        for change in self.mine:
            change.ended = self.history.now
            if done[1] is not None:
                self.history.withdraw(change)
        self.history.note(f"{self.name} ends {self.what}: {done}")
        return done


class History:
    """Callers that change access and callers that work, and what of it may be in force."""

    def __init__(self, connection, seed):
        self.connection, self.rng, self.prefix = connection, random.Random(seed), f"access{seed}"
        self.now, self.trace, self.found, self.deaths = 0, [], [], 0
        self.allow = defaultdict(list)  # by workforce
        self.members = defaultdict(list)  # by pool and worker
        self.made = defaultdict(list)  # by workforce or pool: that it was made
        self.jobs = defaultdict(int)  # by pool: how many
        self.admins = [Caller(self, f"admin{number}") for number in range(self.rng.choice((2, 3)))]
        self.portals = [Caller(self, f"portal{number}") for number in range(4)]
        self.keys = self.admins[0].client.operations.keys
        # Few of everything, so that they meet; and habits of its own.
        self.workforces = WORKFORCES[: self.rng.choice((1, 1, 2))]
        self.pools = POOLS[: self.rng.choice((1, 1, 2))]
        self.people = PEOPLE[: self.rng.choice((1, 2))]
        self.addresses = ADDRESSES[: self.rng.choice((1, 2))]
        self.death_rate, self.loss_rate = self.rng.choice((0, 0, 0.03, 0.1)), self.rng.choice((0, 0.1))
        # How often the same caller goes on: many faults want one call to stand still while another runs to its end.
        self.active, self.steadiness = self.admins[0], self.rng.choice((0, 0.8, 0.9))
        self.weights = [weight * self.rng.choice((0.3, 1, 1, 3)) for weight in (1, 6, 4, 4, 2, 3)]

    def prepare(self):
        """Most histories begin where something is there already."""
        admin, depth = self.admins[0], self.rng.choice((0, 1, 1, 2, 2))
        for workforce in self.workforces if depth else ():
            self.administer(admin, "create_workforce", workforce)
            self.to_the_end(admin)
        for pool in self.pools if depth == 2 else ():
            self.administer(admin, "create_pool", self.rng.choice(self.workforces), pool, self.people)
            self.to_the_end(admin)
            self.administer(admin, "create_job", "", pool)
            self.to_the_end(admin)

    def note(self, line):
        self.trace.append(f"{self.now} {line}")

    def withdraw(self, change):
        """A call that was refused changed nothing."""
        for kind in (self.allow, self.members, self.made):
            for changes in kind.values():
                changes[:] = [one for one in changes if one is not change]

    def change(self, changes, told):
        made = Change(self.now, inf, told)
        changes.append(made)
        return made

    # -- what they do ----------------------------------------------------------------------------------------------

    def play(self):
        """Everybody looks around; some change something, all at once; and everybody looks around again."""
        for caller in self.portals:
            self.look_around(caller, often=0.5)
        for caller in self.admins:
            self.administer(caller)
        while busy := [caller for caller in self.admins if caller.steps is not None]:
            self.now += 1
            if self.rng.random() >= self.steadiness or self.active not in (*busy, *self.portals):
                self.active = self.rng.choice(busy + self.portals)
            self.step(self.active)
        self.compare()
        for caller in self.portals:
            self.look_around(caller, often=1)

    def step(self, caller):
        if caller.steps is None:
            self.work(caller)
        elif caller in self.admins and self.rng.random() < self.death_rate:
            self.note(f"{caller.name} dies in {caller.what}")
            self.deaths += 1
            caller.die()
        else:
            lose = can_repeat(caller.wanted) and self.rng.random() < self.loss_rate
            self.judge(caller, caller.request(lose=lose))

    def to_the_end(self, caller):
        while caller.steps is not None:
            self.now += 1
            self.judge(caller, caller.request())
        self.now += 1

    def look_around(self, caller, often):
        """Claim in every job, one after the other."""
        self.to_the_end(caller)
        for pool in self.pools:
            for number in self.recent(pool):
                if self.rng.random() < often:
                    self.work(caller, pool, number)
                    self.to_the_end(caller)

    def administer(self, caller, op="", workforce="", pool="", people=()):
        rng = self.rng
        op = op or rng.choices(OPS, self.weights)[0]
        workforce, pool = workforce or rng.choice(self.workforces), pool or rng.choice(self.pools)
        people = people or rng.sample(self.people, rng.randint(1, len(self.people)))
        allow = rng.choice(LISTS)
        if op in ("create_workforce", "set_allowlist"):
            mine = [self.change(self.allow[workforce], allow)]
            if op == "create_workforce":
                mine.append(self.change(self.made[workforce], told=True))
            done = caller.start(op, workforce, allow, mine=mine, needs=workforce)
        elif op == "create_pool":
            mine = [self.change(self.members[pool, who], told=True) for who in people]
            mine.append(self.change(self.made[pool], told=True))
            done = caller.start(op, pool, workforce, people, mine=mine, needs=workforce)
        elif op == "create_job":
            self.jobs[pool] += rng.random() < 0.6
            done = caller.start(op, job_of(pool, self.jobs[pool]), "the same request", needs=pool)
        else:
            mine = [self.change(self.members[pool, who], op == "add_members") for who in people]
            done = caller.start(op, pool, people, mine=mine, needs=pool)
        self.judge(caller, done)

    def work(self, caller, pool="", number=None):
        rng, pool = self.rng, pool or self.rng.choice(self.pools)
        worker, address = rng.choice(self.people), rng.choice(self.addresses)
        job = f"{pool}{rng.choice(self.recent(pool)) if number is None else number}"
        if rng.random() < 0.1:
            caller.die()  # between two calls: another process, which remembers nobody
        tokens = caller.tokens.get((job, worker))
        if rng.random() < 0.1:
            done = caller.start("append", job, 5)
        elif tokens and rng.random() < 0.5:
            done = caller.start(
                "submit", job, worker, address, [Answer(tokens[-1], "x", 1.0)], who=(pool, worker, address)
            )
        else:
            done = caller.start("claim", job, worker, address, who=(pool, worker, address))
            caller.job = job
        self.judge(caller, done)

    def recent(self, pool):
        return range(max(0, self.jobs[pool] - RECENT + 1), self.jobs[pool] + 1)

    # -- what they may -----------------------------------------------------------------------------------------------

    def judge(self, caller, done):
        """Look at a call that has ended."""
        result, error = done or (None, None)
        if done and caller in self.admins and error is not None:
            self.judge_refusal(caller, error)
        elif done and error is None and caller.who:
            if caller.what.startswith("claim") and result.leases:
                caller.tokens.setdefault((caller.job, caller.who[1]), []).append(result.leases[0].token)
            self.judge_entry(caller, *caller.who)

    def judge_entry(self, caller, pool, worker, address):
        """Whoever was let in was a member, and in an allowed range, at some moment of the call."""
        nobody, nowhere = Change(-inf, -inf, told=False), Change(-inf, -inf, None)
        workforce = (self.connection.hget(self.keys.pool(pool), "workforce") or b"").decode()
        ranges = possible([nowhere, *self.allow[workforce]], caller.began, self.now)
        member = possible([nobody, *self.members[pool, worker]], caller.began, self.now)
        if not any(member) or not any(one is not None and lies_in(address, one) for one in ranges):
            self.found.append(f"{self.now}: {caller.what} succeeded; allowed are {ranges}, membership is {member}")

    def judge_refusal(self, caller, error):
        """A change is refused only if what it needs is not there, or the name is another workforce's."""
        is_there = any(change.ended < caller.began for change in self.made[caller.needs])
        rightly = isinstance(error, ConflictError) or (isinstance(error, NotFoundError) and not is_there)
        if not rightly:
            self.found.append(f"{self.now}: {caller.what} was refused: {error}")

    # -- how it ends -------------------------------------------------------------------------------------------------

    def finish(self):
        """Whatever happened, everything can be put right, and old clients see it."""
        with Client(self.connection, prefix=self.prefix) as client:
            for workforce in self.workforces:
                client.create_workforce(workforce, HOME)
            for pool in self.pools:
                self.restore(client, pool)

    def compare(self):
        """Where nobody has died, each pool has the allowlist of its workforce."""
        if self.deaths:
            return
        for pool in self.pools:
            workforce, allow = self.connection.hmget(self.keys.pool(pool), "workforce", "allow")
            of = workforce and self.connection.hget(self.keys.workforce(workforce.decode()), "allow")
            if allow != of:
                self.found.append(f"{self.now}: pool {pool} has the allowlist {allow}, its workforce {of}")

    def restore(self, client, pool):
        refused = []
        for workforce in self.workforces:
            try:
                client.create_pool(pool, workforce, PEOPLE)
            except ConflictError:
                refused.append(workforce)
        if len(refused) != len(self.workforces) - 1 or pool not in client.pools():
            self.found.append(f"pool {pool} is refused to {refused}; there are {client.pools()}")
        for number in self.recent(pool):
            client.create_job(job_of(pool, number), "the same request")
        workforce = client.pool(pool).workforce
        client.set_allowlist(workforce, HOME)
        self.expect(pool, "ann", ADDRESSES[0], inside=True)
        client.set_allowlist(workforce, NOWHERE)
        self.expect(pool, "ann", ADDRESSES[0], inside=False)
        self.expect(pool, "ann", THERE, inside=True)
        client.remove_members(pool, ["ann"])
        self.expect(pool, "ann", THERE, inside=False)
        self.expect(pool, "bob", THERE, inside=True)

    def expect(self, pool, worker, address, *, inside):
        """Every client finds the same in every job, whatever it remembers."""
        for portal in self.portals:
            for number in self.recent(pool):
                try:
                    portal.client.claim(f"{pool}{number}", worker, address)
                    found = True
                except NotFoundError:
                    found = False
                if found is not inside:
                    how = "let in" if found else "kept out"
                    self.found.append(f"{worker} at {address} is {how} in job {number} of pool {pool}")


def job_of(pool, number):
    return JobSpec(name=f"{pool}{number}", task_type="text_single_label", pool=pool, replication=2)


def run_history(connection, seed):
    """Return what was wrong in one history."""
    connection.flushall()
    history = History(connection, seed)
    try:
        history.prepare()
        for _ in range(ROUNDS):
            history.play()
        history.finish()
    except BrokerError as error:
        history.found.append(f"at the end: {error}")
    if history.found:
        history.found.append(f"seed {seed}; the requests:\n" + "\n".join(history.trace[-200:]))
    return history.found


def test_no_interleaving_lets_anybody_in(server_url):
    """Once a change is acknowledged nobody outside claims or submits, and no death makes later changes fail."""
    with redis.Redis.from_url(server_url, protocol=2) as connection:
        for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
            found = run_history(connection, seed)
            assert not found, "\n".join(found)


FAULTS = (
    planted.fault(
        "an older allowlist replaces a newer one",
        "edit_pool",
        "is_news = tonumber(ARGV[3]) > tonumber(version or -1)",
        "is_news = true",
    ),
    planted.fault(
        "a shard forgets at its opening what it was told of its pool",
        "open",
        '"caller_clock", ARGV[7],',
        '"caller_clock", ARGV[7], "epoch", 0,',
    ),
    planted.fault(
        "a removal is no news",
        "edit_pool",
        "local changed, is_news = 0, true",
        "local changed, is_news = 0, ARGV[1] ~= 'remove'",
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_planted_faults_are_found(valkey_url, fault):
    """A script that lets somebody in is found within a bounded number of histories."""
    with planted.in_place(fault), redis.Redis.from_url(valkey_url, protocol=2) as connection:
        assert any(run_history(connection, seed) for seed in range(100, 100 + MOST_HISTORIES))
