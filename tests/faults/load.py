"""What keeps a server busy while it is killed: jobs of every kind, and senders who do not give up."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx2

from claude_runner.config import Settings, SystemClock
from claude_runner.credentials import Sealing
from claude_runner.db import open_database
from claude_runner.hub import Hub
from claude_runner.jobs import Job, JobDraft, Jobs, OnCrash, Overlap, Pause, PausedBy, Policy
from claude_runner.webhooks import Webhook, WebhookDraft, Webhooks
from tests.scripted_model import ScriptedModel, Step, script

EFFECTS: Final = "effects"  # the file in a run's folder to which each run adds its name once
BURST: Final = 6
POSTERS: Final = 3
RUNS_AT_A_TIME: Final = 3
TOOLS: Final = ("Bash",)
PAUSED: Final = "paused"  # the name of a job whose slots nothing comes of

# A daemon with a session of its own, deaf to whoever asks it to end, and a command that lasts.
COMMAND: Final = (
    f'echo "$CLAUDE_RUNNER_RUN" >> {EFFECTS};'
    """ setsid nohup sh -c "trap '' TERM HUP; sleep 300" >/dev/null 2>&1 & sleep 0.3"""
)
WORK: Final[Step] = {"text": "Working.", "tool": "Bash", "input": {"command": COMMAND}}
DONE: Final[Step] = {"text": "Done.", "chunks": 5, "chunk_delay": 0.05}
PROMPT: Final = script(WORK, DONE)


def _draft(name: str, cron: str, **rules: Any) -> JobDraft:
    return JobDraft(name, cron, PROMPT, "UTC", tools=TOOLS, policy=Policy(**rules))


# Each second has slots of several of them; no two have the same rules.
LOAD: Final = (
    _draft("skip", "* * * * * *"),
    _draft("queue one", "*/2 * * * * *", overlap=Overlap.QUEUE_ONE, on_crash=OnCrash.RETRY),
    _draft("queue all", "*/7 * * * * *", overlap=Overlap.QUEUE_ALL, on_crash=OnCrash.RESUME),
    _draft("cancel", "*/5 * * * * *", overlap=Overlap.CANCEL_RUNNING),
    _draft("allow", "*/11 * * * * *", overlap=Overlap.ALLOW, on_crash=OnCrash.RETRY),
    _draft("resume", "1-59/2 * * * * *", on_crash=OnCrash.RESUME),
    _draft("late", "*/3 * * * * *", jitter_seconds=2),
    _draft(PAUSED, "* * * * * *"),
)


@dataclass(frozen=True)
class Prepared:
    """What a home has before its first server starts."""

    jobs: tuple[Job, ...]
    works: Webhook
    fails: Webhook  # its runs end before a model is asked, so that there may be many of them


def settings_for(home: Path, model: ScriptedModel) -> tuple[Settings, dict[str, str]]:
    """Make a home, and return its settings and what its servers are started with."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home / "owner"),
        "ANTHROPIC_BASE_URL": model.base_url,
        "ANTHROPIC_API_KEY": model.api_key,
        "MAX_CONCURRENT_RUNS": str(RUNS_AT_A_TIME),
        "SHUTDOWN_GRACE_SECONDS": "1",
    }
    (home / "owner").mkdir()
    (home / "runner").mkdir()
    return Settings(home=home / "runner", environment=environment), environment


async def prepare(settings: Settings, drafts: Iterable[JobDraft]) -> Prepared:
    """Fill a home that no server serves yet."""
    now, hub = SystemClock().now(), Hub()
    async with open_database(settings.database_path) as database:
        jobs = Jobs(database, hub)
        made = [await jobs.add(draft, now) for draft in drafts]
        for job in made:
            if job.name == PAUSED:
                await jobs.pause(job.id, Pause(now, None, PausedBy.OWNER, "nobody needs it now"))
        works = WebhookDraft("Items", f"{{{{payload}}}} {PROMPT}", tools=TOOLS, max_per_minute=1_000_000)
        webhooks = Webhooks(database, hub, Sealing(settings))
        fails = replace(works, name="Refused", tools=("NotebookEdit",))
        return Prepared(tuple(made), await webhooks.add(works, now), await webhooks.add(fails, now))


@dataclass
class Senders:
    """Services that post, and people who trigger a job: who is not answered asks again.

    Attributes:
        ports: Where servers listen at this moment, as far as is known.
        taken: The run that each delivery was answered with.
        triggered: The runs that triggers were answered with.
        wrong: What should not have been answered.
        over: Set once nobody is to begin anything more.
    """

    prepared: Prepared
    token: str
    random: random.Random
    ports: list[int] = field(default_factory=list)
    sent: int = 0
    taken: dict[str, str] = field(default_factory=dict)
    triggered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Keep everybody at it while the context is open; at its end each finishes what he has begun."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(POSTERS):
                tasks.create_task(self.post())
            tasks.create_task(self.trigger())
            try:
                yield
            finally:
                self.over.set()

    async def post(self) -> None:
        """Post now and then, each delivery until it is taken, and some of them twice."""
        async with httpx2.AsyncClient(timeout=5) as http:
            while not self.over.is_set():
                await asyncio.sleep(self.random.uniform(0.5, 3))
                delivery = await self._deliver(http)
                if self.random.random() < 0.3:
                    await self._deliver(http, delivery)

    async def trigger(self) -> None:
        """Trigger a job now and then."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx2.AsyncClient(timeout=5, headers=headers) as http:
            while not self.over.is_set():
                await asyncio.sleep(self.random.uniform(1, 4))
                job = self.random.choice(self.prepared.jobs)
                answer = await self._ask(lambda origin: http.post(f"{origin}/api/jobs/{job.id}/trigger"))  # noqa: B023
                if answer is not None:
                    self.triggered.append(answer["run_id"])

    async def burst(self) -> None:
        """Post some at once, so that a server that is killed now has some of them in its hands."""
        async with httpx2.AsyncClient(timeout=5) as http, asyncio.TaskGroup() as posts:
            for _ in range(BURST):
                posts.create_task(self._deliver(http))

    async def _deliver(self, http: httpx2.AsyncClient, delivery: str | None = None) -> str:
        if delivery is None:
            self.sent += 1
            delivery = f"{'works' if self.random.random() < 0.3 else 'fails'} {self.sent}"
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery}
        body = json.dumps({"n": delivery})
        webhook = self.prepared.works if delivery.startswith("works") else self.prepared.fails
        path = f"/webhook/{webhook.token}"
        while (  # noqa: ASYNC110
            answer := await self._ask(lambda origin: http.post(origin + path, content=body, headers=headers))
        ) is None:
            await asyncio.sleep(0.05)  # when a server is there again nobody tells those outside
        if self.taken.setdefault(delivery, answer["run_id"]) != answer["run_id"]:
            self.wrong.append(
                f"{delivery} was answered with two runs: {self.taken[delivery]}, {answer['run_id']}"
            )
        return delivery

    async def _ask(self, post: Callable[[str], Any]) -> dict[str, Any] | None:
        """Return the answer of a server that takes what is posted; `None` where nobody answers."""
        if not self.ports:
            return None
        with suppress(httpx2.TransportError):
            answer = await post(f"http://localhost:{self.random.choice(self.ports)}")
            if answer.status_code == 202:
                return dict(answer.json())
            if answer.status_code != 503:  # it is stopping
                self.wrong.append(f"answered {answer.status_code}: {answer.text[:300]}")
        return None
