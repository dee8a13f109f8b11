"""From answers to labels and files: what one process leaves undone the next one does, and nothing is done twice."""

import json
import re
import threading
from collections import Counter
from pathlib import Path

import pytest
import workers_world

from voxpop.broker import JobStatus
from voxpop.broker.events import Labeled, Settled, Submitted
from voxpop.broker.models import ItemEnd, SubmitStatus
from voxpop.formats.errors import StorageFullError
from voxpop.workers import archive, consolidate
from voxpop.workers import export as export_module
from voxpop.workers.consolidate import attend
from voxpop.workers.export import export


@pytest.fixture
def world(valkey_url, tmp_path):
    made = workers_world.World(valkey_url, tmp_path)
    yield made
    made.close()


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def settlements(world, job="j"):
    """Return how often each item was settled, according to the archive."""
    archive.drain(world.here, job)
    ends = [end for event in archive.read_archive(world.here, job) if isinstance(event, Settled) for end in event.ends]
    return Counter(item for item, *_ in ends)


def settled(world, job="j"):
    return [event for event in archive.read_archive(world.here, job) if isinstance(event, Settled)]


def truth(item):
    return "ab"[item % 2]


def test_a_job_from_start_to_finish(world):
    world.job(5, label_attribute="topic", replication=3)
    world.answer_all(lambda worker, item: {"label": truth(item) if worker != "ann" else "a"})
    job = world.finish()
    assert job.status is JobStatus.COMPLETED
    for index, line in enumerate(world.output()):
        metadata = line["topic-metadata"]
        assert list(line) == ["source", "topic", "topic-metadata"]
        assert list(metadata) == ["confidence", "job-name", "class-name", "human-annotated", "creation-date", "type"]
        assert (line["source"], line["topic"], metadata["class-name"]) == (f"text {index}", index % 2, truth(index))
        assert metadata["confidence"] in (0.67, 1.0)
    response = next(Path(job.output_uri.removeprefix("file://")).parents[2].glob("annotations/worker-response/*/3/*"))
    answers = json.loads(response.read_text())["answers"]
    assert len(answers) == 3
    assert answers[0]["answerContent"] == {"crowd-classifier": {"label": "b"}} or answers[0]["workerId"] == "ann"
    assert answers[0]["acceptanceTime"] <= answers[0]["submissionTime"]
    assert answers[0]["timeSpentInSeconds"] == 1.5


def test_one_answer_has_confidence_zero(world):
    world.job(2, replication=1)
    world.answer("ann")
    world.finish()
    assert [line["j-metadata"]["confidence"] for line in world.output()] == [0, 0]


NONSENSE = {"label": "neither"}


def test_an_answer_that_cannot_be_used_is_asked_for_again_from_somebody_else(world):
    world.job(2, replication=2)
    world.answer("ann", lambda item: NONSENSE if item == 0 else {"label": "a"})
    world.answer("bob")
    assert attend(world.here, "j") == consolidate.Attended(settled=1, is_finished=False)
    assert not world.claim("ann")
    assert not world.claim("bob")
    assert world.answer("cleo") == 1
    world.finish()
    assert [line["j-metadata"]["confidence"] for line in world.output()] == [1, 1]


def test_nonsense_uses_up_twice_the_replication_and_no_more(world):
    world.job(1, replication=2)
    for worker in ("ann", "bob", "cleo", "dan"):
        assert world.answer(worker, lambda _: NONSENSE) == 1
        attend(world.here, "j")
    assert world.finish().status is JobStatus.FAILED, "not one item was labeled"
    ends = [end[:4] for event in settled(world) for end in event.ends]
    assert ends == [(0, ItemEnd.FAILED.value, 1, "no answer could be used")]


def test_when_nobody_else_is_left_the_usable_answers_decide(world):
    world.job(1, replication=4)
    for worker in ("ann", "bob", "cleo"):
        world.answer(worker)
    world.answer("dan", lambda _: NONSENSE)
    assert attend(world.here, "j") == consolidate.Attended(settled=1, is_finished=True)


def test_a_stopped_job_asks_for_nothing_again(world):
    world.job(1, replication=2)
    world.answer("ann", lambda _: NONSENSE)
    leases = world.claim("bob")
    world.client.stop_job("j")
    world.submit("bob", leases, lambda _: {"label": "a"})
    assert attend(world.here, "j") == consolidate.Attended(settled=1, is_finished=True)


def test_an_actor_that_dies_after_extending_extends_no_further(world, monkeypatch):
    world.job(1, replication=2)
    world.answer("ann", lambda _: NONSENSE)
    world.answer("bob")
    client = world.here.client
    extend = client.extend

    def extend_and_die(*arguments, **options):
        extend(*arguments, **options)
        raise Killed

    monkeypatch.setattr(client, "extend", extend_and_die)
    with pytest.raises(Killed):
        attend(world.here, "j")
    monkeypatch.undo()
    assert attend(world.services(), "j").settled == 0
    assert len(world.claim("cleo")) == 1
    assert not world.claim("dan")


def test_nothing_is_settled_before_its_time(world):
    world.job(3)
    world.answer("ann")
    assert attend(world.here, "j") == consolidate.Attended(settled=0, is_finished=False)
    world.answer("bob", k=1)
    assert attend(world.here, "j").settled == 1
    assert not export(world.here, "j")
    assert world.client.job("j").status is JobStatus.IN_PROGRESS


def test_an_item_that_everybody_declines_fails_with_its_reason(world):
    world.job(3, replication=2)
    for worker in ("ann", "bob"):
        leases = {lease.item: lease for lease in world.claim(worker)}
        world.client.decline("j", worker, workers_world.ADDRESS, [leases[1].token])
        world.submit(worker, [leases[0], leases[2]], lambda _item: {"label": "b"})
    assert world.finish().status is JobStatus.COMPLETED
    first, second, third = world.output()
    assert (first["j"], third["j"]) == (1, 1)
    assert "j" not in second
    assert second["j-metadata"]["failure-reason"] == "declined by everybody who was asked"
    assert second["j-metadata"]["job-name"] == "labeling-job/j"


def test_a_job_of_which_every_item_fails_has_failed(world):
    world.job(2, replication=1)
    leases = world.claim("ann")
    world.client.decline("j", "ann", workers_world.ADDRESS, [lease.token for lease in leases])
    job = world.finish()
    assert job.status is JobStatus.FAILED
    assert "every item failed" in job.failure_reason
    assert len(world.output()) == 2


def test_answers_that_cannot_be_used_never_stop_a_job(world):
    """Whatever is under the lease, the item ends: with the answers that can be used, or with a reason."""
    world.job(4, replication=3)
    odd = {0: {"label": "zzz"}, 1: {"label": 3}, 2: "text", 3: {"label": "a", "more": 1}}
    world.answer("ann", odd.__getitem__)
    world.answer("bob", lambda item: {"label": "b"} if item < 3 else [])
    world.answer("cleo", lambda item: {"label": "b"} if item < 3 else None)
    attend(world.here, "j")
    assert world.answer("dan", lambda item: {"label": "b"} if item < 3 else 5) == 4
    assert world.finish().status is JobStatus.COMPLETED
    *lines, last = world.output()
    assert [(line["j"], line["j-metadata"]["confidence"]) for line in lines] == [(1, 1.0)] * 3
    assert last["j-metadata"]["failure-reason"] == "no answer could be used"


def test_an_item_may_offer_a_part_of_the_categories(world):
    """What the item did not offer is not counted, also if whoever showed it did not look."""
    world.job(
        [{"source": "x", "voxpop-categories": ["a", "b"]}, {"source": "y"}], categories=("a", "b", "c"), replication=3
    )
    said = {"ann": "c", "bob": "c", "cleo": "a"}
    world.answer_all(lambda worker, _item: {"label": said[worker]}, people=said)
    attend(world.here, "j")
    assert world.answer("dan") == 1
    world.finish()
    assert [line["j-metadata"]["class-name"] for line in world.output()] == ["a", "c"]


def test_stopping_with_answers_half_way(world):
    """Complete items are labeled; those begun or not begun are not; leases that are held may finish first."""
    world.job(6)
    world.answer("ann", k=4)
    world.answer("bob", k=1)
    held = world.claim("bob", k=2)
    world.client.stop_job("j")
    assert not attend(world.here, "j").is_finished
    world.submit("bob", held[:1], lambda _item: {"label": "a"})
    assert not attend(world.here, "j").is_finished
    world.client.release("j", "bob", workers_world.ADDRESS, [held[1].token])
    assert world.finish().status is JobStatus.STOPPED
    lines = world.output()
    assert [line.get("j") for line in lines] == [0, 0, None, None, None, None]
    assert [line["j-metadata"].get("failure-reason") for line in lines] == [None, None, *["stopped"] * 4]
    state = world.client.shard_state("j")
    assert (state.settled, state.labeled, state.leased, state.answers) == (6, 2, 0, 6)


def test_stopping_at_once(world):
    world.job(3)
    world.claim("ann")
    world.client.stop_job("j", revoke=True)
    assert world.finish().status is JobStatus.STOPPED


def test_two_processes_attend_at_once(world):
    """Both go through everything together; every item is settled once, and the archive has no gap."""
    world.job(300)
    others = [world.services() for _ in range(2)]
    ended = threading.Event()
    problems = []

    def attends(services):
        try:
            while not ended.is_set():
                attend(services, "j")
            attend(services, "j")
        except Exception as error:  # noqa: BLE001 - shown by the test
            problems.append(error)

    threads = [threading.Thread(target=attends, args=(services,)) for services in (*others, others[0])]
    for thread in threads:
        thread.start()
    world.answer_all(lambda _worker, item: {"label": truth(item)}, k=7)
    ended.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert world.finish().status is JobStatus.COMPLETED
    assert [line["j"] for line in world.output()] == [item % 2 for item in range(300)]
    assert settlements(world) == dict.fromkeys(range(300), 1)


# Where a process may die: after how many calls of which of its ways to the outside.
DEATHS = [
    *[("trim_log", at) for at in (1, 2, 4)],
    *[("settle", at) for at in (1, 2, 3, 4, 5)],
    *[("read_log", at) for at in (1, 3, 6)],
    *[("shard_state", at) for at in (1, 2, 3)],
    *[("move_job", 1), ("publish", 1), ("worker_indexes", 1)],
]


@pytest.mark.parametrize(("call", "at"), DEATHS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_dies_leaves_nothing_undone(world, monkeypatch, call, at, when):
    """It dies before or after its n-th call; the sweeper notices, and the output is that of an undisturbed run."""
    monkeypatch.setattr(consolidate, "SETTLED_AT_ONCE", 4)
    world.job(12, method="dawid_skene", replication=3)
    said = {"ann": lambda item: item % 2, "bob": lambda item: item % 2, "cleo": lambda item: item % 3 == 0}
    dying = world.services()
    calls = Counter()
    original = getattr(dying.client, call)

    def dies(*args, **kwargs):
        calls[call] += 1
        if calls[call] == at and when == "before":
            raise Killed
        reply = original(*args, **kwargs)
        if calls[call] == at:
            raise Killed
        return reply

    monkeypatch.setattr(dying.client, call, dies, raising=False)
    died = False
    for k in (1, 5, 12):
        for worker, choice in said.items():
            world.answer(worker, lambda item, choice=choice: {"label": "ab"[int(choice(item))]}, k=k)
        if not died:
            try:
                attend(dying, "j")
                if k == 12:
                    export(dying, "j")
            except Killed:
                died = True
    assert died
    assert world.recover().status is JobStatus.COMPLETED
    assert [line["j"] for line in world.output()] == [item % 2 for item in range(12)]
    assert settlements(world) == dict.fromkeys(range(12), 1)
    assert world.client.shard_state("j").log_bytes == 0
    answers = [event for event in archive.read_archive(world.here, "j") if isinstance(event, Submitted)]
    assert Counter((a.item, e.worker) for e in answers for a in e.answers if a.used).most_common(1)[0][1] == 1


def test_a_failed_pass_does_not_spoil_the_next(world, monkeypatch):
    """The same process goes on after its storage or its server failed in the middle of a pass."""
    world.job(4)
    world.answer_all()

    def full(*_args):
        raise StorageFullError("file:///x", "no space")

    with monkeypatch.context() as patch:
        patch.setattr(archive.storage, "create", full)
        with pytest.raises(StorageFullError):
            attend(world.here, "j")
    assert world.client.shard_state("j").settled == 0
    assert world.finish().status is JobStatus.COMPLETED


def test_exporting_twice_gives_the_same_bytes(world, monkeypatch):
    """Also when the first one died between writing the output and ending the job."""
    world.job(8, replication=3, method="dawid_skene")
    world.answer_all(lambda worker, item: {"label": truth(item) if worker != "dan" else "b"})
    assert attend(world.here, "j").is_finished

    def dies(*_args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(export_module, "_end", dies)
        with pytest.raises(Killed):
            export(world.here, "j")
    folder = world.folder / "data" / "storage" / "jobs" / "j" / "output"
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert world.client.job("j").status is JobStatus.IN_PROGRESS
    assert export(world.services(), "j")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert export(world.here, "j")


def test_two_exports_at_once(world):
    world.job(30, replication=3, method="dawid_skene")
    world.answer_all(lambda worker, item: {"label": truth(item) if worker != "dan" else "b"})
    attend(world.here, "j")
    threads = [threading.Thread(target=export, args=(world.services(), "j")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.client.job("j").status is JobStatus.COMPLETED
    assert [line["j"] for line in world.output()] == [item % 2 for item in range(30)]


def test_the_last_fit_publishes_what_it_sees_otherwise(world):
    """The first items are labeled before the method knows its workers; the output has what it knows in the end."""
    world.job(40, replication=3, method="dawid_skene")
    said = {"ann": truth, "bob": truth, "cleo": lambda item: truth(item + 1)}
    for _ in range(40):
        for worker, choice in said.items():
            world.answer(worker, lambda item, choice=choice: {"label": choice(item)}, k=1)
        attend(world.here, "j")
    settled = {
        item: json.loads(label)
        for event in archive.read_archive(world.here, "j")
        if isinstance(event, Settled)
        for item, _, _, _, label in event.ends
    }
    world.finish()
    published = [event for event in archive.read_archive(world.here, "j") if isinstance(event, Labeled)]
    newest = {item: (version, json.loads(label)) for event in published for item, _, version, _, label in event.labels}
    assert newest, "nothing changed: the test shows nothing"
    assert {version for version, _ in newest.values()} == {2}
    for item, line in enumerate(world.output()):
        label = newest[item][1] if item in newest else settled[item]
        assert (line["j"], line["j-metadata"]) == (label["value"], label["metadata"])
        if item in newest:
            assert label["metadata"]["confidence"] != settled[item]["metadata"]["confidence"]


def test_a_late_answer_is_archived_after_the_end(world):
    world.job(1, replication=1, lease_seconds=0.01)
    late = world.claim("ann")
    while not world.client.expire("j"):
        pass
    world.answer("bob")
    assert world.finish().status is JobStatus.COMPLETED
    receipts = world.submit("ann", late, lambda _item: {"label": "b"})
    assert receipts[0].status == "settled"
    assert attend(world.here, "j") == consolidate.Attended(settled=0, is_finished=False)
    *_, last = archive.read_archive(world.here, "j")
    assert [answer.used for answer in last.answers] == [False]


def test_a_big_job_gets_compressed_responses(world, monkeypatch):
    monkeypatch.setattr(export_module, "RESPONSE_FILES", 3)
    world.job(4, replication=1)
    world.answer("ann")
    world.finish()
    output = Path(world.here.uri("j", "output").removeprefix("file://"))
    folder = output / "j/annotations/worker-response/iteration-1"
    assert [path.name for path in folder.iterdir()] == ["part-00000.jsonl.gz"]


def test_the_readme_shows_how_a_model_takes_work(world):
    """Its snippet, run as it stands."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [snippet] = re.findall(r"```python\n(from voxpop.broker import Answer.*?)```", readme, re.DOTALL)
    world.job(3, name="reviews")
    names = {"url": world.url, "judge": lambda text: "ab"[text == "text 1"]}
    exec(compile(snippet, "README.md", "exec"), names)
    assert [receipt.status for receipt in names["receipts"]] == [SubmitStatus.ACCEPTED] * 3
    world.answer("bob", lambda item: {"label": "ab"[item == 1]}, job="reviews")
    world.finish("reviews")
    assert [line["reviews"] for line in world.output("reviews")] == [0, 1, 0]
