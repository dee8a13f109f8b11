"""A job through real processes: an embedded server, dramatiq actors, a sweeper; also when actors are killed."""

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
import servers
import workers_world
from waiting import wait_until

from voxpop.broker import JobStatus
from voxpop.broker.config import Config
from voxpop.broker.errors import DataDirectoryError, ServerUnavailableError
from voxpop.broker.events import Settled, Submitted
from voxpop.workers import archive
from voxpop.workers.dispatch import request
from voxpop.workers.stack import Stack
from voxpop.workers.supervise import State

ITEMS = 400
PATIENCE_SECONDS = 120


@pytest.fixture
def folder():
    with servers.short_directory() as path:
        yield path


def running(folder):
    config = Config.load(
        environment={},
        explicit={"data_dir": folder / "data", "sweep_seconds": 0.5, "appendfsync": "no", "log_level": "warning"},
    )
    return Stack(config)


def truth(item):
    return "ab"[item % 3 == 0]


def wrong(worker, item):
    """Each errs on a tenth of the items, no two on the same."""
    return item % 10 == workers_world.PEOPLE.index(worker)


def works(world, worker, rng):
    """One person's day: claims a few, answers them, until the job has nothing more."""
    while True:
        try:
            claim = world.client.claim("j", worker, workers_world.ADDRESS, rng.randrange(1, 12), wait_seconds=1)
        except ServerUnavailableError:  # a claim is not repeated by the client: what it gave, if anything, lapses
            continue
        if claim.status == "none":
            return
        world.submit(worker, claim.leases, lambda item: {"label": truth(item + wrong(worker, item))})


def check_output(world, folder):
    job = world.client.job("j")
    assert (job.status, job.input_count) == (JobStatus.COMPLETED, ITEMS)
    lines = world.output()
    assert [line["source"] for line in lines] == [f"text {item}" for item in range(ITEMS)]
    events = list(archive.read_archive(world.here, "j"))
    said = {}
    for event in events:
        if isinstance(event, Submitted):
            for answer in event.answers:
                if answer.used:
                    said.setdefault(answer.item, Counter())[answer.content] += 1
    assert {sum(votes.values()) for votes in said.values()} == {3}
    for item, line in enumerate(lines):
        content, count = said[item].most_common(1)[0]
        assert f'{{"label":"{line["j-metadata"]["class-name"]}"}}'.encode() == content
        assert line["j-metadata"]["confidence"] == round(count / 3, 2)
    settled = Counter(item for event in events if isinstance(event, Settled) for item, *_ in event.ends)
    assert settled == dict.fromkeys(range(ITEMS), 1)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    (responses,) = (folder / "data/storage/jobs/j").glob("*/output/j/annotations/worker-response/iteration-1")
    assert len(list(responses.iterdir())) == ITEMS


def run_job(stack, folder, seed, disturb=lambda _world: None, **changes):
    world = workers_world.World(stack.config.redis_url, folder)
    try:
        spec = world.spec(
            input=world.manifest([{"source": f"text {item}"} for item in range(ITEMS)]), replication=3, **changes
        )
        world.client.create_job(spec)
        request(world.here, "ingest", "j")
        people = [
            threading.Thread(target=works, args=(world, worker, random.Random(f"{seed} {worker}")))
            for worker in workers_world.PEOPLE
        ]
        for person in people:
            person.start()
        disturb(world)
        for person in people:
            person.join()
        wait_until(lambda: world.client.job("j").status.is_final, "the end of the job", PATIENCE_SECONDS)
        check_output(world, folder)
    finally:
        world.close()


def test_a_job_from_start_to_finish(folder):
    with running(folder) as stack:
        assert [status.name for status in stack.status()] == ["server", "actors 1", "actors 2", "sweeper"]
        run_job(stack, folder, seed=0)
        pids = [status.pid for status in stack.status()]
    assert all(status.state is State.STOPPED for status in stack.status())
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("seed", range(5))
def test_actors_that_are_killed_lose_nothing(folder, seed):
    """Some actor dies by SIGKILL at random points of the job, three times; the output is exact all the same."""
    killed = []

    def kill(world):
        for answers in sorted(random.Random(seed).sample(range(3 * ITEMS), 3)):
            wait_until(
                lambda answers=answers: world.client.shard_state("j").answers >= answers, "answers", PATIENCE_SECONDS
            )
            wait_until(
                lambda: any(s.state is State.RUNNING for s in stack.status()[1:3]), "an actor process", PATIENCE_SECONDS
            )
            killed.append(stack.kill_one_actor())

    with running(folder) as stack:
        run_job(stack, folder, seed, kill)
        assert sum(status.restarts for status in stack.status()) >= 1
    assert len(killed) == 3


def test_a_server_that_dies_and_comes_back(folder):
    """The server is killed in the middle; it is started again on its data, and everybody goes on."""
    with running(folder) as stack:

        def kill(world):
            wait_until(lambda: world.client.shard_state("j").answers >= ITEMS, "answers", PATIENCE_SECONDS)
            os.kill(stack.status()[0].pid, signal.SIGKILL)

        run_job(stack, folder, 7, kill, lease_seconds=2.0)
        assert stack.status()[0].restarts == 1


def test_a_data_directory_in_use_is_said_at_once(folder):
    with running(folder), pytest.raises(DataDirectoryError, match="is in use by process"), running(folder):
        pass
