"""Worker responses: Ground Truth's layout and keys, the compact form, and real older files."""

from __future__ import annotations

import uuid

import pytest

from voxpop.formats import Annotation, FormatError, responses, storage
from voxpop.formats.responses import read_responses, response_bytes, write_response_files, write_response_parts

AT_MS = 1_714_557_600_120  # 2024-05-01T10:00:00.120


@pytest.fixture
def root():
    return f"memory://{uuid.uuid4().hex}/birds-1"


def annotation(item=0, worker="w1", **changes):
    given = {
        "content": {"crowd-classifier": {"label": "1"}},
        "accepted_at_ms": AT_MS,
        "submitted_at_ms": AT_MS + 40_883,
        "seconds_spent": 39.7,
        **changes,
    }
    return Annotation(item=item, worker=worker, **given)


def test_keys_and_their_order():
    assert response_bytes([annotation(), annotation(worker="w2", seconds_spent=None)]).decode() == (
        '{"answers":[{"acceptanceTime":"2024-05-01T10:00:00.120Z","answerContent":{"crowd-classifier":{"label":"1"}},'
        '"submissionTime":"2024-05-01T10:00:41.003Z","timeSpentInSeconds":39.7,"workerId":"w1"},'
        '{"acceptanceTime":"2024-05-01T10:00:00.120Z","answerContent":{"crowd-classifier":{"label":"1"}},'
        '"submissionTime":"2024-05-01T10:00:41.003Z","workerId":"w2"}]}'
    )


def test_one_file_an_item_in_the_documented_place(root):
    groups = [[annotation(item=0), annotation(item=0, worker="w2")], [annotation(item=12)]]
    assert write_response_files(root, groups, now_ms=AT_MS) == 2
    folder = f"{root}/annotations/worker-response/iteration-1"
    assert list(storage.list_uris(root)) == [
        f"{folder}/0/2024-05-01_10:00:00.json",
        f"{folder}/12/2024-05-01_10:00:00.json",
    ]
    assert list(read_responses(root)) == [one for group in groups for one in group]


def test_parts(root, monkeypatch):
    monkeypatch.setattr(responses, "PART_ITEMS", 3)
    groups = [[annotation(item=item), annotation(item=item, worker="ü")] for item in range(7)]
    assert write_response_parts(root, iter(groups)) == 7
    folder = f"{root}/annotations/worker-response/iteration-1"
    assert list(storage.list_uris(root)) == [f"{folder}/part-0000{number}.jsonl.gz" for number in range(3)]
    assert list(read_responses(root)) == [one for group in groups for one in group]
    first = storage.read_bytes(f"{folder}/part-00000.jsonl.gz")
    write_response_parts(root, groups)
    assert storage.read_bytes(f"{folder}/part-00000.jsonl.gz") == first


def test_an_exception_in_the_middle_of_a_part_writes_no_part(root):
    def breaks():
        yield [annotation()]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        write_response_parts(root, breaks())
    with pytest.raises(storage.NotThereError):
        list(read_responses(root))


def test_older_real_files_have_three_keys_only_and_newer_ones_identities(root):
    uri = f"{root}/annotations/worker-response/iteration-1/5/2020-01-01_00:00:00.json"
    storage.write_atomic(
        uri,
        b'{"answers":[{"answerContent":{"a":1},"submissionTime":"2020-01-01T00:00:00Z","workerId":"private.eu.1",'
        b'"workerMetadata":{"identityData":{"identityProviderType":"Cognito","issuer":"i","sub":"s"}}}]}',
    )
    (one,) = read_responses(root)
    assert one == Annotation(
        item=5,
        worker="private.eu.1",
        content={"a": 1},
        accepted_at_ms=1_577_836_800_000,
        submitted_at_ms=1_577_836_800_000,
    )


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("5/x.json", b"{", "broken JSON"),
        ("5/x.json", b'{"answer":[]}', "no worker response: Object missing required field `answers`"),
        (
            "5/x.json",
            b'{"answers":[{"workerId":"w"}]}',
            r"no worker response: .*`answerContent` - at `\$.answers\[0\]`",
        ),
        (
            "5/x.json",
            b'{"answers":[{"workerId":"w","answerContent":1,"submissionTime":"noon"}]}',
            "expected a time such as 2024-05-01T10:00:00.120Z, found 'noon'",
        ),
        (
            "5/x.json",
            b'{"answers":[{"workerId":"w","answerContent":1,"submissionTime":"2024-05-01T10:00:00"}]}',
            "expected a time such as",
        ),
        ("five/x.json", b'{"answers":[]}', "field 'datasetObjectId': the item must be a number, found 'five'"),
    ],
)
def test_a_file_that_is_no_worker_response(root, name, data, message):
    storage.write_atomic(f"{root}/annotations/worker-response/iteration-1/{name}", data)
    with pytest.raises(FormatError, match=message):
        list(read_responses(root))
