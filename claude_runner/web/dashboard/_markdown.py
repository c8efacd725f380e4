"""Shows what models, tools and webhooks have said: as Markdown or as it is, and in neither case as markup of theirs.

Three things stand between a text and the page: signs that act are named (`readable`), the renderer knows no HTML, and
what it made is sanitised by a parser of its own (ammonia), as if the renderer could be wrong.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from markupsafe import Markup, escape

from claude_runner.web.dashboard._visible import visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MOST_MARKDOWN: Final = (
    32_000  # characters of a text that are rendered: 50 ms, or half a second of the most hostile
)
MOST_LINES: Final = 2_000  # of those
MOST_SHOWN: Final = 100_000  # characters of a text that stand in a page; what follows is a download
MOST_OPEN: Final = 4_000  # characters of a text that still grows that are rendered again with each piece
IN_A_THREAD: Final = 4_000  # characters from which on a text is rendered off the event loop
MOST_NESTING: Final = 20
MOST_CELLS: Final = 20_000  # of a table, were each of a text's lines a row of it
MOST_KEPT: Final = 2_000_000  # characters of rendered texts that are kept, for pages that are looked at again

# What a terminal obeys (ECMA-48, sections 5.4 and 5.6): colours, cursors, titles and links. What has no end is none.
_TERMINAL: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]{0,1000}(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])"
)
_BEGUN: Final = re.compile(
    r"(?:\r|\x1b(?:\[[0-?]{0,40}[ -/]*|[\]PX^_][^\x07\x1b\n]{0,1000}\x1b?|[ -/]{0,8}))\Z"
)
_UNSEEN: Final = re.compile(
    "[\u00ad\u180e\U000e0000-\U000e007f]"
)  # hides words from people but not from models
_LINK: Final = re.compile(r"(?:https?://|mailto:)[^\s]", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"https?://[^\s<>\"'`|\\^{}]*[^\s<>\"'`|\\^{}.,;:!?)\]*_~]", re.IGNORECASE)
_TABLE: Final = Markup('<div class="scroll" tabindex="0" role="group" aria-label="Table">')
_DIRECTED: Final = frozenset(
    {"paragraph_open", "heading_open", "bullet_list_open", "ordered_list_open", "td_open", "th_open"}
)
_TAGS: Final = frozenset({
    "p", "br", "hr", "blockquote", "ul", "ol", "li", "pre", "code", "em", "strong", "s", "a", "table", "thead", "tbody",
    "tr", "th", "td", "div",
})  # fmt: skip
_ATTRIBUTES: Final[dict[str, set[str]]] = {
    "a": {"href", "title"},
    "ol": {"start"},
    "div": {"class", "tabindex", "role", "aria-label"},
    "*": {"dir", "class"},
}


class Rendered(NamedTuple):
    """A text as a page shows it.

    Attributes:
        html: It.
        left: How many characters at its end are not in it.
    """

    html: Markup
    left: int


class Growth(NamedTuple):
    """What a piece adds to a text that is shown.

    Attributes:
        added: What comes after what is settled.
        tail: What comes after that, in place of the last tail.
    """

    added: Markup
    tail: Markup


def readable(text: str) -> str:
    """Return a text without what a terminal obeys, and with a name for each other sign that is not seen but acts."""
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _named(text)


def _named(text: str) -> str:
    return _UNSEEN.sub(lambda match: f"[U+{ord(match[0]):04X}]", visible(text))


def plain(text: str) -> Markup:
    """Return a text as it is."""
    return Markup('<span class="raw">{}</span>').format(readable(text)) if text else Markup()


def markdown(text: str) -> Markup:
    """Return a text of bounded length rendered, without looking at what was rendered before."""
    text, env = readable(text), dict[str, Any]()
    tokens = _parsed(text, env)
    if tokens is None:
        return plain(text)
    return _clean(_renderer().renderer.render(tokens, _renderer().options, env))


class Markdown:
    """Renders texts, and keeps what it has rendered for a while."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Markup] = OrderedDict()
        self._size = 0

    async def rendered(self, texts: Sequence[str]) -> list[Rendered]:
        """Return texts as a page shows them: Markdown, and where one is very long, the rest of it as it is."""
        known = {
            text: self._kept[text] for text in texts if text in self._kept
        }  # it may go while others are made
        fresh = {text for text in texts if text not in known}
        if sum(len(text) for text in fresh) > IN_A_THREAD:
            made = await asyncio.to_thread(lambda: {text: _whole(text) for text in fresh})
        else:
            made = {text: _whole(text) for text in fresh}
        for text, html in made.items():
            self._keep(text, html)
        shown = known | made
        return [Rendered(shown[text], max(0, len(text) - MOST_SHOWN)) for text in texts]

    def _keep(self, text: str, html: Markup) -> None:
        if text not in self._kept:
            self._size += len(text) + len(html)
        self._kept[text] = html
        while self._size > MOST_KEPT:
            oldest, gone = self._kept.popitem(last=False)
            self._size -= len(oldest) + len(gone)


class Growing:
    """A text that comes in pieces, rendered as it comes, each part of it a bounded number of times.

    The blocks of Markdown before the last one do not change any more: they are given once, and only the last one again
    with each piece. Where that grows too large, such as a listing, what comes is shown as it is from there on.

    Attributes:
        is_rough: Whether something was shown as it is that would be Markdown, so that the whole should be rendered
            once it is known.
    """

    def __init__(self, *, as_markdown: bool) -> None:
        self.is_rough = False
        self._as_markdown = as_markdown
        self._raw = ""  # what may be the beginning of a sign
        self._tail = ""  # what is read and not settled

    def feed(self, text: str) -> Growth:
        """Take a piece, and return what it adds."""
        raw = _TERMINAL.sub("", self._raw + text)
        begun = _BEGUN.search(raw, max(0, len(raw) - 1_100))
        end = len(raw) if begun is None else begun.start()
        self._tail += readable(raw[:end])
        self._raw = raw[end:]
        is_small = len(self._tail) <= MOST_MARKDOWN
        settled = self._settled() if self._as_markdown and is_small and "\n" in text else Markup()
        if self._as_markdown and len(self._tail) <= MOST_OPEN:
            return Growth(settled, markdown(self._tail))
        self.is_rough |= self._as_markdown
        self._as_markdown = False
        rest, self._tail = plain(self._tail), ""
        return Growth(settled + rest, Markup())

    def _settled(self) -> Markup:
        """Take what further text does not change from the tail, rendered: all before the last block."""
        lines = self._tail.split("\n")[:-1]  # a line that is not whole may yet turn into anything
        if len(lines) < 2:
            return Markup()
        tokens = _parsed("\n".join(lines), {}) or ()
        last = max((token.map[0] for token in tokens if token.level == 0 and token.map), default=0)
        settled = "\n".join([*lines[:last], ""]) if last else ""
        self._tail = self._tail[len(settled) :]
        return markdown(settled) if settled else Markup()


def _parsed(text: str, env: dict[str, Any]) -> "Sequence[Token] | None":
    """Return the parts of a text; `None` where a few signs make very many, such as the cells that a table lacks."""
    if "|" in text:
        lines = text.split("\n")
        if max(line.count("|") for line in lines) * len(lines) > MOST_CELLS:
            return None
    return _renderer().parse(text, env)


def _whole(text: str) -> Markup:
    if len(text) <= MOST_MARKDOWN and text.count("\n") <= MOST_LINES:
        return markdown(text)
    most = min(MOST_MARKDOWN, len("".join(text[:MOST_MARKDOWN].splitlines(keepends=True)[:MOST_LINES])))
    ends = (text.rfind(mark, most // 2, most) for mark in ("\n\n", "\n", " "))
    end = next((end for end in ends if end > 0), most)
    return markdown(text[:end]) + plain(text[end:MOST_SHOWN])


def _clean(html: str) -> Markup:
    import nh3  # noqa: PLC0415 - most processes never show a text

    clean = nh3.clean(
        html,
        tags=set(_TAGS),
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    # Named once more: Markdown makes signs of entities, such as of `&#x202e;`.
    return Markup(_named(clean))  # noqa: S704 - it is what was made for this


@cache
def _renderer() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # noqa: PLC0415 - most processes never show a text

    made = MarkdownIt("commonmark", {"html": False, "maxNesting": MOST_NESTING})
    made.enable(["table", "strikethrough"])
    made.validateLink = lambda url: _LINK.match(url) is not None  # type: ignore[method-assign]
    made.core.ruler.push("harmless", _adapt)
    made.add_render_rule("image", _image)
    made.add_render_rule("fence", _code)
    made.add_render_rule("table_open", lambda *_: _TABLE + Markup("<table>"))
    made.add_render_rule("table_close", lambda *_: Markup("</table></div>"))
    return made


def _adapt(state: Any) -> None:
    """Adapt what was parsed to the page: its directions, headings and tables, and addresses that are no links yet."""
    for token in state.tokens:
        if token.type in _DIRECTED:
            token.attrSet("dir", "auto")  # each block runs the way its own letters do
        if token.type in {"heading_open", "heading_close"}:
            # A heading of a text is none of the page, whose outline it would break (WCAG 2.2, 1.3.1).
            if token.nesting == 1:
                token.attrSet("class", f"heading {token.tag}")
            token.tag = "p"
        if style := token.attrs.pop("style", None):  # of a table's cells; inline style is refused by the page
            token.attrSet("class", str(style).removeprefix("text-align:"))
        if token.type == "inline":
            token.children = _with_links(token.children or [], type(token))


def _with_links(children: "list[Token]", make: "type[Token]") -> "list[Token]":
    """Return the parts of a line with plain addresses turned into links, but for those within links."""
    found: list[Token] = []
    depth = 0
    for child in children:
        depth += child.nesting if child.type in {"link_open", "link_close"} else 0
        if child.type == "link_open":
            child.attrSet("title", str(child.attrGet("href")))  # where it really leads
        if child.type != "text" or depth or "://" not in child.content:
            found.append(child)
            continue
        end = 0
        for match in _ADDRESS.finditer(child.content):
            address = match[0]
            found += [
                make("text", "", 0, content=child.content[end : match.start()]),
                make("link_open", "a", 1, attrs={"href": address, "title": address}),
                make("text", "", 0, content=address),
                make("link_close", "a", -1),
            ]
            end = match.end()
        found.append(make("text", "", 0, content=child.content[end:]))
    return found


def _image(_: Any, tokens: "Sequence[Token]", at: int, *__: Any) -> str:
    """Return a link in place of an image: to load one tells its server who reads this, and when."""
    address = str(tokens[at].attrGet("src"))
    words = tokens[at].content or address
    return Markup('<a href="{0}" title="{0}">image: {1}</a>').format(address, words)


def _code(_: Any, tokens: "Sequence[Token]", at: int, *__: Any) -> str:
    return f"<pre><code>{escape(tokens[at].content)}</code></pre>\n"
