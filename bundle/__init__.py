"""Packs the program as a bundle that Claude Desktop installs by a double click (MCPB, manifest 0.4).

What it needs besides is compiled for each platform, so the bundle brings none of it: a list of the exact versions is
in its pyproject.toml, and the client's own uv installs them at the first start. The same files make the same bundle,
byte for byte.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent

_FOLDERS: Final = (
    "claude_runner",
    "fixed-servers",
    "dynamic_servers/cat-facts",
    "dynamic_servers/r2-images",
    "dynamic_servers/read-page",
)
_FILES: Final = ("LICENSE", "README.md", "server.py")
_LEFT_OUT: Final = (
    "__pycache__",
    "data",
    "versions",
)  # of the shipped samples, what their owner's use has added
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)  # the first moment that a ZIP file knows
_READABLE: Final = 0o100644 << 16


def pack(target: Path) -> Path:
    """Write the bundle into a folder and return its path."""
    manifest = _manifest()
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{manifest['name']}-{manifest['version']}.mcpb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in sorted(_contents()):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # whoever packs it: the rights are those of Unix
            entry.external_attr = _READABLE
            bundle.writestr(entry, content)
    return path


def _manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((ROOT / "bundle" / "manifest.json").read_bytes())
    return manifest


def _contents() -> Iterator[tuple[str, bytes]]:
    yield "manifest.json", (ROOT / "bundle" / "manifest.json").read_bytes()
    yield "pyproject.toml", _project().encode()
    for name in _FILES:
        yield name, (ROOT / name).read_bytes()
    for folder in _FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not set(path.relative_to(ROOT / folder).parts).intersection(_LEFT_OUT):
                yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def _project() -> str:
    """Return a pyproject.toml with which uv installs just what requirements.txt and constraints.txt pin."""
    manifest = _manifest()
    return f"""\
[project]
name = {json.dumps(manifest["name"])}
version = {json.dumps(manifest["version"])}
requires-python = {json.dumps(manifest["compatibility"]["runtimes"]["python"])}
dependencies = {json.dumps(_pins("requirements.txt"), indent=4)}

[tool.uv]
package = false
environments = {json.dumps([f"sys_platform == '{it}'" for it in manifest["compatibility"]["platforms"]])}
constraint-dependencies = {json.dumps(_pins("constraints.txt"), indent=4)}
"""


def _pins(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("#", "-"))]
