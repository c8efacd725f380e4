"""Entry point: `python server.py` serves Claude Runner over stdio and HTTP.

Exit codes: 0 ended, 1 cannot run, 2 wrong usage.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dotenv import dotenv_values

from claude_runner import __version__
from claude_runner.client_config import Surface
from claude_runner.config import Settings, Transport
from claude_runner.errors import InvalidError, RunnerError

if TYPE_CHECKING:
    from claude_runner.app import App

HERE: Final = Path(__file__).resolve().parent
SPARE_SECONDS: Final = 2.0  # what is not needed to answer a client is imported when it has its first answers

T = TypeVar("T")

log = logging.getLogger("claude_runner")


def main() -> int:
    """Run the program and return its exit code."""
    options = _arguments()
    try:
        settings = Settings.from_environment(environment(HERE / ".env"), HERE)
    except InvalidError as error:
        print(f"claude-runner: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    start_log(settings.log_level)
    try:
        if options.demo:
            return run(_demo(settings, once=os.environ.get("ONCE") == "1"), fast=True)
        if (answer := _asked_for(options, settings)) is not None:
            print(run(answer, fast=False))  # noqa: T201 - it is what was asked for
        else:
            run(_serve(settings), fast=settings.transport is not Transport.STDIO)
    except RunnerError as error:
        log.error("cannot run: %s", error)  # noqa: TRY400 - an expected failure, told in a sentence
        return 1
    return 0


def _asked_for(options: argparse.Namespace, settings: Settings) -> Coroutine[Any, Any, str] | None:
    """Return what makes the line that a command prints; `None` where none was given, and the server is to serve."""
    from claude_runner import commands  # noqa: PLC0415 - after the log is up

    if options.client_config is not None:
        command = (sys.executable, str(HERE / "server.py"))
        return commands.client_configuration(Surface(options.client_config), command, settings)
    if options.access_token is not None:
        return commands.access_token(settings, options.access_token)
    return commands.rotate_key(settings) if options.rotate_key else None


def run(work: Coroutine[Any, Any, T], *, fast: bool) -> T:
    """Return what comes of the work.

    Args:
        work: What is run.
        fast: Whether uvloop's event loop runs it, where there is one: worth its memory where many ask at once.
    """
    new_event_loop = asyncio.new_event_loop
    if fast:
        with suppress(ImportError):  # on Windows
            from uvloop import new_event_loop  # noqa: PLC0415 - only where it is wanted
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def environment(file: Path) -> dict[str, str]:
    """Return the variables of the .env file and of the environment, which wins."""
    try:
        written = {name: value for name, value in dotenv_values(file).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{file} can't be read: {error}", field=".env") from error
    return written | dict(os.environ)


def start_log(level: str) -> None:
    """Log to standard error, always: standard output belongs to the protocol.

    Of libraries only warnings are told: some would tell every byte that they send, and with it the tokens of webhooks.
    """
    logging.basicConfig(
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level]),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
    log.setLevel(level)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="server.py",
        description="Runs Claude prompts unattended. Settings come from the environment and .env.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--client-config",
        nargs="?",
        choices=[surface.value for surface in Surface],
        const=Surface.DESKTOP.value,
        metavar="SURFACE",
        help="print what Claude is to be given to find this server, and end: desktop (the entry for"
        " claude_desktop_config.json; also where nothing is named), code (commands for Claude Code) or claude.ai",
    )
    choice.add_argument(
        "--demo",
        action="store_true",
        help="show scheduled runs and the dashboard on the embedded stand-in model, at no cost, in a home of its own",
    )
    choice.add_argument(
        "--access-token",
        nargs="?",
        const="",
        metavar="URL",
        help="print an access token for scripts and clients that take a header, good for 90 days at the site's address"
        " (http://localhost:8080 or what PUBLIC_URL says; or at the one given), and end",
    )
    choice.add_argument(
        "--rotate-key",
        action="store_true",
        help="seal all credentials under a new key, or under the first of CREDENTIALS_KEY, and end; servers may run",
    )
    return parser.parse_args()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _serve(settings: Settings) -> None:
    """Serve the transports chosen until told to stop or, where stdio is served, its client has gone."""
    gc.disable()  # what is made while all this is imported is no garbage; `warm` switches it on again
    from claude_runner.app import open_app  # noqa: PLC0415 - after the log is up: it imports much
    from claude_runner.background import background  # noqa: PLC0415
    from claude_runner.tools import build_mcp, serve_stdio, warm_up  # noqa: PLC0415
    from claude_runner.tunnel import open_tunnel  # noqa: PLC0415

    stop = _stop_on_signals()

    async def stdio() -> None:
        await serve_stdio(mcp)
        if settings.exit_on_eof or settings.transport is Transport.STDIO:
            log.info("the client has gone")
            stop.set()

    async def site() -> None:
        from claude_runner.web import build_site, serve_site  # noqa: PLC0415 - stdio answers before it is loaded

        patient = settings.transport is Transport.BOTH
        async with open_tunnel(settings, app.addresses):
            await serve_site(build_site(app, mcp), settings, stop, patient=patient)

    async def warm() -> None:
        try:
            await asyncio.sleep(SPARE_SECONDS)
            await warm_up()
            await app.agent.warm_up()
            gc.freeze()
        finally:
            gc.enable()

    async with open_app(settings) as app, AsyncExitStack() as serving:
        mcp = await build_mcp(app)
        if settings.transport is not Transport.STDIO and (
            made := await app.auth.ensure_client(app.clock.now())
        ):
            print(made.frame, file=sys.stderr)  # noqa: T201 - it is shown this once, and never logged
        if settings.transport is not Transport.SSE:
            await serving.enter_async_context(background(_face(stdio(), stop)))
        if settings.transport is not Transport.STDIO:
            await serving.enter_async_context(background(_face(site(), stop)))
        await serving.enter_async_context(background(warm()))
        await stop.wait()


async def _face(serving: Awaitable[None], stop: asyncio.Event) -> None:
    """Serve; where that fails everything stops, and then the error is raised."""
    try:
        await serving
    except Exception:
        stop.set()
        raise


async def _demo(settings: Settings, *, once: bool) -> int:
    from claude_runner.demo import show  # noqa: PLC0415 - only the demo needs it
    from claude_runner.tools import build_mcp  # noqa: PLC0415
    from claude_runner.web import build_site, serve_site  # noqa: PLC0415

    settings = replace(settings, home=settings.home / ".demo", rehearsal=True)
    stop = _stop_on_signals()

    async def site(app: "App") -> None:
        await serve_site(build_site(app, await build_mcp(app)), settings, stop, patient=True)

    return await show(settings, stop, None if once else site)


if __name__ == "__main__":
    sys.exit(main())
