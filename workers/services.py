"""What every function behind the broker needs from outside: the broker, the settings, the storage, the clock.

Nothing here does work. Passed in everywhere, so that tests bring their own server, folder and clock.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Self

from voxpop.broker.client import Client
from voxpop.broker.errors import ConfigError
from voxpop.formats import storage
from voxpop.workers.ledger import Ledgers
from voxpop.workers.payloads import SegmentCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from voxpop.broker.config import Config

__all__ = ["Services"]


def _system_now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclasses.dataclass(frozen=True)
class Services:
    """The outside world of the functions in this folder. Safe to share between threads.

    Attributes:
        client: the broker.
        config: the settings; ``redis_url`` names the server that ``client`` is connected to.
        root: URI of the storage under which ``jobs/<job>/<created at>/`` lies.
        now_ms: the time, milliseconds since the epoch; stamps labels.
        ledgers: what this process has read of each job's archive; forgetting it costs time, never truth.
        segments: the payloads that this process read last.
    """

    client: Client
    config: Config
    root: str
    now_ms: Callable[[], int] = _system_now_ms
    ledgers: Ledgers = dataclasses.field(default_factory=Ledgers)
    segments: SegmentCache = dataclasses.field(default_factory=SegmentCache)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Connect to the server that the settings name.

        Raises:
            ConfigError: they name none, since the embedded one is not started, or it cannot be used.
            ServerUnavailableError: nobody answers there.
        """
        if not config.redis_url:
            raise ConfigError(
                "setting redis_url is empty, and no embedded server was started; run `voxpop up`, or name a server"
            )
        client = Client.from_url(config.redis_url, prefix=config.key_prefix)
        client.operations.log_high_bytes = config.log_high_bytes
        return cls(client=client, config=config, root=config.storage)

    def uri(self, job: str, *parts: str) -> str:
        """Return the URI of something that belongs to a job.

        The time of its creation is part of it: storage outlives servers, and another job of the same name must not
        take what an earlier one left.

        Raises:
            NotFoundError: no such job.
        """
        return storage.join(self.root, "jobs", job, str(self.client.job(job).created_at_ms), *parts)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()
