"""The books that are read after a storm would tell of anything missed, doubled or lost."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner.jobs import Job, OnCrash, Policy
from tests.faults.ledger import Ledger
from tests.faults.load import EFFECTS
from tests.faults.servers import left_of, now
from tests.parts import DRAFT
from tests.scripted_model import Request
from tests.support import MORNING

SECOND = timedelta(seconds=1)
BEGUN = MORNING - 30 * SECOND  # a whole minute
JOB = Job(
    **{name: getattr(DRAFT, name) for name in ("name", "prompt", "timezone")},
    cron="*/10 * * * * *",
    id="job",
    created_at=MORNING,
    updated_at=MORNING,
    next_run_at=None,
    last_executed_at=None,
    last_error=None,
    note=None,
)
AGAIN = replace(JOB, policy=Policy(on_crash=OnCrash.RETRY))


def run(**changes: Any) -> dict[str, Any]:
    row = {
        "job_id": "job",
        "webhook_id": None,
        "scheduled_for": None,
        "state": "finished",
        "reason": None,
        "attempt": 1,
    }
    return row | changes


def slot(after: int, until: int | None = None, **changes: Any) -> dict[str, Any]:
    first = BEGUN + after * SECOND
    last = first if until is None else BEGUN + until * SECOND
    row = {"scheduled_for": first.isoformat(), "fate": "ran", "run_id": f"run{after}", "count": 1}
    return row | {"first": first, "last": last} | changes


def books(
    home: Path, runs: dict[str, dict[str, Any]], *slots: dict[str, Any], cut: Iterable[str] = ()
) -> Ledger:
    return Ledger(home, runs, defaultdict(list, {"job": list(slots)}), frozenset(cut), "ok")


def worked(home: Path, *run_ids: str) -> None:
    folder = home / "claude_playground" / "job"
    folder.mkdir(parents=True)
    (folder / EFFECTS).write_text("\n".join(run_ids))


def asked(session: str, folder: str = "job") -> Request:
    system = [{"type": "text", "text": f"Working directory: /playground/{folder}\nIt is yours."}]
    return Request({"system": system}, {}, session, 0.0, 0)


def test_a_promised_run_is_to_be_there_and_to_end(tmp_path: Path) -> None:
    ledger = books(tmp_path, {"one": run(), "two": run(state="pending"), "three": run(state="running")})
    assert list(ledger.answered(["one", "two"])) == []
    assert list(ledger.answered(["three", "four"])) == [
        "run three goes on for ever",
        "run four was promised and is gone",
    ]


def test_each_delivery_is_one_run(tmp_path: Path) -> None:
    ledger = books(tmp_path, {"one": run(webhook_id="w"), "two": run(webhook_id="w")})
    assert list(ledger.posted(["a", "b"])) == []
    assert len(list(ledger.posted(["a"]))) == len(list(ledger.posted(["a", "b", "c"]))) == 1


@pytest.mark.parametrize(
    ("slots", "told"),
    [
        ([slot(10), slot(20), slot(30)], []),
        ([slot(10), slot(20, 30, count=2)], []),
        ([slot(10), slot(30)], ["20 has 0 fates"]),
        ([slot(10, 20, count=2), slot(20), slot(30)], ["20 has 2 fates"]),
        ([slot(10), slot(20, 30, count=3)], ["20: 2 slots are counted as 3"]),
    ],
)
def test_each_slot_has_one_fate(tmp_path: Path, slots: list[dict[str, Any]], told: list[str]) -> None:
    found = list(books(tmp_path, {}, *slots).fates([JOB], BEGUN, BEGUN + 40 * SECOND))
    assert [text.partition("08:59:")[2] for text in found] == told


def test_a_slot_that_ran_is_one_run_and_that_run_is_of_it(tmp_path: Path) -> None:
    first, second = slot(10), slot(20)
    runs = {f"run{after}": run(scheduled_for=slot(after)["scheduled_for"]) for after in (10, 20)}
    assert list(books(tmp_path, runs, first, second).of_slots([JOB])) == []
    assert len(list(books(tmp_path, runs, first).of_slots([JOB]))) == 1
    assert len(list(books(tmp_path, {"run10": runs["run10"]}, first, second).of_slots([JOB]))) == 1
    assert len(list(books(tmp_path, runs | {"more": runs["run10"]}, first, second).of_slots([JOB]))) == 1


def test_a_run_works_once_and_where_its_job_lets_it_once_in_each_attempt(tmp_path: Path) -> None:
    worked(tmp_path, "one", "two", "two")
    twice = books(tmp_path, {"one": run(), "two": run(attempt=2)})
    assert list(twice.executed([AGAIN], [])) == []
    assert len(list(twice.executed([JOB], []))) == 2  # begun twice, and worked twice
    assert len(list(books(tmp_path, {"one": run(), "two": run()}).executed([AGAIN], []))) == 1
    assert len(list(books(tmp_path, {"one": run()}).executed([AGAIN], []))) == 1  # nobody's run worked
    idle = books(tmp_path, {"one": run(), "two": run(attempt=2), "three": run()})
    assert list(idle.executed([AGAIN], [])) == ["run three finished without having worked"]
    assert list(books(tmp_path, idle.runs, cut=["three"]).executed([AGAIN], [])) == []  # nobody knows


def test_a_model_is_asked_once_for_each_attempt(tmp_path: Path) -> None:
    ledger = books(tmp_path, {"one": run(state="error"), "two": run(state="error")})
    assert list(ledger.executed([JOB], [asked("a"), asked("b")])) == []
    assert len(list(ledger.executed([JOB], [asked("a"), asked("b"), asked("c")]))) == 1
    assert len(list(ledger.executed([JOB], [asked("a"), asked("a")]))) == 1


async def test_what_lives_on_is_found_by_its_environment_and_by_its_command(tmp_path: Path) -> None:
    async def sleeper(*command: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*command, env={"PATH": "/usr/bin:/bin", **environment})

    before = now()
    bare = await sleeper("sh", "-c", f"sleep 60 # {tmp_path}")
    marked = await sleeper("sleep", "60", CLAUDE_CONFIG_DIR=f"{tmp_path}/claude")
    try:
        later = now() + 60
        assert {it.pid for it in left_of(tmp_path, later, set())} == {bare.pid, marked.pid}
        assert [it.pid for it in left_of(tmp_path, later, {bare.pid})] == [marked.pid]
        assert left_of(tmp_path, before - 1, set()) == []
    finally:
        for process in (bare, marked):
            process.kill()
            await process.wait()
    assert left_of(tmp_path, later, set()) == []
