"""The policy and the sweeper's choice: pure functions, all cases."""

import itertools

import pytest

from voxpop.broker.models import ItemEnd, Job, JobSpec, JobStatus, ShardState
from voxpop.workers.policy import Evidence, Extend, Settle, Wait, decide, stops_open_items
from voxpop.workers.sweep import wanted_actors

NOTHING_USABLE = Settle(ItemEnd.FAILED, "no answer could be used")


def state(**changes):
    values = dict.fromkeys(ShardState.__struct_fields__, 0) | {"sealed": True, "stopping": False, "revoked": False}
    return ShardState(**(values | changes))


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence(ready=True, closed=False, usable=3), Settle(ItemEnd.LABELED)),
        (Evidence(ready=True, closed=True, usable=1), Settle(ItemEnd.LABELED)),
        (Evidence(ready=True, closed=True, usable=0), Settle(ItemEnd.FAILED, "declined by everybody who was asked")),
        (Evidence(ready=True, closed=False, usable=0), NOTHING_USABLE),
        (Evidence(ready=False, closed=False, usable=2), Wait()),
        (Evidence(ready=True, closed=False, usable=2, unusable=1, wanted=3), Extend(maximum=4)),
        (Evidence(ready=True, closed=False, usable=0, unusable=3, wanted=3), Extend(maximum=4)),
        (Evidence(ready=True, closed=False, usable=1, unusable=4, wanted=3), Extend(maximum=6)),
        (Evidence(ready=True, closed=False, usable=0, unusable=6, wanted=3), NOTHING_USABLE),
        (Evidence(ready=True, closed=False, usable=2, unusable=4, wanted=3), Settle(ItemEnd.LABELED)),
        (Evidence(ready=True, closed=False, usable=3, unusable=1, wanted=3), Settle(ItemEnd.LABELED)),
        (Evidence(ready=True, closed=True, usable=2, unusable=1, wanted=3), Settle(ItemEnd.LABELED)),
        (Evidence(ready=True, closed=False, usable=0, unusable=1, wanted=1, extendable=False), NOTHING_USABLE),
        (Evidence(ready=True, closed=False, usable=0, unusable=2), NOTHING_USABLE),
        (Evidence(ready=False, closed=False, usable=2, stopped=True), Settle(ItemEnd.UNLABELED, "stopped")),
        (Evidence(ready=True, closed=False, usable=2, stopped=True), Settle(ItemEnd.LABELED)),
    ],
)
def test_decide(evidence, verdict):
    assert decide(evidence) == verdict


def test_an_end_without_label_always_has_a_reason():
    for ready, closed, usable, stopped in itertools.product([False, True], [False, True], [0, 1, 2], [False, True]):
        verdict = decide(Evidence(ready=ready, closed=closed, usable=usable, stopped=stopped))
        if isinstance(verdict, Settle):
            assert bool(verdict.reason) is (verdict.end is not ItemEnd.LABELED)
        else:
            assert not ready
            assert not stopped


def test_a_stop_waits_for_leases_unless_they_are_revoked():
    assert not stops_open_items(state(stopping=False, leased=0))
    assert not stops_open_items(state(stopping=True, leased=1))
    assert stops_open_items(state(stopping=True, leased=0))
    assert stops_open_items(state(stopping=True, revoked=True, leased=1))


@pytest.mark.parametrize(
    ("status", "shard", "dirty", "wanted"),
    [
        ("Initializing", {"sealed": False}, False, ["ingest"]),
        ("Initializing", {"sealed": True}, False, ["ingest"]),  # died between sealing and moving the job, or before
        ("InProgress", {"sealed": False}, False, ["ingest"]),
        ("InProgress", {"appended": 2}, False, []),
        ("InProgress", {"appended": 2}, True, ["attend"]),
        ("InProgress", {"appended": 2, "log_bytes": 1}, False, ["attend"]),
        ("InProgress", {"appended": 2, "settled": 2}, False, ["export"]),
        ("Stopping", {"appended": 2, "stopping": True}, False, ["attend"]),
        ("Stopping", {"appended": 2, "settled": 2, "stopping": True}, False, ["export"]),
        ("Stopping", {"sealed": False, "stopping": True}, False, ["attend"]),
        ("Completed", {"appended": 2, "settled": 2}, True, []),
        ("Completed", {"appended": 2, "settled": 2, "log_bytes": 1}, False, ["attend"]),
        ("Failed", {"sealed": False}, False, []),
    ],
)
def test_what_a_job_needs_is_seen_in_the_broker(status, shard, dirty, wanted):
    """Whatever a crash leaves undone, the next sweep asks for it."""
    spec = JobSpec(name="j", task_type="text_single_label", pool="team", input="in.manifest")
    record = Job(spec=spec, status=JobStatus(status), created_at_ms=1)
    assert wanted_actors(record, state(**shard), is_dirty=dirty) == wanted


def test_a_job_whose_items_are_pushed_stays_open():
    spec = JobSpec(name="j", task_type="text_single_label", pool="team")
    record = Job(spec=spec, status=JobStatus.IN_PROGRESS, created_at_ms=1)
    assert wanted_actors(record, state(sealed=False, appended=1, settled=1), is_dirty=False) == []
