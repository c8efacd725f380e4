"""How many bytes go to the disk for each byte that a model streams.

Relative to the text that is streamed. The application runs over a real file in a process of its own without sockets or
a CLI: a stand-in agent tells its listener of the messages at the pace of the figure. Counted is what Linux counts for
that process (/proc/self/io, proc(5)), from before the run is triggered until the database is closed and its log moved
into the file: `wchar`, what it handed to write calls, and `write_bytes`, the pages that went to the storage layer for
it. The verdict takes the larger one.

`wchar` contains no sockets: the event loop wakes itself with send(2), which is not counted.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure
from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Topic
from claude_runner.jobs import JobDraft
from claude_runner.runs import Ending, EventKind, Run, State, Tokens
from tests.support import FakeAgent

MOST: Final = 8.0
LINEAR_WITHIN: Final = 1.1  # four times the stream may cost this much more a byte
MESSAGE_BYTES: Final = 230


@dataclass(frozen=True, slots=True)
class Stream:
    """What the model says.

    Attributes:
        apart: Whether each message is a block of its own, rather than a piece of one.
    """

    messages: int
    seconds: float
    apart: bool = False

    @property
    def name(self) -> str:
        """Return what it is in a few words."""
        how = "blocks" if self.apart else "messages"
        return f"{self.messages:,} {how} of {MESSAGE_BYTES} bytes over {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes that went to the disk for each byte of the stream, as the two counters see it."""

    wchar: float
    write_bytes: float

    @property
    def most(self) -> float:
        """Return the larger count."""
        return max(self.wchar, self.write_bytes)


SHORT: Final = Stream(500, 10)
DENSE: Final = Stream(2000, 10)
LONG: Final = Stream(2000, 40)
APART: Final = Stream(500, 10, apart=True)


def measure(_effort: Effort) -> list[Figure]:
    """Count what is written."""
    if sys.platform != "linux":
        return [Figure("bytes written a byte streamed", f"<= {MOST:g}", "only Linux counts", met=None)]
    counts = {stream: _count(stream) for stream in (SHORT, DENSE, LONG, APART)}
    figures = [
        Figure(
            f"written a byte, {stream.name}",
            f"<= {MOST:g}",
            f"{count.most:.1f}",
            count.most <= MOST,
            (f"wchar {count.wchar:.2f}, write_bytes {count.write_bytes:.2f} for each byte",),
        )
        for stream, count in counts.items()
    ]
    growth = counts[LONG].most / counts[SHORT].most
    return [
        *figures,
        Figure(
            "written a byte, 2,000 against 500 at one pace",
            f"<= {LINEAR_WITHIN:g} x",
            f"{growth:.2f} x",
            growth <= LINEAR_WITHIN,
        ),
    ]


def _count(stream: Stream) -> Written:
    """Return the count of a process of its own."""
    counted = subprocess.run(
        [sys.executable, "-m", "bench.writes", json.dumps(asdict(stream))],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    return Written(**json.loads(counted.stdout))


async def _write(stream: Stream) -> Written:
    """Run the stream through an application and count."""
    said: list[str] = []

    async def say(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.started()
        listener.used(Tokens(input=100), "scripted")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(stream.messages):
            await asyncio.sleep(begun + number * stream.seconds / stream.messages - loop.time())
            text = f"{number:<{MESSAGE_BYTES}}"
            said.append(text)
            listener.happened(EventKind.TEXT, {"block": number if stream.apart else 1, "text": text})
        tokens = Tokens(input=100, output=20)
        listener.used(tokens, "scripted")
        # As with the CLI, the output is the last block.
        return Ending(State.FINISHED, output=said[-1] if stream.apart else "".join(said), tokens=tokens)

    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        async with open_app(settings, agent=FakeAgent()) as app:  # the schema's own bytes do not count
            job = await app.jobs.add(JobDraft("stream", "0 0 1 1 *", "Talk.", "UTC"), app.clock.now())
        async with open_app(settings, agent=FakeAgent(say)) as app:
            before = _counters()
            run = await _run(app, job.id)
            kept = await app.runs.text_so_far(run.id)
        after = _counters()
    if run.state is not State.FINISHED or len(kept) < stream.messages * MESSAGE_BYTES:
        raise RuntimeError(f"the run ended as {run.state} with {len(kept)} characters")
    size = stream.messages * MESSAGE_BYTES
    return Written(*((after[name] - before[name]) / size for name in ("wchar", "write_bytes")))


async def _run(app: App, job_id: str) -> Run:
    """Run the job, wait for its end and return the run."""
    with app.hub.subscribe(Topic.RUNS) as changes:
        run = await app.trigger(job_id)
        while not run.state.is_final:
            await changes.changed.wait()
            changes.take()
            run = await app.runs.get(run.id)
    return run


def _counters() -> dict[str, int]:
    """Return what the kernel counts for this process."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return {name: int(count) for name, _, count in (line.partition(":") for line in lines)}


def main() -> None:
    """Count for the stream that the command line describes in JSON; print the count in JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.writes")
    parser.add_argument("stream", type=json.loads)
    stream = Stream(**parser.parse_args().stream)
    print(json.dumps(asdict(asyncio.run(_write(stream)))))


if __name__ == "__main__":
    main()
