"""Which runs are looked for, as addresses say it."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from claude_runner.errors import InvalidError
from claude_runner.runs import RunQuery, State, Trigger
from claude_runner.views.instants import read_instant
from claude_runner.web.api._types import Since, Until

LONGEST_TEXT = 500

States = Annotated[
    list[State] | None, Field(description="In any of these states; may be there several times.")
]


@dataclass(frozen=True, slots=True)
class RunSearch:
    """Which runs."""

    text: Annotated[
        str | None,
        Field(
            description="Words that all occur in the prompt or the output, the last of them as a beginning."
        ),
    ] = None
    state: States = None
    reason: Annotated[str | None, Field(description="With this reason, such as `timeout`.")] = None
    job_id: Annotated[str | None, Field(description="Of this job.")] = None
    webhook_id: Annotated[str | None, Field(description="Started by this webhook.")] = None
    trigger: Annotated[Trigger | None, Field(description="Started this way.")] = None
    since: Since = None
    until: Until = None
    min_cost_usd: Annotated[float | None, Field(ge=0, description="That cost at least so many dollars.")] = (
        None
    )
    rehearsal: Annotated[bool | None, Field(description="Rehearsals alone, or all but them.")] = None
    model: Annotated[str | None, Field(description="That this model answered, by its full name.")] = None

    def wanted(self) -> RunQuery:
        """Return the search; raises `InvalidError` where it can't be made."""
        if len(self.text or "") > LONGEST_TEXT:
            raise InvalidError(f"text has more than {LONGEST_TEXT} characters", field="text")
        return RunQuery(
            text=self.text,
            states=tuple(self.state or ()),
            reason=self.reason,
            job_id=self.job_id,
            webhook_id=self.webhook_id,
            trigger=self.trigger,
            since=read_instant(self.since, "since"),
            until=read_instant(self.until, "until"),
            min_cost_usd=self.min_cost_usd,
            rehearsal=self.rehearsal,
            model=self.model,
        )
