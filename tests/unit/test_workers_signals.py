"""Stopping by signal: however many come, and wherever the program is when they do, it ends."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys
from voxpop.workers.supervise import stop_requests
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what comes before and after is no business of this test
with stop_requests() as stopping:
    print("ready", flush=True)
    while not stopping.wait(float(sys.argv[1])):
        pass
print("ended", flush=True)

"""


@pytest.mark.parametrize("pause_seconds", ["100", "0.00001"])
def test_a_burst_of_signals(pause_seconds):
    """The kernel sends one for every thread of a dying parent: handlers must not wait for each other."""
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, pause_seconds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                assert child.stdout.readline() == "ready\n"
                for number in range(2_000):
                    os.kill(child.pid, signal.SIGTERM)
                    sum(range(number % 97 * 8))  # another distance each time
                assert wait_for_line(child) == "ended\n"
            finally:
                child.kill()


def wait_for_line(child):
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        assert selector.select(timeout=20), "the program hangs"
    return child.stdout.readline()


def test_a_second_interrupt_is_not_patient():
    """Whoever presses Ctrl-C again does not want to wait any longer."""
    program = PROGRAM.replace(
        "while not stopping.wait(float(sys.argv[1])):\n        pass", "import time; time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGINT)
        os.kill(child.pid, signal.SIGINT)
        while child.poll() is None:
            os.kill(child.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in child.stderr.read()
