"""Somebody hears of it: channels, the outbox, and what is sent, by real processes to services on loopback."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiosmtpd.controller import Controller
from fastmcp import Client
from starlette.requests import Request
from starlette.responses import Response

from claude_runner import notifications, telling
from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import ConflictError, InvalidError, NotFoundError
from claude_runner.holds import Hold, HoldKind
from claude_runner.hub import Topic
from claude_runner.jobs import CatchUp, Fate, Job, NotifyOn, Occurrence, Pause, PausedBy, Policy
from claude_runner.notifications import Delivery, Event, Notification
from claude_runner.runs import Ending, NewRun, Run, State, Trigger, insert
from tests.parts import drafted, logged
from tests.shipped import StandIn, open_stand_in
from tests.sites import free_port
from tests.support import MORNING, FakeAgent, FakeClock, content, text, until
from tests.test_email_server import Postbox

FAILED = Ending(State.ERROR, error="the disk was full", reason="agent_crashed", cost_usd=0.25)
DONE = Ending(State.FINISHED, output="a secret poem", cost_usd=0.03)
HELD = "it was held"


@pytest.fixture
async def service() -> AsyncIterator[StandIn]:
    """A service that takes everything."""
    async with open_stand_in() as service:
        service.answers("ok")
        yield service


def address(service: StandIn, path: str = "hook-of-4711") -> str:
    return f"{service.url.replace('http://', 'json://')}/{path}"


async def heard(app: App, service: StandIn, count: int = 1) -> list[dict[str, Any]]:
    """Wait until a service has taken so many messages and return them."""
    await came(app, service, count)
    return [json.loads(body) for _, body in service.requests]


async def came(app: App, service: StandIn, count: int) -> None:
    """Wait until so much has come to a service; its sender may not have noted that yet."""

    async def has_come() -> bool:
        return len(service.requests) >= count

    await until(has_come, app, Topic.OUTBOX)


async def is_noted(app: App, channel: str) -> bool:
    """Tell whether a channel has taken something and its sender knows."""
    return any(it.channel == channel for it in await rows(app, Delivery.SENT))


async def a_job(app: App, **changes: Any) -> Job:
    """A job that does not come to run by itself while a test goes on."""
    return await app.jobs.add(drafted(**{"cron": "0 9 1 1 *"} | changes), app.clock.now())


async def tell(app: App, hook: Callable[[sqlite3.Connection], None]) -> None:
    """Do what whoever ends a run or pauses a job does."""
    await app.database.write(hook)
    app.hub.publish(Topic.OUTBOX, "")


async def a_run(app: App, job: Job | None, ending: Ending, **changes: Any) -> Run:
    """A run of the job that has ended just so, as far as the tables go, and that nobody was told of yet."""
    new = NewRun("go", Trigger.SCHEDULE, job_id=None if job is None else job.id)
    values = {"prompt": "go", "trigger": new.trigger, "job_id": new.job_id} | changes
    now = app.clock.now()

    def write(c: sqlite3.Connection) -> str:  # without waking whoever executes runs
        run_id = insert(c, NewRun(**values), now)
        c.execute(
            "UPDATE runs SET state = :state, started_at = created_at, finished_at = created_at, error = :error, "
            "reason = :reason WHERE id = :id",
            {"id": run_id, "state": ending.state, "error": ending.error, "reason": ending.reason},
        )
        return run_id

    return await app.runs.get(await app.database.write(write))


async def ends(app: App, job: Job | None, ending: Ending, **changes: Any) -> Run:
    run = await a_run(app, job, ending, **changes)
    await tell(app, lambda c: telling.on_end(c, run, job, ending, app.clock.now()))
    return run


async def rows(app: App, state: Delivery | None = None) -> list[Notification]:
    return list((await app.outbox.list(state, 200)).notifications)


async def settled(app: App, clock: FakeClock | None = None) -> list[Notification]:
    """Wait until nothing waits, moving the clock where one is given."""
    async with asyncio.timeout(60):
        while await rows(app, Delivery.WAITING):
            if clock is not None:
                clock.move(11)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await until(lambda: nothing_waits(app), app, Topic.OUTBOX)
    return await rows(app)


async def nothing_waits(app: App) -> bool:
    return not await rows(app, Delivery.WAITING)


async def oldest(app: App, event: Event | None) -> Notification:
    """The notification that was tried most often."""
    found = [each for each in await rows(app) if event in {None, each.event}]
    return max(found, key=lambda it: it.attempts)


async def tried(app: App, attempts: int, event: Event | None = None) -> Notification:
    """Wait until the oldest notification was tried so often and could not be sent."""

    async def was_tried() -> bool:
        it = await oldest(app, event)
        return it.error is not None and it.attempts >= attempts

    await until(was_tried, app, Topic.OUTBOX)
    return await oldest(app, event)


# What is sent


async def test_a_failure_is_told_with_its_reason_its_cost_and_its_page(app: App, service: StandIn) -> None:
    await app.channels.add("phone", address(service), MORNING)
    job = await a_job(app)
    run = await ends(app, job, FAILED)
    [message] = await heard(app, service)
    assert message["title"] == "Morning failed"
    assert message["message"].splitlines() == [
        "the disk was full (agent_crashed)",
        "It took 0 s. It cost $0.25.",
        "Next planned: 2027-01-01 09:00 (UTC).",
        "",
        f"http://localhost:8080/runs/{run.id}",
    ]
    [it] = await settled(app)
    assert (it.state, it.event, it.channel, it.attempts) == (Delivery.SENT, Event.FAILURE, "phone", 1)


async def test_nothing_of_what_a_model_has_said_is_told(app: App, service: StandIn) -> None:
    await app.channels.add("phone", address(service), MORNING)
    job = await a_job(app, policy=Policy(notify_on=(NotifyOn.SUCCESS,)))
    await ends(app, job, DONE)
    [message] = await heard(app, service)
    assert message["title"] == "Morning succeeded"
    assert "poem" not in json.dumps(message)


async def test_somebody_is_told_from_the_nth_failure_in_a_row_on_and_of_the_recovery(
    app: App, clock: FakeClock
) -> None:
    service = await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    job = await a_job(app, policy=Policy(notify_after_failures=3))
    titles = []
    for ending in (FAILED, FAILED, DONE, FAILED, FAILED, FAILED, FAILED, DONE, DONE):
        clock.move(1)
        before = len(await rows(app))
        await ends(app, job, ending)
        titles.append([it.title for it in await rows(app)][: len(await rows(app)) - before])
    assert service.name == "off"
    assert titles == [[], [], [], [], [], ["Morning failed"], ["Morning failed"], ["Morning works again"], []]


async def test_somebody_who_wants_to_hear_from_the_sixtieth_failure_on_does(app: App) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    job = await a_job(app, policy=Policy(notify_after_failures=60))
    for _ in range(58):
        await a_run(app, job, FAILED)
    await ends(app, job, FAILED)
    assert await rows(app) == []
    await ends(app, job, FAILED)
    [it] = await rows(app)
    assert "It has failed 60 times in a row." in it.body


async def test_who_is_not_told_of_budgets_is_told_of_the_run_that_one_ended(app: App) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    ending = Ending(State.ERROR, error="it was stopped: too dear", reason="budget", cost_usd=2)
    await ends(app, await a_job(app, policy=Policy(notify_on=(NotifyOn.FAILURE,))), ending)
    assert [it.body.partition("\n")[0] for it in await rows(app)] == ["it was stopped: too dear (budget)"]
    await ends(app, await a_job(app), ending)  # which is told as a budget
    assert len(await rows(app)) == 1


async def test_of_a_missed_slot_the_one_that_comes_next_is_told(app: App, clock: FakeClock) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    await a_job(app, cron="0 9 * * *", policy=Policy(catch_up=CatchUp.NONE))
    clock.jump(timedelta(days=2, hours=3))

    async def is_told() -> bool:
        return bool(await rows(app))

    await until(is_told, app)
    [it] = await rows(app)
    assert it.title == "Morning missed 3 runs"
    assert "Next planned: 2026-11-26 09:00 (UTC)." in it.body


async def test_a_cancelled_run_is_told_to_nobody_and_breaks_no_row(app: App, clock: FakeClock) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    job = await a_job(app, policy=Policy(notify_after_failures=2))
    await ends(app, job, FAILED)
    clock.move(1)
    await ends(app, job, Ending(State.CANCELLED, error="somebody cancelled it", reason="cancelled"))
    clock.move(1)
    assert await rows(app) == []
    await ends(app, job, FAILED)
    [it] = await rows(app)
    assert "It has failed 2 times in a row." in it.body


async def test_runs_of_webhooks_are_told_of_and_prompts_by_hand_and_rehearsals_are_not(app: App) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    await ends(app, None, FAILED, trigger=Trigger.QUICK)
    await ends(app, await a_job(app), FAILED, rehearsal=True)
    assert await rows(app) == []
    await ends(app, None, FAILED, trigger=Trigger.WEBHOOK, webhook_id="abcd1234")
    assert [it.title for it in await rows(app)] == ["The webhook abcd1234 failed"]


async def test_misses_pauses_budgets_and_holds_are_told(app: App, clock: FakeClock) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    job, now = await a_job(app), app.clock.now()
    missed = Occurrence(now - timedelta(hours=9), Fate.MISSED, "no server was at work", now, 10)
    pause = Pause(now, None, PausedBy.FAILURES, "it failed 5 times in a row")
    by_budget = Pause(now, now + timedelta(hours=9), PausedBy.BUDGET, "its day's budget is used up")
    run = await a_run(app, job, FAILED)
    hold = Hold(HoldKind.NOT_SIGNED_IN, now, now + timedelta(minutes=1), "Claude is not signed in", 1)
    for hook in (
        lambda c: telling.on_missed(c, job, missed, now),
        lambda c: telling.on_pause(c, job, pause, now),
        lambda c: telling.on_pause(c, job, by_budget, now),  # which on_budget tells of
        lambda c: telling.on_pause(c, job, pause._replace(by=PausedBy.OWNER), now),
        lambda c: telling.on_budget(c, "the run cost more than $1", job, run, now),
        lambda c: telling.on_budget(c, "all of the day is used up", None, None, now),
        lambda c: telling.on_hold(c, hold, now),
        lambda c: telling.on_hold(c, hold._replace(streak=2), now),
        lambda c: telling.on_hold(c, hold._replace(kind=HoldKind.PAUSED), now),
    ):
        await tell(app, hook)
        clock.move(0.001)
    told = {it.title: it for it in await rows(app)}
    assert sorted(told) == [
        "All runs wait: Claude is not signed in",
        "All runs: a budget is used up",
        "Morning is paused",
        "Morning missed 10 runs",
        "Morning: a budget is used up",
    ]
    assert len(await rows(app)) == 5
    assert told["Morning missed 10 runs"].body.startswith("The slots from 2026-11-22 23:59 (UTC) to ")
    assert "resume_job" in told["Morning is paused"].body
    assert "update_job, update_webhook and set_policies" in told["Morning: a budget is used up"].body


async def test_a_job_may_name_who_is_told_or_nobody(app: App) -> None:
    for name in ("one", "two"):
        await app.channels.add(name, f"json://127.0.0.1:9/{name}", MORNING)
    await ends(app, await a_job(app, policy=Policy(notify_channels=("two",))), FAILED)
    assert [it.channel for it in await rows(app)] == ["two"]
    await ends(app, await a_job(app, policy=Policy(notify_channels=())), FAILED)
    assert len(await rows(app)) == 1
    assert await app.channels.missing(["two", "three"]) == ["three"]


async def test_where_a_named_channel_is_gone_everybody_is_told(app: App) -> None:
    for name in ("one", "two"):
        await app.channels.add(name, f"json://127.0.0.1:9/{name}", MORNING)
    await ends(app, await a_job(app, policy=Policy(notify_channels=("three",))), FAILED)
    assert sorted(it.channel or "" for it in await rows(app)) == ["one", "two"]
    assert "there is none of the name 'three' any more" in (await rows(app))[0].body


async def test_line_breaks_in_a_name_or_an_error_make_no_header(app: App) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    job = await a_job(app)
    await app.database.write(
        lambda c: c.execute("UPDATE jobs SET name = 'a' || char(13, 10) || 'Bcc: eve@example.com'")
    )
    job = await app.jobs.get(job.id)
    await ends(
        app, job, Ending(State.ERROR, error="x\r\nBcc: eve@example.com\r\n" + "y" * 900, reason="silent")
    )
    [it] = await rows(app)
    assert it.title == "a Bcc: eve@example.com failed"
    assert it.body.splitlines()[0].startswith("x Bcc: eve@example.com yyy")
    assert len(it.body.splitlines()[0]) < 320


# Channels


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://abc",
        "json://",
        "https://example.com/x",
        "alice@example.com",
        "email:alice",
        "email:a@b, c@d",
        "",
        "x\r\ny",
    ],
)
async def test_an_address_that_is_none_is_refused_in_a_sentence(app: App, url: str) -> None:
    with pytest.raises(InvalidError) as refused:
        await app.channels.add("phone", url, MORNING)
    assert refused.value.field == "url"
    assert not any(part in str(refused.value) for part in ("nosuch", "abc", "a@b"))
    assert await app.channels.list() == []


async def test_an_unknown_address_is_answered_with_examples(app: App) -> None:
    with pytest.raises(InvalidError, match=r"email:alice@example\.com.*slack://.*tgram://"):
        await app.channels.add("phone", "pigeon://coop/7", MORNING)


async def test_of_an_address_nothing_secret_is_shown_stored_or_logged(
    tmp_path: Path, clock: FakeClock
) -> None:
    settings = Settings(home=tmp_path)
    with logged("") as log:
        async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
            url = "json://someone:hush-hush@127.0.0.1:9/hook-of-4711?+X-Key=topsecret"
            channel = await app.channels.add("phone", url, MORNING)
            assert channel.shown == "json://127.0.0.1:9/…"
            assert "hush" not in repr(channel)
            told = await app.channels.test(channel.id, clock.now())
            assert told.state is Delivery.FAILED
            assert told.error == "A Connection error occurred sending JSON notification to 127.0.0.1."
            await ends(app, await a_job(app), FAILED)
            await tried(app, 1, Event.FAILURE)
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("jobs.db*"))
    for secret in ("hush-hush", "hook-of-4711", "topsecret"):
        assert secret.encode() not in stored
        assert log.having(secret) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("slack://TAAAA/BBBB/CCCC/#general", "slack://…"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "tgram://…"),
        ("ntfy://a-topic-that-is-a-secret", "ntfys://…"),
        ("mailto://user:pw@gmail.com", "mailtos://gmail.com/…"),
        ("email:alice@example.com", "email:alice@example.com"),
    ],
)
async def test_what_is_shown_of_an_address_lets_nobody_in(app: App, url: str, shown: str) -> None:
    assert (await app.channels.add("phone", url, MORNING)).shown == shown


async def test_two_channels_of_one_name_and_changes_that_nobody_saw_are_refused(app: App) -> None:
    one = await app.channels.add("one", "json://127.0.0.1:9/1", MORNING)
    await app.channels.add("two", "json://127.0.0.1:9/2", MORNING)
    with pytest.raises(ConflictError, match="already"):
        await app.channels.add("one", "json://127.0.0.1:9/3", MORNING)
    with pytest.raises(ConflictError, match="already"):
        await app.channels.change(one.id, {"name": "two"}, MORNING)
    changed = await app.channels.change(one.id, {"enabled": False, "name": "uno"}, MORNING)
    assert (changed.name, changed.enabled, changed.url) == ("uno", False, "json://127.0.0.1:9/1")
    with pytest.raises(ConflictError, match="changed by someone else"):
        await app.channels.change(one.id, {"enabled": True}, MORNING, was=one.updated_at)
    with pytest.raises(NotFoundError, match="list_notification_channels"):
        await app.channels.remove("nosuch", MORNING)


# Faults


async def test_a_service_that_is_down_for_a_day_loses_nothing(
    app: App, clock: FakeClock, service: StandIn
) -> None:
    service.answers("down", 503)
    await app.channels.add("phone", address(service), MORNING)
    job = await a_job(app)
    for _ in range(3):
        await ends(app, job, FAILED)
    waits: list[float] = []
    while max(waits, default=0) < 2880:  # an hour, a fifth sooner or later: no wait is longer
        it = await tried(app, len(waits) + 1)
        assert it.next_attempt_at is not None
        waits.append((it.next_attempt_at - clock.now()).total_seconds())
        clock.move(it.next_attempt_at - clock.now())
    assert [0.8 <= wait / 30 / 2**k <= 1.2 for k, wait in enumerate(waits[:-1])] == [True] * 7
    await tried(app, len(waits) + 1)
    clock.move(MORNING + timedelta(days=1) - clock.now())
    it = await tried(app, len(waits) + 2)
    assert it.next_attempt_at is not None
    assert it.next_attempt_at - clock.now() <= timedelta(minutes=72)
    service.answers("ok")
    clock.move(timedelta(hours=1, minutes=20))
    await heard(app, service, 3)
    assert {it.state for it in await settled(app)} == {Delivery.SENT}


async def test_what_no_service_takes_for_three_days_is_given_up_with_the_reason(
    app: App, clock: FakeClock
) -> None:
    await app.channels.add("phone", "json://127.0.0.1:9/x", MORNING)
    await ends(app, await a_job(app), FAILED)
    for attempts in range(1, 5):
        await tried(app, attempts)
        clock.move(timedelta(hours=20))

    async def is_given_up() -> bool:
        return (await rows(app))[0].state is Delivery.FAILED

    await until(is_given_up, app, Topic.OUTBOX)
    [it] = await rows(app)
    assert it.state is Delivery.FAILED
    assert it.error == "A Connection error occurred sending JSON notification to 127.0.0.1."


async def test_a_channel_that_hangs_holds_up_no_other(app: App, clock: FakeClock, service: StandIn) -> None:
    async with open_stand_in() as other:
        released = asyncio.Event()

        async def hang(_request: Request) -> Response:
            await released.wait()
            return Response("ok")

        other.answer = hang
        await app.channels.add("a hanging one", address(other), MORNING)
        await app.channels.add("phone", address(service), MORNING)
        job = await a_job(app)
        await ends(app, job, FAILED)
        await heard(app, service)
        await until(lambda: is_noted(app, "phone"), app, Topic.OUTBOX)
        clock.move(11)
        await ends(app, job, FAILED)
        await heard(app, service, 2)
        assert {it.state for it in await rows(app) if it.channel == "a hanging one"} == {Delivery.WAITING}
        released.set()


async def test_ten_thousand_that_wait_are_one_message(app: App, clock: FakeClock, service: StandIn) -> None:
    service.answers("down", 503)
    await app.channels.add("phone", address(service), MORNING)
    job = await a_job(app)
    await ends(app, job, FAILED)
    await tried(app, 1)
    run = await a_run(app, job, FAILED)

    def many(c: sqlite3.Connection) -> None:
        channels, _ = notifications.enabled(c, None)
        for n in range(9_999):
            message = notifications.Message(f"{n} failed", "why")
            notifications.tell(
                c, channels, Event.FAILURE, message, notifications.About(job.id, run.id), clock.now()
            )

    await app.database.write(many)
    service.answers("ok")
    app.hub.publish(Topic.OUTBOX, "")
    clock.move(60)
    [message] = await heard(app, service)
    assert message["title"] == "10,000 notifications"
    assert message["message"].splitlines()[0].endswith("Morning failed")
    assert "… and 9,970 more" in message["message"]
    assert len(message["message"]) < 3000
    await settled(app)
    assert len(service.requests) == 1


async def test_few_that_wait_are_sent_in_order_and_of_two_sendings_the_second_rests(
    app: App, clock: FakeClock, service: StandIn
) -> None:
    await app.channels.add("phone", address(service), MORNING)
    await ends(app, await a_job(app, name="A"), FAILED)
    await heard(app, service)
    await settled(app)
    for name in "BCD":
        clock.move(0.01)
        await ends(app, await a_job(app, name=name), FAILED)
    assert len(await rows(app, Delivery.WAITING)) == 3
    clock.move(11)
    assert [it["title"][0] for it in await heard(app, service, 4)] == ["A", "B", "C", "D"]


async def test_what_was_claimed_by_a_sender_that_died_is_sent_once_its_lease_is_over(
    tmp_path: Path, clock: FakeClock, service: StandIn
) -> None:
    settings = Settings(home=tmp_path)
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        hanging = asyncio.Event()

        async def hang(_request: Request) -> Response:
            hanging.set()
            await asyncio.Event().wait()
            return Response()

        service.answer = hang
        await app.channels.add("phone", address(service), MORNING)
        await ends(app, await a_job(app), FAILED)
        await asyncio.wait_for(hanging.wait(), 30)
    service.answers("ok")
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        [it] = await rows(app)
        assert (it.state, it.attempts, it.error) == (Delivery.WAITING, 1, None)
        clock.move(notifications.LEASE)
        assert len(await heard(app, service)) == 1
        await settled(app)


async def test_what_waits_for_a_channel_that_is_deleted_says_so(app: App) -> None:
    channel = await app.channels.add("phone", "json://127.0.0.1:9/x", MORNING)
    await ends(app, await a_job(app), FAILED)
    await tried(app, 1)
    await app.channels.remove(channel.id, app.clock.now())
    [it] = await rows(app)
    assert (it.state, it.channel_id, it.error) == (
        Delivery.FAILED, None, "its channel was deleted before it was sent",
    )  # fmt: skip


async def test_an_address_that_no_key_opens_says_what_to_do_and_works_once_given_again(
    app: App, clock: FakeClock, service: StandIn
) -> None:
    channel = await app.channels.add("phone", address(service), MORNING)
    (app.settings.state / "credentials.key").unlink()
    await ends(app, await a_job(app), FAILED)
    it = await tried(app, 1)
    assert it.error is not None
    assert "can't be opened" in it.error
    assert (await app.channels.get(channel.id)).url is None
    assert (await app.channels.test(channel.id, clock.now())).error == it.error
    await app.channels.change(channel.id, {"name": "still there"}, clock.now())
    await app.channels.change(channel.id, {"url": address(service)}, clock.now())
    await heard(app, service)
    assert Delivery.WAITING not in {it.state for it in await settled(app, clock)}


async def test_a_rotation_of_the_keys_seals_addresses_anew(app: App) -> None:
    channel = await app.channels.add("phone", "json://127.0.0.1:9/x", MORNING)
    before = await app.database.read(lambda c: c.execute("SELECT sealed FROM channels").fetchone()[0])
    assert await app.credentials.rotate(notifications.reseal) == 1
    after = await app.database.read(lambda c: c.execute("SELECT sealed FROM channels").fetchone()[0])
    assert before != after
    assert (await app.channels.get(channel.id)).url == "json://127.0.0.1:9/x"


async def test_a_disabled_channel_is_told_nothing_and_what_waits_stays(
    app: App, clock: FakeClock, service: StandIn
) -> None:
    service.answers("down", 503)
    channel = await app.channels.add("phone", address(service), MORNING)
    job = await a_job(app)
    await ends(app, job, FAILED)
    await tried(app, 1)
    await app.channels.change(channel.id, {"enabled": False}, app.clock.now())
    await ends(app, job, FAILED)
    assert len(await rows(app)) == 1
    service.answers("ok")
    clock.move(timedelta(hours=1))
    await app.channels.change(channel.id, {"enabled": True}, app.clock.now())
    await heard(app, service)


async def test_old_notifications_are_tidied_and_older_pings_sooner(app: App, clock: FakeClock) -> None:
    await app.channels.add("phone", "json://127.0.0.1:9/x", MORNING)
    job = await a_job(app, policy=Policy(heartbeat_url="http://127.0.0.1:9/ping"))
    await ends(app, job, FAILED)
    clock.move(timedelta(days=4))
    await settled(app, clock)
    assert [it.event for it in await rows(app)] == [Event.FAILURE]

    async def is_empty() -> bool:
        return not await rows(app)

    clock.move(timedelta(days=30))
    await until(is_empty, app, Topic.OUTBOX)


# Heartbeats


def pinged(service: StandIn) -> list[tuple[str, str, str]]:
    """Method, path and body of what came."""
    return [(request.method, request.url.path, body.decode()) for request, body in service.requests]


async def pings(app: App, service: StandIn, count: int) -> list[tuple[str, str, str]]:
    await came(app, service, count)
    return pinged(service)


async def test_a_heartbeat_is_pinged_at_the_start_and_the_end_with_the_same_run(
    app: App, service: StandIn
) -> None:
    job = await a_job(app, policy=Policy(heartbeat_url=f"{service.url}/some-uuid?create=1"))
    run = await a_run(app, job, DONE)
    await tell(app, lambda c: telling.on_start(c, run, job, app.clock.now()))
    await pings(app, service, 1)
    await settled(app)
    await tell(app, lambda c: telling.on_end(c, run, job, DONE, app.clock.now()))
    await pings(app, service, 2)
    await settled(app)
    await ends(app, job, FAILED)
    came = await pings(app, service, 3)
    assert [it[:2] for it in came] == [
        ("POST", "/some-uuid/start"), ("POST", "/some-uuid"), ("POST", "/some-uuid/fail"),
    ]  # fmt: skip
    queries = [parse_qs(request.url.query) for request, _ in service.requests]
    assert [it["create"] for it in queries] == [["1"]] * 3
    assert queries[0]["rid"] == queries[1]["rid"] != queries[2]["rid"]
    assert came[2][2].endswith("the disk was full")


async def test_a_run_is_followed_from_its_start_to_what_is_told_of_it(
    agent: FakeAgent, app: App, service: StandIn
) -> None:
    async with open_stand_in() as heartbeat:
        heartbeat.answers("ok")
        may_end = asyncio.Event()

        async def fail(_order: Order, listener: Listener, _stop: Stop) -> Ending:
            listener.started()
            await may_end.wait()
            return FAILED

        agent._act = fail
        await app.channels.add("phone", address(service), MORNING)
        job = await a_job(app, policy=Policy(heartbeat_url=f"{heartbeat.url}/x"))
        run = await app.trigger(job.id)
        assert (await pings(app, heartbeat, 1))[0][1] == "/x/start"
        may_end.set()
        assert (await pings(app, heartbeat, 2))[1][1] == "/x/fail"
        [message] = await heard(app, service)
        assert message["message"].endswith(f"/runs/{run.id}")


async def test_a_start_that_is_overtaken_is_not_pinged(app: App, clock: FakeClock, service: StandIn) -> None:
    service.answers("down", 503)
    job = await a_job(app, policy=Policy(heartbeat_url=f"{service.url}/x"))
    run = await a_run(app, job, DONE)
    await tell(app, lambda c: telling.on_start(c, run, job, clock.now()))
    await tried(app, 1)
    service.answers("ok")
    await tell(app, lambda c: telling.on_end(c, run, job, DONE, clock.now()))
    assert [it[1] for it in await pings(app, service, 1)] == ["/x"]
    assert [it.event for it in await settled(app)] == [Event.ENDED]


async def test_a_heartbeat_that_hangs_is_given_up_after_a_while_and_holds_up_nothing(
    app: App, clock: FakeClock, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.delivering._pings.SECONDS", 0.2)

    async def hang(_request: Request) -> Response:
        await asyncio.Event().wait()
        return Response()

    async with open_stand_in() as hanging:
        hanging.answer = hang
        slow = await a_job(app, policy=Policy(heartbeat_url=f"{hanging.url}/x"))
        quick = await a_job(app, policy=Policy(heartbeat_url=f"{service.url}/y"))
        await ends(app, slow, DONE)
        await ends(app, quick, DONE)
        await pings(app, service, 1)
        it = await tried_of(app, slow)
        assert it.error is not None
        assert "did not answer within 0.2 seconds" in it.error
        clock.move(timedelta(hours=2))
        [it] = [it for it in await settled(app) if it.job_id == slow.id]
        assert it.state is Delivery.FAILED


async def tried_of(app: App, job: Job) -> Notification:
    async def was_tried() -> bool:
        return any(it.error for it in await rows(app) if it.job_id == job.id)

    await until(was_tried, app, Topic.OUTBOX)
    return next(it for it in await rows(app) if it.job_id == job.id)


async def test_a_heartbeat_is_not_led_to_another_scheme(app: App, service: StandIn) -> None:
    service.answers("", 301, location="ftp://127.0.0.1/x")
    job = await a_job(app, policy=Policy(heartbeat_url=f"{service.url}/x"))
    await ends(app, job, DONE)
    it = await tried_of(app, job)
    assert it.error is not None
    assert service.url.removeprefix("http://") in it.error
    assert "/x" not in it.error


async def test_an_error_of_a_heartbeat_tells_nothing_of_what_lets_one_ping(app: App) -> None:
    url = f"http://me:s3cr3t@127.0.0.1:{free_port()}?key=s3cr3t"
    job = await a_job(app, policy=Policy(heartbeat_url=url))
    await ends(app, job, DONE)
    it = await tried_of(app, job)
    assert it.error is not None
    assert it.error.startswith("127.0.0.1:")
    assert "s3cr3t" not in it.error


# Mail


async def test_mail_that_can_not_be_sent_says_why_and_is_sent_once_the_server_is_configured(
    app: App, clock: FakeClock
) -> None:
    postbox, port = Postbox(), free_port()
    await app.channels.add("mail", "email:alice@example.com", MORNING)
    await ends(app, await a_job(app), FAILED)
    it = await tried(app, 1)
    assert it.error is not None
    assert "SENDER_EMAIL" in it.error
    controller = Controller(postbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        values = {
            "EMAIL_PROVIDER": "smtp",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_SECURITY": "none",
            "SENDER_EMAIL": "runner@example.com",
        }
        for key, value in values.items():
            await app.credentials.set("email", key, value, clock.now())
        await settled(app, clock)
    finally:
        controller.stop()
    mail = postbox.last()
    assert (mail["to"], mail["subject"]) == ("alice@example.com", "Morning failed")
    assert "the disk was full" in mail.get_content()


# Faces


async def test_a_channel_is_made_tried_changed_and_deleted_by_tools(
    app: App, mcp: Client[Any], service: StandIn
) -> None:
    assert await app.channels.list() == []
    refused = await mcp.call_tool(
        "create_notification_channel", {"name": "phone", "url": "pigeon://coop"}, raise_on_error=False
    )
    assert "slack://" in text(refused)
    made = content(
        await mcp.call_tool("create_notification_channel", {"name": "phone", "url": address(service)})
    )
    assert made["address"].startswith("json://127.0.0.1:")
    which = {"channel_id": made["id"]}
    assert content(await mcp.call_tool("test_notification_channel", which))["state"] == "sent"
    [message] = await heard(app, service)
    assert message["title"] == "A test from Claude Runner"
    changed = content(await mcp.call_tool("update_notification_channel", which | {"enabled": False}))
    assert not changed["enabled"]
    listed = content(await mcp.call_tool("list_notification_channels"))
    assert [it["name"] for it in listed["channels"]] == ["phone"]
    shown = content(await mcp.call_tool("list_notifications", {"state": "sent"}))["notifications"]
    assert [(it["event"], it["channel"]) for it in shown] == [("test", "phone")]
    assert content(await mcp.call_tool("delete_notification_channel", which))["deleted"]
    assert content(await mcp.call_tool("list_notification_channels"))["total"] == 0


async def test_notifications_are_listed_in_pages(app: App, mcp: Client[Any]) -> None:
    await app.channels.add("off", "json://127.0.0.1:9/x", MORNING)
    job = await a_job(app)
    for _ in range(3):
        await ends(app, job, FAILED)
    first = content(await mcp.call_tool("list_notifications", {"limit": 2}))
    second = content(await mcp.call_tool("list_notifications", {"limit": 2, "cursor": first["next_cursor"]}))
    ids = [it["id"] for it in (*first["notifications"], *second["notifications"])]
    assert len(set(ids)) == 3
    assert second["next_cursor"] is None
