"""Which variables a run's CLI gets: chosen, not inherited."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from claude_runner.agent._protocol import Endpoint
from claude_runner.config import Settings
from claude_runner.processes import NETWORK

# What any program needs to find its way.
_ORDINARY: Final = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM")
_ORDINARY_PREFIXES: Final = ("LC_",)

# How the CLI reaches a model: its own endpoint variables, Amazon Bedrock's, Google Vertex AI's, Microsoft Foundry's.
_ENDPOINT: Final = (
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
    "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
    "CLAUDE_CODE_CLIENT_CERT",
    "CLAUDE_CODE_CLIENT_KEY",
    "CLAUDE_CODE_CLIENT_KEY_PASSPHRASE",
    "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS",
    "CLOUD_ML_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GCLOUD_PROJECT",
)
# Which model it asks for: no secret, and needed wherever the order's own model is asked for.
_MODELS: Final = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
)
_ENDPOINT_PREFIXES: Final = ("ANTHROPIC_", "AWS_", "VERTEX_")

# Measured against CLI 2.1.330; the reasons stand beside each.
_BEHAVIOUR: Final = {
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # else notes of one job's runs reach the next, unasked
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # no telemetry, and no paid call that makes up a title
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # else a command that times out holds the run open
    "CLAUDE_CODE_DISABLE_CRON": "1",  # its own cron would pretend to schedule
    "CLAUDE_CODE_MAX_RETRIES": "2",  # default 10: three minutes, even for a wrong key
    "API_TIMEOUT_MS": "120000",  # default 360 s for the first byte, eleven times over
    "MCP_TIMEOUT": "10000",
    "MCP_TOOL_TIMEOUT": "300000",
    "BASH_DEFAULT_TIMEOUT_MS": "120000",
    "BASH_MAX_TIMEOUT_MS": "600000",
}
# What the SDK adds for its own purposes.
_FROM_SDK: Final = (
    "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_AGENT_SDK_VERSION", "CLAUDE_CODE_SDK_READS_SESSION_STATE", "PWD",
)  # fmt: skip

RUN_MARK: Final = "CLAUDE_RUNNER_RUN"


def environment_of(
    settings: Settings, endpoint: Endpoint | None, workspace: Path, run_id: str
) -> dict[str, str]:
    """Return the variables that a run's CLI gets, and with it whatever the model starts outside the sandbox.

    Args:
        settings: The server's, with the variables it was started with, and the folder in which the CLI keeps its files.
        endpoint: Where the model is asked; `None` for what the server's variables say.
        workspace: A folder of the run's own, for temporary files.
        run_id: Marks each process of the run, so that leftovers can be found.
    """
    server, its_files = settings.environment, str(settings.state / "claude")
    chosen = {
        name: value
        for name, value in server.items()
        if name in _ORDINARY or name.startswith(_ORDINARY_PREFIXES)
    }
    chosen |= secrets_of(server) | {name: server[name] for name in NETWORK if name in server}
    # Its tool servers, and the stand-in model, are on this machine whatever leads out of it.
    loopback = ",".join(filter(None, (server.get("NO_PROXY") or server.get("no_proxy"), "127.0.0.1")))
    chosen |= {
        "HOME": str(settings.owner_home),
        "PATH": server.get("PATH") or os.defpath,
        "CLAUDE_CONFIG_DIR": its_files,
        # The owner's login is found where the owner's own `claude` keeps it, letter for letter.
        "CLAUDE_SECURESTORAGE_CONFIG_DIR": server.get("CLAUDE_CONFIG_DIR") or str(settings.login),
        "CLAUDE_CODE_TMPDIR": str(workspace),
        "CLAUDE_TMPDIR": str(
            workspace
        ),  # what the sandbox lets commands write to; else one folder for all runs
        "TMPDIR": str(workspace),
        "XDG_CACHE_HOME": str(workspace / "cache"),  # else it logs its MCP servers in the owner's home
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        RUN_MARK: run_id,
        **_BEHAVIOUR,
    }
    if endpoint is not None:
        kept_back = secrets_of(server).keys() - (_MODELS if endpoint.model is None else ())
        chosen = {name: value for name, value in chosen.items() if name not in kept_back}
        chosen |= {
            "ANTHROPIC_BASE_URL": endpoint.base_url,
            "ANTHROPIC_API_KEY": endpoint.api_key,
            "CLAUDE_SECURESTORAGE_CONFIG_DIR": its_files,
        }
    return chosen


def secrets_of(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say how to reach a model, which is nothing for a shell command to know."""
    return {
        name: value
        for name, value in variables.items()
        if name in _ENDPOINT or name.startswith(_ENDPOINT_PREFIXES)
    }


def kept(chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that the guard lets through."""
    return (*chosen, *_FROM_SDK)
