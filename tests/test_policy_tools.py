"""A job's rules, pauses and the owner's defaults, set and read by tools alone."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp
from tests.support import FakeAgent, FakeClock, content, text

Mcp = Client[Any]

JOB = {"name": "Sprint", "cron": "0 9 * * *", "prompt": "Go.", "timezone": "Europe/Berlin"}
# Each rule with a wish for it.
WISHES: dict[str, Any] = {
    "overlap": "queue_one",
    "catch_up": "none",
    "catch_up_minutes": 90,
    "jitter_seconds": 30,
    "starts_at": "2027-01-01T08:00:00+00:00",
    "ends_at": "2027-02-01T08:00:00+00:00",
    "blackouts": ["Mon-Fri 22:00-06:00", "2026-12-24..2027-01-01"],
    "max_retries": 4,
    "on_crash": "resume",
    "pause_after_failures": 3,
    "max_cost_usd": 2.5,
    "max_cost_per_day_usd": 10.0,
    "cost_breaker": 4.0,
    "notify_on": ["failure", "success"],
    "notify_after_failures": 3,
    "notify_channels": [],
    "heartbeat_url": "https://hc-ping.com/one",
}
BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"overlap": "sometimes"},
        'overlap is "sometimes"; it must be skip, queue_one, queue_all, cancel_running or allow',
    ),
    ({"catch_up": 5}, "catch_up is 5; it must be none, latest or all"),
    ({"catch_up": "all", "overlap": "cancel_running"}, "catch_up 'all' has what was missed run one after"),
    ({"catch_up_minutes": 0}, "catch_up_minutes is 0; give 1 to 44,640"),
    ({"jitter_seconds": 1.5}, "jitter_seconds is 1.5; it must be a whole number"),
    ({"starts_at": "tomorrow"}, 'starts_at is "tomorrow"; give an instant such as'),
    ({"ends_at": 2027}, "ends_at is 2027; it must be a text"),
    ({"ends_at": "2020-01-01T08:00:00+00:00"}, "ends_at (2020-01-01 09:00+01:00) is past"),
    ({"blackouts": ["nights"]}, "'nights' in 'nights' is not a weekday"),
    ({"blackouts": ["Mon-Sun"]}, "every slot to come is in a blackout ('Mon-Sun')"),
    ({"max_retries": 11}, "max_retries is 11; give 0 to 10"),
    ({"max_retries": True}, "max_retries is true; it must be a whole number"),
    ({"on_crash": ""}, 'on_crash is ""; it must be fail, retry or resume'),
    ({"pause_after_failures": -1}, "pause_after_failures is -1; give 0 to 1,000"),
    ({"max_cost_usd": 0}, "max_cost_usd is 0; with that nothing could run"),
    ({"max_cost_usd": "much"}, 'max_cost_usd is "much"; it must be a number'),
    ({"max_cost_usd": "1,5"}, 'max_cost_usd is "1,5"; it must be a number, such as 1.5'),
    ({"max_retries": "zwölf 😀"}, 'max_retries is "zwölf 😀"; it must be a whole number, such as 3'),
    ({"max_retries": "\ud83d"}, 'max_retries is "\\ud83d"; it must be a whole number'),
    ({"max_cost_per_day_usd": -1}, "max_cost_per_day_usd is -1; with that nothing could run"),
    ({"max_cost_usd": 3, "max_cost_per_day_usd": 2}, "one run may cost 3 US dollars and all of a day 2"),
    ({"cost_breaker": 1}, "cost_breaker is 1.0; give how many times the usual cost is too much"),
    ({"notify_on": ["rain"]}, 'notify_on is "rain"; it must be failure, recovery'),
    ({"notify_on": [1]}, "notify_on is [1]; it must be a list of texts"),
    ({"notify_after_failures": 0}, "notify_after_failures is 0; give 1 to 1,000"),
    ({"notify_channels": ["phone"]}, 'there is no channel "phone"; create_notification_channel makes one'),
    ({"heartbeat_url": "ftp://x"}, "heartbeat_url is an http or https URL"),
    ({"heartbeat_url": 7}, "heartbeat_url is 7; it must be a text"),
    ({"retries": 3}, 'a policy has no rule "retries"; there are overlap, catch_up'),
]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def mcp(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Mcp]:
    async with (
        open_app(Settings(home=tmp_path), agent=FakeAgent(), clock=clock) as app,
        Client(await build_mcp(app)) as client,
    ):
        yield client


async def answer(mcp: Mcp, tool: str, **arguments: Any) -> dict[str, Any]:
    return dict(content(await mcp.call_tool(tool, arguments, raise_on_error=False)))


async def refusal(mcp: Mcp, tool: str, **arguments: Any) -> str:
    result = await mcp.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error, result.structured_content
    return text(result)


async def test_what_is_offered_is_what_is_tried_here(mcp: Mcp) -> None:
    (create,) = [tool for tool in await mcp.list_tools() if tool.name == "create_job"]
    rules = create.input_schema["properties"]["policy"]["properties"]
    assert set(rules) == set(WISHES)
    assert all(rule["description"] for rule in rules.values())


@pytest.mark.parametrize("rule", WISHES)
async def test_a_rule_is_set_read_back_changed_and_given_back(mcp: Mcp, rule: str) -> None:
    wish = WISHES[rule]
    made = await answer(mcp, "create_job", **JOB, policy={rule: wish})
    usual = (await answer(mcp, "get_policies"))["defaults"]
    assert (made["policy"][rule], made["policy"]["own"]) == (wish, [rule])
    seen = await answer(mcp, "get_job", job_id=made["id"])
    assert seen["policy"] == made["policy"] == usual | {rule: wish, "own": [rule]}
    (listed,) = (await answer(mcp, "list_jobs"))["jobs"]
    assert listed["policy"] == {rule: wish}
    given_back = await answer(mcp, "update_job", job_id=made["id"], policy={rule: None})
    assert given_back["policy"] == usual
    again = await answer(mcp, "update_job", job_id=made["id"], policy={rule: wish})
    assert again["policy"] == made["policy"]


async def test_rules_that_are_not_named_stay(mcp: Mcp) -> None:
    made = await answer(mcp, "create_job", **JOB, policy={"overlap": "allow", "max_retries": 0})
    changed = await answer(
        mcp, "update_job", job_id=made["id"], policy={"overlap": None, "on_crash": "retry"}
    )
    assert changed["policy"]["own"] == ["max_retries", "on_crash"]
    renamed = await answer(mcp, "update_job", job_id=made["id"], name="Other")
    assert renamed["policy"] == changed["policy"]


@pytest.mark.parametrize(("policy", "sentence"), BAD)
async def test_a_rule_that_can_not_be_is_refused_in_a_sentence(
    mcp: Mcp, policy: dict[str, Any], sentence: str
) -> None:
    assert (await refusal(mcp, "create_job", **JOB, policy=policy)).startswith(sentence)
    made = await answer(mcp, "create_job", **JOB)
    assert (await refusal(mcp, "update_job", job_id=made["id"], policy=policy)).startswith(sentence)


@pytest.mark.parametrize(
    ("rule", "said", "in_berlin", "in_utc"),
    [
        ("ends_at", "2026-12-31", "2026-12-31T22:59:59+00:00", "2026-12-31T23:59:59+00:00"),
        ("ends_at", "2026-12-31T18:00", "2026-12-31T17:00:00+00:00", "2026-12-31T18:00:00+00:00"),
        ("starts_at", "2026-12-31", "2026-12-30T23:00:00+00:00", "2026-12-31T00:00:00+00:00"),
        ("starts_at", "2026-12-31T18:00-05:00", "2026-12-31T23:00:00+00:00", "2026-12-31T23:00:00+00:00"),
    ],
)
async def test_dates_are_on_the_clock_of_the_job_and_one_that_ends_on_a_day_ends_with_it(
    mcp: Mcp, rule: str, said: str, in_berlin: str, in_utc: str
) -> None:
    made = await answer(mcp, "create_job", **JOB, policy={rule: said})
    assert made["policy"][rule] == in_berlin
    again = await answer(mcp, "update_job", job_id=made["id"], policy={rule: said})
    assert again["policy"][rule] == in_berlin
    moved = await answer(mcp, "update_job", job_id=made["id"], timezone="UTC", policy={rule: said})
    assert moved["policy"][rule] == in_utc


async def test_dates_on_a_clock_that_there_is_not_are_refused(mcp: Mcp) -> None:
    nowhere: dict[str, Any] = {**JOB, "timezone": "Mars/Base", "policy": {"ends_at": "2026-12-31"}}
    assert "Mars/Base" in await refusal(mcp, "create_job", **nowhere)


async def test_clients_that_send_texts_for_objects_are_understood(mcp: Mcp) -> None:
    policy = {"overlap": "Queue_One", "notify_on": '["failure"]', "notify_channels": "[]", "max_retries": 1.0}
    made = await answer(mcp, "create_job", **JOB, policy=json.dumps(policy))
    assert made["policy"]["own"] == ["overlap", "max_retries", "notify_on", "notify_channels"]
    told = await answer(mcp, "set_policies", defaults='{"max_retries": 5}', budgets='{"day_usd": 3}')
    assert (told["defaults"]["max_retries"], told["budgets"]["day_usd"]) == (5, 3)


@pytest.mark.parametrize("policy", ["never twice", "[]", "7"])
async def test_texts_that_hold_no_object_are_refused(mcp: Mcp, policy: str) -> None:
    assert "give an object such as" in await refusal(mcp, "create_job", **JOB, policy=policy)


async def test_what_is_no_object_is_refused(mcp: Mcp) -> None:
    assert "policy is 7; it must be an object" in await refusal(mcp, "create_job", **JOB, policy=7)


@pytest.mark.parametrize("rule", ["max_cost_usd", "max_cost_per_day_usd", "cost_breaker"])
@pytest.mark.parametrize("amount", [10**400, -(10**400), 10**10])
async def test_numbers_that_nobody_means_are_refused(mcp: Mcp, rule: str, amount: int) -> None:
    said = await refusal(mcp, "create_job", **JOB, policy=json.dumps({rule: amount}))
    assert said.startswith(f"{rule} is ")
    price = {"my-model": {"input": amount, "output": 1}}
    for wish in ({"defaults": {rule: amount}}, {"budgets": {"day_usd": amount}}, {"prices": price}):
        texts = {key: json.dumps(value) for key, value in wish.items()}
        assert " is " in await refusal(mcp, "set_policies", **texts)


async def test_a_channel_is_named_by_what_it_is_called(mcp: Mcp) -> None:
    await answer(mcp, "create_notification_channel", name="phone", url="ntfy://topic")
    made = await answer(mcp, "create_job", **JOB, policy={"notify_channels": "phone"})
    assert made["policy"]["notify_channels"] == ["phone"]
    sentence = await refusal(mcp, "set_policies", defaults={"notify_channels": ["fax"]})
    assert sentence == 'there is no channel "fax"; there are phone'


async def test_the_owners_defaults_hold_for_jobs_that_decide_nothing(mcp: Mcp) -> None:
    made = await answer(mcp, "create_job", **JOB, policy={"overlap": "skip"})
    told = await answer(mcp, "set_policies", defaults={"overlap": "allow", "max_retries": 7})
    assert told["defaults"]["own"] == ["overlap", "max_retries"]
    seen = (await answer(mcp, "get_job", job_id=made["id"]))["policy"]
    assert (seen["overlap"], seen["max_retries"], seen["own"]) == ("skip", 7, ["overlap"])
    back = await answer(mcp, "set_policies", defaults={"max_retries": None})
    assert (back["defaults"]["max_retries"], back["defaults"]["own"]) == (2, ["overlap"])


async def test_budgets_and_prices_are_set_one_by_one(mcp: Mcp) -> None:
    await answer(mcp, "set_policies", budgets={"day_usd": 2}, prices={"mine": {"input": 1, "output": 2}})
    told = await answer(mcp, "set_policies", budgets={"month_usd": 20})
    assert (told["budgets"]["day_usd"], told["budgets"]["month_usd"]) == (2, 20)
    assert told["prices"] == {"mine": {"input": 1, "output": 2}}
    told = await answer(mcp, "set_policies", budgets={"day_usd": None}, prices={"mine": None})
    assert (told["budgets"]["day_usd"], told["prices"]) == (None, {})
    assert told == await answer(mcp, "get_policies")


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"budgets": {"day_usd": 0}}, "day_usd is 0; with that nothing could run"),
        ({"budgets": {"day_usd": "ten"}}, "day_usd is a number of US dollars"),
        ({"defaults": {"heartbeat_url": "https://one.example"}}, "heartbeat_url is decided for each job"),
        (
            {"defaults": {"starts_at": "2030-01-01"}},
            "starts_at is decided for each job by itself: update_job",
        ),
        ({"prices": {"mine": 3}}, "the price of 'mine' is"),
        ({"defaults": "often"}, "defaults is"),
    ],
)
async def test_defaults_that_can_not_be_are_refused(mcp: Mcp, wish: dict[str, Any], sentence: str) -> None:
    assert (await refusal(mcp, "set_policies", **wish)).startswith(sentence)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("alice@example.com", "A mail address is written with email: before it"),
        ("https://example.com/hook", "written jsons:// in place of https://"),
        ("HTTP://127.0.0.1:9/hook", "written json:// in place of http://"),
        ("pigeon://roof", "jsons://host/path"),
    ],
)
async def test_an_address_that_is_no_channel_is_refused_with_how_it_is_written(
    mcp: Mcp, url: str, advice: str
) -> None:
    assert (await refusal(mcp, "create_notification_channel", name="phone", url=url)).endswith(advice)


async def test_a_job_is_paused_until_a_time_on_its_own_clock(mcp: Mcp) -> None:
    made = await answer(mcp, "create_job", **JOB)
    paused = await answer(mcp, "pause_job", job_id=made["id"], until="2030-01-01T09:00", reason="holidays")
    assert paused["paused"]["until"] == "2030-01-01T08:00:00+00:00"
    assert (paused["paused"]["by"], paused["paused"]["reason"]) == ("owner", "holidays")
    assert (await answer(mcp, "get_job", job_id=made["id"]))["paused"] == paused["paused"]
    assert (await answer(mcp, "list_jobs"))["jobs"][0]["paused"] == paused["paused"]
    assert (await answer(mcp, "resume_job", job_id=made["id"]))["paused"] is None


@pytest.mark.parametrize(
    ("until", "sentence"),
    [("soon", 'until is "soon"; give an instant'), ("2001-01-01", "until is 2001-01-01")],
)
async def test_a_pause_until_no_time_to_come_is_refused(mcp: Mcp, until: str, sentence: str) -> None:
    made = await answer(mcp, "create_job", **JOB)
    assert (await refusal(mcp, "pause_job", job_id=made["id"], until=until)).startswith(sentence[:12])
    assert "until is" in await refusal(mcp, "pause_all", until=until)


async def test_everything_is_paused_and_resumed(mcp: Mcp) -> None:
    held = await answer(mcp, "pause_all", until="2030-01-01T00:00Z", reason="travelling")
    assert [(hold["kind"], hold["reason"]) for hold in held["holds"]] == [("paused", "travelling")]
    assert await answer(mcp, "resume_all") == {"holds": [], "total": 0}


async def test_why_a_job_did_not_run_is_told(mcp: Mcp) -> None:
    made = await answer(mcp, "create_job", **JOB)
    await answer(mcp, "pause_job", job_id=made["id"], reason="holidays")
    told = await answer(mcp, "why_didnt_it_run", job_id=made["id"])
    assert "holidays" in told["answer"]
    assert (told["slots"], told["job_id"]) == ([], made["id"])
    assert "around is" in await refusal(mcp, "why_didnt_it_run", job_id=made["id"], around="then")
    assert "there is no job" in await refusal(mcp, "why_didnt_it_run", job_id="none", around="2026-01-01")


async def test_what_a_run_of_a_webhook_may_cost_is_set_and_taken_away(mcp: Mcp) -> None:
    made = await answer(mcp, "create_webhook", name="Pushes", prompt_template="Go.", max_cost_usd=1.5)
    assert made["max_cost_usd"] == 1.5
    same = await answer(mcp, "update_webhook", webhook_id=made["id"], name="Pulls")
    assert same["max_cost_usd"] == 1.5
    free = await answer(mcp, "update_webhook", webhook_id=made["id"], max_cost_usd=0)
    assert free["max_cost_usd"] is None
    sentence = await refusal(mcp, "update_webhook", webhook_id=made["id"], max_cost_usd="much")
    assert sentence.startswith('max_cost_usd is "much"; it must be a number from 0 on')


async def test_usage_is_told_by_job_webhook_model_and_day(mcp: Mcp) -> None:
    for by in ("job", "webhook", "model"):
        told = await answer(mcp, "get_usage", by=by)
        assert (told["by"], told["rows"], told["totals"]["runs"]) == (by, [], 0)
    span = {"from": "2026-10-24", "to": "2026-10-26"}
    told = await answer(mcp, "get_usage", by="day", **span)
    assert [row["key"] for row in told["rows"]] == ["2026-10-24", "2026-10-25"]
    assert told["since"].startswith("2026-10-24T00:00:00")


@pytest.mark.parametrize(
    ("span", "sentence"),
    [
        ({"from": "lately"}, 'from is "lately"; give an instant'),
        ({"from": "2026-10-02", "to": "2026-10-02"}, "to is not later than from"),
        ({"from": "2200-01-01"}, "from is a time to come, and no run has ended then"),
        ({"from": "2020-01-01", "to": "2026-01-01", "by": "day"}, "more than 400 days"),
        ({"by": "hour"}, 'by is "hour"; it must be job, webhook, model or day'),
        ({"from_": "2026-01-01"}, "get_usage has no parameter 'from_'"),
    ],
)
async def test_a_time_that_usage_can_not_be_told_of_is_refused(
    mcp: Mcp, span: dict[str, str], sentence: str
) -> None:
    assert (await refusal(mcp, "get_usage", **span)).startswith(sentence)
