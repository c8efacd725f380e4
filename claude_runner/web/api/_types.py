"""What the bodies and addresses of several endpoints have in common."""

from typing import Annotated, Any

from pydantic import Field

from claude_runner.views.decisions import ChosenProfile

Flag = Annotated[bool, Field(strict=True)]
Minutes = Annotated[
    int, Field(ge=1, le=1440, strict=True, description="After how many minutes a run is ended.")
]
Tools = Annotated[
    list[str] | None,
    Field(
        description="What it may use: names such as `Read` or `mcp__email__*`. An empty list: the owner's allowed tools"
        " and those of every enabled server."
    ),
]
Profile = Annotated[
    ChosenProfile | None,
    Field(description="What it may do without asking; `default` is the owner's choice."),
]
Commands = Annotated[
    list[str] | None,
    Field(description="For the profile `rules`: how the shell commands begin that it may run."),
]
Model = Annotated[
    str | None, Field(description="A model's name or alias, such as `sonnet`; null for the owner's default.")
]
Policy = Annotated[
    dict[str, Any] | None,
    Field(
        description="Rules that are to change, such as `overlap`; null sets one back to the owner's default."
    ),
]
Enabled = Annotated[bool, Field(strict=True, description="Whether it is in use.")]
Limit = Annotated[int, Field(ge=1, le=200, description="How many at the most.")]
Cursor = Annotated[
    str | None,
    Field(description="`next_cursor` of the page before, for the one after it, with the same filters."),
]
Since = Annotated[
    str | None,
    Field(description="From this instant on.", json_schema_extra={"format": "date-time"}),
]
Until = Annotated[
    str | None,
    Field(description="Before this instant.", json_schema_extra={"format": "date-time"}),
]
Variables = Annotated[
    list[str | dict[str, Any]] | None,
    Field(
        description="Variables that the server reads: names, or objects with `name`, `description`, `required`,"
        " `sensitive`."
    ),
]

# What stands in a path.
PATHS = {
    "job_id": "The job's id.",
    "run_id": "The run's id.",
    "call_id": "The call's id.",
    "webhook_id": "The webhook's id.",
    "delivery_id": "The delivery's id.",
    "channel_id": "The channel's id.",
    "name": "The server's name.",
    "key": "The name of the environment variable.",
    "client_id": "The client's id.",
}
