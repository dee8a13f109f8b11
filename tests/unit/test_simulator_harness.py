"""The benchmark harness: raw runs survive the file, order is interleaved, tables are what the runs say."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def harness(monkeypatch):
    """The module as ``python -m benchmarks...`` imports it: from the root of the repository."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.harness")


def cases(harness, log):
    """Two systems: the second does the same work in twice, then four times the seconds."""

    def system(name, seconds_of):
        def run(seed):
            log.append((name, seed))
            return harness.Measured(seconds_of(seed), 100, {"note": name})

        return harness.Case(name, "1.0", run)

    return [system("voxpop", lambda _: 1.0), system("peer", lambda seed: 2.0 if seed == 7 else 4.0)]


def test_systems_take_turns_and_every_field_survives_the_file(harness, tmp_path):
    log = []
    runs = list(harness.interleave("votes", "small", "votes", cases(harness, log), repeats=2, seed=7))
    assert log == [("voxpop", 7), ("peer", 7), ("voxpop", 8), ("peer", 8)]
    path = tmp_path / "raw" / "votes.jsonl"
    assert harness.write_runs(path, runs[:1]) == 1
    assert harness.write_runs(path, runs[1:]) == 3
    assert harness.read_runs(path) == runs
    fields = json.loads(path.read_bytes().splitlines()[1])
    assert (fields["suite"], fields["case"], fields["system"], fields["version"]) == ("votes", "small", "peer", "1.0")
    assert (fields["seed"], fields["repeat"], fields["n"], fields["seconds"], fields["unit"]) == (
        7,
        0,
        100,
        2.0,
        "votes",
    )
    assert fields["peak_rss_bytes"] > 2**20
    assert fields["machine"]["cpus"] >= 1
    assert fields["extra"] == {"note": "peer"}


def test_runs_are_kept_if_a_later_one_fails(harness, tmp_path):
    def fails(seed):
        raise RuntimeError(seed)

    systems = [*cases(harness, [])[:1], harness.Case("peer", "1.0", fails)]
    with pytest.raises(RuntimeError):
        harness.write_runs(tmp_path / "raw.jsonl", harness.interleave("s", "c", "votes", systems, repeats=2))
    assert [run.system for run in harness.read_runs(tmp_path / "raw.jsonl")] == ["voxpop"]


def test_tables_have_medians_and_ratios_of_the_same_repeat(harness):
    runs = list(harness.interleave("votes", "small", "votes", cases(harness, []), repeats=3, seed=7))
    ours, peer = harness.summarise(runs)
    assert (ours.median_rate, ours.ratio, ours.repeats) == (100.0, 1.0, 3)
    assert (peer.median_rate, peer.low_rate, peer.high_rate, peer.ratio) == (25.0, 25.0, 50.0, 0.25)
    assert "| votes | small | peer 1.0 | 3 | 25 votes/s | 25 to 50 | 1/4 |" in harness.render([ours, peer])
    (alone,) = harness.summarise(run for run in runs if run.system == "peer")
    assert math.isnan(alone.ratio)


@pytest.mark.parametrize("line", ['{"suite": "votes"}', "not JSON", '{"suite": 3}'])
def test_a_broken_line_is_named(harness, tmp_path, line):
    path = tmp_path / "raw.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(harness.RawRunError, match=r"raw\.jsonl line 1 is not a raw run"):
        harness.read_runs(path)
