"""What OAuth refuses, in its own words: a code of RFC 6749 and its kin, and a sentence for the client's developer."""

from enum import StrEnum
from typing import ClassVar

from claude_runner.errors import RunnerError


class Refusal(StrEnum):
    """The codes: RFC 6749 (sections 4.1.2.1 and 5.2), RFC 7591 (section 3.2.2), RFC 8707 (section 2)."""

    ACCESS_DENIED = "access_denied"
    INVALID_CLIENT = "invalid_client"
    INVALID_CLIENT_METADATA = "invalid_client_metadata"
    INVALID_GRANT = "invalid_grant"
    INVALID_REDIRECT_URI = "invalid_redirect_uri"
    INVALID_REQUEST = "invalid_request"
    INVALID_SCOPE = "invalid_scope"
    INVALID_TARGET = "invalid_target"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"


class OAuthError(RunnerError):
    """A request of OAuth's is refused.

    Attributes:
        refusal: Why, as clients know it.
    """

    code: ClassVar[str] = "oauth"

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal
