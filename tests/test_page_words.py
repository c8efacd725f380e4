"""Numbers, instants and texts as pages put them into words."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from claude_runner.views import instants
from claude_runner.web.dashboard import _overview
from claude_runner.web.dashboard import _words as words

NOW = datetime(2026, 11, 26, 11, 47, 20, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("usd", "said"),
    [(None, "\N{EN DASH}"), (0.0, "$0.00"), (0.0034, "$0.0034"), (0.5, "$0.50"), (1234.5, "$1,234.50")],
)
def test_money_has_the_digits_that_matter(usd: float | None, said: str) -> None:
    assert words.money(usd) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (9994, "9.99k"),
        (9996, "10.0k"),
        (99_960, "100k"),
        (999_700, "1.00M"),
    ],
)
def test_a_count_has_three_digits_at_the_most(number: int, said: str) -> None:
    assert words.short_count(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3601, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_span_is_told_in_two_units(seconds: float, said: str) -> None:
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "now"),
        (-30, "30 s ago"),
        (-59.9, "1 min ago"),
        (90, "in 2 min"),
        (7200, "in 2 h"),
        (-200_000, "2 d ago"),
    ],
)
def test_an_instant_is_told_by_how_far_it_is(seconds: float, said: str) -> None:
    assert words.relative(NOW + timedelta(seconds=seconds), NOW) == said


def test_an_instant_on_the_clock_tells_no_more_of_its_day_than_it_must() -> None:
    said = [
        instants.clock_time(NOW + timedelta(hours=hours), NOW, BERLIN) for hours in (0, 12, -24, 96, -9600)
    ]
    assert said == ["12:47", "tomorrow 00:47", "yesterday 12:47", "Mon 30 Nov 12:47", "22 Oct 2025"]


def test_an_instant_has_the_exact_one_on_hover() -> None:
    tag = words.time_tag(NOW, NOW, BERLIN)
    assert 'title="Thu 26 Nov 2026, 12:47:20 CET"' in tag
    assert 'datetime="2026-11-26T11:47:20.000+00:00"' in tag


@pytest.mark.parametrize(("share", "said"), [(1.0, "100"), (0.99999, "99.9"), (0.5, "50.0"), (0.0, "0.0")])
def test_only_all_is_a_hundred_per_cent(share: float, said: str) -> None:
    assert words.percent(share) == said


def test_days_begin_at_midnight_of_the_owners_clock_also_where_it_changes() -> None:
    edges = words.day_edges(datetime(2026, 10, 25, 20, tzinfo=UTC), BERLIN, 2)
    assert [
        (other.astimezone(UTC) - one.astimezone(UTC)) / timedelta(hours=1)
        for one, other in itertools.pairwise(edges)
    ] == [24, 25]


def test_a_line_of_markdown_has_no_marks() -> None:
    assert (
        words.plain("## Report\n- **All** `well`, 2 * 3, a_b_c\n> said")
        == "Report All well, 2 * 3, a_b_c said"
    )


def test_the_hours_of_a_timeline_lie_within_it_also_where_the_clocks_go_back() -> None:
    now = datetime(2026, 10, 24, 7, 30, tzinfo=UTC)
    ticks = _overview._hours(now, BERLIN)
    assert [hour for _, hour in ticks] == ["12:00", "15:00", "18:00", "21:00", "00:00", "03:00", "06:00"]
    assert all(0 < share < 1 for share, _ in ticks)
