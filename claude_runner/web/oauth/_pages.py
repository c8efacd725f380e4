"""The pages that the owner sees: without script, in no one's frame, and sending their form nowhere else."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import FileResponse, HTMLResponse, Response

if TYPE_CHECKING:
    from jinja2 import Environment

HERE: Final = Path(__file__).parent
STYLE: Final = "/oauth/consent.css"


def page(template: str, status: int = 200, *, sends_to: str = "", **shown: object) -> HTMLResponse:
    """Return a page.

    Args:
        template: Its file.
        status: The HTTP status.
        sends_to: Where its form's answer may lead, as a source of CSP's, besides this site.
        shown: What the template shows.
    """
    text = _templates().get_template(template).render(style=STYLE, **shown)
    policy = (
        "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none';"
        f" form-action 'self' {sends_to}".rstrip()
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        # Not no-referrer: with that, a browser names the form's own origin "null" (Fetch, "append a request Origin").
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    return HTMLResponse(text, status_code=status, headers=headers)


async def style(_: object) -> Response:
    """Return the pages' style sheet."""
    headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
    return FileResponse(HERE / "consent.css", media_type="text/css", headers=headers)


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - most never see a page

    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
