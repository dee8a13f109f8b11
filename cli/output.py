"""How the command line speaks: one way to print results, notes and errors, for people or as JSON, and the exit codes.

Commands hand over what they found; nothing else in ``cli`` writes to stdout or stderr on its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "WRONG_INPUT",
    "CommandFailedError",
    "Output",
    "WrongInputError",
    "duration",
    "exit_code_of",
    "own_command",
    "table",
]

DONE: Final = 0
FAILED: Final = 1
WRONG_INPUT: Final = 2
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE: Final = 141  # 128 + SIGPIPE
WIDE: Final = 500  # columns of an output that is no terminal: tables there are cut by nobody


class WrongInputError(Exception):
    """What the caller gave is wrong: exit code 2. The message names the place, what was found and what to do."""


class CommandFailedError(Exception):
    """The input was right, and it did not work out: exit code 1."""


class Output:
    """Where one command prints: results to stdout; notes, warnings and progress to stderr.

    Args:
        as_json: stdout carries exactly one JSON document.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @cached_property
    def _stdout(self) -> Console:
        return _console(stderr=False)

    @cached_property
    def notes(self) -> Console:
        """The console for everything that is not the result; live displays belong here."""
        return _console(stderr=True)

    @property
    def is_live(self) -> bool:
        """Whether somebody watches: displays that redraw themselves make sense."""
        return self.notes.is_terminal and not self.as_json

    def result(self, document: Any, *shown: RenderableType) -> None:
        """Print what the command found: ``document`` for machines, or else ``shown`` for people."""
        if self.as_json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2).decode() + "\n")
        else:
            for part in shown:
                # Paths and URIs stay in one piece: to be copied, and to be found by grep.
                self._stdout.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Tell a person what is going on; quiet with ``--json``."""
        if not self.as_json:
            self.tell(text)

    def tell(self, text: str) -> None:
        """Say something that belongs to a conversation, with ``--json`` too."""
        self.notes.print(text, markup=False, highlight=False, soft_wrap=not self.notes.is_terminal)

    def warn(self, text: str) -> None:
        """Tell of something that may be a mistake, with ``--json`` too."""
        self._labelled("Warning", "yellow", text)

    def error(self, kind: str, text: str, exit_code: int) -> None:
        """Print why the command ends; with ``--json`` also as the one document on stdout."""
        self._labelled("Error", "red", text)
        if self.as_json:
            self.result({"error": {"kind": kind, "message": text}, "exit_code": exit_code})

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar while somebody watches; what is yielded is told how many of ``total`` are done."""
        if not self.is_live:
            yield lambda _done: None
            return
        from rich.progress import Progress

        with Progress(console=self.notes, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something of unknown length goes on, and for how long, while somebody watches."""
        if not self.is_live:
            yield
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        with Progress(*columns, console=self.notes, transient=True) as spinner:
            spinner.add_task(text, total=None)
            yield

    def _labelled(self, label: str, colour: str, text: str) -> None:
        from rich.text import Text

        labelled = Text.assemble((f"{label}: ", f"bold {colour}"), text)
        self.notes.print(labelled, highlight=False, soft_wrap=not self.notes.is_terminal)


def exit_code_of(error: BaseException) -> int | None:
    """Return the exit code of a known error; None for one that nobody foresaw, which deserves its traceback."""
    if isinstance(error, WrongInputError):
        return WRONG_INPUT
    if isinstance(error, CommandFailedError):
        return FAILED
    kinds = _known_errors()
    if isinstance(error, kinds[FAILED]):  # listed first: some of them are subclasses of a wrong input
        return FAILED
    return WRONG_INPUT if isinstance(error, kinds[WRONG_INPUT]) else None


def _known_errors() -> dict[int, tuple[type[BaseException], ...]]:
    from voxpop.broker import errors as broker
    from voxpop.consolidation.errors import ConsolidationError
    from voxpop.consolidation.method import UnknownMethodError
    from voxpop.formats import errors as storage
    from voxpop.formats.model import FormatError

    return {
        FAILED: (
            broker.BusyError,
            broker.ServerFullError,
            broker.ServerUnavailableError,
            storage.ChangedError,
            storage.StorageFullError,
            storage.UnavailableError,
        ),
        WRONG_INPUT: (broker.BrokerError, storage.StorageError, FormatError, UnknownMethodError, ConsolidationError),
    }


def quiet_broken_pipe() -> NoReturn:
    """End at once, as every filter does whose reader has gone away (``voxpop job list | head -1``)."""
    # What is left in the buffers has nowhere to go; writing it at the interpreter's end would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(BROKEN_PIPE)


def table(*columns: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """Return an empty table in the house's look; columns named in ``right`` hold numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        is_number = column in right  # which is read as a whole or not at all
        made.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return made


def own_command() -> str:
    """Return how to type this command again: ``voxpop`` where the shell finds it, else the path it was started by."""
    started = Path(sys.argv[0])
    found = shutil.which("voxpop")
    if started.name != "voxpop" or (found and started.exists() and Path(found).samefile(started)):
        return "voxpop"
    with contextlib.suppress(ValueError):
        return quote(str(started.absolute().relative_to(Path.cwd())))
    return quote(str(started))


def duration(seconds: float) -> str:
    """Return a time span as people say it: ``8.2 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = PlainConsole(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console
