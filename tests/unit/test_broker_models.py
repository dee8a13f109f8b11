"""What callers hand in is checked at the door, with messages that name the place."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxpop.broker.errors import BrokerError, InvalidInputError
from voxpop.broker.events import Submitted, SubmittedAnswer, decode, unpack_items, unpack_pairs
from voxpop.broker.faults import can_repeat
from voxpop.broker.limits import MAX_CATEGORIES, MAX_REPLICATION
from voxpop.broker.models import JobSpec, JobStatus, Token, check_name
from voxpop.broker.steps import Command, Run, Wait
from voxpop.broker.wire import pack_items, pack_pairs, pack_tokens
from voxpop.broker.wire import unpack_items as unpack_wire

U32 = st.integers(0, 2**32 - 1)
U16 = st.integers(0, 2**16 - 1)
GOOD = {"name": "job", "task_type": "text_single_label", "pool": "team"}


@given(st.builds(Token, U16, U32, U32, U32, U32, U16))
def test_tokens_come_back_as_they_went(token):
    assert Token.decode(token.encode()) == token
    assert re.fullmatch(r"[\w-]+", token.encode()), "fit for a URL"


@given(st.text(max_size=60))
def test_anything_else_is_no_token(text):
    try:
        token = Token.decode(text)
    except InvalidInputError as error:
        assert "is not one that claim returned" in str(error)  # noqa: PT017 - most texts fail, a few decode
    else:
        assert isinstance(token, Token)


@given(st.lists(U32), st.lists(st.tuples(U32, U32)))
def test_items_and_pairs_come_back_as_they_went(items, pairs):
    assert unpack_wire(pack_items(items)) == unpack_items(pack_items(items)) == tuple(items)
    assert unpack_pairs(pack_pairs(pairs)) == pairs


def test_tokens_are_packed_as_the_scripts_read_them():
    assert pack_tokens([Token(9, 1, 2, 3, 4, 5)]) == b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5\0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "job name '' is not allowed"),
        ({"name": "a" * 64}, "is not allowed: 1 to 63 letters and digits"),
        ({"name": "a--b"}, "job name 'a--b' is not allowed"),
        ({"name": "job}"}, "job name 'job}' is not allowed"),
        ({"pool": "-x"}, "pool name '-x' is not allowed"),
        ({"replication": 0}, "replication is 0; expected 1 to 64"),
        ({"replication": MAX_REPLICATION + 1}, "replication is 65; expected 1 to 64"),
        ({"assignment": "named"}, "replication is 3; expected"),
        ({"lease_seconds": 0}, "lease_seconds is 0"),
        ({"lease_seconds": float("nan")}, "lease_seconds is nan"),
        ({"retry_seconds": -1}, "retry_seconds is -1"),
        ({"max_declines": 256}, "max_declines is 256"),
        ({"categories": ("a", "b", "a")}, "categories: 'a' given more than once"),
        ({"categories": ("",)}, "'' has 0 characters; 1 to 256 allowed"),
        ({"categories": ("good", "ba\x1b[2Jd")}, "categories: 'ba\\x1b[2Jd' contains control characters"),
        ({"categories": ("two\nlines",)}, "categories: 'two\\nlines' contains control characters"),
        ({"categories": ("\x9b31m",)}, "categories: '\\x9b31m' contains control characters"),
        ({"categories": tuple(map(str, range(MAX_CATEGORIES + 1)))}, "categories: 10001 given, at most 10000"),
    ],
)
def test_specifications_that_are_refused(change, message):
    if change == {"assignment": "named"}:
        message = "replication is 3 but assignment is 'named'"
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        JobSpec(**{**GOOD, **change})


def test_a_specification_survives_its_json():
    spec = JobSpec(**GOOD, categories=("a", "b"), method_parameters={"alpha": 1.5}, clock="caller")
    assert msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec) == spec
    with pytest.raises(msgspec.ValidationError, match="unknown field `replicas`"):
        msgspec.json.decode(b'{"name":"a","task_type":"t","pool":"p","replicas":3}', type=JobSpec)


def test_categories_may_be_words_of_any_script():
    names = ("क\u094d\u200dष", "全角\u3000空白", "👩\u200d🚀", "[/b]", "very good", "-1")
    assert JobSpec(**GOOD, categories=names).categories == names


def test_what_follows_from_a_specification():
    assert JobSpec(**GOOD).attribute == "job"
    made = {"a_b.c": "a-b-c", "source": "source-label", "x_ref": "x-ref-label", "x-metadata": "x-metadata-label"}
    assert {name: JobSpec(**{**GOOD, "name": name}).attribute for name in made} == made
    assert JobSpec(**GOOD, label_attribute="sentiment").attribute == "sentiment"
    assert [JobSpec(**GOOD, replication=5, max_declines=n).declines_allowed for n in (0, 2)] == [5, 2]
    assert JobSpec(**GOOD, replication=0, assignment="named").declines_allowed == 255
    assert [status for status in JobStatus if status.is_final] == ["Completed", "Failed", "Stopped"]


@given(st.from_regex(r"[a-zA-Z0-9](?:[-_.]?[a-zA-Z0-9]){0,31}", fullmatch=True))
def test_names_cannot_leave_their_hash_tag(name):
    assert check_name("name", name) == name
    assert not set(name) & set("{}:/ \n*")


@pytest.mark.parametrize("name", ["job\n", "a/b", "a b", "ä", ".a", "a.", "{a}"])
def test_names_that_could(name):
    with pytest.raises(InvalidInputError):
        check_name("name", name)


def test_events_keep_their_kind_and_refuse_strangers():
    event = Submitted(3, 1000, 7, [SubmittedAnswer(1, 2, True, False, 0.5, b'"a"')])
    assert decode(msgspec.msgpack.encode(event)) == event
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(msgspec.msgpack.encode(event)), "a later field"])
    assert decode(longer) == event, "fields are only ever added at the end"
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode([99, 1, 2]))


@pytest.mark.parametrize(
    ("wanted", "may"),
    [
        (Run("submit", (), (0,)), True),
        (Run("settle", (), (0,)), True),
        (Run("append", (), (0, 5, 1)), True),
        (Run("append", (), (0, -1, 1)), False),
        (Run("claim", (), (0,)), False),
        (Run("extend", (), (0,)), False),
        (Run("publish", (), (0,)), False),
        (Command(("HINCRBY", "k", "f", 1)), False),
        (Command(("HGET", "k", "f")), True),
        (Wait("s", "0-0", 5), True),
    ],
)
def test_only_what_is_safe_to_repeat_is_repeated(wanted, may):
    assert can_repeat(wanted) is may


def test_errors_are_of_one_family():
    assert issubclass(InvalidInputError, BrokerError)
    assert issubclass(InvalidInputError, ValueError)
