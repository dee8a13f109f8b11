"""``voxpop up`` runs everything on one machine; ``voxpop actors`` and ``voxpop sweep`` run single parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from voxpop.cli.options import ConfigOption, DataDirOption, JsonOption, RedisOption, examples
from voxpop.cli.output import CommandFailedError, Output, duration, table

if TYPE_CHECKING:
    import threading

    import typer
    from rich.console import RenderableType

    from voxpop.broker.config import Config
    from voxpop.workers.stack import Stack
    from voxpop.workers.supervise import Status

__all__ = ["register"]

LOOK_SECONDS: Final = 0.5
COLOURS: Final = {"running": "green", "waiting": "yellow", "given up": "red", "stopped": "dim"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Run it"
    app.command(
        rich_help_panel=panel,
        epilog=examples("voxpop up", "voxpop up --data-dir /srv/voxpop", "voxpop up --redis redis://db:6379/0"),
    )(up)
    app.command(
        rich_help_panel=panel,
        epilog=examples("voxpop actors --redis redis://db:6379/0", "VOXPOP_ACTOR_THREADS=16 voxpop actors"),
    )(actors)
    app.command(rich_help_panel=panel, epilog=examples("voxpop sweep --redis redis://db:6379/0"))(sweep)


def up(
    redis: RedisOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Run everything on this machine: server, actors, sweeper. Shows what runs, restarts what dies; Ctrl-C stops it.

    Without --redis an embedded server is started in the data directory. While this runs, the other commands find it
    from the same directory. With --json the connection facts are printed once.
    """
    from voxpop.broker.connect import without_password
    from voxpop.cli.connection import announced, load_config
    from voxpop.workers.stack import Stack
    from voxpop.workers.supervise import stop_requests

    out = Output(as_json=as_json)
    settings = load_config(redis, data_dir, config)
    if settings.redis_url:
        _reach(settings)
    if out.is_live and settings.log_format == "auto":
        settings = msgspec.structs.replace(settings, log_format="console")
    with (
        stop_requests() as stopping,
        _Screen(out) as screen,
        Stack(settings, forward=screen.log) as stack,
        announced(stack.config),
    ):
        facts = {
            "redis_url": stack.config.redis_url,
            "data_dir": settings.data_dir,
            "storage": settings.storage,
            "parts": stack.status(),
        }
        if as_json:
            out.result(facts)
        screen.head = (
            f"voxpop runs: {without_password(stack.config.redis_url)}\n"
            f"data directory {settings.data_dir}\n"
            "Next, in another terminal here: voxpop job create JOB.toml. Ctrl-C stops everything."
        )
        _tend(stack, stopping, screen)
        out.note("Stopping ...")
    out.note("Stopped. Everything acknowledged is kept.")


def actors(
    redis: RedisOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Run one actor process, for a server on another machine; logs go to stderr. Ctrl-C stops it."""
    from voxpop.workers.app import run_actors

    _run_part(run_actors, "actors", redis, data_dir, config, as_json=as_json)


def sweep(
    redis: RedisOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Run the sweeper, which looks for what a crash left; one is enough. Ctrl-C stops it."""
    from voxpop.workers.app import run_sweeper

    _run_part(run_sweeper, "sweep", redis, data_dir, config, as_json=as_json)


def _run_part(run: Any, name: str, redis: Any, data_dir: Any, config: Any, *, as_json: bool) -> None:
    """Run one part until it is asked to stop."""
    from voxpop.broker.connect import without_password
    from voxpop.cli.connection import connect, load_config, locate
    from voxpop.workers import logs

    settings = locate(load_config(redis, data_dir, config))
    connect(settings).close()
    logs.configure(log_format=settings.log_format, log_level=settings.log_level)
    out = Output(as_json=as_json)
    if as_json:
        out.result({"part": name, "redis_url": without_password(settings.redis_url), "storage": settings.storage})
    run(settings)


def _reach(settings: Config) -> None:
    """Find out before anything is started whether the named server can be used."""
    from voxpop.cli.connection import connect

    connect(settings).close()


def _tend(stack: Stack, stopping: threading.Event, screen: _Screen) -> None:
    """Show what runs until somebody asks to stop, or nothing is left to show."""
    while True:
        parts = stack.status()
        screen.show(parts)
        if all(part.state == "given up" for part in parts):
            raise CommandFailedError(f"every part was given up; the last: {parts[-1].reason}")
        if stopping.wait(LOOK_SECONDS):
            return


class _Screen:
    """The table of ``up``, redrawn under the log in a terminal; elsewhere the log, and a line where a part changes."""

    def __init__(self, out: Output) -> None:
        from rich.live import Live

        self.head = ""
        self._out = out
        self._live = Live(console=out.notes, auto_refresh=False, transient=True) if out.is_live else None
        self._shown: dict[str, tuple[str, int | None]] = {}
        self._said_head = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def log(self, line: str) -> None:
        """Take a line that a part logged; called from other threads."""
        if not self._out.as_json:
            self._out.notes.print(line, markup=False, highlight=False, soft_wrap=not self._live)

    def show(self, parts: list[Status]) -> None:
        """Show how the parts are."""
        if self._live:
            self._live.start()
            self._live.update(_drawn(self.head, parts), refresh=True)
            return
        if not self._said_head:
            self._said_head = True
            self._out.note(self.head)
        for part in parts:
            now = (str(part.state), part.pid)
            if self._shown.get(part.name) != now:
                self._shown[part.name] = now
                reason = f": {part.reason}" if part.reason and part.state != "running" else ""
                line = f"{part.name}: {part.state}{f' (pid {part.pid})' if part.pid else ''}{reason}"
                (self._out.warn if reason else self._out.note)(line)


def _drawn(head: str, parts: list[Status]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    rows = table("part", "state", "pid", "since", "restarts", "", right=("pid", "since", "restarts"))
    for part in parts:
        rows.add_row(
            part.name,
            Text(str(part.state), style=COLOURS.get(str(part.state), "")),
            str(part.pid or ""),
            duration(part.uptime_seconds) if part.pid else "",
            str(part.restarts or ""),
            part.reason.splitlines()[0] if part.reason else "",
        )
    return Group(Text(head), rows)
