"""What the JSON API takes, and what it refuses, through the real site."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx2
import pytest
from fastmcp import Client

from claude_runner.app import App, open_app
from claude_runner.config import Login, Settings
from claude_runner.errors import InvalidError
from claude_runner.invocation import Outcome
from claude_runner.runs import Ending, NewRun, RunQuery, State, Trigger
from claude_runner.tools import build_mcp
from claude_runner.web.api._answering import written
from claude_runner.web.api._periods import Period, edges_of
from claude_runner.web.api._routes import GROUPS
from tests.api_client import Api, api_of
from tests.parts import locked
from tests.sites import on_free_port, serving
from tests.support import FakeAgent, FakeClock, content, ended

JOB: Final = {"name": "Sprint", "cron": "0 9 * * 1-5", "prompt": "Summarise", "timezone": "Europe/Berlin"}
OZ: Final = "'Oz' is not a time zone; write an IANA name such as 'Europe/Berlin' or 'UTC'"
MINUTES: Final = "it must be a whole number from 1 to 1440"
BERLIN: Final = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[App, Api]]:
    settings = on_free_port(Settings(home=tmp_path))
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app, api_of(app) as api:
        yield app, api


@pytest.fixture(scope="module")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """An API that tests share which change nothing."""
    settings = on_free_port(Settings(home=tmp_path_factory.mktemp("still")))
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app, api_of(app) as api:
        yield api


# Bodies


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"\xff{}", 400, "the body is not UTF-8"),
        (b'{"name": "a", "name": "b"}', 400, '"name" is there twice'),
        (b'{"timeout_minutes": NaN}', 400, "NaN is no number of JSON"),
        (b'{"timeout_minutes": 1e999}', 400, "1e999 is too large a number"),
        (b'{"timeout_minutes": ' + b"9" * 5000 + b"}", 400, "the body is not JSON"),
        (b'{"tools": ' + b"[" * 200 + b"]" * 200 + b"}", 400, "nested more than 100 deep"),
        (b"[" * 100_000, 400, "nested more than 100 deep"),
        (b'{"name": "\\ud800"}', 400, "half of a surrogate pair"),
        (b"[]", 422, "the body of create_job is an object"),
        (b"null", 422, "the body of create_job is an object"),
        (b"{}", 422, "create_job needs name, cron and prompt, which are missing"),
        (b"", 422, "create_job needs name, cron and prompt, which are missing"),
    ],
    ids=lambda it: repr(it[:24]) if isinstance(it, bytes) else None,
)
async def test_a_body_that_is_no_object_of_json_is_refused(
    still: Api, raw: bytes, status: int, words: str
) -> None:
    answer = await still.client.post("/api/jobs", content=raw, headers={"Content-Type": "application/json"})
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text
    still.check("create_job", answer)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_a_body_of_another_type_is_refused(still: Api, kind: str) -> None:
    answer = await still.client.post("/api/jobs", content=b"{}", headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "media_type")
    still.check("create_job", answer)


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"timeout_minutes": 0}, "timeout_minutes", f"timeout_minutes is 0; {MINUTES}"),
        ({"timeout_minutes": "9"}, "timeout_minutes", f'timeout_minutes is "9"; {MINUTES}'),
        ({"timeout_minutes": True}, "timeout_minutes", f"timeout_minutes is true; {MINUTES}"),
        ({"enabled": "yes"}, "enabled", 'enabled is "yes"; it must be true or false'),
        ({"tools": [1]}, "tools", "tools is [1]; it must be a list of texts"),
        ({"name": None}, "name", "name is null; it must be a text"),
        ({"profile": "root"}, "profile", 'profile is "root"; it must be contained, rules, full or default'),
        ({"cron": "0 9 * *"}, "cron", "'0 9 * *' has 4 fields; a schedule has 5, such as '0 7 * * 1-5'"),
        ({"timezone": "Oz"}, "timezone", OZ),
        ({"prompt": " "}, "prompt", "the prompt is empty; say what Claude should do"),
    ],
)  # fmt: skip
async def test_a_value_that_does_not_fit_is_refused_with_a_sentence(
    still: Api, changes: dict[str, Any], field: str, sentence: str
) -> None:
    status, error = await still.refused("create_job", JOB | changes)
    assert (status, error) == (422, {"code": "invalid", "message": sentence, "field": field})


async def test_an_unknown_field_is_refused_with_those_there_are(still: Api) -> None:
    status, error = await still.refused("create_job", JOB | {"promt": "x"})
    assert (status, error["field"]) == (422, "promt")
    assert error["message"].startswith('create_job takes no "promt"; it takes timezone, tools')


async def test_a_secret_that_does_not_fit_is_not_repeated(still: Api) -> None:
    status, error = await still.refused(
        "set_credential", {"value": ["hush"]}, name="email", key="SENDGRID_API_KEY"
    )
    assert (status, error["message"]) == (422, "value must be a text")


async def test_a_prompt_of_a_million_characters_is_taken(site: tuple[App, Api]) -> None:
    job = await site[1].call("create_job", JOB | {"prompt": "x" * 1_000_000})
    assert len(job["prompt"]) == 1_000_000


async def test_the_mark_at_the_beginning_of_a_text_is_passed_over(site: tuple[App, Api]) -> None:
    raw = b"\xef\xbb\xbf" + json.dumps(JOB).encode()
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert (await site[1].client.post("/api/jobs", content=raw, headers=headers)).status_code == 201


# Addresses


@pytest.mark.parametrize(
    ("query", "field", "sentence"),
    [
        ("limit=0", "limit", 'limit is "0"; it must be a whole number from 1 to 200'),
        ("limit=ten", "limit", 'limit is "ten"; it must be a whole number from 1 to 200'),
        ("limit=1&limit=2", "limit", '"limit" is there twice'),
        ("colour=red", "colour", 'search_runs takes no "colour"; it takes text, state, reason'),
        ("state=done", "state", "it must be a list"),
        ("since=yesterday", "since", "since is 'yesterday'; give an instant with its offset"),
        ("since=2026-11-23T09:00:00", "since", "give an instant with its offset"),
        ("cursor=x", "cursor", "cursor"),
        ("text=%ff", None, "the parameters of the address can't be read"),
        ("min_cost_usd=-1", "min_cost_usd", 'min_cost_usd is "-1"; it must be a number from 0 on'),
    ],
)
async def test_a_parameter_that_does_not_fit_is_refused_with_a_sentence(
    still: Api, query: str, field: str | None, sentence: str
) -> None:
    answer = await still.client.get(f"/api/runs?{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["field"], sentence in error["message"]) == (422, field, True), error
    still.check("search_runs", answer)


async def test_an_empty_parameter_counts_as_left_out(still: Api) -> None:
    assert (await still.client.get("/api/runs?job_id=&state=&limit=&since=")).status_code == 200


async def test_where_no_parameters_are_taken_none_are_passed_over(still: Api) -> None:
    status, error = await still.refused("list_webhooks", page=2)
    assert (status, error["field"]) == (422, "page")


# The site around it


async def test_what_there_is_not_is_told_in_json_to_browsers_too(still: Api) -> None:
    for path in ("/api/nothing", "/api/", "/api/jobs/deadbeef"):
        answer = await still.client.get(path, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_wrong_method_is_refused_with_those_there_are(still: Api) -> None:
    answer = await still.client.put("/api/jobs", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method")
    assert sorted(answer.headers["Allow"].split(", ")) == ["GET", "HEAD", "POST"]


async def test_a_head_is_answered_without_a_body(still: Api) -> None:
    answer = await still.client.head("/api/settings")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["ETag"]


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}],
)
async def test_pages_of_other_sites_change_nothing(site: tuple[App, Api], headers: dict[str, str]) -> None:
    app, api = site
    answer = await api.client.post("/api/jobs", json=JOB, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    api.check("create_job", answer)
    assert await app.jobs.list() == []


async def test_only_the_owner_is_served(tmp_path: Path) -> None:
    settings = on_free_port(Settings(home=tmp_path, dashboard=Login("ada", "correct horse")))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        serving(app) as origin,
        httpx2.AsyncClient(base_url=origin) as client,
    ):
        for path in ("/api/openapi.json", "/api/jobs", "/api/nothing"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["WWW-Authenticate"][:6]) == (401, "Basic ")
        assert (await client.get("/api/jobs", auth=("ada", "correct horse"))).status_code == 200


async def test_a_store_that_is_locked_is_told_and_another_try_later_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.app.open_database", _impatient)
    settings = on_free_port(Settings(home=tmp_path))
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app, api_of(app) as api:
        with locked(settings.database_path):
            status, error = await api.refused("create_job", JOB)
            assert (status, error["code"]) == (503, "unavailable")
            assert "locked by another program" in error["message"]
            assert (await api.call("list_jobs"))["total"] == 0
        assert (await api.call("create_job", JOB))["name"] == "Sprint"


def _impatient(path: Path) -> Any:
    """The database, whose writes wait for another program's lock for a moment only."""
    from claude_runner.db import open_database  # noqa: PLC0415 - the real one, not what stands in for it

    return open_database(path, lock_timeout=0.05)


async def test_a_mistake_of_ours_is_told_by_an_id_alone(
    still: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("claude_runner.web.api.webhooks.webhook_list", broken)
    status, error = await still.refused("list_webhooks")
    assert (status, error["code"]) == (500, "internal_error")
    assert "secret" not in error["message"]
    assert "KeyError" in caplog.text


async def test_nothing_is_worked_out_before_somebody_asks(site: tuple[App, Api]) -> None:
    for group in GROUPS:
        for endpoint in group(site[0]).endpoints():
            assert set(vars(endpoint)) == {"call", "declared", "subject"}


# Edits


async def test_an_edit_of_what_was_changed_meanwhile_is_refused(site: tuple[App, Api]) -> None:
    _, api = site
    job = await api.call("create_job", JOB)
    seen = (await api.ask("get_job", job_id=job["id"])).headers["ETag"]
    changed = await api.ask("change_job", {"name": "Mine"}, job_id=job["id"], if_match=seen)
    assert changed.status_code == 200
    for name, body in (("change_job", {"name": "Yours"}), ("delete_job", None)):
        status, error = await api.refused(name, body, job_id=job["id"], if_match=seen)
        assert (status, error["code"]) == (412, "stale")
        assert "the job 'Mine' was changed by someone else" in error["message"]
    either = f'"x", {changed.headers["ETag"]}'
    again = await api.call("change_job", {"name": "Yours"}, job_id=job["id"], if_match=either)
    assert again["name"] == "Yours"
    assert (await api.call("change_job", {"name": "Anyone's"}, job_id=job["id"], if_match="*"))[
        "name"
    ] == "Anyone's"


async def test_an_edit_of_settings_or_a_webhook_that_were_changed_meanwhile_is_refused(
    site: tuple[App, Api],
) -> None:
    _, api = site
    seen = (await api.ask("get_settings")).headers["ETag"]
    await api.call("change_settings", {"default_model": "sonnet"}, if_match=seen)
    assert (await api.refused("change_settings", {"default_model": "opus"}, if_match=seen))[0] == 412
    webhook = await api.ask("create_webhook", {"name": "x", "prompt_template": "say {{payload}}"})
    which = {"webhook_id": webhook.json()["id"], "if_match": webhook.headers["ETag"]}
    await api.call("rotate_webhook", **which)
    assert (await api.refused("rotate_webhook", **which))[0] == 412
    assert (await api.refused("change_webhook", {"name": "y"}, **which))[0] == 412


async def test_two_edits_at_the_same_moment_are_one_and_a_refusal(site: tuple[App, Api]) -> None:
    _, api = site
    created = await api.ask("create_job", JOB)
    which = {"job_id": created.json()["id"], "if_match": created.headers["ETag"]}
    answers = await asyncio.gather(*(api.ask("change_job", {"name": f"{n}"}, **which) for n in range(8)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {409, 412}


@pytest.mark.parametrize("tag", ["x", '"x', 'W/x"', ",", '"a",' * 30])
async def test_an_if_match_that_is_none_is_refused(site: tuple[App, Api], tag: str) -> None:
    status, error = await site[1].refused("change_settings", {}, if_match=tag)
    assert (status, error["field"]) == (422, "If-Match")


async def test_null_goes_back_to_what_holds_where_nothing_is_said(site: tuple[App, Api]) -> None:
    _, api = site
    given = {"model": "sonnet", "profile": "rules", "commands": ["git status"], "tools": ["Read"]}
    job = await api.call("create_job", JOB | given)
    nulls = dict.fromkeys(given)
    changed = await api.call("change_job", nulls, job_id=job["id"])
    assert [changed[name] for name in ("model", "profile_is_default", "commands", "tools")] == [
        None,
        True,
        [],
        [],
    ]


async def test_a_job_without_a_zone_has_the_owners(site: tuple[App, Api]) -> None:
    app, api = site
    await api.call("change_settings", {"timezone": "Asia/Tokyo"})
    given = {name: JOB[name] for name in ("name", "cron", "prompt")}
    assert (await api.call("create_job", given))["timezone"] == "Asia/Tokyo"
    async with Client(await build_mcp(app)) as claude:
        assert content(await claude.call_tool("create_job", given))["timezone"] == "Asia/Tokyo"


async def test_what_was_made_says_where_it_is(site: tuple[App, Api]) -> None:
    _, api = site
    created = await api.ask("create_job", JOB)
    assert (await api.client.get(created.headers["Location"])).json()["id"] == created.json()["id"]
    started = await api.ask("trigger_job", job_id=created.json()["id"])
    assert (await api.client.get(started.headers["Location"])).json()["id"] == started.json()["run_id"]


# Runs and exports


async def finished(app: App, prompt: str, **changes: Any) -> str:
    run_id = await app.runs.add(NewRun(prompt=prompt, trigger=Trigger.QUICK, **changes), app.clock.now())
    await ended(app, run_id)
    return run_id


@pytest.mark.parametrize(
    "prompt", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1", '=HYPERLINK("http://evil.example";"x")']
)
async def test_no_cell_of_an_export_is_a_formula(site: tuple[App, Api], prompt: str) -> None:
    app, api = site
    await finished(app, prompt)
    [row] = csv.DictReader(io.StringIO(await api.call("export_runs_as_csv"), newline=""))
    assert row["prompt"] == f"'{prompt}"


async def test_a_cell_has_quotes_commas_and_lines_as_they_are(site: tuple[App, Api]) -> None:
    app, api = site
    prompt = 'say "a, b"\nand é\r\nnothing else'
    await finished(app, prompt)
    answer = await api.ask("export_runs_as_csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="runs.csv"'
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    [row] = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert row["prompt"] == prompt
    assert (row["state"], row["rehearsal"], row["job_id"]) == ("finished", "false", "")


async def test_an_export_has_all_that_the_search_finds_however_many(site: tuple[App, Api]) -> None:
    app, api = site
    now = app.clock.now()
    for _ in range(620):
        run_id = await app.runs.add(NewRun(prompt="x", trigger=Trigger.MANUAL), now)
        await app.runs.cancel_pending(run_id, "not wanted", now)
    runs = await api.call("export_runs_as_json", trigger="manual")
    assert len({run["id"] for run in runs}) == 620
    assert await api.call("export_runs_as_json", trigger="webhook") == []
    assert (await api.call("export_runs_as_csv", trigger="webhook")).count("\r\n") == 1


async def test_an_export_of_what_can_not_be_looked_for_is_refused_before_it_begins(still: Api) -> None:
    assert (await still.refused("export_runs_as_csv", since="soon"))[0] == 422


async def test_the_events_of_a_run_are_read_from_either_end(tmp_path: Path) -> None:
    async def talks(_order: Any, listener: Any, _stop: Any) -> Ending:
        listener.started()
        for number in range(10):
            listener.happened("tool_use", {"id": str(number), "name": "Read", "input": {}})
        return Ending(State.FINISHED, output="done")

    settings = on_free_port(Settings(home=tmp_path))
    async with open_app(settings, agent=FakeAgent(talks), clock=FakeClock()) as app, api_of(app) as api:
        run_id = await finished(app, "x")
        everything = await api.call("list_events", run_id=run_id)
        seqs = [event["seq"] for event in everything["events"]]
        first = await api.call("list_events", run_id=run_id, limit=3)
        assert ([it["seq"] for it in first["events"]], first["next_after"]) == (seqs[:3], seqs[2])
        following = await api.call("list_events", run_id=run_id, limit=3, after=first["next_after"])
        assert [it["seq"] for it in following["events"]] == seqs[3:6]
        last = await api.call("list_events", run_id=run_id, limit=3, last=True)
        assert ([it["seq"] for it in last["events"]], last["next_before"]) == (seqs[-3:], seqs[-3])
        before = await api.call("list_events", run_id=run_id, limit=3, before=last["next_before"])
        assert [it["seq"] for it in before["events"]] == seqs[-6:-3]
        assert (await api.refused("list_events", run_id=run_id, before=3, last=True))[0] == 422
        assert (await api.refused("list_events", run_id="deadbeef"))[0] == 404


async def test_a_prompt_that_may_not_be_run_starts_nothing(site: tuple[App, Api]) -> None:
    app, api = site
    for wrong in ({"prompt": " "}, {"tools": ["NotebookEdit"]}, {"model": "no model"}, {"profile": "full"}):
        assert (await api.refused("run_prompt", {"prompt": "x"} | wrong))[0] == 422
    assert (await app.runs.search(RunQuery(), 1)).runs == []


async def test_a_job_that_was_deleted_can_be_had_back_and_is_gone_for_all_else(
    site: tuple[App, Api],
) -> None:
    _, api = site
    job_id = (await api.call("create_job", JOB))["id"]
    await api.call("delete_job", job_id=job_id)
    for name in ("get_job", "trigger_job", "delete_job", "duplicate_job"):
        assert (await api.refused(name, job_id=job_id))[0] == 404
    assert (await api.call("list_jobs"))["total"] == 0
    assert (await api.call("restore_job", job_id=job_id))["enabled"]
    assert (await api.refused("restore_job", job_id="deadbeef"))[0] == 404


async def test_half_a_character_of_a_tool_is_told_as_an_escape() -> None:
    said = written(
        Outcome("mcp__x__y", is_error=False, content=[{"type": "text", "text": "\ud83d"}], structured=None)
    )
    assert json.loads(said)["content"][0]["text"] == "\ud83d"


# Time


async def test_a_change_of_the_clocks_is_marked_at_the_fire_after_it(tmp_path: Path) -> None:
    settings = on_free_port(Settings(home=tmp_path))
    clock = FakeClock(datetime(2027, 3, 26, 12, tzinfo=BERLIN))
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app, api_of(app) as api:
        preview = await api.call("preview_schedule", cron="30 2 * * *", timezone="Europe/Berlin", count=4)
    assert [(fire["local"][5:], fire["clock_change_minutes"]) for fire in preview["fires"]] == [
        ("03-27T02:30:00+01:00", 0), ("03-28T03:00:00+02:00", 60), ("03-29T02:30:00+02:00", 0),
        ("03-30T02:30:00+02:00", 0),
    ]  # fmt: skip


async def test_a_schedule_that_is_none_is_refused_by_its_field(still: Api) -> None:
    assert (await still.refused("preview_schedule", cron="@reboot"))[1]["field"] == "cron"
    assert (await still.refused("preview_schedule", cron="@daily", timezone="Mars/Base"))[1][
        "field"
    ] == "timezone"
    assert (await still.refused("preview_schedule"))[1]["message"].endswith("needs cron, which is missing")


async def test_a_calendar_has_what_comes_of_all_jobs_in_the_order_of_time(site: tuple[App, Api]) -> None:
    _, api = site
    for name, cron in (("often", "0 */6 * * *"), ("seldom", "0 7 * * *"), ("late", "0 8 1 1 *")):
        await api.call("create_job", JOB | {"name": name, "cron": cron})
    calendar = await api.call("get_calendar", until="2026-11-24T10:00:00Z")
    assert [(it["job_name"], it["local"][8:16]) for it in calendar["coming"]] == [
        ("often", "23T12:00"), ("often", "23T18:00"), ("often", "24T00:00"), ("often", "24T06:00"),
        ("seldom", "24T07:00"),
    ]  # fmt: skip
    blackouts = {"policy": {"blackouts": ["18:00-06:00"]}}
    await api.call(
        "create_job", JOB | {"name": "by day", "cron": "every 6 hours from 2026-11-23 12:00"} | blackouts
    )
    by_day = [it["local"][8:16] for it in (await api.call("get_calendar", until="2026-11-24T10:00:00Z"))["coming"]
              if it["job_name"] == "by day"]  # fmt: skip
    assert by_day == ["23T12:00", "24T06:00"]
    assert (await api.refused("get_calendar", since="2026-01-01T00:00:00Z", until="2027-01-01T00:00:00Z"))[
        0
    ] == 422
    assert (await api.refused("get_calendar", job_id="deadbeef"))[0] == 404


@pytest.mark.parametrize(
    ("period", "since", "until", "hours"),
    [
        (Period.DAY, "2027-03-28T05", "2027-03-28T06", [23]),
        (Period.DAY, "2026-10-25T05", "2026-10-26T06", [25, 24]),
        (Period.HOUR, "2026-10-25T02", "2026-10-25T03", [1, 1]),
        (Period.WEEK, "2026-11-22T23", "2026-11-23T01", [168, 168]),
        (Period.MONTH, "2027-02-03", "2027-03-03", [672, 743]),
    ],
)
def test_a_period_is_one_of_the_owners_clock(
    period: Period, since: str, until: str, hours: list[int]
) -> None:
    edges = edges_of(on_the_wall(since), on_the_wall(until), period, BERLIN, 400)
    instants = [edge.timestamp() for edge in edges]
    assert [(two - one) / 3600 for one, two in pairwise(instants)] == hours


def on_the_wall(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def test_periods_without_end_are_refused() -> None:
    start = datetime(2026, 1, 1, tzinfo=BERLIN)
    with pytest.raises(InvalidError, match="more than 400 intervals"):
        edges_of(start, start.replace(year=2027), Period.HOUR, BERLIN, 400)
    with pytest.raises(InvalidError, match="until is not later than since"):
        edges_of(start, start, Period.DAY, BERLIN, 400)
