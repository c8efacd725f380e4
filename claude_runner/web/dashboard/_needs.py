"""Where what needs the owner is looked at, and the one thing that mends it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from claude_runner.app import App
from claude_runner.views.needs import Need, NeedKind, needs


class Mending(NamedTuple):
    """What can be done about a need.

    Attributes:
        link: Where it is looked at.
        label: What the button that mends it says.
        action: Where the button's form goes; empty where the link is what mends it.
    """

    link: str
    label: str
    action: str = ""


async def needed(app: App) -> list[tuple[Need, Mending]]:
    """Return what needs the owner, the most pressing first, each with what can be done about it."""
    return [(need, _MENDED[need.kind](need)) for need in await needs(app)]


def _job(label: str, verb: str) -> Callable[[Need], Mending]:
    return lambda need: Mending(f"/jobs/{need.job_id}", label, f"/jobs/{need.job_id}/{verb}")


def _page(link: str, label: str) -> Callable[[Need], Mending]:
    return lambda _: Mending(link, label)


def _budget(need: Need) -> Mending:
    return Mending(
        f"/webhooks/{need.webhook_id}/edit" if need.webhook_id else "/settings#budgets", "Change it"
    )


def _undelivered(need: Need) -> Mending:
    if need.channel_id is None:
        return Mending(f"/jobs/{need.job_id}/edit", "Change it")
    return Mending("/notifications", "Look at it")


_MENDED: Final[Mapping[NeedKind, Callable[[Need], Mending]]] = MappingProxyType(
    {
        NeedKind.SIGN_IN: _page("/settings#claude", "How to sign in"),
        NeedKind.HELD: _page("/runs?state=pending", "Look at them"),
        NeedKind.PAUSED_ALL: lambda _: Mending("/jobs", "Resume", "/resume-all"),
        NeedKind.BUDGET: _budget,
        NeedKind.JOB_PAUSED: _job("Resume", "resume"),
        NeedKind.FAILING: _job("Run it again", "run"),
        NeedKind.MISSED: _job("Run it now", "run"),
        NeedKind.PARKED: lambda need: Mending(f"/runs/{need.run_id}", "Look at it"),
        NeedKind.NOTIFICATIONS: _undelivered,
        NeedKind.SERVER: lambda need: Mending(f"/servers/{need.server}", "Look at it"),
        NeedKind.CREDENTIALS: lambda need: Mending(f"/servers/{need.server}#credentials", "Configure it"),
    }
)
