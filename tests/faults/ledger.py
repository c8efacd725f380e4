"""Whether everything that a home was asked for is accounted for: none missed, none doubled, none lost."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from claude_runner.config import Settings
from claude_runner.jobs import Job, OnCrash
from claude_runner.schedule import parse
from tests.faults.load import EFFECTS
from tests.scripted_model import Request

RUNNING_FATES: Final = {"ran", "caught_up"}


@dataclass(frozen=True)
class Ledger:
    """The rows of a home that nobody serves any more.

    Attributes:
        runs: By their ids.
        slots: The rows about slots, by their jobs, oldest first.
        cut: The runs with a call that a death cut off, of which nobody knows whether it worked.
    """

    home: Path
    runs: dict[str, dict[str, Any]]
    slots: dict[str, list[dict[str, Any]]]
    cut: frozenset[str]
    integrity: str

    def answered(self, run_ids: Iterable[str]) -> Iterator[str]:
        """Tell of runs that somebody was promised and that are not there, or are in no state to be found in."""
        for run_id in run_ids:
            run = self.runs.get(run_id)
            if run is None:
                yield f"run {run_id} was promised and is gone"
            elif run["state"] == "running":
                yield f"run {run_id} goes on for ever"

    def posted(self, deliveries: Sequence[str]) -> Iterator[str]:
        """Tell of deliveries that became no run or several; who had no answer asked again until there was one."""
        made = sum(run["webhook_id"] is not None for run in self.runs.values())
        if made != len(deliveries):
            yield f"{len(deliveries)} deliveries became {made} runs"

    def fates(self, jobs: Iterable[Job], begun: datetime, ended: datetime) -> Iterator[str]:
        """Tell of slots between two instants without a fate, or with two."""
        for job in jobs:
            for slot in slots_between(job, begun, ended):
                rows = [row for row in self.slots[job.id] if row["first"] <= slot <= row["last"]]
                if len(rows) != 1:
                    yield f"{job.name} {slot:%H:%M:%S} has {len(rows)} fates"
            for row in self.slots[job.id]:
                span = slots_between(job, row["first"], row["last"], closed=True)
                if row["count"] is not None and len(span) != row["count"]:
                    yield f"{job.name} {row['first']:%H:%M:%S}: {len(span)} slots are counted as {row['count']}"

    def of_slots(self, jobs: Iterable[Job]) -> Iterator[str]:
        """Tell of slots that became several runs, or none though they ran, and of runs of no slot."""
        made = Counter(
            (run["job_id"], run["scheduled_for"]) for run in self.runs.values() if run["scheduled_for"]
        )
        yield from (f"{slot} became {count} runs" for slot, count in made.items() if count != 1)
        ran = {
            (job.id, row["scheduled_for"])
            for job in jobs
            for row in self.slots[job.id]
            if row["fate"] in RUNNING_FATES
        }
        yield from (f"{slot} is in one book and not in the other" for slot in ran ^ made.keys())

    def executed(self, jobs: Iterable[Job], requests: Sequence[Request]) -> Iterator[str]:
        """Tell of runs that did more than their attempts stand for."""
        may_again = {job.id for job in jobs if job.policy.on_crash in {OnCrash.RETRY, OnCrash.RESUME}}
        for run_id, count in self.effects.items():
            run = self.runs.get(run_id)
            if run is None:
                yield f"{run_id} worked and is no run"
            elif count > (run["attempt"] if run["job_id"] in may_again else 1):
                yield f"run {run_id} worked {count} times in {run['attempt']} attempts"
        for run_id, run in self.runs.items():
            if run["attempt"] > 1 and run["job_id"] not in may_again:
                yield f"run {run_id} was begun {run['attempt']} times"
            if run["state"] == "finished" and run_id not in self.effects and run_id not in self.cut:
                yield f"run {run_id} finished without having worked"
        yield from self._asked(requests)

    def _asked(self, requests: Sequence[Request]) -> Iterator[str]:
        """Tell of folders whose runs have asked a model for the first time more often than they were begun."""
        begun: Counter[str] = Counter()
        for run_id, run in self.runs.items():
            begun[run["job_id"] or f"run-{run_id}"] += run["attempt"]
        first = [request for request in requests if request.step == 0]
        twice = [session for session, count in Counter(it.session_id for it in first).items() if count > 1]
        yield from (f"session {session} has begun twice" for session in twice)
        asked = Counter(_folder_of(request) for request in first)
        for folder, count in asked.items():
            if count > begun[folder]:
                yield f"the runs of {folder} asked a model {count} times and were begun {begun[folder]} times"

    @property
    def effects(self) -> Counter[str]:
        """How often each run has worked."""
        lines: Counter[str] = Counter()
        for path in (self.home / "claude_playground").glob(f"*/{EFFECTS}"):
            lines.update(path.read_text(encoding="utf-8").split())
        return lines

    @property
    def states(self) -> str:
        """How many runs are in which state, and why."""
        counted = Counter(f"{run['state']} {run['reason'] or ''}".strip() for run in self.runs.values())
        return ", ".join(f"{count} {state}" for state, count in sorted(counted.items()))

    @property
    def told_fates(self) -> str:
        """How many slots met which fate."""
        counted: defaultdict[str, int] = defaultdict(int)
        for row in (row for rows in self.slots.values() for row in rows):
            counted[row["fate"]] += row["count"] or 0
        return ", ".join(f"{count} {fate}" for fate, count in sorted(counted.items()))


def read_ledger(settings: Settings) -> Ledger:
    """Read the books of a home."""
    with closing(sqlite3.connect(settings.database_path)) as connection:
        connection.row_factory = sqlite3.Row
        runs = {row["id"]: dict(row) for row in connection.execute("SELECT * FROM runs")}
        slots: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in connection.execute("SELECT * FROM occurrences ORDER BY scheduled_for"):
            first = datetime.fromisoformat(row["scheduled_for"])
            last = datetime.fromisoformat(row["until"]) if row["until"] else first
            slots[row["job_id"]].append(dict(row) | {"first": first, "last": last})
        cut = connection.execute(
            "SELECT DISTINCT run_id FROM tool_calls WHERE verdict = 'abandoned'"
        ).fetchall()
        [(integrity,)] = connection.execute("PRAGMA integrity_check").fetchall()
    return Ledger(settings.home, runs, slots, frozenset(run_id for (run_id,) in cut), integrity)


def slots_between(job: Job, begun: datetime, ended: datetime, *, closed: bool = False) -> list[datetime]:
    """Return the job's slots after an instant and before another; with both where it is closed."""
    slots: list[datetime] = [begun] if closed else []
    schedule, after = parse(job.cron, job.timezone), begun
    while (slot := schedule.next(after)) is not None and (slot < ended or (closed and slot == ended)):
        slots.append(slot.astimezone(UTC))
        after = slot
    return slots


def _folder_of(request: Request) -> str:
    """Return the name of the folder in which whoever asks works, as the instructions tell it."""
    text = str(request.body["system"])
    _, _, rest = text.partition("Working directory: ")
    return Path(rest.partition("\\n")[0].partition("\n")[0]).name
