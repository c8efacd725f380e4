"""Makes pages of templates: the whole of one, or those parts of it that an open page asks for again.

A part is a block of the page's template whose name is `live_` and the id of the element in it. A page that is open
asks for the parts that have changed by the header `X-Live`, with their ids.
"""

import gzip
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from claude_runner import __version__
from claude_runner.app import App
from claude_runner.errors import InvalidError, UnavailableError
from claude_runner.schedule import local_timezone
from claude_runner.web.dashboard import _charts, _words
from claude_runner.web.dashboard._assets import Assets, takes_gzip
from claude_runner.web.dashboard._forms import NOTICE, Once, take_notice
from claude_runner.web.dashboard._visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment, Template

HERE: Final = Path(__file__).parent
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types live"
)
SECURE: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with that, a browser names a form's own origin "null" (Fetch, "append a request Origin").
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LIVE: Final = "x-live"
THEMES: Final = frozenset({"light", "dark"})


class Pages:
    """Renders the pages of one application.

    Attributes:
        app: Whose.
        once: Knows the forms that were sent already.
        assets: Style sheets and scripts.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.once = Once()
        self.assets = Assets()

    async def zone(self) -> ZoneInfo:
        """Return the owner's time zone; the machine's where the store can't be read, so that a page can say so."""
        try:
            chosen = (await self.app.stored.owned()).timezone
        except UnavailableError:
            chosen = None
        return ZoneInfo(chosen or local_timezone())

    async def page(self, request: Request, template: str, status: int = 200, /, **shown: Any) -> Response:
        """Return a page, or the parts of it that were asked for.

        Args:
            request: What it answers.
            template: Its file.
            status: The HTTP status.
            shown: What the template shows. A part's template sees only what the page's handler gives; see `wants`.
        """
        made = self._templates.get_template(template)
        now, zone = self.app.clock.now(), await self.zone()
        context = self._common(request, now, zone) | shown
        parts = live_parts(request)
        if parts is None:
            answer = HTMLResponse(
                _packed(request, made.render(context)), status_code=status, headers=_headers(request)
            )
            if context["notice"] is not None:
                answer.delete_cookie(NOTICE, httponly=True, samesite="strict")
            return answer
        return HTMLResponse(
            _packed(request, _blocks(made, parts, context)), status_code=status, headers=_headers(request)
        )

    async def fragment(self, template: str, block: str, /, **shown: Any) -> str:
        """Return one block of a template, such as an entry that is added to an open page."""
        made = self._templates.get_template(template)
        context = self._tools(self.app.clock.now(), await self.zone()) | shown
        return "".join(made.blocks[block](made.new_context(context)))

    def _common(self, request: Request, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
        theme = request.cookies.get("theme", "")
        path = f"/{request.url.path.lstrip('/')}"  # a link to //elsewhere would lead there
        return self._tools(now, zone) | {
            "path": path,
            "here": path + (f"?{request.url.query}" if request.url.query else ""),
            "query": request.query_params,
            "theme": theme if theme in THEMES else "",
            "notice": take_notice(request),
            "once": self.once.token(),
            "seen": request.state.seen,
            "rehearsing": self.app.settings.rehearsal,
            "version": __version__,
        }

    def _tools(self, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
        """Return the functions that need to know the time."""
        return {
            "now": now,
            "zone": zone,
            "ago": lambda at: _words.time_tag(at, now, zone),
            "at_clock": lambda at: _words.time_tag(at, now, zone, as_clock=True),
            "exact": lambda at: _words.exact(at, zone),
        }

    @cached_property
    def _templates(self) -> "Environment":
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - most never see a page

        made = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            extensions=["jinja2.ext.do"],
        )
        made.filters |= {
            "money": _words.money,
            "count": _words.count,
            "short": _words.short_count,
            "span": _words.span,
            "percent": _words.percent,
            "plain": _words.plain,
            "visible": visible,
            "path": lambda text: quote(str(text), safe=""),
            "with_query": with_query,
        }
        made.globals |= {"asset": self.assets.url, "strip": _charts.strip}
        return made


def live_parts(request: Request) -> list[str] | None:
    """Return the ids of the parts that an open page asks for, `None` where the whole page is asked for."""
    asked = request.headers.get(LIVE)
    return None if asked is None else list(dict.fromkeys(asked.split()))


def wants(request: Request, *parts: str) -> bool:
    """Tell whether one of these parts is asked for, alone or with the whole page."""
    asked = live_parts(request)
    return asked is None or any(part in asked for part in parts)


def with_query(path: str, /, **values: object) -> str:
    """Return a path with a query of the values that are not empty."""
    kept = {name: value for name, value in values.items() if value not in {None, ""}}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path


def _blocks(template: "Template", parts: list[str], context: dict[str, Any]) -> str:
    made: list[str] = []
    for part in parts:
        block = template.blocks.get(f"live_{part.replace('-', '_')}")
        if block is None:
            raise InvalidError(f"this page has no part {part[:60]!r}")
        made += block(template.new_context(context))
    return "".join(made)


def _headers(request: Request) -> dict[str, str]:
    packed = {"Content-Encoding": "gzip"} if _is_packed(request) else {}
    return SECURE | packed | {"Vary": "Accept-Encoding, Cookie, X-Live"}


def _packed(request: Request, text: str) -> bytes:
    content = text.encode("utf-8", "replace")
    return gzip.compress(content, 3, mtime=0) if _is_packed(request) else content


def _is_packed(request: Request) -> bool:
    """Tell whether a page is compressed: not if another site asks, which could guess at it by the length (BREACH)."""
    return takes_gzip(request) and request.headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
