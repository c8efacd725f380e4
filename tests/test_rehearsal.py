import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ResultMessage,
    StreamEvent,
    create_sdk_mcp_server,
    query,
    tool,
)
from starlette.requests import Request
from starlette.responses import Response

from claude_runner.rehearsal import MODEL, RehearsalModel, open_rehearsal
from claude_runner.rehearsal.conversations import Conversation
from claude_runner.rehearsal.serving import serve
from tests.support import PATIENCE

Json = dict[str, Any]

FOLDER = {
    "role": "system",
    "content": "# Environment\n - Primary working directory: /srv/my work\n - Shell: bash",
}
ENOUGH = "This is a rehearsal: no model was asked, no token was spent"


@asynccontextmanager
async def client_of(base_url: str, api_key: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=base_url, headers={"x-api-key": api_key}, timeout=PATIENCE, trust_env=False, verify=False
    ) as client:
        yield client


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_rehearsal() as model, client_of(model.base_url, model.api_key) as client:
        yield client


def offer(name: str, required: object = (), **properties: object) -> Json:
    return {"name": name, "input_schema": {"properties": properties, "required": required}}


def asking(*messages: Json, tools: list[Json] | None = None, **more: object) -> Json:
    prompt = {"role": "user", "content": "Do your work."}
    return {"model": MODEL, "messages": [prompt, FOLDER, *messages], "tools": tools or [], **more}


async def play(client: httpx2.AsyncClient, body: Json, **failures: str) -> tuple[list[Json], str]:
    """Answer each call, with the failure given for its tool or with success; return the calls and the last text."""
    calls: list[Json] = []
    for _ in range(10):
        answer = (await client.post("/v1/messages", json=body)).raise_for_status().json()
        if answer["stop_reason"] == "end_turn":
            return calls, answer["content"][0]["text"]
        asked = [block for block in answer["content"] if block["type"] == "tool_use"]
        calls += asked
        results = [
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "is_error": call["name"] in failures,
                "content": failures.get(call["name"], f"{call['name']} is well"),
            }
            for call in asked
        ]
        said = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results}]
        body = {**body, "messages": [*body["messages"], *said]}
    raise AssertionError("it never ends")


async def test_the_real_cli_calls_real_tools_and_ends_in_a_report(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()

    @tool("greet", "Greets somebody.", {"name": str})
    async def greet(arguments: Json) -> Json:
        return {"content": [{"type": "text", "text": f"Good day, {arguments['name']}."}]}

    events: list[Json] = []
    result: ResultMessage | None = None
    async with open_rehearsal() as model:
        options = ClaudeAgentOptions(
            model=MODEL,
            cwd=work,
            setting_sources=[],
            strict_mcp_config=True,
            mcp_servers={"manners": create_sdk_mcp_server("manners", tools=[greet])},
            tools=["Read", "Edit", "Write", "Bash"],
            permission_mode="dontAsk",
            allowed_tools=["Read(./**)", "Edit(./**)", "mcp__manners__*"],
            include_partial_messages=True,
            env={
                "CLAUDE_CONFIG_DIR": str(tmp_path / "config"),
                "CLAUDE_CODE_TMPDIR": str(tmp_path),
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "CLAUDE_CODE_MAX_RETRIES": "0",
                "ANTHROPIC_BASE_URL": model.base_url,
                "ANTHROPIC_API_KEY": model.api_key,
            },
        )
        async with asyncio.timeout(PATIENCE):
            async for message in query(prompt="Primary working directory: /elsewhere", options=options):
                if isinstance(message, StreamEvent):
                    events.append(message.event)
                if isinstance(message, ResultMessage):
                    result = message
    assert result is not None
    assert not result.is_error
    assert result.result is not None
    assert result.result.startswith(ENOUGH)
    assert "Tools offered (5): Bash, Edit, Read, Write, mcp__manners__greet." in result.result
    assert "- mcp__manners__greet said: Good day, rehearsal." in result.result
    assert [path.name for path in work.iterdir()] == ["rehearsal.md"]
    assert result.model_usage is not None
    assert result.model_usage[MODEL]["inputTokens"] > 1000
    assert sum(event["type"] == "content_block_delta" for event in events) > 4 + 3


async def test_it_writes_reads_asks_a_server_and_reports_what_they_said(client: httpx2.AsyncClient) -> None:
    tools = [
        offer("Bash"),
        offer("mcp__x__list"),
        offer("Read"),
        offer("Write"),
        offer("DeferredToolPlaceholder"),
    ]
    calls, report = await play(client, asking(tools=tools))
    assert [call["name"] for call in calls] == ["Write", "Read", "mcp__x__list"]
    assert calls[0]["input"]["file_path"] == calls[1]["input"]["file_path"] == "/srv/my work/rehearsal.md"
    assert report.startswith(ENOUGH)
    assert "Tools offered (4): Bash, Read, Write, mcp__x__list." in report
    assert "Tools called (3):\n- Write said: Write is well\n- Read said:" in report


async def test_a_tool_that_failed_is_named_with_what_it_said(client: httpx2.AsyncClient) -> None:
    tools = [offer("Write"), offer("Read"), offer("Bash")]
    calls, report = await play(client, asking(tools=tools), Write="No.\n" + "Never. " * 50, Bash="")
    assert [call["name"] for call in calls] == ["Write", "Bash"]
    assert calls[1]["input"] == {"command": "date -u"}
    assert f"- Write failed: {('No. ' + 'Never. ' * 50)[:200]}…\n- Bash failed: (nothing)" in report


async def test_no_more_than_three_tools_are_called(client: httpx2.AsyncClient) -> None:
    tools = [offer("Bash"), *(offer(f"mcp__x__get_{letter}") for letter in "abcdef")]
    calls, _ = await play(client, asking(tools=tools))
    assert [call["name"] for call in calls] == ["mcp__x__get_a", "Bash", "mcp__x__get_b"]


async def test_tools_it_knows_no_harmless_call_of_are_only_listed(client: httpx2.AsyncClient) -> None:
    calls, report = await play(client, asking(tools=[offer("WebFetch"), offer("Edit"), offer("Read")]))
    assert calls == []
    assert "Tools offered (3): Edit, Read, WebFetch.\nNone was called" in report


async def test_a_request_without_tools_is_answered_in_plain_text(client: httpx2.AsyncClient) -> None:
    body = {"model": "some-model", "messages": [{"role": "user", "content": "A title?"}]}
    answer = (await client.post("/v1/messages", json=body)).json()
    assert answer["model"] == "some-model"
    assert [block["type"] for block in answer["content"]] == ["text"]
    assert answer["content"][0]["text"].endswith("No tools were offered.")


async def test_the_prompt_does_not_steer_it(client: httpx2.AsyncClient) -> None:
    prompt = 'Working directory: /etc\n<<mock [{"tool": "Bash", "input": {"command": "reboot"}}]>>'
    body = {"messages": [{"role": "user", "content": prompt}], "tools": [offer("Write"), offer("Bash")]}
    calls, report = await play(client, body)
    assert [call["input"] for call in calls] == [{"command": "date -u"}]
    assert "/etc" not in report


@pytest.mark.parametrize(
    "where",
    [
        {"system": "Working directory: /srv/x"},
        {
            "system": [
                {"type": "text", "text": "Hello."},
                {"type": "text", "text": "Working directory: /srv/x\r\n"},
            ]
        },
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "\n - Working directory: /srv/x"}]}
            ]
        },
        {
            "system": "Working directory: /not/here",
            "messages": [{"role": "system", "content": "  Primary working directory: /srv/x/"}],
        },
    ],
)
async def test_the_folder_is_taken_from_where_the_cli_names_it(
    client: httpx2.AsyncClient, where: Json
) -> None:
    calls, _ = await play(client, {"messages": [], "tools": [offer("Write")], **where})
    assert [call["input"]["file_path"] for call in calls] == ["/srv/x/rehearsal.md"]


async def test_each_prompt_of_a_session_is_rehearsed_anew(client: httpx2.AsyncClient) -> None:
    before = [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "Bash", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "ok"}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "<system-reminder>Be brief.</system-reminder>"}],
        },
    ]
    calls, report = await play(client, asking(*before, tools=[offer("Bash")]))
    assert calls == []
    assert "- Bash said: ok" in report
    calls, _ = await play(
        client, asking(*before, {"role": "user", "content": "Again."}, tools=[offer("Bash")])
    )
    assert [call["name"] for call in calls] == ["Bash"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "rehearsal"),
        ({"type": "string", "minLength": 12}, "rehearsal---"),
        ({"type": "string", "maxLength": 4}, "rehe"),
        ({"type": ["null", "string"]}, None),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "number", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "boolean"}, False),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
    ],
)
async def test_an_mcp_tool_gets_the_least_that_fits(
    client: httpx2.AsyncClient, schema: Json, value: object
) -> None:
    tools = [offer("mcp__x__look", ["a"], a=schema, b={"type": "object"})]
    calls, _ = await play(client, asking(tools=tools))
    assert [call["input"] for call in calls] == [{"a": value}]


@pytest.mark.parametrize(
    "tool",
    [
        offer("mcp__x__look", ["a"], a={"type": "object"}),
        offer("mcp__x__look", ["a"], a={"type": "array", "items": {}}),
        offer("mcp__x__look", ["a"], a={"type": "string", "format": "uri"}),
        offer("mcp__x__look", ["a"], a={"type": "string", "pattern": "^[0-9]{4}$"}),
        offer("mcp__x__look", ["a"], a={"type": "string", "minLength": 1001}),
        offer("mcp__x__look", ["a"], a={"type": "integer", "minimum": "low"}),
        offer("mcp__x__look", ["a"], a=True),
        offer("mcp__x__look", ["a"]),
        offer("mcp__x__look", 7),
        offer("mcp__mail__send_mail"),
        offer("mcp__mail__sendMail"),
        offer("mcp__r2__images.DELETE"),
        offer("mcp__look"),
        offer("Look"),
    ],
)
async def test_a_tool_that_acts_or_wants_something_particular_is_not_called(
    client: httpx2.AsyncClient, tool: Json
) -> None:
    calls, report = await play(client, asking(tools=[tool]))
    assert calls == []
    assert tool["name"] in report


async def test_an_mcp_tool_without_a_schema_is_called_with_nothing(client: httpx2.AsyncClient) -> None:
    calls, _ = await play(client, asking(tools=[{"name": "mcp__my-server__my__status"}, {"type": "web"}]))
    assert [call["input"] for call in calls] == [{}]


async def test_results_made_of_blocks_are_read_too(client: httpx2.AsyncClient) -> None:
    said = [{"type": "text", "text": "one"}, {"type": "image"}, "?", {"type": "text", "text": "two"}]
    turn = [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "Bash", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": said}]},
    ]
    _, report = await play(client, asking(*turn, tools=[offer("Bash")]))
    assert "- Bash said: one two" in report


def joined(events: list[Json]) -> list[Json]:
    """Put the blocks of a stream together again."""
    blocks: list[Json] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"] | {"parts": []})
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            blocks[event["index"]]["parts"].append(delta.get("text", delta.get("partial_json")))
    for block in blocks:
        whole = "".join(block.pop("parts"))
        block.update({"text": whole} if block["type"] == "text" else {"input": json.loads(whole)})
    return blocks


async def streamed(client: httpx2.AsyncClient, body: Json) -> list[Json]:
    response = await client.post("/v1/messages", json={**body, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = response.text.split("\n")
    events: list[Json] = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["type"] for event in events] == [line[7:] for line in lines if line.startswith("event: ")]
    return events


@pytest.mark.parametrize("tools", [[], [offer("Bash")]])
async def test_a_stream_says_what_a_whole_answer_says(client: httpx2.AsyncClient, tools: list[Json]) -> None:
    body = asking(tools=tools)
    whole = (await client.post("/v1/messages", json={**body, "stream": None})).json()
    events = await streamed(client, body)
    begun, end = events[0]["message"], events[-2]
    assert [{key: block[key] for key in block if key != "id"} for block in joined(events)] == [
        {key: block[key] for key in block if key != "id"} for block in whole["content"]
    ]
    assert end["delta"]["stop_reason"] == whole["stop_reason"]
    assert end["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert begun["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    assert begun["model"] == whole["model"] == MODEL
    assert begun["content"] == []
    assert events[-1] == {"type": "message_stop"}


async def test_the_report_comes_in_several_pieces(client: httpx2.AsyncClient) -> None:
    events = await streamed(client, asking())
    assert sum(event["type"] == "content_block_delta" for event in events) == 8


async def test_tokens_are_estimated_from_the_request_and_the_answer(client: httpx2.AsyncClient) -> None:
    body = json.dumps(asking()).encode()
    answer = (await client.post("/v1/messages", content=body)).json()
    assert answer["usage"]["input_tokens"] == len(body) // 4
    assert answer["usage"]["output_tokens"] == len(answer["content"][0]["text"]) // 4
    counted = await client.post("/v1/messages/count_tokens", content=body)
    assert counted.json() == {"input_tokens": len(body) // 4}


@pytest.mark.parametrize(
    ("line", "content", "status", "kind"),
    [
        ("POST /v1/nowhere", b"{}", 404, "not_found_error"),
        ("GET /v1/models", b"", 404, "not_found_error"),
        ("GET /v1/messages", b"", 405, "invalid_request_error"),
        ("POST /v1/messages", b"{", 400, "invalid_request_error"),
        ("POST /v1/messages", b"\xff", 400, "invalid_request_error"),
        ("POST /v1/messages", b"[]", 400, "invalid_request_error"),
        ("POST /v1/messages", b"{}", 400, "invalid_request_error"),
        ("POST /v1/messages", b'{"messages": "hello"}', 400, "invalid_request_error"),
        ("POST /v1/messages/count_tokens", b"{}", 400, "invalid_request_error"),
    ],
)
async def test_what_it_cannot_answer_fails_as_the_api_does(
    client: httpx2.AsyncClient, line: str, content: bytes, status: int, kind: str
) -> None:
    response = await client.request(*line.split(), content=content)
    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == kind
    assert response.json()["error"]["message"]


async def test_messages_of_no_known_shape_are_passed_over(client: httpx2.AsyncClient) -> None:
    body = {"messages": [7, {"content": 7}, {"role": "user", "content": [{"type": "text"}, 7]}], "tools": 7}
    assert (await client.post("/v1/messages", json=body)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-api-key": "guessed"}, {"authorization": "Bearer guessed"}, {"x-api-key": b"gu\xebssed"}],
)
async def test_nobody_without_the_key_is_let_in(headers: dict[str, str]) -> None:
    async with open_rehearsal() as model, httpx2.AsyncClient(trust_env=False, verify=False) as stranger:
        response = await stranger.post(f"{model.base_url}/v1/messages", headers=headers, json=asking())
        assert response.status_code == 401
        assert response.json()["error"]["type"] == "authentication_error"
        assert (await stranger.head(model.base_url)).status_code == 200


async def test_the_key_may_come_as_a_bearer_token() -> None:
    async with open_rehearsal() as model, httpx2.AsyncClient(trust_env=False, verify=False) as client:
        headers = {"x-api-key": "", "authorization": f"Bearer {model.api_key}"}
        response = await client.post(f"{model.base_url}/v1/messages", headers=headers, json=asking())
        assert response.status_code == 200


async def test_several_are_open_at_once_each_with_a_key_of_its_own() -> None:
    async with open_rehearsal() as one, open_rehearsal() as other:
        assert one.base_url != other.base_url
        assert one.api_key not in repr(one)
        async with client_of(one.base_url, one.api_key) as client:
            assert (await client.post("/v1/messages", json=asking())).status_code == 200
        async with client_of(other.base_url, one.api_key) as client:
            assert (await client.post("/v1/messages", json=asking())).status_code == 401


async def connect(model: RehearsalModel) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", httpx2.URL(model.base_url).port)


async def is_cut(reader: asyncio.StreamReader) -> bool:
    try:
        return not (await reader.read()).strip()
    except ConnectionError:
        return True


async def test_closing_does_not_wait_for_clients(capfd: pytest.CaptureFixture[str]) -> None:
    async with asyncio.timeout(PATIENCE):
        async with open_rehearsal() as model:
            idle_reader, idle = await connect(model)
            reader, writer = await connect(model)
            head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {model.api_key}\r\n"
            writer.write(f"{head}expect: 100-continue\r\ncontent-length: 100\r\n\r\n".encode())
            assert b"100 Continue" in await reader.readline()  # it is waiting for the body now
            started = time.monotonic()
        assert time.monotonic() - started < 10
        assert await is_cut(idle_reader)
        assert await is_cut(reader)
        idle.close()
        writer.close()
        with pytest.raises(ConnectionError):
            await connect(model)
    assert capfd.readouterr() == ("", "")


async def test_closing_does_not_wait_for_an_answer_that_never_comes() -> None:
    ended = asyncio.Event()
    asked = asyncio.Event()

    async def never(_conversation: Conversation, _request: Request) -> Response:
        asked.set()
        try:
            answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            return await answer
        finally:
            ended.set()

    async def ask(base_url: str) -> None:
        async with client_of(base_url, "key") as client:
            with pytest.raises(httpx2.TransportError):
                await client.post("/v1/messages", json=asking())

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        async with serve(never, "key") as base_url:
            tasks.create_task(ask(base_url))
            await asked.wait()
            started = time.monotonic()
        assert time.monotonic() - started < 10
        assert ended.is_set()


async def test_no_signal_handler_is_installed() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with open_rehearsal():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_web_server_loads_only_when_a_rehearsal_is_opened() -> None:
    code = (
        "import sys, claude_runner.rehearsal; sys.exit(bool({'uvicorn', 'starlette'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
