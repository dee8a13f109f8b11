"""The embedded server and its clients when processes are killed, files cut short, and disks full."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading

import pytest
import redis
import servers
from redis.backoff import FullJitterBackoff
from redis.retry import Retry
from waiting import WAIT_SECONDS, is_alive, wait_until

from voxpop.broker import server as server_module
from voxpop.broker.connect import connect
from voxpop.broker.errors import DataDirectoryError
from voxpop.broker.server import EmbeddedServer

# An owner on a system that cannot tie a child to its parent.
UNTIED_OWNER = "import voxpop.broker.server as s; s.tied_to_parent = lambda argv: argv\n" + servers.OWNER


@pytest.fixture
def directory():
    with servers.short_directory() as path:
        yield path / "data"


@contextlib.contextmanager
def owner(program, directory):
    """Another process that runs a server in the directory; gives (process, the server's pid, its URL)."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid, url = process.stdout.readline().split()
    try:
        yield process, int(pid), url
    finally:
        process.kill()
        process.communicate()
        if is_alive(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


def kill(server):
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait(WAIT_SECONDS)


def aof(server):
    return next((server.home / "appendonlydir").glob("*.incr.aof"))


# -- killed ----------------------------------------------------------------------------------------------------------


def test_no_acknowledged_write_is_lost_when_the_server_is_killed(directory):
    """SIGKILL in the middle of a stream of writes: everything that was acknowledged is there after the restart."""
    acknowledged = []
    enough = threading.Event()
    with EmbeddedServer(directory) as server:
        client = connect(server.url)

        def write():
            with contextlib.suppress(redis.exceptions.ConnectionError):
                for number in range(1_000_000):
                    client.rpush("vp:list", number)
                    acknowledged.append(number)
                    if number == 200:
                        enough.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert enough.wait(WAIT_SECONDS)
        kill(server)
        writer.join(WAIT_SECONDS)
        assert server.poll() == -signal.SIGKILL
        server.start()
        kept = [int(number) for number in connect(server.url).lrange("vp:list", 0, -1)]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1  # the last write may have been done and not acknowledged


def test_the_server_ends_when_its_owner_is_killed(directory):
    """On Linux nothing is left of a killed owner: neither the server nor the lock."""
    with owner(servers.OWNER, directory) as (process, pid, url):
        connect(url).set("vp:key", "kept")
        process.kill()
        wait_until(lambda: not is_alive(pid), "the server is gone")
    with EmbeddedServer(directory) as server:
        assert connect(server.url).get("vp:key") == b"kept"


def test_a_server_left_over_from_a_killed_owner_is_stopped_at_the_next_start(directory):
    with owner(UNTIED_OWNER, directory) as (process, pid, url):
        client = connect(url)
        client.set("vp:key", "kept")
        process.kill()
        process.wait()
        assert is_alive(pid)
        assert client.ping()
        with EmbeddedServer(directory) as server:
            assert not is_alive(pid)
            assert server.pid != pid
            assert connect(server.url).get("vp:key") == b"kept"


def test_a_left_over_server_on_a_port_is_replaced_on_the_same_port(directory):
    long = directory / ("x" * 90)
    with owner(UNTIED_OWNER, long) as (process, pid, url):
        process.kill()
        process.wait()
        with EmbeddedServer(long) as server:
            assert server.url == url
            assert not is_alive(pid)


def test_a_left_over_server_that_hangs_is_killed(directory, monkeypatch):
    """A stopped process never takes its SIGTERM."""
    monkeypatch.setattr(server_module, "LEFT_OVER_GRACE_SECONDS", 0.2)
    with owner(UNTIED_OWNER, directory) as (process, pid, url):
        connect(url).set("vp:key", "kept")
        process.kill()
        process.wait()
        os.kill(pid, signal.SIGSTOP)
        with EmbeddedServer(directory) as server:
            assert not is_alive(pid)
            assert connect(server.url).get("vp:key") == b"kept"


def test_a_process_that_got_the_old_servers_pid_is_left_alone(directory):
    """The pid file of a crash may by now name somebody else."""
    with EmbeddedServer(directory) as server:
        path = server.home / "server.json"
        old = path.read_text()
        pid = server.pid
    with servers.process(["sleep", "600"]) as innocent:
        path.write_text(old.replace(f'"pid":{pid}', f'"pid":{innocent.pid}'))
        with EmbeddedServer(directory):
            assert innocent.poll() is None


def test_a_clean_stop_that_hangs_ends_in_a_kill(directory):
    server = EmbeddedServer(directory).start()
    connect(server.url).set("vp:key", "kept")
    os.kill(server.pid, signal.SIGSTOP)
    server.stop(grace_seconds=0.2)
    assert server.poll() == -signal.SIGKILL
    with EmbeddedServer(directory) as again:
        assert connect(again.url).get("vp:key") == b"kept"


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut_bytes", [1, 7, 30])
def test_a_file_cut_short_loses_its_last_command_only(directory, cut_bytes):
    """As a power cut may leave it: the server drops the half command at the end and starts."""
    with EmbeddedServer(directory) as server:
        client = connect(server.url)
        client.set("vp:first", "kept")
        client.set("vp:last", "cut short")
        kill(server)
        path = aof(server)
        os.truncate(path, path.stat().st_size - cut_bytes)
        server.start()
        client = connect(server.url)
        assert client.get("vp:first") == b"kept"
        assert client.get("vp:last") is None
        client.set("vp:last", "again")
    with EmbeddedServer(directory) as server:
        assert connect(server.url).get("vp:last") == b"again"


def limit_file_size(server, size_bytes):
    """Let the server's files grow to ``size_bytes`` and no further: a full disk that needs no disk and no root."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


def push_until_lost(client, size_bytes):
    """Push to ``vp:list`` until the connection is lost; return how many pushes were acknowledged."""
    for acknowledged in range(1_000_000):
        try:
            client.rpush("vp:list", "x" * size_bytes)
        except redis.exceptions.ConnectionError:
            return acknowledged
    raise AssertionError("the disk never filled up")


def test_a_full_disk_under_always_stops_the_server_and_loses_nothing(directory):
    """Valkey ends rather than acknowledge what it cannot keep; with room again all that it acknowledged is there."""
    with EmbeddedServer(directory) as server:
        client = connect(server.url)
        limit_file_size(server, aof(server).stat().st_size + 64 * 1024)
        acknowledged = push_until_lost(client, 1000)
        assert 30 < acknowledged < 70
        assert server.wait(WAIT_SECONDS)
        assert "AOF write error" in server.last_words()
        server.start()
        assert connect(server.url).llen("vp:list") == acknowledged


def test_a_full_disk_under_everysec_refuses_writes_until_there_is_room(directory):
    with EmbeddedServer(directory, appendfsync="everysec") as server:
        client = connect(server.url)
        client.set("vp:key", "kept")
        limit_file_size(server, aof(server).stat().st_size + 1024)

        def is_refused():
            try:
                client.rpush("vp:list", "x" * 1000)
            except redis.exceptions.ResponseError as error:
                return "MISCONF" in str(error)
            return False

        wait_until(is_refused, "writes are refused")
        assert client.get("vp:key") == b"kept"
        length = client.llen("vp:list")
        limit_file_size(server, resource.RLIM_INFINITY)
        wait_until(lambda: not is_refused(), "writes are taken again")
        assert client.llen("vp:list") == length + 1
    with EmbeddedServer(directory) as server:
        assert connect(server.url).llen("vp:list") == length + 1


@contextlib.contextmanager
def small_disk(path):
    """A disk of 16 MiB where this user may mount one; elsewhere the directory itself."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], capture_output=True, check=False
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", path], check=True)


def test_a_start_on_a_full_disk_says_so(directory, monkeypatch):
    """Before anything is written; and once there is room, the data is there."""
    with small_disk(directory) as is_small:
        with EmbeddedServer(directory) as server:
            connect(server.url).set("vp:key", "kept")
        if is_small:
            (directory / "ballast").write_bytes(bytes(9 * 1024**2))
        else:
            monkeypatch.setattr(server_module, "MIN_FREE_BYTES", 2**62)
        with pytest.raises(DataDirectoryError, match=r"the disk of the data directory .* is full.*make room"):
            EmbeddedServer(directory).start()
        monkeypatch.undo()
        (directory / "ballast").unlink(missing_ok=True)
        with EmbeddedServer(directory) as server:
            assert connect(server.url).get("vp:key") == b"kept"


def test_a_disk_that_fills_up_while_running_is_named_at_the_next_start(directory):
    """The whole story on a real small disk; who may not mount one has most of it in the file size limit above."""
    with small_disk(directory) as is_small, EmbeddedServer(directory) as server:
        if not is_small:
            return
        client = connect(server.url)
        acknowledged = push_until_lost(client, 100_000)
        assert server.wait(WAIT_SECONDS)
        assert "AOF write error" in server.last_words()
        with pytest.raises(DataDirectoryError, match="is full"):
            server.start()
        subprocess.run(["mount", "-o", "remount,size=64m", directory], check=True)
        server.start()
        assert connect(server.url).llen("vp:list") == acknowledged


# -- clients ---------------------------------------------------------------------------------------------------------


def test_a_client_that_does_not_repeat_fails_once_at_most_and_then_goes_on(directory):
    with EmbeddedServer(directory) as server:
        client = connect(server.url)
        kill(server)
        with pytest.raises(redis.exceptions.ConnectionError):
            client.incr("vp:count")
        server.start()
        assert client.incr("vp:count") == 1


def test_a_client_that_repeats_waits_for_the_server_to_come_back(directory):
    """A call that surely failed once, against a socket that hangs up, is answered by the server started afterwards."""
    with EmbeddedServer(directory) as server:
        client = connect(server.url, retry=Retry(FullJitterBackoff(cap=1.0, base=0.02), 10))
        client.set("vp:key", "kept")
        kill(server)
        path = server.home / "valkey.sock"
        path.unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def hang_up_then_restart():
                listener.accept()[0].close()
                server.start()

            restarter = threading.Thread(target=hang_up_then_restart)
            restarter.start()
            assert client.get("vp:key") == b"kept"
            restarter.join()


def test_a_loading_server_is_waited_for(directory, monkeypatch):
    """Reading a long file takes longer than the server may be silent; the start is neither over nor failed by then."""
    with EmbeddedServer(directory, appendfsync="no") as server, connect(server.url).pipeline() as pipe:
        for number in range(30_000):
            pipe.set(f"vp:{number}", number)
        pipe.execute()
    plain = EmbeddedServer._configuration
    monkeypatch.setattr(EmbeddedServer, "_configuration", lambda self: plain(self) + "key-load-delay 100\n")
    with EmbeddedServer(directory, start_timeout_seconds=2) as server:
        client = connect(server.url)
        assert client.dbsize() == 30_000
        assert client.config_get("key-load-delay") == {"key-load-delay": "100"}


def test_a_server_that_stays_silent_is_given_up_and_leaves_nothing(directory, monkeypatch):
    """One that never opens its socket: its process is ended, and the directory is free again."""
    silent_binary = directory.parent / "silent"
    silent_binary.write_text("#!/bin/sh\ncase $1 in --version) echo v=9.0.0;; *) exec sleep 600;; esac\n")
    silent_binary.chmod(0o755)
    monkeypatch.setattr(server_module, "get_binary_path", lambda: silent_binary)
    silent = EmbeddedServer(directory, start_timeout_seconds=0.3)
    with pytest.raises(DataDirectoryError, match=r"did not answer within 0\.3 s"):
        silent.start()
    assert silent.poll() == -signal.SIGTERM
    monkeypatch.undo()
    EmbeddedServer(directory).start().stop()
