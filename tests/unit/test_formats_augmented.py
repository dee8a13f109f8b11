"""Output lines and labels: against files that Ground Truth wrote, and the choices of docs/formats.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxpop.formats import FormatError, Item, Label
from voxpop.formats.augmented import (
    check_label_attribute,
    failed_metadata,
    output_line,
    read_label,
    single_label_metadata,
)
from voxpop.formats.manifest import parse_item, read_manifest

DATA = Path(__file__).parents[1] / "data" / "ground_truth"
AT_MS = 1_714_557_722_118  # 2024-05-01T10:02:02.118


def item(**fields):
    return Item(index=0, fields=fields, source=fields.get("source"))


def metadata(**changes):
    given = {"confidence": 0.95, "job_name": "Birds-1", "class_name": "Canary", "created_at_ms": AT_MS, **changes}
    return single_label_metadata("image-classification", **given)


class TestAgainstRealFiles:
    def test_real_lines_come_out_as_they_went_in_byte_for_byte(self):
        path = DATA / "boxes.head5.manifest"
        written = [output_line(item, None, "birds") + b"\n" for item in read_manifest(str(path))]
        assert b"".join(written) == path.read_bytes()

    def test_a_real_label_read_and_written_again_is_the_same_line(self):
        path = DATA / "boxes.head5.manifest"
        for item, line in zip(read_manifest(str(path)), path.read_bytes().splitlines(), strict=True):
            label = read_label(item, "category")
            bare = Item(index=item.index, fields={"source-ref": item.source_ref}, source_ref=item.source_ref)
            assert output_line(bare, label, "category") == line
            assert label.metadata["type"] == "groundtruth/object-detection"
            assert label.created_at_ms // 86_400_000 == 19_247  # 2022-09-12


class TestOutputLine:
    def test_the_label_pair_follows_the_input(self):
        label = Label(item=0, version=1, created_at_ms=AT_MS, value=9, metadata=metadata())
        line = output_line(item(id=7, source="grün"), label, "species")
        assert line.decode() == (
            '{"id":7,"source":"grün","species":9,"species-metadata":{"confidence":0.95,'
            '"job-name":"labeling-job/birds-1","class-name":"Canary","human-annotated":"yes",'
            '"creation-date":"2024-05-01T10:02:02.118000","type":"groundtruth/image-classification"}}'
        )

    def test_a_model_is_not_a_human(self):
        assert metadata(human_annotated=False)["human-annotated"] == "no"

    def test_text_jobs_say_so(self):
        made = single_label_metadata(
            "text-classification", confidence=0, job_name="j", class_name="1", created_at_ms=AT_MS
        )
        assert (made["type"], made["confidence"]) == ("groundtruth/text-classification", 0)

    def test_a_failed_item_has_its_reason_and_no_label(self):
        label = Label(
            item=0,
            version=1,
            created_at_ms=AT_MS,
            metadata=failed_metadata("image-classification", job_name="Birds-1", created_at_ms=AT_MS),
            failure_reason="declined: everybody passed this item on",
        )
        assert output_line(item(source="a"), label, "species").decode() == (
            '{"source":"a","species-metadata":{"failure-reason":"declined: everybody passed this item on",'
            '"job-name":"labeling-job/birds-1","human-annotated":"yes",'
            '"creation-date":"2024-05-01T10:02:02.118000","type":"groundtruth/image-classification"}}'
        )

    def test_a_second_job_appends_a_second_pair(self):
        first = Label(item=0, version=1, created_at_ms=AT_MS, value=1, metadata={"n": 1})
        second = Label(item=0, version=1, created_at_ms=AT_MS, value=2, metadata={"n": 2})
        line = output_line(parse_item(output_line(item(source="a"), first, "x"), 0, place=""), second, "y")
        assert line == b'{"source":"a","x":1,"x-metadata":{"n":1},"y":2,"y-metadata":{"n":2}}'

    def test_the_same_attribute_is_replaced(self):
        old = item(**{"x": 1, "x-metadata": {"failure-reason": "old"}, "source": "a"})
        new = Label(item=0, version=2, created_at_ms=AT_MS, value=2, metadata={"n": 2})
        assert output_line(old, new, "x") == b'{"source":"a","x":2,"x-metadata":{"n":2}}'
        failed = Label(item=0, version=2, created_at_ms=AT_MS, failure_reason="stopped")
        assert output_line(old, failed, "x") == b'{"source":"a","x-metadata":{"failure-reason":"stopped"}}'

    @pytest.mark.parametrize(
        "number",
        [
            "1.0",
            "0.1234567890123456789",
            "1E+400",
            "123456789012345678901234567890",
            "-0.0",
            "1.100000000000000088817841970012523",
        ],
    )
    def test_numbers_keep_every_digit(self, number):
        line = f'{{"source":"a","n":{number},"deep":[{{"n":{number}}}]}}'.encode()
        assert output_line(parse_item(line, 0, place="x"), None, "birds") == line


class TestReadLabel:
    def test_nothing_there(self):
        assert read_label(item(source="a"), "x") is None
        assert read_label(item(**{"source": "a", "x-metadata": {"note": 1}}), "x") is None

    @pytest.mark.parametrize(
        "date",
        [
            "2024-05-01T10:02:02.118000",
            "2024-05-01T10:02:02.118",
            "2024-05-01T10:02:02.118Z",
            "2024-05-01T10:02:02.118000+0000",
            "2024-05-01T12:02:02.118+02:00",
        ],
    )
    def test_all_spellings_of_dates_in_real_files(self, date):
        label = read_label(item(**{"source": "a", "x": 0, "x-metadata": {"creation-date": date}}), "x")
        assert label.created_at_ms == AT_MS

    @pytest.mark.parametrize("metadata", [{}, {"creation-date": "yesterday"}, {"creation-date": None}, None])
    def test_no_readable_date(self, metadata):
        assert read_label(item(**{"source": "a", "x": 0, "x-metadata": metadata}), "x").created_at_ms == 0

    def test_metadata_that_are_no_object(self):
        with pytest.raises(FormatError, match=r"item 0, field 'x-metadata': must be an object, found \[1\]"):
            read_label(item(**{"source": "a", "x": 0, "x-metadata": [1]}), "x")


class TestLabelAttribute:
    @pytest.mark.parametrize("name", ["species", "a", "A1-b--c", "x" * 127, "sourced", "metadata"])
    def test_good_names(self, name):
        assert check_label_attribute(name) == name

    def test_a_label_that_is_a_file(self):
        assert check_label_attribute("masks-ref", reference=True) == "masks-ref"
        with pytest.raises(FormatError, match="'masks': must end in '-ref', because these labels are files"):
            check_label_attribute("masks", reference=True)
        with pytest.raises(FormatError, match="'masks-ref': may not end in '-ref'"):
            check_label_attribute("masks-ref")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("", "must be 1 to 127 letters, digits and inner hyphens"),
            ("x" * 128, "must be 1 to 127"),
            ("-x", "must be 1 to 127"),
            ("x-", "must be 1 to 127"),
            ("größe", "must be 1 to 127"),
            ("a_b", "must be 1 to 127"),
            ("a\n", "must be 1 to 127"),
            ("source", "is the name of the input"),
            ("source-ref", "is the name of the input"),
            ("x-metadata", "may not end in '-metadata'"),
        ],
    )
    def test_bad_names(self, name, message):
        with pytest.raises(FormatError, match=message):
            check_label_attribute(name)

    def test_a_hostile_name_is_refused_quickly(self):
        """The pattern has no nested repetition that backtracks."""
        with pytest.raises(FormatError):
            check_label_attribute("a" * 126 + "!")
