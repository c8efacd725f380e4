"""When a schedule fires on the days on which the clocks change."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from claude_runner.schedule import Schedule, parse
from tests.test_schedule import FIRING, expressions, refusal, texts

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)

# A zone and an instant in it, then schedules and their next fires there: the day, the time, the zone's offset.
TABLE = """
America/New_York 2025-03-08T12:00-05:00 (02:00 to 03:00 on the 9th is skipped)
    30 2 * * *          = 09T03:00-04:00 10T02:30-04:00 11T02:30-04:00
    0 2 9 3 *           = 09T03:00-04:00 09T02:00-04:00
    59 2 * * *          = 09T03:00-04:00 10T02:59-04:00
    0 2,3 * * *         = 09T03:00-04:00 10T02:00-04:00 10T03:00-04:00
    15,45 2 * * *       = 09T03:00-04:00 10T02:15-04:00 10T02:45-04:00
    30 1-3 * * *        = 09T01:30-05:00 09T03:00-04:00 09T03:30-04:00 10T01:30-04:00
    @daily              = 09T00:00-05:00 10T00:00-04:00
    */30 2 * * *        = 10T02:00-04:00 10T02:30-04:00
    5 30 2 * * *        = 09T03:00-04:00 10T02:30:05-04:00
    * 30 2 * * *        = 09T03:00-04:00 10T02:30-04:00 10T02:30:01-04:00
    30 */30 2 * * *     = 10T02:00:30-04:00 10T02:30:30-04:00
America/New_York 2025-03-09T01:20-05:00
    */30 * * * *        = 09T01:30-05:00 09T03:00-04:00 09T03:30-04:00
    0 * * * *           = 09T03:00-04:00 09T04:00-04:00
    59 59 * * * *       = 09T01:59:59-05:00 09T03:59:59-04:00
America/New_York 2025-03-09T03:00-04:00
    30 2 * * *          = 10T02:30-04:00
    0 3 * * *           = 10T03:00-04:00

America/New_York 2025-11-01T12:00-04:00 (01:00 to 02:00 on the 2nd is repeated)
    30 1 * * *          = 02T01:30-04:00 03T01:30-05:00
    0 1,2 * * *         = 02T01:00-04:00 02T02:00-05:00 03T01:00-05:00
    */30 1 2 11 *       = 02T01:00-04:00 02T01:30-04:00 02T01:00-05:00 02T01:30-05:00 02T01:00-05:00
    @daily              = 02T00:00-04:00 03T00:00-05:00
    */40 30 1 * * *     = 02T01:30-04:00 02T01:30:40-04:00 03T01:30-05:00
America/New_York 2025-11-02T00:45-04:00
    */30 * * * *        = 02T01:00-04:00 02T01:30-04:00 02T01:00-05:00 02T01:30-05:00 02T02:00-05:00
    @hourly             = 02T01:00-04:00 02T01:00-05:00 02T02:00-05:00
    59 59 * * * *       = 02T00:59:59-04:00 02T01:59:59-04:00 02T01:59:59-05:00
America/New_York 2025-11-02T01:45:00.5-04:00
    15,50 1 * * *       = 02T01:50-04:00 03T01:15-05:00
    15 * * * *          = 02T01:15-05:00 02T02:15-05:00
    0 * * * *           = 02T01:00-05:00 02T02:00-05:00
    */60 0 * * *        = 03T00:00-05:00
America/New_York 2025-11-02T01:15-05:00
    30 1 * * *          = 03T01:30-05:00
    30 1,2 * * *        = 02T02:30-05:00 03T01:30-05:00
    0 1,2 * * *         = 02T02:00-05:00 03T01:00-05:00
    30 * * * *          = 02T01:30-05:00 02T02:30-05:00

Europe/Berlin 2025-03-29T12:00+01:00 (02:00 to 03:00 on the 30th is skipped)
    30 2 * * *          = 30T03:00+02:00 31T02:30+02:00
    */20 2 * * *        = 31T02:00+02:00 31T02:20+02:00
    0 4 * * *           = 30T04:00+02:00 31T04:00+02:00
Europe/Berlin 2025-10-25T12:00+02:00 (02:00 to 03:00 on the 26th is repeated)
    30 2 * * *          = 26T02:30+02:00 27T02:30+01:00
    */30 2 * * *        = 26T02:00+02:00 26T02:30+02:00 26T02:00+01:00 26T02:30+01:00 27T02:00+01:00

Australia/Lord_Howe 2025-10-04T12:00+10:30 (02:00 to 02:30 on the 5th is skipped)
    10,40 2 * * *       = 05T02:30+11:00 05T02:40+11:00 06T02:10+11:00
    30 2 * * *          = 05T02:30+11:00 06T02:30+11:00
    */15 2 * * *        = 05T02:30+11:00 05T02:45+11:00 06T02:00+11:00
Australia/Lord_Howe 2025-04-05T12:00+11:00 (01:30 to 02:00 on the 6th is repeated)
    15,45 1 * * *       = 06T01:15+11:00 06T01:45+11:00 07T01:15+10:30
    */15 1 * * *        = 06T01:00+11:00 06T01:15+11:00 06T01:30+11:00 06T01:45+11:00 06T01:30+10:30
    0 * 6 4 *           = 06T00:00+11:00 06T01:00+11:00 06T02:00+10:30

Africa/Cairo 2025-04-24T12:00+02:00 (00:00 to 01:00 on the 25th is skipped)
    0 0 * * *           = 25T01:00+03:00 26T00:00+03:00
    59 23 * * *         = 24T23:59+02:00 25T23:59+03:00
    */30 0 * * *        = 26T00:00+03:00 26T00:30+03:00
    0 0 25 * *          = 25T01:00+03:00 25T00:00+03:00
Africa/Cairo 2025-10-30T12:00+03:00 (23:00 to 24:00 is repeated)
    30 23 * * *         = 30T23:30+03:00 31T23:30+02:00
    0 0 * * *           = 31T00:00+02:00 01T00:00+02:00
    */30 23 * * *       = 30T23:00+03:00 30T23:30+03:00 30T23:00+02:00 30T23:30+02:00 31T23:00+02:00

Pacific/Auckland 2025-09-27T12:00+12:00 (02:00 to 03:00 on the 28th is skipped)
    30 2 * * *          = 28T03:00+13:00 29T02:30+13:00
    */30 1-3 * * *      = 28T01:00+12:00 28T01:30+12:00 28T03:00+13:00 28T03:30+13:00
Pacific/Auckland 2025-04-05T12:00+13:00 (02:00 to 03:00 on the 6th is repeated)
    30 2 * * *          = 06T02:30+13:00 07T02:30+12:00
    */30 2 * * *        = 06T02:00+13:00 06T02:30+13:00 06T02:00+12:00 06T02:30+12:00 07T02:00+12:00

America/Sao_Paulo 2018-11-03T12:00-03:00 (00:00 to 01:00 on the 4th is skipped)
    30 0 * * *          = 04T01:00-02:00 05T00:30-02:00
    */30 0 * * *        = 05T00:00-02:00 05T00:30-02:00
America/Sao_Paulo 2019-02-16T12:00-02:00 (23:00 to 24:00 is repeated)
    30 23 * * *         = 16T23:30-02:00 17T23:30-03:00
    @hourly             = 16T13:00-02:00 16T14:00-02:00
America/Sao_Paulo 2019-11-02T12:00-03:00 (where the change would have been, the zone no longer has it)
    30 0 * * *          = 03T00:30-03:00 04T00:30-03:00
    */30 0 * * *        = 03T00:00-03:00 03T00:30-03:00 04T00:00-03:00

Europe/Istanbul 2016-03-26T12:00+02:00 (03:00 to 04:00 on the 27th is skipped, for good)
    30 3 * * *          = 27T04:00+03:00 28T03:30+03:00
    0 3 1 4,11 *        = 01T03:00+03:00 01T03:00+03:00 01T03:00+03:00
Europe/Istanbul 2016-10-29T12:00+03:00
    30 3 * * *          = 30T03:30+03:00 31T03:30+03:00
    */30 3 * * *        = 30T03:00+03:00 30T03:30+03:00 31T03:00+03:00

Pacific/Apia 2011-12-29T12:00-10:00 (the whole of the 30th is skipped)
    0 9 * * *           = 31T00:00+14:00 31T09:00+14:00 01T09:00+14:00
    0 0 * * *           = 31T00:00+14:00 01T00:00+14:00
    0 9 31 12 *         = 31T09:00+14:00
    0 */12 * * *        = 31T00:00+14:00 31T12:00+14:00
    * * 30 12 *         = 30T00:00+14:00 30T00:01+14:00
    * * * * * *         = 29T12:00:01-10:00
"""


def rows(table: str) -> Iterator[tuple[str, str, str, str]]:
    zone, after = "", ""
    for line in filter(None, table.splitlines()):
        if line.startswith(" "):
            expression, _, fires = line.partition(" = ")
            yield zone, after, expression.strip(), fires
        else:
            zone, after, *_ = line.split()


@pytest.mark.parametrize(("zone", "after", "expression", "fires"), list(rows(TABLE)))
def test_a_schedule_fires_around_a_change_as_debians_cron_does(
    zone: str, after: str, expression: str, fires: str
) -> None:
    upcoming = parse(expression, zone).upcoming(datetime.fromisoformat(after), len(fires.split()))

    shown = [fire.isoformat(timespec="seconds" if fire.second else "minutes") for fire in upcoming]
    assert " ".join(fire[len("2025-03-") :] for fire in shown) == fires


def test_a_schedule_that_matches_only_what_the_clock_skips_never_fires() -> None:
    only_in_the_gap = "*/60 2 8-14 3 */7"  # 02:00 on the second Sunday of March

    assert parse(only_in_the_gap, "Europe/Berlin").upcoming(datetime(2025, 1, 1, tzinfo=UTC), 1)
    error = refusal(only_in_the_gap, "America/New_York")
    assert str(error) == f"'{only_in_the_gap}' never fires; choose a day and an hour that exist"


def test_a_schedule_can_come_to_its_last_fire() -> None:
    # Midnight on the first Sunday of September from the 2nd on: what Chile skips, but did not in 2022.
    schedule = parse("*/60 0 2-8 9 */7", "America/Santiago")
    start, only = datetime(2020, 1, 1, tzinfo=UTC), datetime(2022, 9, 4, 4, tzinfo=UTC)

    assert schedule.upcoming(start, 5) == [only]
    assert schedule.next(only) is None
    assert schedule.latest(start, start + timedelta(days=2000)) == only
    assert schedule.latest(only, start + timedelta(days=2000)) is None


def test_the_latest_of_millions_of_fires_is_found_across_a_change() -> None:
    new_york = ZoneInfo("America/New_York")
    march, until = datetime(2025, 3, 1, tzinfo=new_york), datetime(2025, 3, 9, 3, 0, 30, tzinfo=new_york)

    assert parse("* 59 * * * *", "America/New_York").latest(march, until) == datetime(
        2025, 3, 9, 6, 59, 59, tzinfo=UTC
    )
    assert parse("* 59 2 * * *", "America/New_York").latest(march, until) == datetime(
        2025, 3, 9, 7, tzinfo=UTC
    )


CHANGES = {
    "America/New_York": ["2025-03-09T07:00", "2025-11-02T06:00"],
    "Europe/Berlin": ["2025-03-30T01:00", "2025-10-26T01:00"],
    "Europe/Dublin": ["2025-03-30T01:00", "2025-10-26T01:00"],  # its winter is the exception, by law
    "Antarctica/Troll": ["2025-03-30T01:00", "2025-10-26T01:00"],  # two hours
    "Pacific/Auckland": ["2025-09-27T14:00", "2025-04-05T14:00"],
    "Europe/Istanbul": ["2016-03-27T01:00", "2015-11-08T01:00"],  # dropped
    "America/Sao_Paulo": ["2018-11-04T03:00", "2019-02-17T02:00"],  # dropped
    "Africa/Cairo": ["2025-04-24T22:00", "2025-10-30T21:00"],  # at midnight
    "Africa/Casablanca": ["2025-02-23T02:00", "2025-04-06T02:00"],  # for Ramadan
    "Australia/Lord_Howe": ["2025-10-04T15:30", "2025-04-05T15:00"],  # half an hour
    "America/Caracas": ["2007-12-09T07:00", "2016-05-01T07:00"],  # half an hour, for good
    "Asia/Pyongyang": ["2015-08-14T15:00", "2018-05-04T15:00"],  # half an hour, at midnight
    "Pacific/Apia": ["2011-12-30T10:00"],  # a day skipped
    "Pacific/Kwajalein": ["1969-09-30T13:00", "1993-08-21T12:00"],  # most of a day repeated, a day skipped
}
EDGES = [
    (zone, datetime.fromisoformat(change).replace(tzinfo=UTC))
    for zone, changes in CHANGES.items()
    for change in changes
]
NIGHT = texts(0, 3)
NIGHTLY = st.one_of(expressions(NIGHT), st.builds("{} {} * * *".format, texts(0, 59), NIGHT))


def is_fixed(expression: str) -> bool:
    minute, hour = expression.split()[-5:-3]
    return not minute.startswith("*") and not hour.startswith("*")


def matches(fields: CronSim, wall: datetime) -> bool:
    clock = wall.second in fields.seconds and wall.minute in fields.minutes and wall.hour in fields.hours
    return clock and wall.month in fields.months and fields.match_day(wall.date())


def ticks(
    expression: str, zone: str, after: datetime, until: datetime, step: timedelta
) -> Iterator[datetime]:
    """Yield what a cron with a clock on its wall would run, looking at it at each step of real time.

    cronsim only tells whether the fields match; it knows of no zone here.
    """
    fields, fixed = CronSim(expression, datetime(2000, 1, 1)), is_fixed(expression)  # noqa: DTZ001
    before = after.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
    while (after := after + step) <= until:
        local = after.astimezone(ZoneInfo(zone))
        wall = local.replace(tzinfo=None, fold=0)
        skipped = range(1, (wall - before) // step) if fixed else ()
        if (matches(fields, wall) and not (fixed and local.fold)) or any(
            matches(fields, before + step * number) for number in skipped
        ):
            yield after
        before = wall


def walk(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    while (fire := schedule.next(after)) is not None and fire <= until:
        assert fire > after
        yield (after := fire)


@given(
    edge=st.sampled_from(EDGES),
    expression=NIGHTLY,
    start=st.integers(-26 * 60, 90),
    span=st.integers(1, 300),
    fraction=st.timedeltas(timedelta(0), MINUTE - timedelta.resolution),
)
@settings(max_examples=150, deadline=None)
def test_around_a_change_a_clock_read_each_minute_agrees(
    edge: tuple[str, datetime], expression: str, start: int, span: int, fraction: timedelta
) -> None:
    zone, change = edge
    assume(refusal(expression, zone) is None)
    after = change + start * MINUTE
    until = max(change, after) + span * MINUTE
    schedule = parse(expression, zone)
    expected = list(ticks(expression, zone, after, until, MINUTE))

    assert list(walk(schedule, after + fraction, until)) == expected
    assert schedule.latest(after + fraction, until + fraction) == (expected[-1] if expected else None)


@given(
    edge=st.sampled_from(EDGES),
    expression=st.one_of(NIGHTLY, FIRING),
    start=st.integers(-50 * 60, 50 * 60),
    span=st.integers(0, 300),
    fraction=st.one_of(st.just(timedelta(0)), st.timedeltas(timedelta(0), MINUTE - timedelta.resolution)),
)
@settings(max_examples=150, deadline=None)
def test_as_many_fires_are_counted_as_there_are_going_from_one_to_the_next(
    edge: tuple[str, datetime], expression: str, start: int, span: int, fraction: timedelta
) -> None:
    zone, change = edge
    assume(refusal(expression, zone) is None)
    since = change + start * MINUTE + fraction
    until = since + span * MINUTE
    schedule = parse(expression, zone)

    instant = timedelta.resolution
    assert schedule.count(since, until) == len(list(walk(schedule, since - instant, until - instant)))


def test_a_year_of_fires_every_second_is_counted_at_once() -> None:
    year = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    assert parse("* * * * * *", "Europe/Berlin").count(*year) == 365 * 86_400
    assert parse("*/10 * 2 * * *", "Europe/Berlin").count(*year) == 365 * 360  # a gap and a repeated hour
    assert parse("30 2 * * *", "Europe/Berlin").count(*year) == 365


@pytest.mark.parametrize(("zone", "change"), EDGES)
def test_the_fires_before_a_change_and_those_from_it_on_are_all_that_there_are(
    zone: str, change: datetime
) -> None:
    day = timedelta(days=1)
    for expression in ("30 2 * * *", "*/30 * * * *", "15 0-3 * * *", "0 2,3 * * *"):
        schedule = parse(expression, zone)
        before, after = schedule.count(change - day, change), schedule.count(change, change + day)

        assert before == len(list(walk(schedule, change - day - SECOND, change - SECOND)))
        assert before + after == schedule.count(change - day, change + day)


@given(
    edge=st.sampled_from(EDGES),
    expression=st.tuples(texts(0, 59), NIGHTLY).map(" ".join),
    start=st.integers(-5400, 5400),
    span=st.integers(1, 1200),
    fraction=st.timedeltas(timedelta(0), SECOND - timedelta.resolution),
)
@settings(max_examples=60, deadline=None)
def test_around_a_change_a_clock_read_each_second_agrees(
    edge: tuple[str, datetime], expression: str, start: int, span: int, fraction: timedelta
) -> None:
    zone, change = edge
    assume(refusal(expression, zone) is None)
    after = change + start * SECOND
    until = max(change, after) + span * SECOND
    expected = list(ticks(expression, zone, after, until, SECOND))

    assert list(walk(parse(expression, zone), after + fraction, until)) == expected


# Where cronsim is no oracle, with a time that follows real time: it walks through the day in steps of an hour,
# so it loses its way where the clocks change by half an hour, and it takes a midnight that is skipped for real.
STRAIGHT = ["America/New_York", "Europe/Berlin", "Europe/Dublin", "Antarctica/Troll", "Pacific/Auckland"]


@given(edge=st.sampled_from(EDGES), expression=NIGHTLY, start=st.integers(-30 * 60, 90))
@settings(max_examples=150, deadline=None)
def test_around_a_change_cronsim_agrees(edge: tuple[str, datetime], expression: str, start: int) -> None:
    zone, change = edge
    fixed = is_fixed(expression)
    after = (change + start * MINUTE).astimezone(ZoneInfo(zone))
    assume(refusal(expression, zone) is None)
    assume(fixed or zone in STRAIGHT)
    # From the second pass of an hour cronsim answers with a fixed time of the first pass, which is over.
    assume(not (fixed and after.fold))

    # Equal as instants: two times of one zone compare by what the clock shows, whichever pass it is.
    expected = [fire.astimezone(UTC) for fire in islice(CronSim(expression, after), 6)]
    assert [fire.astimezone(UTC) for fire in parse(expression, zone).upcoming(after, 6)] == expected


INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(zone=st.sampled_from(sorted(CHANGES)), expression=FIRING, after=INSTANTS)
@settings(max_examples=100, deadline=None)
def test_fires_come_in_order_and_show_what_their_fields_say(
    zone: str, expression: str, after: datetime
) -> None:
    assume(refusal(expression, zone) is None)
    fields = CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001
    fires = parse(expression, zone).upcoming(after, 10)

    instants = [after, *(fire.astimezone(UTC) for fire in fires)]
    assert all(earlier < later for earlier, later in pairwise(instants))
    for fire in fires:
        previous = (fire.astimezone(UTC) - SECOND).astimezone(fire.tzinfo)
        after_a_gap = fire.replace(tzinfo=None) - previous.replace(tzinfo=None) > SECOND
        assert matches(fields, fire.replace(tzinfo=None)) or (after_a_gap and is_fixed(expression))
