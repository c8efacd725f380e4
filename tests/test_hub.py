import asyncio
import socket

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.hub import Change, Hub, Topic
from claude_runner.hub._wire import _tell
from tests.support import PATIENCE


def test_a_change_reaches_everyone_who_listens() -> None:
    hub = Hub()
    with hub.subscribe(Topic.JOBS) as one, hub.subscribe(Topic.JOBS) as other:
        hub.publish(Topic.JOBS, "a")
        assert one.take() == other.take() == [Change(Topic.JOBS, "a")]


def test_a_change_of_another_topic_wakes_nobody() -> None:
    hub = Hub()
    with hub.subscribe(Topic.JOBS) as changes:
        hub.publish(Topic.RUNS, "a")
        assert not changes.changed.is_set()


def test_taking_the_changes_leaves_none() -> None:
    hub = Hub()
    with hub.subscribe(Topic.JOBS, Topic.RUNS) as changes:
        hub.publish(Topic.RUNS, "a")
        changes.take()
        assert (changes.changed.is_set(), changes.take()) == (False, [])


def test_nothing_comes_once_the_subscription_is_over() -> None:
    hub = Hub()
    with hub.subscribe(Topic.JOBS) as changes:
        pass
    hub.publish(Topic.JOBS, "a")
    assert changes.take() == []


def test_a_listener_may_be_woken_by_an_event_of_its_own() -> None:
    hub, wake = Hub(), asyncio.Event()
    with hub.subscribe(Topic.JOBS, wake=wake):
        hub.publish(Topic.JOBS, "a")
    assert wake.is_set()


async def test_a_change_between_two_takes_is_not_lost() -> None:
    hub = Hub()
    with hub.subscribe(Topic.JOBS) as changes:
        changes.take()
        hub.publish(Topic.JOBS, "a")
        async with asyncio.timeout(PATIENCE):
            await changes.changed.wait()
        assert changes.take() == [Change(Topic.JOBS, "a")]


@given(st.lists(st.tuples(st.sampled_from(Topic), st.sampled_from("abc"))))
def test_the_same_change_twice_is_one(published: list[tuple[Topic, str]]) -> None:
    hub = Hub()
    with hub.subscribe(*Topic) as changes:
        for topic, key in published:
            hub.publish(topic, key)
        assert changes.take() == list(dict.fromkeys(Change(*pair) for pair in published))


def test_who_tells_another_process_that_has_gone_hears_that_the_connection_is_lost() -> None:
    """On uvloop, whose closed connections raise an error of their own."""

    async def tell() -> None:
        one, other = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=one)
        other.close()
        writer.close()
        await writer.wait_closed()
        hub = Hub()
        with hub.subscribe(Topic.JOBS) as local:
            hub.publish(Topic.JOBS, "a")
            async with asyncio.timeout(PATIENCE):
                await _tell(writer, local)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(ConnectionError):
        runner.run(tell())
