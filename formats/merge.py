"""The ordered output manifest out of labels that came in any order: an external merge in constant memory.

Labels go to files by ranges of items; then the items are walked in input order with the labels of one range in memory.
What a line looks like is in `augmented.py`; that the whole file appears at once or not at all is in `storage.py`.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from voxpop.formats import storage
from voxpop.formats.augmented import encode_json, exact_number, output_line
from voxpop.formats.local_files import system_errors
from voxpop.formats.model import FormatError, Label, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxpop.formats.model import Item

__all__ = ["MergeSummary", "merge_output"]

RANGE_ITEMS = 50_000  # labels of so many items are in memory at once
SPILL_BYTES = 32 * 1024 * 1024
WRITE_BYTES = 1024 * 1024


class MergeSummary(msgspec.Struct, frozen=True):
    """What an output manifest holds: ``labeled + failed + unlabeled == lines``."""

    lines: int
    labeled: int  # carry the label attribute, from this job or from an earlier one under the same name
    failed: int
    unlabeled: int


def merge_output(
    items: Iterable[Item], labels: Iterable[Label], *, attribute: str, out_uri: str, scratch: Path
) -> MergeSummary:
    """Write the output manifest: every item in input order, with the newest of its labels.

    Args:
        items: all items, by ascending index without gaps (`read_manifest`).
        labels: in any order and in any number of versions; the highest version of an item wins.
        attribute: the label attribute.
        out_uri: the output manifest; appears whole when everything is written, or stays as it was.
        scratch: a local folder with room for all labels once.

    Raises:
        FormatError: there is a label for an item that does not exist; nothing was written.
        StorageError: the output or the scratch folder cannot be written.
    """
    with system_errors(str(scratch)):
        scratch.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=scratch, prefix="merge-")
    with folder as name:
        ranges = _Ranges(Path(name))
        for label in labels:
            ranges.add(label)
        ranges.spill()
        lines = labeled = failed = 0
        known: dict[int, Label] = {}
        buffer = bytearray()
        with storage.open_writer(out_uri) as out:
            for item in items:
                if item.index % RANGE_ITEMS == 0:
                    _check_used(known)
                    known = ranges.take(item.index // RANGE_ITEMS)
                newest = known.pop(item.index, None)
                buffer += output_line(item, newest, attribute)
                buffer += b"\n"
                lines += 1
                if newest is None:
                    labeled += attribute in item.fields
                elif newest.failure_reason is None:
                    labeled += 1
                else:
                    failed += 1
                if len(buffer) >= WRITE_BYTES:
                    out.write(bytes(buffer))
                    buffer.clear()
            _check_used(known)
            ranges.check_empty()
            out.write(bytes(buffer))
    return MergeSummary(lines=lines, labeled=labeled, failed=failed, unlabeled=lines - labeled - failed)


class _Ranges:
    """Labels by range of items, in memory up to a bound and then appended as JSON Lines to one file a range."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._decoder = msgspec.json.Decoder(Label, float_hook=exact_number)
        self._pending: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._pending_bytes = 0
        self._spilled: set[int] = set()

    def add(self, label: Label) -> None:
        record = encode_json(label) + b"\n"
        pending = self._pending[label.item // RANGE_ITEMS]
        pending += record
        self._pending_bytes += len(record)
        if self._pending_bytes >= SPILL_BYTES:
            self.spill()

    def spill(self) -> None:
        with system_errors(str(self._folder)):
            for number, pending in self._pending.items():
                with (self._folder / str(number)).open("ab") as file:
                    file.write(pending)
        self._spilled |= self._pending.keys()
        self._pending.clear()
        self._pending_bytes = 0

    def take(self, number: int) -> dict[int, Label]:
        """Return the newest label of each item of a range, and forget the range."""
        newest: dict[int, Label] = {}
        if number not in self._spilled:
            return newest
        self._spilled.remove(number)
        path = self._folder / str(number)
        with system_errors(str(path)), path.open("rb") as file:
            for record in file:
                label = self._decoder.decode(record)
                before = newest.get(label.item)
                if before is None or label.version > before.version:
                    newest[label.item] = label
        path.unlink()
        return newest

    def check_empty(self) -> None:
        for number in sorted(self._spilled):
            _check_used(self.take(number))


def _check_used(labels: dict[int, Label]) -> None:
    if labels:
        item = min(labels)
        message = f"there is a label for item {item}, but no such item; are these the labels of another job?"
        raise FormatError([Problem(place="output manifest", message=message)], len(labels))
