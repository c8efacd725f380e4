"""The application: every long-lived part, made once, wired here, started and stopped in order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from claude_runner.addresses import Addresses
from claude_runner.agent import Agent, ClaudeAgent, Endpoint
from claude_runner.auth import Auth
from claude_runner.background import background
from claude_runner.budgets import open_purse
from claude_runner.config import Clock, Settings, SystemClock
from claude_runner.credentials import Credentials, Sealing
from claude_runner.db import Database, open_database
from claude_runner.delivering import post_of
from claude_runner.dispatcher import Dispatcher
from claude_runner.errors import UnavailableError, unusable
from claude_runner.explaining import Explanation, explain
from claude_runner.gate import Gate
from claude_runner.hands import open_hands
from claude_runner.hub import Hub, Topic
from claude_runner.indexing import Indexing
from claude_runner.invocation import Invocations
from claude_runner.jobs import Job, Jobs, Pause, PausedBy
from claude_runner.leader import Leadership, Workers
from claude_runner.notifications import Channels, Outbox
from claude_runner.pausing import Pausing, checked_pause
from claude_runner.pool import Patience, Pool
from claude_runner.quick_runs import QuickRuns
from claude_runner.reach import Reach
from claude_runner.reception import Reception
from claude_runner.recovery import Recovery
from claude_runner.redaction import Redactor
from claude_runner.rehearsal import MODEL, open_rehearsal
from claude_runner.rehearsing import Rehearsals
from claude_runner.runner import Runner
from claude_runner.runs import NewRun, Run, RunRow, Runs, Trigger
from claude_runner.scheduler import LONGEST_SLEEP, Scheduler
from claude_runner.secrecy import Secrecy
from claude_runner.servers import Servers
from claude_runner.settings import StoredSettings
from claude_runner.signing_in import SignIn, sign_in
from claude_runner.trash import Trash
from claude_runner.waiting import waits_of
from claude_runner.webhooks import Webhooks
from claude_runner.workshop import Workshop

SILENCE: Final = LONGEST_SLEEP + timedelta(seconds=60)  # a scheduler that was quiet for longer is not well
SETTLE_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class App:
    """What tools and pages may use."""

    settings: Settings
    clock: Clock
    hub: Hub
    database: Database
    stored: StoredSettings
    jobs: Jobs
    runs: Runs
    agent: Agent
    dispatcher: Dispatcher
    scheduler: Scheduler
    leadership: Leadership
    servers: Servers
    credentials: Credentials
    secrecy: Secrecy
    pool: Pool
    reach: Reach
    workshop: Workshop
    invocations: Invocations
    rehearsals: Rehearsals
    addresses: Addresses
    auth: Auth
    webhooks: Webhooks
    reception: Reception
    quick: QuickRuns
    trash: Trash
    pausing: Pausing
    channels: Channels
    outbox: Outbox

    async def trigger(self, job_id: str) -> Run:
        """Run a job now, enabled or not, and return the pending run.

        Raises:
            NotFoundError: There is no such job.
        """
        job = await self.jobs.get(job_id)
        run = job.new_run(Trigger.MANUAL, rehearsal=self.settings.rehearsal)
        return await self.runs.get(await self.runs.add(run, self.clock.now()))

    async def run_prompt(self, new: NewRun) -> Run:
        """Run a prompt now, with the rights and limits that it names, and return the pending run.

        Raises:
            InvalidError: The prompt or the model's name is none, or a tool or the profile may not or can't be granted.
        """
        return await self.quick.start(new)

    async def run_again(self, run_id: str) -> Run:
        """Run once more what a run ran, with its rights and limits, and return the pending run.

        Raises:
            NotFoundError: There is no such run, or its job is gone.
        """
        return await self.quick.again(run_id)

    async def remove_job(self, job_id: str) -> None:
        """Delete a job with its runs, after ending those that are going on.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: Another server process executes a run of it.
        """
        while run_ids := await self.runs.unfinished(job_id):  # meanwhile there may come another
            for run_id in run_ids:
                await self.dispatcher.cancel(run_id)
        await self.jobs.remove(job_id)

    async def discard_job(self, job_id: str) -> None:
        """Put a job into the trash, after ending its runs: it can be taken back for an hour, then it is deleted.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: Another server process executes a run of it.
        """
        await self.trash.put(job_id)

    async def pause_job(self, job_id: str, until: datetime | None = None, reason: str | None = None) -> Job:
        """Pause a job until an instant, or until somebody says so: its slots are skipped, runs that go on go on.

        Raises:
            NotFoundError: There is no such job.
            InvalidError: The instant is past, or the reason too long.
        """
        now = self.clock.now()
        return await self.jobs.pause(
            job_id, Pause(now, until, PausedBy.OWNER, checked_pause(until, reason, now))
        )

    async def resume_job(self, job_id: str) -> Job:
        """End a job's pause, its next slot planned from now.

        Raises:
            NotFoundError: There is no such job.
        """
        return await self.jobs.resume(job_id, self.clock.now())

    async def explain(self, job_id: str, around: datetime | None = None) -> Explanation:
        """Return why a job did not run around a time, or that it did; of its last slot that did not run without one.

        Raises:
            NotFoundError: There is no such job.
            InvalidError: The time is one that no schedule reaches.
        """
        return await self.database.read(lambda c: explain(c, job_id, around, self.clock.now()))

    async def waits_for(self, *them: Run | RunRow) -> Mapping[str, str]:
        """Return what each run waits for that has not begun, by its id, to be read after "waits for"."""
        return await self.database.read(lambda c: waits_of(c, them, self.clock.now()))

    async def restore_job(self, job_id: str) -> Job:
        """Take a job out of the trash as it was, its next slot planned anew.

        Raises:
            NotFoundError: There is no such job, or none any more.
        """
        return await self.jobs.restore(job_id, self.clock.now())

    async def remove_webhook(self, webhook_id: str) -> None:
        """Delete a webhook with its deliveries, after ending its runs that wait or are going on; its runs stay.

        Raises:
            NotFoundError: There is no such webhook.
            ConflictError: Another server process executes a run of it; it is disabled then.
        """
        await self.webhooks.disable(webhook_id, self.clock.now())  # so that nothing more comes
        await self.runs.cancel_pending_of_webhook(
            webhook_id, "its webhook was deleted before it had started", self.clock.now()
        )
        for run_id in await self.runs.unfinished_of_webhook(webhook_id):
            await self.dispatcher.cancel(run_id)
        await self.webhooks.remove(webhook_id)

    async def sign_in(self) -> SignIn:
        """Return whether Claude is signed in here, as far as that can be told without asking it."""
        return await self.database.read(lambda c: sign_in(c, self.settings))

    async def backup(self) -> Path:
        """Copy the database as it is now into the folder `backups` of the home, and return where the copy is.

        Raises:
            UnavailableError: The folder or the copy can't be made.
        """
        folder = self.settings.home / "backups"
        try:
            await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
        except OSError as error:
            raise unusable(error, folder) from error
        now = self.clock.now().astimezone(UTC)
        target = folder / f"jobs-{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}Z.db"
        await self.database.copy(target)
        return target

    async def checks(self) -> dict[str, str]:
        """Return how each part is: `ok`, or a sentence about what is wrong."""
        return {"database": await self._database_check(), "scheduler": self._scheduler_check()}

    async def _database_check(self) -> str:
        try:
            await self.database.read(lambda c: c.execute("SELECT 1 FROM settings LIMIT 1").fetchone())
        except UnavailableError as error:
            return str(error)
        return "ok"

    def _scheduler_check(self) -> str:
        if self.leadership.problem is not None:
            return self.leadership.problem
        last = (
            self.scheduler.last_tick_at if self.leadership.leading else None
        )  # else another process's is at work
        if last is not None and self.clock.now() - last > SILENCE:
            return f"the scheduler has not looked for due jobs since {last.isoformat(timespec='seconds')}"
        return "ok"


@asynccontextmanager
async def open_app(
    settings: Settings,
    *,
    agent: Agent | None = None,
    clock: Clock | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[App]:
    """Start every part in order; stop them in the opposite order.

    Args:
        settings: The server's.
        agent: Executes the prompts; Claude Code where none is given.
        clock: The time; the machine's where none is given.
        patience: How long tool servers may take; the pool's own where none is given.

    Raises:
        UnavailableError: The database or the folder beside it can't be used.
    """
    clock = clock or SystemClock()
    agent = agent or ClaudeAgent(settings)
    hub = Hub()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings.database_path))
        stored = StoredSettings(database, hub)
        await stored.add_missing()
        workers = Workers(settings.state)
        try:
            await asyncio.to_thread(settings.state.mkdir, mode=0o700, parents=True, exist_ok=True)
            worker = await stack.enter_async_context(workers.enrolled())
        except OSError as error:
            raise unusable(error, settings.state) from error
        standins = await stack.enter_async_context(AsyncExitStack())
        runs = Runs(database, hub)
        hands = await stack.enter_async_context(
            open_hands(database, hub, clock, settings, stored, runs, patience)
        )
        purse = await stack.enter_async_context(open_purse(database, clock))
        runner = Runner(
            database,
            hub,
            runs,
            agent,
            clock,
            settings,
            hands.reach,
            hands.door,
            _Rehearsal(standins).endpoint,
            purse,
            hands.redactor,
        )
        dispatcher = Dispatcher(
            runs, hub, clock, settings, worker, runner.execute, Gate(database, clock, settings)
        )
        scheduler = Scheduler(database, hub, clock, rehearsal=settings.rehearsal)
        recovery = Recovery(database, hub, clock, agent, workers)
        addresses = Addresses(settings, stored)
        post = post_of(database, hub, clock, settings, hands.invocations, addresses)

        @asynccontextmanager
        async def engine() -> AsyncIterator[None]:
            """What runs in the one process of a home that leads."""
            await recovery.recover()
            async with (
                dispatcher.claiming(),
                background(scheduler.serve()),
                background(recovery.serve()),
                background(Indexing(runs, hub, clock).serve()),
                background(post.sender.serve()),
            ):
                yield

        await stack.enter_async_context(dispatcher.open())
        leadership = Leadership(settings.state, hub, engine)
        await stack.enter_async_context(background(leadership.serve()))
        with suppress(TimeoutError):  # what keeps it from leading or following is in the log, and tried again
            async with asyncio.timeout(SETTLE_SECONDS):
                await leadership.settled.wait()
        trash = await stack.enter_async_context(_open_trash(database, hub, clock, runs, dispatcher))
        auth = Auth(database, hub, settings)
        await stack.enter_async_context(auth.open())
        reception = await stack.enter_async_context(
            _open_reception(database, hub, clock, runs, hands.redactor, settings)
        )
        yield App(
            settings=settings,
            clock=clock,
            hub=hub,
            database=database,
            stored=stored,
            jobs=trash.jobs,
            runs=runs,
            agent=agent,
            dispatcher=dispatcher,
            scheduler=scheduler,
            leadership=leadership,
            servers=hands.servers,
            credentials=hands.credentials,
            secrecy=hands.secrecy,
            pool=hands.pool,
            reach=hands.reach,
            workshop=Workshop(hands.servers, hands.pool, hands.credentials, clock),
            invocations=hands.invocations,
            rehearsals=Rehearsals(
                trash.jobs, hands.reach, hands.pool, hands.door, agent, hands.redactor, clock
            ),
            addresses=addresses,
            auth=auth,
            webhooks=reception.webhooks,
            reception=reception,
            quick=QuickRuns(trash.jobs, runs, hands.reach, clock, settings),
            trash=trash,
            pausing=Pausing(database, hub, clock),
            channels=post.channels,
            outbox=post.outbox,
        )


@asynccontextmanager
async def _open_trash(
    database: Database, hub: Hub, clock: Clock, runs: Runs, dispatcher: Dispatcher
) -> AsyncIterator[Trash]:
    """Look after the trash, and the jobs that may get into it, while the context is open."""
    trash = Trash(Jobs(database, hub), runs, dispatcher, hub, clock)
    async with background(trash.serve()):
        yield trash


@asynccontextmanager
async def _open_reception(
    database: Database,
    hub: Hub,
    clock: Clock,
    runs: Runs,
    redactor: Redactor,
    settings: Settings,
) -> AsyncIterator[Reception]:
    """Take what is posted to webhooks while the context is open."""
    webhooks = Webhooks(database, hub, Sealing(settings))
    with hub.subscribe(Topic.WEBHOOKS) as changes:
        reception = Reception(
            database, hub, changes, clock, webhooks, runs, redactor.text, rehearsal=settings.rehearsal
        )
        async with reception.open():
            yield reception


class _Rehearsal:
    """Opens the stand-in model when the first run asks for it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._opening = asyncio.Lock()
        self._endpoint: Endpoint | None = None

    async def endpoint(self) -> Endpoint:
        """Return where it listens."""
        async with self._opening:
            if self._endpoint is None:
                model = await self._stack.enter_async_context(open_rehearsal())
                self._endpoint = Endpoint(model.base_url, model.api_key, MODEL)
                log.info("the rehearsal model listens on %s", model.base_url)
        return self._endpoint
