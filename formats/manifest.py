"""Input manifests: JSON Lines with ``source`` or ``source-ref``, checked whole before anything is done with them.

What a line must be, and what was chosen where Ground Truth's guide is silent, is in docs/formats.md. Labels that an
earlier job appended are ordinary fields here (`augmented.py` reads them).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from voxpop.formats import storage
from voxpop.formats.augmented import check_label_attribute, decode_json, encode_json
from voxpop.formats.limits import (
    MAX_ATTRIBUTE_CHARS,
    MAX_LINE_BYTES,
    MAX_LINE_CHARS,
    MAX_REPORTED_PROBLEMS,
)
from voxpop.formats.model import FormatError, Item, Problem, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["CATEGORIES_FIELD", "ManifestSummary", "parse_item", "read_manifest", "validate_manifest"]

CATEGORIES_FIELD = "voxpop-categories"  # the item's own subset of the categories
BOM = b"\xef\xbb\xbf"
PROGRESS_LINES = 20_000


class ManifestSummary(msgspec.Struct, frozen=True):
    """A manifest that was found right, and the version of it that was."""

    count: int
    version: Version
    already_labeled: int  # items that carry the label attribute already: a job under the same attribute leaves them


def validate_manifest(
    uri: str,
    *,
    label_attribute: str,
    categories: Iterable[str] | None = None,
    reference: bool = False,
    progress: Callable[[int, float], None] | None = None,
) -> ManifestSummary:
    """Read a whole manifest in constant memory and say what is wrong with it, or that nothing is.

    Args:
        uri: where it is.
        label_attribute: the attribute that the job will write.
        categories: the job's categories, if it has any; an item's own must be among them.
        reference: the job's labels are files; see `check_label_attribute`.
        progress: called now and then with the lines read and the part of the file read, 0 to 1.

    Raises:
        FormatError: the first 20 problems, each with line number, field and reason, and the count of all.
        StorageError: it cannot be read, or changed while it was read.
    """
    check_label_attribute(label_attribute, reference=reference)
    allowed = None if categories is None else frozenset(categories)
    version = storage.version(uri)
    problems: list[Problem] = []
    problem_count = count = already_labeled = size = 0
    for number, line in _lines(uri, version):
        size += len(line) + 1
        try:
            item = parse_item(line, count, place=f"{uri} line {number}", categories=allowed)
        except FormatError as error:
            problems += error.problems[: MAX_REPORTED_PROBLEMS - len(problems)]
            problem_count += error.count
        else:
            already_labeled += label_attribute in item.fields
        count += 1
        if progress is not None and count % PROGRESS_LINES == 0:
            progress(count, min(size / version.size_bytes, 1.0))
    if count == 0:
        problems.append(Problem(place=uri, message="the manifest is empty; at least one line is expected"))
        problem_count = 1
    if problem_count:
        raise FormatError(problems, problem_count)
    if progress is not None:
        progress(count, 1.0)
    return ManifestSummary(count=count, version=version, already_labeled=already_labeled)


def read_manifest(uri: str, *, start: int = 0, pinned: Version | None = None) -> Iterator[Item]:
    """Yield the items of a manifest from index ``start`` on, in constant memory.

    Raises:
        FormatError: a line is wrong; validate first to have all of them.
        ChangedError: it is not the ``pinned`` version that was validated.
        StorageError: it cannot be read.
    """
    for index, (number, line) in enumerate(_lines(uri, pinned)):
        if index >= start:
            yield parse_item(line, index, place=f"{uri} line {number}")


def parse_item(line: bytes, index: int, *, place: str, categories: frozenset[str] | None = None) -> Item:
    """Return the item that one line of a manifest, or one pushed JSON object, describes.

    Args:
        line: a JSON object, without its line end.
        index: the item's 0-based place in its job.
        place: where the line stands, for the messages.
        categories: the job's categories; if None, the item's own are not compared.

    Raises:
        FormatError: everything that is wrong with it.
    """
    if len(line) > MAX_LINE_CHARS:
        _check_length(line, place)
    try:
        fields = decode_json(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError([Problem(place=place, message=_why_no_json(line, error))]) from error
    if type(fields) is not dict:
        found = _shown(fields)
        raise FormatError([Problem(place=place, message=f"a JSON object is expected, found {found}")])
    # A key given twice has lost its first value by now: fewer quotes come out than went in.
    if b"\\u0022" in line or encode_json(fields).count(b'"') != line.count(b'"'):
        _check_keys_once(line, place)
    source = fields.get("source")
    source_ref = fields.get("source-ref")
    own = fields.get(CATEGORIES_FIELD)
    if (
        (type(source) is str) is (type(source_ref) is str)
        or not (source or source_ref)
        or len(line) > MAX_ATTRIBUTE_CHARS
        or b'"$' in line
        or b"\\u0024" in line
        or CATEGORIES_FIELD in fields
        or ("source" in fields and "source-ref" in fields)
    ):
        problems = [*_attribute_problems(fields, place), *_category_problems(fields, place, categories)]
        if problems:
            raise FormatError(problems)
    return Item(
        index=index,
        fields=fields,
        source=source,
        source_ref=source_ref,
        categories=None if own is None else tuple(own),
    )


def _lines(uri: str, pinned: Version | None) -> Iterator[tuple[int, bytes]]:
    """Yield lines; empty ones at the end of the file do not count, those before it are handed on to be refused."""
    empty = 0
    for number, line in storage.stream_lines(uri, pinned=pinned):
        if not line.strip():
            empty += 1
            continue
        for held in range(number - empty, number):
            yield held, b""
        empty = 0
        yield number, line


def _check_length(line: bytes, place: str) -> None:
    chars = len(line.decode("utf-8", errors="replace"))
    if chars > MAX_LINE_CHARS:
        at_least = "more than " if len(line) > MAX_LINE_BYTES else ""
        message = f"the line has {at_least}{chars:,} characters; at most {MAX_LINE_CHARS:,} are allowed"
        raise FormatError([Problem(place=place, message=message)])


def _check_keys_once(line: bytes, place: str) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated = next(key for key in keys if keys.count(key) > 1)
            message = "the key is given more than once; only one of the values could be kept"
            raise FormatError([Problem(place=place, field=repeated, message=message)])
        return found

    json.loads(line, object_pairs_hook=unique)


def _attribute_problems(fields: dict[str, Any], place: str) -> Iterator[Problem]:
    set_fields = [field for field in ("source", "source-ref") if field in fields]
    if len(set_fields) == 2:
        message = "both 'source' and 'source-ref' are set; exactly one is expected"
        yield Problem(place=place, field="source", message=message)
    if not set_fields:
        message = "neither 'source' nor 'source-ref' is set; exactly one is expected"
        yield Problem(place=place, field="source", message=message)
    for field in set_fields:
        value = fields[field]
        if not isinstance(value, str):
            yield Problem(place=place, field=field, message=f"must be text, found {_shown(value)}")
        elif not value:
            yield Problem(place=place, field=field, message="is empty")
    for key, value in fields.items():
        if key.startswith("$"):
            message = "attribute names may not start with '$'; rename it"
            yield Problem(place=place, field=key, message=message)
        chars = len(value if isinstance(value, str) else encode_json(value).decode())
        if chars > MAX_ATTRIBUTE_CHARS:
            message = f"has {chars:,} characters; at most {MAX_ATTRIBUTE_CHARS:,} are allowed in one attribute"
            yield Problem(place=place, field=key, message=message)


def _category_problems(fields: dict[str, Any], place: str, categories: frozenset[str] | None) -> Iterator[Problem]:
    if CATEGORIES_FIELD not in fields:
        return
    own = fields[CATEGORIES_FIELD]
    if not isinstance(own, list) or not own or not all(isinstance(name, str) for name in own):
        message = f"must be a list of one or more category names, found {_shown(own)}"
    elif len(set(own)) < len(own):
        message = f"names a category more than once: {_shown(own)}"
    elif categories is not None and not categories.issuperset(own):
        unknown = ", ".join(repr(name) for name in own if name not in categories)
        message = f"not among the job's categories: {unknown}"
    else:
        return
    yield Problem(place=place, field=CATEGORIES_FIELD, message=message)


def _why_no_json(line: bytes, error: Exception) -> str:
    """Say why ``line`` is not JSON: the decoder is quick but terse, so the standard one is asked once more."""
    if not line.strip():
        return "the line is empty; remove it, because the number of a line is the number of its item"
    if line.startswith(BOM):
        return "the file starts with a byte order mark; save it as UTF-8 without one"
    try:
        text = line.decode()
    except UnicodeDecodeError as bad:
        return f"not UTF-8: byte 0x{line[bad.start]:02x} at byte {bad.start + 1} of the line; save the file as UTF-8"
    try:
        json.loads(text)
    except json.JSONDecodeError as bad:
        return f"broken JSON at character {bad.pos + 1}: {bad.msg}"
    except RecursionError:
        return "JSON nested too deeply"
    if "\\ud" in text.lower():
        return "broken JSON: half of a surrogate pair (\\ud800 to \\udfff) stands alone"
    return f"broken JSON: {error}"


def _shown(value: Any) -> str:
    text = encode_json(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."
