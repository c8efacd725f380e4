import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from claude_runner.agent import ClaudeAgent, sandbox_problem
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp
from tests.scripted_model import ScriptedModel, scripted_model
from tests.served import MEASURING
from tests.support import PATIENCE, FakeAgent, FakeClock

pytest_plugins = ("tests.browser", "tests.once")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that is there for good: it took a tenth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _unmeasured() -> Iterator[None]:
    """Let programs that are started go unmeasured: coverage takes a second of each start. `measured` is for the few."""
    with pytest.MonkeyPatch.context() as patch:
        for name in MEASURING:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """Let web clients of tests wait as long as all else that waits: their own 5 s are short on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        for phase in ("connect", "read", "write", "pool"):
            patch.setattr(f"httpx2._config.DEFAULT_TIMEOUT_CONFIG.{phase}", PATIENCE)
        yield


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def app(tmp_path: Path, agent: FakeAgent, clock: FakeClock) -> AsyncIterator[App]:
    """The application, with a clock that the test moves and an agent that says "done"."""
    settings = Settings(
        home=tmp_path, shutdown_grace_seconds=0.1
    )  # nobody waits for a run that a test leaves behind
    async with open_app(settings, agent=agent, clock=clock) as app:
        yield app


@pytest.fixture
async def mcp(app: App) -> AsyncIterator[Client[Any]]:
    """A client of the application's tools."""
    async with Client(await build_mcp(app)) as client:
        yield client


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest.fixture
def owner(tmp_path: Path, model: ScriptedModel) -> Settings:
    """The settings of an owner whose Claude is the scripted model."""
    (tmp_path / "owner").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "owner"),
        "ANTHROPIC_BASE_URL": model.base_url,
        "ANTHROPIC_API_KEY": model.api_key,
    }
    return Settings(home=tmp_path / "runner", environment=environment, shutdown_grace_seconds=0.2)


@pytest.fixture
async def real(owner: Settings) -> AsyncIterator[App]:
    """The application with the real Claude Code CLI, which asks the scripted model."""
    async with open_app(owner, agent=ClaudeAgent(owner)) as app:
        yield app


@pytest.fixture
def sandbox() -> None:
    """What a test asks for that needs shell commands to be confined."""
    if problem := sandbox_problem():
        need(problem)


def need(problem: str) -> None:
    """Skip a test for want of something, where that may be: not where CI must have it all."""
    if os.environ.get("CI") == "true":
        pytest.fail(problem)
    pytest.skip(problem)
