"""Making, changing and removing servers through the tools: what does not start is not kept, and nothing is lost."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.jobs import JobDraft
from claude_runner.pool import Patience
from tests.support import text
from tests.tool_servers import QUICK, SDK, Lab, comes, open_lab, processes, workspaces

NAMES = {
    "../x": "it has '..' in it",
    "a/b": "it has a '/' in it",
    "/etc/passwd": "it has a '/' in it",
    "a\0b": "it has a NUL character",
    "a" * 300: "it has 300 characters",
    "": "it is empty",
    "Weather": "a name is 1 to 40 small letters",
    "a__b": "'__' stands between server and tool",
    "runner": "it is reserved",
    ".": "a name is 1 to 40",
    "..": "it has '..' in it",
    "wétter": "a name is 1 to 40",
    "x\n": "a name is 1 to 40",
}
DOORS = {
    "create_mcp_server": ("name", {"code": QUICK}),
    "get_dynamic_mcp_server": ("name", {}),
    "update_mcp_server": ("name", {"code": QUICK}),
    "delete_mcp_server": ("name", {}),
    "enable_mcp_server": ("name", {}),
    "disable_mcp_server": ("name", {}),
    "enable_fixed_server": ("name", {}),
    "disable_fixed_server": ("name", {}),
    "add_external_server": ("name", {"command": "true"}),
    "remove_external_server": ("name", {}),
    "get_mcp_server_log": ("name", {}),
    "set_server_credential": ("server", {"key": "API_KEY", "value": "x"}),
    "get_server_credentials": ("server", {}),
    "list_required_credentials": ("server", {}),
    "delete_server_credential": ("server", {"key": "API_KEY"}),
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as lab:
        yield lab


@pytest.fixture(scope="module")
async def lasting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A lab in which nothing is kept."""
    async with open_lab(tmp_path_factory.mktemp("lasting"), patience=Patience(start=1.5)) as lab:
        yield lab


def files(lab: Lab) -> list[str]:
    """Every file under the home, to tell what is left."""
    return sorted(
        str(path.relative_to(lab.home))
        for path in lab.home.rglob("*")
        if path.is_file() and not path.name.startswith("jobs.db") and "locks" not in path.parts
    )


# Names


@pytest.mark.parametrize("tool", DOORS)
async def test_a_name_that_no_server_can_have_is_refused_on_every_door(lasting: Lab, tool: str) -> None:
    field, others = DOORS[tool]
    before = files(lasting)
    for name, fault in NAMES.items():
        sentence = await lasting.refusal(tool, **{field: name}, **others)
        assert fault in sentence, name
        assert len(sentence) < 300
    assert files(lasting) == before


async def test_a_tool_of_a_server_that_cannot_be_is_refused(lasting: Lab) -> None:
    for tool in (
        "mcp__../x__y",
        "../x:y",
        "a/b.c",
        "mcp__runner",
        "Read",
        "x\0:y",
        "a" * 400,
        "",
        "mcp__a__*",
    ):
        assert "is not the name of a server's tool" in await lasting.refusal(
            "invoke_internal_mcp_tool", tool=tool
        )
    assert "for runs" in await lasting.refusal("invoke_internal_mcp_tool", tool="runner:remember")


async def test_a_name_that_is_taken_is_refused(lab: Lab) -> None:
    await lab.put("quick")
    await lab.answer("add_external_server", name="outside", command="true")
    for name, kind in (
        ("quick", "dynamic"),
        ("email", "fixed"),
        ("cat-facts", "dynamic"),
        ("outside", "external"),
    ):
        for tool in ("create_mcp_server", "add_external_server"):
            sentence = await lab.refusal(tool, name=name, **DOORS[tool][1])
            assert f"there is already a server '{name}' ({kind})" in sentence


async def test_tools_of_one_kind_of_server_refuse_the_others(lab: Lab) -> None:
    await lab.answer("add_external_server", name="outside", command="true")
    for tool, others in (
        ("get_dynamic_mcp_server", {}),
        ("update_mcp_server", {"code": QUICK}),
        ("update_mcp_server", {"version": 1}),
        ("delete_mcp_server", {}),
    ):
        assert "email is one of the fixed servers" in await lab.refusal(tool, name="email", **others)
        assert "outside is one of the external servers" in await lab.refusal(tool, name="outside", **others)
    assert "use enable_fixed_server" in await lab.refusal("enable_mcp_server", name="email")
    assert "use disable_mcp_server" in await lab.refusal("disable_fixed_server", name="outside")
    assert "cat-facts is one of the dynamic servers" in await lab.refusal(
        "remove_external_server", name="cat-facts"
    )
    assert not processes("email")


# Making


async def test_a_server_made_of_code_is_ready_with_its_tools_and_tells_what_it_lacks(lab: Lab) -> None:
    code = QUICK + "KEY = os.environ.get('API_KEY')\n"
    made = await lab.answer("create_mcp_server", name="quick", code=code, description="Quick")
    assert (made["enabled"], made["status"], made["missing_credentials"]) == (
        True,
        "needs configuration",
        ["API_KEY"],
    )
    assert made["tools"][0]["name"] == "mcp__quick__echo"
    assert "set_server_credential('quick', 'API_KEY', …)" in made["next_step"]
    assert not processes("quick")
    assert not lab.half_made()
    await lab.answer("set_server_credential", server="quick", key="API_KEY", value="a key of some length")
    shown = await lab.answer("get_dynamic_mcp_server", name="quick")
    assert (shown["status"], shown["code"]) == ("ready", code)
    listed = await lab.answer("list_dynamic_mcp_servers")
    [summary] = [server for server in listed["servers"] if server["name"] == "quick"]
    assert (summary["status"], summary["tools"][0]) == ("ready", "mcp__quick__echo")


async def test_a_server_of_the_sdk_can_be_made_and_used_at_once(lab: Lab) -> None:
    made = await lab.answer("create_mcp_server", name="sdk", code=SDK)
    assert made["next_step"].startswith("It is ready: name mcp__sdk__echo in a job's tools")
    [tool] = made["tools"]
    assert tool["input_schema"]["properties"]["text"]["type"] == "string"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("x = (\n", "line 1: '(' was never closed"),
        (
            "import os\n\n1 / 0\n",
            "nothing was kept, since the code does not run: bad: the server has ended: line 3",
        ),
        ("import sys\nsys.exit()\n", "line 2: the code ends the program (sys.exit)"),
        ("x = 1\n", "the code makes no server"),
        (
            QUICK.replace("@mcp.tool", ""),
            "nothing was kept, since the server has no tools; mark its functions with",
        ),
        ("while True: pass\n", "it did not answer within 1.5 seconds; does its code end in a loop"),
        ("import os\nos.fork()\nwhile True: pass\n", "it did not answer within 1.5 seconds"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "the server has ended (by SIGKILL)"),
        (
            "print('x' * 5_000_000)\nraise ValueError('after all that')\n",
            "line 2: ValueError: after all that",
        ),
        ("import sys\nsys.stderr.write('y' * 5_000_000)\nsys.exit(1)\n", "line 3: the code ends the program"),
        ("input()\n", "line 1: EOFError"),
        ("x = '" + "x" * 600_000 + "'\n", "the code has 600,"),
        ("a\0b", "line 1: there is a NUL character"),
        ("raise ValueError('\\ud800')\n", "line 1: ValueError: "),
        ("# /// script\n# dependencies = ['nothing-of-the-kind']\n# ///\nx = 1\n", "none may be installed"),
        ("# /// script\n# requires-python = '<3'\n# ///\nx = 1\n", "bad declares Python <3"),
    ],
)
async def test_code_that_does_not_serve_is_refused_and_nothing_is_left(
    lasting: Lab, code: str, sentence: str
) -> None:
    before = [path for path in files(lasting) if not path.endswith((".log", ".log.1"))]
    assert sentence in await lasting.refusal("create_mcp_server", name="bad", code=code)
    assert not processes("bad")
    assert not workspaces()
    assert [path for path in files(lasting) if not path.endswith((".log", ".log.1"))] == before
    assert "there is no server 'bad'" in await lasting.refusal("get_dynamic_mcp_server", name="bad")


async def test_a_client_that_leaves_while_a_server_is_made_leaves_nothing(lab: Lab) -> None:
    making = asyncio.create_task(lab.app.workshop.create("slow", "import time\ntime.sleep(20)\n", ""))
    await comes(lambda: len(processes("slow")) > 1)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    await comes(lambda: not processes("slow") and not lab.half_made())
    assert (await lab.app.servers.find("slow")) is None
    await lab.answer("create_mcp_server", name="slow", code=QUICK)


async def test_of_two_who_make_the_same_server_at_once_one_is_refused(lab: Lab) -> None:
    arguments = {"name": "quick", "code": QUICK}
    client = await lab.client()
    calls = [client.call_tool("create_mcp_server", arguments, raise_on_error=False) for _ in range(2)]
    results = await asyncio.gather(*calls)
    assert sorted(result.is_error for result in results) == [False, True]
    [refused] = [result for result in results if result.is_error]
    assert "is being changed by another call right now" in text(refused)


# Changing


async def test_new_code_takes_over_and_the_earlier_can_be_had_back(lab: Lab) -> None:
    await lab.answer("create_mcp_server", name="quick", code=QUICK)
    assert await lab.call("quick:echo", text="x") == "x"
    changed = QUICK.replace("return text", "return text * 2")
    assert (await lab.answer("update_mcp_server", name="quick", code=changed))["version"] == 2
    assert await lab.call("quick:echo", text="x") == "xx"
    assert (await lab.answer("update_mcp_server", name="quick", version=1))["version"] == 3
    assert await lab.call("quick:echo", text="x") == "x"
    assert (await lab.answer("get_dynamic_mcp_server", name="quick", version=2))["code"] == changed
    await comes(lambda: len({it.info["environ"]["CLAUDE_RUNNER_SERVER"] for it in processes("quick")}) == 1)


async def test_a_broken_change_leaves_the_server_as_it_was_and_up(lab: Lab) -> None:
    await lab.answer("create_mcp_server", name="quick", code=QUICK)
    first, before = await lab.call("quick:which"), files(lab)
    for code in ("raise ValueError('no')\n", "x = (\n", "x = 1\n"):
        await lab.refusal("update_mcp_server", name="quick", code=code)
    assert await lab.call("quick:which") == first
    assert [path for path in files(lab) if not path.endswith(".log")] == before
    assert not lab.half_made() or [path.name for path in lab.half_made()] == [workspaces()[0].name]


async def test_of_two_updates_at_once_one_is_refused_and_the_other_is_whole(lab: Lab) -> None:
    await lab.answer("create_mcp_server", name="quick", code=QUICK)
    client = await lab.client()
    codes = [QUICK.replace("return text", f"return text * {n}") for n in (2, 3)]
    calls = [
        client.call_tool("update_mcp_server", {"name": "quick", "code": code}, raise_on_error=False)
        for code in codes
    ]
    results = await asyncio.gather(*calls)
    assert sorted(result.is_error for result in results) == [False, True]
    assert (await lab.answer("get_dynamic_mcp_server", name="quick"))["code"] in codes
    assert len((await lab.answer("get_dynamic_mcp_server", name="quick"))["versions"]) == 2


async def test_an_update_needs_something_to_change(lab: Lab) -> None:
    await lab.answer("create_mcp_server", name="quick", code=QUICK)
    assert "there is nothing to change" in await lab.refusal("update_mcp_server", name="quick")
    both = {"code": QUICK, "version": 1}
    assert "give code or version, not both" in await lab.refusal("update_mcp_server", name="quick", **both)
    assert "quick has no version 9; it has 1" in await lab.refusal(
        "update_mcp_server", name="quick", version=9
    )


async def test_a_folder_deleted_by_hand_can_be_made_anew_or_tidied_up(lab: Lab) -> None:
    for name in ("one", "other"):
        await lab.answer("create_mcp_server", name=name, code=QUICK)
        await lab.call(f"{name}:echo", text="x")
        shutil.rmtree(lab.home / "dynamic_servers" / name)
        listed = await lab.answer("list_dynamic_mcp_servers")
        [summary] = [server for server in listed["servers"] if server["name"] == name]
        assert summary["status"] == "broken"
        assert "was removed by hand" in await lab.refusal("invoke_internal_mcp_tool", tool=f"{name}:echo")
        assert "has gone; create the server anew" in await lab.refusal(
            "update_mcp_server", name=name, code=QUICK
        )
    await lab.answer("create_mcp_server", name="one", code=QUICK)
    assert await lab.call("one:echo", text="x") == "x"
    await lab.answer("delete_mcp_server", name="other")
    assert "there is no server 'other'" in await lab.refusal("enable_mcp_server", name="other")
    await comes(lambda: not processes("other"))


# Looking


async def test_who_looks_at_a_job_starts_none_of_its_servers(lab: Lab) -> None:
    await lab.put("quick")
    draft = JobDraft("brief", "0 9 * * *", "Say it.", "UTC", tools=("mcp__quick__echo",))
    job = await lab.app.jobs.add(draft, lab.clock.now())
    assert (await lab.answer("get_job", job_id=job.id))["tools"] == ["mcp__quick__echo"]
    assert not processes("quick")


# Removing


async def test_a_server_that_is_deleted_is_gone_with_all_it_had(lab: Lab) -> None:
    before = files(lab)
    await lab.answer("create_mcp_server", name="quick", code=QUICK + "print('hello')\n")
    await lab.answer("set_server_credential", server="quick", key="API_KEY", value="a key of some length")
    await lab.call("quick:echo", text="x")
    await lab.answer("delete_mcp_server", name="quick")
    assert not processes("quick")
    assert [path for path in files(lab) if not path.endswith("credentials.key")] == before
    assert not await lab.app.credentials.everything()
    assert "there is no server 'quick'" in await lab.refusal("delete_mcp_server", name="quick")


async def test_what_a_server_says_can_be_read(lab: Lab) -> None:
    await lab.put("quick", QUICK + "print('hello')\n")
    assert (await lab.answer("get_mcp_server_log", name="quick"))["lines"] == []
    await lab.call("quick:echo", text="x")
    path = lab.app.settings.state / "servers/quick.log"
    await comes(path.exists)
    assert (await lab.answer("get_mcp_server_log", name="quick", lines=1))["lines"] == ["hello"]
    path.chmod(0)
    path.unlink()
    path.mkdir()
    assert "can't be used: Is a directory" in await lab.refusal("get_mcp_server_log", name="quick")


async def test_an_external_server_whose_secret_cannot_be_kept_is_not_added(lab: Lab) -> None:
    values = {"API_KEY": "fine", "OTHER_KEY": "x" * 70_000}
    sentence = await lab.refusal("add_external_server", name="outside", command="true", env_vars=values)
    assert "the value of OTHER_KEY has 70,000 bytes" in sentence
    assert (await lab.answer("list_external_servers"))["servers"] == []
    assert not await lab.app.credentials.everything()
