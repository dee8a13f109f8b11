"""What a person types in `voxpop work` and what is shown to them; with a server: tests/e2e/test_cli_up.py."""

from __future__ import annotations

import os
import pty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxpop.cli.work import COMMANDS, END_OF_INPUT, _key, _unbuffered, keys_for, visible

NAMES = st.lists(
    st.text(min_size=1, max_size=3) | st.sampled_from("abcqsrixyz19"), min_size=1, max_size=40, unique=True
)


@pytest.fixture
def terminal():
    """Both ends of a terminal: the keyboard's, and the program's, which hands over each key."""
    ours, theirs = pty.openpty()
    with _unbuffered(theirs):
        yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["good", "bad"], ["1", "2"]),
        ([f"name {'x' * length}" for length in range(11)], [str(number) for number in range(1, 12)]),
        (["-1", "0", "1"], ["a", "b", "c"]),
        (["4 stars", "5 stars"], ["a", "b"]),
        (["half", "½"], ["a", "b"]),
        (["b", "a", "other"], ["b", "a", "c"]),
        (["A", "other"], ["A", "b"]),
        (["s", "q", "none"], ["a", "b", "c"]),
        ([str(number) for number in range(23)], [*"abcdefghjklmnoptuvwxyz", "aa"]),
        (["1", "aa", *map(str, range(2, 24))], [*"abcdefghjklmnoptuvwxyz", "ab", "ac"]),
    ],
)
def test_keys_in_front_of_categories(names, keys):
    assert keys_for(names, names) == dict(zip(keys, names, strict=True))


def test_an_item_with_fewer_categories_has_the_same_kind_of_keys():
    assert keys_for(["much", "little"], ["much", "little", "0"]) == {"a": "much", "b": "little"}
    assert keys_for(["little"], ["b", "a", "little"]) == {"c": "little"}, "a and b are names, though not offered here"


@given(NAMES, st.data())
def test_no_key_means_two_things(names, data):
    """Every category has a key; none is a command, or the name of another category."""
    offered = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    keys = keys_for(offered, names)
    assert list(keys.values()) == offered
    assert not set(keys) & set(COMMANDS)
    assert all(key == name or key not in names for key, name in keys.items())


@given(st.text())
def test_visible_text_has_no_control_characters(text):
    shown = visible(text)
    assert not [char for char in shown if ord(char) < 32 and char not in "\t\n"]
    assert not [char for char in shown if 0x7F <= ord(char) < 0xA0]
    shown.encode()
    assert visible(shown) == shown


def test_text_of_any_script_stays_as_it_is():
    text = "tab\tline\nno-break\xa0space \u3000 👩\u200d🚀"
    assert visible(text) == text
    assert visible("dos\r\nunix\nover\rwritten\ud800") == "dos\nunix\nover\ufffdwritten\ufffd"


@pytest.mark.parametrize("key", ["1", "é", "全", "👩", "\n", END_OF_INPUT])
@pytest.mark.parametrize(
    "before",
    [
        "",
        "\x1b[3~",
        "\x1b[2~",
        "\x1b[H",
        "\x1b[5~",
        "\x1b[15~",
        "\x1bOP",
        "\x1b[[A",
        "\x1b[1;5A",
        "\x1b\x1b[A",
        "\x1b1",
    ],
)
def test_one_key_is_read_whatever_came_before(terminal, before, key):
    ours, theirs = terminal
    os.write(ours, (before + key).encode())
    assert _key(theirs) == key


def test_escape_alone_is_ignored(terminal, monkeypatch):
    ours, theirs = terminal
    monkeypatch.setattr("voxpop.cli.work.SEQUENCE_SECONDS", 0)
    os.write(ours, b"\x1b")
    monkeypatch.setattr("voxpop.cli.work._skip_sequence", lambda _: os.write(ours, b"2"))
    assert _key(theirs) == "2"


def test_the_end_of_the_input_quits():
    reading, writing = os.pipe()
    os.close(writing)
    assert _key(reading) == END_OF_INPUT
    os.close(reading)
