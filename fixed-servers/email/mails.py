"""A mail that is to be sent, checked whole, and what is told of it afterwards."""

import base64
import binascii
import contextlib
import email.utils
import mimetypes
import re
from dataclasses import dataclass, field
from typing import Final

from configured import value_of
from fastmcp.exceptions import ToolError

MAX_FILE_BYTES: Final = 15 * 2**20  # of all attachments; base64 makes 20 MiB of it, which the three take
MAX_RECIPIENTS: Final = 500

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_NAMED: Final = re.compile(r'(?:"(?P<quoted>[^"]*)"|(?P<plain>[^"<>]*))\s*<(?P<address>[^<>]*)>')
_BETWEEN: Final = re.compile(r'[,;](?=(?:[^"]*"[^"]*")*[^"]*$)')  # not inside of quotes
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+")


class TroubleError(Exception):
    """Why a provider did not do what it was asked.

    Attributes:
        perhaps_done: Whether it may have done it all the same.
    """

    def __init__(self, reason: str, *, perhaps_done: bool = False) -> None:
        super().__init__(reason)
        self.perhaps_done = perhaps_done


@dataclass(frozen=True)
class Attachment:
    """A file of the mail; give its content in one of the two ways.

    Attributes:
        filename: Its name, such as report.csv, without a folder.
        content_text: Its content where it is text, such as CSV, Markdown or HTML.
        content_base64: Its content in base64, where it is not text.
        content_type: Its media type, such as text/csv; by default what the name's ending says.
    """

    filename: str
    content_text: str | None = None
    content_base64: str | None = None
    content_type: str | None = None


@dataclass(frozen=True)
class Address:
    """Where mail goes to or comes from, and the name of who is there."""

    address: str
    name: str = ""

    @property
    def text(self) -> str:
        """The two as they stand in a header, in ASCII."""
        return email.utils.formataddr((self.name, self.address))


@dataclass(frozen=True)
class File:
    """An attachment, ready to be sent."""

    name: str
    type: str
    content: bytes


@dataclass(frozen=True)
class Mail:
    """A mail as a provider gets it."""

    sender: Address
    to: list[Address]
    cc: list[Address]
    bcc: list[Address]
    reply_to: Address | None
    subject: str
    body: str
    html: str | None
    files: list[File]

    @property
    def recipients(self) -> list[str]:
        """Whom it goes to, each once."""
        return [someone.address for someone in (*self.to, *self.cc, *self.bcc)]


def check(mail: Mail) -> None:
    """Refuse a mail that no provider would take."""
    if not mail.to:
        raise ToolError("`to` names nobody")
    if not mail.body.strip():
        raise ToolError("the body is empty")
    if len(mail.recipients) > MAX_RECIPIENTS:
        raise ToolError(f"a mail may have {MAX_RECIPIENTS} recipients, this one has {len(mail.recipients)}")
    size = sum(len(file.content) for file in mail.files)
    if size > MAX_FILE_BYTES:
        raise ToolError(
            f"the attachments have {size / 2**20:.1f} MiB; together they may have {MAX_FILE_BYTES // 2**20}"
        )


def line(what: str, text: str) -> str:
    """Return a text that goes into a header, which ends at a line break: what came after it would be a header too."""
    only = text.strip()
    if not only:
        raise ToolError(f"{what} is empty")
    if any(ord(character) < 32 or ord(character) == 127 for character in only) or len(only.splitlines()) > 1:
        raise ToolError(f"{what} has a line break or a control character in it; it must be one line")
    return only


def addresses(field_name: str, given: str | list[str] | None, seen: set[str]) -> list[Address]:
    """Return the addresses of a field that no field before has named: a provider refuses one that comes twice."""
    texts = [given] if isinstance(given, str) else given or []
    parts = [part for text in texts for part in _BETWEEN.split(text) if part.strip()]
    found = []
    for part in parts:
        someone = address_of(field_name, part)
        if someone.address.lower() not in seen:
            seen.add(someone.address.lower())
            found.append(someone)
    return found


def address_of(field_name: str, text: str) -> Address:
    """Return the one address of a text: `ann@example.com` or `Ann Lee <ann@example.com>`."""
    one_line = line(f"an address of `{field_name}`", text)
    named = _NAMED.fullmatch(one_line)
    address = named["address"].strip() if named else one_line
    local, at, domain = address.rpartition("@")
    with contextlib.suppress(UnicodeError):
        address = f"{local}{at}{domain.encode('idna').decode()}"
    if len(address) > 254 or not _ADDRESS.fullmatch(address):
        raise ToolError(f"`{field_name}`: {one_line[:100]!r} is no e-mail address, such as ann@example.com")
    return Address(address, (named["quoted"] or named["plain"] or "").strip() if named else "")


def file_of(attachment: Attachment) -> File:
    """Return an attachment as it is sent."""
    name = line("the filename of an attachment", attachment.filename)
    if re.search(r'[/\\"]', name) or len(name) > 200:
        raise ToolError(f"{name[:100]!r} is no filename, such as report.csv")
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = (attachment.content_type or guessed).partition(";")[0].strip()
    if not _MEDIA_TYPE.fullmatch(kind):
        raise ToolError(f"{name}: {kind[:100]!r} is no media type, such as text/csv")
    if kind.startswith(("multipart/", "message/")):  # made of parts, which this one isn't
        kind = "application/octet-stream"
    return File(name, kind, _content(name, attachment))


def _content(name: str, attachment: Attachment) -> bytes:
    if (attachment.content_text is None) == (attachment.content_base64 is None):
        raise ToolError(f"{name}: give either content_text or content_base64")
    if attachment.content_text is not None:
        return attachment.content_text.encode(errors="replace")
    try:
        return base64.b64decode("".join((attachment.content_base64 or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError(f"{name}: its content is not base64; text can be given as content_text") from error


def sender_of_all() -> Address:
    """Return the configured sender."""
    sender = address_of("SENDER_EMAIL", value_of("SENDER_EMAIL"))
    return Address(sender.address, value_of("SENDER_NAME") or sender.name)


@dataclass(frozen=True)
class Refused:
    """A recipient that the mail server did not take, and what it said."""

    address: str
    answer: str


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Attributes:
        provider: By whom: sendgrid, mailgun or smtp.
        message_id: For get_email_status.
        recipients: The addresses that the mail was accepted for, blind copies included.
        refused: Those it was not accepted for; the others get it all the same.
    """

    provider: str
    message_id: str
    recipients: list[str]
    refused: list[Refused] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """What happened to a mail.

    Attributes:
        event: In the provider's word, such as delivered, failed, opened or not_delivered.
        recipient: To whom.
        at: When, in UTC.
        reason: Why, where the provider says it.
    """

    event: str
    recipient: str
    at: str | None = None
    reason: str | None = None
