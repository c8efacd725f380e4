"""What the first request is made of: how much of it each server's tools, the prompt and the rest take."""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from claude_runner.rehearsal import FirstRequest
from claude_runner.rehearsal.answers import estimate
from claude_runner.rehearsal.conversations import PLACEHOLDER
from claude_runner.rehearsing._records import Part, PartKind, RequestSize

ESTIMATED: Final = "Tokens are estimated, one for four bytes of the request, and can be a third off."
PRICED: Final = (
    f"{ESTIMATED} The price is that estimate at the list price of input tokens; what Claude's cache takes in costs a "
    "quarter more, what it has already a tenth. Answers, and the requests that follow each call of a tool, come on top."
)
UNPRICED: Final = f"{ESTIMATED} The model's price is not known."

Key = tuple[PartKind, str | None]


def size_of(request: FirstRequest, prompt: str, instructions: str, usd: float | None) -> RequestSize:
    """Return how large a request is and what it is made of, what is largest first.

    Args:
        request: As it came.
        prompt: What it says in the user's name.
        instructions: What it says besides.
        usd: What it costs.
    """
    sizes: dict[Key, int] = {}
    for key, piece in _pieces(request.body, prompt, instructions):
        sizes[key] = sizes.get(key, 0) + _size(piece)
    rest = request.size - sum(sizes.values())
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return RequestSize(
        bytes=request.size,
        estimated_tokens=request.tokens,
        usd=usd,
        about=UNPRICED if usd is None else PRICED,
        parts=_parts([*ordered, ((PartKind.REST, None), rest)], request),
    )


def tool_tokens(name: str, description: str, schema: Mapping[str, Any]) -> int:
    """Return about how many tokens a tool takes of every request in which it is offered.

    Args:
        name: As a run knows it.
        description: What a model reads.
        schema: That of its arguments.
    """
    return estimate(_size({"name": name, "description": description, "input_schema": dict(schema)}))


def offered_tools(request: FirstRequest) -> list[str]:
    """Return the names of the tools that the model could call."""
    return [tool["name"] for tool in request.body.get("tools", []) if tool["name"] != PLACEHOLDER]


def _pieces(body: dict[str, Any], prompt: str, instructions: str) -> Iterator[tuple[Key, Any]]:
    """Yield what is known of a request, piece by piece; whatever else there is, is Claude Code's own."""
    for tool in body.get("tools", []):
        match tool["name"].split("__", 2):
            case ["mcp", server, _]:
                yield (PartKind.SERVER, server), tool
            case [name] if name != PLACEHOLDER:
                yield (PartKind.BUILT_INS, None), tool
    said = [block for message in body["messages"] if message["role"] == "user" for block in _blocks(message)]
    for kind, text, blocks in (
        (PartKind.INSTRUCTIONS, instructions, _blocks({"content": body.get("system", [])})),
        (PartKind.PROMPT, prompt, said),
    ):
        having = [block for block in blocks if text in block.get("text", "")]
        if having:
            yield (kind, None), max(having, key=lambda block: bool(block["text"] == text))


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _size(piece: Any) -> int:
    """Return how many bytes a piece takes as Claude Code writes it."""
    return len(json.dumps(piece, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


def _parts(sizes: list[tuple[Key, int]], request: FirstRequest) -> list[Part]:
    """Return the parts with their tokens, rounded so that they add up to the whole."""
    ends = [0]
    for _, size in sizes:
        ends.append(ends[-1] + size)
    tokens = [request.tokens * end // request.size for end in ends]
    return [
        Part(kind, server, size, after - before, round(size / request.size, 4))
        for ((kind, server), size), (before, after) in zip(sizes, pairwise(tokens), strict=True)
    ]
