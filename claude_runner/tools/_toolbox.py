"""How a method becomes an MCP tool: its title, its hints, its errors."""

import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.tools import tool as _fastmcp_tool
from mcp_types import ToolAnnotations

from claude_runner.app import App
from claude_runner.errors import RunnerError
from claude_runner.tools._confirmation import Question, confirmed

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


class ToolGroup:
    """Tools about one subject; every method marked with `tool` is one."""

    def __init__(self, app: App) -> None:
        self.app = app

    def tools(self) -> Iterator[Callable[..., Awaitable[Any]]]:
        """Yield the tools in the order they are written."""
        for name, member in vars(type(self)).items():
            if hasattr(member, "__fastmcp__"):
                yield getattr(self, name)


def tool(
    title: str,
    *,
    reads: bool = False,
    destroys: bool = False,
    repeatable: bool = False,
    acts_outside: bool = False,
    asks: Callable[..., Awaitable[Question | None]] | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Offer a method as an MCP tool and say what it does to the world.

    Args:
        title: What a person reads.
        reads: It changes nothing.
        destroys: It may take away what can't be had back.
        repeatable: A second call with the same arguments changes nothing more.
        acts_outside: It sets something going beyond this server.
        asks: What the user is asked first: a method that takes what the tool takes.
    """
    hints = ToolAnnotations(
        read_only_hint=reads,
        destructive_hint=destroys,
        idempotent_hint=reads or repeatable,
        open_world_hint=acts_outside,
    )

    def offer(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(method)
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                if asks and (pending := await confirmed(functools.partial(asks, *args, **kwargs))):
                    return cast("R", pending)  # which the library knows from a tool's own answer
                return await method(*args, **kwargs)
            except RunnerError as error:
                raise ToolError(str(error), log_level=logging.INFO) from error
            except Exception as error:
                error_id = secrets.token_hex(4)
                log.exception("tool %s: unexpected error %s", method.__name__, error_id)
                raise ToolError(
                    f"the server made a mistake; its log tells more under {error_id}", log_level=logging.INFO
                ) from error

        return _fastmcp_tool(title=title, annotations=hints)(call)

    return offer


def given(**values: Any) -> dict[str, Any]:
    """Return the parameters that a caller has given, by name."""
    return {name: value for name, value in values.items() if value is not None}


async def looked_up(reading: Awaitable[R]) -> R:
    """Return what a resource or a prompt reads; what is wrong with that, the client is told in our sentence."""
    try:
        return await reading
    except RunnerError as error:
        raise ValidationError(str(error), log_level=logging.INFO) from error
