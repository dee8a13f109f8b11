"""The job file: one small TOML that says what is asked, of whom, about what, and where the labels go.

Here lives its shape, its JSON Schema and what is said of a wrong one. What a job means is ``voxpop.broker.JobSpec``;
``docs/job-files.md`` explains it to people.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from voxpop.broker.errors import InvalidInputError
from voxpop.broker.limits import MAX_LEASE_SECONDS, MAX_REPLICATION
from voxpop.broker.models import JobSpec, check_name
from voxpop.cli.output import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "CrowdSection",
    "InputSection",
    "JobFile",
    "OutputSection",
    "PoolSection",
    "WorkforceSection",
    "read",
    "schema",
]

MAX_BYTES: Final = 1_000_000
HAS_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class InputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is labeled: a manifest, or files from which one is made. Left out: items are pushed."""

    manifest: Annotated[str, Meta(description="JSON Lines with source or source-ref: a path or URI.")] = ""
    files: Annotated[
        str, Meta(description="A folder or prefix of images or text files, or a .txt, .csv or .jsonl: a path or URI.")
    ] = ""
    type: Annotated[
        Literal["images", "text", ""], Meta(description="What the files are; expected together with files.")
    ] = ""
    column: Annotated[str, Meta(description="The column of a .csv that holds the text.")] = ""


class WorkforceSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All the people of one kind, and from where they may connect."""

    name: Annotated[str, Meta(description="The workforce; it is made if it is missing.")] = "private"
    allow: Annotated[
        tuple[str, ...] | UnsetType,
        Meta(description="Addresses or CIDR ranges; [] allows any. Left out: as it is, and any if it is new."),
    ] = UNSET


class PoolSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The people who are asked."""

    name: Annotated[str, Meta(description="The pool; it is made if it is missing.")] = "team"
    members: Annotated[tuple[str, ...], Meta(description="People added to the pool.")] = ()


class OutputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the labels go."""

    dir: Annotated[
        str, Meta(description="A folder or URI; the job's results go into a folder of its name in it. --out wins.")
    ] = ""


class CrowdSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers in ``voxpop run``."""

    who: Annotated[str, Meta(description="replay:FILE, simulated or simulated:SPEC. --crowd wins.")] = ""
    gold: Annotated[str, Meta(description="Gold labels: a CSV file with the columns item and label. --gold wins.")] = ""


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job file as it is written, with its paths made absolute. The plain fields are those of ``JobSpec``."""

    name: Annotated[str, Meta(description="The job's name: 1 to 63 letters and digits, with single - _ . between.")]
    task_type: Annotated[str, Meta(description="What people are asked, e.g. image_single_label, text_single_label.")]
    categories: Annotated[tuple[str, ...], Meta(description="What they choose from.")] = ()
    replication: Annotated[
        int | UnsetType,
        Meta(description=f"How many different people answer an item, 1 to {MAX_REPLICATION}; 3 if left out."),
    ] = UNSET
    assignment: Annotated[
        Literal["open", "named"], Meta(description="named: only the people that an item names may answer it.")
    ] = "open"
    title: Annotated[str, Meta(description="What people see first.")] = ""
    instructions: Annotated[str, Meta(description="What people should do, with good and bad examples.")] = ""
    label_attribute: Annotated[str, Meta(description="Name of the label in the output; the job's name if empty.")] = ""
    method: Annotated[str, Meta(description="Consolidation method; the task type's own if empty.")] = ""
    method_parameters: Annotated[dict[str, Any], Meta(description="Parameters of the method.")] = {}
    lease_seconds: Annotated[
        float | UnsetType,
        Meta(description=f"How long a person may hold an item, up to {MAX_LEASE_SECONDS}; else the setting's value."),
    ] = UNSET
    retry_seconds: Annotated[
        float | UnsetType,
        Meta(description="After which a former holder may get an item again; else the setting's value."),
    ] = UNSET
    worker_attribute: Annotated[
        str, Meta(description="With named assignment: the attribute of an item that lists its people.")
    ] = "workers"
    max_declines: Annotated[
        int, Meta(description="How many declines close an item; as many as the replication if 0.")
    ] = 0
    input: InputSection = InputSection()
    workforce: WorkforceSection = WorkforceSection()
    pool: PoolSection = PoolSection()
    output: OutputSection = OutputSection()
    crowd: CrowdSection = CrowdSection()

    def spec(self, **changes: Any) -> JobSpec:
        """Return the job that this file asks for; ``changes`` win over what it says.

        Raises:
            InvalidInputError: a value that a job cannot have.
        """
        given = {name: getattr(self, name) for name in JOB_FIELDS}
        values = {"pool": self.pool.name, **given, **changes}
        return JobSpec(**{name: value for name, value in values.items() if value is not UNSET})


SECTIONS: Final = frozenset({"input", "workforce", "pool", "output", "crowd"})
JOB_FIELDS: Final = tuple(name for name in JobFile.__struct_fields__ if name not in SECTIONS)


def read(path: Path) -> JobFile:
    """Return a checked job file; relative paths in it start at its folder.

    Raises:
        WrongInputError: names the file, the line, the field, what was found and what is expected.
    """
    text = _text_of(path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongInputError(f"{path}: this is not TOML: {error}") from None
    try:
        found = msgspec.convert(table, JobFile)
    except msgspec.ValidationError as error:
        raise WrongInputError(_explain(path, text, table, str(error))) from None
    job = _absolute(found, path.parent)
    _check(path, text, job)
    return job


def schema() -> dict[str, Any]:
    """Return the JSON Schema of job files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(JobFile)}


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise WrongInputError(f"{path}: there is no such file; expected a job file (docs/job-files.md)") from None
    except OSError as error:
        raise WrongInputError(f"{path}: cannot be read ({error.strerror}); expected a job file") from None
    if len(data) > MAX_BYTES:
        raise WrongInputError(f"{path}: is larger than the {MAX_BYTES:,} bytes that a job file may have")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WrongInputError(f"{path}: byte {error.start} is not UTF-8; expected a TOML file in UTF-8") from None


def _check(path: Path, text: str, job: JobFile) -> None:
    """Check what types cannot say."""

    def wrong(field: str, problem: str) -> WrongInputError:
        return WrongInputError(f"{_place(path, text, field)}: {problem}")

    given = job.input
    if given.manifest and given.files:
        raise wrong("input.files", "found both manifest and files; expected one of the two")
    if given.files and not given.type:
        raise wrong("input.files", 'found no type beside it; expected type = "images" or type = "text"')
    if given.type and not given.files:
        raise wrong("input.type", "found no files beside it; expected files = a folder, a file or a URI")
    if given.column and not given.files.lower().endswith(".csv"):
        raise wrong("input.column", f"found {given.column!r}, but files is not a .csv; leave column out")
    for field, name in (("workforce.name", job.workforce.name), ("pool.name", job.pool.name), ("name", job.name)):
        try:
            check_name(f"the {field.replace('.', ' ')}", name)
        except InvalidInputError as error:
            raise wrong(field, str(error)) from None
    try:
        spec = job.spec()
    except InvalidInputError as error:
        field = str(error).split(maxsplit=1)[0].rstrip(":")
        raise wrong(field if field in JOB_FIELDS else "", str(error)) from None
    _check_kind(spec, wrong)


def _check_kind(spec: JobSpec, wrong: Callable[[str, str], WrongInputError]) -> None:
    """Check what only the task type and the method know: that they exist, and take what is given."""
    from voxpop.consolidation.method import UnknownMethodError, find_method
    from voxpop.formats.augmented import check_label_attribute
    from voxpop.formats.model import FormatError
    from voxpop.workers.task_types import get_task_type

    try:
        if spec.method:
            find_method(spec.method, merges="votes")
    except UnknownMethodError as error:
        raise wrong("method", str(error)) from None
    field = "label_attribute"
    try:
        check_label_attribute(spec.attribute)
        field = "task_type"
        kind = get_task_type(spec.task_type)
        field = "method_parameters"
        kind.method_of(spec)
    except (FormatError, InvalidInputError) as error:
        raise wrong(field, str(error)) from None


def _absolute(job: JobFile, folder: Path) -> JobFile:
    """Make paths absolute that start at the job file's folder; URIs stay as they are."""

    def at(place: str) -> str:
        if not place or HAS_SCHEME.match(place):
            return place
        return str((folder / Path(place).expanduser()).absolute())

    replay, colon, file = job.crowd.who.partition(":")
    who = f"replay:{at(file)}" if replay == "replay" and colon else job.crowd.who
    return msgspec.structs.replace(
        job,
        input=msgspec.structs.replace(job.input, manifest=at(job.input.manifest), files=at(job.input.files)),
        output=msgspec.structs.replace(job.output, dir=at(job.output.dir)),
        crowd=msgspec.structs.replace(job.crowd, who=who, gold=at(job.crowd.gold)),
    )


def _explain(path: Path, text: str, table: dict[str, Any], message: str) -> str:
    """Turn msgspec's message into one that names the line, the field, what was found and what is expected."""
    problem, _, where = message.partition(" - at ")
    field = where.strip("`").removeprefix("$").removeprefix(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", problem)
    missing = re.fullmatch(r"Object missing required field `(.*)`", problem)
    if unknown:
        inside = field.partition("[")[0]
        field = f"{inside}.{unknown[1]}" if inside else unknown[1]
        known = [name for name, _ in _known_fields(inside)]
        near = difflib.get_close_matches(unknown[1], known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        return f"{_place(path, text, field)}: unknown; {advice}"
    if missing:
        return f"{path}, field {missing[1]!r}: missing; expected something like {EXAMPLES.get(missing[1], '...')}"
    expected, _, got = problem.partition(", got ")
    found = _value_at(table, field)
    shown = repr(found)[:60] if found is not None else got.strip("`")
    wanted = expected[:1].lower() + expected[1:].replace("`", "")
    allowed = _literals(field)
    if allowed:
        wanted = f"expected one of {', '.join(map(repr, allowed))}"
    return f"{_place(path, text, field)}: found {shown}, {WORDS.get(wanted, wanted)}"


EXAMPLES: Final = {"name": 'name = "reviews"', "task_type": 'task_type = "text_single_label"'}
WORDS: Final = {
    "expected str": "expected text in quotes",
    "expected int": "expected a whole number",
    "expected float": "expected a number",
    "expected array": "expected a list",
    "expected object": "expected a table",
}


def _known_fields(section: str) -> list[tuple[str, Any]]:
    """Return the names and types of the fields of a section ("": of the file)."""
    info = msgspec.inspect.type_info(JobFile)
    for part in filter(None, section.split(".")):
        assert isinstance(info, msgspec.inspect.StructType)
        info = next(field.type for field in info.fields if field.encode_name == part)
    assert isinstance(info, msgspec.inspect.StructType)
    return [(field.encode_name, field.type) for field in info.fields]


def _literals(field: str) -> tuple[Any, ...]:
    section, _, name = field.rpartition(".")
    if "[" in field or (section and section not in SECTIONS):
        return ()
    kind = dict(_known_fields(section)).get(name)
    if isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    return tuple(value for value in kind.values if value) if isinstance(kind, msgspec.inspect.LiteralType) else ()


def _value_at(table: Any, field: str) -> Any:
    """Return what stands at a path of msgspec's such as ``pool.members[2]``, or None."""
    for part in re.findall(r"[^.\[\]]+", field):
        if isinstance(table, dict):
            table = table.get(part)
        elif isinstance(table, list) and part.isdigit() and int(part) < len(table):
            table = table[int(part)]
        else:
            return None
    return table


def _place(path: Path, text: str, field: str) -> str:
    """Return ``job.toml line 3, field 'replication'``; without a line if the key is not found."""
    if not field:
        return str(path)
    section, _, key = re.sub(r"\[.*", "", field).rpartition(".")
    line = next((number for number, found in _keys(text) if found in ((section, key), (f"{section}.{key}", ""))), 0)
    return f"{path} line {line}, field {field!r}" if line else f"{path}, field {field!r}"


def _keys(text: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield (line number, (section, key)) of a TOML text as people write it; a header's key is empty."""
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = header[1].strip()
            yield number, (section, "")
            yield number, ("", section)
        elif key := re.match(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""", line):
            yield number, (section, key[1])
