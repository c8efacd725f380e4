"""How each of Claude's surfaces is told of this server: text that is ready to be pasted."""

import json
import shlex
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from claude_runner.config import is_loopback

NAME: Final = "claude-runner"


class Surface(StrEnum):
    """Where a person talks to Claude."""

    DESKTOP = "desktop"
    CODE = "code"
    CLAUDE_AI = "claude.ai"


def client_config(surface: Surface, command: tuple[str, ...], base: str) -> str:
    """Return what the surface is given.

    Args:
        surface: Which.
        command: What starts the server, with full paths.
        base: What the site's URLs begin with.
    """
    if surface is Surface.DESKTOP:
        program, *arguments = command
        return json.dumps({"mcpServers": {NAME: {"command": program, "args": arguments}}}, indent=2)
    return _for_code(command, base) if surface is Surface.CODE else _for_claude_ai(base)


def _for_code(command: tuple[str, ...], base: str) -> str:
    return f"""\
# Claude Code starts a server of its own, which ends with it:
claude mcp add --scope user {NAME} -- {shlex.join(command)}

# or it takes the one that runs at {base} (the site: MCP_TRANSPORT=sse or both), and logs in by the browser:
claude mcp add --scope user --transport http {NAME} {shlex.quote(f"{base}/mcp")}
claude mcp login {NAME}"""


def _for_claude_ai(base: str) -> str:
    return f"""\
At claude.ai, or in Claude Desktop: Settings → Connectors → Add custom connector

Name: {NAME}
Remote MCP server URL: {base}/mcp
(a client that knows only HTTP+SSE takes {base}/sse)

Then Connect: the server asks you to log in with DASHBOARD_USERNAME and DASHBOARD_PASSWORD, and to agree.
No client id is needed, as claude.ai registers itself. To have it use one of yours, put under Advanced settings:
OAuth Client ID and OAuth Client Secret, as OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET have them, or as the server
printed them to standard error at its first start, once.{_reach(base)}"""


def _reach(base: str) -> str:
    """Return what keeps claude.ai from getting there, as far as the URL tells."""
    url = urlsplit(base)
    if url.scheme == "https" and not is_loopback(url.hostname or ""):
        return ""
    return f"""

Anthropic's servers do not reach {base}: set PUBLIC_URL to the https address of this machine, or NGROK_AUTHTOKEN to
have a tunnel opened, whose address the log tells then."""
