"""Whether Claude is signed in on this machine, as far as that can be told without asking it."""

import sqlite3
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from claude_runner import runs
from claude_runner.config import Settings

# What Claude Code takes a login from before it looks for a file, and what that is.
_VARIABLES: Final = {
    "CLAUDE_CODE_USE_BEDROCK": "Amazon Bedrock",
    "CLAUDE_CODE_USE_VERTEX": "Google Vertex AI",
    "CLAUDE_CODE_USE_FOUNDRY": "Microsoft Foundry",
    "ANTHROPIC_AUTH_TOKEN": "a token",
    "ANTHROPIC_API_KEY": "an API key",
    "CLAUDE_CODE_OAUTH_TOKEN": "a token of a subscription",
}


class SignInState(StrEnum):
    """What is known."""

    SIGNED_IN = "signed_in"
    NOT_SIGNED_IN = "not_signed_in"
    UNKNOWN = "unknown"
    REHEARSAL = "rehearsal"


class SignIn(NamedTuple):
    """Whether Claude is signed in.

    Attributes:
        how: A sentence for a person: where the login comes from, or what to do.
    """

    state: SignInState
    how: str


def sign_in(c: sqlite3.Connection, settings: Settings) -> SignIn:
    """Return what is known: by the last run that a model answered or refused, the environment, and the owner's login.

    It looks for files, so it does not belong on the event loop's thread.
    """
    if settings.rehearsal:
        return SignIn(SignInState.REHEARSAL, "every run goes to the embedded model, which needs no login")
    heard = runs.last_heard(c)
    login = settings.login / ".credentials.json"
    changed_at = _changed_at(login)
    if heard is not None and heard.reason == "not_signed_in":
        if changed_at is None or changed_at < heard.at:
            return SignIn(SignInState.NOT_SIGNED_IN, heard.error or "the last run could not sign in")
        return SignIn(SignInState.UNKNOWN, f"{login} is newer than the last run, which could not sign in")
    return _given(settings) or _kept(login, changed_at, heard is not None)


def _given(settings: Settings) -> SignIn | None:
    """Return what the environment gives, if anything."""
    name = next((name for name in _VARIABLES if settings.environment.get(name)), None)
    if name is None:
        return None
    return SignIn(SignInState.SIGNED_IN, f"by {_VARIABLES[name]}: {name} of the environment")


def _kept(login: Path, changed_at: datetime | None, answered: bool) -> SignIn:  # noqa: FBT001 - read above
    """Return what the owner's own `claude` keeps, which on a Mac is not in a file."""
    if changed_at is not None:
        return SignIn(SignInState.SIGNED_IN, f"by the login of `claude` in {login}")
    if answered:
        return SignIn(SignInState.SIGNED_IN, "a model has answered the last run")
    return SignIn(
        SignInState.UNKNOWN,
        f"there is no key in the environment and no login in {login}; where `claude` keeps its login elsewhere, the "
        "first run will tell, else run `claude` in a terminal and /login once",
    )


def _changed_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:  # it is not there, or not ours to see
        return None
