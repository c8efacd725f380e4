"""What was spent, by whom or on which day, and how much of each budget is used."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.budgets import Scope, Standing, standings
from claude_runner.errors import InvalidError
from claude_runner.views.spending import USUAL_DAYS, By, Spending, SpentBy, spending
from claude_runner.web.dashboard import _charts
from claude_runner.web.dashboard._filters import Asked, Tab, given, is_day, tidy
from claude_runner.web.dashboard._rendering import Pages, wants, with_query
from claude_runner.web.dashboard._words import money

PLACE: Final = "/spending"
ROWS: Final = 40  # what an open page is sent as runs end stays within 5 KB
FOLLOWED: Final = 45  # days; more are not sent again as runs end
BUDGETS: Final = 12
TITLES: Final = {By.JOB: "Jobs", By.WEBHOOK: "Webhooks", By.MODEL: "Models", By.DAY: "Days"}
WHOSE: Final = {Scope.MONTH: "This month", Scope.DAY: "Today"}
FIELDS: Final = {"from": "since", "to": "until"}  # as the view calls them, and as the page does
# What the runs of those come to that no row tells of.
OTHERS: Final[Mapping[By, str]] = MappingProxyType(
    {
        By.JOB: "Runs without a job, such as webhooks and quick runs, and what is deleted",
        By.WEBHOOK: "Runs without a webhook, such as jobs and quick runs, and what is deleted",
        By.MODEL: "Runs whose model was not noted",
    }
)


class Row(NamedTuple):
    """A row of the page.

    Attributes:
        name: What it is called; `is_gone` where that is deleted.
        share: Of the dearest, from 0 to 1.
        link: The runs behind it.
    """

    name: str
    is_gone: bool
    spent: SpentBy
    share: float
    link: str


class SpendingPage:
    """The page at `/spending`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield its route."""
        yield Route(PLACE, self.show)

    async def show(self, request: Request) -> Response:
        """Show it."""
        if (elsewhere := tidy(request)) is not None:
            return elsewhere
        asked = Asked(request.query_params, await self._pages.zone())
        shown: dict[str, Any] = {"errors": asked.errors, "filters": given(request), "is_day": is_day}
        if wants(request, "spent"):
            shown |= await self._spent(request, asked)
        if wants(request, "budgets"):
            shown |= await self._budgets()
        return await self._pages.page(request, "spending.html", 422 if asked.errors else 200, **shown)

    async def _spent(self, request: Request, asked: Asked) -> dict[str, Any]:
        by = asked.one_of("by", By) or By.JOB
        since, until = asked.text("since") or await self._usual(), asked.text("until")
        found = None
        if not asked.errors:
            try:
                found = await spending(self._app, since, until, by)
            except InvalidError as error:
                asked.errors[FIELDS.get(error.field or "", "by")] = str(error)
        rows = [] if found is None else _rows(found, since, until)
        shown = rows if by is By.DAY else rows[:ROWS]
        return {
            "spending": found,
            "rows": shown,
            "not_shown": len(rows) - len(shown),
            "others": None if found is None else _others(found),
            "chart": _chart(rows) if by is By.DAY and rows else None,
            "by": by,
            "title": TITLES[by],
            "follows": len(shown) <= FOLLOWED,
            "since": since,
            "tabs": _tabs(given(request), by),
        }

    async def _usual(self) -> str:
        """Return the first of the days that are told where nobody asks for others."""
        today = self._app.clock.now().astimezone(await self._pages.zone()).date()
        return (today - timedelta(days=USUAL_DAYS - 1)).isoformat()

    async def _budgets(self) -> dict[str, Any]:
        now = self._app.clock.now()
        found = await self._app.database.read(lambda c: standings(c, now))
        return {
            "standings": [(_whose(it), _link(it), it) for it in found[:BUDGETS]],
            "hidden": len(found) - BUDGETS,
            "bounds": (await self._app.stored.owned()).budgets,
        }


def _rows(found: Spending, since: str, until: str | None) -> list[Row]:
    """Return the rows as they are shown: the dearest first, but days the latest."""
    most = max((row.cost_usd for row in found.rows), default=0.0)
    rows = [
        Row(
            row.name or row.key if found.by in {By.MODEL, By.DAY} else row.name or f"deleted: {row.key}",
            row.name is None and found.by in {By.JOB, By.WEBHOOK},
            row,
            row.cost_usd / most if most else 0.0,
            _runs_of(found.by, row, since, until),
        )
        for row in found.rows
    ]
    return rows[::-1] if found.by is By.DAY else rows


def _runs_of(by: By, row: SpentBy, since: str, until: str | None) -> str:
    if by is By.DAY:
        day = date.fromisoformat(row.key)
        return with_query("/runs", since=row.key, until=(day + timedelta(days=1)).isoformat())
    return with_query("/runs", **{by.value: row.key}, since=since, until=until)


def _others(found: Spending) -> tuple[str, float, int] | None:
    """Return what no row tells of: what it is, its cost and its runs; `None` where that is nothing."""
    if found.by not in OTHERS:
        return None
    cost = found.totals.cost_usd - sum(row.cost_usd for row in found.rows)
    runs = found.totals.runs - sum(row.runs for row in found.rows)
    return (OTHERS[found.by], max(cost, 0.0), max(runs, 0)) if cost > 0.005 or runs > 0 else None


def _chart(rows: Sequence[Row]) -> str:
    days = rows[::-1]
    labels = [f"{date.fromisoformat(row.name):%d %b}" for row in days]
    return _charts.area(
        labels, [row.spent.cost_usd for row in days], title="Cost per day", tell=money, width=1120, height=180
    )


def _tabs(filters: Mapping[str, Sequence[str]], chosen: By) -> list[Tab]:
    others = {name: values for name, values in filters.items() if name != "by"}
    return [
        Tab(title, with_query(PLACE, by="" if by is By.JOB else by, **others), by is chosen)
        for by, title in TITLES.items()
    ]


def _whose(it: Standing) -> str:
    return WHOSE.get(it.scope) or f"{it.name}, today"


def _link(it: Standing) -> str:
    match it.scope:
        case Scope.JOB_DAY:
            return f"/jobs/{it.key}/edit"
        case Scope.WEBHOOK_DAY:
            return f"/webhooks/{it.key}/edit"
        case _:
            return "/settings#budgets"
