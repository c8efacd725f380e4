"""Looking through a long list, newest first, by indices in the order of time: at so many entries and no more."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from claude_runner.db import to_text


class Place(NamedTuple):
    """Where in a list a row stands: its instant as it is kept, and its id."""

    at: str
    row_id: str


NEWEST: Final = Place("~", "~")  # before that of every row


class Source(NamedTuple):
    """What a list is looked through by: an index, and the terms that say which rows are in it, as it has them."""

    by: str
    terms: str


class Listing(NamedTuple):
    """A table that is looked through.

    Attributes:
        at: The column of its rows' instants; their ids are in `id`.
        columns: Those that may be asked about.
        most: Entries of each index that are looked at for a page.
    """

    table: str
    at: str
    columns: str
    most: int


class Wanted(NamedTuple):
    """What is looked for: terms, their values, and from when to before when."""

    terms: str
    values: Mapping[str, Any]
    since: datetime | None
    until: datetime | None


class Found(NamedTuple):
    """The rows that were found, newest first.

    Attributes:
        more: Whether there are more than were asked for.
        edge: Where looking ended before the list did, and before enough was found.
    """

    places: list[Place]
    more: bool
    edge: Place | None


def look(
    c: sqlite3.Connection, of: Listing, sources: Sequence[Source], wanted: Wanted, limit: int, after: Place
) -> Found:
    """Read the first rows after a place that are looked for; together the sources must hold all of them, each once."""
    if wanted.until is not None:
        after = min(after, Place(to_text(wanted.until), ""))
    found: list[Place] = []
    edges: list[Place] = []
    for source in sources:
        places, edge = _look_at(c, of, source, wanted, limit + 1, after)
        found += places
        edges += [] if edge is None else [edge]
    edge = max(edges, default=None)  # nobody knows of all that is older
    found = sorted((it for it in found if edge is None or it >= edge), reverse=True)
    more = len(found) > limit
    return Found(found[:limit], more, None if more else edge)


def _look_at(
    c: sqlite3.Connection, of: Listing, source: Source, wanted: Wanted, limit: int, after: Place
) -> tuple[list[Place], Place | None]:
    values = dict(wanted.values) | {"at": after.at, "id": after.row_id, "limit": limit, "most": of.most}
    since = ""
    if wanted.since is not None:
        since = f"AND {of.at} >= :since"
        values["since"] = to_text(wanted.since)
    entries = f"""
        FROM {of.table} INDEXED BY {source.by} WHERE {source.terms} AND ({of.at}, id) < (:at, :id) {since}
        ORDER BY {of.at} DESC, id DESC
    """
    select = f"""
        SELECT {of.at}, id FROM (SELECT {of.columns} {entries} LIMIT :most) WHERE {wanted.terms} LIMIT :limit
    """  # noqa: S608 - names and terms are this program's
    places = [Place(*row) for row in c.execute(select, values)]
    if len(places) == limit:
        return places, None
    last = c.execute(f"SELECT {of.at}, id {entries} LIMIT 1 OFFSET :most - 1", values).fetchone()
    return places, None if last is None else Place(*last)
