"""Every `voxpop` command that the documentation shows exists, with the options that it is shown with."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from voxpop.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    for page in PAGES:
        blocks = re.findall(r"```(?:console|sh|bash|text)?\n(.*?)```", page.read_text(), flags=re.DOTALL)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            if match := re.match(r"\$? *(voxpop [^|#>]*)", line):
                yield pytest.param(match[1], id=f"{page.name}: {match[1].strip()[:50]}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_documented_command_is_one(line):
    command, words = get_command(app), shlex.split(line)[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or not words or words[0].startswith("-"), f"no such command: {line}"
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options | {"--help"}, f"{line}: options are {sorted(options)}"


def test_there_are_some():
    assert len(list(commands())) > 10
