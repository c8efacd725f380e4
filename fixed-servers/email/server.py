"""Sends mail by SendGrid, Mailgun or any mail server, and tells what became of it.

Which of the three is the variable EMAIL_PROVIDER; metadata.json says what each needs. A mail is checked whole before
anything is sent, and a refusal says whether a mail may have gone out all the same: a model that hears of a failure
tries again, and a mail sent twice can't be taken back.
"""

import re
from dataclasses import dataclass
from typing import Final

from apis import look_up_at_mailgun, look_up_at_sendgrid, send_by_mailgun, send_by_sendgrid
from configured import TITLES, chosen_provider, missing_for, need_configured
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from mail_server import send_by_smtp
from mails import (
    Attachment,
    Event,
    Mail,
    Sent,
    TroubleError,
    address_of,
    addresses,
    check,
    file_of,
    line,
    sender_of_all,
)  # fmt: skip

_SENDERS: Final = {"sendgrid": send_by_sendgrid, "mailgun": send_by_mailgun, "smtp": send_by_smtp}
_LOOK_UPS: Final = {"sendgrid": look_up_at_sendgrid, "mailgun": look_up_at_mailgun}
_MESSAGE_ID: Final = re.compile(r"<?[A-Za-z0-9._@+=$-]{1,300}>?")  # nothing that could end a quotation
_NO_MORE: Final = (
    "the mail server accepted the mail when it was sent; SMTP tells nothing of what became of it. What can't be "
    "delivered comes back to SENDER_EMAIL"
)

mcp = FastMCP("email", mask_error_details=True)


@dataclass(frozen=True)
class Status:
    """Whether mail can be sent, and what became of one.

    Attributes:
        provider: Who sends: sendgrid, mailgun or smtp.
        ready: Whether everything that the provider needs is configured.
        missing: The names of the credentials that are not.
        events: What happened to the mail asked about, the latest last.
        note: What that means, for a person.
    """

    provider: str
    ready: bool
    missing: list[str]
    events: list[Event]
    note: str


@mcp.tool(annotations={"readOnlyHint": False, "idempotentHint": False, "openWorldHint": True})
def send_email(
    to: str | list[str],
    subject: str,
    body: str,
    html: str | None = None,
    cc: str | list[str] | None = None,
    bcc: str | list[str] | None = None,
    reply_to: str | None = None,
    attachments: list[Attachment] | None = None,
) -> Sent:
    """Send a mail from the configured sender, at once.

    An address is `ann@example.com` or `Ann Lee <ann@example.com>`. If the answer is an error, it says whether anything
    was sent. A mail can't be called back.

    Args:
        to: One address, several with commas between, or a list of them.
        subject: One line.
        body: The mail as plain text. Always give it, with html too: it is what plain mail programs show.
        html: The same mail as HTML, where it needs headings, tables or links.
        cc: Who gets a copy, as in `to`.
        bcc: Who gets a copy that the others don't see, as in `to`.
        reply_to: The one address that answers go to, if not the sender's.
        attachments: Files; together at most 15 MiB. This tool can't see your files: give their content.
    """
    provider = chosen_provider()
    need_configured(provider)
    seen: set[str] = set()
    mail = Mail(
        sender=sender_of_all(),
        to=addresses("to", to, seen),
        cc=addresses("cc", cc, seen),
        bcc=addresses("bcc", bcc, seen),
        reply_to=address_of("reply_to", reply_to) if reply_to else None,
        subject=line("the subject", subject),
        body=body,
        html=html or None,
        files=[file_of(attachment) for attachment in attachments or []],
    )
    check(mail)
    try:
        return _SENDERS[provider](mail)
    except TroubleError as trouble:
        if trouble.perhaps_done:
            raise ToolError(
                f"{trouble}; the mail may have been sent or not, so don't send it again but say that it is unknown"
            ) from None
        raise ToolError(f"nothing was sent: {trouble}") from None


@mcp.tool(annotations={"readOnlyHint": True, "openWorldHint": True})
def get_email_status(message_id: str | None = None) -> Status:
    """Tell whether mail can be sent, and what became of a mail.

    Args:
        message_id: The one that send_email answered. Without it, only whether everything is configured is told.
    """
    provider = chosen_provider()
    missing = missing_for(provider)
    if message_id is None:
        note = f"set {' and '.join(missing)} first" if missing else f"mail can be sent by {TITLES[provider]}"
        return Status(provider, not missing, missing, [], note)
    need_configured(provider)
    if not _MESSAGE_ID.fullmatch(message_id.strip()):
        raise ToolError("that is no message_id; give the one that send_email answered")
    if provider not in _LOOK_UPS:
        return Status(provider, ready=True, missing=[], events=[], note=_NO_MORE)
    try:
        events, note = _LOOK_UPS[provider](message_id.strip().strip("<>"))
    except TroubleError as trouble:
        raise ToolError(f"what became of it can't be told: {trouble}") from None
    return Status(provider, ready=True, missing=[], events=events, note=note)


if __name__ == "__main__":
    mcp.run()
