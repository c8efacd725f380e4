"""The form of a job: as it is stored, as somebody typed it, and the two brought together where both were changed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.jobs import DEFAULT_TIMEOUT_MINUTES, Job, Policy, check_model, check_prompt, checked_name
from claude_runner.schedule import parse
from claude_runner.views.decisions import ChosenProfile, decided
from claude_runner.web.dashboard._filters import whole
from claude_runner.web.dashboard._forms import Form
from claude_runner.web.dashboard._rule_fields import RULES, RuleFields, read_rules, stored_rules, typed_rules

EXAMPLE: Final = "0 9 * * 1-5"
NAMES: Final[Mapping[str, str]] = {
    "name": "Name",
    "prompt": "Prompt",
    "cron": "Schedule",
    "timezone": "Time zone",
    "enabled": "Scheduled",
    "tools": "Tools",
    "profile": "Permissions",
    "commands": "Shell commands",
    "model": "Model",
    "timeout_minutes": "Time limit",
    **RULES,
}  # in the form's order


@dataclass(frozen=True, slots=True)
class JobFields(RuleFields):
    """What the form of a job holds, as it is typed."""

    name: str = ""
    prompt: str = ""
    cron: str = EXAMPLE
    timezone: str = "UTC"
    enabled: bool = True
    tools: tuple[str, ...] = ()
    profile: str = ChosenProfile.DEFAULT
    commands: str = ""
    model: str = ""
    timeout_minutes: str = str(DEFAULT_TIMEOUT_MINUTES)

    @property
    def marks(self) -> dict[str, str]:
        """Return what tells each value apart from others, to be kept in the form."""
        return {name: _mark(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that somebody else has changed meanwhile.

    Attributes:
        name: The field's label.
        theirs: What it says now.
        is_disputed: Whether it was changed in the form as well, to something else: that stays as it was typed.
    """

    name: str
    theirs: str
    is_disputed: bool


def fields_of(job: Job) -> JobFields:
    """Return a job as its form shows it."""
    return JobFields(
        name=job.name,
        prompt=job.prompt,
        cron=job.cron,
        timezone=job.timezone,
        enabled=job.enabled,
        tools=job.tools,
        profile=job.profile or ChosenProfile.DEFAULT,
        commands="\n".join(job.commands),
        model=job.model or "",
        timeout_minutes=str(job.timeout_minutes),
        **stored_rules(job.policy, job.timezone),
    )


def typed(form: Form) -> JobFields:
    """Return what somebody typed; where the defaults of all tools are asked for, boxes that were ticked don't count."""
    tools = () if form.text("grants") == "all" else tuple(dict.fromkeys(form.all("tools")))
    return JobFields(
        name=form.text("name"),
        prompt=form.text("prompt"),
        cron=form.text("cron").strip(),
        timezone=form.text("timezone").strip(),
        enabled=form.ticked("enabled"),
        tools=tools,
        profile=form.text("profile", ChosenProfile.DEFAULT),
        commands="\n".join(line for line in map(_squeezed, form.text("commands").split("\n")) if line),
        model=form.text("model").strip(),
        timeout_minutes=form.text("timeout_minutes").strip(),
        **typed_rules(form),
    )


class Refused(Exception):  # noqa: N818 - what was typed can't be used, which is no mistake of the program's
    """Values that can't be used: a sentence for each field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors


@contextmanager
def of_the_form() -> Iterator[None]:
    """Let what is refused only with all values together, such as a time that is past, be an error of the form."""
    try:
        yield
    except InvalidError as error:
        field = error.field if error.field is not None and error.field in NAMES else "cron"
        raise Refused({field: str(error)}) from error


async def values_of(
    app: App, fields: JobFields, old: Job | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values of a job's draft, and what there is to say about its tools.

    Raises:
        Refused: Some of them can't be used; all of those are told.
    """
    errors: dict[str, str] = {}
    values: dict[str, Any] = {}
    with _noted(errors):
        values["name"] = checked_name(fields.name, "a job")
    with _noted(errors):
        check_prompt(fields.prompt)
    with _noted(errors):
        schedule = parse(fields.cron, fields.timezone)
        values |= {"cron": schedule.expression, "timezone": schedule.timezone}
    with _noted(errors):
        check_model(fields.model or None)
    with _noted(errors):
        values["timeout_minutes"] = _minutes(fields.timeout_minutes)
    with _noted(errors):
        rights = await decided(app, _rights(fields), old)
        values |= rights.values
        warnings = rights.warnings or ()
    before = Policy() if old is None else old.policy
    values["policy"], wrong = await read_rules(app, fields, fields.timezone, before)
    errors |= wrong
    if errors:
        raise Refused(errors)
    return values | {"prompt": fields.prompt, "enabled": fields.enabled}, warnings


def merged(mine: JobFields, theirs: JobFields, seen: Mapping[str, str]) -> tuple[JobFields, list[Difference]]:
    """Return what was typed, with what somebody else changed and this form did not, and all that the other changed.

    Args:
        mine: As it was typed.
        theirs: As it is stored by now.
        seen: The marks of what the form showed at first.
    """
    differences: list[Difference] = []
    taken: dict[str, Any] = {}
    own, others = mine.marks, theirs.marks
    for name, label in NAMES.items():
        if others[name] in {seen.get(name), own[name]}:
            continue
        is_disputed = own[name] != seen.get(name)
        differences.append(Difference(label, _shown(name, getattr(theirs, name)), is_disputed))
        if not is_disputed:
            taken[name] = getattr(theirs, name)
    return replace(mine, **taken), differences


def read_marks(text: str) -> dict[str, str]:
    """Return the marks that a form kept; none where it kept something else."""
    with suppress(ValueError, RecursionError):
        read = json.loads(text)
        if isinstance(read, dict):
            return {str(name): str(mark) for name, mark in read.items()}
    return {}


def read_seen_at(text: str) -> datetime | None:
    """Return the `updated_at` that a form kept, `None` where it kept none."""
    with suppress(ValueError):
        seen = datetime.fromisoformat(text)
        return seen if seen.tzinfo is not None else None
    return None


@contextmanager
def _noted(errors: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except InvalidError as error:
        errors.setdefault(error.field or "", str(error))


def _rights(fields: JobFields) -> dict[str, Any]:
    if fields.profile not in set(ChosenProfile):
        raise InvalidError(f"{fields.profile[:40]!r} is not one of the profiles", field="profile")
    return {
        "tools": list(fields.tools),
        "profile": ChosenProfile(fields.profile),
        "commands": fields.commands.splitlines(),
        "model": fields.model,
    }


def _minutes(text: str) -> int:
    minutes = whole(text)
    if minutes is None or not 1 <= minutes <= 1440:
        raise InvalidError(
            f"{text[:40]!r} is not a time limit; give minutes from 1 to 1440", field="timeout_minutes"
        )
    return minutes


def _squeezed(line: str) -> str:
    return " ".join(line.split())


def _shown(name: str, value: object) -> str:
    nothing = "as the default" if name in RULES else "all that are allowed" if name == "tools" else "nothing"
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(value) or ("nothing" if name in RULES else nothing)
        case _:
            return str(value or "") or nothing


def _mark(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
