"""Peers: other people's programs, each run in its own environment by a child process that speaks JSON lines.

Here the parent's side: which peers there are, whether one is installed, and one call at a time with a time limit. The
child's side is ``peers/serve.py``; what is called, and with which settings, is in ``peers/<peer>/runner.py``.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec
from benchmarks.harness import ROOT, Measured, SystemFailedError

__all__ = ["PEERS", "VENVS", "Peer", "PeerFailedError", "PeerInfo", "PeerMissingError", "open_peer", "peer_infos"]

T = TypeVar("T")

PEERS: Final = ROOT / "benchmarks" / "peers"
VENVS: Final = ROOT / "benchmarks" / ".venvs"
SERVE: Final = PEERS / "serve.py"
START_SECONDS: Final = 300.0  # a first import in a fresh environment compiles hundreds of files
MAX_TOLD: Final = 1_500  # characters of what a child wrote before it died


class PeerMissingError(Exception):
    """A peer is not installed, or in another version than the one pinned; the message says how to install it."""


class PeerFailedError(SystemFailedError):
    """A peer did not answer, or answered that it failed; the message names it and what it said."""


class PeerInfo(msgspec.Struct, frozen=True):
    """What stands in a peer's folder."""

    name: str  # as people call it
    folder: str
    distribution: str  # the package whose version counts
    version: str  # the one that is pinned
    why: str
    configuration: str

    @property
    def python(self) -> Path:
        """Where its interpreter is, once installed."""
        return VENVS / self.folder / "bin" / "python"

    @property
    def is_installed(self) -> bool:
        """Whether its environment was made to its end."""
        return self.python.exists() and (VENVS / self.folder / ".installed").exists()


class _PeerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``peer.toml``."""

    name: str
    distribution: str
    why: str
    configuration: str


class _Answer(msgspec.Struct, frozen=True):
    error: str | None = None
    seconds: float = 0.0
    n: int = 0
    peak_rss_bytes: int = 0
    extra: dict[str, Any] = {}


class _Hello(msgspec.Struct, frozen=True):
    versions: dict[str, str]


def peer_infos() -> list[PeerInfo]:
    """Return all peers, by folder."""
    return [_read(path.parent) for path in sorted(PEERS.glob("*/peer.toml"))]


def _read(folder: Path) -> PeerInfo:
    file = msgspec.convert(tomllib.loads((folder / "peer.toml").read_text(encoding="utf-8")), _PeerFile)
    pins = (folder / "requirements.txt").read_text(encoding="utf-8")
    pin = re.search(rf"^{re.escape(file.distribution)}==(\S+)", pins, re.MULTILINE)
    assert pin is not None, f"{folder.name}/requirements.txt pins {file.distribution}"
    return PeerInfo(file.name, folder.name, file.distribution, pin[1], file.why, file.configuration)


def open_peer(info: PeerInfo) -> Peer:
    """Start a peer.

    Raises:
        PeerMissingError: it is not installed, or not as pinned.
        PeerFailedError: it does not start.
    """
    if not info.is_installed:
        raise PeerMissingError(f"{info.name} {info.version} is not installed; `make bench-peers` installs it")
    peer = Peer(info.name, info.python, PEERS / info.folder / "runner.py")
    found = peer.versions.get(info.distribution)
    if found != info.version:
        peer.close()
        raise PeerMissingError(
            f"{info.name} is installed in version {found}, pinned is {info.version}; `make bench-peers` installs it"
        )
    return peer


class Peer:
    """One child process. Use it in a ``with`` statement, or close it: the child ends with it.

    Args:
        name: as people call it.
        python: the interpreter that runs it.
        runner: its runner; see ``peers/serve.py``.
        environment: variables that it gets besides this process's.

    Raises:
        PeerFailedError: it does not start.
    """

    def __init__(self, name: str, python: Path, runner: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the peer
        self._child = subprocess.Popen(
            [str(python), str(SERVE), str(runner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is the parent's to hear, which then ends the child
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.versions = self._next(START_SECONDS, _Hello).versions
        except BaseException:
            self.close()
            raise

    @classmethod
    def fresh(cls, runner: Path, environment: dict[str, str] | None = None) -> Self:
        """Start a process of this interpreter that has imported nothing yet, to measure what a first use costs."""
        return cls("a fresh process", Path(sys.executable), runner, environment)

    @property
    def is_running(self) -> bool:
        """Whether the child can be asked."""
        return self._child.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, task: str, options: dict[str, Any], *, limit_seconds: float = 3_600.0) -> Measured:
        """Run one task and return what it measured.

        Raises:
            PeerFailedError: it failed, died, said something else, or did not end in time, and was ended.
        """
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps({"task": task, "options": options}).encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            raise self._died() from None
        answer = self._next(limit_seconds, _Answer)
        if answer.error is not None:
            raise PeerFailedError(f"{self.name}: {task} failed: {answer.error}")
        return Measured(answer.seconds, answer.n, answer.extra, answer.peak_rss_bytes)

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._told):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # what it never read
                    continue

    def _listen(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(b"")

    def _next(self, limit_seconds: float, kind: type[T]) -> T:
        try:
            line = self._lines.get(timeout=limit_seconds)
        except queue.Empty:
            self._child.kill()
            raise PeerFailedError(f"{self.name} did not end within {limit_seconds:g} s, and was ended") from None
        if not line:
            raise self._died()
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError as error:
            self._child.kill()  # whatever it says next would be taken for an answer to the next question
            raise PeerFailedError(f"{self.name} answered {line[:200]!r}, expected one JSON answer: {error}") from None

    def _died(self) -> PeerFailedError:
        code = self._child.wait()
        self._told.seek(0)
        told = self._told.read().decode(errors="replace").strip()[-MAX_TOLD:]
        return PeerFailedError(f"{self.name} ended with exit code {code}: {told or 'it said nothing'}")
