"""Rehearses runs, one at a time."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Final

from claude_runner.agent import Agent
from claude_runner.config import Clock
from claude_runner.errors import ConflictError
from claude_runner.grants import split_name, tool_name
from claude_runner.jobs import Job, Jobs, check_model, check_prompt
from claude_runner.pool import Door, Pool
from claude_runner.reach import Reach
from claude_runner.redaction import Redactor
from claude_runner.rehearsing._records import Rehearsal
from claude_runner.rehearsing._telling import told
from claude_runner.rehearsing._trial import Trial
from claude_runner.runs import NewRun, Run, State, Tokens, Trigger
from claude_runner.settings import allowed_tools, default_model

WAIT_SECONDS: Final = 60.0  # as long as a rehearsal may take


@dataclass(frozen=True, slots=True)
class Rehearsals:
    """Rehearses runs, one at a time: each starts a Claude Code of its own."""

    jobs: Jobs
    reach: Reach
    pool: Pool
    door: Door
    agent: Agent
    redactor: Redactor
    clock: Clock
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of_job(self, job_id: str) -> Rehearsal:
        """Rehearse a run of a job as it is now; it takes a second or two, a minute at the most.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: Other rehearsals take too long.
        """
        job = await self.jobs.get(job_id)
        return await self._rehearse(job.new_run(Trigger.MANUAL, rehearsal=True), job)

    async def of_prompt(self, new: NewRun) -> Rehearsal:
        """Rehearse a run that is no job's, in a folder that goes again.

        Raises:
            InvalidError: The prompt or the model's name is none.
            ConflictError: Other rehearsals take too long.
        """
        check_prompt(new.prompt)
        check_model(new.model)
        return await self._rehearse(new, None)

    async def _rehearse(self, new: NewRun, job: Job | None) -> Rehearsal:
        async with self._its_turn():
            model = new.model or await self.reach.database.read(default_model)
            run = self._as_if_started(replace(new, model=model))
            trial = Trial(run, job, self.reach, self.pool, self.door, self.agent, self.clock)
            await trial.carry_out()
            defaults = await self._defaults()
            lacking = await self._lacking(run.tools)
            return told(trial, defaults, lacking, self.reach.settings, self.redactor.text)

    @asynccontextmanager
    async def _its_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise ConflictError(
                "other rehearsals are going on, and one is made at a time; try again in a minute"
            ) from error
        try:
            yield
        finally:
            self._turn.release()

    def _as_if_started(self, new: NewRun) -> Run:
        """Return a run as the runner would have it; it is written down nowhere."""
        now = self.clock.now()
        return Run(
            **{each.name: getattr(new, each.name) for each in fields(NewRun)},
            id=secrets.token_hex(6),
            attempt=1,
            state=State.RUNNING,
            warnings=(),
            output=None,
            error=None,
            report=None,
            created_at=now,
            started_at=now,
            finished_at=None,
            tokens=Tokens(),
            total_tokens=0,
            cost_usd=None,
            session_id=str(uuid.uuid4()),
            denials=0,
        )

    async def _defaults(self) -> list[str]:
        """Return the tools of a run that names none, those that it can't have for now included."""
        allowed = await self.reach.database.read(allowed_tools)
        enabled = await self.reach.servers.enabled()
        return [*allowed, *(tool_name(server.name, "*") for server in enabled)]

    async def _lacking(self, tools: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """Return the enabled servers that the tools name, or all, with the credentials that they lack."""
        named = {split[0] for tool in tools if (split := split_name(tool))}
        values = await self.reach.credentials.everything()
        return [
            (server.name, missing)
            for server in await self.reach.servers.enabled()
            if (not tools or server.name in named)
            and (missing := server.missing(values.get(server.name, {})))
        ]
