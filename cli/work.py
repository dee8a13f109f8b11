"""``voxpop work``: one person answers the items of a job in the terminal, one at a time.

The lease is renewed while they think, and given back when they leave. Answers are checked by the job's task type. What
requesters wrote (texts, instructions, categories) is shown as text: no markup, nothing that steers the terminal.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import string
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self

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
    from collections.abc import Iterator, Mapping, Sequence

    from voxpop.broker import Client, JobSpec, Lease
    from voxpop.formats.model import Item
    from voxpop.workers.services import Services
    from voxpop.workers.task_types.base import TaskType

__all__ = ["register"]

WAIT_SECONDS: Final = 5.0  # for work to turn up, at the server; then it is asked again
RENEWALS_A_LEASE: Final = 3
COMMANDS: Final = {"s": "skip it for good", "r": "give it back", "i": "instructions", "q": "quit"}
LETTERS: Final = [letter for letter in string.ascii_lowercase if letter not in COMMANDS]
END_OF_INPUT: Final = "\x04"  # what Ctrl-D types
ESCAPE: Final = b"\x1b"
SEQUENCE_SECONDS: Final = 0.25  # between two bytes of one key; longer than a slow line takes, shorter than a pause
# C0 except tab and newline, DEL, C1, and what no terminal's encoding can carry.
_CONTROLS: Final = dict.fromkeys(
    (*(code for code in range(0x20) if chr(code) not in "\t\n"), *range(0x7F, 0xA0), *range(0xD800, 0xE000)),
    "\N{REPLACEMENT CHARACTER}",
)


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

    Type the number or letter in front of a category; s skips the item (you will not see it again), r gives it back for
    others, i shows the instructions, q quits. The item is yours while you think about it.
    """
    import time

    from voxpop.broker.errors import NotFoundError
    from voxpop.broker.work import not_found
    from voxpop.cli.connection import load_config, open_services
    from voxpop.workers.task_types import get_task_type

    with open_services(load_config(redis, data_dir, config)) as services:
        try:
            spec = services.client.job(job).spec
        except NotFoundError:  # in the words of a claim, which do not tell whether there is such a job
            raise NotFoundError(not_found(job)) from None
        kind = get_task_type(spec.task_type)
        if kind.answer.__struct_fields__ != ("label",):
            raise WrongInputError(f"job {job!r}: {spec.task_type} cannot be answered in the terminal, only categories")
        with _Desk(services, spec, kind, worker, address, Output(as_json=as_json), clock=time.monotonic) as desk:
            desk.sit_down()


def visible(text: str) -> str:
    """Return text without what steers a terminal: control characters but tab and newline become U+FFFD."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def keys_for(offered: Sequence[str], categories: Sequence[str]) -> dict[str, str]:
    """Return what to type for each category that an item offers: key -> category, in the order offered.

    Keys are numbers from 1, unless a category of the job is a single character or has a digit in it: "1" might then be
    meant as a name. Keys are letters in that case, never a command's. A category that is such a letter is its own key,
    and no key is the name of another category.

    Args:
        offered: the item's categories.
        categories: the job's, so that numbers do not turn into letters from one item to the next.
    """
    names = {*offered, *categories}
    if not any(len(name) == 1 or any(char.isnumeric() for char in name) for name in names):
        return {str(number): name for number, name in enumerate(offered, start=1)}
    taken = {name.lower() for name in names}
    words = (map("".join, itertools.product(LETTERS, repeat=length)) for length in itertools.count(1))
    free = (word for word in itertools.chain.from_iterable(words) if word not in taken)
    return {name if name.isascii() and name.lower() in LETTERS else next(free): name for name in offered}


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            self._break_off()
        else:  # Ctrl-C is a way to leave
            self._stand_up()

    def sit_down(self) -> None:
        """Answer until there is nothing left, or the person quits."""
        waiting = introduced = False
        while True:
            claim = self._client.claim(*self._who, 1, wait_seconds=WAIT_SECONDS if introduced else 0)
            if not introduced:  # only now is it certain that they may know of the job
                self._introduce()
                introduced = True
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

    def _stand_up(self) -> None:
        """Give back what is held, and say what was done."""
        self._give_back()
        why = {"left": "", "job stopped": "The job has been stopped. ", "no more items": "That was the last one. "}
        self._out.result({**self._counts, "ended": self._ended}, f"\n{why[self._ended]}{self._done()}")

    def _break_off(self) -> None:
        """Give back what is held if that still works. The error is the result; what was done before is only a note."""
        from voxpop.broker.errors import BrokerError

        with contextlib.suppress(BrokerError):
            self._give_back()
        if any(self._counts.values()):
            self._out.note(f"\n{self._done()}")

    def _give_back(self) -> None:
        if self._held is not None:
            self._counts["released"] += self._client.release(*self._who, [self._held.token])

    def _done(self) -> str:
        done = ", ".join(f"{count} {name}" for name, count in self._counts.items() if count or name == "accepted")
        return f"Your answers: {done}."

    def _introduce(self) -> None:
        spec = self._spec
        self._out.tell(visible(f"{spec.title or spec.name}\n{spec.instructions.strip()}".rstrip()))

    def _handle(self, lease: Lease) -> bool:
        """Show one item and do what the person wants with it; returns whether they go on."""
        from voxpop.broker import Answer
        from voxpop.workers.payloads import payload

        item = payload(self._services, self._spec.name, lease.item)
        offered = self._spec.categories if item.categories is None else item.categories
        keys = keys_for(offered, self._spec.categories)
        self._show(item, keys)
        started = self._clock()
        with self._renewing(lease):
            choice = self._ask(keys)
        if choice.kind == "answer":
            content = {"label": choice.category}
            self._kind.check_answer(self._spec, item, content)
            receipt = self._client.submit(*self._who, [Answer(lease.token, content, self._clock() - started)])[0]
            self._counts[receipt.status.value] = self._counts.get(receipt.status.value, 0) + 1
            self._out.tell(SAID[receipt.status.value].format(visible(choice.category)))
        elif choice.kind == "skip":
            self._counts["skipped"] += self._client.decline(*self._who, [lease.token])
            self._out.tell("  skipped")
        elif choice.kind == "release":
            self._counts["released"] += self._client.release(*self._who, [lease.token])
            self._out.tell("  given back")
        return choice.kind != "quit"

    def _show(self, item: Item, keys: Mapping[str, str]) -> None:
        from rich.padding import Padding
        from rich.rule import Rule
        from rich.text import Text

        console = self._out.notes
        console.print(Rule(f" item {item.index + 1} ", align="left", style="dim"))
        console.print(Padding(Text(visible(item.source or item.source_ref or ""), style="bold"), (1, 2)))
        for key, category in keys.items():
            console.print(Text.assemble("  ", (key, "bold"), "  ", visible(category)), highlight=False)
        console.print(
            "  " + "   ".join(f"[bold]{key}[/] {meaning}" for key, meaning in COMMANDS.items()),
            style="dim",
            highlight=False,
        )

    def _ask(self, keys: Mapping[str, str]) -> Choice:
        on_terminal = sys.stdin.isatty()
        one_key = on_terminal and all(len(key) == 1 for key in keys)
        # A name has to be typed whole: the keys of "-1" would be a wrong one and then the name of another category.
        names = set() if one_key else set(keys.values()) - (set(COMMANDS) if on_terminal else set())
        with _unbuffered(sys.stdin.fileno()) if one_key else contextlib.nullcontext():
            while True:
                self._out.notes.print("> ", end="")
                line = _key(sys.stdin.fileno()) if one_key else _line()
                said = line.strip()
                if one_key:
                    self._out.notes.print(said if said.isprintable() else "", markup=False, highlight=False)
                if line in names or said in names:
                    return Choice("answer", line if line in names else said)
                if said in keys:
                    return Choice("answer", keys[said])
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
                        self._out.tell(f"  {said!r} is no choice: {_listed(list(keys))}, or {', '.join(COMMANDS)}")

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


def _listed(keys: list[str]) -> str:
    if keys[0].isdecimal():
        return f"{keys[0]} to {keys[-1]}"
    return ", ".join(keys if len(keys) <= len(LETTERS) else [*keys[:3], "...", keys[-1]])


def _line() -> str:
    """Return a line of the input; the end of it means to quit."""
    line = sys.stdin.readline()
    return line.removesuffix("\n") if line else END_OF_INPUT


@contextlib.contextmanager
def _unbuffered(descriptor: int) -> Iterator[None]:
    """Have a terminal hand over each key without waiting for Enter. What was typed before is dropped. Ctrl-C works."""
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key(descriptor: int) -> str:
    """Return one key press of an unbuffered terminal. Keys that send escape sequences (arrows, Delete, F5) are ignored.

    It reads the descriptor itself: what ``sys.stdin`` buffers, ``select`` does not see.
    """
    while (byte := os.read(descriptor, 1)) == ESCAPE:
        _skip_sequence(descriptor)
    if not byte:
        return END_OF_INPUT
    following = (byte[0] >= 0xC0) + (byte[0] >= 0xE0) + (byte[0] >= 0xF0)  # bytes of one character in UTF-8
    return (byte + b"".join(_soon(descriptor) for _ in range(following))).decode(errors="replace")


def _skip_sequence(descriptor: int) -> None:
    """Read on after an Escape (ECMA-48 5.4): ``[`` up to the final byte, ``O`` and one more, or one key with Alt."""
    while (byte := _soon(descriptor)) == ESCAPE:  # some terminals send Alt and an arrow this way
        pass
    if byte == b"O":
        _soon(descriptor)
    elif byte == b"[":
        byte = _soon(descriptor)
        if byte == b"[":  # the Linux console's F1 to F5: ESC [ [ A
            byte = _soon(descriptor)
        while byte and not 0x40 <= byte[0] <= 0x7E:
            byte = _soon(descriptor)


def _soon(descriptor: int) -> bytes:
    """Return the next byte if it comes soon enough to belong to the same key, else nothing."""
    import select

    return os.read(descriptor, 1) if select.select([descriptor], [], [], SEQUENCE_SECONDS)[0] else b""
