"""What was promised is there after a power cut, whatever the disk has of what was written later.

No power is cut here. What SQLite's log had at the moment of an answer was synchronized, which is SQLite's promise where
`synchronous` is FULL (tests/test_db.py); of what came later a disk may have all, nothing, or any of its sectors. Such
disks are made, and opened. That a disk keeps what it says it has kept is for the disk to hold.
"""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import State
from tests.support import FakeAgent, ended
from tests.webhooks import posting_to

SECTOR = 512
ANSWERS = 12

Rest = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Moment:
    """What the files of a database had in them when something was answered, and the runs that had been promised."""

    database: bytes
    log: bytes
    promised: tuple[str, ...]


def torn(rest: bytes, chance: random.Random) -> bytes:
    """Any of the sectors, the others as they were before: empty."""
    sectors = [rest[start : start + SECTOR] for start in range(0, len(rest), SECTOR)]
    return b"".join(sector if chance.random() < 0.5 else bytes(len(sector)) for sector in sectors)


RESTS: dict[str, Rest] = {
    "all of it": lambda rest, _: rest,
    "nothing of it": lambda _rest, _: b"",
    "its length alone": lambda rest, _: bytes(len(rest)),
    "some of its sectors": torn,
    "its beginning": lambda rest, chance: rest[: chance.randrange(len(rest) + 1)],
    "rubbish": lambda rest, chance: chance.randbytes(len(rest)),
}


def settings_in(home: Path) -> Settings:
    return Settings(home=home, shutdown_grace_seconds=0)


async def moments(app: App) -> list[Moment]:
    """Post to a webhook again and again, and copy the files at the moment of each answer."""
    found: list[Moment] = []
    path, promised = app.settings.database_path, tuple[str, ...]()
    async with posting_to(app) as service:
        webhook = await service.webhook(max_per_minute=1000)
        for number in range(ANSWERS):
            answer = await service.taken(webhook, b'{"n": %d}' % number)
            promised += (str(answer["run_id"]),)
            found.append(Moment(path.read_bytes(), path.with_name("jobs.db-wal").read_bytes(), promised))
    return found


def after(cut: Moment, later: Moment, rest: Rest, home: Path) -> Path:
    """Lay down what a disk may have after the power was cut between two moments."""
    assert later.database == cut.database, "the log was moved into the database between the two"
    assert later.log.startswith(cut.log)
    home.mkdir()
    path = home / "jobs.db"
    path.write_bytes(cut.database)
    tail = rest(later.log[len(cut.log) :], random.Random(len(cut.log)))
    path.with_name("jobs.db-wal").write_bytes(cut.log + tail)
    return path


def kept(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        yield from (run_id for (run_id,) in connection.execute("SELECT id FROM runs"))


@pytest.mark.parametrize("rest", RESTS.values(), ids=RESTS)
async def test_what_was_answered_is_there_whatever_the_disk_has_of_what_came_later(
    tmp_path: Path, rest: Rest
) -> None:
    async with open_app(settings_in(tmp_path / "first"), agent=FakeAgent(FakeAgent.wait_for_stop)) as app:
        known = await moments(app)
    for number, moment in enumerate(known):
        path = after(moment, known[-1], rest, tmp_path / f"cut {number}")
        found = set(kept(path))
        assert set(moment.promised) <= found <= set(known[-1].promised)


async def test_a_server_goes_on_with_what_a_power_cut_has_left(tmp_path: Path) -> None:
    async with open_app(settings_in(tmp_path / "first"), agent=FakeAgent(FakeAgent.wait_for_stop)) as app:
        known = await moments(app)
    cut = known[ANSWERS // 2]
    after(cut, known[-1], torn, tmp_path / "cut")
    async with open_app(settings_in(tmp_path / "cut"), agent=FakeAgent()) as app:
        runs = [await ended(app, run_id) for run_id in cut.promised]
    # Two of them were going on, one on each of the two places.
    assert {(run.state, run.reason) for run in runs} <= {
        (State.FINISHED, None),
        (State.ERROR, "server_stopped"),
    }
    assert sum(run.state is State.FINISHED for run in runs) >= len(runs) - 2
