"""The supervisor, on real processes under a clock of the test's own; and the logs that they write."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading

import dramatiq
import pytest
import servers
import structlog
from dramatiq.brokers.stub import StubBroker
from hypothesis import given
from hypothesis import strategies as st
from waiting import WAIT_SECONDS, is_alive, wait_until

from voxpop.broker.connect import connect
from voxpop.broker.server import EmbeddedServer
from voxpop.workers import logs
from voxpop.workers.supervise import Command, RestartPolicy, Spec, State, Supervisor

# Children say when they are ready, so that no test has to guess.
STAYS = "import time; print('ready', flush=True); time.sleep(600)"
SAYS_BYE = """
import signal, sys, time
def bye(*_):
    print("bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
print("ready", flush=True)
time.sleep(600)
"""
IGNORES = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("grandchild", subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""
SUPERVISOR = f"""
import sys
from voxpop.workers.supervise import Command, Spec, Supervisor, stop_requests
child = {SAYS_BYE!r}
def forward(line):
    sys.stdout.write(line + "\\n")  # one write: two threads come here
    sys.stdout.flush()
specs = [
    Spec(name=name, start=lambda: Command([sys.executable, "-c", child], forward=forward))
    for name in ("one", "two")
]
with stop_requests() as stopping, Supervisor(specs) as supervisor:
    print(*[status.pid for status in supervisor.table()], flush=True)
    supervisor.run(stopping)
"""


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Lines:
    """What children wrote, in order."""

    def __init__(self):
        self.lines = []
        self.changed = threading.Condition()

    def __call__(self, line):
        with self.changed:
            self.lines.append(line)
            self.changed.notify_all()

    def wait_for(self, start, count=1):
        """Wait for lines that start so; return them."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.found(start)) >= count, WAIT_SECONDS), self.lines
            return self.found(start)

    def found(self, start):
        return [line for line in self.lines if line.startswith(start)]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines():
    return Lines()


def python(name, program, lines, **spec):
    return Spec(name=name, start=lambda: Command([sys.executable, "-c", program], forward=lines), **spec)


def is_zombie_or_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def look_until(supervisor, state):
    """Look until the only process is in that state, without moving the clock."""

    def is_so():
        supervisor.run_once()
        return supervisor.table()[0].state is state

    wait_until(is_so, f"the process is {state}")
    return supervisor.table()[0]


# -- policy ----------------------------------------------------------------------------------------------------------


def test_delays_double_up_to_the_longest_and_then_it_is_given_up():
    policy = RestartPolicy(first_delay_seconds=1, longest_delay_seconds=5, max_quick_failures=6)
    assert [policy.delay_seconds(failures) for failures in range(7)] == [1, 1, 2, 4, 5, 5, None]


@given(st.lists(st.floats(0, 100)))
def test_only_quick_failures_in_a_row_count(runs_seconds):
    policy = RestartPolicy(quick_seconds=10)
    failures = 0
    for ran_seconds in runs_seconds:
        failures = policy.failures_after(ran_seconds, failures)
    in_a_row = 0
    for ran_seconds in reversed(runs_seconds):
        if ran_seconds >= 10:
            break
        in_a_row += 1
    assert failures == in_a_row


# -- processes -------------------------------------------------------------------------------------------------------


def test_a_killed_child_is_restarted_after_its_delay(clock, lines):
    with Supervisor([python("actor", STAYS, lines)], clock=clock) as supervisor:
        first = supervisor.table()[0]
        assert (first.name, first.state, first.restarts, first.reason) == ("actor", State.RUNNING, 0, "")
        lines.wait_for("ready")
        clock.now += 60
        assert supervisor.table()[0].uptime_seconds == 60
        os.kill(first.pid, signal.SIGKILL)
        dead = look_until(supervisor, State.WAITING)
        assert dead.reason == "was ended by SIGKILL, after writing:\nready"
        assert (dead.pid, dead.uptime_seconds) == (None, 0.0)
        supervisor.run_once()
        assert supervisor.table()[0].state is State.WAITING
        clock.now += 0.5
        supervisor.run_once()
        again = supervisor.table()[0]
        assert (again.state, again.restarts) == (State.RUNNING, 1)
        assert again.pid != first.pid
        lines.wait_for("ready", count=2)


def test_a_crash_loop_is_given_up_with_the_reason(clock, lines):
    changes = []
    crashing = python("actor", "import sys; print('cannot import birds'); sys.exit(3)", lines)
    with Supervisor([crashing], clock=clock, on_change=lambda status: changes.append(status.state)) as supervisor:
        for _ in range(4):
            look_until(supervisor, State.WAITING)
            clock.now += 10
            supervisor.run_once()
        last = look_until(supervisor, State.GIVEN_UP)
        clock.now += 1000
        supervisor.run_once()
        assert supervisor.table()[0] == last
        assert last.reason == (
            "given up after 5 quick failures; the last: ended with code 3, after writing:\ncannot import birds"
        )
        assert last.restarts == 4
        supervisor.run(threading.Event())  # returns, since nothing is left to look after
    assert changes == [State.RUNNING, State.WAITING] * 4 + [State.RUNNING, State.GIVEN_UP]


def test_a_child_that_lived_long_is_never_given_up(clock, lines):
    with Supervisor([python("actor", STAYS, lines)], clock=clock) as supervisor:
        for _ in range(8):
            clock.now += 11
            os.kill(supervisor.table()[0].pid, signal.SIGKILL)
            look_until(supervisor, State.WAITING)
            clock.now += 10
            supervisor.run_once()
        assert supervisor.table()[0].state is State.RUNNING


def test_a_missing_command_is_named(clock, lines):
    spec = Spec(name="actor", start=lambda: Command(["no-such-program"], forward=lines))
    with Supervisor([spec], clock=clock) as supervisor:
        assert supervisor.table()[0].state is State.WAITING
        for _ in range(4):
            clock.now += 10
            supervisor.run_once()
        status = supervisor.table()[0]
        assert status.state is State.GIVEN_UP
        assert "could not be started: command 'no-such-program' not found; expected a program on PATH" in status.reason


def test_a_port_in_use_is_told_in_the_childs_own_words(clock, lines):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = f"import socket; socket.create_server(('127.0.0.1', {port}))"
        with Supervisor([python("portal", program, lines)], clock=clock) as supervisor:
            assert "Address already in use" in look_until(supervisor, State.WAITING).reason


def test_a_stop_asks_and_waits_and_leaves_no_zombie(clock, lines):
    with Supervisor([python(name, SAYS_BYE, lines) for name in "ab"], clock=clock) as supervisor:
        pids = [status.pid for status in supervisor.table()]
        lines.wait_for("ready", count=2)
    assert len(lines.found("bye")) == 2
    assert [status.state for status in supervisor.table()] == [State.STOPPED] * 2
    assert not any(is_zombie_or_alive(pid) for pid in pids)


def test_a_child_that_does_not_stop_is_killed_with_its_own_children(clock, lines):
    supervisor = Supervisor([python("deaf", IGNORES, lines)], clock=clock)
    supervisor.run_once()
    grandchild = int(lines.wait_for("grandchild")[0].split()[1])
    pid = supervisor.table()[0].pid
    supervisor.stop(grace_seconds=0.2)
    assert not is_zombie_or_alive(pid)
    wait_until(lambda: not is_alive(grandchild), "the grandchild is gone")


def test_what_a_crashed_child_left_is_killed(clock, lines):
    with Supervisor([python("actor", IGNORES, lines)], clock=clock) as supervisor:
        grandchild = int(lines.wait_for("grandchild")[0].split()[1])
        os.kill(supervisor.table()[0].pid, signal.SIGKILL)
        look_until(supervisor, State.WAITING)
        wait_until(lambda: not is_alive(grandchild), "the grandchild is gone")


def test_stages_start_in_order_and_stop_in_reverse(clock, lines):
    changes = []
    specs = [python("actor", SAYS_BYE, lines, stage=1), python("server", SAYS_BYE, lines)]
    with Supervisor(specs, clock=clock, on_change=lambda s: changes.append((s.name, s.state))):
        lines.wait_for("ready", count=2)
    assert changes == [
        ("server", State.RUNNING),
        ("actor", State.RUNNING),
        ("actor", State.STOPPED),
        ("server", State.STOPPED),
    ]


def test_a_later_stage_waits_for_an_earlier_one(clock, lines):
    """Actors do not crash in a row, and are not given up, while it is the server that is down."""
    specs = [
        Spec(name="server", start=lambda: Command(["no-such-program"], forward=lines)),
        python("actor", STAYS, lines, stage=1),
    ]
    with Supervisor(specs, clock=clock) as supervisor:
        for _ in range(4):
            clock.now += 10
            supervisor.run_once()
        assert [status.state for status in supervisor.table()] == [State.GIVEN_UP, State.WAITING]
        supervisor.run(threading.Event())  # returns, since nothing can be started any more


def test_ctrl_c_in_the_terminal_reaches_no_child(clock, lines):
    """It goes to the terminal's session; the supervisor stops its children in their order."""
    with Supervisor([python("actor", STAYS, lines)], clock=clock) as supervisor:
        lines.wait_for("ready")
        pid = supervisor.table()[0].pid
        assert os.getsid(pid) == pid != os.getsid(0)


def test_environment_is_added(lines):
    Command(
        [sys.executable, "-c", "import os; print(os.environ['ADDED'], 'PATH' in os.environ)"],
        env={"ADDED": "yes"},
        forward=lines,
    ).wait(WAIT_SECONDS)
    assert lines.lines == ["yes True"]


def test_an_embedded_server_is_supervised_like_any_process(clock):
    """Killed, it comes back under the same URL with its data."""
    with servers.short_directory() as path, EmbeddedServer(path, appendfsync="no") as server:
        with Supervisor([Spec(name="server", start=server.start)], clock=clock) as supervisor:
            first = supervisor.table()[0]
            client = connect(server.url)
            client.set("vp:key", "kept")
            os.kill(first.pid, signal.SIGKILL)
            assert "was ended by SIGKILL" in look_until(supervisor, State.WAITING).reason
            clock.now += 1
            supervisor.run_once()
            assert supervisor.table()[0].pid not in {None, first.pid}
            assert client.get("vp:key") == b"kept"
        assert supervisor.table()[0].state is State.STOPPED
        assert server.poll() == 0


@pytest.fixture
def supervising():
    """Another process that supervises two children; gives (process, pids of the children)."""
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True)
    try:
        said = [process.stdout.readline().split() for _ in range(3)]  # their pids, and that both are ready
        yield process, [int(word) for words in said for word in words if word != "ready"]
    finally:
        process.kill()
        process.communicate()


def test_no_child_outlives_a_killed_supervisor(supervising):
    process, pids = supervising
    assert len(pids) == 2
    assert all(is_alive(pid) for pid in pids)
    process.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the children are gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_cleanly(supervising, number):
    process, pids = supervising
    process.send_signal(number)
    said, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0
    assert said.split() == ["bye", "bye"]
    assert not any(is_zombie_or_alive(pid) for pid in pids)


# -- logs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def restored_logging():
    """Leave the logging of the other tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_of_structlog_and_the_standard_library(restored_logging):
    stream = io.StringIO()
    logs.configure(log_format="auto", stream=stream)
    structlog.get_logger("voxpop.test").info("item labeled", job="birds", item=7, path=os.sep)
    logging.getLogger("dramatiq.worker").warning("took %d s", 9)
    structlog.get_logger("voxpop.test").debug("not shown")
    try:
        1 / 0  # noqa: B018 - for its traceback
    except ZeroDivisionError:
        structlog.get_logger("voxpop.test").exception("export failed", what={1: object})
    first, second, third = written(stream)
    assert first.pop("ts").endswith("Z")
    assert first == {
        "event": "item labeled",
        "level": "info",
        "logger": "voxpop.test",
        "job": "birds",
        "item": 7,
        "path": "/",
    }
    assert (second["event"], second["level"], second["logger"]) == ("took 9 s", "warning", "dramatiq.worker")
    assert "ZeroDivisionError: division by zero" in third["exception"]


def test_the_console_is_for_people(restored_logging):
    stream = io.StringIO()
    logs.configure(log_format="console", log_level="debug", stream=stream)
    structlog.get_logger("voxpop.test").debug("item labeled", job="birds")
    assert "item labeled" in stream.getvalue()
    assert "job=birds" in stream.getvalue()
    assert "{" not in stream.getvalue()


def test_actors_log_with_their_message_bound(restored_logging):
    """Also through the standard library's loggers; and what one message bound, the next does not see."""
    stream = io.StringIO()
    logs.configure(log_format="json", stream=stream)
    broker = StubBroker(middleware=[logs.LogContext()])

    @dramatiq.actor(broker=broker)
    def export(job=None, item=None):
        structlog.get_logger("voxpop.test").info("exporting")
        logging.getLogger("library").warning("slow")

    sent = [export.send(job="birds", item=3), export.send()]
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    try:
        broker.join(export.queue_name)
        worker.join()
    finally:
        worker.stop()
    lines = [line for line in written(stream) if line["event"] in {"exporting", "slow"}]
    assert [line.get("job") for line in lines] == ["birds", "birds", None, None]
    assert [line.get("item") for line in lines] == [3, 3, None, None]
    assert {line["actor"] for line in lines} == {"export"}
    assert [line["message_id"] for line in lines] == [sent[0].message_id] * 2 + [sent[1].message_id] * 2
    assert structlog.contextvars.get_contextvars() == {}


ABANDONED = """
import sys, tempfile
from pathlib import Path
from voxpop.broker.config import Config
from voxpop.workers.stack import Stack
with tempfile.TemporaryDirectory(prefix="vp") as folder:
    config = Config.load(environment={}, explicit={"data_dir": Path(folder) / "data", "actors": 1})
    stack = Stack(config)
    stack.__enter__()
    print(*(status.pid for status in stack.status()), flush=True)
"""


def test_a_stack_that_nobody_stops_ends_with_the_program():
    """An interrupt between the start and whoever would stop it must not leave a program that never ends."""
    child = subprocess.run([sys.executable, "-c", ABANDONED], capture_output=True, text=True, timeout=60, check=False)
    pids = [int(pid) for pid in child.stdout.split() if pid.isdigit()]
    assert len(pids) == 3, child.stderr
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "everything has ended")
