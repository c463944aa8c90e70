from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from profiler_service.errors import StoreUnusableError
from profiler_service.settings import Settings
from profiler_service.storage.database import parse_url


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///~/lhp.sqlite", "sqlite:////home/ann/lhp.sqlite"),
        ("sqlite+pysqlite:///~/a b.sqlite", "sqlite+pysqlite:////home/ann/a b.sqlite"),
        # Only at the head of a path does a tilde stand for something.
        ("sqlite:////srv/~/lhp.sqlite", "sqlite:////srv/~/lhp.sqlite"),
        ("postgresql://ann:~secret@db/lhp", "postgresql://ann:~secret@db/lhp"),
    ],
)
def test_a_tilde_stands_for_the_home_directory(
    given: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("LHP_DATABASE_URL", given)
    assert Settings().database_url == meant


def test_the_default_is_under_the_data_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LHP_DATABASE_URL", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Settings().database_url == f"sqlite:///{tmp_path}/lhp/lhp.sqlite"


@pytest.mark.parametrize("home", [None, ""])
def test_without_a_home_directory_only_who_needs_the_database_fails(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    for name in ("LHP_DATABASE_URL", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # nobody has an entry: KeyError
    settings = Settings()
    with pytest.raises(StoreUnusableError, match="the home directory isn't known") as caught:
        parse_url(settings.database_url)
    assert "HOME" in caught.value.hint
    monkeypatch.setenv("XDG_DATA_HOME", "/srv")
    assert parse_url(Settings().database_url).database == "/srv/lhp/lhp.sqlite"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("/lhp", "/lhp"), ("/tools/lhp/", "/tools/lhp"), ("lhp", "/lhp"), ("/", ""), ("", "")],
)
def test_the_root_path_begins_with_a_slash_and_ends_without_one(given: str, meant: str) -> None:
    assert Settings(root_path=given).root_path == meant


@pytest.mark.parametrize(
    "name", ["anvil", "rack[/gpu]", "a host/with odd characters", "dgx[a100]", "größe", "x" * 255]
)
def test_a_host_may_be_called_anything_that_can_be_printed(name: str) -> None:
    assert Settings(host=name).host == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "\t", "two\nlines", "bell\a", "\x1b[31m", "nul\0", " a", "a ", "\udce9", "x" * 256],
)
def test_a_name_that_no_host_can_have_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValidationError, match="the name of a host"):
        Settings(host=name)


def test_an_empty_host_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHP_HOST", "")
    with pytest.raises(ValidationError, match="the name of a host can't be empty"):
        Settings()


@pytest.mark.parametrize("node", ["", " ", "bad\nname"])
def test_a_machine_without_a_usable_name_is_localhost(
    node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LHP_HOST", raising=False)
    monkeypatch.setattr("platform.node", lambda: node)
    assert Settings().host == "localhost"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
def test_devices(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize("device", ["tpu", "", "CPU", "cuda:1"])
def test_unknown_devices_are_refused_at_once(device: str) -> None:
    with pytest.raises(ValidationError, match="auto, cpu or cuda"):
        Settings(device=device)


def test_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LHP_CACHE", raising=False)
    assert Settings().cache == "warm"
    monkeypatch.setenv("LHP_CACHE", "flushed")
    assert Settings().cache == "flushed"


def test_unknown_caches_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHP_CACHE", "cold")
    with pytest.raises(ValidationError, match="'warm' or 'flushed'"):
        Settings()


def test_canaries_are_points_and_few() -> None:
    assert Settings(canaries=" 1197, 317; 5,6;5,6;").canaries == "1197,317;5,6"
    for wrong in ("1197", "0,5", "a,b", ";".join(f"{n},1" for n in range(1, 22))):
        with pytest.raises(ValidationError):
            Settings(canaries=wrong)


def test_a_client_has_a_share_and_never_nothing() -> None:
    assert Settings().share_of_client(512) == 128
    assert Settings(client_share=0.3).share_of_client(256) == 76  # 76.8
    assert Settings(client_share=0.25).share_of_client(2) == 1
    for share in (0, 1.1):
        with pytest.raises(ValidationError):
            Settings(client_share=share)
