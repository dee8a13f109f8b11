"""A running job as it is watched: bars, counts and what happens, redrawn in a terminal, plain lines elsewhere.

``Snapshot`` is what is shown; whoever watches makes one from time to time and hands it over with the time. Nothing here
asks a server or a clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from voxpop.cli.output import duration

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

    from voxpop.broker.models import ShardState
    from voxpop.cli.output import Output
    from voxpop.workers.supervise import Status

__all__ = ["LiveView", "Snapshot", "pace", "snapshot_of"]

RATE_WINDOW_SECONDS: Final = 5.0
PLAIN_EVERY_SECONDS: Final = 5.0
REDRAWS_A_SECOND: Final = 8
MAX_WIDTH: Final = 100
SIGNS: Final = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "dim")}


class Snapshot(NamedTuple):
    """A job at one moment."""

    at_seconds: float  # since the job was created, or since the watch began
    items: int  # known so far
    labeled: int
    failed: int  # ended without a label, for a reason of their own
    unlabeled: int  # open when the job was stopped
    answers: int
    wanted: int  # answers in the end; 0 = not known
    leases: int
    lapsed: int
    declined: int
    refused: int  # callers who were told "not found"; -1 = not counted here
    processes: tuple[Status, ...] = ()


def snapshot_of(
    state: ShardState,
    at_seconds: float,
    *,
    replication: int,
    refused: int = -1,
    processes: tuple[Status, ...] = (),
) -> Snapshot:
    """Return what a shard's counters amount to.

    Args:
        state: of the job's shard.
        at_seconds: since the job was created, or since the watch began.
        replication: the job's; 0 with named tickets, of which nobody knows how many will be answered.
        refused: callers who were told "not found"; -1 if nobody asked.
        processes: behind the broker, if this command runs them.
    """
    return Snapshot(
        at_seconds=at_seconds,
        items=state.appended,
        labeled=state.labeled,
        failed=state.failed,
        unlabeled=state.settled - state.labeled - state.failed,
        answers=state.answers,
        wanted=max(state.answers, state.appended * replication) if replication else 0,
        leases=state.leased,
        lapsed=state.lapsed,
        declined=state.declined,
        refused=refused,
        processes=processes,
    )


def pace(history: deque[tuple[float, int]], wanted: int) -> tuple[float, float | None]:
    """Return answers a second over the last few seconds, and the seconds left at that pace (None: no telling).

    Args:
        history: (seconds, answers so far), oldest first; what is older than the window is dropped.
        wanted: answers in the end; 0 = not known.
    """
    while len(history) > 2 and history[-1][0] - history[1][0] >= RATE_WINDOW_SECONDS:
        history.popleft()
    if len(history) < 2 or history[-1][0] <= history[0][0]:
        return 0.0, None
    (first, before), (last, now) = history[0], history[-1]
    rate = (now - before) / (last - first)
    if not wanted or rate <= 0:
        return max(0.0, rate), 0.0 if wanted and now >= wanted else None
    return rate, max(0.0, (wanted - now) / rate)


class LiveView:
    """Shows a job while it runs: redrawn in place in a terminal, a line now and then elsewhere, silent with ``--json``.

    Use it as a context manager. What ``note`` says stays on the screen above the bars.

    Args:
        out: where the command prints.
        title: one line that says what is watched.
    """

    def __init__(self, out: Output, title: str) -> None:
        self._out = out
        self._title = title
        self._history: deque[tuple[float, int]] = deque()
        self._live: Live | None = None
        self._plain_due_seconds = 0.0
        self._shown: Snapshot | None = None

    def __enter__(self) -> Self:
        if self._out.is_live:
            from rich.live import Live

            self._live = Live(console=self._out.notes, refresh_per_second=REDRAWS_A_SECOND, redirect_stdout=False)
            self._live.__enter__()
        else:
            self._out.note(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            if kind is not None:  # what was under way is no result: the bars give room to the reason
                self._live.transient = True
            self._live.__exit__(kind, error, trace)
            self._live = None
        elif kind is None and self._shown is not None:
            self._out.note(self._line(self._shown))

    def update(self, snapshot: Snapshot) -> None:
        """Show the job as it is now."""
        self._shown = snapshot
        if not self._history or snapshot.at_seconds > self._history[-1][0]:
            self._history.append((snapshot.at_seconds, snapshot.answers))
        if self._live is not None:
            self._live.update(self._drawn(snapshot))
        elif snapshot.at_seconds >= self._plain_due_seconds:
            self._plain_due_seconds = snapshot.at_seconds + PLAIN_EVERY_SECONDS
            self._out.note(self._line(snapshot))

    def note(self, at_seconds: float, text: str, *, held: bool | None = None) -> None:
        """Tell what just happened; ``held`` marks it as good (True) or bad (False)."""
        sign, colour = SIGNS[held]
        if self._live is None:
            self._out.note(f"{at_seconds:6.1f} s  {sign} {text}")
            return
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        row.add_column(justify="right", min_width=8, no_wrap=True)
        row.add_column()
        row.add_column(overflow="fold")
        row.add_row(Text(f"{at_seconds:.1f} s", style="dim"), Text(sign, style=colour), Text(text))
        self._live.console.print(Padding(row, (0, 0)), width=min(MAX_WIDTH, self._live.console.width))

    def _line(self, now: Snapshot) -> str:
        rate, left = pace(self._history, now.wanted)
        wanted = f"/{now.wanted}" if now.wanted else ""
        parts = [f"items {now.labeled}/{now.items}", f"answers {now.answers}{wanted}", f"{rate:.1f}/s"]
        ends = [("failed", now.failed), ("unlabeled", now.unlabeled)]
        parts += [f"{name} {count}" for name, count in [*ends, *_counts(now)] if count]
        parts += [f"ETA {duration(left)}"] if left else []
        return f"{now.at_seconds:6.1f} s  " + "  ".join(parts)

    def _drawn(self, now: Snapshot) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.rule import Rule
        from rich.table import Table
        from rich.text import Text

        width = min(MAX_WIDTH, self._out.notes.width)
        rate, left = pace(self._history, now.wanted)
        if left == 0 and now.at_seconds > 0:
            rate = now.answers / now.at_seconds
        bars = Table.grid(padding=(0, 2), expand=True)
        bars.width = width
        bars.add_column(no_wrap=True)
        bars.add_column(ratio=1)
        bars.add_column(justify="right", no_wrap=True)
        bars.add_column(justify="right", no_wrap=True, min_width=20)
        ended = now.labeled + now.failed + now.unlabeled
        answers = f"{now.answers} / {now.wanted}" if now.wanted else str(now.answers)
        eta = "done" if left == 0 else f"ETA {duration(left)}" if left else ""
        bars.add_row(
            Text("items", style="bold"),
            ProgressBar(total=now.items or 1, completed=ended),
            Text(f"{ended} / {now.items}"),
            _ends(now),
        )
        bars.add_row(
            Text("answers", style="bold"),
            ProgressBar(total=now.wanted or None, completed=now.answers, pulse=not now.wanted),
            Text(answers),
            Text(f"{rate:.1f} / s   {eta:>9}", style="dim"),
        )
        parts: list[RenderableType] = [
            Text(),
            Rule(Text(f" {self._title}  {duration(now.at_seconds)} ", style="bold"), align="left", style="dim"),
            bars,
            _counted(now),
        ]
        if now.processes:
            parts.append(_processes(now.processes))
        return Group(*(_narrowed(part, width) for part in parts))


def _counts(now: Snapshot) -> list[tuple[str, int]]:
    counts = [("leases", now.leases), ("lapsed", now.lapsed), ("declined", now.declined)]
    return counts if now.refused < 0 else [*counts, ("refused", now.refused)]


def _ends(now: Snapshot) -> Text:
    from rich.text import Text

    ends = [(now.failed, "failed", "red"), (now.unlabeled, "unlabeled", "yellow")]
    told = [Text(f"{count} {name}", style=style) for count, name, style in ends if count]
    return Text(", ").join(told) if told else Text("labeled", style="dim")


def _counted(now: Snapshot) -> Text:
    from rich.text import Text

    line = Text()
    for name, count in _counts(now):
        line.append(f"{name} ", style="dim").append(f"{count:<6}", style="bold" if count else "dim")
    return line


def _processes(processes: tuple[Status, ...]) -> Text:
    from rich.text import Text

    from voxpop.workers.supervise import State

    line = Text(no_wrap=True, overflow="ellipsis")
    for one in processes:
        is_running = one.state is State.RUNNING
        line.append("● " if is_running else "✗ ", style="green" if is_running else "red")
        line.append(f"{one.name} {one.pid}" if is_running else f"{one.name} {one.state}")
        line.append(f", restarted {one.restarts}x" if one.restarts else "", style="yellow").append("  ")
    return line


def _narrowed(part: RenderableType, width: int) -> RenderableType:
    from rich.constrain import Constrain

    return Constrain(part, width)
