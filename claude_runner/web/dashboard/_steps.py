"""The entries of a transcript as the templates show them: rendered, shortened, and put into words."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from claude_runner.runs import EventKind, Run, Tokens
from claude_runner.web.dashboard._markdown import (
    IN_A_THREAD,
    MOST_MARKDOWN,
    MOST_SHOWN,
    Growing,
    Growth,
    Markdown,
    plain,
    readable,
)
from claude_runner.web.dashboard._run_words import Line, line_of
from claude_runner.web.dashboard._transcript import Entry

SMALL: Final = (
    1_200  # characters of a folded body that stand in the page; more of it comes when it is unfolded
)
NAME: Final = 200  # characters of a tool's name
GIST: Final = 160  # characters of a call that are seen while it is folded

# What tells best what a call is about, of the arguments that many tools have.
_TELLING: Final = ("command", "file_path", "path", "pattern", "query", "url", "prompt", "subject", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a tool.

    Attributes:
        server: Whose tool it is; empty where it is Claude Code's own.
        tool: Its name.
        gist: What it is about.
        word: What became of it; empty where it went well.
        colour: What the style sheet calls that.
        is_running: Whether it goes on.
        seconds: How long it took.
        arguments: Names and values; none where they are folded.
        result: What came of it; `None` where nothing has, or where it is folded.
        cut: How many characters of the result were not kept.
    """

    server: str
    tool: str
    gist: str
    word: str
    colour: str
    is_running: bool
    seconds: float | None
    arguments: Sequence[tuple[str, str]]
    result: str | None
    cut: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An entry as it is shown; just one of its last four parts is there.

    Attributes:
        seq: What it is known by.
        kind: What it tells of.
        at: When it began.
        since: How many seconds after the run.
        is_whole: Whether all that is folded in it stands in the page.
        text: A text, or a thought.
        length: How long that is.
        left: How many characters of it do not stand in the page.
    """

    seq: int
    kind: EventKind
    at: datetime
    since: float | None
    is_whole: bool
    text: Growth | None = None
    length: int = 0
    left: int = 0
    call: Call | None = None
    line: Line | None = None
    tokens: Tokens | None = None


def growing_of(entry: Entry) -> tuple[Growing, Growth]:
    """Return a text that may still grow, as it stands."""
    growing = Growing(as_markdown=entry.kind is EventKind.TEXT and entry.is_whole)
    text = entry.text
    if len(text) > MOST_MARKDOWN:
        growing = Growing(as_markdown=False)
        growing.is_rough = entry.kind is EventKind.TEXT
        text = text[-MOST_SHOWN:]
    return growing, growing.feed(text)


async def steps_of(
    entries: Sequence[Entry], run: Run, markdown: Markdown, *, whole: bool = False
) -> list[Step]:
    """Return entries as they are shown.

    Args:
        entries: They.
        run: Whose they are.
        markdown: Renders texts.
        whole: Whether what is folded is wanted as well, however long it is.
    """
    growing = {entry.seq for entry in entries if entry.pieces and entry.is_open and not run.state.is_final}
    told = [
        entry
        for entry in entries
        if entry.kind is EventKind.TEXT and entry.is_whole and entry.seq not in growing
    ]
    rendered = await markdown.rendered([entry.text for entry in told])
    texts = {
        entry.seq: (Growth(it.html, Markup()), it.left) for entry, it in zip(told, rendered, strict=True)
    }
    return [
        await _open_text(entry, run)
        if entry.seq in growing
        else _step(entry, run, texts.get(entry.seq), whole=whole)
        for entry in entries
    ]


async def _open_text(entry: Entry, run: Run) -> Step:
    if entry.length > IN_A_THREAD:
        _, growth = await asyncio.to_thread(growing_of, entry)
    else:
        _, growth = growing_of(entry)
    return text_step(entry, run, growth)


def text_step(entry: Entry, run: Run, growth: Growth) -> Step:
    """Return a text that may still grow, or what has grown of it."""
    return Step(**_common(entry, run), is_whole=True, text=growth, length=entry.length)


def _step(entry: Entry, run: Run, text: tuple[Growth, int] | None, *, whole: bool) -> Step:
    common = _common(entry, run)
    if text is not None:
        return Step(**common, is_whole=True, text=text[0], length=entry.length, left=text[1])
    if entry.pieces:
        is_in = whole or entry.kind is EventKind.TEXT or entry.length <= SMALL
        shown = plain(entry.text[:MOST_SHOWN]) if is_in else Markup()
        left = max(0, entry.length - MOST_SHOWN)
        return Step(
            **common,
            is_whole=is_in,
            text=Growth(shown, Markup()),
            length=entry.length,
            left=left if is_in else 0,
        )
    if entry.kind is EventKind.TOOL_USE:
        is_whole = whole or _call_length(entry) <= SMALL
        return Step(**common, is_whole=is_whole, call=_call(entry, run, is_whole=is_whole))
    if entry.kind is EventKind.TOOL_RESULT:
        body = entry.first.body
        line = Line("bad" if body.get("is_error") else "skip", "The result of an earlier call", _result(body))
        return Step(**common, is_whole=True, line=line)
    if entry.kind is EventKind.USAGE:
        return Step(**common, is_whole=True, tokens=Tokens(**entry.first.body))
    line = line_of(entry.first)
    return Step(
        **common,
        is_whole=True,
        line=Line(line.colour, readable(line.words), readable(line.detail)),
    )


def _common(entry: Entry, run: Run) -> dict[str, Any]:
    since = None if run.started_at is None else max(0.0, (entry.at - run.started_at).total_seconds())
    return {"seq": entry.seq, "kind": entry.kind, "at": entry.at, "since": since}


def _call_length(entry: Entry) -> int:
    """Return how long the body of a call is."""
    answer = entry.denial if entry.answer is None else entry.answer.body.get("content")
    return sum(len(_value(value)) for value in _arguments(entry).values()) + len(str(answer or ""))


def _arguments(entry: Entry) -> dict[str, Any]:
    given = entry.first.body.get("input")
    return given if isinstance(given, dict) else {"": given}


def _call(entry: Entry, run: Run, *, is_whole: bool) -> Call:
    """Return a call; of one that is folded what is seen of it alone, since a hundred of them may be long."""
    answer, arguments = entry.answer, _arguments(entry)
    server, tool = _names(str(entry.first.body.get("name"))[:NAME])
    is_running = answer is None and entry.is_open and not run.state.is_final
    word, colour = _outcome(entry, is_running=is_running)
    result = None if answer is None or not is_whole else _result(answer.body)
    if answer is None and entry.denial is not None:
        result = readable(entry.denial)
    return Call(
        server=readable(server),
        tool=readable(tool),
        gist=readable(_gist(arguments)),
        word=word,
        colour=colour,
        is_running=is_running,
        seconds=None if answer is None else (answer.at - entry.at).total_seconds(),
        arguments=[(readable(str(name)), readable(_value(value))) for name, value in arguments.items()]
        if is_whole
        else (),
        result=result,
        cut=0 if answer is None else _cut(answer.body),
    )


def _outcome(entry: Entry, *, is_running: bool) -> tuple[str, str]:
    if entry.denial is not None:
        return "denied", "warn"
    if entry.answer is None:
        if is_running:
            return "running", "run"
        return ("no answer" if entry.is_open else "answered later"), "skip"
    return ("failed", "bad") if entry.answer.body.get("is_error") else ("", "ok")


def _result(body: Mapping[str, Any]) -> str:
    return readable(str(body.get("content") or ""))


def _cut(body: Mapping[str, Any]) -> int:
    length = body.get("length")
    return max(0, length - len(str(body.get("content") or ""))) if isinstance(length, int) else 0


def _names(name: str) -> tuple[str, str]:
    """Return a tool's server and its own name (`mcp__server__tool`)."""
    marker, _, rest = name.partition("__")
    server, _, tool = rest.partition("__")
    return (server, tool) if marker == "mcp" and tool else ("", name)


def _gist(arguments: Mapping[str, Any]) -> str:
    telling = [arguments[name] for name in _TELLING if isinstance(arguments.get(name), str)]
    telling += [value for value in arguments.values() if isinstance(value, str)]
    if telling:
        return " ".join(telling[0][: GIST * 4].split())[:GIST]
    return _value(arguments)[:GIST] if arguments and "" not in arguments else ""


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
