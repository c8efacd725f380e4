"""What a server declares to need (PEP 723): what is here is used, the rest is installed where the owner allows it."""

import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.pool import Patience
from tests.tool_servers import QUICK, Lab, open_lab, processes

SDK = '''
import tiny
from mcp.server import MCPServer

mcp = MCPServer("sdk")

@mcp.tool()
def size() -> str:
    """Tell how large it is."""
    return tiny.SIZE
'''


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path, patience=Patience(start=30), environment={"PIP_NO_INDEX": "1"}) as lab:
        yield lab


def declaring(code: str, *dependencies: str, python: str | None = None) -> str:
    lines = [f"dependencies = {json.dumps(dependencies)}"]
    lines += [f"requires-python = {json.dumps(python)}"] if python else []
    return "# /// script\n" + "".join(f"# {line}\n" for line in lines) + "# ///\n" + code


def wheel(folder: Path, size: str = "tiny") -> str:
    """Build the wheel of a package by hand and return the requirement that names it."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", f"SIZE = {size!r}\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"tiny @ {path.as_uri()}"


async def allow(lab: Lab) -> None:
    values = {"key": "install_dependencies", "value": "true"}
    await lab.app.database.write(
        lambda c: c.execute("UPDATE settings SET value = :value WHERE key = :key", values).rowcount
    )


def environments(lab: Lab) -> list[Path]:
    folder = lab.app.settings.state / "environments"
    return list(folder.iterdir()) if folder.exists() else []


async def test_what_is_here_needs_no_environment(lab: Lab) -> None:
    code = declaring(QUICK, "httpx>=0.20", "fastmcp", "nothing; python_version < '3'", python=">=3.11")
    await lab.put("quick", code)
    assert await lab.call("quick:echo", text="hello") == "hello"
    assert not environments(lab)


@pytest.mark.parametrize(
    ("dependency", "lacking"),
    [
        ("tiny", "tiny"),
        ("httpx<0.1", "httpx<0.1"),
        ("httpx[socks]", "httpx[socks]"),
        ("t @ file:///t.whl", "t @"),
    ],
)
async def test_what_is_not_here_is_refused_unless_the_owner_allows_it(
    lab: Lab, dependency: str, lacking: str
) -> None:
    sentence = await lab.refusal(
        "create_mcp_server", name="quick", code=declaring(QUICK, "fastmcp", dependency)
    )
    assert f"quick declares packages that are not here ({lacking}" in sentence
    assert "the owner can allow it by the setting install_dependencies" in sentence
    assert not environments(lab)


@pytest.mark.parametrize("dependency", ["not a requirement!", "httpx>=oops"])
async def test_what_cannot_be_read_is_refused(lab: Lab, dependency: str) -> None:
    sentence = await lab.refusal("create_mcp_server", name="quick", code=declaring(QUICK, dependency))
    assert "what quick declares to need can't be read" in sentence


async def test_what_is_allowed_is_installed_once_and_used_beside_ours(lab: Lab, tmp_path: Path) -> None:
    await allow(lab)
    needed = wheel(tmp_path)
    made = await lab.answer("create_mcp_server", name="sized", code=declaring(SDK, needed))
    assert [tool["name"] for tool in made["tools"]] == ["mcp__sized__size"]
    assert await lab.call("sized:size") == "tiny"
    [environment] = environments(lab)
    assert not list(environment.parent.glob("*.*"))
    Path(needed.removeprefix("tiny @ file://")).unlink()
    await lab.put("other", declaring(QUICK + "import tiny\n", needed))
    assert await lab.call("other:echo", text="it is here") == "it is here"
    assert environments(lab) == [environment]


async def test_what_cannot_be_installed_is_told_and_leaves_nothing(lab: Lab) -> None:
    await allow(lab)
    sentence = await lab.refusal(
        "create_mcp_server", name="quick", code=declaring(QUICK, "nothing-of-the-kind")
    )
    assert "the packages of quick can't be installed: ERROR: Could not find a version" in sentence
    assert not environments(lab)
    assert not processes("quick")
