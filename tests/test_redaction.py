import base64
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import pairwise
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.redaction import Redactor

KEY = "sk-Ab3/+xyz 0123456789"
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj\n"
    "AgEAAoIBAQC7VJTUt9Us8cKjMzEfYyjiWA4R4ha2\n"
    "short\n"
    "-----END PRIVATE KEY-----\n"
)

# No letter pair of a label is among them, so that a label makes no secret with what is beside it.
SYMBOLS = '01é😀\n"%'
SECRETS = st.lists(st.text(SYMBOLS, min_size=4, max_size=9), min_size=1, max_size=6)


def redactor_of(*values: str, **named: str) -> Redactor:
    redactor = Redactor()
    redactor.set([*(("KEY", value) for value in values), *named.items()])
    return redactor


def streamed(redactor: Redactor, chunks: list[str]) -> str:
    stream = redactor.stream()
    return "".join([*(stream.feed(chunk) for chunk in chunks), stream.rest()])


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[one:other] for one, other in pairwise(edges)]


def test_a_secret_gives_way_to_its_name() -> None:
    assert redactor_of(TOKEN="hunter22").text("it is hunter22!") == "it is [credential TOKEN]!"


def test_a_text_without_secrets_is_the_same_object() -> None:
    text = "nothing to see"
    assert redactor_of(KEY).text(text) is text


def test_new_secrets_take_the_place_of_the_old_ones() -> None:
    redactor = redactor_of("old-secret")
    redactor.set([("KEY", "new-secret")])
    assert redactor.text("old-secret new-secret") == "old-secret [credential KEY]"


def test_of_two_secrets_that_overlap_the_left_one_is_found() -> None:
    assert redactor_of(A="abcdef", B="defghi").text("abcdefghi") == "[credential A]ghi"


def test_of_two_secrets_that_begin_alike_the_longer_one_is_found() -> None:
    assert redactor_of(A="abcd", B="abcdefgh").text("abcdefgh abcdef") == "[credential B] [credential A]ef"


def test_of_two_long_secrets_that_begin_alike_the_longer_one_is_found() -> None:
    long = "0123456789abcdef" * 2
    assert redactor_of(A=long, B=long + "!").text(f"{long}! {long}?") == "[credential B] [credential A]?"


def test_a_value_that_two_credentials_have_goes_by_the_first_name() -> None:
    assert redactor_of(A="hunter22", B="hunter22").text("hunter22") == "[credential A]"


@pytest.mark.parametrize("value", ["abc", " ab ", "密码", ""])
def test_a_value_shorter_than_four_characters_is_left_alone(value: str) -> None:
    text = f"abc {value} ab 密码"
    assert redactor_of(value).text(text) == text


@pytest.mark.parametrize(
    "spelt",
    [
        KEY,
        json.dumps(KEY),
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY),
        urlencode({"key": KEY}),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
        base64.b64encode(KEY.encode()).decode().rstrip("="),
    ],
)
def test_a_secret_is_found_however_it_is_spelt(spelt: str) -> None:
    redacted = redactor_of(KEY).text(f"<{spelt}>")
    assert "[credential KEY]" in redacted
    assert not any(part in redacted for part in (spelt.strip('"').removeprefix("key="), KEY))


@pytest.mark.parametrize(
    "value", ['quo"te\\slash', "line one\nline two", "ümlaut-käse", 'it\'s "so"', "tab\there"]
)
@pytest.mark.parametrize("readable", [False, True])
def test_a_secret_is_found_in_json_and_in_json_within_json(value: str, readable: bool) -> None:
    once = json.dumps({"key": value}, ensure_ascii=not readable)
    twice = json.dumps({"text": once}, ensure_ascii=not readable)
    redacted = redactor_of(value)
    assert redacted.text(once) == '{"key": "[credential KEY]"}'
    assert json.loads(json.loads(redacted.text(twice))["text"]) == {"key": "[credential KEY]"}


@pytest.mark.parametrize("value", ["tab\there", 'it\'s "so"', "back\\slash"])
def test_a_secret_is_found_as_python_shows_it(value: str) -> None:
    assert redactor_of(value).text(f"invalid: {value!r}").strip("'\"") == "invalid: '[credential KEY]"


@given(st.text(min_size=8, max_size=40), st.binary(max_size=4), st.binary(max_size=4))
def test_a_secret_is_found_in_base64_with_others_around_it(value: str, before: bytes, after: bytes) -> None:
    if len(value.strip()) < 8:
        return
    text = base64.b64encode(before + value.encode() + after).decode()
    assert "[credential KEY]" in redactor_of(value).text(text)


def test_the_password_of_a_basic_authorization_is_found_whole() -> None:
    header = base64.b64encode(b"api:" + KEY.encode()).decode()
    assert redactor_of(KEY).text(f"Basic {header}").endswith("[credential KEY]")


def test_the_long_lines_of_a_private_key_are_found_one_by_one() -> None:
    begin, one, two, short, end = PEM.splitlines()
    redacted = redactor_of(PEM).text(f"{two}\n{short}\n{begin}\n{one}")
    assert redacted == f"[credential KEY]\nshort\n{begin}\n[credential KEY]"
    assert redactor_of(PEM).text(f"{end} {PEM}") == f"{end} [credential KEY]"


def test_a_secret_is_found_without_the_white_space_around_it() -> None:
    assert redactor_of(" hunter22\n").text("hunter22") == "[credential KEY]"
    assert redactor_of(" hunter22\n").text(" hunter22\n!") == "[credential KEY]!"


def test_half_an_emoji_is_no_hindrance() -> None:
    assert redactor_of("hunter22").text("\ud83d hunter22 \ude00") == "\ud83d [credential KEY] \ude00"
    assert (
        streamed(redactor_of("hunter22"), ["\ud83d hunt", "er22 \ude00"]) == "\ud83d [credential KEY] \ude00"
    )


def test_json_is_redacted_in_every_corner() -> None:
    value = {"a": ["hunter22", {"x-hunter22": None}], "hunter22": True, "n": 1.5, "t": ("hunter22",)}
    assert redactor_of("hunter22").value(value) == {
        "a": ["[credential KEY]", {"x-[credential KEY]": None}],
        "[credential KEY]": True,
        "n": 1.5,
        "t": ["[credential KEY]"],
    }


def test_a_number_that_is_a_secret_becomes_a_text() -> None:
    value = {"pin": 482913, "larger": 14829135, "true": True}
    redacted = redactor_of("482913", "True").value(value)
    assert redacted == {"pin": "[credential KEY]", "larger": 14829135, "true": True}


def test_without_secrets_everything_is_the_same_object() -> None:
    redactor, text, value = Redactor(), "a text", {"a": ["b"]}
    assert redactor.text(text) is text
    assert redactor.value(value) is value
    assert redactor.stream().feed(text) is text


def test_without_secrets_nothing_is_imported() -> None:
    program = (
        "import sys; from claude_runner.redaction import Redactor; r = Redactor(); r.set([]); r.text('x');"
        " sys.exit('ahocorasick_rs' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_secret_is_found_however_many_pieces_it_comes_in(size: int) -> None:
    text = f"before {KEY} after"
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert streamed(redactor_of(KEY), chunks) == "before [credential KEY] after"


def test_text_flows_where_it_is_not_the_beginning_of_a_secret() -> None:
    stream = redactor_of("hunter22", PEM).stream()
    assert stream.feed("the cat sat; hun") == "the cat sat; "
    assert stream.feed("dred mice") == "hundred mice"
    assert stream.feed(" and hunter22") == " and [credential KEY]"
    assert stream.rest() == ""


def test_a_piece_without_the_beginning_of_a_secret_is_the_same_object() -> None:
    text = "nothing to see"
    assert redactor_of(KEY).stream().feed(text) is text


def test_the_beginning_of_a_secret_that_never_comes_is_given_in_the_end() -> None:
    stream = redactor_of("hunter22").stream()
    assert stream.feed("hunter2") == ""
    assert stream.rest() == "hunter2"
    assert stream.rest() == ""


def test_a_shorter_secret_waits_for_the_longer_one_that_it_begins() -> None:
    stream = redactor_of(A="abcd", B="abcdefgh").stream()
    assert [stream.feed("abcd"), stream.feed("ef"), stream.feed("xx")] == ["", "", "[credential A]efxx"]


def test_the_end_of_a_secret_is_not_the_beginning_of_another() -> None:
    stream = redactor_of(A="abcdef", B="efghij").stream()
    assert stream.feed("abcdef") == "[credential A]"
    assert stream.feed("ghij") == "ghij"


def test_a_stream_goes_by_the_secrets_of_the_moment() -> None:
    redactor = redactor_of("hunter22")
    stream = redactor.stream()
    assert stream.feed("hunt") == ""
    redactor.set([])
    assert stream.feed("er22") == "hunter22"
    redactor.set([("NEW", "hunter22")])
    assert stream.feed("hunter22") == "[credential NEW]"


@given(SECRETS, st.lists(st.integers(0, 500), max_size=20), st.data())
def test_a_stream_gives_what_the_whole_text_gives(
    secrets: list[str], places: list[int], data: st.DataObject
) -> None:
    redactor = redactor_of(*secrets)
    pieces = data.draw(st.lists(st.sampled_from(secrets) | st.text(SYMBOLS, max_size=6), max_size=12))
    text = "".join(pieces)
    assert streamed(redactor, cut(text, places)) == redactor.text(text)


@given(SECRETS, st.text(SYMBOLS, max_size=60), st.lists(st.integers(0, 500), max_size=20))
def test_no_secret_survives(secrets: list[str], text: str, places: list[int]) -> None:
    text = text.join(secrets)
    redacted = streamed(redactor_of(*secrets), cut(text, places))
    assert [secret for secret in secrets if len(secret.strip()) >= 4 and secret in redacted] == []


@given(
    st.text("ab", min_size=4, max_size=40),
    st.text("ab", min_size=4, max_size=40),
    st.text("ab", max_size=200),
)
def test_secrets_longer_than_what_is_looked_for_are_found_as_by_hand(one: str, other: str, text: str) -> None:
    """Against the rule itself, written out: at each place the longest that begins there."""
    values = sorted({one, other}, key=len, reverse=True)
    expected, at = "", 0
    while at < len(text):
        found = next((value for value in values if text.startswith(value, at)), None)
        expected += text[at] if found is None else "[credential KEY]"
        at += 1 if found is None else len(found)
    assert redactor_of(one, other).text(text) == expected
    assert streamed(redactor_of(one, other), list(text)) == expected


@contextmanager
def logging_to(handler: logging.Handler, name: str | None = None) -> Iterator[logging.Logger]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("name", [None, "tests.with_its_own_handler"])
def test_the_log_has_no_secrets(name: str | None) -> None:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    with logging_to(handler, name) as logger, redactor_of("hunter22").guard_log():
        logger.warning("%s is wrong", "hunter22")
        try:
            int("hunter22")
        except ValueError:
            logger.exception("failed")
    assert "hunter22" not in stream.getvalue()
    assert "[credential KEY] is wrong" in stream.getvalue()
    assert "ValueError: invalid literal for int() with base 10: '[credential KEY]'" in stream.getvalue()


def test_the_log_is_as_before_once_it_is_not_guarded() -> None:
    handler = logging.StreamHandler(StringIO())
    handler.setFormatter(formatter := logging.Formatter("%(message)s"))
    with logging_to(handler):
        with redactor_of("hunter22").guard_log():
            assert handler.formatter is not formatter
        assert handler.formatter is formatter


def test_a_formatter_that_somebody_else_has_set_meanwhile_stays() -> None:
    handler, formatter = logging.StreamHandler(StringIO()), logging.Formatter()
    with logging_to(handler), redactor_of("hunter22").guard_log():
        handler.setFormatter(formatter)
    assert handler.formatter is formatter


def test_a_log_line_looks_as_its_formatter_makes_it() -> None:
    def record(message: str) -> Any:
        return logging.makeLogRecord({"levelname": "INFO", "msg": message})

    guarded = redactor_of("hunter22").formatter(logging.Formatter("%(levelname)s: %(message)s"))
    assert guarded.format(record("use hunter22")) == "INFO: use [credential KEY]"
