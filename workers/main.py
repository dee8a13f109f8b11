"""The program of the processes behind the broker: ``python -m voxpop.workers.main actors|sweep``.

Settings come from ``voxpop.toml`` and the environment, as everywhere.
"""

from __future__ import annotations

import sys

from voxpop.broker.config import Config
from voxpop.broker.errors import BrokerError
from voxpop.workers import app, logs

__all__ = ["main"]

PARTS = {"actors": app.run_actors, "sweep": app.run_sweeper}


def main(argv: list[str]) -> int:
    """Run one part until it is asked to stop; returns the exit code."""
    if len(argv) != 1 or argv[0] not in PARTS:
        sys.stderr.write(f"expected one of {', '.join(PARTS)}, found {' '.join(argv) or 'nothing'}\n")
        return 2
    try:
        config = Config.load()
        logs.configure(log_format=config.log_format, log_level=config.log_level)
        PARTS[argv[0]](config)
    except BrokerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
