import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from claude_agent_sdk import ClaudeAgentOptions, Message, ResultMessage, query
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.rehearsal.conversations import Conversation
from tests.scripted_model import ScriptedModel, Step, _script_of, script, scripted_model
from tests.support import PATIENCE

Json = dict[str, Any]


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


def prompted(*prompts: str, answers: int = 0, **more: object) -> Json:
    said = [{"role": "assistant", "content": "…"}] * answers
    return {
        "model": "m",
        "messages": [*({"role": "user", "content": text} for text in prompts), *said],
        **more,
    }


async def ask(model: ScriptedModel, body: Json, session: str = "s") -> httpx2.Response:
    headers = {"x-api-key": model.api_key, "x-claude-code-session-id": session}
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE) as client:
        return await client.post(f"{model.base_url}/v1/messages", json=body, headers=headers)


async def say(model: ScriptedModel, *steps: Step, answers: int = 0, session: str = "s") -> str:
    answer = (await ask(model, prompted(script(*steps), answers=answers), session)).json()
    return str(answer["content"][0]["text"])


async def stream(model: ScriptedModel, step: Step) -> list[Json]:
    response = await ask(model, prompted(script(step), stream=True))
    return [json.loads(line[6:]) for line in response.text.split("\n") if line.startswith("data: ")]


async def test_the_real_cli_follows_the_script(model: ScriptedModel, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("It rained.")
    note: Step = {"text": "I look.", "tool": "Read", "input": {"file_path": str(tmp_path / "note.txt")}}
    model.default_script = [
        {"status": 529, "etype": "overloaded_error", "times": 1, "then": {"text": "I was", "cut": True}},
        note,
        {"thinking": "Hm.", "text": "It rained.", "chunks": 5, "input_tokens": 7, "output_tokens": 9},
    ]
    options = ClaudeAgentOptions(
        model="claude-scripted",
        cwd=tmp_path,
        setting_sources=[],
        strict_mcp_config=True,
        tools=["Read"],
        permission_mode="dontAsk",
        env={
            "CLAUDE_CONFIG_DIR": str(tmp_path / "config"),
            "CLAUDE_CODE_TMPDIR": str(tmp_path),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "ANTHROPIC_BASE_URL": model.base_url,
            "ANTHROPIC_API_KEY": model.api_key,
        },
    )
    async with asyncio.timeout(PATIENCE):
        messages: list[Message] = [message async for message in query(prompt="Was it wet?", options=options)]
    result = messages[-1]
    assert isinstance(result, ResultMessage)
    assert result.result == "It rained."
    assert [request.step for request in model.requests] == [0, 0, 1, 2]
    assert {request.session_id for request in model.requests} == {result.session_id}
    assert result.usage is not None
    assert result.usage["input_tokens"] == 100 + 100 + 7
    assert "It rained." in json.dumps(model.requests[-1].body["messages"])


@settings(max_examples=50)
@given(st.lists(st.text(), max_size=3), st.text(), st.text(alphabet=st.characters(exclude_characters="<")))
def test_a_script_survives_any_text_in_it_and_around_it(texts: list[str], before: str, after: str) -> None:
    steps: list[Step] = [{"text": text, "tool": "Bash", "input": {"": {text: text}}} for text in texts]
    body = json.dumps(prompted(f"{before}{script(*steps)}{after}")).encode()
    assert _script_of(Conversation.read(body)) == (steps, 0)


def test_a_template_finds_nothing_of_its_own_in_a_script() -> None:
    written = script({"text": "{{ x }} ${y} %s <b> & `z`", "input": {"a": {"b": {}}}})
    assert not set("$%&`") & set(written)
    assert "{{" not in written
    assert written.count("<") == written.count(">") == 2


async def test_the_nth_answer_follows_the_nth_step_of_the_newest_script(model: ScriptedModel) -> None:
    steps: list[Step] = [{"text": "one"}, {"text": "two"}]
    assert [await say(model, *steps, answers=count) for count in (0, 1)] == ["one", "two"]
    assert await say(model, *steps, answers=2) == "The script is over."
    later = {"role": "user", "content": f"Go on. {script({'text': 'three'})}"}
    body = prompted(script(*steps), answers=1)
    answer = await ask(model, {**body, "messages": [*body["messages"], later]})
    assert answer.json()["content"][0]["text"] == "three"


async def test_a_prompt_without_a_script_gets_the_default_one(model: ScriptedModel) -> None:
    assert "scripted model" in (await ask(model, prompted("Hello."))).text
    model.default_script = [{"text": "one"}, {"text": "two"}]
    assert "two" in (await ask(model, prompted("Hello.", answers=1))).text


async def test_requests_are_kept_as_they_came(model: ScriptedModel) -> None:
    started = time.monotonic()
    await ask(model, prompted("Hello.", answers=4), "that-session")
    request = model.requests[0]
    assert request.body == prompted("Hello.", answers=4)
    assert request.headers["x-api-key"] == model.api_key
    assert (request.session_id, request.step) == ("that-session", 4)
    assert started < request.arrived < time.monotonic()


async def test_one_can_wait_until_it_was_asked(model: ScriptedModel) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(model.asked(count)) for count in (1, 2)]
        await say(model, {"text": "one"})
        await waiting[0]
        assert not waiting[1].done()
        await say(model, {"text": "two"})
    await model.asked(2)


async def test_an_error_has_the_status_words_and_headers_of_the_step(model: ScriptedModel) -> None:
    step: Step = {"status": 429, "etype": "rate_limit_error", "msg": "Slow", "headers": {"retry-after": "7"}}
    response = await ask(model, prompted(script(step), stream=True))
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.json() == {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow"}}


async def test_a_step_may_last_for_some_requests_of_each_session(model: ScriptedModel) -> None:
    async def status(step: Step, session: str) -> int:
        return (await ask(model, prompted(script(step)), session)).status_code

    assert [await status({"status": 500, "times": 2}, "a") for _ in range(3)] == [500, 500, 200]
    assert [await status({"status": 500, "times": 1, "then": {"status": 401}}, "b") for _ in range(2)] == [
        500,
        401,
    ]


async def test_several_tools_are_called_at_once(model: ScriptedModel) -> None:
    step: Step = {
        "text": "Both.",
        "tools": [{"tool": "Read", "input": {"a": 1}}, {"tool": "Bash"}],
        "tool": "Edit",
    }
    answer = (await ask(model, prompted(script(step)))).json()
    assert [block.get("name") for block in answer["content"]] == [None, "Read", "Bash", "Edit"]
    assert answer["stop_reason"] == "tool_use"
    assert len({block.get("id") for block in answer["content"]}) == 4


async def test_thinking_is_streamed_and_signed(model: ScriptedModel) -> None:
    events = await stream(model, {"thinking": "Hm hm.", "chunks": 2, "text": "Ah."})
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == [
        *["thinking_delta"] * 2,
        "signature_delta",
        *["text_delta"] * 2,
    ]
    answer = (await ask(model, prompted(script({"thinking": "Hm."})))).json()
    assert answer["content"][0]["thinking"] == "Hm."


async def test_usage_and_model_are_what_the_step_says(model: ScriptedModel) -> None:
    step: Step = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read": 3,
        "cache_write": 4,
        "model": "another",
    }
    events = await stream(model, step)
    usage = {"input_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4}
    assert events[0]["message"]["usage"] == {**usage, "output_tokens": 1}
    assert events[0]["message"]["model"] == "another"
    assert events[-2]["usage"] == {**usage, "output_tokens": 2}


async def test_deltas_come_in_the_number_and_pace_asked_for(model: ScriptedModel) -> None:
    started = time.monotonic()
    events = await stream(model, {"text": "x" * 100, "chunks": 41, "chunk_delay": 0.005})
    assert sum(event["type"] == "content_block_delta" for event in events) == 41
    assert time.monotonic() - started >= 40 * 0.005


async def test_a_delay_comes_before_the_answer(model: ScriptedModel) -> None:
    started = time.monotonic()
    assert await say(model, {"delay": 0.1, "text": "Late."}) == "Late."
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(
    ("step", "last"),
    [({"text": "Half", "cut": True}, "content_block_stop"), ({"text": "Half", "mid_error": True}, "error")],
)
async def test_a_stream_may_end_before_its_answer(model: ScriptedModel, step: Step, last: str) -> None:
    events = await stream(model, step)
    assert events[-1]["type"] == last
    assert not any(event["type"].startswith("message_d") for event in events)


@asynccontextmanager
async def asked_to(model: ScriptedModel, step: Step) -> AsyncIterator[httpx2.Response]:
    body, headers = prompted(script(step), stream=True), {"x-api-key": model.api_key}
    async with (
        httpx2.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE) as client,
        client.stream("POST", f"{model.base_url}/v1/messages", json=body, headers=headers) as response,
    ):
        yield response


@pytest.mark.parametrize("step", [{"hang": True}, {"delay": 60}])
async def test_a_hanging_answer_ends_when_the_model_closes(step: Step) -> None:
    async def hang(model: ScriptedModel) -> None:
        with pytest.raises(httpx2.TransportError):
            async with asked_to(model, step):
                raise AssertionError("it answered")

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        async with scripted_model() as model:
            tasks.create_task(hang(model))
            await model.asked(1)
            started = time.monotonic()
        assert time.monotonic() - started < 10


async def test_a_stalled_stream_ends_when_the_model_closes() -> None:
    seen = asyncio.Event()

    async def follow(response: httpx2.Response) -> None:
        async for line in response.aiter_lines():
            if "content_block_stop" in line:
                seen.set()

    async def read(model: ScriptedModel) -> None:
        async with asked_to(model, {"text": "Half", "stall": True}) as response:
            with pytest.raises(httpx2.TransportError):
                await follow(response)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        async with scripted_model() as model:
            tasks.create_task(read(model))
            await seen.wait()
            started = time.monotonic()
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("<<mock [{]>>", "not JSON"),
        ("<<mock []", "is not a list with >> after it"),
        ("<<mock {}>>", "is not a list with >> after it"),
        ('<<mock [{"txt": "Hello."}]>>', "unknown keys: txt"),
    ],
)
async def test_a_script_that_is_none_is_told_as_such(model: ScriptedModel, prompt: str, words: str) -> None:
    response = await ask(model, prompted(prompt))
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_it_runs_by_itself() -> None:
    command = [sys.executable, "-m", "tests.scripted_model"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            assert process.stdout is not None
            base_url, api_key = (process.stdout.readline().strip() for _ in range(2))
            headers = {"x-api-key": api_key}
            body = prompted(script({"text": "Good day."}))
            with httpx2.Client(trust_env=False, verify=False, timeout=PATIENCE) as client:
                assert "Good day." in client.post(f"{base_url}/v1/messages", json=body, headers=headers).text
        finally:
            process.terminate()
