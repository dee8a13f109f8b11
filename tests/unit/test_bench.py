"""The benchmark command: what is measured is kept, judged by the stated rules, and compared; peers fail by name."""

import gzip
import sys
from pathlib import Path

import msgspec
import pytest

from voxpop.cli import bench as bench_module
from voxpop.cli.main import _run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def run_of():
    """Make a raw run: ``run_of("case", "system", rate, repeat)``."""
    from benchmarks.harness import Run, machine_facts

    machine = machine_facts()

    def make(case, system="voxpop", rate=100.0, repeat=0, **fields):
        values = {
            "suite": "votes", "case": case, "system": system, "version": "1", "seed": repeat, "repeat": repeat,
            "n": 1_000_000, "unit": "vote.iterations", "seconds": 1_000_000 / rate, "peak_rss_bytes": 2**20,
            "started_at": "2026-01-01T00:00:00Z", "machine": machine,
        }  # fmt: skip
        return Run(**(values | fields))

    return make


class Silent:
    """A listener that remembers."""

    def __init__(self):
        self.steps, self.runs, self.troubles = [], [], []

    def step(self, title, number, of):
        self.steps.append((title, number, of))

    def run(self, case, system, repeat, repeats):
        self.runs.append((case, system, repeat, repeats))

    def trouble(self, what, why):
        self.troubles.append((what, why))


# -- peers -------------------------------------------------------------------------------------------------------------

RUNNER = """
import os, sys, time
def versions():
    print("hello from a library", flush=True)
    return {"tiny": "1.0"}
def double(options, clock):
    print("noise", flush=True)
    before = options["value"]
    with clock:
        after = 2 * before
    return {"n": 1, "after": after}
def fail(options, clock):
    raise ValueError("no such luck")
def die(options, clock):
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)
def hang(options, clock):
    time.sleep(3600)
TASKS = {"double": double, "fail": fail, "die": die, "hang": hang}
"""


@pytest.fixture
def tiny(tmp_path):
    from benchmarks.peer import Peer

    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER)
    with Peer("tiny", Path(sys.executable), runner) as peer:
        yield peer


def test_a_peer_answers_and_what_it_prints_is_no_answer(tiny):
    assert tiny.versions["tiny"] == "1.0"
    assert tiny.versions["python"].startswith("3.")
    for value in (3, 4):
        measured = tiny.call("double", {"value": value})
        assert (measured.n, measured.extra) == (1, {"after": 2 * value})
        assert measured.seconds < 1
        assert 2**20 < measured.peak_rss_bytes < 2**30


def test_a_peer_that_fails_can_be_asked_again(tiny):
    from benchmarks.peer import PeerFailedError

    with pytest.raises(PeerFailedError, match=r"(?s)tiny: fail failed: .*ValueError: no such luck"):
        tiny.call("fail", {})
    with pytest.raises(PeerFailedError, match=r"KeyError: 'triple'"):
        tiny.call("triple", {})
    assert tiny.call("double", {"value": 1}).extra == {"after": 2}


def test_a_peer_that_dies_is_told_with_its_last_words(tiny):
    from benchmarks.peer import PeerFailedError

    with pytest.raises(PeerFailedError, match=r"(?s)tiny ended with exit code 3: .*last words"):
        tiny.call("die", {})
    with pytest.raises(PeerFailedError, match="tiny ended with exit code 3"):
        tiny.call("double", {"value": 1})
    assert not tiny.is_running


def test_a_peer_that_takes_too_long_is_ended(tiny):
    from benchmarks.peer import PeerFailedError

    with pytest.raises(PeerFailedError, match=r"tiny did not end within 0\.1 s, and was ended"):
        tiny.call("hang", {}, limit_seconds=0.1)
    with pytest.raises(PeerFailedError, match="tiny ended with exit code"):
        tiny.call("double", {"value": 1})


def test_a_peer_that_speaks_otherwise_is_told_with_what_it_said(tmp_path):
    from benchmarks.peer import Peer, PeerFailedError

    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '{\"versions\": 3}'\nexec cat\n")
    program.chmod(0o755)
    with pytest.raises(PeerFailedError, match=r"odd answered .*versions.*expected one JSON answer"):
        Peer("odd", program, tmp_path / "runner.py")


def test_a_missing_peer_is_named_once_with_how_to_install_it(tmp_path, monkeypatch):
    from benchmarks import peer
    from benchmarks.suite import Context, NoParameters

    monkeypatch.setattr(peer, "VENVS", tmp_path / "venvs")
    (info,) = (one for one in peer.peer_infos() if one.folder == "crowd_kit")
    assert info.version == "1.4.2"
    with pytest.raises(peer.PeerMissingError, match=r"crowd-kit 1\.4\.2 is not installed; `make bench-peers`"):
        peer.open_peer(info)

    said = []

    class Skips:
        def skipped(self, what, why):
            said.append((what, why))

    context = Context("votes", True, 0, None, NoParameters(), tmp_path, Skips())
    assert context.peer("crowd_kit") is None
    assert context.peer("crowd_kit") is None
    assert [what for what, _ in said] == ["crowd-kit"]


def test_a_peer_in_another_version_than_the_pinned_one_is_not_used(tmp_path, monkeypatch):
    from benchmarks import peer

    folder = tmp_path / "peers" / "tiny"
    folder.mkdir(parents=True)
    (folder / "runner.py").write_text(RUNNER)
    (folder / "requirements.txt").write_text("# pinned\ntiny==1.1\n")
    (folder / "peer.toml").write_text('name = "Tiny"\ndistribution = "tiny"\nwhy = "w"\nconfiguration = "c"\n')
    (tmp_path / "venvs" / "tiny" / "bin").mkdir(parents=True)
    (tmp_path / "venvs" / "tiny" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "venvs" / "tiny" / ".installed").touch()
    monkeypatch.setattr(peer, "VENVS", tmp_path / "venvs")
    monkeypatch.setattr(peer, "PEERS", tmp_path / "peers")
    (info,) = peer.peer_infos()
    with pytest.raises(peer.PeerMissingError, match=r"Tiny is installed in version 1\.0, pinned is 1\.1"):
        peer.open_peer(info)
    peer.open_peer(msgspec.structs.replace(info, version="1.0")).close()


# -- running -----------------------------------------------------------------------------------------------------------

TINY_SUITE = """
from benchmarks.harness import Case, Measured, SystemFailedError
from benchmarks.suite import Step, Suite, at_least, at_most, not_measured
import msgspec

class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 10

def works(context):
    def run(seed):
        return Measured(1.0, context.parameters.size, {"seed": seed})
    def breaks(seed):
        raise SystemFailedError("it is Monday")
    systems = [Case("voxpop", "1", run), Case("peer", "2", breaks), Case("other peer", "3", run)]
    yield from context.interleave("count", "items", systems, repeats=2)

def fails(context):
    raise RuntimeError("a fault")
    yield

def interrupted(context):
    yield from context.interleave("last", "items", [Case("voxpop", "1", lambda seed: Measured(1.0, 1))], repeats=1)
    raise KeyboardInterrupt

def verdicts(runs):
    rate = max((run.rate for run in runs), default=0.0)
    return [
        at_least("fast", rate, 10, "{:g} a second".format),
        at_most("small", rate, 10, "{:g}".format),
        not_measured("later", ">= 3", "nobody asked"),
    ]

STEPS = [Step("counting", works), Step("failing", fails), Step("stopping", interrupted)]
SUITE = Suite("tiny", "a suite for tests", lambda _: STEPS, verdicts, Parameters)
"""


@pytest.fixture
def tiny_suite(tmp_path, monkeypatch):
    """A suite ``tiny`` of three steps; returns the folder for its raw runs."""
    from benchmarks import suite

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tiny_suite.py").write_text(TINY_SUITE)
    monkeypatch.delitem(sys.modules, "tiny_suite", raising=False)
    monkeypatch.setattr(suite, "SUITES", {"tiny": "tiny_suite"})
    return tmp_path / "raw"


def bench(folder, *words):
    return _run(["bench", "--json", str(folder), *words])


def test_what_was_measured_is_kept_whatever_fails(tiny_suite, capsys):
    from benchmarks.running import newest_runs

    assert bench(tiny_suite, "tiny") == 130
    runs = newest_runs(tiny_suite)
    assert [(run.case, run.system, run.repeat) for run in runs] == [
        ("count", "voxpop", 0),
        ("count", "other peer", 0),
        ("count", "voxpop", 1),
        ("count", "other peer", 1),
        ("last", "voxpop", 0),
    ]
    assert {run.extra.get("seed") for run in runs} == {0, 1, None}
    assert runs[0].versions["voxpop"]
    printed = capsys.readouterr()
    assert "Skipped: peer, count: it is Monday" in printed.err
    assert "10 items/s" in printed.out
    assert "Interrupted." in printed.err


def test_a_step_that_breaks_fails_the_command_by_name(tiny_suite, capsys):
    assert bench(tiny_suite, "tiny", "--only", "ing") == 130
    assert bench(tiny_suite, "tiny", "--only", "failing") == 1
    assert "failing: RuntimeError: a fault" in capsys.readouterr().err
    assert len(list(tiny_suite.glob("*.jsonl"))) == 1  # a run without a single line leaves no file


def test_check_names_every_target_that_is_missed_and_no_other(tiny_suite, capsys):
    assert bench(tiny_suite, "tiny", "--only", "counting") == 0
    assert bench(tiny_suite, "tiny", "--only", "counting", "--check", "--set", "size=10") == 0
    capsys.readouterr()
    assert bench(tiny_suite, "tiny", "--only", "counting", "--check", "--set", "size=9") == 1
    error = capsys.readouterr().err
    assert "target missed: fast: measured 9 a second, target >= 10 a second" in error
    assert "missed: small" not in error
    assert "missed: later" not in error
    assert bench(tiny_suite, "tiny", "--only", "counting", "--check", "--set", "size=11") == 1
    assert "target missed: small: measured 11, target <= 10" in capsys.readouterr().err


def test_a_check_that_judged_nothing_is_no_check():
    from benchmarks.suite import not_measured

    (line,) = bench_module._missed([not_measured("later", ">= 3", "nobody asked")])
    assert "no target was measured" in line


def test_repeats_and_seed_are_those_asked_for(tiny_suite):
    from benchmarks.running import newest_runs

    assert bench(tiny_suite, "tiny", "--only", "counting", "--repeats", "1", "--seed", "7") == 0
    assert [(run.system, run.seed) for run in newest_runs(tiny_suite)] == [("voxpop", 7), ("other peer", 7)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tinny"], "unknown suite 'tinny'; expected one of: tiny"),
        (["tiny", "--only", "nothing"], "no step of tiny has that in its title: counting; failing; stopping"),
        (["tiny", "--set", "size"], "--set size: expected NAME=VALUE"),
        (["tiny", "--set", "sise=3"], "--set sise=3: there is no such parameter; tiny has size"),
        (["tiny", "--set", "size=big"], "--set size=big: Expected `int`, got `str`"),
        (["tiny", "--data", "nowhere"], "--data nowhere: there is no such folder"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(tiny_suite, capsys, words, said):
    assert bench(tiny_suite, *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not tiny_suite.exists() or not list(tiny_suite.iterdir())


def test_without_the_repository_the_command_says_what_to_do(tmp_path, monkeypatch, capsys):
    import voxpop.cli

    monkeypatch.setattr(voxpop.cli, "__file__", str(tmp_path / "site-packages" / "voxpop" / "cli" / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "harness.py").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert _run(["bench", "--list"]) == 2
    assert "clone the repository" in capsys.readouterr().err
    monkeypatch.chdir(ROOT)  # an installed wheel, run in a clone
    assert _run(["bench", "--list"]) == 0
    assert "crowd-kit" in capsys.readouterr().out


# -- comparing ---------------------------------------------------------------------------------------------------------


def states(old, new):
    from benchmarks.compare import compare

    return {(change.case, change.system): change.state for change in compare(old, new)}


def test_slower_is_what_every_repeat_says_and_by_more_than_noise(run_of):
    def rates(case, *values):
        return [run_of(case, rate=value, repeat=repeat) for repeat, value in enumerate(values)]

    old = [
        *rates("halved", 100, 110, 105), *rates("overlapping", 100, 110, 105), *rates("a little", 100, 101, 102),
        *rates("few", 100, 110), *rates("doubled", 100, 110, 105), *rates("gone", 100, 100, 100),
    ]  # fmt: skip
    new = [
        *rates("halved", 50, 55, 99), *rates("overlapping", 50, 55, 101), *rates("a little", 98, 98, 99),
        *rates("few", 50, 50, 50), *rates("doubled", 200, 210, 120), *rates("new", 1, 1, 1),
    ]  # fmt: skip
    assert states(old, new) == {
        ("halved", "voxpop"): "slower",
        ("overlapping", "voxpop"): "same",
        ("a little", "voxpop"): "same",
        ("few", "voxpop"): "too few repeats",
        ("doubled", "voxpop"): "faster",
    }


def test_a_busier_machine_is_not_slower_code(run_of):
    def both(case, ours, theirs):
        return [
            run_of(case, system, rate=rate, repeat=repeat)
            for repeat, pair in enumerate(zip(ours, theirs, strict=True))
            for system, rate in zip(("voxpop", "peer"), pair, strict=True)
        ]

    old = both("busy", (100, 104, 102), (10, 10.4, 10.2)) + both("slower", (100, 104, 102), (10, 10.4, 10.2))
    new = both("busy", (50, 26, 51), (5, 2.6, 5.1)) + both("slower", (50, 26, 51), (10, 5.2, 10.2))
    assert states(old, new) == {("busy", "voxpop"): "same", ("slower", "voxpop"): "slower"}


def test_compare_marks_and_checks(run_of, tmp_path, capsys):
    from benchmarks.harness import write_runs

    for name, rate in (("old", 100), ("new", 50)):
        write_runs(tmp_path / f"{name}.jsonl", [run_of("case", rate=rate, repeat=repeat) for repeat in range(3)])
    pair = ["--compare", str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")]
    assert _run(["bench", *pair]) == 0
    assert "slower" in capsys.readouterr().out
    assert _run(["bench", *pair, "--check"]) == 1
    assert "votes: case, voxpop" in capsys.readouterr().err
    assert _run(["bench", "--compare", pair[2], pair[1], "--check"]) == 0
    other = run_of("case", machine=msgspec.structs.replace(run_of("case").machine, cpu="abacus"))
    write_runs(tmp_path / "other.jsonl", [other])
    assert _run(["bench", "--compare", pair[1], str(tmp_path / "other.jsonl")]) == 0
    assert "abacus" in capsys.readouterr().err


def test_raw_runs_that_cannot_be_read_are_refused_by_line(run_of, tmp_path, capsys):
    from benchmarks.harness import write_runs

    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write_runs(good, [run_of("case")])
    bad.write_bytes(good.read_bytes() + b'{"suite": "votes"\n')
    for place, said in ((bad, "bad.jsonl line 2 is not a raw run"), (tmp_path / "none", "no such file or folder")):
        assert _run(["bench", "--compare", str(good), str(place)]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    (tmp_path / "empty").mkdir()
    assert _run(["bench", "--compare", str(good), str(tmp_path / "empty")]) == 2


def test_of_a_folder_the_newest_runs_of_each_suite_count(run_of, tmp_path):
    from benchmarks.harness import write_runs
    from benchmarks.running import newest_runs

    for name, rate in (
        ("votes-20260101T000000.000000Z", 1),
        ("votes-20260201T000000.000000Z", 2),
        ("million-20250101T000000.000000Z", 3),
    ):
        write_runs(tmp_path / f"{name}.jsonl", [run_of("case", rate=rate, suite=name.partition("-")[0])])
    assert sorted(run.rate for run in newest_runs(tmp_path)) == [2, 3]


# -- the suite of votes ------------------------------------------------------------------------------------------------


def verdicts(runs):
    from benchmarks.suites.votes.targets import verdicts as judge

    return {one.name: one for one in judge(runs)}


def test_targets_are_judged_at_their_own_size_only(run_of):
    from benchmarks.suites.votes import cases

    small = verdicts([run_of(cases.speed(cases.QUICK_LARGE), rate=900e6)])
    name = "Dawid-Skene, 10M votes, 4 classes, 2 threads"
    assert (small[name].state, small[name].measured) == ("not measured", "")
    for rate, state in ((249e6, "missed"), (251e6, "met")):
        assert verdicts([run_of(cases.speed(cases.LARGE), rate=rate)])[name].state == state
    assert {one.state for one in verdicts([]).values()} == {"not measured"}


def test_the_gain_of_a_thread_is_held_against_the_better_yardstick(run_of):
    from benchmarks.suites.votes import cases

    case = cases.speed(cases.LARGE)

    def runs(gain, digest="a"):
        rates = {
            cases.OURS_ON_ONE: 100, cases.OURS: 100 * gain, "empty loop, 1 thread": 10, "empty loop, 2 threads": 20,
            "triad, 1 thread": 10, "triad, 2 threads": 15,
        }  # fmt: skip
        return [
            run_of(case, system, rate=rate, extra={"sha256": digest if system == cases.OURS else "a"})
            for system, rate in rates.items()
        ]

    name = "speed-up over 1 thread, 10M votes, 4 classes"
    assert verdicts(runs(1.79))[name].state == "missed"
    assert verdicts(runs(1.81))[name].state == "met"
    assert verdicts(runs(1.81))["same bytes on 1 and 2 threads"].state == "met"
    assert verdicts(runs(1.81, digest="b"))["same bytes on 1 and 2 threads"].state == "missed"


def scored(run_of, one, method, right, ece=0.1):
    import numpy as np

    bits = np.packbits(np.array(right, bool)).tobytes().hex()
    extra = {"n_gold": len(right), "accuracy": sum(right) / len(right), "ece": ece, "right": bits}
    return run_of(f"accuracy, {one}", f"voxpop {method}", extra=extra)


def test_auto_may_be_below_majority_by_what_chance_explains(run_of):
    name = "auto against majority, on each set"
    sure = [True] * 100
    # Three items of 100, all of them lost: more than a point, but within the half-width of the paired interval.
    few = [False] * 3 + [True] * 97
    many = [False] * 20 + [True] * 80
    for auto, state in ((few, "met"), (many, "missed"), (sure, "met")):
        runs = [scored(run_of, "s", "majority", sure), scored(run_of, "s", "auto", auto, ece=0.05)]
        assert verdicts(runs)[name].state == state
    assert verdicts(runs)["mean ECE of auto, half of majority's"].state == "met"
    assert verdicts(runs)["mean accuracy of auto on the 11 sets"].state == "not measured"


def test_the_means_are_over_the_sets_they_are_stated_for(run_of):
    from benchmarks.suites.votes.targets import GIVEN_SETS

    name = "mean accuracy of dawid_skene on the 11 sets"
    assert len(GIVEN_SETS) == 11
    right = [True] * 873 + [False] * 127
    runs = [scored(run_of, one, "dawid_skene", right) for one in GIVEN_SETS]
    hard = scored(run_of, "another", "dawid_skene", [False] * 1000)
    assert verdicts([*runs, hard])[name].state == "met"
    assert verdicts([*runs[1:], hard])[name].state == "not measured"
    low = scored(run_of, GIVEN_SETS[0], "dawid_skene", [True] * 850 + [False] * 150)
    assert verdicts([low, *runs[1:]])[name].state == "missed"


def test_simulated_votes_are_by_different_workers_and_the_same_for_a_seed():
    import numpy as np
    from benchmarks.suites.votes.data import Size, simulate

    size = Size(5_000, 50, 4)
    coded = simulate(size, 3)
    votes = coded.votes()
    assert (votes.n_votes, votes.n_items, votes.n_workers, votes.n_classes) == (5_000, 1_000, 50, 4)
    assert all(len(set(row)) == 5 for row in coded.worker.reshape(-1, 5).tolist())
    again, other = simulate(size, 3), simulate(size, 4)
    assert np.array_equal(coded.label, again.label)
    assert not np.array_equal(coded.label, other.label)
    assert size.title == "5k votes, 4 classes"


@pytest.fixture
def without_peers(tmp_path, monkeypatch):
    from benchmarks import peer

    monkeypatch.setattr(peer, "VENVS", tmp_path / "no-venvs")


@pytest.mark.parametrize(
    ("only", "scale"),
    [("dawid-skene", 0.0005), ("votes to labels", 0.0005), ("stream", 0.01), ("beside", 0.01), ("parity", 0.01)],
)
def test_the_steps_run_at_a_tiny_size_without_peers(only, scale, tmp_path, without_peers):
    from benchmarks.running import Request, run_suite
    from benchmarks.suite import get_suite

    watcher = Silent()
    request = Request(quick=True, only=only, parameters={"scale": str(scale)}, folder=tmp_path, repeats=2)
    outcome = run_suite(get_suite("votes"), request, watcher)
    assert outcome.failed == []
    assert outcome.interrupted is False
    if only in {"beside", "parity"}:
        assert any(what == "crowd-kit" and "make bench-peers" in why for what, why in outcome.skipped)
    if only != "parity":
        assert {run.system for run in outcome.runs} >= {"voxpop"}
        assert all(run.seconds > 0 and run.n > 0 for run in outcome.runs)
    if only == "dawid-skene":
        same = next(one for one in outcome.verdicts if one.name == "same bytes on 1 and 2 threads")
        assert same.state == "met"
    if only == "stream":
        refit = next(run for run in outcome.runs if "refit" in run.case)
        assert 0.5 < refit.extra["share_equal"] <= 1


def test_every_registered_method_is_scored_on_a_folder_of_sets(tmp_path, without_peers):
    from benchmarks.running import Request, run_suite
    from benchmarks.suite import get_suite

    from voxpop.cli.scores import score
    from voxpop.consolidation import get_method
    from voxpop.formats.answers import read_gold, read_votes

    folder = tmp_path / "data" / "votes" / "birds"
    folder.mkdir(parents=True)
    rows = [(f"i{i}", f"w{w}", "ab"[(i + (w == i % 4)) % 2]) for i in range(12) for w in range(4)]
    with gzip.open(folder / "answers.csv.gz", "wt") as file:
        file.write("item,worker,label\n" + "".join(f"{','.join(row)}\n" for row in rows))
    with gzip.open(folder / "truth.csv.gz", "wt") as file:
        file.write("item,label\n" + "".join(f"i{i},{'ab'[i % 2]}\n" for i in range(0, 12, 2)) + "i1,a\nelsewhere,a\n")
    request = Request(quick=True, only="accuracy", data=tmp_path / "data", folder=tmp_path / "raw")
    outcome = run_suite(get_suite("votes"), request, Silent())
    found = {run.system: run for run in outcome.runs}
    assert {"voxpop majority", "voxpop dawid_skene"} <= set(found)
    votes, gold = read_votes(str(folder / "answers.csv.gz")), read_gold(str(folder / "truth.csv.gz"))
    for name in ("majority", "dawid_skene"):
        expected = score(name, get_method(name).fit(votes), gold, "")
        extra = found[f"voxpop {name}"].extra
        assert extra["n_gold"] == expected.n == 7
        for key in ("accuracy", "ece", "log_loss"):
            assert extra[key] == pytest.approx(getattr(expected, key))
        assert int(extra["right"], 16).bit_count() == round(7 * expected.accuracy)


def test_a_folder_without_sets_is_refused_by_name(tmp_path):
    from benchmarks.suites.votes.data import real_sets

    with pytest.raises(FileNotFoundError, match=r"no sets of votes; expected folders with answers\.csv\.gz"):
        real_sets(tmp_path)
    assert {"bluebirds", "snow_rte"} <= {one.name for one in real_sets(None)}


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_has_targets_rates_tables_and_plots_of_the_runs(run_of, tmp_path):
    from benchmarks.report import write_report

    names = ("majority", "dawid_skene", "auto")
    runs = [
        *(scored(run_of, one, name, [True, False, True, True]) for one in ("s", "t") for name in names),
        *(run_of("dawid_skene, 10M votes, 4 classes", rate=3e8, repeat=repeat) for repeat in range(3)),
        *(
            run_of("mace, 100k votes, 4 classes", system, rate)
            for system, rate in (("voxpop", 2e7), ("crowd-kit", 1e5))
        ),
    ]
    page = write_report(runs, tmp_path).read_text(encoding="utf-8")
    assert "| Dawid-Skene, 10M votes, 4 classes, 2 threads | 300 M vote.iterations/s | >= 250 M" in page
    assert "| voxpop 1 | 3 | 300 M vote.iterations/s | 300 M to 300 M | 1 |" in page
    assert "| crowd-kit 1 | 1 | 100 k vote.iterations/s | 100 k to 100 k | 1/200 |" in page
    assert "| voxpop auto | 75.0 | 75.0 | 75.0 |" in page
    assert "**crowd-kit 1.4.2.**" in page
    pictures = [line.partition("(")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == 3
    assert all((tmp_path / name).read_text(encoding="utf-8").startswith("<?xml") for name in pictures)


def test_the_page_in_the_documentation_is_made_from_the_published_runs():
    from benchmarks.report import PUBLISHED, page
    from benchmarks.running import newest_runs
    from benchmarks.suite import get_suite

    runs = newest_runs(PUBLISHED)
    pictures = {name: get_suite(name).pictures([run for run in runs if run.suite == name]) for name in ("votes",)}
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page(runs, pictures)
