"""Runs suites: step by step, raw runs into a file as they come, and whatever happens, what was measured is kept.

Nothing is printed here: a ``Listener`` is told, and the outcome returned.
"""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from benchmarks.harness import RawRunError, Run, read_runs, write_runs
from benchmarks.suite import Context, Listener, Suite, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.suite import Step

__all__ = [
    "RESULTS",
    "Outcome",
    "ParameterError",
    "Request",
    "SuiteListener",
    "newest_runs",
    "parse_parameters",
    "run_suite",
]

STAMP: Final = re.compile(r"-\d{8}T\d{6}\.\d{6}Z$")
RESULTS: Final = Path(__file__).parent / "results"


class ParameterError(ValueError):
    """A parameter is not one of the suite's, or has no possible value; the message lists those that there are."""


class Request(msgspec.Struct, frozen=True):
    """What is to be run."""

    quick: bool = False
    seed: int = 0
    repeats: int | None = None  # None: as each step says
    data: Path | None = None
    only: str = ""  # a part of the titles of the steps wanted; empty for all
    parameters: dict[str, str] = {}
    folder: Path = RESULTS


class Outcome(msgspec.Struct, frozen=True):
    """What came of one suite."""

    suite: str
    file: Path | None  # with the raw runs; None if there are none
    runs: list[Run]
    verdicts: list[Verdict]
    skipped: list[tuple[str, str]]  # what, and why
    failed: list[tuple[str, str]]  # a system in a case, or a step, and why
    interrupted: bool


class SuiteListener(Protocol):
    """Who watches."""

    def step(self, title: str, number: int, of: int) -> None:
        """A step begins; numbers count from 1."""

    def run(self, case: str, system: str, repeat: int, repeats: int) -> None:
        """One run begins; ``repeat`` counts from 0."""

    def trouble(self, what: str, why: str) -> None:
        """Something is skipped, or has failed."""


class _Relay(Listener):
    """Passes on what a suite says, and remembers what went wrong."""

    def __init__(self, listener: SuiteListener) -> None:
        self._listener = listener
        self.skips: list[tuple[str, str]] = []
        self.failures: list[tuple[str, str]] = []

    def before(self, case: str, system: str, repeat: int, repeats: int) -> None:
        self._listener.run(case, system, repeat, repeats)

    def failed(self, case: str, system: str, why: str) -> None:
        what = f"{system}, {case}" if case else system
        if case and not system.startswith("voxpop"):  # what a peer cannot do is no failure of the run
            self.skipped(what, why)
            return
        self.failures.append((what, why))
        self._listener.trouble(what, why)

    def skipped(self, what: str, why: str) -> None:
        if (what, why) not in self.skips:
            self.skips.append((what, why))
            self._listener.trouble(what, why)


def parse_parameters(suites: Sequence[Suite], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of each suite by its name.

    Raises:
        ParameterError: a value is wrong, or no suite has a parameter of that name.
    """
    known = {suite.name: suite.parameters.__struct_fields__ for suite in suites}
    for name in given:
        if not any(name in fields for fields in known.values()):
            listed = "; ".join(f"{suite} has {', '.join(fields) or 'none'}" for suite, fields in known.items())
            raise ParameterError(f"--set {name}={given[name]}: there is no such parameter; {listed}")
    found = {}
    for suite in suites:
        own = {name: value for name, value in given.items() if name in known[suite.name]}
        try:
            found[suite.name] = msgspec.convert(own, suite.parameters, strict=False)
        except msgspec.ValidationError as error:
            shown = " ".join(f"{name}={value}" for name, value in own.items())
            raise ParameterError(f"--set {shown}: {error}") from None
    return found


def run_suite(suite: Suite, request: Request, listener: SuiteListener) -> Outcome:
    """Run one suite. Ctrl-C ends it early; what was measured until then is in the file and in the outcome.

    Raises:
        ParameterError: as of ``parse_parameters``, or no step has ``only`` in its title.
    """
    parameters = parse_parameters([suite], request.parameters)[suite.name]
    relay = _Relay(listener)
    file = request.folder / f"{suite.name}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z.jsonl"
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="vp-bench") as folder:
        context = Context(
            suite=suite.name,
            quick=request.quick,
            seed=request.seed,
            data=request.data,
            parameters=parameters,
            folder=Path(folder),
            listener=relay,
            repeats=request.repeats,
        )
        titles = suite.steps(context)
        wanted = [step for step in titles if request.only.lower() in step.title.lower()]
        if not wanted:
            listed = "; ".join(step.title for step in titles)
            raise ParameterError(f"--only {request.only}: no step of {suite.name} has that in its title: {listed}")
        try:
            write_runs(file, _runs(wanted, context, relay, listener))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            context.close()
    runs = read_runs(file)
    if not runs:
        file.unlink()
    return Outcome(
        suite=suite.name,
        file=file if runs else None,
        runs=runs,
        verdicts=suite.verdicts(runs),
        skipped=relay.skips,
        failed=relay.failures,
        interrupted=interrupted,
    )


def _runs(steps: Sequence[Step], context: Context, relay: _Relay, listener: SuiteListener) -> Iterator[Run]:
    for number, step in enumerate(steps, 1):
        listener.step(step.title, number, len(steps))
        try:
            yield from step.run(context)
        except Exception as error:  # noqa: BLE001 - the steps that follow are not to be lost; the outcome tells of it
            relay.failed("", step.title, f"{type(error).__name__}: {error}")


def newest_runs(place: Path) -> list[Run]:
    """Return the raw runs of a file, or of the newest file of each suite in a folder.

    Raises:
        RawRunError: there are none, or a line is no raw run.
    """
    if place.is_dir():
        newest: dict[str, Path] = {}
        for file in sorted(place.glob("*.jsonl")):  # names end in their time
            newest[STAMP.sub("", file.stem)] = file
        files: Iterable[Path] = newest.values()
    else:
        files = [place]
    try:
        runs = [run for file in files for run in read_runs(file)]
    except FileNotFoundError:
        raise RawRunError(f"{place}: there is no such file or folder; expected raw runs, *.jsonl") from None
    if not runs:
        raise RawRunError(f"{place}: there are no raw runs; expected *.jsonl files as `voxpop bench` writes them")
    return runs
