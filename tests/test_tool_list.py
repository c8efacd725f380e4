"""Every tool as a client is told of it: its parameters, its answer, and what it does to the world."""

from typing import NamedTuple

import pytest
from fastmcp import Client
from mcp_types import Tool

from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp
from tests.support import FakeAgent, FakeClock

READS = (True, False, True, False)  # read-only, destructive, idempotent, open-world
MAKES = (False, False, False, False)
SETS = (False, False, True, False)
REPLACES = (False, True, True, False)
DELETES = (False, True, False, False)
JOB = "tools timezone timeout_minutes model enabled profile commands policy"

WEBHOOK = (
    "tools profile commands model timeout_minutes signature signing_secret filter plain_fields max_per_minute"
    " max_wait_seconds max_cost_usd max_cost_per_day_usd enabled"
)


class Told(NamedTuple):
    """What a tool is to tell of itself; parameters are separated by spaces."""

    hints: tuple[bool, bool, bool, bool]
    required: str = ""
    optional: str = ""


TOOLS = {
    "list_jobs": Told(READS),
    "get_job": Told(READS, "job_id"),
    "create_job": Told(MAKES, "name cron prompt", JOB),
    "update_job": Told(REPLACES, "job_id", f"name cron prompt {JOB}"),
    "delete_job": Told(DELETES, "job_id"),
    "trigger_job": Told((False, False, False, True), "job_id"),
    "list_runs": Told(READS, "", "job_id state trigger since until limit cursor webhook_id"),
    "get_run": Told(READS, "run_id", "output_offset output_limit events_after events_limit"),
    "kill_run": Told(REPLACES, "run_id"),
    "pause_job": Told(SETS, "job_id", "until reason"),
    "resume_job": Told(SETS, "job_id"),
    "pause_all": Told(SETS, "", "until reason"),
    "resume_all": Told(SETS),
    "why_didnt_it_run": Told(READS, "job_id", "around"),
    "get_usage": Told(READS, "", "from to by"),
    "get_policies": Told(READS),
    "set_policies": Told(REPLACES, "", "defaults budgets prices"),
    "create_webhook": Told(MAKES, "name prompt_template", f"description {WEBHOOK}"),
    "list_webhooks": Told(READS),
    "get_webhook": Told(READS, "webhook_id"),
    "update_webhook": Told(
        REPLACES, "webhook_id", f"name prompt_template description {WEBHOOK} rotate_token"
    ),
    "delete_webhook": Told(DELETES, "webhook_id"),
    "test_webhook": Told(READS, "webhook_id", "payload delivery_id prompt_template"),
    "list_webhook_deliveries": Told(READS, "webhook_id", "limit cursor"),
    "replay_webhook_delivery": Told((False, False, False, True), "delivery_id"),
    "create_notification_channel": Told((False, False, False, True), "name url"),
    "list_notification_channels": Told(READS),
    "update_notification_channel": Told((False, False, True, True), "channel_id", "name url enabled"),
    "delete_notification_channel": Told(DELETES, "channel_id"),
    "test_notification_channel": Told((False, False, False, True), "channel_id"),
    "list_notifications": Told(READS, "", "state limit cursor"),
    "list_tool_calls": Told(READS, "", "run_id server limit cursor"),
    "create_mcp_server": Told(MAKES, "name code", "description env_vars"),
    "list_dynamic_mcp_servers": Told(READS),
    "get_dynamic_mcp_server": Told(READS, "name", "version"),
    "update_mcp_server": Told(REPLACES, "name", "code description env_vars version"),
    "delete_mcp_server": Told(DELETES, "name"),
    "enable_mcp_server": Told(SETS, "name"),
    "disable_mcp_server": Told(SETS, "name"),
    "list_fixed_mcp_servers": Told(READS),
    "enable_fixed_server": Told(SETS, "name"),
    "disable_fixed_server": Told(SETS, "name"),
    "add_external_server": Told(MAKES, "name", "command args url headers env_vars description"),
    "list_external_servers": Told(READS),
    "remove_external_server": Told(DELETES, "name"),
    "get_mcp_server_log": Told(READS, "name", "lines"),
    "set_server_credential": Told(REPLACES, "server key value"),
    "get_server_credentials": Told(READS, "server"),
    "list_required_credentials": Told(READS, "server"),
    "get_unconfigured_servers": Told(READS),
    "delete_server_credential": Told(DELETES, "server key"),
    "invoke_internal_mcp_tool": Told((False, True, False, True), "tool", "payload timeout_seconds"),
    "rehearse_job": Told(SETS, "job_id"),
    "rehearse_prompt": Told(SETS, "prompt", "tools model profile commands"),
}


@pytest.fixture(scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tool]:
    settings = Settings(home=tmp_path_factory.mktemp("lasting"))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        Client(await build_mcp(app)) as client,
    ):
        return {tool.name: tool for tool in await client.list_tools()}


async def test_there_are_just_these_tools(tools: dict[str, Tool]) -> None:
    assert set(tools) == set(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_has_a_title_and_a_description(tools: dict[str, Tool], name: str) -> None:
    assert tools[name].title
    assert len(tools[name].description or "") > 40


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_requires_just_what_it_must_have(tools: dict[str, Tool], name: str) -> None:
    assert tools[name].input_schema.get("required", []) == TOOLS[name].required.split()


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_takes_just_what_it_says(tools: dict[str, Tool], name: str) -> None:
    schema = tools[name].input_schema
    assert set(schema["properties"]) == {*TOOLS[name].required.split(), *TOOLS[name].optional.split()}
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", TOOLS)
async def test_every_parameter_is_described(tools: dict[str, Tool], name: str) -> None:
    described = {
        parameter: schema.get("description")
        for parameter, schema in tools[name].input_schema["properties"].items()
    }
    assert all(described.values()), described


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_tells_the_form_of_its_answer(tools: dict[str, Tool], name: str) -> None:
    assert (tools[name].output_schema or {}).get("properties")


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_hints_honestly_at_what_it_does(tools: dict[str, Tool], name: str) -> None:
    hints = tools[name].annotations
    assert hints is not None
    assert TOOLS[name].hints == (
        hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint,
    )  # fmt: skip


async def test_the_bounds_of_a_number_are_told_before_they_are_broken(tools: dict[str, Tool]) -> None:
    schema = tools["create_job"].input_schema["properties"]["timeout_minutes"]
    assert (schema["minimum"], schema["maximum"], schema["default"]) == (1, 1440, 30)
