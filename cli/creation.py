"""From a job file to a job with its items: checks, people, creation, queueing. Used by ``job create`` and ``run``.

Everything that can be wrong is found before anything is changed: a refused file leaves pools and allowlists as they
were, and the mended one can be sent under the same name.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from voxpop.broker.errors import BrokerError, ConflictError, NotFoundError
from voxpop.broker.models import JobStatus
from voxpop.cli.output import WRONG_INPUT, CommandFailedError, WrongInputError, exit_code_of
from voxpop.cli.status import check_people, make_pool
from voxpop.formats import storage
from voxpop.formats.errors import StorageError
from voxpop.formats.limits import MAX_REPORTED_PROBLEMS
from voxpop.formats.local_files import LocalFiles
from voxpop.formats.manifest import read_manifest, validate_manifest
from voxpop.formats.model import FormatError, Problem
from voxpop.formats.setup import set_up_manifest
from voxpop.workers.ingest import ItemCheck, ingest
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxpop.broker.models import Job, JobSpec
    from voxpop.cli.jobfile import JobFile
    from voxpop.cli.output import Output
    from voxpop.workers.services import Services

__all__ = ["check_writable", "create_job", "find_input"]

SHOWN_UNUSED: Final = 5
PROBE: Final = ".voxpop-probe"
LONG_ITEMS: Final = 20_000  # of an input whose reading takes long enough to be told of


def create_job(services: Services, wanted: JobFile, out: Output, *, token: str = "", **changes: Any) -> Job:
    """Make what a job file asks for, and queue its input.

    Args:
        services: the broker and the storage.
        wanted: the job file.
        out: hears of progress and of what was left out.
        token: names the request: the same request again finds the job that it made, and goes on queueing its input.
            People are left as they have become since.
        changes: fields of the job that win over the file's.

    Raises:
        WrongInputError, FormatError, InvalidInputError, StorageError: something is wrong; nothing was changed.
        CommandFailedError: the output cannot be written now; nothing was changed.
        ConflictError: there is another job of this name, or the request made one and asks for something else now, or
            the pool is in another workforce; nothing was changed.
    """
    client = services.client
    defaults = {"lease_seconds": services.config.lease_seconds, "retry_seconds": services.config.retry_seconds}
    left_out = {name: value for name, value in defaults.items() if getattr(wanted, name) is UNSET}
    spec = wanted.spec(**{"output": wanted.output.dir, "input": wanted.input.manifest, **left_out, **changes})
    get_task_type(spec.task_type).check_spec(spec)
    earlier = _job_of(services, spec.name)
    if earlier is not None and not token:
        raise ConflictError(
            f"job {spec.name!r} exists; choose another name, or look at it: voxpop job show {spec.name}"
        )
    if earlier is not None:
        # The manifest that was made for it then is its input still: another one would be another input.
        client.create_job(replace(spec, input=earlier.spec.input) if wanted.input.files else spec, token)
    else:
        _make(services, wanted, spec, out, token)
    ingest(services, spec.name, progress=lambda stage, items, part: _tell(out, stage, items, part))
    job = client.job(spec.name)
    if job.status is JobStatus.FAILED:  # the input changed between the check and the queueing
        raise WrongInputError(f"job {spec.name!r} failed: {job.failure_reason}")
    return job


def _make(services: Services, wanted: JobFile, spec: JobSpec, out: Output, token: str) -> None:
    """Check everything; then make the pool, and the job."""
    allow = None if wanted.workforce.allow is UNSET else wanted.workforce.allow
    people = (wanted.pool.name, wanted.workforce.name, wanted.pool.members, allow)
    check_people(services.client, *people)
    if spec.output:
        check_writable(spec.output)
    with contextlib.ExitStack() as stack:
        if wanted.input.files and not spec.input:
            spec = replace(spec, input=find_input(services, wanted, out))
            stack.enter_context(_dropped_unless_used(services, spec.name, spec.input))
        if spec.input:
            _check_input(services, spec, wanted.pool.members, out)
        make_pool(services.client, *people)
        services.client.create_job(spec, token)


@contextlib.contextmanager
def _dropped_unless_used(services: Services, job: str, uri: str) -> Iterator[None]:
    """Remove a manifest that was just made if what follows fails and no job has it as its input."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(StorageError, BrokerError):  # without an answer it is not known, and it stays
            found = _job_of(services, job)
            if found is None or found.spec.input != uri:
                storage.delete(uri)
        raise


def find_input(services: Services, wanted: JobFile, out: Output) -> str:
    """Return the URI of the job's manifest, made first if the job file names files; empty if items are pushed."""
    given = wanted.input
    if not given.files:
        return given.manifest
    made = set_up_manifest(
        given.files,
        "image" if given.type == "images" else "text",
        now=datetime.now(UTC),
        text_column=given.column or None,
        out_uri=storage.join(services.root, "inputs", wanted.name),
    )
    for unused in made.unused[:SHOWN_UNUSED]:
        out.warn(f"{unused.name} is left out: {unused.reason}")
    if len(made.unused) > SHOWN_UNUSED:
        out.warn(f"... and {len(made.unused) - SHOWN_UNUSED:,} more are left out")
    return made.manifest_uri


def check_writable(place: str) -> None:
    """Find out whether an output can be written: put a small object there, and take it and its folders away again.

    Args:
        place: the folder or URI below which results will go.

    Raises:
        WrongInputError: nothing can be written there.
        CommandFailedError: not now, for a reason that may pass.
    """
    made: list[Path] = []
    try:
        store, path = storage.open_store(place)
        if isinstance(store, LocalFiles):
            folder = Path(path).absolute()
            made = [one for one in (folder, *folder.parents) if not one.exists()]
        probe = storage.join(place, PROBE)
        storage.write_atomic(probe, b"")
        with contextlib.suppress(StorageError):  # who may write may not always remove
            storage.delete(probe)
    except StorageError as error:
        kind = WrongInputError if exit_code_of(error) == WRONG_INPUT else CommandFailedError
        raise kind(f"output {place}: nothing can be written there; choose another place, or mend it: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            for one in made:
                one.rmdir()


def _job_of(services: Services, name: str) -> Job | None:
    """Look for the name before a long input is read; the creation itself decides."""
    try:
        return services.client.job(name)
    except NotFoundError:
        return None


def _check_input(services: Services, spec: JobSpec, joining: Sequence[str], out: Output) -> None:
    """Check a whole manifest; raises FormatError with the first problems and the count of all."""
    summary = validate_manifest(
        spec.input,
        label_attribute=spec.attribute,
        categories=spec.categories,
        progress=lambda items, part: _tell(out, "check", items, part),
    )
    check = ItemCheck(services, spec, joining)
    problems: list[Problem] = []
    count = 0
    for item in read_manifest(spec.input, pinned=summary.version):
        for problem in check.problems(item, f"{spec.input} line {item.index + 1}"):
            count += 1
            if len(problems) < MAX_REPORTED_PROBLEMS:
                problems.append(problem)
    if count:
        raise FormatError(problems, count)


def _tell(out: Output, stage: str, items: int, part: float) -> None:
    """Say how far a long input is; a short one is done before anybody could read it."""
    if part < 1 and items >= LONG_ITEMS:
        out.note(f"{'checking' if stage == 'check' else 'queueing'} the input: {items:,} lines, {part:.0%}")
