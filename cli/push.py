"""``voxpop push``: add items to a job that has no input of its own, and say what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from voxpop.cli.options import ConfigOption, DataDirOption, JobArgument, JsonOption, RedisOption, examples
from voxpop.cli.output import WRONG_INPUT, Output, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxpop.workers.services import Services

__all__ = ["register"]

BATCH_LINES: Final = 1_000
SUFFIXES: Final = (".jsonl", ".manifest", ".txt", ".csv")


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one line."""

    line: int
    item: int | None = None  # its number in the job
    refused: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        rich_help_panel="Jobs and people",
        epilog=examples(
            "voxpop push reviews new.jsonl --id-key review-id",
            "voxpop push reviews more.csv --column text",
            "voxpop push reviews rest.txt --last",
        ),
    )(push)


def push(
    job: JobArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .jsonl, .manifest, .txt or .csv: a path or URI.")],
    id_key: Annotated[
        str, typer.Option(metavar="KEY", help="The field that names an object: pushed again, it gets its first item.")
    ] = "",
    column: Annotated[str, typer.Option(metavar="NAME", help="The column of a .csv that holds the text.")] = "",
    last: Annotated[bool, typer.Option("--last", help="Nothing more will come: the job may end.")] = False,
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push the lines of a file to a job, and print what was refused and why; --json tells the item of each line.

    A wrong line is refused, the others are added. Exit code 2 if any was refused.
    """
    from voxpop.cli.connection import load_config, open_services

    out = Output(as_json=as_json)
    messages: list[Message] = []
    with open_services(load_config(redis, data_dir, config)) as services:
        # Before the file is read: a wrong name is the likelier mistake.
        before = services.client.shard_state(job).appended
        for batch in _batches(file, column):
            messages += _sent(services, job, batch, id_key)
        if not messages:
            raise WrongInputError(f"{file}: there is nothing in it; expected one object a line")
        refused = [message for message in messages if message.refused]
        if last and not refused:
            services.client.seal(job)
    if last and refused:
        out.warn(f"job {job} stays open, because lines were refused; mend them and push them with --last")
    accepted = len(messages) - len(refused)
    added = len({message.item for message in messages if message.item is not None and message.item >= before})
    document = {
        "job": job,
        "accepted": accepted,
        "added": added,
        "refused": len(refused),
        "messages": messages,
    }
    told = [f"line {message.line}: refused: {message.refused}" for message in refused]
    known = f" ({accepted - added:,} of them known already)" if added < accepted else ""
    out.result(document, "\n".join([*told, f"{accepted:,} accepted{known}, {len(refused):,} refused"]))
    if refused:
        raise typer.Exit(WRONG_INPUT)


def _batches(file: str, column: str) -> Iterator[list[tuple[int, bytes]]]:
    """Yield (line number, line) of the file, some at a time."""
    batch: list[tuple[int, bytes]] = []
    for numbered in _lines(file, column):
        batch.append(numbered)
        if len(batch) == BATCH_LINES:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(file: str, column: str) -> Iterator[tuple[int, bytes]]:
    from voxpop.formats import storage
    from voxpop.formats.texts import text_lines

    kind = next((suffix for suffix in SUFFIXES if file.lower().endswith(suffix)), None)
    if kind is None:
        raise WrongInputError(f"{file}: expected a file whose name ends in {', '.join(SUFFIXES)}")
    if kind in {".jsonl", ".manifest"}:  # each line is judged on its own, broken ones too
        yield from ((number, line) for number, line in storage.stream_lines(file) if line.strip())
        return
    for number, line in text_lines(file, column or None):
        if line is not None:
            yield number, line


def _sent(services: Services, job: str, batch: Sequence[tuple[int, bytes]], id_key: str) -> list[Message]:
    """Push some lines; if any of them is wrong, halve them until it stands alone, so that the others get in."""
    from voxpop.formats.model import FormatError
    from voxpop.workers.push import push as push_lines

    try:
        ids = [_id_of(line, id_key) for _, line in batch] if id_key else []
        items = push_lines(services, job, [line for _, line in batch], ids)
    except FormatError as error:
        if len(batch) > 1:
            middle = len(batch) // 2
            return _sent(services, job, batch[:middle], id_key) + _sent(services, job, batch[middle:], id_key)
        said = [f"field {one.field!r}: {one.message}" if one.field else one.message for one in error.problems]
        return [Message(batch[0][0], refused="; ".join(said))]
    return [Message(number, item) for (number, _), item in zip(batch, items, strict=True)]


def _id_of(line: bytes, key: str) -> str:
    """Return the object id that a line names; raises FormatError if it names none."""
    from voxpop.formats.model import FormatError, Problem

    try:
        fields: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError([Problem(place="", message=f"broken JSON: {error}")]) from None
    found = fields.get(key) if isinstance(fields, dict) else None
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        shown = msgspec.json.encode(found).decode()[:40]
        message = f"names the object, so text or a whole number is expected, found {shown}"
        raise FormatError([Problem(place="", field=key, message=message)])
    return str(found)
