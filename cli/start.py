"""Where the ``voxpop`` command begins: it ends quietly on Ctrl-C even while its modules are still being loaded."""

from __future__ import annotations

import sys

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main() -> None:
    """Load the command line and run one command."""
    try:
        from voxpop.cli.main import main as run  # a quarter of a second
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()
