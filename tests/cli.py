"""Runs of the scripted model, for tests with the real CLI."""

from dataclasses import replace
from typing import Any

from claude_runner.app import App
from claude_runner.runs import NewRun, Run, Trigger
from tests.scripted_model import Step, script
from tests.support import settled


async def run(app: App, *steps: Step, prompt: str = "", **changes: Any) -> Run:
    """Run a script to the end of its first attempt, with `Read` alone where nothing else is said."""
    return await settled(app, await start(app, *steps, prompt=prompt, **changes))


async def start(app: App, *steps: Step, prompt: str = "", **changes: Any) -> str:
    new = NewRun(prompt=f"{prompt} {script(*steps)}", trigger=Trigger.QUICK, tools=("Read",))
    return await app.runs.add(replace(new, **changes), app.clock.now())
