import os
import signal
import struct
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastmcp import Client
from mcp_types import ImageContent
from starlette.requests import Request
from starlette.responses import Response

from tests.conftest import need
from tests.shipped import PLAYWRIGHT, StandIn, answered, open_server, open_stand_in, refused
from tests.sites import free_port
from tests.support import PATIENCE

Server = Client[Any]

PAGE = """<!doctype html><title>Shop</title><style>body { margin: 0 }</style>
<h1>Order</h1>
<form action="/done"><label>Name <input name="name"></label>
<label>Size <select name="size"><option value="s">Small</option><option value="l">Large</option></select></label>
<button>Order now</button></form>
<p id="late"></p><button id="hidden" hidden>Secret</button>
<a href="/next" target="_blank">In a new page</a> <a id="file" href="file:///etc/passwd">File</a>
<script>setTimeout(() => { late.textContent = "Here at last" }, 200)</script>
<script>document.querySelector("h1").onclick = () => { alert("Is somebody there?") }</script>
<div style="height: 20000px"></div>"""


@pytest.fixture(scope="module")
async def site() -> AsyncIterator[StandIn]:
    async with open_stand_in() as site:
        yield site


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with open_server(PLAYWRIGHT, tmp_path_factory.mktemp("browser")) as server:
        problem = await server.call_tool("navigate", {"url": "about:blank"}, raise_on_error=False)
        if problem.is_error:
            need(str(problem.content))
        yield server


@pytest.fixture
async def shop(server: Server, site: StandIn) -> Server:
    """The server with the shop's page open."""
    site.answers(PAGE, content_type="text/html")
    await answered(server, "navigate", url=site.url)
    return server


def size(picture: bytes) -> tuple[int, ...]:
    """The width and height of a PNG."""
    assert picture.startswith(b"\x89PNG")
    return struct.unpack(">II", picture[16:24])


async def picture_of(server: Server, **arguments: object) -> bytes:
    [image] = (await server.call_tool("screenshot", arguments)).content
    assert isinstance(image, ImageContent)
    assert image.mime_type == "image/png"
    return b64decode(image.data)


def browsers(marker: Path) -> list[psutil.Process]:
    """The processes of the browser that a server with this temporary folder has started."""
    running = psutil.process_iter(["cmdline"])
    return [one for one in running if any(str(marker) in word for word in one.info["cmdline"] or ())]


async def test_the_tools_are_there_and_described_without_a_browser(tmp_path: Path) -> None:
    async with open_server(PLAYWRIGHT, tmp_path, CHROMIUM_PATH="/nowhere/chromium") as server:
        tools = {tool.name: tool for tool in await server.list_tools()}
        assert set(tools) == {
            "navigate", "click", "fill", "select_option", "wait_for", "get_text", "snapshot", "screenshot", "close",
        }  # fmt: skip
        for tool in tools.values():
            assert all(schema.get("description") for schema in tool.input_schema["properties"].values())
        sentence = await refused(server, "navigate", url="about:blank")
    assert sentence == "CHROMIUM_PATH is '/nowhere/chromium', and there is no such program"


async def test_a_machine_without_a_browser_is_told_how_to_get_one(tmp_path: Path) -> None:
    async with open_server(
        PLAYWRIGHT, tmp_path, PATH="/nowhere", PLAYWRIGHT_BROWSERS_PATH="/nowhere"
    ) as server:
        sentence = await refused(server, "navigate", url="about:blank")
    assert "no browser is installed" in sentence
    assert "apt-get install chromium" in sentence
    assert "playwright install chromium" in sentence


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ("No usable sandbox!", "Switch them on, or set CHROMIUM_SANDBOX of the playwright server to off"),
        (
            "libnss3.so: cannot open shared object file",
            "did not start: libnss3.so: cannot open shared object file",
        ),
    ],
)
async def test_a_browser_that_does_not_start_is_told_of(tmp_path: Path, says: str, sentence: str) -> None:
    program = tmp_path / "chromium"
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    async with open_server(PLAYWRIGHT, tmp_path, CHROMIUM_PATH=str(program)) as server:
        assert sentence in await refused(server, "navigate", url="about:blank")


async def test_a_page_is_opened_read_filled_in_and_sent(shop: Server, site: StandIn) -> None:
    tree = await answered(shop, "snapshot")
    assert 'heading "Order" [level=1]' in tree
    assert "Secret" not in tree
    [ref] = [
        line.partition("[ref=")[2].partition("]")[0] for line in tree.splitlines() if '"Order now"' in line
    ]
    await answered(shop, "fill", selector='role=textbox[name="Name"]', text="Ann")
    assert await answered(shop, "select_option", selector="select", options="Large") == ["l"]
    view = await answered(shop, "click", selector=f"aria-ref={ref}")
    assert view["url"] == f"{site.url}/done?name=Ann&size=l"
    assert "/done" in {request.url.path for request, _ in site.requests}


async def test_enter_sends_a_form(shop: Server, site: StandIn) -> None:
    await answered(shop, "fill", selector="[name=name]", text="Bob", submit=True)
    view = await answered(shop, "wait_for", text="Here at last")
    assert view["url"] == f"{site.url}/done?name=Bob&size=s"


async def test_the_answer_of_the_web_server_is_told(server: Server, site: StandIn) -> None:
    site.answers("<title>Gone</title>", 404, content_type="text/html")
    assert await answered(server, "navigate", url=site.url) == {
        "url": f"{site.url}/", "title": "Gone", "status": 404,
    }  # fmt: skip


async def test_what_comes_late_is_waited_for(shop: Server) -> None:
    await answered(shop, "wait_for", text="Here at last")
    assert await answered(shop, "get_text", selector="#late") == "Here at last"
    sentence = await refused(shop, "wait_for", selector="h1", state="hidden", seconds=0.3)
    assert "`h1` is there, but that could not be done within 0.3 seconds" in sentence


async def test_a_page_that_a_link_opens_is_the_page(shop: Server, site: StandIn) -> None:
    await answered(shop, "click", selector="text=In a new page")
    view = await answered(shop, "wait_for", text="Here at last")
    assert view["url"] == f"{site.url}/next"


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("click", {"selector": "text=Nowhere"}, "matched `text=Nowhere` within 0.3 seconds; take a snapshot"),
        ("click", {"selector": "label"}, "`label` matches 2 elements, and it must be one: <label>"),
        ("click", {"selector": "#hidden"}, "could not be done within 0.3 seconds: element is not visible"),
        ("click", {"selector": "[["}, "that can't be done: Locator.click: Unexpected token"),
        ("select_option", {"selector": "select", "options": "Huge"}, "did not find some options"),
        ("fill", {"selector": "h1", "text": "x"}, "Element is not an <input>"),
        ("wait_for", {}, "give either a selector or a text"),
    ],
)
async def test_what_cannot_be_done_is_told_in_words(
    shop: Server, tool: str, arguments: dict[str, object], sentence: str
) -> None:
    assert sentence in await refused(shop, tool, **arguments, seconds=0.3)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "chrome://version",
        "view-source:http://x",
        "data:,x",
        "http://",
        "x",
    ],
)
async def test_only_the_web_is_opened(server: Server, url: str) -> None:
    assert "only http:// and https:// addresses can be opened" in await refused(server, "navigate", url=url)


async def test_a_link_to_a_file_leads_nowhere(shop: Server, site: StandIn) -> None:
    assert (await answered(shop, "click", selector="#file"))["url"] == f"{site.url}/"
    assert "root:" not in await answered(shop, "get_text")


async def test_hosts_that_are_not_there_are_told_of(server: Server) -> None:
    assert "there is no such host" in await refused(server, "navigate", url="http://shop.invalid/")
    assert "nothing listens there" in await refused(
        server, "navigate", url=f"http://127.0.0.1:{free_port()}/"
    )


async def test_a_host_that_does_not_answer_is_not_waited_for_for_ever(server: Server, site: StandIn) -> None:
    async def never(request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response()  # goes nowhere

    site.answer = never
    sentence = await refused(server, "navigate", url=site.url, seconds=0.3)
    assert sentence == "the page did not come within 0.3 seconds"


async def test_nobody_is_waited_for(shop: Server) -> None:
    await answered(shop, "click", selector="h1")
    assert (await answered(shop, "get_text", selector="h1")) == "Order"


async def test_a_long_text_comes_in_parts(server: Server, site: StandIn) -> None:
    site.answers("x" * 50_000, content_type="text/plain")
    await answered(server, "navigate", url=site.url)
    first = await answered(server, "get_text")
    assert first == "x" * 40_000 + "\n… (10000 more characters; go on with start=40000)"
    assert await answered(server, "get_text", start=40_000) == "x" * 10_000
    assert len(await answered(server, "snapshot")) < 41_000


async def test_pictures_are_of_the_view_an_element_or_the_page_down_to_a_limit(shop: Server) -> None:
    assert size(await picture_of(shop)) == (1280, 800)
    assert size(await picture_of(shop, full_page=True)) == (1280, 8000)
    assert size(await picture_of(shop, selector="h1"))[1] < 100


async def test_a_closed_browser_is_started_anew_without_what_it_knew(shop: Server) -> None:
    assert await answered(shop, "close") == "the browser is closed"
    assert "Page: about:blank" in await answered(shop, "snapshot")
    assert await answered(shop, "close") == "the browser is closed"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at Linux's processes")
@pytest.mark.parametrize("how", ["its input ends", "it is killed", "its browser is killed"])
@pytest.mark.usefixtures("server")  # which skips where there is no browser
async def test_the_browser_ends_with_the_server(tmp_path: Path, how: str) -> None:
    async with open_server(PLAYWRIGHT, tmp_path) as one:
        await answered(one, "navigate", url="about:blank")
        started = browsers(tmp_path)
        assert started
        if how == "it is killed":
            [program] = {
                process.pid
                for process in browsers(PLAYWRIGHT)
                if process.environ().get("DATA_DIR") == str(tmp_path)
            }
            os.kill(program, signal.SIGKILL)
            assert psutil.wait_procs(started, timeout=PATIENCE)[1] == []
        if how == "its browser is killed":
            for process in started:
                process.kill()
            psutil.wait_procs(started, timeout=PATIENCE)
            assert (await answered(one, "navigate", url="about:blank"))["url"] == "about:blank"
            started = browsers(tmp_path)
    assert psutil.wait_procs(started, timeout=PATIENCE)[1] == []
