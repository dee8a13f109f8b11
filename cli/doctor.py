"""``voxpop doctor``: is this machine fit to run voxpop, and if not, what to do. It leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import typer

from voxpop.cli.options import ConfigOption, DataDirOption, JsonOption, RedisOption, examples
from voxpop.cli.output import FAILED, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from voxpop.broker.config import Config

__all__ = ["Finding", "examine", "register"]

MIN_PYTHON: Final = (3, 11)
MIN_FREE_BYTES: Final = 1_000_000_000  # of results and of the server's log; below it a big job may stop half-way
MAX_CLOCK_SECONDS: Final = 2.0
PROBE: Final = ".voxpop-doctor"
SIGNS: Final = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""  # what to do; empty if all is well


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        rich_help_panel="Tools",
        epilog=examples("voxpop doctor", "voxpop doctor --redis redis://db.example:6379/0 --json"),
    )(doctor)


def doctor(
    redis: RedisOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Check that this machine can run voxpop; say what to do where it cannot.

    Looks at Python and packages, the embedded server or the one that is named, the data directory, storage, the clock
    and the compiler's cache. Exit code 1 if any check fails.
    """
    from rich.text import Text

    from voxpop.cli.connection import load_config

    findings = list(examine(load_config(redis, data_dir, config)))
    shown = Text()
    for finding in findings:
        sign, colour = SIGNS[finding.state]
        shown.append(f"{sign} ", style=colour).append(f"{finding.check:<16}", style="bold").append(f"{finding.found}\n")
        if finding.advice:
            shown.append(f"{'':18}-> {finding.advice}\n", style=colour)
    worst = "fail" if any(finding.state == "fail" for finding in findings) else "ok"
    shown.append("Something has to be mended." if worst == "fail" else "Ready to run.")
    Output(as_json=as_json).result({"ok": worst == "ok", "findings": findings}, shown)
    if worst == "fail":
        raise typer.Exit(FAILED)


def examine(settings: Config) -> Iterator[Finding]:
    """Yield what each check found; a check that breaks is a finding too."""
    checks: list[tuple[str, Callable[[Config], Iterator[Finding]]]] = [
        ("Python", _python),
        ("packages", _packages),
        ("server", _server),
        ("data directory", _data_directory),
        ("storage", _storage),
        ("compiler cache", _compiler_cache),
    ]
    for name, check in checks:
        try:
            yield from check(settings)
        except Exception as error:  # noqa: BLE001 - a doctor who breaks down says where
            yield Finding(name, "fail", f"{type(error).__name__}: {error}", "mend what the message names")


def _python(_settings: Config) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MIN_PYTHON:
        yield Finding("Python", "ok", f"{version} on {sys.platform}")
    else:
        yield Finding("Python", "fail", version, "install Python 3.11 or newer")


def _packages(_settings: Config) -> Iterator[Finding]:
    found, missing = [], []
    for requirement in metadata.requires("voxpop") or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
        if "extra ==" in requirement:
            continue
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        advice = f"{sys.executable} -m pip install {' '.join(missing)}"
        yield Finding("packages", "fail", f"missing: {', '.join(missing)}", advice)
    else:
        yield Finding("packages", "ok", f"voxpop {metadata.version('voxpop')}, {len(found)} dependencies")


def _server(settings: Config) -> Iterator[Finding]:
    from voxpop.broker.errors import BrokerError
    from voxpop.broker.server import EmbeddedServer
    from voxpop.cli.connection import locate
    from voxpop.cli.output import WrongInputError

    try:
        named = locate(settings).redis_url
    except WrongInputError:
        named = ""
    if named:
        yield from _running_server(named)
        return
    with tempfile.TemporaryDirectory(prefix="vp", ignore_cleanup_errors=True) as folder:
        try:
            with EmbeddedServer(folder) as server:
                facts = _info(server.url)
                yield Finding("embedded server", "ok", f"starts and stops: {_server_version(facts)}")
                yield _clock(server.url)
        except BrokerError as error:
            advice = "name a Redis >= 6.2 or Valkey >= 7.2 server with --redis URL"
            yield Finding("embedded server", "fail", str(error), advice)


def _running_server(url: str) -> Iterator[Finding]:
    from voxpop.broker.connect import without_password
    from voxpop.broker.errors import BrokerError

    shown = without_password(url)
    try:
        facts = _info(url)
    except BrokerError as error:
        yield Finding("server", "fail", str(error), "start it, or name another one with --redis URL")
        return
    yield Finding("server", "ok", f"{_server_version(facts)} at {shown}")
    if not facts:
        yield Finding("persistence", "warn", "unknown: this user may not ask", "allow +info, or check it yourself")
    elif facts.get("aof_enabled"):
        yield Finding("persistence", "ok", "append-only file")
    else:
        advice = "set appendonly yes: without it a crash of the server loses answers that were acknowledged"
        yield Finding("persistence", "warn", "no append-only file", advice)
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Finding("eviction", "fail", f"maxmemory-policy is {policy}", "set it to noeviction, or answers vanish")
    yield _clock(url)


def _info(url: str) -> dict[str, Any]:
    """Return what the server says of itself; empty if its user may not ask."""
    import redis

    from voxpop.broker.connect import connect

    with connect(url) as client:
        try:
            facts: dict[str, Any] = client.info()
        except redis.exceptions.ResponseError:
            return {}
    return facts


def _server_version(facts: dict[str, Any]) -> str:
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return f"Redis {facts['redis_version']}" if "redis_version" in facts else "a server"


def _clock(url: str) -> Finding:
    from voxpop.broker.connect import connect

    with connect(url) as client:
        before = time.time()
        seconds, microseconds = client.time()
        after = time.time()
    off = max(0.0, abs(seconds + microseconds / 1e6 - (before + after) / 2) - (after - before) / 2)
    if off > MAX_CLOCK_SECONDS:
        advice = "set both clocks by NTP; deadlines are the server's, dates in the output this machine's"
        return Finding("clock", "warn", f"{off:.1f} s apart from the server's", advice)
    return Finding("clock", "ok", f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}, as the server's")


def _data_directory(settings: Config) -> Iterator[Finding]:
    from voxpop.broker.server import LAYOUT_VERSION

    folder = settings.data_dir
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        advice = "mend its permissions, or choose another one with --data-dir"
        yield Finding("data directory", "fail", f"{there} cannot be written to", advice)
        return
    free = shutil.disk_usage(there).free
    size = f"{free / 1e9:,.1f} GB free"
    if free < MIN_FREE_BYTES:
        yield Finding("data directory", "warn", f"{folder}: {size}", "make room, or choose another one with --data-dir")
    else:
        yield Finding("data directory", "ok", f"{folder}{'' if folder.exists() else ' (will be made)'}: {size}")
    try:
        layout = msgspec.json.decode((folder / "voxpop.json").read_bytes())["layout"]
    except FileNotFoundError:
        return
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        yield Finding("layout", "fail", f"{folder / 'voxpop.json'}: {error}", "restore it, or choose another directory")
        return
    if layout == LAYOUT_VERSION:
        yield Finding("layout", "ok", f"version {layout}")
    else:
        advice = "use the voxpop that wrote it, or choose another directory with --data-dir"
        yield Finding("layout", "fail", f"version {layout}, expected {LAYOUT_VERSION}", advice)


def _storage(settings: Config) -> Iterator[Finding]:
    from voxpop.formats import storage
    from voxpop.formats.errors import StorageError

    root = settings.storage
    if root == (settings.data_dir / "storage").as_uri():
        yield Finding("storage", "ok", "in the data directory")
        return
    probe = storage.join(root, PROBE)
    sent = str(time.time_ns()).encode()
    try:
        storage.write_atomic(probe, sent)
        same = storage.read_bytes(probe) == sent
    except StorageError as error:
        yield Finding("storage", "fail", str(error), "check the setting storage and its credentials")
        return
    if root.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        Path(unquote(urlsplit(probe).path)).unlink(missing_ok=True)
    state: Literal["ok", "fail"] = "ok" if same else "fail"
    found = f"{root}: wrote and read {PROBE}" if same else f"{root}: {PROBE} reads differently than it was written"
    yield Finding(
        "storage", state, found, "" if same else "somebody else writes there, or the service is not consistent"
    )


def _compiler_cache(_settings: Config) -> Iterator[Finding]:
    import numba

    from voxpop.consolidation.votes import majority

    started = time.perf_counter()
    _compile_something()
    seconds = time.perf_counter() - started
    folder = os.environ.get("NUMBA_CACHE_DIR") or str(Path(majority.__file__).parent / "__pycache__")
    if os.access(folder, os.W_OK) or os.access(Path(folder).parent, os.W_OK):
        yield Finding("compiler cache", "ok", f"numba {numba.__version__}, {folder}: first labels in {seconds:.1f} s")
    else:
        advice = "set NUMBA_CACHE_DIR to a folder that can be written to, so that kernels are compiled only once"
        yield Finding("compiler cache", "warn", f"{folder} cannot be written to", advice)


def _compile_something() -> None:
    from voxpop.consolidation import Votes, get_method

    votes = Votes.from_columns(["a", "a", "b"], ["u", "v", "u"], ["x", "y", "x"])
    get_method("majority").fit(votes)
