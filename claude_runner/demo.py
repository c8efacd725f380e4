"""The program shows itself: jobs fire and run on the embedded stand-in model, at no cost, in a home of its own."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

from claude_runner.app import App, open_app
from claude_runner.background import background
from claude_runner.config import Settings
from claude_runner.errors import NotFoundError
from claude_runner.hub import Subscription, Topic
from claude_runner.jobs import JobDraft
from claude_runner.runs import Run, RunFilter, Trigger
from claude_runner.schedule import local_timezone

FIRST_RUN_SECONDS: Final = 60.0
CRON: Final = "*/10 * * * * *"
PROMPT: Final = (
    "Look around in your folder, write down what you find, and tell in two sentences what you did."
)


async def show(
    settings: Settings, stop: asyncio.Event, serve: Callable[[App], Coroutine[Any, Any, None]] | None
) -> int:
    """Run a job every ten seconds, print each run as it ends, and serve the dashboard.

    Args:
        settings: With the demo's own home, and `rehearsal` set.
        stop: Set when it is time to end.
        serve: Serves the dashboard until then; `None` to end as soon as the first scheduled run has ended.

    Returns:
        The exit code: 1 where nothing is served and no scheduled run finished within a minute.
    """
    async with open_app(settings) as app, AsyncExitStack() as faces:
        with app.hub.subscribe(Topic.RUNS, wake=asyncio.Event()) as changes:
            job_id = await _jobs(app)
            _say(f"home    {settings.home}")
            _say(f"job     {job_id}: a rehearsal every ten seconds; no model is asked, nothing is paid")
            if serve is not None:
                _say(f"pages   {app.addresses.local}/")
                _say("        end it with Ctrl-C")
                await faces.enter_async_context(background(serve(app)))
            watching = asyncio.create_task(_watch(app, changes, once=serve is None))
            stopped = asyncio.create_task(stop.wait())
            timeout = FIRST_RUN_SECONDS if serve is None else None
            done, _ = await asyncio.wait(
                {watching, stopped}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            stopped.cancel()
            watching.cancel()
            await asyncio.wait({watching, stopped})
            if watching in done:
                return 0 if watching.result() else 1
            if serve is None:
                _say("no scheduled run finished within a minute")
            return int(serve is None)


async def _jobs(app: App) -> str:
    """Make the demo's jobs, or take those that an earlier demo made, and return the id of the busy one."""
    zone = local_timezone()
    wanted = [
        JobDraft("Look around", CRON, PROMPT, zone, timeout_minutes=1),
        JobDraft("Morning briefing", "0 9 * * 1-5", "Tell what is in your folder, in one sentence.", zone),
        JobDraft(
            "Weekly report", "30 16 * * 5", "Sum up what the notes in your folder say about this week.", zone
        ),
    ]
    known = {job.name: job for job in await app.jobs.list()}
    kept = [
        await app.jobs.change(known[draft.name].id, {"enabled": True}, app.clock.now())
        if draft.name in known
        else await app.jobs.add(draft, app.clock.now())
        for draft in wanted
    ]
    return kept[0].id


async def _watch(app: App, changes: Subscription, *, once: bool) -> bool:
    """Print runs as they end; with `once`, tell how the first scheduled one that ended from now on went."""
    seen = {run.id for run in (await app.runs.list(RunFilter(), 200)).runs if run.state.is_final}
    while True:
        await changes.changed.wait()
        for change in changes.take():
            if (run := await _run(app, change.key)) is None or not run.state.is_final or run.id in seen:
                continue
            seen.add(run.id)
            _say(_line(run))
            if once and run.trigger is Trigger.SCHEDULE:
                return run.error is None


async def _run(app: App, run_id: str) -> Run | None:
    """Return a run, `None` where it was deleted since."""
    try:
        return await app.runs.get(run_id)
    except NotFoundError:
        return None


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
