"""The real agent on a scripted model, and the bare SDK client with the very options that the agent makes."""

import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeSDKClient, SystemMessage

from claude_runner.agent import ClaudeAgent, Listener, Order, Stop
from claude_runner.agent._options import StderrTail, options_of
from claude_runner.config import Settings
from claude_runner.runs import Ending
from tests.scripted_model import ScriptedModel


class NotingAgent(ClaudeAgent):
    """The agent, which keeps the last order it was given."""

    order: Order | None = None

    async def execute(  # type: ignore[explicit-override]  # typing.override came with Python 3.12
        self, order: Order, listener: Listener, stop: Stop
    ) -> Ending:
        """Keep the order and execute it."""
        self.order = order
        return await super().execute(order, listener, stop)


def settings_for(folder: Path, model: ScriptedModel, **changes: Any) -> Settings:
    """Return the settings of an owner whose Claude is the scripted model."""
    owner = folder / "owner"
    owner.mkdir()
    return Settings(home=folder / "runner", environment=environment_for(owner, model), **changes)


def environment_for(owner: Path, model: ScriptedModel) -> dict[str, str]:
    """Return the variables that make Claude Code ask the scripted model."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(owner),
        "ANTHROPIC_BASE_URL": model.base_url,
        "ANTHROPIC_API_KEY": model.api_key,
    }


async def converse(order: Order, settings: Settings, up: Callable[[], None] = lambda: None) -> str:
    """Carry out an order as a bare SDK client does (connect, then query), under the same guard.

    Args:
        order: What the agent was asked; its ids are made anew.
        settings: The server's.
        up: Called once the CLI has started.

    Returns:
        The id of the session.
    """
    order = replace(order, run_id=secrets.token_hex(6), session_id=str(uuid.uuid4()))
    workspace = settings.state / "tmp" / order.run_id
    workspace.mkdir(parents=True)
    options = options_of(order, settings, settings.state / "launcher", workspace, None, StderrTail().note)
    async with ClaudeSDKClient(options) as client:
        await client.query(order.prompt)
        async for message in client.receive_response():
            if isinstance(message, SystemMessage) and message.subtype == "init":
                up()
    return order.session_id
