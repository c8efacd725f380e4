"""The list of what is in a job's folder."""

import os
from pathlib import Path

from claude_runner.web.dashboard._folders import SHOWN, listing


def test_the_files_of_a_folder_are_listed_and_no_link_is_followed(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "folder"
    secret.mkdir()
    (secret / "password").write_text("hunter2")
    (folder / "reports").mkdir(parents=True)
    (folder / "reports" / "today.md").write_text("all is well")
    (folder / "way out").symlink_to(secret)
    (folder / "turned\u202earound\x1b\n").write_text("")
    os.utime(folder / "reports" / "today.md", (1e12, 1e12))

    found = {entry.path: entry for entry in listing(folder).entries}

    assert sorted(found) == [
        "reports/today.md",
        "turned[U+202E]around\N{SYMBOL FOR ESCAPE}\N{SYMBOL FOR LINE FEED}",
        "way out",
    ]
    assert found["reports/today.md"].size == 11
    assert found["way out"].kind == "link"


def test_a_folder_that_is_a_link_itself_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert not listing(tmp_path / "link").entries
    assert not listing(tmp_path / "nowhere").entries


def test_a_folder_of_thousands_of_files_is_listed_in_part(tmp_path: Path) -> None:
    for number in range(2_100):
        (tmp_path / f"{number}").touch()
    found = listing(tmp_path)
    assert len(found.entries) == SHOWN
    assert not found.is_whole
