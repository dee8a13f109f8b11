"""Ending a command that runs an asyncio loop, by SIGTERM as gently as by Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["run_loop"]

T = TypeVar("T")


def run_loop(run: Callable[[Coroutine[Any, Any, T]], T], main: Coroutine[Any, Any, T]) -> T:
    """Run a loop to its end; SIGTERM cancels it first, and ends the process when everything has been cleaned up.

    Python does this for SIGINT only. An exit raised by a signal handler in mid-loop would tear the tasks apart.

    Args:
        run: ``asyncio.run``, or the ``run`` of a Runner.
        main: what to run.

    Raises:
        SystemExit: SIGTERM came.
    """
    former = signal.getsignal(signal.SIGTERM)
    ended = False

    async def guarded() -> T:
        task = asyncio.current_task()

        def end() -> None:
            nonlocal ended
            ended = True
            if task is not None:
                task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        return await main

    try:
        return run(guarded())
    except asyncio.CancelledError:
        if not ended:
            raise
        sys.exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
