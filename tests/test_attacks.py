"""What tool servers may try against the server, the owner and one another, tried with real processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.pool import Patience
from tests.tool_servers import QUICK, Lab, open_lab

BACKEND = """
import pathlib

def build_wheel(*_):
    seen = [path for path in {secrets!r} if pathlib.Path(path).exists()]
    pathlib.Path({left!r}).write_text("it was here")
    raise SystemExit(f"it sees {{seen}}")
"""


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path, patience=Patience(start=30), environment={"PIP_NO_INDEX": "1"}) as lab:
        yield lab


async def test_a_package_that_is_built_is_confined(lab: Lab, tmp_path: Path, sandbox: None) -> None:
    secrets = [tmp_path / "owner" / ".ssh", lab.app.settings.database_path]
    secrets[0].mkdir()
    package, left = tmp_path / "built", tmp_path / "owner" / "left"
    package.mkdir()
    build = 'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]'
    (package / "pyproject.toml").write_text(
        f'[build-system]\n{build}\n[project]\nname = "b"\nversion = "1"\n'
    )
    (package / "backend.py").write_text(BACKEND.format(secrets=list(map(str, secrets)), left=str(left)))
    await lab.app.database.write(
        lambda c: c.execute("UPDATE settings SET value = 'true' WHERE key = 'install_dependencies'").rowcount
    )
    code = f'# /// script\n# dependencies = ["b @ {package.as_uri()}"]\n# ///\n{QUICK}'
    sentence = await lab.refusal("create_mcp_server", name="quick", code=code)
    assert "can't be installed" in sentence
    assert not left.exists()
