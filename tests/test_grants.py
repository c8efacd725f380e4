import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.grants import (
    BUILT_INS,
    MAX_TOOLS,
    KnownServer,
    ServerGrant,
    Unavailable,
    read_tools,
    resolve,
    tool_name,
)
from claude_runner.permissions import Profile

ALLOWED = ("WebSearch", "Read", "Write", "Bash")
PROBLEM = "there is no sandbox here"


@pytest.mark.parametrize("value", [None, "", [], "[]", ()])
def test_nothing_named_is_an_empty_list(value: list[str] | str | None) -> None:
    assert read_tools(value) == ()


@pytest.mark.parametrize("value", [["Read", "Bash"], '["Read", "Bash"]', ["Read", "Bash", "Read"]])
def test_a_list_is_read_as_list_or_as_json(value: list[str] | str) -> None:
    assert read_tools(value) == ("Read", "Bash")


@given(st.lists(st.sampled_from([*BUILT_INS, "mcp__a__b"])))
def test_a_list_written_as_json_reads_as_the_list(names: list[str]) -> None:
    assert read_tools(json.dumps(names)) == read_tools(names)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("Read", "tools is a text that is not JSON"),
        ("[" * 100_000, "tools is a text that is not JSON"),
        ("7", "tools must be a list of texts"),
        ("[7]", "tools must be a list of texts"),
        ('{"Read": true}', "tools must be a list of texts"),
        (["two words"], "'two words' is not the name of a tool"),
        ([""], "'' is not the name of a tool"),
        (["Read\n"], r"'Read\\n' is not the name of a tool"),
        (["Réad"], "'Réad' is not the name of a tool"),
        (["x" * 151], "is not the name of a tool"),
        (
            [f"t{number}" for number in range(MAX_TOOLS + 1)],
            f"tools has {MAX_TOOLS + 1} entries; at most 200",
        ),
    ],
)
def test_what_is_no_list_of_names_is_refused(value: list[str] | str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence) as refused:
        read_tools(value)
    assert refused.value.field == "tools"


def test_an_empty_list_grants_what_the_owner_allows() -> None:
    grant = resolve((), ALLOWED, None)
    assert (grant.tools, grant.built_ins, grant.warnings) == ((), ALLOWED, ())


def test_what_the_owner_allows_grants_only_tools_there_are() -> None:
    assert resolve((), ("Read", "Agent"), None).built_ins == ("Read",)


def test_without_a_sandbox_the_default_comes_without_bash_and_says_so() -> None:
    grant = resolve((), ALLOWED, PROBLEM)
    assert grant.built_ins == ("WebSearch", "Read", "Write")
    assert grant.warnings == (f"runs without Bash: {PROBLEM}",)


def test_without_a_sandbox_a_default_that_has_no_bash_needs_no_warning() -> None:
    assert resolve((), ("Read",), PROBLEM).warnings == ()


def test_a_list_grants_just_what_it_names() -> None:
    assert resolve(("Read",), ALLOWED, None).built_ins == ("Read",)


def test_bash_named_without_a_sandbox_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidError, match=f"Bash can't be granted: {PROBLEM}"):
        resolve(("Bash",), ALLOWED, PROBLEM)


def test_a_built_in_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(
        InvalidError, match=r"'Edit' is not among the allowed tools \(WebSearch, Read, Write, Bash\)"
    ):
        resolve(("Edit",), ALLOWED, None)


def test_where_nothing_is_allowed_the_refusal_says_none() -> None:
    with pytest.raises(InvalidError, match=r"the allowed tools \(none\)"):
        resolve(("Read",), (), None)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("email:send_email", "mcp__email__send_email"),
        ("email.send_email", "mcp__email__send_email"),
        ("cat-facts:get-fact", "mcp__cat-facts__get-fact"),
        ("read", "Read"),
        ("WEBSEARCH", "WebSearch"),
    ],
)
def test_a_name_of_another_form_is_normalized_with_a_warning(written: str, name: str) -> None:
    grant = resolve((written,), ALLOWED, None)
    assert grant.tools == (name,)
    assert grant.warnings[0] == f"Normalized '{written}' to '{name}'"


def test_two_forms_of_one_name_are_one_tool() -> None:
    assert resolve(("Read", "read"), ALLOWED, None).tools == ("Read",)


def test_normalizing_gives_no_way_around_what_is_allowed() -> None:
    with pytest.raises(InvalidError, match="'Edit' is not among the allowed tools"):
        resolve(("edit",), ALLOWED, None)


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        (
            "mcp__email__send_email",
            "'mcp__email__send_email' is not a tool of any server here, so runs fail",
        ),
        ("mcp__email__*", "'mcp__email__*' is not a tool of any server here, so runs fail"),
        ("Telepathy", "'Telepathy' is not a known tool; runs go without it"),
    ],
)
def test_an_unknown_tool_is_a_warning_never_silence(name: str, warning: str) -> None:
    grant = resolve((name,), ALLOWED, None)
    assert (grant.tools, grant.built_ins, grant.warnings) == ((name,), (), (warning,))


@pytest.mark.parametrize("rule", ["Bash(git:*)", "Read(//etc/**)", "mcp__email__send(x)"])
def test_a_permission_rule_is_refused(rule: str) -> None:
    with pytest.raises(InvalidError, match=f"such as '{rule.partition('(')[0]}'"):
        resolve((rule,), ALLOWED, None)


@given(st.lists(st.text("abABR:._-*()", min_size=1, max_size=12), min_size=1, max_size=5))
def test_a_list_never_grants_a_built_in_that_is_not_allowed(names: list[str]) -> None:
    try:
        grant = resolve(tuple(names), ("Read",), None)
    except InvalidError:
        return
    assert set(grant.built_ins) <= {"Read"}


# Profiles


def test_outside_of_a_sandbox_bash_needs_none() -> None:
    grant = resolve(("Bash",), ALLOWED, PROBLEM, profile=Profile.RULES, commands=("git status",))
    assert (grant.built_ins, grant.warnings, grant.profile) == (("Bash",), (), Profile.RULES)
    assert resolve((), ALLOWED, PROBLEM, profile=Profile.FULL).built_ins == ALLOWED


@pytest.mark.parametrize("tools", [("Bash", "Read"), ()])
def test_rules_without_commands_is_without_bash(tools: tuple[str, ...]) -> None:
    grant = resolve(tools, ALLOWED, None, profile=Profile.RULES)
    assert "Bash" not in grant.built_ins
    assert grant.warnings == (
        "runs without Bash: the profile 'rules' grants just the commands that commands names, and it names none",
    )


@pytest.mark.parametrize(
    ("tools", "profile", "had"),
    [
        (("Bash",), Profile.CONTAINED, "the profile 'contained'"),
        (("Bash",), Profile.FULL, "the profile 'full'"),
        (("Read",), Profile.RULES, "Read"),
        (("mcp__a__*",), Profile.RULES, "no tools"),
    ],
)
def test_commands_without_effect_are_told_of(tools: tuple[str, ...], profile: Profile, had: str) -> None:
    *_, last = resolve(tools, ALLOWED, None, profile=profile, commands=("git status",)).warnings
    assert last == f"commands has no effect: it is for Bash under the profile 'rules', and runs have {had}"


# MCP servers


EMAIL = KnownServer("email", tools=("send_email", "get_email_status"))
NEW = KnownServer("new")  # never started
OFF = KnownServer("off", enabled=False, tools=("go",))
POOR = KnownServer("poor", tools=("ask",), missing=("A_KEY", "B_KEY"))
BROKEN = KnownServer("broken", problem="its code has a syntax error")
SERVERS = (EMAIL, NEW, OFF, POOR, BROKEN)
LACK = "A_KEY, B_KEY are not set; set_server_credential('poor', 'A_KEY', …) sets one"


def test_an_empty_list_grants_every_enabled_server_that_lacks_nothing() -> None:
    grant = resolve((), ("Read",), None, servers=SERVERS)
    assert (grant.tools, grant.servers) == ((), (ServerGrant("email"), ServerGrant("new")))
    assert grant.warnings == (
        f"runs without the server 'poor': {LACK}",
        "the enabled server 'broken' is broken: its code has a syntax error",
    )
    assert grant.unavailable == (Unavailable("broken", grant.warnings[-1]),)


def test_a_list_grants_just_the_servers_and_tools_it_names() -> None:
    grant = resolve(("mcp__email__send_email", "mcp__new__*", "Read"), ("Read",), None, servers=SERVERS)
    assert grant.servers == (ServerGrant("email", ("send_email",)), ServerGrant("new"))
    assert (grant.built_ins, grant.warnings, grant.unavailable) == (("Read",), (), ())


@pytest.mark.parametrize("written", ["mcp__email", "email:*", "email.*"])
def test_all_of_a_server_can_be_written_in_short(written: str) -> None:
    grant = resolve((written,), (), None, servers=SERVERS)
    assert (grant.tools, grant.servers) == (("mcp__email__*",), (ServerGrant("email"),))
    assert grant.warnings == (f"Normalized '{written}' to 'mcp__email__*'",)


def test_one_tool_and_all_of_a_server_are_all_of_it() -> None:
    grant = resolve(("mcp__email__*", "mcp__email__send_email"), (), None, servers=SERVERS)
    assert grant.servers == (ServerGrant("email"),)


@pytest.mark.parametrize(
    ("named", "warning"),
    [
        (
            "mcp__email__send_mail",
            "the server 'email' has no tool 'send_mail', so runs fail (did you mean 'mcp__email__send_email'?)",
        ),
        (
            "mcp__emial__send_email",
            "is not a tool of any server here, so runs fail (did you mean 'mcp__email__",
        ),
        (
            "mcp__off__go",
            "the server 'off' is disabled, so runs fail; enable it, or leave its tools out",
        ),
        ("mcp__poor__ask", f"the server 'poor' can't do its work yet, so runs fail: {LACK}"),
        ("mcp__broken__x", "the server 'broken' is broken, so runs fail: its code has a syntax error"),
        ("email", "'email' is not a known tool; runs go without it (did you mean 'mcp__email__*'?)"),
        (
            "send_email",
            "'send_email' is not a known tool; runs go without it (did you mean 'mcp__email__send_email'?)",
        ),
        ("Raed", "'Raed' is not a known tool; runs go without it (did you mean 'Read'?)"),
    ],
)
def test_what_is_amiss_is_told_with_what_may_be_meant(named: str, warning: str) -> None:
    [told] = resolve((named,), (), None, servers=SERVERS).warnings
    assert warning in told


@pytest.mark.parametrize("name", ["emial", "off", "broken"])
def test_a_server_that_cannot_be_had_is_told_apart(name: str) -> None:
    grant = resolve((f"mcp__{name}__x",), (), None, servers=SERVERS)
    assert (grant.servers, [each.name for each in grant.unavailable]) == ((), [name])


def test_a_server_that_was_never_started_is_not_said_to_lack_a_tool() -> None:
    grant = resolve(("mcp__new__anything",), (), None, servers=SERVERS)
    assert (grant.servers, grant.warnings) == ((ServerGrant("new", ("anything",)),), ())


def test_a_tool_is_called_as_claude_code_calls_it() -> None:
    assert tool_name("a-b", "get.fact now") == "mcp__a-b__get_fact_now"
    dotted = KnownServer("dotted", tools=("get.fact",))
    assert resolve(("mcp__dotted__get_fact",), (), None, servers=(dotted,)).warnings == ()


@given(
    st.lists(
        st.sampled_from(["mcp__email__send_email", "mcp__off__*", "email:x", "nope", "Read", "mcp__new"])
    )
)
def test_no_server_that_is_disabled_or_not_named_is_ever_granted(names: list[str]) -> None:
    grant = resolve(tuple(names), ("Read",), None, servers=SERVERS)
    wanted = {"email", "new"} if not names else {name for name in ("email", "new") if name in "".join(names)}
    assert {server.name for server in grant.servers} == wanted
