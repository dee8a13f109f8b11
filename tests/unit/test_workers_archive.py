"""The archive: nothing is lost between the server's log and the parts, whoever writes them and whenever one dies."""

import threading
from pathlib import Path

import pytest
import workers_world

from voxpop.workers import archive


@pytest.fixture
def world(server_url, tmp_path):
    made = workers_world.World(server_url, tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of a few events, so that there are many."""
    monkeypatch.setattr(archive, "PART_BYTES", 300)
    monkeypatch.setattr(archive, "READ_EVENTS", 3)


def parts(world):
    return sorted(path.name for path in Path(world.here.uri("j", "log").removeprefix("file://")).iterdir())


def in_log(world):
    return [event for _, event in world.client.read_log("j")]


def test_archive_and_log_hold_every_event_once(world):
    world.job(20)
    world.answer_all(k=3)
    logged = in_log(world)
    assert archive.drain(world.here, "j") == len(logged)
    assert list(archive.read_archive(world.here, "j")) == logged
    assert list(archive.read_archive(world.here, "j", after_seq=7)) == logged[7:]
    assert world.client.shard_state("j").log_bytes == 0
    assert in_log(world) == []
    assert len(parts(world)) > 3


def test_a_crash_between_writing_and_trimming(world, monkeypatch):
    """The part stands, its events are still in the log: who comes next takes them from the part and trims."""
    world.job(20)
    world.answer_all(k=3)
    logged = in_log(world)
    monkeypatch.setattr(archive, "PART_BYTES", 10_000)
    part = archive.next_part(world.here, "j", 0)
    assert part.last == len(logged)
    monkeypatch.setattr(archive, "PART_BYTES", 300)  # the next one would have cut elsewhere
    assert archive.drain(world.services(), "j") == len(logged)
    assert parts(world) == ["000000000001.log.gz"]
    assert list(archive.read_archive(world.here, "j")) == logged


def test_several_drain_at_once(world):
    """Of several that archive the same events, one wins each part; the bytes in the log are counted off once."""
    world.job(200)
    world.answer_all(k=2, people=("ann", "bob"))
    logged = in_log(world)
    others = [world.services() for _ in range(3)]
    threads = [threading.Thread(target=archive.drain, args=(services, "j")) for services in others]
    for thread in threads:
        thread.start()
    world.answer("cleo", k=1)  # more comes while they are at it
    for thread in threads:
        thread.join()
    left = in_log(world)
    archived = list(archive.read_archive(world.here, "j"))
    assert archived[: len(logged)] == logged
    assert [event.seq for event in archived + left] == list(range(1, len(archived + left) + 1))
    assert (world.client.shard_state("j").log_bytes == 0) is (not left)
    archive.drain(world.here, "j")
    assert world.client.shard_state("j").log_bytes == 0


def test_the_same_trim_twice_counts_off_once(world):
    world.job(3)
    part = archive.next_part(world.here, "j", 0)
    world.answer("ann")
    for _ in range(2):
        world.client.trim_log("j", part.last, part.log_bytes)
    assert world.client.shard_state("j").log_bytes == sum(len(frame) for frame, _ in world.client.read_log("j"))


def test_a_missing_part_is_named(world):
    world.job(20)
    world.answer_all(k=3)
    archive.drain(world.here, "j")
    lost = Path(world.here.uri("j", "log", parts(world)[1]).removeprefix("file://"))
    after = int(lost.name[:12]) - 1
    lost.unlink()
    with pytest.raises(archive.ArchiveError, match=f"events {after + 1} to .* are neither in the server's log nor"):
        archive.next_part(world.services(), "j", after)


def test_a_damaged_part_is_named(world):
    world.job(3)
    archive.drain(world.here, "j")
    path = Path(world.here.uri("j", "log", "000000000001.log.gz").removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(archive.ArchiveError, match=r"000000000001.log.gz: the part is damaged"):
        list(archive.read_archive(world.here, "j"))


def test_a_server_that_was_rolled_back_is_noticed(world):
    """The archive has events that the server has otherwise: nothing is written over, and it is said."""
    world.job(3)
    part = archive.next_part(world.here, "j", 0)
    connection = world.client.connection
    for key in connection.scan_iter("vp:{j.0}:*"):
        connection.delete(key)
    world.client.open_job(world.client.job("j"))
    world.client.append("j", 2, at=0)
    with pytest.raises(archive.ArchiveError, match="the archive has other events than the server from 1 on"):
        archive.next_part(world.here, "j", 0)
    assert list(archive.read_archive(world.here, "j")) == part.events
