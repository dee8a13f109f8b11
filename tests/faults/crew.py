"""Those who make a random history: workers, a policy, a pusher, an administrator. What they do follows from a seed.

Each is an object whose ``step`` makes a few calls through a ``Journal``, so that they can take turns in one process
under a clock of their own, or run in processes that are killed. ``test_histories.py`` and ``planted.py`` start them.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from pathlib import Path

import msgspec

from voxpop.broker import Answer, Client, ItemEnd, JobSpec, Settlement
from voxpop.broker.errors import BrokerError
from voxpop.broker.events import Closed, Extended, Labeled, Settled, Submitted, unpack_items, unpack_pairs
from voxpop.broker.history import HistorySpec, Journal, check, read_journal, write_entry

HOME, AWAY = "10.1.0.0/16", "192.168.7.0/24"
ADDRESSES = ("10.1.2.3", "::ffff:10.1.9.9", "192.168.7.7")
POOL, WORKFORCE, JOB = "team", "crew", "history"
MANY = 1_000_000  # events


class Setting(msgspec.Struct, frozen=True):
    """A random job, by seed."""

    seed: int
    url: str
    prefix: str
    clock: str
    replication: int
    lease_seconds: float
    retry_seconds: float
    max_declines: int
    people: int
    items: int
    stop: str  # "", "stop" or "revoke"
    restless: bool  # members and allowlist change

    @property
    def spec(self) -> JobSpec:
        return JobSpec(
            name=JOB,
            task_type="text_single_label",
            pool=POOL,
            replication=self.replication,
            assignment="open" if self.replication else "named",
            lease_seconds=self.lease_seconds,
            retry_seconds=self.retry_seconds,
            max_declines=self.max_declines,
            clock=self.clock,
        )

    @property
    def workers(self) -> list[str]:
        return [f"w{number}" for number in range(self.people)]


def random_setting(seed: int, url: str, clock: str) -> Setting:
    rng = random.Random(seed)
    return Setting(
        seed=seed,
        url=url,
        prefix=f"h{seed}",
        clock=clock,
        replication=rng.choice((0, 1, 2, 2, 3, 5)),
        lease_seconds=rng.choice((0.03, 0.1, 0.4)),
        retry_seconds=rng.choice((0.0, 0.0, 0.02, 0.2)),
        max_declines=rng.choice((0, 1, 2, 4)),
        people=rng.choice((1, 2, 2, 3, 4, 5, 6, 7)),
        items=rng.choice((3, 8, 40)),
        stop=rng.choice(("", "", "", "stop", "revoke")),
        restless=rng.random() < 0.4,
    )


class Bot:
    """Somebody with a journal. ``now_ms`` is the time where the callers hold the clock."""

    def __init__(self, setting, journal, rng, now_ms=lambda: 0):
        self.setting, self.journal, self.rng, self.now_ms = setting, journal, rng, now_ms

    def step(self):
        """Do something; what the broker refuses is part of the history."""
        try:
            self.act()
        except BrokerError:
            return False
        return True

    def act(self):
        raise NotImplementedError


class Worker(Bot):
    """Several people behind one client. The same people may sit behind another client at the same time."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.tokens = defaultdict(list)
        self.said = {}

    def act(self):
        rng, now = self.rng, {"now_ms": self.now_ms()}
        who = rng.choice(self.setting.workers)
        where, mine = rng.choice(ADDRESSES), self.tokens[who][-30:]
        action = rng.choices(("claim", "submit", "renew", "release", "decline", "expire"), (30, 40, 3, 8, 6, 8))[0]
        if action == "claim":
            claim = self.journal.claim(JOB, who, where, rng.choice((1, 2, 3, 10)), **now)
            self.tokens[who] += [lease.token for lease in claim.leases]
        elif action == "expire":
            self.journal.client.expire(JOB, limit=rng.choice((1, 200)), **now)
        elif mine:
            picked = rng.choices(mine, k=rng.choice((1, 1, 2, 4)))
            if action == "submit":
                self.journal.submit(JOB, who, where, [self.answer(token) for token in picked], **now)
            elif action == "renew":
                self.journal.renew(JOB, who, where, picked, lease_seconds=rng.choice((0, 0.01, 0.3)), **now)
            else:
                getattr(self.journal, action)(JOB, who, where, list(dict.fromkeys(picked)), **now)

    def answer(self, token):
        """Mostly what was said before under the token; sometimes something else."""
        if token not in self.said or self.rng.random() < 0.1:
            self.said[token] = {"label": self.rng.choice("abc"), "nonce": self.rng.random()}
        return Answer(token, self.said[token], 1.0)

    def finish(self, who):
        """Do all there is to do for one person, orderly; returns whether there was anything."""
        now = {"now_ms": self.now_ms()}
        claim = self.journal.claim(JOB, who, ADDRESSES[0], 50, **now)
        if claim.leases:
            self.journal.submit(JOB, who, ADDRESSES[0], [self.answer(lease.token) for lease in claim.leases], **now)


class Policy(Bot):
    """Ends items as they are answered, sometimes after asking for more. Knows nothing but the log."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.after = 0
        self.answers, self.labels = defaultdict(list), {}
        self.ready, self.ended, self.extended = set(), set(), set()

    def read(self):
        for _, event in self.journal.client.read_log(JOB, self.after):
            self.after = event.seq
            if isinstance(event, Submitted):
                for answer in event.answers:
                    if answer.used:
                        self.answers[answer.item].append((event.worker, answer.attempt))
                    if answer.full:
                        self.ready.add(answer.item)
            elif isinstance(event, Closed):
                self.ready.update(unpack_items(event.items))
            elif isinstance(event, Extended):
                more = {*unpack_items(event.items), *(item for item, _ in unpack_pairs(event.named))}
                self.extended |= more
                self.ready -= more
            elif isinstance(event, Settled | Labeled):
                for item, _, version, _, label in getattr(event, "ends", ()) or event.labels:
                    self.ended.add(item)
                    self.labels[item] = version, inputs_of(label) if label else []

    def act(self):
        self.read()
        ready = sorted(self.ready - self.ended)
        self.rng.shuffle(ready)
        fresh = [item for item in ready if item not in self.extended and self.rng.random() < 0.2]
        if fresh:
            named = []
            if self.rng.random() < 0.3:
                indexes = sorted(self.journal.client.worker_indexes(WORKFORCE).values())
                named = [(fresh[0], self.rng.choice(indexes))]
            self.journal.extend(JOB, fresh, tickets=1, named=named, now_ms=self.now_ms())
        ends = [self.verdict(item) for item in ready if item not in fresh]
        if self.ended and self.rng.random() < 0.1:  # another verdict than the first, which stands
            ends.append(Settlement(self.rng.choice(sorted(self.ended)), ItemEnd.UNLABELED, 1, b"", "too late"))
        if ends:
            self.journal.settle(JOB, ends, now_ms=self.now_ms())

    def verdict(self, item, version=1, reason="declined"):
        answers = self.answers[item]
        label = json.dumps({"inputs": answers}).encode() if answers else b""
        end = ItemEnd.LABELED if answers else ItemEnd.FAILED
        return Settlement(item, end, version, label, "" if answers else reason)

    def amend(self):
        """Publish a new version of every label that lacks an answer: a policy that was killed may have missed it."""
        self.read()
        late = [item for item, (_, used) in self.labels.items() if used and set(self.answers[item]) - set(used)]
        if late:
            labels = [self.verdict(item, self.labels[item][0] + 1) for item in late]
            self.journal.publish(JOB, labels, now_ms=self.now_ms())


class Pusher(Bot):
    """Appends items until there are enough, sometimes twice."""

    def act(self):
        setting, rng = self.setting, self.rng
        there = self.journal.client.shard_state(JOB).appended
        if there >= setting.items:
            return
        count = min(setting.items - there, rng.choice((1, 2, 10)))
        named = []
        if setting.replication == 0 or rng.random() < 0.2:
            indexes = sorted(self.journal.client.worker_indexes(WORKFORCE).values())
            for offset in range(count):
                named += [
                    (offset, worker) for worker in rng.sample(indexes, min(len(indexes), rng.choice((0, 1, 2, 3))))
                ]
        at = rng.choice((-1, there))
        self.journal.append(JOB, count, at=at, named=named, now_ms=self.now_ms())
        if at >= 0 and rng.random() < 0.3:
            self.journal.append(JOB, count, at=at, named=named, now_ms=self.now_ms())


class Admin(Bot):
    """Shuts people and addresses out, and lets them in again."""

    def act(self):
        rng = self.rng
        who = rng.choice(self.setting.workers)
        rng.choice(
            (
                lambda: self.journal.remove_members(POOL, [who]),
                lambda: self.journal.add_members(POOL, [who]),
                lambda: self.journal.set_allowlist(WORKFORCE, rng.choice(([HOME], [AWAY], [HOME, AWAY]))),
            )
        )()


ROLES = {"worker": Worker, "policy": Policy, "pusher": Pusher, "admin": Admin}


def inputs_of(label):
    return [tuple(pair) for pair in json.loads(label)["inputs"]]


def create(client, setting):
    """Make the job and its people."""
    client.create_workforce(WORKFORCE, [HOME, AWAY])
    client.create_pool(POOL, WORKFORCE, setting.workers)
    client.create_job(setting.spec)


def finish(setting, journal, rng, now_ms, wait):
    """Bring the job to its end, as its actors would: everybody inside, everything answered or stopped."""
    client = journal.client
    journal.set_allowlist(WORKFORCE, [])
    spares = [f"spare{number}" for number in range(setting.replication + 5)]
    journal.add_members(POOL, [*setting.workers, *spares])
    policy, worker = Policy(setting, journal, rng, now_ms), Worker(setting, journal, rng, now_ms)
    if setting.stop:
        journal.stop_job(JOB, revoke=setting.stop == "revoke")
        policy.read()
        left = [item for item in range(client.shard_state(JOB).appended) if item not in policy.ended]
        if left:
            ends = [Settlement(item, ItemEnd.UNLABELED, 1, b"", "stopped") for item in left]
            journal.settle(JOB, ends, now_ms=now_ms())
        for who in setting.workers:
            worker.journal.claim(JOB, who, ADDRESSES[0], 5, now_ms=now_ms())
    else:
        journal.seal(JOB, now_ms=now_ms())
        for _ in range(200):
            state = client.shard_state(JOB)
            if state.settled == state.appended:
                break
            client.expire(JOB, now_ms=now_ms())
            for who in [*setting.workers, *spares]:
                worker.finish(who)
            policy.step()
            wait()
    policy.amend()


def judge(client, setting, entries):
    """Return what the checker finds in a history that has ended."""
    taken_out = (name for entry in entries if entry.op == "remove" for name in entry.names)
    spec = HistorySpec(
        job=JOB,
        pool=POOL,
        workforce=WORKFORCE,
        replication=setting.replication,
        max_declines=setting.spec.declines_allowed,
        retry_seconds=setting.retry_seconds,
        workers=client.worker_indexes(WORKFORCE),
        members=tuple(setting.workers),
        allow=(HOME, AWAY),
        complete=True,
        least_people=len(set(setting.workers).difference(taken_out)),
        inputs_of=inputs_of,
    )
    return check(entries, [event for _, event in client.read_log(JOB, 0, MANY)], spec=spec)


def take_turns(seed, url, steps=250):
    """Make a history in this process, under a clock of its own, and return what the checker finds."""
    setting, rng = random_setting(seed, url, "caller"), random.Random(seed)
    now = [1_000_000.0]
    entries = []
    with Client.from_url(url, prefix=setting.prefix) as admin:
        create(admin, setting)
        clients = [Client.from_url(url, prefix=setting.prefix) for _ in range(3)]
        journals = [
            Journal(client, entries.append, f"p{n}", iter(range(MANY)).__next__) for n, client in enumerate(clients)
        ]
        ticks = iter(range(MANY))
        for journal in journals:
            journal._clock = lambda: float(next(ticks))
        roles = [Worker, Worker, Worker, Worker, Policy, Pusher, *([Admin] if setting.restless else [])]
        bots = [role(setting, rng.choice(journals), rng, lambda: int(now[0])) for role in roles]
        stop_at = rng.randrange(steps) if setting.stop else steps
        try:
            for step in range(steps):
                now[0] += rng.choice((0, 1, 3, 10, 50))
                rng.choice(bots).step()
                if step == stop_at:
                    journals[0].stop_job(JOB, revoke=setting.stop == "revoke")
            finish(setting, journals[0], rng, lambda: int(now[0]), lambda: now.__setitem__(0, now[0] + 1000))
            return judge(admin, setting, entries)
        finally:
            for client in clients:
                client.close()


def run_process(setting, role, name, folder, go_on):
    """A client process: it makes calls until it is killed."""
    rng = random.Random(f"{setting.seed} {name}")
    with (
        Client.from_url(setting.url, prefix=setting.prefix) as client,
        Path(folder, f"{name}.jsonl").open("wb") as file,
    ):
        bot = ROLES[role](setting, Journal(client, lambda entry: write_entry(file, entry), name), rng)
        while go_on():
            bot.step()
            time.sleep(rng.choice((0, 0, 0.001, 0.005)))


def read_folder(folder):
    """Return the entries of all journals of a history."""
    entries = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        with path.open("rb") as file:
            entries += read_journal(file)
    return entries
