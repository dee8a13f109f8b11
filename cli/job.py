"""``voxpop job``: make, see, watch and stop jobs. What a job file says is in ``jobfile.py``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxpop.cli.options import (
    ConfigOption,
    DataDirOption,
    JobArgument,
    JobFileArgument,
    JsonOption,
    RedisOption,
    examples,
)
from voxpop.cli.output import FAILED, Output, table

if TYPE_CHECKING:
    from voxpop.broker import Client
    from voxpop.cli.status import JobView

__all__ = ["app", "until_over"]

app = typer.Typer(help="Jobs: create, list, show, watch, stop.", no_args_is_help=True)

LOOK_SECONDS = 0.25  # between two looks at a job that is watched


@app.command(
    epilog=examples(
        "voxpop job create examples/reviews/job.toml",
        "voxpop job create job.toml --token 2026-11-23-nightly --json",
    )
)
def create(
    file: JobFileArgument,
    token: Annotated[
        str, typer.Option(metavar="TEXT", help="Names this request: sent again, it finds the job that it made.")
    ] = "",
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a job from a job file, with its pool if that is missing.

    The input is checked whole before any of it is queued; what is wrong with it is told by line and field. A job
    without [input] waits for `voxpop push`.
    """
    from voxpop.cli import jobfile
    from voxpop.cli.connection import load_config, open_services
    from voxpop.cli.creation import create_job
    from voxpop.cli.status import described, look

    out = Output(as_json=as_json)
    wanted = jobfile.read(file)
    with open_services(load_config(redis, data_dir, config)) as services:
        create_job(services, wanted, out, token=token)
        view = look(services.client, wanted.name)
    if view.needs:
        out.warn(
            f"job {wanted.name} {view.needs_because}; `voxpop pool members {view.job.spec.pool} --add NAME` adds people"
        )
    out.result(view, described(view))


@app.command("list", epilog=examples("voxpop job list", "voxpop job list --json"))
def list_jobs(
    redis: RedisOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List all jobs, oldest first."""
    from voxpop.cli.connection import connect, load_config
    from voxpop.cli.status import look

    numbers = ("items", "labeled", "failed", "answers")
    with connect(load_config(redis, data_dir, config)) as client:
        views = [look(client, name) for name in client.jobs()]
    rows = table("job", "status", *numbers, "", right=numbers)
    for view in views:
        now = view.counters
        counts = (view.items, now.labeled, now.failed, now.answers) if now else (0, 0, 0, 0)
        rows.add_row(view.job.name, view.job.status.value, *(f"{count:,}" for count in counts), view.needs)
    Output(as_json=as_json).result(
        {"jobs": views}, rows if views else "No jobs yet; `voxpop job create JOB.toml` makes one."
    )


@app.command(epilog=examples("voxpop job show reviews", "voxpop job show reviews --json"))
def show(
    job: JobArgument,
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one job: status, counters, how many people it still needs."""
    from voxpop.cli.connection import connect, load_config
    from voxpop.cli.status import described, look

    with connect(load_config(redis, data_dir, config)) as client:
        view = look(client, job)
    Output(as_json=as_json).result(view, described(view))


@app.command(epilog=examples("voxpop job watch reviews"))
def watch(
    job: JobArgument,
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a job until it ends: items, answers, rate, leases, remaining time. Ctrl-C stops watching, not the job.

    Exit code 1 if the job failed or was stopped.
    """
    from voxpop.broker import JobStatus
    from voxpop.cli.connection import connect, load_config
    from voxpop.cli.status import described

    out = Output(as_json=as_json)
    with connect(load_config(redis, data_dir, config)) as client:
        try:
            view = until_over(client, job, out)
        except KeyboardInterrupt:
            out.note(f"No longer watching; job {job} goes on. `voxpop job stop {job}` would stop it.")
            raise
    out.result(view, described(view))
    if view.job.status is not JobStatus.COMPLETED:
        raise typer.Exit(FAILED)


@app.command(epilog=examples("voxpop job stop reviews", "voxpop job stop reviews --revoke"))
def stop(
    job: JobArgument,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="End held leases too; else their holders may still answer.")
    ] = False,
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a job: once this returns, nobody is given new work. What is answered is kept and exported."""
    from voxpop.cli.connection import connect, load_config
    from voxpop.cli.status import described, look

    with connect(load_config(redis, data_dir, config)) as client:
        client.stop_job(job, revoke=revoke)
        view = look(client, job)
    Output(as_json=as_json).result(view, described(view))


@app.command(epilog=examples("voxpop job schema > job.schema.json"))
def schema(as_json: JsonOption = False) -> None:
    """Print the JSON Schema of job files, for editors."""
    import msgspec

    from voxpop.cli import jobfile

    document: dict[str, Any] = jobfile.schema()
    Output(as_json=as_json).result(document, msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def until_over(client: Client, name: str, out: Output) -> JobView:
    """Show a job until it has ended, and return how it stands then."""
    from voxpop.cli.live import LiveView, snapshot_of
    from voxpop.cli.status import look

    started = time.monotonic()
    view = look(client, name)
    needs = trouble = ""
    with LiveView(out, f"job {name}") as live:
        while not view.job.status.is_final:
            at_seconds = time.monotonic() - started
            if view.needs != needs:
                needs = view.needs
                live.note(at_seconds, view.needs_because or "has enough people now", held=not needs)
            if view.trouble != trouble:
                trouble = view.trouble
                live.note(at_seconds, f"{trouble}; tried again" if trouble else "it gets on again", held=not trouble)
            if view.counters:
                live.update(snapshot_of(view.counters, at_seconds, replication=view.job.spec.replication))
            time.sleep(LOOK_SECONDS)
            view = look(client, name)
    return view
