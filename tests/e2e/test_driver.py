"""Crowds at work on a real broker: who answered what, what refusals, repeats and walk-aways do, how runs end."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest
import servers

from voxpop.broker import AsyncClient, Client, ItemEnd, JobSpec, Settlement
from voxpop.broker.errors import InvalidInputError, ServerUnavailableError
from voxpop.broker.events import Closed, Submitted, unpack_items
from voxpop.broker.history import HistorySpec, check
from voxpop.broker.journal import Journal, read_journal, write_entry
from voxpop.broker.server import EmbeddedServer
from voxpop.simulator.annotators.category import CategoryCrowd
from voxpop.simulator.bulk import BulkDriver
from voxpop.simulator.crowd import Abandon, Answer, CrowdError, Decline, Visit
from voxpop.simulator.driver import AsyncDriver, EventKind, Reason
from voxpop.simulator.faults import FaultyCrowd
from voxpop.simulator.journal import AsyncJournal
from voxpop.simulator.recorded import RecordedCrowd, bluebirds
from voxpop.simulator.spec import PRESETS

OUTSIDE = "203.0.113.7"


class Settler(threading.Thread):
    """The smallest actor: settles what is full or closed as soon as the log says so."""

    def __init__(self, url, job, write):
        super().__init__(daemon=True)
        self.url, self.job, self.write, self.ended = url, job, write, threading.Event()

    def run(self):
        with Client.from_url(self.url) as client:
            journal = Journal(client, self.write, "settler")
            after, finished = 0, False
            while not (finished or self.ended.wait(0.005)):
                for _, event in client.read_log(self.job, after):
                    after = event.seq
                    done = []
                    if isinstance(event, Submitted):
                        done = [answer.item for answer in event.answers if answer.full]
                    elif isinstance(event, Closed):
                        done = unpack_items(event.items)
                    if done:
                        finished = journal.settle(
                            self.job, [Settlement(item, ItemEnd.LABELED, 1, b"1") for item in done]
                        )


class Room:
    """A job on a server, ready for a crowd."""

    def __init__(self, url, crowd, items, *, members=None, named=None, allow=("127.0.0.0/8",), **spec):
        self.url, self.crowd = url, crowd
        self.client = Client.from_url(url)
        self.client.create_workforce("private", allow)
        self.client.create_pool("team", "private", members or crowd.workers)
        spec = {"replication": 3, "retry_seconds": 0.0, "lease_seconds": 60.0} | spec
        if named is not None:
            spec |= {"assignment": "named", "replication": 0}
        self.client.create_job(
            JobSpec(name="job", task_type="text_single_label", pool="team", categories=("a", "b"), **spec)
        )
        self.entries = []
        journal = Journal(self.client, self.entries.append, "room")
        indexes = self.client.worker_indexes("private")
        for first in range(0, items, 1000):
            count = min(1000, items - first)
            pairs = [(i, indexes[who]) for i in range(count) for who in (named(first + i) if named else ())]
            journal.append("job", count, at=first, named=pairs)
        journal.seal("job")
        self.names = {index: worker for worker, index in indexes.items()}
        self.events = []
        self.happened = asyncio.Event()
        self.settler = Settler(url, "job", self.entries.append)
        self.settler.start()

    def answers(self):
        """The counted answers in the log: {(worker, item): content}; one that is counted twice fails the test."""
        found, after = {}, 0
        while events := self.client.read_log("job", after):
            for _, event in events:
                after = event.seq
                for answer in event.answers if isinstance(event, Submitted) else ():
                    if answer.used:
                        pair = self.names[event.worker], answer.item
                        assert pair not in found
                        found[pair] = msgspec.json.decode(answer.content)
        return found

    def violations(self):
        """What the history checker says of everything that clients saw and the broker logged."""
        events, after = [], 0
        while page := self.client.read_log("job", after):
            events += [event for _, event in page]
            after = events[-1].seq
        job, pool = self.client.job("job"), self.client.pool("team")
        spec = HistorySpec(
            job="job",
            pool="team",
            workforce="private",
            replication=job.spec.replication,
            max_declines=job.spec.declines_allowed,
            retry_seconds=job.spec.retry_seconds,
            workers=self.client.worker_indexes("private"),
            members=pool.members,
            allow=pool.allow,
            complete=True,
            least_people=len(pool.members),
        )
        return check(self.entries, events, spec=spec)

    def drive(self, *, during=None, speed=math.inf, **options):
        """Run the async driver to its end; ``during`` is a coroutine function that gets it while it runs."""

        async def scene():
            async with await AsyncClient.from_url(self.url, patience_seconds=0.0) as client:
                journal = AsyncJournal(client, self.entries.append, "driver")
                driver = AsyncDriver(journal, "job", self.crowd, speed=speed, on_event=self.note, **options)
                other = asyncio.create_task(during(driver)) if during else None
                report = await driver.run()
                if other:
                    await other
                return report

        return asyncio.run(scene())

    def note(self, event):
        self.events.append(event)
        self.happened.set()

    async def seen(self, kind, count):
        """Wait until there were ``count`` events of a kind."""
        while len(self.kinds(kind)) < count:
            self.happened.clear()
            await self.happened.wait()

    def kinds(self, kind):
        return [event for event in self.events if event.kind is kind]


@pytest.fixture
def room(server_url):
    """Make a room: ``room(crowd, items, **job options)``."""
    rooms = []

    def make(crowd, items, **options):
        rooms.append(Room(server_url, crowd, items, **options))
        return rooms[-1]

    yield make
    for one in rooms:
        one.settler.ended.set()
        one.settler.join()
        one.client.close()


def assert_exact(room, crowd):
    """Every counted answer is what the crowd says of that pair."""
    for (worker, item), content in room.answers().items():
        assert crowd.answer(worker, item) == Answer(content, crowd.answer(worker, item).seconds)


def test_the_recorded_people_label_every_item(room):
    """Open tickets: five different people an item, and each said what they really said."""
    crowd = bluebirds(seed=1)
    place = room(crowd, 108, replication=5)
    report = place.drive()
    assert report.reason is Reason.JOB_ENDED
    answers = place.answers()
    assert Counter(item for _, item in answers) == dict.fromkeys(range(108), 5)
    assert_exact(place, bluebirds(seed=1))
    assert report.items[EventKind.ANSWERED] == 540
    assert place.client.shard_state("job").labeled == 108


def test_named_tickets_replay_a_recording_exactly(room):
    """Not everyone answered everything: with named tickets nobody declines, and all that was recorded is said again."""
    rows = [
        (f"i{item}", f"w{worker}", "ab"[(item * worker) % 2])
        for item in range(40)
        for worker in range(12)
        if (item * 7 + worker * 5) % 3
    ]
    crowd = RecordedCrowd(rows)
    place = room(crowd, len(crowd.items), named=crowd.people_of)
    report = place.drive()
    assert report.reason is Reason.JOB_ENDED
    recorded = {(worker, crowd.items.index(item)): {"label": label} for item, worker, label in rows}
    assert place.answers() == recorded
    assert EventKind.DECLINED not in report.events
    assert place.violations() == []


def test_open_tickets_are_declined_by_those_who_never_answered(room):
    """Two of three decline the second item; it closes with the third's answer, or without if they were quicker."""
    crowd = RecordedCrowd([("i0", worker, "a") for worker in "pqr"] + [("i1", "p", "b")])
    place = room(crowd, 2, max_declines=2)
    report = place.drive()
    assert report.reason is Reason.JOB_ENDED
    assert report.items[EventKind.DECLINED] == 2
    answers = place.answers()
    assert [worker for worker, item in sorted(answers) if item == 0] == ["p", "q", "r"]
    assert [worker for worker, item in answers if item == 1] in ([], ["p"])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_finish_a_job(room, preset):
    """Each preset on its seed, with everything that its people do: declines, spam, walking away and coming back."""
    spec = msgspec.structs.replace(PRESETS[preset], seed=5)
    place = room(CategoryCrowd(spec, ("a", "b")), 300, lease_seconds=0.3)
    report = place.drive()
    assert report.reason is Reason.JOB_ENDED
    assert_exact(place, CategoryCrowd(msgspec.structs.replace(spec, abandon_rate=0.0), ("a", "b")))
    assert place.client.shard_state("job").settled == 300
    assert place.violations() == []
    if spec.abandon_rate * 900 > 10:
        assert report.events[EventKind.ABANDONED] > 0


def test_an_outsider_is_told_not_found(room):
    """A member from a wrong address, and a stranger: refused in the broker's own words, counted there, and no harm."""
    crowd = FaultyCrowd(bluebirds(), outside={"w7": OUTSIDE, "stranger": "127.0.0.1"})
    place = room(crowd, 20)
    report = place.drive()
    refused = place.kinds(EventKind.REFUSED)
    assert {(event.worker, event.address) for event in refused} == {("w7", OUTSIDE), ("stranger", "127.0.0.1")}
    assert all("job 'job' not found" in event.detail for event in refused)
    assert sum(place.client.refusals("team").values()) == 2
    assert place.violations() == []
    assert report.reason is Reason.JOB_ENDED


def test_a_walk_away_loses_the_lease_and_the_item_goes_to_somebody_else(room):
    crowd = FaultyCrowd(bluebirds(), walks_away={"w4": 0})
    place = room(crowd, 39, replication=2, lease_seconds=0.3)
    report = place.drive()
    assert report.reason is Reason.JOB_ENDED
    (left,) = place.kinds(EventKind.ABANDONED)
    answers = place.answers()
    assert left.worker == "w4"
    assert not [worker for worker, _ in answers if worker == "w4"]
    assert sum(item == left.items[0] for _, item in answers) == 2
    assert place.client.shard_state("job").lapsed == 1
    assert place.violations() == []


def test_a_submit_sent_twice_counts_once(room):
    crowd = FaultyCrowd(bluebirds(), sends_twice=bluebirds().workers)
    place = room(crowd, 30)
    report = place.drive()
    repeats = place.kinds(EventKind.DUPLICATE_SUBMITTED)
    assert report.items[EventKind.ANSWERED] == report.items[EventKind.DUPLICATE_SUBMITTED] == 90
    # An item may end between the two: then the second reply says so, and nothing else.
    assert {event.detail for event in repeats} <= {"the same receipts", "other receipts"}
    assert "the same receipts" in {event.detail for event in repeats}
    assert len(place.answers()) == place.client.shard_state("job").answers == 90
    assert place.violations() == []


class Scripted:
    """A crowd that does as a table says; anybody and anything else answers "a" at once."""

    def __init__(self, *workers, visits=None, actions=None, k=1):
        self.workers = workers
        self._visits = iter(visits or [Visit(0.0, worker, "127.0.0.1", k) for worker in workers])
        self._actions = actions or {}
        self.asked = Counter()

    def next(self, now):
        del now
        return next(self._visits, None)

    def answer(self, worker, item):
        self.asked[worker, item] += 1
        action = self._actions.get((worker, item), Answer({"label": "a"}, 0.0))
        return action(self.asked[worker, item]) if callable(action) else action


def test_who_comes_back_finishes_what_they_left(room):
    """A pool of one: the item that they walked away from comes back to them, after the lease has run out."""

    def first_time(asked):
        return Abandon(0.0, 0.0) if asked == 1 else Answer({"label": "b"}, 0.0)

    place = room(Scripted("ann", actions={("ann", 1): first_time}, k=3), 3, replication=1, lease_seconds=0.2)
    report = place.drive()
    assert report.reason is Reason.JOB_ENDED
    assert place.answers() == {("ann", 0): {"label": "a"}, ("ann", 1): {"label": "b"}, ("ann", 2): {"label": "a"}}
    assert place.kinds(EventKind.ABANDONED)[0].items == (1, 2)


def test_a_second_visit_waits_for_the_first_to_end(room):
    visits = [Visit(0.0, "ann", "127.0.0.1"), Visit(0.0, "ann", OUTSIDE)]
    place = room(Scripted("ann", visits=visits, actions={("ann", 2): Abandon(0.0)}), 3, replication=1)
    report = place.drive()
    assert report.reason is Reason.NOBODY_LEFT
    assert [event.kind for event in place.events][-2:] == [EventKind.ABANDONED, EventKind.REFUSED]


def test_too_few_people_leave_after_idling(room):
    place = room(Scripted("ann", "bob"), 2, replication=3)
    report = place.drive(idle_seconds=0.05)
    assert report.reason is Reason.IDLE
    assert report.items[EventKind.ANSWERED] == 4


def test_a_stopped_job_ends_the_run(room):
    place = room(Scripted("ann", actions={("ann", 0): Decline(0.0)}), 2, replication=1, max_declines=5)
    place.client.stop_job("job")
    assert place.drive().reason is Reason.JOB_STOPPED
    assert place.events == []


def test_stopping_gives_back_what_is_held(room):
    """People deep in thought are asked to stop: nothing stays leased."""
    slow = {(worker, item): Answer({"label": "a"}, 1000.0) for worker in ("ann", "bob") for item in range(9)}
    place = room(Scripted("ann", "bob", actions=slow, k=4), 9)

    async def stop_when_both_think(driver):
        await place.seen(EventKind.CLAIMED, 2)
        driver.stop()

    report = place.drive(during=stop_when_both_think, speed=1.0)
    assert report.reason is Reason.ASKED_TO_STOP
    assert report.items == {EventKind.CLAIMED: 8, EventKind.RELEASED: 8}
    assert place.client.shard_state("job").leased == 0


def test_cancelling_gives_back_what_is_held(room):
    place = room(Scripted("ann", actions={("ann", 0): Answer({"label": "a"}, 1000.0)}), 1)

    async def scene():
        async with await AsyncClient.from_url(place.url) as client:
            driver = AsyncDriver(client, "job", place.crowd, on_event=place.note)
            running = asyncio.create_task(driver.run())
            await place.seen(EventKind.CLAIMED, 1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(scene())
    assert [event.kind for event in place.events] == [EventKind.CLAIMED, EventKind.RELEASED]
    assert place.client.shard_state("job").released == 1


def test_a_crowd_that_fails_gives_back_what_is_held(room):
    def broken(_):
        raise CrowdError("made up")

    place = room(Scripted("ann", "bob", actions={("ann", 1): broken, ("bob", 1): broken}, k=2), 2)
    with pytest.raises(CrowdError, match="made up"):
        place.drive()
    assert place.client.shard_state("job").leased == 0
    with pytest.raises(CrowdError, match="made up"):
        BulkDriver(place.client, "job", Scripted("ann", actions={("ann", 1): broken}, k=2), k=2).run()
    assert place.client.shard_state("job").leased == 0


def test_thinking_takes_the_crowds_time_over_the_speed(room):
    """The clock that is passed in sees at least the think time divided by the speed."""
    actions = {("ann", item): Answer({"label": "a"}, 30.0) for item in range(4)}
    place = room(Scripted("ann", actions=actions), 4, replication=1)
    assert place.drive(speed=1000.0).seconds >= 4 * 30.0 / 1000.0


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(InvalidInputError, match="speed is"):
        AsyncDriver(None, "job", Scripted("ann"), speed=speed)


def test_the_async_journal_has_every_call_and_what_came_of_it(room, tmp_path):
    crowd = FaultyCrowd(bluebirds(), outside={"w1": OUTSIDE})
    place = room(crowd, 12)
    path = tmp_path / "driver.jsonl"
    place.drive()
    with path.open("wb") as file:
        for entry in place.entries:
            write_entry(file, entry)
    assert_journal(path, answers=36, failed=1)


def test_the_bulk_driver_is_journaled_by_the_brokers_own_journal(room, tmp_path):
    place = room(FaultyCrowd(bluebirds(), outside={"w1": OUTSIDE}), 12)
    path = tmp_path / "driver.jsonl"
    with path.open("wb") as file:
        client = Journal(place.client, functools.partial(write_entry, file), "driver")
        BulkDriver(client, "job", place.crowd, k=5).run()
    assert_journal(path, answers=36, failed=1)


def assert_journal(path, *, answers, failed):
    with path.open("rb") as file:
        entries = [entry for entry in read_journal(file) if entry.process == "driver"]
    calls = defaultdict(list)
    for entry in entries:
        calls[entry.call].append(entry)
    assert all(len(call) == 2 and call[0].event == "invoked" for call in calls.values())
    assert [entry.t for entry in entries] == sorted(entry.t for entry in entries)
    assert sum(entry.event == "failed" and entry.error == "NotFoundError" for entry in entries) == failed
    submitted = [token.token for entry in entries if entry.op == "submit" for token in entry.answers]
    claimed = [token for entry in entries if entry.op == "claim" and entry.event == "ok" for token in entry.result]
    assert sorted(submitted) == sorted(claimed)
    assert len(submitted) == answers


# -- the bulk driver ---------------------------------------------------------------------------------------------------


def test_the_bulk_driver_finishes_with_every_answer_exact(room):
    spec = msgspec.structs.replace(PRESETS["open-crowd"], workers=20, seed=8)
    place = room(CategoryCrowd(spec, ("a", "b")), 2000, lease_seconds=0.5)
    client = Journal(place.client, place.entries.append, "driver")
    report = BulkDriver(client, "job", place.crowd, k=100, on_event=place.events.append).run()
    assert report.reason is Reason.JOB_ENDED
    assert_exact(place, CategoryCrowd(msgspec.structs.replace(spec, abandon_rate=0.0), ("a", "b")))
    assert place.client.shard_state("job").settled == 2000
    assert report.events[EventKind.ABANDONED] > 0
    assert report.items[EventKind.DECLINED] > 0
    assert place.violations() == []


def test_the_bulk_driver_stops_when_asked(room):
    place = room(Scripted("ann", "bob"), 500)
    drivers = []

    def stop_after_a_page(event):
        if event.kind is EventKind.CLAIMED:
            drivers[0].stop()

    drivers.append(BulkDriver(place.client, "job", place.crowd, k=50, on_event=stop_after_a_page))
    report = drivers[0].run()
    assert report.reason is Reason.ASKED_TO_STOP
    assert report.items == {EventKind.CLAIMED: 50, EventKind.ANSWERED: 50}
    assert place.client.shard_state("job").leased == 0


def test_an_interrupt_gives_back_the_page(room):
    """Ctrl-C in the middle of a submit: what was claimed and not handed in is released."""
    place = room(Scripted("ann"), 30, replication=1)

    class Interrupted:
        def __init__(self, client):
            self.claim, self.release = client.claim, client.release

        def submit(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BulkDriver(Interrupted(place.client), "job", place.crowd, k=20).run()
    state = place.client.shard_state("job")
    assert (state.leased, state.released) == (0, 20)


def test_too_few_people_end_a_bulk_run(room):
    place = room(Scripted("ann", "bob"), 30)
    report = BulkDriver(place.client, "job", place.crowd, k=20, idle_seconds=0.05).run()
    assert report.reason is Reason.IDLE
    assert report.items[EventKind.ANSWERED] == 60


# -- a server that goes away -------------------------------------------------------------------------------------------


def test_a_server_that_comes_back_is_waited_for():
    """The server is stopped in mid-run and started again: the run goes on, and every item ends."""
    with servers.short_directory() as path, EmbeddedServer(path, appendfsync="always") as server:
        crowd = bluebirds(seed=2)
        place = Room(server.url, crowd, 108, replication=3, lease_seconds=1.0)

        async def restart(_):
            await place.seen(EventKind.ANSWERED, 100)
            server.stop()
            await place.seen(EventKind.UNAVAILABLE, 1)
            await asyncio.to_thread(server.start)

        report = place.drive(during=restart)
        assert report.reason is Reason.JOB_ENDED
        assert report.events[EventKind.UNAVAILABLE] > 0
        assert Counter(item for _, item in place.answers()) == dict.fromkeys(range(108), 3)
        assert_exact(place, bluebirds(seed=2))
        assert place.violations() == []
        place.entries = [entry for entry in place.entries if entry.process != "driver" or entry.op != "submit"]
        assert place.violations() != []  # the checker does look at what the driver wrote down
        place.settler.join()
        place.client.close()


def test_patience_with_a_dead_server_ends():
    with servers.embedded_valkey() as server:
        place = Room(server.url, bluebirds(), 108)
        place.settler.ended.set()
        place.settler.join()
        place.client.close()
    with pytest.raises(ServerUnavailableError), Client.from_url(server.url, patience_seconds=0.0) as client:
        BulkDriver(client, "job", bluebirds(), patience_seconds=0.2).run()


# -- with real actors --------------------------------------------------------------------------------------------------


def test_the_million_benchmark_on_five_thousand(tmp_path):
    """The same suite as for a million: every item labeled, every line written, the driver's memory as it was."""
    words = ["bench", "million", "--set", "items=5000", "--set", "appendfsync=no", "--json", str(tmp_path)]
    program = f"from voxpop.cli.main import main; main({words!r})"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True, timeout=200)
    (raw,) = tmp_path.glob("million-*.jsonl")
    run = json.loads(raw.read_bytes())
    assert (run["suite"], run["n"], run["extra"]["items"]) == ("million", 5000, 5000)
    last = run["extra"]["samples"][-1]
    assert (last["appended"], last["settled"], last["answers"]) == (5000, 5000, 15000)
    assert run["extra"]["driver_rss_bytes_at_end_of_work"] < 2 * run["extra"]["driver_rss_bytes_after_a_quarter"]
