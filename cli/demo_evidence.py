"""What the archive says about the demo's job. What the demo shows is not taken from its own word: it is looked up here.

Pure: events in, findings out. Reading the archive is the business of ``voxpop.workers.archive``.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from voxpop.broker.events import Appended, Claimed, Event, Expired, Settled, Submitted, unpack_items
from voxpop.broker.history import JournalEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "ArchivedAnswer",
    "Handover",
    "Record",
    "counted_once",
    "handover",
    "read_record",
    "what_is_wrong",
    "without_journal",
]


@dataclasses.dataclass(frozen=True)
class ArchivedAnswer:
    """One answer, as the event log has it."""

    item: int
    worker: str
    content: Any
    used: bool
    at_ms: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class _Moment:
    seq: int
    at_ms: int
    item: int
    worker: str


@dataclasses.dataclass(frozen=True)
class Record:
    """The part of a job's history that the demo's findings rest on, in order."""

    answers: Sequence[ArchivedAnswer]
    claims: Sequence[_Moment]
    lapses: Sequence[_Moment]
    events: int

    @property
    def used(self) -> list[ArchivedAnswer]:
        """The answers that count."""
        return [answer for answer in self.answers if answer.used]


@dataclasses.dataclass(frozen=True)
class Handover:
    """An item that one worker lost and another one got and answered."""

    item: int
    lost_by: str
    lapsed_at_ms: int
    taken_by: str
    taken_at_ms: int


def read_record(events: Iterable[Event], workers: Mapping[int, str]) -> Record:
    """Return what happened.

    Args:
        events: the job's event log, from its beginning.
        workers: names by index in the workforce.
    """
    answers: list[ArchivedAnswer] = []
    claims: list[_Moment] = []
    lapses: list[_Moment] = []
    count = 0
    for event in events:
        count += 1
        match event:
            case Submitted():
                who = workers[event.worker]
                answers += [
                    ArchivedAnswer(one.item, who, msgspec.json.decode(one.content), one.used, event.at_ms, one.seconds)
                    for one in event.answers
                ]
            case Claimed():
                who = workers[event.worker]
                claims += [_Moment(event.seq, event.at_ms, item, who) for item in unpack_items(event.items)]
            case Expired():
                lapses += [_Moment(event.seq, event.at_ms, one.item, workers[one.worker]) for one in event.tickets]
            case _:
                pass
    return Record(answers, claims, lapses, count)


def handover(record: Record, item: int, worker: str) -> Handover | None:
    """Return how an item whose lease lapsed went to somebody else; None if that did not happen.

    It did if the lease of ``worker`` lapsed, somebody else claimed the item afterwards and their answer counts, and
    none of ``worker`` does.
    """
    lapse = next((one for one in record.lapses if (one.item, one.worker) == (item, worker)), None)
    if lapse is None:
        return None
    said = {answer.worker for answer in record.used if answer.item == item}
    taken = next((one for one in record.claims if one.item == item and one.seq > lapse.seq), None)
    if taken is None or taken.worker == worker or taken.worker not in said or worker in said:
        return None
    return Handover(item, worker, lapse.at_ms, taken.worker, taken.at_ms)


def counted_once(record: Record, items: Iterable[int], worker: str) -> bool:
    """Return whether each of these items has exactly one archived answer of this worker, and it counts."""
    mine = Counter(answer.item for answer in record.answers if answer.worker == worker)
    used = Counter(answer.item for answer in record.used if answer.worker == worker)
    wanted = set(items)
    return bool(wanted) and all(mine[item] == 1 == used[item] for item in wanted)


def what_is_wrong(
    record: Record, n_items: int, replication: int, expected: Callable[[str, int], Any], acknowledged: int
) -> list[str]:
    """Return what was lost, doubled or changed; nothing if all is well.

    Args:
        record: the archive.
        n_items: items of the job.
        replication: answers that each item must have, all of different workers.
        expected: the content that a worker should have given about an item.
        acknowledged: answers that clients were told were accepted.
    """
    wrong: list[str] = []
    who: dict[int, list[str]] = defaultdict(list)
    for answer in record.used:
        who[answer.item].append(answer.worker)
        if answer.content != expected(answer.worker, answer.item):
            wrong.append(f"item {answer.item}: the archive has another answer of {answer.worker} than was given")
    for item in range(n_items):
        if len(who[item]) != replication:
            wrong.append(f"item {item}: {len(who[item])} answers count, {replication} were wanted")
        if len(set(who[item])) != len(who[item]):
            wrong.append(f"item {item}: two answers of the same worker count")
    strange = sorted(set(who) - set(range(n_items)))
    wrong += [f"item {item}: answered, but not in the job" for item in strange]
    if len(record.used) != acknowledged:
        wrong.append(f"{acknowledged} answers were acknowledged, {len(record.used)} count")
    return wrong


def without_journal(events: Iterable[Event], job: str) -> Iterator[JournalEntry]:
    """Yield, for the history checker, the calls of those who keep no journal: ingest appended, the actors settled.

    Their outcome is ``unknown``: they explain what stands in the log, and claim nothing.
    """
    for event in events:
        if isinstance(event, Appended):
            fields: dict[str, Any] = {"op": "append", "k": event.count, "at": event.first}
        elif isinstance(event, Settled):
            fields = {"op": "settle", "items": [end[0] for end in event.ends]}
        else:
            continue
        for outcome in ("invoked", "unknown"):
            yield JournalEntry(t=0.0, process="behind the broker", call=event.seq, event=outcome, job=job, **fields)
