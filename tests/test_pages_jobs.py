"""The pages of jobs: the list, one job, its form, and what its buttons do."""

import gzip
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from claude_runner.app import App
from claude_runner.hub import Topic
from claude_runner.jobs import Job, Overlap, Policy
from claude_runner.runs import Ending, RunQuery, State
from tests.pages import Site, open_site
from tests.support import FakeAgent, ended, running, until

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path, "Europe/Berlin") as site:
        yield site


@pytest.fixture(scope="module")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """What tests share that change nothing in it."""
    async with open_site(tmp_path_factory.mktemp("still"), "Europe/Berlin") as site:
        yield site


FORM: dict[str, Any] = {
    "name": "Morning",
    "prompt": "say good morning",
    "cron": "0 9 * * *",
    "timezone": "UTC",
    "enabled": "on",
    "grants": "all",
    "profile": "default",
    "commands": "",
    "model": "",
    "timeout_minutes": "30",
    "do": "save",
}


def hidden(page: str, name: str) -> str:
    match = re.search(rf'<input type="hidden" name="{name}" value="([^>]*)">', page)
    assert match is not None
    return unescape(match[1])


# The list


async def test_without_jobs_the_list_says_what_a_job_is_and_how_to_make_one(still: Site) -> None:
    page = await still.see("/jobs")
    assert "No jobs yet" in page
    assert 'href="/jobs/new"' in page


async def test_the_list_tells_of_each_job_when_it_runs_and_how_it_is(site: Site) -> None:
    job = await site.job(name="Digest", cron="0 9 * * 1-5", timezone="Asia/Tokyo")
    await ended(site.app, (await site.app.trigger(job.id)).id)
    await site.job(name="Sleeper", enabled=False)

    page = await site.see("/jobs")

    assert "At 09:00, Monday through Friday, Asia/Tokyo" in page
    assert "The last 1 results, none failed" in page
    assert "$0.01" in page
    assert '<span class="badge ok">ok</span>' in page
    assert '<span class="badge skip">off</span>' in page


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=digest", ["Digest"]),
        ("q=news+of", ["Digest"]),
        ("state=paused", ["Sleeper"]),
        ("state=enabled", ["Alarm", "Digest"]),
        ("state=paused&q=digest", []),
        ("sort=name&down=yes", ["Sleeper", "Digest", "Alarm"]),
        ("sort=next", ["Alarm", "Digest", "Sleeper"]),
    ],
)
async def test_the_list_is_searched_narrowed_and_ordered_by_its_address(
    site: Site, query: str, names: list[str]
) -> None:
    await site.job(name="Digest", prompt="the news of the day", cron="0 20 * * *")
    await site.job(name="Sleeper", enabled=False)
    await site.job(name="Alarm", cron="0 10 * * *")

    page = await site.see(f"/jobs?{query}")

    assert re.findall(r'<th scope="row"><a href="/jobs/\w+">(\w+)</a>', page) == names
    assert ("No job matches" in page) == (not names)


async def test_a_click_on_a_column_turns_its_order_around(site: Site) -> None:
    await site.job()
    page = await site.see("/jobs?sort=cost&down=yes&state=enabled")
    assert re.search(r'aria-sort="descending"><a href="/jobs\?state=enabled&sort=cost">Cost per run', page)


async def test_forty_jobs_are_a_page(site: Site) -> None:
    for number in range(42):
        await site.job(name=f"Job {number:02}")

    first, second = await site.see("/jobs"), await site.see("/jobs?page=2")

    assert "Page 1 of 2, 42 jobs" in first
    assert "Job 39" in first
    assert "Job 40" not in first
    assert "Job 40" in second
    assert "The list ends before this page" in await site.see("/jobs?page=9")


@pytest.mark.parametrize("query", ["state=asleep", "sort=colour", "page=none", "page=0", "down=perhaps"])
async def test_what_the_list_can_not_be_asked_for_is_said(still: Site, query: str) -> None:
    page = await still.see(f"/jobs?{query}", 422)
    assert 'role="alert"' in page


async def test_a_job_that_was_spoiled_by_hand_is_named_and_the_others_are_listed(site: Site) -> None:
    spoiled, _ = await site.job(name="Spoiled"), await site.job(name="Sound")
    await site.app.database.write(
        lambda c: c.execute("UPDATE jobs SET tools = 'none' WHERE id = ?", (spoiled.id,)).rowcount
    )
    page = await site.see("/jobs")
    assert f"<code>{spoiled.id}</code>" in page
    assert "Sound" in page


async def test_an_open_list_asks_for_the_list_alone(site: Site) -> None:
    for number in range(40):
        await site.job(name=f"A job with a name of some length, number {number:02}")
    headers = {"X-Live": "jobs", "Accept-Encoding": "gzip"}
    answer = await site.client.get("/jobs", headers=headers)
    assert answer.status_code == 200
    packed = gzip.compress(answer.content, 3)
    assert len(packed) <= 5 * 1024


# What the buttons do


async def test_a_job_is_run_by_hand_and_its_run_is_looked_at(site: Site) -> None:
    job = await site.job()
    path = await site.sent(f"/jobs/{job.id}/run", once="1")
    run = await ended(site.app, path.removeprefix("/runs/"))
    assert (run.job_id, run.trigger) == (job.id, "manual")


async def test_a_button_that_is_pressed_twice_runs_a_job_once(site: Site) -> None:
    job = await site.job()
    first, second = [await site.sent(f"/jobs/{job.id}/run", once="same") for _ in range(2)]
    assert first == second
    assert len((await site.app.runs.search(_runs_of(job), 10)).runs) == 1


def _runs_of(job: Job) -> RunQuery:
    return RunQuery(job_id=job.id)


async def test_from_the_list_one_stays_on_the_list(site: Site) -> None:
    job = await site.job()
    path = await site.sent(f"/jobs/{job.id}/run?{urlencode({'back': '/jobs?q=morning'})}", once="1")
    assert path == "/jobs?q=morning"
    assert "“Morning” runs now." in await site.see(path)


async def test_nobody_is_sent_to_another_site(site: Site) -> None:
    job = await site.job()
    path = await site.sent(f"/jobs/{job.id}/pause?{urlencode({'back': '//evil.example/'})}", once="1")
    assert path == f"/jobs/{job.id}"


async def test_a_job_is_switched_off_and_on_and_either_notice_takes_it_back(site: Site) -> None:
    job = await site.job(enabled=False)
    assert "It is off: it runs only by hand" in await site.see(f"/jobs/{job.id}")

    page = await site.see(await site.sent(f"/jobs/{job.id}/switch-on", once="1"))

    assert "“Morning” is on its schedule again." in page
    assert (await site.app.jobs.get(job.id)).next_run_at is not None
    [undo] = re.findall(r'<form method="post" action="([^"]*/switch-off\?[^"]*)"', page)
    page = await site.see(await site.sent(undo, once="2"))
    assert (await site.app.jobs.get(job.id)).next_run_at is None
    assert re.search(r'action="[^"]*/switch-on\?', page)


async def test_a_copy_is_off_and_opened_in_the_form(site: Site) -> None:
    job = await site.job(name="N" * 200, tools=("Read",), commands=("git status",))

    path = await site.sent(f"/jobs/{job.id}/duplicate", once="1")

    page = await site.see(path)
    copy = await site.app.jobs.get(path.split("/")[2])
    assert copy.name == f"{'N' * 193} (copy)"
    assert (copy.prompt, copy.tools, copy.enabled) == (job.prompt, ("Read",), False)
    assert "This is a copy" in page


async def test_a_job_that_is_deleted_twice_with_one_form_is_deleted_once(site: Site) -> None:
    job = await site.job()
    once = hidden(await site.see(f"/jobs/{job.id}"), "once")
    for _ in range(2):
        assert await site.sent(f"/jobs/{job.id}/delete", once=once) == "/jobs"
    assert f'action="/jobs/{job.id}/restore"' in await site.see("/jobs")


async def test_a_deleted_job_comes_back_with_its_runs_by_undo(site: Site) -> None:
    job = await site.job()
    await ended(site.app, (await site.app.trigger(job.id)).id)

    page = await site.see(await site.sent(f"/jobs/{job.id}/delete", once="1"))

    assert "Deleted: “Morning”" in page
    assert "Deleted in the last hour" in page
    assert "No jobs yet" in page
    gone = await site.see(f"/jobs/{job.id}", 410)
    assert f'action="/jobs/{job.id}/restore"' in gone
    assert (await site.client.get(f"/jobs/{job.id}", headers={"X-Live": "glance"})).status_code == 410
    path = await site.sent(f"/jobs/{job.id}/restore", once="2")
    assert "is back, as it was" in await site.see(path)
    assert len((await site.app.runs.search(_runs_of(job), 10)).runs) == 1
    assert "Deleted in the last hour" not in await site.see("/jobs")


@pytest.mark.parametrize(
    "action",
    ["run", "pause", "resume", "switch-off", "switch-on", "duplicate", "delete", "restore", "rehearse"],
)
async def test_what_is_done_to_a_job_that_there_is_not_is_answered_with_a_page(
    still: Site, action: str
) -> None:
    answer = await still.send(f"/jobs/00000000/{action}", **FORM)
    assert answer.status_code == 404
    assert "Nothing is here" in answer.text
    assert (await still.client.get("/jobs/00000000")).status_code == 404


# One job


async def test_a_job_is_shown_whole(site: Site) -> None:
    job = await site.job(
        name="Digest <b>",
        prompt="read & tell",
        cron="30 7 * * *",
        tools=("Read", "mcp__email__*"),
        model="sonnet",
    )
    for _ in range(2):
        await ended(site.app, (await site.app.trigger(job.id)).id)

    raw = (await site.client.get(f"/jobs/{job.id}")).text
    page = unescape(raw)

    assert "Digest &lt;b&gt;" in raw
    assert "At 07:30" in page
    assert "read & tell" in page
    assert "mcp__email__*" in page
    assert "Cost of the last runs" in page
    assert page.count('<time datetime="2026-11-2') >= 3
    assert f"/runs?job={job.id}" in page


async def test_a_job_that_never_ran_offers_a_rehearsal(site: Site) -> None:
    job = await site.job()
    assert "It has not run yet" in await site.see(f"/jobs/{job.id}")


async def test_each_part_of_a_job_is_asked_for_by_itself(site: Site) -> None:
    job = await site.job()
    for part in ("glance", "rights", "next", "history", "memory", "folder"):
        answer = await site.client.get(f"/jobs/{job.id}", headers={"X-Live": part})
        assert answer.status_code == 200, answer.text
        assert re.search(rf'<\w+[^>]* id="{part}"', answer.text)


async def test_a_tool_that_is_no_longer_to_be_had_is_warned_of(site: Site) -> None:
    job = await site.job(tools=("mcp__weather__get_forecast",))
    assert "'mcp__weather__get_forecast' is not a tool of any server here" in await site.see(
        f"/jobs/{job.id}"
    )


async def test_the_notes_and_the_last_failure_of_a_job_are_shown(tmp_path: Path) -> None:
    async def fail(*_: Any) -> Ending:
        return Ending(State.ERROR, error="the moon was full <i>", reason="agent_crashed")

    async with open_site(tmp_path, agent=FakeAgent(fail)) as site:
        job = await site.job()
        await ended(site.app, (await site.app.trigger(job.id)).id)
        page = (await site.client.get(f"/jobs/{job.id}")).text
    assert "the moon was full &lt;i&gt;" in page
    assert "failed: agent crashed" in page
    assert '<span class="badge bad">failing</span>' in page


async def test_a_job_that_is_running_says_so_and_leads_to_its_run(tmp_path: Path) -> None:
    async with open_site(tmp_path, agent=FakeAgent(FakeAgent.wait_for_stop)) as site:
        job = await site.job()
        run = await running(site.app, (await site.app.trigger(job.id)).id)
        for path in ("/jobs", f"/jobs/{job.id}", "/jobs?state=running"):
            assert f'<a class="badge run" href="/runs/{run.id}">running</a>' in await site.see(path)


# The folder


async def test_the_folder_of_a_job_is_shown(site: Site) -> None:
    job = await site.job()
    folder = site.app.settings.playground / job.id
    folder.mkdir(parents=True)
    (folder / "<script>.md").write_text("hi")
    answer = await site.client.get(f"/jobs/{job.id}")
    assert "<bdi>&lt;script&gt;.md</bdi>" in answer.text


# The form


async def test_a_job_is_made_with_the_form(site: Site) -> None:
    page = await site.see("/jobs/new")
    assert 'value="Europe/Berlin"' in page  # the owner's

    path = await site.sent(
        "/jobs/new", **FORM | {"once": hidden(page, "once"), "commands": " git  status \r\n\r\nls"}
    )

    job = await site.app.jobs.get(path.removeprefix("/jobs/"))
    assert (job.name, job.cron, job.timezone, job.tools, job.profile) == (
        "Morning",
        "0 9 * * *",
        "UTC",
        (),
        None,
    )
    assert job.commands == ("git status", "ls")
    assert job.next_run_at == datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert "Job created" in await site.see(path)


async def test_a_form_that_is_sent_twice_makes_one_job(site: Site) -> None:
    first, second = [await site.sent("/jobs/new", **FORM | {"once": "same"}) for _ in range(2)]
    assert first == second
    assert len(await site.app.jobs.list()) == 1


async def test_an_address_can_fill_the_form(still: Site) -> None:
    page = await still.see(f"/jobs/new?{urlencode({'prompt': 'water the <plants>', 'cron': '0 6 * * *'})}")
    assert "water the <plants></textarea>" in page
    assert "At 06:00" in page


async def test_all_that_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(site: Site) -> None:
    wrong = {
        "name": " ",
        "prompt": "keep\r\nthis",
        "cron": "0 25 * * *",
        "timeout_minutes": "soon",
        "model": "???",
    }
    wrong |= {"commands": "rm -rf / ; ls", "once": "1"}

    answer = await site.send("/jobs/new", **FORM | wrong)
    page = unescape(answer.text)

    assert answer.status_code == 422
    for field in ("name", "cron", "timeout_minutes", "model", "commands"):
        assert f'id="h-{field}"' in page
        assert re.search(rf'name="{field}"[^>]* aria-invalid="true"', page)
    assert "25 is out of range for the hour" in page
    assert "keep\nthis</textarea>" in page
    assert 'value="soon"' in page
    assert not await site.app.jobs.list()
    assert (await site.sent("/jobs/new", **FORM | {"once": "1"})).startswith("/jobs/")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("timezone", "Mars/Olympus", "is not a time zone"),
        ("profile", "almighty", "is not one of the profiles"),
        ("profile", "full", "sandbox_mode"),
        ("prompt", "bell \x07", "control character U+0007"),
        ("timeout_minutes", "1441", "is not a time limit"),
        ("timeout_minutes", "99999999999999999999", "is not a time limit"),
        ("timeout_minutes", "\u0663", "is not a time limit"),
        ("timeout_minutes", "000000030" + "9" * 5_000, "is not a time limit"),
    ],
)
async def test_a_value_that_can_not_be_used_is_refused(
    still: Site, field: str, value: str, sentence: str
) -> None:
    answer = await still.send("/jobs/new", **FORM | {field: value, "once": "1"})
    assert answer.status_code == 422
    assert sentence in unescape(answer.text)


async def test_tools_are_ticked_and_those_that_are_gone_stay_ticked(site: Site) -> None:
    job = await site.job(tools=("Read", "mcp__gone__tool"))

    page = await site.see(f"/jobs/{job.id}/edit")

    assert re.search(r'value="Read" checked', page)
    assert re.search(r'value="mcp__gone__tool" checked', page)
    assert re.search(r'value="mcp__runner__\*">', page)
    chosen = FORM | {"grants": "some", "tools": ["Read", "WebSearch"], "once": "1"}
    await site.sent(f"/jobs/{job.id}/edit", **chosen)
    assert (await site.app.jobs.get(job.id)).tools == ("Read", "WebSearch")
    await site.sent(f"/jobs/{job.id}/edit", **chosen | {"grants": "all", "once": "2"})
    assert (await site.app.jobs.get(job.id)).tools == ()


async def test_only_these_tools_and_then_none_is_not_taken_for_all(still: Site) -> None:
    answer = await still.send("/jobs/new", **FORM | {"grants": "some", "once": "1"})
    assert answer.status_code == 422
    assert "tick at least one tool" in answer.text


async def test_a_prompt_that_begins_with_an_empty_line_keeps_it(site: Site) -> None:
    job = await site.job(prompt="\n\nread")
    assert ">\n\n\nread</textarea>" in await site.see(f"/jobs/{job.id}/edit")


# Stale edits


async def test_a_change_that_somebody_else_made_meanwhile_is_shown_and_nothing_is_lost(site: Site) -> None:
    job = await site.job()
    page = await site.see(f"/jobs/{job.id}/edit")
    mine = FORM | {"was": hidden(page, "was"), "seen": hidden(page, "seen"), "once": "1"}
    mine |= {"name": "Mine", "prompt": "my prompt"}
    await site.app.jobs.change(job.id, {"name": "Theirs", "cron": "0 10 * * *"}, site.clock.now() + MINUTE)

    answer = await site.send(f"/jobs/{job.id}/edit", **mine)
    told = unescape(answer.text)

    assert answer.status_code == 409
    assert "Somebody else changed this job" in told
    assert re.search(r"Name</th><td><span class=\"clamp\">Theirs</span></td><td>yours", told)
    assert re.search(r"Schedule</th><td><span class=\"clamp\">0 10 \* \* \*</span></td><td>theirs", told)
    assert 'name="name" value="Mine"' in told
    assert 'name="cron" value="0 10 * * *"' in told
    assert "my prompt</textarea>" in told
    assert (await site.app.jobs.get(job.id)).name == "Theirs"

    again = mine | {
        "was": hidden(told, "was"),
        "seen": hidden(told, "seen"),
        "once": "2",
        "cron": "0 10 * * *",
    }
    await site.sent(f"/jobs/{job.id}/edit", **again)
    saved = await site.app.jobs.get(job.id)
    assert (saved.name, saved.cron, saved.prompt) == ("Mine", "0 10 * * *", "my prompt")


async def test_a_form_without_what_it_showed_still_says_what_differs(site: Site) -> None:
    job = await site.job()
    stale = FORM | {"was": (job.updated_at - MINUTE).isoformat(), "seen": "{", "name": "Mine", "once": "1"}
    answer = await site.send(f"/jobs/{job.id}/edit", **stale)
    assert answer.status_code == 409
    assert 'name="name" value="Mine"' in answer.text


# The preview


async def test_a_schedule_is_shown_in_words_and_days_as_it_is_typed(still: Site) -> None:
    page = await still.see("/jobs/preview?" + urlencode({"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}))
    assert "At 09:00, Monday through Friday" in page
    assert page.count("<time datetime") == 20  # each with how far it is
    assert "<html" not in page


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (datetime(2027, 3, 26, 12, tzinfo=UTC), "Clocks go forward from 02:00 to 03:00 on Sun 28 Mar 2027"),
        (datetime(2027, 10, 28, 12, tzinfo=UTC), "Clocks go back from 03:00 to 02:00 on Sun 31 Oct 2027"),
    ],
)
async def test_a_change_of_the_clocks_is_marked_where_it_comes(site: Site, now: datetime, words: str) -> None:
    site.clock.jump(now - site.clock.now())
    query = urlencode({"cron": "30 2 * * *", "timezone": "Europe/Berlin"})
    page = await site.see(f"/jobs/preview?{query}")
    assert page.count('class="change"') == 1
    assert words in page


async def test_a_schedule_that_fires_on_either_side_of_a_year_has_no_change_to_mark(still: Site) -> None:
    page = await still.see("/jobs/preview?" + urlencode({"cron": "0 0 1 1 *", "timezone": "Europe/Berlin"}))
    assert "change" not in page


@pytest.mark.parametrize(
    ("cron", "timezone", "sentence"),
    [
        ("0 25 * * *", "UTC", "25 is out of range for the hour"),
        ("", "UTC", "the schedule is empty"),
        ("0 9 * * *", "Nowhere", "is not a time zone"),
        ("0 0 30 2 *", "UTC", "never fires"),
        ("<script>", "UTC", "has 1 field"),
    ],
)
async def test_what_is_wrong_with_a_schedule_is_a_sentence(
    still: Site, cron: str, timezone: str, sentence: str
) -> None:
    answer = await still.client.get("/jobs/preview?" + urlencode({"cron": cron, "timezone": timezone}))
    assert answer.status_code == 200
    assert sentence in unescape(answer.text)
    assert "<script>" not in answer.text


async def test_without_a_script_a_button_shows_the_schedule_and_keeps_what_was_typed(site: Site) -> None:
    typed = FORM | {"do": "preview", "cron": "*/15 * * * *", "name": "", "prompt": "half a sen", "once": "1"}
    job = await site.job()
    for path in ("/jobs/new", f"/jobs/{job.id}/edit"):
        answer = await site.send(path, **typed)
        assert answer.status_code == 200
        assert "Every 15 minutes" in answer.text
        assert "half a sen</textarea>" in answer.text
    assert (await site.app.jobs.get(job.id)).cron == "0 9 * * *"


async def test_a_time_that_is_past_is_said_at_the_field_of_the_schedule(site: Site) -> None:
    past = FORM | {"cron": "at 2026-11-23 08:00", "once": "1"}
    job = await site.job()
    for path in ("/jobs/new", f"/jobs/{job.id}/edit"):
        answer = await site.send(path, **past)
        assert answer.status_code == 422
        assert "'at 2026-11-23 08:00' is past: in UTC it is 2026-11-23 08:59 now" in unescape(answer.text)
    assert [each.cron for each in await site.app.jobs.list()] == ["0 9 * * *"]


async def test_an_interval_is_counted_from_when_its_form_is_sent(site: Site) -> None:
    page = await site.see("/jobs/preview?" + urlencode({"cron": "every 90 minutes", "timezone": "UTC"}))
    assert "Every 90 minutes from 2026-11-23 08:59" in page
    path = await site.sent("/jobs/new", **FORM | {"cron": "every 90 minutes", "once": "1"})
    job = await site.app.jobs.get(path.removeprefix("/jobs/"))
    assert job.cron == "every 90 minutes from 2026-11-23 08:59+00:00"
    assert "Every 90 minutes from 2026-11-23 08:59" in await site.see(path)


async def _is_over(app: App, job_id: str) -> bool:
    return (await app.jobs.get(job_id)).is_over


async def test_a_job_that_is_over_says_so_and_can_be_changed(site: Site) -> None:
    job = await site.job(cron="at 2026-11-23 09:00")
    site.clock.move(2 * MINUTE)
    await until(lambda: _is_over(site.app, job.id), site.app, Topic.RUNS)
    [run] = (await site.app.runs.search(RunQuery(job_id=job.id), 1)).runs
    await ended(site.app, run.id)

    page = await site.see(f"/jobs/{job.id}")
    assert "nothing more comes" in page
    assert "can&#39;t be read" not in page
    assert '<span class="badge ok">ok</span>' in await site.see("/jobs")
    path = await site.sent(f"/jobs/{job.id}/edit", **FORM | {"cron": job.cron, "name": "Other", "once": "1"})
    assert "Other" in await site.see(path)


# Rehearsals


async def test_a_rehearsal_is_offered_at_an_address_of_its_own(site: Site) -> None:
    job = await site.job()
    page = await site.see(f"/jobs/{job.id}/rehearse")
    assert "no token is spent" in page
    assert f'action="/jobs/{job.id}/rehearse"' in page


async def test_the_page_of_a_job_tells_its_rules(site: Site) -> None:
    job = await site.job(policy=Policy(overlap=Overlap.QUEUE_ONE, max_retries=0))
    page = await site.see(f"/jobs/{job.id}")
    assert "one waits, more are skipped</dd>" in page
    assert 'the latest slot is caught up <span class="muted">(default)</span>' in page
