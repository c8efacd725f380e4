"""The page of channels and of what was told: what a person sees and does there, without scripts."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from claude_runner import notifications
from claude_runner.notifications import About, Event, Message, Where
from tests.pages import Site, open_site
from tests.shipped import open_stand_in

SECRET = "hook-of-4711"
ADDRESS = f"json://127.0.0.1:9/{SECRET}"
PLACE = "/notifications"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


async def add(site: Site, name: str = "phone", url: str = ADDRESS) -> str:
    return (await site.app.channels.add(name, url, site.clock.now())).id


async def seen_in(site: Site, channel_id: str) -> str:
    """What the form of a channel bears of when it was filled."""
    page = await site.see(f"{PLACE}/channels/{channel_id}/edit")
    found = re.search(r'name="was" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def tell(site: Site, channel_id: str, count: int) -> None:
    """Have so much told through a channel, for which it is switched off so that nobody sends it."""
    where = Where(channel_id, "phone")

    def write(c: object) -> None:
        for number in range(count):
            now = site.clock.now() + timedelta(seconds=number)
            message = Message(f"Told {number:03}", "It failed.")
            notifications.tell(c, [where], Event.FAILURE, message, About(), now)  # type: ignore[arg-type]

    await site.app.database.write(write)


async def test_where_there_is_no_channel_the_page_says_what_one_is_for(site: Site) -> None:
    page = await site.see(PLACE)
    assert "Nobody hears of anything yet" in page
    assert f'href="{PLACE}/channels/new"' in page
    assert "Nothing was told yet" in page


async def test_a_channel_is_added_and_its_address_is_shown_nowhere_whole(site: Site) -> None:
    assert await site.sent(f"{PLACE}/channels/new", name="phone", url=f" {ADDRESS} ") == PLACE
    [channel] = await site.app.channels.list()
    assert (channel.name, channel.url) == ("phone", ADDRESS)
    for path in (PLACE, f"{PLACE}/channels/{channel.id}/edit"):
        page = await site.see(path)
        assert "phone" in page
        assert channel.shown in page
        assert SECRET not in page


@pytest.mark.parametrize(
    ("name", "url", "said"),
    [
        ("", ADDRESS, "name"),
        ("phone", "pigeon://coop/7", "slack://"),
        ("taken", ADDRESS, "there is a channel 'taken' already"),
    ],
)
async def test_what_can_not_be_a_channel_is_said_at_its_field_and_kept_as_typed(
    site: Site, name: str, url: str, said: str
) -> None:
    await add(site, "taken")
    answer = await site.send(f"{PLACE}/channels/new", name=name, url=url)
    assert answer.status_code in {409, 422}
    assert said in answer.text.replace("&#39;", "'")
    assert f'name="url" class="code" value="{url}"' in answer.text
    assert "Not saved" in answer.text


async def test_a_channel_is_renamed_without_its_address_being_typed_again(site: Site) -> None:
    channel_id = await add(site)
    was = await seen_in(site, channel_id)
    await site.sent(f"{PLACE}/channels/{channel_id}/edit", name="telephone", url="", was=was)
    channel = await site.app.channels.get(channel_id)
    assert (channel.name, channel.url) == ("telephone", ADDRESS)


async def test_what_somebody_else_has_changed_meanwhile_is_said_and_nothing_typed_is_lost(site: Site) -> None:
    channel_id = await add(site)
    was = await seen_in(site, channel_id)
    await site.app.channels.change(channel_id, {"name": "theirs"}, site.clock.now())
    place = f"{PLACE}/channels/{channel_id}/edit"
    answer = await site.send(place, name="mine", url="", was=was)
    assert answer.status_code == 409
    assert "Somebody else has changed this channel" in answer.text
    assert 'name="name" value="mine"' in answer.text
    found = re.search(r'name="was" value="([^"]+)"', answer.text)
    assert found is not None
    await site.sent(place, name="mine", url="", was=found[1].replace("&#43;", "+"))
    assert (await site.app.channels.get(channel_id)).name == "mine"


async def test_one_that_was_deleted_meanwhile_can_be_made_anew(site: Site) -> None:
    channel_id = await add(site)
    await site.app.channels.remove(channel_id, site.clock.now())
    answer = await site.send(f"{PLACE}/channels/{channel_id}/edit", name="mine", url=ADDRESS)
    assert answer.status_code == 404
    assert f'action="{PLACE}/channels/new"' in answer.text


async def test_a_test_says_at_once_what_came_of_it(site: Site) -> None:
    async with open_stand_in() as service:
        service.answers("ok")
        url = service.url.replace("http://", "json://")
        good, bad = await add(site, "good", url), await add(site, "bad")
        await site.sent(f"{PLACE}/channels/{good}/test")
        assert "good took the test" in await site.see(PLACE)
        await site.sent(f"{PLACE}/channels/{bad}/test")
        page = await site.see(PLACE)
        assert "bad did not take the test" in page
        assert "takes nothing" in page
        assert len(service.requests) == 1


async def test_a_channel_is_switched_off_and_on_again_and_deleted(site: Site) -> None:
    channel_id = await add(site)
    place = f"{PLACE}/channels/{channel_id}"
    await site.sent(f"{place}/disable")
    assert "phone is told nothing" in await site.see(PLACE)
    assert not (await site.app.channels.get(channel_id)).enabled
    await site.sent(f"{place}/enable")
    assert (await site.app.channels.get(channel_id)).enabled
    assert await site.sent(f"{place}/delete") == PLACE
    assert await site.app.channels.list() == []


async def test_what_was_told_is_listed_page_by_page_and_by_how_it_stands(site: Site) -> None:
    channel_id = await add(site)
    await site.app.channels.change(channel_id, {"enabled": False}, site.clock.now())
    await tell(site, channel_id, 30)
    first = await site.see(PLACE)
    assert "Told 029" in first
    assert "Told 004" not in first
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = await site.see(older[1])
    assert "Told 004" in second
    assert "Told 029" not in second
    assert "Told 029" in await site.see(f"{PLACE}?state=waiting")
    assert "None is like that" in await site.see(f"{PLACE}?state=sent")


async def test_a_filter_that_can_not_be_read_says_so(site: Site) -> None:
    assert "'lost' is none of waiting, sent, failed" in await site.see(f"{PLACE}?state=lost", 422)
    assert "cursor" in await site.see(f"{PLACE}?cursor=nonsense", 422)


async def test_the_ping_of_a_heartbeat_is_told_by_its_job_and_its_address_is_not(site: Site) -> None:
    job = await site.job(name="Digest")
    url = "https://hc-ping.com/a-secret-uuid"
    await site.app.database.write(
        lambda c: notifications.ping(
            c, url, Event.ENDED, "finished", job_id=job.id, run_id="0", now=site.clock.now()
        )
    )
    page = await site.see(PLACE)
    assert "Heartbeat of Digest" in page
    assert "a-secret-uuid" not in page
