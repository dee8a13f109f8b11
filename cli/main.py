"""The ``voxpop`` command itself: which commands there are, and how every one of them ends.

Every known error becomes one message and an exit code here; the commands only raise. Nothing heavy is imported before
a command runs: ``voxpop --help`` answers at once.
"""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from voxpop.cli import agreement, bench, config, consolidate, demo, doctor, job, pool, processes, push, run, work
from voxpop.cli.output import DONE, INTERRUPTED, WRONG_INPUT, Output, exit_code_of, quiet_broken_pipe

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main"]

app = typer.Typer(
    name="voxpop",
    help="Human work on data: jobs, people, labels. Begin with: voxpop demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"voxpop {version('voxpop')}\n")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Human work on data: jobs, people, labels. Begin with: voxpop demo."""


app.command("demo", rich_help_panel="Try it", epilog=demo.EPILOG)(demo.demo)
run.register(app)
processes.register(app)
app.add_typer(job.app, name="job", rich_help_panel="Jobs and people")
app.add_typer(pool.app, name="pool", rich_help_panel="Jobs and people")
push.register(app)
work.register(app)
app.add_typer(consolidate.app, name="consolidate", rich_help_panel="Tools")
agreement.register(app)
bench.register(app)
doctor.register(app)
app.add_typer(config.app, name="config", rich_help_panel="Tools")


def main(argv: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code: 0 done, 1 failed, 2 wrong input."""
    words = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, _end)
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        quiet_broken_pipe()
    except KeyboardInterrupt:  # before or after the command, or a second one while it cleans up
        code = INTERRUPTED
    sys.exit(code)


def _run(words: list[str]) -> int:
    out = Output(as_json="--json" in words and words[0] != "bench")  # there it names a folder
    try:
        code: object = app(args=words, prog_name="voxpop", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # which of the two depends on the version of typer
        code = INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if hasattr(error, "format_message"):  # of click, which newer versions of typer carry inside
            return _explain_usage(out, error)
        known = exit_code_of(error)
        if known is None:
            raise
        out.error(type(error).__name__, str(error), known)
        return known
    if code == INTERRUPTED:
        out.note("Interrupted.")
    return code if isinstance(code, int) else DONE


def _explain_usage(out: Output, error: Exception) -> int:
    """Say what is wrong with a command line, and where its help is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "voxpop"
    message = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]  # checked by the caller
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is the answer
        sys.stdout.write(message)
        return WRONG_INPUT
    out.error("UsageError", f"{message}. `{command} --help` shows how it is used.", WRONG_INPUT)
    return WRONG_INPUT


def _end(_number: int, _frame: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C: everything that was started is stopped on the way out."""
    sys.exit(128 + signal.SIGTERM)
