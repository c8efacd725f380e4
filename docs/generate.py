"""Writes the generated parts of README.md and .env.example anew: `python -m docs.generate`."""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Final

from claude_runner.agent._endings import CRASHED, RULES, SERVERS_MISSING
from claude_runner.app import open_app
from claude_runner.config import VARIABLES, Settings, Variable
from claude_runner.retrying import RULES as FOLLOWS
from claude_runner.retrying import When
from claude_runner.tools import build_mcp

ROOT: Final = Path(__file__).resolve().parent.parent


async def tools() -> str:
    """Return a table of the MCP tools: name, parameters, first sentence; optional parameters have a question mark."""
    with tempfile.TemporaryDirectory() as home:
        async with open_app(Settings(home=Path(home))) as app:
            listed = await (await build_mcp(app)).list_tools(run_middleware=False)
    lines = ["| tool | parameters | what it does |", "| --- | --- | --- |"]
    for tool in listed:
        required = tool.parameters.get("required", ())
        names = [name if name in required else f"{name}?" for name in tool.parameters["properties"]]
        sentence = re.split(r"(?<=\.)\s", (tool.description or "").strip())[0].rstrip(".")
        lines.append(f"| `{tool.name}` | {', '.join(f'`{name}`' for name in names)} | {sentence} |")
    return "\n".join(lines)


def reasons() -> str:
    """Return a table of the ways in which the agent fails, and of what follows."""
    lines = ["| reason | error | tried again |", "| --- | --- | --- |"]
    for rule in (*RULES, SERVERS_MISSING, CRASHED):
        sentence = rule.sentence.replace("{said}", "…")
        lines.append(f"| `{rule.reason}` | {sentence} | {_follows(rule.reason)} |")
    return "\n".join(lines)


def _follows(reason: str) -> str:
    rule = FOLLOWS[reason]
    when = {When.LATER: "yes", When.AT_RESET: "when it is over", When.NEVER: "no"}[rule.when]
    return f"{when}: {rule.why}"


def environment() -> str:
    """Return a table of the environment variables."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{it.name}` | {it.default} | {it.meaning} |" for it in VARIABLES]
    return "\n".join(lines)


def env_example() -> str:
    """Return the text of .env.example: each variable, commented out, with its default."""
    head = "# Copy to .env. What is commented out has the default shown.\n"
    variables = "".join(_example(it) for it in VARIABLES)
    login = (
        "\n# How Claude Code signs in where nobody is logged in with `claude`: one of these.\n"
        "# CLAUDE_CODE_OAUTH_TOKEN=\n# ANTHROPIC_API_KEY=\n"
    )
    return head + variables.replace("`", "'") + login


def _example(variable: Variable) -> str:
    computed = " " in variable.default or variable.default == "none"
    meaning = f"{variable.meaning}; default: {variable.default}" if computed else variable.meaning
    return f"\n# {meaning}\n# {variable.name}={'' if computed else variable.default}\n"


async def readme(text: str) -> str:
    """Return the README with its generated parts made anew."""
    parts = {"tools": await tools(), "reasons": reasons(), "environment": environment()}
    for name, part in parts.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda found, part=part: f"{found[1]}{part}\n{found[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


async def main() -> None:
    """Write both files."""
    path = ROOT / "README.md"
    path.write_text(await readme(path.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / ".env.example").write_text(env_example(), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
