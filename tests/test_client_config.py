"""What Claude's surfaces are given to find the server, tried with the real Claude Code where that can be."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from claude_runner.client_config import Surface, client_config
from claude_runner.config import Settings
from claude_runner.db import open_database
from claude_runner.settings import StoredSettings
from tests.served import variables
from tests.test_server import ROOT, end, server

COMMAND = ("/my tools/python", "/my tools/server.py")


def printed(home: Path, *surface: str, **more: str) -> str:
    with server(home, "--client-config", *surface, **more) as process:
        code, out, err = end(process)
    assert (code, err) == (0, "")
    return out


def test_each_surface_is_told_how_to_get_here_and_nothing_is_made_for_it(tmp_path: Path) -> None:
    assert printed(tmp_path) == printed(tmp_path, "desktop")
    assert "http://localhost:8080/mcp" in printed(tmp_path, "code")
    assert "http://localhost:8123/mcp" in printed(tmp_path, "claude.ai", PORT="8123")
    assert list(tmp_path.iterdir()) == []


def test_a_surface_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    with server(tmp_path, "--client-config", "phone") as process:
        code, out, err = end(process)
    assert (code, out) == (2, "")
    assert "choose from 'desktop', 'code', 'claude.ai'" in err


def test_desktop_has_paths_as_they_are() -> None:
    entry = json.loads(client_config(Surface.DESKTOP, COMMAND, "http://localhost:8080"))
    assert entry == {"mcpServers": {"claude-runner": {"command": COMMAND[0], "args": [COMMAND[1]]}}}


def test_a_shell_reads_the_commands_as_they_are_meant() -> None:
    lines = client_config(Surface.CODE, COMMAND, "https://runner.example.org").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    local, remote, login = [command for command in commands if command]
    assert local[-3:] == ["--", *COMMAND]
    assert remote[-2:] == ["claude-runner", "https://runner.example.org/mcp"]
    assert login == ["claude", "mcp", "login", "claude-runner"]


def test_claude_code_connects_by_the_command_that_is_printed(tmp_path: Path, claude: str) -> None:
    environment = variables(tmp_path, MCP_TRANSPORT="stdio", PATH=f"{claude}:{os.environ['PATH']}")
    commands = printed(tmp_path, "code").splitlines()

    def run(command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    run(next(line for line in commands if sys.executable in line))
    assert "Connected" in run("claude mcp get claude-runner")
    run("claude mcp remove claude-runner")
    run(next(line for line in commands if "--transport http" in line))
    assert "http://localhost:8080/mcp" in run("claude mcp get claude-runner")


@pytest.fixture
def claude() -> str:
    """The folder of the Claude Code that the agent SDK brings."""
    import claude_agent_sdk  # noqa: PLC0415 - slow to import

    return str(Path(claude_agent_sdk.__file__).parent / "_bundled")


@pytest.mark.parametrize("base", ["http://localhost:8080", "https://127.0.0.1", "http://runner.example.org"])
def test_an_address_that_claude_ai_cannot_reach_is_said_to_be_none(base: str) -> None:
    assert "Anthropic's servers do not reach" in client_config(Surface.CLAUDE_AI, COMMAND, base)


def test_an_address_that_claude_ai_can_reach_is_all_it_needs(tmp_path: Path) -> None:
    public = {
        "PUBLIC_URL": "https://runner.example.org/",
        "DASHBOARD_USERNAME": "owner",
        "DASHBOARD_PASSWORD": "correct horse battery",
    }
    text = printed(tmp_path, "claude.ai", **public)
    assert "URL: https://runner.example.org/mcp\n" in text
    assert "do not reach" not in text


async def test_the_address_that_the_owner_stored_counts(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    async with open_database(settings.database_path) as database:
        await StoredSettings(database).add_missing()
        value = json.dumps("https://stored.example.org")
        change = "UPDATE settings SET value = :value WHERE key = 'webhook_base_url'"
        await database.write(lambda c: c.execute(change, {"value": value}).rowcount)
    assert "https://stored.example.org/mcp" in printed(tmp_path, "claude.ai")
    assert str(ROOT) not in printed(tmp_path, "claude.ai")
