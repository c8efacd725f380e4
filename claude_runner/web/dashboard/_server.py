"""One tool server: how it stands, what it needs, its tools and its log, and the buttons that change it."""

import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import ConflictError, InvalidError, NotFoundError, RunnerError, UnavailableError
from claude_runner.pool import infos
from claude_runner.servers import PLACEHOLDER, Kind, Server, Variable
from claude_runner.views.credentials import (
    CredentialList,
    CredentialView,
    credential_list,
    remove_credential,
    set_credential,
)
from claude_runner.views.fitting import joined
from claude_runner.web.dashboard._filters import whole
from claude_runner.web.dashboard._forms import Form, Notice, back_to, go_to, read_form
from claude_runner.web.dashboard._markdown import readable
from claude_runner.web.dashboard._rendering import Pages, wants, with_query
from claude_runner.web.dashboard._server_forms import as_json
from claude_runner.web.dashboard._server_states import Standing, standings

UNDO_SECONDS: Final = 300.0
MOST_DELETED: Final = 20  # credentials that can be had back
FOLDED: Final = 4  # credentials that a server can do without, from which on they are folded away
LOG_LINES: Final = 100
MOST_LOG_LINES: Final = 2_000
MOST_LOG: Final = 40_000  # characters of a log that are shown


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as the form asks for it: never with its value.

    Attributes:
        choices: Values that other credentials' conditions know.
        when: Where the server can't do without it, if that depends on another.
        set_at: When it was set.
    """

    view: CredentialView
    choices: tuple[str, ...]
    when: str
    set_at: datetime | None

    @property
    def is_needed(self) -> bool:
        """Tell whether it is looked at first: it is required, or set, or decides which others are."""
        view = self.view
        return view.required or view.configured or view.problem is not None or bool(self.choices)


class _Deleted(NamedTuple):
    """A credential that was deleted a moment ago, and until when it can be had back."""

    server: str
    key: str
    value: str
    until: float


class ServerPage:
    """The page at `/servers/{name}`, its log, and what is done there."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app
        self._deleted: OrderedDict[str, _Deleted] = OrderedDict()

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        path = "/servers/{name}"
        yield Route(path, self.show)
        yield Route(f"{path}/log", self.log)
        yield Route(f"{path}/enable", self.enable, methods=["POST"])
        yield Route(f"{path}/disable", self.disable, methods=["POST"])
        yield Route(f"{path}/list", self.list_tools, methods=["POST"])
        yield Route(f"{path}/credentials", self.set_credentials, methods=["POST"])
        yield Route(f"{path}/credentials/delete", self.delete_credential, methods=["POST"])
        yield Route(f"{path}/credentials/restore", self.restore_credential, methods=["POST"])
        yield Route(f"{path}/delete", self.delete, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show it."""
        return await self._page(request)

    async def log(self, request: Request) -> Response:
        """Show what it said on standard error lately."""
        standing = await standing_of(self._pages, request)
        lines: list[str] = []
        cut = False
        asked = _lines_asked(request)
        if wants(request, "log"):
            lines, cut = _bounded(await self._app.pool.said(standing.server.name, asked))
        return await self._pages.page(
            request, "server_log.html", standing=standing, lines=lines, cut=cut, asked=asked
        )

    async def enable(self, request: Request) -> Response:
        """Take it into use."""
        return await self._decide(request, enabled=True)

    async def disable(self, request: Request) -> Response:
        """Take it out of use."""
        return await self._decide(request, enabled=False)

    async def list_tools(self, request: Request) -> Response:
        """Start it and keep what it lists; one that is disabled is tried out and ended."""
        server = await self._app.servers.get(_name(request))
        try:
            if server.enabled:
                listed = infos(await self._app.pool.tools(server))
            else:
                listed = infos((await self._app.pool.try_out(server))[0])
            await self._app.servers.remember_tools(server, listed, self._app.clock.now())
        except RunnerError as error:
            return await self._page(request, error.status, problem=str(error))
        number = f"{len(listed)} tool{'s' if len(listed) != 1 else ''}"
        return go_to(f"/servers/{server.name}#tools", Notice(f"{server.name} started and lists {number}."))

    async def set_credentials(self, request: Request) -> Response:
        """Keep every value that was typed; one that is refused keeps none of the others from being kept."""
        name, form = _name(request), await read_form(request)
        known = {it.key: it for it in (await credential_list(self._app, name)).credentials}
        done, errors, warnings = await self._set_all(name, _typed(form, known))
        if errors:
            kept = {
                key: form.text(f"value-{key}")
                for key, it in known.items()
                if f"value-{key}" in errors and not it.sensitive
            }
            said = f"{', '.join(done)}: set. " if done else ""
            problem = f"{said}Something else was refused; it is said below, at its field."
            return await self._page(
                request, 422, problem=problem, errors=errors, kept=kept, key=form.text("key").strip()
            )
        if not done:
            return go_to(
                f"/servers/{name}#credentials", Notice("Nothing was typed, so nothing was changed.", "note")
            )
        words = ". ".join([f"Set: {', '.join(done)}", *warnings])[:600]
        return go_to(f"/servers/{name}#credentials", Notice(f"{words}.", "note" if warnings else "ok"))

    async def delete_credential(self, request: Request) -> Response:
        """Forget a credential; for some minutes it can be had back."""
        name, form = _name(request), await read_form(request)
        key, path = form.text("key"), f"/servers/{name}#credentials"
        value = (await self._app.credentials.everything()).get(name, {}).get(key)
        try:
            gone = await remove_credential(self._app, name, key)
        except NotFoundError:
            await self._app.servers.get(name)
            return go_to(path, Notice(f"{key[:100]} was not set any more.", "note"))
        lacks = f" {name} needs it." if key in gone.missing else ""
        if value is None:  # it could not be opened, so there is nothing to give back
            return go_to(path, Notice(f"{key} is deleted.{lacks}"))
        token = self._keep(name, key, value)
        back = with_query(f"/servers/{name}/credentials/restore", token=token)
        return go_to(path, Notice(f"{key} is deleted.{lacks}", "ok", back, "Undo"))

    async def restore_credential(self, request: Request) -> Response:
        """Set a credential again that was deleted a moment ago."""
        name = _name(request)
        await read_form(request)
        path = f"/servers/{name}#credentials"
        kept = self._deleted.pop(request.query_params.get("token", ""), None)
        if kept is None or kept.server != name or kept.until < self._app.clock.elapsed():
            return go_to(path, Notice("It is not kept any more; set it anew.", "bad"))
        stored = await self._app.credentials.stored(name)
        if any(it.key == kept.key for it in stored):
            return go_to(path, Notice(f"{kept.key} was set meanwhile, and stays so.", "note"))
        await set_credential(self._app, name, kept.key, kept.value)
        return go_to(path, Notice(f"{kept.key} is set again."))

    async def delete(self, request: Request) -> Response:
        """Delete a server that was made here, or take an external one away."""
        name, form = _name(request), await read_form(request)

        async def do() -> str:
            server = await self._app.servers.get(name)
            if server.kind is Kind.EXTERNAL:
                await self._app.workshop.remove_external(name)
            else:
                await self._app.workshop.remove(name)
            return "/servers"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except ConflictError as error:
            return go_to(f"/servers/{name}", Notice(str(error)[:600], "bad"))
        return go_to(path, Notice(f"{name} is deleted."))

    def _keep(self, server: str, key: str, value: str) -> str:
        """Keep a value that was deleted, in memory alone, and return what gives it back."""
        now = self._app.clock.elapsed()
        for token, kept in list(self._deleted.items()):
            if kept.until < now:
                del self._deleted[token]
        while len(self._deleted) >= MOST_DELETED:
            self._deleted.popitem(last=False)
        token = secrets.token_urlsafe(16)
        self._deleted[token] = _Deleted(server, key, value, now + UNDO_SECONDS)
        return token

    async def _decide(self, request: Request, *, enabled: bool) -> Response:
        name = _name(request)
        path = back_to(request, f"/servers/{name}")
        try:
            await self._app.servers.enable(name, enabled, self._app.clock.now())
        except ConflictError as error:
            return go_to(path, Notice(str(error)[:600], "bad"))
        way, other = ("enabled", "disable") if enabled else ("disabled", "enable")
        back = with_query(f"/servers/{name}/{other}", back=path)
        return go_to(path, Notice(f"{name} is {way}.", "ok", back, "Undo"))

    async def _set_all(
        self, name: str, typed: Mapping[str, tuple[str, str]]
    ) -> tuple[list[str], dict[str, str], list[str]]:
        """Set credentials; returns the keys that were, refusals by field of the form, and warnings."""
        done, errors, warnings = [], {}, []
        for field, (key, value) in typed.items():
            try:
                kept = await set_credential(self._app, name, key, value)
            except InvalidError as error:
                errors["key" if field == "value" and error.field == "key" else field] = str(error)
                continue
            done.append(key)
            warnings += [kept.warning] if kept.warning else []
        return done, errors, warnings

    async def _page(
        self,
        request: Request,
        status: int = 200,
        *,
        problem: str | None = None,
        errors: Mapping[str, str] | None = None,
        kept: Mapping[str, str] | None = None,
        key: str = "",
    ) -> Response:
        """Return the page.

        Args:
            request: What it answers.
            status: The HTTP status.
            problem: What was refused.
            errors: The same by field of the credentials' form.
            kept: What was typed there and is not secret.
            key: The name that was typed there.
        """
        standing = await standing_of(self._pages, request)
        shown: dict[str, Any] = {"standing": standing, "problem": problem, "errors": errors or {}}
        shown |= {"kept": kept or {}, "key": key, "as_json": as_json, "plain": readable}
        if wants(request, "credentials"):
            shown |= await self._credentials(standing.server)
        if wants(request, "standing"):
            shown["reached"] = self._reached(standing.server)
        return await self._pages.page(request, "server.html", status, **shown)

    async def _credentials(self, server: Server) -> dict[str, Any]:
        try:
            listed = await credential_list(self._app, server.name)
        except UnavailableError as error:
            return {"needed": [], "others": [], "sealed": str(error)}
        rows = _rows(server, listed)
        others = [it for it in rows if not it.is_needed]
        if len(others) < FOLDED:
            return {"needed": rows, "others": [], "sealed": None}
        return {"needed": [it for it in rows if it.is_needed], "others": others, "sealed": None}

    def _reached(self, server: Server) -> list[tuple[str, str]]:
        """Return how an external server is reached; a secret that somebody wrote there by hand is not shown."""
        found = []
        if server.command is not None:
            found.append(("Command", self._app.invocations.redactor.text(" ".join(server.command))))
        if server.url is not None:
            found.append(("Address", self._app.invocations.redactor.text(server.url)))
        for name, value in server.headers.items():
            found.append((name, value if PLACEHOLDER.search(value) else "a value in the setting mcp_servers"))
        return found


async def standing_of(pages: Pages, request: Request) -> Standing:
    """Return how the server of a request's path stands.

    Raises:
        InvalidError: No server can have this name.
        NotFoundError: There is none.
    """
    server = await pages.app.servers.get(_name(request))
    return (await standings(pages.app, [server])).of[0]


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _typed(form: Form, known: Mapping[str, CredentialView]) -> dict[str, tuple[str, str]]:
    """Return what was typed: by the form's field, the credential's key and its value."""
    typed = {f"value-{key}": (key, form.text(f"value-{key}")) for key in known}
    typed["value"] = (form.text("key").strip(), form.text("value"))
    return {
        field: (key, value) for field, (key, value) in typed.items() if value or (field == "value" and key)
    }


def _rows(server: Server, listed: CredentialList) -> list[CredentialRow]:
    choices: dict[str, dict[str, None]] = {}
    for variable in server.variables:
        for other, values in variable.when.items():
            choices.setdefault(other, {}).update(dict.fromkeys(values))
    conditions = {it.name: _condition(it) for it in server.variables if it.required}
    return [
        CredentialRow(
            view,
            tuple(choices.get(view.key, ())),
            conditions.get(view.key, ""),
            None if view.updated_at is None else datetime.fromisoformat(view.updated_at),
        )
        for view in listed.credentials
    ]


def _condition(variable: Variable) -> str:
    """Return where a server can't do without a variable, if that depends on another."""
    return " and ".join(f"{other} is {joined(list(values), 'or')}" for other, values in variable.when.items())


def _lines_asked(request: Request) -> int:
    asked = whole(request.query_params.get("lines", ""))
    return LOG_LINES if asked is None else min(max(asked, 1), MOST_LOG_LINES)


def _bounded(lines: list[str]) -> tuple[list[str], bool]:
    """Return the last lines that are not too many characters, and whether there were more."""
    kept: list[str] = []
    size = 0
    for line in reversed(lines):
        size += len(line) + 1
        if size > MOST_LOG:
            return kept[::-1], True
        kept.append(readable(line))
    return kept[::-1], False
