"""The suite ``million``: a job of a million small items x 3, with everything real.

50 simulated people work through it in claims of 100. An embedded server and actor processes run as in ``voxpop up``;
one process drives the crowd through the blocking client. Measured: rates, the driving process's memory, the server's
memory over time, and that every item ended with a label.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from benchmarks.harness import Case, Measured, SystemFailedError, peak_rss_bytes, voxpop_version
from benchmarks.suite import Context, Step, Suite, Table

from voxpop.broker.client import Client
from voxpop.broker.config import Config
from voxpop.broker.models import JobSpec, JobStatus
from voxpop.simulator.annotators.category import CategoryCrowd, CategorySpec
from voxpop.simulator.bulk import BulkDriver
from voxpop.simulator.session import EventKind
from voxpop.workers.dispatch import request
from voxpop.workers.services import Services
from voxpop.workers.stack import Stack
from voxpop.workers.supervise import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.harness import Run

__all__ = ["SUITE", "Parameters"]

JOB: Final = "million"
CATEGORIES: Final = ("-1", "0", "1")
ITEMS: Final = 1_000_000
QUICK_ITEMS: Final = 20_000
SAMPLE_SECONDS: Final = 1.0
LOG_HIGH_BYTES: Final = 64 * 2**20  # claims wait beyond it: what bounds the server's memory if actors fall behind

Count = Annotated[int, msgspec.Meta(ge=1)]


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set for this suite."""

    items: Count | None = None  # by default a million, or 20,000 if it is to be quick
    workers: Count = 50
    replication: Count = 3
    k: Count = 100  # items a claim
    appendfsync: Literal["always", "everysec", "no"] = "everysec"


def steps(context: Context) -> Sequence[Step]:
    """Return the one thing there is to do."""
    options: Parameters = context.parameters
    items = options.items or (QUICK_ITEMS if context.quick else ITEMS)
    case = f"{items} x {options.replication}, {options.workers} workers, k={options.k}"

    def run(c: Context) -> Iterator[Run]:
        system = Case("voxpop", voxpop_version(), lambda seed: run_once(options, items, seed))
        yield from c.interleave(case, "items", [system], repeats=1)

    return [Step(case, run)]


class Sampler(threading.Thread):
    """Looks at the job, the server's memory and this process's memory once a second."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._ended = threading.Event()
        self._since = time.monotonic()
        self.samples: list[dict[str, float]] = []

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.look()

    def look(self) -> None:
        state = self._client.shard_state(JOB)
        memory: Any = self._client.connection.info("memory")
        self.samples.append(
            {
                "seconds": round(time.monotonic() - self._since, 2),
                "appended": state.appended,
                "answers": state.answers,
                "settled": state.settled,
                "in_flight": state.appended - state.settled,
                "log_bytes": state.log_bytes,
                "server_bytes": memory["used_memory"],
                "driver_rss_bytes": rss_bytes(),
            }
        )

    def stop(self) -> None:
        self._ended.set()
        self.join()
        self.look()


def rss_bytes() -> int:
    """Return this process's resident memory now (Linux), or its peak elsewhere."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_rss_bytes()
    return int(statm.read_text(encoding="ascii").split()[1]) * 4096


def complain(line: str) -> None:
    """Show what the parts log when something is wrong."""
    if '"level":"error"' in line or '"level":"warning"' in line or not line.startswith("{"):
        print(line.rstrip(), file=sys.stderr)


def write_manifest(path: Path, items: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for index in range(items):
            file.write(f'{{"source": "a small item, number {index}"}}\n')


def wait_until(stack: Stack, client: Client, wanted: JobStatus) -> None:
    """Wait until the job has come so far; a job that fails, or a part that gives up, ends the benchmark."""
    while True:
        job = client.job(JOB)
        if job.status in (wanted, JobStatus.COMPLETED):
            return
        if job.status.is_final:
            raise SystemFailedError(f"the job ended as {job.status}: {job.failure_reason}")
        down = [part.name for part in stack.status() if part.state is State.GIVEN_UP]
        if down:
            raise SystemFailedError(f"{', '.join(down)} gave up; see above why")
        time.sleep(0.05)


def run_once(options: Parameters, items: int, seed: int) -> Measured:
    """Run the whole job once."""
    with tempfile.TemporaryDirectory(prefix="vp") as folder:
        directory = Path(folder)
        explicit = {"data_dir": directory, "appendfsync": options.appendfsync, "log_high_bytes": LOG_HIGH_BYTES}
        with Stack(Config.load(environment={}, explicit=explicit), forward=complain) as stack:
            services = Services.from_config(stack.config)
            client = services.client
            write_manifest(directory / "items.manifest", items)
            crowd = CategoryCrowd(CategorySpec(workers=options.workers, seed=seed), CATEGORIES)
            client.create_workforce("simulated", ["127.0.0.0/8"])
            client.create_pool("crowd", "simulated", crowd.workers)
            started = time.monotonic()
            client.create_job(
                JobSpec(
                    name=JOB,
                    task_type="text_single_label",
                    pool="crowd",
                    categories=CATEGORIES,
                    replication=options.replication,
                    input=(directory / "items.manifest").as_uri(),
                    output=(directory / "out").as_uri(),
                )
            )
            request(services, "ingest", JOB)
            sampler = Sampler(Client.from_url(stack.config.redis_url))
            sampler.start()
            wait_until(stack, client, JobStatus.IN_PROGRESS)
            ingested = time.monotonic()
            report = BulkDriver(client, JOB, crowd, k=options.k).run()
            driven = time.monotonic()
            wait_until(stack, client, JobStatus.COMPLETED)
            completed = time.monotonic()
            sampler.stop()
            state = client.shard_state(JOB)
            lines = sum(1 for path in (directory / "out").rglob("output.manifest") for _ in path.open("rb"))
            client.close()
    answers = report.items[EventKind.ANSWERED]
    wrong = [
        f"{name} is {found}, expected {expected}"
        for name, found, expected in (
            ("labeled", state.labeled, items),
            ("answers", answers, items * options.replication),
            ("lines of the output manifest", lines, items),
        )
        if found != expected
    ]
    if wrong:
        raise SystemFailedError("; ".join(wrong))
    return Measured(
        completed - started,
        items,
        figures(sampler.samples, options, items, ingested - started, driven - ingested, completed - driven, answers),
    )


def figures(
    samples: list[dict[str, float]],
    options: Parameters,
    items: int,
    ingest_seconds: float,
    drive_seconds: float,
    export_seconds: float,
    answers: int,
) -> dict[str, Any]:
    """Return what the report says, from the raw samples, which stay with it."""
    working = [sample for sample in samples if ingest_seconds <= sample["seconds"] <= ingest_seconds + drive_seconds]
    quarter = working[len(working) // 4 :] or samples
    return {
        "items": items,
        "workers": options.workers,
        "replication": options.replication,
        "k": options.k,
        "appendfsync": options.appendfsync,
        "ingest_seconds": round(ingest_seconds, 2),
        "drive_seconds": round(drive_seconds, 2),
        "export_seconds": round(export_seconds, 2),
        "items_per_second_ingested": round(items / ingest_seconds),
        "answers_per_second": round(answers / drive_seconds),
        "server_bytes_peak": max(sample["server_bytes"] for sample in samples),
        "server_bytes_at_end": samples[-1]["server_bytes"],
        "log_bytes_peak": max(sample["log_bytes"] for sample in samples),
        "driver_rss_bytes_after_a_quarter": quarter[0]["driver_rss_bytes"],
        "driver_rss_bytes_at_end_of_work": quarter[-1]["driver_rss_bytes"],
        "samples": samples,
    }


def tables(runs: Sequence[Run]) -> list[Table]:
    """Return what each run measured besides its rate."""
    if not runs:
        return []
    names = [name for name in runs[0].extra if name != "samples"]
    rows = [[name.replace("_", " "), *(_shown(name, run.extra[name]) for run in runs)] for name in names]
    return [Table("The job", ["", *(f"seed {run.seed}" for run in runs)], rows)]


def _shown(name: str, value: Any) -> str:
    if "bytes" in name:
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


SUITE: Final = Suite(
    name="million",
    about="a job of a million items x 3 through server, actors and client",
    steps=steps,
    parameters=Parameters,
    tables=tables,
)
