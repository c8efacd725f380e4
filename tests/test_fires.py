"""When jobs fire next, as pages ask for it."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from claude_runner.schedule import Timetable, parse, parse_blackout
from claude_runner.web.dashboard._fires import counts, each, fires
from tests.test_schedule import refusal
from tests.test_schedule_dst import EDGES, NIGHTLY, walk

DAY = timedelta(days=1)
NOON = datetime(2026, 11, 27, 12, 50, tzinfo=UTC)


def table(cron: str, timezone: str = "UTC") -> Timetable:
    return Timetable(parse(cron, timezone))


def test_a_daily_job_fires_once_in_a_day() -> None:
    assert fires(table("0 9 * * *"), NOON, NOON + DAY, 48) == [datetime(2026, 11, 28, 9, tzinfo=UTC)]


def test_neither_the_first_instant_nor_the_last_is_of_a_span() -> None:
    nine = datetime(2026, 11, 28, 9, tzinfo=UTC)

    assert fires(table("0 9 * * *"), nine - DAY, nine, 48) == []
    assert fires(table("0 9 * * *"), nine, nine + DAY, 48) == []
    assert fires(table("0 9 * * *"), nine - DAY, nine + timedelta.resolution, 48) == [nine]


def test_an_instant_of_any_zone_is_understood() -> None:
    local = NOON.astimezone(ZoneInfo("Asia/Kathmandu"))

    assert fires(table("0 9 * * *"), local, local + DAY, 48) == fires(
        table("0 9 * * *"), NOON, NOON + DAY, 48
    )


@pytest.mark.parametrize("cron", ["*/10 * * * * *", "* * * * *", "* * * * * *"])
def test_what_fires_more_often_than_is_asked_for_is_spread_over_the_time(cron: str) -> None:
    found = fires(table(cron), NOON, NOON + DAY, 48)

    assert 46 <= len(found) <= 48
    assert found[0] < NOON + timedelta(hours=1)
    assert found[-1] > NOON + timedelta(hours=23)
    assert found == sorted(set(found))


def test_a_frequent_job_is_told_from_the_middle_of_an_hour_on() -> None:
    following = list(islice(each(table("*/10 * * * * *"), NOON, NOON + DAY), 3))

    assert following == [NOON + timedelta(seconds=10 * number) for number in (1, 2, 3)]


def test_a_blackout_and_what_is_before_or_after_a_job_is_left_out() -> None:
    hourly = Timetable(
        parse("0 * * * *", "UTC"),
        starts_at=NOON + timedelta(hours=2),
        ends_at=NOON + timedelta(hours=11),
        blackouts=(parse_blackout("16:00-22:00"),),
    )
    expected = [datetime(2026, 11, 27, hour, tzinfo=UTC) for hour in (15, 22, 23)]

    assert fires(hourly, NOON, NOON + DAY, 48) == expected
    assert list(each(hourly, NOON, NOON + DAY)) == expected
    assert counts(hourly, (NOON, NOON + DAY, NOON + DAY * 2)) == (3, 0)


def test_a_job_that_is_always_in_a_blackout_does_not_fire() -> None:
    never = Timetable(parse("* * * * * *", "UTC"), blackouts=(parse_blackout("Mon-Sun"),))

    assert fires(never, NOON, NOON + DAY, 48) == list(each(never, NOON, NOON + DAY)) == []


def test_a_schedule_that_does_not_come_again_ends() -> None:
    last = datetime(2022, 9, 4, 4, tzinfo=UTC)

    assert fires(table("*/60 0 2-8 9 */7", "America/Santiago"), last - DAY, last + 3650 * DAY, 48) == [last]


@given(
    edge=st.sampled_from(EDGES),
    cron=NIGHTLY,
    start=st.integers(-26 * 60, 120),
    hours=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_around_a_change_of_the_clocks_there_are_the_fires_that_the_schedule_has(
    edge: tuple[str, datetime], cron: str, start: int, hours: int
) -> None:
    zone, change = edge
    after = change + timedelta(minutes=start, seconds=7)
    until = after + timedelta(hours=hours)
    assume(refusal(cron, zone) is None)
    expected = list(walk(parse(cron, zone), after, until - timedelta.resolution))

    assert list(each(table(cron, zone), after, until)) == expected
    assert fires(table(cron, zone), after, until, len(expected) + 1) == expected
    assert counts(table(cron, zone), (after + timedelta.resolution, until)) == (len(expected),)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", "2027-03-28", [1]), ("Europe/Berlin", "2027-10-31", [0])],
)
def test_a_fixed_job_fires_once_on_the_days_that_the_clocks_are_changed(
    zone: str, day: str, hours: list[int]
) -> None:
    midnight = datetime.fromisoformat(f"{day}T00:00+00:00") - timedelta(hours=3)

    [fire] = [
        fire for fire in fires(table("30 2 * * *", zone), midnight, midnight + DAY, 48) if fire.hour < 12
    ]

    assert [fire.hour] == hours
