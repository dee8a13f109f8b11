"""Dispatcher and sweeper: one message a shard at a time, and none that stays away for long."""

import pytest
import workers_world

from voxpop.broker import JobStatus
from voxpop.workers.consolidate import attend
from voxpop.workers.dispatch import dispatch_once, enqueue_once, in_work, request
from voxpop.workers.export import export
from voxpop.workers.ingest import ingest
from voxpop.workers.sweep import sweep_once


@pytest.fixture
def world(server_url, tmp_path):
    made = workers_world.World(server_url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def sent():
    return []


@pytest.fixture
def enqueue(sent):
    return lambda actor, job: sent.append((actor, job))


def arrived(world, actor="attend", job="j"):
    """Drop the flag, as an actor does that took the message and ended."""
    with in_work(world.here, actor, job):
        pass


def test_many_wakes_are_one_message(world, sent, enqueue):
    world.job(10)
    world.job(3, name="k")
    for _ in range(5):
        world.answer("ann", k=2)
        attend(world.here, "j")  # clears the dirty flag, so that the next submit wakes again
    assert dispatch_once(world.here, enqueue, block_ms=1) >= 5
    assert sorted(sent) == [("attend", "j"), ("attend", "k")]
    world.answer("bob", k=2)
    assert dispatch_once(world.here, enqueue, block_ms=1) == 1
    assert len(sent) == 2, "the message is still on its way"
    arrived(world)
    attend(world.here, "j")
    world.answer("bob", k=2)
    assert dispatch_once(world.here, enqueue, block_ms=1) == 1
    assert sent[2:] == [("attend", "j")]
    assert dispatch_once(world.here, enqueue, block_ms=1) == 0


def test_what_a_dispatcher_read_and_did_not_send_is_taken_over(world, sent, enqueue):
    """It dies between reading and sending: the wake is still pending and goes to the next one."""
    world.job(1)

    def dies(_actor, _job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dispatch_once(world.here, dies, block_ms=1)
    while not dispatch_once(world.here, enqueue, block_ms=50):
        pass
    enqueue_once(world.here, enqueue, "attend", "j")
    assert sent[0] == ("attend", "j")


def test_an_actor_can_be_asked_for(world, sent, enqueue):
    world.client.create_job(world.spec(input=world.manifest([{"source": "x"}])))
    request(world.here, "ingest", "j")
    dispatch_once(world.here, enqueue, block_ms=1)
    assert sent == [("ingest", "j")]


def test_the_flag_stands_while_work_is_done_and_lapses_when_its_process_dies(world, sent, enqueue):
    world.job(1)
    key = world.client.operations.keys.queued("j", "attend")
    with in_work(world.here, "attend", "j"):
        assert 0 < world.client.connection.pttl(key) <= 250
        assert not enqueue_once(world.here, enqueue, "attend", "j")
    assert enqueue_once(world.here, enqueue, "attend", "j")
    assert 0 < world.client.connection.pttl(key) <= 250, "half of sweep_seconds"


def test_a_sweep_asks_for_what_is_undone(world, sent, enqueue):
    """From creation to the end, each step's message is lost; each sweep asks for the step again."""
    over = set()

    def swept():
        sent.clear()
        for actor in ("attend", "export", "ingest"):
            arrived(world, actor)
        sweep_once(world.here, enqueue, over)
        return sent

    world.client.create_job(world.spec(input=world.manifest([{"source": "x"}, {"source": "y"}])))
    assert swept() == [("ingest", "j")]
    ingest(world.here, "j")
    assert swept() == [("attend", "j")]
    attend(world.here, "j")
    assert swept() == []
    world.answer_all()
    assert swept() == [("attend", "j")]
    attend(world.here, "j")
    assert swept() == [("export", "j")]
    export(world.here, "j")
    assert swept() == []
    assert over == {"j"}


def test_a_sweep_ends_leases(world, enqueue):
    world.job(1, replication=1, lease_seconds=0.001)
    world.claim("ann")
    while not world.client.shard_state("j").lapsed:
        sweep_once(world.here, enqueue, set())
    assert world.answer("bob") == 1


def test_a_sweep_mends_a_creation_that_was_cut_short(world, sent, enqueue):
    """The job exists, its shard does not: the creator died between the two."""
    world.client.create_job(world.spec(input=world.manifest([{"source": "x"}])))
    connection = world.client.connection
    for key in connection.scan_iter("vp:{j.0}:*"):
        connection.delete(key)
    sweep_once(world.here, enqueue, set())
    assert sent == [("ingest", "j")]
    ingest(world.here, "j")
    assert world.client.job("j").status is JobStatus.IN_PROGRESS


def test_one_job_that_cannot_be_swept_does_not_stop_the_sweep(world, sent, enqueue):
    world.job(1)
    world.client.connection.zadd(world.client.operations.keys.jobs, {"ghost": 1})
    sweep_once(world.here, enqueue, set())
    assert sent == [("attend", "j")]
