"""What tool servers may try against the server, the owner and one another, tried with real processes."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.app import App
from claude_runner.errors import ServerFailedError
from claude_runner.pool import Patience
from claude_runner.recorder import Recorder
from claude_runner.redaction import Redactor
from claude_runner.runs import NewRun, State, Trigger
from tests.parts import Parts, open_parts
from tests.scripted_model import Step, script
from tests.support import ended
from tests.tool_servers import QUICK, Lab, open_lab, temporary, workspaces

BACKEND = """
import pathlib

def build_wheel(*_):
    seen = [path for path in {secrets!r} if pathlib.Path(path).exists()]
    pathlib.Path({left!r}).write_text("it was here")
    raise SystemExit(f"it sees {{seen}}")
"""

ODD = (
    QUICK
    + """
@mcp.tool
def read(path):
    try:
        return open(path).read()
    except OSError:
        return "hidden"

@mcp.tool
def names(path):
    return " ".join(os.listdir(path))

@mcp.tool
def half():
    return "half \\ud83d emoji"

@mcp.tool
def deep(levels):
    value = None
    for _ in range(levels):
        value = [value]
    sys.setrecursionlimit(10_000)
    return {"content": [], "structuredContent": {"deep": value}}

@mcp.tool
def flood():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        os.write(sys.stdout.buffer.fileno(), b"\\n" * 65536)
    return "still here"
"""
)
LISTS = '{"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools]}'


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path, patience=Patience(start=30), environment={"PIP_NO_INDEX": "1"}) as lab:
        yield lab


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


@pytest.mark.usefixtures("sandbox")
async def test_a_package_that_is_built_is_confined(lab: Lab, tmp_path: Path) -> None:
    secrets = [tmp_path / "owner" / ".ssh", lab.app.settings.database_path]
    secrets[0].mkdir()
    package, left = tmp_path / "built", tmp_path / "owner" / "left"
    package.mkdir()
    build = 'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]'
    (package / "pyproject.toml").write_text(
        f'[build-system]\n{build}\n[project]\nname = "b"\nversion = "1"\n'
    )
    (package / "backend.py").write_text(BACKEND.format(secrets=list(map(str, secrets)), left=str(left)))
    await lab.app.database.write(
        lambda c: c.execute("UPDATE settings SET value = 'true' WHERE key = 'install_dependencies'").rowcount
    )
    code = f'# /// script\n# dependencies = ["b @ {package.as_uri()}"]\n# ///\n{QUICK}'
    sentence = await lab.refusal("create_mcp_server", name="quick", code=code)
    assert "can't be installed" in sentence
    assert not left.exists()


@pytest.mark.usefixtures("sandbox")
async def test_a_server_sees_no_key_and_no_temporary_files_of_others_wherever_they_are(
    tmp_path: Path,
) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as elsewhere:
        key = Path(elsewhere, "key.json")
        key.write_text("a key")
        environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(key)}
        async with open_lab(tmp_path, environment=environment) as lab:
            with temporary(Path(elsewhere, "temporary")):
                await lab.put("neighbour")
                await lab.put("odd", ODD)
                await lab.call("neighbour:echo", text="it is up")
                assert len(workspaces()) == 1
                assert await lab.call("odd:read", path=str(key)) == "hidden"
                listed = await lab.call("odd:names", path=str(Path(elsewhere, "temporary")))
                assert listed.startswith("claude-runner-server-odd-")
                assert "neighbour" not in listed
                await lab.app.pool.forget("neighbour")


async def test_half_a_character_in_an_answer_is_replaced_and_the_call_kept(lab: Lab) -> None:
    await lab.put("odd", ODD)
    assert await lab.call("odd:half") == "half ? emoji"
    await lab.app.invocations.settled()
    assert (await lab.answer("list_tool_calls"))["calls"][0]["result"] == "half ? emoji"


async def test_half_a_character_in_a_list_of_tools_hides_no_other_server(lab: Lab) -> None:
    listing = LISTS.replace('"inputSchema"', '"description": "half \\ud83d", "inputSchema"')
    await lab.put("odd", QUICK.replace(LISTS, listing))
    assert await lab.call("odd:echo", text="x") == "x"
    listed = (await lab.answer("list_dynamic_mcp_servers"))["servers"]
    assert "odd" in {server["name"] for server in listed}


@pytest.mark.parametrize("levels", [255, 400, 2000])
async def test_an_answer_nested_too_deeply_is_told_at_once(lab: Lab, levels: int) -> None:
    await lab.put("odd", ODD)
    sentence = await lab.refusal("invoke_internal_mcp_tool", tool="odd:deep", payload={"levels": levels})
    assert sentence.startswith("odd: its answer can't be read: it is nested too deeply")


async def test_a_server_that_floods_its_output_lets_others_have_their_turn(lab: Lab) -> None:
    await lab.put("odd", ODD)
    await lab.call("odd:echo", text="it is up")
    call = asyncio.create_task(lab.call("odd:flood"))
    turns = 0
    while not call.done():
        await asyncio.sleep(0.001)
        turns += 1
    with pytest.raises(ServerFailedError, match="lines on standard output that are no messages"):
        await call
    assert turns > 20
    assert await lab.call("odd:echo", text="anew") == "anew"


async def test_a_list_of_tools_without_end_is_given_up(lab: Lab) -> None:
    tool = '{"name": "t" + str(time.time_ns()), "description": "x" * 1_000_000, "inputSchema": {}}'
    await lab.put("odd", QUICK.replace(LISTS, '{"tools": [' + tool + '], "nextCursor": "more"}'))
    sentence = await lab.refusal("invoke_internal_mcp_tool", tool="odd:echo", payload={})
    assert "its list of tools has more than" in sentence


NEVER_ENDS = {
    "by its parts": """{"$ref": "#/$defs/a0", "$defs": {"a40": {"required": ["no"]}, **{
        f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}}}""",
    "by an expression in a part of a kind of its own": """{"properties": {"text": {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^(a+)+$"}}}""",
}


@pytest.mark.parametrize("schema", NEVER_ENDS.values(), ids=NEVER_ENDS)
async def test_a_schema_that_is_never_done_is_left_to_the_server(lab: Lab, schema: str) -> None:
    await lab.put("odd", QUICK.replace(LISTS, LISTS.replace('{"type": "object"}', schema)))
    assert await lab.call("odd:echo", text="a" * 40 + "!") == "a" * 40 + "!"


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("dependencies = [\"x; 'a' ~= 'b'\"]", "what odd declares to need can't be read"),
        ("dependencies = [\"x; python_full_version ~= '1'\"]", "what odd declares to need can't be read"),
        ("a" + ".a" * 100_000 + " = 1", "the block '# /// script' has more than"),
    ],
)
async def test_what_is_declared_to_trip_up_its_reader_is_refused(lab: Lab, block: str, why: str) -> None:
    code = f"# /// script\n# {block}\n# ///\n{QUICK}"
    assert why in await lab.refusal("create_mcp_server", name="odd", code=code)


@pytest.mark.usefixtures("sandbox")
async def test_commands_of_a_contained_run_see_no_temporary_files_of_others(real: App) -> None:
    with tempfile.TemporaryDirectory() as other:
        Path(other, "secret").write_text("of another run")
        step: Step = {"tool": "Bash", "input": {"command": f"cat {other}/secret; echo $TMPDIR > $TMPDIR/own"}}
        prompt = script(step, {"text": "done"})
        run_id = await real.runs.add(NewRun(prompt, Trigger.QUICK, tools=("Bash",)), real.clock.now())
        assert (await ended(real, run_id)).state is State.FINISHED
    [call] = (await real.runs.calls(run_id, None, 10)).calls
    assert call.result is not None
    assert "No such file" in call.result
    assert "of another run" not in call.result


async def test_a_secret_as_the_name_of_a_tool_is_not_kept(parts: Parts) -> None:
    redactor = Redactor()
    redactor.set([("API_KEY", "sk-very-secret-0123456789")])
    run = await parts.claimed()
    recorder = Recorder(run, parts.runs, parts.clock, lambda: None, lambda: None, redactor)
    await recorder.calling("use", "mcp__odd__sk-very-secret-0123456789", {})
    assert await parts.sql("SELECT tool FROM tool_calls") == [("mcp__odd__[credential API_KEY]",)]


SAYS = """
            why = {"message": "x" * 985 + os.environ["API_KEY"]}
            return self.say({"jsonrpc": "2.0", "id": message["id"], "error": why})
"""


async def test_no_secret_is_cut_in_two_where_a_long_sentence_is_cut(lab: Lab) -> None:
    listing = '{"type": "object", "properties": {"text": {"type": "number"}}}'
    code = QUICK.replace(LISTS, LISTS.replace('{"type": "object"}', listing))
    await lab.put("odd", code.replace("            result = self.call(**params)", SAYS))
    await lab.put("dead", 'import os\nraise ValueError("x" * 960 + os.environ["API_KEY"])')
    await lab.put("well", code)
    for server in ("odd", "dead", "well"):
        await lab.set(server, "API_KEY", "sk-very-secret-0123456789")
    await lab.app.secrecy.refresh()
    said = [
        await lab.refusal("invoke_internal_mcp_tool", tool="odd:echo", payload={}),
        await lab.refusal("invoke_internal_mcp_tool", tool="dead:echo", payload={}),
        await lab.refusal(
            "invoke_internal_mcp_tool",
            tool="well:echo",
            payload={"text": "x" * 285 + "sk-very-secret-0123456789"},
        ),
        " ".join(await lab.app.pool.said("dead", 100)),
    ]
    assert not [each for each in said if "sk-" in each]
