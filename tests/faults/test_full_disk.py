"""A disk that is full loses nothing that was promised, and the server goes on by itself once there is space."""

import asyncio
import shutil
import sys
from pathlib import Path

from tests.conftest import need
from tests.db_support import ROOT
from tests.faults.full_disk import filled, no_file_grows
from tests.scripted_model import ScriptedModel

SMALL = str(24 * 2**20)


async def test_a_server_whose_files_can_not_grow_promises_nothing_and_goes_on_afterwards(
    tmp_path: Path, model: ScriptedModel
) -> None:
    assert await filled(tmp_path, model, no_file_grows) == []


async def test_a_server_without_space_promises_nothing_and_goes_on_afterwards(tmp_path: Path) -> None:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        need("there is no bwrap, which makes a small disk")
    command = [
        str(bwrap),
        "--dev-bind",
        "/",
        "/",
        "--size",
        SMALL,
        "--tmpfs",
        str(tmp_path),
        "--die-with-parent",
    ]
    program = [sys.executable, "-m", "tests.faults.full_disk", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        *command, *program, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert (process.returncode, said.decode()) == (0, "")
