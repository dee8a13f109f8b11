"""The transitions of the broker's state: one Lua file each, with a contract at its head.

A file may include parts of ``lib/`` with a line ``--@include name``. Contracts are read by people and by
``tests/unit/test_scripts.py``, which checks that each file states guarantee, KEYS, ARGV and reply.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

__all__ = ["COUNTERS", "SHARD_SCRIPTS", "Script", "load"]

SHARD_SCRIPTS: Final = (
    "open",
    "append",
    "seal",
    "claim",
    "submit",
    "renew",
    "giveback",
    "expire",
    "extend",
    "settle",
    "publish",
    "stop",
    "attend",
    "trim",
    "learn_pool",
)

# The counters that attend.lua returns, in its order, after now_ms, next_ms and dirty.
COUNTERS: Final = (
    "appended",
    "settled",
    "labeled",
    "failed",
    "leased",
    "answers",
    "lapsed",
    "declined",
    "released",
    "head",
    "sealed",
    "stopping",
    "seq",
    "log_bytes",
    "reopened",
    "named",
)


class Script(msgspec.Struct, frozen=True):
    """A transition's source with its includes in place, and the digest under which Redis keeps it."""

    name: str
    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """Return the script called ``name``; raises FileNotFoundError if there is none."""
    here = files(__name__)
    source = (here / f"{name}.lua").read_text("utf-8")
    source = re.sub(
        r"^--@include (\w+)$",
        lambda match: (here / "lib" / f"{match[1]}.lua").read_text("utf-8"),
        source,
        flags=re.MULTILINE,
    )
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
