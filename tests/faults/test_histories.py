"""Random concurrent histories against real servers, with clients killed at random points: no promise is broken.

``VOXPOP_HISTORIES`` sets how many histories are made in all, half on each server (default 40); ``VOXPOP_HISTORY_SEED``
where their seeds begin. A history is: several processes that claim, answer, give back and lose leases of the same
people, a policy, a pusher and sometimes an administrator; each may get SIGKILL in mid-call, and is replaced. Then the
job is brought to its end, and ``voxpop.broker.history`` joins all journals with the log.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import servers
from faults import crew, planted

from voxpop.broker import Client
from voxpop.broker.history import Journal, read_journal, write_entry
from voxpop.broker.server import EmbeddedServer

HISTORIES = int(os.environ.get("VOXPOP_HISTORIES", "40"))
FIRST_SEED = int(os.environ.get("VOXPOP_HISTORY_SEED", "0"))
BATCHES = 4
MOST_TURNS = 40  # histories in which a planted fault must be found


class Processes:
    """Starts client processes quickly, and kills them."""

    def __init__(self, forker):
        self.forker = forker

    def start(self, setting, role, name, folder, fault):
        order = planted.Start(setting, role, name, str(folder), fault.name if fault else "")
        self.forker.stdin.write(msgspec.json.encode(order) + b"\n")
        self.forker.stdin.flush()
        pid = int(self.forker.stdout.readline())
        while not (folder / f"{name}.jsonl").exists():  # it is at work
            time.sleep(0.002)
        return pid

    def kill(self, pid):
        """Returns when the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            while True:
                os.kill(pid, 0)
                time.sleep(0.001)


@pytest.fixture(scope="module")
def processes():
    """Ends, with all that it started, when the tests of this file do."""
    environment = {**os.environ, "PYTHONPATH": str(Path(planted.__file__).parents[1])}
    command = [sys.executable, "-m", "faults.planted"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as forker:
        yield Processes(forker)
        forker.stdin.close()


def run_history(processes, url, seed, folder, fault=None, upset=lambda: None):
    """Make one history and return (what the checker finds, how many calls were cut by a kill).

    ``upset`` is called after each kill, while the others are at work.
    """
    setting, rng = crew.random_setting(seed, url, "server"), random.Random(f"{seed} kills")
    folder.mkdir()
    roles = ["worker"] * rng.choice((2, 3)) + ["policy", "pusher"] + ["admin"] * setting.restless
    with (
        Client.from_url(url, prefix=setting.prefix) as client,
        (folder / "parent.jsonl").open("wb") as file,
        planted.in_place(fault),
    ):
        crew.create(client, setting)
        journal = Journal(client, lambda entry: write_entry(file, entry), "parent")
        running, count = {}, 0
        try:
            for _ in range(rng.randint(3, 6)):
                for role in dict.fromkeys(roles):
                    while list(running.values()).count(role) < roles.count(role):
                        count += 1
                        running[processes.start(setting, role, f"{role}{count}", folder, fault)] = role
                time.sleep(rng.uniform(0.01, 0.12))
                unlucky = rng.choice(list(running))
                processes.kill(unlucky)
                del running[unlucky]
                upset()
            if setting.stop:
                journal.stop_job(crew.JOB, revoke=setting.stop == "revoke")
                time.sleep(0.03)  # the others notice
        finally:
            for pid in running:
                processes.kill(pid)
        crew.finish(setting, journal, rng, lambda: 0, lambda: time.sleep(0.02))
        entries = crew.read_folder(folder)
        unanswered = len({(entry.process, entry.call) for entry in entries}) * 2 - len(entries)
        return crew.judge(client, setting, entries), unanswered


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_promise_is_broken_when_clients_are_killed(server_url, processes, tmp_path, batch):
    """Whatever the processes do and wherever they are killed, the checker finds nothing."""
    in_mid_call = 0
    for seed in range(FIRST_SEED + batch, FIRST_SEED + HISTORIES // 2, BATCHES):
        found, calls = run_history(processes, server_url, seed, tmp_path / str(seed))
        assert not found, f"seed {seed}: {found[:5]}"
        in_mid_call += calls
    assert in_mid_call, "nobody was killed in mid-call: the histories are too short"


def test_no_promise_is_broken_when_the_server_is_killed(processes, tmp_path):
    """With ``appendfsync always``: SIGKILL to the server, again and again, and what it acknowledged is still there."""
    with servers.short_directory() as path, EmbeddedServer(path, appendfsync="always") as server:

        def upset():
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            server.start()

        for seed in range(FIRST_SEED, FIRST_SEED + max(3, HISTORIES // 20)):
            found, _ = run_history(processes, server.url, seed, tmp_path / str(seed), upset=upset)
            assert not found, f"seed {seed}: {found[:5]}"


def test_no_promise_is_broken_when_clients_take_turns(server_url):
    """The same crew in one process, under a clock of its own: the histories that planted faults are found in."""
    for seed in range(FIRST_SEED, FIRST_SEED + 20):
        found = crew.take_turns(seed, server_url)
        assert not found, f"seed {seed}: {found[:5]}"


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: fault.name)
def test_the_checker_finds_each_planted_fault(valkey_url, fault):
    """A script that does wrong and logs consistently is found within a bounded number of histories."""
    with planted.in_place(fault):
        for seed in range(1000, 1000 + MOST_TURNS):
            found = crew.take_turns(seed, valkey_url)
            if found:
                assert {violation.rule for violation in found} & fault.rules, found
                return
    pytest.fail(f"{fault.name}: {MOST_TURNS} histories and no violation")


def test_a_planted_fault_is_found_among_killed_processes(valkey_url, processes, tmp_path):
    """Faults reach the client processes too, and their journals tell."""
    fault = next(fault for fault in planted.FAULTS if fault.name == "head not checked")
    found = []
    for seed in range(20):
        found += run_history(processes, valkey_url, seed, tmp_path / str(seed), fault)[0]
        if found:
            break
    assert {violation.rule for violation in found} & fault.rules


def test_a_line_that_a_kill_cut_is_left_out():
    """The last line of a killed client may be incomplete; anything else that is no entry is an error."""
    whole = b'{"t":1.0,"process":"a","call":1,"event":"invoked","op":"claim"}\n'
    assert len(list(read_journal([whole, whole[:30]]))) == 1
