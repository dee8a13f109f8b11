"""The page of results, made from raw runs and from nothing else.

    python -m benchmarks.report [DIR]

reads the newest raw runs of each suite in DIR (default: benchmarks/results), and writes docs/benchmarks.md, its plots,
docs/img/bench-*.svg, and the runs themselves, benchmarks/published/*.jsonl, from which the page can be made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.harness import ROOT, render, summarise, write_runs
from benchmarks.peer import peer_infos
from benchmarks.running import RESULTS, newest_runs
from benchmarks.suite import SUITES, get_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Run
    from benchmarks.suite import Picture, Suite, Verdict

__all__ = ["PUBLISHED", "page", "publish", "write_report"]

PUBLISHED: Final = ROOT / "benchmarks" / "published"
SIGNS: Final = {"met": "met", "missed": "**missed**", "not measured": "not measured"}
HEAD: Final = """# Benchmarks

<!-- Made from raw runs by `python -m benchmarks.report`; do not edit. -->

Measured by `voxpop bench`. Systems under comparison took turns on one machine; figures are medians over the repeats,
and ratios those of the same repeat. Peers run in environments of their own, and only their work is timed: neither start
nor imports nor reading the data.
"""


def write_report(runs: Sequence[Run], docs: Path) -> Path:
    """Write ``benchmarks.md`` and its plots below a folder of documentation, and return the page's path."""
    from voxpop.cli.plots import save_figure

    pictures: dict[str, list[Picture]] = {}
    for name, of in _by_suite(runs).items():
        pictures[name] = get_suite(name).pictures(of)
        for picture in pictures[name]:
            save_figure(picture.figure, docs / "img" / _file_of(picture))
    target = docs / "benchmarks.md"
    target.write_text(page(runs, pictures), encoding="utf-8")
    return target


def publish(runs: Sequence[Run], folder: Path) -> None:
    """Keep raw runs as one file a suite; what was published of a suite before is replaced."""
    for name, of in _by_suite(runs).items():
        file = folder / f"{name}.jsonl"
        file.unlink(missing_ok=True)
        write_runs(file, of)


def page(runs: Sequence[Run], pictures: dict[str, list[Picture]]) -> str:
    """Return the page in Markdown."""
    parts = [HEAD, _machines(runs)]
    for name, of in _by_suite(runs).items():
        parts.append(_suite(get_suite(name), of, pictures.get(name, [])))
    parts.append(_peers(runs))
    return "\n".join(parts)


def _by_suite(runs: Sequence[Run]) -> dict[str, list[Run]]:
    return {name: of for name in SUITES if (of := [run for run in runs if run.suite == name])}


def _file_of(picture: Picture) -> str:
    return f"bench-{picture.name}.svg"


def _machines(runs: Sequence[Run]) -> str:
    lines = ["| suite | when (UTC) | machine | memory | system | versions |", "|---|---|---|---|---|---|"]
    for name, of in _by_suite(runs).items():
        machine = of[0].machine
        ours = next((run.versions for run in of if run.system.startswith("voxpop")), {})
        shown = ", ".join(f"{package} {number}" for package, number in ours.items())
        lines.append(
            f"| {name} | {min(run.started_at for run in of)} | {machine.cpu}, {machine.cpus} CPUs "
            f"| {machine.memory_bytes / 2**30:.0f} GiB | {machine.system}, {machine.python} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def _suite(suite: Suite, runs: Sequence[Run], pictures: Sequence[Picture]) -> str:
    parts = [f"## {suite.name}\n", f"{suite.about[0].upper()}{suite.about[1:]}.\n"]
    verdicts = suite.verdicts(runs)
    if verdicts:
        parts += ["### Targets\n", _verdicts(verdicts) + "\n"]
    parts += [f"![{picture.caption}](img/{_file_of(picture)})\n" for picture in pictures]
    rows = summarise(run for run in runs if not suite.has_own_table(run))
    if rows:
        parts += ["### Rates\n", render(rows) + "\n"]
        parts.append("Ratios are to voxpop in the same case. Memory is the highest of the whole process until then.\n")
    for table in suite.tables(runs):
        parts.append(f"### {table.title}\n")
        if table.note:
            parts.append(table.note + "\n")
        parts.append("| " + " | ".join(table.head) + " |\n|" + "---|" * len(table.head))
        parts += ["| " + " | ".join(row) + " |" for row in table.rows]
        parts.append("")
    return "\n".join(parts)


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    lines = ["| | measured | target | | |", "|---|---|---|---|---|"]
    lines += [f"| {one.name} | {one.measured} | {one.target} | {SIGNS[one.state]} | {one.note} |" for one in verdicts]
    return "\n".join(lines)


def _peers(runs: Sequence[Run]) -> str:
    lines = ["## Peers\n"]
    for info in peer_infos():
        versions = next((run.versions for run in runs if run.system.startswith(info.name)), None)
        lines.append(f"**{info.name} {info.version}.** {info.why} {info.configuration.strip()}\n")
        if versions is None:
            lines.append("It was not installed when this was measured.\n")
        else:
            lines.append("Measured with " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".\n")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args()
    runs = newest_runs(options.runs)
    publish(runs, PUBLISHED)
    # From what is published: suites that were not run again keep their part of the page.
    print(f"written: {write_report(newest_runs(PUBLISHED), ROOT / 'docs').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
