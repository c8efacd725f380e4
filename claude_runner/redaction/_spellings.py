"""The spellings of a secret: how it looks where a program has passed it on."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

SHORTEST: Final = 4  # characters; what is shorter stands in every text by chance
SHORTEST_ENCODED: Final = 8
SHORTEST_LINE: Final = 16

_BOUNDARY: Final = re.compile(r"-----(BEGIN|END) [^-]*-----")  # RFC 7468, section 2: no secret
_UNTOUCHED: Final = (0, 2, 3)  # base64: characters that also depend on so many bytes before the secret
_AS_JAVASCRIPT: Final = "!'()*"  # what encodeURIComponent leaves, and Python does not


def encoded(text: str) -> bytes:
    """Return a text as UTF-8; a lone half of a surrogate pair is no hindrance."""
    return text.encode("utf-8", "surrogatepass")


def plain(secret: str) -> Iterator[str]:
    """Yield a secret as it is, without the white space around it, and its long lines; none that is too short."""
    stripped = secret.strip()
    lines = [line.strip() for line in stripped.splitlines()]
    yield from (text for text in (secret, stripped) if len(stripped) >= SHORTEST)
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= SHORTEST_LINE and not _BOUNDARY.fullmatch(line))


def spellings(secret: str) -> Iterator[bytes]:
    """Yield what stands for a secret, as UTF-8; none where it is too short."""
    for text in plain(secret):
        yield from (encoded(spelt) for spelt in _texts(text))
    stripped = secret.strip()
    if len(stripped) >= SHORTEST_ENCODED:
        for text in (secret, stripped):
            yield from _base64(encoded(text))


def _texts(text: str) -> Iterator[str]:
    yield text
    yield repr(text)[1:-1]
    for readable in (False, True):
        once = json.dumps(text, ensure_ascii=not readable)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=not readable)[1:-1]  # JSON that stands as a text in other JSON
    raw = encoded(text)
    for untouched in ("", "/", _AS_JAVASCRIPT):
        yield quote(raw, safe=untouched)
    yield quote_plus(raw)


def _base64(raw: bytes) -> Iterator[bytes]:
    """Yield the base64 of bytes that stand alone, after others (as in `user:password`) and before others."""
    for before in range(3):
        padded = base64.b64encode(bytes(before) + raw)[_UNTOUCHED[before] :]
        whole = padded.rstrip(b"=")
        # The last character also depends on what comes after, unless the bits come out even.
        sure = whole if (before + len(raw)) % 3 == 0 else whole[:-1]
        for spelt in (padded, whole, sure):
            yield spelt
            yield spelt.translate(bytes.maketrans(b"+/", b"-_"))
