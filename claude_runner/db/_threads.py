"""Threads with a connection each, which take calls from one queue and tell the event loop what became of them."""

import asyncio
from collections.abc import Callable
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from claude_runner.db._connections import Connection, Session
from claude_runner.db._transactions import Call
from claude_runner.errors import UnavailableError

T = TypeVar("T")


class Workers:
    """Threads that serve one queue, for the event loop that runs when they are made.

    No thread ever waits for the loop, so that the loop can always wait for the threads.
    """

    def __init__(
        self, name: str, sessions: list[Session], serve: Callable[[Session, list[Call]], None], most: int
    ) -> None:
        """Make the threads, one for each session.

        Args:
            name: What the threads are called.
            sessions: The connections; the threads close them.
            serve: What is done with the calls taken at a time.
            most: How many calls may be taken at a time.
        """
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._serve = serve
        self._most = most
        self._closed = False
        self._threads = [
            Thread(target=self._run, args=(session,), name=f"{name}-{number}", daemon=False)
            for number, session in enumerate(sessions)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def ask(self, function: Callable[[Connection], T], *, durable: bool = True) -> "asyncio.Future[T]":
        """Return a future of what the function returns on one of the threads; see `Call` for `durable`.

        Raises:
            UnavailableError: The threads have been closed.
        """
        if self._closed:
            raise UnavailableError(
                "the database is closed, because the server is ending; try again once it is back"
            )
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Call(function, future, durable))
        return future

    async def close(self) -> None:
        """Let the threads finish what waits, and wait for their end even if cancelled meanwhile."""
        self._closed = True
        self._stop()
        ended = asyncio.get_running_loop().run_in_executor(None, self._join)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self._join()
            raise

    def _run(self, session: Session) -> None:
        with closing(session):
            while calls := self._take():
                try:
                    self._serve(session, calls)
                except BaseException as error:  # noqa: BLE001 - the callers are waiting and the thread must go on
                    for call in calls:
                        call.fail(error)
                self._tell(calls)

    def _take(self) -> list[Call]:
        """Wait for a call, then take what else waits; nothing where the thread is to end."""
        calls: list[Call] = []
        call = self._queue.get()
        with suppress(Empty):
            while call is not None:
                calls.append(call)
                if len(calls) == self._most:
                    return calls
                call = self._queue.get_nowait()
            if calls:
                self._queue.put(None)  # these calls first
        return calls

    def _tell(self, calls: list[Call]) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, calls)
        except RuntimeError:  # the loop is closed: nobody is waiting, and nobody can ask or close any more
            self._stop()

    def _stop(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    def _join(self) -> None:
        for thread in self._threads:
            if thread.is_alive():
                thread.join()


def _settle(calls: list[Call]) -> None:
    for call in calls:
        call.settle()
