"""The child's side of a peer: runs tasks in the peer's own Python, asked and answering in JSON lines.

    PEERS_PYTHON serve.py RUNNER.py

The first line out says which versions run here. Then each line in is a request ``{"task": ..., "options": {...}}``, and
each line out its answer: ``{"seconds": ..., "n": ..., "peak_rss_bytes": ..., "extra": {...}}``, or ``{"error": ...}``.
Arrays travel as files that the options name. Only what a task does inside ``with clock:`` is timed, so neither the
start, nor imports, nor reading the data counts. Nothing but the standard library is used here: any peer's Python will
do. The parent's side is ``benchmarks/peer.py``.

A runner is a file with ``versions() -> dict`` and ``TASKS``, functions by name that take the options and the clock, and
return what is to be said besides the seconds: ``n``, the units done, and anything else.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import runpy
import sys
import time
import traceback
from typing import Any, Self


class Clock:
    """Counts the time inside ``with clock:``, all entries together."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since


def peak_rss_bytes() -> int:
    if os.path.exists("/proc/self/status"):  # noqa: PTH110 - any peer's Python
        # Not getrusage: what it says includes the process that started this one.
        with open("/proc/self/status", encoding="ascii", errors="replace") as facts:  # noqa: PTH123 - the same
            return next(int(line.split()[1]) * 1024 for line in facts if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def answer(tasks: dict[str, Any], line: str) -> dict[str, Any]:
    """Return the answer to one request; whatever goes wrong is an answer too."""
    try:
        request = json.loads(line)
        clock = Clock()
        extra = tasks[request["task"]](request["options"], clock)
        n = extra.pop("n")
    except Exception:  # noqa: BLE001 - a peer may raise anything, and the parent is to hear of it
        return {"error": traceback.format_exc(limit=-3).strip()}
    return {"seconds": clock.seconds, "n": n, "peak_rss_bytes": peak_rss_bytes(), "extra": extra}


def main() -> None:
    # What libraries print goes to stderr: stdout carries answers only.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    runner = runpy.run_path(sys.argv[1])
    answers.write(json.dumps({"versions": {"python": platform.python_version(), **runner["versions"]()}}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(runner["TASKS"], line)) + "\n")


if __name__ == "__main__":
    main()
