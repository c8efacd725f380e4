import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_runner.agent._prices import _WORDS
from claude_runner.errors import ConflictError, InvalidError
from claude_runner.hub import Change, Topic
from claude_runner.jobs import STANDARD, NotifyOn, Overlap, Policy
from claude_runner.permissions import Profile
from claude_runner.prices import Price
from claude_runner.settings import (
    NOTHING,
    Budgets,
    FollowUpCaps,
    OwnerSettings,
    StoredSettings,
    budgets,
    job_defaults,
    owners_zone,
    prices,
)
from claude_runner.settings._amounts import SHORT_NAMES
from tests.parts import Parts, open_parts

FIRST = OwnerSettings(
    allowed_tools=("WebSearch", "WebFetch", "Read", "Write", "Edit", "Bash"),
    webhook_base_url=None,
    sandbox_mode=True,
    permission_profile=None,
    followups=FollowUpCaps(),
    install_dependencies=False,
    timezone=None,
    default_model=None,
    budgets=Budgets(),
)
CHANGES = {
    "job_defaults": {"overlap": "allow", "max_retries": 0, "notify_on": ["missed"]},
    "allowed_tools": ["Read", "Grep"],
    "webhook_base_url": "https://runner.example.com/",
    "sandbox_mode": False,
    "permission_profile": "rules",
    "followups": {"max_depth": 1, "max_runs": 2, "max_cost_usd": 0.5},
    "install_dependencies": True,
    "timezone": "Europe/Berlin",
    "default_model": "sonnet",
    "budgets": {"day_usd": 5, "month_usd": 99.5, "run_usd": 1, "job_day_usd": 2.5, "webhook_day_usd": 5},
    "prices": {"my-model": {"input": 0, "output": 0}, "gateway/sonnet": {"input": 3, "output": 15.5}},
}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


@pytest.fixture
async def stored(parts: Parts) -> StoredSettings:
    settings = StoredSettings(parts.database, parts.hub)
    await settings.add_missing()
    return settings


async def test_at_first_they_are_the_defaults(stored: StoredSettings) -> None:
    assert await stored.owned() == FIRST


async def test_before_any_was_stored_they_are_the_defaults_as_well(parts: Parts) -> None:
    assert await StoredSettings(parts.database).owned() == FIRST


async def test_what_was_changed_is_read_in_the_form_in_which_it_is_used(stored: StoredSettings) -> None:
    changed = await stored.change(CHANGES)
    assert await stored.owned() == changed
    assert changed == OwnerSettings(
        allowed_tools=("Read", "Grep"),
        webhook_base_url="https://runner.example.com",
        sandbox_mode=False,
        permission_profile=Profile.RULES,
        followups=FollowUpCaps(1, 2, 0.5),
        install_dependencies=True,
        timezone="Europe/Berlin",
        default_model="sonnet",
        budgets=Budgets(5, 99.5, run_usd=1, job_day_usd=2.5, webhook_day_usd=5),
        job_defaults=Policy(overlap=Overlap.ALLOW, max_retries=0, notify_on=(NotifyOn.MISSED,)),
        prices={"my-model": Price(0, 0), "gateway/sonnet": Price(3, 15.5)},
    )
    assert await stored.allowed_tools() == ("Read", "Grep")
    assert await stored.webhook_base_url() == "https://runner.example.com"
    assert await stored.install_dependencies()


@pytest.mark.parametrize("name", sorted(CHANGES))
async def test_each_can_be_put_back_as_it_was_read(stored: StoredSettings, name: str) -> None:
    changed = await stored.change(CHANGES)
    assert await stored.change({name: getattr(changed, name)}) == changed
    assert getattr(await stored.change({name: getattr(FIRST, name)} | _also(name)), name) == getattr(
        FIRST, name
    )


def _also(name: str) -> dict[str, Any]:
    return {"permission_profile": None} if name == "sandbox_mode" else {}


async def test_they_stand_in_the_table_as_people_read_them(parts: Parts, stored: StoredSettings) -> None:
    await stored.change(CHANGES | {"webhook_base_url": ""})
    rows = dict(await parts.sql("SELECT key, value FROM settings"))
    assert json.loads(rows["allowed_tools"]) == ["Read", "Grep"]
    assert json.loads(rows["permission_profile"]) == "rules"
    assert json.loads(rows["budgets"]) == CHANGES["budgets"]
    assert json.loads(rows["prices"]) == CHANGES["prices"]
    assert json.loads(rows["job_defaults"]) == CHANGES["job_defaults"]
    assert json.loads(rows["webhook_base_url"]) == "http://localhost:8080"
    assert json.loads(rows["mcp_servers"]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allowed_tools", "Read"),
        ("allowed_tools", ["Raed"]),
        ("allowed_tools", [1]),
        ("webhook_base_url", "ftp://x"),
        ("webhook_base_url", "https://"),
        ("webhook_base_url", "http://[::1"),
        ("webhook_base_url", ["http://x"]),
        ("sandbox_mode", "yes"),
        ("sandbox_mode", None),
        ("permission_profile", "all"),
        ("permission_profile", "full"),
        ("permission_profile", []),
        ("followups", 3),
        ("followups", {"max_dept": 3}),
        ("followups", {"max_depth": -1}),
        ("followups", {"max_runs": 1.5}),
        ("followups", {"max_cost_usd": float("inf")}),
        ("install_dependencies", 1),
        ("timezone", "Berlin"),
        ("timezone", "../etc"),
        ("default_model", "a b"),
        ("default_model", {}),
        ("timezone", 5),
        ("budgets", {"day_usd": -1}),
        ("budgets", {"day_usd": "5"}),
        ("budgets", {"year_usd": 5}),
        ("budgets", []),
        ("mcp_servers", []),
        ("nonsense", 1),
    ],
)
async def test_what_cannot_be_used_is_refused_and_nothing_is_changed(
    stored: StoredSettings, name: str, value: Any
) -> None:
    with pytest.raises(InvalidError) as refused:
        await stored.change({"budgets": {"day_usd": 5}} | {name: value})
    assert str(refused.value.field).partition(".")[0] == name
    assert await stored.owned() == FIRST


async def test_full_rights_and_the_sandbox_do_not_go_together(stored: StoredSettings) -> None:
    full = await stored.change({"sandbox_mode": False, "permission_profile": "full"})
    assert full.permission_profile is Profile.FULL
    with pytest.raises(InvalidError, match="sandbox_mode") as refused:
        await stored.change({"sandbox_mode": True})
    assert refused.value.field == "sandbox_mode"
    assert (await stored.change({"sandbox_mode": True, "permission_profile": None})).sandbox_mode


async def test_a_change_of_what_somebody_else_has_changed_is_refused(stored: StoredSettings) -> None:
    seen = await stored.owned()
    theirs = await stored.change({"default_model": "opus"}, was=seen)
    with pytest.raises(ConflictError, match="default_model was changed by someone else") as refused:
        await stored.change({"default_model": "haiku"}, was=seen)
    assert refused.value.field == "default_model"
    assert (await stored.change({"timezone": "UTC"}, was=seen)).default_model == "opus"
    assert (await stored.change({"default_model": "haiku"}, was=theirs)).default_model == "haiku"


async def test_whoever_listens_is_told_which_were_changed(parts: Parts, stored: StoredSettings) -> None:
    with parts.hub.subscribe(Topic.SETTINGS) as changes:
        await stored.change({"timezone": "UTC", "default_model": "opus"})
        assert changes.take() == [Change(Topic.SETTINGS, "timezone"), Change(Topic.SETTINGS, "default_model")]


@pytest.mark.parametrize(
    "spoiled", ["", "{", "null", "[[]]", '"\\ud800"', "1e999", '{"a": 1}', "[1]", "false", "[" * 9_999]
)
async def test_what_was_spoiled_by_hand_counts_as_its_default_or_as_what_allows_least(
    parts: Parts, stored: StoredSettings, spoiled: str
) -> None:
    await parts.sql("UPDATE settings SET value = :value WHERE key NOT IN ('sandbox_mode')", value=spoiled)
    owned = await stored.owned()
    assert owned.allowed_tools == ()
    assert owned.permission_profile in {None, Profile.CONTAINED}
    assert (owned.timezone, owned.default_model, owned.prices) == (None, None, {})
    assert owned.budgets in {NOTHING, Budgets()}  # `{}` is readable: there are none
    assert not owned.install_dependencies
    assert owned.sandbox_mode


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        (
            {"overlap": "sometimes"},
            "job_defaults.overlap",
            "skip, queue_one, queue_all, cancel_running, allow",
        ),
        ({"starts_at": "2026-12-01"}, "job_defaults.starts_at", "there is no rule 'starts_at' here"),
        ({"max_cost_usd": 0}, "job_defaults.max_cost_usd", "nothing could run"),
        ({"max_cost_usd": "five"}, "job_defaults.max_cost_usd", "a number of US dollars"),
        ({"catch_up": "all", "overlap": "cancel_running"}, "job_defaults.catch_up", "choose another overlap"),
        (["skip"], "job_defaults", "give rules of jobs"),
    ],
)
async def test_rules_that_can_not_be_are_refused(
    stored: StoredSettings, given: object, field: str, said: str
) -> None:
    with pytest.raises(InvalidError, match=said) as caught:
        await stored.change({"job_defaults": given})
    assert caught.value.field == field


async def test_what_nobody_decided_is_as_the_standard_has_it(parts: Parts, stored: StoredSettings) -> None:
    await stored.change({"job_defaults": {"overlap": "allow"}})
    assert await parts.database.read(job_defaults) == replace(STANDARD, overlap=Overlap.ALLOW)
    await parts.sql("UPDATE settings SET value = '[' WHERE key = 'job_defaults'")
    assert await parts.database.read(job_defaults) == STANDARD


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"run_usd": 0}, "budgets.run_usd", "run_usd is 0; with that nothing could run: .* pause_all"),
        ({"job_day_usd": -2}, "budgets.job_day_usd", "job_day_usd is -2"),
        ({"day_usd": "five"}, "budgets.day_usd", "a number of US dollars, not 'five'"),
        ({"month_usd": True}, "budgets.month_usd", "a number of US dollars, not 'True'"),
        ({"day_usd": float("nan")}, "budgets.day_usd", "a number of US dollars, not 'nan'"),
        ({"day_usd": float("inf")}, "budgets.day_usd", "a number of US dollars, not 'inf'"),
        (
            {"year_usd": 5},
            "budgets",
            "give some of day_usd, month_usd, run_usd, job_day_usd, webhook_day_usd",
        ),
        (
            {"run_usd": 6, "day_usd": 5},
            "budgets.run_usd",
            "run_usd is 6 and day_usd only 5, so .* never be reached",
        ),
        ({"webhook_day_usd": 6, "month_usd": 5}, "budgets.webhook_day_usd", "lower it, or raise month_usd"),
        ({"day_usd": 20, "month_usd": 5}, "budgets.day_usd", "month_usd only 5"),
    ],
)
async def test_budgets_that_can_not_be_are_refused(
    stored: StoredSettings, given: object, field: str, said: str
) -> None:
    with pytest.raises(InvalidError, match=said) as caught:
        await stored.change({"budgets": given})
    assert caught.value.field == field
    assert (await stored.owned()).budgets == Budgets()


async def test_a_budget_contradicts_those_that_were_there_before(stored: StoredSettings) -> None:
    await stored.change({"budgets": {"day_usd": 5}})
    with pytest.raises(InvalidError, match="run_usd is 6 and day_usd only 5"):
        await stored.change({"budgets": {"run_usd": 6}})
    await stored.change({"budgets": {"run_usd": 6, "day_usd": None}})
    assert (await stored.owned()).budgets == Budgets(run_usd=6)


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"my-model": 3}, "prices.my-model", "in US dollars per million tokens"),
        ({"my-model": {"input": 3}}, "prices.my-model", "the price of 'my-model' is"),
        (
            {"my-model": {"input": -1, "output": 2}},
            "prices.my-model",
            "input of 'my-model' .* from 0 on, not '-1'",
        ),
        ({"my-model": {"input": "3", "output": 2}}, "prices.my-model", "0 is for a model that is free"),
        ({"my model": {"input": 3, "output": 2}}, "prices", "is not the name of a model"),
        ({"Sonnet[1m]": {"input": 3, "output": 2}}, "prices", "'Sonnet\\[1m\\]' is a short word"),
        ([3, 15], "prices", "give prices"),
        ({f"model-{n}": {"input": 1, "output": 1} for n in range(201)}, "prices", "at most 200"),
    ],
)
async def test_prices_that_can_not_be_are_refused(
    stored: StoredSettings, given: object, field: str, said: str
) -> None:
    with pytest.raises(InvalidError, match=said) as caught:
        await stored.change({"prices": given})
    assert caught.value.field == field


async def test_what_is_left_out_of_budgets_prices_and_rules_stays_and_null_takes_it_out(
    stored: StoredSettings,
) -> None:
    await stored.change(CHANGES)
    changed = await stored.change(
        {
            "budgets": {"run_usd": None, "day_usd": 7},
            "prices": {"my-model": None, "other": {"input": 1, "output": 2}},
            "job_defaults": {"overlap": None, "max_retries": 1},
        }
    )
    assert changed.budgets == Budgets(7, 99.5, job_day_usd=2.5, webhook_day_usd=5)
    assert changed.prices == {"gateway/sonnet": Price(3, 15.5), "other": Price(1, 2)}
    assert changed.job_defaults == Policy(max_retries=1, notify_on=(NotifyOn.MISSED,))


async def test_a_default_of_jobs_that_no_budget_lets_them_reach_is_refused(stored: StoredSettings) -> None:
    await stored.change({"budgets": {"run_usd": 1}})
    with pytest.raises(InvalidError, match="is 2 and the budget run_usd only 1") as caught:
        await stored.change({"job_defaults": {"max_cost_usd": 2}})
    assert caught.value.field == "job_defaults.max_cost_usd"
    await stored.change({"job_defaults": {"max_cost_usd": 0.5}})
    with pytest.raises(InvalidError, match="lower max_cost_usd, or raise run_usd") as caught:
        await stored.change({"budgets": {"run_usd": 0.1}})
    assert caught.value.field == "budgets.run_usd"


@pytest.mark.parametrize(
    "spoiled",
    ["[", "null", "[]", '{"day_usd": 0}', '{"day_usd": "5"}', '{"day_usd": NaN}', '{"year_usd": 5}'],
)
async def test_budgets_that_can_not_be_read_allow_nothing_until_they_are_set_anew(
    parts: Parts, stored: StoredSettings, spoiled: str
) -> None:
    await parts.sql("UPDATE settings SET value = :value WHERE key = 'budgets'", value=spoiled)
    assert await parts.database.read(budgets) == NOTHING == (await stored.owned()).budgets
    assert (await stored.change({"budgets": {"day_usd": 5}})).budgets == Budgets(day_usd=5)


async def test_each_is_read_alone_as_it_is_with_all(parts: Parts, stored: StoredSettings) -> None:
    owned = await stored.change(CHANGES)
    assert await parts.database.read(budgets) == owned.budgets
    assert await parts.database.read(prices) == owned.prices
    assert await parts.database.read(job_defaults) == owned.job_defaults.or_else(STANDARD)
    assert (await parts.database.read(owners_zone)).key == "Europe/Berlin"


def test_the_short_words_are_those_of_claude_code() -> None:
    assert frozenset(_WORDS) == SHORT_NAMES
