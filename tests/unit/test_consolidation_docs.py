"""The page on adding a method can be followed: its blocks, put where it says, make a method that is found and right."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"


@pytest.fixture
def blocks():
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [language for language, _ in found] == ["python", "toml", "python"]
    return [text for _, text in found]


def run(program, folder):
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{program}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def install(folder, module, declaration):
    """Lay the package out as pip would: its module, and the metadata that names its entry points."""
    (folder / "my_methods.py").write_text(module, encoding="utf-8")
    metadata = folder / "my_methods-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-methods\nVersion: 1.0\n", encoding="utf-8")
    ((group, entries),) = tomllib.loads(declaration)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_worked_example_is_found_by_name_and_passes_its_oracle(blocks, tmp_path):
    module, declaration, oracle = blocks
    install(tmp_path, module, declaration)
    done = run(oracle, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_worked_example_has_a_stream(blocks, tmp_path):
    install(tmp_path, blocks[0], blocks[1])
    program = """
from voxpop.consolidation import Votes, get_method, method_names
from voxpop.consolidation.method import Method, State
method = get_method("quorum", share=0.9)
state = method.state()
assert isinstance(method, Method) and isinstance(state, State)
state.add(Votes.from_columns(["i", "i", "j"], ["v", "w", "v"], ["a", "a", "b"]))
again = type(state).load(state.save())
assert again.method == method and again.posterior(["j"]).labels.tolist() == ["b"]
assert {"majority", "dawid_skene", "quorum"} <= set(method_names())
"""
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_example_s_oracle_can_fail(blocks, tmp_path):
    module, declaration, oracle = blocks
    broken = module.replace("leading < self.share - 1e-9", "leading < self.share + 1e-9")
    assert broken != module
    install(tmp_path, broken, declaration)
    assert "AssertionError" in run(oracle, tmp_path).stderr


def test_an_unknown_method_is_refused_with_the_known_ones():
    from voxpop.consolidation.method import UnknownMethodError, get_method

    with pytest.raises(UnknownMethodError, match=r"'dawid-skene'; known methods: .*dawid_skene, .*majority"):
        get_method("dawid-skene")
