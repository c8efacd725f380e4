"""The program that runs a server's file: what the code prints, ends with or leaves out, it serves or says why not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.errors import ServerFailedError
from tests.tool_servers import QUICK, SDK, Lab, comes, open_lab, processes

FASTMCP = '''
import os
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

mcp = FastMCP("real")

@mcp.tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()

@mcp.tool
def fail() -> str:
    raise ToolError("it can't be done")

@mcp.tool
def break_() -> str:
    raise ValueError("a mistake")
'''


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as lab:
        yield lab


async def words(lab: Lab, code: str) -> str:
    """Why a server with this code does not start."""
    with pytest.raises(ServerFailedError) as raised:
        await lab.app.pool.tools(await lab.put("quick", code))
    return str(raised.value).removeprefix("quick: the server has ended: ")


async def closed(lab: Lab) -> list[str]:
    """What the server has said once it was closed for want of use."""
    lab.clock.move(700)
    await comes(lambda: not processes("quick"))
    return await lab.app.pool.said("quick", 100)


async def test_a_server_of_fastmcp_is_served(lab: Lab) -> None:
    await lab.put("real", FASTMCP)
    assert await lab.call("real:shout", text="hello") == "HELLO"
    for tool, sentence in (("fail", "it can't be done"), ("break_", "a mistake")):
        outcome = await lab.app.invocations.invoke(f"real:{tool}", {}, 20)
        assert outcome.is_error
        assert sentence in outcome.content[0]["text"]
    known = await lab.app.servers.known_tools(await lab.app.servers.list())
    tools = {tool.name: tool for tool in known["real"]}
    assert tools["shout"].description == "Say it louder."
    assert tools["shout"].input_schema["required"] == ["text"]
    assert not any("Starting MCP server" in line for line in await lab.app.pool.said("real", 100))


@pytest.mark.parametrize("end", ["", "mcp.run()", "if __name__ == '__main__':\n    mcp.run()"])
async def test_it_is_served_whether_the_code_runs_it_or_not(lab: Lab, end: str) -> None:
    await lab.put("quick", f"{QUICK}\n{end}\n")
    assert await lab.call("quick:echo", text="hello") == "hello"
    assert await closed(lab) == []


async def test_a_server_of_the_sdk_is_served(lab: Lab) -> None:
    await lab.put("sdk", SDK)
    assert await lab.call("sdk:echo", text="hello") == "hello"


@pytest.mark.parametrize(
    "printing",
    [
        'print(\'{"jsonrpc": "2.0"}\')',
        "os.write(1, b'straight to the descriptor\\n')",
        "print('by its other name', file=sys.__stdout__, flush=True)",
        "subprocess.run(['echo', 'from a program'])",
        "os.system('echo from a shell')",
        "for _ in range(50_000): print('x' * 100)",
    ],
)
async def test_what_it_prints_is_no_part_of_the_conversation(lab: Lab, printing: str) -> None:
    await lab.put("quick", f"{QUICK}\n{printing}\n@mcp.tool\ndef say():\n    {printing}\n    return 'said'\n")
    assert await lab.call("quick:echo", text="hello") == "hello"
    assert await lab.call("quick:say") == "said"
    await comes((lab.app.settings.state / "servers/quick.log").exists)


async def test_what_it_reads_from_standard_input_is_empty(lab: Lab) -> None:
    await lab.put("quick", QUICK + "WAS = sys.stdin.read()\n@mcp.tool\ndef was():\n    return repr(WAS)\n")
    assert await lab.call("quick:was") == "''"


async def test_it_finds_its_folder_for_files_in_two_places(lab: Lab) -> None:
    code = (
        QUICK + "@mcp.tool\ndef where():\n    return f'{DATA_DIR} {os.environ[\"DATA_DIR\"]} {os.getcwd()}'\n"
    )
    await lab.put("quick", code)
    assert await lab.call("quick:where") == " ".join([str(lab.data("quick"))] * 3)


async def test_it_may_be_in_several_files_and_start_processes_of_its_own(lab: Lab) -> None:
    await lab.put("quick", QUICK + "import beside\n@mcp.tool\ndef value():\n    return beside.VALUE\n")
    (lab.home / "dynamic_servers/quick/beside.py").write_text("VALUE = 'from beside'\n")
    assert await lab.call("quick:value") == "from beside"


async def test_of_several_servers_the_one_named_mcp_is_served(lab: Lab) -> None:
    code = QUICK + "another = MCPServer()\n"
    await lab.put("quick", code.replace("mcp = MCPServer()", "other = MCPServer()\nmcp = MCPServer()"))
    assert await lab.call("quick:echo", text="hello") == "hello"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("x = 1\n", "the code makes no server; make one at the top level of the file"),
        ("import sys\n\nsys.exit(3)\n", "line 3: the code ends the program (sys.exit) in place of serving"),
        ("def f():\n    exit()\n\nf()\n", "line 2: the code ends the program"),
        (
            "import nothing_of_the_kind\n",
            "line 1: ModuleNotFoundError: No module named 'nothing_of_the_kind'",
        ),
        ("x = 1\nraise KeyboardInterrupt\n", "line 2: KeyboardInterrupt"),
        ("def f(): f()\nf()\n", "line 1: RecursionError"),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError"),
    ],
)
async def test_what_cannot_be_served_is_told_with_its_line(lab: Lab, code: str, sentence: str) -> None:
    assert (await words(lab, code)).startswith(sentence)


async def test_a_syntax_error_in_a_file_put_there_by_hand_is_told_with_its_line(lab: Lab) -> None:
    with pytest.raises(ServerFailedError, match=r"quick can't be started: server\.py, line 2: "):
        await lab.app.pool.tools(await lab.put("quick", "x = 1\ndef (:\n"))


async def test_a_code_that_ends_the_program_once_it_has_served_says_nothing(lab: Lab) -> None:
    await lab.put("quick", QUICK + "sys.exit(mcp.run())\n")
    assert await lab.call("quick:echo", text="hello") == "hello"
    assert await closed(lab) == []


async def test_a_server_that_fails_while_it_serves_is_told_with_its_line(lab: Lab) -> None:
    loop = "        for line in sys.stdin.buffer:"
    code = QUICK.replace(loop, f"{loop}\n            1 / 0")
    line = code.split("\n").index("            1 / 0") + 1
    assert await words(lab, code) == f"line {line}: ZeroDivisionError: division by zero"
