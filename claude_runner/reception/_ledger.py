"""Writes down what is taken in: deliveries that come while others are being written share the next write.

To make a write durable costs a flush of the disk whatever is in it, and SQL a good deal less for many rows at a time.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from claude_runner import runs, webhooks
from claude_runner.db import Database
from claude_runner.errors import UnavailableError
from claude_runner.hub import Hub, Topic
from claude_runner.runs import NewRun, State
from claude_runner.webhooks import NewDelivery, Verdict, Webhook

FILTERED: Final = "filtered"
TIDY_EVERY: Final = 1_000  # deliveries of a webhook, after which what is not kept any longer is dropped
TIDY_BYTES: Final = 16 * 2**20  # or so many bytes of their bodies


class Receipt(NamedTuple):
    """What came of a delivery.

    Attributes:
        run_id: The run that it started; `None` where the filter did not want one.
        state: The run's, or `filtered`.
        duplicate: Whether the delivery had come before.
    """

    run_id: str | None
    state: str
    duplicate: bool = False


_FILTERED: Final = Receipt(None, FILTERED)


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery that may be taken.

    Attributes:
        webhook: As it was read: nothing is written where it is not so any more.
        key: What the delivery is known by when it comes again.
        run: What is to be run; `None` where the filter does not want that.
        replay_of: The delivery that it is sent again of.
    """

    webhook: Webhook
    key: str | None
    headers: str
    body: bytes
    run: NewRun | None
    now: datetime
    replay_of: str | None = None

    def delivery(self, run_id: str | None) -> NewDelivery:
        """Return what is kept of it, with the run that it starts."""
        return NewDelivery(
            webhook_id=self.webhook.id,
            key=self.key,
            received_at=self.now,
            verdict=Verdict.FILTERED if run_id is None else Verdict.ACCEPTED,
            reason="the filter does not want it" if run_id is None else None,
            headers=self.headers,
            body=self.body,
            run_id=run_id,
            replay_of=self.replay_of,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    taken: Taken
    tidy: bool
    written: "asyncio.Future[Receipt | None]"


class Ledger:
    """The one hand that writes deliveries in this process."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self._db = database
        self._hub = hub
        self._entries: list[_Entry] = []
        self._alone: deque[_Entry] = deque()  # those of a write that failed
        self._writing: asyncio.Future[list[Receipt | None]] | None = None
        self._untidy: dict[str, tuple[int, int]] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Write while the context is open; what was taken before its end is written."""
        try:
            yield
        finally:
            while self._writing is not None:
                await asyncio.wait({self._writing})

    async def take(self, taken: Taken) -> Receipt | None:
        """Write a delivery with the run that it starts, and return what came of it once that is on the disk.

        It happens even if the caller is cancelled meanwhile.

        Returns:
            The receipt; `None` where the webhook is not as it was read, so that nothing was written.

        Raises:
            UnavailableError: The database can't be written.
        """
        entry = _Entry(
            taken,
            self._is_untidy(taken.webhook.id, len(taken.body)),
            asyncio.get_running_loop().create_future(),
        )
        self._entries.append(entry)
        if self._writing is None:
            self._begin()
        return await entry.written

    async def refuse(self, delivery: NewDelivery) -> None:
        """Write a refused delivery down, which a power cut may undo."""
        tidy = self._is_untidy(delivery.webhook_id, 0, weight=TIDY_EVERY // webhooks.REFUSALS)

        def write(c: sqlite3.Connection) -> None:
            if webhooks.title(c, delivery.webhook_id) is not None:
                webhooks.keep(c, [delivery])
            if tidy:
                webhooks.forget(c, delivery.webhook_id, delivery.received_at)

        await self._db.write(write, durable=False)
        self._hub.publish(Topic.DELIVERIES, delivery.webhook_id)

    def _begin(self) -> None:
        """Write what is there; what comes meanwhile is written after that."""
        if self._alone:
            entries = [self._alone.popleft()]
        else:
            entries, self._entries = self._entries, []
        try:
            self._writing = self._db.begin_write(lambda c: _write_down(c, entries))
        except UnavailableError as error:
            _fail(entries, error)
        else:
            self._writing.add_done_callback(partial(self._settle, entries))

    def _settle(self, entries: list[_Entry], written: "asyncio.Future[list[Receipt | None]]") -> None:
        """Tell those who wait; a write that fails is made again one by one, as it may be the fault of one of them."""
        self._writing = None
        error = written.exception()
        if error is None:
            self._tell(entries, written.result())
        elif len(entries) == 1 or isinstance(error, UnavailableError):
            _fail(entries, error)
        else:
            self._alone.extend(entries)
        if self._alone or self._entries:
            self._begin()

    def _tell(self, entries: list[_Entry], receipts: list[Receipt | None]) -> None:
        for entry, receipt in zip(entries, receipts, strict=True):
            if not entry.written.done():  # else its sender has gone
                entry.written.set_result(receipt)
            if receipt is not None and receipt.run_id is not None and not receipt.duplicate:
                self._hub.publish(Topic.RUNS, receipt.run_id)
        for webhook_id in {entry.taken.webhook.id for entry in entries}:
            self._hub.publish(Topic.DELIVERIES, webhook_id)

    def _is_untidy(self, webhook_id: str, size: int, weight: int = 1) -> bool:
        """Tell whether it is time to drop what is not kept any longer: at first, and again after so much."""
        count, volume = self._untidy.get(webhook_id, (0, 0))
        tidy = count <= 0 or volume <= 0
        if tidy:
            count, volume = TIDY_EVERY, TIDY_BYTES
        self._untidy[webhook_id] = count - weight, volume - size
        return tidy


def _fail(entries: list[_Entry], error: BaseException) -> None:
    for entry in entries:
        if not entry.written.done():
            entry.written.set_exception(error)


def _write_down(c: sqlite3.Connection, entries: list[_Entry]) -> list[Receipt | None]:
    """Write deliveries with their runs, in the order in which they came."""
    page = _Page(c, len(entries))
    receipts: list[Receipt | None] = [page.receipt(entry.taken) for entry in entries]
    changed = page.write()
    for entry in entries:
        if entry.tidy:
            webhooks.forget(c, entry.taken.webhook.id, entry.taken.now)
    if not changed:
        return receipts
    return [
        None if id(entry.taken.webhook) in changed else receipt
        for entry, receipt in zip(entries, receipts, strict=True)
    ]


class _Page:
    """What is written at once."""

    def __init__(self, c: sqlite3.Connection, most: int) -> None:
        self._c = c
        self._ids = iter(runs.new_ids(most))
        self._first: dict[tuple[int, str], Receipt] = {}
        self._of: dict[int, _Sheet] = {}

    def receipt(self, taken: Taken) -> Receipt:
        """Return what comes of a delivery: what did when it came for the first time, or what is to be written."""
        sheet = self._of.get(id(taken.webhook))
        if sheet is None:
            sheet = self._of[id(taken.webhook)] = _Sheet(taken.webhook)
        sheet.last = taken.now
        if (earlier := self._earlier(taken)) is not None:
            return earlier
        run_id = None
        receipt = _FILTERED
        if taken.run is not None:
            run_id = next(self._ids)
            receipt = Receipt(run_id, State.PENDING.value)
            sheet.runs.append((run_id, taken.run, taken.now))
            if taken.key is not None:
                self._first[id(taken.webhook), taken.key] = receipt
        sheet.deliveries.append(taken.delivery(run_id))
        return receipt

    def write(self) -> set[int]:
        """Write it, but for what came to webhooks that are not as they were read; which those are is returned."""
        changed = set()
        for key, sheet in self._of.items():
            if webhooks.count(self._c, sheet.webhook, len(sheet.runs), sheet.last):
                runs.insert_all(self._c, sheet.runs)
                webhooks.keep(self._c, sheet.deliveries)
            else:
                changed.add(key)
        return changed

    def _earlier(self, taken: Taken) -> Receipt | None:
        if taken.key is None:
            return None
        if (first := self._first.get((id(taken.webhook), taken.key))) is not None:
            return first._replace(duplicate=True)
        earlier = webhooks.earlier(self._c, taken.webhook.id, taken.key)
        return (
            None if earlier is None else Receipt(earlier.run_id, earlier.state or "deleted", duplicate=True)
        )


class _Sheet:
    """What of a page is one webhook's."""

    def __init__(self, webhook: Webhook) -> None:
        self.webhook = webhook
        self.last = webhook.updated_at
        self.runs: list[tuple[str, NewRun, datetime]] = []
        self.deliveries: list[NewDelivery] = []
