"""Who answers in `voxpop run`: what a crowd makes of a job."""

from __future__ import annotations

import pytest

from voxpop.cli.crowds import Sources, cast, item_name, read_sources
from voxpop.cli.jobfile import JobFile, WorkforceSection
from voxpop.formats.model import Item
from voxpop.simulator.crowd import Answer, CrowdError
from voxpop.simulator.spec import parse_crowd

EVERYTHING = [(item, worker, label) for item in "xy" for worker, label in (("a", "0"), ("b", "1"))]
REPLAY = parse_crowd("replay:file.csv")


def job(**fields):
    return JobFile(name="j", task_type="text_single_label", **fields)


def test_open_tickets_where_everybody_answered_everything():
    """Whoever comes first can answer anything, so the job file's replication holds."""
    made = cast(Sources(REPLAY, EVERYTHING, {}), job(replication=1), None)
    assert made.changes == {"categories": ("0", "1")}
    assert made.items == [{"source": "x", "item": "x"}, {"source": "y", "item": "y"}]


def test_named_tickets_where_not_everybody_answered_everything():
    """Each item lists the people who answered it, and the caller hears that replication is not used."""
    made = cast(Sources(REPLAY, EVERYTHING[:3], {}), job(replication=2, categories=("0", "1", "2")), None)
    assert made.changes == {"assignment": "named", "replication": 0}
    assert made.items == [
        {"source": "x", "item": "x", "workers": ["a", "b"]},
        {"source": "y", "item": "y", "workers": ["a"]},
    ]
    assert made.note == "not everybody answered everything, so replication is not used"
    assert made.crowd.workers == ("a", "b")


def test_named_tickets_where_no_replication_is_asked_for():
    """All recorded answers are wanted."""
    made = cast(Sources(REPLAY, EVERYTHING, {}), job(), None)
    assert made.changes["assignment"] == "named"
    assert [one["workers"] for one in made.items] == [["a", "b"], ["a", "b"]]


def test_a_later_answer_of_the_same_person_replaces_the_earlier_one_and_is_told():
    """The broker takes one answer of a worker to an item."""
    made = cast(Sources(REPLAY, [*EVERYTHING, ("x", "a", "1")], {}), job(), None)
    assert made.note == "1 answers were replaced by a later one of the same person"
    answer = made.crowd.answer("a", 0)
    assert isinstance(answer, Answer)
    assert answer.content == {"label": "1"}


def test_answers_to_items_that_the_job_does_not_have_are_told():
    items = [Item(index=0, fields={"source": "x"}, source="x")]
    made = cast(Sources(REPLAY, EVERYTHING, {}), job(replication=1), items)
    assert made.note == "2 answers are about items that the job does not have"


def test_a_replay_that_could_not_say_what_was_recorded_is_refused():
    """Nothing that somebody said is dropped without a word."""
    answers = [*EVERYTHING, ("y", "c", "z"), ("x", "c", "z"), ("x", "d", "u")]
    with pytest.raises(
        CrowdError, match=r"2 recorded answers say 'z' \(and 1 more labels\), first the one of 'c' to item 'y'"
    ):
        cast(Sources(REPLAY, answers, {}), job(categories=("0", "1")), None)
    own = [
        Item(index=0, fields={"source": "x"}, source="x", categories=("0", "2")),
        Item(index=1, fields={"source": "y"}, source="y"),
    ]
    with pytest.raises(CrowdError, match="1 recorded answers say '1', first the one of 'b' to item 'x'"):
        cast(Sources(REPLAY, EVERYTHING, {}), job(categories=("0", "1", "2")), own)


def test_items_that_nobody_answered_are_named():
    items = [Item(index=0, fields={"source": "x"}, source="x"), Item(index=1, fields={"source": "q"}, source="q")]
    with pytest.raises(
        CrowdError, match=r"1 items have no recorded answer: 'q' \(item 2 of the input\); take them out"
    ):
        cast(Sources(REPLAY, EVERYTHING, {}), job(), items)


def test_gold_that_nobody_could_choose_is_refused():
    with pytest.raises(CrowdError, match="gold label 'z' of item 'x' is not among the categories"):
        cast(Sources(REPLAY, EVERYTHING, {"x": "z", "elsewhere": "z"}), job(categories=("0", "1")), None)
    assert cast(Sources(REPLAY, EVERYTHING, {"x": "z"}), job(), None), "without categories, gold may know more of them"


def test_recorded_answers_meet_the_items_of_an_input_by_their_name():
    """The items of the job keep their fields; they are found by `item`, or by what they show."""
    items = [
        Item(index=0, fields={"source": "Hello", "item": "y"}, source="Hello"),
        Item(index=1, fields={"source": "x"}, source="x"),
    ]
    made = cast(Sources(REPLAY, EVERYTHING, {}), job(), items)
    assert made.items == [
        {"source": "Hello", "item": "y", "workers": ["a", "b"]},
        {"source": "x", "workers": ["a", "b"]},
    ]
    assert made.crowd.people_of(0) == ("a", "b")


def test_a_simulated_crowd_knows_gold_and_comes_from_an_allowed_address():
    """Gold is the truth that simulated people see; the workforce's first range is where they connect from."""
    items = [Item(index=0, fields={"source": "s", "item": "k"}, source="s")]
    who = parse_crowd("simulated:workers=1,accuracy=1")
    wanted = job(categories=("0", "1"), workforce=WorkforceSection(allow=("203.0.113.0/24",)))
    made = cast(Sources(who, [], {"k": "1"}), wanted, items)
    assert made.crowd.true_category(0) == "1"
    visit = made.crowd.next(0.0)
    assert visit.address.startswith("203.0.113.")


def test_items_are_named_by_their_own_field_or_by_what_they_show():
    """The names that files of answers and gold labels use."""
    assert item_name(Item(index=0, fields={"item": 7}, source="s")) == "7"
    assert item_name(Item(index=0, fields={}, source="s")) == "s"
    assert item_name(Item(index=0, fields={}, source_ref="s3://b/1.jpg")) == "s3://b/1.jpg"


def test_an_unknown_crowd_is_wrong_input(tmp_path):
    """Before anything is started."""
    with pytest.raises(CrowdError, match="crowd 'recorded' is not known; expected replay:FILE"):
        read_sources("recorded", "")
