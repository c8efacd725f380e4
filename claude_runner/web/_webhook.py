"""The door of webhooks: what is posted to `/webhook/{token}`.

It is posted by programs that nobody here has written, often many at a time, so it goes straight from the socket to the
reception; whatever is refused gets the site's answer to that.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from claude_runner.app import App
from claude_runner.errors import InvalidError, RunnerError
from claude_runner.reception import Entrance, Receipt, Reception, TooManyError
from claude_runner.runs import Run
from claude_runner.web._answers import error_answer, refusal_of
from claude_runner.web._bodies import GoneError, read_body

PREFIX: Final = "/webhook/"
LARGEST: Final = 2**20  # bytes of a body
SLOWEST_SECONDS: Final = 15.0

_HEADERS: Final = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


class WebhookDoor:
    """Serves every path that begins with `/webhook/`."""

    def __init__(self, app: App) -> None:
        self._reception: Reception = app.reception

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["method"] != "POST":
            wrong = error_answer("method", "a webhook is posted to", 405, headers={"Allow": "POST"})
            await wrong(scope, receive, send)
            return
        try:
            status, body = await self._answer(scope, receive)
        except GoneError:
            return
        except TooManyError as error:
            headers = {"Retry-After": str(error.retry_after)}
            await error_answer(error.code, str(error), error.status, headers=headers)(scope, receive, send)
        except RunnerError as error:
            await refusal_of(error)(scope, receive, send)
        else:
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": status, "headers": (*_HEADERS, length)})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        entrance = await self._reception.entrance(scope["path"].removeprefix(PREFIX))
        query: bytes = scope["query_string"]
        seconds = _wait_of(query, entrance) if query else 0
        body = await read_body(scope, receive, LARGEST, SLOWEST_SECONDS)
        receipt = await self._reception.receive(entrance, dict(scope["headers"]), body)
        if seconds and receipt.run_id is not None:
            run = await self._outcome(receipt.run_id, seconds, receive)
            if run is not None:
                return 200, _ended(run)
        return 202, _accepted(receipt)

    async def _outcome(self, run_id: str, seconds: float, receive: Receive) -> Run | None:
        """Return the run once it has ended, `None` where that takes too long; raises `GoneError` where nobody waits."""
        waiting = asyncio.create_task(self._reception.outcome(run_id, seconds))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise GoneError("the sender went before its run had ended")
            return waiting.result()
        finally:
            for task in (waiting, leaving):
                task.cancel()
            await asyncio.wait({waiting, leaving})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _wait_of(query: bytes, entrance: Entrance) -> int:
    """Return how many seconds the sender waits, as far as it may; raises `InvalidError` where it is no number."""
    given = parse_qs(query.decode("latin-1")).get("wait", ["0"])[-1]
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise InvalidError("wait is a whole number of seconds", field="wait")
    return min(int(given), entrance.webhook.max_wait_seconds)


def _accepted(receipt: Receipt) -> bytes:
    if (
        receipt.run_id is not None and not receipt.duplicate
    ):  # by far the most; neither has what JSON would escape
        return f'{{"run_id": "{receipt.run_id}", "state": "{receipt.state}"}}'.encode()
    return _json(
        {"run_id": receipt.run_id, "state": receipt.state}
        | ({"duplicate": True} if receipt.duplicate else {})
    )


def _ended(run: Run) -> bytes:
    return _json({"run_id": run.id, "state": run.state, "output": run.output, "error": run.error})


def _json(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode()
