"""From a job file to a job with its items: pool, input, check, creation, queueing. Used by ``job create`` and ``run``.

Everything that can be wrong is found before the job is made, so that a mended file can be sent under the same name.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from voxpop.broker.errors import ConflictError, NotFoundError
from voxpop.broker.models import JobStatus
from voxpop.cli.output import WrongInputError
from voxpop.cli.status import make_pool
from voxpop.formats import storage
from voxpop.formats.limits import MAX_REPORTED_PROBLEMS
from voxpop.formats.manifest import read_manifest, validate_manifest
from voxpop.formats.model import FormatError, Problem
from voxpop.formats.setup import set_up_manifest
from voxpop.workers.ingest import ItemCheck, ingest
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from voxpop.broker.models import Job, JobSpec
    from voxpop.cli.jobfile import JobFile
    from voxpop.cli.output import Output
    from voxpop.workers.services import Services

__all__ = ["create_job", "find_input"]

SHOWN_UNUSED: Final = 5
LONG_ITEMS: Final = 20_000  # of an input whose reading takes long enough to be told of


def create_job(services: Services, wanted: JobFile, out: Output, *, token: str = "", **changes: Any) -> Job:
    """Make what a job file asks for, and queue its input.

    Args:
        services: the broker and the storage.
        wanted: the job file.
        out: hears of progress and of what was left out.
        token: names the request: the same request again finds the job that it made.
        changes: fields of the job that win over the file's.

    Raises:
        WrongInputError, FormatError, InvalidInputError, StorageError: something is wrong, and no job was made.
        ConflictError: there is another job of this name.
    """
    client = services.client
    allow = None if wanted.workforce.allow is UNSET else wanted.workforce.allow
    make_pool(client, wanted.pool.name, wanted.workforce.name, wanted.pool.members, allow)
    if not token:
        _check_name_is_free(services, wanted.name)
    defaults = {"lease_seconds": services.config.lease_seconds, "retry_seconds": services.config.retry_seconds}
    left_out = {name: value for name, value in defaults.items() if getattr(wanted, name) is UNSET}
    if "input" not in changes:
        changes["input"] = find_input(services, wanted, out)
    spec = wanted.spec(**{"output": wanted.output.dir, **left_out, **changes})
    get_task_type(spec.task_type).check_spec(spec)
    if spec.input:
        _check_input(services, spec, out)
    client.create_job(spec, token)
    ingest(services, spec.name, progress=lambda stage, items, part: _tell(out, stage, items, part))
    job = client.job(spec.name)
    if job.status is JobStatus.FAILED:  # the input changed between the check and the queueing
        raise WrongInputError(f"job {spec.name!r} failed: {job.failure_reason}")
    return job


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


def _check_name_is_free(services: Services, name: str) -> None:
    """Refuse a taken name before a long input is read; the creation itself decides."""
    try:
        services.client.job(name)
    except NotFoundError:
        return
    raise ConflictError(f"job {name!r} exists; choose another name, or look at it: voxpop job show {name}")


def _check_input(services: Services, spec: JobSpec, out: Output) -> None:
    """Check a whole manifest; raises FormatError with the first problems and the count of all."""
    summary = validate_manifest(
        spec.input,
        label_attribute=spec.attribute,
        categories=spec.categories,
        progress=lambda items, part: _tell(out, "check", items, part),
    )
    check = ItemCheck(services, spec)
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
