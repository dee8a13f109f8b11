"""Fixtures that every test may ask for. A server is started once a test process, when the first test asks for it.

``server_url`` runs a test on each server; ``valkey_url`` on the embedded one only. Both hand out an empty server.
"""

from __future__ import annotations

import os

import pytest
import redis
import servers

# pytest-xdist tells its workers a terminal width, which commands under test would honour.
os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def valkey():
    """The embedded Valkey, shared by the tests of this process: ask for ``valkey_url`` to have it empty."""
    with servers.embedded_valkey() as server:
        yield server


@pytest.fixture(scope="session")
def redis7():
    """The machine's redis-server, shared by the tests of this process."""
    if servers.REDIS_SERVER is None:
        pytest.skip("redis-server is not installed")
    with servers.redis_server() as server:
        yield server


@pytest.fixture(params=["valkey", "redis7"])
def server_url(request):
    """The URL of an empty server; the test runs once for each."""
    return emptied(request.getfixturevalue(request.param))


@pytest.fixture
def valkey_url(valkey):
    """The URL of an empty embedded Valkey."""
    return emptied(valkey)


def emptied(server):
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.flushall()
        client.script_flush()
    return server.url
