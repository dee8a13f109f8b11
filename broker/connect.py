"""Connections to one Redis or Valkey server by URL: what a URL may say, what the server must be, and what else is said.

Starting a server lives in ``server.py``. What to do when a connection is lost is the caller's choice, since only the
caller knows which calls may be repeated: the broker's clients decide it in ``faults.py``.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.retry import Retry

from voxpop.broker.errors import BrokerError, ConfigError, ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MIN_REDIS_VERSION",
    "MIN_VALKEY_VERSION",
    "check_url",
    "connect",
    "connect_async",
    "url_database",
    "with_database",
    "without_password",
]

MIN_REDIS_VERSION: Final = (6, 2)
MIN_VALKEY_VERSION: Final = (7, 2)
HEALTH_CHECK_SECONDS: Final = 30
MAX_CONNECTIONS: Final = 10_000

EXAMPLES: Final = "redis://host:6379/0, rediss://user:password@host:6380/0 (TLS) or unix:///path/to/socket?db=0"
COMMON_OPTIONS: Final = frozenset({"db"})
UNIX_OPTIONS: Final = frozenset({"username", "password"})
TLS_PATHS: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
TLS_OPTIONS: Final = TLS_PATHS | {"ssl_cert_reqs", "ssl_check_hostname"}
NO_SUCH_DATABASE: Final = "DB index is out of range"
OPTIONS: Final = {
    "redis": COMMON_OPTIONS,
    "rediss": COMMON_OPTIONS | TLS_OPTIONS,
    "unix": COMMON_OPTIONS | UNIX_OPTIONS,
}


def connect(url: str, *, timeout_seconds: float = 5.0, retry: Retry | None = None) -> redis.Redis:
    """Connect to the server at ``url`` and check that it can be used. Replies are bytes.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user and password where the server has ACL users. TLS
            takes redis-py's ``ssl_ca_certs``, ``ssl_ca_path``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs`` and
            ``ssl_check_hostname`` as query parameters.
        timeout_seconds: for connecting and for each reply; has to be longer than the longest blocking command.
        retry: redis-py's policy for a call whose connection is lost, for clients whose every call may be repeated.
            None: it fails at once with redis-py's ConnectionError or TimeoutError, and the next one connects again.

    Raises:
        ConfigError: the URL is wrong, the user or password is refused, or the server is not one that voxpop runs on.
        ServerUnavailableError: nothing answers there, or its certificate is not trusted.
    """
    check_url(url)
    client = redis.Redis.from_url(url, **_options(timeout_seconds), retry=retry or Retry(NoBackoff(), 0))
    try:
        hello = client.execute_command("HELLO")  # type: ignore[no-untyped-call]  # redis-py leaves it so
    except (redis.exceptions.RedisError, OSError) as error:
        client.close()
        raise _refusal(url, error) from error
    try:
        _check_server(url, hello)
    except BrokerError:
        client.close()
        raise
    return client


async def connect_async(
    url: str, *, timeout_seconds: float = 5.0, retry: redis.asyncio.retry.Retry | None = None
) -> redis.asyncio.Redis:
    """Do the same as ``connect`` for asyncio; the same arguments and errors."""
    check_url(url)
    client = redis.asyncio.Redis.from_url(
        url, **_options(timeout_seconds), retry=retry or redis.asyncio.retry.Retry(NoBackoff(), 0)
    )
    try:
        hello = await client.execute_command("HELLO")  # type: ignore[no-untyped-call]  # redis-py leaves it so
    except (redis.exceptions.RedisError, OSError) as error:
        await client.aclose()
        raise _refusal(url, error) from error
    try:
        _check_server(url, hello)
    except BrokerError:
        await client.aclose()
        raise
    return client


def check_url(url: str) -> None:
    """Raise ConfigError unless ``url`` is one that ``connect`` understands in every part."""
    _split(url)


def url_database(url: str) -> int | None:
    """Return the logical database that ``url`` names, None if it leaves it open; raises ConfigError for a wrong URL."""
    parts, options = _split(url)
    named = options.get("db") or _path_database(parts)
    return int(named) if named else None


def with_database(url: str, database: int) -> str:
    """Return ``url`` for another logical database of the same server; raises ConfigError for a wrong URL."""
    parts, options = _split(url)
    options.pop("db", None)
    if parts.scheme == "unix":
        return _joined(parts, query=urlencode({"db": str(database), **options}))
    return _joined(parts, path=f"/{database}", query=urlencode(options))


def without_password(url: str) -> str:
    """Return ``url`` fit for messages and logs: its password becomes ``***``, wherever it was put by mistake."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    rest = re.sub(r"(?<=[?&]password=)[^&]*", "***", rest)
    head, at, tail = rest.rpartition("@")
    user, colon, _ = head.partition(":")
    return f"{scheme}{separator}{user}{':***' if colon else ''}{at}{tail}"


def _joined(parts: SplitResult, **changes: str) -> str:
    """Put a URL together by hand: urlunsplit drops the empty host of ``unix:///path`` in some versions of Python."""
    parts = parts._replace(**changes)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"


def _path_database(parts: SplitResult) -> str:
    return "" if parts.scheme == "unix" else parts.path.strip("/")


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    """Take a URL apart, or raise a ConfigError that says which part is wrong."""
    try:
        parts = urlsplit(url)
        allowed = OPTIONS.get(parts.scheme)
        if allowed is None or "://" not in url:
            raise _WrongUrlError(f"the scheme is {parts.scheme or 'missing'!r}; expected something like {EXAMPLES}")
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        _check_place(parts)
        _check_options(pairs, allowed, parts)
    except ValueError as error:
        raise ConfigError(f"Redis URL {without_password(url)!r}: {error}") from None
    return parts, dict(pairs)


class _WrongUrlError(ValueError):
    """One part of a URL is wrong; ``_split`` adds the URL."""


def _check_place(parts: SplitResult) -> None:
    if parts.fragment or "@" in parts.path + parts.query:
        raise _WrongUrlError(
            "'@', '/', '#' and '?' in a user name or password have to be written %40, %2F, %23 and %3F"
        )
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2] or parts.path in {"", "/"}:
            raise _WrongUrlError("expected the absolute path of a socket: unix:///path/to/socket?db=0")
        return
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _WrongUrlError("the port is not a number from 1 to 65535")


def _check_options(pairs: list[tuple[str, str]], allowed: frozenset[str], parts: SplitResult) -> None:
    for name, value in pairs:
        if name not in allowed:
            raise _WrongUrlError(f"unknown parameter {name!r}; {parts.scheme}:// takes {', '.join(sorted(allowed))}")
        if name in TLS_PATHS and not Path(value).exists():
            raise _WrongUrlError(f"{name} is {value!r}, expected an existing path")
    options = dict(pairs)
    if len(pairs) != len(options):
        raise _WrongUrlError("a parameter is given twice; give it once")
    path_database = _path_database(parts)
    if path_database and "db" in options:
        raise _WrongUrlError("the database is named twice, in the path and as 'db'; name it once")
    database = options.get("db", path_database)
    if (database or "db" in options) and not (database.isascii() and database.isdigit()):
        raise _WrongUrlError(f"the database is {database!r}; expected a number such as 0")


def _options(timeout_seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        # Everybody who waits for work holds a connection; the server's own limit is the one that counts.
        "max_connections": MAX_CONNECTIONS,
        "decode_responses": False,
        # The same reply shapes in every version of redis-py; and with RESP3 its pool does not notice, before it hands a
        # connection out, that the server closed it.
        "protocol": 2,
        "client_name": "voxpop",
    }


def _check_server(url: str, hello: Sequence[Any]) -> None:
    """Check the reply to HELLO, the one command that every ACL user may call."""
    facts = {bytes(key).decode(): value for key, value in zip(hello[::2], hello[1::2], strict=True)}
    name, version, mode, role = (bytes(facts[key]).decode() for key in ("server", "version", "mode", "role"))
    shown = without_password(url)
    least = MIN_VALKEY_VERSION if name == "valkey" else MIN_REDIS_VERSION
    if tuple(int(part) for part in version.split(".")[:2]) < least:
        raise ConfigError(f"the server at {shown} is {name} {version}; expected Redis >= 6.2 or Valkey >= 7.2")
    if mode != "standalone":
        raise ConfigError(f"the server at {shown} runs in {mode} mode; expected a single server")
    if role != "master":
        raise ConfigError(f"the server at {shown} is a read-only replica; expected the URL of its primary")


def _refusal(url: str, error: Exception) -> BrokerError:
    """Tell why the first call failed, in words that name what to change."""
    shown = without_password(url)
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return ServerUnavailableError(f"the server at {shown} is still loading its data; try again in a moment")
    refused = isinstance(error, redis.exceptions.ResponseError | redis.exceptions.AuthenticationError)
    if refused or NO_SUCH_DATABASE in str(error):  # redis-py's asyncio reports the latter as a lost connection
        return ConfigError(f"the server at {shown} refused the connection: {error}; {_advice_on_refusal(error)}")
    return ServerUnavailableError(f"no server answers at {shown}: {error}; {_advice_on_silence(url, error)}")


def _advice_on_refusal(error: Exception) -> str:
    if "unknown command" in str(error):
        return "expected Redis >= 6.2 or Valkey >= 7.2"
    if NO_SUCH_DATABASE in str(error):
        return "a server has the logical databases 0 to 15 unless it is set otherwise"
    return f"check user and password; expected something like {EXAMPLES}"


def _advice_on_silence(url: str, error: Exception) -> str:
    if _caused_by(error, ssl.SSLError):
        return (
            "name the file of the authority that signed its certificate with ssl_ca_certs=PATH, and check that the "
            "server speaks TLS on this port"
        )
    if url.startswith("unix:"):
        return "check that the server runs, that this is its socket, and that this user may open it"
    return "check that the server runs, and host and port; without a URL voxpop starts an embedded server"


def _caused_by(error: BaseException | None, kind: type[Exception]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
