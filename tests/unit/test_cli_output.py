"""What every command shares: exit codes, JSON, wording, and a `--help` that answers at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from voxpop.broker import JobSpec, errors
from voxpop.broker.config import Config
from voxpop.cli import output, status
from voxpop.cli.connection import announced, connect
from voxpop.consolidation.method import UnknownMethodError
from voxpop.formats import errors as storage
from voxpop.formats.model import FormatError, Problem
from voxpop.simulator.crowd import CrowdError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (output.WrongInputError("x"), 2),
        (output.CommandFailedError("x"), 1),
        (errors.InvalidInputError("x"), 2),
        (errors.ConfigError("x"), 2),
        (errors.NotFoundError("x"), 2),
        (errors.ConflictError("x"), 2),
        (errors.DataDirectoryError("x"), 2),
        (errors.ServerUnavailableError("x"), 1),
        (errors.ServerFullError("x"), 1),
        (errors.BusyError("x"), 1),
        (storage.NotThereError("u", "x"), 2),
        (storage.AccessDeniedError("u", "x"), 2),
        (storage.InvalidUriError("u", "x"), 2),
        (storage.StorageFullError("u", "x"), 1),
        (storage.UnavailableError("u", "x"), 1),
        (FormatError([Problem(place="f line 1", message="x")]), 2),
        (UnknownMethodError("x"), 2),
        (CrowdError("x"), 2),
        (ZeroDivisionError("x"), None),
        (ValueError("x"), None),
    ],
)
def test_known_errors_have_an_exit_code_and_others_their_traceback(error, code):
    """2 for what the caller gave, 1 for what did not work out; a bug is not dressed up as either."""
    assert output.exit_code_of(error) == code


def test_json_is_one_document_and_people_read_stderr(capsys):
    """With --json stdout can be piped into any JSON reader, whatever else is said."""
    out = output.Output(as_json=True)
    out.note("working")
    out.warn("odd")
    out.result({"labels": 3, "path": b"x".decode(), "nothing": float("nan")}, "three labels")
    said = capsys.readouterr()
    assert json.loads(said.out) == {"labels": 3, "path": "x", "nothing": None}
    assert said.err == "Warning: odd\n"


def test_a_stack_whose_server_is_down_is_not_taken_for_none(tmp_path):
    """`voxpop up` runs, its server does not: say so, and how much room there is."""
    settings = Config.load(environment={}, explicit={"data_dir": tmp_path})
    running = Config.load(environment={}, explicit={"data_dir": tmp_path, "redis_url": f"unix://{tmp_path}/gone"})
    with announced(running), pytest.raises(output.WrongInputError) as refusal:
        connect(settings)
    assert str(refusal.value).startswith(f"`voxpop up` runs (process {os.getpid()}), but its server does not answer")
    assert f"{tmp_path} has" in str(refusal.value)
    with pytest.raises(output.WrongInputError, match="nothing runs here"):
        connect(settings)


def test_people_get_text_without_colour_or_cuts_when_it_is_piped(capsys):
    """No escape codes, no wrapping at 80 columns, brackets as they are."""
    out = output.Output(as_json=False)
    rows = output.table("name", "what", right=("what",))
    rows.add_row("x" * 200, "[1, 2]")
    out.result({}, "[bold] is no markup " + "y" * 200, rows)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[bold] is no markup " + "y" * 200 in said
    assert "x" * 200 in said
    assert "[1, 2]" in said


def test_an_error_is_one_message_and_with_json_a_document_too(capsys):
    """Machines find kind, message and exit code on stdout."""
    output.Output(as_json=True).error("ConfigError", "the port is 0", 2)
    said = capsys.readouterr()
    assert said.err == "Error: the port is 0\n"
    assert json.loads(said.out) == {"error": {"kind": "ConfigError", "message": "the port is 0"}, "exit_code": 2}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (8.24, "8.2 s"),
        (42.4, "42 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_read_as_people_say_them(seconds, words):
    """Never more than two units."""
    assert output.duration(seconds) == words


@pytest.mark.parametrize(
    ("replication", "people", "words"), [(5, 3, "needs 2 more people"), (3, 2, "needs 1 more person"), (3, 3, "")]
)
def test_a_pool_that_is_too_small_is_said_in_words(replication, people, words):
    """A warning and a status, not a refusal."""
    spec = JobSpec(name="a", task_type="text_single_label", pool="team", replication=replication)
    view = status.JobView.of(_job(spec, "InProgress"), None, people)
    assert view.needs == words
    if words:
        assert view.needs_because == f"{words} (replication {replication}, pool team has {people})"
    assert status.JobView.of(_job(spec, "Completed"), None, people).needs == ""


def test_named_tickets_need_no_number_of_people():
    """Whom an item names is known to the item."""
    spec = JobSpec(name="a", task_type="text_single_label", pool="team", replication=0, assignment="named")
    assert status.people_needed(spec, 0) == 0


HEAVY = ("numba", "numpy", "matplotlib", "dramatiq", "redis", "obstore", "structlog")


def test_help_loads_nothing_heavy():
    """`voxpop --help` and shell completion answer at once because nothing is imported that a command may need."""
    program = (
        "import sys\n"
        "from voxpop.cli.main import main\n"
        "try:\n    main(['job', '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "voxpop job" in done.stdout


def _job(spec, state):
    from voxpop.broker import Job, JobStatus

    return Job(spec=spec, status=JobStatus(state), created_at_ms=0)
