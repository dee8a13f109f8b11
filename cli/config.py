"""``voxpop config``: what is set, and where it comes from. What settings there are is in ``broker/config.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from voxpop.cli.options import ConfigOption, DataDirOption, JsonOption, RedisOption, examples
from voxpop.cli.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["app"]

app = typer.Typer(help="The settings.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """See the settings and where they come from."""


@app.command(epilog=examples("voxpop config show", "VOXPOP_ACTORS=4 voxpop config show --json"))
def show(
    redis: RedisOption = None, data_dir: DataDirOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show every setting: its value, where it comes from, and what it means.

    Later sources win: defaults, voxpop.toml, environment variables VOXPOP_*, options.
    """
    from rich.padding import Padding
    from rich.text import Text

    from voxpop.cli.connection import load_config

    settings = load_config(redis, data_dir, config).settings()
    shown: list[RenderableType] = []
    for setting in settings:
        shown.append(
            Text.assemble((setting.name, "bold"), f" = {setting.value or '(empty)'}", (f"  [{setting.origin}]", "dim"))
        )
        shown.append(Padding(Text(setting.meaning, style="dim"), (0, 0, 0, 4)))
    Output(as_json=as_json).result({"settings": settings}, *shown)
