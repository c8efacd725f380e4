"""Asks the program that has Apprise: a process for a few addresses at a time, that ends when it has answered."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from claude_runner.config import Settings
from claude_runner.errors import InvalidError, UnavailableError, unusable
from claude_runner.notifications import EXAMPLES, Delivered, Heard, Parcel
from claude_runner.processes import NETWORK, guard_variables, guarded

AT_ONCE: Final = 3  # processes: each has 50 MB
CHECK_SECONDS: Final = 20.0
SEND_SECONDS: Final = 60.0  # within `notifications.LEASE`
END_SECONDS: Final = 3.0  # its guard takes half a second to ask, and then kills
MAX_ANSWER: Final = 100_000
NO_ANSWER: Final = "the service did not answer in time"
BROKEN: Final = "what sends notifications ended without an answer; is all of requirements.txt installed?"

_PROGRAM: Final = Path(__file__).with_name("_apprise.py")


@dataclass(frozen=True, slots=True)
class Apprising:
    """Knows the services that Apprise does."""

    settings: Settings
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def shown(self, url: str) -> str:
        """Return what may be shown of an address; raises as `notifications.Courier` says."""
        answer = None
        with suppress(TimeoutError):
            async with self._asked({"check": url}, CHECK_SECONDS) as answers:
                answer = await answers.next()
        if answer is None:
            raise UnavailableError(f"the address can't be looked at: {BROKEN}")
        if answer["shown"] is None:
            raise InvalidError(
                "this is no address that notifications can be sent to; give an Apprise URL "
                f"(https://appriseit.com/services/) or a mail address, such as {', '.join(EXAMPLES)}{_advice(url)}",
                field="url",
            )
        return str(answer["shown"])

    async def deliver(self, parcels: Sequence[Parcel], heard: Heard) -> None:
        """Send parcels side by side in one process, and tell of each as soon as it is known."""
        left = set(range(len(parcels)))
        error = BROKEN
        task = {"send": [{"url": it.url, "messages": it.messages} for it in parcels]}
        try:
            async with self._asked(task, SEND_SECONDS) as answers:
                while (answer := await answers.next()) is not None:
                    left.discard(answer["place"])
                    await heard(Delivered(answer["place"], answer["taken"], answer["error"]))
        except TimeoutError:
            error = NO_ANSWER
        except UnavailableError as unavailable:
            error = str(unavailable)
        for place in left:
            await heard(Delivered(place, 0, error))

    @asynccontextmanager
    async def _asked(self, task: Mapping[str, Any], seconds: float) -> AsyncIterator["_Answers"]:
        """Give the program a task; raises `UnavailableError` where it can't be started."""
        async with self._turns, self._started() as process:
            assert process.stdin is not None  # noqa: S101 - for mypy: they are pipes
            assert process.stdout is not None  # noqa: S101 - as above
            process.stdin.write(json.dumps(task).encode() + b"\n")
            yield _Answers(process.stdout, asyncio.get_running_loop().time() + seconds)

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[Process]:
        """Start the program; on leaving it is ended with all that came of it."""
        kept = {name: self.settings.environment.get(name) for name in ("PATH", "LANG", "TZ", *NETWORK)}
        environment = {name: value for name, value in kept.items() if value}
        try:
            process = await asyncio.create_subprocess_exec(
                *guarded([sys.executable, "-I", "-B", str(_PROGRAM)]),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,  # what a service's code says may have the address in it
                env={**environment, **guard_variables(environment)},
                limit=MAX_ANSWER,
                start_new_session=True,
            )
        except OSError as error:
            raise unusable(error, _PROGRAM) from error
        try:
            yield process
        finally:
            ending = asyncio.create_task(_end(process))
            try:
                await asyncio.shield(ending)
            finally:  # also where whoever waits for it is cancelled meanwhile
                await asyncio.wait({ending})


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the program says."""

    output: asyncio.StreamReader
    until: float

    async def next(self) -> Mapping[str, Any] | None:
        """Return its next answer, `None` once it has ended; raises `TimeoutError` where it takes too long."""
        async with asyncio.timeout_at(self.until):
            line = await self.output.readline()
        return json.loads(line) if line else None


async def _end(process: Process) -> None:
    """End the program with all that came of it, and hear it out: until then what it was heard by stays open."""
    assert process.stdin is not None  # noqa: S101 - as above
    assert process.stdout is not None  # noqa: S101 - as above
    process.stdin.close()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()  # its guard does the rest
    try:
        async with asyncio.timeout(END_SECONDS):
            while await process.stdout.read(MAX_ANSWER):
                continue
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _advice(url: str) -> str:
    """Return how an address is written that people know by another form, "" for any other."""
    scheme, _, rest = url.strip().partition("://")
    if not rest:
        return ". A mail address is written with email: before it" if "@" in url else ""
    return {
        "https": ". JSON is posted to a https address that is written jsons:// in place of https://",
        "http": ". JSON is posted to a http address that is written json:// in place of http://",
    }.get(scheme.lower(), "")
