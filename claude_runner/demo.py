"""The program shows itself: jobs fire and run on the embedded stand-in model, at no cost, in a home of its own."""

import asyncio
import sys
from typing import Final

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Subscription, Topic
from claude_runner.jobs import JobDraft
from claude_runner.runs import Run, RunFilter, Trigger
from claude_runner.schedule import local_timezone

FIRST_RUN_SECONDS: Final = 60.0
CRON: Final = "*/10 * * * * *"
PROMPT: Final = (
    "Look around in your folder, write down what you find, and tell in two sentences what you did."
)


async def show(settings: Settings, stop: asyncio.Event, *, once: bool) -> int:
    """Run a job every ten seconds and print each run as it ends.

    Args:
        settings: With the demo's own home, and `rehearsal` set.
        stop: Set when it is time to end.
        once: End as soon as the first scheduled run has ended.

    Returns:
        The exit code: 1 where `once` and no scheduled run finished within a minute.
    """
    async with open_app(settings) as app:
        with app.hub.subscribe(Topic.RUNS, wake=asyncio.Event()) as changes:
            job_id = await _only_job(app)
            _say(f"home    {settings.home}")
            _say(f"job     {job_id}: a rehearsal every ten seconds; no model is asked, nothing is paid")
            if not once:
                _say("        end it with Ctrl-C")
            watching = asyncio.create_task(_watch(app, changes, once=once))
            stopped = asyncio.create_task(stop.wait())
            timeout = FIRST_RUN_SECONDS if once else None
            done, _ = await asyncio.wait(
                {watching, stopped}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            stopped.cancel()
            watching.cancel()
            await asyncio.wait({watching, stopped})
            if watching in done:
                return 0 if watching.result() else 1
            if once:
                _say("no scheduled run finished within a minute")
            return int(once)


async def _only_job(app: App) -> str:
    """Make the demo's job, or take the one an earlier demo made."""
    draft = JobDraft("Look around", CRON, PROMPT, local_timezone(), timeout_minutes=1)
    for job in await app.jobs.list():
        if job.name == draft.name:
            return (await app.jobs.change(job.id, {"enabled": True}, app.clock.now())).id
    return (await app.jobs.add(draft, app.clock.now())).id


async def _watch(app: App, changes: Subscription, *, once: bool) -> bool:
    """Print runs as they end; with `once`, tell how the first scheduled one that ended from now on went."""
    seen = {run.id for run in (await app.runs.list(RunFilter(), 200)).runs if run.state.is_final}
    while True:
        await changes.changed.wait()
        for change in changes.take():
            run = await app.runs.get(change.key)
            if not run.state.is_final or run.id in seen:
                continue
            seen.add(run.id)
            _say(_line(run))
            if once and run.trigger is Trigger.SCHEDULE:
                return run.error is None


def _line(run: Run) -> str:
    begun, ended = run.started_at or run.created_at, run.finished_at or run.created_at
    seconds = (ended - begun).total_seconds()
    tokens = f"{run.tokens.input:,} tokens in, {run.tokens.output:,} out, ${run.cost_usd or 0:.2f}"
    text = run.error or run.output or ""
    warnings = "".join(f"\n        ! {warning}" for warning in run.warnings)
    return (
        f"run     {run.id} {run.state} after {seconds:.1f} s, {tokens}{warnings}\n        "
        + "\n        ".join(text.strip().splitlines())
    )


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)  # noqa: T201 - the demo talks to a person
