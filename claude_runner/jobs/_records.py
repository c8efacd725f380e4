"""What a job is: what a person decides about it, and what is stored."""

import logging
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple

from claude_runner.db import from_text
from claude_runner.errors import InvalidError
from claude_runner.grants import read_tools
from claude_runner.jobs._choices import PausedBy
from claude_runner.jobs._policies import UNDECIDED, Policy, policy_from
from claude_runner.jobs._timing import check_timing
from claude_runner.permissions import Profile, read_commands
from claude_runner.runs import NewRun, Trigger
from claude_runner.schedule import Schedule, Timetable, parse, parse_blackout

MAX_NAME: Final = 200
MAX_PROMPT: Final = 1_000_000
DEFAULT_TIMEOUT_MINUTES: Final = 30

log = logging.getLogger(__name__)

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# What is not seen but turns or hides what stands beside it: of a name, which is shown in the middle of other texts.
_ACTING = re.compile("[\u200b\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobDraft:
    """What a person decides about a job.

    Attributes:
        tools: Names in full form; empty means the owner's allowed tools.
        timeout_minutes: Minutes after which a run is ended, 1 to 1440.
        model: A model's name or alias, or `None` for Claude Code's own default.
        profile: What its runs may do without asking; `None` for the owner's default.
        commands: Beginnings of the shell commands that the profile `rules` grants.
        policy: What is done when a slot comes at a bad time, a run fails or costs too much.
    """

    name: str
    cron: str
    prompt: str
    timezone: str
    tools: tuple[str, ...] = ()
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    model: str | None = None
    enabled: bool = True
    profile: Profile | None = None
    commands: tuple[str, ...] = ()
    policy: Policy = UNDECIDED

    @property
    def schedule(self) -> Schedule:
        """Return when it runs; raises `InvalidError` where the cron or zone can't be read."""
        return parse(self.cron, self.timezone)

    @property
    def timetable(self) -> Timetable:
        """Return its slots; raises `InvalidError` where the cron, the zone or a blackout can't be read."""
        blackouts = tuple(map(parse_blackout, self.policy.blackouts))
        return Timetable(self.schedule, self.policy.starts_at, self.policy.ends_at, blackouts)

    def checked(self, now: datetime | None) -> "JobDraft":
        """Return the draft in the form it is kept in.

        Args:
            now: What an interval is counted from that says nothing else, and what there must be slots after; `None`
                where it was planned before: a job whose last slot is over may be given another name.

        Raises:
            InvalidError: A value is not one that can be used; its `field` says which.
        """
        name = checked_name(self.name, "a job")
        check_prompt(self.prompt)
        if not 1 <= self.timeout_minutes <= 1440:
            raise InvalidError(
                f"timeout_minutes is {self.timeout_minutes}; give 1 to 1440",
                field="timeout_minutes",
            )
        check_model(self.model)
        self.policy.check()
        if not self.enabled:
            now = None
        schedule = parse(self.cron, self.timezone, now)
        kept = replace(self, name=name, cron=schedule.expression, timezone=schedule.timezone)
        if now is not None:
            check_timing(kept.timetable, kept.policy, now)
        return kept


class Pause(NamedTuple):
    """A job's pause.

    Attributes:
        until: When it goes on by itself; `None` for when somebody says so.
        reason: A sentence for a person.
    """

    since: datetime
    until: datetime | None
    by: PausedBy
    reason: str

    @property
    def sentence(self) -> str:
        """Return why a slot of its time is skipped."""
        return f"the job was paused: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(JobDraft):
    """A job as stored.

    Attributes:
        next_run_at: `None` where it is disabled or nothing comes any more.
        note: What its runs told the later ones to remember.
        pause: Since when, until when and why it is paused; `None` where it is not.
        failures: How many of its runs have failed in a row by what is the job's own doing.
    """

    id: str
    created_at: datetime
    updated_at: datetime
    next_run_at: datetime | None
    last_executed_at: datetime | None
    last_error: str | None
    note: str | None
    pause: Pause | None = None
    failures: int = 0

    def is_paused(self, now: datetime) -> bool:
        """Tell whether its slots are skipped now."""
        return self.pause is not None and (self.pause.until is None or now < self.pause.until)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more since its schedule has an end, which has passed."""
        if not self.enabled or self.next_run_at is not None:
            return False
        with suppress(InvalidError):
            table = self.timetable
            return table.schedule.is_once or table.ends_at is not None
        return False

    def next_fires(self, now: datetime, count: int) -> list[datetime]:
        """Return when it runs next, on its own clock.

        That is never where it is disabled, its schedule is over or was spoiled by hand.
        """
        if not self.enabled or self.next_run_at is None:
            return []
        with suppress(InvalidError):
            return self.timetable.upcoming(now, count)
        return []

    def new_run(
        self, trigger: Trigger, *, scheduled_for: datetime | None = None, rehearsal: bool = False
    ) -> NewRun:
        """Return a run of the job as it is now."""
        return NewRun(
            prompt=self.prompt,
            trigger=trigger,
            tools=self.tools,
            timeout_minutes=self.timeout_minutes,
            model=self.model,
            job_id=self.id,
            scheduled_for=scheduled_for,
            rehearsal=rehearsal,
            profile=self.profile,
            commands=self.commands,
        )


def checked_name(name: str, whose: str) -> str:
    """Return a name in the form it is kept in; `whose` it is, as a sentence says it. Raises `InvalidError`."""
    kept = " ".join(name.split())
    if not kept or len(kept) > MAX_NAME or _CONTROL.search(name) or _ACTING.search(name):
        raise InvalidError(
            f"{whose}'s name is 1 to {MAX_NAME} characters without control characters", field="name"
        )
    return kept


def clean_text(text: str) -> str:
    """Return a text with a mark in place of each character that no prompt may have."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def check_prompt(prompt: str) -> None:
    """Refuse a prompt that can't be run.

    Raises:
        InvalidError: It is empty, too long, or has control characters other than tabs and line ends.
    """
    if not prompt.strip():
        raise InvalidError("the prompt is empty; say what Claude should do", field="prompt")
    if len(prompt) > MAX_PROMPT:
        raise InvalidError(
            f"the prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are kept: "
            "put long material in a file that the prompt names",
            field="prompt",
        )
    if found := _CONTROL.search(prompt):
        raise InvalidError(
            f"the prompt has the control character U+{ord(found[0]):04X} at {found.start()}; remove it",
            field="prompt",
        )


def check_model(model: str | None) -> None:
    """Refuse what can't be the name of a model; `None` is Claude Code's default. Raises `InvalidError`."""
    if model is not None and not _MODEL.fullmatch(model):
        raise InvalidError(
            f"{model[:60]!r} is not the name of a model; give one such as 'sonnet', or leave it out",
            field="model",
        )


def job_from(row: sqlite3.Row) -> Job:
    """Make a job of its row; raises `InvalidError` where somebody wrote what can't be read into it."""
    try:
        return _read(row)
    except (ValueError, InvalidError) as error:
        raise InvalidError(f"job {row['id']} was edited by hand and can't be read: {error}") from error


def readable(rows: Iterable[sqlite3.Row]) -> Iterator[tuple[Job, sqlite3.Row]]:
    """Yield jobs with their rows; one that can't be read is logged, and holds up none of the others."""
    for row in rows:
        try:
            yield job_from(row), row
        except InvalidError as error:
            log.warning("a list leaves it out: %s", error)


def _read(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        name=row["name"],
        cron=row["cron"],
        timezone=row["timezone"],
        prompt=row["prompt"],
        tools=read_tools(row["tools"]),
        timeout_minutes=row["timeout_minutes"],
        model=row["model"],
        enabled=bool(row["enabled"]),
        profile=None if row["profile"] is None else Profile(row["profile"]),
        commands=read_commands(row["commands"]),
        created_at=from_text(row["created_at"]),
        updated_at=from_text(row["updated_at"]),
        next_run_at=_instant(row["next_run_at"]),
        last_executed_at=_instant(row["last_executed_at"]),
        last_error=row["last_error"],
        note=row["note"],
        policy=policy_from(row),
        pause=_pause(row),
        failures=row["failures"],
    )


def _pause(row: sqlite3.Row) -> Pause | None:
    if row["paused_at"] is None:
        return None
    return Pause(
        from_text(row["paused_at"]),
        _instant(row["paused_until"]),
        PausedBy(row["paused_by"] or PausedBy.OWNER),
        row["paused_reason"] or "",
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)
