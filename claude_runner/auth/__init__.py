"""Auth: who may use the server over the network. Owns the tables oauth_*.

The server is its own authorization server (OAuth 2.1). Nobody has access by knowing a client's id or secret: the owner
consents, and each client holds what he consented to. Tokens and secrets are kept as SHA-256 alone; an access token is a
signed JWT besides, and good only while its hash is here and its grant was not taken back.
"""

from claude_runner.auth._clients import Client, ClientRow, NewClient, Source, shown_name
from claude_runner.auth._collection import Auth
from claude_runner.auth._exchanges import CodeExchange, RefreshExchange, TokenPair
from claude_runner.auth._redirects import CLAUDE, Redirect, is_redirect, parse_redirect
from claude_runner.auth._refusals import OAuthError, Refusal
from claude_runner.auth._requests import LONGEST_STATE, ConsentRequest, WaitingRequest
from claude_runner.auth._resources import ENDPOINTS, SCOPE, canonical, resources_of
from claude_runner.auth._tokens import Access

__all__ = [
    "CLAUDE",
    "ENDPOINTS",
    "LONGEST_STATE",
    "SCOPE",
    "Access",
    "Auth",
    "Client",
    "ClientRow",
    "CodeExchange",
    "ConsentRequest",
    "NewClient",
    "OAuthError",
    "Redirect",
    "RefreshExchange",
    "Refusal",
    "Source",
    "TokenPair",
    "WaitingRequest",
    "canonical",
    "is_redirect",
    "parse_redirect",
    "resources_of",
    "shown_name",
]
