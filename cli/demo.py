"""``voxpop demo``: the command. It makes room, starts everything, lets the play run, and cleans up after it.

What happens in between is in ``demo_scene.py``; what is shown at the end is made in ``demo_summary.py``, from what
``demo_evidence.py`` finds in the archive.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import signal
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from voxpop.cli.interrupts import run_loop
from voxpop.cli.options import JsonOption, examples
from voxpop.cli.output import DONE, FAILED, CommandFailedError, Output, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxpop.broker.config import Config
    from voxpop.cli.demo_scene import Story

__all__ = ["EPILOG", "demo"]

ACTORS: Final = 2
LOG_LINES: Final = 400
MARKER: Final = ".voxpop-demo"  # in a folder that holds the results of a demo, and may hold those of the next one
EPILOG: Final = examples(
    "voxpop demo", "voxpop demo --seed 2 --out second-run", "voxpop demo --json --speed 3 > summary.json"
)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where labels, worker responses and the report go.")] = Path(
        "voxpop-demo"
    ),
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data directory, to look at it with the other commands.")
    ] = False,
    speed: Annotated[
        float, typer.Option(min=0.2, max=10.0, help="How fast people think: 2 is twice as fast as 1.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of who comes when, and how long they think.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Watch a real labeling job run: 108 pictures, 39 recorded people, 5 answers a picture, in half a minute.

    A private server, two actor processes and a sweeper start in a temporary directory, and are gone afterwards. On the
    way an outsider knocks, somebody walks away with a picture, a submit arrives twice, and an actor process is killed.
    At the end the archive is read to see that nothing was lost.
    """
    from voxpop.cli.demo_summary import deliver, shown, summarise

    printer = Output(as_json=as_json)
    _check_target(out)
    with _scratch(printer, keep=keep) as home:
        story = _run(home, printer, speed=speed, seed=seed)
        summary = summarise(story, home / "out", out)
        (home / "out" / MARKER).write_text("Results of `voxpop demo`; the next one in this folder replaces them.\n")
        with _undisturbed():
            deliver(home / "out", out)
    printer.result(summary, *shown(summary, out))
    return DONE if summary.all_held else FAILED


def _run(home: Path, printer: Output, *, speed: float, seed: int) -> Story:
    """Start everything, let the job run, stop everything. What is left is in ``home / "out"``."""
    from voxpop.broker.history import write_entry
    from voxpop.cli.connection import open_services
    from voxpop.cli.demo_scene import Scene, recorded_people
    from voxpop.cli.live import LiveView
    from voxpop.workers.stack import Stack

    crowd = recorded_people(seed)
    log: deque[str] = deque(maxlen=LOG_LINES)
    title = f"voxpop demo: {len(crowd.items)} pictures, {len(crowd.workers)} people"
    printer.note(f"Starting a private server, {ACTORS} actor processes and a sweeper ...")
    with contextlib.ExitStack() as running:
        running.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        stack = running.enter_context(Stack(_settings(home), forward=log.append))
        services = running.enter_context(open_services(stack.config))
        journal = running.enter_context((home / "journal.jsonl").open("wb"))
        view = running.enter_context(LiveView(printer, title))
        # Last in, first out: while all this is being stopped, a second Ctrl-C must not leave half of it behind.
        running.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        scene = Scene(stack, services, crowd, view, functools.partial(write_entry, journal))
        try:
            scene.prepare(home / "out")
            with contextlib.closing(asyncio.Runner()) as runner:
                with _undisturbed():
                    runner.get_loop()  # one that is interrupted while it is made is never closed
                run_loop(runner.run, scene.play(speed))
            journal.flush()
            return scene.story(home / "journal.jsonl")
        except CommandFailedError as error:
            last = "\n".join(list(log)[-8:])
            raise CommandFailedError(f"{error}\nThe last lines of the processes behind it:\n{last}") from error


def _settings(home: Path) -> Config:
    """Settings of this run's own: neither the user's file nor their environment may lead it to another server."""
    from voxpop.broker.config import Config

    own = home / "voxpop.toml"
    own.touch()
    return Config.load(
        own, environment={}, explicit={"data_dir": home / "data", "actors": ACTORS, "sweep_seconds": 1.0}
    )


def _check_target(out: Path) -> None:
    """Find out before anything runs whether its results can be written, and cost nobody a file of their own."""
    from voxpop.cli.creation import check_writable

    if out.exists() and not out.is_dir():
        raise WrongInputError(f"--out {out}: is a file; expected a folder, or the name of one to be made")
    check_writable(str(out.absolute()))
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists():
        raise WrongInputError(
            f"--out {out}: holds files that no demo wrote; expected an empty folder, the name of a new one, or the "
            "folder of an earlier demo, whose results are replaced"
        )


@contextlib.contextmanager
def _scratch(printer: Output, *, keep: bool) -> Iterator[Path]:
    """A temporary directory of this run; its name is short, because sockets lie in it."""
    home = Path(tempfile.mkdtemp(prefix="voxpop-"))
    try:
        yield home
    finally:
        if keep:
            printer.note(f"Kept: {home}. Look at the job with: voxpop up --data-dir {home / 'data'}")
        else:
            with _undisturbed():
                shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a Ctrl-C wait until the block is done."""
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt
