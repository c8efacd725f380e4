import asyncio
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from claude_runner.config import VARIABLES, Settings, SystemClock, Transport, default_concurrency
from claude_runner.errors import InvalidError
from tests.support import PATIENCE


def settings(**environment: str) -> Settings:
    return Settings.from_environment(environment, Path("/srv/runner"))


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    read = settings()
    assert (read.transport, read.host, read.port) == (Transport.BOTH, "127.0.0.1", 8080)
    assert (read.shutdown_grace_seconds, read.exit_on_eof, read.log_level) == (5, True, "INFO")
    assert (read.home, read.max_concurrent_runs) == (Path("/srv/runner"), default_concurrency())


def test_the_list_of_variables_shows_the_defaults_that_hold() -> None:
    written = {variable.name: variable.default for variable in VARIABLES}
    told = {name: written[name] for name in written if written[name] != "none" and " " not in written[name]}
    assert replace(settings(**told), environment={}) == replace(settings(), environment={})


def test_given_values_win_over_the_defaults(tmp_path: Path) -> None:
    read = settings(
        MCP_TRANSPORT="SSE",
        HOST="0.0.0.0",
        DASHBOARD_USERNAME="alice",
        DASHBOARD_PASSWORD="a long one",
        PORT=" 9000 ",
        RUNNER_HOME=str(tmp_path),
        MAX_CONCURRENT_RUNS="7",
        SHUTDOWN_GRACE_SECONDS="0",
        EXIT_ON_EOF="0",
        LOG_LEVEL="debug",
    )
    assert (read.transport, read.host, read.port, read.home) == (Transport.SSE, "0.0.0.0", 9000, tmp_path)
    assert (read.max_concurrent_runs, read.shutdown_grace_seconds) == (7, 0)
    assert (read.exit_on_eof, read.log_level) == (False, "DEBUG")


def test_an_empty_value_counts_as_not_given() -> None:
    assert settings(PORT="", MCP_TRANSPORT="  ").port == 8080


def test_the_whole_environment_is_kept_for_the_agent() -> None:
    assert settings(ANTHROPIC_API_KEY="k", PORT="").environment == {"ANTHROPIC_API_KEY": "k", "PORT": ""}


def test_the_environment_is_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(settings(ANTHROPIC_API_KEY="secret"))


def test_a_home_may_begin_with_a_tilde() -> None:
    assert settings(RUNNER_HOME="~/runner").home == Path.home() / "runner"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MCP_TRANSPORT", "http", "MCP_TRANSPORT is 'http'; it must be one of stdio, sse, both"),
        ("EXIT_ON_EOF", "yes", "EXIT_ON_EOF is 'yes'; it must be one of 0, 1"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is 'LOUD'; it must be one of DEBUG, INFO, WARNING, ERROR"),
        ("PORT", "http", "PORT is 'http'; it must be a whole number from 1 to 65535"),
        ("PORT", "0", "PORT is '0'; it must be a whole number from 1 to 65535"),
        ("PORT", "65536", "PORT is '65536'; it must be a whole number from 1 to 65535"),
        ("PORT", "٨٠", "PORT is '٨٠'; it must be a whole number from 1 to 65535"),
        ("PORT", "-1", "PORT is '-1'; it must be a whole number from 1 to 65535"),
        ("MAX_CONCURRENT_RUNS", "0", "MAX_CONCURRENT_RUNS is '0'; it must be a whole number from 1 to 1000"),
        (
            "SHUTDOWN_GRACE_SECONDS",
            "1.5",
            "SHUTDOWN_GRACE_SECONDS is '1.5'; it must be a whole number from 0 to 3600",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidError) as refused:
        settings(**{name: value})
    assert (str(refused.value), refused.value.field) == (sentence, name)


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(InvalidError, match="PORT is"):
        settings(PORT="9" * 5000)


def test_a_home_of_an_unknown_user_is_refused() -> None:
    with pytest.raises(InvalidError, match="RUNNER_HOME is not a folder"):
        settings(RUNNER_HOME="~no-such-user-here/runner")


def test_every_file_of_the_server_lies_under_its_home() -> None:
    read = settings()
    assert read.database_path == Path("/srv/runner/jobs.db")
    assert {read.playground.parent, read.state.parent} == {read.home}


def test_concurrency_leaves_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 2**18, "SC_PAGE_SIZE": 2**12}.get)  # a GiB
    assert default_concurrency() == 1024 // 2 // 110


def test_concurrency_is_the_number_of_cores_where_the_memory_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.delattr("os.sysconf")
    assert default_concurrency() == 3


def test_the_clock_tells_the_time_in_utc() -> None:
    assert SystemClock().now().tzinfo is UTC


async def test_waiting_ends_with_the_event() -> None:
    clock, event = SystemClock(), asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    async with asyncio.timeout(PATIENCE):
        await clock.wait(event, clock.now() + timedelta(days=1))


async def test_waiting_ends_at_the_instant() -> None:
    clock = SystemClock()
    instant = clock.now() + timedelta(milliseconds=20)
    async with asyncio.timeout(PATIENCE):
        await clock.wait(asyncio.Event(), instant)
    assert clock.now() >= instant


async def test_what_is_past_is_not_waited_for() -> None:
    clock = SystemClock()
    async with asyncio.timeout(PATIENCE):
        await clock.wait(asyncio.Event(), clock.now() - timedelta(days=1))


async def test_a_pause_ends_with_the_event() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    async with asyncio.timeout(PATIENCE):
        await SystemClock().pause(event, 3600)


async def test_a_pause_lasts_as_long_as_was_asked() -> None:
    clock = SystemClock()
    begun = clock.elapsed()
    await clock.pause(asyncio.Event(), 0.02)
    assert clock.elapsed() - begun >= 0.02


def test_the_login_is_where_the_owners_claude_keeps_it() -> None:
    assert settings(HOME="/home/ann").login == Path("/home/ann/.claude")
    assert settings(HOME="/home/ann", CLAUDE_CONFIG_DIR="/srv/claude").login == Path("/srv/claude")
    assert settings().login == Path.home() / ".claude"


@pytest.mark.parametrize(
    ("environment", "field"),
    [
        ({"PUBLIC_URL": "runner.example.org"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "ftp://runner.example.org"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://runner.example.org/path"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://a@runner.example.org"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://runner.example.org:x"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://b\xfccher.example"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://run ner.example.org"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": 'https://runner.example.org"'}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://[::1%eth0]"}, "PUBLIC_URL"),
        ({"DASHBOARD_USERNAME": "a:b", "DASHBOARD_PASSWORD": "x"}, "DASHBOARD_USERNAME"),
        ({"DASHBOARD_USERNAME": "alice"}, "DASHBOARD_PASSWORD"),
        ({"DASHBOARD_PASSWORD": "secret"}, "DASHBOARD_USERNAME"),
        ({"OAUTH_CLIENT_ID": "id"}, "OAUTH_CLIENT_SECRET"),
        ({"OAUTH_SECRET_KEY": "short"}, "OAUTH_SECRET_KEY"),
        ({"OAUTH_TOKEN_HOURS": "0"}, "OAUTH_TOKEN_HOURS"),
        ({"TRUSTED_PROXIES": "10.0.0.0/8, proxy"}, "TRUSTED_PROXIES"),
    ],
)
def test_what_the_site_cannot_be_served_with_is_refused(environment: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        settings(**environment)
    assert refused.value.field == field
    assert "\n" not in str(refused.value)


def test_an_address_to_listen_on_may_be_written_as_in_a_url() -> None:
    assert settings(HOST="[::1]").host == "::1"


LOGIN = {"DASHBOARD_USERNAME": "alice", "DASHBOARD_PASSWORD": "correct horse"}


@pytest.mark.parametrize(
    "opened",
    [
        {"HOST": "0.0.0.0"},
        {"HOST": "192.168.1.7"},
        {"HOST": "::"},
        {"PUBLIC_URL": "https://runner.example.org"},
    ],
)
def test_a_door_that_others_reach_needs_a_login(opened: dict[str, str]) -> None:
    with pytest.raises(InvalidError, match="set DASHBOARD_USERNAME and DASHBOARD_PASSWORD"):
        settings(**opened)
    assert settings(**opened, **LOGIN).dashboard == ("alice", "correct horse")
    assert settings(**opened, MCP_TRANSPORT="stdio").dashboard is None  # it opens no port


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_door_that_is_this_machines_alone_needs_none(host: str) -> None:
    assert settings(HOST=host).host == host


def test_a_public_url_loses_its_slash() -> None:
    assert (
        settings(PUBLIC_URL=" https://Runner.example.org/ ", **LOGIN).public_url
        == "https://runner.example.org"
    )


def test_proxies_are_addresses_and_networks() -> None:
    assert settings().trusted_proxies == ("127.0.0.1", "::1")
    assert settings(TRUSTED_PROXIES="10.0.0.0/8, ::1").trusted_proxies == ("10.0.0.0/8", "::1")
