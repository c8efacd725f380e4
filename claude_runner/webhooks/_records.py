"""What a webhook is: what a person decides about it, and what is stored."""

import json
import sqlite3
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from claude_runner.db import from_text
from claude_runner.errors import InvalidError
from claude_runner.grants import read_tools
from claude_runner.jobs import DEFAULT_TIMEOUT_MINUTES, check_costs, check_model, checked_name, clean_text
from claude_runner.permissions import Profile, read_commands
from claude_runner.webhooks._filters import Holds, read_filter
from claude_runner.webhooks._paths import ROOT, name_of, path_of
from claude_runner.webhooks._signatures import Signature, check_secret
from claude_runner.webhooks._templates import Template, read_template

MAX_DESCRIPTION: Final = 2_000
MAX_PLAIN_FIELDS: Final = 50
DEFAULT_PER_MINUTE: Final = 60
MAX_PER_MINUTE: Final = 1_000_000
MAX_WAIT_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class WebhookDraft:
    """What a person decides about a webhook.

    Attributes:
        tools: Names in full form; empty means the owner's allowed tools.
        timeout_minutes: Minutes after which a run is ended, 1 to 1440.
        model: A model's name or alias, or `None` for Claude Code's own default.
        profile: What its runs may do without asking; `None` for the owner's default.
        commands: Beginnings of the shell commands that the profile `rules` grants.
        signature: How deliveries are signed; `None` where the token alone lets them in.
        signing_secret: What sender and webhook share for that.
        filter: Which deliveries a run is wanted for; `None` for all.
        plain_fields: Fields whose values stand in the prompt without tags where they are short and of one line.
        max_per_minute: How many deliveries are taken in a minute.
        max_wait_seconds: How long a sender may wait for its run to end; 0 where none may.
        max_cost_usd: What one of its runs may cost in US dollars, but for one turn; `None` for no bound of its own.
        max_cost_per_day_usd: What its runs of one day may cost together, in the owner's zone.
    """

    name: str
    prompt_template: str
    description: str = ""
    tools: tuple[str, ...] = ()
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    model: str | None = None
    profile: Profile | None = None
    commands: tuple[str, ...] = ()
    signature: Signature | None = None
    signing_secret: str | None = field(default=None, repr=False)
    filter: str | None = None
    plain_fields: tuple[str, ...] = ()
    max_per_minute: int = DEFAULT_PER_MINUTE
    max_wait_seconds: int = 0
    enabled: bool = True
    max_cost_usd: float | None = None
    max_cost_per_day_usd: float | None = None

    @property
    def template(self) -> Template:
        """Return its template, read; raises `InvalidError` where that can't be."""
        return read_template(self.prompt_template)

    @property
    def holds(self) -> Holds | None:
        """Return its filter, read; raises `InvalidError` where that can't be."""
        return None if self.filter is None else read_filter(self.filter)

    def checked(self) -> "WebhookDraft":
        """Return the draft in the form it is kept in.

        Raises:
            InvalidError: A value is not one that can be used; its `field` says which.
        """
        name = checked_name(self.name, "a webhook")
        read_template(self.prompt_template)
        condition = (self.filter or "").strip() or None
        if condition is not None:
            read_filter(condition)
        check_model(self.model)
        self._check_signature()
        self._check_numbers()
        check_costs(self.max_cost_usd, self.max_cost_per_day_usd)
        if len(self.description) > MAX_DESCRIPTION or clean_text(self.description) != self.description:
            raise InvalidError(
                f"a webhook's description has at most {MAX_DESCRIPTION:,} characters, and no control characters",
                field="description",
            )
        return replace(self, name=name, filter=condition, plain_fields=checked_fields(self.plain_fields))

    def _check_signature(self) -> None:
        if self.signature is None and self.signing_secret is not None:
            raise InvalidError(
                f"a signing_secret needs a signature: one of {', '.join(Signature)}", field="signature"
            )
        if self.signature is not None:
            if self.signing_secret is None:
                raise InvalidError(
                    f"the signature '{self.signature}' needs a signing_secret, which the sender knows too",
                    field="signing_secret",
                )
            check_secret(self.signature, self.signing_secret)

    def _check_numbers(self) -> None:
        bounds = {
            "timeout_minutes": (self.timeout_minutes, 1, 1440),
            "max_per_minute": (self.max_per_minute, 1, MAX_PER_MINUTE),
            "max_wait_seconds": (self.max_wait_seconds, 0, MAX_WAIT_SECONDS),
        }
        for name, (value, low, high) in bounds.items():
            if not low <= value <= high:
                raise InvalidError(f"{name} is {value}; give {low} to {high:,}", field=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(WebhookDraft):
    """A webhook as stored.

    Attributes:
        token: What its URL ends with and lets deliveries in; `None` where no key opens it.
        token_sha256: What it is found by.
        readable: Whether the keys that are there open its token and its signing secret.
        trigger_count: How many runs it has started.
    """

    id: str
    token: str | None = field(repr=False)
    token_sha256: str
    readable: bool
    trigger_count: int
    last_triggered_at: datetime | None
    created_at: datetime
    updated_at: datetime


def checked_fields(fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return fields by their full names; the `payload.` at their beginning may be left out. Raises `InvalidError`."""
    if len(fields) > MAX_PLAIN_FIELDS:
        raise InvalidError(
            f"plain_fields has {len(fields)} entries; at most {MAX_PLAIN_FIELDS} can be kept",
            field="plain_fields",
        )
    try:
        return tuple(dict.fromkeys(name_of(path_of(_full(it))) for it in fields))
    except InvalidError as error:
        raise InvalidError(str(error), field="plain_fields") from error


def webhook_from(row: sqlite3.Row, token: str | None, secret: str | None) -> Webhook:
    """Make a webhook of its row and of what was sealed in it.

    Raises:
        InvalidError: Somebody wrote into the row what can't be read.
    """
    try:
        return _read(row, token, secret)
    except (ValueError, InvalidError) as error:
        raise InvalidError(f"webhook {row['id']} was edited by hand and can't be read: {error}") from error


def _read(row: sqlite3.Row, token: str | None, secret: str | None) -> Webhook:
    last = row["last_triggered_at"]
    return Webhook(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        token=token,
        token_sha256=row["token_sha256"],
        readable=token is not None and (secret is not None) == (row["signing_secret"] is not None),
        prompt_template=row["prompt_template"],
        tools=read_tools(row["tools"]),
        timeout_minutes=row["timeout_minutes"],
        model=row["model"],
        profile=None if row["profile"] is None else Profile(row["profile"]),
        commands=read_commands(row["commands"]),
        signature=None if row["signature"] is None else Signature(row["signature"]),
        signing_secret=secret,
        filter=row["filter"],
        plain_fields=_fields(row["plain_fields"]),
        max_per_minute=row["max_per_minute"],
        max_wait_seconds=row["max_wait_seconds"],
        enabled=bool(row["enabled"]),
        max_cost_usd=row["max_cost_usd"],
        max_cost_per_day_usd=row["max_cost_per_day_usd"],
        trigger_count=row["trigger_count"],
        last_triggered_at=None if last is None else from_text(last),
        created_at=from_text(row["created_at"]),
        updated_at=from_text(row["updated_at"]),
    )


def _fields(text: str) -> tuple[str, ...]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("plain_fields is no list of texts")
    return tuple(value)


def _full(name: str) -> str:
    name = name.strip()
    return name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}"
