"""Faults planted in the scripts, by exact replacement of their text; and how they reach every process of a history.

Each names the rules of the checker by which it may be found. A replacement whose text is no longer there is an error:
the fault must then be planted anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys

import msgspec
from faults import crew

import voxpop.broker.client
from voxpop.broker.scripts import Script, load


class Fault(msgspec.Struct, frozen=True):
    """One thing done wrong."""

    name: str
    scripts: tuple[str, ...]
    right: str
    wrong: str
    rules: frozenset[str]


def fault(name, scripts, right, wrong, *rules):
    return Fault(name, tuple(scripts.split()), right, wrong, frozenset(rules))


FAULTS = (
    fault(
        "head not checked",
        "claim",
        "if cursor < meta.head then\n  cursor = meta.head\nend",
        "cursor = meta.head",
        "2 again",
        "1 tickets",
    ),
    fault(
        "passes not incremented",
        "claim",
        "splice(number, C + at, char(passes + 1))\n          record.slots",
        "record.slots",
        "1 tickets",
    ),
    fault(
        "item closes although somebody is left",
        "submit giveback",
        "if spoken >= meta.people then",
        "if spoken >= 1 then",
        "7 told",
    ),
    fault(
        "item closes although its people are still to come",
        "submit giveback",
        " or meta.people < R then",
        " then",
        "7 told",
    ),
    fault(
        "expired ticket not reopened",
        "expire",
        "give_back(item, record, slot, LAPSED)",
        "slot[2] = LAPSED; keep(item, record)",
        "7 end",
    ),
    fault(
        "slot state not checked on submit",
        "submit",
        "elseif mine[2] == ANSWERED then\n    return mine[3] == digest_of(index) and REPEATED or CONFLICT\n"
        "  elseif mine[3] ~= token.attempt * 2 then\n"
        "    return mine[3] < token.attempt * 2 and UNKNOWN or EXPIRED\n  elseif",
        "elseif",
        "3 once",
        "4 late",
    ),
    fault(
        "digest ignored",
        "submit",
        "return mine[3] == digest_of(index) and REPEATED or CONFLICT",
        "return REPEATED",
        "3 acknowledged",
    ),
    fault("epoch check dropped", "claim", "if epoch < meta.epoch then", "if false then", "5 access"),
    fault("epoch check of submit dropped", "submit", "if epoch < meta.epoch then", "if false then", "5 access"),
    fault("stop ignored by claim", "claim", "if meta.stopping ~= 0 then", "if false then", "6 stop"),
    fault("stop ignored by append", "append", "elseif meta.stopping ~= 0 then", "elseif false then", "6 stop"),
    fault("revocation ignored", "submit", "local revoked = meta.stopping == 2", "local revoked = false", "6 stop"),
    fault("decline does not exclude", "giveback", "slot[2] = DECLINED\n", "slot[2] = RELEASED_RETRY\n", "2 again"),
    fault(
        "returned ticket given twice",
        "claim",
        "      take(item, record, attempt * 2)\n        requeue(item, record, false)",
        "      take(item, record, attempt * 2)\n        requeue(item, record, false)\n"
        "        record.granted = record.granted + 1",
        "1 tickets",
        "7 told",
    ),
    fault(
        "retry time ignored",
        "giveback",
        "give_back(token.item, record, slot, RELEASED)",
        "give_back(token.item, record, slot, RELEASED_RETRY)",
        "2 again",
    ),
    fault("item settled twice", "settle", "splice(number, item % C, SETTLED)", "", "7 end"),
    fault("claim not logged", "claim", "emit(2, 4, ", "local _ = (", "log", "4 forged", "2 again"),
    fault(
        "answer not logged",
        "submit",
        "local used = code == ACCEPTED\n",
        "local used = code == ACCEPTED and meta.seq % 3 > 0\n",
        "3 acknowledged",
    ),
    fault(
        "late answer accepted after the ticket was given away",
        "submit",
        "elseif returned_tickets(item, record) > 0 then",
        "elseif true then",
        "1 tickets",
    ),
    fault(
        "late answer refused although its ticket is free",
        "submit",
        "elseif returned_tickets(item, record) > 0 then",
        "elseif false then",
        "4 late",
    ),
    fault(
        "answer cut short", "submit", "      .. bin(content)", "      .. bin('\"a\"')", "3 content", "3 acknowledged"
    ),
    fault(
        "append twice",
        "append",
        "local first = at < 0 and meta.appended or at",
        "local first = meta.appended",
        "8 append",
    ),
    fault(
        "leases expire early",
        "expire",
        'call("ZRANGE", TIMERS, "-inf", now,',
        'call("ZRANGE", TIMERS, "-inf", now + 50,',
        "4 lease",
    ),
    fault("nobody told of a full item", "submit", "full = answered + 1 == R", "full = false", "7 told"),
)


@contextlib.contextmanager
def in_place(planted):
    """Plant a fault in this process, or None; sync clients run the scripts with it until the block ends."""
    original = voxpop.broker.client.load

    def load_with_fault(name):
        script = load(name)
        if planted is None or name not in planted.scripts:
            return script
        assert script.source.count(planted.right) == 1, (
            f"{planted.name}: {name}.lua no longer holds {planted.right!r} once"
        )
        source = script.source.replace(planted.right, planted.wrong)
        return Script(name, source, hashlib.sha1(source.encode()).hexdigest())

    voxpop.broker.client.load = load_with_fault
    try:
        yield
    finally:
        voxpop.broker.client.load = original


class Start(msgspec.Struct, frozen=True):
    """What a client process is to do."""

    setting: crew.Setting
    role: str
    name: str
    folder: str
    fault: str


def serve():
    """Fork a client process for each line of standard input, and print its pid. Imports are done by then."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    here = os.getpid()
    for line in sys.stdin.buffer:
        start = msgspec.json.decode(line, type=Start)
        pid = os.fork()
        if pid == 0:
            with in_place(next((fault for fault in FAULTS if fault.name == start.fault), None)):
                crew.run_process(start.setting, start.role, start.name, start.folder, lambda: os.getppid() == here)
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
