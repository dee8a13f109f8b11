"""The options that many commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ConfigOption", "DataDirOption", "JobArgument", "JobFileArgument", "JsonOption", "RedisOption", "examples"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for machines.")]
RedisOption = Annotated[
    str | None,
    typer.Option("--redis", metavar="URL", help="Server to use, e.g. redis://host:6379/0; else the one in --data-dir."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Directory of the embedded server and its results."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file; else ./voxpop.toml if there is one.")
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Name of the job.")]
JobFileArgument = Annotated[
    Path, typer.Argument(metavar="JOB.toml", help="The job file; docs/job-files.md explains it.")
]


def examples(*lines: str) -> str:
    """Return the end of a command's help: what people would type."""
    return "\n\n".join(["**Examples**", "", *(f"- `{line}`" for line in lines)])
