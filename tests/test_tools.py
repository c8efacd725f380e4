"""The tools as an MCP client meets them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.client import CallToolResult
from fastmcp.exceptions import ValidationError
from fastmcp.server.middleware import MiddlewareContext
from fastmcp.tools import ToolResult
from mcp_types import CallToolRequestParams

from claude_runner.agent import Listener, Order, Stop, sandbox_problem
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Topic
from claude_runner.jobs import Jobs
from claude_runner.runs import Ending, EventKind, NewRun, State, Tokens, Trigger
from claude_runner.tools import build_mcp, warm_up
from claude_runner.tools._arguments import PlainRefusals
from tests.parts import logged
from tests.support import FakeAgent, FakeClock, content, ended, running, text, until

JOB = {
    "name": "Sprint",
    "cron": "0 9 * * 1-5",
    "prompt": "Summarise the sprint.",
    "timezone": "Europe/Berlin",
}

SUMMARY_OF_JOB = {
    "id", "name", "schedule", "cron", "timezone", "enabled", "next_run_at", "prompt", "tools", "profile",
    "last_executed_at", "last_error", "paused", "policy", "failures_in_a_row",
}  # fmt: skip
JOB_FIELDS = SUMMARY_OF_JOB | {
    "next_runs", "timeout_minutes", "model", "created_at", "updated_at", "tool_warnings", "note", "commands",
    "profile_is_default",
}  # fmt: skip
SUMMARY_OF_RUN = {
    "id", "job_id", "webhook_id", "trigger", "state", "reason", "error", "output", "scheduled_for", "created_at",
    "started_at", "finished_at", "duration_seconds", "total_tokens", "cost_usd", "model", "rehearsal", "report",
    "parent_run_id", "depth", "not_before", "profile", "denials",
}  # fmt: skip
RUN_FIELDS = SUMMARY_OF_RUN | {
    "output_length", "next_output_offset", "prompt", "tools", "tool_warnings", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "session_id", "attempt", "events", "events_total", "next_events_after",
    "commands", "retries", "max_cost_usd", "waits_for",
}  # fmt: skip

Mcp = Client[Any]


async def call(mcp: Mcp, tool: str, **arguments: Any) -> CallToolResult:
    return await mcp.call_tool(tool, arguments, raise_on_error=False)


async def answer(mcp: Mcp, tool: str, **arguments: Any) -> dict[str, Any]:
    return dict(content(await call(mcp, tool, **arguments)))


async def refusal(mcp: Mcp, tool: str, **arguments: Any) -> str:
    """The sentence with which a tool refuses, which is one line."""
    result = await call(mcp, tool, **arguments)
    assert result.is_error, result.structured_content
    sentence = text(result)
    assert "\n" not in sentence
    assert "pydantic" not in sentence
    return sentence


async def created(mcp: Mcp, **changes: Any) -> dict[str, Any]:
    return await answer(mcp, "create_job", **(JOB | changes))


async def seeded(app: App, **run: Any) -> str:
    """A run that has ended."""
    run_id = await app.runs.add(NewRun(**({"prompt": "go", "trigger": Trigger.QUICK} | run)), app.clock.now())
    await ended(app, run_id)
    return run_id


@pytest.fixture(scope="module")
async def lasting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mcp]:
    """A client of a server that many tests ask, since they leave nothing behind."""
    settings = Settings(home=tmp_path_factory.mktemp("lasting"))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        Client(await build_mcp(app)) as client,
    ):
        yield client


# What the client is told


async def test_the_server_tells_its_name_and_how_to_use_it(mcp: Mcp) -> None:
    assert "repeat next_runs to the user" in (mcp.instructions or "")


async def test_what_the_first_call_needs_can_be_loaded_before() -> None:
    await warm_up()


# Jobs


async def test_a_created_job_is_answered_whole(mcp: Mcp) -> None:
    job = await created(mcp, timeout_minutes=5, model="sonnet", tools=["Read"])
    assert set(job) == JOB_FIELDS
    assert {key: job[key] for key in JOB} == JOB
    assert (job["timeout_minutes"], job["model"], job["tools"], job["enabled"]) == (
        5,
        "sonnet",
        ["Read"],
        True,
    )


async def test_a_created_job_tells_its_schedule_in_words_and_its_next_runs_in_its_zone(mcp: Mcp) -> None:
    job = await created(mcp)
    assert job["schedule"] == "At 09:00, Monday through Friday"
    assert job["next_run_at"] == "2026-11-24T08:00:00+00:00"
    assert job["next_runs"] == [
        "2026-11-24T09:00:00+01:00", "2026-11-25T09:00:00+01:00", "2026-11-26T09:00:00+01:00",
        "2026-11-27T09:00:00+01:00", "2026-11-30T09:00:00+01:00",
    ]  # fmt: skip


async def test_a_created_job_has_half_an_hour_and_the_servers_zone_where_nothing_is_said(mcp: Mcp) -> None:
    job = await answer(mcp, "create_job", name="a", cron="@daily", prompt="b")
    assert (job["timeout_minutes"], job["model"], job["tools"]) == (30, None, [])
    assert job["timezone"]


async def test_a_disabled_job_tells_no_next_run(mcp: Mcp) -> None:
    job = await created(mcp, enabled=False)
    assert (job["enabled"], job["next_run_at"], job["next_runs"]) == (False, None, [])


async def test_get_job_answers_what_create_job_did(mcp: Mcp) -> None:
    job = await created(mcp, tools=["Read"])
    assert await answer(mcp, "get_job", job_id=job["id"]) == job


async def test_list_jobs_answers_all_of_them_with_the_beginning_of_their_prompts(mcp: Mcp) -> None:
    first, second = await created(mcp, prompt="x" * 501), await created(mcp)
    listed = await answer(mcp, "list_jobs")
    assert (listed["total"], {job["id"] for job in listed["jobs"]}) == (2, {first["id"], second["id"]})
    assert set(listed["jobs"][0]) == SUMMARY_OF_JOB
    assert {len(job["prompt"]) for job in listed["jobs"]} == {501, len(JOB["prompt"])}
    assert any(job["prompt"].endswith("x…") for job in listed["jobs"])


async def test_without_jobs_the_list_is_empty(mcp: Mcp) -> None:
    assert await answer(mcp, "list_jobs") == {"jobs": [], "total": 0}


async def test_update_job_changes_what_is_given_and_leaves_the_rest(mcp: Mcp) -> None:
    job = await created(mcp, tools=["Read"], model="opus")
    changed = await answer(mcp, "update_job", job_id=job["id"], cron="0 10 * * *", enabled=False)
    assert (changed["cron"], changed["enabled"], changed["next_runs"]) == ("0 10 * * *", False, [])
    kept = ("id", "name", "prompt", "tools", "timezone", "timeout_minutes", "model", "created_at")
    assert {key: changed[key] for key in kept} == {key: job[key] for key in kept}


async def test_update_job_can_go_back_to_the_default_model_and_tools(mcp: Mcp) -> None:
    job = await created(mcp, tools=["Read"], model="opus")
    changed = await answer(mcp, "update_job", job_id=job["id"], model="", tools=[])
    assert (changed["model"], changed["tools"]) == (None, [])


async def test_update_job_sets_another_model(mcp: Mcp) -> None:
    job = await created(mcp)
    assert (await answer(mcp, "update_job", job_id=job["id"], model="opus"))["model"] == "opus"


async def test_delete_job_answers_what_is_deleted(mcp: Mcp) -> None:
    job = await created(mcp)
    assert await answer(mcp, "delete_job", job_id=job["id"]) == {"deleted": True, "id": job["id"]}
    assert (await answer(mcp, "list_jobs"))["total"] == 0


async def test_trigger_job_answers_at_once_with_the_run(mcp: Mcp, app: App) -> None:
    job = await created(mcp, enabled=False)
    triggered = await answer(mcp, "trigger_job", job_id=job["id"])
    assert set(triggered) == {"run_id", "state", "job_id"}
    assert triggered["job_id"] == job["id"]
    assert (await ended(app, triggered["run_id"])).trigger is Trigger.MANUAL


async def test_a_job_tells_how_its_last_run_went(mcp: Mcp, app: App) -> None:
    job = await created(mcp)
    await ended(app, (await answer(mcp, "trigger_job", job_id=job["id"]))["run_id"])
    told = await answer(mcp, "get_job", job_id=job["id"])
    assert (told["last_executed_at"], told["last_error"]) == ("2026-11-23T08:59:30+00:00", None)


# The tools of a job


@pytest.mark.parametrize("tools", [["Read", "WebSearch"], '["Read", "WebSearch"]'])
async def test_tools_are_a_list_or_a_text_that_holds_one(mcp: Mcp, tools: list[str] | str) -> None:
    job = await created(mcp, tools=tools)
    assert (job["tools"], job["tool_warnings"]) == (["Read", "WebSearch"], [])


@pytest.mark.parametrize("written", ["weather:sunshine", "weather.sunshine"])
async def test_a_tool_of_another_form_is_normalized_with_a_warning(mcp: Mcp, written: str) -> None:
    job = await created(mcp, tools=[written])
    assert job["tools"] == ["mcp__weather__sunshine"]
    assert job["tool_warnings"] == [
        f"Normalized '{written}' to 'mcp__weather__sunshine'",
        "'mcp__weather__sunshine' is not a tool of any server here, so runs fail",
    ]


async def test_update_job_warns_of_tools_too(mcp: Mcp) -> None:
    job = await created(mcp)
    changed = await answer(mcp, "update_job", job_id=job["id"], tools='["read"]')
    assert (changed["tools"], changed["tool_warnings"]) == (["Read"], ["Normalized 'read' to 'Read'"])


async def test_the_default_tools_warn_of_what_runs_go_without(mcp: Mcp) -> None:
    problem = sandbox_problem()
    email, *rest = (await created(mcp))["tool_warnings"]
    assert email.startswith("runs without the server 'email': SENDER_EMAIL, SENDGRID_API_KEY are not set")
    assert rest == ([f"runs without Bash: {problem}"] if problem else [])


async def test_a_job_keeps_its_profile_and_its_commands(mcp: Mcp) -> None:
    job = await created(mcp, tools=["Bash"], profile="rules", commands=["git status"])
    assert (job["profile"], job["profile_is_default"], job["commands"]) == ("rules", False, ["git status"])
    changed = await answer(mcp, "update_job", job_id=job["id"], commands='["npm test"]')
    assert (changed["profile"], changed["commands"], changed["tools"]) == ("rules", ["npm test"], ["Bash"])
    [listed] = (await answer(mcp, "list_jobs"))["jobs"]
    assert listed["profile"] == "rules"
    back = await answer(mcp, "update_job", job_id=job["id"], profile="default", commands=[])
    assert (back["profile"], back["profile_is_default"], back["commands"]) == ("contained", True, [])


async def test_a_job_that_names_no_profile_has_the_owners_default(mcp: Mcp, app: App) -> None:
    await app.database.write(
        lambda c: c.execute(
            "UPDATE settings SET value = '\"rules\"' WHERE key = 'permission_profile'"
        ).close()
    )
    job = await created(mcp)
    assert (job["profile"], job["profile_is_default"]) == ("rules", True)
    assert any("runs without Bash: the profile 'rules' grants just" in line for line in job["tool_warnings"])


async def test_the_profile_full_is_refused_while_the_owner_wants_runs_contained(mcp: Mcp) -> None:
    sentence = await refusal(mcp, "create_job", **JOB, profile="full")
    assert "only where the owner has set sandbox_mode to false" in sentence
    job = await created(mcp)
    assert await refusal(mcp, "update_job", job_id=job["id"], profile="full") == sentence
    assert (await answer(mcp, "get_job", job_id=job["id"]))["profile"] == "contained"


async def test_a_job_whose_tools_are_not_allowed_any_more_says_so(mcp: Mcp, app: App) -> None:
    job = await created(mcp, tools=["Read"])
    await app.database.write(
        lambda c: c.execute("UPDATE settings SET value = '[\"Write\"]' WHERE key = 'allowed_tools'").close()
    )
    [warning] = (await answer(mcp, "get_job", job_id=job["id"]))["tool_warnings"]
    assert warning.startswith("'Read' is not among the allowed tools (Write)")


# Rows that somebody edited by hand


async def test_a_job_with_a_spoiled_schedule_is_shown_with_what_is_wrong(mcp: Mcp, app: App) -> None:
    job = await created(mcp)
    await app.database.write(lambda c: c.execute("UPDATE jobs SET cron = 'whenever'").close())
    shown = await answer(mcp, "get_job", job_id=job["id"])
    assert shown["schedule"].startswith("'whenever' has 1 field")
    assert shown["next_runs"] == []


async def test_a_job_that_cannot_be_read_is_named(mcp: Mcp, app: App) -> None:
    job = await created(mcp)
    await app.database.write(lambda c: c.execute("UPDATE jobs SET tools = '{'").close())
    assert (await refusal(mcp, "list_jobs")).startswith(
        f"job {job['id']} was edited by hand and can't be read"
    )


# Runs


async def test_get_run_answers_the_run_whole(mcp: Mcp, app: App) -> None:
    run_id = await seeded(app, tools=("Read",))
    run = await answer(mcp, "get_run", run_id=run_id)
    assert set(run) == RUN_FIELDS
    assert (run["state"], run["output"], run["prompt"], run["tools"]) == ("finished", "done", "go", ["Read"])
    assert (run["input_tokens"], run["output_tokens"], run["total_tokens"]) == (10, 2, 12)
    assert (run["cost_usd"], run["duration_seconds"], run["attempt"]) == (0.01, 0.0, 1)


async def test_get_run_tells_what_happened_step_by_step(mcp: Mcp, app: App) -> None:
    run = await answer(mcp, "get_run", run_id=await seeded(app))
    assert run["events"] == [
        {"seq": 1, "kind": "text", "at": "2026-11-23T08:59:30+00:00", "body": {"block": 1, "text": "done"}}
    ]
    assert (run["events_total"], run["next_events_after"]) == (1, None)


@pytest.fixture
def agent(request: pytest.FixtureRequest) -> FakeAgent:
    return FakeAgent(getattr(request, "param", None))


async def talk(_order: Order, listener: Listener, _stop: Stop) -> Ending:
    for number in range(5):
        listener.happened(EventKind.NOTICE, {"number": number})
    return Ending(State.FINISHED, output="0123456789", tokens=Tokens())


@pytest.mark.parametrize("agent", [talk], indirect=True)
async def test_a_long_output_comes_in_pages(mcp: Mcp, app: App) -> None:
    run_id = await seeded(app)
    pages: list[str] = []
    offset: int | None = 0
    while offset is not None:
        run = await answer(mcp, "get_run", run_id=run_id, output_offset=offset, output_limit=4)
        pages.append(run["output"])
        assert run["output_length"] == 10
        offset = run["next_output_offset"]
    assert pages == ["0123", "4567", "89"]


@pytest.mark.parametrize("agent", [talk], indirect=True)
async def test_many_events_come_in_pages(mcp: Mcp, app: App) -> None:
    run_id = await seeded(app)
    pages: list[list[int]] = []
    after: int | None = 0
    while after is not None:
        run = await answer(mcp, "get_run", run_id=run_id, events_after=after, events_limit=2)
        pages.append([event["body"]["number"] for event in run["events"]])
        after = run["next_events_after"]
    assert pages == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("agent", [talk], indirect=True)
async def test_a_run_can_be_shown_without_its_events(mcp: Mcp, app: App) -> None:
    run = await answer(mcp, "get_run", run_id=await seeded(app), events_limit=0)
    assert (run["events"], run["events_total"], run["next_events_after"]) == ([], 5, 0)


@pytest.mark.parametrize("agent", [FakeAgent.wait_for_stop], indirect=True)
async def test_a_running_run_shows_what_was_said_up_to_now(mcp: Mcp, app: App, clock: FakeClock) -> None:
    job = await created(mcp)
    run_id = (await answer(mcp, "trigger_job", job_id=job["id"]))["run_id"]
    await running(app, run_id, said="half")
    clock.move(2)
    run = await answer(mcp, "get_run", run_id=run_id)
    assert (run["state"], run["output"], run["duration_seconds"]) == ("running", "half a sen", 2.0)
    await answer(mcp, "kill_run", run_id=run_id)


@pytest.mark.parametrize("agent", [FakeAgent.wait_for_stop], indirect=True)
async def test_kill_run_ends_a_run_and_answers_it(mcp: Mcp, app: App) -> None:
    run_id = await app.runs.add(NewRun("go", Trigger.QUICK), app.clock.now())
    await running(app, run_id, said="half")
    run = await answer(mcp, "kill_run", run_id=run_id)
    assert set(run) == RUN_FIELDS
    assert (run["state"], run["reason"], run["output"]) == ("cancelled", "cancelled", "half a sen")


@pytest.mark.parametrize("agent", [FakeAgent.wait_for_stop], indirect=True)
async def test_killing_a_run_again_answers_the_same(mcp: Mcp, app: App) -> None:
    run_id = await app.runs.add(NewRun("go", Trigger.QUICK), app.clock.now())
    first = await answer(mcp, "kill_run", run_id=run_id)
    assert await answer(mcp, "kill_run", run_id=run_id) == first


async def test_killing_a_run_that_has_finished_leaves_it_so(mcp: Mcp, app: App) -> None:
    run_id = await seeded(app)
    assert (await answer(mcp, "kill_run", run_id=run_id))["state"] == "finished"


@pytest.fixture
async def crowded(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Mcp]:
    """A client of a server whose one place is taken."""
    settings = Settings(home=tmp_path, max_concurrent_runs=1, shutdown_grace_seconds=0.05)
    async with open_app(settings, agent=FakeAgent(FakeAgent.wait_for_stop), clock=clock) as app:
        await running(app, await app.runs.add(NewRun("go", Trigger.QUICK), clock.now()))
        async with Client(await build_mcp(app)) as client:
            yield client


async def test_a_pending_run_is_shown_without_output_or_duration(crowded: Mcp) -> None:
    job = await created(crowded)
    run_id = (await answer(crowded, "trigger_job", job_id=job["id"]))["run_id"]
    run = await answer(crowded, "get_run", run_id=run_id)
    assert (run["state"], run["output"], run["output_length"]) == ("pending", None, 0)
    assert (run["started_at"], run["duration_seconds"]) == (None, None)


async def test_kill_run_cancels_a_pending_run(crowded: Mcp) -> None:
    job = await created(crowded)
    run_id = (await answer(crowded, "trigger_job", job_id=job["id"]))["run_id"]
    assert (await answer(crowded, "kill_run", run_id=run_id))["state"] == "cancelled"


async def test_deleting_a_job_deletes_its_waiting_runs(crowded: Mcp) -> None:
    job = await created(crowded)
    run_id = (await answer(crowded, "trigger_job", job_id=job["id"]))["run_id"]
    await answer(crowded, "delete_job", job_id=job["id"])
    assert (
        await refusal(crowded, "get_run", run_id=run_id)
        == f"there is no run '{run_id}'; list_runs shows them all"
    )


async def test_list_runs_answers_the_heads_of_runs(mcp: Mcp, app: App) -> None:
    run_id = await seeded(app)
    listed = await answer(mcp, "list_runs")
    assert (listed["total"], listed["next_cursor"], [run["id"] for run in listed["runs"]]) == (
        1,
        None,
        [run_id],
    )
    assert set(listed["runs"][0]) == SUMMARY_OF_RUN


async def test_list_runs_comes_in_pages(mcp: Mcp, app: App) -> None:
    made = {await seeded(app) for _ in range(5)}
    seen: list[str] = []
    page: dict[str, Any] = {"next_cursor": None}
    while page.get("next_cursor") or not seen:
        page = await answer(mcp, "list_runs", limit=2, cursor=page["next_cursor"])
        seen += [run["id"] for run in page["runs"]]
    assert (len(seen), set(seen)) == (5, made)


@pytest.mark.parametrize(
    "wanted",
    [
        {"trigger": "manual"},
        {"state": "finished", "trigger": "manual"},
        {"since": "2026-11-23T10:00:31+01:00"},
        {"since": "2026-11-23T09:00:31Z", "until": "2026-11-23T09:00:32Z"},
    ],
)
async def test_list_runs_can_be_narrowed(
    mcp: Mcp, app: App, clock: FakeClock, wanted: dict[str, str]
) -> None:
    await seeded(app)
    clock.move(61)
    wanted_run = await seeded(app, trigger=Trigger.MANUAL)
    assert [run["id"] for run in (await answer(mcp, "list_runs", **wanted))["runs"]] == [wanted_run]


async def test_list_runs_of_a_job_leaves_out_the_others(mcp: Mcp, app: App) -> None:
    job = await created(mcp)
    await seeded(app)
    of_job = await seeded(app, job_id=job["id"])
    assert [run["id"] for run in (await answer(mcp, "list_runs", job_id=job["id"]))["runs"]] == [of_job]


async def test_the_run_of_a_job_that_is_due_is_seen_by_the_client(
    mcp: Mcp, app: App, clock: FakeClock
) -> None:
    job = await created(mcp, cron="0 9 * * *", timezone="UTC")
    clock.move(30)

    async def finished() -> list[dict[str, Any]]:
        return list((await answer(mcp, "list_runs", job_id=job["id"], state="finished"))["runs"])

    async def has_finished() -> bool:
        return bool(await finished())

    await until(has_finished, app, Topic.RUNS)
    [run] = await finished()
    assert (run["trigger"], run["scheduled_for"]) == ("schedule", "2026-11-23T09:00:00+00:00")


# Bad input


BAD_JOBS: list[tuple[dict[str, Any], str]] = [
    ({"cron": "0 9 * *"}, "'0 9 * *' has 4 fields; a schedule has 5, such as '0 7 * * 1-5'"),
    ({"cron": "61 9 * * *"}, "61 is out of range for the minute; it goes from 0 to 59"),
    ({"cron": ""}, "the schedule is empty; write one such as '0 7 * * 1-5'"),
    ({"cron": "0 0 30 2 *"}, "'0 0 30 2 *' never fires; choose a day and an hour that exist"),
    ({"cron": "0 0 0 1 1 * 2020"}, "'0 0 0 1 1 * 2020' has 7 fields; a schedule has 5"),
    ({"cron": "@reboot"}, "'@reboot' is not a time; write when to run"),
    ({"cron": "0 9 * * *\x00"}, "has a character cron does not know; write one line of plain ASCII"),
    ({"timezone": "Mars/Olympus"}, "'Mars/Olympus' is not a time zone; write an IANA name such as 'Europe/Berlin'"),
    ({"timezone": ""}, "'' is not a time zone; write an IANA name"),
    ({"timezone": "../../etc/passwd"}, "is not a time zone; write an IANA name"),
    ({"tools": "Read"}, "tools is a text that is not JSON"),
    ({"tools": "[" * 50_000}, "tools is a text that is not JSON"),
    ({"tools": '{"Read": true}'}, 'tools must be a list of texts; give a list such as ["Read", "WebSearch"]'),
    ({"tools": 5}, "tools is 5; it must be a list of texts or a text"),
    ({"tools": ["Read", 5]}, 'tools is ["Read", 5]; it must be a list of texts or a text'),
    ({"tools": ["Glob"]}, "'Glob' is not among the allowed tools (WebSearch, WebFetch, Read, Write, Edit, Bash)"),
    ({"tools": ["Bash(rm:*)"]}, "'Bash(rm:*)' is a permission rule; tools takes names alone, such as 'Bash'"),
    ({"tools": ["two words"]}, "'two words' is not the name of a tool"),
    ({"timeout_minutes": 0}, "timeout_minutes is 0; it must be a whole number from 1 to 1440"),
    ({"timeout_minutes": 1441}, "timeout_minutes is 1441; it must be a whole number from 1 to 1440"),
    ({"timeout_minutes": "abc"}, 'timeout_minutes is "abc"; it must be a whole number from 1 to 1440'),
    ({"timeout_minutes": 1.5}, "timeout_minutes is 1.5; it must be a whole number from 1 to 1440"),
    ({"timeout_minutes": True}, "timeout_minutes is true; it must be a whole number from 1 to 1440"),
    ({"timeout_minutes": 10**40}, "it must be a whole number from 1 to 1440"),
    ({"prompt": ""}, "the prompt is empty; say what Claude should do"),
    ({"prompt": " \n\t"}, "the prompt is empty; say what Claude should do"),
    ({"prompt": "x" * 2_000_000}, "the prompt has 2,000,000 characters; at most 1,000,000 are kept"),
    ({"prompt": "a\x00b"}, "the prompt has the control character U+0000 at 1; remove it"),
    ({"prompt": "a\x1b[31m"}, "the prompt has the control character U+001B at 1; remove it"),
    ({"prompt": ["a"]}, 'prompt is ["a"]; it must be a text'),
    ({"name": ""}, "a job's name is 1 to 200 characters without control characters"),
    ({"name": "a\x07"}, "a job's name is 1 to 200 characters without control characters"),
    ({"name": None}, "name is null; it must be a text"),
    ({"model": "no such model"}, "'no such model' is not the name of a model; give one such as 'sonnet'"),
    ({"enabled": "maybe"}, 'enabled is "maybe"; it must be true or false'),
    ({"colour": "red"}, "create_job has no parameter 'colour'; it takes name, cron, prompt, tools, timezone"),
]  # fmt: skip


def of_bad_job(value: object) -> str | None:
    return json.dumps(value)[:40] if isinstance(value, dict) else ""


@pytest.mark.parametrize(("changes", "sentence"), BAD_JOBS, ids=of_bad_job)
async def test_a_job_that_cannot_be_is_refused_and_nothing_is_stored(
    lasting: Mcp, changes: dict[str, Any], sentence: str
) -> None:
    before = await answer(lasting, "list_jobs")
    assert sentence in await refusal(lasting, "create_job", **(JOB | changes))
    assert await answer(lasting, "list_jobs") == before


BAD_CHANGES = [
    (changes, sentence)
    for changes, sentence in BAD_JOBS
    if None not in changes.values() and "colour" not in changes  # left out it stays; and it takes other ones
]


@pytest.fixture(scope="module")
async def standing(lasting: Mcp) -> dict[str, Any]:
    """A job that stays as it is."""
    return await created(lasting)


@pytest.mark.parametrize(("changes", "sentence"), BAD_CHANGES, ids=of_bad_job)
async def test_a_change_that_cannot_be_is_refused_and_nothing_is_changed(
    lasting: Mcp, standing: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    assert sentence in await refusal(lasting, "update_job", job_id=standing["id"], **changes)
    assert await answer(lasting, "get_job", job_id=standing["id"]) == standing


async def test_naming_bash_is_refused_just_where_it_cannot_be_confined(mcp: Mcp) -> None:
    result = await call(mcp, "create_job", **JOB, tools=["Bash"])
    problem = sandbox_problem()
    assert result.is_error == (problem is not None)
    assert problem is None or text(result) == f"Bash can't be granted: {problem}"


async def test_what_is_missing_is_named_all_at_once(lasting: Mcp) -> None:
    assert (
        await refusal(lasting, "create_job", name="a")
        == "create_job needs cron and prompt, which are missing"
    )


async def test_a_single_thing_that_is_missing_is_named(lasting: Mcp) -> None:
    assert await refusal(lasting, "get_job") == "get_job needs job_id, which is missing"


async def test_a_tool_without_parameters_says_that_it_takes_none(lasting: Mcp) -> None:
    assert await refusal(lasting, "list_jobs", all=True) == "list_jobs has no parameter 'all'; it takes none"


async def test_a_long_value_is_not_repeated_whole(lasting: Mcp) -> None:
    sentence = await refusal(lasting, "create_job", **(JOB | {"prompt": ["x" * 10_000]}))
    assert len(sentence) < 100
    assert sentence.endswith("…; it must be a text")


async def test_a_refusal_of_another_kind_is_left_as_it_is() -> None:
    async def refuse(context: MiddlewareContext[CallToolRequestParams]) -> ToolResult:
        raise ValidationError(f"{context.message.name}, in words of its own")

    call = MiddlewareContext(message=CallToolRequestParams(name="get_job"))
    with pytest.raises(ValidationError, match="get_job, in words of its own"):
        await PlainRefusals(FastMCP("any")).on_call_tool(call, refuse)


@pytest.mark.parametrize("tool", ["get_job", "update_job", "delete_job", "trigger_job"])
@pytest.mark.parametrize("job_id", ["deadbeef", "", "' OR 1=1 --", "a\x00b"])
async def test_an_unknown_job_is_not_found(lasting: Mcp, tool: str, job_id: str) -> None:
    assert (
        await refusal(lasting, tool, job_id=job_id) == f"there is no job {job_id!r}; list_jobs shows them all"
    )


@pytest.mark.parametrize("tool", ["get_run", "kill_run"])
async def test_an_unknown_run_is_not_found(lasting: Mcp, tool: str) -> None:
    assert (
        await refusal(lasting, tool, run_id="deadbeef")
        == "there is no run 'deadbeef'; list_runs shows them all"
    )


async def test_an_id_that_is_no_text_is_refused(lasting: Mcp) -> None:
    assert await refusal(lasting, "get_job", job_id=5) == "job_id is 5; it must be a text"


async def test_the_runs_of_an_unknown_job_are_none(lasting: Mcp) -> None:
    assert (await answer(lasting, "list_runs", job_id="deadbeef"))["total"] == 0


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"limit": 0}, "limit is 0; it must be a whole number from 1 to 200"),
        ({"limit": 201}, "limit is 201; it must be a whole number from 1 to 200"),
        ({"limit": "ten"}, 'limit is "ten"; it must be a whole number from 1 to 200'),
        ({"state": "done"}, 'state is "done"; it must be pending, running, finished, error or cancelled'),
        ({"trigger": "cron"}, 'trigger is "cron"; it must be schedule, manual, webhook, quick, retry'),
        ({"since": "yesterday"}, "since is 'yesterday'; give an instant with its offset, such as"),
        ({"until": "2026-11-23T09:00:00"}, "until is '2026-11-23T09:00:00'; give an instant with its offset"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since is '0001-01-01T00:00:00+14:00'; give an instant"),
        ({"cursor": "next"}, "this cursor was not given by list_runs; start without one"),
    ],
)
async def test_a_list_that_cannot_be_is_refused(lasting: Mcp, wanted: dict[str, Any], sentence: str) -> None:
    assert sentence in await refusal(lasting, "list_runs", **wanted)


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ({"output_offset": -1}, "output_offset is -1; it must be a whole number from 0 to"),
        ({"output_limit": 0}, "output_limit is 0; it must be a whole number from 1 to 200000"),
        (
            {"events_after": 2**70},
            "events_after is 1180591620717411303424; it must be a whole number from 0 to",
        ),
        ({"events_limit": 1001}, "events_limit is 1001; it must be a whole number from 0 to 1000"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    mcp: Mcp, app: App, page: dict[str, Any], sentence: str
) -> None:
    assert sentence in await refusal(mcp, "get_run", run_id=await seeded(app), **page)


async def test_a_page_beyond_the_end_is_empty(mcp: Mcp, app: App) -> None:
    run = await answer(mcp, "get_run", run_id=await seeded(app), output_offset=2**53, events_after=2**53)
    assert (run["output"], run["events"], run["next_output_offset"]) == ("", [], None)


async def test_an_unknown_tool_is_an_error(lasting: Mcp) -> None:
    assert await refusal(lasting, "list_everything") == "Unknown tool: 'list_everything'"


async def test_a_bug_shows_only_the_id_that_the_log_explains(
    mcp: Mcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Jobs) -> Any:
        raise KeyError("secret")

    monkeypatch.setattr(Jobs, "list", broken)
    with logged("claude_runner.tools") as log:
        sentence = await refusal(mcp, "list_jobs")
    found = re.fullmatch(r"the server made a mistake; its log tells more under ([0-9a-f]{8})", sentence)
    assert found
    [line] = log.having(found[1])
    assert "KeyError: 'secret'" in line


async def test_a_database_that_is_closed_is_told_in_a_sentence(tmp_path: Path) -> None:
    async with open_app(Settings(home=tmp_path), agent=FakeAgent()) as app:
        mcp = await build_mcp(app)
    async with Client(mcp) as client:
        assert (await refusal(client, "list_jobs")).startswith("the database is closed")


async def test_calls_at_once_do_not_mix(mcp: Mcp) -> None:
    jobs = await asyncio.gather(*(created(mcp, name=f"job {number}") for number in range(20)))
    shown = await asyncio.gather(*(answer(mcp, "get_job", job_id=job["id"]) for job in jobs))
    assert [job["name"] for job in shown] == [f"job {number}" for number in range(20)]
