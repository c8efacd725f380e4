"""The settings: what runs may do and cost, how Claude finds this server, who was let in, and how the server is."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.auth import Source
from claude_runner.client_config import Surface, client_config
from claude_runner.config import CHECKOUT
from claude_runner.errors import ConflictError, RunnerError
from claude_runner.grants import BUILT_INS
from claude_runner.jobs import STANDARD
from claude_runner.permissions import Profile, root_problem
from claude_runner.schedule import local_timezone
from claude_runner.settings import as_text, from_text
from claude_runner.web.dashboard._default_rules import DefaultRules
from claude_runner.web.dashboard._forms import Form, Notice, go_to, read_form
from claude_runner.web.dashboard._rendering import Pages, wants
from claude_runner.web.dashboard._rules import rules_in_words
from claude_runner.web.dashboard._settings_form import KEYS, WAS, TypedSettings
from claude_runner.web.dashboard._words import day_edges
from claude_runner.web.dashboard._zones import zone_names

STALE: Final = "Somebody else has changed some of this since you opened it. Nothing that you typed is lost."
DAYS: Final = 31  # the longest month
OWN: Final = frozenset({Source.AUTO, Source.ENVIRONMENT})
SOURCES: Final = MappingProxyType(
    {
        Source.AUTO: "made by the server",
        Source.ENVIRONMENT: "of the environment",
        Source.REGISTERED: "registered itself",
        Source.DOCUMENT: "known by its document",
    }
)
SURFACES: Final = (
    (
        Surface.DESKTOP,
        "Claude Desktop",
        "Put this into claude_desktop_config.json and start Claude Desktop anew.",
    ),
    (Surface.CODE, "Claude Code", "Run one of these in a terminal."),
    (
        Surface.CLAUDE_AI,
        "claude.ai",
        "For the web, the phone, and Claude Desktop without a server of its own.",
    ),
)
PROFILES: Final = (
    ("", "As sandbox mode says", "contained while sandbox mode is on, rules while it is off"),
    (
        Profile.CONTAINED,
        "contained",
        "works in its folder; shell commands run in a sandbox with no way out of it",
    ),
    (
        Profile.RULES,
        "rules",
        "works in its folder; runs just the shell commands whose beginnings are named, outside of a sandbox",
    ),
    (Profile.FULL, "full", "may do whatever the server's user may"),
)


class SettingsPage:
    """The page at `/settings`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app
        self._rules = DefaultRules(pages)

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/settings", self.show)
        yield Route("/settings", self.save, methods=["POST"])
        yield from self._rules.routes()
        yield Route("/settings/backup", self.backup, methods=["POST"])
        yield Route("/settings/clients/revoke", self.revoke, methods=["POST"])
        yield Route("/settings/clients/forget", self.forget, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show it."""
        owned = await self._app.stored.owned()
        return await self._page(request, 200, TypedSettings.of(owned), as_text(owned))

    async def save(self, request: Request) -> Response:
        """Change what was typed otherwise than the page had it, unless somebody else has changed just that."""
        form = await read_form(request)
        typed, seen = TypedSettings.read(form), from_text(form.text(WAS))
        before = TypedSettings.of(seen or await self._app.stored.owned())

        async def do() -> str:
            await self._app.stored.change(typed.changes(before, form), seen)
            return "/settings"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except ConflictError:
            owned = await self._app.stored.owned()
            now = TypedSettings.of(owned)
            typed = typed.rebased(before, now)
            return await self._page(request, 409, typed, as_text(owned), {"": STALE}, typed.differences(now))
        except RunnerError as error:
            key = (error.field or "").partition(".")[0]
            at = key if key in _FIELDS else ""
            return await self._page(request, error.status, typed, form.text(WAS), {at: str(error)})
        return go_to(path, Notice("Settings saved. Runs that begin from now on have them."))

    async def backup(self, request: Request) -> Response:
        """Copy the database, and tell where the copy is."""

        async def do(_: Form) -> str:
            return f"The copy is {await self._app.backup()}"

        return await self._done(request, do, "#server")

    async def revoke(self, request: Request) -> Response:
        """Take back what a client was given."""

        async def do(form: Form) -> str:
            taken = await self._app.auth.revoke_client(form.text("client_id"), self._app.clock.now())
            logins = "login is" if taken == 1 else "logins are"
            return f"{taken} {logins} taken back; the client must ask you again."

        return await self._done(request, do, "#clients")

    async def forget(self, request: Request) -> Response:
        """Delete a client with what it was given."""

        async def do(form: Form) -> str:
            await self._app.auth.forget_client(form.text("client_id"), self._app.clock.now())
            return "The client is forgotten; to come back it must register and ask you again."

        return await self._done(request, do, "#clients")

    async def _done(self, request: Request, do: Callable[[Form], Awaitable[str]], anchor: str) -> Response:
        """Do something once for each form, and go back to where it was asked for."""
        form, said = await read_form(request), list[str]()

        async def act() -> str:
            said.append(await do(form))
            return f"/settings{anchor}"

        # Two clients of a page that a browser has kept bear the same token.
        once = form.text("once")
        path = await self._pages.once.done(once and f"{once} {form.text('client_id')}", act)
        return go_to(path, *map(Notice, said))

    async def _page(
        self,
        request: Request,
        status: int,
        typed: TypedSettings,
        was: str,
        errors: Mapping[str, str] = MappingProxyType({}),
        differences: list[tuple[str, str, str]] | None = None,
    ) -> Response:
        shown: dict[str, Any] = {}
        if wants(request, "claude"):
            shown["sign_in"] = await self._app.sign_in()
        if wants(request, "clients"):
            shown |= {"clients": await self._app.auth.clients(), "sources": SOURCES, "own": OWN}
        if wants(request):
            shown |= await self._whole(typed)
        return await self._pages.page(
            request,
            "settings.html",
            status,
            typed=typed,
            was=was,
            errors=errors,
            differences=differences or (),
            **shown,
        )

    async def _whole(self, typed: TypedSettings) -> dict[str, Any]:
        """Return what only the whole page shows."""
        app, zone = self._app, await self._pages.zone()
        base, now = await app.addresses.base(), app.clock.now()
        owned = await app.stored.owned()
        days = await app.runs.usage(day_edges(now, zone, DAYS), rehearsal=app.settings.rehearsal)
        command = (sys.executable, str(CHECKOUT / "server.py"))
        return {
            "default_rules": list(rules_in_words(owned.job_defaults.or_else(STANDARD), zone)),
            "priced": list(owned.prices),
            "tools": dict.fromkeys([*BUILT_INS, *typed.allowed_tools]),
            "profiles": PROFILES,
            "root_problem": root_problem(app.settings.environment),
            "zones": await asyncio.to_thread(zone_names),
            "machine_zone": local_timezone(),
            "base": base,
            "base_is_given": "PUBLIC_URL"
            if app.settings.public_url
            else "the tunnel"
            if app.addresses.tunnel
            else "",
            "spent": {
                "day_usd": days[-1].cost_usd,
                "month_usd": reduce(add, days[-now.astimezone(zone).day :]).cost_usd,
            },
            "surfaces": [
                (name, hint, client_config(surface, command, base)) for surface, name, hint in SURFACES
            ],
            "checks": await app.checks(),
            "leadership": app.leadership,
            "server": app.settings,
        }


_FIELDS: Final = frozenset({*KEYS, *(name for _, names in KEYS.values() for name in names)})
