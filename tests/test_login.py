"""The owner's login in the browser."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.datastructures import State
from starlette.requests import Request

from claude_runner.config import Login, Settings
from claude_runner.web._login import FREE_TRIES, LONGEST_WAIT_SECONDS, LoginGate
from tests.support import FakeClock

ALICE = Login("alice", "correct horse")
ORIGIN = "https://runner.example.org"


def request(
    method: str = "GET", client: str = "203.0.113.9", host: str = "runner.example.org", **headers: str
) -> Request:
    """A request as it comes to the gate: its Host is known to be one of ours."""
    named = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    asked = Request(
        {
            "type": "http",
            "method": method,
            "path": "/",
            "scheme": "https",
            "server": (host, 443),
            "client": (client, 40000),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
            "state": {"origin": ORIGIN},
        }
    )
    assert isinstance(asked.state, State)
    return asked


def basic(name: str = ALICE.name, secret: str = ALICE.secret, scheme: str = "Basic") -> str:
    return f"{scheme} " + base64.b64encode(f"{name}:{secret}".encode()).decode()


@pytest.fixture
def gate(tmp_path: Path, clock: FakeClock) -> LoginGate:
    return LoginGate(Settings(home=tmp_path, dashboard=ALICE), clock)


@pytest.fixture
def open_gate(tmp_path: Path, clock: FakeClock) -> LoginGate:
    """The gate of a server without a login."""
    return LoginGate(Settings(home=tmp_path), clock)


async def status(gate: LoginGate, asked: Request) -> int:
    """The status of the refusal; 200 where there is none."""
    refusal = await gate.refusal(asked)
    return 200 if refusal is None else refusal.status_code


async def test_the_owner_is_let_in(gate: LoginGate) -> None:
    assert await status(gate, request(authorization=basic())) == 200
    assert await status(gate, request(authorization=basic(scheme="bASIC"))) == 200


async def test_whoever_names_nobody_is_asked_to_log_in(gate: LoginGate) -> None:
    refusal = await gate.refusal(request())
    assert refusal is not None
    assert refusal.status_code == 401
    assert refusal.headers["WWW-Authenticate"] == 'Basic realm="Claude Runner", charset="UTF-8"'


@pytest.mark.parametrize(
    "given",
    [
        basic(secret="wrong"),
        basic(name="bob"),
        basic(secret=""),
        basic(name="", secret=""),
        basic(secret=ALICE.secret + "x"),
        basic(name="alice:correct horse", secret=""),
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe:").decode(),
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Bearer " + base64.b64encode(b"alice:correct horse").decode(),
    ],
)
async def test_nobody_else_is(gate: LoginGate, given: str) -> None:
    assert await status(gate, request(authorization=given)) == 401


async def test_a_password_may_have_any_character(tmp_path: Path, clock: FakeClock) -> None:
    login = Login("älice", "a:b:ç 🐎")
    gate = LoginGate(Settings(home=tmp_path, dashboard=login), clock)
    assert await status(gate, request(authorization=basic(*login))) == 200


async def test_after_five_wrong_logins_an_address_waits_twice_as_long_each_time(
    gate: LoginGate, clock: FakeClock
) -> None:
    for _ in range(FREE_TRIES):
        assert await status(gate, request(authorization=basic(secret="wrong"))) == 401
    for seconds in (1, 2, 4):
        refusal = await gate.refusal(request(authorization=basic()))  # not even the right one is looked at
        assert refusal is not None
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (429, str(seconds))
        clock.move(seconds)
        assert await status(gate, request(authorization=basic(secret="wrong"))) == 401
    clock.move(8)
    assert await status(gate, request(authorization=basic())) == 200
    assert await status(gate, request(authorization=basic(secret="wrong"))) == 401


async def test_nobody_waits_longer_than_a_quarter_of_an_hour(gate: LoginGate, clock: FakeClock) -> None:
    for _ in range(40):
        await gate.refusal(request(authorization=basic(secret="wrong")))
        clock.move(LONGEST_WAIT_SECONDS)
    assert await status(gate, request(authorization=basic())) == 200


async def test_whoever_guesses_for_weeks_waits_as_long_each_time(gate: LoginGate, clock: FakeClock) -> None:
    for _ in range(1100):
        assert await status(gate, request(authorization=basic(secret="wrong"))) == 401
        clock.move(LONGEST_WAIT_SECONDS)
    assert await status(gate, request(authorization=basic(secret="wrong"))) == 401
    assert await status(gate, request(authorization=basic())) == 429


async def test_one_address_does_not_lock_out_another(gate: LoginGate) -> None:
    for _ in range(FREE_TRIES):
        await gate.refusal(request(authorization=basic(secret="wrong")))
    assert await status(gate, request(authorization=basic())) == 429
    assert await status(gate, request(authorization=basic(), client="203.0.113.10")) == 200


async def test_the_addresses_of_one_ipv6_network_are_one(gate: LoginGate) -> None:
    for number in range(FREE_TRIES):
        await gate.refusal(request(client=f"2001:db8::{number}", authorization=basic(secret="wrong")))
    assert await status(gate, request(client="2001:db8::ffff", authorization=basic())) == 429
    assert await status(gate, request(client="2001:db8:0:1::1", authorization=basic())) == 200


async def test_an_ipv4_address_is_one_however_it_is_written(gate: LoginGate) -> None:
    for _ in range(FREE_TRIES):
        await gate.refusal(request(client="::ffff:203.0.113.9", authorization=basic(secret="wrong")))
    assert await status(gate, request(client="203.0.113.9", authorization=basic())) == 429
    assert await status(gate, request(client="::ffff:203.0.113.10", authorization=basic())) == 200


async def test_asking_without_a_login_is_no_wrong_one(gate: LoginGate) -> None:
    for _ in range(20):
        await gate.refusal(request())
    assert await status(gate, request(authorization=basic())) == 200


async def test_guesses_from_everywhere_do_not_fill_the_memory(
    gate: LoginGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web._login.REMEMBERED", 10)
    for number in range(200):
        await gate.refusal(request(client=f"198.51.100.{number}", authorization=basic(secret="wrong")))
    assert len(gate._failures) == 10


async def test_both_parts_are_compared_in_constant_time_whatever_is_wrong(
    gate: LoginGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one) + len(other))
        return one == other

    monkeypatch.setattr("claude_runner.web._login.hmac.compare_digest", compare)
    for given in (basic("bob", "x"), basic(secret="wrong"), basic("", ""), basic()):
        await gate.refusal(request(authorization=given))
    assert compared == [64] * 8  # digests of one length, both parts each time


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_form_of_another_site_is_refused_also_from_the_owner(gate: LoginGate, site: str) -> None:
    assert await status(gate, request("POST", authorization=basic(), sec_fetch_site=site)) == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://runner.example.org", ORIGIN + ":444"]
)
async def test_a_form_of_another_origin_is_refused(gate: LoginGate, origin: str) -> None:
    assert await status(gate, request("POST", authorization=basic(), origin=origin)) == 403


async def test_a_form_of_the_site_itself_is_taken(gate: LoginGate) -> None:
    own = {"authorization": basic(), "origin": ORIGIN}
    assert await status(gate, request("POST", **own, sec_fetch_site="same-origin")) == 200
    assert await status(gate, request("POST", authorization=basic())) == 200  # no browser


LOCAL = {"client": "127.0.0.1", "host": "localhost:8080"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("cors", "empty"),
        ("same-origin", "empty"),
        ("navigate", "iframe"),
        ("navigate", "object"),
        ("navigate", "embed"),
    ],
)
async def test_another_site_can_not_load_any_of_it_as_a_part(
    gate: LoginGate, open_gate: LoginGate, site: str, mode: str, dest: str
) -> None:
    """It would learn by the time it takes what there is, hold streams open, and start servers."""
    fetch = {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": dest}
    assert await status(gate, request(authorization=basic(), **fetch)) == 403
    assert await status(open_gate, request(**LOCAL, **fetch)) == 403


async def test_a_link_from_another_site_may_lead_here(gate: LoginGate) -> None:
    fetch = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert await status(gate, request(authorization=basic(), **fetch)) == 200
    assert await status(gate, request(authorization=basic(), sec_fetch_site="cross-site")) == 200
    assert await status(gate, request("POST", authorization=basic(), **fetch)) == 403


async def test_without_a_login_a_browser_on_this_machine_is_served(open_gate: LoginGate) -> None:
    assert await status(open_gate, request(**LOCAL)) == 200
    assert await status(open_gate, request(client="::1", host="[::1]:8080")) == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"client": "192.168.1.7"},
        {"host": "runner.example.org"},
        {"x_forwarded_for": "203.0.113.9"},
        {"x_forwarded_proto": "https"},
        {"x_forwarded_host": "localhost"},
        {"forwarded": "for=203.0.113.9"},
        {"x_real_ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
    ],
)
async def test_without_a_login_nobody_else_is(open_gate: LoginGate, changed: dict[str, str]) -> None:
    refusal = await open_gate.refusal(request(**LOCAL | changed))
    assert refusal is not None
    assert refusal.status_code == 403
    assert b"DASHBOARD_USERNAME" in refusal.body


async def test_without_a_login_a_proxy_that_says_nothing_of_itself_is_told_by_its_http(
    open_gate: LoginGate,
) -> None:
    asked = request(**LOCAL)
    asked.scope["http_version"] = "1.0"
    assert await status(open_gate, asked) == 403


async def test_without_a_login_other_sites_forms_are_refused_as_well(open_gate: LoginGate) -> None:
    assert await status(open_gate, request("POST", **LOCAL, sec_fetch_site="cross-site")) == 403


def test_the_password_does_not_show_with_the_settings(tmp_path: Path) -> None:
    settings = replace(Settings(home=tmp_path), dashboard=ALICE, oauth_client=Login("id", "s3cret"))
    assert ALICE.secret not in repr(settings)
    assert "s3cret" not in repr(settings)
