"""Real servers for tests: how each is started and stopped. The fixtures that hand them out stand in ``conftest.py``."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from voxpop.broker.server import EmbeddedServer, tied_to_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

REDIS_SERVER = shutil.which("redis-server")
START_SECONDS = 30
TLS_USER = "pusher"
TLS_PASSWORD = "p@ss/word"

# The program of an owner that can be killed: starts a server in the directory it is given, prints its pid and URL, and
# stays until its input ends.
OWNER = """
import sys
from voxpop.broker.server import EmbeddedServer
with EmbeddedServer(sys.argv[1]) as server:
    print(server.pid, server.url, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class RunningServer:
    """A server that a test may talk to, and may kill: it is this test process's own."""

    name: str
    url: str
    pid: int


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name; pytest's own are too long for that."""
    path = Path(tempfile.mkdtemp(prefix="vp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def embedded_valkey() -> Iterator[RunningServer]:
    """The wheel's Valkey, as users get it, but without the disk's delay."""
    with short_directory() as path, EmbeddedServer(path, appendfsync="no") as server:
        yield RunningServer("valkey", server.url, server.pid)


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RunningServer]:
    """The machine's own redis-server on a private socket."""
    if REDIS_SERVER is None:
        raise FileNotFoundError("redis-server is not installed")
    with short_directory() as path:
        socket_path = path / "redis.sock"
        with process(
            [REDIS_SERVER, "--port", "0", "--unixsocket", socket_path, "--dir", path, "--save", "", *options]
        ) as child:
            url = f"unix://{socket_path}?db=0"
            wait_for_ping(url, child)
            yield RunningServer("redis7", url, child.pid)


@contextlib.contextmanager
def tls_redis_server(directory: Path) -> Iterator[RunningServer]:
    """A redis-server that speaks only TLS, to ``TLS_USER``, who may use voxpop's keys; the wheel has no TLS."""
    port = free_port()
    authority, certificate, key = certificates(directory)
    config = directory / "redis.conf"
    config.write_text(
        f'port 0\ntls-port {port}\nbind 127.0.0.1\ntls-auth-clients no\nsave ""\ndir {directory}\n'
        f"tls-ca-cert-file {authority}\ntls-cert-file {certificate}\ntls-key-file {key}\n"
        f"user default off\nuser {TLS_USER} on >{TLS_PASSWORD} ~vp:* +@all -@dangerous\n"
    )
    url = f"rediss://{TLS_USER}:{quote(TLS_PASSWORD, safe='')}@localhost:{port}/0?ssl_ca_certs={authority}"
    with process([REDIS_SERVER, config]) as child:
        wait_for_ping(url, child)
        yield RunningServer("redis7", url, child.pid)


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """Write a new authority, and a certificate for localhost with its key; return the three files."""
    now = datetime.now(UTC)

    def certificate(name, key, issuer, issuer_key, extension):
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )

    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voxpop tests")])
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = certificate(
        authority_name, authority_key, authority_name, authority_key, x509.BasicConstraints(ca=True, path_length=None)
    )
    served = certificate(
        server_name,
        server_key,
        authority_name,
        authority_key,
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
    )
    paths = directory / "ca.pem", directory / "server.pem", directory / "server.key"
    pem = serialization.Encoding.PEM
    paths[0].write_bytes(authority.public_bytes(pem))
    paths[1].write_bytes(served.public_bytes(pem))
    paths[2].write_bytes(server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths


@contextlib.contextmanager
def process(argv: list[object]) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with the test, and with the test process whatever happens to it."""
    child = subprocess.Popen(tied_to_parent([str(word) for word in argv]), stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for_ping(url: str, child: subprocess.Popen[bytes], **options: object) -> None:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(url, protocol=2, **options) as client:
        while True:
            try:
                client.ping()
            except redis.exceptions.ConnectionError:
                assert child.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.01)
            else:
                return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
