"""Schedules that are no cron: each so many minutes, hours, days or weeks, and one time."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.schedule import parse
from tests.test_schedule_dst import EDGES, walk

NOW = datetime(2026, 11, 28, 10, 0, 37, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def fires(expression: str, count: int = 3, after: datetime = NOW, timezone: str = "UTC") -> list[str]:
    """Return the next fires as "Sat 2026-11-28 11:30", on the schedule's clock."""
    upcoming = parse(expression, timezone, NOW).upcoming(after, count)
    return [fire.strftime("%a %Y-%m-%d %H:%M") for fire in upcoming]


def refused(expression: str, timezone: str = "UTC", now: datetime | None = NOW) -> str:
    with pytest.raises(InvalidError) as error:
        parse(expression, timezone, now)
    assert error.value.field == "cron"
    return str(error.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("every minute", ["Sat 2026-11-28 10:01", "Sat 2026-11-28 10:02", "Sat 2026-11-28 10:03"]),
        ("every 90 minutes", ["Sat 2026-11-28 11:30", "Sat 2026-11-28 13:00", "Sat 2026-11-28 14:30"]),
        ("Every 90m", ["Sat 2026-11-28 11:30", "Sat 2026-11-28 13:00", "Sat 2026-11-28 14:30"]),
        ("every hour", ["Sat 2026-11-28 11:00", "Sat 2026-11-28 12:00", "Sat 2026-11-28 13:00"]),
        ("every 1 hours", ["Sat 2026-11-28 11:00", "Sat 2026-11-28 12:00", "Sat 2026-11-28 13:00"]),
        ("every 36 hours", ["Sun 2026-11-29 22:00", "Tue 2026-12-01 10:00", "Wed 2026-12-02 22:00"]),
        ("every day", ["Sun 2026-11-29 10:00", "Mon 2026-11-30 10:00", "Tue 2026-12-01 10:00"]),
        ("every 3 days", ["Tue 2026-12-01 10:00", "Fri 2026-12-04 10:00", "Mon 2026-12-07 10:00"]),
        ("every 2 weeks", ["Sat 2026-12-12 10:00", "Sat 2026-12-26 10:00", "Sat 2027-01-09 10:00"]),
        # The anchor itself is the first, whether it is to come or past.
        (
            "every 3 days from 2026-12-01 09:00",
            ["Tue 2026-12-01 09:00", "Fri 2026-12-04 09:00", "Mon 2026-12-07 09:00"],
        ),
        (
            "every 5 hours from 2026-11-28T07:00Z",
            ["Sat 2026-11-28 12:00", "Sat 2026-11-28 17:00", "Sat 2026-11-28 22:00"],
        ),
        ("every week from 2026-11-30 09:00:30", ["Mon 2026-11-30 09:00", "Mon 2026-12-07 09:00"]),
    ],
)
def test_an_interval_fires_in_steps_from_its_anchor(expression: str, expected: list[str]) -> None:
    assert fires(expression, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "timezone", "kept"),
    [
        ("every 90 minutes", "UTC", "every 90 minutes from 2026-11-28 10:00+00:00"),
        ("every 1 hour", "Asia/Kolkata", "every hour from 2026-11-28 15:30+05:30"),
        ("every 2 hours from 2026-11-28 09:00", "Europe/Berlin", "every 2 hours from 2026-11-28 09:00+01:00"),
        ("every 3 days", "Europe/Berlin", "every 3 days from 2026-11-28 11:00"),
        ("every day from 2026-12-01T09:00+00:00", "Europe/Berlin", "every day from 2026-12-01 10:00"),
        ("EVERY  2 Weeks FROM 2026-11-30t09:00:30", "UTC", "every 2 weeks from 2026-11-30 09:00:30"),
        ("at 2026-12-01T09:00", "Europe/Berlin", "at 2026-12-01 09:00"),
        ("At 2026-12-01 09:00:05 -05:00", "UTC", "at 2026-12-01 09:00:05-05:00"),
    ],
)
def test_a_schedule_is_kept_so_that_it_means_the_same_whenever_it_is_read_again(
    expression: str, timezone: str, kept: str
) -> None:
    schedule = parse(expression, timezone, NOW)

    assert schedule.expression == kept
    assert parse(kept, timezone) == parse(kept, timezone, NOW - DAY) == schedule
    assert parse(kept, timezone).upcoming(NOW, 3) == schedule.upcoming(NOW, 3)


def test_an_interval_without_an_anchor_is_kept_as_it_is_until_somebody_tells_the_time() -> None:
    schedule = parse("every 2  weeks", "UTC")

    assert schedule.expression == "every 2 weeks"
    assert schedule.describe() == "Every 2 weeks on Monday at 00:00"
    assert schedule.next(NOW) is not None


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("every 90 minutes", "Every 90 minutes from 2026-11-28 10:00"),
        ("every hour", "Every hour from 2026-11-28 10:00"),
        ("every day from 2026-12-01 09:00", "Every day at 09:00"),
        ("every 3 days from 2026-12-01 09:00", "Every 3 days at 09:00, from 2026-12-01"),
        ("every week from 2026-11-30 09:00", "Every week on Monday at 09:00"),
        ("every 2 weeks from 2026-11-30 09:00", "Every 2 weeks on Monday at 09:00, from 2026-11-30"),
        ("at 2026-12-01 09:00", "Once, on Tuesday 2026-12-01 at 09:00"),
    ],
)
def test_intervals_and_single_times_are_said_in_words(expression: str, words: str) -> None:
    assert parse(expression, "UTC", NOW).describe() == words


def test_a_time_with_an_offset_is_said_on_the_clock_of_the_job() -> None:
    assert (
        parse("at 2026-12-01 09:00-05:00", "Europe/Berlin").describe()
        == "Once, on Tuesday 2026-12-01 at 15:00"
    )


# In Berlin 02:00 to 03:00 is skipped on 2027-03-28 and repeated on 2027-10-31; on Lord Howe the clocks change by half
# an hour: 02:00 to 02:30 is skipped on 2026-10-04, 01:30 to 02:00 repeated on 2027-04-04.
@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        (
            "every 90 minutes from 2027-03-28 00:00",
            "Europe/Berlin",
            "2027-03-28T00:00+01:00",
            ["01:30+01:00", "04:00+02:00", "05:30+02:00"],
        ),
        (
            "every hour from 2027-10-31 01:15",
            "Europe/Berlin",
            "2027-10-31T01:00+02:00",
            ["01:15+02:00", "02:15+02:00", "02:15+01:00", "03:15+01:00"],
        ),
        (
            "every day from 2027-03-27 02:30",
            "Europe/Berlin",
            "2027-03-27T00:00+01:00",
            ["02:30+01:00", "03:00+02:00", "02:30+02:00"],
        ),
        (
            "every 2 days from 2027-10-29 02:30",
            "Europe/Berlin",
            "2027-10-30T00:00+02:00",
            ["02:30+02:00", "02:30+01:00", "02:30+01:00"],
        ),
        (
            "every week from 2026-09-27 02:15",
            "Australia/Lord_Howe",
            "2026-09-26T00:00+10:30",
            ["02:15+10:30", "02:30+11:00", "02:15+11:00"],
        ),
        (
            "every day from 2027-04-03 01:45",
            "Australia/Lord_Howe",
            "2027-04-03T00:00+11:00",
            ["01:45+11:00", "01:45+11:00", "01:45+10:30"],
        ),
        (
            "every 45 minutes from 2026-10-04 01:00",
            "Australia/Lord_Howe",
            "2026-10-04T01:30+10:30",
            ["01:45+10:30", "03:00+11:00", "03:45+11:00"],
        ),
    ],
)
def test_minutes_and_hours_follow_real_time_and_days_and_weeks_the_clock(
    expression: str, zone: str, after: str, expected: list[str]
) -> None:
    upcoming = parse(expression, zone).upcoming(datetime.fromisoformat(after), len(expected))

    assert [fire.isoformat(timespec="minutes")[11:] for fire in upcoming] == expected


STEPS = st.one_of(
    st.integers(1, 3000).map("every {} minutes".format),
    st.integers(1, 100).map("every {} hours".format),
    st.integers(1, 20).map("every {} days".format),
    st.integers(1, 3).map("every {} weeks".format),
)


@given(
    edge=st.sampled_from(EDGES),
    step=STEPS,
    anchored=st.integers(-60 * 24 * 60, 24 * 60),
    start=st.integers(-30 * 60, 90),
    span=st.integers(0, 20 * 24 * 60),
    fraction=st.timedeltas(timedelta(0), timedelta(minutes=1)),
)
@settings(max_examples=200, deadline=None)
def test_the_next_the_latest_and_the_count_of_an_interval_agree(
    edge: tuple[str, datetime], step: str, anchored: int, start: int, span: int, fraction: timedelta
) -> None:
    zone, change = edge
    change = change.replace(year=max(2001, change.year))  # what has no anchor before 2000
    schedule = parse(step, zone, change + timedelta(minutes=anchored))
    after = change + timedelta(minutes=start) + fraction
    until = after + timedelta(minutes=span)

    found = list(walk(schedule, after, until))

    assert schedule.latest(after, until) == (found[-1] if found else None)
    instant = timedelta.resolution
    assert schedule.count(after + instant, until + instant) == len(found)
    assert [fire.astimezone(UTC) for fire in schedule.upcoming(after, len(found))] == found
    days = " days" in step or " weeks" in step
    clock = ZoneInfo(zone) if days else UTC
    gaps = {two.astimezone(clock).replace(tzinfo=None) - one.astimezone(clock).replace(tzinfo=None)
            for one, two in pairwise(found)}  # fmt: skip
    assert len(gaps) <= (1 if not days else 3)  # a fire right after a gap is nearer to the one after it


@pytest.mark.timeout(60)  # walking from fire to fire would take minutes
def test_a_century_of_minutes_is_counted_and_looked_through_at_once() -> None:
    schedule = parse("every minute from 2026-01-01 00:00", "Europe/Berlin")
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2126, 1, 1, tzinfo=UTC)

    assert schedule.count(since, until) == (until - since) // timedelta(minutes=1)
    assert schedule.latest(since, until) == until


def test_an_interval_has_an_end_where_the_calendar_has() -> None:
    schedule = parse("every 52 weeks from 2199-01-01 00:00", "UTC")

    assert schedule.next(datetime.max.replace(tzinfo=UTC) - DAY) is None


@pytest.mark.parametrize(
    ("expression", "zone", "at"),
    [
        ("at 2026-12-01 09:00", "UTC", "2026-12-01T09:00+00:00"),
        ("at 2026-12-01 09:00", "Europe/Berlin", "2026-12-01T08:00+00:00"),
        ("at 2026-12-01T09:00Z", "Europe/Berlin", "2026-12-01T09:00+00:00"),
        ("at 2027-03-28 02:30", "Europe/Berlin", "2027-03-28T01:00+00:00"),  # right after the gap
        ("at 2027-10-31 02:30", "Europe/Berlin", "2027-10-31T00:30+00:00"),  # the first pass
        ("at 2027-10-31 02:30+01:00", "Europe/Berlin", "2027-10-31T01:30+00:00"),  # the second
        ("at 2027-04-04 01:45", "Australia/Lord_Howe", "2027-04-03T14:45+00:00"),
    ],
)
def test_a_single_time_fires_once(expression: str, zone: str, at: str) -> None:
    schedule, instant = parse(expression, zone, NOW), datetime.fromisoformat(at)

    assert schedule.is_once
    assert [fire.astimezone(UTC) for fire in schedule.upcoming(NOW, 5)] == [instant]
    assert schedule.next(instant) is None
    assert schedule.latest(NOW, instant) == instant
    assert schedule.latest(instant, instant + DAY) is None
    assert [schedule.count(NOW, instant), schedule.count(instant, instant + DAY)] == [0, 1]


def test_a_time_that_is_past_is_refused_only_where_somebody_tells_the_time() -> None:
    assert (
        refused("at 2026-11-28 11:00", "Europe/Berlin")
        == "'at 2026-11-28 11:00' is past: in Europe/Berlin it is 2026-11-28 11:00 now; choose a time to come"
    )
    assert parse("at 2026-11-28 11:00", "Europe/Berlin").next(NOW) is None


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("every", "'every' can't be read; write such as 'every 90 minutes', 'every 2 hours' or"),
        ("every now and then", "'every now and then' can't be read; write such as"),
        ("every month", "'every month' can't be read; write such as"),
        ("every 1.5 hours", "'every 1.5 hours' can't be read; write such as"),
        ("every -5 minutes", "'every -5 minutes' can't be read; write such as"),
        ("every 2 days at 09:00", "'every 2 days at 09:00' can't be read; write such as"),
        (
            "every 30 seconds",
            "'every 30 seconds' can't be read; the shortest step is a minute; write such as",
        ),
        ("every 0 minutes", "'every 0 minutes' has a step of 0 minutes; give 1 to 524,160 minutes"),
        ("every 53 weeks", "'every 53 weeks' has a step of 53 weeks; give 1 to 52 weeks"),
        ("every 365 days", "'every 365 days' has a step of 365 days; give 1 to 364 days"),
        ("every day from tomorrow", "'tomorrow' is not a time; write the date and the time, such as"),
        ("every day from ", "'every day from' can't be read; write such as"),
        ("at", "'' is not a time; write the date and the time, such as '2026-12-01 09:00' or"),
        ("at 09:00", "'09:00' is not a time; write the date and the time, such as"),
        ("at 2026-12-01", "'2026-12-01' is not a time; write the date and the time, such as"),
        ("at 2026-02-29 09:00", "'2026-02-29 09:00' is not a time; there is no such day, time or offset"),
        ("at 2026-12-01 25:00", "'2026-12-01 25:00' is not a time; there is no such day, time or offset"),
        ("at 2026-12-01 09:00+25:00", "'2026-12-01 09:00+25:00' is not a time; there is no such"),
        ("at 0001-01-01 00:00", "the year of '0001-01-01 00:00' is not from 2000 to 2199"),
        ("at 9999-12-31 23:59", "the year of '9999-12-31 23:59' is not from 2000 to 2199"),
        ("at 1999-12-31 23:59-12:00", "the year of '1999-12-31 23:59-12:00' is not from 2000 to 2199"),
    ],
)
def test_what_is_no_interval_and_no_time_is_refused_in_a_sentence(expression: str, sentence: str) -> None:
    assert refused(expression).startswith(sentence)
    assert refused(expression, now=None).startswith(sentence)


def test_the_zone_is_looked_at_first() -> None:
    with pytest.raises(InvalidError) as error:
        parse("every 90 minutes", "Europe/Nowhere", NOW)
    assert error.value.field == "timezone"
