import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from claude_runner.hub import Topic
from claude_runner.recorder import Recorder
from claude_runner.runs import ClosedCall, Event, EventKind, Granted, Run, Runs, Tokens
from tests.parts import Parts, locked, logged, open_parts, said
from tests.support import MORNING, PATIENCE


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


class Called:
    """Something that is called at a moment."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def recorder_of(parts: Parts, run: Run, given_up: Called | None = None) -> Recorder:
    return Recorder(run, parts.runs, parts.clock, Called(), given_up or Called())


def say(recorder: Recorder, *pieces: str, block: int = 1, kind: EventKind = EventKind.TEXT) -> None:
    for piece in pieces:
        recorder.happened(kind, {"block": block, "text": piece})


@asynccontextmanager
async def serving(recorder: Recorder) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(recorder.serve())
        yield
        recorder.close()


async def written(parts: Parts, run: Run, count: int = 1) -> None:
    """Wait until so many events are on the disk."""
    with parts.hub.subscribe(Topic.EVENTS) as changes:
        async with asyncio.timeout(PATIENCE):
            while len(await parts.events(run.id)) < count:
                await changes.changed.wait()
                changes.take()


async def test_the_deltas_of_a_block_are_joined_into_one_event(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    say(recorder, "Hel", "lo", ".")
    assert recorder.rest() == ([said("Hello.")], None)


async def test_an_event_is_of_the_moment_its_first_delta_came(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    say(recorder, "Hel")
    parts.clock.move(1)
    say(recorder, "lo")
    assert [event.at for event in recorder.rest()[0]] == [MORNING]


async def test_deltas_of_two_blocks_stay_apart(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    say(recorder, "a", "b")
    say(recorder, "c", "d", block=2)
    assert recorder.rest()[0] == [said("ab"), said("cd", block=2)]


async def test_thinking_and_text_stay_apart(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    say(recorder, "hm", kind=EventKind.THINKING)
    say(recorder, "a")
    assert [event.kind for event in recorder.rest()[0]] == [EventKind.THINKING, EventKind.TEXT]


async def test_an_event_in_between_keeps_its_place(parts: Parts) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    say(recorder, "a", "b")
    recorder.happened(EventKind.TOOL_USE, {"id": "t1", "name": "Read", "input": {}})
    say(recorder, "c")
    assert recorder.rest()[0] == [
        said("ab"),
        Event(EventKind.TOOL_USE, {"id": "t1", "name": "Read", "input": {}}, MORNING),
        said("c"),
    ]


async def test_what_is_heard_is_written_while_the_run_goes_on(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    async with serving(recorder):
        say(recorder, "Hel", "lo.")
        await written(parts, run)
        assert await parts.runs.text_so_far(run.id) == "Hello."


async def test_what_comes_at_once_is_written_in_one_go(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    with parts.hub.subscribe(Topic.EVENTS) as changes:
        async with serving(recorder):
            for number in range(100):
                say(recorder, "x", block=number)
            await changes.changed.wait()
            assert len(await parts.events(run.id)) == 100


async def test_a_block_that_goes_on_after_a_flush_reads_as_one(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    async with serving(recorder):
        say(recorder, "Hel")
        await written(parts, run)
        say(recorder, "lo.")
        await written(parts, run, 2)
    assert await parts.runs.text_so_far(run.id) == "Hello."


async def test_what_is_not_written_when_it_closes_is_the_rest(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    async with serving(recorder):
        say(recorder, "bye")
        recorder.used(Tokens(3, 4), "opus")
    assert recorder.rest() == ([said("bye")], Tokens(3, 4))


async def test_one_that_is_closed_at_the_very_moment_it_begins_to_write_ends(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorder_of(parts, await parts.claimed())
    take = recorder._texts.take

    def close_and_take() -> list[Event]:
        recorder.close()
        return take()

    monkeypatch.setattr(recorder._texts, "take", close_and_take)
    say(recorder, "bye")
    async with asyncio.timeout(PATIENCE):
        await recorder.serve()


async def test_the_live_count_is_written_with_the_model(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    async with serving(recorder):
        recorder.used(Tokens(1, 1), None)
        recorder.used(Tokens(3, 4), "opus")
        say(recorder, "x")
        await written(parts, run)
        stored = await parts.runs.get(run.id)
        assert (stored.tokens, stored.model) == (Tokens(3, 4), "opus")


async def test_a_count_that_is_no_news_is_not_written_again(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    async with serving(recorder):
        recorder.used(Tokens(3, 4), "opus")
        say(recorder, "x")
        await written(parts, run)
        await parts.sql("UPDATE runs SET input_tokens = 99")
        say(recorder, "y", block=2)
        await written(parts, run, 2)
    assert (await parts.runs.get(run.id)).tokens.input == 99


async def test_a_database_that_refuses_for_a_while_loses_nothing_and_keeps_the_order(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    with logged("claude_runner.recorder") as log:
        async with serving(recorder):
            say(recorder, "a")
            await written(parts, run)
            with locked(parts.path):
                say(recorder, "b")
                recorder.used(Tokens(5), "opus")
                await log.line("its events wait in memory")
                say(recorder, "c")
                recorder.happened(EventKind.NOTICE, {"text": "d"})
                await log.line("its events wait in memory", count=2)
                say(recorder, "e", block=2)
            await written(parts, run, 5)
    assert [event.body["text"] for event in await parts.events(run.id)] == list("abcde")
    assert (await parts.runs.get(run.id)).tokens == Tokens(5)


class MeanwhileRuns(Runs):
    """Runs that do something else as well when they are to be written to, once."""

    meanwhile: Callable[[], None] | None = None

    async def record(  # type: ignore[explicit-override]  # typing.override is of 3.12
        self,
        run: Run,
        events: Sequence[Event],
        tokens: Tokens | None = None,
        model: str | None = None,
        calls: Sequence[ClosedCall] = (),
        granted: Granted | None = None,
        cost_usd: float | None = None,
    ) -> bool:
        if self.meanwhile is not None:
            self.meanwhile()
            self.meanwhile = None
        return await super().record(run, events, tokens, model, calls, granted, cost_usd)


async def test_what_is_said_while_the_database_refuses_comes_after_what_it_refused(parts: Parts) -> None:
    run = await parts.claimed()
    runs = MeanwhileRuns(parts.database, parts.hub)
    recorder = Recorder(run, runs, parts.clock, Called(), Called())
    runs.meanwhile = lambda: say(recorder, "c", "d")
    with logged("claude_runner.recorder") as log, locked(parts.path):
        async with serving(recorder):
            say(recorder, "a", "b")
            await log.line("its events wait in memory")
    assert "".join(event.body["text"] for event in recorder.rest()[0]) == "abcd"


async def test_what_a_database_refused_to_the_end_is_the_rest(parts: Parts) -> None:
    run = await parts.claimed()
    recorder = recorder_of(parts, run)
    with logged("claude_runner.recorder") as log, locked(parts.path):
        async with serving(recorder):
            say(recorder, "a")
            await log.line("its events wait in memory")
            say(recorder, "b", block=2)
    assert recorder.rest()[0] == [said("a"), said("b", block=2)]


async def test_an_attempt_that_was_ended_by_someone_else_is_given_up(parts: Parts) -> None:
    run = await parts.claimed()
    await parts.sql("UPDATE runs SET attempt = attempt + 1")
    given_up = Called()
    recorder = recorder_of(parts, run, given_up)
    with parts.hub.subscribe(Topic.EVENTS) as changes:
        async with serving(recorder):
            say(recorder, "late")
            async with asyncio.timeout(PATIENCE):
                await changes.changed.wait()
    assert (given_up.times, await parts.events(run.id)) == (1, [])


async def test_it_tells_when_the_agent_is_up(parts: Parts) -> None:
    start_is_over = Called()
    recorder = Recorder(await parts.claimed(), parts.runs, parts.clock, start_is_over, Called())
    recorder.started()
    assert start_is_over.times == 1
