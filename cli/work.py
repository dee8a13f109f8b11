"""``voxpop work``: one person answers the items of a job in the terminal, one at a time.

The lease is renewed while they think, and given back when they leave. Answers are checked by the job's task type.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import typer

from voxpop.cli.options import (
    ConfigOption,
    DataDirOption,
    JobArgument,
    JsonOption,
    RedisOption,
    examples,
)
from voxpop.cli.output import Output, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxpop.broker import Client, JobSpec, Lease
    from voxpop.formats.model import Item
    from voxpop.workers.services import Services
    from voxpop.workers.task_types.base import TaskType

__all__ = ["register"]

WAIT_SECONDS: Final = 5.0  # for work to turn up, at the server; then it is asked again
RENEWALS_A_LEASE: Final = 3
COMMANDS: Final = {"s": "skip it for good", "r": "give it back", "i": "instructions", "q": "quit"}


class Choice(NamedTuple):
    """What the person wants done with the item."""

    kind: Literal["answer", "skip", "release", "quit"]
    category: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        rich_help_panel="Jobs and people",
        epilog=examples("voxpop work reviews --worker ann", "voxpop work reviews --worker bob --address 203.0.113.7"),
    )(work)


def work(
    job: JobArgument,
    worker: Annotated[str, typer.Option(metavar="NAME", help="Who you are: a member of the job's pool.")],
    address: Annotated[str, typer.Option(metavar="IP", help="The address that you connect from.")] = "127.0.0.1",
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer the items of a job here in the terminal.

    Type the number of a category; s skips the item (you will not see it again), r gives it back for others, i shows the
    instructions, q quits. The item is yours while you think about it.
    """
    import time

    from voxpop.cli.connection import load_config, open_services
    from voxpop.workers.task_types import get_task_type

    with open_services(load_config(redis, data_dir, config)) as services:
        spec = services.client.job(job).spec
        kind = get_task_type(spec.task_type)
        if kind.answer.__struct_fields__ != ("label",):
            raise WrongInputError(f"job {job!r}: {spec.task_type} cannot be answered in the terminal, only categories")
        desk = _Desk(services, spec, kind, worker, address, Output(as_json=as_json), clock=time.monotonic)
        try:
            desk.sit_down()
        finally:
            desk.stand_up()


class _Desk:
    """One person at work."""

    def __init__(
        self, services: Services, spec: JobSpec, kind: TaskType, worker: str, address: str, out: Output, *, clock: Any
    ) -> None:
        self._services = services
        self._client: Client = services.client
        self._spec = spec
        self._kind = kind
        self._who = (spec.name, worker, address)
        self._out = out
        self._clock = clock
        self._held: Lease | None = None
        self._counts = {"accepted": 0, "skipped": 0, "released": 0, "expired": 0, "settled": 0}
        self._ended = "left"

    def sit_down(self) -> None:
        """Answer until there is nothing left, or the person quits."""
        waiting = False
        self._introduce()
        while True:
            claim = self._client.claim(*self._who, 1, wait_seconds=WAIT_SECONDS)
            if claim.leases:
                waiting = False
                self._held = claim.leases[0]
                if not self._handle(claim.leases[0]):
                    return
                self._held = None
            elif claim.status == "wait":
                if not waiting:
                    self._out.tell("\nNothing for you right now, but the job goes on. Waiting; Ctrl-C leaves.")
                waiting = True
            else:
                self._ended = "job stopped" if claim.status == "stopped" else "no more items"
                return

    def stand_up(self) -> None:
        """Give back what is held, and say what was done."""
        if self._held is not None:
            self._counts["released"] += self._client.release(*self._who, [self._held.token])
        done = ", ".join(f"{count} {name}" for name, count in self._counts.items() if count or name == "accepted")
        why = {"left": "", "job stopped": "The job has been stopped. ", "no more items": "That was the last one. "}
        self._out.result({**self._counts, "ended": self._ended}, f"\n{why[self._ended]}Your answers: {done}.")

    def _introduce(self) -> None:
        spec = self._spec
        self._out.tell(f"{spec.title or spec.name}\n{spec.instructions.strip()}".rstrip())

    def _handle(self, lease: Lease) -> bool:
        """Show one item and do what the person wants with it; returns whether they go on."""
        from voxpop.broker import Answer
        from voxpop.workers.payloads import payload

        item = payload(self._services, self._spec.name, lease.item)
        offered = self._spec.categories if item.categories is None else item.categories
        self._show(item, offered)
        started = self._clock()
        with self._renewing(lease):
            choice = self._ask(offered)
        if choice.kind == "answer":
            content = {"label": choice.category}
            self._kind.check_answer(self._spec, item, content)
            receipt = self._client.submit(*self._who, [Answer(lease.token, content, self._clock() - started)])[0]
            self._counts[receipt.status.value] = self._counts.get(receipt.status.value, 0) + 1
            self._out.tell(SAID[receipt.status.value].format(choice.category))
        elif choice.kind == "skip":
            self._counts["skipped"] += self._client.decline(*self._who, [lease.token])
            self._out.tell("  skipped")
        elif choice.kind == "release":
            self._counts["released"] += self._client.release(*self._who, [lease.token])
            self._out.tell("  given back")
        return choice.kind != "quit"

    def _show(self, item: Item, offered: tuple[str, ...]) -> None:
        from rich.padding import Padding
        from rich.rule import Rule
        from rich.text import Text

        console = self._out.notes
        console.print(Rule(f" item {item.index + 1} ", align="left", style="dim"))
        console.print(Padding(Text(item.source or item.source_ref or "", style="bold"), (1, 2)))
        for number, category in enumerate(offered, start=1):
            console.print(f"  [bold]{number}[/]  {category}", highlight=False)
        console.print(
            "  " + "   ".join(f"[bold]{key}[/] {meaning}" for key, meaning in COMMANDS.items()),
            style="dim",
            highlight=False,
        )

    def _ask(self, offered: tuple[str, ...]) -> Choice:
        one_key = sys.stdin.isatty() and len(offered) <= 9
        while True:
            self._out.notes.print("> ", end="")
            said = _key() if one_key else _line()
            if one_key:
                self._out.notes.print(said if said.isprintable() else "")
            if said.isdigit() and 1 <= int(said) <= len(offered):
                return Choice("answer", offered[int(said) - 1])
            if said in offered:
                return Choice("answer", said)
            match said:
                case "s":
                    return Choice("skip")
                case "r":
                    return Choice("release")
                case "i":
                    self._introduce()
                case "q" | "\x04":
                    return Choice("quit")
                case "":
                    pass
                case _:
                    self._out.tell(f"  {said!r} is no choice: 1 to {len(offered)}, or {', '.join(COMMANDS)}")

    @contextlib.contextmanager
    def _renewing(self, lease: Lease) -> Iterator[None]:
        """Keep the lease alive from another thread; a lost one shows when the answer is handed in."""
        done = threading.Event()

        def renew() -> None:
            from voxpop.broker.errors import BrokerError

            while not done.wait(self._spec.lease_seconds / RENEWALS_A_LEASE):
                with contextlib.suppress(BrokerError):
                    self._client.renew(*self._who, [lease.token])

        thread = threading.Thread(target=renew, name="voxpop-renew", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


SAID: Final = {
    "accepted": "  {}",
    "expired": "  {}: too late, somebody else has the item by now; kept as unused",
    "settled": "  {}: the item had ended in the meantime",
    "conflict": "  another answer of yours was counted before",
}


def _line() -> str:
    """Return a line of the input; the end of it means to quit."""
    line = sys.stdin.readline()
    return line.strip() if line else "q"


def _key() -> str:
    """Return one key press, without waiting for Enter. Ctrl-C stays Ctrl-C."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        return sys.stdin.read(1)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
