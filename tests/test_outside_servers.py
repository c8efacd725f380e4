"""External servers at work: a command of the owner's, and a URL of somebody else's."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_headers

from claude_runner.errors import ServerFailedError
from claude_runner.loopback import listening
from claude_runner.pool import Patience
from tests.tool_servers import Lab, comes, open_lab, processes

# Speaks the protocol in the fewest lines, as an argument of Python: it lies in no folder.
LINE = (
    "import json,os,sys;"
    "t=[{'name':'env','inputSchema':{'type':'object'}}];"
    "i={'name':'x','version':'1'};"
    "r=lambda m:{'initialize':{'protocolVersion':'2025-11-25','capabilities':{},'serverInfo':i},"
    "'tools/list':{'tools':t}}.get(m['method'],{'content':[{'type':'text','text':' '.join(sorted(os.environ))}]});"
    "[print(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':r(m)}),flush=True)"
    " for m in map(json.loads,sys.stdin) if 'id' in m]"
)
OWNER = {"USER": "someone", "SECRET_OF_OURS": "x"}
TOKEN = "Bearer a-token-of-some-length"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path, patience=Patience(start=5), environment=OWNER) as lab:
        yield lab


@asynccontextmanager
async def elsewhere(port: int = 0) -> AsyncIterator[str]:
    """Somebody else's server: a real one, over Streamable HTTP."""
    mcp: FastMCP[None] = FastMCP("elsewhere")

    @mcp.tool
    def echo(text: str) -> str:
        """Say the same."""
        return text

    @mcp.tool
    def header() -> str:
        """Tell how the caller was let in."""
        return str(get_http_headers(include={"authorization"}).get("authorization", "not at all"))

    @mcp.tool
    def give(size: int) -> str:
        """Give much."""
        return "x" * size

    @mcp.tool
    async def hang() -> str:
        """Never answer."""
        await asyncio.get_running_loop().create_future()
        return "never"

    app = mcp.http_app(path="/mcp")
    async with app.lifespan(app), listening(app, port) as base_url:
        yield f"{base_url}/mcp"


async def test_a_command_is_started_with_the_owners_small_environment(lab: Lab) -> None:
    added = await lab.answer(
        "add_external_server",
        name="outside",
        command=sys.executable,
        args=["-c", LINE],
        env_vars={"MY_KEY": "secret!"},
    )
    assert (added["kind"], added["status"]) == ("external", "ready")
    names = (await lab.call("outside:env")).split()
    assert {"HOME", "USER", "MY_KEY", "DATA_DIR", "TMPDIR"} <= set(names)
    assert "SECRET_OF_OURS" not in names
    assert processes("outside")
    await lab.answer("remove_external_server", name="outside")
    assert not processes("outside")
    assert not await lab.app.credentials.everything()


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ("nothing-of-the-kind", [], "outside: there is no program 'nothing-of-the-kind' on this machine"),
        ("/nothing/of/the/kind", [], "outside: there is no program '/nothing/of/the/kind' on this machine"),
        (shutil.which("false") or "false", [], "outside: the server has ended without a word"),
        (sys.executable, ["-c", "print('hello')"], "outside: the server has ended without a word"),
        (
            sys.executable,
            ["-c", "import sys; sys.exit('no config')"],
            "outside: the server has ended: no config",
        ),
        (
            sys.executable,
            ["-c", "input(); print('{}'); input()"],
            "outside: it did not answer within 0.5 seconds",
        ),
    ],
)
async def test_a_command_that_does_not_serve_is_told(
    tmp_path: Path, command: str, args: list[str], words: str
) -> None:
    async with open_lab(tmp_path, patience=Patience(start=0.5)) as lab:
        await lab.answer("add_external_server", name="outside", command=command, args=args)
        server = await lab.app.servers.get("outside")
        with pytest.raises(ServerFailedError) as raised:
            await lab.app.pool.tools(server)
        assert str(raised.value).startswith(words)
        assert not processes("outside")


async def test_a_url_is_called_with_its_header_and_the_header_stays_secret(lab: Lab) -> None:
    async with elsewhere() as url:
        headers = {"Authorization": TOKEN}
        await lab.answer("add_external_server", name="remote", url=url, headers=headers)
        assert await lab.call("remote:echo", text="hello") == "hello"
        assert await lab.call("remote:header") == "[credential HEADER_AUTHORIZATION]"
        assert "at most 4,194,304 are passed on" in await lab.refusal(
            "invoke_internal_mcp_tool", tool="remote:give", payload={"size": 5_000_000}
        )
        assert await lab.call("remote:echo", text="still there") == "still there"
        await lab.answer("remove_external_server", name="remote")
    for path in (path for path in lab.home.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), path


async def test_a_url_without_the_credential_that_its_header_names_is_not_called(lab: Lab) -> None:
    async with elsewhere() as url:
        headers = {"Authorization": "Bearer ${MY_TOKEN}"}
        added = await lab.answer("add_external_server", name="remote", url=url, headers=headers)
        assert added["missing_credentials"] == ["MY_TOKEN"]
        assert await lab.refusal("invoke_internal_mcp_tool", tool="remote:echo", payload={"text": "x"}) == (
            "remote: it lacks MY_TOKEN; set_server_credential sets what a server needs"
        )
        await lab.answer("set_server_credential", server="remote", key="MY_TOKEN", value="a-token\n")
        assert await lab.call("remote:header") == "Bearer [credential MY_TOKEN]"


async def test_a_url_that_does_not_answer_is_given_up(lab: Lab) -> None:
    async with elsewhere() as url:
        await lab.answer("add_external_server", name="remote", url=url)
        server = await lab.app.servers.get("remote")
        with pytest.raises(ServerFailedError, match=r"remote did not answer hang within 0\.2 seconds"):
            await lab.app.pool.call(server, "hang", {}, seconds=0.2)
        assert await lab.call("remote:echo", text="again") == "again"


async def test_a_url_that_was_away_is_connected_to_again(lab: Lab) -> None:
    async with elsewhere() as url:
        port = int(url.split(":")[2].split("/")[0])
        await lab.answer("add_external_server", name="remote", url=url)
        assert await lab.call("remote:echo", text="hello") == "hello"
    sentence = await lab.refusal("invoke_internal_mcp_tool", tool="remote:echo", payload={"text": "x"})
    assert sentence.startswith("remote: ")
    async with elsewhere(port):
        assert await lab.call("remote:echo", text="back") == "back"


async def test_a_url_that_is_no_server_is_told(lab: Lab) -> None:
    async with elsewhere() as url:
        await lab.answer("add_external_server", name="remote", url=url.removesuffix("/mcp") + "/nothing")
        sentence = await lab.refusal("invoke_internal_mcp_tool", tool="remote:echo", payload={"text": "x"})
    assert "/nothing can't be used: " in sentence


async def test_a_connection_that_is_given_up_half_way_leaves_nothing(lab: Lab) -> None:
    writers: list[asyncio.StreamWriter] = []
    deaf = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    async with deaf:
        port = deaf.sockets[0].getsockname()[1]
        await lab.answer("add_external_server", name="remote", url=f"http://127.0.0.1:{port}/mcp")
        calling = asyncio.create_task(lab.call("remote:echo", text="x"))
        before = len(asyncio.all_tasks())
        await asyncio.sleep(0.3)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await comes(lambda: len(asyncio.all_tasks()) < before)
        for writer in writers:
            writer.close()
            await writer.wait_closed()
