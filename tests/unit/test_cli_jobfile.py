"""The job file: what it may say, and what is said of a wrong one."""

from __future__ import annotations

import msgspec
import pytest

from voxpop.broker.models import JobSpec
from voxpop.cli import jobfile
from voxpop.cli.output import WrongInputError

WHOLE = """
name = "reviews"
task_type = "text_single_label"
categories = ["-1", "0", "1"]
replication = 4
lease_seconds = 60
method_parameters = { max_iter = 7 }

[input]
files = "data/reviews.csv"
type = "text"
column = "text"

[workforce]
name = "vendor"
allow = ["203.0.113.0/24"]

[pool]
name = "night-shift"
members = ["ann", "bob"]

[output]
dir = "s3://bucket/labels"

[crowd]
who = "replay:answers.csv"
gold = "/gold.csv"
"""
LEAST = 'name = "a"\ntask_type = "text_single_label"\n'


def written(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_job_file_becomes_the_job_that_it_describes(tmp_path):
    """Every section arrives, and relative paths start at the job file's folder."""
    job = jobfile.read(written(tmp_path, WHOLE))
    spec = job.spec()
    assert (spec.name, spec.pool, spec.categories, spec.replication) == ("reviews", "night-shift", ("-1", "0", "1"), 4)
    assert (spec.lease_seconds, spec.method_parameters) == (60.0, {"max_iter": 7})
    assert job.input.files == str(tmp_path / "data/reviews.csv")
    assert job.workforce.allow == ("203.0.113.0/24",)
    assert job.pool.members == ("ann", "bob")
    assert job.output.dir == "s3://bucket/labels"
    assert job.crowd.who == f"replay:{tmp_path / 'answers.csv'}"
    assert job.crowd.gold == "/gold.csv"


def test_what_is_left_out_is_as_the_job_specification_has_it(tmp_path):
    """A job file of two lines is enough, and adds no defaults of its own."""
    assert jobfile.read(written(tmp_path, LEAST)).spec() == JobSpec(
        name="a", task_type="text_single_label", pool="team"
    )


def test_the_job_file_has_every_field_of_a_job():
    """A field that is added to JobSpec cannot be forgotten here; the rest is named by sections, or for simulations."""
    by_section = {"pool", "input", "output"}
    assert set(jobfile.JOB_FIELDS) == set(JobSpec.__struct_fields__) - by_section - {"clock"}


def test_the_schema_describes_every_field():
    """Editors show what a field means."""
    schema = jobfile.schema()
    described = schema["$defs"]["JobFile"]["properties"]
    assert set(described) == set(jobfile.JobFile.__struct_fields__)
    assert all("description" in described[name] for name in jobfile.JOB_FIELDS)
    assert schema["$defs"]["JobFile"]["additionalProperties"] is False
    msgspec.json.encode(schema)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("name = ", "", "this is not TOML: Invalid value (at end of document)"),
        (LEAST + "replicaton = 3\n", " line 3, field 'replicaton'", "unknown; did you mean 'replication'?"),
        (
            LEAST + "[inptu]\nfiles = 'x'\n",
            " line 3, field 'inptu'",
            "unknown; did you mean 'input'?",
        ),
        (
            LEAST + "[output]\nqqq = 1\n",
            " line 4, field 'output.qqq'",
            "unknown; expected one of dir",
        ),
        ('name = "a"\n', ", field 'task_type'", 'missing; expected something like task_type = "text_single_label"'),
        (LEAST + 'replication = "three"\n', " line 3, field 'replication'", "found 'three', expected a whole number"),
        (LEAST + "lease_seconds = []\n", " line 3, field 'lease_seconds'", "found [], expected a number"),
        (LEAST + 'categories = "a"\n', " line 3, field 'categories'", "found 'a', expected a list"),
        (LEAST + 'categories = ["a", 1]\n', " line 3, field 'categories[1]'", "found 1, expected text in quotes"),
        (LEAST + 'pool = "team"\n', " line 3, field 'pool'", "found 'team', expected a table"),
        (
            LEAST + 'assignment = "closed"\n',
            " line 3, field 'assignment'",
            "found 'closed', expected one of 'named', 'open'",
        ),
        (
            LEAST + '[input]\nfiles = "x"\ntype = "video"\n',
            " line 5, field 'input.type'",
            "found 'video', expected one of 'images', 'text'",
        ),
        (
            LEAST + '[input]\nfiles = "x"\nmanifest = "y"\n',
            " line 4, field 'input.files'",
            "found both manifest and files; expected one of the two",
        ),
        (
            LEAST + '[input]\nfiles = "x"\n',
            " line 4, field 'input.files'",
            'found no type beside it; expected type = "images" or type = "text"',
        ),
        (
            LEAST + '[input]\nmanifest = "x"\ntype = "text"\n',
            " line 5, field 'input.type'",
            "found no files beside it; expected files = a folder, a file or a URI",
        ),
        (LEAST + "replication = 65\n", " line 3, field 'replication'", "replication is 65; expected 1 to 64"),
        (
            'name = "a b"\ntask_type = "text_single_label"\n',
            " line 1, field 'name'",
            "the name 'a b' is not allowed: 1 to 63 letters and digits, with single '-', '_' or '.' between them",
        ),
        (
            LEAST + 'categories = ["x", "x"]\n',
            " line 3, field 'categories'",
            "categories: 'x' given more than once",
        ),
    ],
)
def test_a_wrong_job_file_is_told_by_place_found_and_expected(tmp_path, text, place, message):
    """One message names the file, the line, the field, what was found and what is expected."""
    path = written(tmp_path, text)
    with pytest.raises(WrongInputError) as caught:
        jobfile.read(path)
    assert str(caught.value) == f"{path}{place}: {message}"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Not there, a folder, not text, too large."""
    with pytest.raises(WrongInputError, match=r"no\.toml: there is no such file; expected a job file"):
        jobfile.read(tmp_path / "no.toml")
    with pytest.raises(WrongInputError, match=r"cannot be read \(Is a directory\); expected a job file"):
        jobfile.read(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b'name = "\xff"')
    with pytest.raises(WrongInputError, match="byte 8 is not UTF-8"):
        jobfile.read(binary)
    with pytest.raises(WrongInputError, match="is larger than the 1,000,000 bytes"):
        jobfile.read(written(tmp_path, "#" * 1_000_001))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('label_attribute = "a_b"', "line 3, field 'label_attribute': label attribute 'a_b': must be 1 to"),
        ('method = "best"', "line 3, field 'method': unknown consolidation method 'best'; known methods for votes: "),
        (
            "method_parameters = { x = 1 }",
            "line 3, field 'method_parameters': job 'a': method_parameters: found 'x'; auto takes ",
        ),
    ],
)
def test_what_only_task_type_and_method_know_is_told_with_its_line(tmp_path, line, message):
    """Before anything starts, like every other field."""
    with pytest.raises(WrongInputError) as error:
        jobfile.read(written(tmp_path, f"{LEAST}{line}\n"))
    assert message in str(error.value)


def test_an_unknown_task_type_is_told_with_its_line(tmp_path):
    """The message lists those that exist."""
    with pytest.raises(WrongInputError, match=r"job.toml line 2, field 'task_type': unknown task type 'x'; known"):
        jobfile.read(written(tmp_path, 'name = "a"\ntask_type = "x"\n'))
