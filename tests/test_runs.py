import sqlite3
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner import runs
from claude_runner.errors import InvalidError, NotFoundError
from claude_runner.hub import Change, Topic
from claude_runner.permissions import Profile
from claude_runner.runs import (
    Ending,
    Event,
    EventKind,
    Granted,
    Run,
    RunFilter,
    State,
    Tokens,
    Trigger,
    _open,
    _statements,
)
from tests.parts import Parts, open_parts, said
from tests.support import MORNING

DONE = Ending(State.FINISHED, output="done", tokens=Tokens(1, 2, 3, 4), cost_usd=0.5)
FAILED = Ending(State.ERROR, error="it broke", reason="agent_crashed")
ANY = RunFilter()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def end(parts: Parts, run: Run, ending: Ending) -> bool:
    return await parts.database.write(lambda c: runs.end(c, run, ending, parts.clock.now()))


async def claim(parts: Parts) -> Run | None:
    return await parts.runs.claim("here:1", "session", parts.clock.now())


async def given_back(parts: Parts, run: Run) -> Run:
    """Let another attempt take the run over, as after a crash, and return it."""
    await parts.sql("UPDATE runs SET state = 'pending' WHERE id = :id", id=run.id)
    taken = await claim(parts)
    assert taken is not None
    return taken


async def test_a_new_run_is_pending_as_it_was_given(parts: Parts) -> None:
    run_id = await parts.pending("go", tools=("Read",), timeout_minutes=5, model="opus", rehearsal=True)
    run = await parts.runs.get(run_id)
    assert (run.state, run.attempt, run.trigger) == (State.PENDING, 0, Trigger.MANUAL)
    assert (run.prompt, run.tools, run.timeout_minutes) == ("go", ("Read",), 5)
    assert (run.model, run.rehearsal, run.created_at) == ("opus", True, MORNING)


async def test_a_new_run_has_twelve_hexadecimal_digits(parts: Parts) -> None:
    run_id = await parts.pending()
    assert len(run_id) == 12
    assert int(run_id, 16) >= 0


async def test_an_id_that_another_run_has_is_not_given_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["a" * 12, "a" * 12, "b" * 12])
    monkeypatch.setattr("claude_runner.runs._inserts.secrets.token_hex", lambda _: next(ids))
    assert [await parts.pending(), await parts.pending()] == ["a" * 12, "b" * 12]


async def test_an_unknown_run_is_not_found(parts: Parts) -> None:
    with pytest.raises(NotFoundError, match="there is no run 'x'; list_runs shows them all"):
        await parts.runs.get("x")


# Claiming


async def test_the_run_that_has_waited_longest_is_claimed_first(parts: Parts) -> None:
    ids = []
    for _ in range(3):
        ids.append(await parts.pending())
        parts.clock.move(1)
    assert [run.id for _ in range(3) if (run := await claim(parts))] == ids


async def test_nothing_is_claimed_where_nothing_is_pending(parts: Parts) -> None:
    run = await parts.claimed()
    await end(parts, run, DONE)
    assert await claim(parts) is None


async def test_a_claimed_run_tells_who_has_it_since_when(parts: Parts) -> None:
    run = await parts.claimed()
    assert (run.state, run.attempt, run.session_id, run.started_at) == (State.RUNNING, 1, "session", MORNING)
    assert await parts.sql("SELECT worker FROM runs") == [("here:1",)]


async def test_a_run_that_must_wait_is_claimed_when_its_time_has_come(parts: Parts) -> None:
    await parts.pending()
    await parts.sql("UPDATE runs SET not_before = '2026-11-23T09:00:00.000+00:00', reason = 'usage_limit'")
    assert await claim(parts) is None
    parts.clock.move(30)
    run = await claim(parts)
    assert run is not None
    assert run.reason is None


async def test_each_claim_is_another_attempt(parts: Parts) -> None:
    run = await parts.claimed()
    assert (await given_back(parts, run)).attempt == run.attempt + 1


async def test_every_step_of_a_run_is_told_to_whoever_listens(parts: Parts) -> None:
    with parts.hub.subscribe(Topic.RUNS, Topic.EVENTS) as changes:
        run = await parts.claimed()
        assert changes.take() == [Change(Topic.RUNS, run.id)]
        await parts.runs.record(run, [said("a")])
        assert changes.take() == [Change(Topic.EVENTS, run.id)]


# Fencing


async def test_an_old_attempt_records_nothing(parts: Parts) -> None:
    old = await parts.claimed()
    await given_back(parts, old)
    assert not await parts.runs.record(old, [said("late")])
    assert await parts.events(old.id) == []


async def test_an_old_attempt_meters_nothing(parts: Parts) -> None:
    old = await parts.claimed()
    await given_back(parts, old)
    assert not await parts.runs.record(old, [], Tokens(1, 1), "opus")
    assert (await parts.runs.get(old.id)).tokens == Tokens()


async def test_an_old_attempt_is_granted_nothing(parts: Parts) -> None:
    old = await parts.claimed()
    await given_back(parts, old)
    await parts.runs.record(old, [], granted=Granted(Profile.FULL, ("late",)))
    stored = await parts.runs.get(old.id)
    assert (stored.profile, stored.warnings) == (None, ())


async def test_an_old_attempt_ends_nothing(parts: Parts) -> None:
    old = await parts.claimed()
    await given_back(parts, old)
    assert not await end(parts, old, DONE)
    assert (await parts.runs.get(old.id)).state is State.RUNNING


async def test_an_ended_run_takes_no_event_any_more(parts: Parts) -> None:
    run = await parts.claimed()
    await end(parts, run, DONE)
    assert not await parts.runs.record(run, [said("late")])


async def test_the_present_attempt_writes(parts: Parts) -> None:
    run = await given_back(parts, await parts.claimed())
    granted = Granted(Profile.RULES, ("mind",))
    assert await parts.runs.record(run, [said("now")], Tokens(1, 1), "opus", granted=granted)
    stored = await parts.runs.get(run.id)
    assert (stored.tokens, stored.model) == (Tokens(1, 1), "opus")
    assert (stored.profile, stored.warnings) == (Profile.RULES, ("mind",))


# Ending


async def test_a_run_ends_with_all_that_is_known_of_it(parts: Parts) -> None:
    run = await parts.claimed()
    parts.clock.move(5)
    assert await end(parts, run, replace(DONE, model_usage={"opus": {"cost": 0.5}}))
    ended = await parts.runs.get(run.id)
    assert (ended.state, ended.output, ended.tokens) == (State.FINISHED, "done", Tokens(1, 2, 3, 4))
    assert (ended.total_tokens, ended.cost_usd) == (10, 0.5)
    assert ended.finished_at == MORNING + timedelta(seconds=5)


async def test_a_run_ends_once(parts: Parts) -> None:
    run = await parts.claimed()
    assert [await end(parts, run, DONE), await end(parts, run, FAILED)] == [True, False]
    assert (await parts.runs.get(run.id)).state is State.FINISHED


async def test_an_ending_without_a_count_leaves_the_last_live_one(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.runs.record(run, [], Tokens(7, 8, 9, 10), None)
    await end(parts, run, FAILED)
    assert (await parts.runs.get(run.id)).tokens == Tokens(7, 8, 9, 10)


async def test_the_model_asked_for_stands_until_another_answers(parts: Parts) -> None:
    run = await parts.claimed(model="opus")
    await parts.runs.record(run, [], Tokens(1), None)
    assert (await parts.runs.get(run.id)).model == "opus"


async def test_an_error_without_a_sentence_cannot_be_written(parts: Parts) -> None:
    run = await parts.claimed()
    with pytest.raises(sqlite3.IntegrityError):
        await end(parts, run, Ending(State.ERROR))


async def test_a_pending_run_is_cancelled(parts: Parts) -> None:
    run_id = await parts.pending()
    assert await parts.runs.cancel_pending(run_id, "not wanted", MORNING)
    run = await parts.runs.get(run_id)
    assert (run.state, run.error, run.reason) == (State.CANCELLED, "not wanted", "cancelled")


async def test_a_running_run_is_not_cancelled_as_a_pending_one(parts: Parts) -> None:
    run = await parts.claimed()
    assert not await parts.runs.cancel_pending(run.id, "not wanted", MORNING)


async def test_open_runs_of_a_job_are_those_that_have_not_ended(parts: Parts) -> None:
    job = await parts.job()
    ended = await parts.claimed(job_id=job.id)
    await end(parts, ended, DONE)
    running = await parts.claimed(job_id=job.id)
    waiting = await parts.pending(job_id=job.id)
    await parts.pending()
    assert set(await parts.runs.unfinished(job.id)) == {running.id, waiting}


ALLOWED = {
    State.PENDING: {"claim": State.RUNNING, "cancel": State.CANCELLED},
    State.RUNNING: {"finish": State.FINISHED, "fail": State.ERROR, "stop": State.CANCELLED},
}
ENDINGS = {
    "finish": DONE,
    "fail": FAILED,
    "stop": Ending(State.CANCELLED, error="stopped", reason="cancelled"),
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["claim", "cancel", "record", *ENDINGS]), max_size=6))
async def test_whatever_is_tried_a_run_goes_only_where_it_may(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_parts(Path(folder, "jobs.db")) as parts:
            run_id = await parts.pending()
            state = State.PENDING
            for step in steps:
                run = await parts.runs.get(run_id)
                match step:
                    case "claim":
                        done = await claim(parts) is not None
                    case "cancel":
                        done = await parts.runs.cancel_pending(run_id, "no", MORNING)
                    case "record":
                        assert await parts.runs.record(run, [said("x")]) == (state is State.RUNNING)
                        continue
                    case _:
                        done = await end(parts, run, ENDINGS[step])
                following = ALLOWED.get(state, {}).get(step)
                assert done == (following is not None)
                state = following or state
                assert (await parts.runs.get(run_id)).state is state


def test_a_state_is_final_where_nothing_follows() -> None:
    assert {state for state in State if not state.is_final} == set(ALLOWED)


@pytest.mark.parametrize("trigger", Trigger)
async def test_every_trigger_can_be_written(parts: Parts, trigger: Trigger) -> None:
    run_id = await parts.runs.add(runs.NewRun("go", trigger), MORNING)
    assert (await parts.runs.get(run_id)).trigger is trigger


# Lists


async def ids(parts: Parts, **wanted: Any) -> list[str]:
    return [run.id for run in (await parts.runs.list(RunFilter(**wanted), 100)).runs]


async def several(parts: Parts, count: int) -> list[str]:
    """So many runs, a second apart, newest first."""
    made: list[str] = []
    for _ in range(count):
        made.insert(0, await parts.pending())
        parts.clock.move(1)
    return made


async def test_runs_are_listed_newest_first(parts: Parts) -> None:
    made = await several(parts, 3)
    assert await ids(parts) == made


async def test_a_list_can_be_of_one_jobs_runs(parts: Parts) -> None:
    job = await parts.job()
    of_job = await parts.pending(job_id=job.id)
    await parts.pending()
    assert await ids(parts, job_id=job.id) == [of_job]


async def test_a_list_can_be_of_one_state(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.pending()
    assert await ids(parts, state=State.RUNNING) == [run.id]


async def test_a_list_can_be_of_one_trigger(parts: Parts) -> None:
    await parts.pending()
    quick = await parts.runs.add(runs.NewRun("go", Trigger.QUICK), MORNING)
    assert await ids(parts, trigger=Trigger.QUICK) == [quick]


async def test_a_list_reaches_from_an_instant_up_to_but_not_with_another(parts: Parts) -> None:
    made = await several(parts, 5)
    since, until = MORNING + timedelta(seconds=1), MORNING + timedelta(seconds=3)
    assert await ids(parts, since=since, until=until) == made[2:4]


async def test_a_page_tells_how_many_there_are_in_all(parts: Parts) -> None:
    await several(parts, 3)
    page = await parts.runs.list(ANY, 2)
    assert (len(page.runs), page.total) == (2, 3)


async def test_the_last_page_has_no_cursor(parts: Parts) -> None:
    await several(parts, 2)
    assert (await parts.runs.list(ANY, 2)).next_cursor is None


async def test_an_empty_list_has_no_cursor(parts: Parts) -> None:
    page = await parts.runs.list(ANY, 2)
    assert (page.runs, page.total, page.next_cursor) == ([], 0, None)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
    st.lists(st.integers(0, 2), max_size=5),
    st.integers(1, 4),
)
async def test_paging_gives_every_run_once_while_others_are_added(
    steps: list[int], later: list[int], limit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_parts(Path(folder, "jobs.db")) as parts:
            old = set()
            for step in steps:  # several of one instant among them
                parts.clock.move(step)
                old.add(await parts.pending())
            parts.clock.move(1)
            seen: list[str] = []
            cursor = None
            while True:
                page = await parts.runs.list(ANY, limit, cursor)
                seen += [run.id for run in page.runs]
                if (cursor := page.next_cursor) is None:
                    break
                if later:
                    parts.clock.move(later.pop())
                    await parts.pending()
            assert len(seen) == len(set(seen))
            assert set(seen) == old


async def test_a_cursor_keeps_its_place_when_the_run_before_it_is_gone(parts: Parts) -> None:
    made = await several(parts, 4)
    page = await parts.runs.list(ANY, 2)
    await parts.sql("DELETE FROM runs WHERE id = :id", id=made[1])
    assert [run.id for run in (await parts.runs.list(ANY, 2, page.next_cursor)).runs] == made[2:]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "é",
        "e30=",
        "WzFd",
        "WzEsMl0=",
        "WyJhIiwyXQ==",
        "bnVsbA==",
        "\ud800",
        "W1tbW1tb" * 9999,
    ],
)
async def test_a_cursor_that_no_page_gave_is_refused(parts: Parts, cursor: str) -> None:
    with pytest.raises(
        InvalidError, match="this cursor was not given by list_runs; start without one"
    ) as refused:
        await parts.runs.list(ANY, 2, cursor)
    assert refused.value.field == "cursor"


# Events


async def test_events_are_numbered_from_one_in_the_order_they_came(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.runs.record(run, [said("a"), said("b")])
    await parts.runs.record(run, [said("c")])
    assert [(event.seq, event.body["text"]) for event in await parts.events(run.id)] == [
        (1, "a"), (2, "b"), (3, "c"),
    ]  # fmt: skip


async def test_an_event_is_kept_as_it_was(parts: Parts) -> None:
    run = await parts.claimed()
    body = {"tool": "Read", "input": {"path": "ü", "lines": [1, None]}}
    await parts.runs.record(run, [Event(EventKind.TOOL_USE, body, MORNING)])
    [event] = await parts.events(run.id)
    assert (event.kind, event.body, event.at) == (EventKind.TOOL_USE, body, MORNING)


async def test_events_come_in_pages(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.runs.record(run, [said(str(number)) for number in range(5)])
    pages, after = [], 0
    while True:
        page = await parts.runs.events(run.id, after, 2)
        pages.append([event.seq for event in page.events])
        assert page.total == 5
        if page.next_after is None:
            break
        after = page.next_after
    assert pages == [[1, 2], [3, 4], [5]]


async def test_the_events_of_an_unknown_run_are_none(parts: Parts) -> None:
    page = await parts.runs.events("x", 0, 10)
    assert (page.events, page.total, page.next_after) == ([], 0, None)


async def test_what_was_said_is_the_pieces_joined_with_an_empty_line_between_blocks(parts: Parts) -> None:
    run = await parts.claimed()
    thought = Event(EventKind.THINKING, {"block": 2, "text": "hm"}, MORNING)
    await parts.runs.record(run, [said("Hel"), said("lo."), thought, said("By", 3), said("e.", 3)])
    assert await parts.runs.text_so_far(run.id) == "Hello.\n\nBye."


async def test_before_anything_was_said_the_text_is_empty(parts: Parts) -> None:
    assert await parts.runs.text_so_far((await parts.claimed()).id) == ""


async def test_a_row_edited_by_hand_holds_up_no_other_run(parts: Parts) -> None:
    odd = await parts.pending()
    await parts.sql("UPDATE runs SET tools = 'Read' WHERE id = :id", id=odd)
    good = await parts.pending()
    claimed = await parts.runs.claim("worker", "session", parts.clock.now())
    assert claimed is not None
    assert claimed.id == good
    assert await parts.runs.claim("worker", "session", parts.clock.now()) is None
    [(state, reason, error)] = await parts.sql("SELECT state, reason, error FROM runs WHERE id = :id", id=odd)
    assert (state, reason) == ("error", "unreadable")
    assert "can't be read" in error
    await parts.sql("UPDATE runs SET tools = 'Read' WHERE id = :id", id=good)
    assert await parts.database.read(runs.running) in ({}, {"worker": []})


@pytest.mark.parametrize("statement", ["_CLAIM", "_RUNNING", "_UNFINISHED", "_IN_THE_WAY"])
async def test_what_the_engine_asks_time_and_again_looks_at_open_runs_alone(
    parts: Parts, statement: str
) -> None:
    module = _statements if hasattr(_statements, statement) else _open
    values = {"now": "", "worker": "", "session_id": "", "job_id": "", "held": 0}
    plan = await parts.sql(f"EXPLAIN QUERY PLAN {getattr(module, statement)}", **values)
    steps = [detail for *_, detail in plan if "INDEX runs" in detail or "SCAN" in detail]
    assert steps
    few = ("INDEX runs_open", "INDEX jobs_paused")  # open runs, and the jobs that are paused
    assert all(any(index in step for index in few) for step in steps), steps


async def test_whatever_waits_is_not_read_to_find_what_may_start(parts: Parts) -> None:
    plan = await parts.sql(
        f"EXPLAIN QUERY PLAN {_statements._CLAIM}", now="", worker="", session_id="", held=0
    )
    [search] = [detail for *_, detail in plan if "waiting" in detail]
    assert "COVERING INDEX runs_open" in search
