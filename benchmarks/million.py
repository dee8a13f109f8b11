"""A job of a million small items x 3, worked through by 50 simulated people in claims of 100, with everything real.

    python -m benchmarks.million [--items 1000000] [--workers 50] [--replication 3] [--k 100] [--json FILE]

Run it from the root of the repository. An embedded server and actor processes run as in ``voxpop up``; one process
drives the crowd through the blocking client. Measured: rates, the driving process's memory, the server's memory over
time, and that every item ended with a label.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Case, Measured, interleave, peak_rss_bytes, render, summarise, voxpop_version, write_runs

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

JOB: Final = "million"
CATEGORIES: Final = ("-1", "0", "1")
SAMPLE_SECONDS: Final = 1.0
LOG_HIGH_BYTES: Final = 64 * 2**20  # claims wait beyond it: what bounds the server's memory if actors fall behind


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
            sys.exit(f"the job ended as {job.status}: {job.failure_reason}")
        down = [part.name for part in stack.status() if part.state is State.GIVEN_UP]
        if down:
            sys.exit(f"{', '.join(down)} gave up; see above why")
        time.sleep(0.05)


def run_once(options: argparse.Namespace, seed: int) -> Measured:
    """Run the whole job once."""
    with tempfile.TemporaryDirectory(prefix="vp") as folder:
        directory = Path(folder)
        explicit = {"data_dir": directory, "appendfsync": options.appendfsync, "log_high_bytes": LOG_HIGH_BYTES}
        with Stack(Config.load(environment={}, explicit=explicit), forward=complain) as stack:
            services = Services.from_config(stack.config)
            client = services.client
            write_manifest(directory / "items.manifest", options.items)
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
            ("labeled", state.labeled, options.items),
            ("answers", answers, options.items * options.replication),
            ("lines of the output manifest", lines, options.items),
        )
        if found != expected
    ]
    if wrong:
        sys.exit("; ".join(wrong))
    return Measured(
        completed - started,
        options.items,
        figures(sampler.samples, options, ingested - started, driven - ingested, completed - driven, answers),
    )


def figures(
    samples: list[dict[str, float]],
    options: argparse.Namespace,
    ingest_seconds: float,
    drive_seconds: float,
    export_seconds: float,
    answers: int,
) -> dict[str, Any]:
    """Return what the report says, from the raw samples, which stay with it."""
    working = [sample for sample in samples if ingest_seconds <= sample["seconds"] <= ingest_seconds + drive_seconds]
    quarter = working[len(working) // 4 :] or samples
    return {
        "items": options.items,
        "workers": options.workers,
        "replication": options.replication,
        "k": options.k,
        "appendfsync": options.appendfsync,
        "ingest_seconds": round(ingest_seconds, 2),
        "drive_seconds": round(drive_seconds, 2),
        "export_seconds": round(export_seconds, 2),
        "items_per_second_ingested": round(options.items / ingest_seconds),
        "answers_per_second": round(answers / drive_seconds),
        "server_bytes_peak": max(sample["server_bytes"] for sample in samples),
        "server_bytes_at_end": samples[-1]["server_bytes"],
        "log_bytes_peak": max(sample["log_bytes"] for sample in samples),
        "driver_rss_bytes_after_a_quarter": quarter[0]["driver_rss_bytes"],
        "driver_rss_bytes_at_end_of_work": quarter[-1]["driver_rss_bytes"],
        "samples": samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--replication", type=int, default=3)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--appendfsync", choices=["always", "everysec", "no"], default="everysec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="append the raw runs to this file")
    options = parser.parse_args()
    case = f"{options.items} x {options.replication}, {options.workers} workers, k={options.k}"
    system = Case("voxpop", voxpop_version(), lambda seed: run_once(options, seed))
    runs = list(interleave("million", case, "items", [system], repeats=options.repeats, seed=options.seed))
    if options.json:
        write_runs(options.json, runs)
    print(render(summarise(runs)))
    for run in runs:
        print(json.dumps({name: value for name, value in run.extra.items() if name != "samples"}, indent=1))


if __name__ == "__main__":
    main()
