"""The parameters of a request: none twice, none empty, and not more than anyone needs (RFC 6749, section 3.1)."""

from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from claude_runner.auth import OAuthError, Refusal
from claude_runner.web._bodies import read_body

LARGEST: Final = 32 * 2**10  # bytes of a form
MOST: Final = 50

Parameters = dict[str, str]


def query_of(request: Request) -> Parameters:
    """Return the parameters of a request's address.

    Raises:
        OAuthError: One is there twice, or they can't be read.
    """
    query: bytes = request.scope["query_string"]
    return _read(query)


async def form_of(request: Request) -> Parameters:
    """Return the parameters of a request's form, which alone may carry what is secret.

    Raises:
        OAuthError: It is no form, or the address has parameters.
        TooLargeError: It is too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().casefold() != (
        "application/x-www-form-urlencoded"
    ):
        raise OAuthError(
            Refusal.INVALID_REQUEST, "send a form: Content-Type application/x-www-form-urlencoded"
        )
    if request.scope["query_string"]:
        raise OAuthError(Refusal.INVALID_REQUEST, "send parameters in the body, not in the address")
    return _read(await read_body(request.scope, request.receive, LARGEST))


def _read(encoded: bytes) -> Parameters:
    try:
        pairs = parse_qsl(
            encoded.decode("ascii"), keep_blank_values=True, max_num_fields=MOST, errors="strict"
        )
    except ValueError as error:
        raise OAuthError(Refusal.INVALID_REQUEST, "the parameters can't be read") from error
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise OAuthError(Refusal.INVALID_REQUEST, "a parameter is there twice")
    return {name: value for name, value in pairs if value}
