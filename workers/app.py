"""The processes behind the broker: actors, and the sweeper with its dispatcher. Everything is wired together here.

What one round of each does is elsewhere (``dispatch_once``, ``sweep_once``, the actors); here are the loops around
them, which outlive a server that goes away, and end when they are asked to.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

import dramatiq
import redis
import structlog

from voxpop.broker.errors import BrokerError
from voxpop.formats.errors import StorageError
from voxpop.workers.actors import make_queue, register
from voxpop.workers.dispatch import dispatch_once
from voxpop.workers.services import Services
from voxpop.workers.supervise import stop_requests
from voxpop.workers.sweep import sweep_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from voxpop.broker.config import Config
    from voxpop.workers.dispatch import Enqueue

__all__ = ["run_actors", "run_sweeper"]

log = structlog.get_logger()

POLL_MS: Final = 100  # the longest that an idle actor waits before it looks for messages again
STOP_MS: Final = 5_000  # for messages in work; what is cut off is taken up again by somebody else
RETRY_SECONDS: Final = 1.0


def run_actors(config: Config) -> None:
    """Run actors in this process, ``actor_threads`` at a time, until SIGTERM or SIGINT.

    Raises:
        ConfigError, ServerUnavailableError: the server cannot be used at the start.
    """
    with stop_requests() as stopping, _connected(config) as (services, queue, _):
        worker = dramatiq.Worker(queue, worker_threads=config.actor_threads, worker_timeout=POLL_MS)
        worker.start()
        log.info("actors run", threads=config.actor_threads, storage=services.root)
        stopping.wait()
        worker.stop(timeout=STOP_MS)
        log.info("actors stopped")


def run_sweeper(config: Config) -> None:
    """Run the dispatcher and the sweeper in this process until SIGTERM or SIGINT.

    Raises:
        ConfigError, ServerUnavailableError: the server cannot be used at the start.
    """
    with stop_requests() as stopping, _connected(config) as (services, _, enqueue):
        over: set[str] = set()
        dispatcher = threading.Thread(
            target=_repeat,
            args=(lambda: dispatch_once(services, enqueue), 0.0, stopping),
            name="dispatcher",
        )
        dispatcher.start()
        log.info("sweeper runs", sweep_seconds=config.sweep_seconds)
        # Twice as often as promised, since a flag may have to lapse first: see dispatch.py.
        _repeat(lambda: sweep_once(services, enqueue, over), config.sweep_seconds / 2, stopping)
        dispatcher.join()
        log.info("sweeper stopped")


@contextlib.contextmanager
def _connected(config: Config) -> Iterator[tuple[Services, dramatiq.Broker, Enqueue]]:
    services = Services.from_config(config)
    try:
        queue = make_queue(config)
        yield services, queue, register(queue, services)
    finally:
        services.close()


def _repeat(run_once: Callable[[], object], pause_seconds: float, stopping: threading.Event) -> None:
    """Run something again and again until ``stopping`` is set, whatever the server or the storage do meanwhile."""
    while not stopping.is_set():
        wait_seconds = pause_seconds
        try:
            run_once()
        except (redis.RedisError, BrokerError, StorageError, OSError) as error:
            log.warning("trying again", reason=str(error))
            wait_seconds = max(pause_seconds, RETRY_SECONDS)
        except Exception:
            log.exception("trying again")  # a mistake of ours must not end the loop that everything waits for
            wait_seconds = max(pause_seconds, RETRY_SECONDS)
        stopping.wait(wait_seconds)
