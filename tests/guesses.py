"""What might be sent to a site: made up by hypothesis, of the words that the site's protocols have.

A text of capitals (`TOKEN`, `CLIENT`, `SESSION`, …) stands for what a stranger can't guess; who sends it fills it in.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from hypothesis import strategies as st

ORIGIN: Final = "http://localhost:8080"
CALLBACK: Final = "https://app.example.com/callback"
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

METHODS: Final = (
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "PUT",
    "DELETE",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "PROPFIND",
)
NAMES: Final = (
    *(
        "client_id",
        "client_secret",
        "code",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "token",
    ),
    *(
        "grant_type",
        "redirect_uri",
        "refresh_token",
        "request",
        "resource",
        "response_type",
        "scope",
        "state",
    ),
    *(
        "redirect_uris",
        "client_name",
        "token_endpoint_auth_method",
        "access_token",
        "answer",
        "wait",
        "session_id",
    ),
    *("jsonrpc", "id", "method", "params", "name", "arguments", "_meta", "uri", "cursor", "payload", "q", ""),
)
WORDS: Final = (
    *(
        "",
        "0",
        "1",
        "-1",
        "9" * 5_000,
        "1e999",
        "true",
        "null",
        "code",
        "S256",
        "plain",
        "none",
        "allow",
        "mcp",
    ),
    *(
        "authorization_code",
        "refresh_token",
        "A" * 43,
        CALLBACK,
        ORIGIN,
        f"{ORIGIN}/mcp",
        "http://[",
        "https://[::1]:99999/",
    ),
    *(
        "http://localhost:1/x",
        "javascript:alert(1)",
        "\x00",
        "\r\nX-Evil: 1",
        "\ud800",
        "\u2028",
        "\U0001f40e",
        "%00",
        "%zz",
    ),
    *(
        "../" * 9,
        "..%2f..",
        "{{payload}}",
        "' OR 1=1 --",
        "<script>",
        "a" * 3_000,
        "CLIENT",
        "2025-11-25",
        "2026-07-28",
    ),
)
CALLS: Final = (
    *("initialize", "ping", "tools/list", "tools/call", "resources/list", "resources/read", "prompts/get"),
    *("notifications/initialized", "notifications/cancelled", "completion/complete", "server/discover"),
    *("logging/setLevel", "resources/subscribe", "nothing/such", ""),
)
TOOLS: Final = (
    "list_jobs",
    "get_job",
    "list_runs",
    "get_run",
    "list_webhooks",
    "get_webhook",
    "create_job",
    "nothing",
)
TYPES: Final = (
    *(
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "",
    ),
    *(
        "application/json; charset=utf-16",
        "application/json; charset=\xff",
        "APPLICATION/JSON",
        "a" * 500,
        ";;;",
        "text/html",
    ),
)
PLAUSIBLE: Final = (
    *(
        ("accept", value)
        for value in ("text/html", "application/json, text/event-stream", "text/event-stream", "\xff", "")
    ),
    *(
        ("authorization", value)
        for value in ("Bearer TOKEN", "Bearer x.y.z", "Bearer", "Basic YTpi", "Basic \xff", "Digest x")
    ),
    *(("mcp-protocol-version", value) for value in ("2025-11-25", "2026-07-28", "1", "\xff")),
    *(("mcp-session-id", value) for value in ("x", "\xff", "a" * 900, "MCPSESSION")),
    *(("mcp-method", value) for value in ("tools/call", "initialize", "\xff")),
    ("mcp-name", "list_jobs"),
    ("last-event-id", "1"),
    *(
        ("origin", value)
        for value in (ORIGIN, "https://claude.ai", "null", "http://[", "https://evil.example", "\xff")
    ),
    *(("sec-fetch-site", value) for value in ("same-origin", "cross-site")),
    *(("cookie", value) for value in ("consent=" + "a" * 43, "=;;=", "\xff", '"')),
    *(("x-forwarded-for", value) for value in ("1.2.3.4", "\xff")),
    *(("content-encoding", value) for value in ("gzip", "identity")),
    *(("content-length", value) for value in ("0", "-1", "x", "99999999999999999999")),
    *(("idempotency-key", value) for value in ("1", "\xff" * 300)),
    *(("x-hub-signature-256", value) for value in ("sha256=00", "\xff")),
    *(
        ("x-github-delivery", "1"),
        ("webhook-id", "1"),
        ("webhook-timestamp", "x"),
        ("stripe-signature", "t=x,v1="),
    ),
    *(
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x" * 200),
        ("expect", "100-continue"),
    ),
    *(("host", value) for value in ("evil.example", "", "[", "localhost:x", "\xff")),
)

words = st.sampled_from(WORDS) | st.text(max_size=20)
names = st.sampled_from(NAMES) | st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
calls = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(CALLS)},
    optional={
        "id": st.integers(0, 9) | words | st.none(),
        "params": st.fixed_dictionaries(
            {"name": st.sampled_from(TOOLS), "arguments": st.dictionaries(names, values, max_size=2)},
            optional={
                "_meta": st.dictionaries(
                    st.sampled_from(
                        [
                            "io.modelcontextprotocol/protocolVersion",
                            "io.modelcontextprotocol/clientCapabilities",
                            "progressToken",
                        ]
                    ),
                    values,
                ),
                "protocolVersion": words,
                "capabilities": values,
                "clientInfo": values,
                "uri": st.sampled_from(["run://x/output", "job://x", "nothing://", "", "\x00"]),
            },
        )
        | values,
    },
)
clients = st.fixed_dictionaries(
    {"redirect_uris": st.just([CALLBACK]) | st.lists(words, max_size=3) | values},
    optional={
        "client_name": words,
        "token_endpoint_auth_method": st.sampled_from(["none", "client_secret_post"]) | words,
        "grant_types": st.just(["authorization_code"]) | values,
        "scope": values,
        "x": values,
    },
)
fields = st.lists(st.tuples(names, words), max_size=9)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def form(given: list[tuple[str, str]]) -> bytes:
    return "&".join(f"{quoted(name)}={quoted(value)}" for name, value in given).encode("latin-1", "replace")


def quoted(text: str) -> str:
    return quote(text, safe="%/", errors="replace")


json_bodies = st.builds(_json, values | calls | clients | st.lists(calls, max_size=2))
bodies = st.one_of(
    st.just(("", b"")),
    st.tuples(st.just(JSON), json_bodies),
    st.tuples(st.just(FORM), st.builds(form, fields)),
    st.tuples(
        st.sampled_from(TYPES),
        json_bodies
        | st.builds(form, fields)
        | st.binary(max_size=60)
        | st.sampled_from(
            [
                *(
                    b"[" * 50_000,
                    b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
                    b'"\\ud800"',
                    b"\xef\xbb\xbf{}",
                    b"\xff\xfe{\x00}\x00",
                ),
                *(
                    b'{"redirect_uris":["https://a.example/"],"x":' + b"1" * 9_000 + b"}",
                    b"[NaN,Infinity,-0.0,1e400]",
                ),
                *(
                    b"a=1&a=2&" * 900,
                    b"%ff=%00",
                    b"--x\r\nContent-Disposition: form-data\r\n\r\n--x--",
                    b"0" * 70_000,
                ),
            ]
        ),
    ),
)
queries = (
    st.builds(form, fields)
    | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30).map(
        str.encode
    )  # no parser lets others in
    | st.just(b"")
)

# For each kind of route what it is for, so that not all guesses end at its door.
ASKED: Final = {
    "response_type": st.sampled_from(["code", "token", ""]),
    "client_id": st.sampled_from(
        ["CLIENT", "CLIENT", "CLIENT", "x", "https://127.0.0.1/client.json", "http://localhost/x", ""]
    ),
    "redirect_uri": st.sampled_from([CALLBACK, CALLBACK + "?a=b", CALLBACK + "/", "http://[", ""]),
    "code_challenge": st.sampled_from(["A" * 43, "A" * 42, ""]),
    "code_challenge_method": st.sampled_from(["S256", "plain"]),
    "state": words,
    "scope": st.sampled_from(["mcp", "mcp admin", "", "\x00"]),
    "resource": st.sampled_from(
        [ORIGIN, f"{ORIGIN}/mcp", f"{ORIGIN}/mcp/", "https://evil.example", "http://["]
    ),
    "request": st.sampled_from(["SEALED", "SEALEDx", "", "x.y.z"]),
    "token": st.sampled_from(["", "x", "TOKEN"]),
    "answer": st.sampled_from(["allow", "deny", ""]),
}
EXCHANGED: Final = {
    "grant_type": st.sampled_from(["authorization_code", "refresh_token", "client_credentials", ""]),
    "client_id": ASKED["client_id"],
    "client_secret": st.sampled_from(["", "x", "\ud800"]),
    "code": words,
    "code_verifier": st.sampled_from(["A" * 43, "", "é" * 43]),
    "redirect_uri": ASKED["redirect_uri"],
    "refresh_token": words,
    "token": st.sampled_from(["", "x", "x.y.z", "eyJhbGciOiJub25lIn0.e30."]),
    "token_type_hint": words,
    "scope": ASKED["scope"],
    "resource": ASKED["resource"],
}


@dataclass(frozen=True)
class Guess:
    """A request; where it is let in it brings what its route asks of a client or of the owner."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[str, str]]
    body: bytes
    let_in: bool


def guesses(paths: tuple[str, ...], doors: "dict[str, str]") -> st.SearchStrategy[Guess]:
    """Return requests to these paths.

    Args:
        paths: May have parameters, such as `/webhook/{token}`.
        doors: For some of the paths the kind of what is sent there: `asks`, `form`, `client`, `call` or `hook`.
    """

    @st.composite
    def anything(draw: st.DrawFn) -> Guess:
        path = re.sub(r"\{[^}]*\}", lambda _: draw(words), draw(st.sampled_from(paths)))
        altered = ("{}/", "/{}", "{}/x", "{}%00", "{}/../health", "{};x", "{}\x00", "{}\n")
        path = draw(st.sampled_from(("{}",) * 12 + altered)).replace("{}", path)
        kind, body = draw(bodies)
        headers = [*draw(st.lists(st.sampled_from(PLAUSIBLE), max_size=5)), ("content-type", kind)]
        method = draw(st.sampled_from((*METHODS, "GET", "POST", "POST", "POST")))
        return Guess(method, path, draw(queries), headers, body, draw(st.booleans()))

    @st.composite
    def fitting(draw: st.DrawFn) -> Guess:
        path, kind = draw(st.sampled_from(sorted(doors.items())))
        headers = draw(st.lists(st.sampled_from(PLAUSIBLE), max_size=2))
        if kind == "asks":
            asked = list(draw(st.fixed_dictionaries(ASKED)).items())
            missing = draw(st.sets(st.integers(0, len(asked) - 1), max_size=3))
            query = form([pair for at, pair in enumerate(asked) if at not in missing])
            if draw(st.booleans()):
                return Guess("GET", path, query, headers, b"", let_in=True)
            posted = [*headers, ("content-type", FORM), ("sec-fetch-site", "same-origin")]
            return Guess("POST", path, b"", posted, query, let_in=True)
        if kind == "form":
            given = draw(st.fixed_dictionaries({}, optional=EXCHANGED))
            return Guess(
                "POST", path, b"", [*headers, ("content-type", FORM)], form(list(given.items())), let_in=False
            )
        if kind == "client":
            return Guess(
                "POST",
                path,
                b"",
                [*headers, ("content-type", JSON)],
                draw(st.builds(_json, clients)),
                let_in=False,
            )
        if kind == "call":
            accept = [("accept", "application/json, text/event-stream"), ("content-type", JSON)]
            query = draw(st.sampled_from([b"", b"session_id=SESSION"]))
            method = draw(st.sampled_from(["POST", "POST", "POST", "GET", "DELETE"]))
            return Guess(method, path, query, [*accept, *headers], draw(st.builds(_json, calls)), let_in=True)
        kind, body = draw(bodies)
        query = draw(st.sampled_from([b"", b"wait=1", b"wait=x", b"wait=-1", b"wait=" + b"9" * 400]))
        return Guess("POST", path, query, [*headers, ("content-type", kind)], body, let_in=False)

    return anything() | fitting()
