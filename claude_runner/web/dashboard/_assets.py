"""The pages' style sheets, scripts and pictures, kept in memory and told apart by what is in them.

The address of each has the hash of all of them, so that a browser keeps them for ever and a module finds those that it
imports beside itself.
"""

import gzip
import hashlib
import mimetypes
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from claude_runner.errors import NotFoundError

FOLDER: Final = Path(__file__).parent / "static"
KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FOR_EVER: Final = "public, max-age=31536000, immutable"


class _Asset(NamedTuple):
    content: bytes
    packed: bytes
    kind: str


class Assets:
    """What pages are made of besides their markup."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        """Return where a file is served."""
        return f"/static/{self.version}/{name}"

    @cached_property
    def version(self) -> str:
        """Return what changes with any of the files."""
        digest = hashlib.sha256()
        for name, asset in self._files.items():
            digest.update(f"{name} {len(asset.content)}\n".encode() + asset.content)
        return digest.hexdigest()[:12]

    async def serve(self, request: Request) -> Response:
        """Answer a request for a file; one of an earlier version is answered with today's."""
        asset = self._files.get(request.path_params["name"])
        if asset is None:
            raise NotFoundError(f"there is nothing at {request.url.path[:200]}")
        headers = {
            "Cache-Control": FOR_EVER if request.path_params["version"] == self.version else "no-cache",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        if takes_gzip(request):
            packed = headers | {"Content-Encoding": "gzip"}
            return Response(asset.packed, headers=packed, media_type=asset.kind)
        return Response(asset.content, headers=headers, media_type=asset.kind)

    @cached_property
    def _files(self) -> dict[str, _Asset]:
        found = {}
        for path in sorted(self._folder.iterdir()):
            content = path.read_bytes()
            kind = KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            found[path.name] = _Asset(content, gzip.compress(content, 9, mtime=0), kind)
        return found


def takes_gzip(request: Request) -> bool:
    """Tell whether the client reads gzip (RFC 9110, section 12.5.3)."""
    codings = request.headers.get("accept-encoding", "").replace(" ", "").split(",")
    return any(
        coding == "gzip" or (coding.startswith("gzip;q=") and coding != "gzip;q=0") for coding in codings
    )
