"""The conformance suite's tools that ask their caller for more before they answer (revision 2026-07-28, SEP-2322).

Each call stands by itself: what is asked goes back to the client with a sealed state, and comes again with the answers.
"""

import json
from typing import Any, Final

from fastmcp import Context
from fastmcp.tools.base import ToolResult
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    InputResponses,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

Answer = ToolResult | InputRequiredResult


def _said(text: str) -> ToolResult:
    return ToolResult(content=[TextContent(type="text", text=text)])


def _question(message: str, name: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _prompt(text: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def _asked(state: str | None = None, /, **requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def _answers(ctx: Context) -> InputResponses:
    return ctx.input_responses or {}


def _word(ctx: Context, request: str, name: str) -> Any:
    """What the user filled in; `None` where the request has no answer yet."""
    answer = _answers(ctx).get(request)
    return (answer.content or {}).get(name) if isinstance(answer, ElicitResult) else None


async def input_required_result_elicitation(ctx: Context) -> Answer:
    """Ask the user's name, and greet them by it."""
    if (name := _word(ctx, "user_name", "name")) is None:
        return _asked(user_name=_question("What is your name?", "name"))
    return _said(f"Hello, {name}!")


async def input_required_result_sampling(ctx: Context) -> Answer:
    """Ask the client's model for a capital, and repeat what it says."""
    answer = _answers(ctx).get("capital_question")
    if not isinstance(answer, CreateMessageResult):
        return _asked(capital_question=_prompt("What is the capital of France?"))
    return _said(getattr(answer.content, "text", ""))


async def input_required_result_list_roots(ctx: Context) -> Answer:
    """Ask for the client's folders, and name them."""
    answer = _answers(ctx).get("client_roots")
    if not isinstance(answer, ListRootsResult):
        return _asked(client_roots=ListRootsRequest())
    return _said(", ".join(str(root.uri) for root in answer.roots))


async def input_required_result_request_state(ctx: Context) -> Answer:
    """Ask whether it is all right, and know the call again."""
    if "confirm" not in _answers(ctx) or ctx.request_state is None:
        return _asked("asked", confirm=_question("Please confirm", "ok", "boolean"))
    return _said("state-ok")


async def input_required_result_tampered_state(ctx: Context) -> Answer:
    """Ask whether it is all right; a state that is not ours never comes to here."""
    return await input_required_result_request_state(ctx)


async def input_required_result_multiple_inputs(ctx: Context) -> Answer:
    """Ask the user, the model and the client at once."""
    requests: dict[str, InputRequest] = {
        "user_name": _question("What is your name?", "name"),
        "greeting": _prompt("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if requests.keys() - _answers(ctx).keys():
        return _asked("asked", **requests)
    return _said("all inputs received")


async def input_required_result_multi_round(ctx: Context) -> Answer:
    """Ask the user's name, then their colour, and tell both."""
    name = json.loads(ctx.request_state or "{}").get("name")
    if name is not None and (color := _word(ctx, "step2", "color")) is not None:
        return _said(f"{name} likes {color}")
    if ctx.request_state and (name := _word(ctx, "step1", "name")) is not None:
        question = _question("Step 2: What is your favorite color?", "color")
        return _asked(json.dumps({"name": name}), step2=question)
    return _asked(json.dumps({}), step1=_question("Step 1: What is your name?", "name"))


async def input_required_result_capabilities(ctx: Context) -> Answer:
    """Ask for everything that the client says it can be asked for."""
    can = ctx.session.client_capabilities
    requests: dict[str, InputRequest] = {}
    if can and can.elicitation is not None:
        requests["user_name"] = _question("What is your name?", "name")
    if can and can.sampling is not None:
        requests["greeting"] = _prompt("Generate a greeting")
    if can and can.roots is not None:
        requests["client_roots"] = ListRootsRequest()
    return _said("nothing to ask") if _answers(ctx) or not requests else _asked(None, **requests)


async def prompt_with_input(ctx: Context) -> str | InputRequiredResult:
    """Ask what the prompt is to be about."""
    if (context := _word(ctx, "user_context", "context")) is None:
        return _asked(user_context=_question("What context should the prompt use?", "context"))
    return f"context: {context}"


ASKING: Final = (
    input_required_result_elicitation,
    input_required_result_sampling,
    input_required_result_list_roots,
    input_required_result_request_state,
    input_required_result_tampered_state,
    input_required_result_multiple_inputs,
    input_required_result_multi_round,
    input_required_result_capabilities,
)
