"""Knows addresses and sends messages by Apprise, as a program of its own, so that the server never has it in memory.

Runs as `python -I -B _apprise.py`. It reads one line of JSON from standard input, so that no address is on a command
line or in a variable, and writes lines of JSON to standard output as something is known:

- `{"check": URL}` is answered by `{"shown": TEXT, "service": NAME}`, both null where nobody knows how to send there.
- `{"send": [{"url": URL, "messages": [[TITLE, BODY], …]}, …]}` by one `{"place": N, "taken": COUNT, "error": TEXT}` for
  each of the list. All are sent side by side.
"""

import json
import logging
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from urllib.parse import unquote, urlsplit

import apprise

AT_ONCE = 8
MESSAGE_SECONDS = 15
MAX_ERROR = 300
COMPLAINTS = {"WARNING", "ERROR", "CRITICAL"}
SHORTEST_SECRET = 5  # what is shorter stands in sentences as well
UNKNOWN = "nobody knows how to send there any more; give the channel another url"

# Nothing of ours is fetched from elsewhere, and the title of a mail is ours.
ASSET = apprise.AppriseAsset(
    app_id="Claude Runner",
    app_desc="Claude Runner",
    app_url="",
    image_url_mask="",
    image_url_logo="",
    async_mode=False,
    secure_logging=True,
)


def main() -> None:
    """Do what the line of standard input asks for."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a service's code prints is no answer
    asked = json.loads(sys.stdin.readline())
    if "check" in asked:
        print(json.dumps(looked_at(asked["check"])), file=answers, flush=True)
        return
    threads = ThreadPoolExecutor(AT_ONCE)
    sending = {
        threads.submit(send, parcel["url"], parcel["messages"]): place
        for place, parcel in enumerate(asked["send"])
    }
    for done in as_completed(sending):
        taken, error = done.result()
        answer = {"place": sending[done], "taken": taken, "error": error}
        print(json.dumps(answer), file=answers, flush=True)


def looked_at(url: str) -> dict[str, str | None]:
    """Return what may be shown of an address, and which service it is of."""
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    service = apprise.Apprise.instantiate(url, asset=ASSET, suppress_exceptions=True)
    if service is None:
        return {"shown": None, "service": None}
    masked = str(service.url(privacy=True))  # type: ignore[no-untyped-call]
    return {"shown": shown(masked), "service": str(service.service_name)}


def shown(url: str) -> str:
    """Return of an address which service it is of and, where that has one, its host: any of the rest may let one in."""
    scheme, _, rest = url.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = place.rpartition("@")[2]
    known = re.fullmatch(r"(localhost|[^:@]+\.[^:@]+|\[[0-9a-f:.]+\])(:\d+)?", host, re.IGNORECASE)
    if not known or "..." in host:  # a single word may be a token or a topic, which lets in whoever knows it
        return f"{scheme}://…"
    return f"{scheme}://{host}" + ("/…" if len(rest) > len(place) + 1 else "")


def send(url: str, messages: list[list[str]]) -> tuple[int, str | None]:
    """Send messages in order, and return how many were taken and why the next one was not."""
    taken = 0
    try:
        service = apprise.Apprise(asset=ASSET)
        if not service.add(url):
            return 0, UNKNOWN
        for title, body in messages:
            result = service.notify(
                body=body, title=title, body_format=apprise.NotifyFormat.TEXT, timeout=MESSAGE_SECONDS
            )
            if not result:
                said = [it.message for it in result.logs() if it.level in COMPLAINTS]
                return taken, scrubbed(said[-1] if said else "the service did not take it", url)
            taken += 1
    except Exception as error:  # noqa: BLE001 - the code of a hundred services, which may raise anything
        return taken, scrubbed(f"{type(error).__name__}: {error}", url)
    return taken, None


def scrubbed(text: str, url: str) -> str:
    """Return a sentence in which nothing of an address stands but its scheme and its host."""
    text = " ".join(text.split())
    scheme, _, rest = url.partition("://")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    pieces = {unquote(it) for it in re.split(r"[/?#&=:@,]", rest)} | set(re.split(r"[/?#&=:@,]", rest))
    if "." in host or host == "localhost":
        pieces = {it for it in pieces if it.lower() != host}
    for piece in sorted(pieces - {scheme}, key=len, reverse=True):
        if len(piece) >= SHORTEST_SECRET:
            text = text.replace(piece, "…")
    return text[:MAX_ERROR]


if __name__ == "__main__":
    main()
    os._exit(0)  # whatever still hangs is not waited for
