"""Every transition's file states its contract, and writes its shard at its end only."""

import re
import subprocess
import sys
from importlib.resources import files

import pytest

from voxpop.broker import scripts
from voxpop.broker.keys import SHARD_PARTS
from voxpop.broker.scripts import COUNTERS, SHARD_SCRIPTS, load

FOLDER = files(scripts)
NAMES = sorted(path.name.removesuffix(".lua") for path in FOLDER.iterdir() if path.name.endswith(".lua"))
OF_A_SHARD = sorted(set(SHARD_SCRIPTS) - {"open", "learn_pool"})  # those that need an open shard
WRITES = {"XADD", "HSET", "HDEL", "ZADD", "ZREM", "XTRIM", "HINCRBY", "HSETNX", "DEL"}


def text_of(name):
    return (FOLDER / f"{name}.lua").read_text("utf-8")


def head_of(name):
    return "\n".join(line for line in text_of(name).split("\n\n")[0].splitlines() if line.startswith("--"))


def without_comments(source):
    return re.sub(r"--[^\n]*", "", source)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_a_contract(name):
    """Guarantee, KEYS, ARGV and reply, in this order, below one line that says what the transition is."""
    head = head_of(name)
    assert re.match(rf"--- {name}: \S", head)
    places = [head.find(f"\n-- {part}") for part in ("Guarantee:", "KEYS", "ARGV", "Reply:")]
    assert -1 not in places, f"{name}.lua lacks a part of its contract"
    assert places == sorted(places)


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_numbers_every_argument_that_the_script_reads(name):
    source, head = without_comments(text_of(name)), head_of(name)
    arguments = head[head.index("\n-- ARGV") : head.index("\n-- Reply")]
    if "as settle.lua" in arguments:
        arguments = head_of("settle")
    for number in set(re.findall(r"ARGV\[(\d+)\]", source)):
        assert re.search(rf"\b{number}(\.\.)? ", arguments), f"{name}.lua reads ARGV[{number}]"


def test_every_script_is_listed_and_no_other():
    pool_scripts = {"create_job", "create_pool", "edit_pool", "edit_workforce", "enroll", "move_job", "verdict"}
    assert set(NAMES) == set(SHARD_SCRIPTS) | pool_scripts
    with pytest.raises(FileNotFoundError):
        load("nothing")


@pytest.mark.parametrize("name", OF_A_SHARD)
def test_a_transition_of_a_shard_commits_at_its_end(name):
    """Records first, meta and events last: nothing but reads and the reply comes after."""
    source = without_comments(text_of(name))
    assert text_of(name).count("--@include shard") == 1
    assert len(re.findall(r"\bcommit\(\)", source)) >= 1
    after = source[source.rindex("commit()") :]
    assert not WRITES & set(re.findall(r'call\("(\w+)"', after)), "a write after the commit"
    if "keep(" in source or "requeue(" in source or "give_back(" in source:
        assert re.search(r"commit_records\(\)\s+commit\(\)", source)
    assert re.search(r"return \{[^}]*\}\s*$", source)


@pytest.mark.parametrize("name", OF_A_SHARD)
def test_a_shard_script_touches_declared_keys_only(name):
    """A key that is spelled inside a script would break on a cluster."""
    source = without_comments(load(name).source)
    keys = set(re.findall(r'call\("\w+", ([A-Z][A-Z_]*|\S+?)[,)]', source)) - {'"TIME"'}
    declared = {"META", "CHUNKS", "OVERFLOW", "CURSORS", "REOPENED", "NAMED"}
    declared |= {"TIMERS", "LOG", "BELL", "RESULTS", "SEGMENTS", "IDS"}
    assert keys <= declared
    assert len(declared) == len(SHARD_PARTS)


def test_includes_are_put_in_place():
    source = load("claim").source
    assert "--@include" not in source
    assert source.count("local function commit()") == 1
    assert source.count("local function commit_records()") == 1


def test_attend_returns_the_counters_in_their_order():
    reply = text_of("attend")
    assert tuple(re.findall(r"meta\.(\w+)", reply[reply.index("return {") :])) == COUNTERS


def test_importing_the_broker_loads_no_compiler_and_no_task_queue():
    """A service that only pushes work pays little more than ``import redis``."""
    program = (
        "import sys, voxpop.broker, voxpop.broker.history, voxpop.broker.model\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'numba', 'numpy', 'dramatiq', 'matplotlib', 'typer', 'rich', 'obstore'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
