"""From a job file to a job: what a refusal leaves behind, and what the same request finds when it is sent again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from workers_world import World

from voxpop.broker.errors import BrokerError, ConflictError
from voxpop.broker.models import JobStatus
from voxpop.cli import creation
from voxpop.cli.creation import create_job
from voxpop.cli.jobfile import InputSection, JobFile, OutputSection, PoolSection, WorkforceSection
from voxpop.cli.output import Output, WrongInputError
from voxpop.formats.model import FormatError

OUT = Output(as_json=True)


@pytest.fixture
def world(valkey_url, tmp_path):
    made = World(valkey_url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def wanted(tmp_path):
    """A job over a text file, of which a manifest has to be made."""
    (tmp_path / "texts.txt").write_text("first\nsecond\n")
    return JobFile(
        name="pair",
        task_type="text_single_label",
        categories=("good", "bad"),
        replication=2,
        input=InputSection(files=str(tmp_path / "texts.txt"), type="text"),
        workforce=WorkforceSection(name="crew", allow=("10.0.0.0/8",)),
        pool=PoolSection(name="night", members=("eve",)),
    )


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Manifests are named by the second: each look at the clock is a minute later."""
    times = (datetime(2026, 11, 23, tzinfo=UTC) + timedelta(minutes=number) for number in range(1000))

    class Clock:
        @staticmethod
        def now(_zone):
            return next(times)

    monkeypatch.setattr(creation, "datetime", Clock)


def files(world):
    """Every file in the storage, by its name there."""
    root = world.folder / "data" / "storage"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def manifests(world):
    return [name for name in files(world) if name.startswith("inputs/")]


def people(world):
    pool = world.client.pool("night")
    return pool.members, pool.allow


def test_the_same_request_again_finds_its_job_and_makes_no_second_manifest(world, wanted):
    made = create_job(world.here, wanted, OUT, token="t1")
    assert (made.status, made.input_count) == (JobStatus.IN_PROGRESS, 2)
    before = files(world)
    assert create_job(world.here, wanted, OUT, token="t1") == made
    assert files(world) == before
    assert len(manifests(world)) == 1


def test_the_same_request_again_leaves_people_as_they_have_become(world, wanted):
    """Who was taken out since, or shut out by their address, is not let in again."""
    create_job(world.here, wanted, OUT, token="t1")
    world.client.remove_members("night", ["eve"])
    world.client.set_allowlist("crew", ["192.168.0.0/16"])
    create_job(world.here, wanted, OUT, token="t1")
    assert people(world) == ((), ("192.168.0.0/16",))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"replication": 3}, "replication 2 -> 3"),
        ({"categories": ("good", "bad", "ugly")}, "categories"),
        ({"pool": PoolSection(name="team", members=("eve",))}, "pool 'night' -> 'team'"),
        ({"input": InputSection(manifest="other.manifest")}, "input "),
        ({"output": OutputSection(dir="elsewhere")}, "output '' -> 'elsewhere'"),
    ],
)
def test_a_request_that_asks_for_something_else_is_refused(world, wanted, changes, told):
    """Before anybody joins, any address is let in, or any file is written."""
    made = create_job(world.here, wanted, OUT, token="t1")
    before = files(world)
    other = replace(
        wanted,
        **{
            "workforce": WorkforceSection(name="crew", allow=()),
            "pool": PoolSection(name="night", members=("mallory",)),
            **changes,
        },
    )
    with pytest.raises(
        ConflictError, match=re.escape(f"'pair' was made by this request, which asked for something else then: {told}")
    ):
        create_job(world.here, other, OUT, token="t1")
    assert people(world) == (("eve",), ("10.0.0.0/8",))
    assert world.client.pool("team").members == ("ann", "bob", "cleo", "dan")
    assert files(world) == before
    assert world.client.job("pair") == made


@pytest.mark.parametrize("token", ["", "t2"])
def test_another_request_for_the_same_name_leaves_nothing(world, wanted, token):
    create_job(world.here, wanted, OUT, token="t1")
    before = files(world)
    with pytest.raises(ConflictError, match="job 'pair' exists"):
        create_job(world.here, replace(wanted, pool=PoolSection(name="night", members=("mallory",))), OUT, token=token)
    assert files(world) == before
    assert people(world)[0] == ("eve",)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"assignment": "named", "replication": 0}, FormatError),  # the texts name nobody
        ({"output": OutputSection(dir="/proc/nowhere")}, WrongInputError),
        ({"pool": PoolSection(name="team")}, ConflictError),  # of another workforce
    ],
)
def test_a_refused_file_leaves_nothing(world, wanted, changes, refusal):
    with pytest.raises(refusal):
        create_job(world.here, replace(wanted, **changes), OUT)
    assert manifests(world) == []
    assert "night" not in world.client.pools()
    assert world.client.jobs() == []


def test_a_manifest_goes_when_the_creation_is_interrupted(world, wanted, monkeypatch):
    """Ctrl-C before the job is there takes it away; after that it is the job's input."""
    original = world.client.create_job

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(world.client, "create_job", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create_job(world.here, wanted, OUT)
    assert manifests(world) == []

    def interrupt_late(*args):
        original(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(world.client, "create_job", interrupt_late)
    with pytest.raises(KeyboardInterrupt):
        create_job(world.here, wanted, OUT, token="t1")
    monkeypatch.undo()
    assert len(manifests(world)) == 1
    assert create_job(world.here, wanted, OUT, token="t1").input_count == 2


def test_a_creation_that_was_cut_short_goes_on(world, wanted, monkeypatch):
    """The first try died when the job was there and nothing of it was queued."""

    def die(*_args, **_options):
        raise BrokerError("gone")

    monkeypatch.setattr(creation, "ingest", die)
    with pytest.raises(BrokerError):
        create_job(world.here, wanted, OUT, token="t1")
    monkeypatch.undo()
    assert create_job(world.here, wanted, OUT, token="t1").status is JobStatus.IN_PROGRESS
    assert world.client.shard_state("pair").appended == 2
    assert len(manifests(world)) == 1
