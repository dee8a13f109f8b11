"""Waiting in tests for what other processes do: for a condition, with a deadline, never for a time."""

import time

from voxpop.broker import server

WAIT_SECONDS = 30


def wait_until(condition, what, seconds=WAIT_SECONDS):
    """Return once ``condition()`` holds; fail, saying what was waited for, if it does not come to."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def is_alive(pid):
    """Return whether a process runs under this id; one that has ended and is not waited for does not."""
    return server._start_time(pid) is not None
