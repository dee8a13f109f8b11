"""Ingest and push: refused whole or queued whole, and every crash can be gone on from."""

import json
from pathlib import Path

import pytest
import workers_world

from voxpop.broker import JobStatus
from voxpop.broker.errors import ConflictError, InvalidInputError, NotFoundError, StoppedError
from voxpop.broker.limits import MAX_NAMED_TICKETS
from voxpop.formats import storage
from voxpop.formats.errors import StorageFullError
from voxpop.formats.model import FormatError
from voxpop.workers import ingest as ingest_module
from voxpop.workers import receipts
from voxpop.workers.consolidate import attend
from voxpop.workers.ingest import ingest
from voxpop.workers.payloads import payload
from voxpop.workers.push import push


@pytest.fixture
def world(valkey_url, tmp_path):
    made = workers_world.World(valkey_url, tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr(ingest_module, "SEGMENT_ITEMS", 10)


def test_every_line_becomes_an_item_with_its_payload(world):
    lines = [{"source": f"täxt {index}", "k": [index]} for index in range(35)]
    heard = []
    world.client.create_job(world.spec(input=world.manifest(lines)))
    assert ingest(world.here, "j", progress=lambda *news: heard.append(news))
    job, state = world.client.job("j"), world.client.shard_state("j")
    assert (job.status, job.input_count) == (JobStatus.IN_PROGRESS, 35)
    assert (state.appended, state.sealed) == (35, True)
    assert [payload(world.here, "j", index).fields for index in range(35)] == lines
    assert heard[-1] == ("queue", 35, 1.0)
    assert [part for _, _, part in heard if part > 1] == []
    with pytest.raises(NotFoundError, match="no item 35"):
        payload(world.here, "j", 35)


def test_a_job_takes_nothing_from_an_earlier_one_of_its_name(world, valkey_url, tmp_path):
    """The server was lost, the storage was not: the new job has its own input, and ends with its own labels."""
    world.job(2)
    world.answer_all()
    world.client.connection.flushall()
    again = workers_world.World(valkey_url, tmp_path)
    again.client.create_job(again.spec(input=again.manifest([{"source": f"new {index}"} for index in range(3)], "new")))
    assert ingest(again.here, "j")
    again.answer_all()
    assert again.finish().status is JobStatus.COMPLETED
    assert [line["source"] for line in again.output()] == ["new 0", "new 1", "new 2"]
    again.close()


def test_a_wrong_input_fails_the_job_and_queues_nothing(world):
    """All kinds of problems, with line number, field and reason; the first 20 and the count."""
    good = json.dumps({"source": "x"})
    lines = [good, "{", '{"source-ref": "s3://b/x.jpg"}', '{"source": "x", "voxpop-categories": ["z"]}', good]
    path = Path(world.manifest([]))
    path.write_text("\n".join([*lines, *["{}"] * 30]) + "\n")
    world.client.create_job(world.spec(input=str(path)))
    assert not ingest(world.here, "j")
    job, state = world.client.job("j"), world.client.shard_state("j")
    assert job.status is JobStatus.FAILED
    assert f"{path} line 2: broken JSON" in job.failure_reason
    assert "not among the job's categories: 'z'" in job.failure_reason
    assert "more problems" in job.failure_reason
    assert (state.appended, state.sealed) == (0, True)
    assert world.client.claim("j", "ann", workers_world.ADDRESS).status == "none"
    assert not ingest(world.here, "j")  # and again changes nothing


def test_what_only_the_task_type_knows_is_checked(world):
    lines = [{"source": "x"}, {"source-ref": "s3://b/x.jpg"}, {"source": "y", "voxpop-categories": ["a"]}]
    world.client.create_job(world.spec(input=world.manifest(lines)))
    assert not ingest(world.here, "j")
    reason = world.client.job("j").failure_reason
    assert "line 2, field 'source-ref': is set, but text_single_label takes 'source'" in reason
    assert "line 3, field 'voxpop-categories': has 1 categories; text_single_label needs at least 2" in reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"categories": ("a",)}, "1 categories given"),
        ({"task_type": "text_poem"}, "unknown task type 'text_poem'; known task types: image_single_label"),
        ({"method": "oracle"}, "unknown consolidation method 'oracle'"),
        ({"method_parameters": {"sead": 1}}, "sead"),
        ({"label_attribute": "x-metadata"}, "may not end in '-metadata'"),
        ({"input": "/nowhere/in.manifest"}, "its input cannot be read: /nowhere/in.manifest: no such file"),
    ],
)
def test_a_job_that_cannot_be_fails(world, changes, reason):
    world.client.create_job(world.spec(**({"input": world.manifest([{"source": "x"}])} | changes)))
    assert not ingest(world.here, "j")
    assert reason in world.client.job("j").failure_reason


@pytest.mark.parametrize("crash_at", range(1, 12))
def test_it_goes_on_after_a_crash_at_any_point(world, monkeypatch, crash_at):
    """The n-th call to the broker or the storage dies; the next ingest ends where an undisturbed one does."""
    lines = [{"source": f"text {index}"} for index in range(35)]
    world.client.create_job(world.spec(input=world.manifest(lines)))
    calls = 0

    class Killed(BaseException):
        pass

    def dies(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == crash_at:
                raise Killed
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        services = world.services()
        patch.setattr(storage, "create", dies(storage.create))
        for name in ("append", "seal", "move_job", "set_job_fields"):
            patch.setattr(services.client, name, dies(getattr(services.client, name)), raising=False)
        with pytest.raises(Killed):
            ingest(services, "j")
    assert ingest(world.services(), "j") or world.client.shard_state("j").sealed
    ingest(world.services(), "j")
    state = world.client.shard_state("j")
    assert (state.appended, state.sealed) == (35, True)
    assert world.client.job("j").status is JobStatus.IN_PROGRESS
    assert [payload(world.here, "j", index).fields for index in range(35)] == lines


def test_an_input_that_changed_since_it_was_checked_is_refused(world, monkeypatch):
    lines = [{"source": f"text {index}"} for index in range(35)]
    path = Path(world.manifest(lines))
    world.client.create_job(world.spec(input=str(path)))
    kept = receipts.keep

    def changes_then(*args):
        receipt = kept(*args)
        path.write_text(path.read_text().replace("text", "TEXT"))
        return receipt

    monkeypatch.setattr(receipts, "keep", changes_then)
    assert not ingest(world.here, "j")
    job = world.client.job("j")
    assert job.status is JobStatus.FAILED
    assert "the input changed while it was queued" in job.failure_reason
    assert world.client.shard_state("j").appended == 0


def test_an_input_that_changes_while_it_is_queued_fails_the_job_in_the_end(world, monkeypatch):
    """Some of it is queued already: that is stopped, and comes out unlabeled."""
    lines = [{"source": f"text {index}"} for index in range(35)]
    path = Path(world.manifest(lines))
    world.client.create_job(world.spec(input=str(path)))
    append = world.client.append

    def once_then_gone(*args, **kwargs):
        path.unlink(missing_ok=True)
        return append(*args, **kwargs)

    monkeypatch.setattr(world.client, "append", once_then_gone, raising=False)
    monkeypatch.setattr(ingest_module, "_segments", broken_after_one(ingest_module._segments))
    assert not ingest(world.here, "j")
    job = world.finish()
    assert job.status is JobStatus.FAILED
    assert "the input changed while it was queued" in job.failure_reason
    assert [line["j-metadata"]["failure-reason"] for line in world.output()] == ["stopped"] * 10


def broken_after_one(segments):
    """Stop a stream of segments where a reader of a changed file stops."""

    def broken(*args):
        from voxpop.formats.errors import ChangedError

        yield next(segments(*args))
        raise ChangedError("in.manifest", "changed while it was read")

    return broken


def test_storage_that_fails_does_not_fail_the_job(world, monkeypatch):
    world.client.create_job(world.spec(input=world.manifest([{"source": "x"}])))

    def full(uri, _data):
        raise StorageFullError(uri, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "create", full)
        with pytest.raises(StorageFullError):
            ingest(world.here, "j")
    assert world.client.job("j").status is JobStatus.INITIALIZING
    assert ingest(world.here, "j")


def test_stopping_during_ingest(world, monkeypatch):
    """Nothing is queued any more; what was not queued is in the output as it came."""
    lines = [{"source": f"text {index}"} for index in range(35)]
    world.client.create_job(world.spec(input=world.manifest(lines)))
    append = world.client.append

    def then_stop(*args, **kwargs):
        first = append(*args, **kwargs)
        world.client.stop_job("j")
        return first

    monkeypatch.setattr(world.client, "append", then_stop, raising=False)
    assert not ingest(world.here, "j")
    assert world.finish().status is JobStatus.STOPPED
    assert [line["source"] for line in world.output()] == [line["source"] for line in lines]
    assert ["j-metadata" in line for line in world.output()] == [True] * 10 + [False] * 25


def test_named_assignment(world):
    """Only the people that an item lists may answer it, and it is complete when they have."""
    lines = [{"source": "x", "who": ["ann", "bob"]}, {"source": "y", "who": ["cleo"]}]
    assert world.job(lines, assignment="named", replication=0, worker_attribute="who")
    assert [lease.item for lease in world.claim("ann")] == [0]
    assert world.answer("dan") == 0
    assert world.answer("cleo") == 1
    assert attend(world.here, "j").settled == 1


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (None, "must list the ids"),
        ([], "must list the ids"),
        (["ann", 3], "must list the ids"),
        (["ann", "ann"], "lists somebody more than once"),
        (["ann", "zoe"], "lists people who are not in pool 'team': 'zoe'"),
        ([f"w{index}" for index in range(256)], f"lists 256 people; at most {MAX_NAMED_TICKETS} are allowed"),
    ],
)
def test_named_assignment_to_nobody(world, who, message):
    lines = [{"source": "x", "workers": ["ann"]}, {"source": "y"} if who is None else {"source": "y", "workers": who}]
    assert not world.job(lines, assignment="named", replication=0)
    assert f"line 2, field 'workers': {message}" in world.client.job("j").failure_reason


def test_items_that_carry_the_label_keep_it(world):
    """Chaining under the same attribute: only what lacks the label is asked."""
    labeled = {"source": "old", "j": 1, "j-metadata": {"confidence": 0.7, "class-name": "b"}}
    world.job([labeled, {"source": "new"}])
    assert [lease.item for lease in world.claim("ann")] == [1]
    world.client.stop_job("j", revoke=True)
    assert world.finish().status is JobStatus.STOPPED
    assert world.output()[0] == labeled


def test_push(world):
    world.client.create_job(world.spec())
    assert not ingest(world.here, "j")
    assert world.client.job("j").status is JobStatus.IN_PROGRESS
    lines = [json.dumps({"source": f"text {index}"}).encode() for index in range(5)]
    assert push(world.here, "j", lines[:2], ["x", "y"]) == [0, 1]
    assert push(world.here, "j", lines[:4], ["x", "y", "z", "z"]) == [0, 1, 2, 2]
    assert push(world.here, "j", lines[4:]) == [3]
    assert push(world.here, "j", lines[4:]) == [4]  # without an id it is another item
    assert payload(world.here, "j", 2).source == "text 2"
    assert payload(world.here, "j", 4).source == "text 4"
    world.answer_all()
    assert attend(world.here, "j").settled == 5
    world.client.seal("j")
    assert world.finish().status is JobStatus.COMPLETED
    assert [line["source"] for line in world.output()] == ["text 0", "text 1", "text 2", "text 4", "text 4"]
    with pytest.raises((ConflictError, StoppedError)):
        push(world.here, "j", lines)


def test_a_push_is_refused_whole(world):
    world.client.create_job(world.spec())
    with pytest.raises(FormatError, match="pushed line 2: broken JSON"):
        push(world.here, "j", [b'{"source":"x"}', b"{", b'{"source-ref":"s3://b/k"}'])
    with pytest.raises(FormatError, match="holds a line break"):
        push(world.here, "j", [b'{"source":\n"x"}'])
    with pytest.raises(InvalidInputError, match="2 object ids for 1 items"):
        push(world.here, "j", [b'{"source":"x"}'], ["a", "b"])
    assert world.client.shard_state("j").appended == 0
    world.job(1, name="k")
    with pytest.raises(InvalidInputError, match="push to a job without an input"):
        push(world.here, "k", [b'{"source":"x"}'])


def test_a_push_of_many(world):
    """More than one call takes: in batches, numbered as the lines are."""
    world.client.create_job(world.spec())
    lines = [json.dumps({"source": f"text {index}"}).encode() for index in range(2500)]
    assert push(world.here, "j", lines) == list(range(2500))
    assert payload(world.here, "j", 2222).source == "text 2222"
