"""What a person says to Claude, and what must come of it, from a tool server's first line to its call in a run."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from claude_runner.config import Settings
from tests.scripted_model import ScriptedModel, script
from tests.sites import free_port
from tests.support import PATIENCE, content, text

ROOT = Path(__file__).parent.parent
KEY = "owm-4f9d1c7e2b8a6053"
WEATHER, MAIL = "mcp__weather__get_weather", "mcp__email__send_email"
CODE = """\
import os

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

mcp = FastMCP("weather")


@mcp.tool
def get_weather(city: str) -> str:
    \"\"\"Tell the weather in a city.\"\"\"
    key = os.environ.get("OPENWEATHERMAP_API_KEY")
    if not key:
        raise ToolError("OPENWEATHERMAP_API_KEY is not set")
    print("asked with", key)
    return f"Sunny in {city}, asked with {key}"
"""


class Postbox:
    """Keeps the mail that arrives at its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mail: list[Message] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - as aiosmtpd calls it
        self.mail.append(message_from_bytes(envelope.original_content or b""))
        return "250 OK"


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    postbox = Postbox()
    post = Controller(postbox, hostname="127.0.0.1", port=postbox.port, ready_timeout=60)
    post.start()
    yield postbox
    post.stop()


@pytest.fixture
async def client(owner: Settings) -> AsyncIterator[Client[Any]]:
    """A client of a real server over stdio, which logs into a file."""
    variables = {**owner.environment, "RUNNER_HOME": str(owner.home), "MCP_TRANSPORT": "stdio"}
    variables |= {"LOG_LEVEL": "DEBUG", "SHUTDOWN_GRACE_SECONDS": "0"}
    log = owner.home.parent / "server.log"
    transport = StdioTransport(
        sys.executable, [str(ROOT / "server.py")], env=variables, keep_alive=False, log_file=log
    )
    async with Client(transport) as client:
        yield client


class Told:
    """A conversation with the server: what Claude calls, and all that it was answered."""

    def __init__(self, client: Client[Any]) -> None:
        self.answers: list[str] = []
        self._client = client

    async def __call__(self, tool_called: str, **arguments: Any) -> dict[str, Any]:
        answered = await self._client.call_tool(tool_called, arguments)
        self.answers.append(text(answered))
        return dict(content(answered))


async def make_the_weather(say: Told) -> None:
    """Make the server, see its key named as missing, set it, and call its tool."""
    made = await say("create_mcp_server", name="weather", code=CODE)
    assert made["missing_credentials"] == ["OPENWEATHERMAP_API_KEY"]
    assert "OPENWEATHERMAP_API_KEY" in made["next_step"]
    assert [tool["name"] for tool in made["tools"]] == [WEATHER]
    lacking = await say("get_unconfigured_servers")
    missing = {server["name"]: set(server["missing"]) for server in lacking["servers"]}
    assert missing["weather"] == {"OPENWEATHERMAP_API_KEY"}
    assert missing["email"] == {"SENDGRID_API_KEY", "SENDER_EMAIL"}
    ready = await say("set_server_credential", server="weather", key="OPENWEATHERMAP_API_KEY", value=KEY)
    assert ready["ready"]
    called = await say("invoke_internal_mcp_tool", tool=WEATHER, payload={"city": "Berlin"})
    assert called["content"][0]["text"] == "Sunny in Berlin, asked with [credential OPENWEATHERMAP_API_KEY]"


async def set_up_mail(say: Told, port: int) -> None:
    values = {"EMAIL_PROVIDER": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port)}
    for key, value in (values | {"SMTP_SECURITY": "none", "SENDER_EMAIL": "runner@example.com"}).items():
        await say("set_server_credential", server="email", key=key, value=value)
    assert (await say("list_fixed_mcp_servers"))["servers"][0]["status"] == "ready"


async def make_the_job(say: Told) -> str:
    letter = {"to": "alice@example.com", "subject": "Weather", "body": "Sunny."}
    steps = script(
        {"tool": WEATHER, "input": {"city": "Paris"}},
        {"tool": MAIL, "input": letter},
        {"text": "Mailed."},
    )
    job = await say(
        "create_job",
        name="Weather by mail",
        cron="0 9 * * 1-5",
        prompt=f"Mail the weather. {steps}",
        tools=[WEATHER, "email:send_email"],
        timezone="Europe/Berlin",
    )
    assert job["tool_warnings"] == ["Normalized 'email:send_email' to 'mcp__email__send_email'"]
    return str(job["id"])


async def carried_out(say: Told, job_id: str) -> dict[str, Any]:
    run_id = (await say("trigger_job", job_id=job_id))["run_id"]
    async with asyncio.timeout(PATIENCE):
        while (run := await say("get_run", run_id=run_id))["state"] in {"pending", "running"}:
            pass
    return run


async def test_a_server_is_made_given_its_key_used_by_a_job_and_its_key_is_nowhere(
    client: Client[Any], owner: Settings, model: ScriptedModel, postbox: Postbox
) -> None:
    say = Told(client)
    await make_the_weather(say)
    await set_up_mail(say, postbox.port)
    job_id = await make_the_job(say)

    rehearsal = await say("rehearse_job", job_id=job_id)
    assert (rehearsal["verdict"], rehearsal["problems"]) == ("would_run", [])
    assert (model.requests, postbox.mail) == ([], [])

    run = await carried_out(say, job_id)
    assert (run["state"], run["output"]) == ("finished", "Mailed.")
    [arrived] = postbox.mail
    assert (arrived["To"], arrived["Subject"]) == ("alice@example.com", "Weather")

    log = await say("list_tool_calls", run_id=run["id"])
    calls = {call["tool"]: call for call in log["calls"]}
    assert set(calls) == {WEATHER, MAIL}
    assert calls[WEATHER]["arguments"] == {"city": "Paris"}
    assert "Sunny in Paris" in calls[WEATHER]["result"]
    assert {call["verdict"] for call in log["calls"]} == {"ok"}
    said = await say("get_mcp_server_log", name="weather")
    assert "asked with [credential OPENWEATHERMAP_API_KEY]" in "\n".join(said["lines"])

    assert not any(KEY in answer for answer in say.answers)
    assert not any(KEY in str(request.body) for request in model.requests)
    files = [path for path in owner.home.parent.rglob("*") if path.is_file()]
    assert {owner.database_path, owner.home.parent / "server.log"} <= set(files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
