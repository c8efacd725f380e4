"""The pages of tool servers, as a browser without scripts sees them."""

import html
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import NotFoundError, ServerFailedError
from claude_runner.rehearsing import tool_tokens
from claude_runner.runs import ToolCall, Verdict
from claude_runner.servers import ExternalDraft, Kind
from claude_runner.web.dashboard._servers import TEMPLATE
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import FakeAgent, FakeClock
from tests.tool_servers import QUICK, comes, processes, put, temporary

Fields = Mapping[str, str]
NOTHING: Fields = MappingProxyType({})
EVIL = "</textarea><script>alert(1)</script><img src=x onerror=alert(2)>"
ODD = (
    QUICK
    + f"""
EVIL = {EVIL!r}

@mcp.tool
def greet(name, loud=False, times=1, mood="glad"):
    if name == "nobody":
        raise ValueError("nobody is there")
    return {{"content": [{{"type": "text", "text": f"Hello {{name}} {{times}} {{loud}} {{mood}} {{EVIL}}"}},
        {{"type": "image", "mimeType": "image/png", "data": "AAAA" * 100}}], "structuredContent": {{"to": name}}}}

@mcp.tool
def much():
    return "x" * 200_000

mcp.list = lambda: {{"tools": [
    {{"name": "greet", "description": "Greets. " + EVIL,
        "inputSchema": {{"type": "object", "required": ["name"], "properties": {{
        "name": {{"type": "string", "description": EVIL}}, "loud": {{"type": "boolean"}},
        "times": {{"anyOf": [{{"type": "integer"}}, {{"type": "null"}}], "default": 1}},
        "mood": {{"enum": ["glad", "sad"]}}}}}}}},
    {{"name": "much", "inputSchema": {{"type": "object"}}}}]}}
print("\\x1b[31mred\\x1b[0m " + EVIL + " \\u202egnirts", file=sys.stderr, flush=True)
"""
)
NEEDY = QUICK + '\nkey = os.environ.get("WEATHER_KEY")\n'


class Visitor:
    """Somebody at a browser: follows what forms answer, as browsers do."""

    def __init__(self, app: App, clock: FakeClock, client: httpx2.AsyncClient) -> None:
        self.app = app
        self.clock = clock
        self._client = client

    async def get(self, path: str, status: int = 200, **headers: str) -> str:
        answer = await self._client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        assert answer.status_code == status, answer.text
        return answer.text

    async def sees(self, path: str, status: int = 200) -> str:
        """The words of a page."""
        return words(await self.get(path, status))

    async def post(self, path: str, fields: Fields = NOTHING, *, status: int = 200) -> str:
        """Send a form and return the page that comes of it."""
        answer = await self._client.post(path, data=dict(fields), follow_redirects=True)
        assert answer.status_code == status, answer.text
        return answer.text

    async def does(self, path: str, fields: Fields = NOTHING, *, status: int = 200) -> str:
        """Send a form and return the words of the page that comes of it."""
        return words(await self.post(path, fields, status=status))

    async def calls(self) -> list[ToolCall]:
        await self.app.invocations.settled()
        return (await self.app.runs.calls(None, None, 50)).calls

    async def up(self, name: str) -> bool:
        return self.app.pool.is_up(await self.app.servers.get(name))


def words(page: str) -> str:
    main = page[page.index("<main") : page.index("</main>")]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main)).split())


@asynccontextmanager
async def open_visitor(path: Path) -> AsyncIterator[Visitor]:
    owner = path / "owner"
    owner.mkdir()
    variables = {"PATH": os.environ["PATH"], "HOME": str(owner)}
    settings = on_free_port(Settings(home=path / "home", environment=variables, shutdown_grace_seconds=0.2))
    clock = FakeClock()
    with temporary(path / "temporary"):
        async with (
            open_app(settings, agent=FakeAgent(), clock=clock) as app,
            looking(app) as client,
        ):
            yield Visitor(app, clock, client)


@pytest.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[Visitor]:
    async with open_visitor(tmp_path) as visitor:
        yield visitor


@pytest.fixture(scope="module")
async def refused(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Visitor]:
    """One who gets nothing done: what is refused changes nothing, so that tests share the site."""
    async with open_visitor(tmp_path_factory.mktemp("refused")) as visitor:
        yield visitor


async def test_every_kind_is_on_one_page_with_how_it_stands(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD, description=f"Greets {EVIL}")
    put(visitor.app.settings, "broken", "def (:")
    await visitor.app.workshop.add_external(ExternalDraft("far", url="https://far.example/mcp"))
    seen = await visitor.sees("/servers")
    assert "odd ready Greets </textarea>" in seen
    assert "broken failing server.py, line 1: invalid syntax" in seen
    assert "email needs configuration Needs SENDER_EMAIL" in seen
    assert "cat-facts disabled A sample" in seen
    assert seen.index("Made here") < seen.index("Built in") < seen.index("External") < seen.index("far ready")


async def test_no_page_starts_a_server(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    for path in ("/servers", "/servers/odd", "/servers/odd/code", "/servers/odd/log", "/servers/odd/edit"):
        await visitor.get(path)
    assert not await visitor.up("odd")
    assert processes("odd") == []


async def test_servers_are_found_by_state_and_by_words(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD, description="Greets people")
    await visitor.post("/servers/odd/list")
    assert "odd ready" in await visitor.sees("/servers?q=GREET+people")
    assert "odd ready" in await visitor.sees("/servers?q=much"), "the name of a tool"
    assert "cat-facts" not in await visitor.sees("/servers?state=ready")
    assert "No server matches Of 6 none is failing" in await visitor.sees("/servers?state=failing")


async def test_a_home_without_servers_of_its_own_says_how_to_get_one(visitor: Visitor) -> None:
    for name in ("cat-facts", "r2-images", "read-page"):
        await visitor.post(f"/servers/{name}/delete")
    assert "None is made here yet" in await visitor.sees("/servers")


async def test_a_click_takes_a_server_out_of_use_and_another_takes_that_back(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    page = await visitor.post("/servers/odd/disable?back=/servers%3Fstate%3Dready")
    assert "odd is disabled. Undo" in words(page)
    assert '<input type="hidden" name="state" value="ready">' in page, "it goes back to where it was clicked"
    assert not (await visitor.app.servers.get("odd")).enabled
    undo = re.search(r'action="(/servers/odd/enable[^"]+)"', page)
    assert undo is not None
    page = await visitor.post(html.unescape(undo[1]))
    assert "odd is enabled" in words(page)
    assert '<input type="hidden" name="state" value="ready">' in page
    assert (await visitor.app.servers.get("odd")).enabled


async def test_what_can_not_be_enabled_is_said(refused: Visitor) -> None:
    put(refused.app.settings, "broken", "def (:", enabled=False)
    assert "can't be enabled: server.py, line 1" in await refused.does("/servers/broken/enable")


async def test_there_is_a_page_for_a_server_that_there_is_not(refused: Visitor) -> None:
    assert "there is no server 'nothing'" in await refused.sees("/servers/nothing", 404)
    assert "can't be a server's name" in await refused.sees("/servers/No%20name", 422)


async def test_a_server_lists_its_tools_when_it_is_asked(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    assert "Not listed yet" in await visitor.sees("/servers/odd")
    page = await visitor.post("/servers/odd/list")
    assert "odd started and lists 2 tools" in words(page)
    assert await visitor.up("odd")
    [greet, much] = (await visitor.app.servers.known_tools([await visitor.app.servers.get("odd")]))["odd"]
    cost = tool_tokens("mcp__odd__greet", greet.description, greet.input_schema)
    assert f"greet ~{cost} tokens" in words(page)
    both = cost + tool_tokens("mcp__odd__much", "", much.input_schema)
    assert f"2 tools · ~{both} tokens · up" in await visitor.sees("/servers")


async def test_a_disabled_server_is_tried_out_and_ended(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD, enabled=False)
    assert "lists 2 tools" in await visitor.does("/servers/odd/list")
    assert not await visitor.up("odd")
    assert "odd is disabled, so it can't be called" in await visitor.sees("/servers/odd/call?tool=greet")


async def test_a_server_that_did_not_start_is_failing_with_its_last_words(visitor: Visitor) -> None:
    put(visitor.app.settings, "sad", "import nothing_like_this")
    seen = await visitor.does("/servers/sad/list", status=502)
    assert "sad failing" in seen
    assert "No module named 'nothing_like_this'" in seen
    assert "sad failing the server has ended: line 1" in await visitor.sees("/servers")
    put(visitor.app.settings, "sad", QUICK)
    assert "sad ready" in await visitor.sees("/servers")


async def test_a_value_that_was_set_is_never_shown(visitor: Visitor) -> None:
    secret = "sk-0123456789-tail"
    put(visitor.app.settings, "needy", NEEDY)
    assert "It needs WEATHER_KEY." in await visitor.sees("/servers/needy")
    page = await visitor.post("/servers/needy/credentials", {"value-WEATHER_KEY": secret})
    assert "Set: WEATHER_KEY" in words(page)
    assert "WEATHER_KEY set ends in tail" in words(page)
    assert "sk-0123456789" not in page
    assert (await visitor.app.credentials.of("needy")) == {"WEATHER_KEY": secret}
    assert "needy ready" in words(page)


async def test_a_value_keeps_its_lines(visitor: Visitor) -> None:
    put(visitor.app.settings, "needy", NEEDY)
    await visitor.post("/servers/needy/credentials", {"value-WEATHER_KEY": "-----BEGIN\r\nabc\r\n-----END"})
    assert (await visitor.app.credentials.of("needy"))["WEATHER_KEY"] == "-----BEGIN\nabc\n-----END"


async def test_a_value_that_is_refused_keeps_none_of_the_others_from_being_kept(visitor: Visitor) -> None:
    fields = {"value-SENDER_EMAIL": "me@example.com", "value-SENDER_NAME": "\0me", "value-SMTP_PORT": ""}
    seen = await visitor.does("/servers/email/credentials", fields, status=422)
    assert "SENDER_EMAIL: set. Something else was refused" in seen
    assert "the value of SENDER_NAME has a NUL character" in seen
    assert await visitor.app.credentials.of("email") == {"SENDER_EMAIL": "me@example.com"}


@pytest.mark.parametrize(("key", "sentence"), [("PATH", "PATH is set by the system"), ("", "'' is no name")])
async def test_a_name_that_can_be_no_credential_is_refused_at_its_field(
    refused: Visitor, key: str, sentence: str
) -> None:
    page = await refused.post("/servers/email/credentials", {"key": key, "value": "x"}, status=422)
    assert sentence in words(page)
    assert re.search(r'<p class="error" id="h-key">', page)


async def test_one_that_is_not_declared_can_be_set_with_a_warning(visitor: Visitor) -> None:
    seen = await visitor.does("/servers/email/credentials", {"key": "EXTRA", "value": "x"})
    assert "Set: EXTRA. email declares only" in seen
    assert "EXTRA set not declared" in seen
    assert "Nothing was typed" in await visitor.does("/servers/email/credentials")


async def test_a_deleted_credential_can_be_had_back_for_a_while(visitor: Visitor) -> None:
    put(visitor.app.settings, "needy", NEEDY)
    for minutes, given_back in ((1, True), (6, False)):
        await visitor.app.credentials.set("needy", "WEATHER_KEY", "secret", visitor.clock.now())
        page = await visitor.post("/servers/needy/credentials/delete", {"key": "WEATHER_KEY"})
        assert "WEATHER_KEY is deleted. needy needs it. Undo" in words(page)
        assert await visitor.app.credentials.of("needy") == {}
        undo = re.search(r'action="(/servers/needy/credentials/restore[^"]+)"', page)
        assert undo is not None
        visitor.clock.move(timedelta(minutes=minutes))
        await visitor.post(html.unescape(undo[1]))
        assert ("WEATHER_KEY" in await visitor.app.credentials.of("needy")) is given_back


async def test_what_a_credential_depends_on_is_said_and_offered(visitor: Visitor) -> None:
    page = await visitor.get("/servers/email")
    assert '<option value="mailgun">' in page
    assert "Needed where EMAIL_PROVIDER is mailgun." in page
    assert "more that it can do without" in page
    await visitor.app.credentials.set("email", "EMAIL_PROVIDER", "smtp", visitor.clock.now())
    assert "SMTP_HOST needed" in await visitor.sees("/servers/email")


async def test_a_tool_is_called_with_what_was_typed(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.post("/servers/odd/list")
    page = await visitor.get("/servers/odd/call?tool=greet")
    assert EVIL not in page
    fields = {"arg-0": "Ada", "arg-1": "true", "arg-2": "3", "arg-3": '"sad"', "seconds": "20"}
    page = await visitor.post("/servers/odd/call?tool=greet", fields)
    assert "Answer ok" in words(page)
    assert "Hello Ada 3 True sad </textarea>" in words(page)
    assert EVIL not in page
    assert "image: image/png, about 300 bytes" in words(page)
    assert '"to": "Ada"' in words(page)
    [call] = await visitor.calls()
    assert call.arguments == {"name": "Ada", "loud": True, "times": 3, "mood": "sad"}
    assert (call.tool, call.verdict, call.run_id) == ("mcp__odd__greet", Verdict.OK, None)


async def test_an_answer_can_be_looked_at_again_without_another_call(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.post("/servers/odd/list")
    for _ in range(2):  # a form that is sent twice
        page = await visitor.post("/servers/odd/call?tool=greet", {"once": "a", "arg-0": "Ada"})
        assert ">\nAda</textarea>" in page
    assert len(await visitor.calls()) == 1
    seen = await visitor.sees("/servers/odd/call?tool=greet&answer=of-yesterday")
    assert "That answer is not kept here any more" in seen


async def test_a_tool_that_fails_says_so(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.post("/servers/odd/list")
    path = "/servers/odd/call?tool=greet"
    assert "the tool says that it failed" in await visitor.does(
        path, {"how": "json", "json": '{"name": "nobody"}'}
    )
    seen = await visitor.does(path, {"how": "json", "json": '{"name": 5}'}, status=422)
    assert "payload['name'] does not fit greet" in seen
    await visitor.app.servers.enable("odd", enabled=False, now=visitor.clock.now())
    assert "the server 'odd' is disabled" in await visitor.does(path, {"arg-0": "Ada"}, status=409)


async def test_a_long_answer_is_cut(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.post("/servers/odd/list")
    page = await visitor.post("/servers/odd/call?tool=much")
    assert "150,000 more characters are not shown" in words(page)
    assert len(page) < 70_000


async def test_what_is_typed_wrong_is_said_at_its_field_and_nothing_is_lost(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.post("/servers/odd/list")
    fields = {"arg-0": "Ada", "arg-2": "many", "arg-3": '"sad"'}
    page = await visitor.post("/servers/odd/call?tool=greet", fields, status=422)
    assert "'many' is no number" in words(page)
    assert ">\nAda</textarea>" in page
    assert re.search(r'<option value="&#34;sad&#34;" selected>', page)
    path = "/servers/odd/call?tool=greet"
    assert "this is no JSON" in await visitor.does(path, {"how": "json", "json": "{'a'"}, status=422)
    assert "from 1 to 240 seconds" in await visitor.does(path, {"seconds": "900", "arg-0": "Ada"}, status=422)
    assert await visitor.calls() == []
    assert "have it list its tools first" in await visitor.sees("/servers/odd/call?tool=other", 404)


async def test_a_log_is_shown_harmless(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    assert "Nothing yet" in await visitor.sees("/servers/odd/log")
    await visitor.post("/servers/odd/list")
    await comes((visitor.app.settings.state / "servers" / "odd.log").exists)
    page = await visitor.get("/servers/odd/log?lines=5")
    assert "red </textarea><script>" in words(page)
    assert EVIL not in page
    assert not set("\x1b\u202e") & set(page)
    part = await visitor.get("/servers/odd/log", x_live="log")
    assert "<header" not in part
    assert "red &lt;/textarea" in part


@pytest.mark.parametrize("lines", ["9" * 5_000, "-1", "many"])
async def test_a_log_of_no_possible_length_is_shown_as_usual(refused: Visitor, lines: str) -> None:
    put(refused.app.settings, "quiet", QUICK)
    assert "Nothing yet" in await refused.sees(f"/servers/quiet/log?lines={lines}")


async def test_code_is_shown_by_version_and_what_differs(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.app.workshop.change("odd", code=ODD.replace("Hello", "Good day"))
    page = await visitor.get("/servers/odd/code")
    assert "Version 2, the current one" in words(page)
    assert EVIL not in page
    seen = await visitor.sees("/servers/odd/code?version=1&diff=1")
    assert "What going back to version 1 would change" in seen
    assert "Good day" in seen
    assert (await visitor.get("/servers/odd/code.py?version=1")) == ODD
    assert "has no version 7" in await visitor.sees("/servers/odd/code?version=7", 404)
    assert "is no version" in await visitor.sees("/servers/odd/code?version=x", 422)


async def test_the_code_of_a_built_in_server_is_shown_and_not_changed(refused: Visitor) -> None:
    page = await refused.get("/servers/email/code")
    assert "/edit" not in page
    assert "is one of the fixed servers" in await refused.sees("/servers/email/edit", 409)
    assert "is one of the fixed servers" in await refused.does(
        "/servers/email/edit", {"code": "x", "anyway": "1"}, status=409
    )


async def test_a_server_goes_back_to_an_earlier_version_if_that_starts(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", "import nothing_like_this")
    await visitor.app.workshop.change("odd", code=QUICK)
    await visitor.app.workshop.change("odd", code=ODD)
    seen = await visitor.does("/servers/odd/back", {"version": "1"}, status=422)
    assert "The server stays as it was: nothing was kept, since the code does not run" in seen
    assert await visitor.app.servers.code("odd") == ODD
    assert "has the code of version 2 again" in await visitor.does("/servers/odd/back", {"version": "2"})
    assert await visitor.app.servers.code("odd") == QUICK


async def test_code_is_changed_unless_somebody_was_first(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    was = (await visitor.app.servers.get("odd")).fingerprint
    await visitor.app.workshop.change("odd", code=QUICK)
    mine = ODD.replace("Hello", "Good day")
    fields = {"code": mine, "description": "Greets", "was": was}
    page = await visitor.post("/servers/odd/edit", fields, status=409)
    assert "Somebody changed this server" in words(page)
    assert "Good day" in words(page), "what was typed is still there"
    assert await visitor.app.servers.code("odd") == QUICK
    assert "odd is changed" in await visitor.does("/servers/odd/edit", {"anyway": "1", **fields})
    assert await visitor.app.servers.code("odd") == mine
    assert (await visitor.app.servers.get("odd")).description == "Greets"


async def test_a_change_that_does_not_run_keeps_what_was_typed(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    was = (await visitor.app.servers.get("odd")).fingerprint
    page = await visitor.post(
        "/servers/odd/edit", {"code": "def mine(:", "description": "", "was": was}, status=422
    )
    assert "The server stays as it was" in words(page)
    assert "line 1" in words(page)
    assert "def mine(:</textarea>" in page


async def test_the_code_that_is_offered_makes_a_server(visitor: Visitor) -> None:
    page = await visitor.get("/servers/new")
    assert html.escape(TEMPLATE, quote=False)[:200] in html.unescape(page).replace("&#34;", '"')
    for _ in range(2):  # a form that is sent twice
        page = await visitor.post(
            "/servers/new", {"once": "a", "name": "clock", "code": TEMPLATE, "description": "Time"}
        )
    assert "clock ready" in words(page)
    assert "time_in" in words(page)
    page = await visitor.post("/servers/clock/call?tool=time_in", {"arg-0": "Europe/Zurich"})
    assert re.search(r"[A-Z][a-z]+day, \d\d:\d\d", words(page))
    assert "there is no time zone" in await visitor.does(
        "/servers/clock/call?tool=time_in", {"arg-0": "../etc"}
    )


@pytest.mark.parametrize(
    ("fields", "field", "sentence", "status"),
    [
        ({"name": "mine", "code": "def (:"}, "code", "line 1: invalid syntax", 422),
        ({"name": "mine", "code": "import nothing_like_this"}, "code", "the code does not run", 422),
        ({"name": "My Server", "code": QUICK}, "name", "can't be a server's name", 422),
        ({"name": "email", "code": QUICK}, "name", "there is already a server 'email'", 409),
    ],
)
async def test_code_that_makes_no_server_is_not_lost(
    refused: Visitor, fields: Mapping[str, str], field: str, sentence: str, status: int
) -> None:
    page = await refused.post("/servers/new", {"description": "What I said", **fields}, status=status)
    assert sentence in words(page)
    assert f'id="h-{field}"' in page
    assert fields["code"].strip().split("\n")[0] in html.unescape(page)
    assert 'value="What I said"' in page


async def test_an_external_server_is_added_and_its_secrets_are_sealed(visitor: Visitor) -> None:
    fields = {"name": "far", "how": "url", "url": "https://far.example/mcp", "command": "left over"}
    page = await visitor.post(
        "/servers/new?kind=external", {"headers": "Authorization: Bearer abc123\n\n", **fields}
    )
    assert "far is added" in words(page)
    assert "Authorization ${HEADER_AUTHORIZATION}" in words(page)
    assert "abc123" not in page
    assert await visitor.app.credentials.of("far") == {"HEADER_AUTHORIZATION": "Bearer abc123"}
    fields = {
        "name": "near",
        "how": "command",
        "command": "npx",
        "args": "-y\nserver",
        "env_vars": "A_KEY\nB=2",
    }
    assert "Command npx -y server" in await visitor.does("/servers/new?kind=external", fields)
    assert await visitor.app.credentials.of("near") == {"B": "2"}
    assert (await visitor.app.servers.get("near")).missing({}) == ("A_KEY", "B")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"how": "url", "url": "ftp://far.example"}, "url"),
        ({"how": "url", "url": "https://far.example", "headers": "Bearer abc"}, "headers"),
        ({"how": "command", "command": ""}, "command"),
        ({"how": "command", "command": "npx", "args": "--api-key=abc"}, "args"),
        ({"how": "command", "command": "npx", "env_vars": "A=1\nA=2"}, "env_vars"),
    ],
)
async def test_an_external_server_that_can_not_be_is_said_at_its_field(
    refused: Visitor, fields: Mapping[str, str], field: str
) -> None:
    page = await refused.post("/servers/new?kind=external", {"name": "far", **fields}, status=422)
    assert f'<p class="error" id="h-{field}">' in page
    assert 'value="far"' in page
    assert await refused.app.servers.list(Kind.EXTERNAL) == []


async def test_secrets_of_a_form_that_comes_back_are_asked_for_again(refused: Visitor) -> None:
    fields = {
        "name": "email",
        "headers": "X-Key: abc123\nX-Other: of ${OTHER}\nabc123",
        "env_vars": "A=abc123\nB",
    }
    for how in ({"how": "command", "command": "npx"}, {"how": "url", "url": "https://far.example/mcp"}):
        page = await refused.post(
            "/servers/new?kind=external", {**fields, **how}, status=409 if "command" in how else 422
        )
        assert "abc123" not in page
        assert "have to be typed again" in words(page)
        assert ">\nX-Key:\nX-Other: of ${OTHER}\n</textarea>" in page
        assert ">\nA=\nB</textarea>" in page


async def test_a_server_is_deleted_with_all_that_is_its(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.app.workshop.add_external(ExternalDraft("far", url="https://far.example/mcp"))
    for name in ("odd", "far"):
        assert f"Delete {name}" in await visitor.sees(f"/servers/{name}")
        for _ in range(2):  # a form that is sent twice
            assert f"{name} is deleted" in await visitor.does(f"/servers/{name}/delete", {"once": name})
        with pytest.raises(NotFoundError):
            await visitor.app.servers.get(name)
    assert "Delete this server" not in await visitor.sees("/servers/email")
    assert "email is one of the fixed servers" in await visitor.does("/servers/email/delete")


async def test_an_entry_that_somebody_spoiled_is_shown_without_a_page(visitor: Visitor) -> None:
    await visitor.app.database.write(
        lambda c: c.execute(
            "UPDATE settings SET value = '[{\"name\": \"Not a name\"}]' WHERE key = 'mcp_servers'"
        )
    )
    page = await visitor.get("/servers")
    assert "<bdi>Not a name</bdi>" in page
    assert "its entry in mcp_servers can't be used" in words(page)


async def test_credentials_that_can_not_be_read_keep_no_page_from_being_shown(visitor: Visitor) -> None:
    await visitor.app.credentials.set("email", "SENDER_EMAIL", "me@example.com", visitor.clock.now())
    (visitor.app.settings.state / "credentials.key").write_text("no key\n")
    assert "The credentials can't be read" in await visitor.sees("/servers")
    assert "holds something that is no key" in await visitor.sees("/servers/email")


async def test_a_part_of_a_page_comes_alone(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", ODD)
    await visitor.post("/servers/odd/list")
    for path, part in (
        ("/servers", "servers"),
        ("/servers/odd", "standing"),
        ("/servers/odd", "credentials"),
    ):
        answer = await visitor.get(path, x_live=part)
        assert f'id="{part}"' in answer
        assert "<h1>Servers" not in answer
    await visitor.app.workshop.remove("odd")
    await visitor.get("/servers/odd", 404, x_live="standing")


async def test_a_server_that_dies_in_a_call_is_told_and_nothing_is_lost(visitor: Visitor) -> None:
    put(visitor.app.settings, "odd", QUICK + "\n@mcp.tool\ndef die(a=0):\n    os._exit(3)\n")
    with pytest.raises(ServerFailedError):
        await visitor.app.invocations.invoke("mcp__odd__die", {}, 20)
    seen = await visitor.does("/servers/odd/call?tool=die", {"how": "json", "json": '{"a": 1}'}, status=502)
    assert "odd: the server has ended (exit code 3)" in seen
    assert '{"a": 1}' in seen, "what was typed is still there"
