import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from moto.core.botocore_stubber import BotocoreStubber
from requests import PreparedRequest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tests.shipped import SAMPLES, StandIn, answered, open_server, open_stand_in, refused
from tests.sites import free_port

Server = Client[Any]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PAGE = """<html><head><title> The  Times </title><meta name="description" content="News">
<style>p { color: red }</style></head><body><h1>Grüße</h1><p>One <b>bold</b>
word.</p><script>alert("no")</script>
<a href="/more#top">More</a> <a href="https://example.com/x">X</a> <a href="mailto:a@b">Mail</a> <a href="http://[">Bad</a>
</body></html>"""
PRIVATE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://localhost/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[ff02::1]/",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="module")
async def web() -> AsyncIterator[StandIn]:
    async with open_stand_in() as web:
        yield web


class Storage:
    """An S3 of moto's on loopback, with the bucket `images`."""

    def __init__(self, stand_in: StandIn) -> None:
        self.url = stand_in.url
        self._moto = BotocoreStubber()
        self._ask("PUT", "/images")
        stand_in.answer = self._answer

    def stored(self, key: str) -> tuple[bytes, str]:
        """Return what is stored there and its media type."""
        answer = self._ask("GET", f"/images/{key}", {"authorization": "AWS id:signature"})
        assert answer.status_code == 200
        return bytes(answer.body), answer.headers["content-type"]

    async def _answer(self, request: Request) -> Response:
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return self._ask(request.method, where, dict(request.headers), await request.body())

    def _ask(
        self, method: str, where: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Response:
        asked = {name: value for name, value in (headers or {}).items() if name != "host"}
        request = PreparedRequest()
        request.prepare(method, f"https://s3.amazonaws.com{where}", headers=asked, data=body)
        answer = self._moto.process_prepared_request(request)
        assert answer is not None
        status, answered, content = answer
        kept = {str(name): str(value) for name, value in answered.items() if name.lower() != "content-length"}
        return Response(content, status, kept)


@pytest.fixture(scope="module")
async def storage() -> AsyncIterator[Storage]:
    async with open_stand_in() as stand_in:
        yield Storage(stand_in)


def bucket_at(url: str, **changes: str) -> dict[str, str]:
    given = {"R2_ENDPOINT": url, "R2_ACCESS_KEY_ID": "id", "R2_SECRET_ACCESS_KEY": "the-secret-key"}
    return given | {"R2_BUCKET_NAME": "images", "R2_PUBLIC_DOMAIN": "img.example.com"} | changes


@pytest.fixture(scope="module")
async def images(home: Path, storage: Storage) -> AsyncIterator[Server]:
    """The r2-images server, which may fetch from 127.0.0.1 and from no other private address."""
    given = bucket_at(storage.url, ALLOWED_PRIVATE_NETWORKS="127.0.0.1/32, 192.0.2.0/24")
    async with open_server(SAMPLES / "r2-images", home, **given) as server:
        yield server


@pytest.fixture(scope="module")
async def reader(home: Path) -> AsyncIterator[Server]:
    """The read-page server, which may read from 127.0.0.1 and from no other private address."""
    async with open_server(SAMPLES / "read-page", home, ALLOWED_PRIVATE_NETWORKS="127.0.0.1") as server:
        yield server


# All of them.


@pytest.mark.parametrize("name", ["cat-facts", "r2-images", "read-page"])
def test_a_sample_is_off_until_its_owner_wants_it(name: str) -> None:
    metadata = json.loads((SAMPLES / name / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["enabled"] is False
    assert metadata["description"].startswith("A sample: ")


def test_both_samples_that_fetch_do_it_by_the_same_lines() -> None:
    parts = [
        (SAMPLES / name / "server.py").read_text(encoding="utf-8").partition("# Fetching from public")[2]
        for name in ("r2-images", "read-page")
    ]
    assert parts[0]
    assert parts[0] == parts[1]


async def test_every_parameter_is_described_to_the_model(images: Server, reader: Server) -> None:
    for tool in (*await images.list_tools(), *await reader.list_tools()):
        assert tool.description
        assert all(schema.get("description") for schema in tool.input_schema["properties"].values())


# cat-facts.


async def test_a_fact_about_cats_is_told(home: Path, web: StandIn) -> None:
    async with open_server(SAMPLES / "cat-facts", home, CAT_FACTS_URL=f"{web.url}/fact") as cats:
        web.answers('{"fact": "Cats sleep.", "length": 11}')
        assert await answered(cats, "get_cat_fact", max_length=40) == "Cats sleep."
        assert web.requests[0][0].query_params["max_length"] == "40"
        web.answers("{}")
        assert "is max_length too small?" in await refused(cats, "get_cat_fact", max_length=1)
        web.answers("", 503)
        assert await refused(cats, "get_cat_fact") == "the cat facts answered 503; try again later"
        web.hangs_up()
        assert "the cat facts can't be reached" in await refused(cats, "get_cat_fact")


# read-page.


async def test_a_page_is_read_with_its_title_text_and_links(reader: Server, web: StandIn) -> None:
    web.answers(PAGE.encode("latin-1"), content_type="text/html; charset=iso-8859-1")
    page = await answered(reader, "read_page", url=f"{web.url}/news")
    assert page == {
        "url": f"{web.url}/news",
        "title": "The  Times",
        "description": "News",
        "text": "Grüße\nOne\nbold\nword.\nMore\nX\nMail\nBad",
        "more": 0,
        "links": [
            {"text": "More", "url": f"{web.url}/more#top"},
            {"text": "X", "url": "https://example.com/x"},
        ],
    }
    assert web.requests[0][0].headers["host"] == web.url.removeprefix("http://")


async def test_a_long_page_comes_in_parts(reader: Server, web: StandIn) -> None:
    web.answers("abcdef", content_type="text/plain")
    page = await answered(reader, "read_page", url=web.url, start=1, max_characters=2)
    assert (page["text"], page["more"]) == ("bc", 3)


async def test_a_page_that_is_nested_deep_is_read(reader: Server, web: StandIn) -> None:
    web.answers("<b>" * 20_000 + "deep", content_type="text/html")
    assert (await answered(reader, "read_page", url=web.url))["text"] == "deep"


async def test_redirects_are_followed_and_checked_each(reader: Server, web: StandIn) -> None:
    async def answer(request: Request) -> Response:
        match request.url.path:
            case "/moved":
                return RedirectResponse("/new")
            case "/inside":
                return RedirectResponse(web.url.replace("127.0.0.1", "127.0.0.2"))
            case "/metadata":
                return RedirectResponse("http://169.254.169.254/latest/meta-data/")
            case "/file":
                return RedirectResponse("file:///etc/passwd")
            case "/round":
                return RedirectResponse("/round")
            case _:
                return Response("here", media_type="text/plain")

    web.answer = answer
    page = await answered(reader, "read_page", url=f"{web.url}/moved")
    assert (page["url"], page["text"]) == (f"{web.url}/new", "here")
    for path in ("inside", "metadata"):
        sentence = await refused(reader, "read_page", url=f"{web.url}/{path}")
        assert "is not on the public internet" in sentence
    assert "is no address of the web" in await refused(reader, "read_page", url=f"{web.url}/file")
    assert "sends on more than 5 times" in await refused(reader, "read_page", url=f"{web.url}/round")


async def test_what_cannot_be_read_is_told_in_words(reader: Server, web: StandIn) -> None:
    web.answers(PNG, content_type="image/png")
    assert "is no page but image/png" in await refused(reader, "read_page", url=web.url)
    web.answers("", 404)
    assert "answered 404 Not Found" in await refused(reader, "read_page", url=web.url)
    web.answers(b"x" * (5 * 2**20 + 1), content_type="text/plain")
    assert await refused(reader, "read_page", url=web.url) == "it has more than 5 MiB"
    web.hangs_up()
    assert "can't be fetched" in await refused(reader, "read_page", url=web.url)
    nobody = f"http://127.0.0.1:{free_port()}/"
    assert "can't be fetched (ConnectError)" in await refused(reader, "read_page", url=nobody)
    assert "there is no host 'nowhere.invalid'" in await refused(
        reader, "read_page", url="http://nowhere.invalid/"
    )
    for url in ("file:///etc/passwd", "ftp://example.com", "example.com", "http://", ""):
        assert "is no address of the web" in await refused(reader, "read_page", url=url)


async def test_private_addresses_are_not_fetched_from(tmp_path: Path) -> None:
    async with open_server(SAMPLES / "read-page", tmp_path) as server:
        for url in PRIVATE:
            sentence = await refused(server, "read_page", url=url)
            assert "is not on the public internet" in sentence, url


async def test_networks_that_are_none_are_told_of(tmp_path: Path) -> None:
    async with open_server(SAMPLES / "read-page", tmp_path, ALLOWED_PRIVATE_NETWORKS="home") as server:
        sentence = await refused(server, "read_page", url="http://127.0.0.1/")
    assert sentence == "ALLOWED_PRIVATE_NETWORKS must be networks such as 192.168.1.0/24"


# r2-images.


async def test_an_image_is_put_into_the_bucket_and_its_address_answered(
    images: Server, storage: Storage
) -> None:
    given = base64.b64encode(PNG).decode()
    image = await answered(images, "upload_image", content_base64=given, name="reports/sales")
    assert image == {
        "url": "https://img.example.com/reports/sales.png", "key": "reports/sales.png", "bytes": len(PNG),
    }  # fmt: skip
    assert storage.stored("reports/sales.png") == (PNG, "image/png")
    listed = await answered(images, "list_images", prefix="reports/")
    assert listed == {"images": [image], "more": False}


async def test_an_image_is_fetched_from_the_web(images: Server, storage: Storage, web: StandIn) -> None:
    web.answers(PNG, content_type="application/octet-stream")
    first = await answered(images, "upload_image_from_url", url=f"{web.url}/cat")
    assert storage.stored(first["key"]) == (PNG, "image/png")
    again = await answered(images, "upload_image_from_url", url=f"{web.url}/cat")
    assert again == first


async def test_an_image_takes_the_place_of_another_only_when_that_is_wanted(
    images: Server, storage: Storage
) -> None:
    first, second = (base64.b64encode(PNG + end).decode() for end in (b"1", b"2"))
    await answered(images, "upload_image", content_base64=first, name="logo")
    sentence = await refused(images, "upload_image", content_base64=second, name="logo")
    assert sentence == "there is an image of that name already; choose another name, or overwrite it"
    assert storage.stored("logo.png")[0] == PNG + b"1"
    await answered(images, "upload_image", content_base64=second, name="logo", overwrite=True)
    assert storage.stored("logo.png")[0] == PNG + b"2"


async def test_what_is_no_image_or_no_name_is_refused(images: Server, web: StandIn) -> None:
    for content in (b"", b"<svg onload='alert(1)'/>", b"<html>"):
        web.answers(content, content_type="image/png")
        assert "that is no image" in await refused(images, "upload_image_from_url", url=web.url)
    assert "is not base64" in await refused(images, "upload_image", content_base64="?")
    for name in ("../x", "/x", "a//b", ".hidden", "a b", ""):
        given = {"content_base64": base64.b64encode(PNG).decode(), "name": name}
        assert "a name has letters" in await refused(images, "upload_image", **given)


async def test_images_are_not_fetched_from_private_addresses(images: Server) -> None:
    for url in ("http://127.0.0.2/", "http://169.254.169.254/", "http://[::1]/"):
        assert "is not on the public internet" in await refused(images, "upload_image_from_url", url=url)


async def test_what_is_not_configured_is_named(tmp_path: Path) -> None:
    given = {"R2_ENDPOINT": "http://127.0.0.1", "R2_BUCKET_NAME": "images"}
    async with open_server(SAMPLES / "r2-images", tmp_path, **given) as server:
        assert len(await server.list_tools()) == 3
        sentence = await refused(server, "list_images")
    assert (
        sentence
        == "set R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, R2_PUBLIC_DOMAIN of the r2-images server first"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"R2_BUCKET_NAME": "nothing-there"}, "there is no bucket of the name in R2_BUCKET_NAME"),
        (
            {"R2_ENDPOINT": "http://127.0.0.1:9"},
            "the storage at R2_ENDPOINT can't be asked (EndpointConnectionError)",
        ),
        ({"R2_ENDPOINT": "nowhere"}, "the storage at R2_ENDPOINT can't be asked (ValueError)"),
    ],
)
async def test_a_storage_that_refuses_is_told_of(
    home: Path, storage: Storage, changes: dict[str, str], sentence: str
) -> None:
    async with open_server(SAMPLES / "r2-images", home, **bucket_at(storage.url, **changes)) as server:
        assert await refused(server, "list_images") == sentence
