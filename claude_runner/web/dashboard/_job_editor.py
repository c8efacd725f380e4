"""Where a job is made and changed: nothing that was typed is lost, whatever is wrong with it and whoever was first."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from claude_runner.errors import ConflictError, NotFoundError, UnavailableError
from claude_runner.jobs import STANDARD, Job, JobDraft
from claude_runner.web.dashboard._forms import Form, Notice, go_to, read_form
from claude_runner.web.dashboard._job_form import (
    EXAMPLE,
    Difference,
    JobFields,
    Refused,
    fields_of,
    merged,
    of_the_form,
    read_marks,
    read_seen_at,
    typed,
    values_of,
)
from claude_runner.web.dashboard._job_tools import tool_groups
from claude_runner.web.dashboard._rendering import SECURE, Pages
from claude_runner.web.dashboard._rule_fields import RULES
from claude_runner.web.dashboard._rules import CHOICES, defaults_in_words
from claude_runner.web.dashboard._schedule_preview import preview
from claude_runner.web.dashboard._zones import zone_names

GONE: Final = "This job was deleted meanwhile. What you typed is here: saving it makes a new one."
MODELS: Final = ("haiku", "sonnet", "opus")  # what Claude Code calls them for short
PROFILES: Final = (
    ("default", "The owner's default"),
    ("contained", "Contained: its own folder, shell commands in a sandbox"),
    ("rules", "Rules: its own folder, just the shell commands named below"),
    ("full", "Full: whatever the server's user may do"),
)
EXAMPLES: Final = (
    ("Weekdays at 9", "0 9 * * 1-5"),
    ("Every hour", "0 * * * *"),
    ("Every 15 minutes", "*/15 * * * *"),
    ("Mondays at 8", "0 8 * * 1"),
    ("The first of the month", "0 7 1 * *"),
)


class _Seen(NamedTuple):
    """What a form showed at first: the job's `updated_at`, and the marks of its values."""

    at: str
    marks: str


class JobEditor:
    """The pages at `/jobs/new` and `/jobs/{id}/edit`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes; they come before that of a job, which has any id."""
        yield Route("/jobs/preview", self.preview, methods=["GET"])
        yield Route("/jobs/new", self.new, methods=["GET"])
        yield Route("/jobs/new", self.create, methods=["POST"])
        yield Route("/jobs/{job_id}/edit", self.edit, methods=["GET"])
        yield Route("/jobs/{job_id}/edit", self.save, methods=["POST"])

    async def preview(self, request: Request) -> Response:
        """Answer an open form with what its schedule comes to."""
        query = request.query_params
        found = await preview(query.get("cron", ""), query.get("timezone", ""), self._app.clock.now(), query)
        part = await self._pages.fragment("job_form.html", "preview", preview=found)
        return HTMLResponse(part, headers=SECURE)

    async def new(self, request: Request) -> Response:
        """Show an empty form; what the address names is filled in."""
        query = request.query_params
        zone = (await self._pages.zone()).key
        fields = JobFields(
            name=query.get("name", ""),
            prompt=query.get("prompt", ""),
            cron=query.get("cron") or EXAMPLE,
            timezone=query.get("timezone") or zone,
        )
        return await self._form(request, None, fields)

    async def create(self, request: Request) -> Response:
        """Make a job."""
        form = await read_form(request)
        fields = typed(form)
        if form.text("do") == "preview":
            return await self._form(request, None, fields)
        try:
            values, _ = await self._values(form, fields, None)
        except Refused as refused:
            return await self._form(request, None, fields, 422, errors=refused.errors)

        async def do() -> str:
            with of_the_form():
                job = await self._app.jobs.add(JobDraft(**values), self._app.clock.now())
            return f"/jobs/{job.id}"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except Refused as refused:
            return await self._form(request, None, fields, 422, errors=refused.errors)
        notice = Notice("Job created. A rehearsal tells whether it would run, before it costs anything.", "ok",
                        f"{path}/rehearse", "Rehearse it")  # fmt: skip
        return go_to(path, notice)

    async def edit(self, request: Request) -> Response:
        """Show the form of a job."""
        job = await self._app.jobs.get(request.path_params["job_id"])
        return await self._form(request, job, fields_of(job))

    async def save(self, request: Request) -> Response:
        """Change a job, unless somebody else has since the form was opened."""
        form = await read_form(request)
        fields = typed(form)
        try:
            job = await self._app.jobs.get(request.path_params["job_id"])
        except NotFoundError:
            return await self._form(request, None, fields, 404, errors={"": GONE})
        was = read_seen_at(form.text("was")) or job.updated_at
        seen = _Seen(was.isoformat(), form.text("seen"))
        if form.text("do") == "preview":
            return await self._form(request, job, fields, seen=seen)

        async def do() -> str:
            values, _ = await self._values(form, fields, job)
            with of_the_form():
                changed = await self._app.jobs.change(job.id, values, self._app.clock.now(), was)
            return f"/jobs/{changed.id}"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except Refused as refused:
            return await self._form(request, job, fields, 422, errors=refused.errors, seen=seen)
        except ConflictError:
            return await self._changed_meanwhile(request, fields, read_marks(seen.marks))
        return go_to(path, Notice("Job saved."))

    async def _values(
        self, form: Form, fields: JobFields, old: Job | None
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        if form.text("grants") == "some" and not fields.tools:
            raise Refused({"tools": "tick at least one tool, or choose all that are allowed"})
        return await values_of(self._app, fields, old)

    async def _changed_meanwhile(
        self, request: Request, fields: JobFields, seen: Mapping[str, str]
    ) -> Response:
        """Show what was typed together with what somebody else has changed, to be saved all the same."""
        job = await self._app.jobs.get(request.path_params["job_id"])
        both, differences = merged(fields, fields_of(job), seen)
        return await self._form(request, job, both, 409, differences=differences)

    async def _form(
        self,
        request: Request,
        job: Job | None,
        fields: JobFields,
        status: int = 200,
        *,
        errors: Mapping[str, str] | None = None,
        differences: Sequence[Difference] | None = None,
        seen: _Seen | None = None,
    ) -> Response:
        if seen is None and job is not None:
            seen = _Seen(job.updated_at.isoformat(), json.dumps(fields_of(job).marks))
        now, owned = self._app.clock.now(), await self._app.stored.owned()
        shown: dict[str, Any] = {
            "job": job,
            "fields": fields,
            "errors": errors or {},
            "differences": differences,
            "seen": seen,
            "preview": await preview(fields.cron, fields.timezone, now, asdict(fields)),
            "groups": await tool_groups(self._app, fields.tools),
            "zones": await asyncio.to_thread(zone_names),
            "models": MODELS,
            "profiles": PROFILES,
            "examples": EXAMPLES,
            "default_profile": (await self._app.stored.rights()).default,
            "owned": owned,
            "choices": CHOICES,
            "defaults": defaults_in_words(owned.job_defaults.or_else(STANDARD), owned.budgets),
            "rule_errors": sorted(RULES.keys() & (errors or {}).keys()),
            "channels": await self._channels(fields),
        }
        return await self._pages.page(request, "job_form.html", status, **shown)

    async def _channels(self, fields: JobFields) -> list[tuple[str, str]]:
        """Return the names of the channels that there are, and of those that were chosen when there were others."""
        names: list[str] = []
        with suppress(UnavailableError):  # where the key is not there that opens their addresses
            names = [channel.name for channel in await self._app.channels.list()]
        return [(name, name) for name in dict.fromkeys([*names, *(fields.notify_channels or ())])]
