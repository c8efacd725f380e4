"""The MCP face: one module a group of tools, one method a tool."""

import asyncio
import importlib
from typing import Any, Final

from fastmcp import FastMCP
from mcp.server.caching import CacheHint
from mcp.server.request_state import RequestStateSecurity

from claude_runner import __version__
from claude_runner.app import App
from claude_runner.tools._arguments import PlainRefusals
from claude_runner.tools._stdio import serve_stdio
from claude_runner.tools._toolbox import ToolGroup
from claude_runner.tools.calls import CallTools
from claude_runner.tools.credentials import CredentialTools
from claude_runner.tools.invocation import InvocationTools
from claude_runner.tools.jobs import JobTools
from claude_runner.tools.notifications import NotificationTools
from claude_runner.tools.other_servers import ExternalServerTools, FixedServerTools
from claude_runner.tools.policies import PolicyTools
from claude_runner.tools.prompts import Prompts
from claude_runner.tools.rehearsing import RehearsalTools
from claude_runner.tools.resources import Resources
from claude_runner.tools.runs import RunTools
from claude_runner.tools.servers import ServerTools
from claude_runner.tools.webhooks import WebhookTools

__all__ = ["GROUPS", "build_mcp", "serve_stdio", "warm_up"]

GROUPS: Final[tuple[type[ToolGroup], ...]] = (
    JobTools,
    RunTools,
    PolicyTools,
    WebhookTools,
    NotificationTools,
    CallTools,
    ServerTools,
    FixedServerTools,
    ExternalServerTools,
    CredentialTools,
    InvocationTools,
    RehearsalTools,
)

INSTRUCTIONS: Final = """\
Claude Runner carries out prompts unattended: on a schedule, or at once. A job is a prompt with a schedule; a run is
one execution of it, with output, tokens and cost. Schedules are cron expressions read in a time zone of the job's
own: repeat next_runs to the user instead of working times out, and tell them every line of tool_warnings.
What jobs lack to do their work is given by tool servers: list_fixed_mcp_servers and list_dynamic_mcp_servers show those
there are, create_mcp_server makes one of Python code. Keys are set by set_server_credential, never written into code or
prompts. Other services start a prompt by a webhook: create_webhook answers the address that they post to. rehearse_job
tells, at no cost, whether a job would run and what is missing.
Where the user says what is to happen when runs overlap, fail or cost too much, or who is to be told, set policy of the
job; create_notification_channel says where it is told. pause_job and pause_all stop what is planned for a while. Asked
why something did not happen, call why_didnt_it_run.
"""

# What stays as it is while a server runs; a client need not ask for it each time (resources change, and are asked for).
_LASTING: Final = ("tools/list", "prompts/list", "resources/templates/list", "server/discover")

# What FastMCP imports at the first call of a tool: a quarter of a second that nobody should wait for.
_LATE_IMPORTS: Final = ("key_value.aio.stores.memory", "key_value.aio.adapters.pydantic")


async def build_mcp(app: App) -> FastMCP[Any]:
    """Make the MCP server that offers every tool over app."""
    mcp: FastMCP[Any] = FastMCP(
        "claude-runner",
        instructions=INSTRUCTIONS,
        version=__version__,
        mask_error_details=True,
        request_state_security=RequestStateSecurity(keys=[app.auth.derived_key("confirmation")]),
    )
    for group in GROUPS:
        for function in group(app).tools():
            mcp.add_tool(function)
    Resources(app).add_to(mcp)
    Prompts(app).add_to(mcp)
    mcp.add_middleware(PlainRefusals(mcp))
    # Without it FastMCP lists all tools at each call, to find the schema of one.
    schemas = {tool.name: tool.parameters for tool in await mcp.list_tools(run_middleware=False)}
    server = mcp._mcp_server  # noqa: SLF001 - has no public name; versions are pinned
    server.get_tool_input_schema = schemas.get
    server.cache_hints |= dict.fromkeys(_LASTING, CacheHint(ttl_ms=60_000, scope="private"))
    return mcp


async def warm_up() -> None:
    """Import what the first call of a tool needs."""
    for name in _LATE_IMPORTS:
        await asyncio.to_thread(importlib.import_module, name)
