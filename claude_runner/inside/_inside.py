"""Carries out the calls of the tools that a run sees."""

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from claude_runner import jobs, runs
from claude_runner.config import Clock
from claude_runner.db import Database
from claude_runner.errors import ConflictError, NotFoundError
from claude_runner.hub import Hub, Topic
from claude_runner.inside import _followups
from claude_runner.inside._tools import DEFAULT_LISTED, MAX_NOTE, TOOLS, InsideTool, fitted
from claude_runner.inside._when import read_when
from claude_runner.jobs import check_prompt
from claude_runner.runs import Report, ReportStatus, Run, head

HEAD_OF_PROMPT: Final = 200  # characters that a list shows

Answer = str | Mapping[str, Any]
Method = Callable[..., Awaitable[Answer]]

log = logging.getLogger(__name__)


def _as_it_is(text: str) -> str:
    return text


class Inside:
    """The tools of the server `runner`, for all runs of the process.

    Attributes:
        tools: What the server lists.
    """

    tools: tuple[InsideTool, ...] = TOOLS

    def __init__(
        self, database: Database, hub: Hub, clock: Clock, redact: Callable[[str], str] = _as_it_is
    ) -> None:
        """Make the tools.

        Args:
            database: Where jobs and runs are.
            hub: Is told of what changes.
            clock: The time.
            redact: Takes out of a text what must not be read; all that is written goes through it.
        """
        self._db = database
        self._hub = hub
        self._clock = clock
        self._redact = redact
        self._methods: Mapping[str, Method] = {
            "schedule_followup": self._schedule_followup,
            "list_my_runs": self._list_my_runs,
            "remember": self._remember,
            "recall": self._recall,
            "report": self._report,
        }

    async def call(self, run: Run, tool: str, arguments: Mapping[str, Any]) -> Answer:
        """Carry out a call that a run makes and return the answer.

        Args:
            run: The attempt, as it was claimed: its rights are those that a follow-up gets.
            tool: The tool's name, without the server's.
            arguments: Fit its schema, or are refused.

        Raises:
            RunnerError: The call is refused; the sentence is for the model.
        """
        offered = next((each for each in TOOLS if each.name == tool), None)
        if offered is None:
            names = ", ".join(each.name for each in TOOLS)
            raise NotFoundError(f"the server runner has no tool {tool[:60]!r}; it has {names}")
        return await self._methods[tool](run, **fitted(offered, arguments))

    async def _schedule_followup(self, run: Run, when: str, prompt: str) -> Answer:
        now = self._clock.now()
        at = read_when(when, now)
        prompt = self._redact(prompt)
        check_prompt(prompt)
        made = await self._db.write(lambda c: _followups.make(c, run, prompt, at, now))
        log.info("run %s: a follow-up at %s: run %s", run.id, made["not_before"], made["id"])
        self._hub.publish(Topic.RUNS, made["id"])
        return made

    async def _list_my_runs(self, run: Run, limit: int = DEFAULT_LISTED) -> Answer:
        latest = await self._db.read(lambda c: runs.latest_of(c, run, limit))
        return {"runs": [_shown(each, run) for each in latest]}

    async def _remember(self, run: Run, note: str) -> Answer:
        job_id = _job_of(run)
        kept = self._clean(note) if note.strip() else None

        def write(c: sqlite3.Connection) -> None:
            _hold(runs.going_on(c, run) is not None, run)
            jobs.remember(c, job_id, kept)

        await self._db.write(write)
        self._hub.publish(Topic.JOBS, job_id)
        if kept is None:
            return "The note is deleted."
        return f"Kept {len(kept):,} of at most {MAX_NOTE:,} characters for the later runs of this job."

    async def _recall(self, run: Run) -> Answer:
        job_id = _job_of(run)
        job = await self._db.read(lambda c: jobs.find(c, job_id))
        return {"note": None if job is None else job.note}

    async def _report(self, run: Run, status: str, summary: str) -> Answer:
        said = Report(ReportStatus(status), self._clean(summary))
        _hold(await self._db.write(lambda c: runs.report(c, run, said)), run)
        self._hub.publish(Topic.RUNS, run.id)
        return f"Reported: {said.status}."

    def _clean(self, text: str) -> str:
        """Return a text as it may be stored: redacted, and without half emojis, which UTF-8 does not have."""
        return self._redact(text).encode(errors="replace").decode().replace("\0", "\ufffd")


def _job_of(run: Run) -> str:
    if run.job_id is None:
        raise ConflictError(
            "this run belongs to no job, so there is no note; keep what a follow-up needs in its prompt"
        )
    return run.job_id


def _hold(may_write: bool, run: Run) -> None:  # noqa: FBT001 - what it is about
    if not may_write:
        raise ConflictError(f"run {run.id} is not going on any more, so nothing of it is written")


def _shown(run: Run, caller: Run) -> dict[str, Any]:
    report = run.report and {"status": run.report.status, "summary": run.report.summary}
    shown: dict[str, Any] = {
        "id": run.id,
        "this_run": run.id == caller.id,
        "state": run.state,
        "trigger": run.trigger,
        "created_at": run.created_at.isoformat(timespec="seconds"),
        "started_at": run.started_at and run.started_at.isoformat(timespec="seconds"),
        "finished_at": run.finished_at and run.finished_at.isoformat(timespec="seconds"),
        "error": run.error,
        "report": report,
        "output": run.output and head(run.output),
    }
    if run.parent_run_id is not None:
        shown["prompt"] = head(run.prompt, HEAD_OF_PROMPT)
    if run.not_before is not None:
        shown["not_before"] = run.not_before.isoformat(timespec="seconds")
    return shown
