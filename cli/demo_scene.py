"""The demo's play: the people, the job, and what goes wrong on purpose. Everything goes through the real client.

What is noted here while it happens is for the one who watches. What is believed is in ``demo_evidence.py``, which reads
the archive afterwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final

from voxpop.broker import AsyncClient, ClaimStatus, JobSpec, JobStatus
from voxpop.broker.errors import NotFoundError
from voxpop.broker.history import HistorySpec, Journal, check, read_journal
from voxpop.cli.crowds import ITEM_FIELD
from voxpop.cli.demo_evidence import Record, read_record, without_journal
from voxpop.cli.live import snapshot_of
from voxpop.cli.output import CommandFailedError
from voxpop.formats.augmented import encode_json
from voxpop.simulator.driver import AsyncDriver, EventKind
from voxpop.simulator.faults import FaultyCrowd
from voxpop.simulator.journal import AsyncJournal
from voxpop.simulator.recorded import RecordedCrowd, bluebirds
from voxpop.workers.archive import drain, read_archive
from voxpop.workers.ingest import ingest
from voxpop.workers.supervise import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from voxpop.broker import Client, ShardState
    from voxpop.broker.history import JournalEntry
    from voxpop.cli.live import LiveView
    from voxpop.simulator.driver import DriverEvent
    from voxpop.workers.services import Services
    from voxpop.workers.stack import Stack

__all__ = ["CATEGORIES", "JOB", "OUTSIDE", "REPLICATION", "Scene", "Story", "recorded_people"]

JOB: Final = "bluebirds"
POOL: Final = "birdwatchers"
WORKFORCE: Final = "private"
CATEGORIES: Final = ("0", "1")
REPLICATION: Final = 5
ALLOWED: Final = ("127.0.0.0/8", "10.0.0.0/8")
INSIDE: Final = "10.0.0.77"
OUTSIDE: Final = "203.0.113.7"  # of a range that is reserved for documentation
THINK_SECONDS: Final = 1.0  # median; at this pace 39 people give 540 answers in less than 20 s
ARRIVE_SECONDS: Final = 3.0
SHORT_LEASE_SECONDS: Final = 3.0  # of the one who walks away; everybody else's:
LEASE_SECONDS: Final = 60.0
FIRST_ITEM_WAIT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.15
STALLED_SECONDS: Final = 45.0
REPLACEMENT_SECONDS: Final = 15.0  # so long a finished job waits for the process that takes the killed one's place


def recorded_people(seed: int) -> RecordedCrowd:
    """Return the 39 people who said what they say in the demo."""
    return bluebirds(seed=seed, think_seconds=THINK_SECONDS, arrive_seconds=ARRIVE_SECONDS, network=ALLOWED[1])


@dataclasses.dataclass
class Story:
    """What the play came to, for ``demo_summary.py``. Seconds count from the job's creation."""

    crowd: RecordedCrowd
    record: Record  # the archive
    created_at_ms: int = 0
    seconds: float = 0.0
    outsider: str = ""  # a member, who knocks from outside
    told_unknown: str = ""  # what they were told from inside, before there was a job
    told_outside: str = ""  # and from outside, once there was one
    outsider_at_seconds: float = 0.0
    refusals: int = 0
    walker: str = ""
    walker_item: int = -1
    walked_at_seconds: float = 0.0
    twice: str = ""
    twice_items: list[int] = dataclasses.field(default_factory=list)
    twice_same_receipts: bool = True
    twice_at_seconds: float = 0.0
    killed_pid: int = 0
    killed_at_seconds: float = 0.0
    killed_after_answers: int = 0
    killed_after_labels: int = 0
    replaced_by_pid: int = 0
    replaced_at_seconds: float = 0.0
    acknowledged: int = 0  # answers that clients were told were accepted
    calls: int = 0
    violations: list[str] = dataclasses.field(default_factory=list)


class Scene:
    """One performance.

    Args:
        stack: what runs behind the job.
        services: the broker and the storage of the stack.
        crowd: the recorded people.
        view: shows the job while it runs.
        write: takes down every call of a worker, for the history checker.
    """

    def __init__(
        self,
        stack: Stack,
        services: Services,
        crowd: RecordedCrowd,
        view: LiveView,
        write: Callable[[JournalEntry], object],
    ) -> None:
        self._stack = stack
        self._services = services
        self._client = services.client
        self._crowd = crowd
        self._view = view
        self._write = write
        self._started = time.monotonic()
        self._story = Story(
            crowd=crowd,
            record=Record((), (), (), 0),
            outsider=crowd.workers[1],
            walker=crowd.workers[-1],
            twice=crowd.workers[0],
        )
        self._walked_item_claims = 0
        self._pids_before: set[int | None] = set()

    # -- before anybody works ----------------------------------------------------------------------------------------

    def prepare(self, out: Path) -> None:
        """Make the people and the job, let the outsider knock, and let one worker walk away with the first picture."""
        story, client = self._story, self._client
        client.create_workforce(WORKFORCE, ALLOWED)
        client.create_pool(POOL, WORKFORCE, self._crowd.workers)
        journal = Journal(client, self._write, "demo")
        story.told_unknown = self._told(client, INSIDE)
        job = client.create_job(self._spec(out))
        self._started, story.created_at_ms = time.monotonic(), job.created_at_ms
        ingest(self._services, JOB)
        story.told_outside = self._told(journal, OUTSIDE)
        story.outsider_at_seconds = self._now()
        story.refusals = sum(client.refusals(POOL).values())
        self._view.note(
            story.outsider_at_seconds,
            f'{story.outsider} knocks from {OUTSIDE}, outside the allowlist: "{story.told_outside}". '
            "Word for word what was said before the job existed.",
            held=story.told_outside == story.told_unknown,
        )
        claim = journal.claim(
            JOB, story.walker, INSIDE, 1, wait_seconds=FIRST_ITEM_WAIT_SECONDS, lease_seconds=SHORT_LEASE_SECONDS
        )
        if claim.status is not ClaimStatus.MORE:
            raise CommandFailedError(f"job {JOB!r} has no items for {story.walker}: the claim said {claim.status}")
        story.walker_item, story.walked_at_seconds = claim.leases[0].item, self._now()
        self._view.note(
            story.walked_at_seconds,
            f"{story.walker} takes picture {self._name(story.walker_item)} for {SHORT_LEASE_SECONDS:.0f} s "
            "and walks away from it",
        )

    def _spec(self, out: Path) -> JobSpec:
        out.mkdir(parents=True, exist_ok=True)
        manifest = out / f"{JOB}.manifest"
        lines = [encode_json({"source": f"bluebirds image {name}", ITEM_FIELD: name}) for name in self._crowd.items]
        manifest.write_bytes(b"".join(line + b"\n" for line in lines))
        return JobSpec(
            name=JOB,
            task_type="text_single_label",
            pool=POOL,
            categories=CATEGORIES,
            replication=REPLICATION,
            title="Is it an Indigo Bunting?",
            instructions="Answer 1 if the bird in the picture is an Indigo Bunting, 0 if it is not.",
            lease_seconds=LEASE_SECONDS,
            input=manifest.absolute().as_uri(),
            output=out.absolute().as_uri(),
        )

    def _told(self, client: Client | Journal, address: str) -> str:
        """Return the refusal that a claim from this address meets; empty if it is let in."""
        try:
            client.claim(JOB, self._story.outsider, address)
        except NotFoundError as error:
            return str(error)
        return ""

    # -- while they work ---------------------------------------------------------------------------------------------

    async def play(self, speed: float) -> None:
        """Let everybody work until every item has its label, the output is written and the killed process replaced.

        Raises:
            CommandFailedError: a process gave up, the job failed, or nothing moved for a long time.
        """
        config = self._stack.config
        async with await AsyncClient.from_url(config.redis_url, prefix=config.key_prefix) as client:
            driver = AsyncDriver(
                AsyncJournal(client, self._write, "crowd"),
                JOB,
                FaultyCrowd(self._crowd, sends_twice=(self._story.twice,)),
                speed=speed,
                on_event=self._on_event,
            )
            work = asyncio.create_task(driver.run())
            try:
                await self._watch(client, work)
                report = await work
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        self._story.acknowledged = report.items.get(EventKind.ANSWERED, 0)

    async def _watch(self, client: AsyncClient, work: asyncio.Task[Any]) -> None:
        last: tuple[int, ...] = ()
        moved = time.monotonic()
        while True:
            state = await client.shard_state(JOB)
            job = await client.job(JOB)
            _heed_cancellation()
            await self._look_behind(state)
            self._view.update(
                snapshot_of(
                    state,
                    self._now(),
                    replication=REPLICATION,
                    refused=self._story.refusals,
                    processes=tuple(self._stack.status()),
                )
            )
            if job.status is JobStatus.COMPLETED:
                story = self._story
                story.seconds = story.seconds or self._now()
                waited_seconds = self._now() - story.killed_at_seconds
                if story.replaced_by_pid or not story.killed_pid or waited_seconds > REPLACEMENT_SECONDS:
                    return
            elif job.status.is_final:
                raise CommandFailedError(f"job {JOB!r} ended as {job.status}: {job.failure_reason}")
            if work.done() and not work.cancelled() and (error := work.exception()):
                raise error
            now = (state.seq, state.settled, self._story.replaced_by_pid)
            moved = time.monotonic() if now != last else moved
            last = now
            if time.monotonic() - moved > STALLED_SECONDS:
                raise CommandFailedError(
                    f"nothing moved for {STALLED_SECONDS:.0f} s: {state.settled} of {state.appended} items have ended, "
                    f"{state.answers} answers were given; is the machine overloaded?"
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_behind(self, state: ShardState) -> None:
        """Kill an actor process half-way, and see whether another one comes in its place."""
        story, parts = self._story, self._stack.status()
        gone = next((part for part in parts if part.state is State.GIVEN_UP), None)
        if gone is not None:
            raise CommandFailedError(f"{gone.name} does not stay up: {gone.reason}")
        if not story.killed_pid and state.answers * 2 >= len(self._crowd.items) * REPLICATION:
            story.killed_after_answers, story.killed_after_labels = state.answers, state.labeled
            story.killed_at_seconds = self._now()
            self._pids_before = {part.pid for part in parts}
            story.killed_pid = await asyncio.to_thread(self._stack.kill_one_actor)
            self._view.note(
                story.killed_at_seconds,
                f"SIGKILL to actor process {story.killed_pid}, after {state.answers} answers, {state.labeled} labels",
            )
        elif story.killed_pid and not story.replaced_by_pid:
            new = next((p for p in parts if p.state is State.RUNNING and p.pid not in self._pids_before), None)
            if new is not None and new.pid is not None:
                story.replaced_by_pid, story.replaced_at_seconds = new.pid, self._now()
                self._view.note(
                    story.replaced_at_seconds,
                    f"process {new.pid} takes its place, "
                    f"{story.replaced_at_seconds - story.killed_at_seconds:.1f} s later",
                    held=True,
                )

    def _on_event(self, event: DriverEvent) -> None:
        story = self._story
        if event.kind is EventKind.CLAIMED and story.walker_item in event.items and event.worker != story.walker:
            self._walked_item_claims += 1
            # The walker's ticket and four others were there; whoever comes fifth beside them got the walker's.
            if self._walked_item_claims == REPLICATION:
                self._view.note(
                    self._now(),
                    f"the lease of {story.walker} has lapsed: {event.worker} gets picture "
                    f"{self._name(story.walker_item)} instead",
                    held=True,
                )
        elif event.kind is EventKind.DUPLICATE_SUBMITTED:
            same = event.detail == "the same receipts"
            story.twice_same_receipts &= same
            if not story.twice_items:
                story.twice_at_seconds = self._now()
                self._view.note(
                    story.twice_at_seconds,
                    f"{event.worker} is on a bad line: submits arrive twice, and get {event.detail} the second time",
                    held=same,
                )
            story.twice_items += event.items

    # -- afterwards --------------------------------------------------------------------------------------------------

    def story(self, journal: Path) -> Story:
        """Return what happened, with what the archive and the history checker say about it."""
        story, client, job = self._story, self._client, self._client.job(JOB)
        indexes = client.worker_indexes(WORKFORCE)
        drain(self._services, JOB)
        events = list(read_archive(self._services, JOB))
        story.record = read_record(events, {index: name for name, index in indexes.items()})
        with journal.open("rb") as lines:
            entries = list(read_journal(lines))
        story.calls = sum(entry.event == "invoked" for entry in entries)
        spec = HistorySpec(
            job=JOB,
            pool=POOL,
            workforce=WORKFORCE,
            replication=REPLICATION,
            max_declines=job.spec.declines_allowed,
            retry_seconds=job.spec.retry_seconds,
            workers=indexes,
            members=client.pool(POOL).members,
            allow=client.workforce(WORKFORCE).allow,
            complete=True,
        )
        found = check([*entries, *without_journal(events, JOB)], events, spec=spec)
        story.violations = [f"{one.rule}, {one.place}: {one.message}" for one in found]
        return story

    def _name(self, item: int) -> str:
        return self._crowd.items[item]

    def _now(self) -> float:
        return time.monotonic() - self._started


def _heed_cancellation() -> None:
    """Raise CancelledError if Ctrl-C came while the client was busy.

    On Python 3.11, ``asyncio.wait_for``, on which redis-py's connections stand, returns a result that is ready in
    spite of being cancelled (python/cpython#86296).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
