"""What a wheel holds, and what importing costs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("broker", "cli", "consolidation", "formats", "simulator", "workers")


def test_every_package_of_the_tree_is_listed():
    """A package missing from pyproject.toml would be missing from the wheel."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        "voxpop." + ".".join(init.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == listed


def test_typeroot_mirrors_the_folders():
    """Type checkers see the same packages as the installer."""
    assert {path.name: path.resolve() for path in (ROOT / "typeroot/voxpop").iterdir()} == {
        folder: ROOT / folder for folder in FOLDERS
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what git tracks, so that leftovers of the tree cannot help."""
    room = tmp_path_factory.mktemp("wheel")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listing.decode().split("\0")):
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            target = room / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            room,
            room / "source",
        ],
        check=True,
    )
    return next(room.glob("*.whl"))


def test_wheel_holds_code_scripts_and_data(wheel):
    """Everything that runs ships: Python, Lua with its parts, recorded answers, type markers."""
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".lua", ".gz", ".typed", ".css"} and "__pycache__" not in path.parts
    ]
    assert {f"voxpop/{name}" for name in tracked} <= names
    assert "voxpop/broker/scripts/lib/record.lua" in names
    assert not any(name.startswith(("tests/", "benchmarks/", "broker/")) for name in names)
    assert "voxpop/__init__.py" not in names


@pytest.mark.parametrize("module", ["numba", "dramatiq", "matplotlib", "typer"])
def test_pushing_work_is_cheap_to_import(module):
    """A service that only pushes work pays little more than `import redis`."""
    code = f"import sys, voxpop.broker; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
