"""`voxpop run` and `voxpop consolidate` as processes: to labels, with nothing running before or after."""

from __future__ import annotations

import contextlib
import csv
import gzip
import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import pytest
import servers
from moto.server import ThreadedMotoServer
from waiting import wait_until

from voxpop.consolidation.method import method_names

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BLUEBIRDS = ROOT / "simulator" / "data" / "bluebirds"
VOXPOP = Path(sys.executable).with_name("voxpop")
WAIT_SECONDS = 120
THREE = """
name = "three"
task_type = "text_single_label"
categories = ["a", "b"]
{more}
[input]
files = "three.txt"
type = "text"
"""


@pytest.fixture
def scratch():
    """The temporary directory of a run: short, because a socket lies in it; empty again afterwards."""
    with tempfile.TemporaryDirectory(prefix="vp") as path:
        yield Path(path)
        assert list(Path(path).iterdir()) == []


def started(scratch, cwd, *words):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("VOXPOP_")}
    return subprocess.Popen(
        [VOXPOP, *map(str, words)],
        cwd=cwd,
        env={**plain, "TMPDIR": str(scratch), "VOXPOP_SWEEP_SECONDS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def voxpop(scratch, cwd, *words, code=0):
    child = started(scratch, cwd, *words)
    out, err = child.communicate(timeout=WAIT_SECONDS)
    assert "Traceback" not in err, err
    assert child.returncode == code, (child.returncode, out, err)
    return out, err


def labels(out):
    lines = (out / "manifests" / "output" / "output.manifest").read_text().splitlines()
    return [json.loads(line) for line in lines]


def answers_of(out):
    """Return item -> workers, as the worker responses have it."""
    found = {}
    for path in out.glob("annotations/worker-response/iteration-1/*/*.json"):
        found[int(path.parent.name)] = sorted(one["workerId"] for one in json.loads(path.read_text())["answers"])
    return found


def page(path):
    """Return the words of a report."""
    text = re.sub(r"<(style|svg).*?</\1>", " ", path.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_product_reviews_with_a_simulated_team(scratch, tmp_path):
    """The second worked example, as the issue writes it: -1, 0, 1, and the accuracy against gold."""
    out, _ = voxpop(
        scratch,
        tmp_path,
        "run",
        EXAMPLES / "reviews/job.toml",
        "--crowd",
        "simulated:careful-team",
        "--gold",
        EXAMPLES / "reviews/gold.csv",
        "--out",
        "out/",
        "--json",
    )
    found = json.loads(out)
    assert (found["status"], found["items"], found["labeled"], found["failed"]) == ("Completed", 60, 60, 0)
    assert (found["answers"], found["n_gold"], found["people"]) == (180, 60, 8)
    assert found["accuracy"] > 0.9  # people who are right 95 times in 100, three to an item
    assert 0 <= found["ece"] < 0.2
    lines = labels(tmp_path / "out/reviews")
    assert [line["item"] for line in lines] == [f"r{number:02d}" for number in range(1, 61)]
    with (EXAMPLES / "reviews/gold.csv").open() as file:
        gold = {row["item"]: row["label"] for row in csv.DictReader(file)}
    right = sum(line["reviews-metadata"]["class-name"] == gold[line["item"]] for line in lines)
    assert right / 60 == pytest.approx(found["accuracy"])
    assert found["report"] == str(tmp_path / "out/reviews-report.html")
    told = page(tmp_path / "out/reviews-report.html")
    assert "8 simulated people worked on 60 items. Text classification" in told
    assert '"Is this review good, bad or neither?" The job wanted 3 answers an item.' in told
    for title, name in (("As published", ""), ("Majority vote", "majority_"), ("Dawid-Skene", "dawid_skene_")):
        figures = re.search(rf"{title} 3 answers an item ([\d.]+%) [\d.]+% to [\d.]+% ([\d.]+) ", told)
        assert figures.groups() == (f"{found[f'{name}accuracy']:.1%}", f"{found[f'{name}ece']:.3f}")
    people = dict(re.findall(r"(sim-\d) (\d+) [\d.]+% \d+ of \d+", told))
    assert sum(map(int, people.values())) == 180
    assert len(people) == 8


def test_everybody_answered_everything_so_tickets_are_open(scratch, tmp_path):
    """Five of the 39 people answer each picture: any five, and never one of them twice."""
    out, _ = voxpop(scratch, tmp_path, "run", EXAMPLES / "bluebirds/job.toml", "--out", "out")
    assert re.search(r"bluebirds +Completed +108 +108 +0 +540", out)
    assert re.search(r"against 108 gold labels +As published +Majority vote +Dawid-Skene", out)
    assert out.endswith(f"Report: {tmp_path}/out/bluebirds-report.html\n")
    given = answers_of(tmp_path / "out/bluebirds")
    assert len(given) == 108
    assert all(len(set(workers)) == len(workers) == 5 for workers in given.values())
    assert len({worker for workers in given.values() for worker in workers}) == 39


def test_named_tickets_go_to_the_people_who_answered(scratch, tmp_path):
    """Not everybody answered everything: every item ends, with exactly the recorded people, one answer each."""
    with gzip.open(BLUEBIRDS / "answers.csv.gz", "rt") as file:
        rows = [row for place, row in enumerate(csv.DictReader(file)) if place % 7 < 2]
    people = {}
    with (tmp_path / "some.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["item", "worker", "label"])
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            people.setdefault(row["item"], set()).add(row["worker"])
        writer.writerow({**rows[0], "label": "1"})  # somebody thought again
    out, err = voxpop(
        scratch, tmp_path, "run", EXAMPLES / "replay/job.toml", "--crowd", "replay:some.csv", "--out", "out"
    )
    assert "Note: 1 answers were replaced by a later one of the same person." in err
    assert "accuracy" not in out
    lines = labels(tmp_path / "out/replay")
    assert {line["item"] for line in lines} == set(people)
    assert all("replay" in line for line in lines)
    given = answers_of(tmp_path / "out/replay")
    assert {lines[index]["item"]: set(workers) for index, workers in given.items()} == people
    assert sum(map(len, given.values())) == len(rows)
    told = page(tmp_path / "out/replay-report.html")
    assert "Each item went to the people that it names." in told
    assert f"answers {len(rows):,} people 39 " in told
    assert "How good the labels are" not in told
    assert "Workers, the best estimated quality first" in told


def test_too_few_people_is_a_warning_and_the_run_ends_all_the_same(scratch, tmp_path):
    """Two simulated people cannot give three answers: said before, stopped after, nothing waits for ever."""
    (tmp_path / "three.txt").write_text("x\ny\nz\n")
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=3"))
    out, err = voxpop(
        scratch, tmp_path, "run", "job.toml", "--crowd", "simulated:workers=2", "--out", "out", "--json", code=1
    )
    assert err == (
        "Warning: job three needs 1 more person (replication 3, pool team has 2); "
        "it will be stopped when nobody has anything left to do\n"
    )
    found = json.loads(out)
    assert (found["status"], found["items"], found["answers"], found["people_needed"]) == ("Stopped", 3, 6, 1)
    assert len(labels(tmp_path / "out/three")) == 3
    assert found["unlabeled"] == 3
    told = page(tmp_path / "out/three-report.html")
    assert "status Stopped items 3 labeled 0 unlabeled 3 answers 6 people 2" in told
    assert re.search(r" 3 items without a label\. .* x none: stopped \S [12] said [ab]", told), told


def test_a_job_that_everybody_declines_has_a_report_of_what_failed(scratch, tmp_path):
    """No answer, no worker responses: the report says why there are no labels, and nothing fails over it."""
    (tmp_path / "three.txt").write_text("x\ny\nz\n")
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=1"))
    crowd = "simulated:workers=2,decline_rate=1"
    out, err = voxpop(scratch, tmp_path, "run", "job.toml", "--crowd", crowd, "--out", "out", code=1)
    assert "every item failed" in err
    assert re.search(r"three +Failed +3 +0 +3 +0", out)
    told = page(tmp_path / "out/three-report.html")
    assert " again 3 items without a label." in told
    assert re.search(r"x none: declined\S* .*y none: declined", told), told


def test_a_report_that_cannot_be_written_costs_nothing_else(scratch, tmp_path):
    """The labels and the figures are there; exit code and warning tell of the report."""
    (tmp_path / "three.txt").write_text("x\ny\nz\n")
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=1"))
    (tmp_path / "out/three-report.html").mkdir(parents=True)
    out, err = voxpop(scratch, tmp_path, "run", "job.toml", "--crowd", "simulated", "--out", "out", "--json", code=1)
    assert err == (
        f"Warning: the report cannot be written to {tmp_path}/out/three-report.html: Is a directory; "
        "the labels are complete\n"
    )
    found = json.loads(out)
    assert (found["status"], found["labeled"], found["report"]) == ("Completed", 3, None)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["three", "three-report.html"]


def test_object_storage_gets_the_labels_and_no_report(scratch, tmp_path, monkeypatch):
    """Said in a note, and with --json as the null that it is; a file URI is a local folder."""
    (tmp_path / "three.txt").write_text("x\ny\nz\n")
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=1"))
    words = ("run", "job.toml", "--crowd", "simulated", "--out")
    with s3_bucket(monkeypatch) as client:
        out, err = voxpop(scratch, tmp_path, *words, "s3://labels/here")
        keys = [one["Key"] for one in client.list_objects_v2(Bucket="labels")["Contents"]]
    assert "Note: s3://labels/here is object storage, where no report is written; --out FOLDER writes one." in err
    assert "here/three/manifests/output/output.manifest" in keys
    assert not any("html" in key for key in keys)
    assert "Report" not in out
    out, _ = voxpop(scratch, tmp_path, *words, (tmp_path / "a b").as_uri(), "--json")
    assert json.loads(out)["report"] == str(tmp_path / "a b/three-report.html")
    assert (tmp_path / "a b/three-report.html").exists()


def test_an_output_that_cannot_be_written_in_the_end_is_told_and_ends_the_run(scratch, tmp_path):
    """It could be written when the run began: the run says why, tries again for a while, and ends with exit code 1."""
    (tmp_path / "three.txt").write_text("x\n" * 20)
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=1"))
    crowd = "simulated:workers=2,think_seconds=400"
    child = started(scratch, tmp_path, "run", "job.toml", "--crowd", crowd, "--out", "out")
    for line in child.stderr:
        if "answers 0/20" in line:
            break
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out/three").write_text("in the way")
    out, err = child.communicate(timeout=WAIT_SECONDS)
    assert "Traceback" not in err, err
    assert (child.returncode, out) == (1, ""), err
    assert "the output cannot be written: " in err
    assert re.search(r"Error: job three: the output cannot be written: \S+: a file stands where a folder", err), err
    assert "the server was a temporary one, so nothing is kept" in err


ODD_METHOD = """
import dataclasses, time
from voxpop.consolidation.votes.majority import Majority, MajorityState

@dataclasses.dataclass(frozen=True)
class Odd(Majority):
    seconds: float = 0.0

    @property
    def name(self):
        return "odd"

    def state(self):
        return OddState(self)

class OddState(MajorityState):
    method_type = Odd

    def posterior(self, items=None):
        if not self.method.seconds:
            raise ZeroDivisionError("no idea")
        time.sleep(self.method.seconds)
        return super().posterior(items)
"""


@pytest.fixture
def odd_method(tmp_path, monkeypatch):
    """A user's own method, installed as packages are: it fails, or it is slow."""
    packages = tmp_path / "packages"
    (packages / "odd-1.0.dist-info").mkdir(parents=True)
    (packages / "odd_method.py").write_text(ODD_METHOD)
    (packages / "odd-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (packages / "odd-1.0.dist-info" / "entry_points.txt").write_text("[voxpop.methods]\nodd = odd_method:Odd\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))


@pytest.mark.usefixtures("odd_method")
def test_a_method_that_fails_ends_the_run_with_what_it_said(scratch, tmp_path):
    (tmp_path / "three.txt").write_text("x\ny\nz\n")
    (tmp_path / "job.toml").write_text(THREE.format(more='replication=1\nmethod="odd"'))
    child = started(scratch, tmp_path, "run", "job.toml", "--crowd", "simulated", "--out", "out")
    out, err = child.communicate(timeout=WAIT_SECONDS)
    assert (child.returncode, out) == (1, ""), err
    assert "Error: job three: answers cannot be labeled: ZeroDivisionError: no idea" in err


@pytest.mark.usefixtures("odd_method")
def test_a_job_that_only_waits_for_its_labels_is_not_stopped(scratch, tmp_path):
    """Labeling takes longer than the crowd waits for more to do."""
    (tmp_path / "three.txt").write_text("x\ny\nz\n")
    more = 'replication=1\nlease_seconds=1\nretry_seconds=0\nmethod="odd"\nmethod_parameters={seconds=6.0}'
    (tmp_path / "job.toml").write_text(THREE.format(more=more))
    _, err = voxpop(scratch, tmp_path, "run", "job.toml", "--crowd", "simulated", "--out", "out")
    assert "everybody has left" not in err
    assert len(labels(tmp_path / "out" / "three")) == 3


def test_gold_that_names_no_item_is_told(scratch, tmp_path):
    """With counts, when some of it is right and when none is."""
    (tmp_path / "three.txt").write_text("x\ny\nz\n")
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=1"))
    for name, rows, count in (("some", "x,a\nq,b\n", "1 of the 2"), ("none", "q,a\nr,b\n", "2 of the 2")):
        (tmp_path / "gold.csv").write_text(f"item,label\n{rows}")
        _, err = voxpop(
            scratch, tmp_path, "run", "job.toml", "--crowd", "simulated", "--gold", "gold.csv", "--out", name, "--json"
        )
        assert f"Warning: {count} gold labels name no item of this job, which has 3, " in err
    (tmp_path / "gold.csv").write_text("item,label\nx,a\n")
    _, err = voxpop(
        scratch, tmp_path, "run", "job.toml", "--crowd", "simulated", "--gold", "gold.csv", "--out", "ok", "--json"
    )
    assert err == ""


@contextlib.contextmanager
def s3_bucket(monkeypatch):
    """An S3 server with the bucket ``labels``, which the environment leads to."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="labels")
        yield client
    finally:
        server.stop()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_interrupted_says_what_is_kept_and_leaves_nothing(scratch, tmp_path, number, code):
    """Ctrl-C and SIGTERM in mid-run: a clean end, no process and no temporary directory left."""
    (tmp_path / "three.txt").write_text("x\n" * 300)
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=2"))
    crowd = "simulated:workers=4,think_seconds=4000"
    child = started(scratch, tmp_path, "run", "job.toml", "--crowd", crowd, "--out", "out")
    for line in child.stderr:
        if "answers 0/600" in line:
            break
    home = next(scratch.iterdir())
    child.send_signal(number)
    _, err = child.communicate(timeout=WAIT_SECONDS)
    assert "Traceback" not in err, err
    assert child.returncode == code
    if number == signal.SIGINT:
        assert re.search(
            r"Warning: interrupted with \d+ answers; the server was a temporary one, so nothing is kept; "
            r"with --data-dir DIR it would be\nInterrupted.\n$",
            err,
        )
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(str(home).encode() in command for command in commands)


def test_a_run_that_is_interrupted_when_its_labels_are_there_says_where(scratch, tmp_path):
    """Good labels are not called unfinished."""
    (tmp_path / "three.txt").write_text("x\n" * 30)
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=1"))
    child = started(scratch, tmp_path, "run", "job.toml", "--crowd", "simulated", "--out", "out")
    manifest = tmp_path / "out/three/manifests/output/output.manifest"
    wait_until(manifest.exists, "the labels are written", WAIT_SECONDS)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=WAIT_SECONDS)
    assert child.returncode == 130, err
    assert f"Warning: interrupted; the labels are complete in {manifest}, the report was not written" in err
    assert "unfinished" not in err
    assert len(labels(tmp_path / "out/three")) == 30


def test_a_server_that_goes_away_and_stays_away_ends_the_run_with_what_is_kept(scratch, tmp_path):
    """The run waits for it for a while; what was answered is on that server, whenever it comes back."""
    (tmp_path / "three.txt").write_text("x\n" * 300)
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=2"))
    with servers.embedded_valkey() as server:
        crowd = "simulated:workers=4,think_seconds=300"
        child = started(
            scratch, tmp_path, "run", "job.toml", "--crowd", crowd, "--out", "out", "--redis", server.url,
        )  # fmt: skip
        for line in child.stderr:
            if "answers 0/600" in line:
                break
        os.kill(server.pid, signal.SIGKILL)
        out, err = child.communicate(timeout=WAIT_SECONDS)
    assert "Traceback" not in err, err
    assert (child.returncode, out) == (1, ""), err
    assert re.search(r"Error: .*; job and answers are kept on the server: `voxpop job list --redis URL`", err), err


def test_an_interrupted_run_with_a_data_directory_keeps_its_job(scratch, tmp_path):
    """What was answered is kept: the job is there when its data directory is started again."""
    (tmp_path / "three.txt").write_text("x\n" * 300)
    (tmp_path / "job.toml").write_text(THREE.format(more="replication=2"))
    with tempfile.TemporaryDirectory(prefix="vp") as data:
        crowd = "simulated:workers=4,think_seconds=300"
        child = started(scratch, tmp_path, "run", "job.toml", "--crowd", crowd, "--out", "out", "--data-dir", data)
        for line in child.stderr:
            if "answers 0/600" in line:
                break
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=WAIT_SECONDS)
        told = re.search(r"interrupted with (\d+) answers; job and answers are kept: `voxpop up --data-dir", err)
        assert "run it again under another name" in err
        assert told, err
        up = started(scratch, tmp_path, "up", "--data-dir", data, "--json")
        while up.stdout.readline() != "}\n":
            pass
        out, _ = voxpop(scratch, tmp_path, "job", "show", "three", "--data-dir", data, "--json")
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=WAIT_SECONDS)
        assert up.returncode == 0
        counters = json.loads(out)["counters"]
        assert counters["appended"] == 300
        assert counters["answers"] >= int(told[1])
        assert counters["leased"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope.toml",), "nope.toml: there is no such file; expected a job file (docs/job-files.md)"),
        (
            ("job.toml", "--out", "out"),
            "job.toml: who answers? Give --crowd replay:FILE or --crowd simulated, or write [crowd]",
        ),
        (
            ("job.toml", "--crowd", "simulated"),
            "where should the labels go? Give --out DIR, or write [output] dir in the job file",
        ),
        (
            ("job.toml", "--crowd", "replay:none.csv", "--out", "out"),
            "none.csv: no such file or folder; check the spelling",
        ),
        (
            ("job.toml", "--crowd", "simulated:accuracy=2", "--out", "out"),
            "simulated crowd: accuracy is 2: expected a number <= 1.0",
        ),
        (
            ("job.toml", "--crowd", "simulated", "--gold", "none.csv", "--out", "out"),
            "none.csv: no such file or folder; check the spelling",
        ),
        (
            ("job.toml", "--crowd", "simulated", "--out", "taken"),
            "{cwd}/taken/three is there already; choose another --out, or remove it",
        ),
        (
            ("job.toml", "--crowd", "simulated", "--out", "job.toml/x"),
            "--out job.toml/x: {cwd}/job.toml is no folder; expected a folder, or the name of a new one",
        ),
        (
            ("job.toml", "--crowd", "simulated", "--out", "/proc/x"),
            (
                "output /proc/x: nothing can be written there; choose another place, or mend it: "
                "/proc/x/.voxpop-probe: no such file or folder; check the spelling"
            ),
        ),
        (
            ("job.toml", "--crowd", "simulated", "--out", "ftp://x/y"),
            (
                "output ftp://x/y: nothing can be written there; choose another place, or mend it: "
                "ftp://x/y: unknown scheme 'ftp'; known are local paths and file, s3, gs, az, memory"
            ),
        ),
    ],
)
def test_what_is_wrong_is_found_before_anything_starts(scratch, tmp_path, words, message):
    """Exit code 2, one message, no output."""
    (tmp_path / "job.toml").write_text(THREE.format(more=""))
    (tmp_path / "taken/three").mkdir(parents=True)
    out, err = voxpop(scratch, tmp_path, "run", *words, code=2)
    assert (out, err) == ("", f"Error: {message.format(cwd=tmp_path)}\n")
    assert not (tmp_path / "out").exists()


def test_a_wrong_input_file_ends_the_run_with_its_lines(scratch, tmp_path):
    """The input is checked whole, and the parts that were started for it are stopped."""
    (tmp_path / "in.manifest").write_text('{"source":"a"}\n{"source":1}\n')
    (tmp_path / "job.toml").write_text(
        'name="w"\ntask_type="text_single_label"\ncategories=["a","b"]\n[input]\nmanifest="in.manifest"\n'
    )
    _, err = voxpop(scratch, tmp_path, "run", "job.toml", "--crowd", "simulated", "--out", "out", code=2)
    assert re.search(r"Error: \S+in.manifest line 2, field 'source': ", err), err


def test_consolidating_recorded_answers(scratch, tmp_path):
    """The keys that scripts rely on, the label file and the plot; no server is involved."""
    out, _ = voxpop(
        scratch,
        tmp_path,
        "consolidate",
        "votes",
        BLUEBIRDS / "answers.csv.gz",
        "--gold",
        BLUEBIRDS / "truth.csv.gz",
        "--out",
        "labels.csv",
        "--plot",
        "workers.svg",
        "--json",
    )
    found = json.loads(out)
    assert (found["method"], found["n_items"], found["n_workers"], found["n_classes"]) == ("auto", 108, 39, 2)
    assert found["accuracy"] == pytest.approx(96 / 108)
    assert found["seconds"] > 0
    assert 0 < found["ece"] < 0.2
    assert found["log_loss"] > 0
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 108
    assert {row["label"] for row in rows} == {"0", "1"}
    assert (tmp_path / "workers.svg").read_text().lstrip().startswith("<?xml")
    majority, _ = voxpop(
        scratch, tmp_path, "consolidate", "votes", BLUEBIRDS / "answers.csv.gz", "--method", "majority"
    )
    assert re.search(r"majority +108 +39 +2 +4,212", majority)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("some.csv", "--method", "best"),
            f"unknown consolidation method 'best'; known methods for votes: {', '.join(method_names('votes'))}",
        ),
        (("none.csv",), "none.csv: no such file or folder; check the spelling"),
        (("some.csv", "--plot", "w.pdf"), "--plot w.pdf: found '.pdf', expected .png or .svg"),
        (
            ("some.csv", "--gold", "gold.csv"),
            "gold.csv: none of its 1 items has answers; expected the same item names, such as 'x', found 'z'",
        ),
        (("gold.csv",), "gold.csv line 1: no column worker; expected item, worker, label, found item, label"),
    ],
)
def test_wrong_recorded_answers(scratch, tmp_path, words, message):
    """Exit code 2 and one message."""
    (tmp_path / "some.csv").write_text("item,worker,label\nx,a,1\nx,b,0\n")
    (tmp_path / "gold.csv").write_text("item,label\nz,1\n")
    out, err = voxpop(scratch, tmp_path, "consolidate", "votes", *words, code=2)
    assert (out, err) == ("", f"Error: {message}\n")
