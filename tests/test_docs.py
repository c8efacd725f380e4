"""What the documentation says is what the code does."""

import asyncio
import itertools
import json
import os
import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from claude_runner.app import open_app
from claude_runner.config import VARIABLES, Settings
from claude_runner.schedule import parse
from docs import generate
from tests.oauth import OWNER
from tests.sites import on_free_port, serving
from tests.support import FakeAgent

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


async def test_the_generated_parts_of_the_readme_are_up_to_date() -> None:
    assert await generate.readme(README) == README, "run: make docs"


def test_the_example_of_the_environment_is_up_to_date() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == generate.env_example(), "run: make docs"


def test_every_variable_that_is_read_is_documented() -> None:
    config, keys = (ROOT / "claude_runner" / part for part in ("config/_settings.py", "credentials/_keys.py"))
    read = set(re.findall(r'given(?:\.get\(|, )"([A-Z_]+)"', config.read_text(encoding="utf-8")))
    read |= set(re.findall(r'given, "[A-Z_]+", "([A-Z]+_[A-Z_]+)"\)', config.read_text(encoding="utf-8")))
    read |= set(re.findall(r'^VARIABLE: Final = "([A-Z_]+)"', keys.read_text(encoding="utf-8"), re.MULTILINE))
    assert read == {variable.name for variable in VARIABLES}


@pytest.mark.parametrize("cron", re.findall(r"^\| `([*\d/ -]+)` \|", README, re.MULTILINE))
def test_every_cron_of_the_readme_can_be_read(cron: str) -> None:
    assert parse(cron, "Europe/Berlin").describe()


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b(?=[ `\n)])", README)) <= targets


def test_the_readme_names_every_section_of_the_dashboard() -> None:
    base = (ROOT / "claude_runner/web/dashboard/templates/base.html").read_text(encoding="utf-8")
    sections = re.findall(r'\("/[a-z]*", "([^"]+)", "[a-z]"\)', base)
    told = README.partition("## The dashboard")[2].partition("\n## ")[0]
    assert sections
    assert [section for section in sections if f"**{section}**" not in told] == []


async def test_the_line_of_the_readme_that_asks_the_api_runs_a_prompt(tmp_path: Path) -> None:
    [line] = re.findall(r"^curl -u .*/api/.*$", README, re.MULTILINE)
    settings = on_free_port(Settings(home=tmp_path, dashboard=OWNER))
    async with open_app(settings, agent=FakeAgent()) as app, serving(app) as origin:
        asked = line.replace("http://localhost:8080", origin)
        login = {"DASHBOARD_USERNAME": OWNER.name, "DASHBOARD_PASSWORD": OWNER.secret}
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", asked],
            env=dict(os.environ) | login,
            capture_output=True,
            check=True,
            timeout=60,
        )
        run = await app.runs.get(json.loads(done.stdout)["id"])
    assert run.prompt == "Which weekday is it?"


def test_what_is_installed_takes_every_python_that_the_readme_promises() -> None:
    first = "3.11.0"
    for installed in distributions():
        wanted = installed.metadata["Requires-Python"] or ""
        assert SpecifierSet(wanted).contains(first), (
            f"{installed.name} {installed.version} needs Python {wanted}"
        )


def test_each_promise_is_held_by_tests_that_exist() -> None:
    promises = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    held = [part.partition("*Held by:*")[2] for part in promises.split("\n## ")[1:]]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", part) for part in held]
    assert len(named) == 5
    assert all(named)
    missing = {
        f"{path}::{test}"
        for path, test in itertools.chain(*named)
        if not re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert missing == set()
    assert "](docs/promises.md)" in README
