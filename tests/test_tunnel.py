"""A tunnel, where one is wanted."""

import asyncio
import sys
from pathlib import Path
from threading import Event

import pytest

from claude_runner.app import App
from claude_runner.config import Login, Settings
from claude_runner.tunnel import NgrokTunnel, Tunnel, open_tunnel
from tests.parts import logged
from tests.support import PATIENCE, alive

LOGIN = Login("alice", "correct horse")
TOKEN = "2abc_token"


class FakeTunnel:
    """A tunnel that leads nowhere."""

    public_url = "https://abc.ngrok.app/"
    closed = False

    def close(self) -> None:
        self.closed = True


def wanting(tmp_path: Path, *, login: Login | None = LOGIN) -> Settings:
    return Settings(home=tmp_path, ngrok_authtoken=TOKEN, dashboard=login)


async def test_its_url_is_used_while_it_is_open(app: App, tmp_path: Path) -> None:
    tunnel, asked = FakeTunnel(), []

    def dig(token: str, port: int) -> Tunnel:
        asked.append((token, port))
        return tunnel

    with logged() as log:
        async with open_tunnel(wanting(tmp_path), app.addresses, dig):
            await log.line("the tunnel is at https://abc.ngrok.app")
            assert await app.addresses.base() == "https://abc.ngrok.app"
            assert await app.addresses.origin("abc.ngrok.app", "https") == "https://abc.ngrok.app"
    assert asked == [(TOKEN, 8080)]
    assert tunnel.closed
    assert app.addresses.tunnel is None


async def test_none_is_opened_without_a_token(app: App, tmp_path: Path) -> None:
    def dig(_token: str, _port: int) -> Tunnel:
        raise AssertionError

    async with open_tunnel(Settings(home=tmp_path, dashboard=LOGIN), app.addresses, dig):
        assert app.addresses.tunnel is None


async def test_none_is_opened_to_a_site_without_a_login(app: App, tmp_path: Path) -> None:
    def dig(_token: str, _port: int) -> Tunnel:
        raise AssertionError

    with logged() as log:
        async with open_tunnel(wanting(tmp_path, login=None), app.addresses, dig):
            await log.line("NGROK_AUTHTOKEN needs DASHBOARD_USERNAME and DASHBOARD_PASSWORD")


async def test_its_failure_is_one_line_that_does_not_tell_the_token(app: App, tmp_path: Path) -> None:
    def dig(token: str, _port: int) -> Tunnel:
        raise OSError(f"the authtoken {token}\nis not one of ours")

    with logged() as log:
        async with open_tunnel(wanting(tmp_path), app.addresses, dig):
            line = await log.line("no tunnel")
    assert line == "no tunnel: ngrok says the authtoken [authtoken] is not one of ours"


async def test_one_that_is_still_being_fetched_does_not_hold_up_the_end(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.tunnel.CLOSE_SECONDS", 0.01)
    fetching, enough = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def dig(_token: str, _port: int) -> Tunnel:
        loop.call_soon_threadsafe(fetching.set)
        enough.wait(PATIENCE)
        return FakeTunnel()

    async with asyncio.timeout(PATIENCE / 2), open_tunnel(wanting(tmp_path), app.addresses, dig):
        await fetching.wait()
    enough.set()


STAND_IN = """#!{python}
# What pyngrok needs of ngrok: lines of its log, and its API.
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Api(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {{"name": asked["name"], "uri": "/api/tunnels/x", "public_url": "https://stand-in.ngrok.app",
                   "proto": "https", "config": {{}}, "metrics": {{}}}}
        self.send(201, answer)
    def do_GET(self):
        self.send(200, {{"tunnels": []}})
    def send(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

if "version" in sys.argv or "--version" in sys.argv:
    print("ngrok version 3.30.0")
    sys.exit()
server = HTTPServer(("127.0.0.1", 0), Api)
for line in ('msg="starting web service" obj=web addr=127.0.0.1:%d' % server.server_port,
             'msg="tunnel session started" obj=tunnels.session', 'msg="client session established" obj=csess'):
    print("t=2026-11-24T00:00:00+0000 lvl=info " + line, flush=True)
server.serve_forever()
"""


def test_pyngrok_drives_a_program_and_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = tmp_path / "ngrok"
    program.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o700)
    tunnel = NgrokTunnel(TOKEN, 8080, program)
    from pyngrok import process  # noqa: PLC0415 - only here

    pid = process.get_process(tunnel._conf).proc.pid
    try:
        assert tunnel.public_url == "https://stand-in.ngrok.app"
        assert alive(pid)
    finally:
        tunnel.close()
    assert not alive(pid)


REFUSED = """#!{python}
import sys
if "version" in sys.argv or "--version" in sys.argv:
    print("ngrok version 3.30.0")
    sys.exit()
print('t=2026-11-24T00:00:00+0000 lvl=eror msg="failed to auth" err="Your authtoken: {token}"', flush=True)
sys.exit(1)
"""


def test_what_ngrok_says_of_the_token_is_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = tmp_path / "ngrok"
    program.write_text(REFUSED.format(python=sys.executable, token=TOKEN), encoding="utf-8")
    program.chmod(0o700)
    with pytest.raises(Exception, match="Your authtoken"):  # which the one line that tells of it leaves out
        NgrokTunnel(TOKEN, 8080, program)
    assert TOKEN not in caplog.text
