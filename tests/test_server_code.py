from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.servers import Variable, examine, merged

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True).map(lambda name: f"X_{name}")


def found(code: str) -> tuple[Variable, ...]:
    return examine(f"import os\n{code}\n").variables


def names(code: str) -> list[str]:
    return [variable.name for variable in found(code)]


def refused_by(reading: Callable[[], object]) -> InvalidError | None:
    try:
        reading()
    except InvalidError as error:
        return error
    return None


@pytest.mark.parametrize(
    "code",
    [
        'import os\nos.environ.get("CITY")',
        'import os\nos.getenv("CITY")',
        'import os\nos.environ["CITY"]',
        'import os as o\no.environ["CITY"]',
        'import os as o\no.getenv("CITY")',
        'import os.path\nos.getenv("CITY")',
        'from os import environ\nenviron.get("CITY")',
        'from os import environ as env\nenv["CITY"]',
        'from os import getenv\ngetenv("CITY")',
        'from os import getenv as read\nread("CITY")',
        'import os\nenv = os.environ\nenv.get("CITY")',
        'import os\nos.getenv(key="CITY")',
        'import os\nos.environ.pop("CITY")',
        'def tool():\n    import os\n    return os.getenv("CITY")',
        'import os\nos.environ.get("CITY", None)',
        'import os\nos.environ.get("CITY") or None',
        "import os\nf\"{os.environ['CITY']}\"",
    ],
)
def test_a_variable_that_is_read_is_required(code: str) -> None:
    assert examine(code).variables == (Variable("CITY", required=True, sensitive=False),)


@pytest.mark.parametrize(
    ("code", "default"),
    [
        ('os.environ.get("CITY", "Berlin")', "Berlin"),
        ('os.getenv("CITY", "Berlin")', "Berlin"),
        ('os.getenv("CITY", default="Berlin")', "Berlin"),
        ('os.environ.get("CITY") or "Berlin"', "Berlin"),
        ('os.environ.get("CITY", "")', None),
        ('os.environ.get("CITY", home())', None),
        ('os.environ.get("CITY") or home()', None),
        ('os.environ.setdefault("CITY", "Berlin")', "Berlin"),
        ('os.environ.setdefault("CITY", "Berlin")\nos.environ["CITY"]', None),
        ('os.environ.pop("CITY", 7)', None),
    ],
)
def test_a_variable_that_has_a_default_is_optional(code: str, default: str | None) -> None:
    assert found(code) == (Variable("CITY", required=False, default=default),)


@pytest.mark.parametrize(
    "code",
    [
        '"CITY" in os.environ',
        'os.environ["CITY"] = "Berlin"',
        'del os.environ["CITY"]',
        "os.environ[name]",
        "os.environ.get(name)",
        "os.environ.get()",
        'os.environ.get(*["CITY"])',
        'environ.get("CITY")',
        'getenv("CITY")',
        '{}.get("CITY")',
        'settings.environ["CITY"]',
        'os.path.get("CITY")',
        '# os.environ["CITY"]',
        "\"os.environ['CITY']\"",
    ],
)
def test_what_reads_no_variable_names_none(code: str) -> None:
    assert found(code) == ()


@pytest.mark.parametrize(
    "name", ["DATA_DIR", "PATH", "HOME", "TMPDIR", "LANG", "TZ", "https_proxy", "LC_ALL", "a b", ""]
)
def test_what_every_process_has_is_no_credential(name: str) -> None:
    assert names(f"os.environ.get({name!r})") == []


@pytest.mark.parametrize("name", ["API_KEY", "client_secret", "TOKEN", "DB_PASSWORD_FILE"])
def test_a_name_that_says_so_is_a_secret(name: str) -> None:
    [variable] = found(f'os.environ.get("{name}", "x")')
    assert (variable.sensitive, variable.default) == (True, None)


def test_a_variable_that_one_place_can_not_do_without_is_required() -> None:
    assert found('os.environ.get("CITY", "Berlin")\nos.environ["CITY"]') == (Variable("CITY"),)


def test_of_two_that_do_for_each_other_only_the_last_is_required() -> None:
    variables = found('os.getenv("GH") or os.getenv("GITHUB")')
    assert [(it.name, it.required) for it in variables] == [("GH", False), ("GITHUB", True)]


def test_variables_come_in_the_order_of_the_code() -> None:
    code = 'def tool():\n    return os.environ["B"], os.environ["A"]\nos.getenv("C")\nos.getenv("A")'
    assert names(code) == ["B", "A", "C"]


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["get", "getenv", "[]"]), st.booleans()), max_size=8))
def test_whatever_is_read_is_found_once(reads: list[tuple[str, str, bool]]) -> None:
    lines = []
    for name, how, optional in reads:
        default = ", 'x'" if optional and how != "[]" else ""
        lines.append(
            {
                "get": f"os.environ.get({name!r}{default})",
                "getenv": f"os.getenv({name!r}{default})",
                "[]": f"os.environ[{name!r}]",
            }[how]
        )
    variables = found("\n".join(lines))
    assert [it.name for it in variables] == list(dict.fromkeys(name for name, _, _ in reads))
    needed = {name for name, how, optional in reads if not optional or how == "[]"}
    assert {it.name for it in variables if it.required} == needed


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    refusal = refused_by(lambda: examine(text))
    assert refusal is None or (refusal.field == "code" and str(refusal))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("x = 1\ndef f(:\n", r"line 2: invalid syntax"),
        ("x = 1\n  y = 2", "line 2: unexpected indent"),
        ("print('a'", r"line 1: '\(' was never closed"),
        ("x = 1\ny = '\0'", "line 2: there is a NUL character; remove it"),
        ("x = 1\ny = '\ud83d'", "line 2: there is half a character"),
        ("", "the code is empty"),
        ("  \n\n", "the code is empty"),
        ("x = 1\n" * 900_000, r"the code has 5,400,000 bytes; at most 524,288 are taken"),
        ("-" * 100_000 + "1", "nested too deeply"),
        ("(" * 5_000 + ")" * 5_000, "too many nested parentheses"),
        ("x = " + "+".join(["1"] * 50_000), "nested too deeply"),
        ("x = " + "9" * 5_000, "line 1: Exceeds the limit"),
    ],
)
def test_code_that_can_not_be_used_is_refused_with_line_and_reason(code: str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence) as refused:
        examine(code)
    assert refused.value.field == "code"


SCRIPT = """\
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "rich>=13",
#
#   "feedparser",
# ]
# ///
"""


@pytest.mark.parametrize(
    "code", [SCRIPT, SCRIPT + "x = 1\n", "#!/usr/bin/env python\n" + SCRIPT, SCRIPT.replace("\n", "\r\n")]
)
def test_what_code_declares_to_need_is_found(code: str) -> None:
    findings = examine(code)
    assert findings.dependencies == ("rich>=13", "feedparser")
    assert findings.requires_python == ">=3.11"


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "# /// script\n# dependencies = ['rich']\nx = 1",
        "# /// other\n# dependencies = ['rich']\n# ///",
        "  # /// script\n  # dependencies = ['rich']\n  # ///",
        "# /// script\n# ///",
        "# /// script\n" * 40_000,
    ],
)
def test_code_without_a_whole_block_needs_nothing(code: str) -> None:
    assert examine(code + "\nx = 1").dependencies == ()


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("# dependencies = [", "line 2: the block '# /// script' is no TOML"),
        ("# dependencies = 'rich'", "line 2: dependencies must be a list"),
        ("# dependencies = ['--index-url=https://x']", "line 2: dependencies must be a list"),
        ("# dependencies = [7]", "line 2: dependencies must be a list"),
        ("# requires-python = 3", "line 2: requires-python must be a text"),
        ("# a = 1\n# ///\nx = 1\n# /// script\n# a = 1", "line 6: there is a second block"),
    ],
)
def test_a_block_that_can_not_be_read_is_refused(block: str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        examine(f"x = 1\n# /// script\n{block}\n# ///\n")


def test_a_block_ends_at_the_last_closing_line_of_its_comments() -> None:
    code = "# /// script\n# dependencies = ['rich']\n# text = '''\n# ///\n# '''\n# ///\nx = 1"
    assert examine(code).dependencies == ("rich",)


def test_what_the_caller_says_of_a_variable_wins_and_keeps_the_order() -> None:
    variables = merged(
        found('os.environ["CITY"], os.environ["API_KEY"]'),
        ["EXTRA", {"name": "CITY", "description": "where", "required": False, "default": "Berlin"}],
    )
    assert variables == (
        Variable("CITY", "where", required=False, default="Berlin"),
        Variable("API_KEY", sensitive=True),
        Variable("EXTRA"),
    )


def test_a_name_alone_says_nothing_new_of_a_variable_that_was_found() -> None:
    optional = found('os.getenv("CITY", "Berlin")')
    assert merged(optional, ["CITY"]) == optional


@pytest.mark.parametrize("given_", [None, [], ()])
def test_without_anything_given_what_was_found_stays(given_: Any) -> None:
    assert merged([Variable("CITY")], given_) == (Variable("CITY"),)


def test_a_variable_may_be_required_only_under_a_condition() -> None:
    [variable] = merged([], [{"name": "A_KEY", "when": {"PROVIDER": ["a", "b"]}}])
    assert variable.applies({"PROVIDER": " B"})
    assert not variable.applies({"PROVIDER": "c"})
    assert not variable.applies({})


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ("CITY", "it must be a list"),
        ([7], "'7' is neither a name nor an object with a 'name'"),
        ([{"description": "x"}], "neither a name nor an object"),
        (["two words"], "'two words' is not the name of a variable"),
        (["A\n"], r"'A\\n' is not the name of a variable"),
        (["1A"], "'1A' is not the name of a variable"),
        (["DATA_DIR"], "DATA_DIR is set by the system"),
        (["LD_PRELOAD"], "LD_PRELOAD is set by the system"),
        ([{"name": "A", "required": "no"}], "'required' of A must be true or false"),
        ([{"name": "A", "description": 7}], "'description' of A must be a text"),
        ([{"name": "A", "description": "x" * 2_001}], "'description' of A must be a text"),
        ([{"name": "A", "default": "\0"}], "'default' of A must be a text"),
        ([{"name": "A", "when": ["B"]}], "'when' of A must name variables"),
        ([{"name": "A", "when": {"B": "b"}}], "'when' of A must name variables"),
        ([f"A{number}" for number in range(101)], "it has 101 entries; at most 100"),
    ],
)
def test_variables_that_can_not_be_read_are_refused(entries: Any, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence) as refused:
        merged([], entries)
    assert refused.value.field == "env_vars"


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "required", "when", "default", "description"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_is_given_is_read_or_refused(entries: Any) -> None:
    refusal = refused_by(lambda: merged([], entries))
    if refusal is None:
        variables = merged([], entries)
        rewritten: list[Mapping[str, Any]] = [variable.as_entry() for variable in variables]
        assert merged([], rewritten) == variables
    else:
        assert refusal.field == "env_vars"
