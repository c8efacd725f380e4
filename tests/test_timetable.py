"""A schedule within bounds: when it starts and ends, and the windows in which its slots are skipped."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.schedule import Timetable, parse, parse_blackout
from tests.test_schedule_dst import EDGES

FRIDAY = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR, DAY, INSTANT = timedelta(hours=1), timedelta(days=1), timedelta.resolution


def table(
    expression: str,
    *blackouts: str,
    timezone: str = "UTC",
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Timetable:
    return Timetable(parse(expression, timezone), starts_at, ends_at, tuple(map(parse_blackout, blackouts)))


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        (
            "22:00-06:00",
            ["2026-11-27 22:00", "2026-11-27 23:59", "2026-11-28 00:00", "2026-11-28 05:59:59.999999"],
            ["2026-11-27 21:59:59", "2026-11-28 06:00", "2026-11-28 12:00"],
        ),
        (
            "Mon-Fri 22:00-06:00",  # a window belongs to the day on which it begins
            ["2026-11-27 22:00", "2026-11-28 05:00", "2026-11-30 22:00"],
            ["2026-11-28 22:00", "2026-11-30 05:00"],
        ),
        ("Sat,Sun", ["2026-11-28 00:00", "2026-11-29 23:59"], ["2026-11-27 23:59", "2026-11-30 00:00"]),
        ("saturday , Sunday", ["2026-11-28 00:00"], ["2026-11-30 00:00"]),
        ("Fri-Mon", ["2026-11-27 12:00", "2026-11-30 12:00"], ["2026-12-01 12:00", "2026-12-03 12:00"]),
        ("mon,wed-thu 9:00 - 17:30", ["2026-11-30 09:00", "2026-12-03 17:29"], ["2026-12-01 12:00"]),
        ("20:00-24:00", ["2026-11-27 20:00", "2026-11-27 23:59"], ["2026-11-28 00:00"]),
        ("00:00-24:00", ["2026-11-27 00:00", "2026-11-27 23:59"], []),
        (
            "2026-12-24..2027-01-01",
            ["2026-12-24 00:00", "2027-01-01 23:59:59"],
            ["2026-12-23 23:59", "2027-01-02 00:00"],
        ),
        ("2026-12-24", ["2026-12-24 00:00", "2026-12-24 23:59"], ["2026-12-23 23:59", "2026-12-25 00:00"]),
    ],
)
def test_a_blackout_covers_what_it_says(window: str, inside: list[str], outside: list[str]) -> None:
    blackout = parse_blackout(window)

    assert [text for text in inside if not blackout.covers(local(text))] == []
    assert [text for text in outside if blackout.covers(local(text))] == []


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        ("", "a blackout has 1 to 100 characters; write such as 'Mon-Fri 22:00-06:00'"),
        ("x" * 101, "a blackout has 1 to 100 characters"),
        ("nights", "'nights' in 'nights' is not a weekday; write such as"),
        ("Mon-", "'Mon-' is not a blackout; write such as"),
        ("Mon Tue", "'Mon Tue' is not a blackout"),
        ("22:00", "'22:00' is not a blackout"),
        ("22-06", "'22-06' is not a blackout"),
        ("22:00-22:00", "'22:00-22:00' ends when it begins; leave the times out for whole days"),
        ("24:00-06:00", "'24:00-06:00' ends when it begins"),
        ("22:00-25:00", "25:00 in '22:00-25:00' is not a time of day; it goes from 00:00 to 24:00"),
        ("22:60-23:00", "22:60 in '22:60-23:00' is not a time of day"),
        ("2027-01-01..2026-12-24", "'2027-01-01..2026-12-24' ends before it begins; write the earlier day first"),
        ("2026-02-30", "'2026-02-30' has a day that does not exist"),
        ("2026-12-24..9999-12-31", "the year of 9999-12-31 is after 2199"),
        ("Möntag", "'Möntag' is not a blackout"),
    ],
)  # fmt: skip
def test_what_is_no_blackout_is_refused_in_a_sentence(window: str, sentence: str) -> None:
    with pytest.raises(InvalidError) as error:
        parse_blackout(window)
    assert str(error.value).startswith(sentence)
    assert error.value.field == "blackouts"


def test_no_slot_is_before_the_start_or_after_the_end() -> None:
    hourly = table("0 * * * *", starts_at=FRIDAY + 2 * HOUR, ends_at=FRIDAY + 4 * HOUR)

    assert hourly.upcoming(FRIDAY, 9) == [FRIDAY + HOUR * number for number in (2, 3, 4)]
    assert hourly.next(FRIDAY + 4 * HOUR) is None
    assert hourly.latest(FRIDAY, FRIDAY + DAY) == FRIDAY + 4 * HOUR
    assert hourly.latest(FRIDAY, FRIDAY + HOUR) is None
    assert hourly.count(FRIDAY, FRIDAY + DAY) == 3
    assert hourly.count(FRIDAY, FRIDAY + HOUR) == hourly.count(FRIDAY + 5 * HOUR, FRIDAY + DAY) == 0


def test_a_slot_in_a_blackout_is_one_but_not_one_that_is_told_to_come() -> None:
    hourly = table("0 * * * *", "14:00-16:00", "15:30-18:00")

    assert hourly.next(FRIDAY + HOUR) == FRIDAY + 2 * HOUR
    assert hourly.upcoming(FRIDAY, 3) == [FRIDAY + HOUR * number for number in (1, 6, 7)]
    assert (hourly.count(FRIDAY, FRIDAY + DAY), hourly.count_open(FRIDAY, FRIDAY + DAY)) == (24, 20)
    assert [hourly.blackout_at(FRIDAY + HOUR * number) for number in (1, 2, 4, 6)] == [
        None,
        "14:00-16:00",
        "15:30-18:00",
        None,
    ]
    assert hourly.latest_open(FRIDAY, FRIDAY + 5 * HOUR) == FRIDAY + HOUR
    assert hourly.latest_open(FRIDAY + HOUR, FRIDAY + 5 * HOUR) is None
    assert hourly.open_from(FRIDAY + 3 * HOUR) == FRIDAY + 6 * HOUR
    assert hourly.open_from(FRIDAY) == FRIDAY


def test_time_is_told_apart_by_the_blackout_that_it_is_in() -> None:
    hourly = table("0 * * * *", "14:00-16:00", "2026-11-28")

    assert [
        (stretch.start - FRIDAY, stretch.blackout) for stretch in hourly.stretches(FRIDAY, FRIDAY + 40 * HOUR)
    ] == [
        (0 * HOUR, None),
        (2 * HOUR, "14:00-16:00"),
        (4 * HOUR, None),
        (12 * HOUR, "2026-11-28"),
        (26 * HOUR, "14:00-16:00"),
        (28 * HOUR, "2026-11-28"),
        (36 * HOUR, None),
    ]
    assert list(hourly.stretches(FRIDAY, FRIDAY)) == []


@pytest.mark.timeout(60)  # going from slot to slot would take hours
def test_what_a_blackout_covers_for_years_is_passed_over_at_once() -> None:
    secondly = table("* * * * * *", "2026-11-28..2036-11-27")

    assert secondly.upcoming(datetime(2026, 11, 28, tzinfo=UTC), 1) == [datetime(2036, 11, 28, tzinfo=UTC)]
    assert secondly.latest_open(FRIDAY, datetime(2036, 11, 27, tzinfo=UTC)) == datetime(
        2026, 11, 27, 23, 59, 59, tzinfo=UTC
    )
    assert table("* * * * * *", "Mon-Sun").upcoming(FRIDAY, 1) == []
    assert table("* * * * * *", "Mon-Sun").latest_open(FRIDAY - 2 * DAY, FRIDAY) is None
    assert table("* * * * * *", "Mon-Sun").open_from(FRIDAY) == FRIDAY


TIMES = st.integers(0, 47).map(lambda half: f"{half // 2:02}:{half % 2 * 30:02}")
WINDOWS = st.tuples(st.sampled_from(["", "Sat,Sun ", "Fri-Mon ", "Wed "]), TIMES, TIMES).filter(
    lambda window: window[1] != window[2]
)


@given(
    edge=st.sampled_from(EDGES),
    expression=st.sampled_from(["*/10 * * * *", "30 2 * * *", "15 */2 * * *", "every 50 minutes"]),
    windows=st.lists(WINDOWS.map(lambda window: "{}{}-{}".format(*window)), min_size=1, max_size=3),
    start=st.integers(-40 * 60, 90),
    span=st.integers(1, 60 * 60),
)
@settings(max_examples=150, deadline=None)
def test_around_a_change_of_the_clocks_what_is_open_is_what_no_window_covers(
    edge: tuple[str, datetime], expression: str, windows: list[str], start: int, span: int
) -> None:
    zone, change = edge
    slots = table(expression, *windows, timezone=zone)
    since = change + timedelta(minutes=start)
    until = since + timedelta(minutes=span)
    every, after = [], since - INSTANT
    while (slot := slots.next(after)) is not None and slot < until:
        every.append(slot)
        after = slot
    expected = [slot for slot in every if slots.blackout_at(slot) is None]

    assert slots.count_open(since, until) == len(expected)
    assert slots.latest_open(since - INSTANT, until - INSTANT) == (expected[-1] if expected else None)
    upcoming = [fire.astimezone(UTC) for fire in slots.upcoming(since - INSTANT, len(expected))]
    assert upcoming == expected[: len(upcoming)]
    assert len(upcoming) == len(expected)
    found = list(slots.stretches(since, until))
    assert (found[0].start, found[-1].end) == (since, until)
    for slot in every:
        [stretch] = [each for each in found if each.start <= slot < each.end]
        assert stretch.blackout == slots.blackout_at(slot)
