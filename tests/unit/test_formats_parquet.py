"""Parquet: answers, gold and labels as pyarrow, pandas and polars write them; and what bad files are told."""

from __future__ import annotations

import io
import uuid

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from voxpop.formats import FormatError, storage
from voxpop.formats import parquet as our_parquet
from voxpop.formats.answers import read_answers, read_gold, read_votes, write_columns

ROWS = [("i1", "w1", "b"), ("i1", "w2", "a"), ("i2", "w1", "a")]
COLUMNS = {name: [row[place] for row in ROWS] for place, name in enumerate(["item", "worker", "label"])}


@pytest.fixture
def place():
    def write(table, name="a.parquet"):
        uri = f"memory://{uuid.uuid4().hex}/{name}"
        sink = io.BytesIO()
        if isinstance(table, pa.Table):
            parquet.write_table(table, sink)
        elif isinstance(table, pd.DataFrame):
            table.to_parquet(sink)
        elif isinstance(table, pl.DataFrame):
            table.write_parquet(sink)
        else:
            sink.write(table)
        storage.write_atomic(uri, sink.getvalue())
        return uri

    return write


@pytest.mark.parametrize("make", [pa.table, pd.DataFrame, pl.DataFrame, lambda c: pd.DataFrame(c).astype("category")])
def test_answers_of_any_writer(place, make):
    uri = place(make(COLUMNS))
    assert list(read_answers(uri)) == ROWS
    votes = read_votes(uri)
    assert votes.items.tolist() == ["i1", "i2"]
    assert votes.classes.tolist() == ["a", "b"]
    assert votes.label_of_vote.tolist() == [1, 0, 0]


def test_other_columns_are_left_alone_and_numbers_are_text(place):
    uri = place(
        pa.table({"note": [1.5, 2.5], "label": pa.array([3, 1], pa.int8()), "item": [1, 1], "worker": ["v", "w"]})
    )
    assert list(read_answers(uri)) == [("1", "v", "3"), ("1", "w", "1")]
    assert read_votes(uri).classes.tolist() == ["1", "3"]


def test_gold_and_abstentions(place):
    assert read_gold(place(pa.table({"item": ["i"], "label": ["a"]}))) == {"i": "a"}
    votes = read_votes(place(pa.table(COLUMNS)), abstain="a")
    assert votes.classes.tolist() == ["b"]
    assert votes.items.tolist() == ["i1", "i2"]


def test_labels_come_back_as_they_were_written():
    uri = f"memory://{uuid.uuid4().hex}/labels.parquet"
    write_columns(uri, {"item": ["i", "j"], "label": ["a", "b"], "confidence": [0.5, 1.0]})
    assert read_gold(uri) == {"i": "a", "j": "b"}
    assert parquet.read_table(io.BytesIO(storage.read_bytes(uri))).column("confidence").to_pylist() == [0.5, 1.0]


def test_rows_are_numbered_through_all_batches(place, monkeypatch):
    many = pa.table({"item": [f"i{n}" for n in range(200_000)], "label": ["a"] * 199_999 + [None]})
    with pytest.raises(FormatError, match=r"row 200000 is empty") as raised:
        read_gold(place(many))
    assert raised.value.problems[0].field == "label"
    monkeypatch.setattr(our_parquet, "SPOOLED_BYTES", 10)
    assert len(read_gold(place(many.slice(0, 199_999)))) == 199_999


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"item,worker,label\n", r"broken Parquet data .*copied completely\?"),
        (b"", r"broken Parquet data"),
        (
            pa.table({"item": ["i"], "label": ["a"]}),
            r"no column worker; expected item, worker, label, found item, label",
        ),
        (pa.table(COLUMNS | {"label": [1.0, 2.0, 3.0]}), "holds double; expected text or whole numbers"),
        (pa.table(COLUMNS | {"label": ["a", "", "b"]}), "row 2 is empty"),
        (pa.table(COLUMNS | {"worker": ["a", "b", None]}), "row 3 is empty"),
        (pa.table(COLUMNS).slice(0, 0), "there are no answers"),
    ],
)
def test_bad_files_are_told_why(place, table, message):
    uri = place(table)
    with pytest.raises(FormatError, match=message) as raised:
        read_votes(uri)
    assert uri in str(raised.value)


def test_without_pyarrow_the_message_says_what_to_install(place, monkeypatch):
    import sys

    uri = place(pa.table(COLUMNS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FormatError, match=r'pip install "voxpop\[parquet\]"'):
        read_votes(uri)
