"""What a schedule means where the clocks do not change; test_schedule_dst has the days on which they do."""

import sys
import zoneinfo
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.schedule import local_timezone, parse

WEDNESDAY = datetime(2027, 5, 5, 12, 3, 4, 567890, tzinfo=UTC)


def texts(low: int, high: int, *, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Return texts of one field: every form that Debian's cron has."""
    number = st.integers(low, high)
    steps = st.integers(1, high + 5)
    every = st.builds("*/{}".format, steps)
    span = st.tuples(number, number).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    # cronsim reads `5-5/2` as `5/2` from 5 on, Debian as 5 alone; the sample below has that one.
    apart = st.tuples(number, number).filter(lambda ends: ends[0] < ends[1])
    stepped = st.builds(lambda ends, step: f"{ends[0]}-{ends[1]}/{step}", apart, steps)
    item = st.one_of(number.map(str), span, stepped, every, *([st.sampled_from(names)] if names else []))
    items = st.lists(item, min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), every, items)


HOURS = texts(0, 23)
DAYS = st.one_of(st.just("*"), texts(1, 31))
MONTHS = st.one_of(st.just("*"), texts(1, 12, names=("jan", "OCT")))
WEEKDAYS = st.one_of(st.just("*"), texts(0, 7, names=("mon", "Fri")))


def expressions(hours: st.SearchStrategy[str] = HOURS) -> st.SearchStrategy[str]:
    """Return expressions of 5 fields; some never fire."""
    return st.tuples(texts(0, 59), hours, DAYS, MONTHS, WEEKDAYS).map(" ".join)


INSTANTS = st.datetimes(datetime(1980, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def refusal(expression: str, timezone: str = "UTC") -> InvalidError | None:
    try:
        parse(expression, timezone)
    except InvalidError as error:
        return error
    return None


FIRING = expressions().filter(lambda expression: refusal(expression) is None)


def cronsim(expression: str, after: datetime = WEDNESDAY, count: int = 1) -> list[datetime]:
    try:
        return list(islice(CronSim(expression, after), count))
    except CronSimError:  # a day that its month does not have
        return []


def fires(expression: str, count: int = 3, after: datetime = WEDNESDAY, timezone: str = "UTC") -> list[str]:
    """Return the next fires as "Wed 2027-05-05 12:03:04", on the schedule's clock."""
    return [
        fire.strftime("%a %Y-%m-%d %H:%M:%S") for fire in parse(expression, timezone).upcoming(after, count)
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 9 * * 1-5", ["Thu 2027-05-06 09:00:00", "Fri 2027-05-07 09:00:00", "Mon 2027-05-10 09:00:00"]),
        ("*/15 * * * *", ["Wed 2027-05-05 12:15:00", "Wed 2027-05-05 12:30:00", "Wed 2027-05-05 12:45:00"]),
        ("0 0 29 2 *", ["Tue 2028-02-29 00:00:00", "Sun 2032-02-29 00:00:00", "Fri 2036-02-29 00:00:00"]),
        (
            "0 0 1 JAN,jul *",
            ["Thu 2027-07-01 00:00:00", "Sat 2028-01-01 00:00:00", "Sat 2028-07-01 00:00:00"],
        ),
        # The seconds come first where there are 6 fields.
        ("30 0 9 * * *", ["Thu 2027-05-06 09:00:30", "Fri 2027-05-07 09:00:30", "Sat 2027-05-08 09:00:30"]),
        ("*/20 * * * * *", ["Wed 2027-05-05 12:03:20", "Wed 2027-05-05 12:03:40", "Wed 2027-05-05 12:04:00"]),
        ("* * * * * *", ["Wed 2027-05-05 12:03:05", "Wed 2027-05-05 12:03:06", "Wed 2027-05-05 12:03:07"]),
        # The day of month or the day of week, unless one of them begins with a star: then both.
        ("0 0 13 * fri", ["Fri 2027-05-07 00:00:00", "Thu 2027-05-13 00:00:00", "Fri 2027-05-14 00:00:00"]),
        ("0 0 1-31 * fri", ["Thu 2027-05-06 00:00:00", "Fri 2027-05-07 00:00:00", "Sat 2027-05-08 00:00:00"]),
        ("0 0 */2 * fri", ["Fri 2027-05-07 00:00:00", "Fri 2027-05-21 00:00:00", "Fri 2027-06-11 00:00:00"]),
        ("0 0 13 * */5", ["Sun 2027-06-13 00:00:00", "Fri 2027-08-13 00:00:00", "Sun 2028-02-13 00:00:00"]),
        ("0 0 */1 * fri", ["Fri 2027-05-07 00:00:00", "Fri 2027-05-14 00:00:00", "Fri 2027-05-21 00:00:00"]),
        ("0 0 1,* * fri", ["Thu 2027-05-06 00:00:00", "Fri 2027-05-07 00:00:00", "Sat 2027-05-08 00:00:00"]),
        ("0 0 *,1 * fri", ["Fri 2027-05-07 00:00:00", "Fri 2027-05-14 00:00:00", "Fri 2027-05-21 00:00:00"]),
        # A day that no month has is no day; the other one still counts.
        ("0 0 31 2 mon", ["Mon 2028-02-07 00:00:00", "Mon 2028-02-14 00:00:00", "Mon 2028-02-21 00:00:00"]),
        # 0 and 7 are Sunday, in ranges too.
        ("0 0 * * 0", ["Sun 2027-05-09 00:00:00", "Sun 2027-05-16 00:00:00", "Sun 2027-05-23 00:00:00"]),
        ("0 0 * * 7", ["Sun 2027-05-09 00:00:00", "Sun 2027-05-16 00:00:00", "Sun 2027-05-23 00:00:00"]),
        ("0 0 * * Sat-7", ["Sat 2027-05-08 00:00:00", "Sun 2027-05-09 00:00:00", "Sat 2027-05-15 00:00:00"]),
        ("0 0 * * 1-7/3", ["Thu 2027-05-06 00:00:00", "Sun 2027-05-09 00:00:00", "Mon 2027-05-10 00:00:00"]),
        # A range of one is that one; steps past the end leave the first.
        ("0 0 * * 5-5", ["Fri 2027-05-07 00:00:00", "Fri 2027-05-14 00:00:00", "Fri 2027-05-21 00:00:00"]),
        ("0 0 * * 5-5/2", ["Fri 2027-05-07 00:00:00", "Fri 2027-05-14 00:00:00", "Fri 2027-05-21 00:00:00"]),
        ("*/90 * * * *", ["Wed 2027-05-05 13:00:00", "Wed 2027-05-05 14:00:00", "Wed 2027-05-05 15:00:00"]),
        ("007 007 * * *", ["Thu 2027-05-06 07:07:00", "Fri 2027-05-07 07:07:00", "Sat 2027-05-08 07:07:00"]),
        ("@hourly", ["Wed 2027-05-05 13:00:00", "Wed 2027-05-05 14:00:00", "Wed 2027-05-05 15:00:00"]),
        ("@daily", ["Thu 2027-05-06 00:00:00", "Fri 2027-05-07 00:00:00", "Sat 2027-05-08 00:00:00"]),
        ("@Midnight", ["Thu 2027-05-06 00:00:00", "Fri 2027-05-07 00:00:00", "Sat 2027-05-08 00:00:00"]),
        ("@weekly", ["Sun 2027-05-09 00:00:00", "Sun 2027-05-16 00:00:00", "Sun 2027-05-23 00:00:00"]),
        ("@monthly", ["Tue 2027-06-01 00:00:00", "Thu 2027-07-01 00:00:00", "Sun 2027-08-01 00:00:00"]),
        ("@yearly", ["Sat 2028-01-01 00:00:00", "Mon 2029-01-01 00:00:00", "Tue 2030-01-01 00:00:00"]),
        ("@annually", ["Sat 2028-01-01 00:00:00", "Mon 2029-01-01 00:00:00", "Tue 2030-01-01 00:00:00"]),
    ],
)
def test_a_schedule_fires_when_debians_cron_does(expression: str, expected: list[str]) -> None:
    assert fires(expression) == expected


def test_a_schedule_keeps_its_expression_with_single_spaces() -> None:
    schedule = parse("  0 9\t*  JAN Mon-Fri ", "Europe/Berlin")

    assert schedule.expression == "0 9 * JAN Mon-Fri"
    assert schedule.timezone == "Europe/Berlin"
    assert repr(schedule) == "Schedule(expression='0 9 * JAN Mon-Fri', timezone='Europe/Berlin')"


def test_schedules_are_equal_where_expression_and_zone_are() -> None:
    assert parse("0 9 * * *", "UTC") == parse("0  9 * * *", "UTC")
    assert len({parse("0 9 * * *", zone) for zone in ("UTC", "Asia/Tokyo", "UTC")}) == 2


def test_the_next_fire_is_utc_and_the_upcoming_ones_have_the_offset_of_their_zone() -> None:
    schedule = parse("0 9 * * *", "Asia/Kolkata")

    following = schedule.next(WEDNESDAY)

    assert following is not None
    assert following.isoformat() == "2027-05-06T03:30:00+00:00"
    assert [fire.isoformat() for fire in schedule.upcoming(WEDNESDAY, 2)] == [
        "2027-05-06T09:00:00+05:30",
        "2027-05-07T09:00:00+05:30",
    ]


def test_an_instant_may_be_given_in_any_zone() -> None:
    schedule = parse("0 9 * * *", "Europe/Berlin")

    assert schedule.next(WEDNESDAY) == schedule.next(WEDNESDAY.astimezone(ZoneInfo("America/New_York")))


def test_the_next_fire_is_strictly_later_to_the_microsecond() -> None:
    schedule = parse("0 9 * * *", "UTC")
    nine = datetime(2027, 5, 5, 9, tzinfo=UTC)

    assert schedule.next(nine - timedelta(microseconds=1)) == nine
    assert schedule.next(nine) == nine + timedelta(days=1)
    assert schedule.next(nine + timedelta(microseconds=1)) == nine + timedelta(days=1)


def test_no_upcoming_fire_is_answered_when_none_is_asked_for() -> None:
    assert parse("* * * * *", "UTC").upcoming(WEDNESDAY, 0) == []


@pytest.mark.parametrize(
    ("expression", "hours", "expected"),
    [
        ("0 9 * * *", 2, None),
        ("0 9 * * *", 5, "2027-05-05T09:00:00+00:00"),
        ("0 9 * * *", 72, "2027-05-05T09:00:00+00:00"),
        ("*/5 * * * *", 24, "2027-05-05T12:00:00+00:00"),
        ("0 0 1 * *", 24 * 3, None),
        ("0 0 1 * *", 24 * 400, "2027-05-01T00:00:00+00:00"),
        ("* * 1 1 *", 24 * 400, "2027-01-01T23:59:00+00:00"),
    ],
)
def test_the_latest_fire_of_a_span_is_found(expression: str, hours: int, expected: str | None) -> None:
    latest = parse(expression, "UTC").latest(WEDNESDAY - timedelta(hours=hours), WEDNESDAY)

    assert (latest and latest.isoformat()) == expected


def test_the_latest_fire_may_be_at_the_end_of_the_span_but_not_at_its_beginning() -> None:
    schedule = parse("0 * * * *", "UTC")
    noon = datetime(2027, 5, 5, 12, tzinfo=UTC)

    assert schedule.latest(noon - timedelta(hours=3), noon) == noon
    assert schedule.latest(noon - timedelta(hours=2), noon) == noon
    assert schedule.latest(noon, noon + timedelta(minutes=59)) is None
    assert schedule.latest(noon, noon) is None
    assert schedule.latest(noon, noon - timedelta(days=1)) is None


@pytest.mark.timeout(60)  # walking from fire to fire would take minutes
def test_the_latest_of_millions_of_missed_fires_is_found_at_once() -> None:
    month = timedelta(days=30)

    latest = parse("* * * * * *", "Europe/Berlin").latest(WEDNESDAY - month, WEDNESDAY)

    assert latest == WEDNESDAY.replace(microsecond=0)


@pytest.fixture
def restless_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless_threads")
def test_one_schedule_can_be_asked_from_many_threads() -> None:
    schedule = parse("7 */3 * * mon", "Europe/Berlin")
    starts = [WEDNESDAY + timedelta(hours=hour) for hour in range(500)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(schedule.next, starts)) == [schedule.next(start) for start in starts]


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("", "the schedule is empty; write one such as '0 7 * * 1-5'"),
        (" \t ", "the schedule is empty; write one such as '0 7 * * 1-5'"),
        ("0 7 * *", "'0 7 * *' has 4 fields; a schedule has 5, such as '0 7 * * 1-5'"),
        ("noon", "'noon' has 1 field; a schedule has 5, such as '0 7 * * 1-5'"),
        (
            "0 0 7 * * 1-5 2027",
            "'0 0 7 * * 1-5 2027' has 7 fields; a schedule has 5, such as '0 7 * * 1-5', "
            "or 6 with the seconds first",
        ),
        ("0" * 201, "the schedule has 201 characters; 200 is the most it may have"),
        (
            "0 7 * * 1-5\n* * * * *",
            r"'0 7 * * 1-5\n* * * * *' has a character cron does not know; write one line of plain ASCII",
        ),
        (
            "0 7 * * 1\x00",
            r"'0 7 * * 1\x00' has a character cron does not know; write one line of plain ASCII",
        ),
        (
            "0 7 * * 1–5",  # noqa: RUF001 - an en dash, as word processors write
            r"'0 7 * * 1\u20135' has a character cron does not know; write one line of plain ASCII",
        ),
        (
            "0 ٧ * * *",  # noqa: RUF001 - a digit, in Arabic
            r"'0 \u0667 * * *' has a character cron does not know; write one line of plain ASCII",
        ),
        ("@reboot", "'@reboot' is not a time; write when to run, such as '@daily' or '0 7 * * 1-5'"),
        (
            "@every 5m",
            "'@every 5m' is not known; the names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, "
            "@annually",
        ),
        ("60 * * * *", "60 is out of range for the minute; it goes from 0 to 59"),
        ("* 24 * * *", "24 is out of range for the hour; it goes from 0 to 23"),
        ("* * 0 * *", "0 is out of range for the day of month; it goes from 1 to 31"),
        ("* * 30-32 * *", "32 is out of range for the day of month; it goes from 1 to 31"),
        ("* * * 13 *", "13 is out of range for the month; it goes from 1 to 12"),
        ("* * * * 8", "8 is out of range for the day of week; it goes from 0 to 7"),
        ("60 * * * * *", "60 is out of range for the second; it goes from 0 to 59"),
        ("0 7 * * * 2027", "2027 is out of range for the day of week; it goes from 0 to 7"),
        ("R * * * *", "'R' is not known in the minute; it takes numbers from 0 to 59, and * , - /"),
        ("* H(0-7) * * *", "'H(0-7)' is not known in the hour; it takes numbers from 0 to 23, and * , - /"),
        ("0 7 L * *", "'L' is not known in the day of month; it takes numbers from 1 to 31, and * , - /"),
        ("0 7 15W * *", "'15W' is not known in the day of month; it takes numbers from 1 to 31, and * , - /"),
        ("0 7 ? * 1", "'?' is not known in the day of month; it takes numbers from 1 to 31, and * , - /"),
        (
            "0 7 * * 1#2",
            "'1#2' is not known in the day of week; it takes numbers from 0 to 7, "
            "names (sun mon tue wed thu fri sat), and * , - /",
        ),
        (
            "0 7 * march *",
            "'march' is not known in the month; it takes numbers from 1 to 12, "
            "names (jan feb mar apr may jun jul aug sep oct nov dec), and * , - /",
        ),
        ("~ * * * *", "'~' is not known in the minute; it takes numbers from 0 to 59, and * , - /"),
        ("-1 * * * *", "'-1' is not known in the minute; it takes numbers from 0 to 59, and * , - /"),
        ("1,,2 * * * *", "'' is not known in the minute; it takes numbers from 0 to 59, and * , - /"),
        ("mon * * * *", "'mon' is not known in the minute; it takes numbers from 0 to 59, and * , - /"),
        ("*/1.5 * * * *", "'*/1.5' is not known in the minute; it takes numbers from 0 to 59, and * , - /"),
        ("*-5 * * * *", "'*-5' is not known in the minute; it takes numbers from 0 to 59, and * , - /"),
        ("5/15 * * * *", "'5/15' has a step but no range in the minute; write '5-59/15'"),
        ("0 7 * * mon/2", "'mon/2' has a step but no range in the day of week; write 'mon-7/2'"),
        ("*/0 * * * *", "'*/0' has a step of 0 in the minute; the least is 1"),
        ("0 22-6 * * *", "'22-6' goes backwards in the hour; split it as in '22-23,0-6'"),
        ("0 7 * * fri-mon", "'fri-mon' goes backwards in the day of week; split it as in '5-7,0-1'"),
        ("0 0 31 2 *", "'0 0 31 2 *' never fires; choose a day and an hour that exist"),
        ("0 0 30,31 feb */2", "'0 0 30,31 feb */2' never fires; choose a day and an hour that exist"),
        ("0 0 31 4,6,9,11 *", "'0 0 31 4,6,9,11 *' never fires; choose a day and an hour that exist"),
    ],
)
def test_what_cron_does_not_have_is_refused_in_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        parse(expression, "UTC")

    assert str(refusal.value) == sentence
    assert refusal.value.field == "cron"


@pytest.mark.parametrize(
    "expression", ["5-59/15 * * * *", "0 7 * * mon-7/2", "0 22-23,0-6 * * *", "0 7 * * 5-7,0-1"]
)
def test_what_a_refusal_says_to_write_can_be_written(expression: str) -> None:
    assert parse(expression, "UTC").next(WEDNESDAY)


@pytest.mark.parametrize(
    ("timezone", "shown"),
    [
        ("", "''"),
        ("Mars/Olympus", "'Mars/Olympus'"),
        ("Europe", "'Europe'"),  # a folder of zones
        ("America/Argentina", "'America/Argentina'"),
        ("Europe/", "'Europe/'"),
        ("europe/berlin", "'europe/berlin'"),
        ("localtime", "'localtime'"),  # these lie beside the zones on some systems
        ("posix/Europe/Berlin", "'posix/Europe/Berlin'"),
        ("right/Europe/Berlin", "'right/Europe/Berlin'"),
        ("zone.tab", "'zone.tab'"),
        ("tzdata.zi", "'tzdata.zi'"),
        ("__init__.py", "'__init__.py'"),
        ("../etc/passwd", "'../etc/passwd'"),
        ("Europe/../../../etc/passwd", "'Europe/../../../etc/passwd'"),
        ("/etc/localtime", "'/etc/localtime'"),
        ("C:\\Windows", r"'C:\\Windows'"),
        ("Europe/Berlin\n", r"'Europe/Berlin\n'"),
        ("Europe/Berlin\x00", r"'Europe/Berlin\x00'"),
        (" UTC", "' UTC'"),
        ("UTC+2", "'UTC+2'"),
        ("Türkiye", r"'T\xfcrkiye'"),
        ("\ud800", r"'\ud800'"),
        ("E" * 10_000, f"'{'E' * 64}'"),
    ],
)
def test_what_is_not_a_time_zone_is_refused_in_a_sentence(timezone: str, shown: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        parse("0 7 * * *", timezone)

    hint = "write an IANA name such as 'Europe/Berlin' or 'UTC'"
    assert str(refusal.value) == f"{shown} is not a time zone; {hint}"
    assert refusal.value.field == "timezone"


def test_every_iana_zone_is_known() -> None:
    names = zoneinfo.available_timezones() - {"localtime"}

    assert len(names) > 400
    assert all(parse("0 7 * * *", name).next(WEDNESDAY) for name in names)


@pytest.mark.parametrize(
    ("found", "name"),
    [("Europe/Paris", "Europe/Paris"), (None, "UTC"), ("", "UTC"), ("CET-1CEST", "UTC"), ("local", "UTC")],
)
def test_the_local_time_zone_is_a_name_that_can_be_used(
    found: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tzlocal.get_localzone_name", lambda: found)

    assert local_timezone() == name


def test_the_local_time_zone_is_utc_where_the_machine_contradicts_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def contradict() -> str:
        raise ZoneInfoNotFoundError("Multiple conflicting time zone configurations found")

    monkeypatch.setattr("tzlocal.get_localzone_name", contradict)

    assert local_timezone() == "UTC"


def test_the_local_time_zone_of_this_machine_can_be_used() -> None:
    assert parse("0 7 * * *", local_timezone()).next(WEDNESDAY)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 9 * * 1-5", "At 09:00, Monday through Friday"),
        ("30 21 * * SAT,sun", "At 21:30, only on Saturday and Sunday"),
        ("05 09 * * 07", "At 09:05, only on Sunday"),
        ("*/15 9-17 * * mon-fri", "Every 15 minutes, between 09:00 and 17:59, Monday through Friday"),
        ("0 9,17 1 jan *", "At 09:00 and 17:00, on day 1 of the month, only in January"),
        ("15 30 10 9 * *", "At 10:30:15, on day 9 of the month"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("@hourly", "Every hour"),
        ("@weekly", "At 00:00, only on Sunday"),
        # Where both days are given: either, or both where one begins with a star.
        ("0 9 1 * 1", "At 09:00, on day 1 of the month, or on Monday"),
        ("0 9 1 * 1-5", "At 09:00, on day 1 of the month, or Monday through Friday"),
        ("0 9 1,15 6 1-5", "At 09:00, on day 1 and 15 of the month, or Monday through Friday, only in June"),
        ("0 9 1-7 * */7", "At 09:00, between day 1 and 7 of the month, but only on Sunday"),
        ("0 9 */15 * 1-5", "At 09:00, on day 1, 16, and 31 of the month, but only Monday through Friday"),
        ("0 9 *,5 * 1", "At 09:00, only on Monday"),
        # A step that does not divide its field, or goes past its end, is no "every".
        ("*/45 * * * *", "At 0 and 45 minutes past the hour"),
        ("*/90 * * * *", "Every hour"),
        ("0 */5 * * *", "At 00:00, 05:00, 10:00, 15:00 and 20:00"),
        ("0 9 * * */2", "At 09:00, only on Sunday, Tuesday, Thursday, and Saturday"),
        ("0 9 * * 1-3/2,5", "At 09:00, only on Monday, Wednesday, and Friday"),
        ("0 9 * */6 *", "At 09:00, every 6 months"),
        ("0 9 * */5 *", "At 09:00, only in January, June, and November"),
        ("5-5 * * * *", "At 5 minutes past the hour"),
        ("0 9 * * 0-7", "At 09:00, Sunday through Saturday"),
        ("*/1 */1 */1 */1 */1", "Every minute"),
    ],
)
def test_a_schedule_is_described_in_words(expression: str, words: str) -> None:
    assert parse(expression, "UTC").describe() == words


@given(expression=FIRING, seconds=st.one_of(st.none(), texts(0, 59)))
@settings(max_examples=150, deadline=None)
def test_every_schedule_has_words(expression: str, seconds: str | None) -> None:
    words = parse(f"{seconds} {expression}" if seconds else expression, "UTC").describe()

    assert words[0] in "AEMS"  # At, Every, Minutes, Seconds
    assert words.isascii()
    assert not set(words) & set("*/{}")


@given(expression=expressions())
@settings(max_examples=200, deadline=None)
def test_of_what_cron_has_only_what_never_fires_is_refused(expression: str) -> None:
    error = refusal(expression)

    assert error is None or (str(error).startswith(f"'{expression}' never fires") and not cronsim(expression))


@given(expression=FIRING, after=INSTANTS, seconds=st.one_of(st.none(), texts(0, 59)))
@settings(max_examples=200, deadline=None)
def test_away_from_daylight_saving_cronsim_agrees(
    expression: str, after: datetime, seconds: str | None
) -> None:
    expression = f"{seconds} {expression}" if seconds else expression

    assert parse(expression, "UTC").upcoming(after, 5) == cronsim(expression, after, 5)


@given(expression=FIRING, after=INSTANTS, span=st.timedeltas(timedelta(0), timedelta(days=3)))
@settings(max_examples=100, deadline=None)
def test_the_latest_fire_is_where_walking_from_fire_to_fire_ends(
    expression: str, after: datetime, span: timedelta
) -> None:
    schedule = parse(expression, "UTC")
    walked, until = None, after + span
    for fire in CronSim(expression, after):
        if fire > until:
            break
        walked = fire

    assert schedule.latest(after, until) == walked


@given(text=st.text(st.sampled_from("0123456789*/,-@?LWRH# \tmonjasu"), max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    error = refusal(text)

    assert parse(text, "UTC").next(WEDNESDAY) if error is None else error.field == "cron"
