"""What a type checker sees of the clients: driven methods keep their operations' signatures and results."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("program.py")
OPTIONS = [
    "--strict",
    "--namespace-packages",
    "--explicit-package-bases",
    "--no-error-summary",
    "--config-file=",
    "--ignore-missing-imports",
    "--follow-imports=silent",
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Mypy's findings on ``program.py``, by line."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *OPTIONS, "--cache-dir", str(tmp_path_factory.mktemp("mypy")), str(PROGRAM)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT / "typeroot"), "PATH": ""},
    )
    found = {}
    for line in done.stdout.splitlines():
        _, number, rest = line.split(":", 2)
        found.setdefault(int(number), []).append(rest.strip())
    assert found, done.stderr
    return found


def test_the_program_gets_the_reports_that_its_comments_expect(reports):
    """A line's comment names a part of its report; lines without one have none."""
    expected = {}
    for number, line in enumerate(PROGRAM.read_text("utf-8").splitlines(), 1):
        code, mark, wanted = line.partition("  # expect: ")
        if mark:
            assert code.strip()
            expected[number] = wanted
    unexpected = {number: found for number, found in reports.items() if number not in expected}
    assert not unexpected
    for number, wanted in expected.items():
        assert any(wanted in found for found in reports.get(number, [])), (number, wanted, reports.get(number))
