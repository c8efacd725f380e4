import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.grants import BUILT_INS, MAX_TOOLS, read_tools, resolve

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
        ("7", "tools must be a list of names"),
        ("[7]", "tools must be a list of names"),
        ('{"Read": true}', "tools must be a list of names"),
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
            "'mcp__email__send_email' is not a tool of any server here; runs go without it",
        ),
        ("mcp__email__*", "'mcp__email__*' is not a tool of any server here; runs go without it"),
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
