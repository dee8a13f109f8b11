"""Recorded answers and gold labels: real files, and what each kind of bad file is told."""

from __future__ import annotations

import gzip
import subprocess
import sys
import uuid
from importlib.resources import files

import pytest

from voxpop.formats import FormatError, storage
from voxpop.formats.answers import read_answers, read_gold, read_votes, write_columns

BLUEBIRDS = files("voxpop.simulator.data") / "bluebirds"


@pytest.fixture
def place():
    """Write data under a name; returns its URI."""

    def write(name, data):
        uri = f"memory://{uuid.uuid4().hex}/{name}"
        storage.write_atomic(uri, data.encode() if isinstance(data, str) else data)
        return uri

    return write


class TestGood:
    def test_the_bluebirds(self):
        rows = list(read_answers(str(BLUEBIRDS / "answers.csv.gz")))
        gold = read_gold(str(BLUEBIRDS / "truth.csv.gz"))
        assert len(rows) == 4212
        assert len({item for item, _, _ in rows}) == len(gold) == 108
        assert len({worker for _, worker, _ in rows}) == 39
        votes = read_votes(str(BLUEBIRDS / "answers.csv.gz"))
        assert (votes.n_votes, votes.n_items, votes.n_workers, votes.n_classes) == (4212, 108, 39, 2)

    def test_columns_are_found_by_name_and_others_left_alone(self, place):
        uri = place("a.csv", "\ufefflabel, note ,item,worker\r\n1,x,i1,w1\r\n\r\n0,,i1,w2\r\n")
        assert list(read_answers(uri)) == [("i1", "w1", "1"), ("i1", "w2", "0")]
        assert place("a.csv", "") != uri

    def test_jsonl_and_numbers(self, place):
        uri = place("a.jsonl", '{"item":1,"worker":"w","label":"yes"}\n\n{"label":0,"item":"2","worker":7}\n')
        assert list(read_answers(uri)) == [("1", "w", "yes"), ("2", "7", "0")]

    def test_gzip_of_several_members(self, place):
        data = gzip.compress(b"item,label\n1,a\n") + gzip.compress(b"2,b\n")
        assert read_gold(place("t.csv.gz", data)) == {"1": "a", "2": "b"}

    def test_the_same_gold_twice_is_no_contradiction(self, place):
        assert read_gold(place("t.csv", "item,label\n1,a\n1,a\n")) == {"1": "a"}


BOMB = """
import sys
from pathlib import Path
from voxpop.formats.answers import read_gold

def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak_kib()
try:
    read_gold(sys.argv[1])
except ValueError as error:
    print(str(error).rpartition("/")[2])
print(peak_kib() - before)
"""


def test_a_gzip_bomb_is_read_in_pieces(tmp_path):
    """200 MB of one line in 200 kB are refused at the limit of a line, without being unpacked whole."""
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"item,label\n" + b"x" * 200_000_000 + b"\n"))
    done = subprocess.run([sys.executable, "-c", BOMB, str(path)], capture_output=True, check=True, text=True)
    message, grown_kib = done.stdout.splitlines()
    assert message == "t.csv.gz line 2: the line is longer than 400,000 bytes"
    assert int(grown_kib) < 20 * 1024


BAD = [
    ("a.csv", "", ": the file is empty; a header with the names of the columns is expected"),
    ("a.csv", "item,worker,label\n", ": there are no answers below the header"),
    (
        "a.csv",
        "task,worker,answer\n1,2,3\n",
        " line 1: no column item, label; expected item, worker, label, found task, worker, answer",
    ),
    (
        "a.csv",
        "item;worker;label\n1;2;3\n",
        " line 1: no column item, worker, label; expected item, worker, label, found item;worker;label",
    ),
    ("a.csv", "item,worker,,label\n", " line 1: column 3 of the header has no name"),
    ("a.csv", "item,worker,label,item\n", " line 1: the header names a column more than once: item"),
    (
        "a.csv",
        "item,worker,label\n1,2,3\n1,2\n",
        " line 3: 2 cells; expected 3, as in the header (item, worker, label)",
    ),
    (
        "a.csv",
        'item,worker,label\n"1\n2",2,3\n1,2,3,4\n',
        " line 4: 4 cells; expected 3, as in the header (item, worker, label)",
    ),
    ("a.csv", "item,worker,label\n1,2,3\n\n1,2,\n", " line 4, field 'label': is empty"),
    ("a.csv", "item,worker,label\n,2,1\n", " line 2, field 'item': is empty"),
    (
        "a.csv",
        'item,worker,label\n1,2,3\n1,"2,3\n4,5,6\n',
        " line 3: broken CSV: unexpected end of data; is a quote not closed?",
    ),
    ("a.csv", b"item,worker,label\n1,2,\xe9\n", " line 2: not UTF-8: byte 0xe9 at byte 5; save the file as UTF-8"),
    (
        "a.csv.gz",
        "item,worker,label\n",
        ": broken gzip data (Error -3 while decompressing data: incorrect header check); is it really gzipped?",
    ),
    (
        "a.csv.gz",
        gzip.compress(b"item,worker,label\n1,2,3\n", mtime=0)[:-9],
        ": the gzip data end too early; was the file copied completely?",
    ),
    ("a.jsonl", "", ": there are no answers below the header"),
    ("a.jsonl", '{"item":1,"worker":2}', " line 1: no column label; expected item, worker, label, found item, worker"),
    ("a.jsonl", '\n{"item":1,', " line 2: broken JSON: Input data was truncated"),
    ("a.jsonl", "[1]", " line 1: a JSON object is expected, found [1]"),
    ("a.jsonl", '{"item":1,"worker":2,"label":""}', " line 1, field 'label': is empty"),
    (
        "a.jsonl",
        '{"item":1,"worker":2,"label":null}',
        " line 1, field 'label': must be text or a whole number, found null",
    ),
    (
        "a.jsonl",
        '{"item":1,"worker":2,"label":true}',
        " line 1, field 'label': must be text or a whole number, found true",
    ),
    (
        "a.jsonl",
        '{"item":1.5,"worker":2,"label":1}',
        " line 1, field 'item': must be text or a whole number, found 1.5",
    ),
]


class TestBad:
    @pytest.mark.parametrize(("name", "data", "message"), BAD)
    def test_each_kind_is_told_where_and_why(self, place, name, data, message):
        uri = place(name, data)
        with pytest.raises(FormatError) as caught:
            read_votes(uri)
        assert str(caught.value) == uri + message

    def test_contradicting_gold(self, place):
        uri = place("t.csv", "item,label\n1,a\n2,b\n1,c\n")
        with pytest.raises(FormatError, match="line 4: item '1' has label 'c' here and 'a' before"):
            read_gold(uri)

    def test_gold_without_labels(self, place):
        with pytest.raises(FormatError, match="there are no labels below the header"):
            read_gold(place("t.csv", "item,label\n"))


COLUMNS = {"item": ["a,b", 'c"d', "é"], "label": ["1", "0", "1"], "confidence": [0.5, 1.0, 0.25]}


class TestWriting:
    def test_csv(self, tmp_path):
        path = tmp_path / "out.csv"
        write_columns(str(path), COLUMNS)
        assert path.read_text() == 'item,label,confidence\n"a,b",1,0.5\n"c""d",0,1.0\né,1,0.25\n'

    def test_jsonl(self, tmp_path):
        path = tmp_path / "out.jsonl"
        write_columns(str(path), COLUMNS)
        assert path.read_text().splitlines()[0] == '{"item":"a,b","label":"1","confidence":0.5}'

    @pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.jsonl", "out.jsonl.gz"])
    def test_what_was_written_is_read_back(self, tmp_path, name):
        uri = str(tmp_path / name)
        write_columns(uri, COLUMNS)
        assert read_gold(uri) == {"a,b": "1", 'c"d': "0", "é": "1"}
        first = storage.read_bytes(uri)
        write_columns(uri, COLUMNS)
        assert storage.read_bytes(uri) == first

    def test_columns_of_different_length_write_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="shorter"):
            write_columns(str(tmp_path / "out.csv"), {"a": [1], "b": []})
        assert list(tmp_path.iterdir()) == []
