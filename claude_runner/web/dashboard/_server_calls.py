"""A tool called from the browser: a form made of its schema, and what it answered.

A call goes through the same door as those of Claude, so that it is in the tool log. Its answer is kept for a while, so
that the page that shows it can be loaded again without calling once more.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError, NotFoundError, RunnerError
from claude_runner.invocation import Outcome
from claude_runner.web.dashboard._forms import Form, go_to, read_form
from claude_runner.web.dashboard._markdown import readable
from claude_runner.web.dashboard._rendering import Pages, with_query
from claude_runner.web.dashboard._server import standing_of
from claude_runner.web.dashboard._server_forms import (
    ArgumentField,
    argument_fields,
    as_json,
    json_object,
    refusal,
    typed_arguments,
    typed_in,
)
from claude_runner.web.dashboard._server_states import Standing, ToolCost

SECONDS: Final = 60
MOST_SECONDS: Final = 240
MOST_BLOCKS: Final = 50
MOST_TEXT: Final = 50_000  # characters of an answer's text that are shown
KEPT: Final = 40  # answers
MOST_ARGUMENTS: Final = 100_000  # characters of arguments that are kept with an answer


class Block(NamedTuple):
    """A piece of an answer as a page shows it.

    Attributes:
        kind: What the protocol calls it.
        note: What there is to say of it.
        left: How many characters of the text are not shown.
    """

    kind: str
    note: str
    text: str
    left: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered, as a page shows it."""

    tool: str
    arguments: str
    is_error: bool
    blocks: tuple[Block, ...]
    more: int
    structured: Block | None
    seconds: float
    at: datetime


class ServerCalls:
    """The page at `/servers/{name}/call`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/servers/{name}/call", self.show)
        yield Route("/servers/{name}/call", self.call, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show the form, and an answer where the address names one."""
        standing, tool = await self._tool(request)
        token = request.query_params.get("answer", "")
        answer = self._answers.get(token)
        if answer is not None and answer.tool != tool.full_name:
            answer = None
        fields = argument_fields(tool.info.input_schema)
        arguments = json_object("" if answer is None else answer.arguments, "json")
        return await self._page(
            request,
            standing,
            tool,
            fields=fields,
            typed=typed_in(arguments, fields or ()),
            json=as_json(arguments) if arguments or fields is None else "",
            answer=answer,
            gone=bool(token) and answer is None,
        )

    async def call(self, request: Request) -> Response:
        """Call the tool and go to its answer."""
        standing, tool = await self._tool(request)
        form = await read_form(request)
        fields = argument_fields(tool.info.input_schema)

        async def do() -> str:
            arguments = _arguments(form, fields)
            seconds = _seconds(form)
            begun = self._app.clock.elapsed()
            outcome = await self._app.invocations.invoke(tool.full_name, arguments, seconds)
            token = self._keep(outcome, arguments, self._app.clock.elapsed() - begun)
            path = f"/servers/{standing.server.name}/call"
            return with_query(path, tool=tool.info.name, answer=token) + "#answer"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except RunnerError as error:
            return await self._page(
                request,
                standing,
                tool,
                error.status,
                fields=fields,
                typed={it.key: form.text(it.key) for it in fields or ()},
                json=form.text("json"),
                seconds=form.text("seconds", str(SECONDS)),
                **refusal(error, {"json", "seconds", *(it.key for it in fields or ())}),
            )
        return go_to(path)

    def _keep(self, outcome: Outcome, arguments: Mapping[str, Any], seconds: float) -> str:
        token = secrets.token_urlsafe(12)
        self._answers[token] = _answer(outcome, arguments, seconds, self._app.clock.now())
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return token

    async def _tool(self, request: Request) -> tuple[Standing, ToolCost]:
        """Return the tool that a request's query names, as its server listed it when it was last started."""
        standing = await standing_of(self._pages, request)
        asked = request.query_params.get("tool", "")
        for tool in standing.tools or ():
            if asked in {tool.info.name, tool.full_name}:
                return standing, tool
        name = standing.server.name
        raise NotFoundError(
            f"it is not known that {name} has a tool {asked[:100]!r}; have it list its tools first, on its page"
        )

    async def _page(
        self,
        request: Request,
        standing: Standing,
        tool: ToolCost,
        status: int = 200,
        *,
        fields: Sequence[ArgumentField] | None,
        typed: Mapping[str, str],
        json: str,
        seconds: str = str(SECONDS),
        answer: Answer | None = None,
        gone: bool = False,
        errors: Mapping[str, str] | None = None,
        problem: str | None = None,
    ) -> Response:
        schema, left = _cut(as_json(tool.info.input_schema), MOST_TEXT)
        return await self._pages.page(
            request,
            "server_call.html",
            status,
            standing=standing,
            tool=tool,
            fields=fields,
            typed=typed,
            json=json,
            seconds=seconds,
            answer=answer,
            gone=gone,
            errors=errors or {},
            problem=problem,
            schema=schema,
            left=left,
            plain=readable,
        )


def _arguments(form: Form, fields: Sequence[ArgumentField] | None) -> dict[str, Any]:
    if fields is None or form.text("how") == "json":
        return json_object(form.text("json"), "json")
    return typed_arguments(form, fields)


def _seconds(form: Form) -> int:
    seconds = form.number("seconds", SECONDS)
    if not 1 <= seconds <= MOST_SECONDS:
        raise InvalidError(f"from 1 to {MOST_SECONDS} seconds", field="seconds")
    return seconds


def _answer(outcome: Outcome, arguments: Mapping[str, Any], seconds: float, now: datetime) -> Answer:
    blocks: list[Block] = []
    room = MOST_TEXT
    for content in outcome.content[:MOST_BLOCKS]:
        blocks.append(_block(content, room))
        room = max(room - len(blocks[-1].text), 0)
    structured = None
    if outcome.structured is not None:
        structured = Block("structured", "", *_cut(as_json(outcome.structured), MOST_TEXT))
    given = as_json(arguments)
    return Answer(
        outcome.tool,
        given if len(given) <= MOST_ARGUMENTS else "",
        outcome.is_error,
        tuple(blocks),
        len(outcome.content) - len(blocks),
        structured,
        seconds,
        now,
    )


def _block(content: Mapping[str, Any], room: int) -> Block:
    """Return a block of content (MCP, ContentBlock); of what is no text, what it is."""
    kind = str(content.get("type"))[:40]
    if kind == "text":
        return Block(kind, "", *_cut(str(content.get("text", "")), room))
    data = content.get("data")
    if isinstance(data, str):
        note = f"{str(content.get('mimeType', 'of no stated kind'))[:80]}, about {len(data) * 3 // 4:,} bytes"
        return Block(kind, note, "", 0)
    rest = {key: value for key, value in content.items() if key != "type"}
    return Block(kind, "", *_cut(as_json(rest), room))


def _cut(text: str, most: int) -> tuple[str, int]:
    """Return the beginning of a text, fit to be looked at, and how many characters were left out."""
    return readable(text[:most]), max(len(text) - most, 0)
