"""`voxpop up` and the commands that find it: real processes, one running stack for all tests of this file."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import servers

VOXPOP = Path(sys.executable).with_name("voxpop")
WAIT_SECONDS = 60
JOB = """
name = "{name}"
task_type = "text_single_label"
categories = ["good", "bad"]
replication = {replication}
[pool]
name = "{name}-team"
members = {members}
"""


@pytest.fixture(scope="module")
def home():
    """A folder with a running `voxpop up`, as its user would have it; the facts are what it printed."""
    with servers.short_directory() as folder:
        child = started(folder, "up", "--json")
        try:
            facts = read_document(child)
            yield folder, facts
        finally:
            child.send_signal(signal.SIGINT)
            try:
                code = child.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        assert code == 0
        assert not (folder / "voxpop-data" / "up.json").exists()
        assert all(not Path(f"/proc/{part['pid']}").exists() for part in facts["parts"])


def started(folder, *words, **options):
    return subprocess.Popen(
        [VOXPOP, *words],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **options,
    )


def environment():
    plain = {name: value for name, value in os.environ.items() if not name.startswith("VOXPOP_")}
    return {**plain, "VOXPOP_APPENDFSYNC": "no", "VOXPOP_SWEEP_SECONDS": "1"}


def read_document(child):
    """Read one JSON document from a process that goes on running."""
    text = ""
    while line := child.stdout.readline():
        text += line
        if line == "}\n":
            return json.loads(text)
    raise AssertionError(child.stderr.read())


def voxpop(folder, *words, stdin="", code=0):
    done = subprocess.run(
        [VOXPOP, *map(str, words)],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def asked(folder, *words, **options):
    """Run a command with --json; return its document."""
    return json.loads(voxpop(folder, *words, "--json", **options).stdout)


def job_file(folder, name, *, replication=1, members=("ann",), more=""):
    path = folder / f"{name}.toml"
    path.write_text(JOB.format(name=name, replication=replication, members=json.dumps(members)) + more)
    return path


def until(condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_up_tells_how_to_reach_it(home):
    """One document: the server's URL, the directories, what runs."""
    folder, facts = home
    assert facts["redis_url"].startswith("unix://")
    assert facts["data_dir"] == str(folder / "voxpop-data")
    assert facts["storage"] == f"file://{folder}/voxpop-data/storage"
    assert [part["name"] for part in facts["parts"]] == ["server", "actors 1", "actors 2", "sweeper"]
    assert (folder / "voxpop-data" / "up.json").stat().st_mode & 0o077 == 0


def test_a_job_from_file_to_labels_by_people_in_the_terminal(home):
    """Create, work (answer, skip, give back, quit), watch until it ends, show, list: all from the folder of `up`."""
    folder, _ = home
    (folder / "texts.txt").write_text("first\nsecond\nthird\n")
    path = job_file(
        folder, "pair", replication=2, members=["ann", "bob"], more='[input]\nfiles="texts.txt"\ntype="text"\n'
    )
    made = asked(folder, "job", "create", path, "--token", "t1")
    assert made["counters"]["appended"] == 3
    assert made["job"]["status"] == "InProgress"
    assert made["people_needed"] == 0
    again = asked(folder, "job", "create", path, "--token", "t1")
    assert again["job"]["created_at_ms"] == made["job"]["created_at_ms"]

    first = voxpop(folder, "work", "pair", "--worker", "ann", "--json", stdin="1\n9\ni\nq\n")
    assert json.loads(first.stdout)["accepted"] == 1
    assert json.loads(first.stdout)["released"] == 1
    assert "first" in first.stderr
    assert "1  good" in first.stderr
    assert "'9' is no choice: 1 to 2, or s, r, i, q" in first.stderr

    for worker in ("ann", "bob"):
        watcher = started(folder, "work", "pair", "--worker", worker, "--json")
        watcher.stdin.write("good\n2\n1\n")
        watcher.stdin.flush()
        until(
            lambda who=worker: asked(folder, "job", "show", "pair")["counters"]["answers"] >= (2 if who == "ann" else 5)
        )
        watcher.send_signal(signal.SIGINT)
        watcher.communicate(timeout=WAIT_SECONDS)
        assert watcher.returncode == 130
    voxpop(folder, "job", "stop", "pair")
    watched = voxpop(folder, "job", "watch", "pair", code=1)
    assert "Stopped" in watched.stdout
    assert {view["job"]["spec"]["name"] for view in asked(folder, "job", "list")["jobs"]} >= {"pair"}


def ready_job(folder, name, categories, lines, *, more=""):
    """Make a job of one answer an item, with all of its input."""
    path = folder / f"{name}.toml"
    path.write_text(
        f'name="{name}"\ntask_type="text_single_label"\ncategories={json.dumps(categories)}\nreplication=1\n{more}'
        f'[pool]\nname="{name}-team"\nmembers=["ann"]\n'
    )
    voxpop(folder, "job", "create", path)
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    voxpop(folder, "push", name, "lines.jsonl", "--last")


def published(folder, name):
    """Wait until the job has ended; return its labels in the order of the items."""
    job = asked(folder, "job", "watch", name)["job"]
    manifest = Path(job["output_uri"].removeprefix("file://"))
    return [json.loads(line)[f"{name}-metadata"]["class-name"] for line in manifest.read_text().splitlines()]


def work_on_a_terminal(folder, name, *typed):
    """Type each text when a prompt has been shown; return what the terminal was sent, when the command has ended."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [VOXPOP, "work", name, "--worker", "ann"],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment(), "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    shown, waiting = b"", list(typed)
    try:
        while True:
            assert select.select([ours], [], [], WAIT_SECONDS)[0], shown
            try:
                shown += os.read(ours, 4096)
            except OSError:  # what Linux says when the other end is closed
                break
            if waiting and shown.count(b"> ") > len(typed) - len(waiting):
                os.write(ours, waiting.pop(0).encode())
        assert child.wait(WAIT_SECONDS) == 0, shown
    finally:
        child.kill()
        os.close(ours)
    assert waiting == []
    return shown.decode()


def test_categories_that_are_numbers_are_never_taken_for_places(home):
    """-1, 0, 1: piped names are names, and on a terminal there are letters in front."""
    folder, _ = home
    categories = ["-1", "0", "1"]
    ready_job(folder, "piped", categories, [{"source": "x"}] * 4)
    said = voxpop(folder, "work", "piped", "--worker", "ann", stdin="1\n2\n-1\n0\nc\n")
    assert "'2' is no choice: a, b, c, or s, r, i, q" in said.stderr
    assert published(folder, "piped") == ["1", "-1", "0", "1"]
    ready_job(folder, "keyed", categories, [{"source": "x"}] * 3)
    shown = work_on_a_terminal(folder, "keyed", "1", "a", "b", "c")
    assert "'1' is no choice: a, b, c, or s, r, i, q" in shown
    assert published(folder, "keyed") == categories


def test_keys_that_send_escape_sequences_answer_nothing(home):
    """Delete is ESC [ 3 ~, and 3 is a category; so are the numbers in Insert, Home, Page Up and F5."""
    folder, _ = home
    ready_job(folder, "escapes", ["good", "bad", "neither"], [{"source": "x"}] * 2)
    others = "\x1b[3~\x1b[2~\x1b[1~\x1b[H\x1b[5~\x1b[15~\x1b[1;5A\x1bOP\x1b[[A\x1b\x1b[A\x1b1"
    shown = work_on_a_terminal(folder, "escapes", others + "2", "\x1b[3~1")
    assert "no choice" not in shown
    assert "2 accepted" in shown
    assert published(folder, "escapes") == ["bad", "good"]


def test_what_requesters_write_is_text_and_does_nothing_else(home):
    """Brackets are no markup, and no control character of an item reaches the terminal."""
    folder, _ = home
    ready_job(
        folder,
        "hostile",
        ["[/b]", "[red]x"],
        [{"source": "[/i]\x1b]0;owned\x07\x1b[2Jtext\x9b5mé\u3000全"}],
        more='title="[/b] \\u001b[41mtitle"\ninstructions="[red]\\u001b[8mhow"\n',
    )
    shown = work_on_a_terminal(folder, "hostile", "2")
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)  # the styles that voxpop itself sets
    assert "[/i]\ufffd]0;owned\ufffd\ufffd[2Jtext\ufffd5mé\u3000全" in plain
    assert "[/b] \ufffd[41mtitle" in plain
    assert "[red]\ufffd[8mhow" in plain
    assert "1  [/b]" in plain
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", plain)
    assert not {"\x1b[41m", "\x1b[8m"} & set(re.findall(r"\x1b\[[\d;]*m", shown))
    assert published(folder, "hostile") == ["[red]x"]


def test_pushed_lines_are_answered_one_by_one(home):
    """Each line gets its item or the reason; a repeated id its first item; --last lets the job end."""
    folder, _ = home
    voxpop(folder, "job", "create", job_file(folder, "pushed"))
    lines = folder / "new.jsonl"
    lines.write_text('{"source":"a","id":"x"}\n{"source":\n{"source":"b"}\n{"source":"c","source-ref":"d","id":"y"}\n')
    refused = asked(folder, "push", "pushed", lines, "--id-key", "id", code=2)
    assert (refused["accepted"], refused["refused"]) == (1, 3)
    assert [message["line"] for message in refused["messages"]] == [1, 2, 3, 4]
    assert refused["messages"][0] == {"line": 1, "item": 0}
    assert refused["messages"][1]["refused"].startswith("broken JSON: ")
    assert (
        refused["messages"][2]["refused"]
        == "field 'id': names the object, so text or a whole number is expected, found null"
    )
    assert "both 'source' and 'source-ref'" in refused["messages"][3]["refused"] or "source-ref" in str(refused)
    lines.write_text("\n")
    nothing = voxpop(folder, "push", "pushed", lines, "--last", code=2)
    assert nothing.stderr == f"Error: {lines}: there is nothing in it; expected one object a line\n"
    lines.write_text('{"source":"a","id":"x"}\n{"source":"b","id":7}\n')
    told = voxpop(folder, "push", "pushed", lines, "--id-key", "id", "--last")
    assert told.stdout == "2 accepted (1 of them known already), 0 refused\n"
    assert (
        json.loads(voxpop(folder, "work", "pushed", "--worker", "ann", "--json", stdin="1\n1\n").stdout)["accepted"]
        == 2
    )
    assert asked(folder, "job", "watch", "pushed")["job"]["status"] == "Completed"
    late = voxpop(folder, "push", "pushed", lines, code=2)
    assert late.stderr == "Error: job 'pushed': its input is complete; nothing can be appended\n"


def test_pools_and_allowlists(home):
    """Made once, grown, restricted; outsiders are told nothing and counted."""
    folder, _ = home
    voxpop(folder, "pool", "create", "birders", "--workforce", "club", "--member", "ann", "--member", "bob")
    shown = asked(folder, "pool", "members", "birders", "--add", "cleo", "--remove", "bob")
    assert shown == {"members": ["ann", "cleo"], "added": 1, "removed": 1}
    allowed = voxpop(folder, "pool", "allow", "birders", "203.0.113.0/24", "2001:db8::/32")
    assert allowed.stdout == "Workforce club may connect from: 203.0.113.0/24, 2001:db8::/32\n"
    job = folder / "club.toml"
    job.write_text(
        'name="club"\ntask_type="text_single_label"\ncategories=["a","b"]\nreplication=1\n[workforce]\nname="club"\n'
        '[pool]\nname="birders"\n'
    )
    voxpop(folder, "job", "create", job)
    outside = voxpop(folder, "work", "club", "--worker", "ann", code=2)
    assert outside.stderr.startswith("Error: job 'club' not found: there is none of this name, or none for this worker")
    assert outside.stdout == ""
    unknown = voxpop(folder, "work", "clubs", "--worker", "ann", code=2)
    assert unknown.stderr.replace("clubs", "club") == outside.stderr
    found = asked(folder, "pool", "show", "birders")
    assert found["pool"]["allow"] == ["203.0.113.0/24", "2001:db8::/32"]
    assert found["refused"] == [{"worker": "ann", "reason": "address", "times": 1}]
    voxpop(folder, "pool", "allow", "birders", "--anywhere")
    assert asked(folder, "pool", "show", "birders")["pool"]["allow"] == []


def test_a_refused_job_file_changes_nothing(home):
    """Neither the allowlist nor the pools, whatever is wrong with the file."""
    folder, _ = home
    voxpop(folder, "pool", "create", "crew", "--workforce", "agency", "--allow", "10.0.0.0/8", "--member", "ann")
    before = asked(folder, "pool", "show", "crew")
    (folder / "bad.manifest").write_text('{"source":1}\n')
    people = '[workforce]\nname = "agency"\nallow = []\n'
    pool = '[pool]\nname = "{}"\nmembers = ["eve"]\n'
    head = 'name = "refused"\ntask_type = "text_single_label"\ncategories = ["a", "b"]\n'
    wrong_input, wrong_output = '[input]\nmanifest = "bad.manifest"\n', '[output]\ndir = "/proc/x"\n'
    files = [
        head + people + pool.format("crew") + wrong_input,
        head + people + pool.format("crew") + wrong_output,
        head + people + pool.format("unheard-of") + wrong_input,
        head + '[workforce]\nname = "another"\nallow = ["10.0.0.0/8"]\n' + pool.format("crew"),
    ]
    for text in files:
        (folder / "refused.toml").write_text(text)
        voxpop(folder, "job", "create", "refused.toml", code=2)
    assert asked(folder, "pool", "show", "crew") == before
    voxpop(folder, "pool", "show", "unheard-of", code=2)
    voxpop(folder, "job", "show", "refused", code=2)


def test_an_output_that_cannot_be_written_is_told_until_it_can(home):
    """The job waits, with the reason, and ends once what was in the way is gone."""
    folder, _ = home
    (folder / "one.txt").write_text("x\n")
    more = '[input]\nfiles = "one.txt"\ntype = "text"\n[output]\ndir = "away"\n'
    path = job_file(folder, "stuck", more=more)
    (folder / "away").mkdir()
    (folder / "away/stuck").write_text("in the way")
    voxpop(folder, "job", "create", path)
    voxpop(folder, "work", "stuck", "--worker", "ann", stdin="good\n")
    found = until(lambda: (view := asked(folder, "job", "show", "stuck"))["trouble"] and view)
    assert found["job"]["status"] == "InProgress"
    assert "a file stands where a folder is expected" in found["trouble"]
    assert "trouble   the output cannot be written: " in voxpop(folder, "job", "show", "stuck").stdout
    (folder / "away/stuck").unlink()
    voxpop(folder, "job", "watch", "stuck")
    found = asked(folder, "job", "show", "stuck")
    assert (found["job"]["status"], found["trouble"], found["job"]["failure_reason"]) == ("Completed", "", "")


def test_a_pool_that_is_too_small_is_a_warning_and_a_status(home):
    """Pools grow: the job is made, and says how many people it lacks until they are there."""
    folder, _ = home
    made = voxpop(folder, "job", "create", job_file(folder, "big", replication=3))
    assert made.stderr == (
        "Warning: job big needs 2 more people (replication 3, pool big-team has 1); "
        "`voxpop pool members big-team --add NAME` adds people\n"
    )
    assert asked(folder, "job", "show", "big")["people_needed"] == 2
    assert "needs 2 more people" in voxpop(folder, "job", "list").stdout
    voxpop(folder, "pool", "members", "big-team", "--add", "bob", "--add", "cleo")
    assert asked(folder, "job", "show", "big")["people_needed"] == 0


def manifest(folder, text):
    path = folder / "wrong.manifest"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"source": "a"}\n{"source": \n', r"\S+wrong.manifest line 2: .*JSON.*"),
        ('{"source": "a", "source-ref": "b"}\n', r"\S+wrong.manifest line 1.*: both 'source' and 'source-ref'.*"),
        ('{"text": "a"}\n', r"\S+wrong.manifest line 1.*: .*'source'.*"),
        ('{"source": "' + "a" * 100_001 + '"}\n', r"\S+wrong.manifest line 1.*: .*100,000.*"),
        ("", r"\S+wrong.manifest: the manifest is empty; at least one line is expected"),
        ('{"source-ref": "a.png"}\n', r"\S+wrong.manifest line 1, field 'source-ref': is set, but text_single_label.*"),
    ],
)
def test_a_wrong_input_makes_no_job(home, text, message):
    """The whole file is refused by line and field, and the name stays free for the mended one."""
    folder, _ = home
    path = manifest(folder, text)
    file = job_file(folder, "mended", more='[input]\nmanifest="wrong.manifest"\n')
    said = voxpop(folder, "job", "create", file, code=2)
    assert said.stdout == ""
    assert re.search(r"Error: " + message, said.stderr), said.stderr
    assert said.stderr.count("Error: ") == 1
    voxpop(folder, "job", "show", "mended", code=2)
    path.unlink()
    missing = voxpop(folder, "job", "create", file, code=2)
    assert missing.stderr == f"Error: {path}: no such file or folder; check the spelling\n"


def test_what_does_not_exist_or_cannot_be_is_told_with_what_to_do(home):
    """Duplicate and unknown names, ranges with host bits and nonsense, an unknown task type."""
    folder, _ = home
    voxpop(folder, "job", "create", job_file(folder, "taken"))
    wrong = folder / "wrong.toml"
    wrong.write_text('name="q"\ntask_type="text"\ncategories=["a","b"]\n')
    for words, message in [
        (
            ("job", "create", folder / "taken.toml"),
            "job 'taken' exists; choose another name, or look at it: voxpop job show taken",
        ),
        (("job", "show", "nope"), "job 'nope' not found; `voxpop job list` shows those that exist"),
        (("pool", "show", "nope"), "pool 'nope' not found; `voxpop pool create nope` makes it"),
        (("pool", "members", "nope", "--add", "x"), "pool 'nope' not found; `voxpop pool create nope` makes it"),
        (
            ("pool", "allow", "taken-team", "10.0.0.1/8"),
            (
                "allowlist: '10.0.0.1/8' has bits set right of its /8 prefix; write 10.0.0.0/8 for the whole range, "
                "or 10.0.0.1 for the one address"
            ),
        ),
        (
            ("pool", "allow", "taken-team", "office"),
            (
                "allowlist: 'office' is not an address range; write an IPv4 or IPv6 address, "
                "or a range such as 203.0.113.0/24 or 2001:db8::/32"
            ),
        ),
        (
            ("pool", "allow", "taken-team"),
            "give either the ranges from which people may connect, or --anywhere",
        ),
        (
            ("job", "create", wrong),
            (
                f"{wrong} line 2, field 'task_type': unknown task type 'text'; "
                "known task types: image_single_label, text_single_label"
            ),
        ),
        (
            ("work", "taken", "--worker", "ann", "--address", "nowhere"),
            "address 'nowhere' is not an IPv4 or IPv6 address; pass the one that the worker connects from",
        ),
    ]:
        said = voxpop(folder, *words, code=2)
        assert said.stderr == f"Error: {message}\n"
        assert said.stdout == ""


def test_with_json_an_error_is_the_one_document(home):
    """Machines see why."""
    folder, _ = home
    said = asked(folder, "job", "show", "nope", code=2)
    assert said["exit_code"] == 2
    assert said["error"]["kind"] == "NotFoundError"


def test_what_dies_is_started_again(home):
    """An actor that is killed comes back under another process id, and the data directory stays locked."""
    folder, facts = home
    victim = facts["parts"][1]["pid"]
    os.kill(victim, signal.SIGKILL)
    in_use = voxpop(folder, "up", code=2)
    assert re.search(r"the data directory \S+ is in use by process \d+ \(voxpop up\); stop it", in_use.stderr)
    voxpop(folder, "job", "create", job_file(folder, "after"))
    (folder / "one.txt").write_text("one\n")
    voxpop(folder, "push", "after", "one.txt", "--last")
    voxpop(folder, "work", "after", "--worker", "ann", stdin="1\n")
    assert asked(folder, "job", "watch", "after")["job"]["status"] == "Completed"


def test_doctor_finds_the_running_server(home):
    """Every line is ok, or says what to do."""
    folder, _ = home
    found = asked(folder, "doctor")
    assert found["ok"]
    assert {finding["check"]: finding["state"] for finding in found["findings"]}.items() >= {
        "Python": "ok",
        "server": "ok",
        "persistence": "ok",
        "clock": "ok",
        "layout": "ok",
    }.items()


def test_a_reader_that_goes_away_is_no_error(home):
    """`voxpop job list | head -0` ends quietly, as filters do."""
    folder, _ = home
    child = started(folder, "config", "show")
    child.stdout.close()
    assert child.wait(WAIT_SECONDS) in (0, 141)
    assert child.stderr.read() == ""


def test_without_a_stack_the_commands_say_what_to_start(tmp_path):
    """Nothing runs here, or what ran was killed and left its note."""
    said = voxpop(tmp_path, "job", "list", code=2)
    nothing = (
        f"Error: nothing runs here (data directory {tmp_path}/voxpop-data); start it in another terminal with "
        "`voxpop up`, or pass --redis URL\n"
    )
    assert said.stderr == nothing
    (tmp_path / "voxpop-data").mkdir()
    left = {"pid": 99_999_999, "environment": {"VOXPOP_REDIS_URL": f"unix://{tmp_path}/gone.sock?db=0"}}
    (tmp_path / "voxpop-data" / "up.json").write_text(json.dumps(left))
    assert voxpop(tmp_path, "job", "list", code=2).stderr == nothing


def test_a_wrong_server_is_wrong_input(tmp_path):
    """A URL that is none, and one where nobody answers."""
    said = voxpop(tmp_path, "job", "list", "--redis", "http://here", code=2)
    assert said.stderr.startswith(
        "Error: setting redis_url (given explicitly): Redis URL 'http://here': the scheme is 'http'; expected"
    )
    port = servers.free_port()
    for command in (("job", "list"), ("up",), ("actors",), ("sweep",)):
        silent = voxpop(tmp_path, *command, "--redis", f"redis://127.0.0.1:{port}/0", code=2)
        assert silent.stderr.startswith(f"Error: no server answers at redis://127.0.0.1:{port}/0")
    unwell = asked(tmp_path, "doctor", "--redis", f"redis://127.0.0.1:{port}/0", code=1)
    assert not unwell["ok"]


def test_up_says_why_it_cannot_start(tmp_path):
    """A port in use; a data directory of another version; one that is a file."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "voxpop.toml").write_text(f"server_port = {port}\n")
        said = voxpop(tmp_path, "up", code=2)
        assert said.stderr == (
            f"Error: port {port} on 127.0.0.1 is already in use; stop what listens there, or set another server_port "
            "(0 for a private Unix socket)\n"
        )
    (tmp_path / "voxpop.toml").unlink()
    data = tmp_path / "voxpop-data"
    (data / "voxpop.json").write_text('{"layout":99,"server":"9.0.0"}')
    said = voxpop(tmp_path, "up", code=2)
    assert said.stderr == (
        f"Error: the data directory {data} has layout version 99, expected 1; use the voxpop that wrote it, "
        "or choose an empty data directory\n"
    )
    assert not asked(tmp_path, "doctor", code=1)["ok"]
    (tmp_path / "file").write_text("")
    said = voxpop(tmp_path, "up", "--data-dir", "file", code=2)
    assert said.stderr.startswith(f"Error: the data directory {tmp_path}/file cannot be used")


def test_settings_are_shown_with_their_origin(tmp_path):
    """Every setting once; the option wins."""
    found = asked(tmp_path, "config", "show", "--data-dir", "here")
    settings = {setting["name"]: setting for setting in found["settings"]}
    assert settings["data_dir"]["value"] == str(tmp_path / "here")
    assert settings["data_dir"]["origin"] == "given explicitly"
    assert settings["appendfsync"]["origin"] == "environment variable VOXPOP_APPENDFSYNC"
    assert "actors = 2" in voxpop(tmp_path, "config", "show").stdout
