"""Round trips through every format: whatever goes in comes out, with its order, its characters and its digits."""

from __future__ import annotations

import itertools
import json
import uuid
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxpop.formats import Annotation, Item, Label, merge, storage
from voxpop.formats.answers import read_answers, write_columns
from voxpop.formats.augmented import output_line, read_label
from voxpop.formats.manifest import parse_item, read_manifest, validate_manifest
from voxpop.formats.responses import read_responses, write_response_files, write_response_parts

unhurried = settings(deadline=None)  # a busy machine is no fault of the code
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
keys = texts.filter(
    lambda key: not key.startswith("$") and key not in {"source", "source-ref", "voxpop-categories", "x", "x-metadata"}
)


@st.composite
def objects(draw):
    """What a manifest line may hold: the input field at any place among others."""
    fields = list(draw(st.dictionaries(keys, values, max_size=5)).items())
    name = draw(st.sampled_from(["source", "source-ref"]))
    fields.insert(draw(st.integers(0, len(fields))), (name, draw(texts.filter(bool))))
    return dict(fields)


labels = st.builds(
    dict,
    value=values,
    metadata=st.dictionaries(texts.filter(lambda key: key != "failure-reason"), values, max_size=3),
    failure_reason=st.none() | texts,
)


def label_of(index, version, made):
    value = made["value"] if made["failure_reason"] is None else None
    return Label(item=index, version=version, created_at_ms=0, **{**made, "value": value})


@unhurried
@given(objects(), st.booleans(), st.sampled_from([None, (",", ":"), (" , ", " : ")]))
def test_an_object_comes_out_untouched_however_it_was_spelled(fields, ascii_only, separators):
    line = json.dumps(fields, ensure_ascii=ascii_only, separators=separators).encode()
    item = parse_item(line, 3, place="here")
    assert json.dumps(item.fields) == json.dumps(fields)
    compact = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    assert json.dumps(json.loads(output_line(item, None, "x"))) == json.dumps(json.loads(compact))
    assert parse_item(output_line(item, None, "x"), 3, place="here") == item


@unhurried
@given(st.integers(), st.integers(min_value=0, max_value=60), st.integers(-400, 400))
def test_no_number_loses_its_value(digits, places, exponent):
    spelled = format(Decimal(digits).scaleb(-places), "f") + (f"e{exponent}" if exponent else "")
    line = f'{{"source":"a","n":{spelled}}}'.encode()
    written = output_line(parse_item(line, 0, place="here"), None, "x")
    assert json.loads(written, parse_float=Decimal, parse_int=Decimal)["n"] == Decimal(spelled)


@unhurried
@given(objects(), labels)
def test_a_label_is_read_back_from_its_line(fields, made):
    bare = Item(index=5, fields=fields, source=fields.get("source"), source_ref=fields.get("source-ref"))
    label = label_of(5, 1, made)
    item = parse_item(output_line(bare, label, "x"), 5, place="here")
    assert read_label(item, "x") == label
    rest = {key: value for key, value in item.fields.items() if key not in {"x", "x-metadata"}}
    assert list(rest.items()) == list(fields.items())


@settings(unhurried, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(objects(), min_size=1, max_size=12), st.data())
def test_a_whole_job(tmp_path_factory, inputs, data):
    """A manifest is written, checked, read, labeled in any order and several versions, merged, and read again."""
    root = f"memory://{uuid.uuid4().hex}"
    manifest = "\r\n".join(json.dumps(fields) for fields in inputs)
    storage.write_atomic(f"{root}/in", manifest.encode())
    summary = validate_manifest(f"{root}/in", label_attribute="x")
    assert summary.count == len(inputs)
    found = list(read_manifest(f"{root}/in", pinned=summary.version))
    versions = data.draw(st.lists(st.integers(0, 3), min_size=len(inputs), max_size=len(inputs)))
    given_labels = [
        label_of(index, version, data.draw(labels))
        for index, last in enumerate(versions)
        for version in range(1, last + 1)
    ]
    shuffled = data.draw(st.permutations(given_labels))
    scratch = tmp_path_factory.mktemp("scratch")
    merge.merge_output(found, shuffled, attribute="x", out_uri=f"{root}/out", scratch=scratch)
    newest = {label.item: label for label in given_labels}
    for before, after in zip(found, read_manifest(f"{root}/out"), strict=True):
        label = newest.get(before.index)
        assert after == (
            before if label is None else parse_item(output_line(before, label, "x"), before.index, place="")
        )


endings = st.text("a\r\n", max_size=20).map(str.encode)


@unhurried
@given(endings | st.binary(max_size=300), st.lists(st.integers(0, 20), max_size=8), st.integers(0, 4))
def test_lines_do_not_depend_on_the_pieces(data, cuts, limit):
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(borders)]
    whole = data.split(b"\n")
    expected = [line[:-1] if line.endswith(b"\r") else line for line in (whole if whole[-1] else whole[:-1])]
    found = list(storage.split_lines(pieces, max_line_bytes=limit))
    assert [number for number, _ in found] == list(range(1, len(expected) + 1))
    for (_, line), full in zip(found, expected, strict=True):
        assert line == full[: limit + 1]


names = texts.filter(lambda name: name.strip() != "" and "\0" not in name)


@unhurried
@given(
    st.lists(st.tuples(names, names, names), min_size=1, max_size=8),
    st.sampled_from(["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"]),
)
def test_answers(rows, name):
    uri = f"memory://{uuid.uuid4().hex}/{name}"
    write_columns(uri, dict(zip(["item", "worker", "label"], zip(*rows, strict=True), strict=True)))
    assert list(read_answers(uri)) == rows


annotations = st.builds(
    Annotation,
    item=st.just(0),
    worker=texts,
    content=values,
    accepted_at_ms=st.integers(0, 4_000_000_000_000),
    submitted_at_ms=st.integers(0, 4_000_000_000_000),
    seconds_spent=st.none() | st.floats(0, 1e6),
)


@unhurried
@given(st.lists(st.lists(annotations, min_size=1, max_size=3), min_size=1, max_size=4), st.booleans())
def test_worker_responses(groups, compact):
    root = f"memory://{uuid.uuid4().hex}/job"
    numbered = [
        [
            Annotation(**{field: getattr(one, field) for field in one.__struct_fields__} | {"item": index})
            for one in group
        ]
        for index, group in enumerate(groups)
    ]
    if compact:
        write_response_parts(root, numbered)
    else:
        write_response_files(root, numbered, now_ms=0)
    assert list(read_responses(root)) == [one for group in numbered for one in group]


segments = st.one_of(st.sampled_from(["..", ".", "", "a", "..a", "/etc", "a/../b", "%2e%2e", "~"]), texts)


@unhurried
@given(st.sampled_from(["/out", "file:///out", "s3://b/out"]), st.lists(segments, min_size=1, max_size=4))
def test_join_never_leaves_its_root(root, parts):
    try:
        joined = storage.join(root, *parts)
    except storage.InvalidUriError:
        return
    _, path = storage.open_store(joined)
    assert path.lstrip("/").startswith("out/")
    assert not {"", ".", ".."} & set(path.lstrip("/").split("/"))
