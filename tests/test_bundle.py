"""The bundle for Claude Desktop, judged and unpacked by its own tool, and what a registry is told of the server."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from bundle import pack
from claude_runner import __version__
from tests.node_tools import node, npm_tool
from tests.served import variables
from tests.support import content
from tests.test_server import JOB, ROOT

MANIFEST: dict[str, Any] = json.loads((ROOT / "bundle" / "manifest.json").read_text(encoding="utf-8"))
REGISTRY: dict[str, Any] = json.loads((ROOT / "server.json").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What a client does that installs a bundle, by the library that clients have for it.
RESOLVE = """
import { readFileSync } from "node:fs";
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb";
const [folder, home] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(`${folder}/manifest.json`, "utf-8"));
const config = await getMcpConfigForManifest({
    manifest, extensionPath: folder, pathSeparator: "/", systemDirs: { HOME: home },
    userConfig: { home: `${home}/mine` },
});
console.log(JSON.stringify(config));
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def unpacked(packed: Path, tmp_path: Path) -> Path:
    mcpb("unpack", str(packed), str(tmp_path / "unpacked"))
    return tmp_path / "unpacked"


def mcpb(*arguments: str) -> str:
    done = subprocess.run(
        [*npm_tool("mcpb"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resolved(unpacked: Path, home: Path) -> dict[str, Any]:
    """How a client starts the server, where its user has chosen the folder `mine`."""
    done = subprocess.run(
        [node(), "--input-type=module", "-", str(unpacked), str(home)],
        input=RESOLVE,
        cwd=ROOT / "tests" / "node",  # whose node_modules has the library
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_manifest_is_valid_and_the_tool_packs_what_we_pack(unpacked: Path, tmp_path: Path) -> None:
    assert "passes" in mcpb("validate", str(ROOT / "bundle" / "manifest.json"))
    mcpb("pack", str(unpacked), str(tmp_path / "theirs.mcpb"))
    mcpb("unpack", str(tmp_path / "theirs.mcpb"), str(tmp_path / "again"))
    assert files(tmp_path / "again") == files(unpacked)


def test_the_same_files_make_the_same_bundle(packed: Path, tmp_path: Path) -> None:
    assert pack(tmp_path).read_bytes() == packed.read_bytes()
    assert packed.name == f"claude-runner-{__version__}.mcpb"


def test_a_bundle_has_the_program_and_nothing_of_its_owners(packed: Path) -> None:
    with zipfile.ZipFile(packed) as bundle:
        names = set(bundle.namelist())
    assert {"manifest.json", "pyproject.toml", "server.py", "claude_runner/schema/0001_initial.sql"} <= names
    assert {"fixed-servers/email/server.py", "dynamic_servers/cat-facts/metadata.json"} <= names
    foreign = re.compile(r"jobs\.db|\.env|\.key|\.pyc$|tests/|\.claude-runner|(^|/)\.")
    assert [name for name in names if foreign.search(name)] == []
    own = {name.split("/")[1] for name in names if name.startswith("dynamic_servers/")}
    assert own == {"cat-facts", "r2-images", "read-page"}


def test_a_bundle_asks_for_just_what_is_pinned(unpacked: Path) -> None:
    project = tomllib.loads((unpacked / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith("#")]
    assert project["project"]["dependencies"] == pins
    assert all("==" in pin for pin in project["tool"]["uv"]["constraint-dependencies"])
    assert project["tool"]["uv"]["package"] is False


async def test_a_server_starts_from_the_unpacked_bundle_as_a_client_would(
    unpacked: Path, tmp_path: Path
) -> None:
    config = resolved(unpacked, tmp_path)
    assert config["command"] == "uv"
    run, directory, folder, *arguments = config["args"]
    assert (run, directory, folder) == ("run", "--directory", str(unpacked))
    assert config["env"] == {"RUNNER_HOME": f"{tmp_path}/mine", "PORT": "8080"}

    before = files(unpacked)
    environment = variables(tmp_path, **config["env"], MCP_TRANSPORT="stdio", PYTHONDONTWRITEBYTECODE="1")
    transport = StdioTransport(sys.executable, arguments, env=environment, cwd=folder, keep_alive=False)
    async with Client(transport) as claude:
        content(await claude.call_tool("create_job", JOB))
        servers = content(await claude.call_tool("list_fixed_mcp_servers"))["servers"]
    assert {it["name"] for it in servers} == {"email", "playwright"}
    assert (tmp_path / "mine" / "jobs.db").exists()
    assert files(unpacked) == before


def test_all_that_is_said_of_the_program_is_said_alike() -> None:
    for told in (MANIFEST, REGISTRY):
        assert (told["version"], told["description"]) == (__version__, PROJECT["description"])
    assert PROJECT["version"] == __version__
    assert (MANIFEST["name"], MANIFEST["license"]) == (PROJECT["name"], PROJECT["license"])
    assert REGISTRY["name"].endswith(f"/{PROJECT['name']}")
    assert REGISTRY["title"] == MANIFEST["display_name"]


def test_a_registry_is_told_what_its_schema_of_2025_12_11_takes() -> None:
    assert REGISTRY["$schema"].endswith("/2025-12-11/server.schema.json")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", REGISTRY["name"])
    assert len(REGISTRY["description"]) <= 100
    assert {it["type"]: it["url"] for it in REGISTRY["remotes"]} == {
        "streamable-http": "https://{host}/mcp",
        "sse": "https://{host}/sse",
    }
    for remote in REGISTRY["remotes"]:
        assert set(re.findall(r"\{(\w+)\}", remote["url"])) == set(remote["variables"])
