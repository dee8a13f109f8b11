"""The scripts and their readable specification, ``broker/model.py``, in lockstep on real servers.

A history is a seed: a random shard, and random calls with a random clock, made to both. Replies and events must be
equal, and what the scripts keep packed in Redis must unpack to what the model holds. ``VOXPOP_LOCKSTEP`` sets how many
histories a server gets (default 150); a failure names its seed and prints the calls that led to it.
"""

from __future__ import annotations

import os
import random
import struct
from collections import Counter

import pytest
import redis

from voxpop.broker.events import Closed, Extended, Settled, Submitted, decode
from voxpop.broker.keys import Keys
from voxpop.broker.model import LeaseTimer, RetryTimer, Shard, State
from voxpop.broker.models import Token
from voxpop.broker.replay import HistorySpec, Replay
from voxpop.broker.scripts import COUNTERS, load
from voxpop.broker.wire import Code, pack_items, pack_pairs, pack_tokens, unpack_items

HISTORIES = int(os.environ.get("VOXPOP_LOCKSTEP", "150"))
FIRST_SEED = int(os.environ.get("VOXPOP_LOCKSTEP_SEED", "0"))
BATCHES = 5
KEYS = Keys("lockstep").shard("j")
KEPT = 1000
GENEROUS = 200  # tickets an item may have in the end


class Pair:
    """One shard twice: in Redis and as a model. Every call goes to both."""

    def __init__(self, connection, rng, **settings):
        self.connection = connection
        self.rng = rng
        self.trace = []
        self.replication = rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 7, 64))
        self.chunk_items = rng.choice((1, 2, 4, 64))
        self.max_declines = rng.choice((1, 2, 3, 5, 255))
        self.lease_ms, self.retry_ms = rng.choice((20, 100, 1000)), rng.choice((0, 30, 300))
        self.people = rng.choice((1, 2, 3, 5, 1000))
        self.__dict__.update(settings)
        self.now_ms = 1000
        self.model = Shard(
            replication=self.replication,
            lease_ms=self.lease_ms,
            retry_ms=self.retry_ms,
            max_declines=self.max_declines,
            people=self.people,
        )
        connection.delete(*KEYS.all())
        config = (self.replication, self.chunk_items, self.lease_ms, self.retry_ms, self.max_declines, 2**40, 1)
        self.trace.append(f"open {config} people={self.people}")
        self.run("learn_pool", 0, self.people)
        self.run("open", *config)

    def run(self, name, *args):
        script = load(name)
        keys = KEYS.all()
        try:
            return self.connection.evalsha(script.sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self.connection.eval(script.source, len(keys), *keys, *args)

    def both(self, script, args, expected):
        """Run a script and compare its reply with the model's; the model was called first."""
        reply = self.run(script, self.now_ms, *args)
        shown = [reply[0].decode() if isinstance(reply[0], bytes) and isinstance(expected[0], str) else reply[0]]
        assert (*shown, *reply[1:]) == tuple(expected), f"{script}: scripts, then model"
        return expected

    # -- one method a transition -----------------------------------------------------------------------------------

    def append(self, at, count, segment="", named=(), ids=()):
        named = sorted(named)
        self.trace.append(f"append at={at} count={count} named={named} ids={ids} now={self.now_ms}")
        expected = self.model.append(self.now_ms, at, count, segment, named, ids)
        return self.both("append", (at, count, segment, pack_pairs(named), *ids), expected)

    def claim(self, worker, k, lease_ms=0, epoch=None):
        epoch = self.model.epoch if epoch is None else epoch
        expected = self.model.claim(self.now_ms, worker, epoch, k, lease_ms)
        self.trace.append(f"claim worker={worker} k={k} lease_ms={lease_ms} epoch={epoch} now={self.now_ms} {expected}")
        _, _, _, attempt, first, length, main, others, _ = self.both("claim", (worker, epoch, k, lease_ms), expected)
        found = [Token(0, item, worker, attempt, item, 1) for item in unpack_items(others)]
        found += [Token(0, item, worker, attempt, first, length) for item in unpack_items(main)]
        assert len({token.item for token in found}) == len(found) <= k
        return found

    def submit(self, worker, answers, epoch=None):
        epoch = self.model.epoch if epoch is None else epoch
        expected = self.model.submit(self.now_ms, worker, epoch, answers)
        self.trace.append(f"submit worker={worker} {answers} epoch={epoch} now={self.now_ms} {expected}")
        parts = [part for _, seconds, content in answers for part in (repr(seconds), content)]
        tokens = pack_tokens([token for token, _, _ in answers])
        return self.both("submit", (worker, epoch, tokens, *parts), expected)

    def renew(self, worker, tokens, lease_ms=0, epoch=None):
        epoch = self.model.epoch if epoch is None else epoch
        self.trace.append(f"renew worker={worker} {tokens} lease_ms={lease_ms} now={self.now_ms}")
        expected = self.model.renew(self.now_ms, worker, epoch, tokens, lease_ms)
        return self.both("renew", (worker, epoch, pack_tokens(tokens), lease_ms), expected)

    def giveback(self, worker, tokens, *, decline, epoch=None):
        epoch = self.model.epoch if epoch is None else epoch
        expected = self.model.giveback(self.now_ms, worker, epoch, tokens, decline=decline)
        self.trace.append(f"giveback worker={worker} {tokens} decline={decline} now={self.now_ms} {expected}")
        return self.both(
            "giveback", (worker, epoch, pack_tokens(tokens), "decline" if decline else "release"), expected
        )

    def expire(self, limit):
        expected = self.model.expire(self.now_ms, limit)
        self.trace.append(f"expire limit={limit} now={self.now_ms} {expected}")
        return self.both("expire", (limit,), expected)

    def extend(self, maximum, tickets, items, named):
        expected = self.model.extend(self.now_ms, maximum, tickets, items, named)
        self.trace.append(f"extend maximum={maximum} tickets={tickets} {items} {named} now={self.now_ms} {expected}")
        return self.both("extend", (maximum, tickets, pack_items(items), pack_pairs(named)), expected)

    def settle(self, ends):
        expected = self.model.settle(self.now_ms, ends)
        self.trace.append(f"settle {ends} now={self.now_ms} {expected}")
        return self.both("settle", (KEPT, *(part for end in ends for part in end)), expected)

    def publish(self, labels):
        self.trace.append(f"publish {labels} now={self.now_ms}")
        expected = self.model.publish(self.now_ms, labels)
        return self.both("publish", (KEPT, *(part for label in labels for part in label)), expected)

    def seal(self):
        self.trace.append(f"seal now={self.now_ms}")
        return self.both("seal", (), self.model.seal(self.now_ms))

    def stop(self, *, revoke):
        self.trace.append(f"stop revoke={revoke} now={self.now_ms}")
        return self.both("stop", (int(revoke),), self.model.stop(self.now_ms, revoke=revoke))

    def learn_pool(self, epoch, people):
        self.trace.append(f"learn_pool {epoch} {people} now={self.now_ms}")
        assert tuple(self.run("learn_pool", epoch, people)) == self.model.learn_pool(epoch, people)

    def attend(self):
        """Clear the dirty flag; the counters are compared with what the model counts."""
        self.trace.append(f"attend now={self.now_ms}")
        dirty = int(self.model.dirty)
        expected = self.model.attend(self.now_ms)
        reply = self.run("attend", self.now_ms, 1)
        assert tuple(reply[:3]) == (*expected, dirty)
        found = dict(zip(COUNTERS, reply[3:], strict=True))
        found.pop("log_bytes")
        assert found == self.counted()

    def counted(self):
        model, kinds = self.model, Counter()
        for event in model.events:
            kinds[type(event).__name__] += len(getattr(event, "tickets", ())) if not isinstance(event, Extended) else 0
            if isinstance(event, Submitted):
                kinds["answers"] += sum(answer.used for answer in event.answers)
            elif isinstance(event, Settled):
                kinds.update(f"end {end[1]}" for end in event.ends)
        return {
            "appended": model.appended,
            "settled": model.appended - len(model.items),
            "labeled": kinds["end 1"],
            "failed": kinds["end 2"],
            "leased": sum(slot.state is State.LEASED for item in model.items.values() for slot in item.slots.values()),
            "answers": kinds["answers"],
            "lapsed": kinds["Expired"],
            "declined": kinds["Declined"],
            "released": kinds["Released"],
            "head": model.head,
            "sealed": int(model.sealed),
            "stopping": model.stopping,
            "seq": len(model.events),
            "reopened": len(model.reopened),
            "named": len(model.named),
        }

    # -- what Redis holds ------------------------------------------------------------------------------------------

    def compare(self):
        """Unpack everything in Redis and compare it with the model."""
        model, connection = self.model, self.connection
        assert [decode(entry[1][b"e"]) for entry in connection.xrange(KEYS.log)] == model.events
        assert int(connection.hget(KEYS.meta, "log_bytes")) == sum(
            len(entry[1][b"e"]) for entry in connection.xrange(KEYS.log)
        )
        self.compare_records()
        cursors = {int(worker): struct.unpack("<II", at) for worker, at in hash_of(connection, KEYS.cursors).items()}
        assert cursors == {worker: at for worker, at in model.cursors.items() if at != (0, 0)}
        reopened = {int(item): int(place) for item, place in zset_of(connection, KEYS.reopened)}
        assert reopened == model.reopened
        named = {struct.unpack(">II", member) for member, _ in zset_of(connection, KEYS.named)}
        assert named == model.named
        assert [int(connection.hget(KEYS.meta, field)) for field in ("reopened", "named")] == [
            len(reopened),
            len(named),
        ]
        timers = {timer_of(member): int(at) for member, at in zset_of(connection, KEYS.timers)}
        assert timers == model.timers
        assert {name.decode() for name in hash_of(connection, KEYS.ids)} == model.ids
        assert connection.exists(*KEYS.all()) == len(KEYS.all()), "every key exists from creation"

    def compare_records(self):
        overflow = {int(item): data for item, data in hash_of(self.connection, KEYS.overflow).items()}
        stored = {int(number): data for number, data in hash_of(self.connection, KEYS.chunks).items()}
        size, settled = self.chunk_items, set(range(self.model.appended)) - set(self.model.items)
        for number, data in stored.items():
            assert len(data) == size * (2 + 8 * self.replication)
            neighbours = range(number * size, number * size + size)
            done = all(mark for mark in data[:size]) and neighbours.stop <= self.model.head
            assert not done, f"chunk {number} holds nothing plain and the head is past it: it must be dropped"
        for item in settled:
            assert item not in overflow
            data = stored.get(item // size)
            assert data is None or data[item % size] == 2, f"item {item} has settled"
        for item, record in self.model.items.items():
            data, place = stored.get(item // size), item % size
            passes = data[size + place] if data else self.replication if item < self.model.head else 0
            mark = data[place] if data else 1 if item in overflow else 0
            assert self.replication - passes == record.main, f"item {item}: tickets of the main log"
            if mark == 1:
                granted, reserved, declines, closed = overflow[item][:4]
                slots = [struct.unpack_from("<II", overflow[item], at) for at in range(4, len(overflow[item]), 8)]
            else:
                assert mark == 0
                granted, reserved, declines, closed = self.replication, 0, 0, 0
                at = [size * 2 + (slot * size + place) * 8 for slot in range(passes)]
                slots = [struct.unpack_from("<II", data, offset) for offset in at] if data else []
            assert (granted, reserved, declines, bool(closed)) == (
                record.granted,
                record.reserved,
                record.declines,
                record.closed,
            ), f"item {item}"
            assert [(who >> 3, who & 7, value) for who, value in slots] == [
                (
                    slot.worker,
                    slot.state,
                    slot.digest if slot.state is State.ANSWERED else slot.attempt * 2 + slot.named,
                )
                for slot in record.slots.values()
            ], f"item {item}"
        assert set(overflow) <= set(self.model.items)


def hash_of(connection, key):
    found = connection.hgetall(key)
    assert found.pop(b"") == b""
    return found


def zset_of(connection, key):
    found = dict(connection.zrange(key, 0, -1, withscores=True))
    found.pop(b"")
    return found.items()


def timer_of(member):
    if member[:1] == b"L":
        return LeaseTimer(*struct.unpack(">IIIH", member[1:]))
    return RetryTimer(*struct.unpack(">III", member[1:]))


class Monkeys:
    """Random callers: they do everything, in any order, often wrongly."""

    CHOICES = (
        ("append", 8),
        ("claim", 30),
        ("submit", 24),
        ("renew", 4),
        ("release", 6),
        ("decline", 6),
        ("tick", 12),
        ("expire", 8),
        ("extend", 5),
        ("settle", 6),
        ("publish", 1),
        ("attend", 4),
        ("learn_pool", 1),
        ("seal", 0.3),
        ("stop", 0.3),
    )

    def __init__(self, pair):
        self.pair, self.rng = pair, pair.rng
        self.workers = self.rng.randint(1, 9) if pair.replication < 60 else 70
        self.tokens = []
        self.objects = 0
        # Each history has its own habits, so that some see hardly any expiry and others hardly anything else.
        self.weights = [weight * self.rng.choice((0.3, 1, 1, 3)) for _, weight in self.CHOICES]

    def step(self):
        ((name, _),) = self.rng.choices(self.CHOICES, self.weights)
        getattr(self, name)()

    def worker(self):
        return self.rng.randrange(self.workers)

    def epoch(self):
        return max(0, self.pair.model.epoch - (self.rng.random() < 0.02))

    def some_items(self):
        top = self.pair.model.appended + (self.rng.random() < 0.1)
        return self.rng.sample(range(top), min(top, self.rng.choice((1, 1, 1, 2, 5))))

    def some_tokens(self):
        """A worker and tokens: mostly their recent ones; sometimes old, foreign or forged ones."""
        rng = self.rng
        if not self.tokens:
            return self.worker(), []
        recent = self.tokens[-rng.choice((3, 10, 40, len(self.tokens))) :]
        worker = rng.choice(recent).worker
        mine = [token for token in recent if token.worker == worker]
        picked = rng.choices(mine, k=rng.choice((1, 1, 2, 5)))  # with repeats
        if rng.random() < 0.3:
            last = mine[-1].attempt
            picked = [token for token in mine if token.attempt == last]
        if rng.random() < 0.05:
            picked.append(rng.choice(self.tokens))
        if rng.random() < 0.05:
            token = rng.choice(picked)
            forged = rng.choice(
                (
                    token._replace(item=token.item + rng.choice((1, 2, 1000))),
                    token._replace(attempt=max(0, token.attempt + rng.choice((-1, 1, 1000)))),
                    token._replace(first=token.first + 1),
                    token._replace(length=rng.choice((0, token.length + 1))),
                    token._replace(first=self.tokens[-1].first, length=self.tokens[-1].length),
                    token._replace(attempt=self.tokens[-1].attempt),
                )
            )
            picked.insert(rng.randrange(len(picked) + 1), forged)
        return worker, picked

    def append(self):
        rng, count = self.rng, self.rng.choice((1, 2, 3, 10))
        appended = self.pair.model.appended
        at = rng.choice((-1, -1, appended, appended, max(0, appended - 2), appended + 1))
        named = []
        if rng.random() < (0.9 if self.pair.replication == 0 else 0.2):
            for offset in range(count):
                people = rng.sample(range(self.workers), min(self.workers, rng.choice((0, 1, 2, 3))))
                named += [(offset, worker) for worker in people]
        ids = []
        if rng.random() < 0.2:
            ids = [
                f"id{rng.randrange(self.objects + 1)}" if rng.random() < 0.03 else self.new_id() for _ in range(count)
            ]
        self.pair.append(at, count, rng.choice(("", "file:seg")), named, ids)

    def new_id(self):
        self.objects += 1
        return f"id{self.objects}"

    def claim(self):
        k = self.rng.choice((1, 1, 2, 3, 7, 20))
        self.tokens += self.pair.claim(self.worker(), k, self.rng.choice((0, 0, 0, 10, 500)), self.epoch())

    def submit(self):
        worker, tokens = self.some_tokens()
        answers = [
            (token, self.rng.choice((0.0, 1.5)), self.rng.choice((b'"a"', b'"a"', b'"b"', b"{}"))) for token in tokens
        ]
        if answers:
            self.pair.submit(worker, answers, self.epoch())

    def renew(self):
        worker, tokens = self.some_tokens()
        if tokens:
            self.pair.renew(worker, tokens, self.rng.choice((0, 0, 5, 700)), self.epoch())

    def release(self):
        worker, tokens = self.some_tokens()
        if tokens:
            self.pair.giveback(worker, tokens, decline=False, epoch=self.epoch())

    def decline(self):
        worker, tokens = self.some_tokens()
        if tokens:
            self.pair.giveback(worker, tokens, decline=True, epoch=self.epoch())

    def tick(self):
        self.pair.now_ms += self.rng.choice((1, 10, 10, 50, 200, 2000, -15))

    def expire(self):
        self.pair.expire(self.rng.choice((1, 2, 200)))

    def extend(self):
        rng = self.rng
        items = self.some_items() if rng.random() < 0.7 else []
        named = [(item, self.worker()) for item in self.some_items()] if rng.random() < 0.5 else []
        self.pair.extend(rng.choice((3, 8, GENEROUS)), rng.choice((1, 1, 2)), items, named)

    def settle(self):
        record_of = self.pair.model.items.get
        ready = [
            item for item in self.some_items() if not (record := record_of(item)) or record.used == record.answered
        ]
        if self.rng.random() < 0.1:
            ready = self.some_items()  # early: leases are out
        if ready:
            self.pair.settle([(item, self.rng.choice((1, 1, 2, 3)), 1, "why", b'{"v":1}') for item in ready])

    def publish(self):
        if items := [item for item in self.some_items() if item < self.pair.model.appended]:
            self.pair.publish([(item, 1, 2, "", b"2") for item in items])

    def attend(self):
        self.pair.attend()

    def learn_pool(self):
        epoch = max(0, self.pair.model.epoch + self.rng.choice((-1, 0, 1)))
        self.pair.learn_pool(epoch, self.rng.choice((1, 2, 3, 5, 1000)))

    def seal(self):
        self.pair.seal()

    def stop(self):
        self.pair.stop(revoke=self.rng.random() < 0.5)


def drain(pair, workers):
    """Everybody works on until there is nothing left; then every item that has not ended has all of its answers."""
    # The monkeys' own people may all be excluded from an item, so enough others help.
    people = [*range(workers), *range(1000, 1000 + max((r.granted for r in pair.model.items.values()), default=0) + 1)]
    idle = False
    while not idle:
        pair.now_ms += 100_000
        while pair.expire(200)[2] and pair.model._next_ms() <= pair.now_ms:
            pass
        idle = True
        for worker in people:
            while tokens := pair.claim(worker, 20):
                idle = False
                pair.submit(worker, [(token, 1.0, b"1") for token in tokens])
    told = set()
    for event in pair.model.events:
        if isinstance(event, Submitted):
            told.update(answer.item for answer in event.answers if answer.full)
        elif isinstance(event, Closed):
            told.update(unpack_items(event.items))
        elif isinstance(event, Extended):
            told.difference_update(unpack_items(event.items))
            told.difference_update(unpack_items(event.named)[::2])
    for item, record in pair.model.items.items():
        assert record.answered == record.granted, f"item {item} is stuck: {record}"
        assert item in told, f"item {item} has all of its answers but nobody was told: {record}"


def judge(pair):
    """The history checker, which shares nothing with the model, finds nothing in its log."""
    spec = HistorySpec(
        job="j",
        pool="p",
        workforce="w",
        replication=pair.replication,
        max_declines=pair.max_declines,
        retry_seconds=pair.retry_ms / 1000,
        workers={},
        members=(),
    )
    replay = Replay(spec)
    for event in pair.model.events:
        replay.follow(event)
    replay.finish()
    # The monkeys forge tokens, and publish whatever they like.
    wrong = [found for found in replay.violations if found.rule not in ("4 forged", "7 version")]
    assert not wrong, wrong


def run_history(connection, seed, steps=60):
    rng = random.Random(seed)
    pair = Pair(connection, rng)
    try:
        monkeys = Monkeys(pair)
        for step in range(steps):
            monkeys.step()
            if step % 10 == 9:
                pair.compare()
        pair.compare()
        if not pair.model.stopping:
            drain(pair, monkeys.workers)
            pair.compare()
        judge(pair)
    except (AssertionError, redis.RedisError, LookupError, ValueError, struct.error) as error:
        error.add_note(f"seed {seed}; the calls:\n" + "\n".join(pair.trace[-80:]))
        raise
    return pair


@pytest.mark.parametrize("batch", range(BATCHES))
def test_scripts_and_model_agree(server_url, batch):
    """On random histories the scripts reply, log and keep what the model says."""
    with redis.Redis.from_url(server_url, protocol=2) as connection:
        for seed in range(FIRST_SEED + batch, FIRST_SEED + HISTORIES, BATCHES):
            run_history(connection, seed)


@pytest.fixture
def pair(server_url):
    """A shard of two tickets an item, twice."""
    with redis.Redis.from_url(server_url, protocol=2) as connection:
        yield Pair(connection, random.Random(0), replication=2, chunk_items=4, max_declines=5, lease_ms=1000)


def test_a_claim_walks_a_bounded_run_of_items_that_have_ended(pair):
    """70,000 items that end beyond the head neither overflow the length of a run nor stall a claim."""
    count = 70_000
    for first in range(0, count + 2, 10_000):
        pair.append(first, min(10_000, count + 2 - first))
    for first in range(1, count + 1, 1000):
        pair.settle([(item, 3, 1, "budget", b"") for item in range(first, first + 1000)])
    found, calls = [], 0
    while len(found) < 2:
        found += pair.claim(5, 2)
        calls += 1
    assert [token.item for token in found] == [0, count + 1]
    assert calls > 2
    pair.now_ms += 5000
    assert pair.expire(10)[1] == 2
    pair.compare()


def test_a_claim_looks_past_named_tickets_of_items_that_have_ended(pair):
    """Nobody takes an open ticket of an item that still holds a ticket in their name."""
    pair.append(-1, 300, named=[(offset, 3) for offset in range(300)])
    pair.settle([(item, 2, 1, "gone", b"") for item in range(250)])
    found = []
    while len(found) < 50:
        found += pair.claim(3, 1)
    assert [token.item for token in found] == list(range(250, 300))
    assert pair.claim(3, 1) == []
    pair.compare()


def test_a_claim_looks_at_a_bounded_part_of_the_reopened_log(pair):
    """Somebody who may have none of many returned tickets is told to come again, and gets what lies behind them."""
    pair.append(-1, 300)
    tokens = [token for _ in range(3) for token in pair.claim(1, 100)]
    pair.submit(1, [(token, 0.0, b"1") for token in tokens])
    given_back = [token for _ in range(3) for token in pair.claim(2, 100)]
    pair.giveback(2, given_back, decline=True)
    pair.append(-1, 1)
    assert [token.item for token in pair.claim(1, 1)] == [300]
    for _ in range(10):
        pair.claim(1, 1)
    pair.compare()
    assert len(pair.claim(3, 400)) == 301
    pair.compare()


def test_codes_are_what_scripts_write():
    """The numbers in the scripts' contracts are those of ``Code``."""
    assert [code.name for code in Code] == [
        "UNKNOWN", "DONE", "REPEATED", "EXPIRED", "SETTLED", "CONFLICT", "OVER_MAXIMUM", "HAS_IT", "NOBODY_LEFT"
    ]  # fmt: skip
