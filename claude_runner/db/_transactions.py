"""What a thread does with the calls it takes: a snapshot for a read, one shared transaction for writes.

Group commit: making a transaction durable costs a flush of the disk whatever is in it, so the writes that wait share
one. Each is a savepoint of its own: one that raises is undone, and the others go through.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.db._connections import Connection, Session
from claude_runner.db._failures import explained
from claude_runner.errors import UnavailableError

_SAVEPOINT: Final = "SAVEPOINT ours"
_UNDO: Final = "ROLLBACK TO ours"
_RELEASE: Final = "RELEASE ours"


@dataclass(slots=True, eq=False)
class Call:
    """A function that waits for a connection, and what became of it.

    Attributes:
        function: What is to be called.
        future: What its caller awaits.
        durable: Whether what it did must survive a power cut once its caller knows of it.
        result: What the function returned.
        error: What is raised to the caller instead.
    """

    function: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    durable: bool = True
    result: Any = None
    error: BaseException | None = None

    def attempt(self, session: Session) -> None:
        """Call the function and keep what becomes of it."""
        try:
            self.result = session.lend(self.function)
        except StopIteration as error:
            self.error = RuntimeError(
                "what was given to read or write raised StopIteration"
            )  # a future refuses it
            self.error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller is to have it
            self.error = error

    def fail(self, error: BaseException) -> None:
        """Give the caller an error of its own for what befell the whole transaction."""
        if isinstance(error, UnavailableError):
            self.error = UnavailableError(str(error))
        else:
            self.error = RuntimeError(f"the transaction that this call ran in was broken and undone: {error}")
        self.error.__cause__ = error

    def settle(self) -> None:
        """Tell the caller, on the loop's thread; one that has gone is not told."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


def snapshot(session: Session, calls: list[Call]) -> None:
    """Let each call see the database as it is at one instant."""
    for call in calls:
        session.begin("DEFERRED")
        call.attempt(session)
        session.roll_back()


def commit_together(session: Session, calls: list[Call]) -> None:
    """Commit the changes of all calls but those that raise; where it raises, none of them is kept.

    The disk is flushed unless none of the calls needs it.

    Raises:
        UnavailableError: The outside is in the way.
        RuntimeError: A call broke the transaction; other errors likewise are a call's doing.
    """
    session.flush_commits(any(call.durable for call in calls))
    with explained(session.label), session.transaction():
        if len(calls) == 1:
            _alone(session, calls[0])
            return
        for call in calls:
            session.execute(_SAVEPOINT)
            call.attempt(session)
            if not session.in_transaction:
                raise _ended_by(call)
            if call.error is not None:
                session.execute(_UNDO)
            session.execute(_RELEASE)


def _alone(session: Session, call: Call) -> None:
    """Let a call have the transaction to itself, which needs no savepoint."""
    call.attempt(session)
    if not session.in_transaction:
        raise _ended_by(call)
    if call.error is not None:
        session.roll_back()


def _ended_by(call: Call) -> Exception:
    if isinstance(call.error, UnavailableError):
        return call.error
    error = RuntimeError(
        "a write ended the transaction that it shared (ON CONFLICT ROLLBACK, RAISE(ROLLBACK))"
    )
    error.__cause__ = call.error
    return error
