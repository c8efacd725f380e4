"""What may go wrong that is the caller's business.

Anything else that is raised is a bug: it is logged with an id, and the caller
is shown only that id.
"""

from typing import ClassVar


class RunnerError(Exception):
    """An expected failure, worded for the person or agent who caused it.

    Attributes:
        code: A word for programs, the same on every face.
        status: The HTTP status it becomes (RFC 9110, section 15).
        field: The parameter at fault, where there is one.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidError(RunnerError):
    """A value given is not one that can be used."""

    code = "invalid"
    status = 422


class NotFoundError(RunnerError):
    """The thing named does not exist."""

    code = "not_found"
    status = 404


class ConflictError(RunnerError):
    """The thing is not in a state that allows this."""

    code = "conflict"
    status = 409


class UnavailableError(RunnerError):
    """Something outside this program is in the way: a disk, a lock, a missing program."""

    code = "unavailable"
    status = 503


class ServerFailedError(RunnerError):
    """A tool server did not start, died, did not answer in time, or lacks what was asked of it."""

    code = "mcp_server_failed"
    status = 502


def unusable(error: OSError, place: object) -> UnavailableError:
    """Return the failure of a file or folder that the system refused; `place` where the error names none."""
    what = error.strerror or str(error)
    return UnavailableError(
        f"{error.filename or place} can't be used: {what}; check the path, the rights and the free space"
    )
