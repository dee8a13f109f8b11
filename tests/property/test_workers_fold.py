"""The fold of the archive: whatever is delivered, how often and in which pieces, the same state comes out."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxpop.broker import events as log
from voxpop.broker.models import ItemEnd
from voxpop.broker.wire import pack_items, pack_pairs
from voxpop.workers.fold import GapError, JobFold


class Plain:
    """The oracle: the same rules on dictionaries, from the whole history at once."""

    def __init__(self, events):
        self.granted, self.votes, self.ready, self.ended = {}, [], set(), {}
        for event in events:
            match event:
                case log.Appended():
                    self.granted |= dict.fromkeys(range(event.first, event.first + event.count), 0)
                case log.Submitted():
                    for answer in event.answers:
                        if answer.used:
                            self.votes.append((answer.item, event.worker, answer.content))
                            if answer.full and answer.item not in self.ended:
                                self.ready.add(answer.item)
                case log.Closed():
                    self.ready |= {item for item in log.unpack_items(event.items) if item not in self.ended}
                case log.Extended():
                    self.ready -= set(log.unpack_items(event.items))
                    self.ready -= {item for item, _ in log.unpack_pairs(event.named)}
                case log.Settled() | log.Labeled():
                    for item, end, version, *_ in event.ends if isinstance(event, log.Settled) else event.labels:
                        if version >= self.ended.get(item, (0, 0))[1]:
                            self.ended[item] = (end, version)
                        self.ready.discard(item)


def history(seed):
    """A random log that a shard could have written, as far as the fold can tell."""
    rng = random.Random(seed)
    events, appended = [], 0
    for seq in range(1, rng.randrange(2, 60)):
        head = {"seq": seq, "at_ms": seq * 10}
        items = rng.sample(range(appended), min(appended, rng.randrange(1, 4))) if appended else []
        kind = rng.choice(
            ["append", "claim", "submit", "submit", "submit", "close", "extend", "settle", "label", "give"]
        )
        if kind == "append" or not items:
            count = rng.randrange(1, 6)
            events.append(log.Appended(**head, first=appended, count=count, named=b"", segment="s"))
            appended += count
        elif kind == "claim":
            events.append(log.Claimed(**head, worker=1, attempt=seq, deadline_ms=9, items=pack_items(items)))
        elif kind == "submit":
            answers = [
                log.SubmittedAnswer(item, seq, rng.random() < 0.8, rng.random() < 0.4, 1.0, rng.choice([b"1", b"2"]))
                for item in items
            ]
            events.append(log.Submitted(**head, worker=rng.randrange(5), answers=answers))
        elif kind == "close":
            events.append(log.Closed(**head, items=pack_items(items)))
        elif kind == "extend":
            named = pack_pairs([(items[0], 3)])
            events.append(log.Extended(**head, items=pack_items(items[1:]), tickets=1, named=named))
        elif kind == "give":
            events.append(rng.choice([log.Released, log.Declined, log.Expired])(**head, tickets=[]))
        else:
            made = log.Settled if kind == "settle" else log.Labeled
            field = "ends" if kind == "settle" else "labels"
            entries = [(item, rng.randrange(1, 4), rng.randrange(1, 4), "", b"{}") for item in items]
            events.append(made(**head, **{field: entries}))
    return events


def folded(deliveries):
    votes = []
    fold = JobFold(lambda *vote: votes.append(vote))
    for part in deliveries:
        for event in part:
            fold.apply(event)
    return fold, votes


@given(seed=st.integers(0, 2**32), cuts=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8))
def test_repeated_and_overlapping_parts_change_nothing(seed, cuts):
    """Parts that were delivered before, whole or in part, and in any number, leave the fold as it is."""
    events = history(seed)
    whole = Plain(events)
    deliveries, reached = [], 0
    for a, b in cuts:
        start, stop = min(a, reached), min(b, len(events))
        if start < stop:
            deliveries.append(events[start:stop])
            reached = max(reached, stop)
    deliveries.append(events[min(reached, len(events) // 2) :])
    fold, votes = folded(deliveries)
    assert votes == whole.votes
    assert fold.ready == whole.ready
    assert fold.appended == len(whole.granted)
    assert fold.seq == len(events)
    ended = {item: (end, version) for item, (end, version) in whole.ended.items()}
    assert {item: fold.version(item) for item in ended} == {item: version for item, (_, version) in ended.items()}
    assert {item for item in whole.granted if fold.is_labeled(item)} == {
        item for item, (end, _) in ended.items() if end == ItemEnd.LABELED.value
    }
    assert set(fold.open_items()) == set(whole.granted) - whole.ready - set(ended)


@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_gap_is_refused(seed, data):
    events = history(seed)
    missing = data.draw(st.integers(0, len(events) - 1))
    fold, _ = folded([events[:missing]])
    if missing + 1 < len(events):
        with pytest.raises(GapError, match=f"event {missing + 2} came after event {missing}"):
            fold.apply(events[missing + 1])
        assert fold.seq == missing


@given(seed=st.integers(0, 2**32))
def test_events_survive_their_bytes(seed):
    """The fold of decoded events is the fold of the events."""
    events = history(seed)
    again = log.decode_many(msgspec.msgpack.encode(event) for event in events)
    assert folded([again])[1] == folded([events])[1]
