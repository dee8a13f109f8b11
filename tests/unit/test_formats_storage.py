"""Storage: the same promises on local files, memory and S3 (a real HTTP server), and what goes wrong around them."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from voxpop.formats import storage
from voxpop.formats.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ChangedError,
    InvalidUriError,
    NotThereError,
    StorageError,
    UnavailableError,
)


@pytest.fixture(scope="module")
def s3_server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A fresh bucket on the S3 server; returns its client and name."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=s3_server)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return client, bucket


@pytest.fixture(params=["path", "file", "memory", "s3"])
def root(request, tmp_path):
    """An empty place of each kind to keep objects in."""
    if request.param == "path":
        return str(tmp_path / "räume und 50%")
    if request.param == "file":
        return (tmp_path / "räume und 50%").as_uri()
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return f"s3://{request.getfixturevalue('s3')[1]}"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_after(writer, size):
    """Write ``size`` bytes, then fail as any source of data may."""
    with writer as out:
        out.write(b"x" * size)
        raise ZeroDivisionError


class TestEveryStore:
    def test_what_was_written_is_read_back(self, root):
        uri = storage.join(root, "a/b", "größe #1 50%25.bin")
        storage.write_atomic(uri, b"one")
        storage.write_atomic(uri, b"two")
        assert storage.read_bytes(uri) == b"two"
        assert storage.version(uri).size_bytes == 3

    def test_create_succeeds_once_and_never_touches_what_is_there(self, root):
        uri = storage.join(root, "part-1")
        storage.create(uri, b"mine")
        with pytest.raises(AlreadyExistsError, match="part-1: is there already, and was not touched"):
            storage.create(uri, b"yours")
        assert storage.read_bytes(uri) == b"mine"

    def test_of_eight_creators_at_once_exactly_one_wins(self, root):
        uri = storage.join(root, "contested")
        storage.write_atomic(storage.join(root, "folder exists"), b"")
        wins, start = [], threading.Barrier(8)

        def attempt(number):
            start.wait()
            try:
                storage.create(uri, b"%d" % number)
            except AlreadyExistsError:
                return
            wins.append(number)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1
        assert storage.read_bytes(uri) == b"%d" % wins[0]

    def test_lists_what_is_below_a_prefix_and_nothing_beside_it(self, root):
        for name in ["img/2.jpg", "img/10.jpg", "img/sub/1.jpg", "img2/3.jpg", "img.txt"]:
            storage.write_atomic(storage.join(root, name), b"x")
        expected = sorted(storage.join(root, name) for name in ["img/10.jpg", "img/2.jpg", "img/sub/1.jpg"])
        assert list(storage.list_uris(storage.join(root, "img"))) == expected
        assert list(storage.list_uris(storage.join(root, "img") + "/")) == expected
        assert [storage.read_bytes(uri) for uri in expected] == [b"x"] * 3

    def test_a_prefix_without_files_is_an_error(self, root):
        storage.write_atomic(storage.join(root, "img/1.jpg"), b"x")
        with pytest.raises(NotThereError):
            list(storage.list_uris(storage.join(root, "pictures")))

    def test_a_missing_object_is_named(self, root):
        storage.write_atomic(storage.join(root, "there"), b"")
        uri = storage.join(root, "missing")
        for read in (storage.read_bytes, storage.version, lambda uri: list(storage.stream_lines(uri))):
            with pytest.raises(NotThereError, match=r"missing: no such .* check the spelling"):
                read(uri)

    def test_a_big_write_is_seen_only_when_it_is_whole(self, root):
        uri = storage.join(root, "big")
        storage.write_atomic(uri, b"old")
        with storage.open_writer(uri) as out:
            for _ in range(20):
                out.write(b"x" * 1_000_000)
            assert storage.read_bytes(uri) == b"old"
        assert storage.read_bytes(uri) == b"x" * 20_000_000

    def test_an_exception_in_the_middle_leaves_the_old_object_and_no_litter(self, root):
        uri = storage.join(root, "folder", "big")
        storage.write_atomic(uri, b"old")
        with pytest.raises(ZeroDivisionError):
            fail_after(storage.open_writer(uri), 20_000_000)
        assert storage.read_bytes(uri) == b"old"
        assert list(storage.list_uris(storage.join(root, "folder"))) == [uri]

    def test_an_empty_object_has_no_lines(self, root):
        uri = storage.join(root, "empty")
        storage.write_atomic(uri, b"")
        assert list(storage.stream_lines(uri)) == []
        assert storage.read_bytes(uri) == b""

    def test_lines_are_whole_across_pieces(self, root):
        uri = storage.join(root, "lines")
        lines = [b"%d " % number + b"y" * (number % 97) for number in range(200_000)]
        storage.write_atomic(uri, b"\r\n".join(lines))
        assert list(storage.stream_lines(uri)) == list(enumerate(lines, 1))

    def test_a_pinned_read_refuses_another_version(self, root):
        uri = storage.join(root, "input")
        storage.write_atomic(uri, b"first\n")
        pinned = storage.version(uri)
        assert list(storage.stream_lines(uri, pinned=pinned)) == [(1, b"first")]
        storage.write_atomic(uri, b"other\n")
        assert storage.version(uri) != pinned
        with pytest.raises(ChangedError, match="input: changed since it was checked"):
            list(storage.stream_lines(uri, pinned=pinned))

    def test_a_change_during_the_read_is_noticed(self, root):
        uri = storage.join(root, "moving")
        storage.write_atomic(uri, b"a" * 20_000_000)
        chunks = storage.stream_chunks(uri)
        next(chunks)
        store, path = storage.open_store(uri)
        if uri.startswith(("s3:", "memory:")):
            store.put(path, b"b" * 20_000_000)
        else:  # a replaced file would be read to its end, consistently; one written in place would not
            with Path(path).open("r+b") as file:
                file.seek(10_000_000)
                file.write(b"b")
        with pytest.raises(ChangedError, match="changed while it was read"):
            list(chunks)

    def test_what_is_read_whole_has_a_limit(self, root):
        uri = storage.join(root, "large")
        storage.write_atomic(uri, b"12345")
        assert storage.read_bytes(uri, max_bytes=5) == b"12345"
        with pytest.raises(InvalidUriError, match="larger than the 4 bytes"):
            storage.read_bytes(uri, max_bytes=4)


class TestUris:
    @pytest.mark.parametrize(
        ("uri", "message"),
        [
            ("ftp://host/x", "unknown scheme 'ftp'; known are local paths and file, s3, gs, az, memory"),
            ("http://host/x", "unknown scheme 'http'"),
            ("s3://", "no bucket; expected s3://bucket/key"),
            ("s3:///key", "no bucket"),
            ("s3://b/a//c", "empty, '.' or '..' segment"),
            ("s3://b/../c", "empty, '.' or '..' segment"),
            ("file://host/x", "three slashes"),
            ("file:x", "three slashes"),
            ("", "a path or URI is expected"),
            ("a\0b", "a path or URI is expected"),
        ],
    )
    def test_a_wrong_uri_says_what_is_expected(self, uri, message):
        with pytest.raises(InvalidUriError) as caught:
            storage.open_store(uri)
        assert message in str(caught.value)

    @pytest.mark.parametrize("uri", ["C", "a:b", "2024-01-01T00:00:00.txt", "a b?c#d"])
    def test_odd_file_names_are_just_paths(self, uri):
        assert storage.open_store(uri)[1] == uri

    @pytest.mark.parametrize("root", ["out", "/out/", "file:///out", "s3://b", "s3://b/out/"])
    @pytest.mark.parametrize("part", ["..", "a/../..", "/etc", "", "a//b", ".", "a\0"])
    def test_join_refuses_to_leave_its_root(self, root, part):
        with pytest.raises(InvalidUriError, match="does not stay below it"):
            storage.join(root, part)

    @pytest.mark.parametrize(
        ("root", "joined"),
        [
            ("out", "out/a b/c"),
            ("/out/", "/out/a b/c"),
            ("/", "/a b/c"),
            (".", "./a b/c"),
            ("file:///out", "file:///out/a%20b/c"),
            ("s3://b", "s3://b/a b/c"),
            ("s3://b/out/", "s3://b/out/a b/c"),
        ],
    )
    def test_join(self, root, joined):
        assert storage.join(root, "a b", "c") == joined

    def test_gs_and_az_are_known(self, monkeypatch):
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        assert storage.open_store("gs://bucket/a/b")[1] == "a/b"
        assert storage.open_store("az://container/a/b")[1] == "a/b"

    def test_azure_without_an_account_says_what_to_set(self, monkeypatch):
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
        with pytest.raises(AccessDeniedError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
            storage.open_store("az://container/a")


class TestLines:
    def test_an_endless_line_is_cut_not_kept(self):
        sizes = []

        def chunks():
            yield b"ok\n"
            for _ in range(1000):
                yield b"x" * 1000
            yield b"\nlast"

        for _, line in storage.split_lines(chunks(), max_line_bytes=10):
            sizes.append(line)
        assert sizes == [b"ok", b"x" * 11, b"last"]

    def test_a_line_of_exactly_the_limit_is_whole(self):
        assert [line for _, line in storage.split_lines([b"12345\r\n123456\r\n"], max_line_bytes=5)] == [
            b"12345",
            b"123456",
        ]

    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_the_size_of_the_pieces_does_not_matter(self, size):
        data = b"a\r\n\r\n\nbc\rd\n\re\r"
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert list(storage.split_lines(pieces)) == [(1, b"a"), (2, b""), (3, b""), (4, b"bc\rd"), (5, b"\re")]


KILLED = """
import sys
from voxpop.formats import storage
with storage.open_writer(sys.argv[1]) as out:
    out.write(b"new" * 3_000_000)
    print("writing", flush=True)
    sys.stdin.read()
"""

TOO_BIG = """
import signal, resource, sys
from voxpop.formats import storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
{write}
"""


class TestLocalFiles:
    def test_sigkill_in_the_middle_leaves_the_old_file_and_the_next_writer_sweeps(self, tmp_path):
        path = tmp_path / "output.manifest"
        path.write_bytes(b"old")
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout.readline() == b"writing\n"
        with storage.open_writer(str(path)) as out:  # the other writer lives: what it wrote must survive this one
            out.write(b"quick")
        assert path.read_bytes() == b"quick"
        assert len(names(tmp_path)) == 2
        process.kill()
        process.communicate()
        assert path.read_bytes() == b"quick"
        assert list(storage.list_uris(str(tmp_path))) == [str(path)]
        with storage.open_writer(str(path)) as out:
            out.write(b"new")
        assert path.read_bytes() == b"new"
        assert names(tmp_path) == ["output.manifest"]

    @pytest.mark.parametrize(
        "write",
        [
            "storage.write_atomic(sys.argv[1], b'x' * 2_000_000)",
            "storage.create(sys.argv[1] + '.2', b'x' * 2_000_000)",
            "with storage.open_writer(sys.argv[1]) as out:\n    for _ in range(2_000): out.write(b'x' * 1_000)",
        ],
    )
    def test_no_space_left_keeps_the_old_file_and_leaves_no_litter(self, tmp_path, write):
        path = tmp_path / "output.manifest"
        path.write_bytes(b"old")
        script = TOO_BIG.format(write=write)
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, check=False)
        assert b"StorageFullError" in done.stderr
        assert b"free some space or raise the quota, then run the same again" in done.stderr
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["output.manifest"]

    def test_a_new_file_is_synced_before_it_gets_its_name(self, tmp_path, monkeypatch):
        """Order matters for a power cut: content first, then the name, then the folder."""
        calls = []
        fsync, replace = os.fsync, Path.replace
        monkeypatch.setattr(
            os, "fsync", lambda fd: (calls.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))[1]
        )
        monkeypatch.setattr(Path, "replace", lambda *a: (calls.append("rename"), replace(*a))[1])
        storage.write_atomic(str(tmp_path / "x"), b"1")
        assert calls[0].endswith(".voxpop-part")
        assert calls[1:] == ["rename", str(tmp_path)]

    def test_permission_denied(self, tmp_path):
        """In a child, which gives its rights away if the suite runs as root."""
        tmp_path.chmod(0o755)
        (tmp_path / "locked").mkdir(mode=0)
        script = (
            "import os\nfrom voxpop.formats import storage, errors\n"
            "if os.geteuid() == 0: os.setgroups([]); os.setuid(65534)\n"
            "for attempt in (storage.read_bytes, lambda uri: storage.write_atomic(uri, b''), storage.version):\n"
            "    try: attempt('locked/x')\n"
            "    except errors.AccessDeniedError as error: print(error)\n"
            "try: list(storage.list_uris('.'))\n"
            "except errors.AccessDeniedError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=True, text=True)
        (tmp_path / "locked").rmdir()
        reason = "permission denied; check owner and mode of the file and its folder"
        assert done.stdout.splitlines() == [f"locked/x: {reason}"] * 3 + [f".: {reason}"]

    def test_folders_and_files_are_not_confused(self, tmp_path):
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(InvalidUriError, match="is a folder; a file is expected"):
            storage.read_bytes(str(tmp_path))
        with pytest.raises(InvalidUriError, match="is a folder; a file is expected"):
            storage.write_atomic(str(tmp_path), b"")
        with pytest.raises(InvalidUriError, match="a file stands where a folder is expected"):
            storage.write_atomic(str(tmp_path / "file" / "x"), b"")
        with pytest.raises(InvalidUriError, match="a file stands where a folder is expected"):
            list(storage.list_uris(str(tmp_path / "file")))

    def test_a_folder_that_cannot_be_made_is_an_error_not_a_wait(self):
        with pytest.raises(StorageError):
            storage.write_atomic("/proc/voxpop/x", b"")

    def test_a_pipe_can_be_read_but_not_pinned(self, tmp_path):
        pipe = str(tmp_path / "pipe")
        os.mkfifo(pipe)
        with pytest.raises(InvalidUriError, match="can be read only once; copy it to a file first"):
            storage.version(pipe)
        writer = threading.Thread(target=lambda: Path(pipe).write_bytes(b"a\nb\n"))
        writer.start()
        assert list(storage.stream_lines(pipe)) == [(1, b"a"), (2, b"b")]
        writer.join()

    def test_nothing_in_a_folder_is_skipped_silently(self, tmp_path):
        (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
        with pytest.raises(StorageError, match="dead: is a link to nothing"):
            list(storage.list_uris(str(tmp_path)))
        (tmp_path / "dead").unlink()
        (tmp_path / "loop").symlink_to(tmp_path)
        with pytest.raises(StorageError, match="is a link to a folder above itself"):
            list(storage.list_uris(str(tmp_path)))
        (tmp_path / "loop").unlink()
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"")
        with pytest.raises(StorageError, match="the file name is not UTF-8"):
            list(storage.list_uris(str(tmp_path)))

    def test_links_to_folders_are_followed(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "1.jpg").write_bytes(b"x")
        (tmp_path / "view").mkdir()
        (tmp_path / "view" / "link").symlink_to(tmp_path / "real")
        assert list(storage.list_uris(str(tmp_path / "view"))) == [str(tmp_path / "view" / "link" / "1.jpg")]

    def test_a_writer_holds_a_lock_that_others_can_see(self, tmp_path):
        path = tmp_path / "x"
        with storage.open_writer(str(path)) as out:
            out.write(b"1")
            (part,) = tmp_path.iterdir()
            with part.open("rb") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class TestS3:
    def test_objects_are_where_other_clients_look_for_them(self, s3):
        client, bucket = s3
        storage.write_atomic(f"s3://{bucket}/a/größe 50%25 #1", b"1")
        assert client.get_object(Bucket=bucket, Key="a/größe 50%25 #1")["Body"].read() == b"1"
        client.put_object(Bucket=bucket, Key="theirs/x y", Body=b"2")
        assert storage.read_bytes(f"s3://{bucket}/theirs/x y") == b"2"

    def test_an_aborted_upload_leaves_no_parts_to_pay_for(self, s3):
        client, bucket = s3
        with pytest.raises(ZeroDivisionError):
            fail_after(storage.open_writer(f"s3://{bucket}/big"), 40_000_000)
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
        assert "Contents" not in client.list_objects_v2(Bucket=bucket)

    def test_more_objects_than_one_page_of_the_listing(self, s3, monkeypatch):
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # the server's page; that of S3 is 1,000
        client, bucket = s3
        for number in range(25):
            client.put_object(Bucket=bucket, Key=f"img/{number:04}.jpg", Body=b"")
        assert client.list_objects_v2(Bucket=bucket)["IsTruncated"]
        assert list(storage.list_uris(f"s3://{bucket}/img")) == [
            f"s3://{bucket}/img/{number:04}.jpg" for number in range(25)
        ]

    def test_a_missing_bucket_is_named(self, s3):
        for attempt in (
            storage.read_bytes,
            lambda uri: list(storage.list_uris(uri)),
            lambda uri: storage.write_atomic(uri, b""),
            lambda uri: storage.create(uri, b""),
        ):
            with pytest.raises(NotThereError, match="bucket"):
                attempt("s3://no-such-bucket-here/x")
        with pytest.raises(NotThereError) as caught:
            storage.write_atomic("s3://no-such-bucket-here/x", b"")
        assert str(caught.value) == "s3://no-such-bucket-here: no such bucket; create it, or check the spelling"

    def test_credentials_that_do_not_open_it(self, s3, s3_server):
        _, bucket = s3
        storage.write_atomic(f"s3://{bucket}/x", b"1")

        def let_in(requests):
            """Have the server check who asks after so many requests."""
            headers = {"Content-Type": "text/plain"}
            request = urllib.request.Request(f"{s3_server}/moto-api/reset-auth", requests, headers)
            urllib.request.urlopen(request).close()

        let_in(b"0")
        try:
            for attempt in (storage.read_bytes, storage.version, lambda uri: storage.create(uri, b"")):
                with pytest.raises(AccessDeniedError) as caught:
                    attempt(f"s3://{bucket}/x")
                assert "x: access denied; check the credentials: set AWS_ACCESS_KEY_ID" in str(caught.value)
        finally:
            let_in(b"inf")

    def test_an_endpoint_that_does_not_answer(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(UnavailableError, match=r"s3://b-b/x: .*check the endpoint, then try again"):
            storage.read_bytes("s3://b-b/x")


def test_file_size_limit_is_not_ours():
    """The limit that the tests above set in their children did not leak into this process."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # Python's own default
