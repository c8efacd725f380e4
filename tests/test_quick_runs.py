import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import InvalidError, NotFoundError, UnavailableError
from claude_runner.permissions import Profile
from claude_runner.runs import Ending, NewRun, State, Tokens, Trigger
from claude_runner.signing_in import SignInState
from tests.parts import DRAFT, drafted
from tests.support import MORNING, FakeAgent, FakeClock, ended

NOT_SIGNED_IN = Ending(State.ERROR, error="run /login once", reason="not_signed_in")


def new(prompt: str = "count the mails", **changes: Any) -> NewRun:
    return NewRun(prompt, Trigger.QUICK, **changes)


# A prompt


async def test_a_prompt_runs_with_the_rights_that_it_names(app: App, agent: FakeAgent) -> None:
    asked = new(
        tools=("Read",), timeout_minutes=3, model="opus", profile=Profile.RULES, commands=("git status",)
    )
    run = await ended(app, (await app.run_prompt(asked)).id)
    assert (run.state, run.trigger, run.job_id, run.rehearsal) == (State.FINISHED, Trigger.QUICK, None, False)
    assert (run.tools, run.timeout_minutes, run.profile, run.commands) == (
        ("Read",), 3, Profile.RULES, ("git status",),
    )  # fmt: skip
    [order] = agent.orders
    assert (order.prompt, order.model, order.built_ins) == ("count the mails", "opus", ("Read",))


async def test_names_of_tools_are_kept_in_full(app: App) -> None:
    assert (await app.run_prompt(new(tools=("read",)))).tools == ("Read",)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("prompt", {"prompt": "  "}),
        ("prompt", {"prompt": "a\x00"}),
        ("model", {"model": "a b"}),
        ("tools", {"tools": ("NotebookEdit",)}),
        ("profile", {"profile": Profile.FULL}),
        ("timeout_minutes", {"timeout_minutes": 0}),
    ],
)
async def test_a_prompt_that_cannot_be_run_is_refused(app: App, field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as refused:
        await app.run_prompt(new(**changes))
    assert refused.value.field == field
    assert await app.runs.going_on() == []


async def test_where_all_is_rehearsed_a_prompt_is_too(tmp_path: Path, clock: FakeClock) -> None:
    async with open_app(Settings(home=tmp_path, rehearsal=True), agent=FakeAgent(), clock=clock) as app:
        run = await app.run_prompt(new())
        assert run.rehearsal
        assert (await app.run_again((await ended(app, run.id)).id)).rehearsal


async def test_only_what_a_person_decides_is_taken_of_what_is_given(app: App) -> None:
    run = await app.run_prompt(new(job_id="x", parent_run_id="y", depth=5, webhook_id="z", reason="r"))
    assert (run.job_id, run.parent_run_id, run.depth, run.webhook_id, run.reason) == (
        None,
        None,
        0,
        None,
        None,
    )


# Again


async def test_a_run_of_a_job_is_run_again_as_one_of_that_job(
    app: App, agent: FakeAgent, clock: FakeClock
) -> None:
    job = await app.jobs.add(drafted(tools=("Read",), timeout_minutes=7, model="opus"), clock.now())
    first = await ended(app, (await app.trigger(job.id)).id)
    await app.jobs.change(job.id, {"prompt": "something else"}, clock.now())
    again = await ended(app, (await app.run_again(first.id)).id)
    assert again.id != first.id
    assert (again.trigger, again.job_id, again.scheduled_for) == (Trigger.MANUAL, job.id, None)
    assert (again.prompt, again.tools, again.timeout_minutes) == (DRAFT.prompt, ("Read",), 7)
    assert [order.model for order in agent.orders] == ["opus", "opus"]


async def test_a_run_of_a_webhook_is_run_again_as_nobodys(app: App, clock: FakeClock) -> None:
    hooked = replace(new(profile=Profile.CONTAINED), trigger=Trigger.WEBHOOK, webhook_id="aaaaaaaa")
    run = await ended(app, await app.runs.add(hooked, clock.now()))
    again = await app.run_again(run.id)
    assert (again.trigger, again.webhook_id, again.profile) == (Trigger.QUICK, None, Profile.CONTAINED)


async def test_a_rehearsal_that_is_run_again_asks_for_a_real_model(app: App, clock: FakeClock) -> None:
    run_id = await app.runs.add(new(rehearsal=True, model="rehearsal"), clock.now())
    await ended(app, run_id)
    again = await app.run_again(run_id)
    assert (again.rehearsal, again.model) == (False, None)


async def test_a_run_that_there_is_none_of_or_whose_job_is_gone_is_not_run_again(
    app: App, clock: FakeClock
) -> None:
    with pytest.raises(NotFoundError, match="no run"):
        await app.run_again("x")
    job = await app.jobs.add(DRAFT, clock.now())
    run = await ended(app, (await app.trigger(job.id)).id)
    await app.discard_job(job.id)
    with pytest.raises(NotFoundError, match="no job"):
        await app.run_again(run.id)


# The owner's model


async def test_a_run_that_names_no_model_asks_for_the_owners(app: App, agent: FakeAgent) -> None:
    await app.stored.change({"default_model": "haiku"})
    await ended(app, (await app.run_prompt(new())).id)
    await ended(app, (await app.run_prompt(new(model="opus"))).id)
    await app.stored.change({"default_model": None})
    await ended(app, (await app.run_prompt(new())).id)
    assert [order.model for order in agent.orders] == ["haiku", "opus", None]


# A copy


async def test_a_backup_is_the_database_as_it_is_now_for_its_owner_alone(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(DRAFT, clock.now())
    copy = await app.backup()
    await app.jobs.remove(job.id)
    assert copy == app.settings.home / "backups" / "jobs-20261123T085930000Z.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    with closing(sqlite3.connect(copy)) as c:
        assert c.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]
        assert c.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    clock.move(1)
    assert len({copy, await app.backup()}) == 2


async def test_a_backup_that_cannot_be_made_says_what_is_in_the_way(app: App) -> None:
    (app.settings.home / "backups").write_text("a file")
    with pytest.raises(UnavailableError, match="backups"):
        await app.backup()


# Whether Claude is signed in


async def state_of(
    home: Path, clock: FakeClock, agent: FakeAgent | None = None, **environment: str
) -> tuple[str, str]:
    settings = Settings(home=home, environment={"HOME": str(home / "owner")} | environment)
    async with open_app(settings, agent=agent or FakeAgent(), clock=clock) as app:
        if agent is not None:
            await ended(app, (await app.run_prompt(new())).id)
        return await app.sign_in()


async def refuse(_order: Order, listener: Listener, _stop: Stop) -> Ending:
    listener.started()
    return NOT_SIGNED_IN


async def fail_later(_order: Order, listener: Listener, _stop: Stop) -> Ending:
    listener.started()
    return Ending(State.ERROR, error="too long", reason="max_turns", tokens=Tokens(5, 5))


def logged_in(home: Path, hours: int) -> None:
    """The owner's `claude` has written its login so many hours after the present of the tests."""
    login = home / "owner" / ".claude" / ".credentials.json"
    login.parent.mkdir(parents=True)
    login.touch()
    at = (MORNING.astimezone(UTC) + timedelta(hours=hours)).timestamp()
    os.utime(login, (at, at))


async def test_without_any_sign_of_a_login_nobody_knows(tmp_path: Path, clock: FakeClock) -> None:
    state, how = await state_of(tmp_path, clock)
    assert state is SignInState.UNKNOWN
    assert "/login" in how


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK"])
async def test_the_environment_tells_of_a_login_and_never_shows_it(
    tmp_path: Path, clock: FakeClock, name: str
) -> None:
    state, how = await state_of(tmp_path, clock, None, **{name: "sk-secret"})
    assert state is SignInState.SIGNED_IN
    assert name in how
    assert "sk-secret" not in how


async def test_the_owners_own_login_is_found(tmp_path: Path, clock: FakeClock) -> None:
    logged_in(tmp_path, hours=-5)
    state, how = await state_of(tmp_path, clock)
    assert state is SignInState.SIGNED_IN
    assert ".credentials.json" in how


async def test_a_run_that_could_not_sign_in_says_more_than_a_key(tmp_path: Path, clock: FakeClock) -> None:
    logged_in(tmp_path, hours=-5)
    state, how = await state_of(tmp_path, clock, FakeAgent(refuse), ANTHROPIC_API_KEY="sk")
    assert (state, how) == (SignInState.NOT_SIGNED_IN, "run /login once")


async def test_a_login_that_is_newer_than_the_last_run_may_have_mended_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    logged_in(tmp_path, hours=5)
    state, _ = await state_of(tmp_path, clock, FakeAgent(refuse))
    assert state is SignInState.UNKNOWN


@pytest.mark.parametrize("agent", [FakeAgent(), FakeAgent(fail_later)], ids=["finished", "failed later"])
async def test_a_run_that_a_model_answered_tells_of_a_login(
    tmp_path: Path, clock: FakeClock, agent: FakeAgent
) -> None:
    assert (await state_of(tmp_path, clock, agent))[0] is SignInState.SIGNED_IN


async def test_rehearsals_need_no_login_and_tell_of_none(tmp_path: Path, clock: FakeClock) -> None:
    async with open_app(Settings(home=tmp_path, rehearsal=True), agent=FakeAgent(), clock=clock) as app:
        await ended(app, (await app.run_prompt(new())).id)
        assert (await app.sign_in()).state is SignInState.REHEARSAL
    assert (await state_of(tmp_path, clock))[0] is SignInState.UNKNOWN
