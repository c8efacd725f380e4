"""Every call of a tool is written down before it is made, and what became of it after."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

from claude_runner.agent import ClaudeAgent, Order, Stop
from claude_runner.app import App
from claude_runner.config import Settings, SystemClock
from claude_runner.errors import InvalidError
from claude_runner.hub import Change, Topic
from claude_runner.loopback import listening
from claude_runner.permissions import Profile
from claude_runner.recorder import Recorder
from claude_runner.redaction import Redactor
from claude_runner.runs import (
    ClosedCall,
    Ending,
    EventKind,
    NewCall,
    Run,
    State,
    ToolCall,
    Verdict,
    close_calls,
    end,
)
from tests.cli import start
from tests.parts import Parts, locked, open_parts
from tests.scripted_model import ScriptedModel, Step, Tool, script
from tests.support import MORNING, PATIENCE, ended, until

KEY = "sk-very-secret-0123456789"
DONE: Step = {"text": "done"}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


def call(tool: str = "Read", use_id: str | None = "t1", seconds: float = 0, **arguments: Any) -> NewCall:
    return NewCall(tool, arguments, MORNING + timedelta(seconds=seconds), use_id)


async def closed(parts: Parts, run: Run, *calls: ClosedCall) -> bool:
    return await parts.database.write(lambda c: close_calls(c, run, calls))


async def calls_of(parts: Parts, run: Run | None = None) -> list[ToolCall]:
    """The calls that are stored, oldest first."""
    return list(reversed((await parts.runs.calls(run.id if run else None, None, 200)).calls))


# Rows


async def test_a_call_is_written_before_it_is_made_and_again_when_it_was(parts: Parts) -> None:
    run = await parts.claimed()
    new = call("mcp__cat-facts__get_fact", of="Tom")
    call_id = await parts.runs.open_call(run, new)
    [opened] = await calls_of(parts)
    assert opened == ToolCall(
        call_id or "", run.id, "cat-facts", new.tool, {"of": "Tom"}, Verdict.OPEN, None, None, MORNING, None
    )
    assert await closed(parts, run, ClosedCall(call_id, new, Verdict.OK, "purrs", 12.5))
    assert await calls_of(parts) == [
        replace(opened, verdict=Verdict.OK, result="purrs", result_length=5, duration_ms=12.5)
    ]


@pytest.mark.parametrize(
    ("tool", "server"),
    [("Read", None), ("mcp__email__send_email", "email"), ("mcp__a-b__c__d", "a-b"), ("mcp__odd", None)],
)
def test_a_call_tells_its_server(tool: str, server: str | None) -> None:
    assert call(tool).server == server


async def test_what_is_long_is_cut_and_its_length_kept(parts: Parts) -> None:
    run = await parts.claimed()
    new = call("Write", content="x" * 30_000, lines=["y" * 30_000])
    await closed(parts, run, ClosedCall(None, new, Verdict.OK, "z" * 30_000))
    [stored] = await calls_of(parts)
    assert stored.arguments == {"content": "x" * 20_000, "lines": ["y" * 20_000]}
    assert (len(stored.result or ""), stored.result_length) == (20_000, 30_000)


async def test_arguments_that_are_long_as_a_whole_are_cut_as_a_whole(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.runs.open_call(run, call(many=["x" * 1000] * 1000))
    [stored] = await calls_of(parts)
    assert list(stored.arguments) == ["shortened"]
    assert len(stored.arguments["shortened"]) == 100_000


async def test_a_call_is_closed_once(parts: Parts) -> None:
    run = await parts.claimed()
    call_id = await parts.runs.open_call(run, call())
    assert await closed(parts, run, ClosedCall(call_id, call(), Verdict.OK))
    assert not await closed(parts, run, ClosedCall(call_id, call(), Verdict.DENIED))
    assert [stored.verdict for stored in await calls_of(parts)] == [Verdict.OK]
    assert (await parts.runs.get(run.id)).denials == 0


async def test_denials_are_counted_on_the_run(parts: Parts) -> None:
    run = await parts.claimed()
    call_id = await parts.runs.open_call(run, call())
    await closed(
        parts,
        run,
        ClosedCall(call_id, call(), Verdict.DENIED),
        ClosedCall(None, call(use_id="t2"), Verdict.DENIED),
        ClosedCall(None, call(use_id="t3"), Verdict.ERROR),
    )
    assert (await parts.runs.get(run.id)).denials == 2


async def test_two_calls_of_one_id_are_both_written(parts: Parts) -> None:
    run = await parts.claimed()
    assert await parts.runs.open_call(run, call("Read"))
    assert await parts.runs.open_call(run, call("Write", seconds=1))
    assert [stored.tool for stored in await calls_of(parts)] == ["Read", "Write"]


async def test_an_attempt_that_was_given_up_opens_no_call_and_closes_none(parts: Parts) -> None:
    run = await parts.claimed()
    call_id = await parts.runs.open_call(run, call())
    await parts.sql("UPDATE runs SET attempt = attempt + 1")
    assert await parts.runs.open_call(run, call(use_id="t2")) is None
    assert not await closed(parts, run, ClosedCall(call_id, call(), Verdict.DENIED))
    assert [stored.verdict for stored in await calls_of(parts)] == [Verdict.OPEN]
    assert (await parts.runs.get(run.id)).denials == 0


async def test_the_end_of_a_run_abandons_what_is_open(parts: Parts) -> None:
    run = await parts.claimed()
    made = await parts.runs.open_call(run, call())
    await parts.runs.open_call(run, call(use_id="t2", seconds=1))
    await closed(parts, run, ClosedCall(made, call(), Verdict.OK))
    await parts.database.write(lambda c: end(c, run, Ending(State.FINISHED), MORNING))
    assert [stored.verdict for stored in await calls_of(parts)] == [Verdict.OK, Verdict.ABANDONED]


async def test_an_end_that_is_not_ours_abandons_nothing(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.runs.open_call(run, call())
    await parts.sql("UPDATE runs SET attempt = attempt + 1")
    assert not await parts.database.write(lambda c: end(c, run, Ending(State.FINISHED), MORNING))
    assert [stored.verdict for stored in await calls_of(parts)] == [Verdict.OPEN]


async def test_a_call_that_no_run_made_is_written_too(parts: Parts) -> None:
    with parts.hub.subscribe(Topic.TOOL_CALLS) as changes:
        await parts.runs.note_call(
            ClosedCall(None, call("mcp__email__send_email", None, to="a"), Verdict.ERROR, "no", 3)
        )
        assert changes.take() == [Change(Topic.TOOL_CALLS, "")]
    [stored] = await calls_of(parts)
    assert (stored.run_id, stored.server, stored.arguments) == (None, "email", {"to": "a"})
    assert (stored.verdict, stored.result, stored.duration_ms) == (Verdict.ERROR, "no", 3)


async def test_a_call_is_told_to_whoever_listens(parts: Parts) -> None:
    run = await parts.claimed()
    with parts.hub.subscribe(Topic.TOOL_CALLS) as changes:
        call_id = await parts.runs.open_call(run, call())
        assert changes.take() == [Change(Topic.TOOL_CALLS, run.id)]
        await parts.runs.record(run, [], calls=[ClosedCall(call_id, call(), Verdict.OK)])
        assert changes.take() == [Change(Topic.TOOL_CALLS, run.id)]


async def test_calls_are_listed_newest_first_in_pages_of_a_run_or_a_server(parts: Parts) -> None:
    run = await parts.claimed()
    names = [f"mcp__{'a' if number % 2 else 'b'}__t{number}" for number in range(6)]
    for number, name in enumerate(names):
        await parts.runs.open_call(run, call(name, f"t{number}", number))
    await parts.runs.note_call(ClosedCall(None, call("mcp__a__alone", None, 9), Verdict.OK))
    first = await parts.runs.calls(None, None, 4)
    assert [stored.tool for stored in first.calls] == ["mcp__a__alone", *names[:2:-1]]
    assert (first.total, first.next_cursor is None) == (7, False)
    second = await parts.runs.calls(None, None, 4, first.next_cursor)
    assert ([stored.tool for stored in second.calls], second.next_cursor) == (names[2::-1], None)
    assert [stored.tool for stored in (await parts.runs.calls(None, "a", 9)).calls] == [
        "mcp__a__alone",
        *names[5::-2],
    ]
    assert (await parts.runs.calls(run.id, "a", 9)).total == 3


async def test_a_cursor_that_no_page_gave_is_refused(parts: Parts) -> None:
    with pytest.raises(InvalidError, match="was not given by list_tool_calls"):
        await parts.runs.calls(None, None, 9, "bm8=")


async def test_calls_go_with_their_run(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.runs.open_call(run, call())
    await parts.sql("DELETE FROM runs")
    assert await calls_of(parts) == []


# What the recorder makes of what it hears


def recorder_of(parts: Parts, run: Run, redactor: Redactor | None = None) -> Recorder:
    return Recorder(run, parts.runs, parts.clock, lambda: None, lambda: None, redactor)


def answer(recorder: Recorder, content: str, use_id: str = "t1", *, is_error: bool = True) -> None:
    body = {"id": use_id, "is_error": is_error, "content": content}
    recorder.happened(EventKind.TOOL_RESULT, body)


def use(recorder: Recorder, use_id: str = "t1", **arguments: Any) -> None:
    recorder.happened(EventKind.TOOL_USE, {"id": use_id, "name": "Read", "input": arguments})


async def test_a_call_that_is_asked_about_is_open_until_it_is_told_of(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    use(recorder, file="a")
    assert await recorder.calling("t1", "Read", {"file": "/a"}) is None
    assert [(it.verdict, it.arguments) for it in await calls_of(parts)] == [(Verdict.OPEN, {"file": "/a"})]
    recorder.called("t1", Verdict.OK, "text", 5)
    answer(recorder, "text", is_error=False)
    [one] = recorder.closed_calls()
    assert (one.id, one.verdict, one.result, one.duration_ms) == (
        (await calls_of(parts))[0].id,
        Verdict.OK,
        "text",
        5,
    )


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("<tool_use_error>Error: No such tool available: Nope</tool_use_error>", Verdict.DENIED),
        ("<tool_use_error>InputValidationError: x is missing</tool_use_error>", Verdict.ERROR),
        ("The user doesn't want to proceed with this tool use. The", Verdict.ABANDONED),
    ],
)
async def test_a_call_that_the_cli_did_not_ask_about_is_known_by_its_answer(
    parts: Parts, said: str, verdict: Verdict
) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    use(recorder)
    answer(recorder, said)
    assert [(one.id, one.verdict, one.result) for one in recorder.closed_calls()] == [(None, verdict, said)]


async def test_a_call_that_a_rule_denies_is_denied(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    await recorder.calling("t1", "Read", {})
    recorder.happened(EventKind.NOTICE, {"notice": "permission_denied", "tool_use_id": "t1"})
    recorder.happened(EventKind.NOTICE, {"notice": "permission_denied", "tool_use_id": "unknown"})
    answer(recorder, "Permission to use Read has been denied")
    answer(recorder, "again")
    assert [one.verdict for one in recorder.closed_calls()] == [Verdict.DENIED]


async def test_a_call_that_failed_without_being_told_of_is_no_denial(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    await recorder.calling("t1", "Read", {})
    answer(recorder, "the server is gone")
    assert [one.verdict for one in recorder.closed_calls()] == [Verdict.ERROR]


async def test_a_call_that_cannot_be_written_down_is_not_made(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    with locked(parts.path):
        why = await recorder.calling("t1", "Read", {})
    assert why is not None
    assert why.startswith("the call is not made, since it can't be written down (jobs.db is locked")
    answer(recorder, f"PreToolUse:Read hook error: {why}")
    assert [(one.id, one.verdict) for one in recorder.closed_calls()] == [(None, Verdict.DENIED)]


async def test_an_attempt_that_was_given_up_makes_no_call(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    await parts.sql("UPDATE runs SET attempt = attempt + 1")
    why = await recorder.calling("t1", "Read", {})
    assert why == "the call is not made, since this run was ended by the server"


# Secrets


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.set([("API_KEY", KEY)])
    return redactor


def say(recorder: Recorder, text: str, block: int = 1) -> None:
    recorder.happened(EventKind.TEXT, {"block": block, "text": text})


async def test_a_secret_split_over_two_pieces_of_text_is_replaced(parts: Parts, redactor: Redactor) -> None:
    recorder = recorder_of(parts, await parts.claimed(), redactor)
    say(recorder, f"it is {KEY[:10]}")
    recorder.happened(EventKind.NOTICE, {"notice": "rate_limit"})
    say(recorder, f"{KEY[10:]}, you see: {KEY[:4]}")
    say(recorder, "no key", block=2)
    say(recorder, KEY[:4], block=3)
    events, _ = recorder.rest()
    texts = [(event.body["block"], event.body["text"]) for event in events if event.kind is EventKind.TEXT]
    assert "".join(text for block, text in texts if block == 1) == (
        f"it is [credential API_KEY], you see: {KEY[:4]}"
    )
    assert [text for block, text in texts if block != 1] == ["no key", KEY[:4]]


async def test_what_waits_for_more_is_written_before_a_call_that_follows_it(
    parts: Parts, redactor: Redactor
) -> None:
    recorder = recorder_of(parts, await parts.claimed(), redactor)
    say(recorder, f"half {KEY[:10]}")
    use(recorder)
    kinds = [event.kind for event in recorder.rest()[0]]
    assert kinds[-1] is EventKind.TOOL_USE
    assert set(kinds[:-1]) == {EventKind.TEXT}


async def test_no_secret_stands_in_events_calls_or_the_end(parts: Parts, redactor: Redactor) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run, redactor)
    use(recorder, header=f"Bearer {KEY}")
    await recorder.calling("t1", "Bash", {"command": f"curl -H {KEY}"})
    recorder.called("t1", Verdict.ERROR, f"denied to {KEY}", 1)
    answer(recorder, f"denied to {KEY}")
    ending = recorder.redacted(Ending(State.ERROR, output=KEY, error=f"no {KEY}", reason="agent_crashed"))
    assert (ending.output, ending.error) == ("[credential API_KEY]", "no [credential API_KEY]")
    written = [*recorder.rest()[0], *recorder.closed_calls(), *await calls_of(parts)]
    assert len(written) == 4
    assert KEY not in repr(written)
    assert repr(written).count("[credential API_KEY]") == 5


async def test_no_secret_is_cut_in_two_where_a_long_text_is_cut(parts: Parts, redactor: Redactor) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run, redactor)
    long = "x" * 19_990 + KEY
    use(recorder, content=long)
    await recorder.calling("t1", "Write", {"content": long})
    recorder.called("t1", Verdict.OK, long, 1)
    answer(recorder, long)
    await closed(parts, run, *recorder.closed_calls())
    events, _ = recorder.rest()
    assert events[1].body["length"] == len("x" * 19_990 + "[credential API_KEY]")
    assert len(events[1].body["content"]) == 20_000
    ending = recorder.redacted(Ending(State.ERROR, error="y" * 1990 + KEY, reason="agent_crashed"))
    assert KEY[:5] not in repr([events, await calls_of(parts), ending])


# With the real CLI


def tool_server() -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("demo")

    @mcp.tool
    def good(word: str) -> str:
        return f"got {word}"

    @mcp.tool
    def bad(word: str) -> str:
        raise ToolError(f"no good: {word}")

    @mcp.tool
    def kept_back() -> str:
        raise AssertionError("it is not granted")

    return mcp


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """The address of an MCP server."""
    served = tool_server().http_app(path="/mcp")
    async with served.router.lifespan_context(served), listening(served) as base_url:
        yield f"{base_url}/mcp"


@dataclass
class Bench:
    """A real CLI, and the parts that it is recorded in."""

    parts: Parts
    agent: ClaudeAgent
    folder: Path

    async def execute(
        self, *steps: Step, claimed: asyncio.Event | None = None, **changes: Any
    ) -> tuple[Run, Ending]:
        """Execute a script with Write alone where nothing else is said, and return the run and how it ended."""
        prompt = f"go {script(*steps)}"
        run = await self.parts.claimed(prompt=prompt)
        if claimed is not None:
            claimed.set()
        order = Order(run.id, _session(run), prompt, "You are tested.", ("Write",), self.folder)
        recorder = Recorder(run, self.parts.runs, SystemClock(), lambda: None, lambda: None)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(recorder.serve())
            ending = await self.agent.execute(replace(order, **changes), recorder, Stop())
            recorder.close()
        calls = recorder.closed_calls()
        await self.parts.runs.record(run, recorder.rest()[0], calls=calls)
        return await self.parts.runs.get(run.id), ending

    def configure(self, **servers: Mapping[str, Any]) -> Path:
        path = self.folder / "mcp.json"
        path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
        return path


def _session(run: Run) -> str:
    return f"00000000-0000-4000-8000-{run.id}"


@pytest.fixture
async def bench(owner: Settings, parts: Parts, tmp_path: Path) -> Bench:
    owner.state.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    return Bench(parts, ClaudeAgent(owner), tmp_path / "work")


def write(name: str) -> Step:
    return {"tool": "Write", "input": {"file_path": f"./{name}", "content": "x"}}


async def test_every_call_is_written_down_with_what_became_of_it(
    bench: Bench, server: str, model: ScriptedModel
) -> None:
    run, ending = await bench.execute(
        {"tools": [{"tool": "mcp__demo__good", "input": {"word": "x"}}, write("a.txt")]},
        {"tool": "mcp__demo__bad", "input": {"word": "y"}},
        {"tool": "mcp__demo__good", "input": {"wort": "x"}},
        {"tool": "mcp__demo__kept_back", "input": {}},
        {"tool": "mcp__demo__imagined", "input": {}},
        {"tool": "Write", "input": {"file_path": "/nowhere/b.txt", "content": "x"}},
        {"tool": "Write", "input": {"file_path": "./c.txt"}},
        DONE,
        mcp_config=bench.configure(demo={"type": "http", "url": server}),
        mcp_tools=("mcp__demo__good", "mcp__demo__bad"),
        mcp_servers=("demo",),
    )
    assert ending.state is State.FINISHED, ending.error
    stored = await calls_of(bench.parts)
    assert [(it.tool.removeprefix("mcp__demo__"), it.server, it.verdict) for it in stored] == [
        ("good", "demo", Verdict.OK),
        ("Write", None, Verdict.OK),
        ("bad", "demo", Verdict.ERROR),
        ("good", "demo", Verdict.ERROR),
        ("kept_back", "demo", Verdict.DENIED),
        ("imagined", "demo", Verdict.DENIED),
        ("Write", None, Verdict.DENIED),
        ("Write", None, Verdict.ERROR),
    ]
    assert stored[0].arguments == {"word": "x"}
    assert "got x" in (stored[0].result or "")
    assert (stored[2].result, run.denials) == ("no good: y", 3)
    assert "has been denied" in (stored[4].result or "")
    assert all(it.duration_ms is not None for it in stored[:4])
    assert "has been denied" in json.dumps(model.requests[-1].body["messages"])


async def test_a_call_that_cannot_be_written_down_is_denied_and_the_model_is_told_why(
    bench: Bench, model: ScriptedModel
) -> None:
    claimed = asyncio.Event()
    executing = asyncio.create_task(
        bench.execute(write("a.txt"), {"delay": 0.5, **write("b.txt")}, DONE, claimed=claimed)
    )
    async with asyncio.timeout(PATIENCE):
        await claimed.wait()
        with locked(bench.parts.path):
            await model.asked(2)
    run, ending = await executing
    assert ending.state is State.FINISHED
    assert [it.verdict for it in await calls_of(bench.parts)] == [Verdict.DENIED, Verdict.OK]
    assert (run.denials, sorted(path.name for path in bench.folder.iterdir())) == (1, ["b.txt"])
    assert "it can't be written down (jobs.db is locked" in json.dumps(model.requests[1].body["messages"])


async def test_a_hook_that_fails_denies(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(bench.parts.runs, "open_call", fail)
    run, ending = await bench.execute(write("a.txt"), DONE)
    assert ending.state is State.FINISHED
    assert [it.verdict for it in await calls_of(bench.parts)] == [Verdict.DENIED]
    assert (run.denials, list(bench.folder.iterdir())) == (1, [])


async def test_a_run_whose_servers_are_missing_ends_before_the_model_is_asked(
    bench: Bench, server: str, model: ScriptedModel
) -> None:
    _, ending = await bench.execute(
        DONE,
        mcp_config=bench.configure(
            demo={"type": "http", "url": server},
            gone={"type": "http", "url": "http://127.0.0.1:9/mcp"},
            broken={"command": "sh", "args": ["-c", "exit 3"]},
        ),
        mcp_servers=("demo", "gone", "broken", "unheard-of"),
    )
    assert (ending.state, ending.reason, model.requests) == (State.ERROR, "mcp_server_failed", [])
    assert ending.error is not None
    assert "'gone' is not connected (ECONNREFUSED" in ending.error
    assert "'broken' is not connected (Connection closed)" in ending.error
    assert "'unheard-of' is not known to Claude Code" in ending.error
    assert "'demo'" not in ending.error


async def test_a_call_that_goes_on_when_its_run_is_cancelled_is_abandoned(real: App) -> None:
    sleep: Tool = {"tool": "Bash", "input": {"command": "python3 -c 'import time; time.sleep(60)'"}}
    run_id = await start(
        real,
        {"tools": [sleep, write("a")]},
        tools=("Bash", "Write"),
        profile=Profile.RULES,
        commands=("python3",),
    )

    async def is_calling() -> bool:
        return (await real.runs.calls(run_id, None, 9)).total > 0

    await until(is_calling, real, Topic.TOOL_CALLS)
    await real.dispatcher.cancel(run_id)
    assert (await ended(real, run_id)).denials == 0
    stored = (await real.runs.calls(run_id, None, 9)).calls
    assert {(it.tool, it.verdict) for it in stored} <= {
        ("Bash", Verdict.ABANDONED),
        ("Write", Verdict.ABANDONED),
    }


async def test_it_is_known_when_a_tool_of_a_server_was_last_called(parts: Parts) -> None:
    for seconds in (5, 9, 7):
        made = ClosedCall(None, call("mcp__email__send_email", None, seconds), Verdict.OK, "sent")
        await parts.runs.note_call(made)
    called = await parts.runs.last_called(["email", "weather"])
    assert called == {"email": MORNING + timedelta(seconds=9)}
