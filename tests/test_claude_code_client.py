"""The real Claude Code as a client of the real server, with the scripted model in Claude's place."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from claude_runner.agent import find_cli
from tests.scripted_model import ScriptedModel
from tests.served import Served, served
from tests.support import PATIENCE

ANSWER = "There is a job for every morning."


async def _ask_claude(site: Served, model: ScriptedModel, folder: Path) -> dict[str, Any]:
    """Have Claude Code follow the model's script, with the server's tools and no others, and return what it prints."""
    server = {"type": "http", "url": f"{site.origin}/mcp", "headers": site.headers}
    claude = await asyncio.create_subprocess_exec(
        str(find_cli()), "--print", "Which jobs are there?", "--output-format", "json",
        "--mcp-config", json.dumps({"mcpServers": {"runner": server}}), "--strict-mcp-config",
        "--tools", "", "--allowedTools", "mcp__runner__*", "--setting-sources", "",
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CLAUDE_CONFIG_DIR": str(folder / "claude"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "ANTHROPIC_BASE_URL": model.base_url,
            "ANTHROPIC_API_KEY": model.api_key,
        },
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        said, complained = await claude.communicate()
    assert claude.returncode == 0, complained.decode()
    answer: dict[str, Any] = json.loads(said)
    return answer


async def test_claude_code_calls_our_tools_over_the_network(tmp_path: Path, model: ScriptedModel) -> None:
    model.default_script = [
        {"tool": "mcp__runner__create_job", "input": {"name": "dawn", "cron": "0 6 * * *", "prompt": "rise"}},
        {"tool": "mcp__runner__list_jobs", "input": {}},
        {"text": ANSWER},
    ]
    (tmp_path / "client").mkdir()
    with served(tmp_path / "server") as site:
        answer = await _ask_claude(site, model, tmp_path / "client")
    assert (answer["result"], answer["permission_denials"]) == (ANSWER, [])
    assert "mcp__runner__rehearse_job" in {tool["name"] for tool in model.requests[0].body["tools"]}
    [listed] = model.requests[-1].body["messages"][-1]["content"]
    assert not listed.get("is_error")
    assert '"dawn"' in json.dumps(listed["content"]).replace("\\", "")
