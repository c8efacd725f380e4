"""The form of a webhook: its fields as they are typed, and as they are decided."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeVar

from claude_runner.errors import InvalidError
from claude_runner.views.decisions import ChosenProfile, ChosenSignature
from claude_runner.web.dashboard._forms import Form
from claude_runner.webhooks import Webhook

# What a new webhook begins with: it can be tried at once and shows what a template can do.
TEMPLATE: Final = """\
Somebody has opened an issue. Say in two sentences what is asked for, and how urgent it is.

Title: {{payload.issue.title}}
Text: {{payload.issue.body | "(none)"}}
"""
PAYLOAD: Final = '{"action": "opened", "issue": {"title": "The export hangs", "body": null}}'
SECRET: Final = "signing_secret"  # noqa: S105 - the name of a field
SECRET_AGAIN: Final = "Type it again: a secret is never sent back to a page."  # noqa: S105 - a sentence

LABELS: Final = MappingProxyType(
    {
        "name": "Name",
        "description": "Description",
        "prompt_template": "Prompt",
        "tools": "Tools",
        "profile": "Permissions",
        "commands": "Shell commands",
        "model": "Model",
        "timeout_minutes": "Minutes at most",
        "signature": "Signature",
        "filter": "Filter",
        "plain_fields": "Plain fields",
        "max_per_minute": "Deliveries a minute",
        "max_wait_seconds": "Seconds to wait",
    }
)

_BETWEEN: Final = re.compile(r"[\n,]")
_Chosen = TypeVar("_Chosen", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedWebhook:
    """A webhook's form as it was typed, but for the secret, which is never shown.

    Attributes:
        tools: Every tool that is ticked.
        enabled: Whether a new one takes deliveries.
    """

    name: str = ""
    description: str = ""
    prompt_template: str = TEMPLATE
    tools: tuple[str, ...] = ()
    profile: str = ChosenProfile.DEFAULT
    commands: str = ""
    model: str = ""
    timeout_minutes: str = "30"
    signature: str = ChosenSignature.NONE
    filter: str = ""
    plain_fields: str = ""
    max_per_minute: str = "60"
    max_wait_seconds: str = "0"
    enabled: bool = True

    @classmethod
    def of(cls, webhook: Webhook) -> "TypedWebhook":
        """Return the form of a webhook as it is."""
        return cls(
            name=webhook.name,
            description=webhook.description,
            prompt_template=webhook.prompt_template,
            tools=webhook.tools,
            profile=webhook.profile or ChosenProfile.DEFAULT,
            commands="\n".join(webhook.commands),
            model=webhook.model or "",
            timeout_minutes=str(webhook.timeout_minutes),
            signature=webhook.signature or ChosenSignature.NONE,
            filter=webhook.filter or "",
            plain_fields="\n".join(webhook.plain_fields),
            max_per_minute=str(webhook.max_per_minute),
            max_wait_seconds=str(webhook.max_wait_seconds),
            enabled=webhook.enabled,
        )

    @classmethod
    def read(cls, form: Form) -> "TypedWebhook":
        """Return what was typed."""
        texts = {it.name: form.text(it.name) for it in fields(cls) if it.name not in {"tools", "enabled"}}
        return cls(**texts, tools=form.all("tools"), enabled=form.ticked("enabled"))

    @property
    def plain(self) -> tuple[str, ...]:
        """Return the names of plain fields."""
        return _entries(self.plain_fields)

    def decided(self) -> dict[str, Any]:
        """Return what was decided, but for the secret and whether it is enabled, as `views.decisions` reads it.

        Raises:
            InvalidError: A number is none, or a choice is not one of those there are.
        """
        return {
            "name": self.name,
            "description": self.description,
            "prompt_template": self.prompt_template,
            "tools": list(self.tools),
            "profile": _choice(ChosenProfile, self.profile, "profile"),
            "commands": _lines(self.commands),
            "model": self.model.strip(),
            "timeout_minutes": _number(self.timeout_minutes, "timeout_minutes"),
            "signature": _choice(ChosenSignature, self.signature, "signature"),
            "filter": self.filter,
            "plain_fields": list(self.plain),
            "max_per_minute": _number(self.max_per_minute, "max_per_minute"),
            "max_wait_seconds": _number(self.max_wait_seconds, "max_wait_seconds"),
        }

    def differences(self, stored: "TypedWebhook") -> list[tuple[str, str, str]]:
        """Return each field that another has otherwise: what it is called, what it is there, and what it is here."""
        found = []
        for name, label in LABELS.items():
            here, there = getattr(self, name), getattr(stored, name)
            if (set(here) != set(there)) if name == "tools" else here != there:
                found.append((label, _shown(there), _shown(here)))
        return found


def errors_of(error: Exception, form: Form) -> Mapping[str, str]:
    """Return what is told of a refusal, by the field it is about; the empty name is for what is about none."""
    field = getattr(error, "field", None)
    told = {field if field in {*LABELS, SECRET} else "": str(error)}
    return with_secret(told, form)


def with_secret(errors: Mapping[str, str], form: Form) -> Mapping[str, str]:
    """Return errors with the one that a secret that was typed must be typed again, as the page does not repeat it."""
    return {SECRET: SECRET_AGAIN, **errors} if form.text(SECRET) else errors


def _choice(choices: type[_Chosen], value: str, field: str) -> _Chosen:
    try:
        return choices(value)
    except ValueError:
        raise InvalidError(f"{value[:40]!r} is not one of {', '.join(choices)}", field=field) from None


def _number(typed: str, field: str) -> int:
    try:
        return int(typed.strip())
    except ValueError:
        raise InvalidError(f"{typed[:40]!r} is no whole number", field=field) from None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _entries(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in _BETWEEN.split(text) if entry.strip())


def _shown(value: str | tuple[str, ...]) -> str:
    text = value if isinstance(value, str) else ", ".join(value)
    return text or "(nothing)"
