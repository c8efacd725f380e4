"""What the site answers where something is refused or goes wrong: one shape for all of it."""

import logging
import secrets
from collections.abc import Mapping

from starlette.responses import JSONResponse

from claude_runner.errors import RunnerError

log = logging.getLogger(__name__)


def error_answer(
    code: str,
    message: str,
    status: int,
    *,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the answer that something was refused, and why.

    Args:
        code: A word for programs.
        message: A sentence for people.
        status: The HTTP status (RFC 9110, section 15).
        field: The parameter at fault, where there is one.
        headers: Further headers.
    """
    error = {"code": code, "message": message, "field": field}
    kept = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return JSONResponse({"error": error}, status_code=status, headers=kept)


def refusal_of(error: RunnerError) -> JSONResponse:
    """Return the answer to an expected failure."""
    headers = {"Retry-After": "5"} if error.status == 503 else None
    return error_answer(error.code, str(error), error.status, field=error.field, headers=headers)


def mistake_of(error: Exception, path: str) -> JSONResponse:
    """Log what nobody expected and return the answer, which tells only where to find it in the log."""
    error_id = secrets.token_hex(4)
    shown = repr((path.partition("/webhook/")[0] or "/webhook/…")[:200])  # a path may hold ends of lines
    log.error("%s: unexpected error %s", shown, error_id, exc_info=error)
    return error_answer(
        "internal_error", f"the server made a mistake; its log tells more under {error_id}", 500
    )
