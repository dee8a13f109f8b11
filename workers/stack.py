"""Everything that runs behind a job on one machine: a server, actor processes, one sweeper process.

``voxpop up``, ``run`` and ``demo`` stand on this. How processes are kept alive is in ``supervise.py``; what they do is
in ``app.py``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from voxpop.broker.errors import ServerUnavailableError
from voxpop.broker.server import EmbeddedServer
from voxpop.workers.supervise import LOOK_SECONDS, Command, Spec, State, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from voxpop.broker.config import Config
    from voxpop.workers.supervise import Status

__all__ = ["Stack"]

SERVER: Final = "server"
ACTORS: Final = "actors"
SWEEPER: Final = "sweeper"


class Stack:
    """The running parts; use it as a context manager. Its own thread keeps them alive.

    Args:
        config: the settings. Without a ``redis_url`` an embedded server is started in ``data_dir``.
        forward: called with every line that a part writes to its log, from other threads.
        on_change: called with a part's status whenever its state changes, from another thread.
    """

    def __init__(
        self,
        config: Config,
        *,
        forward: Callable[[str], None] = lambda _line: None,
        on_change: Callable[[Status], None] = lambda _status: None,
    ) -> None:
        self._config = config
        self._forward = forward
        self._server: EmbeddedServer | None = None
        if not config.redis_url:
            self._server = EmbeddedServer(
                config.data_dir,
                appendfsync=config.appendfsync,
                max_memory_bytes=config.max_memory_bytes,
                port=config.server_port,
            )
        self._supervisor = Supervisor(self._specs(), on_change=on_change)
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        # Children are tied to the thread that starts them, also when they are started again.
        self._thread = threading.Thread(target=self._run, name="supervisor")

    @property
    def config(self) -> Config:
        """The settings of the running stack: ``redis_url`` names its server, the embedded one too."""
        return self._config.at_server(self._server.url) if self._server else self._config

    def __enter__(self) -> Self:
        """Start everything; returns when the server answers and the processes are started.

        Raises:
            DataDirectoryError: the embedded server cannot run there; nothing was started.
        """
        try:
            self._thread.start()
            self._started.wait()
        except BaseException:  # an interrupt: __exit__ will not be called
            self.__exit__(None, None, None)
            raise
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._thread.ident is not None:  # an interrupt may have come before it was started
            self._thread.join()

    def status(self) -> list[Status]:
        """Return one row a part, in the order in which they are started."""
        return self._supervisor.table()

    def kill_one_actor(self) -> int:
        """End one actor process by SIGKILL, as a crash would; returns its process id. It is started again.

        Raises:
            ServerUnavailableError: none runs at the moment.
        """
        for status in self.status():
            if status.name.startswith(ACTORS) and status.state is State.RUNNING and status.pid is not None:
                os.kill(status.pid, signal.SIGKILL)
                return status.pid
        raise ServerUnavailableError("no actor process runs at the moment; wait until one is started again")

    def _specs(self) -> list[Spec]:
        parts = [*(f"{ACTORS} {number + 1}" for number in range(self._config.actors)), SWEEPER]
        specs = [Spec(name=name, stage=1, start=partial(self._start, name)) for name in parts]
        if self._server:
            specs.insert(0, Spec(name=SERVER, stage=0, start=self._server.start))
        return specs

    def _start(self, name: str) -> Command:
        part = "sweep" if name == SWEEPER else "actors"
        return Command(
            [sys.executable, "-m", "voxpop.workers.main", part],
            env=self.config.environment(),
            forward=self._forward,
        )

    def _run(self) -> None:
        try:
            try:
                if self._server:
                    self._server.start()  # here, so that what is wrong is said to the caller, and not tried again
                self._supervisor.run_once()  # the server
                self._supervisor.run_once()  # what stands on it
            except BaseException as error:  # noqa: BLE001 - handed on to the thread that waits for it
                self._failure = error
                return
            finally:
                self._started.set()
            self._supervisor.run(self._stopping)
            while not self._stopping.wait(LOOK_SECONDS) and threading.main_thread().is_alive():
                pass
        finally:
            self._supervisor.stop()
            if self._server:
                self._server.stop()
