"""What the agent is asked to do for a run: the same for a run that counts as for one that is only rehearsed."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.agent import Endpoint, Order, Transcripts
from claude_runner.config import Settings
from claude_runner.errors import InvalidError, UnavailableError
from claude_runner.grants import Grant
from claude_runner.jobs import Job
from claude_runner.pool import Wanted
from claude_runner.prices import Price
from claude_runner.reach import Reach
from claude_runner.runs import Run, ToolCall
from claude_runner.schedule import local_timezone

INSTRUCTIONS: Final = """\
You carry out a task unattended, started by {origin}. Nobody reads along and nobody answers questions: where something
is unclear, decide as the person who wrote the task would, and go on.
Working directory: {folder}
It is yours, it is kept between the runs of this job, and it is the only place you can write to.
It is now {now}.
If something can't be done with the tools you have, say so plainly; never claim to have done what you have not. End
with a short report of what was done and found: it is what people read.
"""


LEAST_USD: Final = 0.01
SHOWN: Final = 300  # characters of a call's arguments
GO_ON: Final = """\
You were interrupted while you carried out this task, and it is given on to you now. Go on where you were, and end with
the report that was asked for. Do not repeat what you have done already."""
UNKNOWN_OUTCOME: Final = """\
These calls of tools had begun, and whether they took effect is not known. Find out before you make any of them again,
and say in your report what could not be found out:"""


class ProfileRefusedError(InvalidError):
    """The profile is one that may not be had here."""

    code = "profile_refused"


class ToolRefusedError(InvalidError):
    """A tool is one that may not or can't be granted."""

    code = "tool_refused"


class FolderUnavailableError(UnavailableError):
    """The folder that a run works in can't be made."""

    code = "folder_unavailable"


async def granted(reach: Reach, run: Run) -> Grant:
    """Return what a run is granted.

    Raises:
        ProfileRefusedError: Its profile may not be had here.
        ToolRefusedError: It names a tool that may not or can't be granted.
    """
    try:
        return await reach.grant(run.tools, run.profile, run.commands)
    except InvalidError as error:
        kind = ProfileRefusedError if error.field == "profile" else ToolRefusedError
        raise kind(str(error), field=error.field) from error


def folder_of(run: Run, settings: Settings) -> Path:
    """Return the folder that a run works in: its job's, or one of its own."""
    return settings.playground / (run.job_id or f"run-{run.id}")


async def make_folder(run: Run, settings: Settings) -> Path:
    """Return the folder that a run works in, after making it where it is not there yet.

    Raises:
        FolderUnavailableError: It can't be made.
    """
    folder = folder_of(run, settings)
    try:
        await asyncio.to_thread(_make_private, folder, settings.playground)
    except OSError as error:
        raise FolderUnavailableError(f"can't make {folder}: {error.strerror}") from error
    return folder


def order_of(
    run: Run,
    job: Job | None,
    grant: Grant,
    folder: Path,
    wanted: Sequence[Wanted],
    mcp_config: Path | None,
    endpoint: Endpoint | None,
    now: datetime,
    webhook: str | None = None,
    interrupted: Sequence[ToolCall] = (),
    transcripts: Transcripts | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Order:
    """Return what the agent is to do.

    Args:
        run: The attempt.
        job: Whose it is, if anyone's.
        grant: What it was granted.
        folder: Where it works.
        wanted: The servers that it reaches.
        mcp_config: How Claude Code finds them; `None` where there are none.
        endpoint: Where the model is asked; `None` for the owner's own.
        now: What the model is told the time is.
        webhook: The name of the webhook that started it, if one did.
        interrupted: Of a run that goes on in its own session, the calls whose outcome is not known.
        transcripts: Where a copy of its session is kept; `None` for nowhere.
        prices: What models cost by the owner's word.
    """
    return Order(
        run_id=run.id,
        session_id=run.session_id or "",
        prompt=_go_on(interrupted) if run.resumes else run.prompt,
        instructions=instructions_for(job, folder, now, webhook),
        built_ins=grant.built_ins,
        folder=folder,
        profile=grant.profile,
        commands=run.commands,
        mcp_config=mcp_config,
        mcp_tools=tuple(name for each in wanted for name in each.full_names()),
        mcp_servers=tuple(each.name for each in wanted),
        model=run.model,
        endpoint=endpoint,
        resumes=run.resumes,
        max_cost_usd=_rest(run),
        transcripts=transcripts,
        prices=prices or {},
    )


def _rest(run: Run) -> float | None:
    """Return what the attempt may cost of what all of them may: at least so much that it begins."""
    if run.max_cost_usd is None:
        return None
    return max(run.max_cost_usd - (run.cost_usd or 0.0), LEAST_USD)


def _go_on(interrupted: Sequence[ToolCall]) -> str:
    """Return what a run is told that goes on in its own session."""
    if not interrupted:
        return GO_ON
    calls = "\n".join(
        f"- {call.tool} {json.dumps(call.arguments, ensure_ascii=False)[:SHOWN]}" for call in interrupted
    )
    return f"{GO_ON}\n{UNKNOWN_OUTCOME}\n{calls}"


def instructions_for(job: Job | None, folder: Path, now: datetime, webhook: str | None = None) -> str:
    """Return what the model is told besides the prompt."""
    zone = job.timezone if job else local_timezone()
    local = now.astimezone(ZoneInfo(zone))
    origin = "a person" if webhook is None else f"the webhook '{webhook}'"
    return INSTRUCTIONS.format(
        origin=f"the job '{job.name}'" if job else origin,
        folder=folder,
        now=f"{local:%A, %d %B %Y, %H:%M} ({zone})",
    )


def _make_private(folder: Path, playground: Path) -> None:
    """Make a job's folder, for nobody but the owner to look into."""
    playground.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
