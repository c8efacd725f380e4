"""Asks the user before something is destroyed, where their client can put a question to them; elsewhere it is done.

The protocol knows two ways. Up to 2025-11-25 the client is sent the question while the call waits. Since 2026-07-28 the
call is answered with the question, and comes once more with the answer and with what the question was about, sealed.
The library binds that seal to the tool, its arguments, the caller and ten minutes; that the thing has not been changed
or replaced meanwhile is seen to here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from fastmcp import Context
from fastmcp.server.dependencies import get_context
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from claude_runner.errors import ConflictError, UnavailableError

_KEY: Final = "confirm"
_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {_KEY: {"type": "boolean", "title": "Yes, do it"}},
    "required": [_KEY],
}
_REFUSALS: Final = {
    "accept": "the user did not tick the box that says so",
    "decline": "the user declined",
    "cancel": "the user closed the question without an answer",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What a user is asked before a tool does what can't be undone.

    Attributes:
        text: The whole question: what happens, to the thing of which name, and what goes with it.
        about: Tells the thing as it is from what it may be later, or from another of its name. An answer holds for
            this alone.
        otherwise: What there is to say where they don't agree.
    """

    text: str
    about: str
    otherwise: str = "nothing was deleted"


Ask = Callable[[], Awaitable[Question | None]]


async def confirmed(ask: Ask) -> InputRequiredResult | None:
    """Return once the user has agreed; with what the call is to be answered where their answer comes in another.

    Args:
        ask: Makes the question; `None` where there is none, since the tool will refuse by itself. What it raises goes
            to the caller, and nobody is asked.

    Raises:
        ConflictError: They did not agree, or meanwhile the thing is another.
        UnavailableError: The client said that it can ask, and then could not.
    """
    context = get_context()
    if not _can_ask(context) or (question := await ask()) is None:
        return None
    now: Question | None = question
    if _is_answered_later(context):
        given = (context.input_responses or {}).get(_KEY)
        asked_about = context.request_state
        if not isinstance(given, ElicitResult) or asked_about is None:
            return _asking(question)
        answer = given
    else:
        answer, asked_about = await _answer(context, question), question.about
        now = await ask()  # the user may have taken their time
    if not (answer.action == "accept" and (answer.content or {}).get(_KEY) is True):
        raise ConflictError(f"{question.otherwise}: {_REFUSALS[answer.action]}")
    if now is None or now.about != asked_about:
        raise ConflictError(
            f"{question.otherwise}: it has been changed since the user was asked; call once more"
        )
    return None


def _can_ask(context: Context) -> bool:
    """Tell whether there is a client, and one that shows forms and can be reached now."""
    if context.request_context is None or not (
        _is_answered_later(context) or context.session.can_send_request
    ):
        return False
    capabilities = context.session.client_capabilities
    asking = None if capabilities is None else capabilities.elicitation
    return asking is not None and (asking.form is not None or asking.url is None)  # neither named: forms


def _is_answered_later(context: Context) -> bool:
    request = context.request_context
    return request is not None and request.protocol_version in MODERN_PROTOCOL_VERSIONS


def _asking(question: Question) -> InputRequiredResult:
    form = ElicitRequestFormParams(message=question.text, requested_schema=_FORM)
    return InputRequiredResult(
        input_requests={_KEY: ElicitRequest(params=form)}, request_state=question.about
    )


async def _answer(context: Context, question: Question) -> ElicitResult:
    try:
        return await context.session.elicit_form(question.text, _FORM, context.request_id)
    except MCPError as error:
        raise UnavailableError(
            f"{question.otherwise}: the client could not ask the user ({error})"
        ) from error
