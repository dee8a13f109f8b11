"""Automated data setup: folders, prefixes and files of images and texts become manifests; nothing is lost silently."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest

from voxpop.formats import FormatError, storage
from voxpop.formats.errors import NotThereError
from voxpop.formats.manifest import read_manifest, validate_manifest
from voxpop.formats.setup import Unused, set_up_manifest

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def root():
    return f"memory://{uuid.uuid4().hex}/data"


def fill(root, **files):
    for name, data in files.items():
        storage.write_atomic(storage.join(root, name), data.encode() if isinstance(data, str) else data)


def fields(result):
    return [item.fields for item in read_manifest(result.manifest_uri)]


class TestImages:
    def test_a_prefix_in_natural_order(self, root):
        fill(root, **dict.fromkeys(["10.jpg", "2.jpg", "1.png", "a/3.JPEG", "a10/1.jpg", "a9/1.jpg", "02.jpg"], ""))
        result = set_up_manifest(root, "image", now=NOW)
        assert result.manifest_uri == f"{root}/dataset-260304T050607.manifest"
        names = [row["source-ref"].removeprefix(root + "/") for row in fields(result)]
        assert names == ["1.png", "02.jpg", "2.jpg", "10.jpg", "a/3.JPEG", "a9/1.jpg", "a10/1.jpg"]
        assert (result.count, result.unused) == (7, ())
        assert validate_manifest(result.manifest_uri, label_attribute="x").count == 7

    def test_what_is_not_used_is_named(self, root):
        fill(root, **{"1.jpg": "", "notes.txt": "", ".DS_Store": "", "scan.tif": ""})
        result = set_up_manifest(root, "image", now=NOW)
        reason = "is no image file (.jpg, .jpeg, .png)"
        assert result.unused == tuple(
            Unused(name=f"{root}/{name}", reason=reason) for name in [".DS_Store", "notes.txt", "scan.tif"]
        )

    def test_a_local_folder_gives_references_that_hold_from_everywhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        fill("bilder", **{"größe 1%.jpg": b"\xff"})
        result = set_up_manifest("bilder", "image", now=NOW)
        (row,) = fields(result)
        assert row["source-ref"] == (tmp_path / "bilder" / "größe 1%.jpg").as_uri()
        monkeypatch.chdir("/")
        assert storage.read_bytes(row["source-ref"]) == b"\xff"

    def test_the_manifest_may_go_elsewhere(self, root, tmp_path):
        fill(root, **{"1.jpg": ""})
        result = set_up_manifest(root, "image", now=NOW, out_uri=str(tmp_path))
        assert result.manifest_uri == str(tmp_path / "dataset-260304T050607.manifest")

    def test_a_second_scan_does_not_take_the_first_manifest_for_data(self, root):
        fill(root, **{"1.jpg": ""})
        first = set_up_manifest(root, "image", now=NOW)
        again = set_up_manifest(root, "image", now=NOW.replace(year=2027))
        assert again.count == 1
        assert [one.name for one in again.unused] == [first.manifest_uri]

    def test_a_folder_without_images(self, root):
        fill(root, **{"1.txt": "a", "2.txt": "b"})
        message = r"holds no image file \(.jpg, .jpeg, .png\) among its 2 files; is the data type right\?"
        with pytest.raises(FormatError, match=message):
            set_up_manifest(root, "image", now=NOW)

    def test_no_such_folder(self, root, tmp_path):
        with pytest.raises(NotThereError):
            set_up_manifest(root, "image", now=NOW)
        with pytest.raises(NotThereError, match="no such file or folder"):
            set_up_manifest(str(tmp_path / "nowhere"), "image", now=NOW)

    def test_progress(self, root, monkeypatch):
        monkeypatch.setattr("voxpop.formats.setup.PROGRESS_ITEMS", 2)
        calls = []
        fill(root, **{f"{number}.jpg": "" for number in range(5)})
        set_up_manifest(root, "image", now=NOW, progress=calls.append)
        assert calls == [2, 4, 5]


class TestTexts:
    def test_a_txt_file_has_an_item_a_line(self, tmp_path):
        path = tmp_path / "reviews.txt"
        path.write_bytes("\ufeffgreat shoes\r\n\r\n schön \n \n".encode())
        result = set_up_manifest(str(path), "text", now=NOW)
        assert result.manifest_uri == str(tmp_path / "dataset-260304T050607.manifest")
        assert fields(result) == [{"source": "great shoes"}, {"source": " schön "}]
        assert result.unused == (Unused(name=str(path), reason="lines without text: 2, the first is line 2"),)

    def test_a_file_of_the_working_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        fill(".", **{"reviews.txt": "a"})
        assert set_up_manifest("reviews.txt", "text", now=NOW).manifest_uri == "./dataset-260304T050607.manifest"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset-260304T050607.manifest", "reviews.txt"]

    def test_a_csv_row_keeps_its_other_columns(self, root):
        fill(root, **{"r.csv": '\ufeffid,review,stars\r\n1,"two\nlines, ""quoted""",5\r\n2,,1\r\n3,ok,2'})
        result = set_up_manifest(f"{root}/r.csv", "text", now=NOW, text_column="review")
        assert fields(result) == [
            {"id": "1", "source": 'two\nlines, "quoted"', "stars": "5"},
            {"id": "3", "source": "ok", "stars": "2"},
        ]
        assert result.unused == (Unused(name=f"{root}/r.csv", reason="lines without text: 1, the first is line 4"),)

    @pytest.mark.parametrize("data", ["review\ngood\n", "id,source\n1,good\n"])
    def test_a_csv_column_that_needs_no_choice(self, root, data):
        fill(root, **{"r.csv": data})
        (row,) = fields(set_up_manifest(f"{root}/r.csv", "text", now=NOW))
        assert row["source"] == "good"

    def test_a_csv_column_must_be_chosen_or_exist(self, root):
        fill(root, **{"r.csv": "id,review\n1,good\n"})
        with pytest.raises(FormatError, match=r"r.csv line 1: which column holds the text\? Name one of: id, review"):
            set_up_manifest(f"{root}/r.csv", "text", now=NOW)
        with pytest.raises(FormatError, match="there is no column 'text'; found: id, review"):
            set_up_manifest(f"{root}/r.csv", "text", now=NOW, text_column="text")

    def test_another_column_called_source_is_not_overwritten(self, root):
        fill(root, **{"r.csv": "source,review\nshop,good\n"})
        with pytest.raises(FormatError, match="line 2: the text is in 'review', but there is another field 'source'"):
            set_up_manifest(f"{root}/r.csv", "text", now=NOW, text_column="review")

    def test_jsonl(self, root):
        fill(root, **{"r.jsonl": '{"text":"a","n":1.50}\n\n{"n":2,"text":"b"}\n'})
        result = set_up_manifest(f"{root}/r.jsonl", "text", now=NOW, text_column="text")
        assert [json.dumps(row) for row in fields(result)] == ['{"source": "a", "n": 1.5}', '{"n": 2, "source": "b"}']

    def test_jsonl_that_is_a_manifest_already(self, root):
        fill(root, **{"r.jsonl": '{"source-ref":"s3://b/c","n":1}\n'})
        assert fields(set_up_manifest(f"{root}/r.jsonl", "text", now=NOW)) == [{"source-ref": "s3://b/c", "n": 1}]

    def test_a_folder_of_all_kinds(self, root):
        fill(root, **{"10.txt": "d", "2.csv": "source\nb\nc\n", "1.jsonl": '{"source":"a"}', "x.pdf": ""})
        result = set_up_manifest(root, "text", now=NOW)
        assert [row["source"] for row in fields(result)] == ["a", "b", "c", "d"]
        assert [one.name for one in result.unused] == [f"{root}/x.pdf"]

    def test_texts_that_cannot_be_items_are_named_by_their_own_place_and_nothing_is_written(self, root):
        fill(root, **{"1.txt": "ok\n" + ("x" * 20_001 + "\n") * 30, "2.jsonl": '{"text":"a"}'})
        with pytest.raises(FormatError) as caught:
            set_up_manifest(root, "text", now=NOW)
        assert caught.value.count == 31
        assert len(caught.value.problems) == 20
        assert str(caught.value.problems[0]) == (
            f"{root}/1.txt line 2, field 'source': has 20,001 characters; at most 20,000 are allowed in one attribute"
        )
        assert list(storage.list_uris(root)) == [f"{root}/1.txt", f"{root}/2.jsonl"]

    @pytest.mark.parametrize("data", ["", "\n\n"])
    def test_files_without_any_text(self, root, data):
        fill(root, **{"1.txt": data})
        with pytest.raises(FormatError, match="there is no text in any file; nothing was written"):
            set_up_manifest(root, "text", now=NOW)
