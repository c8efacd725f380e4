"""OAuth as a client goes through it, at the site's front door."""

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from claude_runner.config import Login
from claude_runner.web.oauth._documents import PINNED
from tests.oauth import CALLBACK, LOCAL, ORIGIN, House, answered, hidden, open_house
from tests.support import PATIENCE

CLAUDE = "https://claude.ai/api/mcp/auth_callback"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def test_a_client_registers_asks_the_owner_and_is_let_in(house: House) -> None:
    client = await house.client()
    back = await house.answer(await house.page(client["client_id"]))
    assert back.headers["location"].startswith(CALLBACK + "?")
    said = answered(back)
    assert (said["state"], said["iss"]) == ("a state", ORIGIN)
    done = await house.exchange(client["client_id"], said["code"])
    pair = done.json()
    assert done.status_code == 200
    assert (pair["token_type"], pair["expires_in"], pair["scope"]) == ("Bearer", 8 * 3600, "mcp")
    assert done.headers["cache-control"] == "no-store"
    assert await house.is_let_in(pair["access_token"])


async def test_a_token_is_a_jwt_of_the_profile_for_access_tokens(tmp_path: Path) -> None:
    key = "k" * 40
    async with open_house(tmp_path, oauth_secret_key=key, oauth_token_hours=2) as house:
        client_id = (await house.client())["client_id"]
        token = (await house.tokens(client_id))["access_token"]
        seconds = int(house.clock.now().timestamp())
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt"}
    claims = jwt.decode(token, key, algorithms=["HS256"], options={"verify_exp": False, "verify_aud": False})
    assert claims.pop("jti")
    assert claims == {
        "iss": ORIGIN,
        "aud": f"{ORIGIN}/mcp",
        "sub": "owner",
        "client_id": client_id,
        "scope": "mcp",
        "iat": seconds,
        "exp": seconds + 2 * 3600,
    }


async def test_nothing_that_lets_anybody_in_is_in_the_database(house: House, tmp_path: Path) -> None:
    client = await house.client(method="client_secret_post")
    code = await house.code(client["client_id"])
    secret = client["client_secret"]
    pair = (await house.exchange(client["client_id"], code, client_secret=secret)).json()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        dump = "\n".join(database.iterdump())
    assert client["client_id"] in dump
    jti = jwt.decode(pair["access_token"], options={"verify_signature": False})["jti"]
    for held in (secret, code, pair["access_token"], pair["refresh_token"], jti):
        assert held not in dump


async def test_a_restart_loses_nobodys_login(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        client_id = (await house.client())["client_id"]
        pair = await house.tokens(client_id)
    async with open_house(tmp_path) as house:
        assert await house.is_let_in(pair["access_token"])
        again = await house.refresh(client_id, pair["refresh_token"])
        assert await house.is_let_in(again.json()["access_token"])


async def test_a_page_that_was_open_over_a_restart_can_still_be_answered(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        page = await house.page((await house.client())["client_id"])
        cookies = house.browser.cookies
    async with open_house(tmp_path) as house:
        house.browser.cookies = cookies
        assert answered(await house.answer(page))["code"]


async def test_an_access_token_ends_and_is_renewed_without_the_owner(house: House) -> None:
    client_id = (await house.client())["client_id"]
    pair = await house.tokens(client_id)
    house.clock.move(timedelta(hours=8))
    assert not await house.is_let_in(pair["access_token"])
    renewed = (await house.refresh(client_id, pair["refresh_token"])).json()
    assert renewed["refresh_token"] != pair["refresh_token"]
    assert await house.is_let_in(renewed["access_token"])


async def test_what_the_owner_denies_is_told_to_the_client(house: House) -> None:
    client_id = (await house.client())["client_id"]
    said = answered(await house.answer(await house.page(client_id), "deny"))
    assert said.pop("error_description")
    assert said == {"error": "access_denied", "state": "a state", "iss": ORIGIN}
    assert await house.sql("SELECT * FROM oauth_grants") == []


@pytest.mark.parametrize("prefix", ["", "/oauth"])
async def test_endpoints_are_served_at_the_root_as_well(house: House, prefix: str) -> None:
    asked = await house.program.get(f"{prefix}/authorize", params={"client_id": "nobody"})
    assert asked.json()["error"] == "invalid_client"
    for name in ("token", "revoke"):
        done = await house.program.post(f"{prefix}/{name}", data={"client_id": "nobody", "token": "x"})
        assert (done.status_code, done.json()["error"]) == (401, "invalid_client")
    done = await house.program.post(f"{prefix}/register", json={"redirect_uris": [CALLBACK]})
    assert done.status_code == 201


@pytest.mark.parametrize("suffix", ["", "/mcp", "/sse"])
@pytest.mark.parametrize("origin", [ORIGIN, LOCAL])
async def test_documents_speak_of_the_origin_that_is_asked(house: House, origin: str, suffix: str) -> None:
    visitor = await house.visitor(origin)
    for name in ("oauth-authorization-server", "openid-configuration"):
        server = (await visitor.get(f"/.well-known/{name}{suffix}")).json()
        assert server["issuer"] == origin
        assert server["authorization_endpoint"] == f"{origin}/oauth/authorize"
        assert server["code_challenge_methods_supported"] == ["S256"]
        assert server["authorization_response_iss_parameter_supported"] is True
        assert server["client_id_metadata_document_supported"] is True
        assert "none" in server["token_endpoint_auth_methods_supported"]
    resource = (await visitor.get(f"/.well-known/oauth-protected-resource{suffix}")).json()
    assert resource["resource"] == origin + suffix
    assert resource["authorization_servers"] == [origin]
    assert resource["bearer_methods_supported"] == ["header"]


async def test_the_openid_document_is_also_where_openid_has_it(house: House) -> None:
    document = await house.program.get("/mcp/.well-known/openid-configuration")
    assert document.json()["issuer"] == ORIGIN


async def test_a_page_of_another_origin_may_register_and_exchange(house: House) -> None:
    """The inspector runs in a browser; what it sends is nothing that a browser would add by itself."""
    inspector = {"origin": "http://localhost:6274"}
    preflight = inspector | {"access-control-request-method": "POST"}
    for name in ("register", "token", "revoke"):
        allowed = await house.program.options(f"/oauth/{name}", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in allowed.headers
    page = await house.program.get("/oauth/authorize", headers=inspector)
    assert "access-control-allow-origin" not in page.headers


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_whoever_brings_no_token_is_told_where_to_get_one(house: House, path: str) -> None:
    refused = await house.program.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == (
        f'Bearer scope="mcp", resource_metadata="{ORIGIN}/.well-known/oauth-protected-resource{path}"'
    )
    local = await house.visitor(LOCAL)
    assert f'"{LOCAL}/.well-known/' in (await local.post(path)).headers["www-authenticate"]


async def test_a_token_that_is_none_is_called_invalid(house: House) -> None:
    refused = await house.call("nonsense")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith('Bearer error="invalid_token", ')


async def test_the_scheme_may_be_written_in_any_case(house: House) -> None:
    token = (await house.tokens((await house.client())["client_id"]))["access_token"]
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert (await house.call(token, scheme=scheme)).status_code == 200


@pytest.mark.parametrize("resource", ["", "/", "/mcp", "/mcp/", "/sse"])
async def test_a_token_for_an_endpoint_is_good_at_both(house: House, resource: str) -> None:
    client_id = (await house.client())["client_id"]
    pair = await house.tokens(client_id, resource=ORIGIN + resource)
    assert await house.is_let_in(pair["access_token"], "/mcp")
    refused = await house.program.post("/sse", headers={"authorization": f"Bearer {pair['access_token']}"})
    assert refused.status_code == 405  # let in; a stream is opened by GET


async def test_a_secret_is_taken_in_the_header_and_in_the_form(house: House) -> None:
    for method in ("client_secret_basic", "client_secret_post"):
        client = await house.client(method=method)
        code = await house.code(client["client_id"])
        basic = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
        done = await house.program.post(
            "/oauth/token",
            data={"grant_type": "authorization_code", "code": code, "code_verifier": "v" * 43},
            headers={"authorization": f"Basic {basic}"},
        )
        assert done.status_code == 200, done.text
        pair = done.json()
        secret = client["client_secret"]
        assert (
            await house.refresh(client["client_id"], pair["refresh_token"], client_secret=secret)
        ).status_code == 200


async def test_who_registers_without_a_method_gets_a_secret(house: House) -> None:
    done = (await house.program.post("/oauth/register", json={"redirect_uris": [CALLBACK]})).json()
    assert done["token_endpoint_auth_method"] == "client_secret_basic"
    assert len(done["client_secret"]) == 43
    assert done["client_secret_expires_at"] == 0
    assert done["client_name"] == "app.example.com"


@pytest.mark.parametrize("token", ["access_token", "refresh_token"])
async def test_a_public_client_revokes_what_it_has_been_given(house: House, token: str) -> None:
    client_id = (await house.client())["client_id"]
    pair = await house.tokens(client_id)
    assert await house.is_let_in(pair["access_token"])
    done = await house.program.post("/oauth/revoke", data={"client_id": client_id, "token": pair[token]})
    assert done.status_code == 200
    assert not await house.is_let_in(pair["access_token"])
    assert (await house.refresh(client_id, pair["refresh_token"])).json()["error"] == "invalid_grant"


async def test_what_is_no_token_or_another_clients_is_not_revoked(house: House) -> None:
    mine, other = (await house.client())["client_id"], (await house.client())["client_id"]
    pair = await house.tokens(mine)
    for token in ("nonsense", pair["access_token"], pair["refresh_token"]):
        done = await house.program.post("/oauth/revoke", data={"client_id": other, "token": token})
        assert done.status_code == 200
    assert await house.is_let_in(pair["access_token"])
    refused = await house.program.post("/oauth/revoke", data={"client_id": mine})
    assert refused.json()["error"] == "invalid_request"


async def test_a_stream_ends_when_its_access_is_taken_back_and_no_other_does(house: House) -> None:
    mine, other = (await house.client())["client_id"], (await house.client())["client_id"]
    pairs = {client_id: await house.tokens(client_id) for client_id in (mine, other)}
    opened: dict[str, asyncio.Event] = {name: asyncio.Event() for name in pairs}
    ended: dict[str, asyncio.Event] = {name: asyncio.Event() for name in pairs}

    async def listen(client_id: str) -> None:
        """The library's in-memory transport answers only once a response is whole, so this speaks ASGI itself."""
        scope = stream_scope(pairs[client_id]["access_token"])

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            opened[client_id].set()
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                ended[client_id].set()

        await house.site(scope, receive, send)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        streams = {name: tasks.create_task(listen(name)) for name in pairs}
        for event in opened.values():
            await event.wait()
        await house.program.post(
            "/oauth/revoke", data={"client_id": mine, "token": pairs[mine]["access_token"]}
        )
        await ended[mine].wait()
        await streams[mine]
        assert not ended[other].is_set()
        streams[other].cancel()


def stream_scope(token: str) -> dict[str, Any]:
    host = ORIGIN.removeprefix("https://")
    return {
        "type": "http",
        "method": "GET",
        "path": "/sse",
        "raw_path": b"/sse",
        "root_path": "",
        "scheme": "https",
        "query_string": b"",
        "http_version": "1.1",
        "server": (host, 443),
        "client": ("127.0.0.1", 40000),
        "headers": [
            (b"host", host.encode()),
            (b"authorization", f"Bearer {token}".encode()),
            (b"accept", b"text/event-stream"),
        ],
    }


@pytest.mark.parametrize("client_id", PINNED)
async def test_claude_is_known_by_its_document_without_registering(house: House, client_id: str) -> None:
    uri = CLAUDE if "code-client" not in client_id else "http://localhost:53211/callback"
    page = await house.page(client_id, redirect_uri=uri)
    assert "known by its document at <strong>claude.ai</strong>" in page.text
    pair = await house.tokens(client_id, redirect_uri=uri)
    assert await house.is_let_in(pair["access_token"])
    assert (await house.refresh(client_id, pair["refresh_token"])).status_code == 200


async def test_the_clients_id_and_secret_from_the_environment_work(tmp_path: Path) -> None:
    async with open_house(tmp_path, oauth_client=Login("connector", "s3cret")) as house:
        assert await house.app.auth.ensure_client(house.clock.now()) is None
        code = await house.code("connector", redirect_uri=CLAUDE)
        wrong = await house.exchange("connector", code, redirect_uri=CLAUDE, client_secret="guessed")
        assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
        done = await house.exchange("connector", code, redirect_uri=CLAUDE, client_secret="s3cret")
        assert await house.is_let_in(done.json()["access_token"])


async def test_the_client_made_on_first_start_works_from_claude_and_from_this_machine(house: House) -> None:
    made = await house.app.auth.ensure_client(house.clock.now())
    assert made is not None
    for uri in (CLAUDE, "https://claude.com/api/mcp/auth_callback", "http://127.0.0.1:7777/callback"):
        code = await house.code(made.client_id, redirect_uri=uri)
        done = await house.exchange(made.client_id, code, redirect_uri=uri, client_secret=made.secret)
        assert await house.is_let_in(done.json()["access_token"])


async def test_a_personal_token_lets_scripts_in_at_its_origin(house: House) -> None:
    await house.app.auth.ensure_client(house.clock.now())
    token = await house.app.auth.personal_token(house.clock.now(), ORIGIN)
    assert await house.is_let_in(token)
    house.clock.move(timedelta(days=89))
    assert await house.is_let_in(token)
    house.clock.move(timedelta(days=1))
    assert not await house.is_let_in(token)


async def test_without_a_login_a_browser_on_this_machine_may_consent_and_no_other(tmp_path: Path) -> None:
    async with open_house(tmp_path, origin=LOCAL, public_url=None, dashboard=None) as house:
        client_id = (await house.client())["client_id"]
        assert await house.is_let_in((await house.tokens(client_id))["access_token"])
        stranger = await house.visitor()
        asked = await house.asked(client_id)
        assert (await stranger.get(asked.headers["location"])).status_code == 403
        proxied = {"x-forwarded-for": "203.0.113.7"}
        assert (await house.browser.get(asked.headers["location"], headers=proxied)).status_code == 403


async def test_the_style_sheet_is_served(house: House) -> None:
    page = await house.page((await house.client())["client_id"])
    assert '<link rel="stylesheet" href="/oauth/consent.css">' in page.text
    sheet = await house.browser.get("/oauth/consent.css")
    assert sheet.headers["content-type"].startswith("text/css")
    assert hidden(page).keys() == {"request", "token"}


async def test_a_browser_is_shown_a_page_about_what_is_wrong(house: House) -> None:
    refused = await house.browser.get(
        "/oauth/authorize", params={"client_id": "nobody"}, headers={"accept": "text/html"}
    )
    assert refused.status_code == 400
    assert "There is no such client" in refused.text
