"""Whoever can name something, say something, or have the owner's browser ask for something, tries to get further."""

import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Final

import httpx2
import pytest

from claude_runner.web.dashboard import Dashboard
from claude_runner.web.dashboard._live import event
from claude_runner.web.dashboard._markdown import Growing, markdown
from claude_runner.web.dashboard._server_forms import argument_fields
from tests.hostile import ACTING, Hostile, hostile
from tests.support import PATIENCE

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
