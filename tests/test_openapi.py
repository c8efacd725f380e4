"""The JSON API is what its document says: every operation, called once through the real site."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from referencing import Registry

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import RunnerError
from claude_runner.web.api._routes import GROUPS, api_routes
from tests.api_client import Api, api_of
from tests.sites import on_free_port
from tests.support import FakeAgent, FakeClock, ended

CODE: Final = """\
import os
from fastmcp import FastMCP
mcp = FastMCP("parrot")
KEY = os.environ.get("PARROT_KEY")

@mcp.tool
def say(text: str) -> str:
    \"\"\"Say it again.\"\"\"
    return text
"""
JOB: Final = {
    "name": "Sprint",
    "cron": "0 9 * * 1-5",
    "prompt": "Summarise our sprint",
    "timezone": "Europe/Berlin",
}
METHODS: Final = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[App, Api]]:
    settings = on_free_port(Settings(home=tmp_path_factory.mktemp("api")))
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app, api_of(app) as api:
        yield app, api


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Each operation with its method and its path."""
    for path, methods in document["paths"].items():
        assert set(methods) <= METHODS
        for method, operation in methods.items():
            yield method.upper(), path, operation


def references(part: Any) -> Iterator[str]:
    """Every $ref of a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def schemas(part: Any) -> Iterator[Any]:
    """Every schema that a document has where OpenAPI has one."""
    if isinstance(part, dict):
        if "schema" in part and isinstance(part["schema"], dict):
            yield part["schema"]
        for value in part.values():
            yield from schemas(value)
    elif isinstance(part, list):
        for value in part:
            yield from schemas(value)


async def test_every_route_is_documented_and_nothing_else(site: tuple[App, Api]) -> None:
    served = {
        (method, route.path.replace(":path}", "}"))
        for route in api_routes(site[0])
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == {(method, path) for method, path, _ in operations(site[1].document)}


async def test_every_reference_leads_somewhere_and_nothing_is_left_over(site: tuple[App, Api]) -> None:
    document = site[1].document
    found = set(references(document))
    for reference in found:
        part: Any = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]
    unused = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} - found
    assert unused == set()


async def test_every_operation_has_a_name_of_its_own_and_words(site: tuple[App, Api]) -> None:
    found = [operation for _, _, operation in operations(site[1].document)]
    assert [name for name, count in Counter(it["operationId"] for it in found).items() if count > 1] == []
    for operation in found:
        assert re.fullmatch(r"[a-z][a-z_]+", operation["operationId"])
        assert len(operation["summary"]) > 10
        assert operation["tags"][0] in {tag["name"] for tag in site[1].document["tags"]}


async def test_every_parameter_is_described_and_those_of_the_path_are_there(site: tuple[App, Api]) -> None:
    for _, path, operation in operations(site[1].document):
        parameters = operation["parameters"]
        assert all(parameter["description"] for parameter in parameters), operation["operationId"]
        names = [parameter["name"] for parameter in parameters if parameter["in"] == "path"]
        assert names == re.findall(r"\{(\w+)\}", path)
        assert len({(it["in"], it["name"]) for it in parameters}) == len(parameters)


async def test_every_field_of_a_body_is_described_and_no_other_is_taken(site: tuple[App, Api]) -> None:
    components = site[1].document["components"]["schemas"]
    for _, _, operation in operations(site[1].document):
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            body = components[schema["$ref"].rpartition("/")[2]]
            assert body["additionalProperties"] is False
            for name, field in body["properties"].items():
                told = field.get("description") or components[field["$ref"].rpartition("/")[2]]["description"]
                assert told, f"{operation['operationId']}: {name}"


async def test_every_refusal_that_an_endpoint_declares_is_documented(site: tuple[App, Api]) -> None:
    documented = {
        operation["operationId"]: operation["responses"] for _, _, operation in operations(site[1].document)
    }
    for group in GROUPS:
        for endpoint in group(site[0]).endpoints():
            for kind in endpoint.refusals:
                assert issubclass(kind, RunnerError)
                told = documented[endpoint.name][str(kind.status)]
                assert f"`{kind.code}`" in told["description"]


async def test_every_schema_is_one(site: tuple[App, Api]) -> None:
    document = site[1].document
    for schema in [*schemas(document["paths"]), *document["components"]["schemas"].values()]:
        Draft202012Validator.check_schema(schema)


async def test_the_document_has_the_form_of_openapi(site: tuple[App, Api]) -> None:
    problems = Draft202012Validator(FORM, registry=Registry()).iter_errors(site[1].document)
    assert [f"{it.json_path}: {it.message[:200]}" for it in problems] == []
    assert site[1].document["components"]["securitySchemes"]["owner"]["scheme"] == "basic"
    assert site[1].document["security"] == [{"owner": []}]


async def test_every_operation_does_what_its_document_says(site: tuple[App, Api]) -> None:
    app, api = site
    await the_server(api)
    job = await jobs(app, api)
    await runs(app, api, job)
    await webhooks(app, api)
    await servers(api)
    await clients(app, api)
    await channels(api)
    await pauses(api, job)
    await times(api, job)
    assert set(api.operations) == api.called


async def the_server(api: Api) -> None:
    assert (await api.call("get_openapi"))["openapi"] == "3.1.0"
    assert (await api.call("get_status"))["checks"]["database"] == "ok"
    assert (await api.call("get_overview"))["today"]["runs"] == 0
    settings = await api.call("get_settings")
    changed = await api.call(
        "change_settings", {"budgets": {"day_usd": 2.5, "month_usd": None}, "timezone": "Asia/Tokyo"}
    )
    budgets = settings["budgets"] | {"day_usd": 2.5}
    assert changed == settings | {"budgets": budgets, "timezone": "Asia/Tokyo"}
    rules = {"job_defaults": {"max_retries": 1}, "prices": {"my-model": {"input": 3.0, "output": 15.0}}}
    changed = await api.call("change_settings", rules)
    assert (changed["job_defaults"], changed["prices"]) == (rules["job_defaults"], rules["prices"])
    taken_out = {"job_defaults": {"max_retries": None}, "prices": {"my-model": None}}
    changed = await api.call("change_settings", taken_out)
    assert (changed["job_defaults"], changed["prices"]) == ({}, {})
    assert (await api.call("back_up"))["bytes"] > 0


async def jobs(app: App, api: Api) -> str:
    job = await api.call("create_job", JOB)
    job_id: str = job["id"]
    assert job["schedule"] == "At 09:00, Monday through Friday"
    assert (await api.call("get_job", job_id=job_id))["runs"] == 0
    assert (await api.call("change_job", {"name": "Daily"}, job_id=job_id))["name"] == "Daily"
    copy = await api.call("duplicate_job", job_id=job_id)
    assert (copy["name"], copy["enabled"], copy["prompt"]) == ("Daily (copy)", False, JOB["prompt"])
    assert [it["name"] for it in (await api.call("list_jobs", text="sprint"))["jobs"]] == [
        "Daily",
        "Daily (copy)",
    ]
    assert (await api.call("rehearse_job", job_id=job_id))["job_id"] == job_id
    assert (await api.call("delete_job", job_id=copy["id"]))["restorable_until"] is not None
    assert (await api.call("list_discarded_jobs"))["jobs"][0]["id"] == copy["id"]
    assert (await api.call("restore_job", job_id=copy["id"]))["id"] == copy["id"]
    started = await api.call("trigger_job", job_id=job_id)
    await ended(app, started["run_id"])
    return job_id


async def runs(app: App, api: Api, job_id: str) -> None:
    quick = await api.call(
        "run_prompt", {"prompt": "Tell me a joke", "tools": ["Read"], "timeout_minutes": 5}
    )
    assert quick["trigger"] == "quick"
    await ended(app, quick["id"])
    again = await api.call("run_again", run_id=quick["id"])
    await ended(app, again["id"])
    assert (await api.call("stop_run", run_id=again["id"]))["state"] == "finished"
    while await app.runs.take_words():  # the process that leads does it, a moment after runs have ended
        continue
    found = await api.call("search_runs", text="joke", state=["finished", "error"], limit=1)
    assert [run["id"] for run in found["runs"]] == [again["id"]]
    assert (await api.call("search_runs", text="joke", limit=1, cursor=found["next_cursor"]))["runs"][0][
        "id"
    ] == quick["id"]
    assert (await api.call("list_going_on"))["runs"] == []
    assert (await api.call("get_run", run_id=quick["id"], events_limit=9))["output"] == "done"
    events = await api.call("list_events", run_id=quick["id"])
    assert events["events"][-1]["kind"] == "text"
    last = await api.call("list_events", run_id=quick["id"], last="true", limit=1)
    assert (last["events"], last["next_before"]) == (events["events"], None)
    assert len(await api.call("export_runs_as_json", job_id=job_id)) == 1
    assert (await api.call("export_runs_as_csv")).count("\r\n") == 4
    assert (await api.call("rehearse_prompt", {"prompt": "Tell me a joke"}))["job_id"] is None


async def webhooks(app: App, api: Api) -> None:
    webhook = await api.call(
        "create_webhook", {"name": "Items", "prompt_template": "New: {{payload.title}}", "tools": ["Read"]}
    )
    webhook_id = webhook["id"]
    assert (await api.call("get_webhook", webhook_id=webhook_id)) == webhook
    changed = await api.call(
        "change_webhook", {"signature": "github", "signing_secret": "s" * 32}, webhook_id=webhook_id
    )
    assert changed["signature"] == "github"
    assert (await api.call("change_webhook", {"signature": None}, webhook_id=webhook_id))["signature"] is None
    rotated = await api.call("rotate_webhook", webhook_id=webhook_id)
    assert rotated["url"] != webhook["url"]
    tried = await api.call("try_webhook", {"payload": {"title": "x"}}, webhook_id=webhook_id)
    assert (tried["would_run"], tried["missing"]) == (True, [])
    posted = await api.client.post(rotated["url"], json={"title": "Printer"})
    await ended(app, posted.json()["run_id"])
    [delivery] = (await api.call("list_deliveries", webhook_id=webhook_id))["deliveries"]
    assert (await api.call("get_delivery", delivery_id=delivery["id"]))["payload"] == {"title": "Printer"}
    await ended(app, (await api.call("replay_delivery", delivery_id=delivery["id"]))["run_id"])
    assert (await api.call("list_webhooks"))["total"] == 1
    assert (await api.call("delete_webhook", webhook_id=webhook_id))["deleted"]


async def servers(api: Api) -> None:
    made = await api.call("create_server", {"name": "parrot", "code": CODE})
    assert made["tools"][0]["name"] == "mcp__parrot__say"
    assert (await api.call("change_server", {"code": f"{CODE}\n"}, name="parrot"))["version"] == 2
    assert len((await api.call("list_versions", name="parrot"))["versions"]) == 2
    assert (await api.call("get_code", name="parrot", version=1))["code"] == CODE
    assert (await api.call("get_server", name="parrot"))["missing_credentials"] == ["PARROT_KEY"]
    assert "parrot" in [it["name"] for it in (await api.call("list_unconfigured"))["servers"]]
    was_set = await api.call(
        "set_credential", {"value": "0123456789abcdefgh"}, name="parrot", key="PARROT_KEY"
    )
    assert was_set["tail"] == "efgh"
    assert (await api.call("list_credentials", name="parrot"))["ready"]
    assert (await api.call("list_tools", name="parrot"))["estimated_tokens"] > 0
    said = await api.call("call_tool", {"tool": "say", "payload": {"text": "hello"}}, name="parrot")
    assert said["content"][0]["text"] == "hello"
    [call] = (await api.call("search_tool_calls", server="parrot", origin="direct"))["calls"]
    assert await api.call("get_tool_call", call_id=call["id"]) == call
    await api.call("get_log", name="parrot")
    assert (await api.call("delete_credential", name="parrot", key="PARROT_KEY"))["missing"] == ["PARROT_KEY"]
    assert not (await api.call("disable_server", name="parrot"))["enabled"]
    assert (await api.call("enable_server", name="parrot"))["enabled"]
    assert (await api.call("delete_server", name="parrot"))["name"] == "parrot"
    added = await api.call("add_external_server", {"name": "wiki", "url": "http://127.0.0.1:9/mcp"})
    assert added["kind"] == "external"
    assert "wiki" in [it["name"] for it in (await api.call("list_servers", kind="external"))["servers"]]
    await api.call("delete_server", name="wiki")


async def channels(api: Api) -> None:
    made = await api.call("create_channel", {"name": "phone", "url": "json://127.0.0.1:9/hook"})
    assert (made["address"], made["enabled"]) == ("json://127.0.0.1:9/…", True)
    which = {"channel_id": made["id"]}
    assert await api.call("get_channel", **which) == made
    assert not (await api.call("change_channel", {"enabled": False}, **which))["enabled"]
    assert [it["id"] for it in (await api.call("list_channels"))["channels"]] == [made["id"]]
    assert (await api.call("test_channel", **which))["state"] == "failed"
    assert [
        it["event"] for it in (await api.call("list_notifications", state="failed"))["notifications"]
    ] == ["test"]
    assert (await api.call("delete_channel", **which))["deleted"]


async def pauses(api: Api, job_id: str) -> None:
    [hold] = (await api.call("pause_all", {"reason": "moving house"}))["holds"]
    assert (hold["kind"], hold["reason"]) == ("paused", "moving house")
    assert (await api.call("list_holds"))["holds"] == [hold]
    assert (await api.call("resume_all"))["total"] == 0
    why = {"until": "2099-12-24", "reason": "nobody reads it"}
    paused = (await api.call("pause_job", why, job_id=job_id))["paused"]
    assert (paused["until"], paused["by"], paused["reason"]) == (
        "2099-12-23T23:00:00+00:00",
        "owner",
        "nobody reads it",
    )
    assert (await api.refused("pause_job", {"until": "2020-01-01"}, job_id=job_id))[0] == 422
    assert (await api.call("pause_job", job_id=job_id))["paused"]["until"] is None
    assert (await api.call("resume_job", job_id=job_id))["paused"] is None
    assert (await api.call("explain_job", job_id=job_id))["job_id"] == job_id
    assert (await api.call("show_spending", by="model"))["by"] == "model"


async def clients(app: App, api: Api) -> None:
    now = app.clock.now()
    client = (
        await app.auth.register("x", ("https://app.example.com/callback",), now, confidential=False)
    ).client
    assert client.client_id in [it["client_id"] for it in (await api.call("list_oauth_clients"))["clients"]]
    assert (await api.call("revoke_oauth_client", client_id=client.client_id))["grants"] == 0
    assert (await api.call("forget_oauth_client", client_id=client.client_id))["deleted"]


async def times(api: Api, job_id: str) -> None:
    usage = await api.call(
        "get_usage", period="hour", since="2026-11-23T00:00:00Z", until="2026-11-24T00:00:00Z"
    )
    assert usage["together"]["runs"] == 5
    assert len(usage["intervals"]) == 24
    calendar = await api.call("get_calendar", job_id=job_id, limit=3)
    assert [it["local"] for it in calendar["coming"]] == [
        "2026-11-24T09:00:00+01:00", "2026-11-25T09:00:00+01:00", "2026-11-26T09:00:00+01:00",
    ]  # fmt: skip
    preview = await api.call("preview_schedule", cron="@weekly", timezone="Europe/Berlin", count=2)
    assert preview["schedule"] == "At 00:00, only on Sunday"
    assert (await api.call("get_overview"))["today"]["cost_usd"] == pytest.approx(0.05)


# What a document of OpenAPI 3.1 must have and may have, as far as ours has it (https://spec.openapis.org/oas/v3.1.0).
FORM: Final = json.loads("""{
  "type": "object",
  "required": ["openapi", "info", "paths"],
  "additionalProperties": false,
  "properties": {
    "openapi": {"const": "3.1.0"},
    "info": {
      "type": "object", "required": ["title", "version"], "additionalProperties": false,
      "properties": {"title": {"type": "string"}, "version": {"type": "string"}, "description": {"type": "string"}}
    },
    "servers": {"type": "array", "items": {"type": "object", "required": ["url"]}},
    "security": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "array"}}},
    "tags": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "paths": {
      "type": "object",
      "propertyNames": {"pattern": "^/"},
      "additionalProperties": {
        "type": "object",
        "propertyNames": {"enum": ["get", "put", "post", "patch", "delete"]},
        "additionalProperties": {"$ref": "#/$defs/operation"}
      }
    },
    "components": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "schemas": {
          "type": "object",
          "propertyNames": {"pattern": "^[a-zA-Z0-9._-]+$"},
          "additionalProperties": {"type": "object"}
        },
        "responses": {"type": "object", "additionalProperties": {"$ref": "#/$defs/response"}},
        "securitySchemes": {"type": "object", "additionalProperties": {"required": ["type", "scheme"]}}
      }
    }
  },
  "$defs": {
    "operation": {
      "type": "object", "required": ["operationId", "responses"], "additionalProperties": false,
      "properties": {
        "operationId": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "summary": {"type": "string"},
        "description": {"type": "string"},
        "parameters": {"type": "array", "items": {"$ref": "#/$defs/parameter"}},
        "requestBody": {
          "type": "object", "required": ["content"], "additionalProperties": false,
          "properties": {"content": {"$ref": "#/$defs/content"}, "required": {"type": "boolean"}}
        },
        "responses": {
          "type": "object", "minProperties": 1,
          "propertyNames": {"pattern": "^[1-5][0-9]{2}$"},
          "additionalProperties": {"if": {"required": ["$ref"]}, "else": {"$ref": "#/$defs/response"}}
        }
      }
    },
    "parameter": {
      "type": "object", "required": ["name", "in", "schema"], "additionalProperties": false,
      "properties": {
        "name": {"type": "string"}, "in": {"enum": ["path", "query", "header"]}, "required": {"type": "boolean"},
        "description": {"type": "string"}, "schema": {"type": "object"}
      },
      "if": {"properties": {"in": {"const": "path"}}},
      "then": {"properties": {"required": {"const": true}}, "required": ["required"]}
    },
    "response": {
      "type": "object", "required": ["description"], "additionalProperties": false,
      "properties": {
        "description": {"type": "string"},
        "headers": {"type": "object", "additionalProperties": {"required": ["schema"]}},
        "content": {"$ref": "#/$defs/content"}
      }
    },
    "content": {
      "type": "object",
      "propertyNames": {"pattern": "^[a-z]+/[a-z0-9.+-]+$"},
      "additionalProperties": {
        "type": "object", "required": ["schema"], "additionalProperties": false,
        "properties": {"schema": {"type": "object"}}
      }
    }
  }
}""")
