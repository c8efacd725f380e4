"""The real nginx as it is deployed, before the real server, and before one that shows what it gets."""

import asyncio
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport

from claude_runner.config import Settings, SystemClock
from claude_runner.credentials import Sealing
from claude_runner.db import open_database
from claude_runner.hub import Hub
from claude_runner.webhooks import WebhookDraft, Webhooks
from tests.conftest import need
from tests.served import Served, served
from tests.sites import free_port
from tests.support import PATIENCE, content

DEPLOY: Final = Path(__file__).parent.parent / "deploy"
MAIN: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Front:
    """nginx, installed into a folder, and where it listens."""

    folder: Path
    plain: int
    port: int

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def trusted(self) -> ssl.SSLContext:
        """What trusts the certificate that the installation has made."""
        return ssl.create_default_context(cafile=self.folder / "root/etc/mcpserver/tls/fullchain.pem")

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.origin, verify=self.trusted, trust_env=False, **options)

    def log(self, name: str) -> str:
        return (self.folder / f"log/mcpserver.{name}.log").read_text()

    def command(self, *more: str) -> list[str]:
        return ["nginx", "-p", str(self.folder), "-e", "stderr", "-c", str(self.folder / "nginx.conf"), *more]


def installed(folder: Path, upstream: int) -> Front:
    """Install the configuration for localhost, with ports and folders that anybody may have."""
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        need("nginx or openssl is not installed")
    root, front = folder / "root", Front(folder, free_port(), free_port())
    command = [
        str(DEPLOY / "deploy.sh"),
        "--domain",
        "localhost",
        "--repository",
        "https://example.org/x.git",
    ]
    subprocess.run(command, env={**os.environ, "DESTDIR": str(root)}, capture_output=True, check=True)
    text = (root / "etc/nginx/sites-available/mcpserver").read_text()
    ipv6 = "[::1]" if _has_ipv6() else "127.0.0.2"
    for old, new in (
        ("listen [::]:80", f"listen {ipv6}:{front.plain}"),
        ("listen [::]:443", f"listen {ipv6}:{front.port}"),
        ("listen 80", f"listen 127.0.0.1:{front.plain}"),
        ("listen 443", f"listen 127.0.0.1:{front.port}"),
        ("https://localhost$", f"https://localhost:{front.port}$"),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
        ("/etc/mcpserver", f"{root}/etc/mcpserver"),
        ("/var/log/nginx", f"{folder}/log"),
        ("/var/www", f"{root}/var/www"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "log").mkdir()
    (folder / "site.conf").write_text(text)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    return front


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@contextmanager
def serving(folder: Path, upstream: int) -> Iterator[Front]:
    """Have nginx serve before a port."""
    front = installed(folder, upstream)
    with subprocess.Popen(front.command(), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("using the" in line for line in process.stderr), "nginx did not start"
            drained = threading.Thread(target=process.stderr.read, daemon=True)
            drained.start()
            _until_it_listens(front.port, process)
            yield front
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def _until_it_listens(port: int, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None:  # its sockets listen before its first line, so this is over at once
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError("nginx has ended")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """nginx before a server that answers with the headers that it was sent, and in drops where it is asked for them."""
    came = threading.Event()

    class Mirror(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/drops":
                self.send_response(200)
                self.send_header("Content-Length", "10")
                self.end_headers()
                self.wfile.write(b"first")
                came.wait(PATIENCE)
                self.wfile.write(b"later")
                return
            if self.path == "/came":
                came.set()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(self.headers.items()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library calls it so

        def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as behind:
        thread = threading.Thread(target=behind.serve_forever, args=(0.05,))
        thread.start()
        try:
            with serving(tmp_path_factory.mktemp("nginx"), behind.server_port) as front:
                yield front
        finally:
            behind.shutdown()
            thread.join()


def test_nginx_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    done = subprocess.run(
        installed(tmp_path, 8080).command("-t"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_what_a_client_says_of_its_origin_is_not_passed_on(mirror: Front) -> None:
    lies = {
        "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=192.0.2.1", "X-Real-IP": "192.0.2.1", "Authorization": "Bearer mine",
    }  # fmt: skip
    with mirror.client() as client:
        sent = httpx2.Headers(client.get("/mcp", headers=lies).json())
    told = {name: sent.get_list(name) for name in (*lies, "Host", "Connection")}
    assert told == {
        "Host": [f"localhost:{mirror.port}"],
        "X-Forwarded-For": ["127.0.0.1"],
        "X-Forwarded-Proto": ["https"],
        "X-Forwarded-Host": [],
        "Forwarded": [],
        "X-Real-IP": [],
        "Connection": ["close"] if told["Connection"] else [],
        "Authorization": ["Bearer mine"],
    }


def test_answers_carry_each_security_header_once(mirror: Front) -> None:
    with mirror.client() as client:
        headers = client.get("/").headers
    assert headers.get_list("Strict-Transport-Security") == ["max-age=31536000"]
    assert headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert "Retry-After" not in headers


def test_nothing_is_held_back_on_its_way_to_the_client(mirror: Front) -> None:
    with mirror.client(timeout=PATIENCE) as client, client.stream("GET", "/drops") as stream:
        pieces = stream.iter_bytes()
        assert next(pieces) == b"first"
        client.get("/came")
        assert b"".join(pieces) == b"later"


def test_plain_http_is_sent_on_to_https_but_for_certificates(mirror: Front) -> None:
    with httpx2.Client(base_url=f"http://localhost:{mirror.plain}", trust_env=False) as client:
        answer = client.post("/mcp?a=b")
        assert (answer.status_code, answer.headers["Location"]) == (308, f"{mirror.origin}/mcp?a=b")
        challenge = mirror.folder / "root/var/www/letsencrypt/.well-known/acme-challenge/abc"
        challenge.parent.mkdir(parents=True)
        challenge.write_text("proof")
        assert client.get("/.well-known/acme-challenge/abc").text == "proof"


def test_other_names_get_no_answer(mirror: Front) -> None:
    with (
        httpx2.Client(verify=False, trust_env=False) as client,
        pytest.raises(httpx2.ConnectError, match="unrecognized name"),
    ):
        client.get(f"https://127.0.0.1:{mirror.port}/")
    with httpx2.Client(trust_env=False) as client, pytest.raises(httpx2.RemoteProtocolError):
        client.get(f"http://127.0.0.1:{mirror.plain}/")


def test_too_many_at_once_are_told_when_to_come_again_and_no_log_has_the_token(mirror: Front) -> None:
    with mirror.client() as client:
        answers = [client.post("/webhook/s3cr3t?key=t0ken") for _ in range(200)]
        oauth = [client.post("/oauth/token?code=c0de").status_code for _ in range(60)]
        assert client.get("/health").status_code == 200
    assert answers[0].status_code == 200
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 429} == {"1"}
    assert 429 in oauth
    assert "POST /webhook/- HTTP/1.1 429" in mirror.log("access")
    assert "POST /oauth/token HTTP/1.1 429" in mirror.log("access")
    logged = mirror.log("access") + mirror.log("error")
    assert not {"s3cr3t", "t0ken"} & set(logged.replace("/", " ").replace("?", " ").replace("=", " ").split())


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Served, str]]:
    """nginx before the real server, and the path of a webhook."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    token = asyncio.run(_new_webhook(Settings(home=home)))
    with serving(tmp_path_factory.mktemp("nginx"), port) as front:
        settled = {
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",  # what is started by the webhook is of no interest here
            "ANTHROPIC_API_KEY": "none",
            "PUBLIC_URL": front.origin,
            "DASHBOARD_USERNAME": "owner",
            "DASHBOARD_PASSWORD": "a password of the owner",
        }
        with served(home, port, **settled) as server:
            yield front, server, f"/webhook/{token}"


async def _new_webhook(settings: Settings) -> str | None:
    async with open_database(settings.database_path) as database:
        webhooks = Webhooks(database, Hub(), Sealing(settings))
        return (await webhooks.add(WebhookDraft("posts", "look at {{payload}}"), SystemClock().now())).token


@pytest.mark.parametrize("kind", [SSETransport, StreamableHttpTransport])
async def test_clients_of_mcp_work_through_it(
    deployed: tuple[Front, Served, str], kind: type[SSETransport] | type[StreamableHttpTransport]
) -> None:
    front, server, _ = deployed
    path = "/sse" if kind is SSETransport else "/mcp"
    transport = kind(front.origin + path, headers=server.headers, verify=front.trusted)
    async with Client(transport) as client:
        job = {"name": "brief", "cron": "0 9 * * 1-5", "prompt": "say hello"}
        made = content(await client.call_tool("create_job", job))
        assert made["id"] in [job["id"] for job in content(await client.call_tool("list_jobs"))["jobs"]]


def test_events_come_through_as_they_happen(deployed: tuple[Front, Served, str]) -> None:
    front, server, _ = deployed
    with (
        front.client(timeout=PATIENCE) as client,
        client.stream("GET", "/sse", headers=server.headers) as stream,
    ):
        assert stream.status_code == 200
        first = next(
            line for line in stream.iter_lines() if line
        )  # the stream stays open: nothing more comes
    assert first == "event: endpoint"


def test_the_server_believes_what_nginx_says_of_the_client(deployed: tuple[Front, Served, str]) -> None:
    front, _, _ = deployed
    with front.client() as client:
        about = client.get("/.well-known/oauth-authorization-server").json()
        refused = client.get("/mcp", headers={"X-Forwarded-Proto": "http"})
    assert about["issuer"].rstrip("/") == front.origin
    assert refused.status_code == 401
    assert f'resource_metadata="{front.origin}/' in refused.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("size", "status", "by_server"), [(1000, 202, True), (2**20 + 1, 413, True), (2**21 + 1, 413, False)]
)
def test_what_is_too_large_for_a_webhook_is_refused_by_the_server_itself_where_it_can(
    deployed: tuple[Front, Served, str], size: int, status: int, by_server: bool
) -> None:
    front, _, path = deployed
    with front.client(timeout=PATIENCE) as client:
        answer = client.post(
            path, content=b'"' + b"x" * (size - 2) + b'"', headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("application/json") is by_server


def test_bodies_of_mcp_may_be_larger(deployed: tuple[Front, Served, str]) -> None:
    front, server, _ = deployed
    with front.client(timeout=PATIENCE, headers=server.headers) as client:
        for size, status in ((3 * 2**20, {400}), (2**22 + 2**19, {413})):
            answer = client.post(
                "/mcp", content=b"x" * size, headers={"Content-Type": "application/json", "Accept": "*/*"}
            )
            assert answer.status_code in status, answer.text[:200]
            assert answer.headers["Content-Type"].startswith("application/json")
