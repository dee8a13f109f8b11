"""Task types: the registry, the checks of answers, and the page that tells how to add one."""

import re
import sys
from pathlib import Path

import msgspec
import pytest
import workers_world

from voxpop.broker import JobStatus
from voxpop.broker.errors import InvalidInputError
from voxpop.broker.models import JobSpec
from voxpop.formats.model import Item
from voxpop.workers.task_types import UnknownTaskTypeError, get_task_type, task_type_names

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-task-type.md"
SPEC = JobSpec(name="J", task_type="text_single_label", pool="team", categories=("a", "b", "c"))


@pytest.fixture
def world(valkey_url, tmp_path):
    made = workers_world.World(valkey_url, tmp_path)
    yield made
    made.close()


def item(**changes):
    return Item(**({"index": 7, "fields": {}, "source": "x"} | changes))


def test_the_registry():
    assert {"image_single_label", "text_single_label"} <= set(task_type_names())
    for name in task_type_names():
        task_type = get_task_type(name)
        assert task_type.name == name
        assert task_type.default_method in task_type.methods
        assert msgspec.json.schema(task_type.answer)
        task_type.check_spec(SPEC)
    with pytest.raises(UnknownTaskTypeError, match="unknown task type 'poem'; known task types: image_single_label"):
        get_task_type("poem")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"label": "d"}, "'d' is not offered; choose one of 'a', 'b', 'c'"),
        ({"label": 1}, "Expected `str`, got `int`"),
        ({}, "missing required field `label`"),
        ({"label": "a", "x": 1}, "unknown field `x`"),
        ("a", "Expected `object`, got `str`"),
        (None, "Expected `object`, got `null`"),
    ],
)
def test_a_wrong_answer_is_said_before_it_is_submitted(content, problem):
    task_type = get_task_type("text_single_label")
    with pytest.raises(InvalidInputError, match=r"answer to item 7 of job 'J'") as caught:
        task_type.check_answer(SPEC, item(), content)
    assert problem in str(caught.value)
    assert task_type.vote_of(SPEC, msgspec.json.encode(content)) is None


def test_a_right_answer():
    task_type = get_task_type("text_single_label")
    task_type.check_answer(SPEC, item(), {"label": "b"})
    assert task_type.vote_of(SPEC, b'{"label":"b"}') == 1
    with pytest.raises(InvalidInputError, match="'b' is not offered; choose one of 'a', 'c'"):
        task_type.check_answer(SPEC, item(categories=("a", "c")), {"label": "b"})


@pytest.mark.parametrize("junk", [b"", b"{", b"\xff", b'{"label":"\xff"}', b"[" * 5000])
def test_junk_in_the_archive_is_no_vote(junk):
    assert get_task_type("text_single_label").vote_of(SPEC, junk) is None


def test_what_is_in_the_output():
    """Field names and order of real files (Ground Truth's manual 1.5)."""
    for name, label_type in (("image_single_label", "image"), ("text_single_label", "text")):
        task_type = get_task_type(name)
        assert task_type.value(SPEC, 2) == 2
        assert list(task_type.metadata(SPEC, 2, 0.987654, 1_700_000_000_123).items()) == [
            ("confidence", 0.99),
            ("job-name", "labeling-job/j"),
            ("class-name", "c"),
            ("human-annotated", "yes"),
            ("creation-date", "2023-11-14T22:13:20.123000"),
            ("type", f"groundtruth/{label_type}-classification"),
        ]


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Install the task type of the page, as a project with an entry point is installed."""
    page = PAGE.read_text()
    code, toml = (
        re.search(r"```python\n(.*?)```", page, re.DOTALL)[1],
        re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1],
    )
    name, value = re.search(r'^(\w+) = "(.+)"$', toml, re.MULTILINE).groups()
    folder = tmp_path / "site"
    (folder / "example-1.dist-info").mkdir(parents=True)
    (folder / "example-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
    (folder / "example-1.dist-info" / "entry_points.txt").write_text(f"[voxpop.task_types]\n{name} = {value}\n")
    (folder / f"{value.partition(':')[0]}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    yield name
    sys.modules.pop(value.partition(":")[0], None)
    get_task_type.cache_clear()


def test_the_page_is_true(world, added):
    """What docs/adding-a-task-type.md shows runs, from the input to the output."""
    assert added in task_type_names()
    lines = [{"source-ref": f"s3://b/{n}.jpg", "claim": "bird"} for n in range(3)]
    changes = {"task_type": added, "categories": ("wrong", "right"), "replication": 3}
    assert world.job(lines, **changes)
    world.answer_all(lambda worker, item: {"is_right": item != 1, "remark": f"{worker} looked"})
    assert world.finish().status is JobStatus.COMPLETED
    assert [line["j"] for line in world.output()] == ["right", "wrong", "right"]
    assert list(world.output()[0]["j-metadata"]) == ["confidence", "job-name", "type"]

    assert not world.job([{"source-ref": "s3://b/1.jpg"}], name="k", **changes)
    assert "line 1, field 'claim': must be the label that is to be verified" in world.client.job("k").failure_reason


def test_an_entry_point_that_is_no_task_type_is_said(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    (folder / "odd-1.dist-info").mkdir(parents=True)
    (folder / "odd-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (folder / "odd-1.dist-info" / "entry_points.txt").write_text("[voxpop.task_types]\nodd = json:dumps\n")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(UnknownTaskTypeError, match="'odd' = 'json:dumps' gives"):
        get_task_type("odd")
