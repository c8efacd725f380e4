import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_runner.errors import ConflictError, InvalidError
from claude_runner.hub import Change, Topic
from claude_runner.jobs import STANDARD, NotifyOn, Overlap, Policy
from claude_runner.permissions import Profile
from claude_runner.settings import Budgets, FollowUpCaps, OwnerSettings, StoredSettings, job_defaults
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
    "budgets": {"day_usd": 5, "month_usd": 99.5},
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
        budgets=Budgets(5, 99.5),
        job_defaults=Policy(overlap=Overlap.ALLOW, max_retries=0, notify_on=(NotifyOn.MISSED,)),
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
    assert json.loads(rows["budgets"]) == {"day_usd": 5, "month_usd": 99.5}
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
    assert refused.value.field == name
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
    assert (owned.timezone, owned.default_model, owned.budgets) == (None, None, Budgets())
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
        ({"catch_up": "all", "overlap": "skip"}, "job_defaults.catch_up", "lets only one of them run"),
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
