"""Input manifests: what is taken, and what each kind of bad input is told."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

import pytest

from voxpop.formats import FormatError, Problem, storage
from voxpop.formats.errors import ChangedError, InvalidUriError, NotThereError
from voxpop.formats.manifest import parse_item, read_manifest, validate_manifest


@pytest.fixture
def uri():
    return f"memory://{uuid.uuid4().hex}/in.manifest"


def validate(uri, data, **options):
    storage.write_atomic(uri, data)
    return validate_manifest(uri, label_attribute="birds", **options)


class TestGood:
    def test_items_carry_their_fields_in_order_and_their_index(self, uri):
        lines = b'{"shift":"night","source-ref":"s3://in/img/17.jpg"}\n{"source":"great shoes","review-id":42}\n'
        summary = validate(uri, lines)
        assert (summary.count, summary.already_labeled) == (2, 0)
        assert summary.version == storage.version(uri)
        first, second = read_manifest(uri, pinned=summary.version)
        assert (first.index, first.source, first.source_ref) == (0, None, "s3://in/img/17.jpg")
        assert list(first.fields) == ["shift", "source-ref"]
        assert (second.index, second.source, second.source_ref) == (1, "great shoes", None)
        assert second.fields == {"source": "great shoes", "review-id": 42}

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n\r\n  \n"])
    @pytest.mark.parametrize("between", [b"\n", b"\r\n"])
    def test_line_ends(self, uri, between, end):
        """Both line ends, a last line without one, and empty lines at the end of the file are all fine."""
        data = between.join([b'{"source":"a"}', b'{"source":"b"}']) + end
        assert validate(uri, data).count == 2
        assert [item.source for item in read_manifest(uri)] == ["a", "b"]

    def test_reading_starts_where_an_interrupted_ingest_stopped(self, uri):
        validate(uri, b"".join(b'{"source":"%d"}\n' % number for number in range(5)))
        assert [(item.index, item.source) for item in read_manifest(uri, start=3)] == [(3, "3"), (4, "4")]
        assert list(read_manifest(uri, start=5)) == []

    def test_lines_at_the_limits(self, uri):
        longest = json.dumps({"source": "ä" * 20_000, "more": ["x" * 19_996]}, ensure_ascii=False).encode()
        assert validate(uri, longest).count == 1

    def test_a_line_of_the_longest_allowed(self):
        fields = {f"key{number}": "é" * 19_000 for number in range(5)}
        line = json.dumps({"source": "", **fields}, ensure_ascii=False)
        line = line.replace('"source": ""', '"source": "' + "s" * (100_000 - len(line)) + '"')
        assert len(line) == 100_000
        assert parse_item(line.encode(), 0, place="x").fields == json.loads(line)

    def test_an_item_may_have_its_own_categories(self, uri):
        validate(uri, b'{"source":"a","voxpop-categories":["b","a"]}\n{"source":"b"}', categories=["a", "b", "c"])
        first, second = read_manifest(uri)
        assert (first.categories, second.categories) == (("b", "a"), None)
        assert first.fields["voxpop-categories"] == ["b", "a"]

    def test_user_data_called_categories_is_just_data(self, uri):
        validate(uri, b'{"source":"a","categories":"whatever"}', categories=["a", "b"])

    def test_items_labeled_by_an_earlier_job_are_counted(self, uri):
        """Chaining under the same attribute resumes: only what lacks the attribute is labeled."""
        data = b'{"source":"a","birds":0,"birds-metadata":{}}\n{"source":"b","birds-metadata":{"failure-reason":"x"}}'
        assert validate(uri, data).already_labeled == 1

    def test_progress_ends_at_the_end(self, uri):
        calls = []
        validate(uri, b'{"source":"a"}\n' * 50_000, progress=lambda *call: calls.append(call))
        assert [lines for lines, _ in calls] == [20_000, 40_000, 50_000]
        assert [part for _, part in calls] == [0.4, 0.8, 1.0]


BAD_LINES = [
    (b"{", None, "broken JSON at character 2: Expecting property name enclosed in double quotes"),
    (b'{"source":"a"} {', None, "broken JSON at character 16: Extra data"),
    (b"{'source':'a'}", None, "broken JSON at character 2: Expecting property name enclosed in double quotes"),
    (b'{"source":NaN}', None, "broken JSON: JSON is malformed: invalid character (byte 10)"),
    (
        rb'{"source":"\ud800"}',
        None,
        "broken JSON: half of a surrogate pair (\\ud800 to \\udfff) stands alone",
    ),
    (b'{"source":"a","x":' + b"[" * 3000 + b"]" * 3000 + b"}", None, "JSON nested too deeply"),
    (
        b'{"source":"\xff"}',
        None,
        "not UTF-8: byte 0xff at byte 12 of the line; save the file as UTF-8",
    ),
    (
        b'\xef\xbb\xbf{"source":"a"}',
        None,
        "the file starts with a byte order mark; save it as UTF-8 without one",
    ),
    (b'["source"]', None, 'a JSON object is expected, found ["source"]'),
    (b'"source"', None, 'a JSON object is expected, found "source"'),
    (b"null", None, "a JSON object is expected, found null"),
    (
        b'{"source":"a","source-ref":"s3://b/c"}',
        "source",
        "both 'source' and 'source-ref' are set; exactly one is expected",
    ),
    (b"{}", "source", "neither 'source' nor 'source-ref' is set; exactly one is expected"),
    (b'{"Source":"a"}', "source", "neither 'source' nor 'source-ref' is set; exactly one is expected"),
    (b'{"source":5}', "source", "must be text, found 5"),
    (b'{"source":null}', "source", "must be text, found null"),
    (b'{"source-ref":["s3://b/c"]}', "source-ref", 'must be text, found ["s3://b/c"]'),
    (b'{"source":""}', "source", "is empty"),
    (b'{"source-ref":""}', "source-ref", "is empty"),
    (b'{"source":"a","$id":1}', "$id", "attribute names may not start with '$'; rename it"),
    (rb'{"source":"a","\u0024id":1}', "$id", "attribute names may not start with '$'; rename it"),
    (
        b'{"source":"' + b"x" * 20_001 + b'"}',
        "source",
        "has 20,001 characters; at most 20,000 are allowed in one attribute",
    ),
    (
        b'{"source":"a","big":["' + b"x" * 19_997 + b'"]}',
        "big",
        "has 20,001 characters; at most 20,000 are allowed in one attribute",
    ),
    (
        b'{"source":"a"' + b" " * 99_987 + b"}",
        None,
        "the line has 100,001 characters; at most 100,000 are allowed",
    ),
    (
        b'{"source":"' + b"x" * 5_000_000 + b'"}',
        None,
        "the line has more than 400,001 characters; at most 100,000 are allowed",
    ),
    (
        b'{"source":"a","id":1,"id":2}',
        "id",
        "the key is given more than once; only one of the values could be kept",
    ),
    (
        rb'{"source":"\u0022\u0022","id":1,"id":2}',
        "id",
        "the key is given more than once; only one of the values could be kept",
    ),
    (
        b'{ "source": "a", "deep": {"id": 1, "id": 2} }',
        "id",
        "the key is given more than once; only one of the values could be kept",
    ),
    (
        b'{"source":"a","voxpop-categories":["cat","dog","eel"]}',
        "voxpop-categories",
        "not among the job's categories: 'dog', 'eel'",
    ),
    (
        b'{"source":"a","voxpop-categories":["cat","cat"]}',
        "voxpop-categories",
        'names a category more than once: ["cat","cat"]',
    ),
    (
        b'{"source":"a","voxpop-categories":[]}',
        "voxpop-categories",
        "must be a list of one or more category names, found []",
    ),
    (
        b'{"source":"a","voxpop-categories":[1]}',
        "voxpop-categories",
        "must be a list of one or more category names, found [1]",
    ),
    (
        b'{"source":"a","voxpop-categories":"cat"}',
        "voxpop-categories",
        'must be a list of one or more category names, found "cat"',
    ),
]


class TestBad:
    @pytest.mark.parametrize(("line", "field", "message"), BAD_LINES, ids=[row[0][:30] for row in BAD_LINES])
    def test_each_kind_is_told_where_and_why(self, uri, line, field, message):
        storage.write_atomic(uri, line + b'\n{"source":"fine"}\n')
        with pytest.raises(FormatError) as caught:
            validate_manifest(uri, label_attribute="birds", categories=["cat", "bird"])
        assert caught.value.problems == [Problem(place=f"{uri} line 1", message=message, field=field)]
        assert caught.value.count == 1

    def test_null_is_not_absence(self, uri):
        with pytest.raises(FormatError, match="both 'source' and 'source-ref' are set"):
            validate(uri, b'{"source":"a","source-ref":null}')

    def test_a_trailing_comma(self, uri):
        """The reason is Python's own, whose words differ from version to version."""
        with pytest.raises(FormatError, match=r"line 1: broken JSON at character 1[45]: "):
            validate(uri, b'{"source":"a",}')

    def test_a_line_with_several_problems_tells_all(self, uri):
        with pytest.raises(FormatError) as caught:
            validate(uri, b'{"source":5,"source-ref":"","$x":1,"voxpop-categories":7}')
        assert [problem.field for problem in caught.value.problems] == [
            "source",
            "source",
            "source-ref",
            "$x",
            "voxpop-categories",
        ]

    @pytest.mark.parametrize("data", [b"", b"\n", b"\r\n \n"])
    def test_an_empty_manifest(self, uri, data):
        with pytest.raises(FormatError) as caught:
            validate(uri, data)
        assert str(caught.value) == f"{uri}: the manifest is empty; at least one line is expected"

    def test_empty_lines_in_the_middle_are_refused_one_by_one(self, uri):
        """The number of a line is the number of its item, so a line cannot be passed over."""
        with pytest.raises(FormatError) as caught:
            validate(uri, b'{"source":"a"}\n\n  \n{"source":"b"}\n\n')
        assert [problem.place for problem in caught.value.problems] == [f"{uri} line 2", f"{uri} line 3"]
        assert caught.value.problems[0].message.startswith("the line is empty; remove it")

    def test_the_first_twenty_problems_and_the_count_of_all(self, uri):
        with pytest.raises(FormatError) as caught:
            validate(uri, b'{"source":"a"}\n{"x":1}\n' * 1000)
        assert caught.value.count == 1000
        assert len(caught.value.problems) == 20
        lines = str(caught.value).splitlines()
        assert len(lines) == 21
        assert lines[0] == (
            f"{uri} line 2, field 'source': neither 'source' nor 'source-ref' is set; exactly one is expected"
        )
        assert lines[-1] == "... and 980 more problems"

    def test_a_label_attribute_that_cannot_be(self, uri):
        with pytest.raises(FormatError, match="label attribute 'source': is the name of the input"):
            validate_manifest(uri, label_attribute="source")

    def test_a_path_that_cannot_be_read(self, tmp_path):
        with pytest.raises(NotThereError, match="nowhere: no such file or folder"):
            validate_manifest(str(tmp_path / "nowhere"), label_attribute="birds")
        with pytest.raises(InvalidUriError, match="is a folder; a file is expected"):
            validate_manifest(str(tmp_path), label_attribute="birds")

    def test_a_picture_instead_of_a_manifest(self, uri):
        with pytest.raises(FormatError, match=r"line 1: not UTF-8: byte 0xff at byte 1"):
            validate(uri, b"\xff\xd8\xff\xe0\x00\x10JFIF" * 100)

    def test_a_manifest_changed_after_its_check_is_not_ingested(self, uri):
        summary = validate(uri, b'{"source":"a"}\n')
        storage.write_atomic(uri, b'{"source":"b"}\n')
        with pytest.raises(ChangedError, match="changed since it was checked"):
            list(read_manifest(uri, pinned=summary.version))


CHECKED = """
import sys
from pathlib import Path
from voxpop.formats.manifest import read_manifest, validate_manifest

def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

for path in sys.argv[1:]:
    before = peak_kib()
    count = validate_manifest(path, label_attribute="birds").count
    assert sum(1 for _ in read_manifest(path)) == count
    print(count, peak_kib() - before)
"""


def test_constant_memory(tmp_path):
    """200,000 lines (16 MB) need no more memory than 20,000, but for a few chunks."""
    line = b'{"source-ref":"s3://bucket/images/000062a39995e348.jpg","review-id":42,"n":1.5}\n'
    for name, thousands in (("small", 20), ("big", 200)):
        with storage.open_writer(str(tmp_path / name)) as out:
            for _ in range(thousands):
                out.write(line * 1000)
    command = [sys.executable, "-c", CHECKED, str(tmp_path / "small"), str(tmp_path / "big")]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    small, big = (line.split() for line in done.stdout.splitlines())
    assert (small[0], big[0]) == ("20000", "200000")
    assert int(big[1]) < 4 * 1024
