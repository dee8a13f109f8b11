"""Both clients under one face, for the conformance suite: the same test drives ``Client`` and ``AsyncClient``."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import redis

from voxpop.broker import AsyncClient, Client, JobSpec

INSIDE = "10.0.0.1"


class Caller:
    """Every operation of a client as a plain method that returns its result."""

    def __init__(self, kind, url, **options):
        self.kind, self.url, self.options = kind, url, options
        self.loop = asyncio.new_event_loop() if kind == "async" else None
        self.client = self.wait_for(AsyncClient.from_url(url)) if self.loop else Client.from_url(url)
        vars(self.client).update(options)
        self.threads = ThreadPoolExecutor(1)

    def wait_for(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def __getattr__(self, name):
        method = getattr(self.client, name)
        if self.loop is None:
            return method
        return lambda *args, **kwargs: self.wait_for(method(*args, **kwargs))

    def another(self, **options):
        """A client of its own process, as far as the broker can tell: nothing is shared."""
        return Caller(self.kind, self.url, **{**self.options, **options})

    def later(self, name, *args, **kwargs):
        """Start a call in a thread; returns its future."""
        return self.threads.submit(getattr(self, name), *args, **kwargs)

    def close(self):
        self.threads.shutdown()
        if self.loop:
            self.wait_for(self.client.close())
            self.loop.close()
        else:
            self.client.close()


def job(caller, *, name="job", members=("ann", "bob", "cleo"), allow=(), pool="team", **options):
    """Create a job and its people; returns its name."""
    caller.create_workforce("private", allow)
    caller.create_pool(pool, "private", members)
    settings = {"replication": 2, "lease_seconds": 100.0, "retry_seconds": 0.0, **options}
    caller.create_job(JobSpec(name=name, task_type="text_single_label", pool=pool, **settings))
    return name


def wait_until_blocked(url, count=1):
    """Return when so many clients of the server wait in a blocking command."""
    deadline = time.monotonic() + 30
    with redis.Redis.from_url(url, protocol=2) as connection:
        while connection.info("clients")["blocked_clients"] < count:
            assert time.monotonic() < deadline, "nobody blocks"
            time.sleep(0.002)
