"""Puts images on Cloudflare R2, or any other storage that speaks S3, and answers their public addresses.

An image that is named by its address is fetched from the public internet only: not from this machine, not from the
network it stands in, and not from the addresses at which clouds keep their credentials. A name is resolved once and
the connection goes to the address that was checked; each redirect is checked anew.
"""

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import os
import re
import socket
import time
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote

import httpx
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from pydantic import Field

MAX_BYTES: Final = 15 * 2**20
MAX_REDIRECTS: Final = 5
SECONDS: Final = 30.0  # for all of it
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PUBLIC: Final = ipaddress.ip_network("2000::/3")
_NEEDED: Final = (
    "R2_ENDPOINT",
    "R2_ACCESS_KEY_ID",
    "R2_SECRET_ACCESS_KEY",
    "R2_BUCKET_NAME",
    "R2_PUBLIC_DOMAIN",
)
_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
# How each kind begins. No SVG: one may hold scripts, and would run them under the public domain.
_KINDS: Final = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "avif": re.compile(rb"....ftypavi[fs]", re.DOTALL),
}

mcp = FastMCP("r2-images", mask_error_details=True)

Name = Annotated[
    str | None,
    Field(
        max_length=200,
        description="Its name in the bucket without the ending, such as reports/2026-11/sales. By default one that is "
        "made of its content, so the same image gets the same name.",
    ),
]


@dataclass(frozen=True)
class Image:
    """An image of the bucket.

    Attributes:
        url: Its public address.
        key: Its name in the bucket.
        bytes: Its size.
    """

    url: str
    key: str
    bytes: int


@dataclass(frozen=True)
class Images:
    """Images of the bucket, and whether there are more."""

    images: list[Image]
    more: bool


@mcp.tool(annotations={"readOnlyHint": False, "openWorldHint": True})
def upload_image_from_url(url: str, name: Name = None, *, overwrite: bool = False) -> Image:
    """Fetch an image from the public internet, put it into the bucket and answer its public address.

    Args:
        url: Where it is, with http:// or https://; at most 15 MiB of PNG, JPEG, GIF, WebP or AVIF.
        name: Its name in the bucket.
        overwrite: Whether it may take the place of an image of that name.
    """
    _need_configured()
    return _put(_fetch(url, MAX_BYTES)[2], name, overwrite=overwrite)


@mcp.tool(annotations={"readOnlyHint": False, "openWorldHint": True})
def upload_image(content_base64: str, name: Name = None, *, overwrite: bool = False) -> Image:
    """Put an image into the bucket and answer its public address.

    Args:
        content_base64: The image in base64; at most 15 MiB of PNG, JPEG, GIF, WebP or AVIF.
        name: Its name in the bucket.
        overwrite: Whether it may take the place of an image of that name.
    """
    _need_configured()
    try:
        content = base64.b64decode("".join(content_base64.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ToolError("content_base64 is not base64") from None
    return _put(content, name, overwrite=overwrite)


@mcp.tool(annotations={"readOnlyHint": True, "openWorldHint": True})
def list_images(prefix: str = "", limit: Annotated[int, Field(ge=1, le=1000)] = 100) -> Images:
    """List what is in the bucket, by name.

    Args:
        prefix: What the names begin with, such as reports/.
        limit: How many at most.
    """
    _need_configured()
    answer = _ask("list_objects_v2", Prefix=prefix, MaxKeys=limit)
    images = [Image(_public(one["Key"]), one["Key"], one["Size"]) for one in answer.get("Contents", [])]
    return Images(images, bool(answer.get("IsTruncated")))


def _need_configured() -> None:
    if missing := [name for name in _NEEDED if not os.environ.get(name, "").strip()]:
        raise ToolError(f"set {', '.join(missing)} of the r2-images server first")


def _put(content: bytes, name: str | None, *, overwrite: bool) -> Image:
    if len(content) > MAX_BYTES:
        raise ToolError(f"the image has more than {MAX_BYTES // 2**20} MiB")
    kind = next((kind for kind, beginning in _KINDS.items() if beginning.match(content)), None)
    if kind is None:
        raise ToolError("that is no image; PNG, JPEG, GIF, WebP and AVIF are")
    if name is not None and not _KEY.fullmatch(name):
        raise ToolError(
            "a name has letters, digits, - _ . and / in it only, and no part of it begins with a dot"
        )
    key = f"{name or hashlib.sha256(content).hexdigest()[:24]}.{kind.replace('jpeg', 'jpg')}"
    # The same content under its own name may be put there again; another image is not replaced unasked.
    guard = {} if overwrite or name is None else {"IfNoneMatch": "*"}
    _ask("put_object", Key=key, Body=content, ContentType=f"image/{kind}", **guard)
    return Image(_public(key), key, len(content))


def _public(key: str) -> str:
    domain = os.environ.get("R2_PUBLIC_DOMAIN", "").strip().rstrip("/")
    return f"{domain if domain.startswith(('http://', 'https://')) else f'https://{domain}'}/{quote(key)}"


def _ask(operation: str, **arguments: Any) -> dict[str, Any]:
    """Ask the storage, whose refusal is told in words."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy, and listing the tools needs none of it
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
    from botocore.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
        BotoCoreError,
        ClientError,
    )

    def given(name: str) -> str:
        return os.environ.get(name, "").strip()

    try:
        storage = boto3.client(
            "s3",
            endpoint_url=given("R2_ENDPOINT"),
            aws_access_key_id=given("R2_ACCESS_KEY_ID"),
            aws_secret_access_key=given("R2_SECRET_ACCESS_KEY"),
            region_name="auto",
            config=Config(
                connect_timeout=10,
                read_timeout=SECONDS,
                retries={"max_attempts": 2},
                # What not every storage that speaks S3 knows of, R2 included.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        answer: dict[str, Any] = getattr(storage, operation)(Bucket=given("R2_BUCKET_NAME"), **arguments)
    except ClientError as error:
        raise ToolError(_refusal(error.response)) from None
    except (BotoCoreError, ValueError) as error:
        # The name of the kind, not its words: they can hold the key.
        raise ToolError(f"the storage at R2_ENDPOINT can't be asked ({type(error).__name__})") from None
    return answer


def _refusal(response: dict[str, Any]) -> str:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    meanings = {
        "NoSuchBucket": "there is no bucket of the name in R2_BUCKET_NAME",
        "InvalidAccessKeyId": "the storage does not know R2_ACCESS_KEY_ID",
        "SignatureDoesNotMatch": "R2_SECRET_ACCESS_KEY does not fit R2_ACCESS_KEY_ID",
        "AccessDenied": "the key may not do that in this bucket",
        "PreconditionFailed": "there is an image of that name already; choose another name, or overwrite it",
    }
    return meanings.get(code, f"the storage refused ({code[:100] or 'no reason'}, {status})")


# Fetching from public addresses only; read-page and r2-images have the same lines.


def _fetch(address: str, limit: int) -> tuple[str, str, bytes]:
    """Return the address that was fetched at last, its media type and its content."""
    end = time.monotonic() + SECONDS
    url = httpx.URL("")
    try:
        url = httpx.URL(address)
        with httpx.Client(
            timeout=SECONDS,
            trust_env=False,  # a proxy would resolve the name again
            verify=httpx.create_ssl_context(),
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as client:
            for _ in range(MAX_REDIRECTS + 1):
                response, content = _get(client, url, limit, end)
                if not response.has_redirect_location:
                    break
                url = url.join(response.headers["location"])
            else:
                raise ToolError(f"{address[:200]} sends on more than {MAX_REDIRECTS} times")
    except httpx.InvalidURL:
        raise ToolError(f"{address[:200]!r} is no address of the web, such as https://example.com/") from None
    except httpx.HTTPError as error:
        raise ToolError(f"{str(url)[:200]} can't be fetched ({type(error).__name__})") from None
    if response.is_error:
        raise ToolError(f"{str(url)[:200]} answered {response.status_code} {response.reason_phrase}")
    return str(url), response.headers.get("content-type", "").lower(), content


def _get(client: httpx.Client, url: httpx.URL, limit: int, end: float) -> tuple[httpx.Response, bytes]:
    addresses = _checked(url)
    for address in addresses:
        request = client.build_request("GET", url.copy_with(host=address))
        request.headers["Host"] = url.netloc.decode("ascii")
        request.extensions["sni_hostname"] = url.raw_host.decode("ascii")  # whom the certificate must be of
        try:
            response = client.send(request, stream=True)
        except httpx.ConnectError:
            if address == addresses[-1]:
                raise
            continue
        with contextlib.closing(response):
            return response, b"" if response.has_redirect_location else _content(response, limit, end)
    raise ToolError(f"there is no host {url.host!r}")


def _content(response: httpx.Response, limit: int, end: float) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes(2**16):
        content += chunk
        if len(content) > limit:
            raise ToolError(f"it has more than {limit // 2**20} MiB")
        if time.monotonic() > end:
            raise ToolError(f"it took more than {SECONDS:g} seconds")
    return bytes(content)


def _checked(url: httpx.URL) -> list[str]:
    """Return where to connect for a URL, which is public; anything else is refused."""
    if url.scheme not in {"http", "https"} or not url.host:
        raise ToolError(f"{str(url)[:200]!r} is no address of the web, such as https://example.com/")
    try:
        found = socket.getaddrinfo(url.raw_host.decode("ascii"), url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ToolError(f"there is no host {url.host[:200]!r}, or no network") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not all(_is_public(address) for address in addresses):
        raise ToolError(
            f"{url.host[:200]} is not on the public internet, and only what is there may be fetched "
            "(the owner can allow a network of their own: ALLOWED_PRIVATE_NETWORKS)"
        )
    return addresses


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.version == 6 and address in _NAT64:  # how the public IPv4 is reached from a network without it
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    allowed = os.environ.get("ALLOWED_PRIVATE_NETWORKS", "").replace(",", " ").split()
    try:
        if any(address in ipaddress.ip_network(network, strict=False) for network in allowed):
            return True
    except ValueError:
        raise ToolError("ALLOWED_PRIVATE_NETWORKS must be networks such as 192.168.1.0/24") from None
    if isinstance(address, ipaddress.IPv6Address):
        return address.is_global and address in _PUBLIC and address.sixtofour is None
    return address.is_global and not address.is_multicast


if __name__ == "__main__":
    mcp.run()
