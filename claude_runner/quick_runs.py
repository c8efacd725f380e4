"""Runs that a person starts by hand: of a prompt, or of what ran before."""

from dataclasses import dataclass, replace

from claude_runner.config import Clock, Settings
from claude_runner.errors import InvalidError
from claude_runner.jobs import Jobs, check_model, check_prompt
from claude_runner.reach import Reach
from claude_runner.runs import NewRun, Run, Runs, Trigger


@dataclass(frozen=True, slots=True)
class QuickRuns:
    """Starts runs by hand."""

    jobs: Jobs
    runs: Runs
    reach: Reach
    clock: Clock
    settings: Settings

    async def start(self, new: NewRun) -> Run:
        """Start a run of a prompt with the rights and limits that it names, and return it, pending.

        Raises:
            InvalidError: The prompt or the model's name is none, or a tool or the profile may not or can't be granted.
        """
        check_prompt(new.prompt)
        check_model(new.model)
        if not 1 <= new.timeout_minutes <= 1440:
            raise InvalidError(
                f"timeout_minutes is {new.timeout_minutes}; give 1 to 1440", field="timeout_minutes"
            )
        grant = await self.reach.grant(new.tools, new.profile, new.commands)
        return await self._add(
            NewRun(
                prompt=new.prompt,
                trigger=Trigger.QUICK,
                tools=grant.tools,
                timeout_minutes=new.timeout_minutes,
                model=new.model,
                profile=new.profile,
                commands=new.commands,
                rehearsal=new.rehearsal,
            )
        )

    async def again(self, run_id: str) -> Run:
        """Run once more what a run ran, with its rights and limits, and return the new run, pending.

        A run of a job is one of that job again; any other is nobody's.

        Raises:
            NotFoundError: There is no such run, or its job is gone.
        """
        old = await self.runs.get(run_id)
        asked = (
            None if old.rehearsal else old.model
        )  # what the stand-in model is called is nothing to ask for
        if old.job_id is not None:
            job = await self.jobs.get(old.job_id)
            asked = job.model or asked
        return await self._add(
            NewRun(
                prompt=old.prompt,
                trigger=Trigger.QUICK if old.job_id is None else Trigger.MANUAL,
                tools=old.tools,
                timeout_minutes=old.timeout_minutes,
                model=asked,
                job_id=old.job_id,
                profile=old.profile,
                commands=old.commands,
            )
        )

    async def _add(self, new: NewRun) -> Run:
        new = replace(new, rehearsal=new.rehearsal or self.settings.rehearsal)
        return await self.runs.get(await self.runs.add(new, self.clock.now()))
