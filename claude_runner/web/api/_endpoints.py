"""How a method becomes an endpoint: one declaration from which come its route, its checks and its part of the document.

A method's parameters say what it takes: those that stand in its path, `query` (a dataclass), `body` (a TypedDict) and
`seen` (what the caller last saw, as If-Match names it). What it returns is what is answered, its docstring what is
told. Nothing of that is worked out before somebody asks.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar, get_type_hints

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from claude_runner.app import App
from claude_runner.errors import InvalidError, NotFoundError, RunnerError
from claude_runner.web._answers import mistake_of, refusal_of
from claude_runner.web._bodies import TooLargeError
from claude_runner.web._downloads import download
from claude_runner.web.api._answering import Tag, answered
from claude_runner.web.api._reading import (
    Form,
    MalformedError,
    MediaTypeError,
    read_body,
    read_nothing,
    read_query,
)
from claude_runner.web.api._seen import StaleError, read_seen

JSON: Final = "application/json"

Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])

_DECLARED: Final = "__endpoint__"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a method says of itself as an endpoint.

    Attributes:
        method: The HTTP method.
        path: With the names of its parameters in braces, as Starlette has it.
        status: What is answered where all goes well.
        raises: What the caller may be refused with, besides for what it has sent.
        tag: Makes the answer's ETag of it.
        media: The type of what is answered.
        answers: The form of what is answered, where that is no object of its own but a file.
        location: Where the object that was made is, with names of its fields in braces.
    """

    method: str
    path: str
    status: int
    raises: tuple[type[RunnerError], ...]
    tag: Tag | None
    media: str
    location: str | None
    answers: Any


class EndpointGroup:
    """Endpoints about one subject; every method marked with `endpoint` is one.

    Attributes:
        subject: What they are about, as the document groups them.
    """

    subject: str

    def __init__(self, app: App) -> None:
        self.app = app

    def endpoints(self) -> Iterator["Endpoint"]:
        """Yield the endpoints in the order they are written."""
        for name, member in vars(type(self)).items():
            if hasattr(member, _DECLARED):
                yield Endpoint(getattr(self, name), getattr(member, _DECLARED), self.subject)


def endpoint(
    address: str,
    *raises: type[RunnerError],
    status: int = 200,
    tag: Tag | None = None,
    media: str = JSON,
    location: str | None = None,
    answers: Any = None,
) -> Callable[[Method], Method]:
    """Offer a method as an endpoint.

    Args:
        address: The HTTP method and the path, such as `GET /api/jobs/{job_id}`, which may be of nothing.
        raises: What else the caller may be refused with.
        status: As in `Declaration`, and so are the others.
        tag: As there.
        media: As there.
        location: As there.
        answers: As there.
    """
    method, _, path = address.partition(" ")
    found = (NotFoundError,) if "{" in path else ()
    declared = Declaration(method, path, status, (*found, *raises), tag, media, location, answers)

    def mark(function: Method) -> Method:
        setattr(function, _DECLARED, declared)
        return function

    return mark


class Endpoint:
    """A method that is served."""

    def __init__(self, call: Callable[..., Awaitable[Any]], declared: Declaration, subject: str) -> None:
        self.call = call
        self.declared: Final = declared
        self.subject: Final = subject

    @property
    def name(self) -> str:
        """Return what it is called: the name of the method."""
        return self.call.__name__

    @property
    def place(self) -> str:
        """Return its path, as the document has it."""
        return re.sub(r":\w+}", "}", self.declared.path)

    @property
    def words(self) -> tuple[str, str]:
        """Return what it does in a sentence, and what else there is to say about it."""
        first, _, rest = (self.call.__doc__ or "").partition("\n")
        told = rest.partition("\n        Raises:")[0]
        return first.strip().rstrip("."), "\n".join(line.strip() for line in told.strip().splitlines())

    @cached_property
    def hints(self) -> dict[str, Any]:
        """Return the types of what it takes and of what it returns."""
        return get_type_hints(self.call, include_extras=True)

    @cached_property
    def query(self) -> Form | None:
        """Return what it takes in its address, if anything."""
        return Form(self.hints["query"]) if "query" in self.hints else None

    @cached_property
    def body(self) -> Form | None:
        """Return what it takes in its body, if anything."""
        return Form(self.hints["body"]) if "body" in self.hints else None

    @property
    def is_conditional(self) -> bool:
        """Tell whether it does nothing where the caller's view of the thing is stale."""
        return "seen" in self.hints

    @cached_property
    def answer(self) -> TypeAdapter[Any] | None:
        """Return the form of what it answers; `None` where that is not JSON."""
        return (
            TypeAdapter(self.declared.answers or self.hints["return"])
            if self.declared.media == JSON
            else None
        )

    @property
    def refusals(self) -> list[type[RunnerError]]:
        """Return what a caller may be refused with."""
        kinds: list[type[RunnerError]] = [InvalidError, *self.declared.raises]
        if self.body is not None:
            kinds += [MalformedError, MediaTypeError, TooLargeError]
        if self.is_conditional:
            kinds.append(StaleError)
        return [*dict.fromkeys(kinds)]

    async def serve(self, request: Request) -> Response:
        """Answer a request."""
        try:
            return await self._answer(await self.call(**await self._arguments(request)))
        except RunnerError as error:
            return refusal_of(error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours; a program is told of it in JSON, not by a page
            return mistake_of(error, request.url.path)

    async def _answer(self, result: Any) -> Response:
        it = self.declared
        if isinstance(result, AsyncGenerator):
            return await download(result, it.media, it.path.rpartition("/")[2])
        return answered(result, it.status, it.tag, it.location)

    async def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = dict(request.path_params)
        if self.query is None:
            read_nothing(request, self.name)
        else:
            arguments["query"] = read_query(request, self.query, self.name)
        if self.is_conditional:
            arguments["seen"] = read_seen(request)
        if self.body is not None:
            arguments["body"] = await read_body(request, self.body, self.name)
        return arguments
