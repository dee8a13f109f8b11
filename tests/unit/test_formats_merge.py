"""The ordered output out of labels in any order: against the obvious way, in bounded memory, whole or not at all."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from voxpop.formats import FormatError, Item, Label, merge, storage
from voxpop.formats.augmented import output_line
from voxpop.formats.merge import MergeSummary, merge_output


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def items(count):
    return [Item(index=i, fields={"source": f"text {i}", "id": i}, source=f"text {i}") for i in range(count)]


def label(i, version=1, **changes):
    given = {"value": i % 3, "metadata": {"confidence": 0.5, "v": version}, **changes}
    return Label(item=i, version=version, created_at_ms=1_700_000_000_000, **given)


@pytest.fixture
def small(monkeypatch):
    """Ranges and buffers so small that a few items cross all of their borders."""
    monkeypatch.setattr(merge, "RANGE_ITEMS", 7)
    monkeypatch.setattr(merge, "SPILL_BYTES", 500)
    monkeypatch.setattr(merge, "WRITE_BYTES", 300)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_the_obvious_way(tmp_path, small, seed):
    draw = random.Random(seed)
    count = draw.choice([0, 1, 6, 7, 8, 50])
    labels = [
        label(i, version, failure_reason="nobody" if draw.random() < 0.2 else None)
        for i in range(count)
        for version in range(1, draw.choice([1, 1, 2, 4]))
    ]
    draw.shuffle(labels)
    newest = {}
    for one in labels:
        if one.item not in newest or newest[one.item].version < one.version:
            newest[one.item] = one
    expected = b"".join(output_line(item, newest.get(item.index), "x") + b"\n" for item in items(count))
    out = str(tmp_path / "output.manifest")
    summary = merge_output(items(count), labels, attribute="x", out_uri=out, scratch=tmp_path / "scratch")
    assert storage.read_bytes(out) == expected
    failed = sum(one.failure_reason is not None for one in newest.values())
    assert summary == MergeSummary(
        lines=count, labeled=len(newest) - failed, failed=failed, unlabeled=count - len(newest)
    )
    assert names(tmp_path / "scratch") == []


def test_labels_of_an_earlier_job_under_the_same_attribute_stay_and_count(tmp_path):
    old = Item(index=0, fields={"source": "a", "x": 1, "x-metadata": {}}, source="a")
    out = str(tmp_path / "out")
    assert merge_output([old], [], attribute="x", out_uri=out, scratch=tmp_path).labeled == 1
    assert storage.read_bytes(out) == b'{"source":"a","x":1,"x-metadata":{}}\n'


@pytest.mark.parametrize("item", [10, 13, 14, 700])
def test_a_label_without_an_item_is_refused_and_nothing_is_written(tmp_path, small, item):
    out = tmp_path / "output.manifest"
    out.write_bytes(b"old")
    with pytest.raises(FormatError, match=f"there is a label for item {item}, but no such item"):
        merge_output(items(10), [label(3), label(item)], attribute="x", out_uri=str(out), scratch=tmp_path)
    assert out.read_bytes() == b"old"
    assert names(tmp_path) == ["output.manifest"]


def test_a_gap_in_the_items_loses_no_label_silently(tmp_path, small):
    gap = [item for item in items(30) if item.index != 3]
    with pytest.raises(FormatError, match="there is a label for item 3, but no such item"):
        merge_output(gap, [label(3), label(20)], attribute="x", out_uri=str(tmp_path / "out"), scratch=tmp_path)


def test_a_failing_source_leaves_the_old_output_and_no_litter(tmp_path, small):
    out = tmp_path / "output.manifest"
    out.write_bytes(b"old")

    def breaks():
        yield from items(20)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        merge_output(breaks(), [label(1)], attribute="x", out_uri=str(out), scratch=tmp_path)
    assert out.read_bytes() == b"old"
    assert names(tmp_path) == ["output.manifest"]


FULL_SCRATCH = """
import resource, signal, sys
from pathlib import Path
from voxpop.formats import Label, merge
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
labels = (Label(item=i, version=1, created_at_ms=0, value="x" * 100) for i in range(10_000))
merge.merge_output([], labels, attribute="x", out_uri=sys.argv[1] + "/out", scratch=Path(sys.argv[1]))
"""


def test_a_full_scratch_disk_says_so(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_SCRATCH, str(tmp_path)], capture_output=True, check=False)
    assert b"StorageFullError" in done.stderr
    assert b"free some space" in done.stderr
    assert names(tmp_path) == []


MERGED = """
import sys
from pathlib import Path
from voxpop.formats import Item, Label, merge

merge.RANGE_ITEMS, merge.SPILL_BYTES = 2_000, 1024 * 1024

def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

def run(count):
    before = peak_kib()
    items = (Item(index=i, fields={"source": "text"}, source="text") for i in range(count))
    labels = (
        Label(item=i * 7919 % count, version=1, created_at_ms=0, value=1, metadata={"reason": "x" * 100})
        for i in range(count)
    )
    done = merge.merge_output(items, labels, attribute="x", out_uri=sys.argv[1] + "/out", scratch=Path(sys.argv[1]))
    print(done.labeled, peak_kib() - before)

run(10_000)
run(100_000)
"""


def test_memory_is_bounded_by_a_range_not_by_the_job(tmp_path):
    command = [sys.executable, "-c", MERGED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    small, big = (line.split() for line in done.stdout.splitlines())
    assert (small[0], big[0]) == ("10000", "100000")
    assert int(big[1]) < 4 * 1024
