"""All servers there are, and the making and removing of them."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from claude_runner.config import CHECKOUT, Settings
from claude_runner.db import Database, to_text
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, unusable
from claude_runner.hub import Hub, Topic
from claude_runner.servers._catalogue import (
    Catalogue,
    change_external,
    copied_samples,
    decide,
    forget,
    has_rows,
    is_lost,
    note_samples,
)
from claude_runner.servers._external import ExternalDraft
from claude_runner.servers._files import locked, remove_folder
from claude_runner.servers._folders import read_code, read_server
from claude_runner.servers._names import check_name, is_name
from claude_runner.servers._records import Kind, Server, ToolInfo
from claude_runner.servers._variables import Variable, check_description
from claude_runner.servers._versions import Version, Workbench

SAMPLES: Final = ("cat-facts", "r2-images", "read-page")

_REMEMBER: Final = (
    "INSERT INTO server_tools (server, fingerprint, tools, listed_at) VALUES (:server, :fingerprint, :tools, :now)"
    " ON CONFLICT (server) DO UPDATE"
    " SET fingerprint = excluded.fingerprint, tools = excluded.tools, listed_at = excluded.listed_at"
)

log = logging.getLogger(__name__)


class Servers:
    """The servers that runs and callers can use, and the making and removing of them.

    The files are the truth for what a server is, the database for whether it is enabled. Whoever stages, keeps or
    removes a server holds its `lock`.
    """

    def __init__(self, database: Database, hub: Hub, settings: Settings, checkout: Path = CHECKOUT) -> None:
        """Make the collection.

        Args:
            database: Where it is kept which are enabled.
            hub: Is told of changes.
            settings: Where the home is.
            checkout: The folder that has the servers that are shipped.
        """
        self._db = database
        self._hub = hub
        self._state = settings.state
        self._samples = checkout / "dynamic_servers"
        self._catalogue = Catalogue(settings, checkout)
        self._workbench = Workbench(self._catalogue.root, settings.state / "staged")

    async def list(self, kind: Kind | None = None) -> list[Server]:
        """Return the servers, of one kind or all: fixed, dynamic, external, each by name; none is left out.

        Raises:
            UnavailableError: A folder can't be read.
        """
        found = await self._db.read(self._catalogue.all)
        return [server for server in found if kind in {None, server.kind}]

    async def enabled(self) -> tuple[Server, ...]:
        """Return the enabled servers, also those with a problem: a run must not do without one in silence."""
        return tuple(server for server in await self.list() if server.enabled)

    async def find(self, name: str) -> Server | None:
        """Return the server, or `None`, also of a name that no server can have."""
        return await self._db.read(lambda c: self._catalogue.one(c, name)) if is_name(name) else None

    async def get(self, name: str, field: str = "name") -> Server:
        """Return the server.

        Args:
            name: Its name.
            field: The parameter it was given as.

        Raises:
            InvalidError: No server can have this name.
            NotFoundError: There is none.
        """
        check_name(name, field)
        server = await self.find(name)
        if server is None:
            raise NotFoundError(
                f"there is no server {name!r}; list_fixed_mcp_servers, list_dynamic_mcp_servers and"
                " list_external_servers show the ones there are",
                field=field,
            )
        return server

    async def check_free(self, name: str) -> None:
        """Refuse a name that a new server can't have.

        Raises:
            InvalidError: No server can have it.
            ConflictError: Another one has it.
        """
        check_name(name)
        server = await self.find(name)
        if server is not None and not is_lost(server):
            way = "; update_mcp_server changes it" if server.kind is Kind.DYNAMIC else ""
            raise ConflictError(
                f"there is already a server {name!r} ({server.kind}){way}; choose another name", field="name"
            )

    async def enable(self, name: str, enabled: bool, now: datetime) -> Server:  # noqa: FBT001 - on or off
        """Enable or disable a server and return it as it is then.

        Raises:
            InvalidError: No server can have this name.
            NotFoundError: There is none.
            ConflictError: It can't be started, so it can't be enabled.
        """
        server = await self.get(name)
        if enabled and server.problem is not None:
            raise ConflictError(f"{name} can't be enabled: {server.problem}", field="name")
        await self._change(name, lambda c: decide(c, name, now, enabled=enabled))
        return replace(server, enabled=enabled)

    async def remember_tools(self, server: Server, tools: Iterable[ToolInfo], now: datetime) -> None:
        """Keep what a server listed when it was started, for as long as what is started stays the same."""
        listed = [
            {"name": it.name, "description": it.description, "input_schema": it.input_schema} for it in tools
        ]
        values = {
            "server": server.name,
            "fingerprint": server.fingerprint,
            "tools": json.dumps(listed),
            "now": to_text(now),
        }

        def remember(c: sqlite3.Connection) -> None:
            c.execute(_REMEMBER, values)

        await self._db.write(remember, durable=False)

    async def known_tools(self, servers: Collection[Server]) -> dict[str, tuple[ToolInfo, ...]]:
        """Return what servers list, by name, of those of which it is known as they are now."""
        rows = await self._db.read(
            lambda c: c.execute("SELECT server, fingerprint, tools FROM server_tools").fetchall()
        )
        known = {(row["server"], row["fingerprint"]): row["tools"] for row in rows}
        found: dict[str, tuple[ToolInfo, ...]] = {}
        for server in servers:
            text = known.get((server.name, server.fingerprint)) if server.fingerprint else None
            if text is not None and (tools := _read_tools(text)) is not None:
                found[server.name] = tools
        return found

    async def add_samples(self, now: datetime) -> None:
        """Copy the sample servers to a home elsewhere, each once: a sample that was deleted does not come back.

        Raises:
            UnavailableError: They can't be copied.
        """
        if self._samples.resolve() == self._catalogue.root.resolve():
            return
        done = await self._db.read(copied_samples)
        new = [
            name for name in SAMPLES if name not in done and (self._samples / name / "server.py").is_file()
        ]
        if not new:
            return
        taken = {server.name for server in await self.list()}
        for name in new:
            if name not in taken:
                try:
                    await asyncio.to_thread(self._workbench.install, name, self._samples / name, now)
                except (ConflictError, InvalidError) as error:  # another process was first, or it is a link
                    log.info("the sample %s was not copied: %s", name, error)
        await self._db.write(lambda c: note_samples(c, new))

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Keep every other call, in this process and others, from changing a server while the context is open.

        Raises:
            InvalidError: No server can have this name.
            ConflictError: Another call is changing it.
        """
        check_name(name)
        path = self._state / "locks" / f"{name}.lock"
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(path, name))
            except OSError as error:
                raise unusable(error, path) from error
            yield

    async def stage(
        self, name: str, code: str, description: str | None, variables: Sequence[Variable], now: datetime
    ) -> Path:
        """Write a server that is not kept yet to a folder of its own and return the folder.

        Args:
            name: The server's; where there is one, this is its next version, and its metadata goes on.
            code: As `examine` has passed it.
            description: What it does; `None` leaves it as it was.
            variables: What it reads.
            now: The present.

        Raises:
            InvalidError: The name or the description can't be used.
            UnavailableError: It can't be written.
        """
        check_name(name)
        check_description(description or "")
        return await asyncio.to_thread(self._workbench.stage, name, code, description, variables, now)

    async def staged(self, name: str, folder: Path) -> Server:
        """Return the server in a staged folder, to be tried out."""
        return await asyncio.to_thread(read_server, name, Kind.DYNAMIC, folder, folder / "data")

    async def discard(self, staged: Path) -> None:
        """Remove a staged folder, kept or refused."""
        await asyncio.to_thread(self._workbench.discard, staged)

    async def keep_new(self, name: str, staged: Path, now: datetime) -> Server:
        """Make a server of what was staged and return it, enabled; the staged folder is gone.

        Raises:
            ConflictError: The name was taken meanwhile; nothing is kept.
            UnavailableError: It can't be written; nothing is kept.
        """
        await self.check_free(name)
        await asyncio.to_thread(self._workbench.install, name, staged, now)
        try:
            await self._change(name, lambda c: decide(c, name, now, enabled=True))
        except Exception:
            await asyncio.to_thread(self._workbench.remove, name)
            raise
        await self.discard(staged)
        return await self.get(name)

    async def keep_version(self, name: str, staged: Path, now: datetime) -> Server:
        """Replace a server by what was staged and return it; the staged folder is gone.

        Code that changes is kept under the next number; whether it is enabled stays as it was.

        Raises:
            NotFoundError: Its folder has gone.
            ConflictError: A link is in its place.
            UnavailableError: It can't be written; the server stays as it was.
        """
        check_name(name)
        await asyncio.to_thread(self._workbench.supersede, name, staged, now)
        await self.discard(staged)
        self._hub.publish(Topic.SERVERS, name)
        return await self.get(name)

    async def versions(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a dynamic server's code, oldest first; the last is the current one.

        Raises:
            NotFoundError: There is no such server, or its folder has gone.
        """
        await self._dynamic_one(name, "have no versions")
        return tuple(await asyncio.to_thread(self._workbench.versions, name))

    async def code(self, name: str, version: int | None = None) -> str:
        """Return the code of a server of files.

        Args:
            name: The server's.
            version: Which of a dynamic server's versions; the current one where none is given.

        Raises:
            NotFoundError: There is no such server, or no such version.
            ConflictError: The server is not one of files.
            InvalidError: The code can't be read.
        """
        if version is not None:
            await self._dynamic_one(name, "have no versions")
            return await asyncio.to_thread(self._workbench.code, name, version)
        server = await self.get(name)
        if server.folder is None or server.folder.is_symlink():
            raise ConflictError(f"{name} has no code that can be shown: {server.problem or 'it is external'}")
        return await asyncio.to_thread(read_code, server.folder) or ""

    async def remove(self, name: str) -> None:
        """Delete a dynamic server with its folder; where that has gone, what is left of it here.

        Raises:
            InvalidError: No server can have this name.
            NotFoundError: There is none.
            ConflictError: It is a fixed or an external one.
            UnavailableError: Its folder can't be removed.
        """
        check_name(name)
        if await self.find(name) is not None:
            server = await self._dynamic_one(name, "are not deleted this way")
            if server.folder is not None:
                await asyncio.to_thread(self._workbench.remove, name)
        elif not await self._db.read(lambda c: has_rows(c, name)):
            await self.get(name)
        await self._change(name, lambda c: forget(c, name))

    async def add_external(self, draft: ExternalDraft, now: datetime) -> tuple[Server, dict[str, str]]:
        """Add an external server, enabled; return it with the secrets that were given, by name, for the caller to seal.

        Raises:
            InvalidError: Something of it can't be used.
            ConflictError: The name is taken, another call is adding it, or the setting can't be read.
        """
        entry, secrets = draft.entry()
        entry |= {"created_at": to_text(now), "updated_at": to_text(now)}

        def add(c: sqlite3.Connection) -> None:
            change_external(c, lambda entries: [*entries, entry])
            forget(c, draft.name)
            decide(c, draft.name, now, enabled=True)

        async with self.lock(draft.name):
            await self.check_free(draft.name)
            await self._change(draft.name, add)
        return await self.get(draft.name), secrets

    async def remove_external(self, name: str) -> None:
        """Remove an external server, with the files it kept.

        Raises:
            InvalidError: No server can have this name.
            NotFoundError: There is none.
            ConflictError: It is none of the external ones, or another call is changing it.
        """

        def remove(c: sqlite3.Connection) -> None:
            change_external(c, lambda entries: [it for it in entries if _name_of(it) != name])
            forget(c, name)

        async with self.lock(name):
            server = await self.get(name)
            if server.kind is not Kind.EXTERNAL:
                raise ConflictError(
                    f"{name} is one of the {server.kind} servers, not of the external ones", field="name"
                )
            await self._change(name, remove)
            with suppress(OSError):  # it kept no files
                await asyncio.to_thread(remove_folder, self._catalogue.data / name)

    async def _change(self, name: str, change: Callable[[sqlite3.Connection], None]) -> None:
        await self._db.write(change)
        self._hub.publish(Topic.SERVERS, name)

    async def _dynamic_one(self, name: str, otherwise: str) -> Server:
        server = await self.get(name)
        if server.kind is not Kind.DYNAMIC:
            ways = {
                Kind.FIXED: "disable_fixed_server takes it out of use",
                Kind.EXTERNAL: "remove_external_server removes it",
            }
            raise ConflictError(
                f"{name} is one of the {server.kind} servers, which {otherwise}; {ways[server.kind]}",
                field="name",
            )
        return server


def _name_of(entry: object) -> object:
    return entry.get("name") if isinstance(entry, dict) else None


def _read_tools(text: str) -> tuple[ToolInfo, ...] | None:
    try:
        return tuple(ToolInfo(it["name"], it["description"], it["input_schema"]) for it in json.loads(text))
    except (ValueError, KeyError, TypeError):
        return None
