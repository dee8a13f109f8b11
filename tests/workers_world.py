"""A small world for tests of the workers: services on a real server and a real folder, jobs, and people who answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from voxpop.broker import Answer, ClaimStatus, JobSpec
from voxpop.broker.config import Config
from voxpop.workers.consolidate import attend
from voxpop.workers.export import export
from voxpop.workers.ingest import ingest
from voxpop.workers.services import Services
from voxpop.workers.sweep import sweep_once

ADDRESS = "127.0.0.1"
PEOPLE = ("ann", "bob", "cleo", "dan")


@dataclass
class World:
    """Everything that a test needs; ``services()`` gives another process's view of the same server and folder."""

    url: str
    folder: Path
    config: Config = field(init=False)
    here: Services = field(init=False)
    open: list[Services] = field(default_factory=list)

    def __post_init__(self):
        self.config = Config.load(
            environment={},
            explicit={"redis_url": self.url, "data_dir": self.folder / "data", "sweep_seconds": 0.5},
        )
        self.here = self.services()
        self.client.create_workforce("private")
        self.client.create_pool("team", "private", PEOPLE)

    @property
    def client(self):
        return self.here.client

    def services(self):
        """Return services with nothing in memory, as a process that was just started has them."""
        made = Services.from_config(self.config)
        self.open.append(made)
        return made

    def close(self):
        for services in self.open:
            services.close()

    def manifest(self, lines, name="in.manifest"):
        path = self.folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path)

    def spec(self, name="j", **changes):
        values = {
            "task_type": "text_single_label",
            "pool": "team",
            "categories": ("a", "b"),
            "replication": 2,
            "retry_seconds": 0.0,
            "method": "majority",
        }
        return JobSpec(name=name, **(values | changes))

    def job(self, lines=3, name="j", **changes):
        """Make a job of so many texts, or of these lines, and queue its input."""
        if isinstance(lines, int):
            lines = [{"source": f"text {index}"} for index in range(lines)]
        self.client.create_job(self.spec(name, input=self.manifest(lines, f"{name}.manifest"), **changes))
        return ingest(self.here, name)

    def claim(self, worker, k=100, job="j"):
        return self.client.claim(job, worker, ADDRESS, k).leases

    def submit(self, worker, leases, choose, job="j"):
        answers = [Answer(lease.token, choose(lease.item), 1.5) for lease in leases]
        return self.client.submit(job, worker, ADDRESS, answers) if answers else []

    def answer(self, worker, choose=lambda _item: {"label": "a"}, k=100, job="j"):
        """Let somebody take up to ``k`` items and answer them; returns how many."""
        return len(self.submit(worker, self.claim(worker, k, job), choose, job))

    def answer_all(self, choose=lambda _worker, _item: {"label": "a"}, people=PEOPLE, k=100, job="j"):
        """Let people work until nobody finds anything."""
        waiting = set(people)
        while waiting:
            for worker in sorted(waiting):
                claim = self.client.claim(job, worker, ADDRESS, k)
                self.submit(worker, claim.leases, lambda item, worker=worker: choose(worker, item), job)
                if not claim.leases and claim.status is not ClaimStatus.MORE:
                    waiting.discard(worker)

    def finish(self, job="j"):
        """Attend and export, as the actors do; returns the job."""
        if attend(self.here, job).is_finished:
            export(self.here, job)
        return self.client.job(job)

    def recover(self, job="j"):
        """Do only what the sweeper asks for, in a new process, until it asks for nothing; returns the job."""
        services, keys = self.services(), self.client.operations.keys
        work = {"attend": attend, "export": export, "ingest": ingest}
        while True:
            wanted = []
            for actor in work:
                self.client.connection.delete(keys.queued(job, actor))
            sweep_once(services, lambda actor, job: wanted.append((actor, job)), set())  # noqa: B023 - used at once
            if not wanted:
                return self.client.job(job)
            for actor, name in wanted:
                work[actor](services, name)

    def output(self, job="j"):
        """Return the lines of the output manifest."""
        path = Path(self.client.job(job).output_uri.removeprefix("file://"))
        return [json.loads(line) for line in path.read_text().splitlines()]
