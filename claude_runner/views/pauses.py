"""What is told of pauses, of whatever else holds runs back, and of why a job did not run."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.holds import Hold, HoldKind
from claude_runner.jobs import Pause, PausedBy
from claude_runner.views.fitting import shown
from claude_runner.views.instants import YEARS, iso
from claude_runner.views.slots import SlotView, slot_view


@dataclass(frozen=True, slots=True)
class PauseView:
    """A pause; `until` is null where it lasts until somebody ends it."""

    since: str
    until: str | None
    by: PausedBy
    reason: str


@dataclass(frozen=True, slots=True)
class HoldView:
    """What holds all runs back but those started by hand; `until` is when it ends, or one run is let through."""

    kind: HoldKind
    since: str
    until: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class HoldList:
    """What holds runs back now, oldest first: pause_all, a login, a bill, a usage limit."""

    holds: list[HoldView]
    total: int


@dataclass(frozen=True, slots=True)
class ExplanationView:
    """Why a job did or did not run around a time, with its slots that are nearest to it."""

    job_id: str
    around: str
    answer: str
    slots: list[SlotView]
    next_run_at: str | None


def pause_view(pause: Pause | None, now: datetime) -> PauseView | None:
    """Return a pause; `None` where it is over."""
    if pause is None or (pause.until is not None and pause.until <= now):
        return None
    return PauseView(pause.since.isoformat(), iso(pause.until), pause.by, pause.reason)


async def hold_list(app: App) -> HoldList:
    """Return what holds runs back now."""
    held = [_hold_view(hold) for hold in await app.pausing.held()]
    return HoldList(held, len(held))


async def explanation_view(app: App, job_id: str, around: str | None) -> ExplanationView:
    """Return why a job did not run around a time, which may be on the job's own clock.

    Raises:
        NotFoundError: There is no such job.
        InvalidError: The time can't be read.
    """
    at = None
    if around is not None:
        at = read_moment(around, "around", ZoneInfo((await app.jobs.get(job_id)).timezone))
    it = await app.explain(job_id, at)
    slots = [slot_view(slot) for slot in it.slots]
    return ExplanationView(it.job_id, it.around.isoformat(), it.answer, slots, iso(it.next_run_at))


def read_until(until: str | None, zone: ZoneInfo) -> datetime | None:
    """Return when a pause is to end; `None` for when somebody says so. Raises `InvalidError`."""
    return None if until is None else read_moment(until, "until", zone)


def read_moment(value: object, field: str, zone: ZoneInfo) -> datetime:
    """Read an instant: ISO 8601 with an offset, or without one on the clock of a zone, or the beginning of a day.

    Args:
        value: What was given.
        field: What it is called.
        zone: Whose clock is meant where it has no offset.

    Raises:
        InvalidError: It is none.
    """
    with suppress(ValueError, OverflowError, TypeError):
        at = datetime.fromisoformat(str(value).strip())
        if at.year in YEARS:
            return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    raise InvalidError(
        f"{field} is {shown(value)}; give an instant such as '2026-12-24T18:00' on the clock of {zone.key}, with "
        "an offset such as '2026-12-24T18:00+01:00', or a day such as '2026-12-24'",
        field=field,
    )


def _hold_view(hold: Hold) -> HoldView:
    return HoldView(hold.kind, hold.since.isoformat(), iso(hold.until), hold.reason)
