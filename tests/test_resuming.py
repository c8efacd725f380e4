"""Sessions that go on: from Claude Code's own files or from our copy, and what each attempt has used."""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from claude_agent_sdk.testing import run_session_store_conformance

from claude_runner.agent import Order, account, since
from claude_runner.agent._sessions import KeptSessions
from claude_runner.config import Settings
from claude_runner.runs import Ending, State, Transcripts
from tests.orders import carried_out, order
from tests.parts import open_parts
from tests.scripted_model import ScriptedModel, Step, script
from tests.support import PATIENCE

LOOK: Step = {"text": "I look.", "tool": "Read", "input": {"file_path": "./x"}}
USED: Step = {"input_tokens": 1000, "output_tokens": 100}


class InMemory:
    """Transcripts that are kept as long as the test."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.kept: dict[tuple[str, str], list[dict[str, Any]]] = {}

    async def append(self, session_id: str, subpath: str, entries: Sequence[Mapping[str, Any]]) -> None:
        if self.full:
            raise OSError("no space left on device")
        self.kept.setdefault((session_id, subpath), []).extend(map(dict, entries))

    async def load(self, session_id: str, subpath: str) -> list[dict[str, Any]] | None:
        return self.kept.get((session_id, subpath))

    async def subpaths(self, session_id: str) -> list[str]:
        return [subpath for kept, subpath in self.kept if kept == session_id and subpath]


def used(ending: Ending, before: Ending | None = None) -> Any:
    """The tokens and the cost of an attempt."""
    usage = since(ending.session_usage or {}, {} if before is None else before.session_usage or {})
    tokens, cost = account(usage)
    return tokens.input, tokens.output, cost


class Apart:
    """Our sessions with those of each project apart: what the SDK asks of a store, and we leave out on purpose."""

    def __init__(self, sessions: KeptSessions) -> None:
        self._sessions = sessions

    async def append(self, key: Any, entries: Any) -> None:
        await self._sessions.append(_of_project(key), entries)

    async def load(self, key: Any) -> Any:
        return await self._sessions.load(_of_project(key))

    async def list_subkeys(self, key: Any) -> list[str]:
        return await self._sessions.list_subkeys(_of_project(key))


def _of_project(key: Mapping[str, str]) -> Any:
    return {**key, "session_id": f"{key['project_key']} {key['session_id']}"}


async def test_our_copy_of_sessions_keeps_what_the_sdk_asks_of_one(tmp_path: Path) -> None:
    async with open_parts(tmp_path / "jobs.db") as parts:

        async def emptied() -> Any:
            await parts.sql("DELETE FROM transcripts")
            return Apart(KeptSessions(Transcripts(parts.database, parts.clock)))

        await run_session_store_conformance(emptied)


WISH = {"uuid": "2", "message": {"content": [{"type": "text"}, {"type": "tool_use", "id": "call"}, "?"]}}


async def test_a_call_waits_until_the_wish_for_it_is_kept() -> None:
    sessions = KeptSessions(InMemory())
    waiting = asyncio.create_task(sessions.until_kept("call"))
    key: Any = {"session_id": "s"}
    for entry in ({"uuid": "1"}, {"uuid": "3", "message": {"content": "call"}}, {"uuid": "4", "message": 5}):
        await sessions.append(key, [cast(Any, entry)])
        assert not waiting.done()
    await sessions.append(key, [cast(Any, WISH)])
    await waiting
    await sessions.until_kept("call")


async def test_no_second_call_waits_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_runner.agent._sessions.PATIENCE_SECONDS", 0.01)
    sessions = KeptSessions(InMemory())
    await sessions.until_kept("call")
    monkeypatch.setattr("claude_runner.agent._sessions.PATIENCE_SECONDS", 1000)
    await sessions.until_kept("another")


async def test_a_session_goes_on_from_our_copy_in_another_folder_and_tells_what_each_attempt_used(
    owner: Settings, model: ScriptedModel
) -> None:
    copy = InMemory()
    first = order(owner, {**LOOK, **USED}, {"text": "Done.", **USED}, transcripts=copy, model="sonnet")
    begun, _ = await carried_out(owner, first)
    assert used(begun) == (2000, 200, pytest.approx(2 * 0.003))

    shutil.rmtree(owner.state / "claude")  # as on another machine
    elsewhere = owner.playground / "elsewhere"
    elsewhere.mkdir()
    step: Step = {"text": "Went on.", "input_tokens": 10, "output_tokens": 1}
    again = replace(first, resumes=True, prompt=f"Go on. {script(step)}", folder=elsewhere)
    went_on, heard = await carried_out(owner, again)
    assert (went_on.state, went_on.output) == (State.FINISHED, "Went on.")
    assert "I look." in json.dumps(model.requests[-1].body)
    assert used(went_on, begun)[:2] == (10, 1)
    assert heard.tokens.input == 10


async def test_what_an_attempt_used_is_told_after_one_that_failed_and_one_that_was_killed(
    owner: Settings, model: ScriptedModel
) -> None:
    first = order(owner, {**LOOK, **USED}, {"status": 429, "etype": "rate_limit_error"}, model="sonnet")
    failed, _ = await carried_out(owner, first)
    assert (failed.reason, failed.resets_at) == ("usage_limit", None)
    assert used(failed) == (1000, 100, pytest.approx(0.003))

    steps: tuple[Step, ...] = ({**LOOK, **USED}, {"text": "Hm", "stall": True})
    again = replace(first, resumes=True, prompt=f"Go on. {script(*steps)}")
    killed = await _killed(owner, again, model)
    assert (killed.state, killed.tokens, killed.session_usage) == (State.ERROR, None, None)

    step: Step = {"text": "Done.", "input_tokens": 10, "output_tokens": 1}
    last, heard = await carried_out(owner, replace(first, resumes=True, prompt=f"Go on. {script(step)}"))
    assert used(last, failed) == (10, 1, pytest.approx(heard.costs[-1]))


async def test_a_session_that_is_nowhere_is_lost(owner: Settings, model: ScriptedModel) -> None:
    for transcripts in (None, InMemory()):
        ending, _ = await carried_out(
            owner, order(owner, {"text": "hi"}, resumes=True, transcripts=transcripts)
        )
        assert (ending.state, ending.reason) == (State.ERROR, "session_lost")
        assert (ending.error or "").startswith("what the run had done is not known any more")
    assert not model.requests


async def test_a_copy_that_fails_is_noted_and_ends_nothing(owner: Settings) -> None:
    ending, heard = await carried_out(
        owner, order(owner, {**LOOK}, {"text": "Done."}, transcripts=InMemory(full=True))
    )
    assert (ending.state, ending.output) == (State.FINISHED, "Done.")
    noted = heard.notices("mirror_error")
    assert noted
    assert "no space left on device" in noted[0]["error"]


@pytest.mark.parametrize("rejected", [True, False])
async def test_when_a_subscriptions_limit_is_over_is_told(
    owner: Settings, model: ScriptedModel, rejected: bool
) -> None:
    resets = 1_900_000_000
    signed_in = {name: value for name, value in owner.environment.items() if name != "ANTHROPIC_API_KEY"}
    signed_in["CLAUDE_CODE_OAUTH_TOKEN"] = model.api_key
    unified = "anthropic-ratelimit-unified"
    headers = {
        f"{unified}-status": "rejected" if rejected else "allowed",
        f"{unified}-reset": str(resets),
        f"{unified}-representative-claim": "five_hour",
    }
    step: Step = {"status": 429, "etype": "rate_limit_error", "msg": "limit reached", "headers": headers}
    ending, _ = await carried_out(
        replace(owner, environment=signed_in),
        order(
            replace(owner, environment=signed_in), step if rejected else {"text": "hi", "headers": headers}
        ),
    )
    if rejected:
        assert (ending.reason, ending.resets_at) == ("usage_limit", datetime.fromtimestamp(resets, UTC))
    else:
        assert (ending.state, ending.resets_at) == (State.FINISHED, None)


async def _killed(owner: Settings, what: Order, model: ScriptedModel) -> Ending:
    """What became of an order whose Claude Code was killed while it waited for its second answer."""
    asked = len(model.requests)
    going_on = asyncio.create_task(carried_out(owner, what))
    async with asyncio.timeout(PATIENCE):
        await model.asked(asked + 2)
    for each in psutil.Process().children(recursive=True):
        if each.name() == "claude":
            each.kill()
    return (await going_on)[0]
