"""A server whose disk is full for a while: `python -m tests.faults.full_disk FOLDER`, a small disk of its own."""

import asyncio
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2

from claude_runner.config import SystemClock
from claude_runner.jobs import JobDraft
from tests.faults.ledger import read_ledger
from tests.faults.load import LOAD, PAUSED, Senders, prepare, settings_for
from tests.faults.servers import PATIENCE, Server, within
from tests.faults.storm import audit
from tests.scripted_model import ScriptedModel, Step, script, scripted_model
from tests.served import access_token
from tests.sites import free_port

FULL_SECONDS: Final = 3
AGAIN_SECONDS: Final = 10  # after which deliveries are taken again once there is space
BALLAST_BYTES: Final = 64 * 1024
TALK: Final[Step] = {"text": "So far so good. " * 20, "chunks": 20, "chunk_delay": 0.1}
# A run that talks while the disk fills, one that fails before it has begun, and slots that nothing comes of.
JOBS: Final = (
    JobDraft("talks", "*/2 * * * * *", script(TALK), "UTC", tools=("Read",)),
    JobDraft("fails", "* * * * * *", "Nothing.", "UTC", tools=("NotebookEdit",)),
    *(replace(draft, tools=("NotebookEdit",)) for draft in LOAD if draft.name == PAUSED),
)

Filling = Callable[[Server], AbstractContextManager[None]]


async def filled(home: Path, model: ScriptedModel, filling: Filling) -> list[str]:
    """Fill the disk of a server under load for a while, and return what is not as it was promised."""
    settings, environment = settings_for(home, model)
    clock = SystemClock()
    begun = clock.now()
    prepared = await prepare(settings, JOBS)
    token = await asyncio.to_thread(access_token, environment | {"RUNNER_HOME": str(settings.home)})
    server = Server(settings.home, free_port(), environment)
    senders = Senders(prepared, token, random.Random(1), ports=[server.port])
    await server.start()
    try:
        await server.until(server.listens)
        async with senders.at_work():
            await senders.burst()
            await within(PATIENCE, "a first run", model.asked(1))  # it goes on while the disk fills
            with filling(server):
                refused = await asyncio.create_task(_refused(senders))
                taken = len(senders.taken)
                await asyncio.sleep(FULL_SECONDS)
                refused += [f"{len(senders.taken) - taken} were taken"] * (len(senders.taken) > taken)
            await within(AGAIN_SECONDS, "to take deliveries again", senders.burst())
        await asyncio.sleep(2)
        ended = clock.now() - timedelta(seconds=1)
    finally:
        await server.end(signal.SIGTERM)
    ledger = read_ledger(settings)
    model.requests.clear()  # how often each was asked is for the storm to look at
    wrong = [
        line for line in audit(ledger, prepared, senders, model, begun, ended) if "finished with" not in line
    ]
    return [*refused, *senders.wrong, *wrong, *(line for line in server.said if "Traceback" in line)]


async def _refused(senders: Senders) -> list[str]:
    """Post until it is refused, and return what is wrong with how."""
    url = f"http://localhost:{senders.ports[0]}/webhook/{senders.prepared.works.token}"
    async with httpx2.AsyncClient(timeout=60) as http:
        answer = await http.post(url, content=b"x" * 200_000)
    error = answer.json().get("error", {})
    if answer.status_code != 503 or error.get("code") != "unavailable":
        return [f"a delivery that can't be kept was answered {answer.status_code}: {answer.text}"]
    return []


@contextmanager
def no_file_grows(server: Server) -> Iterator[None]:
    """Let every write of the server to a file fail."""
    limits = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def no_space(server: Server) -> Iterator[None]:
    """Take all the space of the file system that the server's home lies in."""
    ballast = server.home / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        size = BALLAST_BYTES
        while size:
            try:
                os.write(descriptor, bytes(size))
            except OSError:
                size //= 2
        yield
    finally:
        os.close(descriptor)
        ballast.unlink()


async def _main() -> int:
    async with scripted_model() as model:
        wrong = await filled(Path(sys.argv[1]), model, no_space)
    sys.stdout.write("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
