"""What a run may do without asking, by profile: what is decided, and what the real CLI makes of it."""

import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.agent import ClaudeAgent
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import InvalidError
from claude_runner.permissions import MAX_COMMANDS, Profile, Rights, read_commands
from claude_runner.runs import EventKind, Run, State, Verdict
from claude_runner.settings import rights
from tests.cli import run
from tests.parts import Parts, open_parts
from tests.scripted_model import ScriptedModel, Step

NARROW = Rights(sandbox_mode=True, default=Profile.CONTAINED)
WIDE = Rights(sandbox_mode=False, default=Profile.RULES)
DONE: Step = {"text": "tried"}


# Commands


@pytest.mark.parametrize("value", [["git status", "npm test"], '["git status", "npm test"]'])
def test_commands_are_a_list_or_a_text_that_holds_one(value: list[str] | str) -> None:
    assert read_commands(value) == ("git status", "npm test")


@pytest.mark.parametrize("value", [None, "", [], "[]"])
def test_without_commands_there_are_none(value: list[str] | str | None) -> None:
    assert read_commands(value) == ()


@pytest.mark.parametrize("command", ["./build.sh", "python3 -m pytest", "make -C src", "~/bin/x"])
def test_the_beginning_of_a_plain_command_is_taken(command: str) -> None:
    assert read_commands([command]) == (command,)


@pytest.mark.parametrize("sign", [*";&|`$<>()*?\"'\\{}[]!#\n\t\x00", "  ", "é"])
def test_what_means_something_to_the_shell_is_refused(sign: str) -> None:
    with pytest.raises(InvalidError, match="is not the beginning of one plain command") as refused:
        read_commands([f"git{sign}status"])
    assert refused.value.field == "commands"


@pytest.mark.parametrize("command", ["", " git", "git ", "PATH=/tmp git", "x" * 201])
def test_what_is_no_beginning_of_a_command_is_refused(command: str) -> None:
    with pytest.raises(InvalidError, match="is not the beginning of one plain command"):
        read_commands([command])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("git status", "commands is a text that is not JSON"),
        ("[" * 100_000, "commands is a text that is not JSON"),
        ("7", "commands must be a list of texts"),
        ([f"c{number}" for number in range(MAX_COMMANDS + 1)], "commands has 101 entries; at most 100"),
    ],
)
def test_what_is_no_list_of_commands_is_refused(value: list[str] | str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        read_commands(value)


@given(st.lists(st.text(max_size=20), max_size=3))
def test_no_command_closes_the_rule_it_is_put_into(commands: list[str]) -> None:
    try:
        kept = read_commands(commands)
    except InvalidError:
        return
    assert not any(set(command) & set("()*\n;&|`$<>") for command in kept)


# Who may have which profile


@pytest.mark.parametrize("profile", [Profile.CONTAINED, Profile.RULES])
def test_the_narrow_profiles_are_had_by_whoever_wants_them(profile: Profile) -> None:
    assert NARROW.granted(profile, {}) is profile


def test_who_names_no_profile_has_the_owners_default() -> None:
    assert WIDE.granted(None, {}) is Profile.RULES


def test_full_is_refused_while_runs_are_to_be_contained() -> None:
    with pytest.raises(InvalidError, match="sandbox_mode to false") as refused:
        NARROW.granted(Profile.FULL, {"IS_SANDBOX": "1"})
    assert refused.value.field == "profile"


def test_a_default_is_not_had_either_where_it_may_not_be() -> None:
    with pytest.raises(InvalidError, match="sandbox_mode to false"):
        replace(NARROW, default=Profile.FULL).granted(None, {})


def test_root_is_refused_full_and_told_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(InvalidError, match=r"Run the server as a user of its own; or, .* put IS_SANDBOX=1"):
        WIDE.granted(Profile.FULL, {})
    assert WIDE.granted(Profile.FULL, {"IS_SANDBOX": "1"}) is Profile.FULL


def test_who_is_not_root_may_have_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert WIDE.granted(Profile.FULL, {}) is Profile.FULL


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


@pytest.mark.parametrize(
    ("sandbox_mode", "named", "decided"),
    [
        (True, None, NARROW),
        (False, None, WIDE),
        (False, "full", replace(WIDE, default=Profile.FULL)),
        (True, "rules", replace(NARROW, default=Profile.RULES)),
        (False, "boundless", replace(WIDE, default=Profile.CONTAINED)),
        (False, 7, replace(WIDE, default=Profile.CONTAINED)),
        ("no", None, NARROW),
    ],
)
async def test_the_settings_decide_and_what_cannot_be_read_counts_as_the_narrowest(
    parts: Parts, sandbox_mode: object, named: object, decided: Rights
) -> None:
    add = "INSERT INTO settings (key, value) VALUES (:key, :value)"
    await parts.sql(add, key="sandbox_mode", value=json.dumps(sandbox_mode))
    await parts.sql(add, key="permission_profile", value=json.dumps(named))
    assert await parts.database.read(rights) == decided


async def test_without_settings_runs_are_contained(parts: Parts) -> None:
    assert await parts.database.read(rights) == NARROW


# What the CLI makes of it


def set_setting(settings: Settings, key: str, value: object) -> None:
    with closing(sqlite3.connect(settings.database_path)) as c, c:
        c.execute("UPDATE settings SET value = ? WHERE key = ?", (json.dumps(value), key))


async def verdicts(app: App, run: Run) -> list[Verdict]:
    """What became of the run's calls, in their order."""
    return [call.verdict for call in reversed((await app.runs.calls(run.id, None, 200)).calls)]


async def answers(app: App, run: Run) -> list[str]:
    page = await app.runs.events(run.id, 0, 1000)
    return [event.body["content"] for event in page.events if event.kind is EventKind.TOOL_RESULT]


def bash(command: str) -> Step:
    return {"tool": "Bash", "input": {"command": command}}


def write(path: str) -> Step:
    return {"tool": "Write", "input": {"file_path": path, "content": "x"}}


async def test_contained_writes_to_its_folder_alone(real: App, owner: Settings, tmp_path: Path) -> None:
    done = await run(real, write("./in.txt"), write(f"{tmp_path}/out.txt"), DONE, tools=("Write",))
    assert (done.profile, done.state, done.denials) == (Profile.CONTAINED, State.FINISHED, 1)
    assert await verdicts(real, done) == [Verdict.OK, Verdict.DENIED]
    assert (owner.playground / f"run-{done.id}" / "in.txt").exists()
    assert not (tmp_path / "out.txt").exists()
    notices = [e.body for e in (await real.runs.events(done.id, 0, 99)).events if e.kind is EventKind.NOTICE]
    assert [(notice["notice"], notice["tool_name"]) for notice in notices] == [("permission_denied", "Write")]
    assert "denied" in (await answers(real, done))[1]


REFUSED = (
    "git statusx",
    "git status && touch made",
    "git status; touch made",
    "git status $(touch made)",
    "git status > {outside}/made",
    "touch made",
    "env",
    "cat {outside}/secret.txt",
    "/usr/bin/git status",
)


async def test_rules_grants_the_named_commands_and_no_others(
    real: App, owner: Settings, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("the secret", encoding="utf-8")
    refused = [command.format(outside=tmp_path) for command in REFUSED]
    done = await run(
        real,
        bash("git init -q . && git status --short"),
        *map(bash, refused),
        write("./in.txt"),
        write(f"{tmp_path}/out.txt"),
        DONE,
        tools=("Bash", "Write"),
        profile=Profile.RULES,
        commands=("git status", "git init"),
    )
    assert (done.profile, done.state, done.denials) == (Profile.RULES, State.FINISHED, len(refused) + 1)
    expected = [Verdict.OK, *[Verdict.DENIED] * len(refused), Verdict.OK, Verdict.DENIED]
    assert await verdicts(real, done) == expected
    assert (owner.playground / f"run-{done.id}" / ".git").exists()
    assert not list(tmp_path.rglob("made"))
    assert not any("the secret" in text for text in await answers(real, done))


# What a program that is granted tries that wants what is not its own.
SNOOP = """
import glob, os
print(sorted(n for n in os.environ if n.startswith(("ANTHROPIC", "CLAUDE_CODE_MESSAGING"))))
found = [n for n in glob.glob("/proc/[0-9]*/environ") if b"scripted-" in open(n, "rb").read()]
print(len(found), glob.glob(%r), glob.glob(%r), os.path.exists(%r))
open("made.txt", "w").write("x")
"""


@pytest.mark.usefixtures("sandbox")
async def test_a_program_that_is_granted_sees_neither_the_keys_nor_the_servers_files_nor_the_login(
    real: App, owner: Settings, tmp_path: Path
) -> None:
    login = tmp_path / "owner" / ".claude"
    login.mkdir()
    (login / ".credentials.json").write_text("the secret", encoding="utf-8")
    (owner.home / ".env").write_text("KEY=the secret", encoding="utf-8")
    program = SNOOP % (f"{login}/.*", f"{owner.home}/.e*", str(owner.database_path))
    done = await run(
        real,
        {"tool": "Write", "input": {"file_path": "./snoop.py", "content": program}},
        bash("python3 snoop.py"),
        DONE,
        tools=("Bash", "Write"),
        profile=Profile.RULES,
        commands=("python3",),
    )
    assert (await answers(real, done))[1] == "[]\n0 [] [] False"
    assert (owner.playground / f"run-{done.id}" / "made.txt").exists()
    assert not list(owner.state.glob("shell-*"))


async def test_rules_without_commands_is_without_bash_and_says_so(real: App, model: ScriptedModel) -> None:
    done = await run(real, DONE, tools=("Bash", "Read"), profile=Profile.RULES)
    assert any("runs without Bash: the profile 'rules'" in warning for warning in done.warnings)
    assert "Bash" not in {tool["name"] for tool in model.requests[0].body["tools"]}


@pytest.fixture
async def unbound(owner: Settings) -> AsyncIterator[App]:
    """The application of an owner who does not want runs to be contained, on a machine that is itself a sandbox."""
    wide = replace(owner, environment={**owner.environment, "IS_SANDBOX": "1"})
    async with open_app(wide, agent=ClaudeAgent(wide)) as app:
        set_setting(wide, "sandbox_mode", value=False)
        yield app


async def test_full_may_do_everything_and_is_written_down_all_the_same(unbound: App, tmp_path: Path) -> None:
    done = await run(
        unbound,
        write(f"{tmp_path}/out.txt"),
        bash(f"touch {tmp_path}/made && env | grep -c -e ^ANTHROPIC_API_KEY"),
        DONE,
        tools=("Write", "Bash"),
        profile=Profile.FULL,
    )
    assert (done.profile, done.state, done.denials) == (Profile.FULL, State.FINISHED, 0)
    assert (tmp_path / "out.txt").exists()
    assert (tmp_path / "made").exists()
    assert await verdicts(unbound, done) == [Verdict.OK, Verdict.OK]
    assert (await answers(unbound, done))[1] == "0"
    [listed] = [event.body for event in (await unbound.runs.events(done.id, 0, 1)).events]
    assert listed["permissionMode"] == "bypassPermissions"


async def test_full_is_refused_at_the_run_as_well(real: App, model: ScriptedModel) -> None:
    done = await run(real, DONE, profile=Profile.FULL)
    assert (done.state, done.reason, model.requests) == (State.ERROR, "profile_refused", [])
    assert "only where the owner has set sandbox_mode to false" in (done.error or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused it")
async def test_root_is_refused_full_at_the_run_with_the_way_out(
    real: App, owner: Settings, model: ScriptedModel
) -> None:
    set_setting(owner, "sandbox_mode", value=False)
    done = await run(real, DONE, profile=Profile.FULL)
    assert (done.state, done.reason, model.requests) == (State.ERROR, "profile_refused", [])
    assert "put IS_SANDBOX=1 into the server's environment" in (done.error or "")


async def test_where_nothing_is_confined_the_default_is_rules(real: App, owner: Settings) -> None:
    set_setting(owner, "sandbox_mode", value=False)
    done: Any = await run(real, DONE, tools=("Bash",), commands=("git status",))
    assert done.profile is Profile.RULES
