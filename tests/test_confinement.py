"""What a confined program sees of the machine, and what is said where none can be confined."""

import subprocess
import sys
from pathlib import Path

import pytest
from fastmcp import Client

from claude_runner.app import App
from claude_runner.processes import Confinement, confinement_problem
from claude_runner.tools import build_mcp
from tests.conftest import need
from tests.support import content


@pytest.fixture
def confinement() -> None:
    """What a test asks for that needs programs to be confined."""
    if problem := confinement_problem():
        need(problem)


def seen(confinement: Confinement, code: str) -> str:
    """What a confined Python prints."""
    command = confinement.command([sys.executable, "-I", "-c", code])
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.mark.usefixtures("confinement")
def test_a_confined_program_sees_what_it_is_shown_and_writes_to_its_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder in ("mine", "mine/data", "theirs"):
        (home / folder).mkdir(parents=True)
        (home / folder / "file").write_text(folder)
    kept = Confinement((home,), (home / "mine",), (home / "mine" / "data",))
    assert seen(kept, f"import os; print(sorted(os.listdir({str(home)!r})))") == "['mine']"
    assert seen(kept, f"print(open({str(home / 'mine' / 'file')!r}).read())") == "mine"
    write = "try:\n open({!r}, 'w').write('new')\nexcept OSError as error:\n print(error.strerror)"
    assert seen(kept, write.format(str(home / "mine" / "file"))) == "Read-only file system"
    assert seen(kept, write.format(str(home / "mine" / "data" / "file"))) == ""
    assert (home / "mine" / "data" / "file").read_text() == "new"


@pytest.mark.usefixtures("confinement")
def test_what_is_shown_by_a_link_is_found_by_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("found")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "link").symlink_to(tmp_path / "real")
    kept = Confinement((tmp_path / "hidden",), (tmp_path / "hidden" / "link",), ())
    assert seen(kept, f"print(open({str(tmp_path / 'hidden' / 'link' / 'file')!r}).read())") == "found"


@pytest.mark.usefixtures("confinement")
def test_a_confined_program_sees_no_process_but_its_own(tmp_path: Path) -> None:
    kept = Confinement((tmp_path,), (), ())
    code = "import os; print(sum(name.isdigit() for name in os.listdir('/proc')))"
    assert int(seen(kept, code)) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it says so itself")
def test_without_bubblewrap_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert confinement_problem.__wrapped__() == (
        "bubblewrap is not installed (on Debian and Ubuntu: sudo apt-get install bubblewrap)"
    )


async def test_a_list_of_servers_says_where_they_are_not_confined(app: App) -> None:
    async with Client(await build_mcp(app)) as client:
        listed = content(await client.call_tool("list_fixed_mcp_servers"))
    assert listed["unconfined"] == confinement_problem()
