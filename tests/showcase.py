"""A home as it looks after two months of use, with everything in it that a page can show; it is the same every time.

What a person or a program does goes through the front door; the two months themselves are written into the database.
"""

import hashlib
import hmac
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.db import to_text
from claude_runner.errors import RunnerError
from claude_runner.jobs import Job
from claude_runner.runs import (
    ClosedCall,
    Ending,
    EventKind,
    NewCall,
    NewRun,
    Run,
    State,
    Tokens,
    Trigger,
    Verdict,
)
from claude_runner.servers import ExternalDraft, ToolInfo, examine
from claude_runner.webhooks import Webhook
from tests import showcase_texts as texts
from tests.sites import on_free_port, serving
from tests.support import FakeAgent, FakeClock, ended, running

NOW: Final = datetime(2026, 11, 26, 11, 47, 20, tzinfo=UTC)  # a Thursday, 12:47 in Berlin
BEGINNING: Final = NOW - timedelta(days=62)
HISTORY: Final = timedelta(days=45)
OUTAGE: Final = (datetime(2026, 11, 25, 10, 0, tzinfo=UTC), datetime(2026, 11, 25, 11, 0, tzinfo=UTC))
NOBODY: Final = "no server was at work then, or the machine slept"
LATELY: Final = timedelta(minutes=12)  # before now: what is done through the front door begins then
QUESTION: Final = (
    "The shop was slow last night. Look into the logs, find out why, and tell me how to mend it."
)
TOOL: Final = ToolInfo(
    "get_weather",
    "Tell the weather of a city for up to seven days.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Its name, such as Hamburg"},
            "days": {"type": "integer", "default": 1, "minimum": 1, "maximum": 7},
        },
        "required": ["city"],
    },
)

_OF_SLOTS: Final = frozenset({"fate", "why", "until", "count"})


@dataclass(frozen=True)
class Showcase:
    """The home that is served, and where to look in it.

    Attributes:
        origin: Where the site is.
        jobs: Their ids, by the first word of their names.
        told: The run with the richest transcript.
        going: A run that goes on.
        failed: A run that failed.
        webhook: The one with the most deliveries; `delivery` is one of them.
        call: A call of a tool.
        channel: One that somebody is told through.
    """

    app: App
    clock: FakeClock
    origin: str
    jobs: dict[str, str]
    told: str
    going: str
    failed: str
    webhook: str
    delivery: str
    call: str
    channel: str


@asynccontextmanager
async def showcase(home: Path) -> AsyncIterator[Showcase]:
    """Fill a home and serve it, with a clock that stands still."""
    clock = FakeClock(NOW - LATELY)
    agent = FakeAgent(Actor(clock).act)
    environment = {"HOME": str(home), "ANTHROPIC_API_KEY": "sk-ant-of-the-showcase"}
    settings = on_free_port(Settings(home=home, environment=environment, shutdown_grace_seconds=0.1))
    async with open_app(settings, agent=agent, clock=clock) as app:
        await app.stored.change(
            {"job_defaults": {"max_retries": 0}}
        )  # what fails is over, and can be looked at
        await _decide(app)
        await _add_servers(app)
        hooks = await _receive(app, clock)
        told = await _tell(app)
        clock.jump(NOW - clock.now())
        jobs = await _add_jobs(app)
        failed = await app.database.write(lambda c: History(c, jobs, hooks).write())
        going = await _go_on(app, jobs["Weekly"].id)
        channel = await _be_told(app, jobs, failed)
        [delivery, *_] = (await app.webhooks.deliveries(hooks[0].id, 10)).deliveries
        async with serving(app) as origin:
            yield Showcase(
                app=app,
                clock=clock,
                origin=origin,
                jobs={name: job.id for name, job in jobs.items()},
                told=told.id,
                going=going,
                failed=failed,
                webhook=hooks[0].id,
                delivery=delivery.id,
                call=(await app.runs.calls(told.id, None, 1)).calls[0].id,
                channel=channel,
            )


class Actor:
    """Acts as the agent of the showcase's runs."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    async def act(self, order: Order, listener: Listener, stop: Stop) -> Ending:
        """Tell what is in the script, go on until stopped, or be done at once."""
        if QUESTION in order.prompt:
            return await self._tell(listener)
        if texts.CHORES[3].draft.prompt in order.prompt:
            listener.happened(EventKind.TEXT, {"block": 1, "text": "I read the notes of the week first."})
            listener.used(
                Tokens(input=1_912, output=1_204, cache_read=41_310, cache_write=3_801), texts.SONNET
            )
            return await FakeAgent.wait_for_stop(order, listener, stop)
        listener.started()
        self._clock.jump(timedelta(seconds=8))
        said = "It is about the **checkout**. Proposed answer: “We could reproduce it and will mend it this week.”"
        listener.happened(EventKind.TEXT, {"block": 1, "text": said})
        tokens = Tokens(input=812, output=190, cache_read=9_400)
        return Ending(State.FINISHED, output=said, tokens=tokens, cost_usd=0.0134)

    async def _tell(self, listener: Listener) -> Ending:
        listener.started()
        tokens, called = Tokens(), {}
        for seconds, kind, body in texts.PIECES:
            self._clock.jump(timedelta(seconds=seconds))
            listener.happened(EventKind(kind), body)
            if kind == "tool_use":
                called[body["id"]] = await listener.calling(body["id"], body["name"], body["input"])
            if kind == "tool_result" and "has been denied" not in body["content"]:
                verdict = Verdict.ERROR if body["is_error"] else Verdict.OK
                listener.called(body["id"], verdict, body["content"], seconds * 1_000)
            tokens = Tokens(tokens.input + 300, tokens.output + 160, tokens.cache_read + 6_200, 4_100)
            listener.used(tokens, texts.SONNET)
        usage = {
            texts.SONNET: {"inputTokens": tokens.input, "outputTokens": tokens.output, "costUSD": 0.2316}
        }
        return Ending(State.FINISHED, output=texts.REPORT, tokens=tokens, cost_usd=0.2316, model_usage=usage)


async def _decide(app: App) -> None:
    """What the owner has decided."""
    tools = ["WebSearch", "WebFetch", "Read", "Write", "Edit", "Bash", "Grep"]
    budgets = {"day_usd": 2.5, "month_usd": 115.0}
    await app.stored.change({"timezone": texts.ZONE, "budgets": budgets, "allowed_tools": tools})


async def _add_servers(app: App) -> None:
    now = app.clock.now()
    for code in (texts.WEATHER.replace("days: int = 1", "days: int"), texts.WEATHER):
        findings = examine(code)
        staged = await app.servers.stage("weather", code, "Tells the weather.", findings.variables, now)
        known = await app.servers.find("weather")
        await (app.servers.keep_version if known else app.servers.keep_new)("weather", staged, now)
    await app.credentials.set("weather", "WEATHER_KEY", "a-key-that-nobody-sees", now)
    await app.servers.remember_tools(await app.servers.get("weather"), [TOOL], now)
    broken = app.settings.home / "dynamic_servers" / "stock-prices"
    broken.mkdir(parents=True)
    (broken / "server.py").write_text(texts.BROKEN)
    (broken / "metadata.json").write_text(
        '{"description": "Prices of shares.", "enabled": true, "env_vars": ['
    )
    await app.servers.add_external(
        ExternalDraft("notes", url="https://notes.example.com/mcp", description="Somebody else's notes."), now
    )
    for city, verdict, result in (
        ("Hamburg", Verdict.OK, "6 °C, light rain until 15:00, wind from the west."),
        ("Atlantis", Verdict.ERROR, "HTTPStatusError: 404 Not Found"),
    ):
        call = NewCall("mcp__weather__get_weather", {"city": city, "days": 2}, now)
        await app.runs.note_call(ClosedCall(None, call, verdict, result, 214.7))


async def _receive(app: App, clock: FakeClock) -> list[Webhook]:
    """Let deliveries of every verdict come in, and their runs end."""
    hooks = [await app.webhooks.add(draft, BEGINNING) for draft in texts.HOOKS]
    issues, sensors, old = hooks
    opened: dict[str, Any] = {
        "action": "opened",
        "issue": {
            "number": 418,
            "title": "Voucher is lost when I go back from the payment page",
            "body": "I enter my voucher, go to the payment, press *back*, and it is gone.\n\nFirefox 140, Linux.",
            "user": {"login": "kim-larsen"},
            "labels": [{"name": "checkout"}, {"name": "bug"}],
        },
    }
    later = opened | {"issue": {**opened["issue"], "number": 419, "title": "Wrong VAT for Swiss customers"}}
    for number, (hook, body, secret) in enumerate(
        [
            (old, b"message=hello", None),
            (issues, json.dumps({"action": "labeled", "issue": {"number": 417}}).encode(), texts.SECRET),
            (issues, json.dumps(opened).encode(), "a wrong secret"),
            (issues, b'{"action": "opened", "issue": {', texts.SECRET),
            (issues, json.dumps(opened).encode(), texts.SECRET),
            (sensors, b'{"sensor": "north wall", "value": 3.4}', None),
            (issues, json.dumps(later).encode(), texts.SECRET),
        ]
    ):
        clock.jump(timedelta(seconds=20))
        await _deliver(app, hook, body, secret, f"{number:08x}-9a1d-11f0-8e3c-5d1f")
    return hooks


async def _deliver(app: App, hook: Webhook, body: bytes, secret: str | None, key: str) -> None:
    kind = b"application/x-www-form-urlencoded" if body.startswith(b"message=") else b"application/json"
    headers = {b"content-type": kind, b"user-agent": b"GitHub-Hookshot/7a1e0c4"}
    if secret is not None:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers |= {
            b"x-hub-signature-256": f"sha256={digest}".encode(),
            b"x-github-event": b"issues",
            b"x-github-delivery": key.encode(),
        }
    assert hook.token is not None
    try:
        receipt = await app.reception.receive(await app.reception.entrance(hook.token), headers, body)
    except RunnerError:
        return
    if receipt.run_id is not None:
        await ended(app, receipt.run_id)


async def _tell(app: App) -> Run:
    new = NewRun(QUESTION, Trigger.QUICK, ("Read", "Grep", "Bash", "WebFetch"), model=texts.SONNET)
    told = await ended(app, await app.runs.add(new, app.clock.now()))
    assert told.state is State.FINISHED, told.error
    again = told.follow_up(
        "Look whether the index is there, and how the shop answers now.", NOW + timedelta(hours=5)
    )
    await app.runs.add(again, app.clock.now())
    return told


async def _add_jobs(app: App) -> dict[str, Job]:
    """Make the jobs as of two months ago, but for their next slots."""
    made = {chore.draft.name.split()[0]: await app.jobs.add(chore.draft, NOW) for chore in texts.CHORES}
    values = [
        {"id": job.id, "at": to_text(BEGINNING + timedelta(minutes=place))}
        for place, job in enumerate(made.values())
    ]

    def age(c: sqlite3.Connection) -> None:
        c.executemany("UPDATE jobs SET created_at = :at, updated_at = :at WHERE id = :id", values)

    await app.database.write(age)
    return made


async def _go_on(app: App, job_id: str) -> str:
    """Have a run going on, since some minutes."""
    run = await running(app, (await app.trigger(job_id)).id, said="half a sen")
    values = {"id": run.id, "at": to_text(NOW - timedelta(seconds=161))}
    update = "UPDATE runs SET created_at = :at, started_at = :at WHERE id = :id"
    await app.database.write(lambda c: c.execute(update, values).rowcount)
    return run.id


async def _be_told(app: App, jobs: dict[str, Job], failed: str) -> str:
    """Have channels, and what was told through them lately; the chat takes nothing since this morning."""
    mail = await app.channels.add("mail", "email:lea@example.com", BEGINNING)
    chat = await app.channels.add("team chat", "jsons://chat.example.com/hooks/of-4711", BEGINNING)
    values = [
        {
            "id": f"{number:012x}",
            "channel": (mail.id if it.channel == "mail" else chat.id) if it.channel else None,
            "ping": None if it.channel else "https://health.example.com/ping",
            "event": it.event,
            "job": jobs[it.job].id if it.job else None,
            "run": failed if it.event == "failure" else None,
            "title": it.title,
            "body": it.body,
            "state": "waiting" if it.error and not it.given_up else "failed" if it.error else "sent",
            "attempts": it.attempts,
            "error": it.error or None,
            "at": to_text(NOW - timedelta(minutes=it.minutes_ago)),
            "next": to_text(NOW + timedelta(minutes=37)),
            "finished": None
            if it.error and not it.given_up
            else to_text(NOW - timedelta(minutes=it.minutes_ago, seconds=-2)),
        }
        for number, it in enumerate(texts.TOLD)
    ]
    insert = (
        "INSERT INTO outbox (id, channel_id, ping_url, event, job_id, run_id, title, body, state, attempts, error,"
        " created_at, next_attempt_at, expires_at, finished_at) VALUES (:id, :channel, :ping, :event, :job, :run,"
        " :title, :body, :state, :attempts, :error, :at, :next, :next, :finished)"
    )

    def write(c: sqlite3.Connection) -> None:
        c.executemany(insert, values)

    await app.database.write(write)
    return mail.id


class History:
    """What two months have brought, written in the order of time."""

    def __init__(self, c: sqlite3.Connection, jobs: dict[str, Job], hooks: list[Webhook]) -> None:
        self._c = c
        self._jobs = list(jobs.values())
        self._hooks = hooks
        self._random = random.Random(7)
        self._failed = ""

    def write(self) -> str:
        """Write it, and return the last run that failed."""
        entries = sorted(
            [*self._planned(), *self._unplanned()],
            key=lambda entry: entry["scheduled_for"] or entry["created_at"],
        )
        for entry in entries:
            self._add(entry)
        self._c.execute(
            "UPDATE jobs SET (last_executed_at, last_error) = (SELECT finished_at, error FROM runs"
            " WHERE job_id = jobs.id AND state <> 'cancelled' ORDER BY created_at DESC LIMIT 1)"
        )
        self._add_clients()
        return self._failed

    def _planned(self) -> Iterator[dict[str, Any]]:
        for place, (job, chore) in enumerate(zip(self._jobs, texts.CHORES, strict=True)):
            end = NOW if job.enabled else NOW - timedelta(days=9)
            fires = []
            fire = job.schedule.next(NOW - HISTORY)
            while fire is not None and fire < end:
                if place != 1 or not OUTAGE[0] < fire <= OUTAGE[1]:
                    fires.append(fire)
                fire = job.schedule.next(fire)
            for number, slot in enumerate(fires, 1):
                yield self._slot(job, chore, slot, number, len(fires), place)

    def _slot(
        self, job: Job, chore: texts.Chore, slot: datetime, number: int, last: int, place: int
    ) -> dict[str, Any]:
        is_last = number == last
        fails = (chore.fails_now and is_last) or (chore.failing_at and number % chore.failing_at == 0)
        entry = self._run(job.prompt, chore.says, slot, chore.minutes, chore.cost_usd)
        entry |= {
            "job_id": job.id,
            "trigger": "schedule",
            "scheduled_for": to_text(slot),
            "fate": "ran",
            "why": None,
        }
        entry |= {"tools": json.dumps(job.tools), "model": job.model or texts.SONNET}
        if place == 1 and number % 41 == 0:
            entry |= {"fate": "skipped_overlap", "why": "the run before it was still going on"}
        elif place == 1 and slot == OUTAGE[0]:
            entry |= {"fate": "missed", "why": NOBODY, "until": to_text(OUTAGE[1]), "count": 2}
        elif place == 0 and number == 12:
            entry |= {"fate": "caught_up", "why": "it was 41 minutes late", "trigger": "catch_up"}
        if fails:
            reason, error = chore.fails[-1 if is_last else number % len(chore.fails)]
            cost = entry["cost_usd"] * 0.4
            entry |= {"state": "error", "reason": reason, "error": error, "output": None, "cost_usd": cost}
        return entry

    def _unplanned(self) -> Iterator[dict[str, Any]]:
        for day in range(1, 40):
            at = NOW - timedelta(days=day, minutes=self._random.randrange(600))
            for hook, prompt, says in (
                (
                    self._hooks[0],
                    "A customer opened an issue: Where is my parcel?",
                    "It is about **shipping**.",
                ),
                (self._hooks[1], f"Sensor north wall says {day % 7 + 2} °C.", "Nobody needs to go and look."),
            ):
                for _ in range(self._random.randrange(3)):
                    at -= timedelta(minutes=self._random.randrange(5, 90))
                    entry = self._run(prompt, says, at, 0.4, 0.014)
                    yield entry | {"webhook_id": hook.id, "trigger": "webhook"}
            if day % 3 == 0:
                entry = self._run(
                    "Which of our pages are the slowest?", "Search, by far: 1.9 s.", at, 2.5, 0.21
                )
                yield entry | (
                    {}
                    if day % 4
                    else {"state": "cancelled", "reason": "cancelled", "error": "you stopped it"}
                )

    def _run(self, prompt: str, says: str, at: datetime, minutes: float, cost_usd: float) -> dict[str, Any]:
        often = self._random.lognormvariate(0, 0.35)
        started = at + timedelta(seconds=self._random.uniform(0.1, 1.5))
        return {
            "id": f"{self._random.getrandbits(48):012x}",
            "job_id": None,
            "webhook_id": None,
            "trigger": "quick",
            "state": "finished",
            "prompt": prompt,
            "tools": "[]",
            "output": says,
            "error": None,
            "reason": None,
            "scheduled_for": None,
            "created_at": to_text(at),
            "started_at": to_text(started),
            "finished_at": to_text(started + timedelta(minutes=minutes * often)),
            "input_tokens": int(cost_usd * often * 9_000),
            "output_tokens": int(cost_usd * often * 14_000),
            "cache_read_tokens": int(cost_usd * often * 300_000),
            "cache_write_tokens": int(cost_usd * often * 20_000),
            "cost_usd": cost_usd * often,
            "model": texts.HAIKU,
            "profile": "contained",
            "fate": None,
            "why": None,
            "until": None,
            "count": 1,
        }

    def _add(self, entry: dict[str, Any]) -> None:
        run = {name: value for name, value in entry.items() if name not in _OF_SLOTS}
        has_run = entry["fate"] in {None, "ran", "caught_up"}
        if has_run:
            names = ", ".join(run)
            marks = ", ".join(f":{name}" for name in run)
            self._c.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", run)
            if entry["state"] == "error":
                self._failed = entry["id"]
        if entry["fate"] is not None:
            self._c.execute(
                "INSERT INTO occurrences (job_id, scheduled_for, fate, reason, run_id, until, count)"
                " VALUES (:job_id, :scheduled_for, :fate, :why, :run_id, :until, :count)",
                entry | {"run_id": entry["id"] if has_run else None},
            )

    def _add_clients(self) -> None:
        """Programs that the owner has let in."""
        for name, source, uri in (
            ("Claude", "document", "https://claude.ai/api/mcp/auth_callback"),
            ("Claude Code (laptop)", "registered", "http://localhost:53712/callback"),
        ):
            client_id = hashlib.sha256(name.encode()).hexdigest()[:24]
            values = {"id": client_id, "name": name, "source": source, "uris": json.dumps([uri])}
            values |= {
                "at": to_text(BEGINNING),
                "used": to_text(NOW - timedelta(hours=3)),
                "grant": client_id[:12],
            }
            self._c.execute(
                "INSERT INTO oauth_clients (client_id, client_name, source, redirect_uris, created_at, last_used_at)"
                " VALUES (:id, :name, :source, :uris, :at, :used)",
                values,
            )
            self._c.execute(
                "INSERT INTO oauth_grants (id, client_id, subject, scope, issuer, resource, created_at)"
                " VALUES (:grant, :id, 'owner', 'mcp', 'http://localhost', 'http://localhost/mcp', :at)",
                values,
            )
