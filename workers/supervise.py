"""A small supervisor of processes: starts them, restarts those that die, stops them all, and tells how they are.

What is decided is pure (``RestartPolicy``); the loop around it looks at every process once in a while (``run_once``).
What is run is the business of ``voxpop up``; the embedded server has the shape of a supervised process too.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Final, Protocol, Self

import msgspec

from voxpop.broker.errors import BrokerError
from voxpop.broker.server import tied_to_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType, TracebackType

__all__ = [
    "LOOK_SECONDS",
    "Command",
    "Process",
    "RestartPolicy",
    "Spec",
    "State",
    "Status",
    "Supervisor",
    "stop_requests",
]

LOOK_SECONDS: Final = 0.1
QUOTED_LINES: Final = 12
READER_SECONDS: Final = 1.0  # a daemon that left the group may hold the pipe for ever
MAX_LINE_BYTES: Final = 65_536


class Process(Protocol):
    """A started process, as far as the supervisor cares. ``Command`` and ``EmbeddedServer`` are such."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """Return None while it runs, else its exit code (negative: the signal that ended it)."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for its end; return whether it ended."""

    def last_words(self) -> str:
        """Return the last lines that it wrote."""


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a process that died is started again, and when it is given up."""

    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 10.0
    quick_seconds: float = 10.0  # a process that lived shorter than this failed quickly
    max_quick_failures: int = 5  # so many in a row, and it is given up

    def failures_after(self, ran_seconds: float, quick_failures: int) -> int:
        """Return how many quick failures there are in a row, after one more run."""
        return quick_failures + 1 if ran_seconds < self.quick_seconds else 0

    def delay_seconds(self, quick_failures: int) -> float | None:
        """Return how long to wait before the next start, doubling with every quick failure; None to give up."""
        if quick_failures >= self.max_quick_failures:
            return None
        doubled: float = self.first_delay_seconds * 2 ** max(0, quick_failures - 1)
        return min(self.longest_delay_seconds, doubled)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. ``start`` returns once the process runs; an OSError or BrokerError counts as a failure.

    A process is started only while all those of earlier stages run, and stopped after all those of later stages.
    """

    name: str
    start: Callable[[], Process]
    stage: int = 0
    restart: RestartPolicy = RestartPolicy()


class State(StrEnum):
    """How a supervised process is."""

    RUNNING = "running"
    WAITING = "waiting"  # to be started, or started again
    GIVEN_UP = "given up"
    STOPPED = "stopped"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the supervisor's table."""

    name: str
    state: State
    pid: int | None
    restarts: int
    uptime_seconds: float
    reason: str  # why it last ended; empty if it never did


class Supervisor:
    """Keeps processes running. Use it as a context manager, which starts them and stops them all.

    Args:
        specs: what to run; names are unique.
        clock: seconds, never going back.
        on_change: called with a process's status whenever its state changes.
    """

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[Status], None] = lambda _status: None,
    ) -> None:
        self._charges = [_Charge(spec, clock, on_change) for spec in sorted(specs, key=lambda spec: spec.stage)]

    def run_once(self) -> None:
        """Look at every process once: start those that are due, take notice of those that died."""
        for charge in self._charges:
            charge.look(may_start=self._earlier(charge) <= {State.RUNNING})

    def run(self, stopping: threading.Event) -> None:
        """Look again and again, until ``stopping`` is set or nothing runs any more and nothing will.

        It also ends with the main thread: an interrupt between two lines may leave nobody who could set ``stopping``.
        """
        while any(
            charge.state is State.RUNNING
            or (charge.state is State.WAITING and State.GIVEN_UP not in self._earlier(charge))
            for charge in self._charges
        ):
            self.run_once()
            if stopping.wait(LOOK_SECONDS) or not threading.main_thread().is_alive():
                return

    def _earlier(self, charge: _Charge) -> set[State]:
        return {other.state for other in self._charges if other.spec.stage < charge.spec.stage}

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """Stop everything, the last stage first; whatever has not ended after the grace of its stage is killed."""
        try:
            for stage in sorted({charge.spec.stage for charge in self._charges}, reverse=True):
                ending = [charge for charge in self._charges if charge.spec.stage == stage]
                for charge in ending:
                    charge.terminate()
                deadline = time.monotonic() + grace_seconds
                for charge in ending:
                    charge.end(max(0.0, deadline - time.monotonic()))
        except BaseException:  # such as another Ctrl-C: no more grace
            for charge in reversed(self._charges):
                charge.end(0.0)
            raise

    def table(self) -> list[Status]:
        """Return how every process is, in the order in which they are started."""
        return [charge.status() for charge in self._charges]

    def __enter__(self) -> Self:
        try:
            self.run_once()
        except BaseException:
            self.stop(grace_seconds=0.0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Charge:
    """One supervised process over all its lives."""

    def __init__(self, spec: Spec, clock: Callable[[], float], on_change: Callable[[Status], None]) -> None:
        self.spec = spec
        self.state = State.WAITING
        self._clock = clock
        self._on_change = on_change
        self._process: Process | None = None
        self._starts = 0
        self._quick_failures = 0
        self._started_at = self._due_at = clock()
        self._reason = ""

    def look(self, *, may_start: bool) -> None:
        if self.state is State.RUNNING and self._process:
            code = self._process.poll()
            if code is not None:
                self._failed(_told(code, self._process.last_words()))
        elif self.state is State.WAITING and may_start and self._clock() >= self._due_at:
            self._start()

    def terminate(self) -> None:
        if self.state is State.RUNNING and self._process:
            self._process.terminate()

    def end(self, grace_seconds: float) -> None:
        if self._process and not self._process.wait(grace_seconds):
            self._process.kill()
            self._process.wait(grace_seconds + 10.0)
        if self.state in {State.RUNNING, State.WAITING}:
            self._turn(State.STOPPED)

    def status(self) -> Status:
        is_running = self.state is State.RUNNING
        return Status(
            name=self.spec.name,
            state=self.state,
            pid=self._process.pid if self._process and is_running else None,
            restarts=max(0, self._starts - 1),
            uptime_seconds=self._clock() - self._started_at if is_running else 0.0,
            reason=self._reason,
        )

    def _start(self) -> None:
        self._starts += 1
        self._started_at = self._clock()
        try:
            self._process = self.spec.start()
        except (OSError, BrokerError) as error:
            self._process = None
            self._failed(f"could not be started: {error}")
        else:
            self._turn(State.RUNNING)

    def _failed(self, reason: str) -> None:
        policy = self.spec.restart
        self._quick_failures = policy.failures_after(self._clock() - self._started_at, self._quick_failures)
        delay_seconds = policy.delay_seconds(self._quick_failures)
        if delay_seconds is None:
            self._reason = f"given up after {self._quick_failures} quick failures; the last: {reason}"
            self._turn(State.GIVEN_UP)
        else:
            self._reason = reason
            self._due_at = self._clock() + delay_seconds
            self._turn(State.WAITING)

    def _turn(self, state: State) -> None:
        self.state = state
        self._on_change(self.status())


class Command:
    """A child process made from a command line; on Linux it is sent SIGTERM when the thread that started it dies.

    Its output, both streams together, is handed on line by line. It has a session of its own, so that Ctrl-C in the
    terminal reaches its owner only, who stops it in good order.

    Args:
        argv: the program, found on PATH unless it is a path, and its arguments.
        env: added to this process's environment.
        forward: called with every line, from a thread of this child's own.

    Raises:
        OSError: there is no such program, or it cannot be run.
    """

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, forward: Callable[[str], None]
    ) -> None:
        if shutil.which(argv[0]) is None:
            raise FileNotFoundError(f"command {argv[0]!r} not found; expected a program on PATH or a path to one")
        self._name = shlex.join(argv)
        self._forward = forward
        self._last_lines: deque[str] = deque(maxlen=QUOTED_LINES)
        self._process = subprocess.Popen(  # noqa: S603 - running the given command is the purpose
            tied_to_parent(list(argv)),
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), name=self._name, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id; also of its session and process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return None while it runs, else its exit code; what it left of its process group is then killed."""
        had_ended = self._process.returncode is not None
        code = self._process.poll()
        if code is not None and not had_ended:
            self._kill_group()
        return code

    def terminate(self) -> None:
        """Send SIGTERM, to the process alone: it knows how to stop its own children."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process; ``wait`` and ``poll`` do the same to what it leaves of its process group."""
        self._process.kill()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for its end; return whether it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)
            self._kill_group()
            self._reader.join(READER_SECONDS)
        return self._process.returncode is not None

    def last_words(self) -> str:
        """Return the last lines that it wrote."""
        if self._process.returncode is not None:
            self._reader.join(READER_SECONDS)
        return "\n".join(self._last_lines)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: the latter if all are zombies
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self, output: IO[bytes]) -> None:
        with output:
            while line := output.readline(MAX_LINE_BYTES):
                text = line.decode(errors="replace").rstrip("\n")
                self._last_lines.append(text)
                self._forward(text)


@contextlib.contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Give an event that SIGINT or SIGTERM sets, in the main thread; a SIGINT after either raises KeyboardInterrupt.

    Handlers only write to a pipe, and a thread sets the event: a handler may run while another, or the very thread that
    waits for the event, holds the event's lock, and would then wait for ever. The kernel sends SIGTERM several times in
    a row when a parent with threads dies.
    """
    stopping = threading.Event()
    reader, writer = os.pipe()
    is_requested = False

    def request(number: int, _frame: FrameType | None) -> None:
        nonlocal is_requested
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough
        elif is_requested:
            raise KeyboardInterrupt
        is_requested = True
        os.write(writer, b".")

    def relay() -> None:
        if os.read(reader, 1):
            stopping.set()

    thread = threading.Thread(target=relay, name="stop requests", daemon=True)
    thread.start()
    former = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(writer)
        thread.join()
        os.close(reader)


def _told(code: int, words: str) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"{how}, after writing:\n{words}" if words else f"{how}, without a word"
