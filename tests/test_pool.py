"""The pool: real processes under the guard, started when they are used, ended with all that came of them."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from claude_runner.config import Settings
from claude_runner.errors import RunnerError, ServerFailedError
from claude_runner.hub import Topic
from claude_runner.pool import Patience, Pool
from claude_runner.processes import confinement_problem
from tests.conftest import need
from tests.parts import hands_of, locked, logged, open_parts
from tests.tool_servers import QUICK, SDK, Lab, comes, open_lab, processes, put, temporary, workspaces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")

SHORT = Patience(start=15, call=0.5, idle=600)
SLOW = "import time\ntime.sleep(0.3)\n" + QUICK
# A daemon with a session of its own that is deaf to what it is asked, as a child of a child that has ended.
DAEMON = """
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            (DATA_DIR / "daemon").touch()
            while True:
                time.sleep(1)
        os._exit(0)
"""
FORKS = QUICK + DAEMON + "daemon()\n"
TOOLS = (
    QUICK
    + DAEMON
    + '''
@mcp.tool
def die(how):
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))

@mcp.tool
def give(size):
    return "x" * size

@mcp.tool
def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"in": value}
    return {"content": [], "structuredContent": value}

@mcp.tool
def odd(result):
    return result

@mcp.tool
def garbage():
    sys.stdout.buffer.write(b'\\xff\\xfe{]\\n[1]\\n"x"\\n{"id": true, "result": {}}\\n\\n')
    sys.stdout.buffer.write(b'{"jsonrpc": "2.0", "id": 99, "method": "sampling/createMessage"}\\n')
    return "after all"

@mcp.tool
def flood():
    while True:
        sys.stdout.buffer.write(b"x" * 1048576)

@mcp.tool
def learn(name):
    mcp.tools[name] = lambda: "learnt"
    mcp.say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    return "now I know"

@mcp.tool
def spawn():
    """Leave a daemon behind and never answer."""
    daemon()
    while True:
        time.sleep(1)
'''
)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as lab:
        yield lab


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab in which a call may take half a second."""
    async with open_lab(tmp_path, patience=SHORT) as lab:
        yield lab


async def failure(lab: Lab, tool: str, **payload: object) -> str:
    """The sentence with which a call fails."""
    server, name = tool.split(":")
    with pytest.raises(ServerFailedError) as raised:
        await lab.app.pool.call(await lab.app.servers.get(server), name, payload)
    return str(raised.value)


def held(lab: Lab, name: str = "quick") -> "asyncio.Task[str]":
    """A call that is going on until the test lets it end."""
    return asyncio.create_task(lab.call(f"{name}:hold"))


# Starting and sharing


async def test_a_server_is_started_when_it_is_first_used_and_shared_from_then_on(lab: Lab) -> None:
    await lab.put("quick")
    assert not processes("quick")
    first = await lab.call("quick:which")
    assert await asyncio.gather(*(lab.call("quick:which") for _ in range(5))) == [first] * 5
    assert "quick" in await lab.app.servers.known_tools(await lab.app.servers.list())


async def test_several_who_need_it_at_once_start_it_once(lab: Lab) -> None:
    await lab.put("quick", SLOW)
    assert len(set(await asyncio.gather(*(lab.call("quick:which") for _ in range(5))))) == 1


async def test_it_gets_a_small_environment_with_its_own_credentials_alone(tmp_path: Path) -> None:
    code = QUICK + "@mcp.tool\ndef names():\n    return ' '.join(sorted(os.environ))\n"
    variables = {"ANTHROPIC_API_KEY": "sk-ant", "LANG": "C.UTF-8", "HTTPS_PROXY": "http://p", "OTHER": "x"}
    async with open_lab(tmp_path, environment=variables) as lab:
        await lab.put("quick", code)
        await lab.put("other", env_vars=["OTHER_KEY"])
        await lab.set("quick", "API_KEY", "one of its own")
        await lab.set("other", "OTHER_KEY", "its neighbour's")
        names = set((await lab.call("quick:names")).split())
    # Bubblewrap sets PWD, and Python may set LC_CTYPE.
    assert {name for name in names if not name.startswith("FASTMCP_")} - {"PWD", "LC_CTYPE"} == {
        "API_KEY", "CLAUDE_RUNNER_SERVER", "DATA_DIR", "HOME", "HTTPS_PROXY", "LANG", "PATH", "TMPDIR",
    }  # fmt: skip


async def test_it_reads_the_certificates_it_is_told_to_trust_although_they_lie_in_a_home(
    tmp_path: Path,
) -> None:
    code = QUICK + "@mcp.tool\ndef trusted():\n    return open(os.environ['SSL_CERT_FILE']).read()\n"
    bundle = tmp_path / "owner" / "bundle.pem"
    bundle.parent.mkdir()
    bundle.write_text("a certificate")
    variables = {"HOME": str(bundle.parent), "SSL_CERT_FILE": str(bundle)}
    async with open_lab(tmp_path, environment=variables) as lab:
        await lab.put("quick", code)
        assert await lab.call("quick:trusted") == "a certificate"


async def test_nothing_is_left_of_servers_when_the_application_ends(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with open_lab(tmp_path) as lab:
        await lab.put("forks", FORKS)
        await lab.put("quick")
        await lab.put("slow", "import time\ntime.sleep(60)\n")
        await lab.call("forks:which")
        await comes(lambda: lab.data("forks", "daemon").exists())
        going_on = held(lab)
        await comes(lambda: lab.data("quick", "held").exists())
        starting = asyncio.create_task(lab.call("slow:echo"))
        await comes(lambda: len(processes("slow")) > 1)
        await lab.enable("quick", enabled=False)  # it goes on with the call, where nobody finds it
        began = loop.time()
    assert loop.time() - began < 20
    for call, words in ((going_on, "about to end"), (starting, "about to end")):
        with pytest.raises(ServerFailedError, match=words):
            await call
    with temporary(tmp_path / "temporary"):
        assert not [*processes("forks"), *processes("quick"), *processes("slow")]
        assert not workspaces()


@pytest.mark.parametrize("after", [0.0, 0.005, 0.02, 0.06, 0.15])
async def test_a_start_that_is_given_up_leaves_nothing(lab: Lab, after: float) -> None:
    server = await lab.put("slow", SLOW)
    starting = asyncio.create_task(lab.app.pool.tools(server))
    await asyncio.sleep(after)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await comes(lambda: not processes("slow") and not workspaces())
    assert await lab.call("slow:echo", text="again") == "again"


async def test_a_server_that_ends_or_waits_while_it_is_loaded_is_told_with_its_last_words(lab: Lab) -> None:
    await lab.put("raises", "import os\n\ndef f():\n    raise ValueError('no\\nway')\n\nf()\n")
    assert await failure(lab, "raises:x") == "raises: the server has ended: line 4: ValueError: no way"
    await lab.put("killed", "import os\nos.kill(os.getpid(), 9)\n")
    assert await failure(lab, "killed:x") == "killed: the server has ended (by SIGKILL) without a word"
    assert not workspaces()


async def test_why_a_server_did_not_start_is_known_until_it_is_changed(lab: Lab) -> None:
    server = await lab.put("broken", "raise ValueError('no luck')")
    assert lab.app.pool.trouble(server) is None
    with pytest.raises(ServerFailedError, match="no luck"):
        await lab.app.pool.tools(server)
    assert "no luck" in (lab.app.pool.trouble(server) or "")
    mended = await lab.put("broken")
    assert lab.app.pool.trouble(mended) is None
    await lab.set("broken", "API_KEY", "another")
    assert lab.app.pool.trouble(server) is None


async def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with open_lab(tmp_path, patience=Patience(start=0.5)) as lab:
        await lab.put("loops", "print('counting', flush=True)\nwhile True: pass\n")
        assert await failure(lab, "loops:x") == (
            "loops: it did not answer within 0.5 seconds: counting; does its code end in a loop, or wait for "
            "something, before the server runs?"
        )
        assert not processes("loops")
        assert not workspaces()


async def test_a_start_that_the_system_refuses_is_told(lab: Lab) -> None:
    server = await lab.put("quick")
    (server.folder or Path()).joinpath("data").touch()  # a file in the way
    with pytest.raises(RunnerError, match="can't be used"):
        await lab.app.pool.tools(server)
    assert not workspaces()


# Changes


async def test_a_changed_credential_is_there_at_the_next_call_and_a_call_going_on_ends_with_the_old(
    lab: Lab,
) -> None:
    await lab.put("quick", env_vars=[{"name": "API_KEY", "sensitive": False}])
    await lab.set("quick", "API_KEY", "old")
    going_on = held(lab)
    await comes(lambda: lab.data("quick", "held").exists())
    await lab.set("quick", "API_KEY", "new")
    assert await lab.call("quick:key") == "new"
    lab.data("quick", "go").touch()
    assert await going_on == "held old"
    await comes(lambda: len({it.info["environ"]["CLAUDE_RUNNER_SERVER"] for it in processes("quick")}) == 1)


async def test_a_credential_that_changes_while_the_server_starts_counts(lab: Lab) -> None:
    await lab.put("slow", SLOW, env_vars=[{"name": "API_KEY", "sensitive": False}])
    await lab.set("slow", "API_KEY", "old")
    starting = asyncio.create_task(lab.call("slow:key"))
    await comes(lambda: len(processes("slow")) > 1)
    await lab.set("slow", "API_KEY", "new")
    assert await starting == "new"


async def test_a_server_disabled_in_mid_call_ends_that_call_and_takes_no_other(lab: Lab) -> None:
    server = await lab.put("quick")
    going_on = held(lab)
    await comes(lambda: lab.data("quick", "held").exists())
    await lab.enable("quick", enabled=False)
    assert await failure(lab, "quick:echo", text="x") == "quick is disabled"
    with pytest.raises(ServerFailedError, match="quick is disabled"):
        await lab.app.pool.tools(server)  # whoever knew it as enabled
    lab.data("quick", "go").touch()
    assert await going_on == "held "
    await comes(lambda: not processes("quick"))


async def test_a_server_that_is_removed_ends_at_once_with_its_log(lab: Lab) -> None:
    server = await lab.put("quick", QUICK + "print('hello', file=sys.stderr, flush=True)\n")
    going_on = held(lab)
    await comes(lambda: lab.data("quick", "held").exists())
    await comes(lambda: list((lab.app.settings.state / "servers").iterdir()))
    await lab.app.workshop.remove("quick")
    assert not processes("quick")
    with pytest.raises(ServerFailedError, match="quick: it was removed"):
        await going_on
    with pytest.raises(ServerFailedError, match="quick is no more: it was removed"):
        await lab.app.pool.tools(server)
    assert not list((lab.app.settings.state / "servers").iterdir())
    assert not lab.half_made()


async def test_code_changed_by_hand_is_started_at_the_next_call(lab: Lab) -> None:
    await lab.put("quick")
    assert await lab.call("quick:echo", text="x") == "x"
    await lab.put("quick", QUICK.replace("return text", "return text + ', changed'"))
    assert await lab.call("quick:echo", text="x") == "x, changed"
    await comes(lambda: len({it.info["environ"]["CLAUDE_RUNNER_SERVER"] for it in processes("quick")}) == 1)


async def test_who_knows_an_earlier_version_shares_the_one_that_is_up(lab: Lab) -> None:
    earlier = await lab.put("quick")
    await lab.put("quick", QUICK + "# changed\n")
    up = await lab.call("quick:which")
    result = await lab.app.pool.call(earlier, "which", {})
    assert result["content"][0]["text"] == up
    assert await lab.call("quick:which") == up


async def test_a_folder_that_was_deleted_by_hand_is_told(lab: Lab) -> None:
    server = await lab.put("quick")
    await lab.enable("quick")
    assert await lab.call("quick:echo", text="x") == "x"
    shutil.rmtree(server.folder or Path())
    with pytest.raises(ServerFailedError, match="quick can't be started: its folder in dynamic_servers"):
        await lab.call("quick:echo", text="x")
    await comes(lambda: not processes("quick"))


async def test_tools_that_come_while_it_is_up_can_be_called(lab: Lab) -> None:
    await lab.put("quick", TOOLS)
    sentence = (
        "quick: it has no tool 'sing'; it has echo, which, key, hold, die, give, nested, odd, garbage, "
    )
    assert await failure(lab, "quick:sing") == sentence + "flood, learn, spawn"
    assert await lab.call("quick:learn", name="sing") == "now I know"
    assert await lab.call("quick:sing") == "learnt"


# Idle


async def test_a_server_that_nobody_uses_is_closed_and_started_anew_when_it_is_needed(lab: Lab) -> None:
    await lab.put("quick")
    first = await lab.call("quick:which")
    lab.clock.move(599)
    assert await lab.call("quick:which") == first
    lab.clock.move(599)
    await asyncio.sleep(0)
    assert processes("quick")
    lab.clock.move(16)
    await comes(lambda: not processes("quick") and not workspaces())
    assert await lab.call("quick:which") != first


async def test_a_server_that_is_used_is_not_idle(lab: Lab) -> None:
    await lab.put("quick")
    going_on = held(lab)
    await comes(lambda: lab.data("quick", "held").exists())
    lab.clock.move(10_000)
    await asyncio.sleep(0.05)
    lab.data("quick", "go").touch()
    assert await going_on == "held "


@pytest.mark.parametrize("who", ["guard", "server"])
async def test_a_server_that_is_killed_while_it_is_idle_is_started_anew(lab: Lab, who: str) -> None:
    server = await lab.put("forks", FORKS)
    first = await lab.call("forks:which")
    await comes(lambda: lab.data("forks", "daemon").exists())
    family = sorted(processes("forks"), key=lambda process: process.pid)
    # The guard is first; the server and its daemon are Python too.
    pythons = [process for process in family if "_host.py" in " ".join(process.cmdline())]
    (family[0] if who == "guard" else pythons[-2]).kill()
    await comes(lambda: not processes("forks") and not lab.app.pool.is_up(server))
    assert await lab.call("forks:which") != first


# Calls that go wrong


@pytest.mark.parametrize("tool", ["hold", "spawn"])
async def test_a_tool_that_blocks_is_given_up_with_all_that_it_started(hasty: Lab, tool: str) -> None:
    await hasty.put("quick", TOOLS)
    assert await failure(hasty, f"quick:{tool}") == (
        f"quick did not answer {tool} within 0.5 seconds and was ended; the next call starts it anew"
    )
    await comes(lambda: not processes("quick") and not workspaces())
    assert await hasty.call("quick:echo", text="up again") == "up again"


@pytest.mark.parametrize(
    "wait", ["async def wait() -> str:\n    await asyncio", "def wait() -> str:\n    time"]
)
async def test_a_tool_of_the_library_that_blocks_is_given_up(hasty: Lab, wait: str) -> None:
    await hasty.put("sdk", f"{SDK}\nimport asyncio, time\n\n@mcp.tool()\n{wait}.sleep(3600)\n")
    assert (await failure(hasty, "sdk:wait")).startswith(
        "sdk did not answer wait within 0.5 seconds and was ended"
    )
    await comes(lambda: not processes("sdk") and not workspaces())
    assert await hasty.call("sdk:echo", text="up again") == "up again"


async def test_other_calls_are_told_that_the_server_was_ended_for_one_that_took_too_long(lab: Lab) -> None:
    server = await lab.put("quick")
    going_on = held(lab)
    await comes(lambda: lab.data("quick", "held").exists())
    with pytest.raises(ServerFailedError, match="did not answer hold within"):
        await lab.app.pool.call(server, "hold", {}, seconds=0.05)
    with pytest.raises(
        ServerFailedError, match="quick: it was ended, since another call of it took too long"
    ):
        await going_on


async def test_a_call_that_is_cancelled_ends_its_server_once_the_others_are_done(lab: Lab) -> None:
    await lab.put("quick")
    first, other = await lab.call("quick:which"), held(lab)
    await comes(lambda: lab.data("quick", "held").exists())
    cancelled = held(lab)
    await asyncio.sleep(0.05)
    cancelled.cancel()
    assert await lab.call("quick:which") != first
    lab.data("quick", "go").touch()
    assert await other == "held "
    await comes(lambda: len({it.info["environ"]["CLAUDE_RUNNER_SERVER"] for it in processes("quick")}) == 1)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("exit", "quick: the server has ended (exit code 3) without a word"),
        ("SIGKILL", "quick: the server has ended (by SIGKILL) without a word"),
    ],
)
async def test_a_server_that_dies_in_a_call_is_told_and_started_anew(
    lab: Lab, how: str, sentence: str
) -> None:
    await lab.put("quick", TOOLS)
    assert await failure(lab, "quick:die", how=how) == sentence
    assert await lab.call("quick:echo", text="up again") == "up again"


async def test_an_answer_that_is_too_large_is_refused_and_the_server_goes_on(lab: Lab) -> None:
    await lab.put("quick", TOOLS)
    first = await lab.call("quick:which")
    sentence = await failure(lab, "quick:give", size=20 * 2**20)
    assert sentence.startswith("quick: the answer has 20,971,")
    assert sentence.endswith(" bytes; at most 4,194,304 are passed on: ask for less")
    assert len(await lab.call("quick:give", size=4 * 2**20 - 1000)) == 4 * 2**20 - 1000
    assert await lab.call("quick:which") == first


async def test_a_server_that_never_ends_a_line_is_ended(lab: Lab) -> None:
    await lab.put("quick", TOOLS)
    assert await failure(lab, "quick:flood") == "quick: it said more than 64 MiB at once"
    await comes(lambda: not processes("quick"))


async def test_what_is_no_answer_is_passed_over(lab: Lab) -> None:
    await lab.put("quick", TOOLS)
    assert await lab.call("quick:garbage") == "after all"


@pytest.mark.parametrize(
    "result", [{"content": 5}, {"content": [5]}, {"content": [{}]}, {"content": [], "structuredContent": []}]
)
async def test_an_answer_in_no_known_form_is_refused(lab: Lab, result: dict[str, object]) -> None:
    await lab.put("quick", TOOLS)
    assert await failure(lab, "quick:odd", result=result) == (
        "quick: its answer can't be read: it is no result of a tool"
    )


async def test_an_answer_that_is_nested_too_deeply_is_refused(lab: Lab) -> None:
    await lab.put("quick", TOOLS)
    await lab.set("quick", "API_KEY", "a secret of some length")
    assert await failure(lab, "quick:nested", depth=700) == (
        "quick: its answer can't be read: it is nested too deeply"
    )


@pytest.mark.parametrize(
    ("tools", "sentence"),
    [
        ("5", "tools: Input should be a valid list"),
        ("[{'name': 'x'}]", "tools.0.inputSchema: Field required"),
        ("[{'name': 5, 'inputSchema': {}}]", "tools.0.name: Input should be a valid string"),
        ("[{'name': 'x', 'inputSchema': {'type': 'array'}}]", "the arguments of 'x' are no object"),
    ],
)
async def test_a_list_of_tools_in_no_known_form_is_refused(lab: Lab, tools: str, sentence: str) -> None:
    await lab.put("quick", QUICK + f"mcp.list = lambda: {{'tools': {tools}}}\n")
    assert await failure(lab, "quick:x") == f"quick: its list of tools can't be read: {sentence}"


async def test_a_list_of_tools_comes_in_pages_up_to_a_limit(lab: Lab) -> None:
    pages = "page = [{'name': f't{n}', 'inputSchema': {}} for n in range(300)]\n"
    pages += "mcp.list = lambda: {'tools': page, 'nextCursor': 'more'}\n"
    await lab.put("quick", QUICK + pages)
    assert await failure(lab, "quick:x") == "quick: it lists more than 500 tools"


# What is kept of it


async def test_what_it_says_on_standard_error_is_kept_up_to_a_limit(lab: Lab) -> None:
    code = QUICK + "for n in range(60000):\n    print(f'line {n} ' + 'x' * 80, file=sys.stderr)\n"
    await lab.put("quick", code)
    assert await lab.call("quick:echo", text="x") == "x"
    await comes(lambda: _has_line(lab, "line 59999 "))
    lines = await lab.app.pool.said("quick", 3)
    assert [line.split(" x")[0] for line in lines] == ["line 59997", "line 59998", "line 59999"]
    files = list((lab.app.settings.state / "servers").iterdir())
    assert sorted(path.name for path in files) == ["quick.log", "quick.log.1"]
    assert sum(path.stat().st_size for path in files) < 800_000
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def _has_line(lab: Lab, beginning: str) -> bool:
    path = lab.app.settings.state / "servers" / "quick.log"
    return path.exists() and beginning in path.read_text()


async def test_of_a_line_without_an_end_the_beginning_is_kept(lab: Lab) -> None:
    code = QUICK + "sys.stderr.write('begins ' + 'é' * 5_000_000)\nsys.stderr.flush()\n"
    await lab.put("quick", code + "os._exit(0)\n")
    assert (await failure(lab, "quick:x")).startswith("quick: the server has ended: ")
    [line] = await lab.app.pool.said("quick", 10)
    assert line == "begins " + "é" * 1993


async def test_a_log_that_cannot_be_written_does_not_hold_the_server_up(lab: Lab) -> None:
    (lab.app.settings.state / "servers").touch()  # a file in the way
    await lab.put("quick", QUICK + "print('x' * 300_000, file=sys.stderr)\n")
    with logged() as log:
        assert await lab.call("quick:echo", text="x") == "x"
        assert "can't be used" in await log.line("what a tool server says is lost")


async def test_a_database_that_is_locked_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, environment={"PATH": os.environ["PATH"]})
    async with open_parts(settings.database_path) as parts:
        reach, _ = await hands_of(parts, settings, None)
        put(settings, "quick")
        server = await reach.servers.get("quick")
        with locked(settings.database_path):
            result = await cast("Pool", reach.pool).call(server, "echo", {"text": "x"})
    assert result["content"] == [{"type": "text", "text": "x"}]


# Runs of their own


async def test_a_server_that_is_kept_for_each_run_has_a_process_for_each_and_ends_with_it(lab: Lab) -> None:
    server = await lab.put("quick", per_run=True)

    async def which(run_id: str) -> str:
        result = await lab.app.pool.call(server, "which", {}, run_id=run_id)
        return str(result["content"][0]["text"])

    one, other = await which("one"), await which("other")
    assert one != other
    assert await which("one") == one
    await lab.app.pool.end_of_run("one")
    assert {it.info["environ"]["CLAUDE_RUNNER_SERVER"] for it in processes("quick")} == {other}
    assert await which("other") == other


async def test_a_change_that_was_missed_retires_every_server(lab: Lab) -> None:
    await lab.put("quick")
    first = await lab.call("quick:which")
    lab.app.hub.publish(Topic.CREDENTIALS, "")
    assert await lab.call("quick:which") != first


# The death of ours


async def test_no_server_outlives_this_program(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from tests.test_pool import FORKS
from tests.tool_servers import open_lab

async def main():
    async with open_lab(Path({str(tmp_path)!r})) as lab:
        await lab.put("orphan", FORKS)
        await lab.call("orphan:which")
        print("up", flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""
    root = Path(__file__).parent.parent
    ours = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=root, stdout=asyncio.subprocess.PIPE
    )
    assert ours.stdout is not None
    try:
        assert await asyncio.wait_for(ours.stdout.readline(), 20) == b"up\n"
        await comes((tmp_path / "home/dynamic_servers/orphan/data/daemon").exists)
        assert len(processes("orphan")) >= 3
    finally:
        ours.send_signal(signal.SIGKILL)
        await ours.wait()
    await comes(lambda: not processes("orphan"), 5)


# What it sees of the machine


@pytest.fixture
def confined() -> None:
    if problem := confinement_problem():
        need(problem)


SPY = (
    QUICK
    + """
@mcp.tool
def read(path):
    return open(path, "rb").read().decode("latin-1")

@mcp.tool
def write(path):
    open(path, "w").write("x")
    return "written"

@mcp.tool
def look(path):
    return " ".join(sorted(os.listdir(path)))

@mcp.tool
def environments():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append(open(f"/proc/{pid}/environ").read())
        except OSError:
            pass
    return "\\n".join(found)
"""
)


@pytest.mark.usefixtures("confined")
async def test_a_server_reads_nothing_of_its_neighbours_of_ours_or_of_the_owners(lab: Lab) -> None:
    await lab.put("spy", SPY)
    await lab.put("other", "SECRET = 'in the code'\n" + QUICK)
    await lab.set("other", "API_KEY", "the neighbour's own")
    await lab.call("other:echo", text="up")
    lab.data("other", "notes").write_text("the neighbour's")
    owner = Path(lab.app.settings.environment["HOME"])
    (owner / "diary").write_text("the owner's")
    assert (lab.app.settings.state / "credentials.key").exists()
    hidden = [
        lab.app.settings.database_path,
        lab.app.settings.state / "credentials.key",
        lab.home / "dynamic_servers/other/server.py",
        lab.data("other", "notes"),
        owner / "diary",
        Path(__file__).parent.parent / "server.py",
        Path(f"/proc/{os.getpid()}/environ"),
    ]
    for path in hidden:
        result = await lab.app.invocations.invoke("spy:read", {"path": str(path)}, 20)
        assert result.is_error, path
    seen = await lab.call("spy:environments")
    assert "DATA_DIR" in seen
    assert "the neighbour's own" not in seen
    assert "PYTEST_CURRENT_TEST" not in seen
    assert await lab.call("spy:look", path=str(lab.home / "dynamic_servers")) == "spy"


@pytest.mark.usefixtures("confined")
async def test_a_server_writes_to_its_own_folder_and_its_temporary_one_alone(lab: Lab) -> None:
    server = await lab.put("spy", SPY)
    assert await lab.call("spy:write", path=str(lab.data("spy", "mine"))) == "written"
    [workspace] = workspaces()
    assert await lab.call("spy:write", path=str(workspace / "mine")) == "written"
    assert (workspace / "mine").exists()
    for path in (server.code_path, Path(sys.prefix, "x"), Path("/usr/x"), Path("/etc/x")):
        result = await lab.app.invocations.invoke("spy:write", {"path": str(path)}, 20)
        assert result.is_error, path
