"""Where the site is reached."""

from pathlib import Path

import pytest

from claude_runner.addresses import Addresses
from claude_runner.app import App
from claude_runner.config import Settings
from claude_runner.errors import InvalidError


async def store_base(app: App, value: str) -> None:
    await app.database.write(
        lambda c: c.execute(
            "UPDATE settings SET value = :value WHERE key = 'webhook_base_url'", {"value": value}
        ).close()
    )


def addresses(app: App, tmp_path: Path, **changes: str) -> Addresses:
    return Addresses(Settings(home=tmp_path, **changes), app.stored)  # type: ignore[arg-type]  # texts alone are changed


async def test_urls_begin_with_localhost_where_nothing_else_is_known(app: App) -> None:
    assert await app.addresses.base() == "http://localhost:8080"


async def test_the_stored_base_comes_before_localhost(app: App) -> None:
    await store_base(app, '"https://hooks.example.org/"')
    assert await app.addresses.base() == "https://hooks.example.org"


async def test_the_tunnel_comes_before_the_stored_base(app: App, tmp_path: Path) -> None:
    await store_base(app, '"https://hooks.example.org"')
    known = addresses(app, tmp_path)
    known.tunnel = "https://abc.ngrok.app"
    assert await known.base() == "https://abc.ngrok.app"


async def test_public_url_comes_before_all(app: App, tmp_path: Path) -> None:
    known = addresses(app, tmp_path, public_url="https://runner.example.org")
    known.tunnel = "https://abc.ngrok.app"
    assert await known.base() == "https://runner.example.org"


@pytest.mark.parametrize(
    "junk",
    [
        '"ftp://x"',
        '"https://x:port"',
        '"https://[x"',
        '"https://"',
        '"https://b\xfccher.example"',
        "7",
        "not JSON",
        '""',
        "null",
    ],
)
async def test_a_stored_base_that_is_no_url_counts_as_none(app: App, junk: str) -> None:
    await store_base(app, junk)
    assert await app.addresses.base() == "http://localhost:8080"
    assert await app.addresses.origin("hooks.example.org", "http") is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("LocalHost:8080", "http://localhost:8080"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost:9000", "http://localhost:9000"),  # as through a tunnel of ssh's
        ("runner.example.org", "https://runner.example.org"),
        ("runner.example.org:443", "https://runner.example.org"),
        ("abc.ngrok.app", "https://abc.ngrok.app"),
        ("hooks.example.org:8443", "https://hooks.example.org:8443"),
    ],
)
async def test_a_client_is_told_the_origin_it_came_by(
    app: App, tmp_path: Path, host: str, origin: str
) -> None:
    await store_base(app, '"https://hooks.example.org:8443"')
    known = addresses(app, tmp_path, public_url="https://runner.example.org")
    known.tunnel = "https://abc.ngrok.app"
    assert await known.origin(host, "http") == origin


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "runner.example.org.evil.example",
        "runner.example.org:80",
        "localhost:x",
        "localhost:99999",
        "user@localhost",
        "localhost/",
        "localhost#",
        "localhost?",
        "local host",
        "",
        ":8080",
        "[::1",
        "192.0.2.1",
        "127.0.0.1.nip.io",
        "0",
        "\xb5.localhost",  # which becomes a letter that no header can carry
        'a"b.localhost',
        "a b.localhost",
        '[::1%25"><x]:80',
        "[::::]",
        "[127.0.0.1]",
    ],
)
async def test_a_host_that_is_not_ours_has_no_origin(app: App, tmp_path: Path, host: str) -> None:
    known = addresses(app, tmp_path, public_url="https://runner.example.org")
    assert await known.origin(host, "http") is None


async def test_only_what_is_http_has_an_origin(app: App) -> None:
    assert await app.addresses.origin("localhost:8080", "wss") is None


async def test_a_server_that_others_reach_is_known_by_its_addresses_but_by_no_name(
    app: App, tmp_path: Path
) -> None:
    known = addresses(app, tmp_path, host="0.0.0.0")
    assert await known.origin("192.168.1.7:8080", "http") == "http://192.168.1.7:8080"
    assert await known.origin("[2001:db8::7]:8080", "http") == "http://[2001:db8::7]:8080"
    assert await known.origin("rebound.evil.example:8080", "http") is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("", "https://runner.example.org"),
        ("http://localhost:8080/mcp", "http://localhost:8080"),
        ("https://runner.example.org/", "https://runner.example.org"),
    ],
)
async def test_a_url_of_ours_names_its_origin(app: App, tmp_path: Path, url: str, origin: str) -> None:
    assert await addresses(app, tmp_path, public_url="https://runner.example.org").named(url) == origin


@pytest.mark.parametrize(
    "url", ["https://evil.example", "localhost:8080", "ftp://localhost", "http://[", "http://a b"]
)
async def test_a_url_that_is_not_ours_is_refused(app: App, url: str) -> None:
    with pytest.raises(InvalidError, match="is not where this server is reached; http://localhost:8080 is"):
        await app.addresses.named(url)
