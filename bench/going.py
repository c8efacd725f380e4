"""How much memory the server takes for each run that is going on.

Absolute: what the memory of the server process alone (USS) grows by from an idle server to one with runs going on, a
run. The CLI's own is left out, as is that of the guard before it, which is shown beneath. The server is a real process
spoken to over a pipe; the model is a process of its own, which says a few words to each run and then falls silent. What
the first run of all loads counts with the others.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from bench._agents import environment_for
from bench._figures import Effort, Figure, median
from bench._servers import SERVER, Program, Started, started
from tests.scripted_model import ScriptedModel, script

MOST_MIB: Final = 3.0
SETTLED_SECONDS: Final = 6.0
PATIENCE: Final = 120.0
LOOK_SECONDS: Final = 0.5
WORDS: Final = "Some words that are said before the silence. " * 50


def measure(effort: Effort) -> list[Figure]:
    """Weigh a server, idle and at work."""
    with tempfile.TemporaryDirectory() as name, scripted_model_process() as model:
        folder = Path(name)
        variables = environment_for(folder, model) | {
            "LANG": "C.UTF-8",
            "MCP_TRANSPORT": "stdio",
            "RUNNER_HOME": str(folder / "runner"),
            "MAX_CONCURRENT_RUNS": str(effort.going),
            "SHUTDOWN_GRACE_SECONDS": "0",
        }
        with started(Program("ours", (sys.executable, str(SERVER)), variables)) as server:
            time.sleep(SETTLED_SECONDS)
            idle = _uss(server.process.pid)
            _start(server, effort.going)
            time.sleep(SETTLED_SECONDS)
            busy = _uss(server.process.pid)
            guards = [_uss(child.pid) for child in psutil.Process(server.process.pid).children()]
    each = (busy - idle) / effort.going
    raw = (
        f"USS: idle {idle:.1f} MiB, with {effort.going} runs {busy:.1f}",
        f"the guard of each run: {median(guards):.1f} MiB of its own",
    )
    return [
        Figure("memory of the server a run", f"<= {MOST_MIB:g} MiB", f"{each:.2f} MiB", each <= MOST_MIB, raw)
    ]


def _start(server: Started, count: int) -> None:
    """Have so many runs going on, each at the point where its model is silent."""
    prompt = script({"text": WORDS, "chunks": 50, "stall": True})
    job = server.call("create_job", name="lasting", cron="0 0 1 1 *", prompt=prompt, tools=["Read"])
    wait_until_heard(server, [server.call("trigger_job", job_id=job["id"])["run_id"] for _ in range(count)])


def wait_until_heard(server: Started, runs: list[str]) -> None:
    """Wait until the model has said something in each of the runs."""
    end = time.monotonic() + PATIENCE
    while silent := [run for run in runs if not server.call("get_run", run_id=run)["output"]]:
        if time.monotonic() > end:
            raise RuntimeError(f"{len(silent)} runs said nothing")
        time.sleep(LOOK_SECONDS)


@contextmanager
def scripted_model_process() -> Iterator[ScriptedModel]:
    """Lend a scripted model in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.scripted_model"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=SERVER.parent,
    )
    assert process.stdout is not None
    try:
        yield ScriptedModel(process.stdout.readline().strip(), process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _uss(pid: int) -> float:
    """Return the memory that is the process's alone, in MiB."""
    uss: int = psutil.Process(pid).memory_full_info().uss
    return uss / 2**20
