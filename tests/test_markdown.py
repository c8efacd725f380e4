"""Texts of models and tools on a page: rendered, and harmless whatever is in them."""

import asyncio
import random
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from claude_runner.web.dashboard import _markdown
from claude_runner.web.dashboard._markdown import (
    IN_A_THREAD,
    MOST_MARKDOWN,
    MOST_SHOWN,
    Growing,
    Markdown,
    markdown,
    plain,
    readable,
)

TAGS = {
    "p", "br", "hr", "blockquote", "ul", "ol", "li", "pre", "code", "em", "strong", "s", "a", "table", "thead", "tbody",
    "tr", "th", "td", "div", "span",
}  # fmt: skip
ATTRIBUTES = {"href", "title", "rel", "target", "dir", "class", "start", "tabindex", "role", "aria-label"}
SECONDS = 10.0  # of a busy machine; on an idle one a text takes half of one at the most

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "svg": "<svg/onload=alert(1)><style>@import 'x'</style>",
    "javascript": "[x](javascript:alert(1)) <javascript:alert(1)> [y](JaVaScRiPt:alert(1))",
    "hidden javascript": "[x](java\tscript:alert(1)) [y](&#106;avascript:alert(1)) [z](\x01javascript:alert(1))",
    "data": "[x](data:text/html,<script>alert(1)</script>) ![y](data:image/svg+xml;base64,PHN2Zz4=)",
    "file": "[x](file:///etc/passwd) [y](vbscript:x) [z](blob:https://a/b)",
    "own pages": "[x](/jobs/1/delete) [y](//evil.example/) [z](?q)",
    "reference": "[x]\n\n[x]: javascript:alert(1)",
    "title": '[x](https://a.example "\\" onmouseover=alert(1) x=\\"")',
    "quotes in an address": '[x](https://a.example/"onmouseover="alert(1)) https://a.example/"onclick="x',
    "fence": '```html" onload=alert(1)\n</code></pre><script>alert(1)</script>\n```',
    "code": "`</code><script>alert(1)</script>`",
    "table": "|<b>a|b|\n|:-:|--|\n|<script>|[x](javascript:1)|",
    "heading": "# <script>alert(1)</script>",
    "comment": "<!-- --><![CDATA[<script>]]><?php ?>",
    "entities": "&lt;script&gt; &#60;script&#62; &amp;lt;",
    "half a tag": "<a href='x",
    "template": "{{ constructor }} {% raw %} ${x}",
    "null": "a\x00b\x00<\x00script>",
    "surrogates": "a\ud800b\udfffc",
}

BOMBS = {
    "stars": "*" * MOST_MARKDOWN,
    "emphasis": "*a **a " * (MOST_MARKDOWN // 7),
    "brackets": "[" * MOST_MARKDOWN,
    "links": "[a](b" * (MOST_MARKDOWN // 5),
    "images": "![" * (MOST_MARKDOWN // 2),
    "quotes": ">" * MOST_MARKDOWN,
    "quotes and lines": "> " * 1000 + "a\n" * (MOST_MARKDOWN // 4),
    "lists": "- " * (MOST_MARKDOWN // 2),
    "nested lists": "\n".join("  " * depth + "- a" for depth in range(240)),
    "ticks": "".join("`" * length + "a" for length in range(250)),
    "a wide table": "|x" * 200 + "\n" + "|-" * 200 + "\n" + "|\n" * 15_000,
    "a long table": "a|b\n-|-\n" + "|\n" * (MOST_MARKDOWN // 2),
    "references": "[a]:\n" * 1000 + "[a]" * (MOST_MARKDOWN // 4),
    "entities": "&" * MOST_MARKDOWN,
    "angles": "<" * MOST_MARKDOWN,
    "addresses": "https://a" * (MOST_MARKDOWN // 9),
    "dots": "https://a" + "." * MOST_MARKDOWN,
    "escapes": "\x1b]" * (MOST_MARKDOWN // 2),
    "a megabyte on one line": "x" * 1_000_000,
    "a megabyte of words": "word " * 200_000,
}


class Elements(HTMLParser):
    """The elements of markup, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(str(html))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def assert_harmless(html: str) -> None:
    for tag, attributes in Elements(html).found:
        assert tag in TAGS, html
        assert attributes.keys() <= ATTRIBUTES, html
        address = attributes.get("href")
        assert address is None or address.startswith(("http://", "https://", "mailto:")), html


def pieces_of(text: str, *, seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    while text:
        size = chance.choice([1, 2, 5, 20, 80, 300])
        yield text[:size]
        text = text[size:]


@pytest.mark.parametrize("name", list(HOSTILE))
def test_nothing_in_a_text_becomes_markup_of_its_own(name: str) -> None:
    text = HOSTILE[name]
    assert_harmless(markdown(text))
    assert_harmless(plain(text))
    growing = Growing(as_markdown=True)
    for piece in pieces_of(text, seed=1):
        growth = growing.feed(piece)
        assert_harmless(growth.added)
        assert_harmless(growth.tail)


def test_nothing_of_a_hostile_text_is_lost_but_its_effect() -> None:
    assert Elements(markdown("<script>alert(1)</script>")).text.strip() == "<script>alert(1)</script>"
    assert "[x](javascript:alert(1))" in Elements(markdown(HOSTILE["javascript"])).text


def test_links_lead_where_they_say_they_do_and_tell_nobody() -> None:
    [link] = Elements(markdown("[bank.example](https://evil.example/x)")).of("a")
    assert link == {
        "href": "https://evil.example/x",
        "title": "https://evil.example/x",
        "target": "_blank",
        "rel": "noopener noreferrer nofollow",
    }


def test_a_plain_address_is_a_link_without_the_full_stop_behind_it() -> None:
    shown = Elements(markdown("See https://a.example/b_c?d=1 (and https://e.example/). `https://no.example`"))
    assert [link["href"] for link in shown.of("a")] == ["https://a.example/b_c?d=1", "https://e.example/"]


def test_an_address_within_a_link_is_no_second_one() -> None:
    assert len(Elements(markdown("[see https://a.example](https://b.example)")).of("a")) == 1


def test_an_image_is_a_link_that_is_not_loaded() -> None:
    shown = Elements(markdown("![a *cat*](https://a.example/cat.png)"))
    assert (shown.of("img"), shown.of("a")[0]["href"]) == ([], "https://a.example/cat.png")
    assert "image: a *cat*" in shown.text


def test_markdown_is_rendered() -> None:
    shown = Elements(
        markdown("# Title\n\n**bold** ~~gone~~\n\n|a|b|\n|-|-:|\n|1|2|\n\n```py\nx = 1\n```\n\n3. c\n")
    )
    assert [tag for tag, _ in shown.found if tag in {"strong", "s", "table", "pre", "ol"}] == [
        "strong", "s", "table", "pre", "ol",
    ]  # fmt: skip
    assert shown.of("p")[0]["class"] == "heading h1"  # a text's headings are none of the page
    assert shown.of("td")[1]["class"] == "right"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://evil.example\x1b\\text\x1b]8;;\x1b\\", "text"),
        ("a\x1b(Bb", "ab"),
        ("\x1b]what has no end hides nothing", "\N{SYMBOL FOR ESCAPE}]what has no end hides nothing"),
        ("\x1b[31", "\N{SYMBOL FOR ESCAPE}[31"),
        ("one\rtwo\r\nthree", "one\ntwo\nthree"),
        ("\u202egnp.exe", "[U+202E]gnp.exe"),
        ("\u2066a\u2069\u200b\ufeff\u200f\u061c", "[U+2066]a[U+2069][U+200B][U+FEFF][U+200F][U+061C]"),
        ("soft\u00adhyphen", "soft[U+00AD]hyphen"),
        ("\U000e0041\U000e0042", "[U+E0041][U+E0042]"),
        ("a\x00b\x07", "a\N{SYMBOL FOR NULL}b\N{SYMBOL FOR BELL}"),
        ("a\ud800", "a[U+D800]"),
        ("\tas it was\n مرحبا 👩‍👩‍👧", "\tas it was\n مرحبا 👩‍👩‍👧"),
    ],
)
def test_signs_that_act_are_named_or_gone(text: str, shown: str) -> None:
    assert readable(text) == shown
    assert readable(shown) == shown


def test_each_paragraph_runs_the_way_its_letters_do() -> None:
    shown = Elements(markdown("left\n\nيمين\n\n- item\n"))
    assert [attributes.get("dir") for tag, attributes in shown.found if tag in {"p", "ul"}] == ["auto"] * 3


@pytest.mark.parametrize("name", list(BOMBS))
async def test_no_text_takes_long_to_render(name: str) -> None:
    began = time.process_time()
    [shown] = await Markdown().rendered([BOMBS[name]])
    assert time.process_time() - began < SECONDS
    assert_harmless(shown.html)
    assert len(shown.html) < 4_000_000


async def test_a_very_long_text_is_cut_and_it_says_by_how_much() -> None:
    text = "# Title\n\n" + "paragraph\n\n" * 30_000
    [shown] = await Markdown().rendered([text])
    assert shown.left == len(text) - MOST_SHOWN
    assert shown.html.startswith('<p dir="auto" class="heading h1">Title</p>')
    assert Elements(shown.html).of("span") == [{"class": "raw"}]  # from some place on it is as it is


async def test_what_is_rendered_is_kept_and_bounded() -> None:
    kept = Markdown()
    texts = [f"text {number} " * 2_000 for number in range(120)]
    first = await kept.rendered(texts[-1:])
    await kept.rendered(texts)
    assert await kept.rendered(texts[-1:]) == first
    assert kept._size <= 2_000_000
    assert kept._size == sum(len(text) + len(html) for text, html in kept._kept.items())


WHOLE = """\
# Title

A paragraph
of two lines.

Setext
======

1. one
2. two

   with a paragraph

   ```python
   print("code")

   print("more")
   ```
3. three

> quote
lazy

| a | b |
|---|--:|
| 1 | 2 |

    indented

    code

- a
- b
  - c

***

The end, without a line feed"""


@pytest.mark.parametrize("seed", range(12))
def test_a_text_that_comes_in_pieces_looks_in_the_end_as_if_it_came_whole(seed: int) -> None:
    growing, added, tail = Growing(as_markdown=True), "", ""
    for piece in pieces_of(WHOLE, seed=seed):
        growth = growing.feed(piece)
        added, tail = added + growth.added, growth.tail
    assert added + tail == markdown(WHOLE)
    assert not growing.is_rough


def test_what_is_settled_is_not_rendered_again() -> None:
    growing = Growing(as_markdown=True)
    first, second = growing.feed("one\n\ntwo\n\nthree\n"), growing.feed("four")
    assert Elements(first.added).text.split() == ["one", "two"]
    assert (second.added, Elements(second.tail).text.split()) == ("", ["three", "four"])


def test_a_block_that_grows_too_large_is_shown_as_it_comes() -> None:
    growing = Growing(as_markdown=True)
    growing.feed("before\n\n```\n")
    growths = [growing.feed(f"line {number}\n") for number in range(1000)]
    assert growing.is_rough
    assert growths[-1] == (plain("line 999\n"), "")


PIECES = {
    "a line": "x" * 100,
    "a wide table": "|x" * 200 + "\n" + "|-" * 200 + "\n" + "|\n" * 500,
    "paragraphs": "word word word word\n" * 5,
    "a list": "- item\n\n" * 12,
    "a table": "|a|b|\n" * 16,
}


@pytest.mark.parametrize("name", list(PIECES))
def test_a_megabyte_in_thousands_of_pieces_is_not_rendered_thousands_of_times(name: str) -> None:
    growing = Growing(as_markdown=True)
    began = time.process_time()
    for _ in range(1_000_000 // len(PIECES[name])):
        growing.feed(PIECES[name])
    assert time.process_time() - began < SECONDS


def test_a_megabyte_in_one_piece_is_shown_as_it_is() -> None:
    growing = Growing(as_markdown=True)
    growth = growing.feed("*" * 1_000_000)
    assert (len(growth.added), growing.is_rough) == (len(plain("")) + 1_000_000 + len(plain("*")) - 1, True)


def test_a_sign_that_is_cut_in_two_is_still_one() -> None:
    growing = Growing(as_markdown=False)
    shown = "".join(growing.feed(piece).added for piece in ("a\x1b[3", "1mred\r", "\nb", "\x1b[0m."))
    assert Elements(shown).text == "ared\nb."


def test_text_as_it_is_stays_as_it_is() -> None:
    assert plain("a  <b>\n\n# c") == '<span class="raw">a  &lt;b&gt;\n\n# c</span>'


def any_of(seed: int) -> str:
    chance = random.Random(seed)
    parts: list[Any] = [
        *HOSTILE.values(),
        "\n\n",
        "\n",
        "- ",
        "> ",
        "```\n",
        "|a|b|\n|-|-|\n",
        "**",
        "`",
        "[",
        "](",
    ]
    return "".join(chance.choice(parts) for _ in range(40))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_put_together_stays_harmless(seed: int) -> None:
    assert_harmless(markdown(any_of(seed)))


async def test_a_text_that_is_kept_is_shown_though_others_are_rendered_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_markdown, "MOST_KEPT", 200)
    texts = Markdown()
    await texts.rendered(["known"])
    both = asyncio.create_task(texts.rendered(["known", "long " * IN_A_THREAD]))
    await asyncio.sleep(0)  # it renders what is new in a thread by now
    await texts.rendered(["other " * 60])
    known, _ = await both
    assert "known" in known.html
