"""``voxpop bench``: the repository's benchmarks, run, checked and compared. What they measure is in ``benchmarks/``.

``benchmarks/`` is no part of a wheel: this module finds it beside the installed package or in the current directory.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Self

import msgspec
import typer

import voxpop.cli
from voxpop.cli.options import examples
from voxpop.cli.output import CommandFailedError, Output, WrongInputError, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from benchmarks.compare import Change
    from benchmarks.harness import Row
    from benchmarks.running import Outcome, Request
    from benchmarks.suite import Suite, Verdict
    from rich.progress import Progress
    from rich.table import Table

__all__ = ["register"]

SIGNS: Final = {"met": ("✓ met", "green"), "missed": ("✗ missed", "red"), "not measured": ("· not measured", "dim")}
COLOURS: Final = {"slower": "red", "faster": "green", "too few repeats": "dim"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        rich_help_panel="Tools",
        epilog=examples(
            "voxpop bench --list",
            "voxpop bench votes --quick",
            "voxpop bench votes --data datasets --check",
            "voxpop bench million --set items=50000 --set appendfsync=always",
            "voxpop bench --compare old/ new/",
        ),
    )(bench)


def bench(
    suites: Annotated[list[str] | None, typer.Argument(metavar="SUITE", help="Which; by default all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller sizes: each suite in about two minutes.")] = False,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="DIR", help="Folder for the raw runs; by default benchmarks/results."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 and name every target that is missed.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Real data sets, instead of those carried along.")
    ] = None,
    only: Annotated[str, typer.Option(metavar="TEXT", help="Only the steps that have this in their titles.")] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the suite; see --list.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Repeats of every case; by default its own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of simulated data and of ties.")] = 0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="OLD NEW", help="Compare two files or folders of raw runs; runs nothing."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the suites and the peers; runs nothing.")] = False,
) -> None:
    """Measure voxpop beside its peers, in this repository.

    Systems that are compared take turns. Every run is kept as a line of JSON; tables, the check and the pages of the
    documentation are made from these lines. A peer that is not installed is skipped by name. Ctrl-C ends early and
    keeps what was measured.
    """
    _find_benchmarks()
    from benchmarks.running import RESULTS, Request

    out = Output(as_json=False)
    if show_list:
        _show_list(out)
    elif compare is not None:
        _compare(out, *compare, check=check)
    else:
        if data is not None and not data.is_dir():
            raise WrongInputError(f"--data {data}: there is no such folder; expected one with data sets")
        request = Request(
            quick=quick,
            seed=seed,
            repeats=repeats,
            data=data,
            only=only,
            parameters=dict(_setting(one) for one in settings or []),
            folder=json or RESULTS,
        )
        _run(out, suites or [], request, check=check)


def _find_benchmarks() -> None:
    """Make the repository's benchmarks importable."""
    beside = Path(voxpop.cli.__file__).parents[1]
    for root in (beside, Path.cwd()):
        project = root / "pyproject.toml"
        if not (root / "benchmarks" / "harness.py").exists() or not project.exists():
            continue
        if re.search(r'^name = "voxpop"$', project.read_text(encoding="utf-8"), re.MULTILINE):
            sys.path.insert(0, str(root))
            return
    raise WrongInputError(
        f"the benchmarks are not installed with voxpop, found none beside {beside} nor in {Path.cwd()}; clone the "
        "repository and run `voxpop bench` at its root, or `make bench`"
    )


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise WrongInputError(f"--set {text}: expected NAME=VALUE, such as items=50000")
    return name, value


def _show_list(out: Output) -> None:
    from benchmarks.peer import peer_infos
    from benchmarks.suite import SUITES, get_suite

    shown = table("suite", "what it measures", "--set")
    for name in SUITES:
        suite = get_suite(name)
        shown.add_row(name, suite.about, ", ".join(suite.parameters.__struct_fields__))
    peers = table("peer", "version", "", "why")
    for info in peer_infos():
        state = "installed" if info.is_installed else "missing: make bench-peers"
        peers.add_row(info.name, info.version, state, info.why)
    out.result({}, shown, peers)


def _run(out: Output, names: Sequence[str], request: Request, *, check: bool) -> None:
    from benchmarks.running import ParameterError, parse_parameters, run_suite
    from benchmarks.suite import SUITES, UnknownSuiteError, get_suite

    try:
        chosen = [get_suite(name) for name in dict.fromkeys(names or SUITES)]
        parse_parameters(chosen, request.parameters)
        outcomes = []
        for suite in chosen:
            own = {key: value for key, value in request.parameters.items() if key in suite.parameters.__struct_fields__}
            with _Watcher(out, suite.name) as watcher:
                outcomes.append(run_suite(suite, msgspec.structs.replace(request, parameters=own), watcher))
            _show(out, suite, outcomes[-1])
            if outcomes[-1].interrupted:
                raise KeyboardInterrupt
    except (UnknownSuiteError, ParameterError) as error:
        raise WrongInputError(str(error)) from None
    failed = [f"{what}: {why}" for outcome in outcomes for what, why in outcome.failed]
    if check:
        failed += _missed([verdict for outcome in outcomes for verdict in outcome.verdicts])
    if failed:
        raise CommandFailedError("\n".join([f"{len(failed)} did not work out:", *(f"  {line}" for line in failed)]))


def _missed(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a line for each target that is missed; a check that judged nothing is no check."""
    if not any(verdict.state != "not measured" for verdict in verdicts):
        return ["--check: no target was measured; leave out --quick, --only and --set, and install the peers"]
    return [
        f"target missed: {one.name}: measured {one.measured}, target {one.target}"
        for one in verdicts
        if one.state == "missed"
    ]


def _show(out: Output, suite: Suite, outcome: Outcome) -> None:
    from benchmarks.harness import summarise

    rows = summarise(run for run in outcome.runs if not suite.has_own_table(run))
    if rows:
        out.result({}, _rates(rows))
    for one in suite.tables(outcome.runs):
        shown = table(*one.head, right=tuple(one.head[1:]), title=one.title)
        for row in one.rows:
            shown.add_row(*row)
        out.result({}, shown)
    if outcome.verdicts:
        out.result({}, _targets(outcome.verdicts))
    for what, why in outcome.skipped:
        out.note(f"Skipped: {what}: {why}")
    if outcome.file is None:
        out.note(f"{suite.name}: nothing was measured.")
    else:
        out.note(f"Raw runs: {outcome.file}")


def _rates(rows: Sequence[Row]) -> Table:
    from benchmarks.harness import ratio_shown, si

    shown = table(
        "case", "system", "repeats", "median", "lowest", "highest", "ratio", "peak memory",
        right=("repeats", "median", "lowest", "highest", "ratio", "peak memory"),
    )  # fmt: skip
    last = ""
    for row in rows:
        shown.add_row(
            row.case if row.case != last else "",
            f"{row.system} {row.version}",
            str(row.repeats),
            f"{si(row.median_rate)} {row.unit}/s",
            si(row.low_rate),
            si(row.high_rate),
            ratio_shown(row.ratio),
            f"{row.peak_rss_bytes / 2**20:,.0f} MiB",
        )
        last = row.case
    return shown


def _targets(verdicts: Sequence[Verdict]) -> Table:
    from rich.text import Text

    shown = table("target", "measured", "wanted", "", "", right=("measured",), title="Targets")
    for one in verdicts:
        shown.add_row(one.name, one.measured, one.target, Text(*SIGNS[one.state]), one.note)
    return shown


def _compare(out: Output, old: Path, new: Path, *, check: bool) -> None:
    from benchmarks.compare import RULE, compare, other_machine
    from benchmarks.harness import RawRunError
    from benchmarks.running import newest_runs

    try:
        before, after = newest_runs(old), newest_runs(new)
    except RawRunError as error:
        raise WrongInputError(str(error)) from None
    changes = compare(before, after)
    if not changes:
        raise WrongInputError(f"{old} and {new} have no case of voxpop in common; expected raw runs of the same suites")
    if different := other_machine(before, after):
        out.warn(f"measured on different machines, compare the relative figures only. {different}")
    out.result({}, _changes(changes))
    out.note(RULE[0].upper() + RULE[1:] + ".")
    slower = [f"{change.suite}: {change.case}, {change.system}" for change in changes if change.state == "slower"]
    if check and slower:
        raise CommandFailedError("\n".join([f"{len(slower)} got slower:", *(f"  {line}" for line in slower)]))


def _changes(changes: Sequence[Change]) -> Table:
    from rich.text import Text

    shown = table("case", "system", "old", "new", "new / old", "", right=("old", "new", "new / old"))
    for one in changes:
        unit = f"x {one.relative_to}" if one.relative_to else f"{one.unit}/s"
        state = Text("" if one.state == "same" else one.state, COLOURS.get(one.state, ""))
        shown.add_row(
            one.case, one.system, f"{one.old:,.4g} {unit}", f"{one.new:,.4g} {unit}", f"{one.ratio:.2f}", state
        )
    return shown


class _Watcher:
    """Shows how far a suite is: a line that is redrawn in a terminal, a line a case elsewhere."""

    def __init__(self, out: Output, suite: str) -> None:
        self._out = out
        self._suite = suite
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if self._out.is_live:
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                SpinnerColumn(),
                TextColumn(self._suite),
                BarColumn(bar_width=20),
                TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
                console=self._out.notes,
                transient=True,
            )
            self._progress.start()
            self._progress.add_task("", total=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def step(self, title: str, number: int, of: int) -> None:
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=title, completed=number, total=of)
        else:
            self._out.note(f"{self._suite} {number}/{of}: {title}")

    def run(self, case: str, system: str, repeat: int, repeats: int) -> None:
        if self._progress is not None:
            shown = f"{case}: {system}" + (f", {repeat + 1} of {repeats}" if repeats > 1 else "")
            self._progress.update(self._progress.task_ids[0], description=shown)

    def trouble(self, what: str, why: str) -> None:
        if self._progress is None:
            self._out.note(f"  {what}: {why.strip().splitlines()[-1]}")
