"""The page of one run: what it is, how it went, what happened in it, and what can be done about it."""

import dataclasses
import json
import sys
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import NotFoundError
from claude_runner.rehearsing import Rehearsal
from claude_runner.runs import NewRun, Run, State, Trigger, head
from claude_runner.views.runs import event_view, run_view
from claude_runner.web._downloads import download
from claude_runner.web.dashboard._filters import whole
from claude_runner.web.dashboard._follow import Follower, merged
from claude_runner.web.dashboard._forms import Notice, back_to, go_to, read_form
from claude_runner.web.dashboard._live import Live
from claude_runner.web.dashboard._markdown import Markdown, readable
from claude_runner.web.dashboard._rendering import Pages, wants
from claude_runner.web.dashboard._run_words import advice_for, owner_of, trigger_words
from claude_runner.web.dashboard._steps import steps_of
from claude_runner.web.dashboard._transcript import entry_at, window

CHILDREN: Final = 20
EVENTS_AT_ONCE: Final = 500  # of a download
REPORTS: Final = 20  # of rehearsals that are kept for who asked for them
MOST_TITLE: Final = 90  # characters of a prompt
FOLDED_FROM: Final = 1_500  # characters of a prompt
# What a run's view has for those who read it page by page.
PAGED: Final = frozenset(
    {"events", "events_total", "next_events_after", "output_length", "next_output_offset"}
)
# A text that a browser shows by itself is shown as nothing but a text.
RAW: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RunPage:
    """The pages below `/runs/{id}`."""

    def __init__(self, pages: Pages, live: Live) -> None:
        self._pages = pages
        self._app = pages.app
        self._live = live
        self._markdown = Markdown()
        self._reports: OrderedDict[str, Rehearsal] = OrderedDict()

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/runs/{run_id}", self.show)
        yield Route("/runs/{run_id}/stream", self.stream)
        yield Route("/runs/{run_id}/steps/{seq:int}", self.step)
        yield Route("/runs/{run_id}/output.txt", self.output)
        yield Route("/runs/{run_id}/output.md", self.output)
        yield Route("/runs/{run_id}/transcript.json", self.transcript)
        yield Route("/runs/{run_id}/stop", self.stop, methods=["POST"])
        yield Route("/runs/{run_id}/again", self.again, methods=["POST"])
        yield Route("/runs/{run_id}/rehearse", self.rehearse, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show a run."""
        run = await self._run(request)
        shown: dict[str, Any] = {"run": run, "name": await self._name(run), "owner": owner_of(run)}
        if wants(request, "head"):
            shown |= _head(run) | {"waits": (await self._app.waits_for(run)).get(run.id)}
        if wants(request, "facts"):
            shown |= {
                "children": await self._app.runs.children(run.id, CHILDREN),
                "slot": await self._slot(run),
                "warnings": [readable(warning) for warning in run.warnings],
            }
        if wants(request, "output"):
            text = (run.output or "") if run.state.is_final else ""
            [shown["output"]] = await self._markdown.rendered([text])
        if wants(request, "transcript"):
            before = _place(request.query_params.get("before"))
            shown["window"] = part = await window(self._app.runs, run.id, before)
            shown["steps"] = await steps_of(part.entries, run, self._markdown)
            shown["before"] = before
        shown["prompt"] = readable(run.prompt)
        shown["is_long"] = len(run.prompt) > FOLDED_FROM
        shown["rehearsal"] = self._reports.get(request.query_params.get("rehearsal", ""))
        return await self._pages.page(request, "run.html", **shown)

    async def step(self, request: Request) -> Response:
        """Show one step of a run, with all that is folded elsewhere."""
        run = await self._run(request)
        entry = await entry_at(self._app.runs, run.id, request.path_params["seq"])
        if entry is None:
            raise NotFoundError(f"this run has no step {request.path_params['seq']}")
        [step] = await steps_of([entry], run, self._markdown, whole=True)
        return await self._pages.page(request, "step.html", run=run, name=await self._name(run), step=step)

    async def stream(self, request: Request) -> Response:
        """Answer an open page with what changes, and with what is new of the transcript."""
        query = request.query_params
        after = _place(request.headers.get("last-event-id")) or _place(query.get("after")) or 0
        follower = Follower(self._pages, self._markdown, request.path_params["run_id"])
        news = follower.messages(after, _place(query.get("open")) or 0)
        return self._live.stream(merged(self._live.names(), news))

    async def output(self, request: Request) -> Response:
        """Answer with what the run said, as a file or, where it is only looked at, as a text."""
        run = await self._run(request)
        text = run.output
        if text is None:
            text = await self._app.runs.text_so_far(run.id)
        is_markdown = request.url.path.endswith(".md")
        media = "text/markdown" if is_markdown else "text/plain"
        headers = dict(RAW)
        if is_markdown or "download" in request.query_params:
            name = f"run-{run.id}.{'md' if is_markdown else 'txt'}"
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(text.encode("utf-8", "replace"), headers=headers, media_type=media)

    async def transcript(self, request: Request) -> Response:
        """Answer with the run and all its events as a file."""
        run = await self._run(request)
        return await download(self._events(run), "application/json", f"run-{run.id}.json")

    async def stop(self, request: Request) -> Response:
        """Stop a run, or cancel it while it waits."""
        run = await self._run(request)
        place = back_to(request, f"/runs/{run.id}")
        if run.state.is_final:
            return go_to(place, Notice("It had ended already.", "note"))
        ended = await self._app.dispatcher.cancel(run.id)
        words = "Stopped." if ended.state is State.CANCELLED else "It ended before it could be stopped."
        return go_to(place, Notice(words))

    async def again(self, request: Request) -> Response:
        """Run once more what a run ran."""
        form = await read_form(request)
        run = await self._run(request)

        async def start() -> str:
            return f"/runs/{(await self._app.run_again(run.id)).id}"

        place = await self._pages.once.done(form.text("once"), start)
        return go_to(place, Notice("Started again: this is the new run."))

    async def rehearse(self, request: Request) -> Response:
        """Find out what a run would be that runs the same again."""
        form = await read_form(request)
        run = await self._run(request)

        async def find_out() -> str:
            token = self._pages.once.token()
            self._reports[token] = await self._app.rehearsals.of_prompt(_once_more(run))
            while len(self._reports) > REPORTS:
                self._reports.popitem(last=False)
            return f"/runs/{run.id}?rehearsal={token}#rehearsal"

        return go_to(await self._pages.once.done(form.text("once"), find_out))

    async def _run(self, request: Request) -> Run:
        run_id = request.path_params["run_id"]
        try:
            return await self._app.runs.get(run_id)
        except NotFoundError:
            words = f"there is no run {run_id[:60]!r}; it may have been deleted with its job"
            raise NotFoundError(words) from None

    async def _name(self, run: Run) -> str:
        """Return what a run is called: as its job or webhook, or as its prompt begins."""
        try:
            if run.job_id is not None:
                return readable((await self._app.jobs.get(run.job_id)).name)
            if run.webhook_id is not None:
                return readable((await self._app.webhooks.get(run.webhook_id)).name)
        except NotFoundError:
            return "Run of a job that was deleted" if run.job_id is not None else "Run of a deleted webhook"
        first = next((line.strip() for line in readable(run.prompt).split("\n") if line.strip()), "")
        return head(first, MOST_TITLE) or "Quick run"

    async def _slot(self, run: Run) -> Any:
        if run.job_id is None or run.scheduled_for is None:
            return None
        until = run.scheduled_for + timedelta(milliseconds=1)
        slots = await self._app.jobs.occurrences(run.scheduled_for, until, job_id=run.job_id)
        return next((slot for slot in slots if slot.run_id == run.id), None)

    async def _events(self, run: Run) -> AsyncGenerator[bytes, None]:
        """Give the file of a run, a part at a time."""
        view = dataclasses.asdict(await run_view(self._app, run.id, output_limit=sys.maxsize, events_limit=0))
        told = {name: value for name, value in view.items() if name not in PAGED}
        yield f'{{"run": {json.dumps(told, ensure_ascii=False)},\n"events": ['.encode("utf-8", "replace")
        after, comma = 0, "\n"
        while events := await self._app.runs.events_after(run.id, after, EVENTS_AT_ONCE):
            rows = [json.dumps(dataclasses.asdict(event_view(event)), ensure_ascii=False) for event in events]
            yield (comma + ",\n".join(rows)).encode("utf-8", "replace")
            after, comma = events[-1].seq, ",\n"
        yield b"\n]}\n"


def _place(text: str | None) -> int | None:
    """Return the number of an event, `None` where it is none that there can be."""
    return whole(text or "", 15)


def _head(run: Run) -> dict[str, Any]:
    return {
        "advice": advice_for(run),
        "started": trigger_words(run.trigger),
        "error": readable(run.error or ""),
        "summary": readable(run.report.summary) if run.report is not None else "",
    }


def _once_more(run: Run) -> NewRun:
    return NewRun(
        prompt=run.prompt,
        trigger=Trigger.QUICK,
        tools=run.tools,
        timeout_minutes=run.timeout_minutes,
        model=None if run.rehearsal else run.model,
        rehearsal=True,
        profile=run.profile,
        commands=run.commands,
    )
