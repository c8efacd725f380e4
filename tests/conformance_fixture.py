"""What the Model Context Protocol's conformance suite calls on a server, beside the server's own tools.

Each is what the suite's description of a scenario asks for, and no more; names, texts and URIs are the suite's.
"""

import base64
import json
import secrets
from typing import Any, Final

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.prompts import Message, PromptResult
from fastmcp.tools import Tool
from fastmcp.tools.base import ToolResult
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    AudioContent,
    Completion,
    CompletionArgument,
    CompletionContext,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    PromptListChangedNotification,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    ToolListChangedNotification,
    UnsubscribeRequestParams,
)

from tests.conformance_inputs import ASKING, prompt_with_input

# A picture of one red dot, and a sound of no length.
DOT: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
SILENCE: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
PICTURE: Final = ImageContent(type="image", data=DOT, mime_type="image/png")
MISSING_CAPABILITY: Final = -32021  # of the revision 2026-07-28
OPTIONS: Final = ["option1", "option2", "option3"]


def add_fixtures(mcp: FastMCP[Any]) -> None:
    """Add the suite's tools, resources, prompts and completions to a server, and have it take subscriptions."""
    for tool in (*PLAIN, *ASKING):
        mcp.tool(tool, name=f"test_{tool.__name__}")
    mcp.resource("test://static-text", mime_type="text/plain")(static_text)
    mcp.resource("test://static-binary", mime_type="image/png")(static_binary)
    mcp.resource("test://watched-resource", mime_type="text/plain")(watched_resource)
    mcp.resource("test://template/{id}/data", mime_type="application/json")(of_template)
    for prompt in PROMPTS:
        mcp.prompt(prompt, name=f"test_{prompt.__name__}")
    mcp.prompt(prompt_with_input, name="test_input_required_result_prompt")
    mcp.completion(cities)
    server = mcp._mcp_server
    server.add_request_handler("resources/subscribe", SubscribeRequestParams, _accept)
    server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, _accept)


def said(text: str) -> ToolResult:
    return ToolResult(content=[TextContent(type="text", text=text)])


def resource(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=contents)


def simple_text() -> ToolResult:
    """Say a sentence."""
    return said("This is a simple text response for testing.")


def image_content() -> ToolResult:
    """Show a picture."""
    return ToolResult(content=[PICTURE])


def audio_content() -> ToolResult:
    """Play a sound."""
    return ToolResult(content=[AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")])


def embedded_resource() -> ToolResult:
    """Hand out a resource."""
    return ToolResult(content=[resource("test://embedded-resource", "This is an embedded resource content.")])


def multiple_content_types() -> ToolResult:
    """Say a sentence, show a picture and hand out a resource."""
    mixed = resource("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json")
    words = TextContent(type="text", text="Multiple content types test:")
    return ToolResult(content=[words, PICTURE, mixed])


async def tool_with_logging(ctx: Context) -> ToolResult:
    """Log three lines to the client."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
    return said("logged")


async def logging_tool(ctx: Context) -> ToolResult:
    """Log a line to the client, which may not have asked for it."""
    await ctx.info("a line")
    return said("logged")


def error_handling() -> ToolResult:
    """Refuse."""
    raise ToolError("This tool intentionally returns an error for testing")


async def tool_with_progress(ctx: Context) -> ToolResult:
    """Tell of progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
    return said("done")


async def streaming_elicitation(ctx: Context) -> ToolResult:
    """Tell of progress, and send no request of its own."""
    await ctx.report_progress(50, 100)
    return said("Streaming complete")


async def sampling(prompt: str, ctx: Context) -> ToolResult:
    """Ask the client's model."""
    question = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message(  # type: ignore[deprecated]  # the elder revision requires it
        messages=[question], max_tokens=100, related_request_id=ctx.request_id
    )
    return said(f"LLM response: {getattr(answer.content, 'text', '')}")


async def _elicited(ctx: Context, message: str, **properties: dict[str, Any]) -> ToolResult:
    answer = await ctx.session.elicit(
        message=message,
        requested_schema={"type": "object", "properties": properties, "required": []},
        related_request_id=ctx.request_id,
    )
    return said(f"User response: action={answer.action}, content={json.dumps(answer.content)}")


async def elicitation(message: str, ctx: Context) -> ToolResult:
    """Ask the user for two words."""
    username = {"type": "string", "description": "User's response"}
    return await _elicited(ctx, message, username=username, email={"type": "string", "description": "Email"})


async def elicitation_sep1034_defaults(ctx: Context) -> ToolResult:
    """Ask the user for values that have defaults."""
    return await _elicited(
        ctx,
        "Please review",
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )


async def elicitation_sep1330_enums(ctx: Context) -> ToolResult:
    """Ask the user for choices, in every form that a choice can have."""
    titled = [{"const": option, "title": option.title()} for option in OPTIONS]
    return await _elicited(
        ctx,
        "Please choose",
        untitledSingle={"type": "string", "enum": OPTIONS},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", "enum": OPTIONS, "enumNames": ["One", "Two", "Three"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )


async def missing_capability(ctx: Context) -> ToolResult:
    """Refuse a client that can't be asked for its model."""
    capabilities = ctx.session.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        missing: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_CAPABILITY, "Missing required client capability", missing)
    return said("It can be asked.")


async def trigger_tool_change(ctx: Context) -> ToolResult:
    """Add a tool."""
    ctx.fastmcp.add_tool(Tool.from_function(simple_text, name=f"added_{secrets.token_hex(4)}"))
    await ctx.send_notification(ToolListChangedNotification())
    return said("A tool was added.")


async def trigger_prompt_change(ctx: Context) -> ToolResult:
    """Tell that the prompts have changed."""
    await ctx.send_notification(PromptListChangedNotification())
    return said("The prompts have changed.")


PLAIN: Final = (
    simple_text,
    image_content,
    audio_content,
    embedded_resource,
    multiple_content_types,
    tool_with_logging,
    logging_tool,
    error_handling,
    tool_with_progress,
    streaming_elicitation,
    sampling,
    elicitation,
    elicitation_sep1034_defaults,
    elicitation_sep1330_enums,
    missing_capability,
    trigger_tool_change,
    trigger_prompt_change,
)


def static_text() -> str:
    """Hold a text."""
    return "This is the content of the static text resource."


def static_binary() -> bytes:
    """Hold a picture."""
    return base64.b64decode(DOT)


def watched_resource() -> str:
    """Hold a text that can be subscribed to."""
    return "Watched resource content"


def of_template(id: str) -> str:  # noqa: A002 - the suite's name
    """Hold what is made for an id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def simple_prompt() -> str:
    """Say a sentence."""
    return "This is a simple prompt for testing."


def prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Repeat two words."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


def prompt_with_embedded_resource(resourceUri: str) -> PromptResult:  # noqa: N803 - the suite's name
    """Hand out a resource."""
    embedded = resource(resourceUri, "Embedded resource content for testing.")
    return PromptResult([Message(embedded), Message("Please process the embedded resource above.")])


def prompt_with_image() -> PromptResult:
    """Show a picture."""
    return PromptResult([Message(PICTURE), Message("Please analyze the image above.")])


PROMPTS: Final = (simple_prompt, prompt_with_arguments, prompt_with_embedded_resource, prompt_with_image)


def cities(
    _ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    _context: CompletionContext | None,
) -> Completion:
    """Complete any argument."""
    return Completion(values=[city for city in ("paris", "parma") if city.startswith(argument.value)])


async def _accept(
    _ctx: ServerRequestContext[Any, Any], _params: SubscribeRequestParams | UnsubscribeRequestParams
) -> EmptyResult:
    return EmptyResult()
