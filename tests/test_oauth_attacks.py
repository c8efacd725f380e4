"""What attackers of OAuth try (RFC 9700; the MCP page on security), each at the site's front door."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.auth import CLAUDE, OAuthError, is_redirect
from claude_runner.auth._grants import GRACE
from claude_runner.auth._registry import MOST_UNUSED, UNUSED_REST
from claude_runner.auth._tokens import verified_access
from claude_runner.web.oauth._registration import EACH, OVERALL
from claude_runner.web.oauth._throttle import Throttle
from tests.oauth import (
    CALLBACK,
    LOCAL,
    ORIGIN,
    PAGE,
    VERIFIER,
    House,
    answered,
    challenge,
    hidden,
    open_house,
    wanted,
)
from tests.parts import locked
from tests.support import FakeClock
from tests.test_login import request

KEY = "k" * 64


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, oauth_secret_key=KEY) as house:
        yield house


@pytest.fixture
async def client_id(house: House) -> str:
    return str((await house.client())["client_id"])


def error_of(response: Any, status: int = 400) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"])


# Replays (RFC 9700, sections 2.2.2 and 4.5)


async def test_code_replay_is_refused_and_costs_what_the_code_gave(house: House, client_id: str) -> None:
    code = await house.code(client_id)
    pair = (await house.exchange(client_id, code)).json()
    assert await house.is_let_in(pair["access_token"])
    assert error_of(await house.exchange(client_id, code)) == "invalid_grant"
    assert not await house.is_let_in(pair["access_token"])
    assert error_of(await house.refresh(client_id, pair["refresh_token"])) == "invalid_grant"


async def test_code_replay_is_known_for_one_long_after_the_code_is_over(house: House, client_id: str) -> None:
    code = await house.code(client_id)
    pair = (await house.exchange(client_id, code)).json()
    house.clock.move(timedelta(hours=1))
    await house.client()  # writes, and so deletes what is over
    assert error_of(await house.exchange(client_id, code)) == "invalid_grant"
    assert not await house.is_let_in(pair["access_token"])


async def test_a_code_that_comes_twice_at_once_gives_tokens_once(house: House, client_id: str) -> None:
    code = await house.code(client_id)
    both = await asyncio.gather(house.exchange(client_id, code), house.exchange(client_id, code))
    assert sorted(response.status_code for response in both) == [200, 400]
    [pair] = [response.json() for response in both if response.status_code == 200]
    assert not await house.is_let_in(pair["access_token"])


async def test_a_code_is_over_after_a_minute(house: House, client_id: str) -> None:
    code = await house.code(client_id)
    house.clock.move(timedelta(seconds=60))
    assert error_of(await house.exchange(client_id, code)) == "invalid_grant"


async def test_refresh_replay_within_the_grace_window_gives_a_pair_of_the_same_grant(
    house: House, client_id: str
) -> None:
    first = await house.tokens(client_id)
    second = (await house.refresh(client_id, first["refresh_token"])).json()
    house.clock.move(GRACE)
    third = (await house.refresh(client_id, first["refresh_token"])).json()
    assert len({pair["refresh_token"] for pair in (first, second, third)}) == 3
    assert await house.sql("SELECT count(*) FROM oauth_grants") == [(1,)]
    for pair in (second, third):
        assert await house.is_let_in(pair["access_token"])


async def test_refresh_replay_after_the_grace_window_costs_the_whole_grant(
    house: House, client_id: str
) -> None:
    first = await house.tokens(client_id)
    second = (await house.refresh(client_id, first["refresh_token"])).json()
    house.clock.move(GRACE + timedelta(seconds=1))
    assert error_of(await house.refresh(client_id, first["refresh_token"])) == "invalid_grant"
    assert error_of(await house.refresh(client_id, second["refresh_token"])) == "invalid_grant"
    assert not await house.is_let_in(second["access_token"])
    assert await house.sql("SELECT revoked_reason FROM oauth_grants") == [("refresh_replay",)]


async def test_the_grace_window_does_not_grow_with_each_replay(house: House, client_id: str) -> None:
    first = await house.tokens(client_id)
    for _ in range(2):
        assert (await house.refresh(client_id, first["refresh_token"])).status_code == 200
        house.clock.move(GRACE / 2)
    house.clock.move(timedelta(seconds=1))
    assert error_of(await house.refresh(client_id, first["refresh_token"])) == "invalid_grant"


async def test_a_clock_that_is_set_back_opens_no_window_for_replays(house: House, client_id: str) -> None:
    first = await house.tokens(client_id)
    await house.refresh(client_id, first["refresh_token"])
    house.clock.jump(-timedelta(hours=1))
    assert error_of(await house.refresh(client_id, first["refresh_token"])) == "invalid_grant"


async def test_consent_replay_gives_no_second_code(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    assert answered(await house.answer(page))["code"]
    for answer in ("allow", "deny"):
        assert (await house.answer(page, answer)).status_code == 400
    assert await house.sql("SELECT count(*) FROM oauth_codes") == [(1,)]


async def test_what_was_denied_can_not_be_allowed_after_all(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    await house.answer(page, "deny")
    assert (await house.answer(page)).status_code == 400
    assert await house.sql("SELECT count(*) FROM oauth_codes") == [(0,)]


async def test_a_request_is_over_after_ten_minutes(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    house.clock.move(timedelta(minutes=10))
    refused = await house.answer(page)
    assert refused.status_code == 400
    assert "This request is over" in refused.text


# Mix-up and audiences (RFC 9700, sections 4.4 and 4.10; RFC 8707; RFC 9207)


async def test_mix_up_is_seen_by_the_issuer_in_every_answer(house: House, client_id: str) -> None:
    assert answered(await house.answer(await house.page(client_id)))["iss"] == ORIGIN
    assert answered(await house.answer(await house.page(client_id), "deny"))["iss"] == ORIGIN
    assert answered(await house.asked(client_id, response_type="token"))["iss"] == ORIGIN


async def test_a_code_of_another_origin_is_none_here(house: House, client_id: str) -> None:
    """An issuer's codes and tokens are its own, though one server is behind both."""
    code = await house.code(client_id)
    house.program = await house.visitor(LOCAL, address="127.0.0.1")
    assert error_of(await house.exchange(client_id, code)) == "invalid_grant"


async def test_a_token_for_one_origin_is_none_at_another(house: House, client_id: str) -> None:
    pair = await house.tokens(client_id)
    assert not await house.is_let_in(pair["access_token"], origin=LOCAL)
    assert await house.is_let_in(pair["access_token"])
    assert not await house.is_let_in(pair["access_token"], origin=LOCAL)  # now that it is known


@pytest.mark.parametrize(
    "resource",
    [
        "https://other.example.org/mcp",
        f"{ORIGIN}.evil.example/mcp",
        f"{ORIGIN}/other",
        f"{ORIGIN}/mcp/../admin",
        f"{ORIGIN}/mcp?x=1",
        f"{ORIGIN}/mcp#x",
        f"https://user@{ORIGIN.removeprefix('https://')}/mcp",
        f"{LOCAL}/mcp",
        "not a url",
        "https://[::1",
    ],
)
async def test_another_resource_is_refused_where_it_is_asked_for(
    house: House, client_id: str, resource: str
) -> None:
    assert answered(await house.asked(client_id, resource=resource))["error"] == "invalid_target"
    code = await house.code(client_id)
    assert error_of(await house.exchange(client_id, code, resource=resource)) == "invalid_target"


async def test_tokens_are_for_what_was_consented_to_alone(house: House, client_id: str) -> None:
    code = await house.code(client_id, resource=f"{ORIGIN}/sse")
    other = f"{ORIGIN}/mcp"
    assert error_of(await house.exchange(client_id, code, resource=other)) == "invalid_target"
    pair = (await house.exchange(client_id, code, resource=f"{ORIGIN}/sse/")).json()
    assert error_of(await house.refresh(client_id, pair["refresh_token"], resource=other)) == "invalid_target"


def forged(token: str, *, key: str = KEY, typ: str = "at+jwt", **changes: Any) -> str:
    claims = jwt.decode(token, options={"verify_signature": False}) | changes
    return jwt.encode(claims, key, algorithm="HS256", headers={"typ": typ})


async def test_forged_tokens_are_refused(house: House, client_id: str) -> None:
    token = (await house.tokens(client_id))["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    header, body, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    forgeries = [
        forged(token, key="x" * 43),  # another server's
        forged(token, typ="JWT"),
        forged(token, typ="consent-request+jwt"),
        forged(token, jti="another"),
        forged(token, jti=None),
        forged(token, jti=["a"]),
        forged(token, aud="https://other.example.org/mcp"),
        forged(token, aud=[f"{ORIGIN}/mcp", "https://other.example.org"]),
        forged(token, iss="https://other.example.org"),
        forged(token, exp=claims["exp"] + 3600),
        forged(token, scope="mcp admin"),
        forged(token, client_id="another"),
        jwt.encode(claims, KEY, algorithm="HS512", headers={"typ": "at+jwt"}),
        jwt.encode(claims, "", algorithm="none", headers={"typ": "at+jwt"}),
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        f"{header}.{body}.",
        f"{header}.{body}",
        token + "x",
        "a" * 5000,
    ]
    for forgery in forgeries:
        assert not await house.is_let_in(forgery), forgery
    assert await house.is_let_in(forged(token))  # the helper itself makes what is let in


async def test_a_sealed_request_is_no_access_token_and_no_other_key_seals(
    house: House, client_id: str
) -> None:
    page = await house.page(client_id)
    assert not await house.is_let_in(hidden(page)["request"])
    claims = jwt.decode(hidden(page)["request"], options={"verify_signature": False})
    claims["request"]["redirect_uri"] = "https://evil.example/callback"
    altered = jwt.encode(claims, KEY, algorithm="HS256", headers={"typ": "consent-request+jwt"})
    shown = await house.browser.get("/oauth/consent", params={"request": altered})
    assert shown.status_code == 400


@settings(max_examples=200, deadline=None)
@given(token=st.one_of(st.text(), st.binary().map(lambda b: base64.urlsafe_b64encode(b).decode() + ".e30.x")))
def test_no_text_is_a_token(token: str) -> None:
    assert verified_access(KEY, token) is None


# Where codes are sent (RFC 9700, sections 2.1 and 4.1; RFC 8252, section 7.3)


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/callback",
        "https://app.example.com.evil.example/callback",
        "https://evil.app.example.com/callback",
        "https://app.example.com@evil.example/callback",
        "https://user@app.example.com/callback",
        "https://app.example.com:8443/callback",
        "https://app.example.com:443/callback",
        "http://app.example.com/callback",
        "https://app.example.com/callback/",
        "https://app.example.com/Callback",
        "https://APP.example.com/callback",
        "HTTPS://app.example.com/callback",
        "https://app.example.com/callback/../evil",
        "https://app.example.com/evil/../callback",
        "https://app.example.com/evil/%2e%2e/callback",
        "https://app.example.com/evil/%252e%252e/callback",
        "https://app.example.com/call%62ack",
        "https://app.example.com//callback",
        "https://app.example.com/callback?next=https://evil.example",
        "https://app.example.com/callback#fragment",
        "https://app.example.com\\@evil.example/callback",
        "https://app.example.com%2f@evil.example/callback",
        "https://app.example.com/callback ",
        "https://app.example.com/callback\r\nX: y",
        "//app.example.com/callback",
        "javascript:alert(1)",
        "data:text/html,hello",
    ],
)
async def test_redirect_tricks_lead_nowhere(house: House, client_id: str, uri: str) -> None:
    refused = await house.asked(client_id, redirect_uri=uri)
    assert refused.status_code == 400
    assert "location" not in refused.headers


async def test_on_this_machine_any_port_is_the_clients_and_nothing_else_is(house: House) -> None:
    client_id = (await house.client("http://localhost:1234/callback?a=1"))["client_id"]
    for port in ("", ":1", ":1234", ":65535"):
        asked = await house.asked(client_id, redirect_uri=f"http://localhost{port}/callback?a=1")
        assert asked.status_code == 302
    for uri in (
        "http://127.0.0.1:1234/callback?a=1",
        "https://localhost:1234/callback?a=1",
        "http://localhost:1234/callback",
        "http://localhost:1234/callback?a=2",
        "http://localhost:1234/other?a=1",
        "http://localhost:0/callback?a=1",
        "http://localhost:65536/callback?a=1",
        "http://localhost:1@evil.example/callback?a=1",
        "http://localhost.evil.example:1234/callback?a=1",
        "http://localhost:1234/callback?a=1#x",
    ):
        assert (await house.asked(client_id, redirect_uri=uri)).status_code == 400, uri


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example.com/callback",
        "http://10.0.0.1/callback",
        "javascript:alert(1)//",
        "data:text/html,x",
        "file:///etc/passwd",
        "com.example.app:/callback",
        "https://app.example.com/callback#x",
        "https://user:secret@app.example.com/callback",
        "https://*.example.com/callback",
        "https://app.example.com/*",
        "https://app.example.com/a/../b",
        "https://app.example.com/callback?code=x",
        "https://app.example.com/callback?a=1&iss=x",
        "https://app.example.com/%0d%0aX",
        "https://ex\u0430mple.com/callback",
        "https://",
        "",
    ],
)
async def test_redirect_uris_that_can_not_be_safe_are_not_registered(house: House, uri: str) -> None:
    assert not is_redirect(uri)
    done = await house.program.post("/oauth/register", json={"redirect_uris": [CALLBACK, uri]})
    assert error_of(done) == "invalid_redirect_uri"


async def test_a_redirect_that_changes_before_the_exchange_is_refused(house: House) -> None:
    client_id = (await house.client(CALLBACK, "https://app.example.com/other"))["client_id"]
    code = await house.code(client_id)
    swapped = await house.exchange(client_id, code, redirect_uri="https://app.example.com/other")
    assert error_of(swapped) == "invalid_grant"


BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_nobodys_browser_is_sent_to_a_strangers_address_before_the_owner_was_asked(
    house: House,
) -> None:
    client_id = (await house.client("https://evil.example/phish"))["client_id"]
    asked = wanted(client_id, redirect_uri="https://evil.example/phish", response_type="nonsense")
    refused = await house.browser.get("/oauth/authorize", params=asked, headers=BROWSER)
    assert refused.status_code == 400
    assert "location" not in refused.headers
    assert "Response_type must be code" in refused.text


@pytest.mark.parametrize("uri", ["http://localhost:3118/callback", CLAUDE[0]])
async def test_a_browser_is_sent_back_to_its_own_machine_and_to_claude(house: House, uri: str) -> None:
    client_id = (await house.client(uri))["client_id"]
    asked = wanted(client_id, redirect_uri=uri, response_type="nonsense")
    sent = await house.browser.get("/oauth/authorize", params=asked, headers=BROWSER)
    assert answered(sent)["error"] == "unsupported_response_type"


async def test_one_of_several_redirects_must_be_named(house: House) -> None:
    several = (await house.client(CALLBACK, "https://app.example.com/other"))["client_id"]
    assert (await house.asked(several, redirect_uri=None)).status_code == 400
    one = (await house.client())["client_id"]
    assert (await house.asked(one, redirect_uri=None)).status_code == 302


async def test_headers_can_not_be_injected_by_what_is_sent_back(house: House, client_id: str) -> None:
    state = "x\r\nSet-Cookie: a=b\n\n<script>&code=mine&iss=evil"
    for answer in ("allow", "deny"):
        back = await house.answer(await house.page(client_id, state=state), answer)
        assert "\r" not in back.headers["location"]
        assert "\n" not in back.headers["location"]
        assert "set-cookie" not in back.headers
        said = answered(back)
        assert said["state"] == state
        assert said["iss"] == ORIGIN
    wrong = await house.asked(client_id, state=state, response_type="token")
    assert answered(wrong)["state"] == state


async def test_the_query_of_a_redirect_is_kept_as_it_is(house: House) -> None:
    uri = "https://app.example.com/callback?tenant=a%20b&flag"
    client_id = (await house.client(uri))["client_id"]
    back = await house.answer(await house.page(client_id, redirect_uri=uri))
    assert back.headers["location"].startswith(uri + "&code=")


async def test_the_browser_is_sent_on_by_get(house: House, client_id: str) -> None:
    """With 307 it would post the owner's form, and login, to the client (RFC 9700, section 4.12)."""
    assert (await house.answer(await house.page(client_id))).status_code == 303


# PKCE (RFC 9700, section 2.1.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain", "code_challenge": VERIFIER},
        {"code_challenge_method": "s256"},
        {"code_challenge": "short"},
        {"code_challenge": "x" * 44},
        {"code_challenge": "=" * 43},
    ],
)
async def test_pkce_downgrade_is_refused(
    house: House, client_id: str, changes: dict[str, str | None]
) -> None:
    assert answered(await house.asked(client_id, **changes))["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("verifier", "error"),
    [
        (None, "invalid_request"),
        ("", "invalid_request"),
        ("short", "invalid_request"),
        ("x" * 129, "invalid_request"),
        ("x" * 43, "invalid_grant"),
        (challenge(), "invalid_grant"),
    ],
)
async def test_a_code_without_its_verifier_is_worth_nothing(
    house: House, client_id: str, verifier: str | None, error: str
) -> None:
    code = await house.code(client_id)
    assert error_of(await house.exchange(client_id, code, code_verifier=verifier)) == error
    assert (await house.exchange(client_id, code)).status_code == 200  # whose it is can use it still


# Who the client is


async def test_client_impersonation_at_the_token_endpoint_fails(house: House, client_id: str) -> None:
    other = (await house.client())["client_id"]
    code = await house.code(client_id)
    assert error_of(await house.exchange(other, code)) == "invalid_grant"
    pair = (await house.exchange(client_id, code)).json()
    assert error_of(await house.refresh(other, pair["refresh_token"])) == "invalid_grant"
    assert await house.is_let_in(pair["access_token"])


async def test_a_confidential_client_needs_its_secret(house: House) -> None:
    client = await house.client(method="client_secret_post")
    code = await house.code(client["client_id"])
    for secret in (None, "", "guessed", client["client_secret"].lower() + "x"):
        done = await house.exchange(client["client_id"], code, client_secret=secret)
        assert error_of(done, 401) == "invalid_client"


async def test_unknown_client_and_wrong_secret_are_answered_alike(house: House) -> None:
    """Timing: both hash what was given and compare it in constant time, whether there is a secret or not."""
    known = await house.client(method="client_secret_post")
    answers = []
    for name in (known["client_id"], "unknown"):
        answer = await house.exchange(name, "code", client_secret="wrong")
        assert answer.status_code == 401
        answers.append((answer.content, sorted(answer.headers.items())))
    assert answers[0] == answers[1]


async def test_a_client_says_who_it_is_in_one_way(house: House) -> None:
    client = await house.client(method="client_secret_post")
    basic = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
    headers = {"authorization": f"Basic {basic}"}
    for more in ({"client_secret": client["client_secret"]}, {"client_id": "another"}):
        form = {"grant_type": "refresh_token", "refresh_token": "x"} | more
        done = await house.program.post("/oauth/token", data=form, headers=headers)
        assert error_of(done) == "invalid_request"


@pytest.mark.parametrize("header", ["Basic ???", "Basic", "Bearer abc", "Basic " + "YQ==", "Basic /////w=="])
async def test_a_header_that_can_not_be_read_is_refused(house: House, header: str) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    done = await house.program.post("/oauth/token", data=form, headers={"authorization": header})
    assert error_of(done, 401) == "invalid_client"
    assert done.headers["www-authenticate"].startswith("Basic ")


async def test_nobody_is_let_in_by_knowing_a_clients_id_and_secret(house: House) -> None:
    made = await house.app.auth.ensure_client(house.clock.now())
    assert made is not None
    for grant in (
        "client_credentials",
        "password",
        "implicit",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ):
        form = {"grant_type": grant, "client_id": made.client_id, "client_secret": made.secret}
        done = await house.program.post("/oauth/token", data=form | {"username": "ada", "password": "x"})
        assert error_of(done) == "unsupported_grant_type"
    redirect = "https://claude.ai/api/mcp/auth_callback"
    asked = await house.asked(made.client_id, redirect_uri=redirect)
    assert asked.headers["location"].startswith(f"{ORIGIN}/oauth/consent?")
    assert (await house.program.get(asked.headers["location"])).status_code == 401


async def test_scope_escalation_is_refused(house: House, client_id: str) -> None:
    assert answered(await house.asked(client_id, scope="admin"))["error"] == "invalid_scope"
    code = await house.code(client_id, scope="mcp admin offline_access")
    pair = (await house.exchange(client_id, code)).json()
    assert pair["scope"] == "mcp"
    wider = await house.refresh(client_id, pair["refresh_token"], scope="mcp admin")
    assert error_of(wider) == "invalid_scope"
    assert (await house.refresh(client_id, pair["refresh_token"], scope="mcp")).status_code == 200


# The owner's consent (RFC 9700, section 4.16; RFC 6819, section 4.4.1.8)


async def test_csrf_on_consent_by_a_page_of_another_site_fails(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    form = hidden(page) | {"answer": "allow"}
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ):
        assert (await house.browser.post("/oauth/consent", data=form, headers=headers)).status_code == 403
    assert await house.sql("SELECT count(*) FROM oauth_grants") == [(0,)]


async def test_an_answer_from_another_browser_session_fails(house: House, client_id: str) -> None:
    """Somebody made the owner's browser send the form of a page that was shown to him, not to the owner."""
    page = await house.page(client_id)
    cookies = dict(house.browser.cookies)
    house.browser.cookies.clear()
    assert (await house.answer(page)).status_code == 400
    await house.page(client_id)  # the browser has a cookie of its own now
    assert (await house.answer(page)).status_code == 400
    assert await house.sql("SELECT count(*) FROM oauth_grants") == [(0,)]
    house.browser.cookies.clear()
    house.browser.cookies.update(cookies)
    assert (await house.answer(page)).status_code == 303


async def test_a_token_for_one_request_answers_no_other(house: House, client_id: str) -> None:
    mine, other = await house.page(client_id), await house.page(client_id)
    mixed = await house.answer(other, token=hidden(mine)["token"])
    assert mixed.status_code == 400
    for token in ("", "é", "0" * 64):
        assert (await house.answer(mine, token=token)).status_code == 400


async def test_two_pages_open_at_once_can_both_be_answered(house: House, client_id: str) -> None:
    first, second = await house.page(client_id), await house.page(client_id)
    assert (await house.answer(first)).status_code == (await house.answer(second)).status_code == 303


async def test_the_owner_logs_in_before_the_page_and_before_the_answer(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    shown = await house.program.get("/oauth/consent", params={"request": hidden(page)["request"]})
    assert shown.status_code == 401
    assert shown.headers["www-authenticate"].startswith("Basic ")
    house.program.cookies = house.browser.cookies
    form = hidden(page) | {"answer": "allow"}
    assert (await house.program.post("/oauth/consent", data=form, headers=PAGE)).status_code == 401


async def test_clickjacking_is_kept_off_by_the_pages_headers(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none';"
        " form-action 'self' https://app.example.com"
    )
    refused = await house.browser.get("/oauth/consent", headers={"accept": "text/html"})
    assert refused.status_code == 400
    assert refused.headers["x-frame-options"] == "DENY"


async def test_the_cookie_is_the_pages_own_and_goes_to_no_other_site(house: House, client_id: str) -> None:
    cookie = (await house.page(client_id)).headers["set-cookie"]
    assert cookie.startswith("__Host-consent=")
    for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert attribute in cookie


async def test_what_a_client_calls_itself_is_shown_as_text(house: House) -> None:
    client_id = (await house.client(client_name="<script>alert('x')</script>\u202egnp.exe\x00\n A"))[
        "client_id"
    ]
    page = await house.page(client_id)
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;gnp.exe A" in page.text
    assert "\u202e" not in page.text


async def test_the_page_says_where_the_code_will_go_and_warns_of_who_poses_as_claude(house: House) -> None:
    posing = (
        await house.client(
            "https://claude.ai.evil.example/cb", client_name="\uff23\uff4c\uff41\uff55\uff44\uff45"
        )
    )["client_id"]
    page = await house.page(posing, redirect_uri="https://claude.ai.evil.example/cb")
    assert '<dd class="host">claude.ai.evil.example</dd>' in page.text
    assert "is not Claude\u2019s" in page.text
    assert "Nobody has checked it" in page.text
    honest = (await house.client(client_name="Another app"))["client_id"]
    assert 'class="warning"' not in (await house.page(honest)).text
    local = (await house.client("http://localhost/cb"))["client_id"]
    page = await house.page(local, redirect_uri="http://localhost:5555/cb")
    assert '<dd class="host">this computer</dd>' in page.text
    assert "A program on this computer gets access" in page.text


async def test_a_client_that_is_gone_can_no_longer_be_consented_to(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    await house.sql("DELETE FROM oauth_clients")
    assert (await house.answer(page)).status_code == 400


async def test_a_request_of_another_origin_is_not_answered_here(house: House, client_id: str) -> None:
    page = await house.page(client_id)
    local = await house.visitor(LOCAL, address="127.0.0.1", auth=house.browser.auth)
    shown = await local.get("/oauth/consent", params={"request": hidden(page)["request"]})
    assert shown.status_code == 400


# Where tokens may be (OAuth 2.1, section 5.2; RFC 9700, section 4.3)


async def test_a_token_in_the_query_string_is_refused(house: House, client_id: str) -> None:
    token = (await house.tokens(client_id))["access_token"]
    for headers in ({}, {"authorization": f"Bearer {token}"}):
        done = await house.program.post(f"/mcp?access_token={token}", json={}, headers=headers)
        assert error_of(done) == "invalid_request"
    assert error_of(await house.program.get(f"/sse?a=1&access_token={token}")) == "invalid_request"


async def test_a_token_in_the_body_or_in_two_headers_is_refused(house: House, client_id: str) -> None:
    token = (await house.tokens(client_id))["access_token"]
    assert error_of(await house.program.post("/mcp", data={"access_token": token})) == "invalid_request"
    two = [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")]
    assert error_of(await house.program.post("/mcp", json={}, headers=two)) == "invalid_request"


@pytest.mark.parametrize("name", ["token", "revoke"])
async def test_what_is_secret_is_not_taken_from_the_address(house: House, client_id: str, name: str) -> None:
    done = await house.program.post(
        f"/oauth/{name}?code=x&client_secret=y", data={"client_id": client_id, "token": "x"}
    )
    assert error_of(done) == "invalid_request"


async def test_a_parameter_that_is_there_twice_is_refused(house: House, client_id: str) -> None:
    asked = urlencode(wanted(client_id)) + "&redirect_uri=https://evil.example/callback"
    assert error_of(await house.program.get("/oauth/authorize", params=asked)) == "invalid_request"
    form = "grant_type=refresh_token&grant_type=authorization_code&client_id=x"
    typed = {"content-type": "application/x-www-form-urlencoded"}
    done = await house.program.post("/oauth/token", content=form, headers=typed)
    assert error_of(done) == "invalid_request"


@pytest.mark.parametrize("more", [{"state": "x" * 4097}, {"request": "e30.e30."}, {"request_uri": "urn:x"}])
async def test_what_is_too_much_to_ask_is_refused(
    house: House, client_id: str, more: dict[str, str | None]
) -> None:
    assert answered(await house.asked(client_id, **more))["error"] == "invalid_request"


async def test_an_exchange_of_nothing_is_refused(house: House, client_id: str) -> None:
    done = await house.program.post("/oauth/token", data={"client_id": client_id})
    assert error_of(done) == "invalid_request"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"grant_type": "refresh_token"}', "application/json"),
        (b"", "application/x-www-form-urlencoded"),
        (b"\xff\xfe=1", "application/x-www-form-urlencoded"),
        (b"a=%ff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % n for n in range(100)), "application/x-www-form-urlencoded"),
    ],
)
async def test_a_form_that_is_none_is_refused(house: House, content: bytes, kind: str) -> None:
    done = await house.program.post("/oauth/token", content=content, headers={"content-type": kind})
    assert done.status_code in {400, 401}


async def test_a_form_that_is_too_large_is_refused(house: House) -> None:
    assert (await house.program.post("/oauth/token", data={"code": "x" * 40_000})).status_code == 413
    body = {"redirect_uris": [CALLBACK], "client_name": "x" * 20_000}
    assert (await house.program.post("/oauth/register", json=body)).status_code == 413


# Floods (the MCP page on security; RFC 7591, section 5)


async def test_an_open_registration_flood_of_one_address_is_throttled(house: House) -> None:
    flood = await house.visitor(address="198.51.100.1")
    for _ in range(EACH):
        assert (await flood.post("/oauth/register", json={"redirect_uris": [CALLBACK]})).status_code == 201
    refused = await flood.post("/register", json={"redirect_uris": [CALLBACK]})
    assert error_of(refused, 429) == "temporarily_unavailable"
    assert int(refused.headers["retry-after"]) == 600 / EACH
    assert await house.client()  # others still can
    house.clock.move(600 / EACH)
    assert (await flood.post("/oauth/register", json={"redirect_uris": [CALLBACK]})).status_code == 201


def test_a_registration_flood_of_many_addresses_is_throttled_in_all(clock: FakeClock) -> None:
    throttle = Throttle(clock, each=EACH, overall=OVERALL, seconds=600)
    for number in range(OVERALL):
        throttle.admit(request(client=f"2001:db8:{number:x}::1"))
    with pytest.raises(OAuthError):
        throttle.admit(request(client="2001:db8:ffff::1"))
    clock.move(6)
    throttle.admit(request(client="2001:db8:ffff::1"))
    with pytest.raises(OAuthError):
        throttle.admit(request(client="2001:db8:ffff::2"))


async def test_registrations_are_capped_and_give_way_once_they_are_old_and_unused(house: House) -> None:
    used = (await house.client())["client_id"]
    await house.tokens(used)
    auth, now = house.app.auth, house.clock.now()
    for _ in range(MOST_UNUSED):
        await auth.register("flood", (CALLBACK,), now, confidential=False)
    with pytest.raises(OAuthError, match="too many clients"):
        await auth.register("one more", (CALLBACK,), now, confidential=False)
    house.clock.move(UNUSED_REST + timedelta(seconds=1))
    later = await auth.register("one more", (CALLBACK,), house.clock.now(), confidential=False)
    assert await house.sql("SELECT count(*) FROM oauth_clients WHERE last_used_at IS NULL") == [
        (MOST_UNUSED,)
    ]
    assert await auth.find_client(used) is not None
    assert await auth.find_client(later.client.client_id) is not None


async def test_asking_leaves_nothing_behind_until_the_owner_answers(house: House, client_id: str) -> None:
    """Whoever asks costs no write, so that a flood of requests fills no disk and keeps nobody's request out."""
    with locked(house.app.settings.database_path):
        for _ in range(50):
            assert (await house.asked(client_id)).status_code == 302


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"redirect_uris": []},
        {"redirect_uris": None},
        {"redirect_uris": "https://app.example.com"},
        {"redirect_uris": [1]},
        {"redirect_uris": [CALLBACK] * 11},
        {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "private_key_jwt"},
        {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "tls_client_auth"},
        {"redirect_uris": [CALLBACK], "grant_types": ["client_credentials"]},
        {"redirect_uris": [CALLBACK], "response_types": ["token"]},
        {"redirect_uris": [CALLBACK], "client_name": 7},
        [],
        "text",
    ],
)
async def test_a_registration_that_can_not_be_used_is_refused(house: House, said: Any) -> None:
    done = await house.program.post("/oauth/register", json=said)
    assert error_of(done) in {"invalid_client_metadata", "invalid_redirect_uri"}
    assert await house.sql("SELECT count(*) FROM oauth_clients") == [(0,)]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 5000, b'{"redirect_uris": ["\\ud800"]}'])
async def test_a_registration_that_is_no_json_is_refused(house: House, body: bytes) -> None:
    done = await house.program.post("/oauth/register", content=body)
    assert error_of(done) in {"invalid_client_metadata", "invalid_redirect_uri"}
