import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_runner.app import App
from claude_runner.errors import InvalidError, NotFoundError
from claude_runner.runs import (
    CallQuery,
    ClosedCall,
    Ending,
    NewCall,
    NewRun,
    Origin,
    RunHits,
    RunQuery,
    State,
    Trigger,
    Verdict,
    _queries,
    _words,
)
from claude_runner.runs import end as end_run
from tests.parts import Parts, drafted, logged, open_parts, said
from tests.support import MORNING, PATIENCE, FakeClock
from tests.support import ended as app_ended

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def ended(
    parts: Parts,
    prompt: str = "go",
    output: str = "done",
    state: State = State.FINISHED,
    reason: str | None = None,
    cost_usd: float | None = 0.5,
    trigger: Trigger = Trigger.QUICK,
    **changes: Any,
) -> str:
    """A run, a minute later than the one before it, and the only one that is not ended."""
    parts.clock.move(60)
    run_id = await parts.runs.add(NewRun(prompt, trigger, **changes), parts.clock.now())
    run = await parts.runs.claim("here:1", "session", parts.clock.now())
    assert run is not None
    assert run.id == run_id
    reason = None if state is State.FINISHED else reason or "timeout"
    ending = Ending(state, output, reason, reason, None, cost_usd)
    await parts.database.write(lambda c: end_run(c, run, ending, parts.clock.now()))
    await parts.runs.take_words()
    return run_id


def ids(hits: RunHits) -> list[str]:
    return [run.id for run in hits.runs]


async def found(parts: Parts, limit: int = 50, **query: Any) -> list[str]:
    return ids(await parts.runs.search(RunQuery(**query), limit))


async def walked(parts: Parts, query: RunQuery, limit: int) -> list[str]:
    """All that is found, page by page."""
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(200):
        hits = await parts.runs.search(query, limit, cursor)
        seen += ids(hits)
        cursor = hits.next_cursor
        if cursor is None:
            return seen
    raise AssertionError("it never ends")


# Filters


async def test_runs_are_found_newest_first(parts: Parts) -> None:
    first, second = await ended(parts), await ended(parts)
    waiting = await parts.runs.add(NewRun("go", Trigger.MANUAL), parts.clock.now() + MINUTE)
    assert await found(parts) == [waiting, second, first]


async def test_runs_are_found_by_the_model_that_answered_also_by_their_words(parts: Parts) -> None:
    mine, other = (
        await ended(parts, "count the stars", model="mine"),
        await ended(parts, "count", model="other"),
    )
    await ended(parts, "sing", model="mine", trigger=Trigger.MANUAL)
    assert await found(parts, model="other") == [other]
    assert await found(parts, model="mine", trigger=Trigger.QUICK) == [mine]
    assert await found(parts, model="mine", text="count") == [mine]
    assert await found(parts, model="nobody", text="count") == []


async def test_each_filter_leaves_out_what_it_does_not_ask_for(parts: Parts) -> None:
    job = await parts.job()
    by_job = await ended(parts, trigger=Trigger.SCHEDULE, job_id=job.id, cost_usd=2.0)
    by_hook = await ended(parts, trigger=Trigger.WEBHOOK, webhook_id="aaaaaaaa", cost_usd=None)
    failed = await ended(parts, state=State.ERROR, reason="timeout", cost_usd=0.1)
    cancelled = await ended(parts, state=State.CANCELLED, reason="cancelled", rehearsal=True, cost_usd=0.0)
    assert await found(parts, job_id=job.id) == [by_job]
    assert await found(parts, webhook_id="aaaaaaaa") == [by_hook]
    assert await found(parts, states=(State.ERROR,)) == [failed]
    assert await found(parts, states=(State.ERROR, State.CANCELLED)) == [cancelled, failed]
    assert await found(parts, reason="timeout") == [failed]
    assert await found(parts, trigger=Trigger.WEBHOOK) == [by_hook]
    assert await found(parts, trigger=Trigger.QUICK) == [cancelled, failed]
    assert await found(parts, min_cost_usd=0.5) == [by_job]
    assert await found(parts, rehearsal=True) == [cancelled]
    assert await found(parts, since=MORNING + 2 * MINUTE, until=MORNING + 4 * MINUTE) == [failed, by_hook]
    assert await found(parts, states=(State.ERROR,), trigger=Trigger.MANUAL) == []
    assert await found(parts, job_id=job.id, states=(State.ERROR,)) == []


async def test_the_runs_of_a_webhook_are_found_whether_they_have_ended_or_not(parts: Parts) -> None:
    done = await ended(parts, webhook_id="aaaaaaaa")
    await ended(parts, webhook_id="bbbbbbbb")
    waiting = await parts.pending(webhook_id="aaaaaaaa")
    going_on = (await parts.claimed(webhook_id="bbbbbbbb")).webhook_id
    assert going_on is not None
    parts.clock.move(60)
    later = await parts.pending(webhook_id="aaaaaaaa")
    assert await found(parts, webhook_id="aaaaaaaa") == [later, waiting, done]
    assert await found(parts, webhook_id="aaaaaaaa", states=(State.FINISHED,)) == [done]
    assert waiting in await found(parts, webhook_id="aaaaaaaa", states=(State.PENDING, State.RUNNING))


async def test_open_runs_are_found_however_old_they_are(parts: Parts) -> None:
    old = await parts.pending(not_before=MORNING + 9 * MINUTE)
    for _ in range(3):
        await ended(parts)
    assert await found(parts, states=(State.PENDING,)) == [old]
    assert await found(parts, states=(State.PENDING, State.RUNNING)) == [old]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_follow_one_another_without_a_gap(parts: Parts, limit: int) -> None:
    made = [
        await ended(parts, "what", webhook_id="aaaaaaaa" if number % 2 else None, trigger=Trigger.WEBHOOK)
        for number in range(7)
    ]
    queries = [
        RunQuery(),
        RunQuery(webhook_id="aaaaaaaa"),
        RunQuery(text="what"),
        RunQuery(trigger=Trigger.WEBHOOK),
    ]
    expected = [made[::-1], made[1::2][::-1], made[::-1], made[::-1]]
    assert [await walked(parts, query, limit) for query in queries] == expected


async def test_a_search_looks_at_so_many_runs_and_says_how_far_it_looked(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought = await ended(parts, reason="budget", state=State.ERROR, trigger=Trigger.MANUAL)
    for _ in range(10):
        await ended(parts, trigger=Trigger.MANUAL)
    monkeypatch.setattr(_queries, "_RUNS", _queries._RUNS._replace(most=4))
    hits = await parts.runs.search(RunQuery(reason="budget"), 5)
    assert (hits.runs, hits.looked_until) == ([], MORNING + 8 * MINUTE)
    assert hits.next_cursor is not None
    assert await walked(parts, RunQuery(reason="budget"), 5) == [sought]
    assert (await parts.runs.search(RunQuery(states=(State.ERROR,)), 5)).looked_until is None


async def test_a_cursor_of_another_search_is_refused(parts: Parts) -> None:
    await ended(parts, "what")
    await ended(parts, "what")
    by_time = (await parts.runs.search(RunQuery(), 1)).next_cursor
    with pytest.raises(InvalidError, match="another search"):
        await parts.runs.search(RunQuery(text="what"), 1, by_time)
    with pytest.raises(InvalidError, match="not given by"):
        await parts.runs.search(RunQuery(), 1, "nonsense")


# What a list shows


async def test_a_list_shows_the_beginnings_of_texts_and_the_names_of_what_runs_belong_to(
    parts: Parts,
) -> None:
    job = await parts.job(name="Morning")
    await ended(parts, "p" * 5_000, "o" * 5_000, job_id=job.id, state=State.ERROR)
    [run] = (await parts.runs.search(RunQuery(), 5)).runs
    assert (run.prompt, run.output) == ("p" * 300, "o" * 300)
    assert (run.job_name, run.webhook_name, run.snippet, run.report) == ("Morning", None, None, None)
    assert (run.state, run.reason, run.error, run.cost_usd) == (State.ERROR, "timeout", "timeout", 0.5)
    assert run.seconds(MORNING) == 0.0


async def test_a_run_that_goes_on_has_lasted_until_now_and_one_that_waits_has_not_begun(parts: Parts) -> None:
    await parts.claimed()
    waiting = await parts.pending()
    running, pending = await parts.runs.going_on()
    assert (running.state, running.seconds(parts.clock.now() + MINUTE)) == (State.RUNNING, 60.0)
    assert (pending.id, pending.seconds(MORNING)) == (waiting, None)


async def test_what_goes_on_comes_before_what_waits_and_what_has_ended_is_not_there(parts: Parts) -> None:
    await ended(parts)
    running = await parts.claimed()
    waiting = []
    for _ in range(3):
        parts.clock.move(60)
        waiting.append(await parts.pending())
    assert [run.id for run in await parts.runs.going_on(3)] == [running.id, *waiting[:2]]


async def test_an_export_has_all_that_is_found_in_batches(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.runs._collection.EXPORTED", 2)
    made = [await ended(parts, output="o" * 1_000) for _ in range(5)]
    batches = [batch async for batch in parts.runs.export(RunQuery())]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [run.id for batch in batches for run in batch] == made[::-1]
    assert batches[0][0].output == "o" * 1_000


# Words


async def test_a_run_is_found_by_the_words_of_its_prompt_and_its_output(parts: Parts) -> None:
    first = await ended(parts, "summarise the sprint", "seven tickets are closed")
    await ended(parts, "count the mails", "there are nine")
    assert await found(parts, text="sprint") == [first]
    assert await found(parts, text="closed") == [first]
    assert await found(parts, text="closed sprint") == [first]
    assert await found(parts, text="sprint nine") == []


@pytest.mark.parametrize("text", ["Zürich", "zurich", "ZURICH", "züri", "zu"])
async def test_case_and_marks_are_of_no_matter_and_the_last_word_may_go_on(parts: Parts, text: str) -> None:
    run_id = await ended(parts, "weather in Zürich please")
    assert await found(parts, text=text) == [run_id]
    assert await found(parts, text=f"weather {text}") == [run_id]


async def test_only_the_last_word_may_go_on(parts: Parts) -> None:
    await ended(parts, "weather in Rome")
    assert await found(parts, text="weath rome") == []
    assert len(await found(parts, text="rome weath")) == 1


async def test_where_a_word_was_found_is_shown(parts: Parts) -> None:
    await ended(parts, "go", "long before " * 40 + "the sprint is over" + " long after" * 40)
    [run] = (await parts.runs.search(RunQuery(text="spri"), 5)).runs
    assert run.snippet is not None
    assert ("sprint", True) in run.snippet
    assert len("".join(piece for piece, _ in run.snippet)) < 400
    assert run.snippet[0] == (run.snippet[0][0], False)


async def test_a_text_without_words_finds_nothing_and_blanks_ask_for_nothing(parts: Parts) -> None:
    run_id = await ended(parts)
    assert await found(parts, text="!?") == []
    assert await found(parts, text="  ") == [run_id]


async def test_words_and_filters_go_together(parts: Parts) -> None:
    failed = await ended(parts, "sprint", state=State.ERROR)
    await ended(parts, "sprint")
    assert await found(parts, text="sprint", states=(State.ERROR,)) == [failed]
    assert await found(parts, text="sprint", min_cost_usd=5.0) == []


async def test_a_run_that_goes_on_is_found_by_its_words_once_it_has_ended(parts: Parts) -> None:
    run = await parts.claimed(prompt="sprint")
    await parts.runs.record(run, [said("sprint")])
    assert await found(parts, text="sprint") == []
    await parts.database.write(lambda c: end_run(c, run, Ending(State.FINISHED, "over"), MORNING))
    await parts.runs.take_words()
    assert await found(parts, text="over") == [run.id]


async def test_the_words_of_a_deleted_run_are_gone(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, "sprint", job_id=job.id)
    await parts.jobs.remove(job.id)
    assert await found(parts, text="sprint") == []
    assert await parts.sql("SELECT * FROM run_vocabulary") == []
    with closing(sqlite3.connect(parts.path)) as c:
        c.execute("INSERT INTO run_words (run_words) VALUES ('integrity-check')")


async def test_words_follow_where_a_person_edits_a_run(parts: Parts) -> None:
    run_id = await ended(parts, "sprint", "secret")
    await parts.sql("UPDATE runs SET output = 'for now'")
    await parts.sql("UPDATE runs SET output = 'harmless'")
    await parts.runs.take_words()
    assert (await found(parts, text="secret"), await found(parts, text="harmless")) == ([], [run_id])


async def test_a_run_that_was_edited_can_be_deleted_before_its_words_are_taken_anew(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, "sprint", "secret", job_id=job.id)
    await parts.sql("UPDATE runs SET output = NULL")
    await parts.jobs.remove(job.id)
    assert await parts.sql("SELECT * FROM run_vocabulary") == []
    assert await parts.sql("SELECT * FROM run_words_stale") == []


async def test_of_a_huge_output_the_beginning_is_found(parts: Parts) -> None:
    run_id = await ended(parts, output="first " + "x " * 60_000 + "last")
    assert (await found(parts, text="first"), await found(parts, text="last")) == ([run_id], [])


async def test_a_beginning_of_many_words_stands_for_the_first_of_them(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_words, "MOST_ENDINGS", 2)
    first = await ended(parts, "abc abd")
    await ended(parts, "abe")
    assert await found(parts, text="ab") == [first]
    assert len(await found(parts, text="abe")) == 1


async def test_words_that_are_all_common_are_looked_for_a_window_at_a_time(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_words, "RARE", 1)
    monkeypatch.setattr(_words, "WINDOW", 2)
    monkeypatch.setattr(_words, "WINDOWS", 2)
    both = await ended(parts, "one two")
    for _ in range(4):
        await ended(parts, "one")
        await ended(parts, "two")
    hits = await parts.runs.search(RunQuery(text="one two"), 5)
    assert (hits.runs, hits.looked_until) == ([], MORNING + 6 * MINUTE)
    assert await walked(parts, RunQuery(text="one two"), 5) == [both]
    assert await walked(parts, RunQuery(text="two"), 2) == [
        *(run for run in await found(parts, text="two") if run != both),
        both,
    ]


async def test_runs_of_which_most_are_filtered_out_are_looked_at_so_many_at_a_time(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_words, "LOOKED_AT", 3)
    failed = await ended(parts, "sprint", state=State.ERROR)
    for _ in range(6):
        await ended(parts, "sprint")
    hits = await parts.runs.search(RunQuery(text="sprint", states=(State.ERROR,)), 5)
    assert (hits.runs, hits.looked_until) == ([], MORNING + 5 * MINUTE)
    assert await walked(parts, RunQuery(text="sprint", states=(State.ERROR,)), 5) == [failed]


async def test_words_are_taken_in_some_runs_at_a_time_and_merged(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_words, "TAKEN", 3)
    monkeypatch.setattr(parts.runs, "take_words", _nothing)
    made = [await ended(parts, f"word{number}") for number in range(7)]
    monkeypatch.undo()
    monkeypatch.setattr(_words, "TAKEN", 3)
    assert await found(parts, text="word") == []
    assert [await parts.runs.take_words() for _ in range(4)] == [True, True, False, False]
    assert await found(parts, text="word") == made[::-1]
    for _ in range(20):
        await ended(parts, "more words")
    merged = [await parts.runs.merge_words() for _ in range(20)]
    assert (merged[0], merged[-1]) == (True, False)
    with closing(sqlite3.connect(parts.path)) as c:
        c.execute("INSERT INTO run_words (run_words) VALUES ('integrity-check')")
    assert len(await found(parts, text="more")) == 20


async def test_long_texts_are_taken_in_fewer_at_a_time(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.runs, "take_words", _nothing)
    for _ in range(3):
        await ended(parts, "x" * 90, "y" * 90)
    monkeypatch.undo()
    monkeypatch.setattr(_words, "TAKEN_CHARACTERS", 200)
    assert [await parts.runs.take_words() for _ in range(2)] == [True, False]


async def test_the_words_of_a_run_that_is_deleted_before_they_are_taken_in_are_never_found(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.runs, "take_words", _nothing)
    job = await parts.job()
    await ended(parts, "gone", job_id=job.id)
    await parts.jobs.remove(job.id)
    kept = await ended(parts, "kept")
    monkeypatch.undo()
    await parts.runs.take_words()
    assert (await found(parts, text="gone"), await found(parts, text="kept")) == ([], [kept])


async def _nothing() -> bool:
    return False


async def found_in_time(app: App, clock: FakeClock, text: str, count: int) -> None:
    """Let time pass until so many runs are found."""
    async with asyncio.timeout(PATIENCE):
        while await found_by(app, text) != count:
            clock.move(60)


async def found_by(app: App, text: str) -> int:
    return len((await app.runs.search(RunQuery(text=text), 5)).runs)


async def test_the_process_that_leads_takes_in_the_words_of_runs_as_they_end(
    app: App, clock: FakeClock
) -> None:
    job = await app.jobs.add(drafted(enabled=False), clock.now())
    await app_ended(app, (await app.trigger(job.id)).id)
    await found_in_time(app, clock, "say morn", 1)
    await app_ended(app, (await app.trigger(job.id)).id)
    await found_in_time(app, clock, "say morn", 2)


async def test_an_index_that_cannot_be_written_is_tried_again(app: App, clock: FakeClock) -> None:
    refusal = "CREATE TRIGGER no BEFORE UPDATE ON run_words_taken BEGIN SELECT RAISE(ABORT, 'no'); END"
    await app.database.write(lambda c: c.execute(refusal).close())
    with logged() as log:
        await app_ended(app, (await app.run_prompt(NewRun("sprint", Trigger.QUICK))).id)
        async with asyncio.timeout(PATIENCE):
            while not log.having("could not be taken in"):
                clock.move(1)
                assert await found_by(app, "sprint") == 0
    await app.database.write(lambda c: c.execute("DROP TRIGGER no").close())
    await found_in_time(app, clock, "sprint", 1)


@given(text=st.text(max_size=60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_typed_is_words_and_nothing_more(parts: Parts, text: str) -> None:
    if not await found(parts):
        await ended(parts, "sprint OR review", 'NEAR("a" b) * ^ - col:x')
    hits = await parts.runs.search(RunQuery(text=text), 5)
    assert len(hits.runs) <= 1


@pytest.mark.parametrize(
    "text", ['"', "a OR b", "prompt : go", "NOT x", "NEAR(a b)", "a*", "^gone", "{prompt}: x", "\0"]
)
async def test_no_operator_of_the_index_can_be_reached(parts: Parts, text: str) -> None:
    await ended(parts, "go")
    assert await found(parts, text=text) == []


# Calls


async def noted(
    parts: Parts, tool: str, verdict: Verdict = Verdict.OK, result: str = "fine", **arguments: Any
) -> None:
    parts.clock.move(60)
    call = NewCall(tool, arguments, parts.clock.now())
    await parts.runs.note_call(ClosedCall(None, call, verdict, result, 5.0))


async def test_calls_are_found_by_what_they_were(parts: Parts) -> None:
    run = await parts.claimed()
    call_id = await parts.runs.open_call(run, NewCall("Read", {"file": "x"}, MORNING))
    await noted(parts, "mcp__email__send")
    await noted(parts, "mcp__email__list", Verdict.DENIED)

    async def tools(**query: Any) -> list[str]:
        return [call.tool for call in (await parts.runs.call_log(CallQuery(**query), 10)).calls]

    send, listing = "mcp__email__send", "mcp__email__list"
    assert await tools() == [listing, send, "Read"]
    assert await tools(run_id=run.id) == ["Read"]
    assert await tools(server="email") == [listing, send]
    assert await tools(tool=send) == [send]
    assert await tools(verdict=Verdict.DENIED) == [listing]
    assert await tools(verdict=Verdict.OPEN) == ["Read"]
    assert await tools(origin=Origin.RUN) == ["Read"]
    assert await tools(origin=Origin.DIRECT, verdict=Verdict.OK) == [send]
    assert await tools(since=MORNING + MINUTE, until=MORNING + 2 * MINUTE) == [send]
    assert (await parts.runs.call(call_id or "")).arguments == {"file": "x"}


async def test_the_log_of_calls_carries_the_beginnings_of_texts(parts: Parts) -> None:
    await noted(parts, "Read", result="r" * 9_000, text="a" * 900)
    await noted(parts, "Read", text=["b" * 900] * 30)
    large, small = (await parts.runs.call_log(CallQuery(), 5)).calls
    assert len(str(small.arguments)) < 600
    assert small.result == "r" * 1_000
    assert small.result_length == 9_000
    assert list(large.arguments) == ["shortened"]
    whole = await parts.runs.call(small.id)
    assert (whole.arguments, whole.result) == ({"text": "a" * 900}, "r" * 9_000)


async def test_pages_of_calls_follow_one_another(parts: Parts) -> None:
    for number in range(5):
        await noted(parts, f"tool{number}")
    first = await parts.runs.call_log(CallQuery(), 3)
    second = await parts.runs.call_log(CallQuery(), 3, first.next_cursor)
    assert [call.tool for call in [*first.calls, *second.calls]] == [
        f"tool{number}" for number in (4, 3, 2, 1, 0)
    ]
    assert second.next_cursor is None


async def test_a_call_that_there_is_none_of_is_not_found(parts: Parts) -> None:
    with pytest.raises(NotFoundError, match="no call"):
        await parts.runs.call("x")


# Transcripts


async def test_a_transcript_is_read_from_its_end_and_backwards(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.runs.record(run, [said(str(number)) for number in range(1, 8)])
    tail = await parts.runs.events_tail(run.id, 3)
    assert [event.seq for event in tail] == [5, 6, 7]
    before = await parts.runs.events_before(run.id, tail[0].seq, 3)
    assert [event.seq for event in before] == [2, 3, 4]
    assert [event.seq for event in await parts.runs.events_before(run.id, 2, 3)] == [1]
    assert await parts.runs.events_tail("x", 3) == []


def test_a_query_asks_for_anything_until_it_is_told() -> None:
    assert {getattr(RunQuery(), each.name) for each in fields(RunQuery)} == {None, ()}
