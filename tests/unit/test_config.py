"""Settings: which source wins, what is remembered, and what is said of a wrong value."""

import json
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxpop.broker.config import Config
from voxpop.broker.connect import check_url, url_database, with_database, without_password
from voxpop.broker.errors import ConfigError
from voxpop.broker.models import JobSpec


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    """No test sees the settings file of the place it is run from."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(path=None, environment=None, **explicit):
    return Config.load(path, environment=environment or {}, explicit=explicit)


def row(config, name):
    return next(setting for setting in config.settings() if setting.name == name)


def test_without_any_source_all_is_default(tmp_path):
    config = load()
    assert config.data_dir == tmp_path / "voxpop-data"
    assert config.storage == (tmp_path / "voxpop-data" / "storage").as_uri()
    assert {setting.origin for setting in config.settings()} == {"default"}


def test_later_sources_win_and_each_value_knows_its_source(tmp_path):
    """Defaults, then the file, then the environment, then what is given explicitly."""
    (tmp_path / "voxpop.toml").write_text("actors = 3\nactor_threads = 5\nsweep_seconds = 2\n")
    config = load(
        environment={"VOXPOP_ACTOR_THREADS": "6", "VOXPOP_SWEEP_SECONDS": "3.5"}, sweep_seconds=4, actors=None
    )
    assert (config.actors, config.actor_threads, config.sweep_seconds, config.retry_seconds) == (3, 6, 4.0, 60.0)
    origins = {name: row(config, name).origin for name in ("actors", "actor_threads", "sweep_seconds", "retry_seconds")}
    assert origins == {
        "actors": "voxpop.toml",
        "actor_threads": "environment variable VOXPOP_ACTOR_THREADS",
        "sweep_seconds": "given explicitly",
        "retry_seconds": "default",
    }


def test_every_setting_is_shown_with_a_meaning():
    settings = load().settings()
    assert len({setting.name for setting in settings}) == len(settings) == len(Config.__struct_fields__) - 1
    assert all(setting.meaning.endswith(".") for setting in settings)


def test_relative_paths_of_a_file_start_at_the_file(tmp_path):
    """The same file means the same directories wherever voxpop is started."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "voxpop.toml").write_text('data_dir = "data"\nstorage = "results"\n')
    config = load("etc/voxpop.toml")
    assert config.data_dir == tmp_path / "etc" / "data"
    assert config.storage == (tmp_path / "etc" / "results").as_uri()
    assert load("etc/voxpop.toml", data_dir="other").data_dir == tmp_path / "other"
    assert load(data_dir=tmp_path / "other").data_dir == tmp_path / "other"


def test_defaults_of_jobs_are_the_same_everywhere():
    job, config = JobSpec(name="birds", task_type="t", pool="p"), load()
    assert (config.lease_seconds, config.retry_seconds) == (job.lease_seconds, job.retry_seconds)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"VOXPOP_ACTORS": "0"},
            "(environment variable VOXPOP_ACTORS): found '0', expected a whole number of at least 1 and of at most 256",
        ),
        ({"VOXPOP_ACTORS": "many"}, "found 'many', expected a whole number"),
        ({"VOXPOP_ACTORS": ""}, "found '', expected a whole number"),
        ({"VOXPOP_SWEEP_SECONDS": "nan"}, "found 'nan', expected a number over 0 and of at most 3600"),
        ({"VOXPOP_LEASE_SECONDS": "-1"}, "found '-1', expected a number over 0"),
        ({"VOXPOP_APPENDFSYNC": "sometimes"}, "found 'sometimes', expected one of always, everysec, no"),
        ({"VOXPOP_LOG_LEVEL": "INFO"}, "expected one of debug, info, warning, error"),
        ({"VOXPOP_KEY_PREFIX": "a{b}"}, "found 'a{b}', expected text like"),
        ({"VOXPOP_DATA_DIR": ""}, "setting data_dir (environment variable VOXPOP_DATA_DIR): found '', expected a path"),
        ({"VOXPOP_STORAGE": "ftp://host/x"}, "expected a path, or a URI with one of file://, s3://, gs://, az://"),
        (
            {"VOXPOP_REDIS_URL": "localhost:6379"},
            "setting redis_url (environment variable VOXPOP_REDIS_URL): Redis URL",
        ),
        ({"VOXPOP_ACTOR": "2"}, "unknown setting 'actor' (environment variable VOXPOP_ACTOR); did you mean 'actors'?"),
        ({"VOXPOP_XYZZY": "2"}, "expected one of data_dir, redis_url"),
        (
            {"VOXPOP_QUEUE_DB": "0"},
            "setting queue_db (environment variable VOXPOP_QUEUE_DB): found 0, which is the broker's",
        ),
        (
            {"VOXPOP_REDIS_DB": "2", "VOXPOP_REDIS_URL": "redis://user:secret@host/3"},
            "setting redis_db (environment variable VOXPOP_REDIS_DB): found 2, but redis_url",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_source(environment, message):
    with pytest.raises(ConfigError) as wrong:
        load(environment=environment)
    assert message in str(wrong.value)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"actors = '3'", "setting actors (voxpop.toml): found '3', expected a whole number"),
        (b"actors = 3.5", "found '3.5', expected a whole number"),
        (b"actors = true", "found 'True', expected a whole number"),
        (b"[actors]\nnumber = 3", "expected a whole number"),
        (b"data_dir = 7", "found '7', expected a path"),
        (b"acters = 3", "unknown setting 'acters' (voxpop.toml); did you mean 'actors'?"),
        (b"origins = 3", "unknown setting 'origins'"),
        (b"actors = 3 4", "the settings file voxpop.toml is not TOML: "),
        (b"\xff\xfe", "the settings file voxpop.toml cannot be read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, message):
    (tmp_path / "voxpop.toml").write_bytes(content)
    with pytest.raises(ConfigError) as wrong:
        load()
    assert message in str(wrong.value)


def test_a_named_file_has_to_exist():
    with pytest.raises(ConfigError, match=r"the settings file no\.toml does not exist; expected a TOML file"):
        load("no.toml")


def test_an_unknown_explicit_setting_is_refused():
    with pytest.raises(ConfigError, match=r"unknown setting 'redis' \(given explicitly\)"):
        load(redis="redis://host")


def test_the_database_may_be_named_in_the_url_or_apart_from_it():
    in_url = load(redis_url="redis://host:6379/3")
    apart = load(redis_url="redis://host:6379", redis_db=3)
    both = load(redis_url="redis://host:6379?db=3", redis_db=3)
    assert in_url.redis_db == apart.redis_db == both.redis_db == 3
    assert in_url.redis_url == apart.redis_url == both.redis_url == "redis://host:6379/3"
    assert in_url.queue_url == "redis://host:6379/1"


def test_an_embedded_servers_url_takes_the_databases_over():
    config = load(redis_db=4, queue_db=5).at_server("unix:///tmp/data/server/valkey.sock?db=0")
    assert config.redis_url == "unix:///tmp/data/server/valkey.sock?db=4"
    assert config.queue_url == "unix:///tmp/data/server/valkey.sock?db=5"
    assert row(config, "redis_url").origin == "the embedded server"


def test_another_process_gets_the_same_settings():
    """What ``voxpop up`` gives its actors: the environment alone says everything, whatever their working directory."""
    config = load(
        redis_url="redis://user:p%40ss@host/3", actors=7, sweep_seconds=0.25, appendfsync="no", storage="s3://bucket/x"
    )
    other = load(environment=config.environment())
    assert [(s.name, s.value) for s in other.settings()] == [(s.name, s.value) for s in config.settings()]
    assert other.redis_url == config.redis_url


PASSWORDS = st.text(string.ascii_letters + string.digits + "@:/?#%&=[]", min_size=6, max_size=20)


@given(PASSWORDS)
def test_no_password_is_ever_shown(password):
    """However it is written, and also where it makes the URL a wrong one, the password stands in no message."""
    for url in (
        f"redis://user:{password}@host:6379/0",
        f"user:{password}@host:6379",
        f"redis://:{password}@host",
    ):
        assert password not in without_password(url)
        try:
            shown = json.dumps([s.value for s in load(redis_url=url).settings()])
        except ConfigError as error:
            shown = str(error)
        assert password not in shown


@given(
    st.sampled_from(["redis://user:p%40ss@host:6379", "rediss://host", "unix:///path/to/socket", "redis://[::1]:7000"]),
    st.integers(0, 99),
    st.integers(0, 99),
)
def test_the_database_of_a_url_can_be_changed(url, first, second):
    """And nothing else changes with it."""
    changed = with_database(with_database(url, first), second)
    check_url(changed)
    assert url_database(changed) == second
    assert changed.startswith(url)


def test_the_page_on_configuration_knows_every_setting_and_default():
    """``docs/configuration.md`` is checked against the code, so that it stays true."""
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, flags=re.MULTILINE))
    defaults = {"redis_url": "empty", "storage": "`storage` in `data_dir`"}
    for name in Config.__struct_fields__:
        if name != "origins":
            value = getattr(Config(), name)
            plain = f"{value:g}" if isinstance(value, float) else str(value)
            assert rows.pop(name) == defaults.get(name, plain if isinstance(value, int | float) else f"`{plain}`")
    assert rows == {}
