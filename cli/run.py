"""``voxpop run``: a whole job from one file, with nothing running before or after.

Here the command: what is started, in which order, and what is said in the end. Who answers is in ``crowds.py``, what
the labels are worth in ``results.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shlex
import shutil
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec
import typer

from voxpop.cli.interrupts import run_loop
from voxpop.cli.options import ConfigOption, DataDirOption, JobFileArgument, JsonOption, RedisOption, examples
from voxpop.cli.output import FAILED, CommandFailedError, Output, WrongInputError, own_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxpop.broker.config import Config
    from voxpop.cli.crowds import Cast, Sources
    from voxpop.cli.jobfile import JobFile
    from voxpop.cli.status import JobView
    from voxpop.formats.model import Item
    from voxpop.simulator.driver import DriverReport
    from voxpop.workers.services import Services
    from voxpop.workers.stack import Stack

__all__ = ["register"]

LOOK_SECONDS: Final = 0.25  # between two looks at the job
# A crowd that does not think needs no long leases; somebody who walked away would hold up the end.
LEASE_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 3.0  # after which nobody else is waited for, where people are known to be missing
SPEED: Final = 500.0  # fast, but people who never think would form the same groups around every item
TROUBLE_SECONDS: Final = 10.0  # what fails for so long, and three sweeps, is given up
LOG_LINES: Final = 30  # of the parts, told if one of them is given up


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        rich_help_panel="Try it",
        epilog=examples(
            "voxpop run examples/reviews/job.toml --crowd simulated:careful-team "
            "--gold examples/reviews/gold.csv --out out/",
            "voxpop run examples/bluebirds/job.toml --out out/",
            "voxpop run job.toml --crowd replay:answers.csv.gz --gold truth.csv.gz --out out/ --json",
        ),
    )(run)


def run(
    file: JobFileArgument,
    crowd: Annotated[
        str, typer.Option(metavar="WHO", help="replay:FILE, simulated or simulated:SPEC; else as in the job file.")
    ] = "",
    gold: Annotated[str, typer.Option(metavar="FILE", help="Gold labels: columns item, label.")] = "",
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the labels go; else as in the job file.")] = "",
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole job with a recorded or simulated crowd; nothing has to run for it.

    A private server and the processes behind it are started, the crowd answers as fast as it can, the output is
    written to DIR/JOB, a report to DIR/JOB-report.html, and everything is stopped. With --data-dir the server's data
    are kept.
    """
    from voxpop.cli import jobfile
    from voxpop.cli.crowds import read_sources

    printer = Output(as_json=as_json)
    wanted = jobfile.read(file)
    who = crowd or wanted.crowd.who
    if not who:
        raise WrongInputError(f"{file}: who answers? Give --crowd replay:FILE or --crowd simulated, or write [crowd]")
    target = _target(out, wanted)
    sources = read_sources(who, gold or wanted.crowd.gold)
    started = time.monotonic()
    kept = ""
    try:
        with _home(redis, data_dir, config) as home, _parts(home.settings, printer) as stack:
            kept = home.kept
            view = _worked(stack, wanted, sources, target, printer, kept=kept)
        seconds = time.monotonic() - started
        has_report = True
        if view.job.output_uri:
            again = f"{own_command()} {shlex.join(['run', str(file), *_again(crowd, gold, target)])}"
            has_report = _told(view, sources, target, seconds, again, printer)
    except KeyboardInterrupt as interrupt:
        # Only now, when nothing works any more, is it known what there is.
        printer.warn(_left_behind(target, wanted.name, interrupt, kept))
        raise
    if view.job.failure_reason:
        raise CommandFailedError(f"job {view.job.name} failed: {view.job.failure_reason}")
    if view.job.status.value != "Completed" or not has_report:
        raise typer.Exit(FAILED)


def _again(crowd: str, gold: str, target: str) -> Iterator[str]:
    """Yield the options that do the same once more, beside what this run left."""
    for name, value in (("--crowd", crowd), ("--gold", gold), ("--out", f"{target}-again")):
        if value:
            yield from (name, value)


def _told(view: JobView, sources: Sources, target: str, seconds: float, again: str, printer: Output) -> bool:
    """Write the report where that is possible, and print what the run came to; returns whether all could be written."""
    from voxpop.cli.jobfile import HAS_SCHEME
    from voxpop.cli.report import write_report
    from voxpop.cli.results import evaluated, reported, shown, summary, unmatched_gold
    from voxpop.simulator.spec import Replay

    page = None if HAS_SCHEME.match(target) else Path(target) / f"{view.job.name}-report.html"
    found = evaluated(view, sources.gold) if page or sources.gold else None
    problem = ""
    if page and found:
        people = "recorded" if isinstance(sources.who, Replay) else "simulated"
        made = reported(view, found, people=people, seconds=seconds, page=str(page), repeat=again)
        try:
            write_report(made, page)
        except OSError as error:
            problem = f"the report cannot be written to {page}: {error.strerror or error}; the labels are complete"
            page = None
    else:
        printer.note(f"Note: {target} is object storage, where no report is written; --out FOLDER writes one.")
    told = summary(view, found, seconds=seconds, report=str(page) if page else None)
    printer.result(told, *shown(told, found))
    if found and (unmatched := unmatched_gold(found, sources.gold)):
        printer.warn(unmatched)
    if problem:
        printer.warn(problem)
    return not problem


def _target(out: str, wanted: JobFile) -> str:
    """Return where the output goes, after making sure that it mixes with nothing."""
    from voxpop.cli.creation import check_writable
    from voxpop.cli.jobfile import HAS_SCHEME

    given = out or wanted.output.dir
    if not given:
        raise WrongInputError("where should the labels go? Give --out DIR, or write [output] dir in the job file")
    if given.startswith("file:///"):
        given = unquote(given.removeprefix("file://"))
    if HAS_SCHEME.match(given):
        check_writable(given)
        return given
    folder = Path(given).expanduser().absolute()
    if (folder / wanted.name).exists():
        raise WrongInputError(f"{folder / wanted.name} is there already; choose another --out, or remove it")
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        raise WrongInputError(f"--out {given}: {existing} is no folder; expected a folder, or the name of a new one")
    check_writable(str(folder))
    return str(folder)


class _Home(NamedTuple):
    """Where a run lives."""

    settings: Config
    kept: str  # what an interrupted run leaves, in words


@contextlib.contextmanager
def _home(redis: str | None, data_dir: Path | None, config: Path | None) -> Iterator[_Home]:
    """Give the settings of this run: in a temporary data directory, unless one or a server is named."""
    from voxpop.cli.connection import load_config

    settings = load_config(redis, data_dir, config)
    if settings.redis_url or data_dir is not None:
        if settings.redis_url:
            kept = "job and answers are kept on the server: `voxpop job list --redis URL`"
        else:
            kept = f"job and answers are kept: `voxpop up --data-dir {data_dir}` shows them to the other commands"
        yield _Home(settings, f"{kept}; the crowd cannot go on, so run it again under another name")
        return
    folder = Path(tempfile.mkdtemp(prefix="vp"))  # a short name: the server's socket lies in it
    try:
        temporary = "the server was a temporary one, so nothing is kept; with --data-dir DIR it would be"
        settings = load_config(redis, folder, config)
        # Nothing of this server outlives the run, so nothing has to wait for the disk.
        yield _Home(msgspec.structs.replace(settings, appendfsync="no"), temporary)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _parts(settings: Config, out: Output) -> Iterator[Stack]:
    """Run a server and what works behind it; if one of the parts is given up, say what it said last."""
    from voxpop.workers.stack import Stack

    lines: deque[str] = deque(maxlen=LOG_LINES)
    out.note("Starting the server and the processes behind it ...")
    with Stack(settings, forward=lines.append) as stack:
        try:
            yield stack
        except _PartGivenUpError as error:
            raise CommandFailedError("\n".join([str(error), *lines])) from error


class _JobStuckError(Exception):
    """What works behind the job failed in several attempts."""


class _PartGivenUpError(Exception):
    """A part of the stack failed so often that it is not started again."""


def _worked(stack: Stack, wanted: JobFile, sources: Sources, target: str, out: Output, *, kept: str) -> JobView:
    """Make the job, let the crowd work until it has ended, and return how it stands then."""
    from voxpop.broker.errors import BrokerError, ServerUnavailableError
    from voxpop.cli.connection import open_services
    from voxpop.cli.creation import create_job
    from voxpop.cli.jobfile import PoolSection
    from voxpop.cli.status import look

    with open_services(stack.config) as services:
        cast, uri = _prepared(services, wanted, sources, out)
        if cast.note:
            out.note(f"Note: {cast.note}.")
        pool = PoolSection(name=wanted.pool.name, members=cast.crowd.workers)
        pace = {"lease_seconds": LEASE_SECONDS, "retry_seconds": RETRY_SECONDS}
        changes: dict[str, Any] = {
            name: value for name, value in pace.items() if getattr(wanted, name) is msgspec.UNSET
        }
        changes |= {"input": uri, "output": target, **cast.changes}
        create_job(services, msgspec.structs.replace(wanted, pool=pool), out, **changes)
        view = look(services.client, wanted.name)
        if view.needs:
            out.warn(f"job {wanted.name} {view.needs_because}; it will be stopped when nobody has anything left to do")
        try:
            run_loop(asyncio.run, _until_over(stack, services, cast, view, out))
        except KeyboardInterrupt:
            with contextlib.suppress(BrokerError):
                counters = look(services.client, wanted.name).counters
                raise KeyboardInterrupt(f"with {counters.answers if counters else 0:,} answers") from None
            raise
        except (_JobStuckError, ServerUnavailableError) as error:
            raise CommandFailedError(f"{error}; {kept}{_left_over(target, wanted.name)}") from None
        return look(services.client, wanted.name)


def _left_behind(target: str, job: str, interrupt: KeyboardInterrupt, kept: str) -> str:
    """Say what an interrupted run has left, once everything has stopped."""
    from voxpop.cli.jobfile import HAS_SCHEME
    from voxpop.workers.export import MANIFEST

    manifest = Path(target) / job / MANIFEST
    if not HAS_SCHEME.match(target) and manifest.exists():
        return f"interrupted; the labels are complete in {manifest}, the report was not written"
    when = " ".join(["interrupted", *map(str, interrupt.args)])
    return "; ".join(filter(None, [when, kept])) + _left_over(target, job)


def _left_over(target: str, job: str) -> str:
    """Say which folder an export that was cut short has left."""
    from voxpop.cli.jobfile import HAS_SCHEME

    folder = Path(target) / job
    if HAS_SCHEME.match(target) or not folder.exists():
        return ""
    return f"; {folder} is unfinished: remove it before the next run, or choose another --out"


def _prepared(services: Services, wanted: JobFile, sources: Sources, out: Output) -> tuple[Cast, str]:
    """Return the crowd and the URI of the job's manifest."""
    from voxpop.cli.creation import find_input
    from voxpop.cli.crowds import cast
    from voxpop.formats import storage
    from voxpop.formats.augmented import encode_json

    uri = find_input(services, wanted, out)
    made = cast(sources, wanted, list(_read(uri, wanted)) if uri else None)
    if made.items is None:
        if not uri:
            raise WrongInputError(
                f"job {wanted.name!r} has no [input]: a simulated crowd needs items; write [input] in the job file"
            )
        return made, uri
    uri = storage.join(services.root, "inputs", wanted.name, "replay.manifest")
    with storage.open_writer(uri) as file:
        for fields in made.items:
            file.write(encode_json(fields) + b"\n")
    return made, uri


def _read(uri: str, wanted: JobFile) -> Iterator[Item]:
    """Yield the items of a manifest, once all of it was found right."""
    from voxpop.formats.manifest import read_manifest, validate_manifest

    found = validate_manifest(uri, label_attribute=wanted.spec().attribute, categories=wanted.categories)
    yield from read_manifest(uri, pinned=found.version)


async def _until_over(stack: Stack, services: Services, cast: Cast, view: JobView, out: Output) -> None:
    """Let the crowd work, show how it goes, and wait for the output. Cancelled, people give back what they hold."""
    from voxpop.broker import AsyncClient
    from voxpop.simulator.bulk import BulkDriver
    from voxpop.simulator.driver import AsyncDriver

    spec = view.job.spec
    idle_seconds = IDLE_SECONDS if view.people_needed else spec.lease_seconds + spec.retry_seconds + IDLE_SECONDS
    if spec.assignment == "named":
        idle_seconds = math.inf  # everybody's tickets are their own: nobody waits in vain
    async with await AsyncClient.from_url(stack.config.redis_url, prefix=stack.config.key_prefix) as client:
        driver: AsyncDriver | BulkDriver
        if cast.page:
            driver = BulkDriver(services.client, spec.name, cast.crowd, k=cast.page, idle_seconds=idle_seconds)
            working = asyncio.create_task(asyncio.to_thread(driver.run))
        else:
            driver = AsyncDriver(client, spec.name, cast.crowd, speed=SPEED, idle_seconds=idle_seconds)
            working = asyncio.create_task(driver.run())
        try:
            await _watch(stack, services, spec.name, working, out)
        finally:
            driver.stop()
            await working


async def _watch(stack: Stack, services: Services, job: str, working: asyncio.Task[DriverReport], out: Output) -> None:
    """Show the job until it has ended; stop it once everybody has left and items are still open."""
    from voxpop.cli.live import LiveView, snapshot_of
    from voxpop.cli.status import look
    from voxpop.simulator.driver import Reason

    started = time.monotonic()
    is_stopped = False
    trouble, since = "", started
    patience_seconds = max(TROUBLE_SECONDS, 3 * stack.config.sweep_seconds)
    with LiveView(out, f"job {job}") as live:
        while True:
            view = await asyncio.to_thread(look, services.client, job)
            if view.counters:
                at_seconds = time.monotonic() - started
                live.update(snapshot_of(view.counters, at_seconds, replication=view.job.spec.replication))
            if view.job.status.is_final:
                return
            if bool(view.trouble) != bool(trouble):
                since = time.monotonic()
                if view.trouble:
                    live.note(since - started, view.trouble, held=False)
            trouble = view.trouble
            if trouble and time.monotonic() - since > patience_seconds:
                raise _JobStuckError(f"job {job}: {trouble}")
            if given_up := next((part for part in stack.status() if part.state == "given up"), None):
                raise _PartGivenUpError(f"{given_up.name} {given_up.reason}; its last lines:")
            has_left = working.done() and working.result().reason is not Reason.JOB_ENDED
            if has_left and not is_stopped and view.counters and view.counters.wants_answers:
                live.note(time.monotonic() - started, "everybody has left; stopping the job", held=False)
                await asyncio.to_thread(services.client.stop_job, job, revoke=True)
                is_stopped = True
            await asyncio.wait({working}, timeout=LOOK_SECONDS) if not working.done() else await asyncio.sleep(0.05)
