import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import jobs
from claude_runner.db import to_text
from claude_runner.errors import ConflictError, InvalidError, NotFoundError
from claude_runner.hub import Change, Topic
from claude_runner.jobs import MAX_NAME, MAX_PROMPT, Due, Fate, Job
from claude_runner.runs import Trigger
from claude_runner.schedule import Schedule, parse
from tests.parts import DRAFT, Parts, open_parts
from tests.support import MORNING

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def test_a_job_is_kept_as_it_was_given(parts: Parts) -> None:
    job = await parts.job(tools=("Read",), timeout_minutes=5, model="sonnet", timezone="Europe/Berlin")
    assert (job.name, job.cron, job.prompt) == ("Morning", "0 9 * * *", "say good morning")
    assert (job.tools, job.timeout_minutes, job.model) == (("Read",), 5, "sonnet")
    assert await parts.jobs.get(job.id) == job


async def test_a_new_job_has_eight_hexadecimal_digits(parts: Parts) -> None:
    job = await parts.job()
    assert len(job.id) == 8
    assert int(job.id, 16) >= 0


async def test_an_id_that_another_job_has_is_not_given_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    monkeypatch.setattr("claude_runner.jobs._collection.secrets.token_hex", lambda _: next(ids))
    assert [(await parts.job()).id, (await parts.job()).id] == ["aaaaaaaa", "bbbbbbbb"]


async def test_the_next_run_is_planned_in_the_jobs_own_zone(parts: Parts) -> None:
    job = await parts.job(timezone="Europe/Berlin")
    assert job.next_run_at == datetime(2026, 11, 24, 8, tzinfo=UTC)


async def test_a_disabled_job_has_no_next_run(parts: Parts) -> None:
    assert (await parts.job(enabled=False)).next_run_at is None


async def test_spaces_in_a_name_and_a_cron_are_kept_single(parts: Parts) -> None:
    job = await parts.job(name="  a \t  b ", cron=" 0  9 * * * ")
    assert (job.name, job.cron) == ("a b", "0 9 * * *")


async def test_a_new_job_is_told_to_whoever_listens(parts: Parts) -> None:
    with parts.hub.subscribe(Topic.JOBS) as changes:
        job = await parts.job()
        assert changes.take() == [Change(Topic.JOBS, job.id)]


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"name": " "}, "name", "a job's name is 1 to 200 characters without control characters"),
        ({"name": "x" * (MAX_NAME + 1)}, "name", "a job's name is 1 to 200 characters"),
        ({"name": "a\x07b"}, "name", "without control characters"),
        ({"prompt": " \n"}, "prompt", "the prompt is empty; say what Claude should do"),
        (
            {"prompt": "x" * (MAX_PROMPT + 1)},
            "prompt",
            "the prompt has 1,000,001 characters; at most 1,000,000",
        ),
        ({"prompt": "ab\x00"}, "prompt", r"the prompt has the control character U\+0000 at 2; remove it"),
        ({"prompt": "\ud800"}, "prompt", r"the control character U\+D800"),
        ({"timeout_minutes": 0}, "timeout_minutes", "timeout_minutes is 0; give 1 to 1440"),
        ({"timeout_minutes": 1441}, "timeout_minutes", "timeout_minutes is 1441; give 1 to 1440"),
        ({"model": "two words"}, "model", "'two words' is not the name of a model"),
        ({"model": ""}, "model", "'' is not the name of a model"),
        ({"cron": "0 9 * *"}, "cron", r"'0 9 \* \*' has 4 fields"),
        ({"cron": "0 0 30 2 *"}, "cron", "never fires"),
        ({"timezone": "Mars/Olympus"}, "timezone", "'Mars/Olympus' is not a time zone"),
    ],
)
async def test_a_value_that_cannot_be_used_is_refused_and_nothing_is_stored(
    parts: Parts, changes: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(InvalidError, match=sentence) as refused:
        await parts.job(**changes)
    assert (refused.value.field, await parts.jobs.list()) == (field, [])


async def test_a_prompt_may_have_lines_and_tabs(parts: Parts) -> None:
    assert (await parts.job(prompt="one\n\ttwo\r\n")).prompt == "one\n\ttwo\r\n"


async def test_a_prompt_of_a_million_characters_is_kept(parts: Parts) -> None:
    assert len((await parts.job(prompt="ü" * MAX_PROMPT)).prompt) == MAX_PROMPT


async def test_a_schedule_that_has_no_day_to_come_is_refused(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse(DRAFT.cron, DRAFT.timezone)  # which remembers it
    monkeypatch.setattr(Schedule, "next", lambda _schedule, _after: None)  # a zone's rules may bring it about
    with pytest.raises(InvalidError, match=r"'0 9 \* \* \*' never fires; a schedule must have a day to come"):
        await parts.jobs.add(DRAFT, MORNING)


async def test_jobs_are_listed_oldest_first(parts: Parts) -> None:
    ids = []
    for _ in range(3):
        ids.append((await parts.job()).id)
        parts.clock.move(1)
    assert [job.id for job in await parts.jobs.list()] == ids


async def test_an_unknown_job_is_not_found(parts: Parts) -> None:
    with pytest.raises(
        NotFoundError, match="there is no job 'deadbeef'; list_jobs shows them all"
    ) as refused:
        await parts.jobs.get("deadbeef")
    assert refused.value.field == "job_id"


# Changing


async def test_what_is_not_changed_stays(parts: Parts) -> None:
    job = await parts.job(tools=("Read",))
    changed = await parts.jobs.change(job.id, {"name": "Evening"}, MORNING)
    assert (changed.name, changed.tools, changed.cron) == ("Evening", ("Read",), "0 9 * * *")


@pytest.mark.parametrize(
    ("changes", "next_run_at"),
    [
        ({"cron": "0 10 * * *"}, NINE + timedelta(hours=1)),
        ({"timezone": "Asia/Tokyo"}, datetime(2026, 11, 24, 0, tzinfo=UTC)),
        ({"enabled": False}, None),
        ({"name": "other"}, NINE),
    ],
)
async def test_a_change_plans_the_next_run(
    parts: Parts, changes: dict[str, Any], next_run_at: datetime | None
) -> None:
    job = await parts.job()
    assert (await parts.jobs.change(job.id, changes, MORNING)).next_run_at == next_run_at


async def test_a_job_enabled_again_waits_for_a_slot_to_come(parts: Parts) -> None:
    job = await parts.job(enabled=False)
    later = MORNING + timedelta(days=3)
    changed = await parts.jobs.change(job.id, {"enabled": True}, later)
    assert changed.next_run_at == NINE + timedelta(days=3)


async def test_a_slot_that_is_due_is_not_lost_to_a_change_of_name(parts: Parts) -> None:
    job = await parts.job()
    changed = await parts.jobs.change(job.id, {"name": "other"}, NINE + timedelta(seconds=1))
    assert changed.next_run_at == NINE


async def test_a_job_put_on_the_shelf_is_planned_again_at_any_change(parts: Parts) -> None:
    job = await parts.job()
    await parts.sql("UPDATE jobs SET next_run_at = NULL")
    assert (await parts.jobs.change(job.id, {"name": "other"}, MORNING)).next_run_at == NINE


async def test_a_change_that_is_refused_changes_nothing(parts: Parts) -> None:
    job = await parts.job()
    with pytest.raises(InvalidError):
        await parts.jobs.change(job.id, {"name": "other", "cron": "x"}, MORNING)
    assert await parts.jobs.get(job.id) == job


async def test_two_changes_in_one_instant_can_be_told_apart(parts: Parts) -> None:
    job = await parts.job()
    one = await parts.jobs.change(job.id, {"name": "one"}, MORNING)
    two = await parts.jobs.change(job.id, {"name": "two"}, MORNING)
    assert job.updated_at < one.updated_at < two.updated_at


async def test_of_two_changes_at_once_one_is_a_conflict(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await parts.job()
    read = parts.jobs.get

    async def read_then_lose_time(job_id: str) -> Job:
        seen = await read(job_id)
        monkeypatch.setattr(parts.jobs, "get", read)
        await parts.jobs.change(job_id, {"name": "faster"}, MORNING)
        return seen

    monkeypatch.setattr(parts.jobs, "get", read_then_lose_time)
    with pytest.raises(ConflictError, match=f"job {job.id} was changed by someone else just now"):
        await parts.jobs.change(job.id, {"name": "slower"}, MORNING)
    assert (await parts.jobs.get(job.id)).name == "faster"


async def test_a_removed_job_takes_its_runs_and_their_events_with_it(parts: Parts) -> None:
    job = await parts.job()
    run = await parts.claimed(job_id=job.id)
    await parts.runs.record(run, [])
    await parts.sql(
        "INSERT INTO occurrences VALUES (:id, '2026', 'ran', NULL, :run, NULL, 1)", id=job.id, run=run.id
    )
    await parts.jobs.remove(job.id)
    for table in ("jobs", "runs", "run_events", "occurrences"):
        assert await parts.sql(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_removing_an_unknown_job_is_not_found(parts: Parts) -> None:
    with pytest.raises(NotFoundError, match="there is no job"):
        await parts.jobs.remove("deadbeef")


# Rows that somebody edited by hand


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("tools", "Read", "tools is a text that is not JSON"),
        ("tools", "[1]", "tools must be a list of texts"),
        ("created_at", "yesterday", "Invalid isoformat string"),
        ("last_executed_at", "2026-11-23T09:00:00", "has no offset"),
    ],
)
async def test_a_row_that_cannot_be_read_is_told_with_its_job(
    parts: Parts, column: str, value: str, sentence: str
) -> None:
    job = await parts.job()
    await parts.sql(f"UPDATE jobs SET {column} = :value", value=value)
    with pytest.raises(
        InvalidError, match=f"job {job.id} was edited by hand and can't be read: .*{sentence}"
    ):
        await parts.jobs.get(job.id)


async def test_a_row_that_cannot_be_read_can_be_removed(parts: Parts) -> None:
    job = await parts.job()
    await parts.sql("UPDATE jobs SET tools = 'x'")
    await parts.jobs.remove(job.id)
    assert await parts.jobs.list() == []


async def test_the_next_due_moment_is_the_earliest_of_all_jobs(parts: Parts) -> None:
    await parts.job(cron="0 12 * * *")
    await parts.job()
    await parts.job(cron="0 10 * * *", enabled=False)
    assert await parts.database.read(jobs.next_due_at) == NINE


async def test_without_jobs_nothing_is_due(parts: Parts) -> None:
    assert await parts.database.read(jobs.next_due_at) is None


async def test_a_slot_is_taken_once(parts: Parts) -> None:
    job = await parts.job()
    following = NINE + timedelta(days=1)
    taken = [
        await parts.database.write(lambda c: jobs.take_slot(c, Due(job, NINE), following)) for _ in range(2)
    ]
    assert taken == [True, False]


async def test_a_slot_that_was_planned_anew_meanwhile_is_not_taken(parts: Parts) -> None:
    job = await parts.job()
    await parts.jobs.change(job.id, {"cron": "0 10 * * *"}, MORNING)
    assert not await parts.database.write(lambda c: jobs.take_slot(c, Due(job, NINE), None))
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + timedelta(hours=1)


async def test_the_slot_of_a_job_that_was_disabled_meanwhile_is_not_taken(parts: Parts) -> None:
    job = await parts.job()
    await parts.jobs.change(job.id, {"enabled": False}, MORNING)
    assert not await parts.database.write(lambda c: jobs.take_slot(c, Due(job, NINE), None))


async def test_every_fate_can_be_written(parts: Parts) -> None:
    job = await parts.job()
    for number, fate in enumerate(Fate):
        slot = to_text(NINE + timedelta(days=number))
        await parts.sql(
            "INSERT INTO occurrences (job_id, scheduled_for, fate) VALUES (:id, :slot, :fate)",
            id=job.id, slot=slot, fate=fate,
        )  # fmt: skip
    assert await parts.sql("SELECT count(*) FROM occurrences") == [(len(Fate),)]


async def test_a_run_of_a_job_is_made_of_the_job(parts: Parts) -> None:
    job = await parts.job(tools=("Read",), timeout_minutes=7, model="opus")
    run = job.new_run(Trigger.MANUAL, scheduled_for=NINE, rehearsal=True)
    assert (run.prompt, run.tools, run.timeout_minutes, run.model) == (job.prompt, ("Read",), 7, "opus")
    assert (run.job_id, run.scheduled_for, run.rehearsal) == (job.id, NINE, True)


async def test_the_tools_stand_in_the_database_as_a_json_list(parts: Parts) -> None:
    await parts.job(tools=("Read", "mcp__a__b"))
    [(written,)] = await parts.sql("SELECT tools FROM jobs")
    assert json.loads(written) == ["Read", "mcp__a__b"]
