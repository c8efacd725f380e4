"""The tools that a run sees of its own server, called as the endpoint calls them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from claude_runner import runs
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, RunnerError
from claude_runner.hub import Topic
from claude_runner.inside import Inside
from claude_runner.inside._when import FURTHEST, read_when
from claude_runner.runs import Ending, NewRun, Run, State, Trigger
from tests.parts import Parts, open_parts
from tests.support import MORNING

DONE = Ending(State.FINISHED, output="done")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


@pytest.fixture
def inside(parts: Parts) -> Inside:
    return Inside(parts.database, parts.hub, parts.clock)


async def of_job(parts: Parts, **changes: Any) -> Run:
    """A run of a new job, which is going on."""
    job = await parts.job(**changes)
    return await started(parts, job.new_run(Trigger.MANUAL))


async def started(parts: Parts, run: NewRun) -> Run:
    """A run that is going on, where no other waits."""
    await parts.runs.add(run, parts.clock.now())
    claimed = await parts.runs.claim("here:1", "session", parts.clock.now())
    assert claimed is not None
    return claimed


async def end(parts: Parts, run: Run, ending: Ending = DONE) -> None:
    assert await parts.database.write(lambda c: runs.end(c, run, ending, parts.clock.now()))


async def answer(inside: Inside, run: Run, tool: str, **arguments: Any) -> dict[str, Any]:
    answered = await inside.call(run, tool, arguments)
    assert not isinstance(answered, str)
    return dict(answered)


async def refusal(inside: Inside, run: Run, tool: str, **arguments: Any) -> str:
    with pytest.raises(RunnerError) as caught:
        await inside.call(run, tool, arguments)
    return str(caught.value)


# What the model is told


@pytest.mark.parametrize("tool", Inside.tools, ids=lambda tool: tool.name)
def test_a_model_needs_nothing_but_what_a_tool_says_of_itself(tool: Any) -> None:
    Draft202012Validator.check_schema(tool.input_schema)
    assert tool.title
    assert len(tool.description) > 60
    assert all(len(each["description"]) > 30 for each in tool.input_schema["properties"].values())
    assert set(tool.annotations) == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}


def test_there_are_just_these_tools() -> None:
    names = [tool.name for tool in Inside.tools]
    assert names == ["schedule_followup", "list_my_runs", "remember", "recall", "report"]


MISFITS: dict[str, tuple[str, dict[str, Any], str]] = {
    "what is missing": ("schedule_followup", {}, "schedule_followup needs when and prompt"),
    "null for what must be": ("remember", {"note": None}, "remember needs note"),
    "what there is not": ("recall", {"key": "x"}, "recall has no parameter 'key'; it takes none"),
    "one too many": (
        "report",
        {"status": "done", "summary": "x", "score": 1},
        "report has no parameter 'score'; it takes status and summary",
    ),
    "no text": ("remember", {"note": 5}, "note must be a text"),
    "an empty text": ("report", {"status": "done", "summary": " "}, "summary is empty"),
    "a status of its own": (
        "report",
        {"status": "great", "summary": "x"},
        "status must be one of done, partly, nothing_to_do, failed",
    ),
    "too long a note": (
        "remember",
        {"note": "x" * 4001},
        "note has 4,001 characters; at most 4,000 are kept",
    ),
    "too many runs": ("list_my_runs", {"limit": 51}, "limit must be a whole number from 1 to 50"),
    "a truth for a number": ("list_my_runs", {"limit": True}, "limit must be a whole number from 1 to 50"),
    "a number as a text": ("list_my_runs", {"limit": "5"}, "limit must be a whole number from 1 to 50"),
    "a control character": (
        "schedule_followup",
        {"when": "2h", "prompt": "a\0b"},
        "the prompt has the control character U+0000 at 1; remove it",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
async def test_a_call_that_does_not_fit_is_refused_in_a_sentence(
    parts: Parts, inside: Inside, misfit: str
) -> None:
    tool, arguments, sentence = MISFITS[misfit]
    assert await refusal(inside, await of_job(parts), tool, **arguments) == sentence


async def test_a_tool_that_there_is_not_is_refused_with_those_there_are(parts: Parts, inside: Inside) -> None:
    with pytest.raises(NotFoundError, match="no tool 'sleep'; it has schedule_followup, list_my_runs"):
        await inside.call(await of_job(parts), "sleep", {})


# When a follow-up starts


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("in 30 minutes", timedelta(minutes=30)),
        ("30 min", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("In 2 Hours", timedelta(hours=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1 hour and 30 minutes", timedelta(minutes=90)),
        ("1 day, 6 hours", timedelta(hours=30)),
        ("1.5 h", timedelta(minutes=90)),
        ("in  90\nseconds", timedelta(seconds=90)),
        ("2 weeks", timedelta(weeks=2)),
        ("0 minutes", timedelta()),
        ("PT30M", timedelta(minutes=30)),
        ("p1dt2h", timedelta(hours=26)),
        ("P2W", timedelta(weeks=2)),
        ("PT1.5S", timedelta(seconds=1.5)),
        ("30 days", FURTHEST),
    ],
)
def test_a_span_counts_from_now(text: str, span: timedelta) -> None:
    assert read_when(text, MORNING) == MORNING + span


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T10:00:00+01:00",
        "2026-11-23T09:00:00Z",
        "2026-11-23t09:00z",
        "2026-11-23 09:00:00.000+00:00",
    ],
)
def test_an_instant_is_taken_as_it_is(text: str) -> None:
    assert read_when(text, MORNING) == datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tomorrow", "when is 'tomorrow', which can't be read; write it as 'in 30 minutes'"),
        ("1 month", "when is '1 month', which can't be read"),
        ("in an hour", "can't be read"),
        ("-5 minutes", "can't be read"),
        ("٣ hours", "can't be read"),
        ("P", "can't be read"),
        ("PT", "can't be read"),
        ("P1DT", "can't be read"),
        ("P1Y", "can't be read"),
        ("0001-01-01T00:00+23:00", "can't be read"),
        ("1h " * 60, "can't be read"),
        ("2026-11-23T09:00", "2026-11-23T09:00 has no offset from UTC"),
        ("2026-11-24", "2026-11-24 has no offset from UTC"),
        ("2026-11-23T08:59:29Z", "2026-11-23T08:59:29Z has passed; it is now 2026-11-23T08:59:30+00:00"),
        ("2026-12-23T08:59:31Z", "that is more than 30 days ahead"),
        ("30 days 1 second", "that is more than 30 days ahead"),
        ("999999 weeks", "that is more than 30 days ahead"),
        ("P999999W", "that is more than 30 days ahead"),
    ],
)
def test_what_is_no_time_to_come_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read_when(text, MORNING)
    assert sentence in str(caught.value)
    assert caught.value.field == "when"


@given(st.text(max_size=120))
def test_whatever_is_written_is_a_time_to_come_or_refused(text: str) -> None:
    with suppress(InvalidError):
        assert MORNING <= read_when(text, MORNING) <= MORNING + FURTHEST


SPANS = st.fixed_dictionaries(
    {
        "weeks": st.integers(0, 1),
        "days": st.integers(0, 6),
        "hours": st.integers(0, 99),
        "minutes": st.integers(0, 999),
        "seconds": st.integers(0, 99_999),
    }
)


@given(SPANS, st.sampled_from(["", " "]), st.sampled_from(["", " ", ", ", " and "]))
def test_a_span_means_the_same_in_words_and_in_iso(amounts: dict[str, int], gap: str, comma: str) -> None:
    words = comma.join(f"{amount}{gap}{unit}" for unit, amount in amounts.items())
    iso = "P{weeks}W{days}DT{hours}H{minutes}M{seconds}S".format(**amounts)
    expected = MORNING + timedelta(**amounts)
    assert (
        read_when(words, MORNING) == read_when(f"in {words}", MORNING) == read_when(iso, MORNING) == expected
    )


@given(st.timedeltas(timedelta(), FURTHEST), st.integers(-23 * 60, 23 * 60))
def test_an_instant_is_the_same_in_every_zone(ahead: timedelta, offset: int) -> None:
    at = MORNING + ahead
    there = at.astimezone(timezone(timedelta(minutes=offset)))
    assert read_when(there.isoformat(), MORNING) == at


# The note


async def test_what_a_run_remembers_the_next_one_recalls(parts: Parts, inside: Inside) -> None:
    first = await of_job(parts)
    assert await answer(inside, first, "recall") == {"note": None}
    said = await inside.call(first, "remember", {"note": "last seen: 42 🦊"})
    assert said == "Kept 15 of at most 4,000 characters for the later runs of this job."
    await end(parts, first)
    second = await started(parts, first.follow_up("go on", MORNING))
    assert await answer(inside, second, "recall") == {"note": "last seen: 42 🦊"}
    assert (await parts.jobs.get(first.job_id or "")).note == "last seen: 42 🦊"


async def test_a_note_replaces_the_whole_note_and_an_empty_one_deletes_it(
    parts: Parts, inside: Inside
) -> None:
    run = await of_job(parts)
    await inside.call(run, "remember", {"note": "one"})
    await inside.call(run, "remember", {"note": "two"})
    assert await answer(inside, run, "recall") == {"note": "two"}
    assert await inside.call(run, "remember", {"note": " "}) == "The note is deleted."
    assert await answer(inside, run, "recall") == {"note": None}


async def test_a_job_that_is_changed_keeps_its_note_and_a_note_is_in_no_changes_way(
    parts: Parts, inside: Inside
) -> None:
    run = await of_job(parts)
    job = await parts.jobs.get(run.job_id or "")
    await inside.call(run, "remember", {"note": "mine"})
    changed = await parts.jobs.change(job.id, {"name": "Evening"}, parts.clock.now())
    assert (changed.note, changed.created_at) == ("mine", job.created_at)


@pytest.mark.parametrize(("tool", "arguments"), [("remember", {"note": "x"}), ("recall", {})])
async def test_a_run_of_no_job_has_no_note(
    parts: Parts, inside: Inside, tool: str, arguments: dict[str, Any]
) -> None:
    run = await parts.claimed()
    sentence = "this run belongs to no job, so there is no note; keep what a follow-up needs in its prompt"
    assert await refusal(inside, run, tool, **arguments) == sentence


# The report


async def test_the_last_report_counts(parts: Parts, inside: Inside) -> None:
    run = await of_job(parts)
    assert (await parts.runs.get(run.id)).report is None
    await inside.call(run, "report", {"status": "partly", "summary": "half"})
    assert await inside.call(run, "report", {"status": "done", "summary": "all"}) == "Reported: done."
    report = (await parts.runs.get(run.id)).report
    assert report == runs.Report(runs.ReportStatus.DONE, "all")


async def test_a_report_is_told_to_whoever_watches_runs(parts: Parts, inside: Inside) -> None:
    run = await of_job(parts)
    with parts.hub.subscribe(Topic.RUNS) as changes:
        await inside.call(run, "report", {"status": "failed", "summary": "no network"})
    assert [change.key for change in changes.take()] == [run.id]


async def test_half_an_emoji_is_no_hindrance(parts: Parts, inside: Inside) -> None:
    run = await of_job(parts)
    await inside.call(run, "report", {"status": "done", "summary": "fox \ud83e and \0"})
    report = (await parts.runs.get(run.id)).report
    assert report is not None
    assert report.summary == "fox ? and \ufffd"


# What may be written, and by whom


WRITES: dict[str, dict[str, Any]] = {
    "schedule_followup": {"when": "1h", "prompt": "the key is s3cret"},
    "remember": {"note": "the key is s3cret"},
    "report": {"status": "done", "summary": "the key is s3cret"},
}


@pytest.mark.parametrize("tool", WRITES)
async def test_an_attempt_that_has_ended_writes_nothing(parts: Parts, inside: Inside, tool: str) -> None:
    run = await of_job(parts)
    await end(parts, run)
    with pytest.raises(ConflictError, match=f"run {run.id} is not going on any more"):
        await inside.call(run, tool, WRITES[tool])


@pytest.mark.parametrize("tool", WRITES)
async def test_an_attempt_that_was_given_up_writes_nothing(parts: Parts, inside: Inside, tool: str) -> None:
    run = await of_job(parts)
    await parts.sql("UPDATE runs SET attempt = 2")
    with pytest.raises(ConflictError, match="is not going on any more"):
        await inside.call(run, tool, WRITES[tool])


@pytest.mark.parametrize("tool", WRITES)
async def test_a_run_whose_job_was_deleted_writes_nothing(parts: Parts, inside: Inside, tool: str) -> None:
    run = await of_job(parts)
    await parts.jobs.remove(run.job_id or "")
    with pytest.raises(ConflictError, match="is not going on any more"):
        await inside.call(run, tool, WRITES[tool])
    assert await parts.sql("SELECT * FROM runs") == []


async def test_no_secret_gets_into_the_database(parts: Parts) -> None:
    inside = Inside(parts.database, parts.hub, parts.clock, lambda text: text.replace("s3cret", "[key]"))
    run = await of_job(parts)
    for tool, arguments in WRITES.items():
        await inside.call(run, tool, arguments)
    kept = await parts.sql("SELECT note FROM jobs") + await parts.sql(
        "SELECT prompt || coalesce(report_summary, '') FROM runs WHERE report_summary IS NOT NULL OR depth = 1"
    )
    assert len(kept) == 3
    assert all("[key]" in text and "s3cret" not in text for (text,) in kept)


# Earlier runs


async def test_a_run_sees_itself_and_those_of_its_job_newest_first(parts: Parts, inside: Inside) -> None:
    first = await of_job(parts)
    await inside.call(first, "report", {"status": "partly", "summary": "half"})
    await end(parts, first, Ending(State.FINISHED, output="x" * 600))
    await parts.job(name="another")
    parts.clock.move(60)
    second = await started(parts, first.follow_up("the rest", MORNING))
    [newest, oldest] = (await answer(inside, second, "list_my_runs"))["runs"]
    assert (newest["id"], newest["this_run"], newest["state"], newest["prompt"]) == (
        second.id, True, "running", "the rest",
    )  # fmt: skip
    assert (oldest["id"], oldest["this_run"], oldest["finished_at"]) == (
        first.id, False, "2026-11-23T08:59:30+00:00",
    )  # fmt: skip
    assert oldest["report"] == {"status": "partly", "summary": "half"}
    assert oldest["output"] == "x" * 500 + "…"
    assert (newest["report"], newest["output"], newest["error"]) == (None, None, None)


async def test_a_run_sees_what_it_asked_for_and_is_still_to_come(parts: Parts, inside: Inside) -> None:
    run = await of_job(parts)
    parts.clock.move(1)
    made = await answer(inside, run, "schedule_followup", when="2h", prompt="look again")
    [coming] = (await answer(inside, run, "list_my_runs", limit=1))["runs"]
    assert (coming["id"], coming["state"], coming["prompt"]) == (made["id"], "pending", "look again")
    assert coming["not_before"] == made["not_before"] == "2026-11-23T10:59:31+00:00"


async def test_a_run_of_no_job_sees_its_chain_alone(parts: Parts, inside: Inside) -> None:
    await end(parts, await parts.claimed())
    first = await parts.claimed()
    await end(parts, first)
    second = await started(parts, first.follow_up("go on", MORNING))
    seen = (await answer(inside, second, "list_my_runs", limit=None))["runs"]
    assert {run["id"] for run in seen} == {first.id, second.id}


async def test_many_calls_at_once_are_each_answered(parts: Parts, inside: Inside) -> None:
    run = await of_job(parts)
    notes = [f"note {number}" for number in range(50)]
    await asyncio.gather(*(inside.call(run, "remember", {"note": note}) for note in notes))
    assert (await answer(inside, run, "recall"))["note"] in notes
