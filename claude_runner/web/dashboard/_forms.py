"""What people send with forms, and what they are told afterwards."""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from claude_runner.errors import InvalidError, RunnerError

MOST_FIELDS: Final = 2_000
FORM: Final = "application/x-www-form-urlencoded"
NOTICE: Final = "notice"  # the cookie that carries what was done over the redirect
NOTICE_SECONDS: Final = 60
# Other programs of this machine, on other ports, can set cookies of localhost (RFC 6265, section 8.5): what they would
# have said here, or offered a button for, lacks this process's seal.
_KEY: Final = secrets.token_bytes(32)
REMEMBERED: Final = 2_000  # forms whose answers are known, for those that are sent twice


class NoFormError(RunnerError):
    """A request's body is no form."""

    code: ClassVar[str] = "no_form"
    status: ClassVar[int] = 415


class Form:
    """The fields of a form, as they were typed."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, otherwise: str = "") -> str:
        """Return what was typed, with the ends of lines that the rest of the program has (HTML's are CR LF)."""
        return self._values.get(name, [otherwise])[-1].replace("\r\n", "\n")

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of a field, such as those of boxes that were ticked."""
        return tuple(self._values.get(name, ()))

    def ticked(self, name: str) -> bool:
        """Tell whether a box was ticked."""
        return name in self._values

    def number(self, name: str, otherwise: int | None = None) -> int:
        """Return a whole number.

        Raises:
            InvalidError: It is none, or it is missing and there is no other.
        """
        typed = self.text(name).strip()
        if not typed and otherwise is not None:
            return otherwise
        try:
            return int(typed)
        except ValueError:
            raise InvalidError(f"{typed[:40]!r} is no whole number", field=name) from None

    def amount(self, name: str) -> float | None:
        """Return an amount, `None` where nothing was typed; raises `InvalidError` where it is no number from 0 on."""
        typed = self.text(name).strip().removeprefix("$")
        if not typed:
            return None
        try:
            value = float(typed)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e12:  # NaN is neither
            raise InvalidError(f"{typed[:40]!r} is no amount; give one such as 2.50", field=name)
        return value


async def read_form(request: Request) -> Form:
    """Return the form that was sent; its size is bounded by the site.

    Raises:
        NoFormError: The body is of another kind.
        InvalidError: It is no form, or has too many fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
    body = await request.body()
    if kind != FORM and (body or kind):
        raise NoFormError(f"send a form ({FORM}), not {kind[:80] or 'nothing'}")
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError as error:
        raise InvalidError(f"the form can't be read: {error}") from error
    return Form(pairs)


class Notice(NamedTuple):
    """What was done, said once on the next page.

    Attributes:
        text: A sentence.
        kind: `ok`, `bad` or `note`.
        action: Where a form goes that takes it back, or goes on.
        label: What its button says.
    """

    text: str
    kind: str = "ok"
    action: str = ""
    label: str = ""


def go_to(path: str, notice: Notice | None = None) -> Response:
    """Return the answer to a form that was done: the page to look at next, and what is said there."""
    answer = RedirectResponse(path, status_code=303, headers={"Cache-Control": "no-store"})
    if notice is not None:
        said = quote(json.dumps(notice))
        sealed = f"{_seal(said)}.{said}"
        answer.set_cookie(NOTICE, sealed, max_age=NOTICE_SECONDS, httponly=True, samesite="strict")
    return answer


def take_notice(request: Request) -> Notice | None:
    """Return what the last form left to be said; whoever shows it has the cookie deleted."""
    seal, _, said = request.cookies.get(NOTICE, "").partition(".")
    if not hmac.compare_digest(seal.encode(), _seal(said).encode()):
        return None
    return Notice(*json.loads(unquote(said)))


def _seal(said: str) -> str:
    """Return what shows that this process has said it."""
    return hmac.new(_KEY, said.encode(), hashlib.sha256).hexdigest()[:32]


def back_to(request: Request, otherwise: str = "/") -> str:
    """Return the path of our own page that a form was on, as its field `back` says."""
    path = request.query_params.get("back", otherwise)
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_local else otherwise


class Once:
    """Has a form that is sent twice done once: each that was rendered bears a token of its own."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, asyncio.Future[str]] = OrderedDict()

    def token(self) -> str:
        """Return a token for a form that is being rendered."""
        return secrets.token_urlsafe(12)

    async def done(self, token: str, do: Callable[[], Awaitable[str]]) -> str:
        """Do what a form asks, unless that was done already, and return where its sender goes next.

        Args:
            token: What the form bore; without one it is done each time.
            do: Does it and returns where to go; where it raises, the form may be sent again.
        """
        if not token:
            return await do()
        if (known := self._answers.get(token)) is not None:
            return await asyncio.shield(known)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        try:
            answer.set_result(await do())
        except BaseException as error:
            self._answers.pop(token, None)
            answer.set_exception(error) if isinstance(error, Exception) else answer.cancel()
            answer.exception() if not answer.cancelled() else None  # it is raised here as well
            raise
        return answer.result()
