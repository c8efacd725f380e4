"""What the owner has configured of the server: the variables it is given."""

import os
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from fastmcp.exceptions import ToolError

TITLES: Final = {"sendgrid": "SendGrid", "mailgun": "Mailgun", "smtp": "SMTP"}
_NEEDED: Final = {
    "sendgrid": ("SENDGRID_API_KEY", "SENDER_EMAIL"),
    "mailgun": ("MAILGUN_API_KEY", "MAILGUN_DOMAIN", "SENDER_EMAIL"),
    "smtp": ("SMTP_HOST", "SENDER_EMAIL"),
}
_SECRETS: Final = ("SENDGRID_API_KEY", "MAILGUN_API_KEY", "SMTP_PASSWORD")
_MAX_WORDS: Final = 400  # of what somebody else says, in characters


def value_of(name: str) -> str:
    """Return a variable, "" where it is not set; what is none for a header is refused without being shown."""
    value = os.environ.get(name, "").strip()
    if not value.isprintable():
        raise ToolError(f"{name} has a line break or a control character in it; set it anew")
    return value


def secret_of(name: str) -> str:
    """Return a variable that one signs in with."""
    value = value_of(name)
    if not value.isascii():
        raise ToolError(f"{name} has characters that can't be sent (only ASCII can); set it anew")
    return value


def choice_of(name: str, choices: Iterable[str], default: str) -> str:
    """Return a variable that has one of a few values."""
    value = value_of(name).lower() or default
    if value not in choices:
        raise ToolError(f"{name} is {value!r}; it may be {', '.join(choices)}")
    return value


def chosen_provider() -> str:
    """Return who sends: a key of `TITLES`."""
    return choice_of("EMAIL_PROVIDER", _NEEDED, "sendgrid")


def missing_for(provider: str) -> list[str]:
    """Return the names of the variables that a provider needs and that are not set."""
    return [name for name in _NEEDED[provider] if not value_of(name)]


def need_configured(provider: str) -> None:
    """Refuse to go on while something is missing."""
    if missing := missing_for(provider):
        names = " and ".join(missing)
        raise ToolError(f"mail can't be sent by {TITLES[provider]} before {names} of the email server is set")


def api_of(name: str, default: str) -> str:
    """Return the address of an API."""
    url = (value_of(name) or default).rstrip("/")
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ToolError(f"{name} is no address of an API, such as {default}")
    return url


def shown(words: str) -> str:
    """Return what somebody else said, on one line, and without the credentials that may be quoted there."""
    for name in _SECRETS:
        if secret := value_of(name):
            words = words.replace(secret, f"[credential {name}]")
    return " ".join(words.split())[:_MAX_WORDS]
