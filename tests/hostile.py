"""A home in which everything that somebody else may name or say is an attempt at the page that shows it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Login, Settings
from claude_runner.db import to_text
from claude_runner.jobs import JobDraft
from claude_runner.runs import (
    ClosedCall,
    Ending,
    EventKind,
    NewCall,
    NewRun,
    State,
    Tokens,
    Trigger,
    Verdict,
)
from claude_runner.servers import ToolInfo, examine
from claude_runner.webhooks import Signature, WebhookDraft
from tests.sites import on_free_port, serving
from tests.support import FakeAgent, FakeClock, ended

# Signs that turn text around, hide or join it, and what a terminal obeys.
ACTING: Final = "\u202e\u2066\u200b\u200f\ufeff\u2028"
MARKUP: Final = (
    "\"'><xss-mark onclick=a(1) style=top:0>{{7*7}}</xss-mark></script></textarea></title><!--<![CDATA["
)
NAME: Final = f"{MARKUP}{ACTING}"
LINKS: Final = "[a](javascript:alert(1)) ![b](https://evil.example/i.png)"
TEXT: Final = f"{NAME}\x1b[31m\x1b]0;t\x07\r&#x202e;&shy; {LINKS}\n# h\n"
PROBE: Final = quote(f"{MARKUP}{ACTING}", safe="").replace("%2F", "")  # in an address
VALUE: Final = "value-that-nobody-sees"
ADDRESS: Final = "address-that-nobody-sees"
SIGNING_SECRET: Final = "signing-secret-that-nobody-sees"
CODE: Final = """
import os
from fastmcp import FastMCP

mcp = FastMCP("evil")


@mcp.tool
def evil() -> str:
    return os.environ["EVIL_KEY"]
"""
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": TEXT,
    "properties": {
        NAME: {"type": "string", "description": TEXT, "default": TEXT},
        "choice": {"enum": [TEXT, None, 1.5], "description": TEXT},
        "number": {"type": "integer", "minimum": 10**400, "maximum": 10**401},
        "deep": {"$ref": "#/$defs/deep"},
        "odd": {"type": ["null"], "anyOf": 7, "description": 8, "enum": {}},
        "half": {"const": "\ud800"},
    },
    "required": [NAME, 7, "missing"],
    "$defs": {"deep": {"$ref": "#/$defs/deep"}},
}


@dataclass(frozen=True)
class Hostile:
    """The home that is served.

    Attributes:
        paths: Where its pages are, by the path of their routes.
        secrets: What no page and no answer may say.
    """

    app: App
    origin: str
    paths: dict[str, list[str]]
    secrets: tuple[str, ...]


@asynccontextmanager
async def hostile(home: Path, *, dashboard: Login | None = None) -> AsyncIterator[Hostile]:
    """Fill a home and serve it."""
    environment = {"HOME": str(home), "ANTHROPIC_API_KEY": "sk-ant-nobody-is-told"}
    settings = on_free_port(
        Settings(home=home, environment=environment, dashboard=dashboard, shutdown_grace_seconds=0.1)
    )
    async with open_app(settings, agent=FakeAgent(_act), clock=FakeClock()) as app:
        channel = await app.channels.add(MARKUP, f"json://127.0.0.1:9/{ADDRESS}", app.clock.now())
        job = await app.jobs.add(JobDraft(MARKUP, "0 9 * * *", _prompt(), "UTC"), app.clock.now())
        run = await ended(app, (await app.trigger(job.id)).id)
        quick = await ended(app, await app.runs.add(NewRun(TEXT, Trigger.QUICK), app.clock.now()))
        waits = await _wait(app, job.id)
        await app.pause_job(job.id, reason=f"{NAME}{LINKS}")
        (settings.playground / job.id).mkdir(parents=True, exist_ok=True)
        (settings.playground / job.id / NAME.replace("/", "_")).write_text("x")
        (settings.playground / job.id / "out").symlink_to("/")
        hook, delivery = await _receive(app)
        await _add_server(app)
        await app.runs.note_call(
            ClosedCall(
                None, NewCall(f"mcp__evil__{NAME}", {NAME: TEXT}, app.clock.now()), Verdict.ERROR, TEXT, 3.0
            )
        )
        await app.database.write(lambda c: _add_client(c, to_text(app.clock.now())))
        [logged] = (await app.runs.calls(None, "evil", 1)).calls
        paths = _paths(
            job.id,
            run.id,
            quick.id,
            waits,
            logged.id,
            channel.id,
            hook,
            delivery,
            f"{app.clock.now():%Y-%m-%d}",
        )
        async with serving(app) as origin:
            yield Hostile(
                app, origin, paths, (environment["ANTHROPIC_API_KEY"], VALUE, SIGNING_SECRET, ADDRESS)
            )


def _paths(
    job: str, run: str, quick: str, waits: str, call: str, channel: str, hook: str, delivery: str, day: str
) -> dict[str, list[str]]:
    """Return where each page is seen, by the path of its route, and with an attempt in what its address may ask."""
    runs = f"/runs?q={PROBE}&job={PROBE}&webhook={PROBE}&reason={PROBE}&since={PROBE}&state={PROBE}&cursor={PROBE}"
    return {
        "/": ["/"],
        "/keys": ["/keys"],
        "/quick": ["/quick", f"/quick?from={quick}", f"/quick?from={PROBE}"],
        "/jobs": ["/jobs", "/jobs?q=xss", f"/jobs?q={PROBE}&sort={PROBE}&page={PROBE}"],
        "/jobs/new": [f"/jobs/new?name={PROBE}&prompt={PROBE}&cron={PROBE}&timezone={PROBE}"],
        "/jobs/preview": [f"/jobs/preview?cron={PROBE}", f"/jobs/preview?cron=@daily&timezone={PROBE}"],
        "/jobs/{job_id}": [f"/jobs/{job}", f"/jobs/{PROBE}"],
        "/jobs/{job_id}/edit": [f"/jobs/{job}/edit"],
        "/jobs/{job_id}/pause": [f"/jobs/{job}/pause", f"/jobs/{job}/pause?back={PROBE}"],
        "/jobs/{job_id}/rehearse": [f"/jobs/{job}/rehearse"],
        "/pause-all": ["/pause-all", f"/pause-all?back=//evil.example/{PROBE}"],
        "/calendar": ["/calendar", f"/calendar?month={PROBE}"],
        "/calendar/{day}": [f"/calendar/{day}", f"/calendar/{day}?from={PROBE}", f"/calendar/{PROBE}"],
        "/runs": ["/runs", "/runs?q=xss", runs],
        "/runs/{run_id}": [
            f"/runs/{run}",
            f"/runs/{quick}",
            f"/runs/{waits}",
            f"/runs/{run}?before=9",
            f"/runs/{PROBE}",
        ],
        "/runs/{run_id}/steps/{seq:int}": [f"/runs/{run}/steps/{seq}" for seq in range(1, 9)],
        "/calls": [
            "/calls",
            f"/calls?tool={PROBE}&server={PROBE}&verdict={PROBE}&run={PROBE}&cursor={PROBE}",
        ],
        "/calls/{call_id}": [f"/calls/{call}", f"/calls/{PROBE}"],
        "/webhooks": ["/webhooks", f"/webhooks?q={PROBE}"],
        "/webhooks/new": ["/webhooks/new"],
        "/webhooks/{webhook_id}": [f"/webhooks/{hook}", f"/webhooks/{PROBE}"],
        "/webhooks/{webhook_id}/edit": [f"/webhooks/{hook}/edit", f"/webhooks/{hook}/edit?delivery={PROBE}"],
        "/webhooks/{webhook_id}/deliveries/{delivery_id}": [f"/webhooks/{hook}/deliveries/{delivery}"],
        "/servers": ["/servers", f"/servers?q={PROBE}&state={PROBE}"],
        "/servers/new": ["/servers/new", "/servers/new?kind=external"],
        "/servers/{name}": ["/servers/evil", f"/servers/{PROBE}"],
        "/servers/{name}/code": ["/servers/evil/code", "/servers/evil/code?version=1&diff=1"],
        "/servers/{name}/edit": ["/servers/evil/edit"],
        "/servers/{name}/log": ["/servers/evil/log", f"/servers/evil/log?lines={PROBE}"],
        "/servers/{name}/call": ["/servers/evil/call?tool=evil", f"/servers/evil/call?tool={PROBE}"],
        "/notifications": ["/notifications", f"/notifications?state={PROBE}&cursor={PROBE}"],
        "/notifications/channels/new": ["/notifications/channels/new"],
        "/notifications/channels/{channel_id}/edit": [f"/notifications/channels/{channel}/edit"],
        "/spending": ["/spending", f"/spending?by={PROBE}&since={PROBE}&until={PROBE}"],
        "/settings": ["/settings"],
        "/settings/rules": ["/settings/rules"],
        "/nothing": [f"/{PROBE}", f"/nothing?q={PROBE}"],
        # No pages, which no browser must take for one.
        "/palette": ["/palette"],
        "/runs.csv": ["/runs.csv"],
        "/runs.json": ["/runs.json"],
        "/runs/{run_id}/output.txt": [f"/runs/{run}/output.txt"],
        "/runs/{run_id}/output.md": [f"/runs/{run}/output.md"],
        "/runs/{run_id}/transcript.json": [f"/runs/{run}/transcript.json"],
        "/servers/{name}/code.py": ["/servers/evil/code.py"],
        "/webhooks/{webhook_id}/deliveries/{delivery_id}/body": [
            f"/webhooks/{hook}/deliveries/{delivery}/body"
        ],
    }


async def _act(_order: Order, listener: Listener, _stop: Stop) -> Ending:
    listener.started()
    happened = listener.happened
    happened(
        EventKind.STARTED,
        {
            "model": TEXT,
            "tools": [TEXT],
            "claude_code_version": TEXT,
            "mcp_servers": [{"name": TEXT, "status": "failed"}],
        },
    )
    happened(EventKind.THINKING, {"block": 1, "text": TEXT})
    happened(EventKind.TEXT, {"block": 2, "text": TEXT})
    happened(
        EventKind.TOOL_USE,
        {
            "id": "1",
            "name": f"mcp__evil__{TEXT}",
            "input": {TEXT: TEXT, "command": TEXT, "list": [{TEXT: 10**400}]},
        },
    )
    happened(EventKind.TOOL_RESULT, {"id": "1", "is_error": True, "content": TEXT})
    happened(EventKind.TOOL_RESULT, {"id": "of no call", "is_error": False, "content": TEXT})
    happened(EventKind.NOTICE, {"notice": TEXT, "message": TEXT})
    happened(EventKind.RETRY, {"error": TEXT, "error_status": TEXT, "attempt": TEXT, "max_retries": TEXT})
    happened(EventKind.RESULT, {"turns": TEXT, "is_error": True, "subtype": TEXT})
    return Ending(State.ERROR, output=TEXT, error=TEXT, reason="agent_crashed", tokens=Tokens(1, 2))


async def _wait(app: App, job_id: str) -> str:
    """Have a run wait for its next attempt; return its id."""
    now = app.clock.now()
    later = NewRun(
        TEXT, Trigger.SCHEDULE, job_id=job_id, not_before=now + timedelta(hours=1), reason="unreachable"
    )
    run_id = await app.runs.add(later, now)
    await app.database.write(
        lambda c: c.execute("UPDATE runs SET error = ? WHERE id = ?", (TEXT, run_id)).rowcount
    )
    return run_id


async def _receive(app: App) -> tuple[str, str]:
    """Have a delivery come in; return the ids of its webhook and of it."""
    draft = WebhookDraft(
        MARKUP, "{{payload.a}} {{payload.missing}} " + MARKUP.replace("{{7*7}}", ""), description=NAME
    )
    hook = await app.webhooks.add(draft, app.clock.now())
    signed = WebhookDraft("signed", "x", signature=Signature.GITHUB, signing_secret=SIGNING_SECRET)
    await app.webhooks.add(signed, app.clock.now())
    assert hook.token is not None
    headers = {b"content-type": b"application/json", b"user-agent": MARKUP.encode(), b"x-evil": NAME.encode()}
    body = json.dumps({"a": TEXT, TEXT: [TEXT]}, ensure_ascii=False).encode()
    receipt = await app.reception.receive(await app.reception.entrance(hook.token), headers, body)
    assert receipt.run_id is not None
    await ended(app, receipt.run_id)
    [delivery] = (await app.webhooks.deliveries(hook.id, 1)).deliveries
    return hook.id, delivery.id


async def _add_server(app: App) -> None:
    now = app.clock.now()
    code = f"# {NAME}\n{CODE}"
    for version in (code, code + "# again\n"):
        findings = examine(version)
        staged = await app.servers.stage("evil", version, NAME, findings.variables, now)
        known = await app.servers.find("evil")
        await (app.servers.keep_version if known else app.servers.keep_new)("evil", staged, now)
    await app.credentials.set("evil", "EVIL_KEY", VALUE, now)
    tools = [ToolInfo("evil", TEXT, SCHEMA), ToolInfo(NAME, TEXT, SCHEMA)]
    await app.servers.remember_tools(await app.servers.get("evil"), tools, now)


def _add_client(c: Any, at: str) -> None:
    c.execute(
        "INSERT INTO oauth_clients (client_id, client_name, source, redirect_uris, created_at, last_used_at)"
        " VALUES ('evil', ?, 'registered', ?, ?, ?)",
        (MARKUP, json.dumps([f"https://evil.example/{NAME}"]), at, at),
    )


def _prompt() -> str:
    """Return what a prompt may have of it."""
    return TEXT.replace("\x1b", "").replace("\x07", "")
