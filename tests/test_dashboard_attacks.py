"""Whoever can name something, say something, or have the owner's browser ask for something, tries to get further."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Login, Settings
from claude_runner.hub import Topic
from claude_runner.jobs import JobDraft
from claude_runner.runs import Event, EventKind, NewRun, Run, RunQuery, Trigger
from claude_runner.views.exports import runs_as_json
from claude_runner.web.dashboard import Dashboard
from claude_runner.web.dashboard._live import event
from claude_runner.web.dashboard._markdown import Growing, Markdown, markdown
from claude_runner.web.dashboard._server_forms import Control, argument_fields
from claude_runner.web.dashboard._steps import steps_of
from claude_runner.web.dashboard._transcript import window
from tests.bytewise import Reached, statuses
from tests.hostile import ACTING, Hostile, hostile
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent, FakeClock, running

PAGE: Final = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}
STREAMS: Final = frozenset({"/live", "/runs/{run_id}/stream", "/static/{version}/{name}"})
# What acts without being seen, as `_visible.py` and `_markdown.py` have it.
UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
OF_A_FORM: Final = frozenset(
    {"value", "href", "action", "formaction"}
)  # attributes that are sent as they are


class Seen(HTMLParser):
    """What a browser makes of a page.

    Attributes:
        tags: Its elements.
        acting: Where there are signs in it that act without being seen.
        handlers: Attributes with script or style in them.
        links: Where it leads.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.acting: list[str] = []
        self.handlers: list[str] = []
        self.links: set[str] = set()
        self._is_typed = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self.tags.add(tag)
        self._is_typed = tag == "textarea"
        for name, value in attrs:
            if name.startswith("on") or name in {"style", "srcdoc"}:
                self.handlers.append(f"{tag} {name}={value}")
            if name in {"href", "src", "action", "formaction"}:
                self.links.add(value or "")
            if name not in OF_A_FORM and UNSEEN.search(value or ""):
                self.acting.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        if not self._is_typed and UNSEEN.search(data):
            self.acting.append(data.strip()[-80:])


@pytest.fixture(scope="module")
async def evil(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hostile]:
    async with hostile(tmp_path_factory.mktemp("hostile")) as evil:
        yield evil


@pytest.fixture(scope="module")
async def client(evil: Hostile) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=evil.origin, headers=PAGE, timeout=PATIENCE) as client:
        yield client


# What others say


async def test_every_page_is_attacked(evil: Hostile) -> None:
    served = {route.path for route in Dashboard(evil.app).routes() if "GET" in (route.methods or ())}
    assert served - STREAMS == evil.paths.keys() - {"/nothing"}


async def test_nothing_that_others_say_acts_on_a_page(evil: Hostile, client: httpx2.AsyncClient) -> None:
    """No element, no attribute, no link to elsewhere than they say, no sign that turns text around, and no secret."""
    found = []
    for path in (path for paths in evil.paths.values() for path in paths):
        answer = await client.get(path)
        assert answer.status_code in {200, 404, 422}, (path, answer.text)
        found += [f"{path}: the secret {secret}" for secret in evil.secrets if secret in answer.text]
        if not answer.headers["content-type"].startswith("text/html"):
            assert answer.headers["x-content-type-options"] == "nosniff", path
            continue
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"], path
        seen = Seen(answer.text)
        found += [f"{path}: {it}" for it in (*seen.handlers, *seen.acting)]
        found += [path] if seen.tags & {"xss-mark", "style", "iframe", "object", "base"} else []
        found += [
            f"{path}: {it}" for it in seen.links if not it.startswith(("/", "#", "?", "https://", "mailto:"))
        ]
        found += [f"{path}: {it}" for it in seen.links if it.startswith(("//", "/\\"))]
    assert "\n".join(found) == ""


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "//evil.example", "/%09/evil.example", "/%5Cevil.example"]
)
async def test_no_page_leads_elsewhere_because_its_address_is_odd(
    client: httpx2.AsyncClient, path: str
) -> None:
    answer = await client.get(f"{client.base_url}".rstrip("/") + path)
    assert answer.status_code == 404
    links = [link.replace("\t", "").replace("\\", "/") for link in Seen(answer.text).links]
    assert [link for link in links if link.startswith("//")] == []


@pytest.mark.parametrize(
    "text",
    [
        "&#x202e;",
        "&#8294;",
        "&rlm;",
        "&shy;",
        "&ZeroWidthSpace;",
        "&#xE0041;",
        "[a&#x202e;](https://a.example)",
    ],
)
def test_a_sign_that_markdown_makes_of_an_entity_is_named_as_well(text: str) -> None:
    for html in (markdown(text), markdown(f"# {text}"), Growing(as_markdown=True).feed(text).tail):
        assert not UNSEEN.search(html)
        assert not re.search("[\U000e0000-\U000e007f]", html)
        assert "[U+" in html


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_what_a_stream_tells_can_not_end_its_field(end: str) -> None:
    told = event("entries", f"one{end}event: far{end}data: two", "7").split("\n")
    assert told == ["event: entries", "data: one", "data: event: far", "data: data: two", "id: 7", "", ""]
    assert "\r" not in "".join(told)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "integer", "minimum": 10**400, "maximum": 10**401},
        {"type": "number", "minimum": float("-inf"), "maximum": float("nan"), "default": float("inf")},
        {"$ref": "#/$defs/a"},
        {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]},
        {
            "allOf": [
                {"allOf": [{"allOf": [{"allOf": [{"allOf": [{"allOf": [{"allOf": [{"allOf": []}]}]}]}]}]}]}
            ]
        },
        {"enum": [None, [], {}, "\ud800"], "default": {"a": ["\ud800"]}},
        {"enum": "abc", "type": 7, "description": ["x"], "default": 10**400},
        None,
        [],
        "x",
    ],
)
def test_whatever_a_schema_says_its_tool_has_a_form(part: object) -> None:
    schema = {
        "properties": {"it": part},
        "required": {"it": 1},
        "$defs": {"a": {"$ref": "#/$defs/a"}, "b": {"anyOf": [{"$ref": "#/$defs/b"}]}},
    }
    fields = argument_fields(schema)
    assert fields is not None
    assert [field.name for field in fields] == ["it"]


def test_choices_that_would_fill_a_page_are_no_list() -> None:
    [field] = argument_fields({"properties": {"it": {"enum": ["y" * 5_000] * 40}}}) or ()
    assert field.control is Control.JSON


async def test_a_name_has_no_signs_that_turn_what_stands_beside_it(client: httpx2.AsyncClient) -> None:
    new = {"name": f"a{ACTING}b", "cron": "@daily", "prompt": "x", "prompt_template": "x"}
    for path, left_out in (("/api/jobs", "prompt_template"), ("/api/webhooks", "prompt")):
        body = {
            name: value
            for name, value in new.items()
            if name not in {left_out, *({"cron"} if "webhooks" in path else ())}
        }
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "name")
        fine = await client.post(
            path, json=body | {"name": "\u05e9\u05dc\u05d5\u05dd \U0001f468\u200d\U0001f469\u200d\U0001f467"}
        )
        assert fine.status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/servers/evil/credentials/EVIL_KEY", {"value": ["s3cret"]}),
        ("PUT", "/api/servers/evil/credentials/NO KEY", {"value": "s3cret"}),
        (
            "POST",
            "/api/external-servers",
            {"name": "a-b", "url": "https://a.example/", "headers": {"A": "s3cret", "B": 1}},
        ),
        (
            "POST",
            "/api/external-servers",
            {"name": "a-b", "command": "c", "env_vars": {"A": "s3cret", "B": 1}},
        ),
        ("POST", "/api/webhooks", {"name": "a", "prompt_template": "b", "signing_secret": ["s3cret"]}),
    ],
)
async def test_a_secret_that_is_refused_is_not_repeated(
    client: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any]
) -> None:
    answer = await client.request(method, path, json=body)
    assert answer.status_code == 422
    assert "s3cret" not in answer.text


async def test_what_is_exported_is_no_formula(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/runs.csv")
    assert answer.headers["content-disposition"].startswith('attachment; filename="runs-')
    assert not re.search(r'(^|,)"?[=+@-]', answer.text, re.MULTILINE)
    found = await client.get("/runs.json")
    assert found.headers["content-disposition"].startswith("attachment")
    assert json.loads(found.text)


@pytest.mark.parametrize(
    "instant", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"]
)
@pytest.mark.parametrize(
    "path", ["/api/calendar", "/api/usage", "/api/runs", "/api/tool-calls", "/runs", "/calls"]
)
async def test_the_ends_of_time_are_no_mistake_of_ours(
    client: httpx2.AsyncClient, path: str, instant: str
) -> None:
    for name in ("since", "until"):
        answer = await client.get(path, params={name: instant})
        assert answer.status_code in {200, 422}, answer.text


# Past the login


ODD: Final = (
    "/", "//", "/jobs", "/JOBS", "/jobs/", "//jobs", "/./jobs", "/x/../jobs", "/%6aobs", "/jobs%2f",
    "/jobs;x=1", "/jobs%00", "/jobs%20", "/jobs?", "/jobs%5c", "/\\jobs", "jobs", "*", "/?/jobs", "/#/jobs",
    "/static/../jobs", "/static/%2e%2e/jobs", "/static/x/..%2f..%2fjobs", "/health/../jobs",
    "/health/%2e%2e/jobs", "/webhook/../jobs", "/webhook/%2e%2e/jobs", "/webhook/x/../../jobs", "/mcp/../jobs",
    "/sse/../jobs", "/messages/../jobs", "/messages/%2e%2e/jobs", "/oauth/../jobs", "/.well-known/../jobs",
    "/.well-known/x/%2e%2e/jobs", "/api/../jobs", "/api/jobs", "/api//jobs", "/api/./jobs", "/API/jobs",
    "/api/openapi.json", "/live", "/palette", "/runs.csv", "/runs.json", "/static/x/app.css",
    "http://localhost/jobs", "http://evil.example/jobs",
)  # fmt: skip


async def test_no_odd_address_leads_past_the_login(tmp_path: Path) -> None:
    settings = on_free_port(Settings(home=tmp_path, dashboard=Login("ada", "correct horse")))
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app, serving(app):
        await app.jobs.add(JobDraft("Known to the owner alone", "@daily", "x", "UTC"), app.clock.now())
        for target in ODD:
            for method in ("GET", "HEAD", "OPTIONS", "POST", "get", "QUERY"):
                head = "Host: localhost\r\nAccept: text/html\r\nX-Original-URL: /jobs\r\nX-HTTP-Method-Override: GET"
                asked = f"{method} {target} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n"
                answer = await Reached(app).said(asked.encode())
                assert statuses(answer)[0] in {400, 401, 404, 405}, asked
                assert b"Known to" not in answer, asked


# Much of something, and everything at once


@pytest.fixture(scope="module")
async def busy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """A home whose runs go on, served."""
    settings = on_free_port(Settings(home=tmp_path_factory.mktemp("busy"), shutdown_grace_seconds=0.1))
    agent = FakeAgent(FakeAgent.wait_for_stop)
    async with open_app(settings, agent=agent, clock=FakeClock()) as app, serving(app):
        yield app


@pytest.fixture
async def owner(busy: App) -> AsyncIterator[httpx2.AsyncClient]:
    """The owner's browser."""
    origin = f"http://localhost:{busy.settings.port}"
    async with httpx2.AsyncClient(base_url=origin, headers=PAGE, timeout=PATIENCE) as client:
        yield client


async def said(app: App, kind: EventKind, *bodies: Mapping[str, Any]) -> Run:
    """Have a run that goes on say this."""
    run = await running(app, await app.runs.add(NewRun("Go on.", Trigger.QUICK), app.clock.now()))
    await app.runs.record(run, [Event(kind, body, app.clock.now()) for body in bodies])
    return run


async def test_a_text_of_very_many_pieces_is_followed_rather_than_loaded_for_ever(
    busy: App, owner: httpx2.AsyncClient
) -> None:
    piece = {"block": 1, "text": "x"}
    run = await said(busy, EventKind.TEXT, *[piece] * 4_000)
    page = (await owner.get(f"/runs/{run.id}")).text
    [stream] = re.findall(r'data-stream="([^"]+)"', page)
    async with owner.stream("GET", stream.replace("&amp;", "&")) as told:
        lines = told.aiter_lines()
        kinds = [line async for line in _until(lines, "event: hello")]
        await busy.runs.record(run, [Event(EventKind.TEXT, piece, busy.clock.now())])
        kinds += [line async for line in _until(lines, "event: entries", "event: far")]
    assert "event: far" not in kinds


async def _until(lines: AsyncIterator[str], *last: str) -> AsyncIterator[str]:
    async with asyncio.timeout(PATIENCE):
        async for line in lines:
            yield line
            if line in last:
                return


async def test_of_calls_that_are_folded_nothing_is_prepared(busy: App) -> None:
    long = {
        "id": "1",
        "name": "Bash" * 5_000,
        "input": {f"a{number}": "\u202e" * 20_000 for number in range(6)},
    }
    run = await said(busy, EventKind.TOOL_USE, long)
    [entry] = (await window(busy.runs, run.id)).entries[-1:]
    [folded] = await steps_of([entry], run, Markdown())
    [whole] = await steps_of([entry], run, Markdown(), whole=True)
    assert folded.call is not None
    assert whole.call is not None
    assert (folded.is_whole, len(folded.call.arguments), len(whole.call.arguments)) == (False, 0, 6)
    assert len(folded.call.tool) <= 200


async def test_open_pages_are_bounded_and_leave_room_for_the_rest(
    owner: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web.dashboard._live.MOST_STREAMS", 4)
    async with AsyncExitStack() as open_pages:
        for _ in range(4):
            stream = await open_pages.enter_async_context(owner.stream("GET", "/live"))
            assert stream.status_code == 200
        more = await owner.get("/live")
        assert (more.status_code, more.headers["retry-after"]) == (503, "30")
        assert (await owner.get("/health")).status_code == 200
        assert (await owner.get("/")).status_code == 200
        assert (await owner.get("/api/jobs")).status_code == 200
    async with asyncio.timeout(PATIENCE):
        while True:
            async with owner.stream("GET", "/live") as again:
                if again.status_code == 200:
                    return


async def test_a_stream_that_nobody_reads_keeps_nothing_waiting(busy: App, owner: httpx2.AsyncClient) -> None:
    deaf = await Reached(busy).connect(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with owner.stream("GET", "/live") as told:
        lines = told.aiter_lines()
        _ = [line async for line in _until(lines, "event: hello")]
        for number in range(20_000):
            busy.hub.publish(Topic.RUNS, str(number % 50))
        assert (await owner.get("/runs")).status_code == 200
        assert [line async for line in _until(lines, "data: runs")][-1] == "data: runs"
    deaf.close()


async def test_an_export_that_is_taken_slowly_holds_little(busy: App) -> None:
    for _ in range(120):
        await busy.runs.add(NewRun("\U0001f600" * 20_000, Trigger.QUICK), busy.clock.now())
    sizes = [len(piece) async for piece in runs_as_json(busy.runs.export(RunQuery()), busy.clock.now())]
    assert sum(sizes) > 9_000_000
    assert max(sizes) < 5_000_000


async def test_a_form_sent_many_times_at_once_is_done_once(busy: App, owner: httpx2.AsyncClient) -> None:
    form = {
        "name": "Only one",
        "prompt": "x",
        "cron": "@daily",
        "timezone": "UTC",
        "grants": "all",
        "once": "the same",
    }
    answers = await asyncio.gather(
        *(
            owner.post("/jobs/new", data=form | {"profile": "default", "timeout_minutes": "30"})
            for _ in range(12)
        )
    )
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert [name for _, name in await busy.jobs.names()].count("Only one") == 1


async def test_what_was_typed_is_not_lost_with_a_job_that_was_deleted(
    busy: App, owner: httpx2.AsyncClient
) -> None:
    job = await busy.jobs.add(JobDraft("Gone", "@daily", "x", "UTC"), busy.clock.now())
    await busy.discard_job(job.id)
    answer = await owner.post(f"/jobs/{job.id}/edit", data={"name": "Typed", "prompt": "for an hour"})
    assert answer.status_code == 404
    assert "saving it makes a new one" in answer.text
    assert "for an hour</textarea>" in answer.text
    assert 'action="/jobs/new"' in answer.text


async def test_deletions_and_their_undoing_may_all_come_at_once(busy: App, owner: httpx2.AsyncClient) -> None:
    job = await busy.jobs.add(JobDraft("Here and gone", "@daily", "x", "UTC"), busy.clock.now())
    acts = ("delete", "restore", "run", "pause", "resume", "duplicate") * 5
    answers = await asyncio.gather(*(owner.post(f"/jobs/{job.id}/{act}") for act in acts))
    assert {answer.status_code for answer in answers} <= {303, 404, 409}
    assert (await owner.post(f"/jobs/{job.id}/delete")).status_code in {303, 404}
    assert (await owner.post(f"/jobs/{job.id}/restore")).status_code == 303
    assert (await owner.post(f"/jobs/{job.id}/restore")).status_code in {303, 404, 409}
    assert (await owner.get(f"/jobs/{job.id}")).status_code == 200
