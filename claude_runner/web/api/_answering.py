"""How an answer is written."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import PydanticSerializationError, to_json
from starlette.responses import Response

from claude_runner.web.api._seen import tag_of

Tag = Callable[[Any], str]

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def answered(result: Any, status: int, tag: Tag | None = None, location: str | None = None) -> Response:
    """Return an answer in JSON."""
    headers = dict(_HEADERS)
    if tag is not None:
        headers["ETag"] = tag_of(tag(result))
    if location is not None:
        headers["Location"] = location.format_map(_Fields(result))
    return Response(written(result), status, headers, "application/json")


def written(result: Any) -> bytes:
    """Return a value as JSON; there may be half a character in what a tool server said, which is escaped."""
    with suppress(PydanticSerializationError, UnicodeEncodeError):
        return to_json(result, inf_nan_mode="null")
    return json.dumps(result, default=dataclasses.asdict).encode()


class _Fields(dict[str, str]):
    """The fields of an answer, as they stand in an address."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self._result = result

    def __missing__(self, name: str) -> str:
        return quote(str(getattr(self._result, name)), safe="")
