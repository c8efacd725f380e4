"""What the user is asked before something is destroyed, by clients of both eras of the protocol."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import ClientTransport, SSETransport, StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult as Answer
from mcp_types import InputRequiredResult

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import NewRun, Trigger
from claude_runner.tools import build_mcp
from tests.parts import drafted
from tests.served import SERVER, Served, served, variables
from tests.support import FakeAgent, FakeClock, content, text
from tests.test_clients import JOB
from tests.tool_servers import QUICK, put

Mcp = FastMCP[Any]
Act = Callable[[], Awaitable[object]]

ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
AGREED: dict[str, Any] = {"confirm": Answer(action="accept", content={"confirm": True})}


class User:
    """Answers what their client asks them, and does something else meanwhile."""

    def __init__(self, action: Literal["accept", "decline", "cancel"] = "accept", **ticked: bool) -> None:
        self.asked: list[str] = []
        self.meanwhile: Act | None = None
        self._answer = ElicitResult(action=action, content=ticked or None)

    async def __call__(self, message: str, _form: Any, _params: Any, _context: Any) -> ElicitResult[Any]:
        self.asked.append(message)
        if self.meanwhile is not None:
            await self.meanwhile()
        return self._answer


def agreeing() -> User:
    return User(confirm=True)


@pytest.fixture
async def server(app: App) -> Mcp:
    return await build_mcp(app)


@asynccontextmanager
async def client(server: Mcp, era: str, user: User | None) -> AsyncIterator[Client[Any]]:
    async with Client(server, mode=era, elicitation_handler=user) as client:
        yield client


async def refusal(client: Client[Any], tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error
    return text(result)


async def job(app: App, runs: int = 0, **changes: Any) -> str:
    added = await app.jobs.add(drafted(**{"name": "Morning brief", **changes}), app.clock.now())
    for _ in range(runs):
        await app.runs.add(NewRun("go", Trigger.MANUAL, job_id=added.id), app.clock.now())
    return added.id


@ERAS
async def test_a_job_is_deleted_once_the_user_agrees(app: App, server: Mcp, era: str) -> None:
    job_id, user = await job(app), agreeing()
    async with client(server, era, user) as claude:
        assert content(await claude.call_tool("delete_job", {"job_id": job_id})) == {
            "deleted": True,
            "id": job_id,
        }
    assert user.asked == ['Delete the job "Morning brief", which has never run?']
    assert await app.jobs.list() == []


@ERAS
@pytest.mark.parametrize(
    ("user", "why"),
    [
        (User("decline"), "the user declined"),
        (User("cancel"), "the user closed the question without an answer"),
        (User(confirm=False), "the user did not tick the box that says so"),
        (User(), "the user did not tick the box that says so"),
    ],
    ids=["no", "cancel", "unticked", "nothing filled in"],
)
async def test_nothing_is_deleted_where_the_user_does_not_agree(
    app: App, server: Mcp, era: str, user: User, why: str
) -> None:
    job_id = await job(app)
    async with client(server, era, user) as claude:
        assert await refusal(claude, "delete_job", job_id=job_id) == f"nothing was deleted: {why}"
    assert [it.id for it in await app.jobs.list()] == [job_id]


@ERAS
async def test_a_client_that_cannot_ask_has_it_done_at_once(app: App, server: Mcp, era: str) -> None:
    job_id = await job(app)
    async with client(server, era, None) as claude:
        assert content(await claude.call_tool("delete_job", {"job_id": job_id}))["deleted"]


@ERAS
async def test_nobody_is_asked_about_what_is_not_there(server: Mcp, era: str) -> None:
    user = agreeing()
    async with client(server, era, user) as claude:
        assert "there is no job" in await refusal(claude, "delete_job", job_id="00000000")
        assert "there is no server" in await refusal(claude, "delete_mcp_server", name="nothing")
        assert "disable_fixed_server" in await refusal(claude, "delete_mcp_server", name="email")
        assert "there is no server" in await refusal(
            claude, "update_mcp_server", name="nothing", description="x"
        )
        assert "there is no server" in await refusal(claude, "remove_external_server", name="nothing")
        assert "not of the external" in await refusal(claude, "remove_external_server", name="email")
        assert "no credential" in await refusal(
            claude, "delete_server_credential", server="email", key="NONE"
        )
        assert "job_id" in await refusal(claude, "delete_job", job_id=7)
    assert user.asked == []


@ERAS
async def test_a_question_names_the_thing_and_what_goes_with_it(app: App, server: Mcp, era: str) -> None:
    now = app.clock.now()
    put(app.settings, "weather", QUICK)
    await app.credentials.set("email", "SENDGRID_API_KEY", "a long key", now)
    await app.workshop.servers.enable("weather", True, now)  # noqa: FBT003
    many = await job(app, runs=12)
    user = User("decline")
    async with client(server, era, user) as claude:
        await refusal(claude, "delete_job", job_id=many)
        await refusal(claude, "delete_mcp_server", name="weather")
        await refusal(claude, "delete_server_credential", server="email", key="SENDGRID_API_KEY")
        added = {"name": "outside", "command": "true"}
        await claude.call_tool("add_external_server", added)
        await refusal(claude, "remove_external_server", name="outside")
        hook = content(await claude.call_tool("create_webhook", {"name": "Items", "prompt_template": "go"}))
        await refusal(claude, "delete_webhook", webhook_id=hook["id"])
    assert user.asked == [
        'Delete the job "Morning brief" with its 12 runs and their outputs?',
        "Delete the tool server weather with its code in all versions, its files and its credentials?",
        "Delete the credential SENDGRID_API_KEY of the tool server email? email can't do without it.",
        "Remove the external tool server outside with its files here and its credentials?",
        'Delete the webhook "Items" with its address and its deliveries?',
    ]


@ERAS
async def test_a_server_is_changed_once_the_user_agrees(app: App, server: Mcp, era: str) -> None:
    put(app.settings, "weather", QUICK)
    change = {"name": "weather", "code": QUICK + "\n# new\n", "description": "Tells the weather"}
    user = User("decline")
    async with client(server, era, user) as claude:
        assert (
            await refusal(claude, "update_mcp_server", **change) == "nothing was changed: the user declined"
        )
    assert await app.servers.code("weather") == QUICK
    agrees = agreeing()
    async with client(server, era, agrees) as claude:
        assert content(await claude.call_tool("update_mcp_server", change))["version"] == 2
        await claude.call_tool("update_mcp_server", {"name": "weather", "version": 1})
        assert "nothing to change" in await refusal(claude, "update_mcp_server", name="weather")
    assert user.asked + agrees.asked == [
        "Change the tool server weather: its code and its description? "
        "The code that it has now is kept as version 1."
    ] * 2 + [
        "Change the tool server weather: its code, back to that of version 1? "
        "The code that it has now is kept as version 2."
    ]


@ERAS
async def test_a_thing_that_changes_while_the_user_thinks_is_not_deleted(
    app: App, server: Mcp, clock: FakeClock, era: str
) -> None:
    job_id, user = await job(app), agreeing()

    async def rename() -> None:
        clock.move(timedelta(minutes=5))
        await app.jobs.change(job_id, {"name": "Precious"}, clock.now())

    user.meanwhile = rename
    async with client(server, era, user) as claude:
        said = await refusal(claude, "delete_job", job_id=job_id)
    assert said == "nothing was deleted: it has been changed since the user was asked; call once more"
    assert [it.name for it in await app.jobs.list()] == ["Precious"]


@ERAS
async def test_a_thing_that_goes_while_the_user_thinks_is_said_to_be_gone(
    app: App, server: Mcp, era: str
) -> None:
    job_id, user = await job(app), agreeing()
    user.meanwhile = lambda: app.jobs.remove(job_id)
    async with client(server, era, user) as claude:
        assert "there is no job" in await refusal(claude, "delete_job", job_id=job_id)


@ERAS
async def test_runs_that_come_while_the_user_thinks_are_no_reason_to_ask_again(
    app: App, server: Mcp, era: str
) -> None:
    job_id, user = await job(app), agreeing()
    user.meanwhile = lambda: app.trigger(job_id)
    async with client(server, era, user) as claude:
        assert content(await claude.call_tool("delete_job", {"job_id": job_id}))["deleted"]


@ERAS
async def test_a_client_that_fails_to_ask_deletes_nothing(app: App, server: Mcp, era: str) -> None:
    job_id, user = await job(app), agreeing()

    async def fail() -> None:
        raise RuntimeError("no window")

    user.meanwhile = fail
    async with client(server, era, user) as claude:
        with pytest.raises((ToolError, MCPError), match="no window"):
            await claude.call_tool("delete_job", {"job_id": job_id})
    assert await app.jobs.list()


async def asked(claude: Client[Any], tool: str, **arguments: Any) -> InputRequiredResult:
    """The question as it is on the wire."""
    answer = await claude.session.call_tool(tool, arguments, allow_input_required=True)
    assert isinstance(answer, InputRequiredResult)
    return answer


async def test_an_agreement_holds_for_the_very_call_alone(app: App, server: Mcp) -> None:
    one, other = await job(app), await job(app)
    async with client(server, "2026-07-28", agreeing()) as claude:
        state = (await asked(claude, "delete_job", job_id=one)).request_state
        for tool, arguments in (("delete_job", {"job_id": other}), ("get_job", {"job_id": one})):
            with pytest.raises(MCPError, match="Invalid or expired requestState"):
                await claude.session.call_tool(
                    tool, arguments, input_responses=AGREED, request_state=state, allow_input_required=True
                )
    assert len(await app.jobs.list()) == 2


@pytest.mark.parametrize("state", [None, "made up", "v1.AAAA"])
async def test_an_agreement_to_no_question_of_ours_is_none(app: App, server: Mcp, state: str | None) -> None:
    arguments = {"job_id": await job(app)}
    async with client(server, "2026-07-28", agreeing()) as claude:
        call = claude.session.call_tool(
            "delete_job", arguments, input_responses=AGREED, request_state=state, allow_input_required=True
        )
        if state is None:
            assert isinstance(await call, InputRequiredResult)
        else:
            with pytest.raises(MCPError, match="Invalid or expired requestState"):
                await call
    assert await app.jobs.list()


async def test_an_agreement_is_used_up_by_what_it_allows(app: App, server: Mcp, clock: FakeClock) -> None:
    await app.credentials.set("email", "SMTP_PASSWORD", "first", clock.now())
    arguments = {"server": "email", "key": "SMTP_PASSWORD"}
    async with client(server, "2026-07-28", agreeing()) as claude:
        state = (await asked(claude, "delete_server_credential", **arguments)).request_state
        given: dict[str, Any] = {"input_responses": AGREED, "request_state": state}
        first = await claude.session.call_tool("delete_server_credential", arguments, **given)
        assert not first.is_error
        clock.move(1)
        await app.credentials.set("email", "SMTP_PASSWORD", "second", clock.now())
        again = await claude.session.call_tool("delete_server_credential", arguments, **given)
        assert again.is_error
    assert (await app.credentials.of("email")) == {"SMTP_PASSWORD": "second"}


async def test_an_agreement_survives_a_restart_and_nothing_else_can_seal_one(tmp_path: Path) -> None:
    async def open_and(home: Path, act: Callable[[App, Client[Any]], Awaitable[Any]]) -> Any:
        async with (
            open_app(Settings(home=home), agent=FakeAgent(), clock=FakeClock()) as app,
            client(await build_mcp(app), "2026-07-28", agreeing()) as claude,
        ):
            return await act(app, claude)

    async def ask(app: App, claude: Client[Any]) -> tuple[str, str | None]:
        job_id = await job(app)
        return job_id, (await asked(claude, "delete_job", job_id=job_id)).request_state

    job_id, state = await open_and(tmp_path / "ours", ask)

    async def answer(_app: App, claude: Client[Any]) -> bool:
        arguments = {"job_id": job_id}
        result = await claude.session.call_tool(
            "delete_job", arguments, input_responses=AGREED, request_state=state
        )
        return not result.is_error

    with pytest.raises(MCPError, match="Invalid or expired requestState"):
        await open_and(tmp_path / "theirs", answer)
    assert await open_and(tmp_path / "ours", answer)


def _stdio(site: Served) -> ClientTransport:
    environment = variables(site.home, MCP_TRANSPORT="stdio")
    return StdioTransport(sys.executable, [str(SERVER)], env=environment, keep_alive=False)


def _http(site: Served) -> ClientTransport:
    return StreamableHttpTransport(f"{site.origin}/mcp", headers=site.headers)


def _sse(site: Served) -> ClientTransport:
    return SSETransport(f"{site.origin}/sse", headers=site.headers)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as site:
        yield site


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize(
    ("connect", "era"),
    [
        (_stdio, "legacy"),
        (_stdio, "2026-07-28"),
        (_http, "legacy"),
        (_http, "2026-07-28"),
        (_sse, "legacy"),  # the transport is of this era alone
    ],
)
async def test_the_user_is_asked_over_every_transport(
    site: Served, connect: Callable[[Served], ClientTransport], era: str, *, agrees: bool
) -> None:
    user = User(confirm=agrees)
    async with Client(connect(site), mode=era, elicitation_handler=user) as claude:
        made = content(await claude.call_tool("create_job", JOB))
        answer = await claude.call_tool("delete_job", {"job_id": made["id"]}, raise_on_error=False)
        assert answer.is_error is not agrees
        left = content(await claude.call_tool("list_jobs"))["jobs"]
    assert (made["id"] in [job["id"] for job in left]) is not agrees
    assert user.asked == ['Delete the job "brief", which has never run?']
