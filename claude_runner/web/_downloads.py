"""Files that are sent as they are made, so that however large they are little of them is held."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from starlette.responses import Response, StreamingResponse

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


async def download(pieces: AsyncGenerator[bytes, None], media: str, name: str) -> Response:
    """Return a file that is sent as it is made; what goes wrong before its first piece is raised here.

    Args:
        pieces: It.
        media: Its type.
        name: What it is called where it is kept.
    """
    first = await anext(pieces, b"")

    async def all_of_it() -> AsyncIterator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    headers = _HEADERS | {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(all_of_it(), headers=headers, media_type=media)
